"""One gate on some wires as immutable data, and where its angles come from.

Operations in time order are a `Circuit`; the gates themselves are in `gates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, Literal

import numpy as np

from qdeq.circuits.gates import GATES
from qdeq.errors import UserError

# A user's matrix may come from float32 arithmetic, whose rounding is of the order 1e-7 per entry.
_UNITARITY_TOLERANCE = 1e-5

_SELF_INVERSE = ("I", "X", "Y", "Z", "H", "CNOT", "CZ", "SWAP")
# Up to a global phase, which no expectation value shows.
_INVERSE = {
    "S": ("PhaseShift", -np.pi / 2),
    "T": ("PhaseShift", -np.pi / 4),
    "SX": ("RX", -np.pi / 2),
}


@dataclass(frozen=True)
class AngleSource:
    """Where an angle comes from: ``factor * entry + offset``, in radians.

    Attributes
    ----------
    kind
        Whether `indices` count parameters (theta) or features; in a program for a device also the
        angles that prepare amplitudes.
    indices
        One index; several stand for the product of these entries.
    factor, offset
        Real numbers.

    Examples
    --------
    >>> AngleSource("parameter", (2,), factor=-0.5, offset=1.0).value([0.0, 0.0, 3.0])
    -0.5
    """

    kind: Literal["parameter", "feature", "amplitudes"]
    indices: tuple[int, ...]
    factor: float = 1.0
    offset: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether the angle is an entry as it is."""
        return len(self.indices) == 1 and self.factor == 1 and self.offset == 0

    def value(self, entries: Any) -> Any:
        """The angle for given entries: numbers, arrays, or symbols that can be multiplied.

        Nothing is multiplied by 1 and no 0 is added.
        """
        first, *others = self.indices
        angle = entries[first]
        for i in others:
            angle = angle * entries[i]
        if self.factor != 1:
            angle = self.factor * angle
        return angle if self.offset == 0 else angle + self.offset


