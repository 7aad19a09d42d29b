"""Training runs: configuration, compiled loop, run folders, figures and reports."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.training.config import PRESETS as PRESETS
    from qdeq.training.config import TrainConfig as TrainConfig
    from qdeq.training.loop import Trainer as Trainer
    from qdeq.training.loop import TrainState as TrainState
    from qdeq.training.many import resume_many as resume_many
    from qdeq.training.many import train_many as train_many
    from qdeq.training.many_summary import ManySummary as ManySummary
    from qdeq.training.report import write_report as write_report
    from qdeq.training.run import Evaluation as Evaluation
    from qdeq.training.run import evaluate as evaluate
    from qdeq.training.run import resume as resume
    from qdeq.training.run import train as train
    from qdeq.training.run_folder import RunFolder as RunFolder
    from qdeq.training.session import TrainingInterrupted as TrainingInterrupted
    from qdeq.training.summary import Summary as Summary

__getattr__ = attach(
    __name__,
    {
        "PRESETS": "config",
        "TrainConfig": "config",
        "Trainer": "loop",
        "TrainState": "loop",
        "resume_many": "many",
        "train_many": "many",
        "ManySummary": "many_summary",
        "write_report": "report",
        "Evaluation": "run",
        "TrainingInterrupted": "session",
        "evaluate": "run",
        "resume": "run",
        "train": "run",
        "RunFolder": "run_folder",
        "Summary": "summary",
    },
)
