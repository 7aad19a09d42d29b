"""Circuits of Qiskit's as ours, for instance as an ansatz. The other direction is `convert`."""

from collections.abc import Iterable, Sequence
from typing import Any

from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Gate, Instruction, Parameter, ParameterExpression
from qiskit.circuit import library as gates
from qiskit.circuit.library import UnitaryGate

from qdeq.circuits import Circuit, Operation
from qdeq.circuits.gates import GATES
from qdeq.errors import UserError
from qdeq.interop.qiskit.convert import GATE_CLASSES

# A `Parameter`, which type checkers take for a variable: the class is Rust's.
Symbol = Any

# By class and not by name: a gate that a program defines itself may have any name.
_FROM_QISKIT: dict[Any, str] = {make: name for name, make in GATE_CLASSES.items()} | {
    gates.U1Gate: "PhaseShift",
    gates.U3Gate: "U3",
    UnitaryGate: "Unitary",
}
_BASIS = sorted(make(*[0.0] * GATES[name].n_parameters).name for name, make in GATE_CLASSES.items())

# Gates of the angle a + b are those of a and of b one after the other; more copies than this are
# no circuit that somebody wrote on purpose.
_MOST_COPIES = 8


def from_qiskit(
    quantum_circuit: QuantumCircuit, *, features: Iterable[Symbol | str] = ()
) -> Circuit:
    """Read a circuit of Qiskit's, for instance to use it as an ansatz.

    Gates that `GATES` does not have are decomposed by Qiskit's transpiler. Barriers, final
    measurements and the global phase are left out: expectation values do not see them.

    Parameters
    ----------
    quantum_circuit
        Qubit i becomes wire i. Angles are numbers, parameters, or sums of them such as
        ``2 * a + b + 0.5``, which become one gate for each term.
    features
        Parameters, or their names, that become features 0, 1, ... in this order.

    Returns
    -------
    Circuit
        All other parameters in Qiskit's order, that of `QuantumCircuit.parameters`.

    Raises
    ------
    UserError
        For measurements or resets before the end, classical control, an unknown feature, and
        angles that no sum of parameters gives, such as ``a / 2``.

    Examples
    --------
    >>> ansatz = QuantumCircuit(2)
    >>> a, x = Parameter("a"), Parameter("x")
    >>> _ = ansatz.ry(x, 0), ansatz.cry(a, 0, 1), ansatz.sdg(1)
    >>> print(from_qiskit(ansatz, features=["x"]).draw())
    0: ──RY(x0)─╭●─────────────────────────┤
    1: ─────────╰RY(θ0)──PhaseShift(-1.57)─┤
    """
    plain = _with_known_gates(_without_final_measurements(quantum_circuit))
    inputs = _feature_numbers(plain, features)
    learned = [parameter for parameter in plain.parameters if parameter not in inputs]
    sources = {parameter: {"feature": i} for parameter, i in inputs.items()}
    sources |= {parameter: {"parameter": i} for i, parameter in enumerate(learned)}
    operations: list[Operation] = []
    for instruction in plain.data:
        wires = tuple(plain.find_bit(qubit).index for qubit in instruction.qubits)
        operations += _operations(instruction, wires, sources)
    return Circuit(plain.num_qubits, tuple(operations))


def _without_final_measurements(quantum_circuit: QuantumCircuit) -> QuantumCircuit:
    kept, measured = [], set()
    for instruction in quantum_circuit.data:
        name = instruction.operation.name
        wires = {quantum_circuit.find_bit(qubit).index for qubit in instruction.qubits}
        if name == "barrier":
            continue
        if name == "measure":
            measured |= wires
            continue
        if measured & wires:
            raise UserError(
                f"{name} on qubits {sorted(wires)} follows a measurement: only circuits that "
                "measure at their end can be converted"
            )
        if instruction.clbits or name in ("reset", "initialize", "delay", "if_else"):
            raise UserError(
                f"{name} on qubits {sorted(wires)} is not a unitary gate: only circuits of gates "
                "can be converted"
            )
        kept.append(instruction)
    result = QuantumCircuit(quantum_circuit.num_qubits)
    for instruction in kept:
        wires = [quantum_circuit.find_bit(qubit).index for qubit in instruction.qubits]
        result.append(instruction.operation, wires)
    return result


