"""The names that configurations, the command line and functions take, each list once.

What a name stands for is defined where it is built; lists elsewhere follow from these by
`typing.get_args`. Imports nothing, so that parsing a command line stays fast.
"""

from typing import Literal

NamedData = Literal["digits-4", "digits-10", "mnist-4", "mnist-10", "fashion-10", "cifar-10"]
DataName = Literal[NamedData, "own"]
OWN_DATA: DataName = "own"
"""The name of a data set that Python code gave; it cannot be loaded by its name."""

Features = Literal["pool", "pca", "vae"]
Task = Literal["classification", "regression"]
SCORES: dict[Task, str] = {"classification": "accuracy", "regression": "r2"}
"""What a task's predictions are judged by, the larger the better, by its name in metrics."""
IN_WORDS = {"accuracy": "accuracy", "r2": "R²"}
"""Scores as people write them."""
SplitName = Literal["test", "valid", "train"]

NamedEncoding = Literal["amplitude", "angle"]
Encoding = Literal[NamedEncoding, "table"]
TABLE_ENCODING: Encoding = "table"
"""Any number of features by a learned injection; what it builds depends on their number."""
NamedAnsatz = Literal[
    "paper",
    "hardware-efficient",
    "strongly-entangling",
    "paper-unentangled",
    "paper-repeated",
]
Ansatz = Literal[NamedAnsatz, "own"]
OWN_MODEL: Ansatz = "own"
"""The circuit of a model function that Python code gave; it cannot be made by its name."""

Observables = Literal["z", "z-pairs", "z-strings", "xyz"]
Trainable = Literal["all", "published"]
Method = Literal["auto", "statevector", "quadratic", "lightcone", "density-matrix"]
Head = Literal["linear", "affine", "none"]
Loss = Literal["auto", "cross-entropy", "squared", "absolute"]

Mode = Literal["implicit", "direct"]
SolverName = Literal[
    "picard",
    "anderson",
    "broyden",
    "newton",
    "homotopy",
    "dogleg",
    "levenberg-marquardt",
    "krasnoselskii-mann",
]
Fallback = Literal["homotopy", "none"]
Start = Literal["zero", "previous"]
AdjointName = Literal["implicit", "jacobian-free", "neumann", "shine", "unrolled"]
Optimiser = Literal[
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "amsgrad",
    "fromage",
    "lamb",
    "lars",
    "lion",
    "nadam",
    "nadamw",
    "novograd",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "sm3",
    "yogi",
]
Schedule = Literal["constant", "cosine"]
Gradient = Literal["parameter-shift", "spsa"]

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
PresetName = Literal["paper", "demo", "published", "best"]
TABLE_PRESET = "table"
"""What is recommended for the shape of a table, in the place of a named preset."""
