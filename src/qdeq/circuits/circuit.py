"""A parametrised quantum circuit as immutable data: operations in time order, trainable or not.

No angle values live here (they are the array theta of a model), and no simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from qdeq.circuits.gates import GATES
from qdeq.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qdeq.circuits.encodings import Encoding
    from qdeq.circuits.observables import MeasurementEnsemble

# A user's matrix may come from float32 arithmetic, whose rounding is of the order 1e-7 per entry.
_UNITARITY_TOLERANCE = 1e-5


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
        Index of the angle in theta; three indices (theta, phi, lambda) for ``U3``.
    feature
        Index of the feature that is the angle: an encoding rotation.
    angle
        A fixed angle in radians.
    matrix
        The ``(2**k, 2**k)`` unitary matrix of a ``"Unitary"``, first wire most significant.

    Examples
    --------
    >>> Operation("CRX", (0, 2), parameter=5).parameters
    (5,)
    """

    name: str
    wires: tuple[int, ...]
    parameter: int | tuple[int, ...] | None = None
    feature: int | None = None
    angle: float | None = None
    matrix: tuple[tuple[complex, ...], ...] | None = None

    def __post_init__(self) -> None:
        def store(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        try:
            store("wires", tuple(index(wire) for wire in self.wires))
            if isinstance(self.parameter, Sequence):
                store("parameter", tuple(index(i) for i in self.parameter))
            elif self.parameter is not None:
                store("parameter", index(self.parameter))
            if self.feature is not None:
                store("feature", index(self.feature))
            if self.angle is not None:
                store("angle", float(self.angle))
            if self.matrix is not None:
                rows = np.asarray(self.matrix, dtype=np.complex128).tolist()
                store("matrix", tuple(tuple(row) for row in rows))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self.name} on wires {self.wires!r} could not be read ({error}): give wires as a "
                "tuple of integers, parameter and feature as integers, angle as a number, matrix "
                "as a square array"
            ) from error

    @property
    def parameters(self) -> tuple[int, ...]:
        """Indices into theta, in the order of the gate's angles; empty if there are none."""
        if self.parameter is None:
            return ()
        return self.parameter if isinstance(self.parameter, tuple) else (self.parameter,)


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
    sources = (operation.parameter, operation.feature, operation.angle)
    n_sources = sum(source is not None for source in sources)
    if gate.n_parameters == 0 and n_sources:
        raise UserError(f"{where} was given an angle: {name} has none, so leave it out")
    if gate.n_parameters == 1 and (n_sources != 1 or isinstance(operation.parameter, tuple)):
        raise UserError(
            f"{where} needs one angle: give exactly one of parameter (an integer), feature or angle"
        )
    if gate.n_parameters > 1 and (n_sources != 1 or len(operation.parameters) != gate.n_parameters):
        raise UserError(
            f"{where} needs parameter=(i, j, k) with {gate.n_parameters} indices: "
            f"got {operation.parameter!r} (write fixed angles as a Unitary)"
        )
    if operation.feature is not None and operation.feature < 0:
        raise UserError(f"{where} has feature={operation.feature}: features count from 0")
    if operation.angle is not None and not np.isfinite(operation.angle):
        raise UserError(f"{where} has angle={operation.angle}: give a finite number of radians")


def _check_unitary(operation: Operation) -> None:
    where, size = f"Unitary on wires {operation.wires}", 2 ** len(operation.wires)
    if (operation.parameter, operation.feature, operation.angle) != (None, None, None):
        raise UserError(f"{where} was given an angle: it is described by its matrix alone")
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


def check_n_qubits(n_qubits: int) -> None:
    """Raise `UserError` unless there is at least one qubit."""
    if n_qubits < 1:
        raise UserError(f"n_qubits={n_qubits}: a circuit needs at least 1 qubit")


