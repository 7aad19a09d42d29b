"""A circuit of Qiskit's written out in gates that have a counterpart here, whatever it is made of.

Everything else is replaced by its definition, again and again, until only known gates are left or
something is refused in one line. How a known gate becomes an `Operation` is in `read`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    BoxOp,
    ControlledGate,
    ControlModifier,
    Delay,
    ForLoopOp,
    Gate,
    Instruction,
    InverseModifier,
    Measure,
    PowerModifier,
)
from qiskit.circuit import library as gates
from qiskit.circuit.library import PauliEvolutionGate, UnitaryGate
from qiskit.quantum_info import Clifford, CNOTDihedral, Operator

from qdeq.errors import UserError
from qdeq.interop._foreign import Answer, ask
from qdeq.interop.qiskit.agreement import (
    check_evolution,
    check_matrix,
    is_library_code,
    matrix_of,
)
from qdeq.interop.qiskit.convert import GATE_CLASSES

# By class and not by name: a gate that a program defines itself may have any name.
_COUNTERPARTS: dict[Any, str] = {make: name for name, make in GATE_CLASSES.items()} | {
    gates.U1Gate: "PhaseShift",
    gates.U3Gate: "U3",
    UnitaryGate: "Unitary",
}

# More than anybody simulates; a few nested loops or definitions ask for 2**60 just as easily.
_MOST_INSTRUCTIONS = 500_000
# A power of so many qubits is written as a matrix of a million entries.
_LARGEST_MATRIX = 10
# So often an integer power repeats its gates; higher ones are matrices.
_MOST_REPETITIONS = 64


def counterpart(gate: Any) -> str | None:
    """The name in `GATES`, or ``"Unitary"``, of a gate with the same matrix; None if there is none.

    Examples
    --------
    >>> from qiskit.circuit.library import CXGate
    >>> counterpart(CXGate()), counterpart(CXGate(ctrl_state=0))
    ('CNOT', None)
    """
    if isinstance(gate, ControlledGate) and gate.ctrl_state != 2**gate.num_ctrl_qubits - 1:
        return None
    return _COUNTERPARTS.get(getattr(gate, "base_class", None))


def expanded(quantum_circuit: QuantumCircuit) -> QuantumCircuit:
    """The same unitary, global phase included, in gates that have a `counterpart`.

    Barriers, delays and measurements at the end are left out.

    Raises
    ------
    UserError
        For what has neither a definition nor a matrix, and for circuits that grow without end.
    """
    expansion = _Expansion(quantum_circuit.num_qubits)
    try:
        expansion.add_circuit(quantum_circuit, range(quantum_circuit.num_qubits))
    except RecursionError as error:
        raise UserError(
            "the circuit's gates are defined by gates that are defined by gates and so on without "
            "end: write it with fewer levels of definitions"
        ) from error
    return expansion.circuit


@dataclass(frozen=True)
class _Where:
    """The beginning of a message: an operation, its qubits, and what it is part of."""

    operation: Any
    wires: tuple[int, ...]
    part_of: list[str]

    def __str__(self) -> str:
        inside = f" (in {self.part_of[0]})" if self.part_of else ""
        return f"{self.operation.name} on qubits {list(self.wires)}{inside}"


class _Expansion:
    """A circuit that grows by known gates, and what was seen on the way."""

    def __init__(self, n_qubits: int, outer: "_Expansion | None" = None):
        self.circuit = QuantumCircuit(n_qubits)
        self.measured: set[int] = set()
        # Of a part, so that its errors say what it is part of, and that all of it is counted.
        self._names: list[str] = [] if outer is None else outer._names
        self._visited: list[int] = [0] if outer is None else outer._visited

    def add_circuit(self, circuit: QuantumCircuit, wires: Sequence[int]) -> None:
        """Append a circuit whose qubit i is `wires[i]`."""
        self.circuit.global_phase += circuit.global_phase
        for instruction in circuit.data:
            places = (circuit.find_bit(qubit).index for qubit in instruction.qubits)
            self.add(instruction.operation, tuple(wires[place] for place in places))

    def add(self, operation: Any, wires: tuple[int, ...]) -> None:
        """Append an operation, or what it consists of."""
        self._count()
        known = counterpart(operation) is not None and wires
        if not known and isinstance(operation, (Barrier, Delay)):
            return
        if not known and isinstance(operation, Measure):
            self.measured.update(wires)
            return
        where = _Where(operation, wires, self._names[:1])
        if not self.measured.isdisjoint(wires):
            raise UserError(
                f"{where} follows a measurement: only circuits that measure at their end can be "
                "converted"
            )
        if known:
            _ask(where, lambda: self.circuit.append(operation, wires))
            return
        if isinstance(operation, UnitaryGate) and not wires:
            self.circuit.global_phase += float(np.angle(operation.params[0][0, 0]))
            return
        self._names.append(str(operation.name))
        if isinstance(operation, AnnotatedOperation):
            self._add_annotated(operation, wires, where)
        elif isinstance(operation, ForLoopOp):
            self._add_loop(operation, wires, where)
        else:
            self._add_parts(operation, wires, where)
        self._names.pop()

    def _add_parts(self, operation: Any, wires: tuple[int, ...], where: _Where) -> None:
        if isinstance(operation, PauliEvolutionGate):
            check_evolution(operation, where)
        trusted = is_library_code(operation)  # asked first: afterwards every gate has a definition
        circuit = _ask(where, lambda: _definition(operation))
        if circuit is not None:
            if not trusted:
                check_matrix(operation, circuit, where)
            self.add_circuit(circuit, wires)
            return
        matrix = matrix_of(operation)
        if matrix is not None:
            self.add(_ask(where, lambda: UnitaryGate(matrix)), wires)
        elif isinstance(operation, Gate):
            raise UserError(
                f"{where} is not a gate that Qiskit can decompose: it has neither a definition "
                "nor a matrix; write it as gates of Qiskit's library"
            )
        else:
            raise UserError(
                f"{where} is not a unitary gate: only circuits of gates can be converted"
            )

    def _add_loop(self, loop: ForLoopOp, wires: tuple[int, ...], where: _Where) -> None:
        values, variable, body = loop.params
        self._count(_ask(where, lambda: length_hint(values)))  # refused before it is written out
        for value in _ask(where, lambda: iter(values)):
            bound = body
            if variable is not None and variable in body.parameters:
                bound = _ask(where, lambda v=value: body.assign_parameters({variable: v}))
            self.add_circuit(bound, wires)

    def _add_annotated(self, operation: Any, wires: tuple[int, ...], where: _Where) -> None:
        modifiers: list[Any] = operation.modifiers or [PowerModifier(1)]
        others, modifier = modifiers[:-1], modifiers[-1]
        controls = modifier.num_ctrl_qubits if isinstance(modifier, ControlModifier) else 0
        inner = AnnotatedOperation(operation.base_op, others) if others else operation.base_op
        part = _Expansion(len(wires) - controls, outer=self)
        part.add(inner, tuple(range(len(wires) - controls)))
        if part.measured:
            raise UserError(f"{where} changes a measurement: only gates have inverses and controls")
        if isinstance(modifier, InverseModifier):
            self.add_circuit(_ask(where, part.circuit.inverse), wires)
        elif isinstance(modifier, PowerModifier):
            self._add_power(part.circuit, modifier.power, wires, where)
        elif controls:
            gate = _ask(where, lambda: _controlled(part.circuit, controls, modifier.ctrl_state))
            self.add(gate, wires)
        else:
            self.add_circuit(part.circuit, wires)

    def _add_power(
        self, circuit: QuantumCircuit, power: float, wires: tuple[int, ...], where: _Where
    ) -> None:
        if power == int(power) and abs(power) <= _MOST_REPETITIONS:
            repeated = circuit if power >= 0 else _ask(where, circuit.inverse)
            for _ in range(abs(int(power))):
                self.add_circuit(repeated, wires)
        elif circuit.parameters or len(wires) > _LARGEST_MATRIX:
            raise UserError(
                f"{where} is raised to the power {power}: with open parameters or more than "
                f"{_LARGEST_MATRIX} qubits only whole powers up to {_MOST_REPETITIONS} can be "
                "converted"
            )
        else:
            self.add(_ask(where, lambda: Operator(circuit).power(power).to_instruction()), wires)

    def _count(self, more: int = 1) -> None:
        self._visited[0] += more
        if self._visited[0] > _MOST_INSTRUCTIONS:
            inside = f" (in {self._names[0]})" if self._names else ""
            raise UserError(
                f"the circuit has more than {_MOST_INSTRUCTIONS:,} gates, loops and definitions "
                f"written out{inside}: give a smaller one"
            )


def _ask(where: _Where, question: Callable[[], Answer]) -> Answer:
    """What Qiskit, or a user's own class, says of an operation."""
    advice = "write it as gates of Qiskit's library"
    return ask(question, lambda: str(where), "could not be written in other gates", advice)


