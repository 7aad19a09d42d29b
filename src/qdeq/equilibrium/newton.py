"""Newton's method with the exact Jacobian of a small system."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from qdeq.equilibrium._common import check_stopping, project, relative_error
from qdeq.equilibrium._derivatives import value_and_matrix
from qdeq.equilibrium._problem import flatten
from qdeq.equilibrium.dense import robust_inverse
from qdeq.equilibrium.solver import AbstractSolver


def value_and_jacobian(
    fn: Callable, y: PyTree[Array], args: PyTree
) -> tuple[Float[Array, " n"], Float[Array, "n n"], Any]:
    """g(y) = fn(y, args) as a vector, its whole Jacobian, and what fn returns beside it."""
    flat, unravel = flatten(y)

    def flat_fn(flat: Array) -> tuple[Array, Any]:
        out, aux = fn(unravel(flat), args)
        return flatten(out)[0], aux

    return value_and_matrix(flat_fn, flat)


class _NewtonState(eqx.Module):
    error: Float[Array, ""]


class Newton(AbstractSolver, optx.AbstractRootFinder):
    """y <- y - (dg/dy)^-1 g(y) on g(y) = f(y) - y.

    Few steps, each with one evaluation of f and its whole n x n Jacobian (n forward derivatives):
    for small states. Optimistix' own Newton does the same for any state; this one inverts by
    `robust_inverse`, so a singular Jacobian gives a regularised step instead of an error.

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of that test when Optimistix drives the solver; `Equilibrium` uses the two-norm.
    """

    uses_jacobian: ClassVar[bool] = True

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm

    def __check_init__(self) -> None:
        check_stopping(self)

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> _NewtonState:
        """Start with nothing known."""
        del fn, args, options, f_struct, aux_struct, tags
        return _NewtonState(error=jnp.asarray(jnp.inf, flatten(y)[0].dtype))

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, _NewtonState, Any]:
        """Evaluate g and its Jacobian, solve, move."""
        del state, tags
        flat, unravel = flatten(y)
        g, jacobian, aux = value_and_jacobian(fn, y, args)
        # The sign makes the inverse of a non-finite Jacobian, I, a Picard step.
        move = robust_inverse(-jacobian)[0] @ g
        error = relative_error(self.norm, self.rtol, self.atol, g, g + flat)
        return project(unravel(flat + move), options), _NewtonState(error), aux