@dataclass(frozen=True)
class Operation:
    """One gate on some wires, and where its angle comes from.

    At most one of `parameter`, `feature` and `angle` is given. Lists and NumPy scalars are accepted
    and stored as tuples and Python numbers, so that operations are hashable.

    Attributes
    ----------
    name
        A key of `GATES`, or ``"Unitary"``.
    wires
        The wires, (control, target) for controlled gates. Wire 0 is the most significant bit.
    parameter
        Index of the angle in theta; three indices (theta, phi, lambda) for ``U3``. Two or more
        indices of a gate with one angle: their product.
    feature
        Index of the feature that is the angle: an encoding rotation. Several: their product.
    angle
        A fixed angle in radians.
    matrix
        The ``(2**k, 2**k)`` unitary matrix of a ``"Unitary"``, first wire most significant.
    factor, offset
        The angle is ``factor * theta[parameter] + offset``, or the same of a feature. One number
        each, or one for each angle of a ``U3``; equal ones are stored as one.

    Examples
    --------
    >>> Operation("CRX", (0, 2), parameter=5).parameters
    (5,)
    >>> Operation("RY", (0,), feature=1, factor=-0.5, offset=np.pi).sources
    (AngleSource(kind='feature', indices=(1,), factor=-0.5, offset=3.141592653589793),)
    """

    name: str
    wires: tuple[int, ...]
    parameter: int | tuple[int, ...] | None = None
    feature: int | tuple[int, ...] | None = None
    angle: float | None = None
    matrix: tuple[tuple[complex, ...], ...] | None = None
    factor: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        def store(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        try:
            store("wires", tuple(index(wire) for wire in self.wires))
            store("parameter", _indices(self.parameter))
            store("feature", _indices(self.feature))
            store("factor", _numbers(self.factor))
            store("offset", _numbers(self.offset))
            if self.angle is not None:
                store("angle", float(self.angle))
            if self.matrix is not None:
                rows = np.asarray(self.matrix, dtype=np.complex128).tolist()
                store("matrix", tuple(tuple(row) for row in rows))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self.name} on wires {self.wires!r} could not be read ({error}): give wires as a "
                "tuple of integers, parameter and feature as integers, angle, factor and offset as "
                "numbers, matrix as a square array"
            ) from error

    @property
    def parameters(self) -> tuple[int, ...]:
        """Indices into theta, in the order of the gate's angles; empty if there are none."""
        return _as_tuple(self.parameter)

    @property
    def features(self) -> tuple[int, ...]:
        """Indices of the features whose product turns the gate; empty if there are none."""
        return _as_tuple(self.feature)

    @property
    def sources(self) -> tuple[AngleSource, ...]:
        """Where each of the gate's angles comes from; empty for fixed angles and none."""
        if self.feature is not None:
            return (AngleSource("feature", self.features, *self._scale(0)),)
        if self.parameter is None:
            return ()
        if not self._has_several_angles:
            return (AngleSource("parameter", self.parameters, *self._scale(0)),)
        return tuple(
            AngleSource("parameter", (index,), *self._scale(position))
            for position, index in enumerate(self.parameters)
        )

    def angle_values(self, parameters: Any, features: Any) -> list[Any]:
        """The gate's angles for given entries of theta and features, in radians.

        Parameters
        ----------
        parameters, features
            Anything with entries that can be multiplied by numbers and added to them.

        Returns
        -------
        list
            One for each angle of the gate, fixed ones included.

        Examples
        --------
        >>> Operation("RX", (0,), parameter=1, factor=2.0).angle_values([0.25, 0.5], [])
        [1.0]
        """
        if self.angle is not None:
            return [self.angle]
        entries = {"parameter": parameters, "feature": features}
        return [source.value(entries[source.kind]) for source in self.sources]

    def renumbered(self, new: Callable[[int], int]) -> Operation:
        """The same operation with `new(i)` in the place of parameter i."""
        if self.parameter is None:
            return self
        if isinstance(self.parameter, tuple):
            return replace(self, parameter=tuple(new(i) for i in self.parameter))
        return replace(self, parameter=new(self.parameter))

    def inverse(self) -> Operation:
        """The operation that undoes this one, up to a global phase.

        Examples
        --------
        >>> Operation("RX", (0,), parameter=0, offset=0.5).inverse().sources
        (AngleSource(kind='parameter', indices=(0,), factor=-1.0, offset=-0.5),)
        """
        if self.matrix is not None:
            rows = np.array(self.matrix).conj().T.tolist()
            return replace(self, matrix=tuple(tuple(row) for row in rows))
        if self.name in _SELF_INVERSE:
            return self
        if self.name in _INVERSE:
            name, angle = _INVERSE[self.name]
            return Operation(name, self.wires, angle=angle)
        if self.angle is not None:
            return replace(self, angle=-self.angle)
        # U3(theta, phi, lambda) backwards is U3(-theta, -lambda, -phi).
        order = (0, 2, 1) if self._has_several_angles else (0,)
        scales = [self._scale(position) for position in order]
        return replace(
            self,
            parameter=(
                tuple(self.parameters[position] for position in order)
                if self._has_several_angles
                else self.parameter
            ),
            factor=tuple(-factor for factor, _ in scales),
            offset=tuple(0 - offset for _, offset in scales),
        )

    @property
    def _has_several_angles(self) -> bool:
        return self.name in GATES and GATES[self.name].n_parameters > 1

    def _scale(self, position: int) -> tuple[float, float]:
        """Factor and offset of one angle."""
        factor, offset = (
            value[position] if isinstance(value, tuple) else value
            for value in (self.factor, self.offset)
        )
        return factor, offset


def _indices(given: object) -> int | tuple[int, ...] | None:
    if given is None:
        return None
    return tuple(index(i) for i in given) if isinstance(given, Sequence) else index(given)  # pyright: ignore[reportArgumentType]


def _numbers(given: object) -> float | tuple[float, ...]:
    values = np.asarray(given, dtype=float)
    if values.ndim > 1 or not values.size:
        raise ValueError(f"{given!r} is no number")
    if values.ndim == 0 or (values == values[0]).all():
        return float(values.flat[0])
    return tuple(values.tolist())


