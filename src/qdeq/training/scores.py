"""What predictions are judged by: accuracy, or errors in the targets' own units."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qdeq.data import Dataset, Split


@dataclass(frozen=True, eq=False)
class Scoring:
    """How good predictions of a data set are.

    Programs return a *mark* of every batch: the fraction that is right, of a regression the mean
    squared error of the scaled targets.
    """

    dataset: Dataset

    def of_training(self, mark: float) -> float:
        """Accuracy or R2 on the training split, from the mean mark of its batches."""
        if self.dataset.targets is None:
            return mark
        return 1 - mark / self._variance if self._variance > 0 else math.nan

    def of_split(self, split: Split, mark: float, predicted: np.ndarray) -> dict[str, float]:
        """Scores of a split, from the mean mark or from scaled predictions."""
        if self.dataset.targets is None:
            return {"accuracy": mark}
        return regression_scores(
            self.in_units(split.y), self.in_units(predicted), weight=split.weight
        )

    def in_units(self, predicted: np.ndarray) -> np.ndarray:
        """Predicted targets in their own units; classes as they are."""
        targets = self.dataset.targets
        return predicted if targets is None else targets.restored(predicted)

    @functools.cached_property
    def _variance(self) -> float:
        """Of the targets to learn, 1 but for those that are constant; the mean over targets."""
        y, weight = self.dataset.train.y.astype(float), self.dataset.train.weight
        squares = (y - np.average(y, axis=0, weights=weight)) ** 2
        return float(np.mean(np.average(squares, axis=0, weights=weight)))


def regression_scores(
    true: Float[np.ndarray, "N T"],
    predicted: Float[np.ndarray, "N T"],
    *,
    weight: Float[np.ndarray, " N"] | None = None,
) -> dict[str, float]:
    """R2, root mean squared and mean absolute error by scikit-learn's definitions.

    Means over the targets; all NaN where a prediction is not finite. R2 is NaN for fewer than two
    samples.

    Examples
    --------
    >>> regression_scores(np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]]))
    {'r2': 0.5, 'rmse': 0.7071067811865476, 'mae': 0.5}
    """
    if not np.isfinite(predicted).all():
        return dict.fromkeys(("r2", "rmse", "mae"), float("nan"))
    # Imported here: training classifiers does without it.
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "r2": float(r2_score(true, predicted, sample_weight=weight)) if len(true) > 1 else np.nan,
        "rmse": float(root_mean_squared_error(true, predicted, sample_weight=weight)),
        "mae": float(mean_absolute_error(true, predicted, sample_weight=weight)),
    }
