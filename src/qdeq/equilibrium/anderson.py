"""Anderson acceleration: Picard iteration that extrapolates from its last few steps."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from qdeq._numbers import at_least
from qdeq.equilibrium._common import (
    check_stopping,
    check_within,
    project,
    relative_error,
    two_norm,
)
from qdeq.equilibrium._problem import flatten
from qdeq.equilibrium.solver import AbstractSolver
from qdeq.errors import check_count

# A mixing weight beyond this says that the differences are linearly dependent to working
# precision: the extrapolation would be noise.
_LARGEST_WEIGHT = 1e4


class _AndersonState(eqx.Module):
    iterate: Float[Array, " n"]
    g: Float[Array, " n"]
    # Changes of g between successive iterates, of length 1: their squares fit into any type.
    dgs: Float[Array, "history n"]
    lengths: Float[Array, " history"]  # that they had; 0 where there is none
    moves: Float[Array, "history n"]  # changes of y + mixing * g
    gram: Float[Array, "history history"]  # dgs dgs', one row and column renewed per step
    count: Int[Array, ""]
    error: Float[Array, ""]


class Anderson(AbstractSolver, optx.AbstractFixedPointSolver):
    """Anderson acceleration (type II), mixing from the second step on.

    One evaluation of f per step. The ridge is relative: every difference of residuals is scaled to
    unit length first, so old large differences cannot drown new small ones. (An absolute ridge,
    common elsewhere, stalls: at tolerance 1e-8 one absolute 1e-4 cost four times the steps.)

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of that test when Optimistix drives the solver; `Equilibrium` uses the two-norm.
    history
        Differences that are kept; never more than the state has numbers.
    ridge
        Relative to the trace of the scaled normal matrix, per difference; raised to 10 machine
        epsilons where it is smaller.
    mixing
        Weight of f(y) against y in every step; 1 uses f(y) alone.

    Raises
    ------
    UserError
        For a negative tolerance or ridge, a history below 1, or mixing = 0.

    References
    ----------
    H. F. Walker and P. Ni, SIAM J. Numer. Anal. 49 (2011) 1715.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm
    history: int = eqx.field(default=5, static=True)
    ridge: float = 1e-8
    mixing: float = 1.0

    def __check_init__(self) -> None:
        check_stopping(self)
        check_count("history", self.history)
        check_within("ridge", self.ridge, lambda v: 0 <= v < math.inf, "that is at least 0")
        check_within("mixing", self.mixing, lambda v: 0 < v < math.inf, "above 0, at most about 1")

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> _AndersonState:
        """Start with an empty history."""
        del fn, args, options, f_struct, aux_struct, tags
        flat, _ = flatten(y)
        (n,), dtype = flat.shape, flat.dtype
        m = min(self.history, n)
        return _AndersonState(
            iterate=flat,
            g=jnp.zeros(n, dtype),
            dgs=jnp.zeros((m, n), dtype),
            lengths=jnp.zeros(m, dtype),
            moves=jnp.zeros((m, n), dtype),
            gram=jnp.zeros((m, m), dtype),
            count=jnp.asarray(0),
            error=jnp.asarray(jnp.inf, dtype),
        )

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, _AndersonState, Any]:
        """Evaluate f once, extrapolate from the differences, restart where they are useless."""
        del tags
        out, aux = fn(y, args)
        flat, unravel = flatten(y)
        flat_out, _ = flatten(out)
        g = flat_out - flat
        m = state.gram.shape[0]
        # Masks and not `.at[slot].set`: see `LimitedSecant.add`. No slot before the second step.
        slot = (jnp.arange(m) == (state.count - 1) % m) & (state.count > 0)
        dg = g - state.g
        move = flat - state.iterate + self.mixing * dg
        moved = jnp.any(dg != 0)  # of zero a norm has no derivative
        length = jnp.where(moved, two_norm(jnp.where(moved, dg, 1)), 0)
        dg = dg / jnp.where(length > 0, length, 1)
        dgs = jnp.where(slot[:, None], dg, state.dgs)
        lengths = jnp.where(slot, length, state.lengths)
        moves = jnp.where(slot[:, None], move, state.moves)
        row = dgs @ dg
        gram = jnp.where(slot[:, None], row[None, :], state.gram)
        gram = jnp.where(slot[None, :], row[:, None], gram)
        weights = _weights(gram, lengths, dgs @ g, self.ridge)
        usable = jnp.all(jnp.abs(weights) < _LARGEST_WEIGHT)  # false for NaN
        weights = jnp.where(usable, weights, 0)
        new = flat + self.mixing * g - weights @ moves
        error = relative_error(self.norm, self.rtol, self.atol, g, flat_out)
        new_state = _AndersonState(
            iterate=flat,
            g=g,
            dgs=jnp.where(usable, dgs, 0),
            lengths=jnp.where(usable, lengths, 0),
            moves=moves,
            gram=jnp.where(usable, gram, 0),
            count=jnp.where(usable, state.count + 1, 1),
            error=error,
        )
        return project(unravel(new), options), new_state, aux


def _weights(gram: Array, lengths: Array, right: Array, ridge: float) -> Float[Array, " history"]:
    """Solve (gram + ridge m I) w = right for w / lengths, 0 where there is no difference."""
    m = gram.shape[0]
    used = lengths > 0
    floor = 10 * float(jnp.finfo(gram.dtype).eps)
    diagonal = 1 + m * at_least(ridge, floor)
    matrix = jnp.where(jnp.eye(m, dtype=bool), diagonal, gram)
    return jnp.where(used, _solve_positive(matrix, right) / jnp.where(used, lengths, 1), 0)


def _solve_positive(matrix: Array, right: Array) -> Array:
    """Symmetric positive definite solve; scalar by scalar where it is tiny.

    Under vmap every scalar is a vector over the batch, and XLA fuses the lot into one kernel: half
    the time of a whole solve with a loop over the pivots (4 x 4, batch 256, 2 CPU cores), for one
    more second of compilation at 5 x 5.
    """
    m = right.shape[0]
    if m > 6:
        wide = jnp.promote_types(matrix.dtype, jnp.float32)  # LAPACK has no half precision
        factor = jnp.linalg.cholesky(matrix.astype(wide))
        return jax.scipy.linalg.cho_solve((factor, True), right.astype(wide)).astype(right.dtype)
    a = [[matrix[i, j] for j in range(m)] for i in range(m)]
    b = [right[i] for i in range(m)]
    for k in range(m):
        inverse_pivot = 1 / a[k][k]
        for i in range(k + 1, m):
            factor = a[i][k] * inverse_pivot
            for j in range(k + 1, m):
                a[i][j] = a[i][j] - factor * a[k][j]
            b[i] = b[i] - factor * b[k]
    x: list[Array] = [right[0]] * m
    for k in reversed(range(m)):
        rest = b[k]
        for j in range(k + 1, m):
            rest = rest - a[k][j] * x[j]
        x[k] = rest / a[k][k]
    return jnp.stack(x)
