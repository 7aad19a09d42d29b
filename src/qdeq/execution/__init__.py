"""Where circuits run: one contract for every device, gradients, equilibria and training on it."""

from qdeq.execution.callback import device_errors as device_errors
from qdeq.execution.executor import DeviceError as DeviceError
from qdeq.execution.executor import Executor as Executor
from qdeq.execution.function import DeviceFunction as DeviceFunction
from qdeq.execution.program import Program as Program
from qdeq.execution.program import lower as lower
from qdeq.execution.quadratic import quadratic_jacobian as quadratic_jacobian
from qdeq.execution.shift import n_shifts as n_shifts
from qdeq.execution.shift import shift_jacobian as shift_jacobian
from qdeq.execution.shift import shift_rule as shift_rule
from qdeq.execution.simulator import SimulatorExecutor as SimulatorExecutor
from qdeq.execution.solve import solve_on_device as solve_on_device
from qdeq.execution.solve_state import DeviceSolution as DeviceSolution
from qdeq.execution.solve_state import SolveState as SolveState
from qdeq.execution.spsa import spsa_jacobian as spsa_jacobian
from qdeq.execution.train import train_on_device as train_on_device
from qdeq.execution.train_recipe import DeviceRecipe as DeviceRecipe
from qdeq.execution.train_recipe import step_cost as step_cost
from qdeq.execution.train_state import DeviceTraining as DeviceTraining
from qdeq.execution.train_state import StepRecord as StepRecord
