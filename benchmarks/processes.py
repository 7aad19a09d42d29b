"""Rows that concern whole processes: imports, the first step, a training run from end to end."""

import tempfile
from pathlib import Path

from benchmarks import targets
from benchmarks.groups import Bench
from benchmarks.measurements import Entry, Measurement, Ratio
from benchmarks.startup import (
    first_step_seconds,
    fit_seconds,
    import_seconds,
    kernel_build_seconds,
)
from benchmarks.timing import summarise
from qdeq import native
from qdeq.names import Encoding
from qdeq.runs.run import train
from qdeq.training.config import TrainConfig


def import_group(bench: Bench, *, repeats: int = 5) -> list[Entry]:
    """`import qdeq` with its public names loaded, against the packages that it stands on.

    Without the one name that needs scikit-learn, which loads SciPy's statistics and pandas.
    """
    bench.stage("importing in fresh processes")
    found = {}
    for name, seconds in import_seconds(repeats).items():
        timing = summarise(seconds, [0.0])
        found[name] = Measurement(
            timing.median, timing.minimum, timing.spread, samples=timing.samples
        )
    loaded, stack = found["qdeq, loaded"], found["JAX stack"]
    return [
        Entry(
            "import",
            "import qdeq and load every public name but scikit-learn's interface",
            target=targets.IMPORT,
            reached=loaded.median,
            ratios=(Ratio("import jax, equinox, optimistix, optax", stack.median / loaded.median),),
            measurements=found,
            note=f"`import qdeq` alone is lazy: {found['import qdeq'].median:.3f} s",
        )
    ]


def ready_group(bench: Bench, n_qubits: int, encoding: Encoding = "amplitude") -> list[Entry]:
    """From the end of the imports to the end of the first training step, in fresh processes."""
    bench.stage(f"first step of {n_qubits} qubits in fresh processes")
    cold, warm = first_step_seconds(n_qubits, encoding)
    rows = []
    for temperature, stages, target in (
        ("cold", cold, targets.READY[n_qubits]),
        ("warm", warm, targets.READY_WARM),
    ):
        parts = ", ".join(f"{k} {v:.2f} s" for k, v in stages.items() if k != "ready")
        rows.append(
            Entry(
                f"ready-{n_qubits}-{temperature}",
                f"first step ready, {n_qubits} qubits, {temperature} compilation cache",
                target=target,
                reached=stages["ready"],
                measurements={
                    f"qdeq {k}": Measurement(v, v) for k, v in stages.items() if k != "import"
                },
                note=parts,
            )
        )
    return rows


def kernels_group(bench: Bench) -> list[Entry]:
    """Building the compiled kernels, once for a machine."""
    bench.stage("building the kernels")
    seconds = kernel_build_seconds()
    work = "building the kernels, once for a machine"
    if seconds is None:
        return [Entry("kernels", work, skipped=f"kernels {native.availability()}")]
    measured = {"qdeq.native": Measurement(seconds, seconds)}
    return [Entry("kernels", work, reached=seconds, measurements=measured)]


def fits_group(bench: Bench) -> list[Entry]:
    """A grid of fits in one process, and what the next fit costs beside its epochs."""
    bench.stage("a grid of fits in fresh processes")
    rows = []
    for temperature, found in zip(("cold", "warm"), fit_seconds(), strict=True):
        second = summarise(found["second"], [0.0])
        rows += [
            Entry(
                f"grid-{temperature}",
                "4 learning rates x 3 folds x 10 epochs of wine in scikit-learn's grid search, "
                f"{temperature} compilation cache",
                target=targets.GRID,
                reached=found["grid"],
                measurements={"qdeq": Measurement(found["grid"], found["grid"])},
                note=f"{found['n_compiled']} programs, {found['compile']:.2f} s",
            ),
            Entry(
                f"second-fit-{temperature}",
                "the next fit, another learning rate and number of rows, beside its epochs",
                target=targets.SECOND_FIT,
                reached=second.median,
                measurements={"qdeq": Measurement(second.median, second.minimum, second.spread)},
                note=f"{found['n_compiled_later']} programs compiled",
            ),
        ]
    return rows


def training_group(bench: Bench) -> list[Entry]:
    """100 epochs of MNIST-4, the whole of `qdeq train`; needs the data."""
    work = "100 epochs of MNIST-4, implicit, whole `qdeq train` without compile"
    if bench.data_dir is None:
        reason = "needs MNIST: give --data-dir"
        return [Entry("training", work, target=targets.HUNDRED_EPOCHS, skipped=reason)]
    bench.stage("training for 100 epochs")
    config = TrainConfig(data="mnist-4", data_dir=bench.data_dir, epochs=100)
    with tempfile.TemporaryDirectory() as folder:
        summary = train(config, out=Path(folder) / "run", devices=1).summary
    figure = summary.train_seconds
    return [
        Entry(
            "training",
            work,
            target=targets.HUNDRED_EPOCHS,
            reached=figure,
            measurements={"qdeq train": Measurement(figure, figure)},
            note=f"test accuracy {summary.test_accuracy:.3f}, "
            f"solved {summary.converged_fraction:.2%}",
        )
    ]
