"""Circuits and observables as Qiskit's. The other direction is `read`; nothing runs here.

Wire i is qubit i. Qiskit counts qubit 0 as the least significant bit and we as the most significant
one, so matrices agree after `QuantumCircuit.reverse_bits`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit import library as gates
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import SparsePauliOp

from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.circuits.circuit import check_circuit
from qdeq.errors import UserError
from qdeq.interop._numbers import finite_numbers
from qdeq.interop.names import checked_names, numbered

GATE_CLASSES: dict[str, Any] = {
    "I": gates.IGate,
    "X": gates.XGate,
    "Y": gates.YGate,
    "Z": gates.ZGate,
    "H": gates.HGate,
    "S": gates.SGate,
    "T": gates.TGate,
    "SX": gates.SXGate,
    "RX": gates.RXGate,
    "RY": gates.RYGate,
    "RZ": gates.RZGate,
    "PhaseShift": gates.PhaseGate,
    "U3": gates.UGate,
    "CNOT": gates.CXGate,
    "CZ": gates.CZGate,
    "SWAP": gates.SwapGate,
    "CRX": gates.CRXGate,
    "CRY": gates.CRYGate,
    "CRZ": gates.CRZGate,
    "RXX": gates.RXXGate,
    "RYY": gates.RYYGate,
    "RZZ": gates.RZZGate,
}


def to_qiskit(
    circuit: Circuit,
    theta: ArrayLike | None = None,
    features: ArrayLike | None = None,
    *,
    parameters: Sequence[str] | None = None,
) -> QuantumCircuit:
    """Write a circuit as Qiskit's, with parameters or with numbers.

    Parameters
    ----------
    circuit
        Wire i becomes qubit i.
    theta
        ``(n_parameters,)`` angles in radians; None leaves parameters.
    features
        ``(n_features,)`` or more features; None leaves parameters.
    parameters
        Names of the parameters; ``t_000, t_001, ...`` by default, and ``x_000, ...`` for features.
        The zeros matter: Qiskit sorts parameters by name, and expects values in that order.

    Returns
    -------
    QuantumCircuit
        Without measurements.

    Raises
    ------
    UserError
        When an array has the wrong length, or for a gate that Qiskit does not have.

    Examples
    --------
    >>> from qdeq.circuits import Operation
    >>> circuit = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> [parameter.name for parameter in to_qiskit(circuit).parameters]
    ['t_000']
    >>> dict(to_qiskit(circuit, theta=[0.5]).count_ops())
    {'ry': 1, 'cx': 1}
    """
    check_circuit(circuit)
    inputs = numbered("x", circuit.n_features)
    names = checked_names(parameters, circuit.n_parameters, taken=inputs)
    angles = _values("theta", theta, circuit.n_parameters, names)
    fed = _values("features", features, circuit.n_features, inputs)
    result = QuantumCircuit(circuit.n_qubits)
    for operation in circuit.operations:
        if operation.matrix is not None:
            # Qiskit's first qubit is the least significant bit of a matrix, ours the most.
            result.append(UnitaryGate(np.array(operation.matrix)), operation.wires[::-1])
            continue
        if operation.name not in GATE_CLASSES:
            raise UserError(
                f"{operation.name} on wires {operation.wires} has no counterpart in Qiskit: "
                "write it as other gates or as a Unitary"
            )
        given = operation.angle_values(angles, fed)
        result.append(GATE_CLASSES[operation.name](*given), operation.wires)
    return result


def to_pauli_operators(observables: MeasurementEnsemble) -> list[SparsePauliOp]:
    """Write every observable as an operator of Qiskit's, whose labels begin with the last wire.

    Examples
    --------
    >>> to_pauli_operators(MeasurementEnsemble(2, ("ZI",)))
    [SparsePauliOp(['IZ'],
                  coeffs=[1.+0.j])]
    """
    return [SparsePauliOp(string[::-1]) for string in observables.strings]


def measure_in(quantum_circuit: QuantumCircuit, basis: str) -> QuantumCircuit:
    """Append a change of basis and a measurement of every qubit.

    Parameters
    ----------
    quantum_circuit
        Without measurements.
    basis
        A letter I, X, Y or Z for each wire, as from `MeasurementEnsemble.basis`.

    Returns
    -------
    QuantumCircuit
        A copy; bit i of its register ``meas`` is wire i.

    Examples
    --------
    >>> dict(measure_in(QuantumCircuit(2), "XZ").count_ops())
    {'measure': 2, 'h': 1, 'barrier': 1}
    """
    measured = quantum_circuit.copy()
    for wire, letter in enumerate(basis):
        if letter == "Y":
            measured.sdg(wire)
        if letter in "XY":
            measured.h(wire)
    measured.measure_all()
    return measured


def _values(
    name: str, given: ArrayLike | None, n_needed: int, names: Sequence[str]
) -> Sequence[Any]:
    if given is None:
        return [Parameter(name) for name in names]
    values = finite_numbers(name, given)
    # More features than the circuit itself uses are fine: a model's encoding reads the others.
    if values.ndim != 1 or len(values) < n_needed or (name == "theta" and len(values) != n_needed):
        raise UserError(
            f"{name} has shape {values.shape}: the circuit needs an array of shape ({n_needed},)"
        )
    return values.tolist()
