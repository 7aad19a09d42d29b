"""Readout correction: measures how often bits are misread, and inverts that."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from qdeq.circuits import Circuit, MeasurementEnsemble, Operation, z_of_every_wire
from qdeq.circuits.noise import ReadoutError
from qdeq.devices.executor import Executor, executor_by
from qdeq.devices.mitigation.mitigation import Mitigation
from qdeq.errors import UserError, told

# Below this, 1 - p01 - p10 is indistinguishable from a coin's and inverting it gives noise.
_LEAST_CONTRAST = 0.05


class ReadoutCorrection(Mitigation):
    """Removes readout errors from the expectation values of another executor.

    Two calibration circuits, all wires |0> and all wires |1>, give each wire's confusion matrix;
    its inverse, a tensor product over the wires, is applied to every string. What that needs, the
    strings with some letters left out, is read from the same shots: mitigated submissions cost no
    execution more than others. The calibration runs before the first submission and is charged to
    the purpose "mitigation".

    Parameters
    ----------
    make
        ``make(circuit, observables)`` returns the executor of a circuit on the noisy device; all
        with one and the same ledger.
    circuit, observables
        What is run, see `Executor`.
    calibration_shots
        Shots of each calibration circuit; the executor's own when None. Their error does not
        average out over a batch: take many.
    readout
        A known error per wire; then nothing is calibrated.

    Attributes
    ----------
    readout
        The errors per wire, None before they are calibrated.

    Raises
    ------
    UserError
        For a number of errors other than wires, if `make` returns no executor of what it was given
        or copies side by side, which have errors of their own (pack around the correction instead),
        if the executors have different ledgers, and when calibrated: if a wire's outcome says next
        to nothing about its state.

    Notes
    -----
    Corrected values are unbiased, not clipped to [-1, 1], and have more variance: each wire of a
    string multiplies it by about 1 / (1 - p01 - p10)^2. Errors that depend on other wires are not
    seen; those of the X gates that prepare |1> are taken for readout errors. Where a device chooses
    its qubits anew for every circuit, as Qiskit's transpiler does, calibrate in its own executor.

    References
    ----------
    Bravyi et al., Mitigating measurement errors in multiqubit experiments, Phys. Rev. A 103, 042605
    (2021), arXiv 2006.14044: the tensored model.

    Examples
    --------
    >>> from qdeq.circuits import NoiseModel
    >>> from qdeq.devices import SimulatorExecutor
    >>> from qdeq.devices import Ledger
    >>> noise, ledger = NoiseModel(readout=ReadoutError(0.05, 0.1)), Ledger()
    >>> def make(circuit, observables):
    ...     return SimulatorExecutor(circuit, observables, noise=noise, ledger=ledger)
    >>> turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    >>> corrected = ReadoutCorrection(make, turn, z_of_every_wire(1))
    >>> raw, better = make(turn, z_of_every_wire(1))([[0.0]]), corrected([[0.0]])
    >>> f"{raw[0, 0]:.2f} {better[0, 0]:.2f}"
    '0.90 1.00'
    >>> ledger.by_purpose
    {'forward': 2, 'mitigation': 2}
    """

    def __init__(
        self,
        make: Callable[[Circuit, MeasurementEnsemble], Executor],
        circuit: Circuit,
        observables: MeasurementEnsemble,
        *,
        calibration_shots: int | None = None,
        readout: Sequence[ReadoutError] | None = None,
    ):
        n = circuit.n_qubits
        if readout is not None:
            if isinstance(readout, ReadoutError) or not all(
                isinstance(error, ReadoutError) for error in readout
            ):
                raise UserError(
                    f"readout={told(readout)}: give a ReadoutError(p01, p10) for each of {n} wires"
                )
            if len(readout) != n:
                raise UserError(
                    f"readout has {len(readout)} errors: give one for each of {n} wires"
                )
        # The ensemble's own strings come first, so that each of the others joins the setting of the
        # string that it is a part of.
        parts = (part for string in observables.strings for part in _parts(string))
        strings = tuple(dict.fromkeys([*observables.strings, *parts]))
        self._inner = executor_by(make, circuit, MeasurementEnsemble(n, strings))
        if readout is None and self._inner.copies > 1:
            raise UserError(
                f"make returned {self._inner.name}, and every copy is read by qubits of its own: "
                "correct the wide circuit, PackedExecutor(lambda circuit, observables: "
                "ReadoutCorrection(make, circuit, observables), ...), or give readout=... if all "
                "copies are read alike"
            )
        super().__init__(circuit, observables, [self._inner], name="readout correction")
        self._make = make
        self._calibration_shots = calibration_shots
        self.readout = None if readout is None else tuple(readout)

    @property
    def n_settings(self) -> int:
        """Measurement settings per circuit: those of the uncorrected ensemble."""
        return self._inner.n_settings

    def prepare(self, shots: int | None) -> None:
        """Calibrate if that was not done; see `Executor.prepare`."""
        super().prepare(shots)
        if self.readout is None:
            self.calibrate()

    def calibrate(self) -> tuple[ReadoutError, ...]:
        """Measure the readout errors anew: two executions, charged to "mitigation"."""
        n = self.circuit.n_qubits
        found = []
        for flips in ((), tuple(Operation("X", (wire,)) for wire in range(n))):
            executor = executor_by(self._make, Circuit(n, flips), z_of_every_wire(n))
            if executor.ledger is not self.ledger:
                raise UserError(
                    "the executors have different ledgers: give every one of them the same "
                    "ledger=..."
                )
            shots = self._calibration_shots
            found.append(executor(np.zeros((1, 0)), purpose="mitigation", shots=shots)[0])
        up, down = np.clip(found, -1, 1)
        self.readout = tuple(
            ReadoutError(float((1 - a) / 2), float((1 + b) / 2))
            for a, b in zip(up, down, strict=True)
        )
        return self.readout

    def mitigate(
        self, angles: np.ndarray, measure: Callable[[Executor, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Calibrate if that was not done, measure and correct; see `Mitigation.mitigate`."""
        errors = self.calibrate() if self.readout is None else self.readout
        return self._correct(measure(self._inner, angles), errors)

    def _correct(self, measured: np.ndarray, errors: Sequence[ReadoutError]) -> np.ndarray:
        """From the strings of the larger ensemble to those that were asked for.

        A misread wire reports Z' = offset + contrast Z on average, so the true product of a string
        is the average of the product of (Z' - offset) / contrast over its wires.
        """
        column = {string: k for k, string in enumerate(self._inner.observables.strings)}
        corrected = np.zeros((len(measured), self.observables.n_observables))
        for k, string in enumerate(self.observables.strings):
            wires = [wire for wire, letter in enumerate(string) if letter != "I"]
            contrasts = [1 - errors[wire].p01 - errors[wire].p10 for wire in wires]
            for wire, contrast in zip(wires, contrasts, strict=True):
                if abs(contrast) < _LEAST_CONTRAST:
                    raise UserError(
                        f"wire {wire} reads 0 as 1 with probability {errors[wire].p01:.2f} and 1 "
                        f"as 0 with {errors[wire].p10:.2f}: its outcome says next to nothing, "
                        "measure other wires"
                    )
            for part in dict.fromkeys((string, *_parts(string), "I" * len(string))):
                left_out = [wire for wire in wires if part[wire] == "I"]
                weight = np.prod([errors[wire].p01 - errors[wire].p10 for wire in left_out])
                value = measured[:, column[part]] if part in column else 1.0
                corrected[:, k] += weight * value / np.prod(contrasts)
        return corrected


def _parts(string: str) -> list[str]:
    """The string with some, but neither all nor none, of its letters replaced by I."""
    wires = [wire for wire, letter in enumerate(string) if letter != "I"]
    return [
        "".join("I" if wire in left_out else letter for wire, letter in enumerate(string))
        for size in range(1, len(wires))
        for left_out in itertools.combinations(wires, size)
    ]
