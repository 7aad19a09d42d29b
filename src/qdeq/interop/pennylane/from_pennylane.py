"""A QNode, quantum function or tape as a `Circuit`.

The function is run several times with different made-up numbers in the places of its arguments. An
angle that is equal in all runs is a constant; how the others come from the arguments is told by
their values (`computed_angles`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdeq._pennylane import load
from qdeq.circuits import GATES, Circuit, Operation
from qdeq.errors import UserError
from qdeq.interop.angle_terms import ALLOWED, Angle, Entry, angle_of, operations_of
from qdeq.interop.computed_angles import Computed, computed_angles, two_points
from qdeq.interop.pennylane._made_up import MadeUp, of_function, of_tape
from qdeq.interop.pennylane.to_pennylane import NAMES

_GATES = {NAMES.get(name, name): name for name in (*GATES, "Unitary")} | {"U1": "PhaseShift"}
# Without effect on expectation values.
_SKIPPED = ("GlobalPhase", "Barrier", "WireCut", "Snapshot")


def from_pennylane(
    source: Any,
    *args: Any,
    theta: str | int | None = 0,
    features: str | int | None = None,
    n_qubits: int | None = None,
) -> Circuit:
    """Read a circuit from PennyLane; its measurements are left out.

    Parameters
    ----------
    source
        A QNode or quantum function, called with `args`; or a tape (`QuantumScript`), whose
        trainable parameters become theta in their order.
    *args
        What the function is called with, in the order of its arguments. Of those named by `theta`
        and `features` only the shapes matter.
    theta, features
        Name or position of the argument that holds the angles to train, and of the one that holds
        the features: flattened, their entries become `Operation.parameter` and
        `Operation.feature`. None: there is no such argument. All others are constants. Angles may
        be sums of entries and their products with real factors, such as ``-theta[0] / 2 + 0.3``.
    n_qubits
        Number of wires, if larger than the wires that are used show.

    Returns
    -------
    Circuit
        Templates and gates that are not in `qdeq.circuits.GATES` are decomposed, or written as a
        ``Unitary`` if they have no angle. Wire labels 0, 1, ... keep their numbers; others are
        numbered in the order of the device, or as they appear.

    Raises
    ------
    UserError
        If PennyLane is missing, for an operation that a circuit cannot express, an angle that is
        computed otherwise, or an entry of theta that no gate uses.

    Examples
    --------
    >>> import numpy as np, pennylane as qml
    >>> def function(weights, x):
    ...     qml.AngleEmbedding(x, wires=[0, 1])
    ...     qml.BasicEntanglerLayers(weights, wires=[0, 1], rotation=qml.RY)
    >>> print(from_pennylane(function, np.zeros((1, 2)), np.zeros(2), features="x").draw())
    0: ──RX(x0)──RY(θ0)─╭●─┤
    1: ──RX(x1)──RY(θ1)─╰⊕─┤
    """
    qml = load()
    if isinstance(source, qml.tape.QuantumScript):
        if args:
            raise UserError("a tape holds its own numbers: leave the other arguments out")
        made_up = of_tape(source)
    else:
        if not callable(source):
            raise UserError(
                f"{type(source).__name__} cannot be read: give a QNode, a quantum function or a "
                "tape"
            )
        made_up = of_function(qml, source, args, theta, features)
    operations = _Reader(qml, made_up).operations()
    _check_every_entry_is_used(operations, made_up.n_parameters)
    n_wires = max(len(made_up.numbers), *(1 + w for op in operations for w in op.wires), 1)
    if n_qubits is not None and n_qubits < n_wires:
        raise UserError(f"n_qubits={n_qubits}: the circuit has {n_wires} wires, give at least that")
    return Circuit(n_wires if n_qubits is None else n_qubits, operations)


@dataclass(frozen=True)
class _Turned:
    """A gate of ours with its angles in every run, `(R,)` each."""

    name: str
    wires: tuple[int, ...]
    angles: tuple[np.ndarray, ...]
    where: str


class _Reader:
    """Translates the operations of several runs, in all runs at once."""

    def __init__(self, qml: Any, made_up: MadeUp):
        self._qml, self._made_up = qml, made_up
        # What is the same in these two is constant.
        self._ends = two_points(len(made_up.entries))

    def operations(self) -> tuple[Operation, ...]:
        """The circuit's operations."""
        entries = self._made_up.entries
        found = iter(computed_angles(self._columns, len(entries)))
        operations: list[Operation] = []
        for gate in self._run(self._ends):
            if isinstance(gate, Operation):
                operations.append(gate)
                continue
            angles = [_angle(next(found), entries, gate.where) for _ in gate.angles]
            operations += operations_of(gate.name, gate.wires, angles)
        return tuple(operations)

    def _columns(self, points: np.ndarray) -> np.ndarray:
        """All angles `(R, K)` at points `(R, N)`."""
        gates = self._run(np.concatenate([self._ends, points]))
        columns = [a for gate in gates if isinstance(gate, _Turned) for a in gate.angles]
        return (
            np.array(columns)
            .reshape(len(columns), len(self._ends) + len(points))[:, len(self._ends) :]
            .T
        )

    def _run(self, points: np.ndarray) -> list[Operation | _Turned]:
        tapes = [self._made_up.tape_at(point).operations for point in points]
        if len(set(map(len, tapes))) > 1:
            raise UserError(
                "the function applies different gates for different values of its arguments: a "
                "Circuit has one fixed sequence"
            )
        return [gate for runs in zip(*tapes, strict=True) for gate in self._read(runs)]

    def _read(self, runs: Sequence[Any], where: str | None = None) -> list[Operation | _Turned]:
        """Translate; `where` names the operation whose decomposition this one is part of."""
        one = runs[0]
        name, where = one.name, where or f"{one.name} on wires {tuple(one.wires)}"
        if name in _SKIPPED:
            return []
        if isinstance(one, self._qml.operation.Channel):
            raise UserError(
                f"{where} is a noise channel and a Circuit is unitary: leave it out and describe "
                "the noise with a NoiseModel"
            )
        same = all(name == other.name and one.wires == other.wires for other in runs)
        if not same or not _is_gate(self._qml, one):
            raise UserError(
                f"{where} is no gate with fixed wires: a Circuit has gates only, in one fixed "
                "sequence; measure at the end and leave out resets and classical control"
            )
        wires = tuple(self._made_up.numbers[label] for label in one.wires)
        if name == "Identity":
            return [Operation("I", (wire,)) for wire in wires]
        if isinstance(one, self._qml.ops.Adjoint):
            parts = self._read([run.base for run in runs], where)
            return [_inverse(part) for part in reversed(parts)]
        if name == "QubitUnitary" and _is_constant(runs):
            return [_unitary(self._qml, one, wires)]
        if name in _GATES:
            return [self._turned(runs, _GATES[name], wires, where)]
        return self._decompose(runs, wires, where)

    def _turned(
        self, runs: Sequence[Any], name: str, wires: tuple[int, ...], where: str
    ) -> Operation | _Turned:
        if not runs[0].data:
            return Operation(name, wires)
        if any(np.ndim(angle) for angle in runs[0].data):  # a matrix that is not constant, a batch
            raise UserError(_computed(where))
        angles = np.array([[float(angle) for angle in run.data] for run in runs])
        return _Turned(name, wires, tuple(angles.T), where)

    def _decompose(
        self, runs: Sequence[Any], wires: tuple[int, ...], where: str
    ) -> list[Operation | _Turned]:
        one, qml = runs[0], self._qml
        if isinstance(one, qml.operation.StatePrepBase) and len(one.data) > 0:
            raise UserError(
                f"{where} prepares a state and a Circuit has gates only: leave it out and give "
                "the model an AmplitudeEncoding"
            )
        constant = _is_constant(runs)
        small = len(wires) <= 2 and one.has_matrix
        if constant and small:
            return [_unitary(qml, one, wires)]
        if one.has_decomposition:
            parts = [run.decomposition() for run in runs]
            if len(set(map(len, parts))) == 1:
                return [gate for ops in zip(*parts, strict=True) for gate in self._read(ops, where)]
        if constant and one.has_matrix:
            return [_unitary(qml, one, wires)]
        raise UserError(
            f"{where} cannot be expressed in a Circuit, which knows {', '.join(GATES)} and "
            "Unitary: rewrite it in these gates, for example with qml.decompose"
        )


