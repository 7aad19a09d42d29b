"""How a training on a device makes its steps, and what one of them can cost.

The steps themselves are in `train_step.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from qdeq.devices.executor import Executor, as_item
from qdeq.devices.ledger import Ledger
from qdeq.equilibrium import AbstractAdjoint, Anderson
from qdeq.equilibrium.solver import Solver
from qdeq.errors import UserError, check_amount, check_choice, check_count
from qdeq.models import QuantumModel
from qdeq.simulation.sampling import check_shots

ESTIMATORS = ("shift", "spsa")
INPUT_RULES = ("shift", "quadratic")
DEVICE_ADJOINTS = ("implicit", "jacobian-free")


@dataclass(frozen=True)
class DeviceRecipe:
    """How a training on a device makes its steps.

    Parameters
    ----------
    batch_size
        Samples per step.
    learning_rate
        Adam's.
    solver, max_steps, tolerance
        Of the equilibria, see `solve_on_device`. A few steps of Anderson's method to within the
        noise cost less than an average and are precise enough for a gradient that is noisy itself.
    adjoint
        `"implicit"`: (I - J)^-1 from a measured Jacobian, ``1 + 2 n_encoding`` circuits a sample;
        `"jacobian-free"`: the identity in its place, at no cost. Or an adjoint object, which is
        given the measured Jacobian if it `uses_derivatives`.
    input_rule
        Of that Jacobian: `"shift"`, or `"quadratic"` for amplitude encoding, exact as well from
        ``1 + 2 q`` circuits a sample, see `quadratic_jacobian`; with a learned injection, whose
        gradient needs the derivative in all of v, only `"shift"`.
    estimator
        Of the derivative in the angles: `"shift"`, exact, ``1 + 2 n_rotations + 4 n_controlled``
        circuits a sample; `"spsa"`, stochastic, ``1 + 2 perturbations`` circuits a sample.
    perturbations, perturbation_size
        Of SPSA, see `spsa_jacobian`.
    shots, gradient_shots
        For equilibria and for Jacobians; None: the executor's own.
    seed
        Of the batches, of dropout and of SPSA. A step's randomness follows from it and the step's
        number alone, so that an interrupted training goes on as if nothing had happened.

    Raises
    ------
    UserError
        For a number or a name that is not allowed.
    """

    batch_size: int = 16
    learning_rate: float = 0.02
    solver: Solver = field(default_factory=Anderson)
    max_steps: int = 15
    tolerance: float | None = None
    adjoint: str | AbstractAdjoint = "implicit"
    input_rule: str = "shift"
    estimator: str = "shift"
    perturbations: int = 1
    perturbation_size: float = 0.2
    shots: int | None = None
    gradient_shots: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "perturbations"):
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "perturbation_size"):
            check_amount(name, as_item(getattr(self, name)), above=True)
        if self.tolerance is not None:
            check_amount("tolerance", as_item(self.tolerance))
        check_count("seed", self.seed, 0)
        for name in ("shots", "gradient_shots"):
            check_shots(name, getattr(self, name))
        if isinstance(self.adjoint, str):
            check_choice("adjoint", self.adjoint, DEVICE_ADJOINTS)
        elif not isinstance(self.adjoint, AbstractAdjoint):
            raise UserError(
                f"adjoint={self.adjoint!r}: on a device give 'implicit', 'jacobian-free', or an "
                "adjoint object that is an AbstractAdjoint, such as Neumann()"
            )
        check_choice("input_rule", self.input_rule, INPUT_RULES)
        check_choice("estimator", self.estimator, ESTIMATORS)


def check_recipe(recipe: DeviceRecipe, model: QuantumModel) -> None:
    """Raise `UserError` where steps of this kind cannot train the model."""
    if recipe.input_rule == "quadratic" and model.injection.learned:
        raise UserError(
            "input_rule='quadratic' measures derivatives by the measured state alone and the model "
            f"learns its injection's {', '.join(model.injection.learned)}: choose "
            "input_rule='shift', or an injection that learns nothing"
        )


def step_cost(
    model: QuantumModel, executor: Executor, recipe: DeviceRecipe, n_samples: int
) -> Ledger:
    """Bound what a step of so many samples charges, as a ledger.

    Parameters
    ----------
    model, executor, recipe
        Of the training.
    n_samples
        In the batch.

    Returns
    -------
    Ledger
        With every sample using all `max_steps` evaluations; without repeated submissions and
        without what the executor has to `prepare`, such as the calibration of a
        `ReadoutCorrection`.
    """

    # Inside: it imports this module.
    from qdeq.devices.prediction import estimate, mitigated

    cost = estimate(
        model,
        # Like every solver here one evaluation a step; SHINE takes the inverse that it builds.
        solver="broyden",
        adjoint=recipe.adjoint,
        steps=recipe.max_steps,
        gradient="spsa" if recipe.estimator == "spsa" else "parameter-shift",
        input_rule=recipe.input_rule,
        perturbations=recipe.perturbations,
        shots=recipe.shots or executor.shots,
        gradient_shots=recipe.gradient_shots or executor.shots,
        timing=executor.ledger.timing,
    )
    lengths = [factor * executor.folded_length for factor in executor.scale_factors]
    cost = mitigated(replace(cost, copies=executor.copies), lengths)
    return cost.training_step(n_samples)
