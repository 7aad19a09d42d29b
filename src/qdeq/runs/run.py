"""A training run of one seed in its run folder: start it, resume it, evaluate its model again.

The epochs are in `loop.py`, what surrounds them in `session.py`; many seeds are `many.py`.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from qdeq._arrays import arrays_to_tree
from qdeq.data import Split
from qdeq.equilibrium import SOLVERS
from qdeq.errors import UserError, check_choice
from qdeq.runs.run_folder import Checkpoint, RunFolder, default_path
from qdeq.runs.session import (
    OnEpoch,
    OnStage,
    Session,
    confusion_matrix,
    ignore,
    is_writer,
    make_trainer,
    new_folder,
)
from qdeq.runs.session import TrainingInterrupted as TrainingInterrupted
from qdeq.runs.summary import Summary
from qdeq.simulation.sampling import check_shots
from qdeq.training.config import TrainConfig
from qdeq.training.layer import layer_of
from qdeq.training.noisy import ShotMetrics, evaluate_with_shots

SplitName = Literal["test", "valid", "train"]


@dataclass(frozen=True)
class Evaluation:
    """How a saved model does on one split; residuals are relative norms per sample.

    With shots every number is a mean over repeats, and the confusion matrix their sum.

    Attributes
    ----------
    noise, shots, repeats
        Of the device: channels, shots per circuit execution (None: infinitely many), evaluations
        with shots of their own.
    residual_mean, residual_max
        With the device's noise and infinitely many shots, at the measured state that was found.
    measured_residual_mean
        As the shots tell it; None without shots.
    total_shots
        Of one evaluation of the split; None without shots.
    deviation
        Standard deviation over the repeats (n - 1), by name; empty with fewer than two.
    """

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
    noise: str = ""
    shots: int | None = None
    repeats: int = 1
    solver: str | None = None
    measured_residual_mean: float | None = None
    total_shots: int | None = None
    deviation: dict[str, float] = field(default_factory=dict)


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
    run: str | Path,
    *,
    split: SplitName = "test",
    data_dir: str | None = None,
    noise: str | None = None,
    shots: int | None = None,
    repeats: int = 5,
    seed: int = 0,
    solver: str | None = None,
) -> Evaluation:
    """Load the best model of a run and evaluate it on one split of its data set.

    Parameters
    ----------
    run
        A run folder.
    split
        `"test"`, `"valid"` or `"train"`.
    data_dir
        Where the data set is now, if it has moved.
    noise
        Channels of the device, see `qdeq.circuits.parse_noise`; None keeps those that the model
        was trained with, `""` has none.
    shots
        Per circuit execution; None computes expectation values exactly.
    repeats, seed
        With shots: how often the split is evaluated, and the seed of all shots.
    solver
        By name. None is the run's own, and with shots `"krasnoselskii-mann"`.

    Raises
    ------
    UserError
        When the folder is damaged, the data cannot be found, the split is unknown, or noise, shots
        or solver are not allowed.

    Examples
    --------
    >>> evaluate("runs/digits", noise="depolarising=0.01", shots=1000)  # doctest: +SKIP
    """
    check_choice("split", split, ("test", "valid", "train"))
    check_shots("shots", shots)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise UserError(f"repeats={repeats!r}: give a whole number of at least 1")
    if solver is not None:
        check_choice("solver", solver, SOLVERS)
    folder = RunFolder.open(run)
    config = moved(folder.read_config(), data_dir)
    if noise is not None and noise != config.noise:
        config = config.replace(noise=noise, method="auto" if noise else config.method)
    if solver is not None and config.mode == "direct":
        raise UserError(f"solver={solver!r}: a run of mode 'direct' has no solver; leave it out")
    if solver is not None and shots is None:
        config = config.replace(solver=solver)
    trainer = make_trainer(config, devices=1)
    dataset = trainer.dataset
    classifier = folder.load_model(trainer.init().best_classifier)
    chosen: Split = getattr(dataset, split)
    if shots is None:
        found: dict[str, Any] = trainer.evaluate(classifier, chosen)
        extra: dict[str, Any] = {"solver": solver}
        predictions = found["predictions"]
        labels = chosen.y
    else:
        results = [
            evaluate_with_shots(
                classifier,
                layer_of(config),
                chosen,
                shots=shots,
                key=jax.random.fold_in(jax.random.key(seed), repeat),
                solver=solver,
            )
            for repeat in range(repeats)
        ]
        found, extra = _means(results)
        extra |= {"shots": shots, "repeats": repeats}
        extra["solver"] = None if config.mode == "direct" else solver or "krasnoselskii-mann"
        predictions = np.concatenate([result.predictions for result in results])
        labels = np.tile(chosen.y, repeats)
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
        circuit_executions=round(found["circuit_executions"]),
        classes=list(dataset.classes),
        confusion_matrix=confusion_matrix(labels, predictions, dataset.n_classes),
        noise=config.noise,
        **extra,
    )


def _means(results: list[ShotMetrics]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics averaged over repeats, and what only evaluations with shots have."""
    names = [name for name in vars(results[0]) if name != "predictions"]
    columns = {name: np.array([getattr(result, name) for result in results]) for name in names}
    found = {name: float(values.mean()) for name, values in columns.items()}
    several = len(results) > 1
    extra = {
        "measured_residual_mean": found.pop("measured_residual_mean"),
        "total_shots": round(found.pop("total_shots")),
        "deviation": {n: float(v.std(ddof=1)) for n, v in columns.items()} if several else {},
    }
    return found, extra


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
