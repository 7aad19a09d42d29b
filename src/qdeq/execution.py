"""What is `qdeq.devices` and `qdeq.lowering` by its old name, for scripts of version 0.1."""

from qdeq._lazy import attach

_DEVICES = (
    "device_errors DeviceError Executor DeviceFunction quadratic_jacobian shift_jacobian "
    "SimulatorExecutor solve_on_device DeviceSolution SolveState spsa_jacobian "
    "train_on_device DeviceRecipe step_cost DeviceTraining StepRecord"
)
_HOMES: dict[str, str] = dict.fromkeys(_DEVICES.split(), "qdeq.devices")
_HOMES |= dict.fromkeys(["Program", "lower", "n_shifts", "shift_rule"], "qdeq.lowering")
__getattr__ = attach(__name__, _HOMES)
