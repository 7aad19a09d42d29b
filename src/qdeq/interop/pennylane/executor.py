"""Any PennyLane device as an `Executor`: rows of angles in, expectation values out."""

from typing import Any

import numpy as np

from qdeq._pennylane import load
from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.devices import Executor, Ledger
from qdeq.errors import UserError
from qdeq.interop.pennylane.to_pennylane import pauli_word, to_pennylane


class PennyLaneExecutor(Executor):
    """Runs circuits on a PennyLane device, every submission as one `qml.execute`.

    Every row of angles is one tape per measurement setting, so that the ledger's executions are
    those that the device's `qml.Tracker` counts.

    Parameters
    ----------
    circuit, observables, shots, ledger, timeout, retries
        See `Executor`. ``shots=None``: exact expectation values, where the device has them.
    device
        A PennyLane device with at least as many wires as the circuit; its first wires are used.

    Raises
    ------
    UserError
        If PennyLane is missing, or what is given is no device or too small.

    Examples
    --------
    >>> import pennylane as qml
    >>> from qdeq.circuits import Operation, z_of_every_wire
    >>> bell = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> device = qml.device("default.qubit", wires=2)
    >>> executor = PennyLaneExecutor(bell, z_of_every_wire(2), device=device)
    >>> executor(np.array([[0.0], [np.pi / 3]])).round(3)
    array([[1. , 1. ],
           [0.5, 0.5]])
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: MeasurementEnsemble,
        *,
        device: Any,
        shots: int | None = None,
        ledger: Ledger | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ):
        qml = load()
        if not isinstance(device, qml.devices.Device):
            raise UserError(
                f"device={device!r} is no PennyLane device: give qml.device('default.qubit', "
                "wires=...) or another"
            )
        super().__init__(
            circuit,
            observables,
            shots=shots,
            ledger=ledger,
            name=device.name,
            timeout=timeout,
            retries=retries,
        )
        wires = list(range(circuit.n_qubits)) if device.wires is None else list(device.wires)
        if len(wires) < circuit.n_qubits:
            raise UserError(
                f"device {device.name} has {len(wires)} wires and the circuit "
                f"{circuit.n_qubits}: give a larger device"
            )
        self.device = device
        wires = wires[: circuit.n_qubits]
        self._function = to_pennylane(circuit, wires=wires)
        self._groups = observables.settings()
        self._measurements = [
            [qml.expval(pauli_word(qml, observables.strings[k], wires)) for k in group]
            for group in self._groups
        ]

    def run(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        """Run every row and setting; see `Executor.run`."""
        qml = load()
        tapes = []
        for row in angles:
            operations = qml.tape.make_qscript(self._function)(row).operations
            tapes += [
                qml.tape.QuantumScript(operations, measurements, shots=shots)
                for measurements in self._measurements
            ]
        results = iter(qml.execute(tapes, self.device, diff_method=None, cache=False))
        values = np.empty((len(angles), self.observables.n_observables))
        for row in values:
            for group in self._groups:
                row[list(group)] = np.asarray(next(results), dtype=np.float64)
        return values
