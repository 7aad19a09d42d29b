"""Circuits of Qiskit's as ours, for instance as an ansatz. The other direction is `convert`."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Gate, Instruction, Parameter, ParameterExpression
from qiskit.circuit import library as gates
from qiskit.circuit.library import UnitaryGate

from qdeq.circuits import Circuit, Operation
from qdeq.circuits.gates import GATES
from qdeq.errors import UserError
from qdeq.interop.angle_terms import ALLOWED, Entry, angle_of, operations_of
from qdeq.interop.polynomials import (
    HIGHEST_DEGREE,
    Polynomial,
    fitted,
    made_up_points,
    n_points,
)
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


def from_qiskit(
    quantum_circuit: QuantumCircuit, *, features: Iterable[Symbol | str] = ()
) -> Circuit:
    """Read a circuit of Qiskit's, for instance to use it as an ansatz.

    Gates that `GATES` does not have are decomposed by Qiskit's transpiler. Barriers, final
    measurements and the global phase are left out: expectation values do not see them.

    Parameters
    ----------
    quantum_circuit
        Qubit i becomes wire i. Angles are numbers, or sums of parameters and their products with
        real factors, such as ``a / 2 - b + 0.5``, which become one gate for each term.
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
        angles that are no such sum, such as ``sin(a)``.

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
    entries: dict[Symbol, Entry] = {symbol: ("feature", i) for symbol, i in inputs.items()}
    entries |= {symbol: ("parameter", i) for i, symbol in enumerate(learned)}
    operations: list[Operation] = []
    for instruction in plain.data:
        wires = tuple(plain.find_bit(qubit).index for qubit in instruction.qubits)
        operations += _operations(instruction, wires, entries, quantum_circuit)
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
    instruction: Any, wires: tuple[int, ...], entries: dict[Symbol, Entry], whole: QuantumCircuit
) -> list[Operation]:
    gate = instruction.operation
    name = _FROM_QISKIT[gate.base_class]
    if name == "Unitary":
        return [Operation(name, wires[::-1], matrix=gate.params[0])]
    angles = []
    for given in gate.params:
        where = functools.partial(_where, name, wires, given, whole)
        symbols, polynomial = _polynomial(given, where)
        angles.append(angle_of(polynomial, [entries[symbol] for symbol in symbols], where))
    return operations_of(name, wires, angles)


def _polynomial(angle: Any, where: Callable[[], str]) -> tuple[list[Symbol], Polynomial]:
    """An angle of Qiskit's as a polynomial in the parameters that it holds."""
    symbols = _symbols(angle)
    if not symbols:
        return [], {(): float(angle)}
    if isinstance(angle, Parameter):
        return symbols, {(0,): 1.0}
    for degree in range(1, HIGHEST_DEGREE + 1):
        count = n_points(len(symbols), degree)
        if count is None:
            break
        points = made_up_points(count, len(symbols))
        try:
            values = [float(angle.bind(dict(zip(symbols, p, strict=True)))) for p in points]
        except Exception:  # square roots and logarithms of negative numbers, division by 0
            break
        found = fitted(points, np.array(values), degree)
        if found is not None:
            return symbols, found
    raise UserError(f"{where()} turns by {angle}: {ALLOWED}")


def _symbols(angle: Any) -> list[Symbol]:
    if not isinstance(angle, ParameterExpression):
        return []
    return sorted(angle.parameters, key=lambda parameter: parameter.name)


def _where(name: str, wires: tuple[int, ...], angle: Any, whole: QuantumCircuit) -> str:
    """The gate, and the one of the user's own that it is part of."""
    needed = set(_symbols(angle))
    for instruction in whole.data:
        places = {whole.find_bit(qubit).index for qubit in instruction.qubits}
        held = {symbol for given in instruction.operation.params for symbol in _symbols(given)}
        if set(wires) <= places and needed <= held:
            return f"{instruction.operation.name} on qubits {sorted(places)}"
    return f"{name} on qubits {list(wires)}"
