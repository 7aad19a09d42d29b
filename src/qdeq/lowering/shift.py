"""Shift rules: an exact derivative in a gate's angle from the circuit at shifted angles.

Which circuits that takes is here; running them is `qdeq.devices.shift_jacobian`.
"""

import functools
from collections.abc import Sequence

import numpy as np

from qdeq.circuits import GATES, Circuit, Operation
from qdeq.errors import UserError

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
    gates = gates_of_slots(circuit)
    return sum(len(shift_rule(gates[slot].name)[0]) for slot in slots)


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
def gates_of_slots(circuit: Circuit) -> dict[int, Operation]:
    """The operation that each angle turns, for circuits in which it turns only one."""
    gates: dict[int, Operation] = {}
    for operation in circuit.operations:
        for slot in operation.parameters:
            if slot in gates or len(operation.parameters) > 1:
                raise UserError(
                    f"angle {slot} of the circuit turns {operation.name} and something else: the "
                    "shift rule needs an angle per gate, use Program.of(model).circuit"
                )
            gates[slot] = operation
    return gates
