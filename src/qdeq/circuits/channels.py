"""Noise channels as plain data: what one faulty gate does to its wires, given by Kraus operators.

Which channel follows which operation is in `noise`; applying them is in `qdeq.simulation`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import ClassVar

import numpy as np

from qdeq.circuits.gates import GATES
from qdeq.errors import UserError

# A user's Kraus operators may come from float32 arithmetic, as a Unitary's matrix may.
_COMPLETENESS_TOLERANCE = 1e-5


class Channel(abc.ABC):
    """A completely positive, trace-preserving map on one or two wires.

    Every channel is a frozen dataclass: hashable, comparable, without arrays. `word` is what it is
    called in a noise model's text; None where it has no text.
    """

    word: ClassVar[str | None] = None

    @property
    def n_wires(self) -> int:
        """Number k of wires that one use of the channel acts on."""
        return 1

    @abc.abstractmethod
    def kraus(self) -> tuple[np.ndarray, ...]:
        """Kraus operators: `(2**k, 2**k)` complex128 matrices K with sum K^dagger K = 1."""


def check_probability(what: str, value: float) -> float:
    """Return the value as a float, or raise `UserError` unless it is a probability."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise UserError(f"{what}={value!r}: a probability lies between 0 and 1, give one of those")
    return number


def _check_positive(what: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number > 0:
        raise UserError(f"{what}={value!r}: a time constant is above 0, give seconds (or inf)")
    return number


def _pauli_mixture(probability: float, letters: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Nothing with 1 - p, else one of the Pauli strings, each with the same probability."""
    strings = [reduce(np.kron, (GATES[letter].constant for letter in s)) for s in letters]
    identity = np.eye(len(strings[0]), dtype=np.complex128)
    share = math.sqrt(probability / len(strings))
    return (math.sqrt(1 - probability) * identity, *(share * matrix for matrix in strings))


@dataclass(frozen=True)
class _OneProbability(Channel):
    """A channel that one checked probability describes."""

    probability: float
    _what: ClassVar[str]

    def __post_init__(self) -> None:
        checked = check_probability(self._what, self.probability)
        object.__setattr__(self, "probability", checked)


@dataclass(frozen=True)
class Depolarising(_OneProbability):
    """One wire suffers X, Y or Z, each with a third of the probability.

    rho -> (1 - p) rho + p/3 (X rho X + Y rho Y + Z rho Z); p = 3/4 leaves nothing of the state.
    PennyLane's ``DepolarizingChannel``.

    Parameters
    ----------
    probability
        p, from 0 to 1.

    Raises
    ------
    UserError
        If it is not a probability.

    Examples
    --------
    >>> Depolarising(0.03).kraus()[1].round(3)
    array([[0. +0.j, 0.1+0.j],
           [0.1+0.j, 0. +0.j]])
    """

    probability: float
    word = "depolarising"
    _what = "depolarising probability"

    def kraus(self) -> tuple[np.ndarray, ...]:
        """Four Kraus operators of one wire."""
        return _pauli_mixture(self.probability, ("X", "Y", "Z"))


@dataclass(frozen=True)
class TwoQubitDepolarising(_OneProbability):
    """A pair of wires suffers one of the 15 Pauli errors XI, ..., ZZ, each with p/15.

    Parameters
    ----------
    probability
        p, from 0 to 1; p = 15/16 leaves nothing of the state.

    Raises
    ------
    UserError
        If it is not a probability.

    Examples
    --------
    >>> len(TwoQubitDepolarising(0.01).kraus())
    16
    """

    probability: float
    word = "two-qubit-depolarising"
    _what = "two-qubit depolarising probability"

    @property
    def n_wires(self) -> int:
        """2: the channel acts on the pair."""
        return 2

    def kraus(self) -> tuple[np.ndarray, ...]:
        """Sixteen Kraus operators of two wires."""
        pairs = tuple("".join(pair) for pair in product("IXYZ", repeat=2))
        return _pauli_mixture(self.probability, pairs[1:])


@dataclass(frozen=True)
class Dephasing(_OneProbability):
    """One wire suffers Z: rho -> (1 - p) rho + p Z rho Z.

    PennyLane's ``PhaseFlip``; its ``PhaseDamping(gamma)`` is the same with
    ``1 - 2 p = sqrt(1 - gamma)``.

    Parameters
    ----------
    probability
        p, from 0 to 1; p = 1/2 leaves no coherence.

    Raises
    ------
    UserError
        If it is not a probability.
    """

    probability: float
    word = "dephasing"
    _what = "dephasing probability"

    def kraus(self) -> tuple[np.ndarray, ...]:
        """Two Kraus operators of one wire."""
        return _pauli_mixture(self.probability, ("Z",))


@dataclass(frozen=True)
class AmplitudeDamping(_OneProbability):
    """One wire decays from |1> to |0> with a probability.

    Parameters
    ----------
    probability
        From 0 to 1.

    Raises
    ------
    UserError
        If it is not a probability.

    Examples
    --------
    >>> decay = AmplitudeDamping(0.36).kraus()
    >>> [operator.real.tolist() for operator in decay]
    [[[1.0, 0.0], [0.0, 0.8]], [[0.0, 0.6], [0.0, 0.0]]]
    """

    probability: float
    word = "amplitude-damping"
    _what = "amplitude damping probability"

    def kraus(self) -> tuple[np.ndarray, ...]:
        """Two Kraus operators of one wire."""
        stay = np.diag([1, math.sqrt(1 - self.probability)]).astype(np.complex128)
        decay = np.zeros((2, 2), dtype=np.complex128)
        decay[0, 1] = math.sqrt(self.probability)
        return stay, decay


@dataclass(frozen=True)
class ThermalRelaxation(Channel):
    """What one wire loses while a gate takes its time: decay to |0> and loss of coherence.

    The population of |1> falls by exp(-time / t1), coherences by exp(-time / t2): amplitude damping
    followed by as much dephasing as t2 asks for beyond it.

    Parameters
    ----------
    t1, t2
        Relaxation and coherence time, in the unit of `time` (seconds, say); t2 is at most 2 t1, and
        both may be ``math.inf``.
    time
        Duration of the gate, 0 or more.

    Raises
    ------
    UserError
        For a time that is out of range, or t2 > 2 t1.

    Examples
    --------
    >>> ThermalRelaxation(t1=50e-6, t2=70e-6, time=0.0).kraus()[0].real.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    word = "thermal-relaxation"

    t1: float
    t2: float
    time: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "t1", _check_positive("t1", self.t1))
        object.__setattr__(self, "t2", _check_positive("t2", self.t2))
        if self.t2 > 2 * self.t1:
            raise UserError(
                f"t2={self.t2:g} with t1={self.t1:g}: coherence cannot outlive 2 t1, "
                f"give a t2 of at most {2 * self.t1:g}"
            )
        try:
            time = float(self.time)
        except (TypeError, ValueError):
            time = math.nan
        if not 0 <= time < math.inf:
            raise UserError(f"time={self.time!r}: give the gate's duration, 0 or more seconds")
        object.__setattr__(self, "time", time)

    def kraus(self) -> tuple[np.ndarray, ...]:
        """Up to four Kraus operators of one wire."""
        damping = AmplitudeDamping(-math.expm1(-self.time / self.t1)).kraus()
        # What is left of coherences beyond sqrt(1 - gamma), which damping takes by itself.
        kept = math.exp(min(0.0, self.time / (2 * self.t1) - self.time / self.t2))
        dephasing = Dephasing((1 - kept) / 2).kraus()
        return tuple(later @ earlier for earlier in damping for later in dephasing)


@dataclass(frozen=True)
class OverRotation(Channel):
    """A miscalibrated gate: every rotation turns `angle` radians further. Coherent, no randomness.

    The same gate is applied once more with the fixed angle. It belongs to gates with one angle;
    ``NoiseModel.channels_after`` fills in which.

    Parameters
    ----------
    angle
        Radians, either sign.
    gate
        The gate that turns further; None until it is known.

    Raises
    ------
    UserError
        For an angle that is no finite number, or a gate without exactly one angle.

    Examples
    --------
    >>> OverRotation(0.2, "RZ").kraus()[0].round(2)
    array([[1.-0.1j, 0.+0.j ],
           [0.+0.j , 1.+0.1j]])
    """

    word = "over-rotation"

    angle: float
    gate: str | None = None

    def __post_init__(self) -> None:
        try:
            angle = float(self.angle)
        except (TypeError, ValueError):
            angle = math.nan
        if not math.isfinite(angle):
            raise UserError(f"over-rotation angle={self.angle!r}: give a finite number of radians")
        object.__setattr__(self, "angle", angle)
        if self.gate is not None:
            check_turns("over-rotation", self.gate)

    @property
    def n_wires(self) -> int:
        """As many wires as the gate has."""
        return 1 if self.gate is None else GATES[self.gate].n_wires

    def kraus(self) -> tuple[np.ndarray, ...]:
        """One unitary matrix, the gate's by `angle`."""
        if self.gate is None:
            raise UserError(
                f"OverRotation({self.angle:g}) has no gate yet: name one, OverRotation("
                f"{self.angle:g}, 'RX'), or put it into a NoiseModel, which takes each operation's"
            )
        return (GATES[self.gate].matrix(self.angle),)


def check_turns(what: str, gate: str) -> None:
    """Raise `UserError` unless the gate has exactly one angle to turn further."""
    turning = [g.name for g in GATES.values() if g.n_parameters == 1]
    if gate not in turning:
        raise UserError(
            f"{what} of {gate}: it has not exactly one angle that could turn further, choose gates "
            f"out of {', '.join(turning)}"
        )


@dataclass(frozen=True)
class KrausChannel(Channel):
    """Any channel on one or two wires, by its Kraus operators.

    Parameters
    ----------
    operators
        `(2, 2)` or `(4, 4)` complex matrices, stored as tuples; for two wires the first wire of the
        operation is the most significant.

    Raises
    ------
    UserError
        Unless there is at least one, all have one of these shapes, and sum K^dagger K = 1.

    Examples
    --------
    >>> KrausChannel((np.diag([1, 0]), np.diag([0, 1]))).n_wires
    1
    """

    operators: tuple[tuple[tuple[complex, ...], ...], ...] | Sequence[np.ndarray]

    def __post_init__(self) -> None:
        try:
            matrices = np.array([np.asarray(k, dtype=np.complex128) for k in self.operators])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the Kraus operators could not be read ({error}): give square matrices of one size"
            ) from error
        if matrices.ndim != 3 or matrices.shape[1:] not in ((2, 2), (4, 4)):
            raise UserError(
                f"the Kraus operators have shape {matrices.shape}: give at least one matrix, all "
                "of shape (2, 2) for one wire or (4, 4) for two"
            )
        total = np.einsum("kji,kjl->il", matrices.conj(), matrices)
        deviation = np.abs(total - np.eye(len(total))).max()
        if not deviation < _COMPLETENESS_TOLERANCE:
            raise UserError(
                f"the Kraus operators miss sum K^dagger K = 1 by {deviation:.1e}: a channel that "
                f"keeps the trace stays below {_COMPLETENESS_TOLERANCE:g}"
            )
        stored = tuple(tuple(tuple(row) for row in matrix) for matrix in matrices.tolist())
        object.__setattr__(self, "operators", stored)

    @property
    def n_wires(self) -> int:
        """1 or 2, by the operators' shape."""
        return len(self.operators[0]).bit_length() - 1

    def kraus(self) -> tuple[np.ndarray, ...]:
        """The operators as arrays."""
        return tuple(np.array(operator) for operator in self.operators)
