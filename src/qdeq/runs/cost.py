"""What a finished run's solves and gradients would have cost on a device, from what it counted.

A simulated run counts its solver steps; derivatives cost it nothing to count, because it gets them
otherwise. Here both become circuit executions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdeq.circuits import MeasuredCircuit
from qdeq.devices.cost import Cost, Submission
from qdeq.devices.ledger import Ledger
from qdeq.devices.prediction import estimate
from qdeq.devices.timing import DeviceTiming
from qdeq.models import ModelFunction
from qdeq.runs.circuit import circuit_of

if TYPE_CHECKING:
    from qdeq.training.config import TrainConfig


@dataclass(frozen=True)
class RunCost:
    """Circuit executions of a training run, its validation not included.

    Attributes
    ----------
    solves
        The forward passes.
    gradients
        By the chosen rule, one Jacobian of a kind per sample and application.
    penalty
        What the exact gradient of the Jacobian penalty would add: every circuit that is shifted in
        the input, shifted once more in the angles. It exceeds all the rest by far, so training on a
        device does without, and it is not part of `training`. Never mitigated.
    """

    solves: Ledger
    gradients: Ledger
    penalty: Ledger

    @property
    def training(self) -> Ledger:
        """Solves and gradients together."""
        total = Ledger(timing=self.solves.timing)
        total.merge(self.solves)
        total.merge(self.gradients)
        return total


def run_cost(
    model: ModelFunction | MeasuredCircuit,
    config: TrainConfig,
    history: Iterable[Mapping[str, Any]],
    *,
    gradient: str = "parameter-shift",
    perturbations: int = 1,
    shots: int | None = None,
    gradient_shots: int | None = None,
    scale_factors: Sequence[float] = (1,),
    timing: DeviceTiming | None = None,
) -> RunCost:
    """Count what a run would have executed on a device.

    Parameters
    ----------
    model
        That the configuration trains; `qdeq.runs.circuit.circuit_of` gives it, unless it is one's
        own.
    config
        Of the run.
    history
        Its metrics, one mapping per epoch with `phase`, `circuit_executions` (evaluations of the
        model function) and `solver_steps_mean`.
    gradient, perturbations, shots, gradient_shots, scale_factors, timing
        As in `estimate`.

    Raises
    ------
    UserError
        Where `estimate` has no prediction.
    """
    options: dict[str, Any] = {
        "gradient": gradient,
        "perturbations": perturbations,
        "shots": shots,
        "gradient_shots": gradient_shots,
        "scale_factors": scale_factors,
        "timing": timing,
    }
    cost = RunCost(*(Ledger(timing=timing) for _ in range(3)))
    for metrics in history:
        steps = metrics["solver_steps_mean"]
        if not steps:  # None where a run has diverged: nothing is known of its steps
            continue
        # Every sample of the training split was solved once, in `steps` evaluations on average.
        evaluations = metrics["circuit_executions"]
        n_samples = max(1, round(evaluations / steps))
        steps = evaluations / n_samples  # without the mean's rounding error
        found = phase_cost(model, config, metrics["phase"], steps, **options)
        cost.solves.merge(found.inference(n_samples, batch_size=config.batch_size))
        cost.gradients.merge(found.gradients(n_samples, batch_size=config.batch_size))
        if metrics["phase"] == "implicit" and config.jacobian_weight > 0:
            shifts = found.circuit.encoding_shifts * found.circuit.parameter_shifts
            second = Submission(shifts, "parameter gradient", gradient_shots or shots)
            alone = Cost(found.circuit, (), (second,), timing)
            cost.penalty.merge(alone.gradients(n_samples, batch_size=config.batch_size))
    return cost


def phase_cost(
    model: ModelFunction | MeasuredCircuit,
    config: TrainConfig,
    phase: str,
    steps: float,
    **options: Any,
) -> Cost:
    """The prediction for one phase of a run: `"implicit"`, or `"direct"`, warm-up included.

    Parameters
    ----------
    model, config
        As in `run_cost`.
    phase
        As in the metrics.
    steps
        Solver steps per sample; a direct phase has as many as layers.
    options
        Of `estimate`.
    """
    if phase == "direct":
        return estimate(model, layers=round(steps), **options)
    config = config.given_again()
    return estimate(model, solver=config.solver, adjoint=config.adjoint, steps=steps, **options)


def executions_per_sample(config: TrainConfig, steps: float) -> float:
    """Circuits that training runs for a sample: its solve in so many steps, and its gradient.

    Parameters
    ----------
    config
        Of the run, without warm-up.
    steps
        Solver steps; in mode direct as many as layers.
    """
    cost = phase_cost(circuit_of(config), config, config.mode, steps)
    return cost.inference(1).executions + cost.gradients(1).executions
