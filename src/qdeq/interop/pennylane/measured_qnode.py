"""The QNode of a model as ours: encoding, circuit and observables in one value.

How its gates are read is in `_reader`; what they are fed with is told apart here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qdeq._pennylane import quiet
from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasuredCircuit,
    MeasurementEnsemble,
    Operation,
)
from qdeq.errors import UserError
from qdeq.interop.pennylane._guest import Guest
from qdeq.interop.pennylane._made_up import MadeUp, of_guest
from qdeq.interop.pennylane._reader import circuit_of
from qdeq.interop.pennylane.agreement import ask

# Amplitudes come from float64 arithmetic, a norm over a few hundred of them.
_TOLERANCE = 1e-9


def measured_circuit(guest: Guest, n_parameters: int, n_inputs: int) -> MeasuredCircuit:
    """What a QNode does, as a `MeasuredCircuit` of flat theta and the encoder input.

    Parameters
    ----------
    guest
        The QNode and how it is called.
    n_parameters, n_inputs
        Lengths of theta and of v.

    Raises
    ------
    UserError
        If it cannot be expressed as one: one sentence that says what of it cannot.
    """
    try:
        return _measured(guest, n_parameters, n_inputs)
    except RecursionError as error:
        raise UserError(
            "the QNode cannot be read as a circuit: its functions call one another without end"
        ) from error
    except UserError as error:
        raise UserError(f"the QNode cannot be read as a circuit: {error}") from error


def _measured(guest: Guest, n_parameters: int, n_inputs: int) -> MeasuredCircuit:
    qml = guest.qml
    made_up = of_guest(guest, n_parameters, n_inputs)
    tape = made_up.tape_at(np.ones(len(made_up.entries)))
    prepares = bool(tape.operations) and _prepares(qml, tape.operations[0])
    if prepares:
        made_up = _behind_preparation(qml, made_up, tape.operations[0].wires, n_inputs)
    circuit = circuit_of(qml, made_up)
    strings = [_string(qml, m, made_up.numbers, circuit.n_qubits) for m in tape.measurements]
    observables = MeasurementEnsemble(circuit.n_qubits, tuple(strings))
    _check_device(guest, tape)
    if prepares:
        encoding = AmplitudeEncoding(circuit.n_qubits, n_inputs)
        return MeasuredCircuit(circuit, encoding, observables)
    first, rest = _leading_rotations(circuit)
    encoding = AngleEncoding(circuit.n_qubits, first, n_inputs)
    return MeasuredCircuit(Circuit(circuit.n_qubits, rest), encoding, observables)


def _check_device(guest: Guest, tape: Any) -> None:
    """Raise `UserError` for a device that does something else than the gates, which is noise."""
    device = guest.qnode.device
    try:
        with quiet():
            tapes, _ = device.preprocess_transforms(guest.config)((tape,))
    except Exception:  # some devices take no tapes but those of their own calls
        tapes = ()
    channels = [op for run in tapes for op in run if isinstance(op, guest.qml.operation.Channel)]
    if channels:
        raise UserError(
            f"its device {device.name} adds noise, which a circuit has not: describe it with a "
            "NoiseModel, and give the QNode a device without"
        )


def _prepares(qml: Any, operation: Any) -> bool:
    """Whether it is a state of given amplitudes; what is a basis state has none."""
    return isinstance(operation, qml.StatePrep)


def _behind_preparation(
    qml: Any, made_up: MadeUp, prepared: Sequence[Any], n_inputs: int
) -> MadeUp:
    """The gates after an amplitude embedding, whose wires are numbered last as our encoding's."""

    def tape_at(numbers: np.ndarray) -> Any:
        tape = made_up.tape_at(numbers)
        first, *gates = tape.operations
        v = numbers[len(numbers) - n_inputs :]
        ask(lambda: first.name, lambda: _check_amplitudes(first, v))
        return qml.tape.QuantumScript(gates, tape.measurements)

    others = [label for label in made_up.numbers if label not in prepared]
    numbers = {label: number for number, label in enumerate([*others, *prepared])}
    return replace(made_up, tape_at=tape_at, numbers=numbers)


def _check_amplitudes(preparation: Any, v: np.ndarray) -> None:
    state = np.ravel(preparation.data[0])
    expected = np.zeros(len(state))
    expected[: len(v)] = v[: len(state)] / np.linalg.norm(v)
    if not np.allclose(state, expected, rtol=0, atol=_TOLERANCE):
        raise UserError(
            f"{preparation.name} has other amplitudes than the encoder input in its order, with "
            "norm 1 and zeros behind it: give it the whole input, with normalize=True, pad_with=0"
        )


def _leading_rotations(
    circuit: Circuit,
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """Rotations by one feature that are first on their wires, and everything else."""
    first: list[Operation] = []
    rest: list[Operation] = []
    touched: set[int] = set()
    for operation in circuit.operations:
        wires = set(operation.wires)
        if len(operation.features) == 1 and len(wires) == 1 and not wires & touched:
            first.append(operation)
        else:
            rest.append(operation)
            touched |= wires
    return tuple(first), tuple(rest)


def _string(qml: Any, measurement: Any, numbers: dict[Any, int], n_qubits: int) -> str:
    """The Pauli string of an expectation value."""
    observable = getattr(measurement, "obs", None)
    is_value = type(measurement) is qml.measurements.ExpectationMP
    terms = list((getattr(observable, "pauli_rep", None) or {}).items()) if is_value else []
    if len(terms) != 1 or terms[0][1] != 1:
        raise UserError(
            f"it measures {measurement!r}: measure expectation values of products of Pauli "
            "operators without a factor, such as qml.expval(qml.Z(0) @ qml.X(1))"
        )
    letters = ["I"] * n_qubits
    for label, letter in terms[0][0].items():
        letters[numbers[label]] = letter
    return "".join(letters)
