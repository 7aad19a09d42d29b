"""What can be computed as a row: train its models, and write down what is to be known of them.

Runs in a process of its own (see `worker.py`), so that its peak memory is its own and a crash ends
one row and not the study. What other rows there are is not known here.
"""

import importlib
import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeq._locks import FolderInUse
from qdeq.data import Dataset
from qdeq.errors import UserError
from qdeq.runs.circuit import circuit_of
from qdeq.runs.dataset import load_dataset
from qdeq.runs.summary import Summary, hardware, peak_memory_mb, versions
from qdeq.studies import baselines
from qdeq.studies.study import Result, Row, Tell
from qdeq.training.config import TrainConfig

if TYPE_CHECKING:
    from qdeq.runs.trained import Run


def run_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Compute one row.

    Parameters
    ----------
    row
        What to train; its `kind` is a function of this module, or `MODULE:FUNCTION`, with these
        parameters.
    folder
        The row's folder.
    progress
        Called with small dicts: `{"stage": name}` and `{"epoch": n, "epochs": total, ...}`.

    Returns
    -------
    dict
        What `result` returns.
    """
    module, _, name = row.kind.rpartition(":")
    return getattr(importlib.import_module(module or __name__), name)(row, folder, progress)


def result(seeds: list[dict[str, Any]], *, failure: str | None = None, **numbers: Any) -> Result:
    """What `row.json` holds: how it went, and a row's numbers, seed by seed and in all.

    `seeds` have `"seed"` and numbers by name; a seed whose `"valid_loss"` is not finite has
    diverged. The status is "done", "diverged" (at least one seed has) or "failed" (nothing could be
    computed, `failure` says why).
    """
    diverged = diverged_seeds(seeds)
    status, reason = "done", None
    if failure is not None:
        status, reason = "failed", failure
    elif diverged:
        status, reason = "diverged", _divergence(diverged, len(seeds))
    return {
        "status": status,
        "reason": reason,
        "seeds": seeds,
        "versions": versions(),
        "hardware": hardware(),
        **numbers,
    }


def failed(reason: str) -> Result:
    """The result of a row that could not be computed."""
    return result([], failure=reason)


def diverged_seeds(seeds: list[dict[str, Any]]) -> list[int]:
    """Those whose validation loss is not finite."""
    return [s["seed"] for s in seeds if not math.isfinite(s.get("valid_loss", 0.0))]


def circuit(row: Row, folder: Path, progress: Tell) -> Result:
    """A model per seed, all trained together by the training loop.

    Their run folders are kept in `runs`, and a run that was interrupted there is continued.
    """
    config = row.training
    summaries = _trained(row, folder / "runs", progress).summaries
    memory = peak_memory_mb()  # before the traces, which are for a figure
    steps = config.epochs * _steps_per_epoch(config)
    seeds = [
        _seed_result(config, summary, steps, test=row.options["test"]) for summary in summaries
    ]
    diverged = diverged_seeds(seeds)
    drawn = circuit_of(config).circuit
    traces = None
    if row.options["traces"] and len(diverged) < len(seeds):
        from qdeq.studies.traces import solver_traces

        progress({"stage": "comparing solvers"})
        first = next(s for s in summaries if s.seed not in diverged)
        traces = solver_traces(Path(first.run))
    return result(
        seeds,
        trainable_angles=sum(drawn.trainable),
        classical_parameters=summaries[0].n_head_parameters,
        depth=drawn.depth(),
        two_qubit_gates=drawn.count(n_wires=2),
        train_seconds=sum(summary.train_seconds for summary in summaries),
        compile_seconds=sum(summary.compile_seconds for summary in summaries),
        peak_memory_mb=memory,
        device=summaries[0].device,
        classes=summaries[0].classes,
        traces=traces,
    )


def _trained(row: Row, runs: Path, progress: Tell) -> "Run":
    """The row's seeds trained in a folder, or trained on where that was interrupted."""
    from qdeq.runs.run import resume, train
    from qdeq.runs.run_folder import RunFolder

    config = row.training

    def on_stage(name: str) -> None:
        progress({"stage": name})

    def on_epoch(metrics: dict[str, Any]) -> None:
        told = {"epoch": metrics["epoch"], "epochs": config.epochs}
        progress({**told, "valid_accuracy": metrics["valid_accuracy"]})

    try:
        kept = RunFolder.open(runs)
        # Where the data are does not change what they hold.
        same = kept.read_config().replace(data_dir=config.data_dir) == config
        if same and kept.read_seeds() == list(row.seeds):
            return resume(runs, data_dir=config.data_dir, on_stage=on_stage, on_epoch=on_epoch)
    except FolderInUse:  # by a row's process whose study was killed
        raise
    except UserError:  # nothing there yet, or what is there is damaged
        pass
    shutil.rmtree(runs, ignore_errors=True)
    return train(config, seeds=row.seeds, out=runs, on_stage=on_stage, on_epoch=on_epoch)


