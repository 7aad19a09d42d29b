"""How a saved model does on a split of its data set, on a perfect or a noisy device."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from qdeq.circuits import NoiseModel
from qdeq.data import Dataset, Split
from qdeq.equilibrium import make_solver
from qdeq.equilibrium.solver import Solver
from qdeq.errors import UserError, check_choice
from qdeq.models import ModelFunction, Predictor
from qdeq.names import SplitName, Task
from qdeq.runs.dataset import dataset_of_run, moved
from qdeq.runs.judging import confusion_of
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.session import make_trainer
from qdeq.simulation.sampling import check_shots
from qdeq.training.checked import as_text
from qdeq.training.config import TrainConfig
from qdeq.training.layer import layer_of
from qdeq.training.loop import Trainer
from qdeq.training.losses import loss_of
from qdeq.training.noisy import evaluate_with_shots
from qdeq.training.state import ModelMaker


@dataclass(frozen=True)
class Evaluation:
    """How a saved model does on one split; residuals are relative norms per sample.

    With shots every number is a mean over repeats, and the confusion matrix their sum. Of a run of
    many seeds numbers are means over the seeds as well, but for `residual_max`, the largest, and
    undefined inputs, executions and shots, their sums.

    Attributes
    ----------
    noise, shots, repeats
        Of the device: channels, shots per circuit execution (None: infinitely many), evaluations
        with shots of their own.
    residual_mean, residual_max
        With the device's noise and infinitely many shots, at the measured state that was found.
    circuit_executions
        Of solves alone: evaluations of the model function, times the settings that its observables
        are measured in.
    measured_residual_mean
        As the shots tell it; None without shots.
    total_shots
        Of one evaluation of the split; None without shots.
    deviation
        Standard deviation (n - 1) over the seeds, or of one seed over the repeats, by name; empty
        with fewer than two, and of many seeds without `residual_max`.
    seeds
        Of a run of many; None for one.
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
    task: Task = "classification"
    r2: float | None = None
    rmse: float | None = None
    mae: float | None = None
    """Of a regression, the last two in the targets' own units; its accuracy is NaN."""

    noise: str = ""
    shots: int | None = None
    repeats: int = 1
    solver: str | None = None
    measured_residual_mean: float | None = None
    total_shots: int | None = None
    deviation: dict[str, float] = field(default_factory=dict)
    seeds: list[int] | None = None


def evaluate(
    run: str | Path,
    *,
    split: SplitName = "test",
    data_dir: str | None = None,
    dataset: Dataset | None = None,
    model: ModelFunction | ModelMaker | None = None,
    noise: str | NoiseModel | None = None,
    shots: int | None = None,
    repeats: int = 5,
    seed: int = 0,
    solver: str | Solver | None = None,
    config: TrainConfig | None = None,
) -> Evaluation:
    """Load the best model of a run (of every seed) and evaluate it on one split of its data set.

    Parameters
    ----------
    run
        A run folder, of one seed or many.
    split
        `"test"`, `"valid"` or `"train"`.
    data_dir
        Where the data set is now, if it has moved.
    dataset, model
        The data set and the model function again, of a run that was given them.
    noise
        Channels of the device, see `qdeq.circuits.parse_noise`, or a noise model; None keeps those
        that the model was trained with, `""` has none.
    shots
        Per circuit execution; None computes expectation values exactly.
    repeats, seed
        With shots: how often the split is evaluated, and the seed of all shots.
    solver
        By name, or a solver. None is the run's own, and with shots `"krasnoselskii-mann"`.
    config
        A configuration with the same objects, of a run whose configuration held any.

    Raises
    ------
    UserError
        When the folder is damaged, the data cannot be found, the split is unknown, or noise, shots
        or solver are not allowed.

    Examples
    --------
    >>> evaluate("runs/digits", noise="depolarising=0.01", shots=1000)  # doctest: +SKIP
    """
    check_choice("split", split, get_args(SplitName))
    check_shots("shots", shots)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise UserError(f"repeats={repeats!r}: give a whole number of at least 1")
    if solver is not None:
        make_solver(solver)  # its message
    folder = RunFolder.open(run)
    config = folder.read_config().given_again(config)
    config = moved(config, data_dir)
    if noise is not None and noise != config.noise:
        config = config.replace(noise=noise, method="auto" if noise else config.method)
    if solver is not None and config.mode == "direct":
        raise UserError(
            f"solver={as_text(solver)!r}: a run of mode 'direct' has no solver; leave it out"
        )
    if solver is not None and shots is None:
        config = config.replace(solver=solver)
    dataset = dataset_of_run(config, folder, dataset)
    trainer = make_trainer(config, devices=1, dataset=dataset, model=model)
    chosen: Split = getattr(trainer.dataset, split)
    template = trainer.init().best_classifier
    device = _Device(shots, repeats, seed, solver)
    results = [
        _measure(trainer, own.load_model(template), chosen, device) for own in folder.seed_folders()
    ]
    found, extra = _combined(results)
    if shots is None:
        extra["solver"] = as_text(solver)
    else:
        extra |= {"shots": shots, "repeats": repeats}
        extra["solver"] = (
            None if config.mode == "direct" else as_text(solver or "krasnoselskii-mann")
        )
    predictions = [r["predictions"] for repeated in results for r in repeated]
    labels = np.concatenate([chosen.y] * len(predictions))
    return Evaluation(
        run=str(folder.path),
        split=split,
        n_samples=len(chosen.y),
        loss=float(found["loss"]),
        accuracy=float(found.get("accuracy", math.nan)),
        task=trainer.dataset.task,
        **{name: float(found[name]) for name in ("r2", "rmse", "mae") if name in found},
        residual_mean=float(found["residual_mean"]),
        residual_max=float(found["residual_max"]),
        converged_fraction=float(found["converged_fraction"]),
        solver_steps_mean=float(found["solver_steps_mean"]),
        undefined_inputs=round(found["undefined_inputs"]),
        circuit_executions=round(found["circuit_executions"]),
        classes=list(trainer.dataset.classes),
        confusion_matrix=confusion_of(trainer.dataset, labels, np.concatenate(predictions)),
        noise=config.plain()["noise"],
        seeds=folder.read_seeds() if folder.has_many_seeds else None,
        **extra,
    )


