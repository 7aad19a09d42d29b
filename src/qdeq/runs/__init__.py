"""Runs and their folders: start, resume, evaluate, summary, figures, report, sweeps."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.runs.cost import RunCost as RunCost
    from qdeq.runs.cost import run_cost as run_cost
    from qdeq.runs.many import resume_many as resume_many
    from qdeq.runs.many import train_many as train_many
    from qdeq.runs.many_summary import ManySummary as ManySummary
    from qdeq.runs.report import write_report as write_report
    from qdeq.runs.run import Evaluation as Evaluation
    from qdeq.runs.run import evaluate as evaluate
    from qdeq.runs.run import resume as resume
    from qdeq.runs.run import train as train
    from qdeq.runs.run_folder import RunFolder as RunFolder
    from qdeq.runs.session import TrainingInterrupted as TrainingInterrupted
    from qdeq.runs.summary import Summary as Summary

# On first use: the command line reads folders without loading JAX.
__getattr__ = attach(
    __name__,
    {
        "RunCost": "cost",
        "run_cost": "cost",
        "resume_many": "many",
        "train_many": "many",
        "ManySummary": "many_summary",
        "write_report": "report",
        "Evaluation": "run",
        "evaluate": "run",
        "resume": "run",
        "train": "run",
        "RunFolder": "run_folder",
        "TrainingInterrupted": "session",
        "Summary": "summary",
    },
)
