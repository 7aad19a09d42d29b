"""Runs the groups of rows in order and gathers what they found."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax

from qdeq import native
from qdeq.benchmarking.floors import machine_peaks
from qdeq.benchmarking.groups import Bench, seeds_group, step_group
from qdeq.benchmarking.processes import import_group, kernels_group, ready_group, training_group
from qdeq.benchmarking.results import Results, Row
from qdeq.benchmarking.scaling import curves
from qdeq.benchmarking.wide import wide_group
from qdeq.errors import check_choice

Mode = Literal["quick", "default", "full"]

_PACKAGES = ("qdeq", "jax", "jaxlib", "equinox", "optimistix", "optax", "numpy", "pennylane")

GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
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
    "training": training_group,
}

QUICK = ("import", "step-4-amplitude", "seeds")
"""What `--quick` measures: under 40 s."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes
    ----------
    mode
        "quick": few groups and alternatives; "default": every group; "full": all alternatives in
        every group, and the curves.
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
        chosen = self.only or (QUICK if self.mode == "quick" else tuple(GROUPS))
        return tuple(name for name in GROUPS if name in chosen)


def run_suite(
    plan: Plan,
    *,
    on_stage: Callable[[str], None] | None = None,
    on_rows: Callable[[Iterable[Row]], None] | None = None,
) -> Results:
    """Measure what the plan names.

    Parameters
    ----------
    plan
        What to run.
    on_stage, on_rows
        Called when something begins, and with the rows of every finished group.
    """
    began = time.perf_counter()
    stage = on_stage or (lambda _: None)
    rows: list[Row] = []
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
        rows += found
        if on_rows is not None:
            on_rows(found)
    lines = ()
    if plan.mode == "full" and not plan.only:
        lines = curves(Bench(5.0, "all", plan.data_dir, stage))
    data = "digits drawn as MNIST (built in)" if plan.data_dir is None else "MNIST"
    seconds = time.perf_counter() - began
    return Results(machine(), data, plan.mode, seconds, tuple(rows), lines)


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
