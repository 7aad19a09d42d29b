"""The recipe for tables: what is not given follows from the shape of the data.

The rules were chosen on the validation parts of a dozen tables, see `docs/results/tables`.
"""

from typing import Any

from qdeq.data import Dataset

_ROWS_SEEN = 40_000  # by training, in all epochs
_EPOCHS = (20, 100)
_BATCHES_PER_EPOCH = 16
_BATCH_SIZES = (16, 256)


def recommended(dataset: Dataset) -> dict[str, Any]:
    """Options of `TrainConfig` for a table, by the numbers of its rows, columns and outputs.

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
    ('table', 6, 16)
    """
    return recommended_for(len(dataset.train), dataset.n_features, dataset.n_outputs)


def recommended_for(n_rows: int, n_features: int, n_outputs: int) -> dict[str, Any]:
    """`recommended` for a table of these sizes."""
    n_qubits = 4 if n_features <= 4 else 6
    if n_outputs > 6 or n_features > 32:
        n_qubits = 8
    batch_size = _within(2 ** max(0, (n_rows // _BATCHES_PER_EPOCH).bit_length() - 1), _BATCH_SIZES)
    return {
        "encoding": "table",
        "n_qubits": n_qubits,
        "rotations": 2,
        "uploads": 1,
        "ansatz": "hardware-efficient",
        "ansatz_layers": 1,
        "observables": "z",
        "head": "affine",
        "epochs": _within(round(_ROWS_SEEN / max(n_rows, 1)), _EPOCHS),
        "batch_size": batch_size,
        "learning_rate": 0.03,
        "gradient_clip": 1.0,
        "dropout": 0.0,
        "schedule": "cosine",
        "jacobian_weight": 0.1,
    }


def _within(number: int, limits: tuple[int, int]) -> int:
    return min(max(number, limits[0]), limits[1])