def _with_known_gates(quantum_circuit: QuantumCircuit) -> QuantumCircuit:
    """Replace gates that `GATES` does not have, and leave the others as they are."""
    result = QuantumCircuit(quantum_circuit.num_qubits)
    for instruction in quantum_circuit.data:
        wires = [quantum_circuit.find_bit(qubit).index for qubit in instruction.qubits]
        gate = instruction.operation
        if gate.base_class in _FROM_QISKIT:
            result.append(gate, wires)
        elif type(gate) is Gate and gate.definition is not None:
            # Somebody's own gate, whose name the transpiler might take for a standard one's.
            result.compose(_with_known_gates(gate.definition), wires, inplace=True)
        else:
            result.compose(_decomposed(gate, wires), wires, inplace=True)
    return result


def _decomposed(gate: Instruction, wires: Sequence[int]) -> QuantumCircuit:
    alone = QuantumCircuit(len(wires))
    alone.append(gate, range(len(wires)))
    try:
        return transpile(alone, basis_gates=_BASIS, optimization_level=0)
    except Exception as error:  # the transpiler has no common base for what it raises
        raise UserError(
            f"{gate.name} on qubits {tuple(wires)} is not a gate that Qiskit can decompose into "
            f"{', '.join(_BASIS)} ({type(error).__name__}): write it as such gates"
        ) from error


def _feature_numbers(
    quantum_circuit: QuantumCircuit, features: Iterable[Symbol | str]
) -> dict[Symbol, int]:
    by_name = {parameter.name: parameter for parameter in quantum_circuit.parameters}
    numbers: dict[Symbol, int] = {}
    for i, feature in enumerate([features] if isinstance(features, str) else features):
        name = feature if isinstance(feature, str) else feature.name
        if name not in by_name:
            raise UserError(
                f"features[{i}]={name!r} is not a parameter of the circuit: choose from "
                f"{', '.join(by_name) or 'none, it has no parameters'}"
            )
        numbers[by_name[name]] = i
    return numbers


def _operations(
    instruction: Any,
    wires: tuple[int, ...],
    sources: dict[Symbol, dict[str, Any]],
) -> list[Operation]:
    gate = instruction.operation
    name = _FROM_QISKIT[gate.base_class]
    if name == "Unitary":
        return [Operation(name, wires[::-1], matrix=gate.params[0])]
    if name != "U3":
        return (
            _turns(name, wires, gate.params[0], sources)
            if gate.params
            else [Operation(name, wires)]
        )
    split = [_terms(angle, name, wires) for angle in gate.params]
    lone = [len(terms) == 1 and constant == 0 for constant, terms in split]
    if all(lone):
        indices = [sources[terms[0]].get("parameter") for _, terms in split]
        if None not in indices:
            return [Operation("U3", wires, parameter=tuple(i for i in indices if i is not None))]
    operations: list[Operation] = []
    for factor, position in GATES["U3"].factors:
        operations += _turns(factor, wires, gate.params[position], sources)
    return operations


def _turns(
    name: str, wires: tuple[int, ...], angle: Any, sources: dict[Symbol, dict[str, Any]]
) -> list[Operation]:
    """One gate for each term of an angle: rotations about one axis add up."""
    constant, terms = _terms(angle, name, wires)
    operations = [Operation(name, wires, **sources[parameter]) for parameter in terms]
    if constant or not terms:
        operations.append(Operation(name, wires, angle=constant))
    return operations


def _terms(angle: Any, name: str, wires: tuple[int, ...]) -> tuple[float, list[Symbol]]:
    """An angle as a number plus parameters, each as often as it is counted."""
    if not isinstance(angle, ParameterExpression) or not angle.parameters:
        return float(angle), []
    if isinstance(angle, Parameter):
        return 0.0, [angle]
    terms: list[Symbol] = []
    for parameter in sorted(angle.parameters, key=lambda parameter: parameter.name):
        slope = angle.gradient(parameter)
        if isinstance(slope, ParameterExpression) or not _is_count(slope):
            raise UserError(
                f"{name} on qubits {wires} turns by {angle}: an angle is a number, a parameter, "
                "or a sum of parameters in whole multiples; give such an expression a parameter "
                "of its own"
            )
        terms += [parameter] * round(complex(slope).real)
    zeros = dict.fromkeys(angle.parameters, 0.0)
    return float(angle.bind(zeros)), terms


def _is_count(number: complex) -> bool:
    value = complex(number)
    return value.imag == 0 and value.real == round(value.real) and 0 < value.real <= _MOST_COPIES
