"""When training cannot go on: a loss or a gradient that is not finite, said in one line."""

import math
from collections.abc import Mapping
from typing import Any

from qdeq.training.config import TrainConfig

_JUDGED = {
    "train_loss": "training loss",
    "gradient_norm": "gradient",
    "valid_loss": "validation loss",
}


def divergence(metrics: Mapping[str, Any], config: TrainConfig) -> str:
    """Why training cannot go on after an epoch; empty where its numbers are finite.

    Parameters
    ----------
    metrics
        Of the epoch, as `Trainer.run_epoch` returns them or as a run folder keeps them.
    config
        What is trained.

    Examples
    --------
    >>> metrics = {"epoch": 3, "train_loss": math.nan, "gradient_norm": 1.0, "valid_loss": 0.5}
    >>> divergence(metrics, TrainConfig(learning_rate=1e6))
    'epoch 3: the training loss is not finite; learning_rate=1000000.0 may be too large, or \
features far from 1 in size: lower it, or scale the features'
    >>> divergence({**metrics, "train_loss": 0.25}, TrainConfig())
    ''
    """
    wrong = [text for name, text in _JUDGED.items() if not _is_finite(metrics[name])]
    if not wrong:
        return ""
    clip = "" if config.gradient_clip else ", set gradient_clip"
    verb = "is" if len(wrong) == 1 else "are"
    return (
        f"epoch {metrics['epoch']}: the {' and the '.join(wrong)} {verb} not finite; "
        f"learning_rate={config.learning_rate} may be too large, or features far from 1 in size: "
        f"lower it{clip}, or scale the features"
    )


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)  # None: how JSON has it
