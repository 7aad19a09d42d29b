"""Which values `qdeq train` takes for a file of the user's, where none are given."""

from typing import Any

from qdeq.data import Dataset


def recipe_for(dataset: Dataset) -> dict[str, Any]:
    """Values of the configuration that suit the data set's shape."""
    try:
        from qdeq.training.recommended import recommended  # pyright: ignore[reportMissingImports]
    except ImportError:
        n_qubits = max(4, (dataset.n_features - 1).bit_length(), dataset.n_outputs)
        values = {"epochs": 60, "batch_size": 32, "learning_rate": 0.03, "gradient_clip": 1.0}
        return values | {"n_qubits": n_qubits, "dropout": 0.0, "ansatz": "hardware-efficient"}
    return dict(recommended(dataset))
