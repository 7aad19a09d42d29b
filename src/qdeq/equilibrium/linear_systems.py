"""Solves (I - J) x = v for states whose J is not written out at first: GMRES, checked.

Where GMRES does not come down to the residual that the arithmetic allows, J is written out after
all and the system solved densely; where that does not fit, the user is warned.
"""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, PyTree

from qdeq import _manual_axes
from qdeq.equilibrium._common import two_norm
from qdeq.equilibrium.dense import robust_inverse
from qdeq.native.constants import SOLVED

# Up to this size a system that GMRES failed on is written out: 64 MiB a matrix in float32, one
# sample after another, and a few seconds.
LARGEST_DENSE = 4096

_CYCLES = 4  # of GMRES, each on what the one before left
_COLUMNS = 64  # of A that are computed at a time
_REFINEMENTS = 2  # of the dense solution
# Relative roundings from here on are those of half precision: 50 of bfloat16's would be 0.4.
_COARSEST = 4e-4


class _Attempt(eqx.Module):
    x: Float[Array, " n"]
    left: Float[Array, " n"]  # v - A x
    size: Float[Array, ""]  # and its length
    cycles: Array
    goes_on: Bool[Array, ""]


def solve(
    system: Callable[[Array], Array],
    v: Float[Array, " n"],
    *,
    rtol: float | None,
    atol: float | None,
    max_steps: int,
    largest_dense: int = LARGEST_DENSE,
) -> Float[Array, " n"]:
    """x with A x = v, for a linear map A = I - J.

    Parameters
    ----------
    system
        x -> A x.
    v
        Right-hand side, `(n,)`.
    rtol, atol
        Solved where |v - A x| <= atol + rtol |v|; None for as good as the dtype allows.
    max_steps
        Of each cycle of GMRES; at most four cycles.
    largest_dense
        Up to this size A is written out where GMRES failed.

    Returns
    -------
    Array
        `(n,)`. For a singular A the regularised solution of `robust_inverse`; v where A is not
        finite. Never differentiated itself: see `lax.custom_linear_solve`.
    """
    dtype = v.dtype
    largest = jnp.max(jnp.abs(v))  # NaN is seen in the length
    usable = jnp.isfinite(largest) & (largest > 0)
    # A power of two: tolerances then mean the same for gradients of any size, to the last bit.
    exponent = jnp.where(usable, jnp.frexp(jnp.where(usable, largest, 1))[1], 0)
    scaled = jnp.ldexp(v, -exponent)
    length = two_norm(scaled)
    wanted = SOLVED * _rounding(dtype) * length
    if rtol is not None or atol is not None:
        wanted = jnp.ldexp(jnp.asarray(atol or 0, dtype), -exponent) + (rtol or 0) * length
    found = _gmres_cycles(system, scaled, wanted, rtol, max_steps)
    failed = ~(found.size <= wanted)  # true for NaN
    x = jnp.where(jnp.isfinite(found.size), found.x, scaled)
    converted = eqx.filter_closure_convert(system, scaled)
    arrays, rest = eqx.partition(converted, eqx.is_array)
    if v.shape[0] <= largest_dense:
        x = _densely_where(failed, x, scaled, arrays, rest)
    else:
        x = _warned_where(failed, found.size / length, x, largest_dense)
    return jnp.ldexp(x, exponent)


def _gmres_cycles(
    system: Callable[[Array], Array],
    v: Array,
    wanted: Array,
    rtol: float | None,
    max_steps: int,
) -> _Attempt:
    # A cycle gains at most the digits that its basis keeps orthogonal; what is left over is
    # computed anew from x, which is what makes the figure a measurement.
    accuracy = max(10 * _rounding(v.dtype), 1e-8) if rtol is None else rtol
    gmres = lx.GMRES(rtol=accuracy, atol=accuracy, max_steps=max_steps)

    def cycle(now: _Attempt) -> _Attempt:
        largest = jnp.max(jnp.abs(now.left))  # NaN is seen in the size
        largest = jnp.where(largest > 0, largest, 1)
        # `lax.custom_linear_solve` around Lineax: on its own, Lineax raises for the whole batch
        # if the transposed solve of one sample fails, whatever `throw` says.
        step = by_gmres(system, now.left / largest, gmres) * largest
        x = now.x + step
        left = v - system(x)
        size = two_norm(left)
        better = size < now.size  # false for NaN
        x, left = jnp.where(better, x, now.x), jnp.where(better, left, now.left)
        goes_on = (size < now.size / 2) & ~(size <= wanted) & (now.cycles + 1 < _CYCLES)
        return _Attempt(x, left, jnp.where(better, size, now.size), now.cycles + 1, goes_on)

    length = two_norm(v)
    start = _Attempt(jnp.zeros_like(v), v, length, jnp.asarray(0, jnp.int32), length > 0)
    return lax.while_loop(lambda now: now.goes_on, cycle, start)


