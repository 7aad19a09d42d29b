"""Runs and their folders: start, resume, load, evaluate, summary, figures, report, sweeps."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.runs.certify import RunCertificate as RunCertificate
    from qdeq.runs.certify import certify_run as certify_run
    from qdeq.runs.comparison import RunComparison as RunComparison
    from qdeq.runs.comparison import compare as compare
    from qdeq.runs.cost import RunCost as RunCost
    from qdeq.runs.cost import run_cost as run_cost
    from qdeq.runs.evaluation import Evaluation as Evaluation
    from qdeq.runs.evaluation import evaluate as evaluate
    from qdeq.runs.network_report import write_network_report as write_network_report
    from qdeq.runs.report import write_report as write_report
    from qdeq.runs.report_data import add_details as add_details
    from qdeq.runs.run import resume as resume
    from qdeq.runs.run import train as train
    from qdeq.runs.run_folder import RunFolder as RunFolder
    from qdeq.runs.session import TrainingInterrupted as TrainingInterrupted
    from qdeq.runs.summary import Spread as Spread
    from qdeq.runs.summary import Summary as Summary
    from qdeq.runs.tracking import TrackedRun as TrackedRun
    from qdeq.runs.tracking import Tracker as Tracker
    from qdeq.runs.trained import Run as Run
    from qdeq.runs.trained import load as load

# On first use: the command line reads folders without loading JAX.
__getattr__ = attach(
    __name__,
    {
        "RunCertificate": "certify",
        "certify_run": "certify",
        "RunComparison": "comparison",
        "compare": "comparison",
        "RunCost": "cost",
        "run_cost": "cost",
        "Evaluation": "evaluation",
        "evaluate": "evaluation",
        "write_network_report": "network_report",
        "write_report": "report",
        "add_details": "report_data",
        "resume": "run",
        "train": "run",
        "RunFolder": "run_folder",
        "TrainingInterrupted": "session",
        "Spread": "summary",
        "Summary": "summary",
        "TrackedRun": "tracking",
        "Tracker": "tracking",
        "Run": "trained",
        "load": "trained",
    },
)
