"""Fits a model to a table's folds, over and over; one row of `tables`.

Every fold is scaled by its own training part. The models are scikit-learn's estimators, ours among
them, and a classifier in PennyLane.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from qdeq.runs.summary import peak_memory_mb
from qdeq.studies.kinds import result
from qdeq.studies.study import Result, Row, Tell
from qdeq.studies.tables.study import FOLDS

_REGRESSIONS = ("diabetes", "friedman")


def load_table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels (or a target) of a table that scikit-learn has or makes."""
    from sklearn import datasets

    if name == "moons":
        moons: Any = datasets.make_moons(500, noise=0.2, random_state=0)
        return moons
    if name == "friedman":
        friedman: Any = datasets.make_friedman1(1000, noise=1.0, random_state=0)
        return friedman
    load: Any = getattr(datasets, f"load_{name.replace('-', '_')}")
    return load(return_X_y=True)


def train_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Fit and judge a model on every fold of every seed."""
    del folder
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, name = row.options["table"], row.options["model"]
    x, y = load_table(table)
    is_regression = table in _REGRESSIONS
    splitter: Any = KFold if is_regression else StratifiedKFold
    seeds, seconds = [], []
    for number, pair in enumerate(row.seeds, start=1):
        seed, fold = divmod(pair, FOLDS)
        folds = splitter(FOLDS, shuffle=True, random_state=seed).split(x, y)
        learn, test = list(folds)[fold]
        model = make_pipeline(StandardScaler(), _make(name, is_regression, pair))
        began = time.perf_counter()
        model.fit(x[learn], y[learn])
        seconds.append(time.perf_counter() - began)
        found = {"seed": pair, "valid_loss": 0.0, "score": float(model.score(x[test], y[test]))}
        last: Any = model[-1]
        if hasattr(last, "equilibria"):
            stats = last.equilibria(model[0].transform(x[test])).stats
            found["converged_fraction"] = float(np.mean(stats.converged))
        seeds.append(found)
        progress({"stage": "folds", "epoch": number, "epochs": len(row.seeds)})
    return result(
        seeds,
        first_seconds=seconds[0],
        fit_seconds=float(np.mean(seconds[1:])) if len(seconds) > 1 else None,
        peak_memory_mb=peak_memory_mb(),
    )


def _make(name: str, is_regression: bool, seed: int) -> Any:
    """A model with its defaults."""
    makers: dict[str, Callable[[], Any]] = {
        "linear": lambda: _linear(is_regression),
        "boosting": lambda: _boosting(is_regression, seed),
        "svm": lambda: _svm(is_regression),
        "mlp": lambda: _mlp(is_regression, seed),
        "pennylane": lambda: _PennyLaneClassifier(seed),
    }
    return makers[name]() if name in makers else _ours(name, is_regression, seed)


def _ours(name: str, is_regression: bool, seed: int) -> Any:
    from qdeq.interop.sklearn import QDEQClassifier, QDEQRegressor

    kind = QDEQRegressor if is_regression else QDEQClassifier
    if name == "equilibrium":
        return kind(random_state=seed)
    return kind(random_state=seed, mode="direct", layers=int(name.rpartition("-")[2]))


def _linear(is_regression: bool) -> Any:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    return LinearRegression() if is_regression else LogisticRegression(max_iter=1000)


def _boosting(is_regression: bool, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    kind = GradientBoostingRegressor if is_regression else GradientBoostingClassifier
    return kind(random_state=seed)


def _svm(is_regression: bool) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, SVR

    if is_regression:  # its margin is in the units of the target
        return TransformedTargetRegressor(SVR(), transformer=StandardScaler())
    return SVC()


def _mlp(is_regression: bool, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPRegressor if is_regression else MLPClassifier
    return kind(hidden_layer_sizes=(32,), max_iter=2000, random_state=seed)


class _PennyLaneClassifier(ClassifierMixin, BaseEstimator):
    """PennyLane's own templates and simulator, compiled by JAX."""

    def __init__(self, seed: int, n_layers: int = 2, epochs: int = 60, batch_size: int = 32):
        self.seed, self.n_layers, self.epochs = seed, n_layers, epochs
        self.batch_size = batch_size

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_PennyLaneClassifier":
        """Train on principal components, by Adam."""
        import jax
        import jax.numpy as jnp
        import optax
        from sklearn.decomposition import PCA

        from qdeq.training.recommended import recommended_for

        self.classes_, counted = np.unique(y, return_inverse=True)
        n_qubits = recommended_for(len(x), x.shape[1], len(self.classes_))["n_qubits"]
        self.pca = PCA(min(n_qubits, x.shape[1])).fit(x)
        inputs = jnp.asarray(self.pca.transform(x) / self._scale())
        self.apply = jax.jit(jax.vmap(_pennylane_scores(n_qubits), in_axes=(None, 0)))
        keys = jax.random.split(jax.random.key(self.seed), 2)
        shape = (self.n_layers, n_qubits, 3)
        parameters = {
            "theta": jax.random.uniform(keys[0], shape, maxval=2 * np.pi),
            "weight": jax.random.normal(keys[1], (len(self.classes_), n_qubits)) * 0.1,
            "bias": jnp.zeros(len(self.classes_)),
        }
        labels, optimiser = jnp.asarray(counted), optax.adam(0.03)

        def loss(parameters: Any, x: Any, y: Any) -> Any:
            scores = self.apply(parameters, x)
            return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

        @jax.jit
        def step(parameters: Any, state: Any, rows: Any) -> Any:
            slope = jax.grad(loss)(parameters, inputs[rows], labels[rows])
            change, state = optimiser.update(slope, state)
            return optax.apply_updates(parameters, change), state

        state, rng = optimiser.init(parameters), np.random.default_rng(self.seed)
        size = min(self.batch_size, len(x))
        for _ in range(self.epochs):
            order = rng.permutation(len(x))
            for begin in range(0, len(x) - size + 1, size):
                parameters, state = step(parameters, state, order[begin : begin + size])
        self.parameters = parameters
        return self

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        """Accuracy."""
        scores = self.apply(self.parameters, self.pca.transform(x) / self._scale())
        return float(np.mean(self.classes_[np.argmax(np.asarray(scores), axis=1)] == y))

    def _scale(self) -> float:
        # One for all: components that vary little say little, and stay small angles.
        return float(np.sqrt(self.pca.explained_variance_[0]))


def _pennylane_scores(n_qubits: int) -> Callable[..., Any]:
    from qdeq._pennylane import load

    qml = load()
    wires = range(n_qubits)

    @qml.qnode(qml.device("default.qubit", wires=n_qubits), interface="jax")
    def circuit(theta: Any, x: Any) -> Any:
        qml.AngleEmbedding(x, wires=wires, rotation="Y")
        qml.StronglyEntanglingLayers(theta, wires=wires)
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    def scores(parameters: Any, x: Any) -> Any:
        import jax.numpy as jnp

        values = jnp.stack(circuit(parameters["theta"], x))
        return parameters["weight"] @ values + parameters["bias"]

    return scores
