"""The speed suite: ratios in one process, against named alternatives on the same work."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.benchmarking.compare import compare as compare
    from qdeq.benchmarking.results import Results as Results
    from qdeq.benchmarking.suite import Plan as Plan
    from qdeq.benchmarking.suite import run_suite as run_suite

__getattr__ = attach(
    __name__,
    {"compare": "compare", "Results": "results", "Plan": "suite", "run_suite": "suite"},
)
