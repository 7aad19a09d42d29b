"""A `Circuit` as a PennyLane quantum function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq._pennylane import load
from qdeq.circuits import AmplitudeEncoding, Circuit, Encoding, MeasurementEnsemble, Operation
from qdeq.circuits.circuit import check_circuit
from qdeq.errors import UserError

# Names that differ; every other gate of `qdeq.circuits.GATES` is called the same there.
NAMES = {
    "I": "Identity",
    "H": "Hadamard",
    "X": "PauliX",
    "Y": "PauliY",
    "Z": "PauliZ",
    "RXX": "IsingXX",
    "RYY": "IsingYY",
    "RZZ": "IsingZZ",
    "Unitary": "QubitUnitary",
}


def to_pennylane(
    circuit: Circuit,
    *,
    encoding: Encoding | None = None,
    observables: MeasurementEnsemble | None = None,
    wires: Sequence[Any] | None = None,
) -> Callable[..., list]:
    """Write a circuit as a quantum function, to call inside a QNode or to make one of.

    Parameters
    ----------
    circuit
        The circuit.
    encoding
        Prepared before the circuit; amplitudes are normalised as `AmplitudeEmbedding` does.
    observables
        Measured at the end: the function then returns their expectation values.
    wires
        PennyLane's label for each wire; 0, 1, ... by default.

    Returns
    -------
    callable
        `function(theta, v=None)` with theta `(P,)` in radians and features v `(d,)`, for any
        interface that PennyLane knows. Leading axes are taken as PennyLane's parameter
        broadcasting. It queues the operations and returns a list of q expectation values, empty
        without `observables`.

    Raises
    ------
    UserError
        If PennyLane is missing, or encoding, observables and wires do not fit the circuit. The
        function raises it for a theta or v of the wrong length.

    Examples
    --------
    >>> import pennylane as qml
    >>> from qdeq import hardware_efficient, z_of_every_wire
    >>> circuit = hardware_efficient(2, 1, rotations=("RY",))
    >>> function = to_pennylane(circuit, observables=z_of_every_wire(2))
    >>> qnode = qml.QNode(function, qml.device("default.qubit", wires=2))
    >>> [round(float(value), 4) for value in qnode([0.5, 0.0])]
    [0.8776, 0.8776]
    """
    check_circuit(circuit)
    qml = load()
    for what, part in (("encoding", encoding), ("observables", observables)):
        if part is not None and part.n_qubits != circuit.n_qubits:
            raise UserError(
                f"the {what} acts on {part.n_qubits} qubits and the circuit on {circuit.n_qubits}: "
                "give both the same number of qubits"
            )
    labels = list(range(circuit.n_qubits)) if wires is None else list(wires)
    if len(labels) != circuit.n_qubits or not _differ(labels):
        raise UserError(
            f"wires={labels!r}: give {circuit.n_qubits} different labels, one for each wire"
        )
    n_features = max(circuit.n_features, 0 if encoding is None else encoding.n_features)

    def function(theta: Any, v: Any = None) -> list:
        theta, v = (np.asarray(a) if isinstance(a, (list, tuple)) else a for a in (theta, v))
        _check_length(qml, "theta", theta, circuit.n_parameters, exact=True)
        exact = isinstance(encoding, AmplitudeEncoding)
        _check_length(qml, "v", v, n_features, exact=exact)
        if isinstance(encoding, AmplitudeEncoding):
            qml.AmplitudeEmbedding(v, wires=labels, pad_with=0.0, normalize=True)
        elif encoding is not None:
            for operation in encoding.operations:
                _queue(qml, operation, labels, theta, v)
        for operation in circuit.operations:
            _queue(qml, operation, labels, theta, v)
        if observables is None:
            return []
        return [qml.expval(pauli_word(qml, string, labels)) for string in observables.strings]

    return function


def _differ(labels: list[Any]) -> bool:
    try:
        return len(set(labels)) == len(labels)
    except TypeError:  # lists and the like are no labels
        return False


def pauli_word(qml: Any, string: str, labels: Sequence[Any]) -> Any:
    """PennyLane's operator of a Pauli string; identity where every letter is I."""
    letters = {"X": qml.X, "Y": qml.Y, "Z": qml.Z}
    factors = [letters[c](wire) for c, wire in zip(string, labels, strict=True) if c != "I"]
    if not factors:
        return qml.Identity(labels[0])
    return factors[0] if len(factors) == 1 else qml.prod(*factors)


def _queue(qml: Any, operation: Operation, labels: list, theta: Any, v: Any) -> None:
    gate = getattr(qml, NAMES.get(operation.name, operation.name))
    wires = [labels[wire] for wire in operation.wires]
    if operation.matrix is not None:
        gate(np.array(operation.matrix), wires=wires)
        return
    gate(*operation.angle_values(_Entries(theta), _Entries(v)), wires=wires)


@dataclass(frozen=True)
class _Entries:
    """Entries of an array's last axis, leading axes being PennyLane's broadcasting."""

    array: Any

    def __getitem__(self, i: int) -> Any:
        return self.array[..., i]


def _check_length(qml: Any, name: str, values: Any, length: int, *, exact: bool) -> None:
    n_given = 0 if values is None else (qml.math.shape(values) or (0,))[-1]
    if n_given < length or (exact and n_given != length):
        least = "" if exact else "at least "
        raise UserError(
            f"{name} has {n_given} numbers: the circuit takes {least}{length}, give an array of "
            f"shape ({length},)"
        )
