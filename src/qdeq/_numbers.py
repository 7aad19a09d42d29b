"""Maxima and minima that never hide a number that is not a number; nothing here knows circuits.

XLA's CPU backend (jaxlib 0.10.2) drops NaN from the maximum and the minimum of about 30,000 numbers
and more; of a maximum with a constant where a sum or a product over that many follows in the same
program; and of a maximum over devices, at any size. What would look finite then is a residual, a
loss or a state that was never computed, so the package asks these functions instead.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int


def largest(a: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Array:
    """The maximum along `axis` (None: of all), NaN where there is a NaN.

    Examples
    --------
    >>> largest(jnp.zeros(100_000).at[7].set(jnp.nan))
    Array(nan, dtype=float32)
    """
    return jnp.where(jnp.any(jnp.isnan(a), axis=axis), jnp.nan, jnp.max(a, axis=axis))


def smallest(a: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Array:
    """The minimum along `axis` (None: of all), NaN where there is a NaN."""
    return jnp.where(jnp.any(jnp.isnan(a), axis=axis), jnp.nan, jnp.min(a, axis=axis))


def at_least(a: ArrayLike, bound: ArrayLike) -> Array:
    """`a`, element by element, raised to `bound` where it is smaller; a NaN in `a` stays."""
    return jnp.where(jnp.asarray(a) < bound, bound, a)


def at_most(a: ArrayLike, bound: ArrayLike) -> Array:
    """`a`, element by element, lowered to `bound` where it is larger; a NaN in `a` stays."""
    return jnp.where(jnp.asarray(a) > bound, bound, a)


def positive_part(a: ArrayLike) -> Array:
    """max(a, 0), with derivative 0 at 0; a NaN stays."""
    return jnp.where(jnp.asarray(a) <= 0, 0, a)


def nan_unless_finite(result: Array, source: Array) -> Array:
    """`result`, or NaN if one of the numbers that it was computed from is not finite.

    For what comes out of `jax.nn.relu`, which drops NaN like a maximum. (A function in its place
    would do too, but the compiler then adds in another order, and published numbers change in
    their last digit.)
    """
    return jnp.where(jnp.all(jnp.isfinite(source)), result, jnp.nan)


def largest_over_devices(a: Array, axis_name: str) -> Array:
    """The maximum of `a` over a mesh axis, NaN where one device has NaN."""
    undefined = jax.lax.psum(jnp.isnan(a).astype(a.dtype), axis_name) > 0
    return jnp.where(undefined, jnp.nan, jax.lax.pmax(a, axis_name))


def is_correct(logits: Array, y: Int[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Whether the largest class score is that of class `y`; never so if a score is NaN.

    The position of the maximum is then that of the NaN, and might happen to be right.
    """
    return (jnp.argmax(logits, axis=-1) == y) & ~jnp.any(jnp.isnan(logits), axis=-1)
