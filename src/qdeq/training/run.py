"""A training run of one seed in its run folder: start it, resume it, evaluate its model again.

The epochs are in `loop.py`, what surrounds them in `session.py`; many seeds are `many.py`.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qdeq.data import Split
from qdeq.errors import UserError, check_choice
from qdeq.training.arrays import arrays_to_tree
from qdeq.training.config import TrainConfig
from qdeq.training.run_folder import Checkpoint, RunFolder, default_path
from qdeq.training.session import (
    OnEpoch,
    OnStage,
    Session,
    confusion_matrix,
    ignore,
    is_writer,
    make_trainer,
    new_folder,
)
from qdeq.training.session import TrainingInterrupted as TrainingInterrupted
from qdeq.training.summary import Summary

SplitName = Literal["test", "valid", "train"]


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
    devices: int | None = None,
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
    devices
        Over how many of JAX's devices every batch is split; all of them if None.
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
    folder = new_folder(default_path(config) if out is None else out)
    try:
        (on_stage or ignore)("loading data")
        trainer = make_trainer(config, devices=devices)
        states = trainer.init_seeds([config.seed])
        if is_writer():
            folder.write_config(config)
    except BaseException:  # a mistake in the configuration should leave no empty folder behind
        with contextlib.suppress(OSError):
            folder.path.rmdir()
        raise
    session = Session(trainer, [folder], [config], states=states, histories=[[]])
    return session.finish(on_epoch, on_stage)[0]


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_dir: str | None = None,
    devices: int | None = None,
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
    devices, on_epoch, on_stage
        As in `train`; `on_epoch` is called for new epochs only.

    Raises
    ------
    UserError
        When the folder is damaged or is no run folder, or fewer epochs are asked for than done.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    folder = RunFolder.open(run)
    config = moved(folder.read_config(), data_dir)
    if epochs is not None:
        config = config.replace(epochs=epochs)
    # A run that was killed before its first checkpoint simply starts again.
    started = folder.checkpoint_path.exists() or folder.metrics_path.exists()
    checkpoint = folder.read_checkpoint() if started else None
    if checkpoint is not None:
        check_epochs(config, checkpoint)
    (on_stage or ignore)("loading data")
    trainer = make_trainer(config, devices=devices)
    state, history, compile_seconds = trainer.init(), [], 0.0
    if checkpoint is not None:
        state = arrays_to_tree(state, checkpoint.arrays, source=folder.checkpoint_path)
        history = folder.read_metrics(epochs=checkpoint.epoch)
        compile_seconds = checkpoint.compile_seconds
    if is_writer():
        folder.write_metrics(history)
        folder.write_config(config)
    session = Session(
        trainer,
        [folder],
        [config],
        states=trainer.stack([state]),
        histories=[history],
        compile_seconds=compile_seconds,
    )
    return session.finish(on_epoch, on_stage)[0]


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
    trainer = make_trainer(moved(folder.read_config(), data_dir), devices=1)
    dataset = trainer.dataset
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


def moved(config: TrainConfig, data_dir: str | None) -> TrainConfig:
    """The configuration with the data set's present folder, if it has moved."""
    return config if data_dir is None else config.replace(data_dir=data_dir)


def check_epochs(config: TrainConfig, checkpoint: Checkpoint) -> None:
    """Raise `UserError` when a run has finished more epochs than it should have."""
    if config.epochs < checkpoint.epoch:
        raise UserError(
            f"epochs={config.epochs}: the run has finished {checkpoint.epoch} epochs already; "
            "give at least that many"
        )
