"""What a finished run is summed up in: the content of `summary.json`, and how it is measured."""

import dataclasses
import importlib.metadata
import json
import math
import platform
import sys
from dataclasses import dataclass
from typing import Any

from qdeq.errors import UserError

# Fields younger than run folders that must stay readable, with what they mean there.
_LATER_FIELDS = {"stopped": ""}

_PACKAGES = ("qdeq", "jax", "jaxlib", "equinox", "optimistix", "lineax", "optax", "numpy")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One finished training run in numbers; scripts rely on the names.

    Accuracies and residuals belong to the model with the lowest validation loss. Residuals are
    per-sample relative norms |f(m) - m| / |f(m)| on the test split.
    """

    run: str
    """The run folder."""

    dataset: str
    n_features: int
    n_qubits: int
    encoding: str
    mode: str
    solver: str
    adjoint: str
    seed: int
    n_parameters: int
    """Angles of the circuit, trainable or not."""

    n_head_parameters: int
    """Weights and biases of the head."""

    epochs: int
    best_epoch: int
    """Epoch, counted from 1, whose model was kept; a warm-up's models are not among the choices
    unless the run ended within it. 0 when no epoch had a finite validation loss."""

    stopped: str = ""
    """Why training ended before its last epoch, in a line that names the epoch: a loss or gradient
    that was not finite. Empty when it did not."""

    train_accuracy: float
    valid_accuracy: float
    test_accuracy: float
    test_loss: float
    residual_mean: float
    residual_max: float
    converged_fraction: float
    """Part of the test samples whose solve met the tolerance."""

    solver_steps_mean: float
    undefined_inputs: int
    """Test samples with v = x + R m = 0, which amplitude encoding cannot represent."""

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
    confusion_matrix: list[list[int]]
    """Test samples by true class (row) and predicted class (column)."""

    residual_trace: list[float | None]
    """Mean relative residual of the test samples after each solver step."""

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the summary as JSON text; numbers that are not finite become null."""
        return json.dumps(finite_or_none(dataclasses.asdict(self)), indent=indent)

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
        for field in dataclasses.fields(cls):
            if field.type is float and values[field.name] is None:
                values[field.name] = math.nan
        return cls(**values)


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
    """Return the largest resident memory of this process so far, in MB; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
