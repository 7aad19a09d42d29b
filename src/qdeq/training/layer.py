"""Which layer a phase of a configuration uses, as a value that programs can be told apart by."""

from dataclasses import dataclass
from typing import Any

from qdeq.equilibrium import (
    AbstractDerivative,
    Direct,
    Equilibrium,
    make_adjoint,
    make_solver,
)
from qdeq.equilibrium.solver import Solver, as_solver
from qdeq.training.config import TrainConfig


@dataclass(frozen=True)
class LayerRecipe:
    """How the measured state is found, but for the tolerance, which may be traced.

    Attributes
    ----------
    layers
        Applications of the circuit; None: the equilibrium.
    solver, adjoint
        By name, or an object.
    max_steps
        Of the solver.
    fallback
        What solves what the solver leaves over, by name, or an object; None: nothing.
    """

    layers: int | None = None
    solver: str | Solver = "broyden"
    adjoint: str | AbstractDerivative = "implicit"
    max_steps: int = 30
    fallback: str | Solver | None = None

    @classmethod
    def of(cls, config: TrainConfig, phase: str | None = None) -> "LayerRecipe":
        """The layer of a phase: `"implicit"`, or `"direct"` (warm-up, or the whole run).

        None is the one that the trained model is used with.
        """
        if (phase or config.mode) == "direct":
            layers = config.warmup_layers if config.mode == "implicit" else config.layers
            return cls(layers=layers)
        config = config.given_again()
        solver, adjoint = as_solver(make_solver(config.solver)), make_adjoint(config.adjoint)
        falls_back = (
            config.fallback != "none"
            and not (solver.restarts and config.fallback == "homotopy")  # it is one already
            and not adjoint.differentiates_loop  # it is one loop
            and config.random_steps_minus == 0  # a few steps are what is asked for
        )
        return cls(
            solver=config.solver,
            adjoint=config.adjoint,
            max_steps=config.max_steps,
            fallback=config.fallback if falls_back else None,
        )

    @property
    def is_implicit(self) -> bool:
        """Whether it is an equilibrium."""
        return self.layers is None

    def build(self, tolerance: Any) -> Equilibrium | Direct:
        """The layer.

        Parameters
        ----------
        tolerance
            Relative and absolute, of a solver by name; an object has its own.
        """
        if self.layers is not None:
            return Direct(layers=self.layers)
        solver = make_solver(self.solver, rtol=tolerance, atol=tolerance)
        fallback = None
        if self.fallback is not None:
            fallback = make_solver(self.fallback, rtol=solver.rtol, atol=solver.atol)
        return Equilibrium(
            solver=solver,
            adjoint=make_adjoint(self.adjoint),
            max_steps=self.max_steps,
            fallback=fallback,
        )


def layer_of(config: TrainConfig, phase: str | None = None) -> Equilibrium | Direct:
    """The layer of a configuration's phase, see `LayerRecipe.of`."""
    return LayerRecipe.of(config, phase).build(config.tolerance)
