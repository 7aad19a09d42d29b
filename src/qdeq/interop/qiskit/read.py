"""Circuits of Qiskit's as ours, for instance as an ansatz. The other direction is `convert`."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterExpression

from qdeq.circuits import Circuit, Operation
from qdeq.errors import UserError
from qdeq.interop.angle_terms import ALLOWED, Entry, angle_of, keeping_places, operations_of
from qdeq.interop.polynomials import (
    HIGHEST_DEGREE,
    OTHER_SIZES,
    Polynomial,
    fitted,
    has_values,
    made_up_points,
    n_points,
)
from qdeq.interop.qiskit.expand import counterpart, expanded

# A `Parameter`, which type checkers take for a variable: the class is Rust's.
Symbol = Any


def from_qiskit(
    quantum_circuit: QuantumCircuit, *, features: Iterable[Symbol | str] = ()
) -> Circuit:
    """Read a circuit of Qiskit's, for instance to use it as an ansatz.

    Gates that `GATES` does not have are replaced by their definitions; boxes are opened and loops
    over numbers written out. Barriers, delays, final measurements and the global phase are left
    out: expectation values do not see them.

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
        All other parameters in Qiskit's order, that of `QuantumCircuit.parameters`. One that turns
        no gate, as of the global phase, keeps its place by an RZ of wire 0 by 0 times it.

    Raises
    ------
    UserError
        For measurements or resets before the end, classical control, gates without a definition
        or matrix, an unknown feature, and angles that are no such sum, such as ``sin(a)``.

    Examples
    --------
    >>> ansatz = QuantumCircuit(2)
    >>> a, x = Parameter("a"), Parameter("x")
    >>> _ = ansatz.ry(x, 0), ansatz.cry(a, 0, 1), ansatz.sdg(1)
    >>> print(from_qiskit(ansatz, features=["x"]).draw())
    0: ──RY(x0)─╭●─────────────────────────┤
    1: ─────────╰RY(θ0)──PhaseShift(-1.57)─┤
    """
    if not isinstance(quantum_circuit, QuantumCircuit):
        raise UserError(
            f"{type(quantum_circuit).__name__} cannot be read: give a QuantumCircuit; text is read "
            "by qdeq.interop.qasm.from_qasm3 or by qiskit.qasm2.loads"
        )
    plain = expanded(quantum_circuit)
    plain.global_phase = 0
    turning = set(plain.parameters)
    # Left out with the phase and delays, they are counted all the same.
    plain.global_phase = sum(p for p in quantum_circuit.parameters if p not in turning)
    inputs = _feature_numbers(plain, features)
    learned = [parameter for parameter in plain.parameters if parameter not in inputs]
    entries: dict[Symbol, Entry] = {symbol: ("feature", i) for symbol, i in inputs.items()}
    entries |= {symbol: ("parameter", i) for i, symbol in enumerate(learned)}
    operations: list[Operation] = []
    for instruction in plain.data:
        wires = tuple(plain.find_bit(qubit).index for qubit in instruction.qubits)
        operations += _operations(instruction, wires, entries, quantum_circuit)
    return Circuit(plain.num_qubits, keeping_places(operations, len(learned)))


def _feature_numbers(
    quantum_circuit: QuantumCircuit, features: Iterable[Symbol | str]
) -> dict[Symbol, int]:
    by_name = {parameter.name: parameter for parameter in quantum_circuit.parameters}
    numbers: dict[Symbol, int] = {}
    single = isinstance(features, (str, Parameter)) or not isinstance(features, Iterable)
    for i, feature in enumerate([features] if single else features):
        name = getattr(feature, "name", feature)
        if not isinstance(name, str):
            raise UserError(
                f"features[{i}]={feature!r} is no parameter: give parameters or their names"
            )
        if by_name.get(name) in numbers:
            raise UserError(f"features[{i}]={name!r} is there already: name each parameter once")
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
    name = counterpart(gate)
    assert name is not None
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
        values = _values(angle, symbols, points)
        if values is None:
            break
        found = fitted(points, values, degree)
        if found is None:
            continue
        if _is_the_same_elsewhere(angle, symbols, found):
            return symbols, found
        break
    raise UserError(f"{where()} turns by {angle}: {ALLOWED}")


def _values(angle: Any, symbols: list[Symbol], points: np.ndarray) -> np.ndarray | None:
    try:
        return np.array([float(angle.bind(dict(zip(symbols, p, strict=True)))) for p in points])
    except Exception:  # square roots and logarithms of negative numbers, division by 0
        return None


def _is_the_same_elsewhere(angle: Any, symbols: list[Symbol], polynomial: Polynomial) -> bool:
    for size in OTHER_SIZES:
        points = size * made_up_points(2, len(symbols))
        values = _values(angle, symbols, points)
        if values is not None and not has_values(polynomial, points, values):
            return False
    return True


def _symbols(angle: Any) -> list[Symbol]:
    if not isinstance(angle, ParameterExpression):
        return []
    return sorted(angle.parameters, key=lambda parameter: parameter.name)


def _where(name: str, wires: tuple[int, ...], angle: Any, whole: QuantumCircuit) -> str:
    """The gate, and the one of the user's own that it is part of."""
    needed = set(_symbols(angle))
    for instruction in whole.data:
        places = {whole.find_bit(qubit).index for qubit in instruction.qubits}
        params = getattr(instruction.operation, "params", ())
        held = {symbol for given in params for symbol in _symbols(given)}
        if set(wires) <= places and needed <= held:
            return f"{instruction.operation.name} on qubits {sorted(places)}"
    return f"{name} on qubits {list(wires)}"
