"""Derivatives from shifted circuits on a device: exact Jacobians by the parameter-shift rule.

The rules themselves are in `qdeq.lowering`; the stochastic alternative is `spsa.py`; how Jacobians
reach JAX is `function.py`.
"""

from collections.abc import Sequence

import numpy as np

from qdeq.devices.executor import Executor, angle_rows, check_slots
from qdeq.lowering.shift import gates_of_slots, shift_rule


def shift_jacobian(
    executor: Executor,
    angles: np.ndarray,
    slots: Sequence[int],
    shots: int | None = None,
    *,
    purpose: str = "parameter gradient",
) -> tuple[np.ndarray, np.ndarray]:
    """Values and their exact Jacobian in some slots, all rows and shifts in one submission.

    Costs `1 + n_shifts` circuits per row: ``1 + 2 n_rotations + 4 n_controlled``. The rule is the
    gate's: where an operation multiplies its slot by a factor, the slot is shifted by so much less
    and the derivative is so much larger.

    Parameters
    ----------
    executor
        Runs a circuit in which every slot belongs to one gate, such as `Program.circuit`.
    angles
        `(B, S)` radians.
    slots
        The slots to differentiate.
    shots
        Per circuit and setting; None keeps the executor's.
    purpose
        For the ledger.

    Returns
    -------
    values
        `(B, q)` at `angles`.
    jacobian
        `(B, q, len(slots))`. With shots its entries are unbiased, with a variance that falls as
        1 / shots.

    Raises
    ------
    UserError
        If a slot turns several gates, is none or is there twice; and what `Executor` raises.

    Examples
    --------
    >>> from qdeq.circuits import Circuit, Operation, z_of_every_wire
    >>> from qdeq.devices import SimulatorExecutor
    >>> turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    >>> executor = SimulatorExecutor(turn, z_of_every_wire(1))
    >>> values, jacobian = shift_jacobian(executor, np.array([[np.pi / 6]]), (0,))
    >>> values.round(4), jacobian.round(4), executor.ledger.executions
    (array([[0.866]]), array([[[-0.5]]]), 3)
    """
    angles = angle_rows(executor.circuit, angles)
    slots = check_slots(executor.circuit, slots)
    gates = gates_of_slots(executor.circuit)
    shifts, coefficients = [np.zeros((1, angles.shape[1]))], []
    for slot in slots:
        rule, weights = shift_rule(gates[slot].name)
        (source,) = gates[slot].sources
        rows = np.zeros((len(rule), angles.shape[1]))
        rows[:, slot] = rule / (source.factor or 1)
        shifts.append(rows)
        coefficients.append(weights * source.factor)
    offsets = np.concatenate(shifts)
    # All sizes are said: there may be no rows, and a circuit without angles.
    shape, q = (len(angles), len(offsets)), executor.observables.n_observables
    rows = (angles[:, None, :] + offsets).reshape(shape[0] * shape[1], angles.shape[1])
    values = executor(rows, purpose=purpose, shots=shots).reshape(*shape, q)
    jacobian = np.zeros((len(angles), values.shape[2], len(slots)))
    first = 1
    for position, weights in enumerate(coefficients):
        shifted = values[:, first : first + len(weights)]
        jacobian[:, :, position] = np.einsum("w,bwq->bq", weights, shifted)
        first += len(weights)
    return values[:, 0], jacobian