def _seed_result(
    config: TrainConfig, summary: Summary, steps: int, *, test: bool
) -> dict[str, Any]:
    from qdeq.runs.cost import phase_cost, run_cost
    from qdeq.runs.run_folder import RunFolder

    folder = RunFolder(Path(summary.run))
    history = folder.read_metrics(epochs=summary.epochs)
    losses = [m["valid_loss"] for m in history if m["epoch"] == summary.best_epoch]
    # The last loss too: a run that ends in NaN has diverged, even if an early model was kept.
    last = history[-1]["valid_loss"] if history else None
    finite = bool(losses) and losses[0] is not None and last is not None and not summary.stopped
    measured = circuit_of(config)
    cost = run_cost(measured, config, history)
    inference = phase_cost(measured, config, config.mode, summary.solver_steps_mean)
    found = {
        "seed": summary.seed,
        "train_accuracy": summary.train_accuracy,
        "valid_accuracy": summary.valid_accuracy,
        "valid_loss": losses[0] if finite else math.nan,
        "best_epoch": summary.best_epoch,
        "executions_per_training_step": cost.solves.executions / steps,
        "gradient_executions_per_training_step": cost.gradients.executions / steps,
        "executions_per_inference": inference.executions_per_inference,
    }
    if test:
        found |= {
            "test_accuracy": summary.test_accuracy,
            "test_loss": summary.test_loss,
            "residual_mean": summary.residual_mean,
            "residual_max": summary.residual_max,
            "converged_fraction": summary.converged_fraction,
            "solver_steps": summary.solver_steps_mean,
            "undefined_inputs": summary.undefined_inputs,
            "confusion_matrix": summary.confusion_matrix,
        }
    return found


def _divergence(diverged: list[int], n_seeds: int) -> str:
    names = ", ".join(map(str, diverged))
    return (
        f"{len(diverged)} of {n_seeds} seeds diverged (seed {names}: the validation loss is not "
        "finite); the numbers are those of the others"
    )


def logistic(row: Row, folder: Path, progress: Tell) -> Result:
    """Logistic regression: nothing in it is random, every seed has the same model."""
    del folder
    dataset = load_dataset(row.training)
    progress({"stage": "fitting"})
    began = time.perf_counter()
    fitted = dict.fromkeys(row.seeds, baselines.fit_logistic(dataset))
    note = " (the same model for every seed)"
    return classical(dataset, fitted, note, time.perf_counter() - began, choosing=0.0)


def mlp(row: Row, folder: Path, progress: Tell) -> Result:
    """A small multilayer perceptron, chosen at the first seed."""
    del folder
    dataset, config = load_dataset(row.training), row.training

    def tell(done: int, total: int) -> None:
        progress({"stage": "choosing by validation loss", "epoch": done, "epochs": total})

    began = time.perf_counter()
    size = {"epochs": config.epochs, "batch_size": config.batch_size}
    first = baselines.choose_mlp(dataset, **size, seed=row.seeds[0], progress=tell)
    choosing = time.perf_counter() - began
    began, fitted = time.perf_counter(), {}
    for number, seed in enumerate(row.seeds):
        fitted[seed] = baselines.fit_mlp(dataset, first.choice, **size, seed=seed)
        progress({"stage": "fitting", "epoch": number + 1, "epochs": len(row.seeds)})
    return classical(dataset, fitted, "", time.perf_counter() - began, choosing=choosing)


def classical(
    dataset: Dataset,
    fitted: dict[int, baselines.Fitted],
    note: str,
    seconds: float,
    *,
    choosing: float,
) -> Result:
    """The result of a row of scikit-learn's models, one per seed."""
    seeds = [
        {
            "seed": seed,
            "train_accuracy": baselines.accuracy(found.model, dataset.train),
            "valid_accuracy": baselines.accuracy(found.model, dataset.valid),
            "valid_loss": found.valid_loss,
            "test_accuracy": baselines.accuracy(found.model, dataset.test),
            "test_loss": baselines.loss(found.model, dataset.test),
            "confusion_matrix": _confusion(found.model, dataset),
        }
        for seed, found in fitted.items()
    ]
    any_one = next(iter(fitted.values()))
    choice = ", ".join(f"{name} = {value}" for name, value in any_one.choice.items())
    return result(
        seeds,
        note=f"{choice}, chosen on validation data{note}",
        trainable_angles=0,
        classical_parameters=any_one.n_parameters,
        train_seconds=seconds,
        choosing_seconds=choosing,
        compile_seconds=0.0,
        peak_memory_mb=peak_memory_mb(),
        device="cpu",
        classes=list(dataset.classes),
    )


def _confusion(model: Any, dataset: Dataset) -> list[list[int]]:
    from qdeq.runs.judging import confusion_matrix

    return confusion_matrix(dataset.test.y, model.predict(dataset.test.x), dataset.n_classes)


def cost(row: Row, folder: Path, progress: Tell) -> Result:
    """Time and memory of a training step against depth."""
    from qdeq.studies.cost import step_costs

    del folder
    return result([], costs=step_costs(row.training, load_dataset(row.training), progress))


def _steps_per_epoch(config: TrainConfig) -> int:
    return -(-len(load_dataset(config).train) // config.batch_size)
