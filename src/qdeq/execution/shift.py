"""Derivatives from shifted circuits: exact Jacobians by the parameter-shift rule.

The stochastic alternative is `spsa.py`; how Jacobians reach JAX is `function.py`.
"""

import functools
from collections.abc import Sequence

import numpy as np

from qdeq.circuits import GATES, Circuit
from qdeq.errors import UserError
from qdeq.execution.executor import Executor

_ROUNDING = 1e-9  # frequencies closer than this are one


@functools.cache
def shift_rule(gate: str) -> tuple[np.ndarray, np.ndarray]:
    """The shifts s_i and coefficients c_i with f'(t) = sum_i c_i f(t + s_i), exactly.

    As a function of a gate's angle an expectation value is a trigonometric polynomial whose
    frequencies are the differences between the eigenvalues of the gate's generator. Pauli rotations
    and ``PhaseShift`` have one frequency and two terms, controlled rotations two frequencies and
    four terms.

    Parameters
    ----------
    gate
        The name of a gate with one angle.

    Returns
    -------
    shifts, coefficients
        `(2 r,)` each for r frequencies; shifts in radians, between -pi and pi periods.

    Raises
    ------
    UserError
        For a gate without exactly one angle, or whose frequencies are not multiples 1 ... r of the
        smallest.

    References
    ----------
    Wierichs et al., General parameter-shift rules for quantum gradients, Quantum 6, 677 (2022),
    arXiv 2107.12390, eq. (25); for two frequencies Crooks, arXiv 1905.13311.

    Examples
    --------
    >>> [part.round(4) for part in shift_rule("RX")]
    [array([ 1.5708, -1.5708]), array([ 0.5, -0.5])]
    >>> shift_rule("CRX")[1].round(4)
    array([ 0.4268, -0.0732,  0.0732, -0.4268])
    """
    frequencies = _frequencies(gate)
    r, base = len(frequencies), frequencies[0]
    if np.abs(frequencies - base * np.arange(1, r + 1)).max() > _ROUNDING:
        raise UserError(
            f"{gate} has the frequencies {frequencies}: the shift rule needs multiples 1, 2, ... "
            "of one number, write the gate as rotations that have them"
        )
    mu = np.arange(1, 2 * r + 1)
    points = (2 * mu - 1) * np.pi / (2 * r)
    coefficients = base * (-1.0) ** (mu - 1) / (4 * r * np.sin(points / 2) ** 2)
    # The period is 2 pi / base: the nearer of two equivalent shifts.
    shifts = np.where(points > np.pi, points - 2 * np.pi, points) / base
    return shifts, coefficients


def n_shifts(circuit: Circuit, slots: Sequence[int]) -> int:
    """Shifted circuits that a Jacobian in these slots takes: two or four for each.

    Examples
    --------
    >>> from qdeq.circuits import Operation
    >>> gates = (Operation("RX", (0,), parameter=0), Operation("CRX", (0, 1), parameter=1))
    >>> n_shifts(Circuit(2, gates), (0, 1))
    6
    """
    gates = _gates_of_slots(circuit)
    return sum(len(shift_rule(gates[slot])[0]) for slot in slots)


def shift_jacobian(
    executor: Executor,
    angles: np.ndarray,
    slots: Sequence[int],
    shots: int | None = None,
    *,
    purpose: str = "parameter gradient",
) -> tuple[np.ndarray, np.ndarray]:
    """Values and their exact Jacobian in some slots, all rows and shifts in one submission.

    Costs `1 + n_shifts` circuits per row: ``1 + 2 n_rotations + 4 n_controlled``.

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
        If a slot turns several gates; and what `Executor` raises.

    Examples
    --------
    >>> from qdeq.circuits import Operation, z_of_every_wire
    >>> from qdeq.execution import SimulatorExecutor
    >>> turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    >>> executor = SimulatorExecutor(turn, z_of_every_wire(1))
    >>> values, jacobian = shift_jacobian(executor, np.array([[np.pi / 6]]), (0,))
    >>> values.round(4), jacobian.round(4), executor.ledger.executions
    (array([[0.866]]), array([[[-0.5]]]), 3)
    """
    angles = np.asarray(angles, dtype=np.float64)
    gates = _gates_of_slots(executor.circuit)
    shifts, coefficients = [np.zeros((1, angles.shape[1]))], []
    for slot in slots:
        rule, weights = shift_rule(gates[slot])
        rows = np.zeros((len(rule), angles.shape[1]))
        rows[:, slot] = rule
        shifts.append(rows)
        coefficients.append(weights)
    offsets = np.concatenate(shifts)
    rows = (angles[:, None, :] + offsets).reshape(-1, angles.shape[1])
    values = executor(rows, purpose=purpose, shots=shots).reshape(len(angles), len(offsets), -1)
    jacobian = np.zeros((len(angles), values.shape[2], len(slots)))
    first = 1
    for position, weights in enumerate(coefficients):
        shifted = values[:, first : first + len(weights)]
        jacobian[:, :, position] = np.einsum("w,bwq->bq", weights, shifted)
        first += len(weights)
    return values[:, 0], jacobian


@functools.cache
def _frequencies(gate: str) -> np.ndarray:
    """The differences between eigenvalues of the generator, ascending, each once."""
    found = GATES.get(gate)
    if found is None or found.cosine is None or found.sine is None:
        raise UserError(f"{gate!r} has no shift rule: it needs a gate with exactly one angle")
    # U = exp(-i G t): G = i U'(0), and C0 + C1 = 1 makes U(0) = 1.
    generator = 1j * found.scale * found.sine
    levels = np.linalg.eigvalsh(generator)
    gaps = np.abs(levels[:, None] - levels).ravel()
    gaps = np.sort(gaps[gaps > _ROUNDING])
    return gaps[np.diff(gaps, prepend=0) > _ROUNDING]


@functools.lru_cache(maxsize=64)
def _gates_of_slots(circuit: Circuit) -> dict[int, str]:
    gates: dict[int, str] = {}
    for operation in circuit.operations:
        for slot in operation.parameters:
            if slot in gates or len(operation.parameters) > 1:
                raise UserError(
                    f"angle {slot} of the circuit turns {operation.name} and something else: the "
                    "shift rule needs an angle per gate, use Program.of(model).circuit"
                )
            gates[slot] = operation.name
    return gates
