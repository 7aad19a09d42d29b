"""Broyden's method with ONE norm for a whole batch: the published algorithm's solver, plainly.

A baseline to measure against, not a solver to use: `qdeq.Broyden` treats every sample by itself.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class JointSolution(eqx.Module):
    """The best iterate of the batch, and how good it is.

    Attributes
    ----------
    value
        `(B, d)`, where the measure was smallest.
    residual
        `(B,)` two-norms of g there.
    scale
        `(B,)` two-norms of g + z there.
    evaluations
        Of g, the first included.
    """

    value: Float[Array, "B d"]
    residual: Float[Array, " B"]
    scale: Float[Array, " B"]
    evaluations: Int[Array, ""]


class _Carry(eqx.Module):
    iterate: Float[Array, "B d"]
    g: Float[Array, "B d"]
    move: Float[Array, "B d"]
    us: Float[Array, "T B d"]
    vs: Float[Array, "T B d"]
    step: Int[Array, ""]
    size: Float[Array, ""]
    best: Float[Array, "B d"]
    best_g: Float[Array, "B d"]
    best_size: Float[Array, ""]


def joint_size(g: Float[Array, "B d"], z: Float[Array, "B d"]) -> Float[Array, ""]:
    """The published measure: |g| / |g + z|, one norm over all samples and entries."""
    return jnp.linalg.norm(g) / (jnp.linalg.norm(g + z) + 1e-9)


def worst_size(unit: float) -> Callable[[Array, Array], Array]:
    """The measure of the worst sample: max |g_b| / (unit + |g_b + z_b|).

    With unit = sqrt(d / q) this is the residual test of `qdeq.Equilibrium` with rtol = atol: the
    upsampled state is sqrt(d / q) times as long as the measured one.
    """

    def size(g: Array, z: Array) -> Array:
        sizes = jnp.linalg.norm(g, axis=1) / (unit + jnp.linalg.norm(g + z, axis=1))
        # XLA's maximum may drop a NaN, and the batch would look solved.
        return jnp.where(jnp.any(jnp.isnan(sizes)), jnp.nan, jnp.max(sizes))

    return size


def joint_broyden(
    g: Callable[[Array], Array],
    start: Float[Array, "B d"],
    *,
    max_steps: int,
    tolerance: float,
    size: Callable[[Array, Array], Array] = joint_size,
) -> JointSolution:
    """Solve g(z) = 0 from `start`, all samples until the joint measure is small.

    The inverse Jacobian is -I + sum_t u_t v_t' with one pair of vectors per sample and step, all of
    them kept. The iterate with the smallest measure wins.

    Parameters
    ----------
    g
        `(B, d) -> (B, d)`.
    start
        `(B, d)`.
    max_steps, tolerance
        Stop after so many steps from the start, or when `size` is below the tolerance.
    size
        One number for the batch from g(z) and z.
    """
    history = jnp.zeros((max_steps + 1, *start.shape), start.dtype)
    infinite = jnp.asarray(jnp.inf, start.dtype)
    zero = jnp.zeros_like(start)
    carry = _Carry(
        iterate=start,
        g=zero,
        move=zero,
        us=history,
        vs=history,
        step=jnp.asarray(0),
        size=infinite,
        best=start,
        best_g=zero,
        best_size=infinite,
    )

    def going(carry: _Carry) -> Array:
        return (carry.step <= max_steps) & (carry.size >= tolerance)

    # The first evaluation is inside the loop, so that the circuit is compiled once: there the move
    # is zero, and so is the update after NaN is cleared.
    def advance(carry: _Carry) -> _Carry:
        iterate = carry.iterate + carry.move
        value = g(iterate)
        change = value - carry.g
        v = _inverse_transposed(carry.us, carry.vs, carry.move)
        u = carry.move - _inverse(carry.us, carry.vs, change)
        u = u / jnp.sum(v * change, axis=1, keepdims=True)
        # The published code clears NaN from both vectors and goes on.
        u, v = (jnp.where(jnp.isfinite(w), w, 0) for w in (u, v))
        us, vs = carry.us.at[carry.step].set(u), carry.vs.at[carry.step].set(v)
        measured = size(value, iterate)
        better = measured < carry.best_size
        return _Carry(
            iterate=iterate,
            g=value,
            move=-_inverse(us, vs, value),
            us=us,
            vs=vs,
            step=carry.step + 1,
            size=measured,
            best=jnp.where(better, iterate, carry.best),
            best_g=jnp.where(better, value, carry.best_g),
            best_size=jnp.where(better, measured, carry.best_size),
        )

    end = jax.lax.while_loop(going, advance, carry)
    return JointSolution(
        value=end.best,
        residual=jnp.linalg.norm(end.best_g, axis=1),
        scale=jnp.linalg.norm(end.best_g + end.best, axis=1),
        evaluations=end.step,
    )


def _inverse(us: Array, vs: Array, y: Array) -> Array:
    return jnp.einsum("tbd,tb->bd", us, jnp.einsum("tbd,bd->tb", vs, y)) - y


def _inverse_transposed(us: Array, vs: Array, y: Array) -> Array:
    return jnp.einsum("tbd,tb->bd", vs, jnp.einsum("tbd,bd->tb", us, y)) - y
