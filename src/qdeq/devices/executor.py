"""The contract of a device: many rows of angles for one circuit in, expectation values out.

Simulators and interfaces to other packages' devices implement `Executor.run`; checks, accounting
and errors are here, once for all of them. What asks other executors is a `Mitigation`.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qdeq._vectors import lost_in_reals
from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.circuits.circuit import check_circuit
from qdeq.devices.ledger import Ledger
from qdeq.errors import UserError, check_amount, check_count, told
from qdeq.simulation.sampling import check_shots


class DeviceError(UserError):
    """A device failed, timed out or answered nonsense; its own error is the `__cause__`.

    Attributes
    ----------
    state
        What a host loop had measured before, to be handed back to it; None from an executor alone.
    """

    state: Any = None


def angle_rows(circuit: Circuit, angles: Any) -> np.ndarray:
    """Rows of a circuit's angles ``(B, S)`` as float64, whatever holds them.

    Raises
    ------
    UserError
        For another shape, complex or masked numbers, or what is no numbers.
    """
    if lost := lost_in_reals(angles):
        raise UserError(f"angles are {lost}: give real numbers, radians")
    try:
        rows = np.asarray(angles, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"angles: {error}; give real numbers, radians") from None
    n_slots = circuit.n_parameters
    if rows.ndim != 2 or rows.shape[1] != n_slots:
        raise UserError(
            f"angles has shape {rows.shape}: the circuit has {n_slots} angles, give an "
            f"array of shape (rows, {n_slots})"
        )
    return rows


def check_slots(circuit: Circuit, slots: Sequence[int]) -> list[int]:
    """Slots of a circuit's angles by which to differentiate, each once.

    Raises
    ------
    UserError
        For what is no slot, and for one that is there twice.
    """
    every = range(circuit.n_parameters)
    for slot in slots:
        if slot not in every:
            raise UserError(f"slots: {told(slot)} is no slot: give some of 0 to {len(every) - 1}")
    chosen = [int(slot) for slot in slots]
    if len(set(chosen)) < len(chosen):
        raise UserError(f"slots={told(chosen)}: a slot is there twice, give each once")
    return chosen


def as_item(value: Any) -> Any:
    """The number in an array without axes, such as a JAX scalar; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def executor_by(
    make: Callable[[Circuit, MeasurementEnsemble], Any],
    circuit: Circuit,
    observables: MeasurementEnsemble,
) -> Executor:
    """What a user's ``make(circuit, observables)`` returns: an executor of just these two.

    Raises
    ------
    UserError
        For anything else: values of another circuit would be taken for this one's.
    """
    if isinstance(make, Executor) or not callable(make):
        raise UserError(
            f"make={told(make)}: give a function of a circuit and observables that returns their "
            "executor, such as SimulatorExecutor"
        )
    executor = make(circuit, observables)
    if not isinstance(executor, Executor):
        raise UserError(f"make returned {told(executor)}: return an Executor")
    if (executor.circuit, executor.observables) != (circuit, observables):
        raise UserError(
            f"make returned an executor ({executor.name}) of another circuit or other observables "
            "than those that it was given: build it from both of its arguments"
        )
    return executor