def _definition(operation: Any) -> QuantumCircuit | None:
    if isinstance(operation, (Clifford, CNOTDihedral)):
        return operation.to_circuit()
    if isinstance(operation, BoxOp):
        return operation.body
    circuit = operation.definition if isinstance(operation, Instruction) else None
    if circuit is not None and circuit.num_qubits != operation.num_qubits:
        raise UserError(
            f"{operation.name} acts on {operation.num_qubits} qubits and its definition on "
            f"{circuit.num_qubits}: give it a definition that fits"
        )
    return circuit


def _controlled(circuit: QuantumCircuit, controls: int, state: Any) -> Any:
    """A circuit of known gates as one gate with so many controls, which come first."""
    if circuit.num_qubits == 0:
        phase = circuit.global_phase
        gate = gates.PhaseGate(phase) if controls == 1 else gates.MCPhaseGate(phase, controls - 1)
        wrapped = QuantumCircuit(controls)
        zeros = [wire for wire in range(controls) if not state >> wire & 1]
        for part, wires in ((gates.XGate(), zeros), (gate, None), (gates.XGate(), zeros)):
            for wire in wires if wires is not None else [range(controls)]:
                wrapped.append(part, [wire] if isinstance(wire, int) else wire)
        return wrapped.to_gate()
    return circuit.to_gate().control(controls, ctrl_state=state, annotated=False)
