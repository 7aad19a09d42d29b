"""Broyden's good method: a quasi-Newton solver that costs one evaluation of f per step."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from qdeq._numbers import at_least
from qdeq.equilibrium._common import (
    bounded,
    check_stopping,
    project,
    relative_error,
    squares_in_range,
)
from qdeq.equilibrium._problem import flatten
from qdeq.equilibrium.solver import AbstractSolver
from qdeq.errors import check_count
from qdeq.native.constants import BROYDEN_FLOOR


class DenseSecant(eqx.Module):
    """An approximate inverse Jacobian as a matrix, `(n, n)`."""

    matrix: Float[Array, "n n"]

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """H v."""
        return self.matrix @ vector

    def rmv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """H' v."""
        return vector @ self.matrix

    def add(self, u: Float[Array, " n"], v: Float[Array, " n"]) -> "DenseSecant":
        """H + u v'."""
        return DenseSecant(self.matrix + u[:, None] * v[None, :])

    def gain(self) -> Float[Array, ""]:
        """|H|_F."""
        return jnp.linalg.norm(self.matrix)


class LimitedSecant(eqx.Module):
    """An approximate inverse Jacobian as -I + sum_k u_k v_k', the newest `history` terms."""

    us: Float[Array, "history n"]
    vs: Float[Array, "history n"]
    count: Int[Array, ""]

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """H v."""
        return (self.vs @ vector) @ self.us - vector

    def rmv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """H' v."""
        return (self.us @ vector) @ self.vs - vector

    def add(self, u: Float[Array, " n"], v: Float[Array, " n"]) -> "LimitedSecant":
        """H + u v', in the place of the oldest term."""
        # A mask and not `.at[slot].set`: under vmap the latter is a scatter, which XLA's CPU
        # backend runs row by row.
        slot = (jnp.arange(self.us.shape[0]) == self.count % self.us.shape[0])[:, None]
        return LimitedSecant(
            us=jnp.where(slot, u, self.us), vs=jnp.where(slot, v, self.vs), count=self.count + 1
        )

    def gain(self) -> Float[Array, ""]:
        """|H|_F, without forming H: |I|^2 - 2 tr(sum u v') + |sum u v'|^2."""
        overlap = jnp.sum(self.us * self.vs)
        square = jnp.sum((self.us @ self.us.T) * (self.vs @ self.vs.T))
        return jnp.sqrt(at_least(self.us.shape[1] - 2 * overlap + square, 0))


class BroydenState(eqx.Module):
    """What the method carries from step to step."""

    secant: DenseSecant | LimitedSecant
    move: Float[Array, " n"]  # what was added to the iterate, zero before the first step
    newton: Float[Array, " n"] | None  # -H g before clipping; None where nothing is clipped
    error: Float[Array, ""]


class Broyden(AbstractSolver, optx.AbstractRootFinder):
    """Broyden's good method on g(y) = f(y) - y, in inverse form, started from -I.

    One evaluation of f per step, no derivative, superlinear near the equilibrium. The first step
    is a Picard step. Updates are damped as Powell proposed, so that the approximate inverse stays
    bounded: no division can produce NaN.

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of that test when Optimistix drives the solver; `Equilibrium` uses the two-norm.
    history
        Rank-one terms that are kept. Up to n = 2 `history` the inverse is held as an n x n matrix
        instead, which is then smaller and forgets nothing.

    References
    ----------
    C. G. Broyden (1965); the damping is Moré and Trangenstein, Math. Comp. 30 (1976), eq. 3.5.
    """

    kernel: ClassVar[str | None] = "broyden"

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm
    history: int = eqx.field(default=10, static=True)

    def __check_init__(self) -> None:
        check_stopping(self)
        check_count("history", self.history)

    def is_dense(self, n: int) -> bool:
        """Whether the inverse Jacobian of a state of n numbers is held as a matrix."""
        return n <= 2 * self.history

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> BroydenState:
        """Start from the inverse Jacobian -I, that of a constant f."""
        del fn, args, f_struct, aux_struct, tags
        flat, _ = flatten(y)
        (n,), dtype = flat.shape, flat.dtype
        if self.is_dense(n):
            secant = DenseSecant(-jnp.eye(n, dtype=dtype))
        else:
            zeros = jnp.zeros((self.history, n), dtype)
            secant = LimitedSecant(us=zeros, vs=zeros, count=jnp.asarray(0))
        zero = jnp.zeros(n, dtype)
        newton = zero if bounded(options) else None
        return BroydenState(secant, zero, newton, jnp.asarray(jnp.inf, dtype))

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, BroydenState, Any]:
        """Evaluate g once, learn from the last move, and move by -H g."""
        del tags
        out, aux = fn(y, args)
        flat, unravel = flatten(y)
        g, _ = flatten(out)
        move = state.move
        newton = move if state.newton is None else state.newton
        # H dg = H g - H g_old, and H g_old = -newton is known: one product with H, not two.
        old = state.secant.mv(g)
        change = old + newton
        # A multiple of both makes the same update: one whose square is a number of the type.
        factor = squares_in_range(jnp.dot(move, move))
        move, change = factor * move, factor * change
        size = jnp.dot(move, move)
        known = size > 0
        safe_size = jnp.where(known, size, 1)
        ratio = jnp.dot(move, change) / safe_size
        # Powell's damping: theta = 1 is Broyden's own update; otherwise the denominator is
        # moved away from zero, to +-BROYDEN_FLOOR.
        floor = jnp.where(ratio < 0, -BROYDEN_FLOOR, BROYDEN_FLOOR).astype(g.dtype)
        damped = jnp.abs(ratio) < BROYDEN_FLOOR
        theta = jnp.where(damped, (1 - floor) / (1 - jnp.where(damped, ratio, 0)), 1)
        denominator = jnp.where(damped, floor, ratio) * safe_size
        # Where nothing was learnt u is zero, whatever the difference holds.
        u = jnp.where(known, theta / denominator * (move - change), 0)
        secant = state.secant.add(u, state.secant.rmv(move))
        newton = -(old + u * jnp.dot(move, old))
        if state.newton is None:
            move, kept = newton, None
        else:
            target, _ = flatten(project(unravel(flat + newton), options))
            move, kept = target - flat, newton
        error = relative_error(self.norm, self.rtol, self.atol, g, g + flat)
        new = unravel(flat + move)
        return new, BroydenState(secant, move, kept, error), aux

    def inverse_jacobian(self, state: BroydenState) -> DenseSecant | LimitedSecant:
        """The secant approximation."""
        return state.secant
