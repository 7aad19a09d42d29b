"""The operations of several runs of a quantum function, translated in all runs at once.

An angle that is equal in all runs is a constant; how the others come from the arguments is told by
their values (`computed_angles`). What is run is in `_made_up`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdeq.circuits import GATES, Circuit, Operation
from qdeq.circuits.operation import check_operation
from qdeq.errors import UserError
from qdeq.interop.angle_terms import (
    ALLOWED,
    Angle,
    Entry,
    angle_of,
    keeping_places,
    operations_of,
)
from qdeq.interop.computed_angles import Computed, computed_angles, two_points
from qdeq.interop.pennylane._made_up import MadeUp
from qdeq.interop.pennylane.agreement import (
    ask,
    decomposition_of,
    differs_from_its_parts,
    is_library_code,
)
from qdeq.interop.pennylane.modifiers import parts_of_controlled, parts_of_power
from qdeq.interop.pennylane.to_pennylane import NAMES

_GATES = {NAMES.get(name, name): name for name in GATES} | {"U1": "PhaseShift"}
# Without effect on expectation values.
_SKIPPED = ("GlobalPhase", "Barrier", "WireCut", "Snapshot")
# More than anybody simulates; nested powers ask for 2**60 just as easily.
_MOST_OPERATIONS = 500_000
# Operations of PennyLane's that exist at a time, of a kilobyte or two each.
_MOST_AT_ONCE = 200_000
_DIFFERENT = (
    "the function applies different gates for different values of its arguments: a Circuit has one "
    "fixed sequence"
)
# A matrix of ten wires has a million entries.
_LARGEST_MATRIX = 10


def circuit_of(qml: Any, made_up: MadeUp, *, may_be_unused: bool = False) -> Circuit:
    """The circuit that runs with made-up numbers show, on all wires that are numbered.

    Entries of theta without a gate keep their places where they may be unused.
    """
    operations = _Reader(qml, made_up).operations()
    if made_up.n_parameters is not None:
        whole = keeping_places(operations, made_up.n_parameters)
        if not may_be_unused and len(whole) > len(operations):
            raise UserError(
                f"theta[{whole[0].parameter}] is used by no gate: leave entries out that the "
                "circuit does not read"
            )
        operations = whole
    n_wires = max(len(made_up.numbers), *(1 + w for op in operations for w in op.wires), 1)
    return Circuit(n_wires, operations)


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
        # By class and not by name: anybody's operation may have any name.
        self._gates = {getattr(qml, theirs): ours for theirs, ours in _GATES.items()}
        self._skipped = tuple(getattr(qml, name) for name in _SKIPPED)
        self._n_read, self._compares = 0, False
        self._kinds: list[tuple] = []
        # What is the same in these two is constant.
        self._ends = two_points(len(made_up.entries))

    def operations(self) -> tuple[Operation, ...]:
        """The circuit's operations."""
        entries = self._made_up.entries
        self._compares = True
        gates = self._run(self._ends)
        self._compares = False  # once is enough
        self._kinds = _kinds(gates)
        found = iter(computed_angles(self._columns, len(entries)))
        operations: list[Operation] = []
        for gate in gates:
            if isinstance(gate, Operation):
                operations.append(gate)
                continue
            angles = [_angle(next(found), entries, gate.where) for _ in gate.angles]
            operations += operations_of(gate.name, gate.wires, angles)
        return tuple(operations)

    def _columns(self, points: np.ndarray) -> np.ndarray:
        """All angles `(R, K)` at points `(R, N)`."""
        n_at_once = max(1, _MOST_AT_ONCE // max(1, self._n_read))
        parts = [
            self._angles(points[first : first + n_at_once])
            for first in range(0, len(points), n_at_once)
        ]
        return np.concatenate(parts)

    def _angles(self, points: np.ndarray) -> np.ndarray:
        gates = self._run(np.concatenate([self._ends, points]))
        if _kinds(gates) != self._kinds:
            raise UserError(_DIFFERENT)
        columns = [a for gate in gates if isinstance(gate, _Turned) for a in gate.angles]
        whole = np.array(columns).reshape(len(columns), len(self._ends) + len(points))
        return whole[:, len(self._ends) :].T

    def _run(self, points: np.ndarray) -> list[Operation | _Turned]:
        tapes = [self._made_up.tape_at(point).operations for point in points]
        if len(set(map(len, tapes))) > 1:
            raise UserError(_DIFFERENT)
        self._n_read = 0
        return [
            gate
            for runs in zip(*tapes, strict=True)
            for gate in ask(lambda one=runs[0]: _named(one), lambda runs=runs: self._read(runs))
        ]

    def _read(self, runs: Sequence[Any], where: str | None = None) -> list[Operation | _Turned]:
        """Translate; `where` names the operation whose decomposition this one is part of."""
        one, qml = runs[0], self._qml
        kind, where = type(one), where or _named(one)
        self._count(where)
        if kind in self._skipped:
            return []
        if isinstance(one, qml.operation.Channel):
            raise UserError(
                f"{where} is a noise channel and a Circuit is unitary: leave it out and describe "
                "the noise with a NoiseModel"
            )
        if not all(_is_like(one, other) for other in runs):
            raise UserError(
                f"{where} is another operation for other values of the arguments: a Circuit has "
                "one fixed sequence"
            )
        if not _is_gate(qml, one):
            raise UserError(
                f"{where} is no gate with fixed wires: a Circuit has gates only, in one fixed "
                "sequence; measure at the end and leave out resets and classical control"
            )
        if one.batch_size is not None:
            raise UserError(
                f"{where} is given {one.batch_size} sets of numbers at once: give it one, a "
                "Circuit is run for many by jax.vmap"
            )
        if not set(one.wires) <= self._made_up.numbers.keys():
            raise UserError(
                f"{where} uses wires that the circuit itself does not have: give it no work wires"
            )
        wires = tuple(self._made_up.numbers[label] for label in one.wires)
        if kind is qml.Identity:
            return [Operation("I", (wire,)) for wire in wires]
        if isinstance(one, qml.ops.Adjoint):
            parts = self._read([run.base for run in runs], where)
            return [_inverse(part) for part in reversed(parts)]
        if kind in self._gates:
            return [self._turned(runs, self._gates[kind], wires, where)]
        return self._decompose(runs, wires, where)

    def _count(self, where: str) -> None:
        self._n_read += 1
        if self._n_read > _MOST_OPERATIONS:
            raise UserError(
                f"{where}: the circuit has more than {_MOST_OPERATIONS:,} operations written out, "
                "give a smaller one"
            )

    def _turned(
        self, runs: Sequence[Any], name: str, wires: tuple[int, ...], where: str
    ) -> Operation | _Turned:
        if not runs[0].data:
            return Operation(name, wires)
        # A matrix that is not constant, a batch, or complex numbers.
        if any(np.ndim(angle) or np.iscomplexobj(angle) for run in runs for angle in run.data):
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
        self._check_base(one, where)
        constant = _is_constant(runs) and one.has_matrix and len(wires) <= _LARGEST_MATRIX
        small = len(wires) <= 2 or type(one) is qml.QubitUnitary or isinstance(one, qml.ops.Pow)
        if constant and small and is_library_code(qml, one):
            return [self._unitary(runs, wires, where)]
        # What is the same in all runs has the same parts, unless a user's own class says otherwise.
        asked = runs[:1] if constant and is_library_code(qml, one) else runs
        found = [self._parts(run, constant) for run in asked]
        found *= len(runs) // len(asked)
        parts = [part for part in found if part is not None]
        if len(parts) == len(runs):
            inside = all(set(part.wires) <= set(one.wires) for part in parts[0])
            # Work wires are taken to be |0>, which a circuit cannot promise.
            if len(set(map(len, parts))) == 1 and inside:
                self._check_agreement(one, parts[0], where)
                return [gate for ops in zip(*parts, strict=True) for gate in self._read(ops, where)]
        if constant:
            return [self._unitary(runs, wires, where)]
        raise UserError(
            f"{where} cannot be expressed in a Circuit, which knows {', '.join(GATES)} and "
            "Unitary: rewrite it in these gates, for example with qml.decompose, without work wires"
        )

    def _check_base(self, one: Any, where: str) -> None:
        """Raise `UserError` for a control or power of an own operation that contradicts itself."""
        base = one
        while isinstance(base, self._qml.ops.SymbolicOp):
            base = base.base
        if base is not one and not is_library_code(self._qml, base):
            parts = decomposition_of(self._qml, base)
            if parts is not None:
                self._check_agreement(base, parts, where)

    def _check_agreement(self, one: Any, parts: Sequence[Any], where: str) -> None:
        if self._compares and differs_from_its_parts(self._qml, one, parts):
            raise UserError(
                f"{where} has a matrix and a decomposition that are different gates: correct one "
                "of them, or apply the gates that are meant"
            )

    def _parts(self, one: Any, constant: bool) -> list[Any] | None:
        """What an operation consists of; None if PennyLane does not say."""
        qml = self._qml
        own = not is_library_code(qml, one)
        # PennyLane's own way with controlled powers fails for some.
        if own or not constant or isinstance(getattr(one, "base", None), qml.ops.Pow):
            parts = parts_of_controlled(qml, one)
            if parts is not None:
                return parts
        if isinstance(one, qml.ops.Pow):
            return parts_of_power(qml, one)
        # Of its base's class PennyLane would ask only the name.
        return None if own and isinstance(one, qml.ops.Controlled) else decomposition_of(qml, one)

    def _unitary(self, runs: Sequence[Any], wires: tuple[int, ...], where: str) -> Operation:
        one, other = (
            np.asarray(self._qml.matrix(run, wire_order=run.wires)) for run in (runs[0], runs[1])
        )
        if not np.array_equal(one, other):
            raise UserError(
                f"{where} is another gate for other values of the arguments: a Circuit has one "
                "fixed sequence"
            )
        try:
            gate = Operation("Unitary", wires, matrix=one.tolist())
            check_operation(gate, 1 + max(wires, default=0))
        except UserError as error:
            raise UserError(f"{where} is no gate of qubits: {error}") from error
        return gate


def _inverse(gate: Operation | _Turned) -> Operation | _Turned:
    """What undoes a gate, up to a global phase."""
    if isinstance(gate, Operation):
        return gate.inverse()
    order = (0, 2, 1) if gate.name == "U3" else (0,)
    return replace(gate, angles=tuple(-gate.angles[position] for position in order))


def _kinds(gates: Sequence[Operation | _Turned]) -> list[tuple]:
    return [(type(gate), gate.name, gate.wires) for gate in gates]


def _is_constant(runs: Sequence[Any]) -> bool:
    return all(
        np.array_equal(a, b)
        for run in runs[1:]
        for a, b in zip(runs[0].data, run.data, strict=True)
    )


def _is_gate(qml: Any, operation: Any) -> bool:
    return isinstance(operation, qml.operation.Operator) and not isinstance(
        operation, (qml.ops.Conditional, qml.ops.MidMeasure, qml.ops.PauliMeasure)
    )


def _is_like(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one.name == other.name and one.wires == other.wires


def _named(operation: Any) -> str:
    name, wires = getattr(operation, "name", type(operation).__name__), operation.wires
    return f"{name} on wires {tuple(wires)}"


def _angle(computed: Computed, entries: Sequence[Entry], where: str) -> Angle:
    if computed.polynomial is None:
        raise UserError(_computed(where))
    chosen = [entries[i] for i in computed.entries]
    return angle_of(computed.polynomial, chosen, lambda: where)


def _computed(where: str) -> str:
    return f"{where} has an angle that is computed from the arguments: {ALLOWED}"
