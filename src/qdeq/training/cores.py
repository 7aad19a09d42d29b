"""One JAX device per core, for runs of many seeds on a CPU. Free of JAX, which reads this once."""

import os


def device_environment(n_seeds: int) -> dict[str, str]:
    """The variable that makes JAX see as many CPU devices as seeds can use.

    Seeds on devices of their own run at the same time, each on its core; a program for one seed
    keeps little more than one core busy. Measured: `docs/many-runs.md`. Accelerators are not
    touched.

    Parameters
    ----------
    n_seeds
        How many seeds will train together.

    Returns
    -------
    dict
        For the environment of a process that has not imported JAX yet; empty for a single seed, or
        where `JAX_NUM_CPU_DEVICES` or a number of devices in `XLA_FLAGS` is set already.

    Examples
    --------
    >>> device_environment(1)
    {}
    """
    decided = "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get(
        "XLA_FLAGS", ""
    )
    if n_seeds < 2 or decided:
        return {}
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return {"JAX_NUM_CPU_DEVICES": str(min(cores, n_seeds))}
