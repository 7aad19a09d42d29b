"""Runs the groups of rows in order and gathers what they found."""

import dataclasses
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax

from benchmarks.floors import machine_peaks
from benchmarks.groups import Bench, seeds_group, step_group
from benchmarks.measurements import Curve, Entry, Results
from benchmarks.processes import (
    fits_group,
    import_group,
    kernels_group,
    ready_group,
    training_group,
)
from benchmarks.scaling import batch_curve, layers_curve, qubits_curve, seeds_curve
from benchmarks.wide import wide_group
from qdeq import native
from qdeq.errors import check_choice

Mode = Literal["quick", "default", "full"]

_PACKAGES = ("qdeq", "jax", "jaxlib", "equinox", "optimistix", "optax", "numpy", "pennylane")

GROUPS: dict[str, Callable[[Bench], Sequence[Entry | Curve]]] = {
    "import": import_group,
    "step-4-amplitude": partial(step_group, n_qubits=4, encoding="amplitude"),
    "step-4-angle": partial(step_group, n_qubits=4, encoding="angle"),
    "seeds": seeds_group,
    "step-10-amplitude": partial(step_group, n_qubits=10, encoding="amplitude"),
    "step-10-angle": partial(step_group, n_qubits=10, encoding="angle"),
    "wide-2": partial(wide_group, depth=2),
    "wide-3": partial(wide_group, depth=3),
    "ready-4": partial(ready_group, n_qubits=4),
    "ready-10": partial(ready_group, n_qubits=10),
    "kernels": kernels_group,
    "fits": fits_group,
    "training": training_group,
    "scaling-qubits": qubits_curve,
    "scaling-layers": layers_curve,
    "scaling-batch": batch_curve,
    "scaling-seeds": seeds_curve,
}

QUICK = ("import", "step-4-amplitude", "seeds")
"""What `--quick` measures: under 40 s."""

FULL_ONLY = tuple(name for name in GROUPS if name.startswith("scaling-"))
"""What only `--full` measures, unless it is named."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes
    ----------
    mode
        "quick": few groups and alternatives; "default": every group but the curves; "full": all
        alternatives in every group, and the curves.
    data_dir
        MNIST's folder.
    only
        Names of groups; empty means those of the mode.
    """

    mode: Mode = "default"
    data_dir: str | None = None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.only:
            check_choice("only", name, GROUPS)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups to run, in the order of the table."""
        if self.only:
            return tuple(name for name in GROUPS if name in self.only)
        if self.mode == "quick":
            return QUICK
        return tuple(name for name in GROUPS if self.mode == "full" or name not in FULL_ONLY)


def run_suite(
    plan: Plan,
    *,
    on_stage: Callable[[str], None] | None = None,
    on_results: Callable[[Results], None] | None = None,
) -> Results:
    """Measure what the plan names.

    Parameters
    ----------
    plan
        What to run.
    on_stage, on_results
        Called when something begins, and after every group with all that has been found so far.
    """
    began = time.perf_counter()
    stage = on_stage or (lambda _: None)
    data = "digits drawn as MNIST (built in)" if plan.data_dir is None else "MNIST"
    results = Results(machine(), data, plan.mode, 0.0)
    for name in plan.groups:
        # Most alternatives where they tell most; all of them take minutes to compile.
        most = plan.mode == "default" and name == "step-4-amplitude"
        bench = Bench(
            seconds=2.0 if plan.mode == "quick" else 4.0,
            alternatives="all" if plan.mode == "full" else "most" if most else "few",
            data_dir=plan.data_dir,
            stage=stage,
        )
        found = GROUPS[name](bench)
        results = dataclasses.replace(
            results,
            seconds=time.perf_counter() - began,
            rows=results.rows + tuple(item for item in found if isinstance(item, Entry)),
            curves=results.curves + tuple(item for item in found if isinstance(item, Curve)),
        )
        if on_results is not None:
            on_results(results)
    return results


def machine() -> dict[str, Any]:
    """Where the figures come from: device, threads, peaks and versions."""
    flops, bandwidth = machine_peaks()
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": _threads(),
        "kernels": native.availability(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "matmul_gflops": round(flops / 1e9, 1),
        "memory_gbytes_per_second": round(bandwidth / 1e9, 1),
        "python": platform.python_version(),
        "versions": dict(filter(lambda item: item[1], ((p, _version(p)) for p in _PACKAGES))),
    }


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