@dataclass(frozen=True)
class _Device:
    shots: int | None
    repeats: int
    seed: int
    solver: str | Solver | None


def _measure(
    trainer: Trainer, classifier: Predictor, split: Split, device: _Device
) -> list[dict[str, Any]]:
    """The metrics of one model: of every repeat, or of the one exact evaluation."""
    if device.shots is None:
        found = trainer.evaluate(classifier, split)
        settings = classifier.model.n_settings
        return [found | {"circuit_executions": found["circuit_executions"] * settings}]
    keys = [
        jax.random.fold_in(jax.random.key(device.seed), repeat) for repeat in range(device.repeats)
    ]
    layer = layer_of(trainer.config)
    loss = loss_of(trainer.config.loss, trainer.dataset.task)
    sampled = [
        evaluate_with_shots(
            classifier,
            layer,
            split,
            shots=device.shots,
            key=key,
            solver=device.solver,
            loss=loss,
            targets=trainer.dataset.targets,
        )
        for key in keys
    ]
    other = ("r2", "rmse", "mae") if loss == "cross-entropy" else ("accuracy",)
    return [{k: v for k, v in vars(found).items() if k not in other} for found in sampled]


_SUMS = ("undefined_inputs", "circuit_executions", "total_shots")


def _combined(results: list[list[dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics averaged over repeats and put together over seeds, and what only some have."""
    names = [name for name, value in results[0][0].items() if np.ndim(value) == 0]
    tables = {
        name: np.array([[repeat[name] for repeat in repeated] for repeated in results], float)
        for name in names
    }
    of_seeds = {name: values.mean(axis=1) for name, values in tables.items()}
    found = {name: float(values.mean()) for name, values in of_seeds.items()}
    found |= {name: float(of_seeds[name].sum()) for name in _SUMS if name in found}
    found["residual_max"] = float(of_seeds["residual_max"].max())
    spread = of_seeds if len(results) > 1 else {n: v[0] for n, v in tables.items()}
    extra: dict[str, Any] = {}
    if len(spread["loss"]) > 1:
        extra["deviation"] = {name: float(values.std(ddof=1)) for name, values in spread.items()}
        if len(results) > 1:  # of many seeds the largest, around which seeds do not vary
            del extra["deviation"]["residual_max"]
    if "total_shots" in found:
        extra["measured_residual_mean"] = found["measured_residual_mean"]
        extra["total_shots"] = round(found["total_shots"])
    return found, extra
