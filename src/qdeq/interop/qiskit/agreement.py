"""Whether what Qiskit computes with a gate, its matrix, is what its definition does.

An object may bring both. Which of them was meant where they differ nobody knows, so such an object
is refused.
"""

from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.quantum_info import Operator, SparseObservable, SparsePauliOp
from qiskit.synthesis import MatrixExponential, ProductFormula, QDrift

from qdeq.errors import UserError

# Comparing takes a millisecond for each gate of so many qubits.
_LARGEST_COMPARED = 4
_LARGEST_MATRIX = 10
# Gates come from float64 arithmetic, a few dozen products deep.
_TOLERANCE = 1e-9


def matrix_of(gate: Any) -> np.ndarray | None:
    """The matrix that a gate brings itself; None without one and with open parameters."""
    if not isinstance(gate, Gate) or gate.num_qubits > _LARGEST_MATRIX:
        return None
    try:
        return np.asarray(gate.to_matrix())
    except Exception:  # CircuitError without a matrix; TypeError and others for open parameters
        return None


def is_library_code(gate: Any) -> bool:
    """Whether Qiskit alone says what a gate is: its class, with a definition that nobody set."""
    if getattr(gate, "_definition", None) is not None:
        return False
    return str(getattr(gate, "base_class", type(gate)).__module__).startswith("qiskit.")


def check_matrix(gate: Any, definition: QuantumCircuit, where: object) -> None:
    """Raise `UserError` where a gate's own matrix is not that of its definition."""
    if not isinstance(gate, Gate) or not 0 < gate.num_qubits <= _LARGEST_COMPARED:
        return
    bound = _with_numbers(gate, definition)
    matrix = matrix_of(bound)
    if matrix is None:
        return
    try:
        other = np.asarray(Operator(bound.definition).to_matrix())
    except Exception:  # a definition that is no unitary is refused when it is read
        return
    if matrix.shape == other.shape:
        overlap = abs(np.vdot(matrix, other)) / len(matrix)
        if abs(overlap - 1) < _TOLERANCE:
            return
    raise UserError(
        f"{where} has a matrix and a definition that are different gates: correct one of them, or "
        "append the definition itself"
    )


def check_evolution(gate: PauliEvolutionGate, where: object) -> None:
    """Raise `UserError` where the circuit of exp(-i t H) is an approximation of it."""
    exact = isinstance(gate.synthesis, MatrixExponential)
    formula = isinstance(gate.synthesis, ProductFormula) and not isinstance(gate.synthesis, QDrift)
    if exact or (formula and _terms_commute(gate.operator)):
        return
    raise UserError(
        f"{where} is exp(-i t H) and its circuit, by {type(gate.synthesis).__name__}, only an "
        "approximation: append gate.definition if the approximation is meant, or choose "
        "synthesis=MatrixExponential()"
    )


def _with_numbers(gate: Any, definition: QuantumCircuit) -> Any:
    """The gate with made-up numbers for its open parameters."""
    if not definition.parameters:
        return gate
    alone = QuantumCircuit(gate.num_qubits)
    alone.append(gate, range(gate.num_qubits))
    values = {parameter: 0.3 + 0.7 * i for i, parameter in enumerate(alone.parameters)}
    return alone.assign_parameters(values).data[0].operation


def _terms_commute(operator: Any) -> bool:
    operators = operator if isinstance(operator, list) else [operator]
    sums = [
        SparsePauliOp.from_sparse_observable(o) if isinstance(o, SparseObservable) else o
        for o in operators
    ]
    paulis: list[Any] = [getattr(one, "paulis", one) for one in sums]
    x = np.concatenate([np.atleast_2d(p.x) for p in paulis]).astype(np.float32)
    z = np.concatenate([np.atleast_2d(p.z) for p in paulis]).astype(np.float32)
    # Two Pauli strings commute where an even number of their letters do not.
    return all(
        not ((row_x @ z.T + row_z @ x.T) % 2).any() for row_x, row_z in zip(x, z, strict=True)
    )