def _inverse(gate: Operation | _Turned) -> Operation | _Turned:
    """What undoes a gate, up to a global phase."""
    if isinstance(gate, Operation):
        return gate.inverse()
    order = (0, 2, 1) if gate.name == "U3" else (0,)
    return replace(gate, angles=tuple(-gate.angles[position] for position in order))


def _is_constant(runs: Sequence[Any]) -> bool:
    return all(
        np.array_equal(a, b)
        for run in runs[1:]
        for a, b in zip(runs[0].data, run.data, strict=True)
    )


def _is_gate(qml: Any, operation: Any) -> bool:
    return isinstance(operation, qml.operation.Operator) and not isinstance(
        operation, (qml.ops.Conditional, qml.ops.MidMeasure)
    )


def _unitary(qml: Any, operation: Any, wires: tuple[int, ...]) -> Operation:
    matrix = np.asarray(qml.matrix(operation, wire_order=operation.wires))
    rows = tuple(tuple(row) for row in matrix.tolist())
    return Operation("Unitary", wires, matrix=rows)


def _angle(computed: Computed, entries: Sequence[Entry], where: str) -> Angle:
    if computed.polynomial is None:
        raise UserError(_computed(where))
    chosen = [entries[i] for i in computed.entries]
    return angle_of(computed.polynomial, chosen, lambda: where)


def _computed(where: str) -> str:
    return f"{where} has an angle that is computed from the arguments: {ALLOWED}"


def _check_every_entry_is_used(operations: tuple[Operation, ...], size: int | None) -> None:
    if size is None:
        return
    unused = sorted(set(range(size)) - {i for op in operations for i in op.parameters})
    if unused:
        raise UserError(
            f"theta[{unused[0]}] is used by no gate: leave entries out that the circuit does not "
            "read"
        )
