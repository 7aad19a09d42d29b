"""What training and inference cost on a device: circuit executions, shots, gates, seconds."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.resources.circuit_cost import CircuitCost as CircuitCost
    from qdeq.resources.cost import Cost as Cost
    from qdeq.resources.cost import Submission as Submission
    from qdeq.resources.cost import largest_number as largest_number
    from qdeq.resources.ledger import PURPOSES as PURPOSES
    from qdeq.resources.ledger import Budget as Budget
    from qdeq.resources.ledger import BudgetSpent as BudgetSpent
    from qdeq.resources.ledger import Ledger as Ledger
    from qdeq.resources.prediction import estimate as estimate
    from qdeq.resources.runs import RunCost as RunCost
    from qdeq.resources.runs import run_cost as run_cost
    from qdeq.resources.timing import TIMINGS as TIMINGS
    from qdeq.resources.timing import DeviceTiming as DeviceTiming
    from qdeq.resources.timing import circuit_seconds as circuit_seconds
    from qdeq.resources.timing import parse_timing as parse_timing
    from qdeq.resources.timing import submission_seconds as submission_seconds

# On first use: `qdeq.execution` counts with the ledger, and predictions are made of its programs.
__getattr__ = attach(
    __name__,
    {
        "CircuitCost": "circuit_cost",
        "Cost": "cost",
        "Submission": "cost",
        "estimate": "prediction",
        "largest_number": "cost",
        "PURPOSES": "ledger",
        "Budget": "ledger",
        "BudgetSpent": "ledger",
        "Ledger": "ledger",
        "RunCost": "runs",
        "run_cost": "runs",
        "TIMINGS": "timing",
        "DeviceTiming": "timing",
        "circuit_seconds": "timing",
        "parse_timing": "timing",
        "submission_seconds": "timing",
    },
)
