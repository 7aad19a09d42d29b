"""How many threads JAX computes with on the CPU, which is decided before its first array."""

import os


def allow_callbacks() -> None:
    """Give JAX two threads on a machine of one core.

    A compiled program that calls a device (`qdeq.devices.DeviceFunction`) waits in a thread of
    XLA's pool, and a device that computes with JAX needs another one: with a single one both wait
    for ever. `NPROC` is the size of the pool; what the user has set stays.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    n_cores = os.cpu_count() if affinity is None else len(affinity(0))
    if n_cores == 1:
        os.environ.setdefault("NPROC", "2")
