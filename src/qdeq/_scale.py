"""Exact powers of two, so that no square of a magnitude leaves the floating-point type.

Amplitude encoding sees a direction: v = x + R m and s v are one state, whatever units the features
have. Before anything is squared, x, every column of R and m are therefore divided by powers of two,
which changes no digit. In the ordinary range those powers are 1.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qdeq._manual_axes import check_types
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
    largest = jnp.max(found, axis=axis, initial=ABSENT)  # whole numbers
    return jnp.maximum(largest, lowest(x.dtype))  # whole numbers


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


def balanced(x: Float[Array, " d"]) -> tuple[Array, Array, Array]:
    """x over a power of two that makes its square a number.

    Returns
    -------
    scaled, exponent, square
        x = scaled 2**exponent, and the square of `scaled`. The exponent is 0 where the square of x
        lies between about 2**-80 and 2**80 (float64: 2**-640 and 2**640): there nothing changes,
        and next to nothing is computed.
    """
    return _balanced(x)


# Compiled once also where nothing else is compiled; inlined everywhere else.
@jax.custom_jvp
@functools.partial(jax.jit, inline=True)
def _balanced(x: Array) -> tuple[Array, Array, Array]:
    most = 2.0 ** (2 * _ordinary(x.dtype))

    def squared(x: Array) -> Array:
        return jnp.matmul(x, x, precision=PRECISION)

    def divide(carry: tuple) -> tuple:
        found = exponent(carry[0])
        scaled = times_power(carry[0], -found)
        return scaled, found, squared(scaled), jnp.asarray(False)

    square = squared(x)
    needed = ~((square > 1 / most) & (square < most))
    # A loop and not a condition, also in `brought`: under vmap `lax.cond` always runs both sides,
    # while this loop runs no iteration at all if every sample of the batch is ordinary. What it
    # works on travels in the carry, or XLA would move that work out of the loop.
    check_types(x)
    start = (x, jnp.asarray(0, jnp.int32), square, needed)
    return jax.lax.while_loop(lambda carry: carry[3], divide, start)[:3]


@_balanced.defjvp
def _balanced_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    scaled, found, square = _balanced(*primals)
    change = _shifted(tangents[0], -found)
    by_square = 2 * jnp.matmul(scaled, change, precision=PRECISION)
    return (scaled, found, square), (change, _none(found), by_square)


def balanced_columns(
    matrix: Float[Array, "a q"],
) -> tuple[Float[Array, "a q"], Int[Array, " q"]]:
    """Every column over a power of two that makes its largest entry ordinary, and the exponents.

    An exponent is 0 where the largest entry lies between about 2**-40 and 2**40 (float64: 2**-320
    and 2**320), and `ABSENT` for a column of zeros.
    """
    found = exponent(matrix, axis=0)
    zero = jnp.all(_bits(matrix) << 1 == 0, axis=0)
    found = jnp.where(zero | (abs(found) <= _ordinary(matrix.dtype)), 0, found)
    return times_power(matrix, -found[None]), jnp.where(zero, ABSENT, found)


def _ordinary(dtype: jnp.dtype) -> int:
    return jnp.finfo(dtype).maxexp * 5 // 16


class Brought(NamedTuple):
    """x and all columns R_l m_l on one scale, on which none is more than ordinary.

    v is, up to a power of two, `weight` times x plus all columns times `m`, where x and the columns
    are those of `balanced` and `balanced_columns`.

    Attributes
    ----------
    m
        The measured state, every entry times its `turn`.
    turn, weight
        Powers of two.
    """

    m: Float[Array, " q"]
    turn: Float[Array, " q"]
    weight: Float[Array, ""]


def brought(m: Float[Array, " q"], own: Int[Array, ""], columns: Int[Array, " q"]) -> Brought:
    """Measured state m, brought to the scale of x and of the columns of R.

    Where their exponents `own` and `columns` are 0 and no entry of m is large, that is m itself and
    ones.
    """
    n = m.shape[0]
    packed = _brought(m, own, columns)
    return Brought(packed[:n], packed[n:-1], packed[-1])


# One array, since to the compiler loops are the same only if the same results are used of them: a
# value and a derivative then share one.
@jax.custom_jvp
@functools.partial(jax.jit, inline=True)
def _brought(m: Array, own: Array, columns: Array) -> Array:
    n, usual = m.shape[0], _ordinary(m.dtype)

    def bring(carry: tuple) -> tuple:
        m = carry[0][:n]
        sizes = exponent(m, axis=())
        power = jnp.maximum(own, jnp.max(sizes + columns))  # whole numbers
        # Only a derivative by a column of zeros sees its m_l, whose square has to be a number.
        idle = jnp.maximum(power, jnp.maximum(sizes, 0) - usual)  # whole numbers
        turns = jnp.where(columns == ABSENT, -idle, columns - power)
        powers = power_of_two(jnp.append(turns, own - power), m.dtype)
        return jnp.concatenate([times_power(m, turns), powers]), jnp.asarray(False)

    moved = (own != 0) | jnp.any((columns != 0) & (columns != ABSENT))
    needed = moved | ~jnp.all(abs(m) < 2.0**usual)
    start = jnp.concatenate([m, jnp.ones(n + 1, m.dtype)])
    check_types((start, needed))
    return jax.lax.while_loop(lambda carry: carry[1], bring, (start, needed))[0]


@_brought.defjvp
def _brought_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    packed = _brought(*primals)
    n = len(tangents[0])
    change = tangents[0] * packed[n:-1]
    return packed, jnp.concatenate([change, jnp.zeros(n + 1, change.dtype)])


def _none(integers: Array) -> np.ndarray:
    return np.zeros(integers.shape, jax.dtypes.float0)


def direction(
    x: Float[Array, " a"], reinjection: Float[Array, "a q"], m: Float[Array, " q"]
) -> tuple[Float[Array, " a"], Float[Array, " q"]]:
    """v = x + R m over a power of two that makes its square a number.

    Returns
    -------
    scaled, turns
        A positive multiple of v, and the powers of two that a derivative by m needs beside the
        columns of `balanced_columns`: that of `scaled` by m_l is column l times `turns[l]`.

    Examples
    --------
    >>> x, m = jnp.array([3e-30, 4e-30]), jnp.zeros(1)
    >>> scaled, _ = direction(x, jnp.ones((2, 1)), m)
    >>> [f"{number:.4f}" for number in scaled / jnp.linalg.norm(scaled)]
    ['0.6000', '0.8000']
    """
    x, own, _ = balanced(x)
    columns, exponents = balanced_columns(reinjection)
    state = brought(m, own, exponents)
    v = state.weight * x + jnp.matmul(columns, state.m, precision=PRECISION)
    scaled, more, _ = balanced(v)
    return scaled, _shifted(state.turn, -more)
