"""Exact powers of two, so that no square of a magnitude leaves the floating-point type.

Amplitude encoding sees a direction: v = x + R m and s v are one state, whatever units the features
have. Before anything is squared, x, every column of R and m are therefore divided by powers of two,
which changes no digit. In the ordinary range those powers are 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qdeq._precision import PRECISION

ABSENT = -(2**20)
"""The exponent of a column of zeros: it adds nothing to v, whatever it is multiplied with."""


def exponent(x: Array, axis: int | tuple[int, ...] | None = None) -> Int[Array, "..."]:
    """The largest e with 2**e <= |entry|, over some axes; without derivative.

    Parameters
    ----------
    x
        Real, any shape.
    axis
        The axes to look over; None all of them, `()` none.

    Returns
    -------
    Array
        Integers. At least `lowest`, also for zeros; above every exponent of a number where an entry
        is NaN or infinite.

    Examples
    --------
    >>> exponent(jnp.array([0.3, -5.0])), exponent(jnp.array([0.3, -5.0]), axis=())
    (Array(2, dtype=int32), Array([-2,  2], dtype=int32))
    """
    info = jnp.finfo(x.dtype)
    biased = (_bits(x) >> info.nmant) & ((1 << info.nexp) - 1)
    found = biased.astype(jnp.int32) - (info.maxexp - 1)
    return jnp.maximum(jnp.max(found, axis=axis, initial=ABSENT), lowest(x.dtype))


def lowest(dtype: jnp.dtype) -> int:
    """The smallest exponent told apart: numbers below are brought no closer to 1 than this.

    -100 in float32, -800 in float64: 2**100 and its reciprocal are numbers, and the square of the
    smallest number, 2**-149, times 2**200 still is one.
    """
    return -(jnp.finfo(dtype).maxexp * 25 // 32)


def times_power(x: Float[Array, "*s"], power: Int[Array, "*s"]) -> Float[Array, "*s"]:
    """x 2**power, exact unless the result leaves the type; derivative 2**power.

    Also for denormal numbers, which XLA's arithmetic on CPUs takes for zero.

    Examples
    --------
    >>> tiny = jnp.array(np.float32(1e-40))
    >>> float(tiny * 2.0**100), float(times_power(tiny, 100)) / 2.0**100
    (0.0, 9.99994610111476e-41)
    """
    return _times_power(x, jnp.broadcast_to(jnp.asarray(power, jnp.int32), jnp.shape(x)))


@jax.custom_jvp
def _times_power(x: Array, power: Array) -> Array:
    info = jnp.finfo(x.dtype)
    bits = _bits(x)
    fraction = bits & ((1 << info.nmant) - 1)
    signed = jnp.where(bits < 0, -fraction, fraction).astype(x.dtype)
    small = ((bits >> info.nmant) & ((1 << info.nexp) - 1)) == 0
    smallest = info.minexp - info.nmant  # a denormal number is a whole number times 2**smallest
    return jnp.where(small, _shifted(signed, power + smallest), _shifted(x, power))


@_times_power.defjvp
def _times_power_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    x, power = primals
    return _times_power(x, power), _shifted(tangents[0], power)


def power_of_two(power: Int[Array, "..."], dtype: jnp.dtype) -> Float[Array, "..."]:
    """2**power; 0 and infinity beyond the type."""
    return _shifted(jnp.ones((), dtype), power)


def _shifted(x: Array, power: Array) -> Array:
    # In two factors: 2**power alone may leave the type where the product does not.
    most = 2 * (jnp.finfo(x.dtype).maxexp - 2)
    power = jnp.clip(power, -most, most)
    half = power >> 1
    return x * _power(half, x.dtype) * _power(power - half, x.dtype)


def _power(power: Array, dtype: jnp.dtype) -> Array:
    """2**power as a number; for powers that are no denormal numbers."""
    info = jnp.finfo(dtype)
    biased = (power + (info.maxexp - 1)).astype(_integer(dtype))
    return jax.lax.bitcast_convert_type(biased << info.nmant, dtype)


def _bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), _integer(x.dtype))


def _integer(dtype: jnp.dtype) -> np.dtype:
    return np.dtype(f"int{8 * jnp.dtype(dtype).itemsize}")


def balanced(
    x: Float[Array, "*s"], axis: int | None = None
) -> tuple[Float[Array, "*s"], Int[Array, "..."]]:
    """x over a power of two that makes its largest entry ordinary, and the exponent of that power.

    Parameters
    ----------
    x
        Real, any shape.
    axis
        One power for every slice along this axis; None: one for all of x.

    Returns
    -------
    scaled, exponent
        x = scaled 2**exponent. The exponent is 0 where the largest entry lies between about 2**-40
        and 2**40 (float64: 2**-320 and 2**320), whose squares are numbers: nothing changes there.
    """
    found = _unless_ordinary(exponent(x, axis), x.dtype)
    shifts = found if axis is None else jnp.expand_dims(found, axis)
    return times_power(x, -shifts), found


def balanced_columns(
    matrix: Float[Array, "a q"],
) -> tuple[Float[Array, "a q"], Int[Array, " q"]]:
    """`balanced` for every column; the exponent of a column of zeros is `ABSENT`."""
    zero = jnp.all(_bits(matrix) << 1 == 0, axis=0)
    found = jnp.where(zero, 0, _unless_ordinary(exponent(matrix, axis=0), matrix.dtype))
    return times_power(matrix, -found[None]), jnp.where(zero, ABSENT, found)


def _unless_ordinary(found: Array, dtype: jnp.dtype) -> Array:
    return jnp.where(abs(found) <= _ordinary(dtype), 0, found)


def _ordinary(dtype: jnp.dtype) -> int:
    return jnp.finfo(dtype).maxexp * 5 // 16


def common_power(
    own: Int[Array, ""], columns: Int[Array, " q"], m: Float[Array, " q"]
) -> tuple[Int[Array, ""], Int[Array, " q"]]:
    """What brings x and all columns R_l m_l to one scale, on which none is more than ordinary.

    Parameters
    ----------
    own, columns
        The exponents of x and of the columns of R, from `balanced` and `balanced_columns`.
    m
        Measured state.

    Returns
    -------
    power, turns
        v 2**-power is x 2**-power plus all columns, over their powers, times m_l 2**turns_l.
    """
    sizes = exponent(m, axis=())
    power = jnp.maximum(own, jnp.max(sizes + columns))
    # Only a derivative by a column of zeros sees its m_l, whose square still has to be a number.
    idle = jnp.maximum(power, jnp.maximum(sizes, 0) - _ordinary(m.dtype))
    return power, jnp.where(columns == ABSENT, -idle, columns - power)


def direction(
    x: Float[Array, " a"], reinjection: Float[Array, "a q"], m: Float[Array, " q"]
) -> tuple[Float[Array, " a"], Int[Array, ""]]:
    """v = x + R m over a power of two that makes its square a number, and the power's exponent.

    In the ordinary range it is v itself, up to a small power of two.

    Examples
    --------
    >>> x, m = jnp.array([3e-30, 4e-30]), jnp.zeros(1)
    >>> scaled, power = direction(x, jnp.ones((2, 1)), m)
    >>> (scaled / jnp.linalg.norm(scaled)).round(4)
    Array([0.6, 0.8], dtype=float32)
    """
    x, own = balanced(x)
    columns, exponents = balanced_columns(reinjection)
    power, turns = common_power(own, exponents, m)
    fed_back = jnp.matmul(columns, times_power(m, turns), precision=PRECISION)
    scaled, more = balanced(times_power(x, own - power) + fed_back)
    return scaled, power + more
