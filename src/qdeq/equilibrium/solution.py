"""What a solve returns: the value, its statistics, and a status that is a sentence.

How the numbers come about is in `_solve.py`.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from qdeq._numbers import at_least


class STATUS(eqx.Enumeration):
    """Why a solve ended; `STATUS[stats.result]` is the sentence."""

    converged = "An equilibrium was found: the residual is within the tolerances."
    max_steps_reached = (
        "The step budget ran out before the residual met the tolerances: the value is the best "
        "iterate; raise `max_steps`, loosen `rtol`/`atol`, or set a `fallback` solver."
    )
    stalled = (
        "The residual stopped decreasing before it met the tolerances: the value is the best "
        "iterate; set a `fallback` solver, or loosen `rtol`/`atol` (float32 cannot resolve much "
        "below 1e-6)."
    )
    nonfinite = (
        "The function or an iterate became infinite or NaN: the value is the last finite iterate "
        "with the smallest residual, NaN where there is none; check the inputs, or set `bounds`."
    )
    unconfirmed = (
        "The residual met the tolerances once, and not when it was measured at that point again, "
        "with fresh noise: take more shots, or a tolerance of at least 2 * noise_floor(shots, n)."
    )
    solver_failed = (
        "The solver gave up (its linear solve failed or it diverged): the value is the best "
        "iterate; start closer, set `bounds`, or set a `fallback` solver."
    )


class SolverStats(eqx.Module):
    """What one solve did, for one sample (`jax.vmap` adds a leading axis to every field).

    No field carries a derivative. A field that is not used costs nothing under `jax.jit`: the
    compiler removes what only it needs.

    Attributes
    ----------
    steps
        Solver steps taken, fallback included.
    residual
        |f(z) - z| / |f(z)| at the returned value, two-norms over the flattened state. For a random
        f (a key was given) measured once more there with fresh noise, so that it is no smaller for
        the point having been chosen; `KrasnoselskiiMann` estimates it from the averaged steps.
    absolute_residual
        |f(z) - z| at the returned value.
    converged
        Whether |f(z) - z| <= atol + rtol |f(z)| held there, by that residual.
    adjoint_residual
        |I - B (I - J)|_F / sqrt(n), J the Jacobian of f at the value and B the approximate inverse
        that gradients are multiplied with: 0 is an exact gradient, 1 means that nothing can be
        said. NaN where the adjoint has no such operator (`Unrolled`, `Direct`).
    residual_trace
        Relative residual at each evaluated iterate, infinite where it was not a number, padded with
        NaN, `(max_steps,)`. Under `jax.debug_nans` leave it out of what a function of your own
        under `jax.jit` returns, or that stops at the padding.
    evaluations
        Evaluations of f in the forward solve, the last measurement of a random f included.
    jacobians
        How many of these also computed the whole Jacobian (Newton, Dogleg, Levenberg-Marquardt).
    result
        A member of `STATUS`.
    shots
        Sum over these evaluations of what `shots` gave them, float; 0 without it.
    """

    steps: Int[Array, ""]
    residual: Float[Array, ""]
    absolute_residual: Float[Array, ""]
    converged: Bool[Array, ""]
    adjoint_residual: Float[Array, ""]
    residual_trace: Float[Array, " max_steps"]
    evaluations: Int[Array, ""]
    jacobians: Int[Array, ""]
    result: Any
    shots: Float[Array, ""] | float = 0.0


class Solution(eqx.Module):
    """An equilibrium, or the best that was found.

    Attributes
    ----------
    value
        Same pytree as the start; differentiable with respect to x and to all that f closes over.
    stats
        `SolverStats`.
    jacobian
        df/dz at the value, `(n, n)`, where f brings it along (a model function bound to its
        sample); else None. Its derivative is that at a fixed value, as a penalty takes it.
    """

    value: PyTree[Array]
    stats: SolverStats
    jacobian: Float[Array, "n n"] | None = None


def as_trace(residuals: Float[Array, " max_steps"], steps: Any) -> Float[Array, " max_steps"]:
    """Residuals of the first `steps` evaluations, infinite where not a number, and NaN after them.

    A sample that became NaN would look like one that was done.
    """
    taken = jnp.arange(len(residuals)) < steps
    lost = jnp.where(jnp.isnan(residuals), jnp.inf, residuals)
    return jnp.where(taken, lost, jnp.nan)


def relative(residual: Float[Array, ""], scale: Float[Array, ""]) -> Float[Array, ""]:
    """residual / scale without 0/0: the residual of f(z) = 0 is infinite unless z = 0 too.

    Nor inf/inf: infinite where nothing was measured.
    """
    tiny = jnp.finfo(scale.dtype).tiny
    return jnp.where(jnp.isinf(residual), residual, residual / at_least(scale, tiny))
