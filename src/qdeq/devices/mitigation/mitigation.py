"""The contract of a mitigation: an executor whose values are made of what others measure."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.devices.executor import Executor
from qdeq.errors import UserError


class Mitigation(Executor):
    """Asks other executors and makes better values of what they measure.

    A subclass implements `mitigate`; it then stands wherever an executor does: in
    `solve_on_device`, `train_on_device`, `DeviceFunction`, and around or inside other mitigations.
    The executors inside charge their common ledger, retry and have timeouts; nothing is charged
    twice.

    Parameters
    ----------
    circuit, observables
        What is run, see `Executor`.
    executors
        What is asked, one or more with one and the same ledger. The first gives the number of shots
        and, in messages, its name.
    name
        What the method is called in messages; the class's name when None.

    Attributes
    ----------
    executors
        As given.
    scale_factors
        Relative lengths of the circuits run for each one asked for, `(1,)` unless a subclass says
        otherwise, times those of the executors inside: `train_on_device` predicts with it whether a
        step fits into the budget.

    Raises
    ------
    UserError
        Without an executor, and if they have different ledgers.

    Examples
    --------
    The mean of two devices, whose systematic errors differ:

    >>> import numpy as np
    >>> from qdeq.circuits import Circuit, NoiseModel, Operation, ReadoutError, z_of_every_wire
    >>> from qdeq.devices import Ledger, SimulatorExecutor
    >>> class Mean(Mitigation):
    ...     scale_factors = (1, 1)  # two circuits for one
    ...
    ...     def mitigate(self, angles, measure):
    ...         return np.mean([measure(each, angles) for each in self.executors], axis=0)
    >>> turn, z = Circuit(1, (Operation("RY", (0,), parameter=0),)), z_of_every_wire(1)
    >>> ledger = Ledger()
    >>> devices = [
    ...     SimulatorExecutor(turn, z, noise=NoiseModel(readout=error), ledger=ledger)
    ...     for error in (ReadoutError(0.0, 0.1), ReadoutError(0.1, 0.0))
    ... ]
    >>> mean = Mean(turn, z, devices)
    >>> [round(float(device([[np.pi / 2]])[0, 0]), 3) for device in (*devices, mean)]
    [0.1, -0.1, 0.0]
    >>> ledger.by_purpose
    {'forward': 3, 'mitigation': 1}
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: MeasurementEnsemble,
        executors: Sequence[Executor],
        *,
        name: str | None = None,
    ):
        if not executors:
            raise UserError("executors is empty: give the executors that are to be mitigated")
        first = executors[0]
        if any(executor.ledger is not first.ledger for executor in executors):
            raise UserError(
                "the executors have different ledgers: give every one of them the same ledger=..."
            )
        super().__init__(
            circuit,
            observables,
            shots=first.shots,
            ledger=first.ledger,
            name=f"{type(self).__name__ if name is None else name} on {first.name}",
        )
        self.executors = tuple(executors)
        self.scale_factors = tuple(
            own * inner for own in self.scale_factors for inner in first.scale_factors
        )
        self.copies, self.folded_length = first.copies, first.folded_length

    @abc.abstractmethod
    def mitigate(
        self, angles: np.ndarray, measure: Callable[[Executor, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Better expectation values at every row of angles.

        Parameters
        ----------
        angles
            `(B, S)` float64 radians, finite, B at least 1.
        measure
            ``measure(executor, rows)`` gives the expectation values of an executor inside, in one
            submission, with the shots that were asked for. What is measured first is charged to
            the purpose of the call, the rest to "mitigation".

        Returns
        -------
        ndarray
            `(B, q)`.
        """

    def prepare(self, shots: int | None) -> None:
        """Prepare all executors inside; see `Executor.prepare`."""
        for executor in self.executors:
            executor.prepare(shots)

    def run(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        """Mitigate without charging the ledger; see `Executor.run`."""
        return self.mitigate(angles, lambda executor, rows: executor.run(rows, shots))

    def _call(self, angles: np.ndarray, purpose: str, shots: int | None) -> np.ndarray:
        angles, shots = self._checked(angles, shots)
        if not len(angles):
            return np.zeros((0, self.observables.n_observables))
        purposes = itertools.chain([purpose], itertools.repeat("mitigation"))

        def measure(executor: Executor, rows: np.ndarray) -> np.ndarray:
            return executor(rows, purpose=next(purposes), shots=shots)

        values = np.asarray(self.mitigate(angles, measure), dtype=np.float64)
        expected = (len(angles), self.observables.n_observables)
        if values.shape != expected:
            raise UserError(
                f"{type(self).__name__}.mitigate returned an array of shape {values.shape}: give "
                f"one of shape {expected}, a row for every row of angles"
            )
        return values
