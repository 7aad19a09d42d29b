"""What a finished run is summed up in: the content of `summary.json`, and how it is measured."""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qdeq.errors import UserError
from qdeq.names import SCORES, Task

# Fields younger than run folders that must stay readable, with what they mean there.
_REGRESSION: dict[str, Any] = {
    "task": "classification",
    "targets": [],
    **dict.fromkeys(("train_r2", "valid_r2", "test_r2", "test_rmse", "test_mae")),
}
_LATER_FIELDS: dict[str, Any] = {
    **_REGRESSION,
    "stopped": "",
    "not_finite": 0,
    "seeds": None,
    "statistics": {},
    "by_seed": {},
}

_PACKAGES = ("qdeq", "jax", "jaxlib", "equinox", "optimistix", "lineax", "optax", "numpy")


@dataclass(frozen=True)
class Spread:
    """A number over the seeds; `std` is the sample standard deviation, NaN for one seed."""

    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """
        >>> Spread.of([0.5, 0.7]).mean
        0.6
        """
        numbers = np.asarray(values, float)
        with np.errstate(invalid="ignore"):  # of infinite ones there is none
            deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
        if numbers.max() == numbers.min():  # their mean may be off by a rounding
            deviation *= 0
        # NumPy's minimum and maximum are NaN where a number is.
        return cls(float(numbers.mean()), deviation, float(numbers.min()), float(numbers.max()))

    def __str__(self) -> str:
        return format(self, ".4g")

    def __format__(self, form: str) -> str:
        """The mean, with the deviation behind it where there is one."""
        if math.isnan(self.std):
            return format(self.mean, form)
        return f"{format(self.mean, form)} ± {format(self.std, form)}"


def compared(task: Task) -> tuple[str, ...]:
    """Numbers of a task's `Summary` that differ from seed to seed."""
    return (*_SCORES[task], *_COMPARED)


