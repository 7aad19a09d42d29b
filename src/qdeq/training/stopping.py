"""When training ends before its last epoch because the validation loss no longer falls."""

from collections.abc import Mapping, Sequence
from typing import Any

from qdeq.training.config import TrainConfig


def ended_at(history: Sequence[Mapping[str, Any]], config: TrainConfig) -> int | None:
    """The epoch that ended training by `config.patience`, if one did.

    Parameters
    ----------
    history
        The metrics of the epochs so far, with `best`: whether the model was the best one yet. A
        warm-up ends nothing.
    """
    if not config.patience:
        return None
    best = 0
    for metrics in history:
        if metrics["best"]:
            best = metrics["epoch"]
        elif metrics["phase"] == config.mode and metrics["epoch"] - best >= config.patience:
            return metrics["epoch"]
    return None
