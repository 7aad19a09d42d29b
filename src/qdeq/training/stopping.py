"""When training ends before its last epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from qdeq.training.config import TrainConfig
from qdeq.training.divergence import divergence


def ends(history: Sequence[Mapping[str, Any]], config: TrainConfig) -> bool:
    """Whether the last epoch ends training: by `config.patience`, or by numbers not finite.

    Parameters
    ----------
    history
        The metrics of the epochs so far, with `best`: whether the model was the best one yet. A
        warm-up does not end by patience.
    """
    last, patience = history[-1], config.patience
    if divergence(last, config):
        return True
    if not patience or last["phase"] != config.mode or len(history) < patience:
        return False
    return not any(metrics["best"] for metrics in history[-patience:])


def ended_at(history: Sequence[Mapping[str, Any]], config: TrainConfig) -> int | None:
    """The first epoch that `ends` training, if one does.

    Beside other seeds a seed is computed further; its results are those of the epochs up to here.
    """
    lengths = range(1, len(history) + 1)
    return next((n for n in lengths if ends(history[:n], config)), None)