@dataclass(frozen=True)
class Circuit:
    """A parametrised quantum circuit U(theta), possibly with rotations that features drive.

    Hashable, so that it can be a static field of a JAX module.

    Parameters
    ----------
    n_qubits
        Number of wires.
    operations
        The operations in time order. Two operations may share a parameter.
    trainable
        One boolean per parameter; empty means that every parameter is trainable. A frozen parameter
        keeps its place in theta, it only receives no updates.

    Raises
    ------
    UserError
        For an unknown gate, a wire outside the circuit or named twice, a wrong number of wires or
        angles, a matrix that is not unitary, or gaps in the numbering of the parameters.

    Examples
    --------
    >>> bell = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> bell.n_parameters, bell.depth()
    (1, 2)
    >>> print(bell.draw())
    0: ──RY(θ0)─╭●─┤
    1: ─────────╰⊕─┤
    """

    n_qubits: int
    operations: tuple[Operation, ...]
    trainable: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        check_n_qubits(self.n_qubits)
        object.__setattr__(self, "operations", tuple(self.operations))
        for operation in self.operations:
            check_operation(operation, self.n_qubits)
        used = {i for operation in self.operations for i in operation.parameters}
        if used != set(range(len(used))):
            missing = min(set(range(len(used))) - used)
            raise UserError(
                f"the parameters {sorted(used)} have gaps: number them 0 to {len(used) - 1}, "
                f"index {missing} is used by no operation"
            )
        trainable = tuple(bool(flag) for flag in self.trainable) or (True,) * len(used)
        if len(trainable) != len(used):
            raise UserError(
                f"trainable has {len(trainable)} entries for {len(used)} parameters: give one each"
            )
        object.__setattr__(self, "trainable", trainable)

    @property
    def n_parameters(self) -> int:
        """Length of theta."""
        return len(self.trainable)

    @property
    def n_features(self) -> int:
        """One more than the largest feature index; 0 without feature-fed rotations."""
        return 1 + max((op.feature for op in self.operations if op.feature is not None), default=-1)

    def depth(self) -> int:
        """Number of layers when every operation, fixed ones included, starts as early as it can.

        Examples
        --------
        >>> gates = (Operation("H", (0,)), Operation("H", (1,)), Operation("CZ", (1, 2)))
        >>> Circuit(3, gates).depth()
        2
        """
        busy_until = [0] * self.n_qubits
        for operation in self.operations:
            layer = 1 + max(busy_until[wire] for wire in operation.wires)
            for wire in operation.wires:
                busy_until[wire] = layer
        return max(busy_until)

    def count(self, *, n_wires: int | None = None, name: str | None = None) -> int:
        """Number of operations, of all or of those with so many wires or of that name.

        Examples
        --------
        >>> Circuit(2, (Operation("H", (0,)), Operation("CZ", (0, 1)))).count(n_wires=2)
        1
        """
        return sum(
            (n_wires is None or len(operation.wires) == n_wires)
            and (name is None or operation.name == name)
            for operation in self.operations
        )

    def __add__(self, other: Circuit) -> Circuit:
        """This circuit, then `other` with its parameters renumbered after this one's.

        Features keep their numbers: both circuits see the same features.
        """
        if not isinstance(other, Circuit):
            return NotImplemented
        if other.n_qubits != self.n_qubits:
            raise UserError(
                f"circuits on {self.n_qubits} and {other.n_qubits} qubits cannot be joined: "
                "build both with the same n_qubits"
            )
        shifted = tuple(_shift(operation, self.n_parameters) for operation in other.operations)
        return Circuit(self.n_qubits, self.operations + shifted, self.trainable + other.trainable)

    def draw(
        self,
        *,
        encoding: Encoding | None = None,
        observables: MeasurementEnsemble | None = None,
        max_width: int = 100,
    ) -> str:
        """The circuit as text; see `qdeq.circuits.drawing.draw_text`."""
        # Here and below: drawing describes circuits, so it imports this module, not the reverse.
        from qdeq.circuits.drawing import draw_text

        return draw_text(self, encoding=encoding, observables=observables, max_width=max_width)

    def draw_mpl(
        self,
        *,
        encoding: Encoding | None = None,
        observables: MeasurementEnsemble | None = None,
    ) -> Figure:
        """The circuit as a Matplotlib figure; see `qdeq.circuits.drawing_mpl.draw_figure`."""
        from qdeq.circuits.drawing_mpl import draw_figure

        return draw_figure(self, encoding=encoding, observables=observables)


def _shift(operation: Operation, by: int) -> Operation:
    if operation.parameter is None:
        return operation
    if isinstance(operation.parameter, tuple):
        return replace(operation, parameter=tuple(i + by for i in operation.parameter))
    return replace(operation, parameter=operation.parameter + by)
