"""How the best model of every seed does: it is judged once, at the end, and summed up."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from qdeq.data import Dataset
from qdeq.models import Predictor
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary, finite_or_none, peak_memory_mb, versions
from qdeq.runs.training_files import Metrics
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer
from qdeq.training.stopping import ended_at


def judge(
    trainer: Trainer,
    classifiers: Predictor,
    folders: Sequence[RunFolder],
    configs: Sequence[TrainConfig],
    *,
    histories: Sequence[list[Metrics]],
    stopped: Sequence[str],
    compile_seconds: float,
) -> tuple[list[Summary], list[np.ndarray]]:
    """The summary of every seed, and its predictions of the test samples.

    Parameters
    ----------
    trainer
        That trained them.
    classifiers
        The best models, with a leading seed axis.
    folders, configs, histories
        Per seed, the metrics being those of the finished epochs.
    stopped
        Per seed why its training ended early, or nothing.
    compile_seconds
        Spent for all seeds.
    """
    data, n_seeds = trainer.dataset, len(folders)
    splits = data.train, data.valid, data.test
    evaluations = [trainer.evaluate_seeds(classifiers, split) for split in splits]
    head = jax.tree.leaves(eqx.filter(classifiers.head, eqx.is_inexact_array))
    memory, packages = peak_memory_mb(), versions()
    arrays, rest = eqx.partition(classifiers.model, eqx.is_array)
    one_seed = eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), rest)
    n_qubits = getattr(getattr(one_seed, "circuit", None), "n_qubits", None)
    of_each = [h[: ended_at(h, config)] for h, config in zip(histories, configs, strict=True)]
    summaries = [
        Summary(
            run=str(folder.path),
            dataset=config.data_name,
            n_features=data.n_features,
            n_qubits=n_qubits,
            encoding=config.plain()["encoding"],
            mode=config.mode,
            solver=config.plain()["solver"],
            adjoint=config.plain()["adjoint"],
            seed=config.seed,
            n_parameters=one_seed.n_parameters,
            n_head_parameters=sum(int(leaf.size) // n_seeds for leaf in head),
            epochs=len(own),
            stopped=why,
            best_epoch=max((m["epoch"] for m in own if m["best"]), default=0),
            **_scores(train, valid, test),
            test_loss=float(test["loss"]),
            residual_mean=float(test["residual_mean"]),
            residual_max=float(test["residual_max"]),
            converged_fraction=float(test["converged_fraction"]),
            solver_steps_mean=float(test["solver_steps_mean"]),
            undefined_inputs=int(test["undefined_inputs"]),
            not_finite=int(test["not_finite"]),
            circuit_executions=int(sum(m["circuit_executions"] for m in own)),
            train_seconds=sum(m["seconds"] for m in history),
            compile_seconds=compile_seconds / n_seeds,
            peak_memory_mb=memory,
            device=str(jax.devices()[0].device_kind),
            versions=packages,
            task=data.task,
            targets=[] if data.targets is None else list(data.targets.names),
            classes=list(data.classes),
            confusion_matrix=confusion_of(data, data.test.y, test["predictions"]),
            residual_trace=finite_or_none(np.asarray(test["residual_trace"]).tolist()),
        )
        for folder, config, history, own, why, train, valid, test in zip(
            folders, configs, histories, of_each, stopped, *evaluations, strict=True
        )
    ]
    return summaries, [test["predictions"] for test in evaluations[-1]]


def _scores(train: Metrics, valid: Metrics, test: Metrics) -> dict[str, Any]:
    parts = {"train": train, "valid": valid, "test": test}
    scores = {
        f"{part}_{name}": float(found[name])
        for part, found in parts.items()
        for name in ("accuracy", "r2")
        if name in found
    }
    scores |= {f"test_{name}": float(test[name]) for name in ("rmse", "mae") if name in test}
    return dict.fromkeys((f"{part}_accuracy" for part in parts), math.nan) | scores


def confusion_of(data: Dataset, labels: np.ndarray, predictions: np.ndarray) -> list[list[int]]:
    """The confusion matrix of a classification; empty for a regression."""
    if data.task == "regression":
        return []
    return confusion_matrix(labels, predictions, data.n_classes)


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, n_classes: int
) -> list[list[int]]:
    """Count samples by true class (row) and predicted class (column).

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts.tolist()
