"""What training computes: the configuration, one compiled epoch, many seeds, many devices."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.training.config import PRESETS as PRESETS
    from qdeq.training.config import TrainConfig as TrainConfig
    from qdeq.training.loop import Trainer as Trainer
    from qdeq.training.state import TrainState as TrainState

# On first use: the command line reads configurations without loading JAX.
__getattr__ = attach(
    __name__,
    {
        "PRESETS": "config",
        "TrainConfig": "config",
        "TrainState": "state",
        "Trainer": "loop",
        # Where these were in version 0.1.
        **dict.fromkeys(
            [
                "Evaluation",
                "RunFolder",
                "Summary",
                "TrainingInterrupted",
                "evaluate",
                "resume",
                "train",
                "write_report",
            ],
            "qdeq.runs",
        ),
    },
)
