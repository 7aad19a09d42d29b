"""When training ends before its last epoch, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from qdeq.training.config import TrainConfig
from qdeq.training.divergence import divergence


def ended_at(history: Sequence[Mapping[str, Any]], config: TrainConfig) -> int | None:
    """The epoch that ended training, if one did: by `config.patience`, or by numbers not finite.

    Beside other seeds a seed is computed further; its results are those of the epochs up to here.

    Parameters
    ----------
    history
        The metrics of the epochs so far, with `best`: whether the model was the best one yet. A
        warm-up does not end by patience.
    """
    best = 0
    for metrics in history:
        if divergence(metrics, config):
            return metrics["epoch"]
        if metrics["best"]:
            best = metrics["epoch"]
        elif (
            config.patience
            and metrics["phase"] == config.mode
            and metrics["epoch"] - best >= config.patience
        ):
            return metrics["epoch"]
    return None


def why_stopped(history: Sequence[Mapping[str, Any]], config: TrainConfig) -> str:
    """`divergence` of the epoch that ended training; empty where none did, or by patience."""
    end = ended_at(history, config)
    return "" if end is None else divergence(history[end - 1], config)