_SCORES: dict[Task, tuple[str, ...]] = {
    "classification": ("test_accuracy", "valid_accuracy", "train_accuracy"),
    "regression": ("test_r2", "valid_r2", "train_r2", "test_rmse", "test_mae"),
}
_COMPARED = (
    "test_loss",
    "residual_mean",
    "residual_max",
    "converged_fraction",
    "solver_steps_mean",
    "best_epoch",
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished run, of one seed or many, in numbers; scripts rely on the names.

    Accuracies and residuals belong to the model with the lowest validation loss. Residuals are
    per-sample relative norms |f(m) - m| / |f(m)| on the test split. Of many seeds the numbers are
    means (`residual_max` the largest; executions, seconds and the confusion matrix sums), and
    `statistics` and `by_seed` say how the seeds differ.
    """

    run: str
    """The run folder."""

    dataset: str
    n_features: int
    n_qubits: int | None
    """None for a model function without a circuit."""

    encoding: str
    mode: str
    solver: str
    adjoint: str
    seed: int | None
    """None for many seeds."""

    n_parameters: int
    """Angles of the circuit, trainable or not."""

    n_head_parameters: int
    """Weights and biases of the head."""

    epochs: int
    """Trained until this seed ended; of many seeds the largest number."""

    best_epoch: float
    """Epoch, counted from 1, whose model was kept; a warm-up's models are not among the choices
    unless the run ended within it. 0 when no epoch had a finite validation loss."""

    stopped: str = ""
    """Why training ended before its last epoch, in a line that names the epoch: a loss or gradient
    that was not finite. Empty when it did not."""

    task: Task = "classification"
    train_accuracy: float
    """NaN for a regression, and so are the next two."""

    valid_accuracy: float
    test_accuracy: float
    train_r2: float | None = None
    """Of a regression the mean over its targets, by scikit-learn's definition; None for a
    classification, and so are the next four."""

    valid_r2: float | None = None
    test_r2: float | None = None
    test_rmse: float | None = None
    """Root mean squared error in the targets' own units, the mean over the targets."""

    test_mae: float | None = None
    """Mean absolute error in the targets' own units, the mean over the targets."""

    test_loss: float
    residual_mean: float
    residual_max: float
    converged_fraction: float
    """Part of the test samples whose solve met the tolerance."""

    solver_steps_mean: float
    undefined_inputs: int
    """Test samples with v = x + R m = 0, which amplitude encoding cannot represent."""

    not_finite: int = 0
    """Test samples with a residual that is not a number (or infinite); `residual_trace` is without
    it, `residual_mean` and `residual_max` are not."""

    circuit_executions: int
    """Evaluations of the model function in the forward passes of training; `qdeq resources RUN`
    adds what gradients would cost on hardware."""

    train_seconds: float
    """Run time of all epochs, validation included and compilation excluded."""

    compile_seconds: float
    peak_memory_mb: float
    """Largest resident memory of the process, in MB of 10**6 bytes."""

    device: str
    """JAX's name of the device that the run used."""

    versions: dict[str, str]
    classes: list[int | str]
    """Empty for a regression, and so is the confusion matrix."""

    confusion_matrix: list[list[int]]
    """Test samples by true class (row) and predicted class (column)."""

    targets: list[str] = field(default_factory=list)
    """Names of what a regression predicts; their scale is in the run folder's data.json."""

    residual_trace: list[float | None]
    """Mean relative residual of the test samples after each solver step; null where no sample was
    still iterating with a finite one."""

    seeds: list[int] | None = None
    """Of a run of many seeds."""

    statistics: dict[str, Spread] = field(default_factory=dict)
    """Of many seeds: mean, sample standard deviation, minimum and maximum by name."""

    by_seed: dict[str, list[float]] = field(default_factory=dict)
    """Of many seeds: the same numbers seed by seed, in the order of `seeds`."""

    @classmethod
    def over(cls, summaries: "Sequence[Summary]", *, run: str) -> "Summary":
        """Sum up the summaries of the seeds of a run in the folder `run`."""
        first = summaries[0]
        by_seed = {name: [getattr(s, name) for s in summaries] for name in compared(first.task)}
        statistics = {name: Spread.of(values) for name, values in by_seed.items()}
        matrices = np.array([summary.confusion_matrix for summary in summaries])
        return dataclasses.replace(
            first,
            run=run,
            seed=None,
            seeds=[summary.seed for summary in summaries],
            epochs=max(summary.epochs for summary in summaries),
            **{name: spread.mean for name, spread in statistics.items()}
            | {"residual_max": statistics["residual_max"].max},
            stopped="; ".join(f"seed {s.seed}: {s.stopped}" for s in summaries if s.stopped),
            undefined_inputs=sum(summary.undefined_inputs for summary in summaries),
            not_finite=sum(summary.not_finite for summary in summaries),
            circuit_executions=sum(summary.circuit_executions for summary in summaries),
            train_seconds=sum(summary.train_seconds for summary in summaries),
            compile_seconds=sum(summary.compile_seconds for summary in summaries),
            confusion_matrix=matrices.sum(axis=0).tolist(),
            residual_trace=_mean_trace([summary.residual_trace for summary in summaries]),
            statistics=statistics,
            by_seed=by_seed,
        )

    @property
    def score(self) -> str:
        """What predictions are judged by: `"accuracy"` or `"r2"`."""
        return SCORES[self.task]

    def spread(self, name: str) -> Spread:
        """A number with its deviation over the seeds; one seed has none."""
        return self.statistics.get(name, Spread.of([getattr(self, name)]))

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the summary as JSON text; numbers that are not finite become null."""
        values = dataclasses.asdict(self)
        for name, default in _REGRESSION.items():
            if self.task == "classification" and values[name] == default:
                del values[name]  # the file of a classification is what it always was
        if self.seeds is None:  # the file of one seed is what it always was
            del values["seeds"], values["statistics"], values["by_seed"]
        return json.dumps(finite_or_none(values), indent=indent)

    @classmethod
    def from_json(cls, text: str, *, source: str = "summary.json") -> "Summary":
        """Rebuild a summary from what `to_json` wrote.

        Raises
        ------
        UserError
            When the text is not JSON or its keys are not those of a summary.
        """
        advice = "write it again with `qdeq train --resume` and the run folder"
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{source} is damaged ({error}): {advice}") from error
        names = {field.name for field in dataclasses.fields(cls)}
        if isinstance(values, dict):
            values = {**_LATER_FIELDS, **values}
        differing = names ^ set(values) if isinstance(values, dict) else names
        if differing:
            raise UserError(f"{source} is damaged at {min(differing)}: {advice}")
        numbers = {known.name for known in dataclasses.fields(cls) if known.type is float}
        if values["task"] == "regression":  # a score of one sample, say, is no number either
            numbers |= set(_SCORES["regression"])
        values |= {name: math.nan for name in numbers if values[name] is None}
        try:
            spreads = {
                name: Spread(**{k: math.nan if v is None else v for k, v in spread.items()})
                for name, spread in values["statistics"].items()
            }
        except (AttributeError, TypeError) as error:
            raise UserError(f"{source} is damaged at statistics: {advice}") from error
        return cls(**{**values, "statistics": spreads})


def _mean_trace(traces: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean over the seeds that were still iterating, step by step."""
    steps = itertools.zip_longest(*traces)
    going = [[value for value in step if value is not None] for step in steps]
    return [sum(values) / len(values) if values else None for values in going]


def finite_or_none(value: Any) -> Any:
    """Replace numbers that are not finite by None, which JSON can hold, in nested lists and dicts.

    >>> finite_or_none({"residual": [0.5, float("nan")]})
    {'residual': [0.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's numbers."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB; NaN on Windows.

    `getrusage`, elsewhere than on Linux the best there is, starts a program at the size of the
    process that started it, such as a notebook.
    """
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def hardware() -> str:
    """Processor and number of cores, as a person would describe them."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}"
