"""The recipe for one's own data: what is not given follows from their shape.

The rules for tables were chosen on the validation parts of a dozen tables, see
`docs/results/tables`; images are trained as the preset `best` does.
"""

from dataclasses import fields
from typing import Any

from qdeq.data import Dataset
from qdeq.data.dataset import check_dataset
from qdeq.data.images import grid_side, usual_n_features
from qdeq.names import Task
from qdeq.training.config import PRESETS, TrainConfig

_ROWS_SEEN = 80_000  # in training, by all epochs
_EPOCHS = (20, 60)
_BATCHES_PER_EPOCH = 32
_BATCH_SIZES = (16, 256)
_FEW_FEATURES, _FEW_OUTPUTS, _MANY_OUTPUTS = 16, 6, 20
# The shape that two or three columns draw needs large weights; a regression on many follows its
# noise. On validation parts: 0.1 against 0.3 is worth 0.01 on three draws of two moons, 0.6 against
# 0.3 is worth 0.035 in R2 on diabetes, costs 0.003 on Friedman 2, and gives nothing on wine and
# breast cancer.
_VERY_FEW_FEATURES = 3
_WEIGHT_DECAY: dict[Task, float] = {"classification": 0.3, "regression": 0.5}
_WEIGHT_DECAY_OF_FEW = 0.1


def recommended(dataset: Dataset) -> dict[str, Any]:
    """Options of `TrainConfig` for a table or images, by the numbers of rows, columns and outputs.

    Parameters
    ----------
    dataset
        Of standardised features, as `qdeq.data.read_table` makes one.

    Returns
    -------
    dict
        Values by the names of options; those that are not in it have their defaults.

    Examples
    --------
    >>> import numpy as np, qdeq.data
    >>> rng = np.random.default_rng(0)
    >>> dataset = qdeq.data.from_arrays(rng.normal(size=(200, 13)), np.arange(200) % 3)
    >>> options = recommended(dataset)
    >>> options["encoding"], options["n_qubits"], options["batch_size"]
    ('table', 4, 16)
    """
    check_dataset(dataset)
    n_rows = len(dataset.train)
    if dataset.is_of_images:
        return recommended_for_images(n_rows, dataset.n_outputs)
    return recommended_for(n_rows, dataset.n_features, dataset.n_outputs, task=dataset.task)


def recommended_for_images(n_rows: int, n_outputs: int) -> dict[str, Any]:
    """The preset `best` for so many images, each with as many features as the paper takes."""
    best, default = PRESETS["best"], TrainConfig()
    options = {f.name: getattr(best, f.name) for f in fields(best)}
    changed = {name: value for name, value in options.items() if value != getattr(default, name)}
    n_qubits = grid_side(usual_n_features(n_outputs))
    return changed | {"epochs": _epochs(n_rows), "n_qubits": n_qubits}


def recommended_for(
    n_rows: int, n_features: int, n_outputs: int, *, task: Task = "classification"
) -> dict[str, Any]:
    """`recommended` for a table of these sizes."""
    is_simple = n_features <= _VERY_FEW_FEATURES
    # Three values of every qubit are measured: 12, 18 or 24 numbers that a linear head sees.
    if n_outputs > _MANY_OUTPUTS:
        n_qubits = 8
    else:
        n_qubits = 4 if n_features <= _FEW_FEATURES and n_outputs <= _FEW_OUTPUTS else 6
    rows_per_batch = max(1, n_rows // _BATCHES_PER_EPOCH)
    return {
        "encoding": "table",
        "n_qubits": n_qubits,
        "rotations": 2,
        "uploads": 1,
        "ansatz": "hardware-efficient",
        "ansatz_layers": 1,
        "observables": "xyz",
        "head": "affine",
        "epochs": _epochs(n_rows),
        "batch_size": _within(2 ** (rows_per_batch.bit_length() - 1), _BATCH_SIZES),
        "learning_rate": 0.03,
        "weight_decay": _WEIGHT_DECAY_OF_FEW if is_simple else _WEIGHT_DECAY[task],
        "schedule": "cosine",
        "gradient_clip": 1.0,
        "dropout": 0.0,
        "jacobian_weight": 0.1,
    }


def _epochs(n_rows: int) -> int:
    return _within(round(_ROWS_SEEN / max(n_rows, 1)), _EPOCHS)


def _within(number: int, limits: tuple[int, int]) -> int:
    return min(max(number, limits[0]), limits[1])
