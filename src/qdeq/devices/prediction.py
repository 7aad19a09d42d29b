"""What inference and training will cost on a device, from the solver, the adjoint and the circuit.

The prediction lists the submissions that `qdeq.devices` will make: what is counted during a run
that takes the predicted number of solver steps is equal to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, get_args

from qdeq.circuits import MeasuredCircuit
from qdeq.devices.circuit_cost import CircuitCost
from qdeq.devices.cost import Cost, Submission
from qdeq.devices.timing import DeviceTiming
from qdeq.devices.train_recipe import INPUT_RULES
from qdeq.equilibrium import ADJOINTS, SOLVERS, make_adjoint, make_solver
from qdeq.equilibrium.solver import as_solver, builds_inverse
from qdeq.errors import UserError, check_choice, check_count, told
from qdeq.models import ModelFunction
from qdeq.names import Gradient

GRADIENTS = get_args(Gradient)


def combinations() -> list[tuple[str, str]]:
    """The names of solvers and adjoints that go together on a device."""
    return [
        (solver, adjoint)
        for solver in SOLVERS
        for adjoint in ADJOINTS
        if not _Asked.by(solver, adjoint).why_not
    ]


def estimate(
    model: ModelFunction | MeasuredCircuit,
    *,
    solver: str | Any = "broyden",
    adjoint: str | Any = "implicit",
    steps: float = 10,
    layers: int | None = None,
    gradient: str = "parameter-shift",
    input_rule: str = "shift",
    perturbations: int = 1,
    shots: int | None = None,
    gradient_shots: int | None = None,
    scale_factors: Sequence[float] = (1,),
    timing: DeviceTiming | None = None,
) -> Cost:
    """Predict what a model function costs on a device.

    Parameters
    ----------
    model
        A `QuantumModel`, what it measures, or a QNode that `model_function` took, if its circuit
        can be read (`QNodeModel.measured`).
    solver, adjoint
        Names as in `qdeq train`, or objects. What they cost per sample, with k steps, E = 1 + the
        shifts of the encoding rotations and P = 1 + those of the trainable ones:

        - Newton, homotopy, Dogleg, Levenberg-Marquardt: k forward and k E; every other solver: k
          forward.
        - implicit and Neumann: E + P more to train, however many terms or backward steps there are;
          Jacobian-free and SHINE: P; unrolled: (k - 1) E + k P.

        A learned injection needs E for its own gradient: Jacobian-free and SHINE E + P, unrolled
        k (E + P).

        Objects say by their class which of these they are: `uses_jacobian` of a solver,
        `uses_derivatives` and `differentiates_loop` of an adjoint.
    steps
        Solver steps per sample; a mean, such as a run's `solver_steps_mean`, need not be whole.
    layers
        Instead of an equilibrium: direct(L), the circuit applied so many times. L forward; to train
        (L - 1) E + L P more, since every layer has derivatives of its own. (JAX, differentiating
        the compiled loop of `Direct` or `Unrolled`, asks for the first input's E too, although
        that input is the constant m = 0.)
    gradient
        `"parameter-shift"`, or `"spsa"`: P = 1 + 2 `perturbations`, an estimate from so many random
        directions. Derivatives by the input stay exact: (I - J)^-1 needs them so.
    input_rule
        `"shift"`, or `"quadratic"`: E = 1 + 2 q, see `quadratic_jacobian`.
    perturbations
        Of SPSA.
    shots, gradient_shots
        Per circuit and measurement setting, forward and (if they differ) in gradients; None for
        exact expectation values.
    scale_factors
        Of zero-noise extrapolation: every submission is made once per factor, with circuits so many
        times longer. Those beyond the first are for "mitigation".
    timing
        Of the device, for seconds.

    Returns
    -------
    Cost

    Raises
    ------
    UserError
        For an unknown name, numbers below 1, SHINE without Broyden, or an unrolled solver whose
        steps need Jacobians (it would need second derivatives); for a QNode with gates, angles or
        measurements that have no counterpart in a `MeasuredCircuit`.

    References
    ----------
    Schuld et al., Evaluating analytic gradients on quantum hardware, Phys. Rev. A 99, 032331
    (2019), arXiv 1811.11184.

    Examples
    --------
    >>> import jax, qdeq
    >>> model = qdeq.paper_model(4, "angle", key=jax.random.key(0))
    >>> estimate(model, steps=10).training_step(1).by_purpose
    {'forward': 10, 'input gradient': 33, 'parameter gradient': 81}
    """
    asked = _Asked.by(solver, adjoint)
    if asked.why_not and layers is None:
        raise UserError(f"adjoint={adjoint!r} with solver {solver!r}: {asked.why_not}")
    check_numbers(gradient, steps, layers, perturbations, shots, gradient_shots, scale_factors)
    check_choice("input_rule", input_rule, INPUT_RULES)
    circuit = CircuitCost.of(model)
    if input_rule == "quadratic":
        circuit = replace(circuit, encoding_shifts=2 * model.n_observables)
    injection = getattr(model, "injection", None)
    learned = injection is not None and bool(injection.learned)
    plan = Plan(circuit, gradient, perturbations, shots, gradient_shots or shots, learned)
    if layers is not None:
        forward, backward = plan.evaluations(layers), plan.unrolled(layers)
        return mitigated(Cost(circuit, forward, backward, timing), scale_factors)
    forward = plan.evaluations(steps)
    if asked.steps_with_jacobian:
        forward += plan.jacobians(steps)
    if asked.is_unrolled:
        backward = plan.unrolled(steps)
    elif asked.input_gradient or learned:
        backward = (plan.input_gradient, plan.parameter_gradient)
    else:
        backward = (plan.parameter_gradient,)
    return mitigated(Cost(circuit, forward, backward, timing), scale_factors)


def check_numbers(
    gradient: str,
    steps: float,
    layers: int | None,
    perturbations: int,
    shots: int | None,
    gradient_shots: int | None,
    scale_factors: Sequence[float],
) -> None:
    """Raise `UserError` for an unknown gradient or numbers below 1."""
    check_choice("gradient", gradient, GRADIENTS)
    counts: dict[str, Any] = {"steps": steps, "layers": layers, "perturbations": perturbations}
    counts |= {"shots": shots, "gradient_shots": gradient_shots}
    for name, count in counts.items():
        if name == "steps":
            if not _is_number(count) or not 1 <= count < math.inf:
                raise UserError(f"{name}={count}: give a number of at least 1")
        elif count is not None:
            check_count(name, count)
    factors = scale_factors if isinstance(scale_factors, Iterable) else ()
    if not factors or not all(_is_number(f) and 1 <= f < math.inf for f in factors):
        raise UserError(
            f"scale_factors={told(scale_factors)}: give numbers of at least 1, such as 1, 3"
        )
    if len(set(scale_factors)) < len(scale_factors):
        raise UserError(
            f"scale_factors={scale_factors!r}: extrapolation takes every factor once, such as 1, 3"
        )


def _is_number(value: Any) -> bool:
    # A mean is often an array without axes.
    return isinstance(value, Real) or (getattr(value, "ndim", None) == 0 and value.dtype != object)


@dataclass(frozen=True)
class _Asked:
    """What a solver and an adjoint ask a device for, and why they cannot where they cannot."""

    steps_with_jacobian: bool
    is_unrolled: bool
    input_gradient: bool
    why_not: str = ""

    @classmethod
    def by(cls, solver: Any, adjoint: Any) -> _Asked:
        found, made = make_adjoint(adjoint), as_solver(make_solver(solver))
        why_not = ""
        if found.needs_inverse and not builds_inverse(made):
            why_not = "it reuses the inverse that Broyden's method builds, set solver to 'broyden'"
        elif found.differentiates_loop and made.uses_jacobian:
            why_not = (
                "its steps hold Jacobians, whose own derivatives no device is asked for; choose "
                "picard, anderson or broyden"
            )
        return cls(
            steps_with_jacobian=made.uses_jacobian,
            is_unrolled=found.differentiates_loop,
            input_gradient=found.uses_derivatives,
            why_not=why_not,
        )


def mitigated(cost: Cost, scale_factors: Sequence[float]) -> Cost:
    """Every submission once per scale factor of zero-noise extrapolation."""

    def repeated(submissions: tuple[Submission, ...]) -> tuple[Submission, ...]:
        found = []
        for submission in submissions:
            for number, factor in enumerate(scale_factors):
                purpose = "mitigation" if number else submission.purpose
                found.append(replace(submission, purpose=purpose, length=factor))
        return tuple(found)

    return replace(cost, forward=repeated(cost.forward), gradient=repeated(cost.gradient))


@dataclass(frozen=True)
class Plan:
    """The submissions that solves and gradients are made of."""

    circuit: CircuitCost
    gradient: str
    perturbations: int
    shots: int | None
    gradient_shots: int | None
    learns_injection: bool

    @property
    def input_gradient(self) -> Submission:
        shifted = self.circuit.encoding_shifts
        return Submission(1 + shifted, "input gradient", self.gradient_shots)

    @property
    def parameter_gradient(self) -> Submission:
        spsa = self.gradient == "spsa"
        shifted = 2 * self.perturbations if spsa else self.circuit.parameter_shifts
        return Submission(1 + shifted, "parameter gradient", self.gradient_shots)

    def evaluations(self, steps: float) -> tuple[Submission, ...]:
        return _repeated(Submission(1, "forward", self.shots), steps)

    def jacobians(self, steps: float) -> tuple[Submission, ...]:
        return _repeated(self.input_gradient, steps)

    def unrolled(self, steps: float) -> tuple[Submission, ...]:
        """Derivatives of every application; of the first one's m = 0 only the injection's."""
        by_input = steps if self.learns_injection else steps - 1
        parameters = _repeated(self.parameter_gradient, steps)
        return parameters + _repeated(self.input_gradient, by_input)


def _repeated(once: Submission, steps: float) -> tuple[Submission, ...]:
    """Full steps of every sample, then one of those samples that need one more."""
    whole = math.floor(steps)
    rest = steps - whole
    full = (replace(once, times=whole),) if whole > 0 else ()
    return full + ((replace(once, circuits=rest * once.circuits),) if rest > 0 else ())
