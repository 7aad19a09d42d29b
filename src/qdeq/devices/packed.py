"""Several copies of a small circuit side by side on a wider device: fewer executions for as much.

Every row of angles still has its own values; which rows share an execution is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.devices.executor import Executor, executor_by
from qdeq.errors import UserError, check_count


class PackedExecutor(Executor):
    """Runs a circuit of k qubits several times side by side in each execution of a wider one.

    It stands wherever an executor does: in `DeviceFunction`, whose shifted circuits are packed as
    well, in `solve_on_device`, `train_on_device`, and inside or around mitigations. B rows of
    angles are ceil(B / copies) executions per setting, which is what the executor of the wide
    circuit charges to its ledger; that one also retries and has the timeout.

    Parameters
    ----------
    make
        ``make(circuit, observables)`` returns the executor of the wide circuit.
    circuit, observables
        Of one copy, see `Executor`.
    n_qubits
        Of the device.
    copies
        Side by side; None for as many as fit, floor(n_qubits / k). On real couplings fewer have a
        place without moving qubits: `qdeq.interop.qiskit.placeable_copies`.

    Attributes
    ----------
    copies
        As given, or as many as fit.
    inner
        The executor of the wide circuit.

    Raises
    ------
    UserError
        For a device that is too small for a single copy, or too many copies; if `make` returns no
        executor of what it was given.

    Notes
    -----
    Copies share no gate, so exact expectation values are those of the circuit alone. On a device
    its copies have qubits of different quality and, unless they lie apart, cross-talk;
    `QiskitExecutor` takes the best ones that the backend's calibration says.

    Examples
    --------
    >>> from qdeq.circuits import Operation, z_of_every_wire
    >>> from qdeq.devices import SimulatorExecutor
    >>> turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    >>> packed = PackedExecutor(SimulatorExecutor, turn, z_of_every_wire(1), n_qubits=4)
    >>> packed(np.linspace(0, np.pi, 5)[:, None])[:, 0].round(3) + 0
    array([ 1.   ,  0.707,  0.   , -0.707, -1.   ])
    >>> packed.copies, packed.ledger.executions
    (4, 2)
    """

    def __init__(
        self,
        make: Callable[[Circuit, MeasurementEnsemble], Executor],
        circuit: Circuit,
        observables: MeasurementEnsemble,
        *,
        n_qubits: int,
        copies: int | None = None,
    ):
        self.copies = copies_that_fit(circuit.n_qubits, n_qubits, copies)
        wide, order = _wide_observables(observables, self.copies)
        self.inner = executor_by(make, side_by_side(circuit, self.copies), wide)
        super().__init__(
            circuit,
            observables,
            shots=self.inner.shots,
            ledger=self.inner.ledger,
            name=f"{self.inner.name}, {self.copies} copies side by side",
        )
        self.scale_factors = self.inner.scale_factors
        self.folded_length = self.inner.folded_length
        self._order = order

    @property
    def n_settings(self) -> int:
        """Measurement settings per execution: those of one copy."""
        return self.inner.n_settings

    def prepare(self, shots: int | None) -> None:
        """Prepare the executor of the wide circuit; see `Executor.prepare`."""
        self.inner.prepare(shots)

    def run(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        """Run without charging the ledger; see `Executor.run`."""
        return self._unpacked(self.inner.run(self._packed(angles), shots), len(angles))

    def _call(self, angles: np.ndarray, purpose: str, shots: int | None) -> np.ndarray:
        angles, shots = self._checked(angles, shots)
        if not len(angles):
            return np.zeros((0, self.observables.n_observables))
        # The inner executor charges, retries and checks; nothing is charged twice.
        values = self.inner(self._packed(angles), purpose=purpose, shots=shots)
        return self._unpacked(values, len(angles))

    def _packed(self, angles: np.ndarray) -> np.ndarray:
        missing = -len(angles) % self.copies
        filled = np.concatenate([angles, np.repeat(angles[-1:], missing, axis=0)])
        return filled.reshape(len(filled) // self.copies, self.copies * angles.shape[1])

    def _unpacked(self, values: np.ndarray, n_rows: int) -> np.ndarray:
        # From the wide ensemble's order to (row, copy, observable).
        q = self.observables.n_observables
        return np.asarray(values)[:, self._order].reshape(-1, q)[:n_rows]


def copies_that_fit(k: int, n_qubits: int, copies: int | None = None) -> int:
    """How many circuits of k qubits stand side by side on a device.

    >>> copies_that_fit(3, 127)
    42

    Raises
    ------
    UserError
        If none does, or fewer than asked for.
    """
    check_count("n_qubits", n_qubits)
    if n_qubits < k:
        raise UserError(
            f"n_qubits={n_qubits}: the circuit has {k} qubits, choose a device of at least as many"
        )
    if copies is None:
        return n_qubits // k
    check_count("copies", copies)
    if copies * k > n_qubits:
        raise UserError(
            f"copies={copies} of {k} qubits on {n_qubits}: {n_qubits // k} of them fit, give at "
            "most as many"
        )
    return copies


def side_by_side(circuit: Circuit, copies: int) -> Circuit:
    """Copies of a circuit on wires of their own, with parameters of their own.

    >>> from qdeq.circuits import Operation
    >>> turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    >>> print(side_by_side(turn, 2).draw())
    0: ──RY(θ0)─┤
    1: ──RY(θ1)─┤
    """
    k, n = circuit.n_qubits, circuit.n_parameters
    operations = []
    for copy in range(copies):
        for operation in circuit.operations:
            moved = operation.renumbered(lambda i, first=copy * n: first + i)
            wires = tuple(copy * k + wire for wire in operation.wires)
            operations.append(replace(moved, wires=wires))
    return Circuit(copies * k, tuple(operations), circuit.trainable * copies)


def _wide_observables(
    observables: MeasurementEnsemble, copies: int
) -> tuple[MeasurementEnsemble, np.ndarray]:
    """The strings of all copies, and where (copy, string) is among them.

    Setting by setting, so that the wide ensemble needs no more of them than one copy: a string
    joins the first setting that it fits.
    """
    k, q = observables.n_qubits, observables.n_observables
    strings, order = [], np.zeros((copies, q), int)
    for setting in observables.settings():
        for copy in range(copies):
            for index in setting:
                order[copy, index] = len(strings)
                before, after = "I" * (copy * k), "I" * ((copies - copy - 1) * k)
                strings.append(before + observables.strings[index] + after)
    return MeasurementEnsemble(copies * k, tuple(strings)), order.reshape(-1)
