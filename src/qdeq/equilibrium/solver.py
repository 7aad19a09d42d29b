"""What a solver is: Optimistix' four verbs, and what it may say about itself beside them.

A solver of this package derives from `AbstractSolver` and from one of Optimistix' kinds. One that
derives from Optimistix' kind alone is a solver as well: `as_solver` gives it the defaults.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, PyTree

from qdeq.equilibrium._common import project, two_norm
from qdeq.errors import UserError

Solver: TypeAlias = (
    optx.AbstractFixedPointSolver | optx.AbstractRootFinder | optx.AbstractLeastSquaresSolver
)
KINDS = (
    optx.AbstractFixedPointSolver,
    optx.AbstractRootFinder,
    optx.AbstractLeastSquaresSolver,
)


class Estimate(eqx.Module):
    """What is taken for the equilibrium so far, and how good that is.

    Attributes
    ----------
    point
        y, `(n,)`.
    residual, scale
        |f(y) - y| and |f(y)|.
    is_settled
        Whether they can be trusted; a solve does not end before. None: they are measured at a
        point where f was evaluated.
    """

    point: Float[Array, " n"]
    residual: Float[Array, ""]
    scale: Float[Array, ""]
    is_settled: Bool[Array, ""] | bool | None = None

    @classmethod
    def at(cls, y: Float[Array, " n"], out: Float[Array, " n"]) -> "Estimate":
        """An evaluated point, f(y) = out; infinitely far from an equilibrium where that is NaN."""
        residual = two_norm(out - y)
        return cls(y, jnp.where(jnp.isnan(residual), jnp.inf, residual), two_norm(out))

    def meets(self, rtol: Any, atol: Any) -> Bool[Array, ""]:
        """Whether that is an equilibrium to these tolerances."""
        # An infinite residual is within the tolerance of an infinite f.
        met = jnp.isfinite(self.residual) & (self.residual <= atol + rtol * self.scale)
        return met if self.is_settled is None else met & self.is_settled


class AbstractSolver(eqx.Module):
    """What the loops of this package ask of a solver beside Optimistix' verbs.

    Derive from it and from the Optimistix kind, in this order:
    ``class Mine(AbstractSolver, optx.AbstractFixedPointSolver)``. Everything has a default, so a
    solver names only what is special about it. Fields `rtol`, `atol` and `norm` are Optimistix' own
    requirement; converged is |f(y) - y| <= atol + rtol |f(y)| for every solver.

    Attributes
    ----------
    uses_jacobian
        Every step computes the whole Jacobian of f. It is counted in `stats.jacobians`, and no
        device can be asked for it step by step.
    averages
        For a random f its `estimate` is the answer, instead of the point whose residual was
        measured smallest.
    restarts
        As a fallback it begins at z0 once more, not at the best point of the solver before it.
    may_rise
        The residual rises on its way: it is never taken to have stalled.
    kernel
        The name of the compiled loop in `native/cpp` that takes the same iterates; a class that
        inherits from such a solver does not inherit this.
    """

    uses_jacobian: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    restarts: ClassVar[bool] = False
    may_rise: ClassVar[bool] = False
    kernel: ClassVar[str | None] = None

    def estimate(self, state: PyTree, y: Float[Array, " n"], out: Float[Array, " n"]) -> Estimate:
        """What the solver takes for the equilibrium after a step that evaluated f(y) = out.

        Parameters
        ----------
        state
            The solver's, after the step.
        y, out
            Where f was evaluated in it, and the value.
        """
        del state
        return Estimate.at(y, out)

    def inverse_jacobian(self, state: PyTree) -> Any:
        """The approximation of (J - I)^-1 that the solver has built; what `Shine` takes.

        An object with `mv(v)` and `gain()`, the product and the Frobenius norm; None for a solver
        that builds none.
        """
        del state

    def terminate(self, fn, y, args, options, state, tags) -> tuple[Array, optx.RESULTS]:
        """Stop where the last `state.error` is below 1; for Optimistix, `_solve.py` tests itself.

        See `_common.relative_error`.
        """
        del fn, y, args, options, tags
        return state.error < 1, optx.RESULTS.successful

    def postprocess(self, fn, y, aux, args, options, state, tags, result) -> tuple:
        """Return what the steps came to."""
        del fn, args, options, state, tags, result
        return y, aux, {}


class _Foreign(AbstractSolver):
    """A solver that knows nothing of this package, with the defaults."""

    solver: Any

    @property
    def rtol(self) -> Any:
        return self.solver.rtol

    @property
    def atol(self) -> Any:
        return self.solver.atol

    @property
    def init(self) -> Callable[..., PyTree]:
        return self.solver.init

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, PyTree, Any]:
        new, state, aux = self.solver.step(fn, y, args, options, state, tags)
        if isinstance(self.solver, optx.AbstractFixedPointSolver):  # theirs know no bounds
            new = project(new, options)
        return new, state, aux

    def terminate(self, fn, y, args, options, state, tags) -> tuple[Array, optx.RESULTS]:
        return self.solver.terminate(fn, y, args, options, state, tags)


class _ForeignWithJacobian(_Foreign):
    uses_jacobian: ClassVar[bool] = True


def as_solver(solver: Any) -> Any:
    """The solver, as the loops of this package know it.

    Parameters
    ----------
    solver
        An `AbstractSolver`, or one of Optimistix' kinds that is none: a Newton method of theirs,
        or a Gauss-Newton method, computes Jacobians; otherwise it gets the defaults.
    """
    if isinstance(solver, AbstractSolver):
        return solver
    is_newton = getattr(solver, "_is_newton", False)
    if is_newton or isinstance(solver, optx.AbstractGaussNewton):
        return _ForeignWithJacobian(solver)
    return _Foreign(solver)


def name_of(solver: Any) -> str:
    """The name of its class."""
    return type(solver.solver if isinstance(solver, _Foreign) else solver).__name__


def finds_zero(solver: Any) -> bool:
    """Whether it is given f(y) - y to find the zero of, or f(y) itself."""
    solver = solver.solver if isinstance(solver, _Foreign) else solver
    return not isinstance(solver, optx.AbstractFixedPointSolver)


def check_solver(name: str, solver: Any) -> None:
    """Raise `UserError` for something that is not a solver."""
    if not isinstance(solver, KINDS):
        raise UserError(
            f"{name}={solver!r}: give a solver object such as Broyden(), or an Optimistix "
            "fixed-point solver, root finder or least-squares solver"
        )
    if isinstance(solver, optx.Bisection):
        raise UserError(
            f"{name}={solver!r}: bisection searches between two signs of one number, and a state "
            "may have many; give Broyden(), or a root finder such as optimistix.Newton"
        )


def builds_inverse(solver: AbstractSolver) -> bool:
    """Whether it has an `inverse_jacobian` to give."""
    return type(solver).inverse_jacobian is not AbstractSolver.inverse_jacobian


def kernel_of(solver: Any) -> str | None:
    """The compiled loop that takes the iterates of exactly this class."""
    return vars(type(solver)).get("kernel")
