"""The costs of `qdeq.devices` by their old name, for scripts of version 0.1."""

from qdeq._lazy import attach

_DEVICES = (
    "CircuitCost Cost Submission estimate largest_number PURPOSES Budget BudgetSpent Ledger "
    "TIMINGS DeviceTiming circuit_seconds parse_timing submission_seconds"
)
_HOMES: dict[str, str] = dict.fromkeys(_DEVICES.split(), "qdeq.devices")
_HOMES |= dict.fromkeys(["RunCost", "run_cost"], "qdeq.runs")
__getattr__ = attach(__name__, _HOMES)