def _rounding(dtype: Any) -> float:
    return min(float(jnp.finfo(dtype).eps), _COARSEST)


def by_gmres(
    system: Callable[[Array], Array], v: Float[Array, "..."], gmres: lx.GMRES
) -> Float[Array, "..."]:
    """x with A x = v as good as `gmres` finds it."""
    given, wide = v.dtype, jnp.promote_types(v.dtype, jnp.float32)
    if wide != given:  # there are no least squares of half precision
        widened = lambda x: system(x.astype(given)).astype(wide)  # noqa: E731
        return by_gmres(widened, v.astype(wide), gmres).astype(given)
    if _manual_axes.are_present():  # https://github.com/patrick-kidger/lineax/issues/185
        # JAX's own goes on without progress.
        most = min(gmres.max_steps or gmres.stagnation_iters, gmres.stagnation_iters)
        return jax.scipy.sparse.linalg.gmres(
            system, v, tol=gmres.rtol, atol=gmres.atol, restart=gmres.restart, maxiter=most
        )[0]
    operator = lx.FunctionLinearOperator(system, jax.ShapeDtypeStruct(v.shape, v.dtype))
    return lx.linear_solve(operator, v, gmres, throw=False).value


def _densely_where(failed: Array, x: Array, v: Array, arrays: PyTree, rest: PyTree) -> Array:
    """x, and the dense solution where `failed`.

    Under `jax.vmap` a condition computes both sides. This one looks at the samples one after
    another, and at none where none failed: that is the usual batch, and memory for the matrices of
    a whole batch is never taken.
    """

    def dense(x: Array, v: Array, arrays: PyTree) -> Array:
        del x
        system = eqx.combine(arrays, rest)
        columns = lax.map(system, jnp.eye(v.shape[0], dtype=v.dtype), batch_size=_COLUMNS)
        return dense_solution(columns.T, v)

    def keep(x: Array, v: Array, arrays: PyTree) -> Array:
        del v, arrays
        return x

    @custom_vmap
    def one(failed: Array, x: Array, v: Array, arrays: PyTree) -> Array:
        return lax.cond(failed, dense, keep, x, v, arrays)

    @one.def_vmap
    def many(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[Array, bool]:
        batched = tuple(in_batched)
        full = jax.tree.map(
            lambda leaf, is_batched: leaf if is_batched else None, arguments, batched
        )
        shared = jax.tree.map(
            lambda leaf, is_batched: None if is_batched else leaf, arguments, batched
        )

        def sample(index: Array) -> Array:
            mine = jax.tree.map(lambda leaf: leaf[index], full)
            return one(*eqx.combine(mine, shared))

        failed, x = arguments[:2]
        x = x if batched[1] else jnp.broadcast_to(x, (axis_size, *x.shape))
        return lax.cond(
            jnp.any(failed), lambda: lax.map(sample, jnp.arange(axis_size)), lambda: x
        ), True

    return one(failed, x, v, arrays)


def dense_solution(matrix: Float[Array, "n n"], v: Float[Array, " n"]) -> Float[Array, " n"]:
    """x with `matrix` x = v by `robust_inverse`, and what that leaves over solved once more.

    The product with an inverse alone may be off by the square of the condition number: where |x| is
    far smaller than |inverse| |v|.
    """
    inverse, _ = robust_inverse(matrix)
    multiply = lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST)  # noqa: E731
    x = multiply(inverse, v)
    for _ in range(_REFINEMENTS):
        change = multiply(inverse, v - multiply(matrix, x))
        x = x + jnp.where(jnp.all(jnp.isfinite(change)), change, 0)
    return x


def _warned_where(failed: Array, residual: Array, x: Array, largest_dense: int) -> Array:
    instead = f" (up to {largest_dense} numbers it is solved densely instead)"
    said: list[float] = []

    def say(residual: Array) -> None:
        if not said:  # once per compiled program
            said.append(float(residual))
            warnings.warn(
                f"the backward solve of a state of {x.shape[-1]} numbers ended with a relative "
                f"residual of {float(residual):.1e}: gradients through this equilibrium are "
                "inexact; see stats.adjoint_residual, and give the adjoint more max_steps, or take "
                f"another one{instead if largest_dense else ''}",
                RuntimeWarning,
                stacklevel=2,
            )

    @custom_vmap
    def one(failed: Array, residual: Array, x: Array) -> Array:
        lax.cond(failed, lambda r: jax.debug.callback(say, r), lambda r: None, residual)
        return x

    @one.def_vmap
    def many(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[Array, bool]:
        del axis_size
        failed, residual, x = arguments
        # The first that failed stands for them: a maximum would lose NaN.
        first = jnp.argmax(failed)
        residual = residual[first] if in_batched[1] else residual
        one(jnp.any(failed), residual, jnp.zeros(()))
        return x, in_batched[2]

    return one(failed, residual, x)