def _as_tuple(value: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def check_operation(operation: Operation, n_qubits: int) -> None:
    """Raise `UserError` unless the operation makes sense on `n_qubits` wires."""
    name, wires = operation.name, operation.wires
    where = f"{name} on wires {wires}"
    if not wires or len(set(wires)) != len(wires):
        raise UserError(f"{where} needs distinct wires: name each wire once")
    if not all(0 <= wire < n_qubits for wire in wires):
        raise UserError(
            f"{where} leaves the circuit: n_qubits={n_qubits} has wires 0 to {n_qubits - 1}"
        )
    if name == "Unitary":
        _check_unitary(operation)
        return
    if name not in GATES:
        raise UserError(
            f"{name!r} is not a known gate: use one of {', '.join(GATES)}, or Unitary with a matrix"
        )
    if operation.matrix is not None:
        raise UserError(f"{where} was given a matrix: only Unitary takes one")
    gate = GATES[name]
    if len(wires) != gate.n_wires:
        raise UserError(f"{where} has {len(wires)} wires: {name} acts on {gate.n_wires}")
    _check_angles(operation)


def _check_angles(operation: Operation) -> None:
    name, gate = operation.name, GATES[operation.name]
    where = f"{name} on wires {operation.wires}"
    given = (operation.parameter, operation.feature, operation.angle)
    n_given = sum(source is not None for source in given)
    if gate.n_parameters == 0 and n_given:
        raise UserError(f"{where} was given an angle: {name} has none, so leave it out")
    lone = [source for source in given[:2] if isinstance(source, tuple) and len(source) < 2]
    if gate.n_parameters == 1 and (n_given != 1 or lone):
        raise UserError(
            f"{where} needs one angle: give exactly one of parameter (an integer, or two or more "
            "whose product it is), feature (likewise) or angle"
        )
    if gate.n_parameters > 1 and (n_given != 1 or len(operation.parameters) != gate.n_parameters):
        raise UserError(
            f"{where} needs parameter=(i, j, k) with {gate.n_parameters} indices: "
            f"got {operation.parameter!r} (write fixed angles as a Unitary)"
        )
    if any(i < 0 for i in operation.features):
        raise UserError(f"{where} has feature={operation.feature}: features count from 0")
    if operation.angle is not None and not math.isfinite(operation.angle):
        raise UserError(f"{where} has angle={operation.angle}: give a finite number of radians")
    _check_scale(operation, max(1, gate.n_parameters))


def _check_scale(operation: Operation, n_angles: int) -> None:
    """Raise `UserError` unless factor and offset are finite and have something to act on."""
    where = f"{operation.name} on wires {operation.wires}"
    for what, value in (("factor", operation.factor), ("offset", operation.offset)):
        values = value if isinstance(value, tuple) else (value,)
        if len(values) not in (1, n_angles):
            raise UserError(f"{where} has {what}={value}: give one number, or one for each angle")
        if not all(map(math.isfinite, values)):
            raise UserError(f"{where} has {what}={value}: give a finite number")
    if not operation.sources and (operation.factor, operation.offset) != (1, 0):
        raise UserError(
            f"{where} has factor={operation.factor} and offset={operation.offset} and neither "
            "parameter nor feature: write a fixed angle as angle="
        )


def _check_unitary(operation: Operation) -> None:
    where, size = f"Unitary on wires {operation.wires}", 2 ** len(operation.wires)
    if (operation.parameter, operation.feature, operation.angle) != (None, None, None):
        raise UserError(f"{where} was given an angle: it is described by its matrix alone")
    _check_scale(operation, 1)
    matrix = None if operation.matrix is None else np.array(operation.matrix)
    if matrix is None or matrix.shape != (size, size):
        given = "no matrix" if matrix is None else f"a matrix of shape {matrix.shape}"
        raise UserError(f"{where} was given {given}: it needs one of shape {(size, size)}")
    deviation = np.abs(matrix @ matrix.conj().T - np.eye(size)).max()
    if not deviation < _UNITARITY_TOLERANCE:
        raise UserError(
            f"{where} has a matrix U with |U U^dagger - I| = {deviation:.1e}: "
            f"a unitary matrix has less than {_UNITARITY_TOLERANCE:g}"
        )
