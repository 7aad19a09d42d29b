"""Predicted submissions, and their sums as ledgers: for a solve, a training step, a training.

Which submissions a solver and an adjoint need is decided in `prediction.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdeq.devices.circuit_cost import CircuitCost
from qdeq.devices.ledger import ROUNDING, Budget, Ledger
from qdeq.devices.timing import DeviceTiming, circuit_seconds, shot_seconds
from qdeq.errors import UserError, check_count


@dataclass(frozen=True)
class Submission:
    """One submission to a device, or several that are alike.

    Attributes
    ----------
    circuits
        Circuits per sample of the batch; below 1 where only a part of the samples still iterates.
    purpose
        One of `qdeq.devices.PURPOSES`.
    shots
        Per circuit and measurement setting; None for exact expectation values.
    length
        How many times longer than the program its circuits are, where noise is scaled.
    times
        How many such submissions there are, one after the other.
    """

    circuits: float
    purpose: str
    shots: int | None
    length: float = 1
    times: int = 1


@dataclass(frozen=True)
class Cost:
    """What a model function costs on a device with one solver and one adjoint, or as direct(L).

    Make one with `estimate`.

    Attributes
    ----------
    circuit
        Of one application.
    forward, gradient
        Submissions that find the measured states of a batch, and that differentiate them.
    timing
        Of the device, for seconds; without one they stay 0.
    copies
        Circuits side by side in one execution, see `qdeq.devices.PackedExecutor`.
    """

    circuit: CircuitCost
    forward: tuple[Submission, ...]
    gradient: tuple[Submission, ...]
    timing: DeviceTiming | None = None
    copies: int = 1

    @property
    def executions_per_inference(self) -> float:
        """Of one sample, on average: with a mean number of steps it need not be whole.

        Copies side by side are taken to be filled, as they are by many samples.
        """
        circuits = sum(part.circuits * part.times for part in self.forward) / self.copies
        return self.circuit.settings * circuits

    def inference(self, n_samples: int = 1, *, batch_size: int | None = None) -> Ledger:
        """Predict the solves of `n_samples`, `batch_size` at a time (all at once if None)."""
        return self._ledger(self.forward, n_samples, batch_size)

    def gradients(self, n_samples: int = 1, *, batch_size: int | None = None) -> Ledger:
        """Predict the gradients of `n_samples` alone, without their solves."""
        return self._ledger(self.gradient, n_samples, batch_size)

    def training_step(self, batch_size: int) -> Ledger:
        """Predict one optimiser step on a batch: the solves and their gradients."""
        return self._ledger(self.forward + self.gradient, batch_size, None)

    def training(self, n_samples: int, *, batch_size: int, epochs: int = 1) -> Ledger:
        """Predict training with `n_samples`, whose last batch may be smaller; no validation.

        `train_on_device` makes whole batches only: N steps are `n_samples=N * batch_size`.
        """
        check_count("epochs", epochs)
        return self._ledger(self.forward + self.gradient, n_samples, batch_size, epochs)

    def _ledger(
        self,
        submissions: tuple[Submission, ...],
        n_samples: int,
        batch_size: int | None,
        epochs: int = 1,
    ) -> Ledger:
        batch_size = n_samples if batch_size is None else batch_size
        check_count("n_samples", n_samples)
        check_count("batch_size", batch_size)
        ends = np.minimum(np.arange(0, n_samples + batch_size, batch_size), n_samples)
        timing, program = self.timing, self.circuit.program
        ledger = Ledger(timing=timing)
        observables = self.circuit.observables
        shot = gates = 0.0
        if timing is not None:
            shot = shot_seconds(timing, program.circuit, observables)
            gates = self.circuit.settings * circuit_seconds(timing, program.circuit)
        for submission in submissions:
            # Rounded cumulatively, so that batches of any size add up to the same total.
            circuits = np.diff(np.round(submission.circuits * ends)).astype(int)
            circuits = -(-circuits // self.copies)
            times = submission.times * int(epochs)
            total = int(circuits.sum()) * times
            submitted = int(np.count_nonzero(circuits)) * times
            executions, shots = total * self.circuit.settings, int(submission.shots or 0)
            seconds = 0.0 if timing is None else submitted * timing.submission
            ledger.merge(
                Ledger(
                    executions=executions,
                    shots=executions * shots,
                    submissions=submitted,
                    by_purpose={submission.purpose: executions},
                    seconds=seconds + total * shots * (shot + (submission.length - 1) * gates),
                )
            )
        return ledger


def largest_number(unit: Ledger, budget: Budget) -> int:
    """How many times a predicted expense fits into a budget.

    Examples
    --------
    >>> unit = Ledger(executions=124, shots=124_000)
    >>> largest_number(unit, Budget(executions=1_000, shots=500_000))
    4

    Raises
    ------
    UserError
        When the budget limits none of what the expense consists of.
    """
    numbers = []
    for name in ("executions", "shots", "seconds"):
        limit, needed = getattr(budget, name), getattr(unit, name)
        if limit is not None and needed > 0:
            # A limit that is a whole number of units must not lose one to rounding.
            exact = name != "seconds"
            numbers.append(int(limit // needed if exact else limit / needed * (1 + ROUNDING)))
    if not numbers:
        raise UserError(
            "the budget limits nothing that is spent: give executions, or shots or seconds where "
            "they are predicted"
        )
    return min(numbers)