class Executor(abc.ABC):
    """Runs one circuit for many rows of angles, each batch of rows as ONE submission.

    A subclass implements `run`; callers use the object like a function.

    Parameters
    ----------
    circuit
        With S = ``circuit.n_parameters`` angles and no features, such as `Program.circuit`.
    observables
        What is measured, q Pauli strings.
    shots
        Per circuit and measurement setting; None for exact expectation values, on devices that
        have them.
    ledger
        Counts what is run and holds the budget; a new one when None.
    name
        Of the device, for messages; the class's name when None.
    timeout
        Seconds that a submission may take; None: as long as the device itself allows.
    retries
        How often a failed submission is repeated. Every attempt is charged: the device may bill
        it.

    Raises
    ------
    UserError
        If circuit and observables do not fit together, or a number is not allowed.
    """

    # Relative lengths of the circuits run for each one asked for: several under mitigation.
    scale_factors: tuple[float, ...] = (1,)
    # How many of them share an execution.
    copies: int = 1
    # How many times longer than `circuit` what runs is: a device that folds what it has compiled.
    folded_length: float = 1

    def __init__(
        self,
        circuit: Circuit,
        observables: MeasurementEnsemble,
        *,
        shots: int | None = None,
        ledger: Ledger | None = None,
        name: str | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ):
        check_circuit(circuit)
        if circuit.n_features:
            raise UserError(
                f"the circuit is fed by {circuit.n_features} features: an executor runs circuits "
                "of angles only, give it Program.of(model).circuit"
            )
        if not isinstance(observables, MeasurementEnsemble):
            raise UserError(
                f"observables={type(observables).__name__}: give a MeasurementEnsemble, such as "
                "qdeq.z_of_every_wire(n_qubits)"
            )
        if observables.n_qubits != circuit.n_qubits:
            raise UserError(
                f"the observables act on {observables.n_qubits} qubits and the circuit on "
                f"{circuit.n_qubits}: give both the same number of qubits"
            )
        check_shots("shots", shots)
        if timeout is not None:
            check_amount("timeout", timeout, above=True, otherwise=" of seconds, or None")
        check_count("retries", retries, 0)
        self.circuit = circuit
        self.observables = observables
        self.shots = None if shots is None else int(shots)
        if ledger is not None and not isinstance(ledger, Ledger):
            raise UserError(f"ledger={told(ledger)}: give a Ledger, or None for a new one")
        self.ledger = Ledger() if ledger is None else ledger
        self.name = type(self).__name__ if name is None else name
        self.timeout = timeout
        self.retries = retries
        # For callers that get an exception second-hand, see `device_errors`.
        self.last_error: UserError | None = None

    @property
    def n_settings(self) -> int:
        """Measurement settings per circuit: executions per row of angles."""
        return len(self.observables.settings())

    def __call__(
        self, angles: np.ndarray, *, purpose: str = "forward", shots: int | None = None
    ) -> np.ndarray:
        """Expectation values at every row of angles.

        Parameters
        ----------
        angles
            `(B, S)` radians.
        purpose
            For the ledger, one of `qdeq.devices.PURPOSES`.
        shots
            Instead of the executor's own; None keeps those.

        Returns
        -------
        ndarray
            `(B, q)` float64.

        Raises
        ------
        BudgetSpent
            If the submission does not fit into the ledger's budget; nothing is run then.
        DeviceError
            If the device fails, takes longer than `timeout`, or returns anything but B x q finite
            numbers.
        UserError
            For angles of another shape, or that are not finite.
        """
        try:
            return self._call(angles, purpose, shots)
        except UserError as error:
            self.last_error = error
            raise

    def prepare(self, shots: int | None) -> None:
        """Run what has to run once before the first submission, such as a calibration.

        Nothing unless a device says otherwise; it charges what it runs. Every call of the executor
        begins with it, and so does `train_on_device`, before it asks what the budget leaves.

        Parameters
        ----------
        shots
            Of the submissions to come, see `run`.
        """
        del shots

    @abc.abstractmethod
    def run(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        """Run the circuit at every row of angles, in one job.

        What a device implements. The arguments have been checked and charged; any exception that
        is not a `UserError` becomes a `DeviceError`.

        Parameters
        ----------
        angles
            `(B, S)` float64 radians, B at least 1.
        shots
            Per circuit and setting; None for exact expectation values.

        Returns
        -------
        ndarray
            `(B, q)`.
        """

    def _checked(self, angles: np.ndarray, shots: int | None) -> tuple[np.ndarray, int | None]:
        angles = angle_rows(self.circuit, angles)
        if not np.isfinite(angles).all():
            row = int(np.argmin(np.isfinite(angles).all(axis=1)))
            raise UserError(
                f"angles has a value that is not finite in row {row}: give finite radians"
            )
        check_shots("shots", shots)
        return angles, self.shots if shots is None else int(shots)

    def _call(self, angles: np.ndarray, purpose: str, shots: int | None) -> np.ndarray:
        angles, shots = self._checked(angles, shots)
        if not len(angles):
            return np.zeros((0, self.observables.n_observables))
        self.prepare(shots)
        shape = (len(angles), self.observables.n_observables)
        return self._submit(self.run, angles, shots, purpose, shape)

    def _submit(
        self,
        run: Callable[[np.ndarray, Any], Any],
        angles: np.ndarray,
        shots: int | None,
        purpose: str,
        shape: tuple[int, ...],
    ) -> np.ndarray:
        """What `run` answers, an array of this shape: charged, in time, and tried again."""

        def charge() -> None:
            self.ledger.charge(
                len(angles),
                self.n_settings,
                shots,
                purpose,
                self.circuit,
                self.observables,
                self.folded_length,
            )

        return self._answer(lambda: run(angles, shots), charge, len(angles), shape)

    def _answer(
        self,
        job: Callable[[], Any],
        charge: Callable[[], None],
        n_circuits: int,
        shape: tuple[int, ...],
    ) -> np.ndarray:
        """What a job answers, an array of this shape; every attempt is charged."""
        for attempts_left in reversed(range(self.retries + 1)):
            charge()
            try:
                return self._attempt(job, n_circuits, shape)
            except DeviceError:
                if not attempts_left:
                    raise
        raise AssertionError("unreachable")

    def _attempt(
        self, job: Callable[[], Any], n_circuits: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        def measured() -> np.ndarray:
            values = self._run_in_time(job)
            if lost_in_reals(values):
                raise TypeError("it returned complex or masked numbers")
            return np.asarray(values, dtype=np.float64)

        doing = f"on a submission of {n_circuits} circuits"
        values = self._guarded(measured, doing)
        if values.shape != shape:
            raise self._failure(
                doing, f"it returned an array of shape {values.shape} in place of {shape}"
            )
        if not np.isfinite(values).all():
            raise self._failure(doing, "it returned values that are not finite")
        return values

    def _guarded(self, work: Callable[[], Any], doing: str) -> Any:
        """What `work` returns; whatever goes wrong in it is a `DeviceError`."""
        try:
            return work()
        except UserError:
            raise  # a mistake of the user's that a device explained, such as a gate that it lacks
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            raise self._failure(doing, f"{type(error).__name__}: {lines[0]}") from error

    def _failure(self, doing: str, why: str) -> DeviceError:
        return DeviceError(
            f"device {self.name} failed {doing} ({why}): what was measured before is kept, see to "
            "the device and continue"
        )

    def _run_in_time(self, job: Callable[[], Any]) -> Any:
        if self.timeout is None:
            return job()
        answer: list[Any] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                answer.append(job())
            except BaseException as error:
                errors.append(error)

        # A daemon: a job that hangs for good must not keep the program from ending.
        thread = threading.Thread(target=work, daemon=True, name=f"job on {self.name}")
        thread.start()
        thread.join(self.timeout)
        if errors:
            raise errors[0]
        if not answer:
            raise TimeoutError(f"no answer within {self.timeout:g} s")
        return answer[0]
