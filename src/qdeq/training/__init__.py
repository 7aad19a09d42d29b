"""Training runs: configuration, compiled loop, run folders, figures and reports."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.training.config import PRESETS as PRESETS
    from qdeq.training.config import TrainConfig as TrainConfig
    from qdeq.training.loop import Trainer as Trainer
    from qdeq.training.loop import TrainState as TrainState
    from qdeq.training.report import write_report as write_report
    from qdeq.training.run import Evaluation as Evaluation
    from qdeq.training.run import TrainingInterrupted as TrainingInterrupted
    from qdeq.training.run import evaluate as evaluate
    from qdeq.training.run import resume as resume
    from qdeq.training.run import train as train
    from qdeq.training.run_folder import RunFolder as RunFolder
    from qdeq.training.summary import Summary as Summary

__getattr__ = attach(
    __name__,
    {
        "PRESETS": "config",
        "TrainConfig": "config",
        "Trainer": "loop",
        "TrainState": "loop",
        "write_report": "report",
        "Evaluation": "run",
        "TrainingInterrupted": "run",
        "evaluate": "run",
        "resume": "run",
        "train": "run",
        "RunFolder": "run_folder",
        "Summary": "summary",
    },
)
