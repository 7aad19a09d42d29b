"""How long a device takes: seconds per gate, readout, reset and submission, and of whole circuits.

Stated assumptions, not measurements of a machine: replace them by those of the device at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from qdeq.errors import UserError, check_amount, check_choice, check_kind

if TYPE_CHECKING:
    from qdeq.circuits import Circuit, MeasurementEnsemble


@dataclass(frozen=True)
class DeviceTiming:
    """Seconds that the parts of a shot and a submission take.

    A shot takes the longest path through the circuit's gates, then one readout (of all wires at
    once) and one reset; shots and circuits run one after the other. A submission costs its overhead
    once: compilation, loading and the way to the device and back, without the queue.

    Parameters
    ----------
    one_qubit_gate, two_qubit_gate
        Seconds per gate on one wire, and per gate on two or more.
    readout, reset
        Seconds per shot for measuring, and for preparing the start state again.
    submission
        Seconds per submission.

    Raises
    ------
    UserError
        For a time that is negative or not finite.

    Examples
    --------
    >>> TIMINGS["superconducting"].replace(submission=10.0).submission
    10.0
    """

    one_qubit_gate: float
    two_qubit_gate: float
    readout: float
    reset: float
    submission: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_amount(name, value, otherwise=", in seconds")
            object.__setattr__(self, name, float(value))  # a plain number, which JSON has

    def replace(self, **changes: Any) -> DeviceTiming:
        """Return a copy with some times changed, checked like a new one."""
        return replace(self, **changes)


TIMINGS = {
    # Medians of IBM's Heron as in qiskit-ibm-runtime's snapshot `fake_torino`: SX, CZ, measurement;
    # reset is that device's default delay between two shots, which outweighs all the rest.
    "superconducting": DeviceTiming(
        one_qubit_gate=3.2e-8, two_qubit_gate=6.8e-8, readout=1.6e-6, reset=2.5e-4, submission=2.0
    ),
    # Gates of IonQ's Aria, readout and reset of its Harmony, from the tables of Azure Quantum's
    # page on the provider. Cooling and transport are not in them: raise `reset` for these.
    "trapped-ion": DeviceTiming(
        one_qubit_gate=1.35e-4, two_qubit_gate=6e-4, readout=1e-4, reset=2.5e-5, submission=2.0
    ),
    # Orders of magnitude only: Rydberg gates take below a microsecond, but an image of the atoms
    # takes milliseconds and loading them anew some tenths of a second (arXiv 2304.14360).
    "neutral-atom": DeviceTiming(
        one_qubit_gate=1e-6, two_qubit_gate=5e-7, readout=1e-2, reset=2e-1, submission=2.0
    ),
}
"""Presets of three kinds of device, each from the source named beside it; the two seconds for a
submission are an assumption in all of them, queues excluded."""


def parse_timing(text: str) -> DeviceTiming:
    """Read a timing from text: a preset of `TIMINGS`, with times of one's own after it.

    Parameters
    ----------
    text
        A preset's name, then `name=seconds` for what differs, separated by commas. Without a
        preset all five times must be given.

    Raises
    ------
    UserError
        For an unknown name, or a time that is missing or not allowed.

    Examples
    --------
    >>> parse_timing("superconducting,reset=2e-6,submission=0").reset
    2e-06
    """
    check_kind("device", text, str, "a text such as 'superconducting'")
    preset, *rest = [part.strip() for part in text.split(",")]
    if "=" in preset:
        preset, rest = "", [preset, *rest]
    else:
        check_choice("device", preset, TIMINGS)
    names = [field.name for field in fields(DeviceTiming)]
    given: dict[str, float] = {}
    for part in rest:
        name, _, value = (piece.strip() for piece in part.partition("="))
        check_choice("device", name, names)
        try:
            given[name] = float(value)
        except ValueError:
            raise UserError(f"device={part!r}: give {name} as a number of seconds") from None
    missing = [name for name in names if name not in given]
    if preset:
        return TIMINGS[preset].replace(**given)
    if missing:
        raise UserError(
            f"device={text!r} lacks {', '.join(missing)}: give all times, or start with one of "
            f"{', '.join(TIMINGS)}"
        )
    return DeviceTiming(**given)


def circuit_seconds(timing: DeviceTiming, circuit: Circuit, basis: str = "") -> float:
    """Seconds of one run of a circuit's gates: its longest path, measurement excluded.

    Parameters
    ----------
    timing
        Of the device.
    circuit
        Its operations start as soon as their wires are free.
    basis
        The letters that the wires are measured in (`MeasurementEnsemble.basis`): X and Y take one
        more one-qubit gate on their wire.

    Examples
    --------
    >>> from qdeq.circuits import Circuit, Operation
    >>> bell = Circuit(2, (Operation("H", (0,)), Operation("CNOT", (0, 1))))
    >>> circuit_seconds(DeviceTiming(1.0, 5.0, 0.0, 0.0, 0.0), bell)
    6.0
    """
    ready = [0.0] * circuit.n_qubits
    for operation in circuit.operations:
        gate = timing.one_qubit_gate if len(operation.wires) == 1 else timing.two_qubit_gate
        end = max(ready[wire] for wire in operation.wires) + gate
        for wire in operation.wires:
            ready[wire] = end
    for wire, letter in enumerate(basis):
        if letter in "XY":
            ready[wire] += timing.one_qubit_gate
    return max(ready)


def shot_seconds(timing: DeviceTiming, circuit: Circuit, observables: MeasurementEnsemble) -> float:
    """Seconds of one shot in every measurement setting: gates, readout and reset of each."""
    total = 0.0
    for setting in observables.settings():
        total += circuit_seconds(timing, circuit, observables.basis(setting))
        total += timing.readout + timing.reset
    return total


def submission_seconds(
    timing: DeviceTiming,
    circuit: Circuit,
    observables: MeasurementEnsemble,
    n_circuits: int,
    shots: int | None,
    length: float = 1,
) -> float:
    """Seconds of one submission of a circuit with `n_circuits` rows of angles.

    Parameters
    ----------
    timing
        Of the device.
    circuit, observables
        What every row runs, and what is measured: every setting is a run of its own.
    n_circuits
        Rows of angles.
    shots
        Per row and setting; None (exact expectation values) takes only the overhead.
    length
        How many times longer than the circuit what runs is, where noise is scaled.
    """
    if shots is None:
        return timing.submission
    gates = len(observables.settings()) * circuit_seconds(timing, circuit)
    shot = shot_seconds(timing, circuit, observables) + (length - 1) * gates
    return timing.submission + n_circuits * shots * shot
