"""What predicted numbers are judged by, in their own units, by scikit-learn's definitions."""

import numpy as np
from jaxtyping import Float


def regression_scores(
    true: Float[np.ndarray, "N T"],
    predicted: Float[np.ndarray, "N T"],
    *,
    weight: Float[np.ndarray, " N"] | None = None,
) -> dict[str, float]:
    """R2, root mean squared and mean absolute error; means over the targets.

    All NaN where a prediction is not finite; R2 is NaN for fewer than two samples.

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
