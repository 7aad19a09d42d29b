"""Where circuits run and what it costs: executors, equilibria and training on them, the ledger."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.devices.callback import device_errors as device_errors
    from qdeq.devices.circuit_cost import CircuitCost as CircuitCost
    from qdeq.devices.cost import Cost as Cost
    from qdeq.devices.cost import Submission as Submission
    from qdeq.devices.cost import largest_number as largest_number
    from qdeq.devices.executor import DeviceError as DeviceError
    from qdeq.devices.executor import Executor as Executor
    from qdeq.devices.function import DeviceFunction as DeviceFunction
    from qdeq.devices.ledger import PURPOSES as PURPOSES
    from qdeq.devices.ledger import Budget as Budget
    from qdeq.devices.ledger import BudgetSpent as BudgetSpent
    from qdeq.devices.ledger import Ledger as Ledger
    from qdeq.devices.network_prediction import estimate_network as estimate_network
    from qdeq.devices.network_prediction import solvers_on_devices as solvers_on_devices
    from qdeq.devices.packed import PackedExecutor as PackedExecutor
    from qdeq.devices.packed import copies_that_fit as copies_that_fit
    from qdeq.devices.packed import side_by_side as side_by_side
    from qdeq.devices.prediction import estimate as estimate
    from qdeq.devices.quadratic import quadratic_jacobian as quadratic_jacobian
    from qdeq.devices.shift import shift_jacobian as shift_jacobian
    from qdeq.devices.simulator import SimulatorExecutor as SimulatorExecutor
    from qdeq.devices.solve import solve_on_device as solve_on_device
    from qdeq.devices.solve_state import DeviceSolution as DeviceSolution
    from qdeq.devices.solve_state import SolveState as SolveState
    from qdeq.devices.spsa import spsa_jacobian as spsa_jacobian
    from qdeq.devices.timing import TIMINGS as TIMINGS
    from qdeq.devices.timing import DeviceTiming as DeviceTiming
    from qdeq.devices.timing import circuit_seconds as circuit_seconds
    from qdeq.devices.timing import parse_timing as parse_timing
    from qdeq.devices.timing import submission_seconds as submission_seconds
    from qdeq.devices.train import train_on_device as train_on_device
    from qdeq.devices.train_recipe import DeviceRecipe as DeviceRecipe
    from qdeq.devices.train_recipe import step_cost as step_cost
    from qdeq.devices.train_state import DeviceTraining as DeviceTraining
    from qdeq.devices.train_state import StepRecord as StepRecord

# On first use: the command line reads budgets and timings without loading JAX.
__getattr__ = attach(
    __name__,
    {
        "device_errors": "callback",
        "CircuitCost": "circuit_cost",
        "Cost": "cost",
        "Submission": "cost",
        "largest_number": "cost",
        "DeviceError": "executor",
        "Executor": "executor",
        "DeviceFunction": "function",
        "Budget": "ledger",
        "BudgetSpent": "ledger",
        "Ledger": "ledger",
        "PURPOSES": "ledger",
        "PackedExecutor": "packed",
        "copies_that_fit": "packed",
        "side_by_side": "packed",
        "estimate": "prediction",
        "estimate_network": "network_prediction",
        "solvers_on_devices": "network_prediction",
        "quadratic_jacobian": "quadratic",
        "shift_jacobian": "shift",
        "SimulatorExecutor": "simulator",
        "solve_on_device": "solve",
        "DeviceSolution": "solve_state",
        "SolveState": "solve_state",
        "spsa_jacobian": "spsa",
        "DeviceTiming": "timing",
        "TIMINGS": "timing",
        "circuit_seconds": "timing",
        "parse_timing": "timing",
        "submission_seconds": "timing",
        "train_on_device": "train",
        "DeviceRecipe": "train_recipe",
        "step_cost": "train_recipe",
        "DeviceTraining": "train_state",
        "StepRecord": "train_state",
    },
)
