"""Classical baselines on the features that the circuits get: logistic regression, a small MLP.

Their hyper-parameters are chosen on the validation split. Both are scikit-learn's.
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.data import Dataset, Split

#: Inverse strengths of the L2 penalty to choose from.
LOGISTIC_STRENGTHS = (0.01, 0.1, 1.0, 10.0)

#: Hidden layers, step sizes and L2 penalties to choose from.
MLP_HIDDEN = ((16,), (64,))
MLP_STEP_SIZES = (1e-3, 5e-3)
MLP_PENALTY = 1e-4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fitted:
    """A trained baseline and what was chosen for it."""

    model: Any
    choice: dict[str, Any]
    valid_loss: float
    history: list[dict[str, float]]

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""
        model = self.model
        if hasattr(model, "coefs_"):
            return int(sum(a.size for a in (*model.coefs_, *model.intercepts_)))
        return int(model.coef_.size + model.intercept_.size)


def fit_logistic(dataset: Dataset) -> Fitted:
    """Multinomial logistic regression; the penalty with the lowest validation loss.

    There is nothing random in it: the problem is convex, every seed gives the same model.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, found = dataset.train, []
    for strength in LOGISTIC_STRENGTHS:
        # Warm solutions of CIFAR's grey pixels still move in the fifth digit after 1000 steps.
        model = LogisticRegression(C=strength, max_iter=1000, tol=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train.x, train.y)
        found.append(Fitted(model, {"C": strength}, loss(model, dataset.valid), []))
    return min(found, key=lambda fitted: fitted.valid_loss)


def choose_mlp(
    dataset: Dataset, *, epochs: int, batch_size: int, seed: int, progress: Progress
) -> Fitted:
    """The multilayer perceptron with the lowest validation loss of a small grid, at one seed."""
    grid = [{"hidden": h, "step_size": s} for h in MLP_HIDDEN for s in MLP_STEP_SIZES]
    found = []
    for number, choice in enumerate(grid):
        found.append(fit_mlp(dataset, choice, epochs=epochs, batch_size=batch_size, seed=seed))
        progress(number + 1, len(grid))
    return min(found, key=lambda fitted: fitted.valid_loss)


def fit_mlp(
    dataset: Dataset, choice: dict[str, Any], *, epochs: int, batch_size: int, seed: int
) -> Fitted:
    """Train an MLP by Adam, and keep the epoch with the lowest validation loss, as the circuits."""
    from sklearn.neural_network import MLPClassifier

    train = dataset.train
    size: Any = min(batch_size, len(train))  # the stubs know "auto" only
    model = MLPClassifier(
        choice["hidden"],
        alpha=MLP_PENALTY,
        batch_size=size,
        learning_rate_init=choice["step_size"],
        random_state=seed,
    )
    best, best_loss, history = model, math.inf, []
    classes = np.arange(dataset.n_classes)
    for epoch in range(1, epochs + 1):
        model.partial_fit(train.x, train.y, classes=classes)
        valid_loss = loss(model, dataset.valid)
        history.append(
            {
                "epoch": epoch,
                "train_loss": float(model.loss_),
                "valid_loss": valid_loss,
                "valid_accuracy": accuracy(model, dataset.valid),
            }
        )
        if valid_loss < best_loss:
            best, best_loss = copy.deepcopy(model), valid_loss
    return Fitted(best, choice, best_loss, history)


def loss(model: Any, split: Split) -> float:
    """Mean cross-entropy of a scikit-learn classifier on a split."""
    chances = model.predict_proba(split.x)[np.arange(len(split)), split.y]
    return float(-np.mean(np.log(np.maximum(chances, 1e-30))))


def accuracy(model: Any, split: Split) -> float:
    """Part of the samples whose class is the most probable one."""
    return float(np.mean(model.predict(split.x) == split.y))
