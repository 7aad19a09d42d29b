"""A whole training run in a run folder: start, checkpoint, resume, and judge the best model once.

The compiled epoch is `loop.py`; here is only what surrounds it. Nothing in this module draws random
numbers: each epoch derives its own from the run's key and its number, which is why a resumed run
ends with the bits of an uninterrupted one.
"""

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import equinox as eqx
import jax
import numpy as np

from qdeq.data import Dataset, Split, load
from qdeq.errors import UserError, check_choice
from qdeq.training.arrays import arrays_to_tree, tree_to_arrays
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer, TrainState
from qdeq.training.report import write_report
from qdeq.training.run_folder import Checkpoint, Metrics, RunFolder, default_path
from qdeq.training.summary import Summary, finite_or_none, peak_memory_mb, versions

SplitName = Literal["test", "valid", "train"]
OnEpoch = Callable[[Metrics], None]
OnStage = Callable[[str], None]

_SECONDS_BETWEEN_CHECKPOINTS = 1.0


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during training; the checkpoint of the last finished epoch is on disk.

    Attributes
    ----------
    run
        The run folder, to be given to `resume`.
    epoch
        Number of finished epochs.
    """

    def __init__(self, run: Path, epoch: int):
        command = f"qdeq train --resume {shlex.quote(str(run))}"
        super().__init__(f"stopped after epoch {epoch}; `{command}` continues")
        self.run = run
        self.epoch = epoch


@dataclass(frozen=True)
class Evaluation:
    """How a saved model does on one split; residuals are relative norms per sample."""

    run: str
    split: str
    n_samples: int
    loss: float
    accuracy: float
    residual_mean: float
    residual_max: float
    converged_fraction: float
    solver_steps_mean: float
    undefined_inputs: int
    circuit_executions: int
    classes: list[int | str]
    confusion_matrix: list[list[int]]


def train(
    config: TrainConfig,
    *,
    out: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
) -> Summary:
    """Train one model from the start and write its run folder.

    Parameters
    ----------
    config
        What to train.
    out
        The run folder, which must be empty or not exist; `runs/<data>-<mode>-<time>` if None.
    on_epoch
        Called after every epoch with its line of `metrics.jsonl`.
    on_stage
        Called when a stage begins: "loading data", "compiling", "training", "evaluating",
        "drawing".

    Returns
    -------
    Summary
        What `summary.json` holds. The test split is used once, for the best model.

    Raises
    ------
    UserError
        When the data, the model or the folder cannot be had as configured.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    folder = RunFolder.create(default_path(config) if out is None else out)
    try:
        (on_stage or _ignore)("loading data")
        dataset = _load(config)
        trainer = Trainer(config, dataset)
        state = trainer.init()
        folder.write_config(config)
    except BaseException:  # a mistake in the configuration should leave no empty folder behind
        with contextlib.suppress(OSError):
            folder.path.rmdir()
        raise
    session = _Session(folder, config, dataset, trainer, state, history=[])
    return session.finish(on_epoch or _ignore, on_stage or _ignore)


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_dir: str | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
) -> Summary:
    """Continue a run from its last checkpoint with its own configuration.

    The result is the one of an uninterrupted run, bit for bit. A finished run is judged again.

    Parameters
    ----------
    run
        A run folder.
    epochs
        A new total number of epochs, to extend the run.
    data_dir
        Where the data set is now, if it has moved.
    on_epoch, on_stage
        As in `train`; `on_epoch` is called for new epochs only.

    Raises
    ------
    UserError
        When the folder is damaged or is no run folder, or fewer epochs are asked for than done.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    folder = RunFolder.open(run)
    config = _moved(folder.read_config(), data_dir)
    if epochs is not None:
        config = config.replace(epochs=epochs)
    # A run that was killed before its first checkpoint simply starts again.
    started = folder.checkpoint_path.exists() or folder.metrics_path.exists()
    checkpoint = folder.read_checkpoint() if started else None
    if checkpoint is not None and config.epochs < checkpoint.epoch:
        raise UserError(
            f"epochs={config.epochs}: the run has finished {checkpoint.epoch} epochs already; "
            "give at least that many"
        )
    (on_stage or _ignore)("loading data")
    dataset = _load(config)
    trainer = Trainer(config, dataset)
    state, history, compile_seconds = trainer.init(), [], 0.0
    if checkpoint is not None:
        state = arrays_to_tree(state, checkpoint.arrays, source=folder.checkpoint_path)
        history = folder.read_metrics(epochs=checkpoint.epoch)
        folder.write_metrics(history)
        compile_seconds = checkpoint.compile_seconds
    folder.write_config(config)
    session = _Session(folder, config, dataset, trainer, state, history, compile_seconds)
    return session.finish(on_epoch or _ignore, on_stage or _ignore)


def evaluate(
    run: str | Path, *, split: SplitName = "test", data_dir: str | None = None
) -> Evaluation:
    """Load the best model of a run and evaluate it on one split of its data set.

    Raises
    ------
    UserError
        When the folder is damaged, the data cannot be found or the split is unknown.
    """
    check_choice("split", split, ("test", "valid", "train"))
    folder = RunFolder.open(run)
    config = _moved(folder.read_config(), data_dir)
    dataset = _load(config)
    trainer = Trainer(config, dataset)
    classifier = folder.load_model(trainer.init().best_classifier)
    chosen: Split = getattr(dataset, split)
    found = trainer.evaluate(classifier, chosen)
    return Evaluation(
        run=str(folder.path),
        split=split,
        n_samples=len(chosen.y),
        loss=float(found["loss"]),
        accuracy=float(found["accuracy"]),
        residual_mean=float(found["residual_mean"]),
        residual_max=float(found["residual_max"]),
        converged_fraction=float(found["converged_fraction"]),
        solver_steps_mean=float(found["solver_steps_mean"]),
        undefined_inputs=int(found["undefined_inputs"]),
        circuit_executions=int(found["circuit_executions"]),
        classes=list(dataset.classes),
        confusion_matrix=confusion_matrix(chosen.y, found["predictions"], dataset.n_classes),
    )


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


class _Session:
    """One process's part of a run, from a state to the summary."""

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        dataset: Dataset,
        trainer: Trainer,
        state: TrainState,
        history: list[Metrics],
        compile_seconds: float = 0.0,
    ):
        self.folder, self.config, self.dataset, self.trainer = folder, config, dataset, trainer
        self.compile_seconds = compile_seconds
        # State and history change together, in one assignment, so that an interrupt between two
        # lines cannot leave a checkpoint whose metrics miss an epoch. The arrays are host copies:
        # an epoch that is interrupted may have consumed the device's.
        self.progress: tuple[TrainState, dict[str, np.ndarray], list[Metrics]]
        self.progress = (state, tree_to_arrays(state), history)
        self._checkpoint_time = -np.inf

    def finish(self, on_epoch: OnEpoch, on_stage: OnStage) -> Summary:
        """Run the remaining epochs, judge the best model, write summary, figures and report."""
        with _sigterm_as_interrupt():
            try:
                self._checkpoint()
                self._train(on_epoch, on_stage)
                on_stage("evaluating")
                summary = self._summary()
                self.folder.write_summary(summary)
                on_stage("drawing")
                write_report(self.folder.path)
                return summary
            except KeyboardInterrupt:
                self._stop()

    def _train(self, on_epoch: OnEpoch, on_stage: OnStage) -> None:
        first = len(self.progress[2])
        for epoch in range(first, self.config.epochs):
            if epoch in (first, self.config.warmup_epochs):  # a phase begins: its epoch is compiled
                on_stage("compiling")
            self.compile_seconds += self.trainer.compile(self.progress[0])
            if epoch in (first, self.config.warmup_epochs):
                on_stage("training")
            previous = self.progress[0].best_valid_loss
            state, metrics = self.trainer.run_epoch(self.progress[0])
            metrics = {**metrics, "best": _differ(state.best_valid_loss, previous)}
            self.progress = (state, tree_to_arrays(state), [*self.progress[2], metrics])
            self.folder.append_metrics(metrics)
            last = epoch + 1 == self.config.epochs
            if last or time.monotonic() - self._checkpoint_time >= _SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint()
            on_epoch(metrics)

    def _checkpoint(self) -> None:
        _, arrays, history = self.progress
        prefix = "best_classifier."
        model = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        self.folder.write_checkpoint(Checkpoint(arrays, len(history), self.compile_seconds))
        self.folder.write_model(model)
        self._checkpoint_time = time.monotonic()

    def _stop(self) -> NoReturn:
        history = self.progress[2]
        self.folder.write_metrics(history)
        self._checkpoint()
        raise TrainingInterrupted(self.folder.path, len(history)) from None

    def _summary(self) -> Summary:
        state, _, history = self.progress
        classifier, data = state.best_classifier, self.dataset
        train = self.trainer.evaluate(classifier, data.train)
        valid = self.trainer.evaluate(classifier, data.valid)
        test = self.trainer.evaluate(classifier, data.test)
        best_epoch = max((m["epoch"] for m in history if m["best"]), default=0)
        head = jax.tree.leaves(eqx.filter(classifier.head, eqx.is_inexact_array))
        return Summary(
            run=str(self.folder.path),
            dataset=self.config.data,
            n_features=data.n_features,
            n_qubits=classifier.model.circuit.n_qubits,
            encoding=self.config.encoding,
            mode=self.config.mode,
            solver=self.config.solver,
            adjoint=self.config.adjoint,
            seed=self.config.seed,
            n_parameters=int(classifier.model.theta.size),
            n_head_parameters=sum(int(leaf.size) for leaf in head),
            epochs=len(history),
            best_epoch=best_epoch,
            train_accuracy=float(train["accuracy"]),
            valid_accuracy=float(valid["accuracy"]),
            test_accuracy=float(test["accuracy"]),
            test_loss=float(test["loss"]),
            residual_mean=float(test["residual_mean"]),
            residual_max=float(test["residual_max"]),
            converged_fraction=float(test["converged_fraction"]),
            solver_steps_mean=float(test["solver_steps_mean"]),
            undefined_inputs=int(test["undefined_inputs"]),
            circuit_executions=int(sum(m["circuit_executions"] for m in history)),
            train_seconds=sum(m["seconds"] for m in history),
            compile_seconds=self.compile_seconds,
            peak_memory_mb=peak_memory_mb(),
            device=str(jax.devices()[0].device_kind),
            versions=versions(),
            classes=list(data.classes),
            confusion_matrix=confusion_matrix(data.test.y, test["predictions"], data.n_classes),
            residual_trace=finite_or_none(np.asarray(test["residual_trace"]).tolist()),
        )


def _load(config: TrainConfig) -> Dataset:
    return load(
        config.data,
        n_features=config.n_features,
        data_dir=config.data_dir,
        valid_fraction=config.valid_fraction,
        split_seed=config.split_seed,
    )


def _moved(config: TrainConfig, data_dir: str | None) -> TrainConfig:
    return config if data_dir is None else config.replace(data_dir=data_dir)


def _differ(first: jax.Array, second: jax.Array) -> bool:
    return not np.array_equal(first, second, equal_nan=True)


def _ignore(_: Any) -> None:
    pass


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, with which schedulers end jobs, raise KeyboardInterrupt like Ctrl-C."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
