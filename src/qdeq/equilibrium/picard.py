"""Picard (fixed-point) iteration, optionally damped."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from qdeq.equilibrium._common import check_stopping, check_within, project, relative_error
from qdeq.equilibrium._problem import flatten
from qdeq.equilibrium.solver import AbstractSolver


class _PicardState(eqx.Module):
    error: Float[Array, ""]


class Picard(AbstractSolver, optx.AbstractFixedPointSolver):
    """y <- (1 - damping) f(y) + damping y.

    Converges where f contracts, at the rate of its spectral radius; damping helps where the
    eigenvalues of the Jacobian are negative. One evaluation of f per step, and the only solver
    whose every iterate (undamped) is an output of f.

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of that test when Optimistix drives the solver; `Equilibrium` uses the two-norm.
    damping
        Weight of the old iterate, in [0, 1).

    Raises
    ------
    UserError
        For a negative tolerance or a damping outside [0, 1).
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm
    damping: float = 0.0

    def __check_init__(self) -> None:
        check_stopping(self)
        check_within("damping", self.damping, lambda value: 0 <= value < 1, "in [0, 1)")

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> _PicardState:
        """Start with nothing known."""
        del fn, args, options, f_struct, aux_struct, tags
        return _PicardState(error=jnp.asarray(jnp.inf, flatten(y)[0].dtype))

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, _PicardState, Any]:
        """Evaluate f once and move to it."""
        del state, tags
        out, aux = fn(y, args)
        flat, unravel = flatten(y)
        flat_out, _ = flatten(out)
        g = flat_out - flat
        new = flat_out - self.damping * g if self._damped() else flat_out
        error = relative_error(self.norm, self.rtol, self.atol, g, flat_out)
        return project(unravel(new), options), _PicardState(error), aux

    def _damped(self) -> bool:
        return not (isinstance(self.damping, (int, float)) and self.damping == 0)
