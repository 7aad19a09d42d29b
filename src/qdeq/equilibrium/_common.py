"""The few lines that every solver of this package shares: checks, bounds, the error it reports."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree

from qdeq._numbers import at_least, at_most
from qdeq.errors import UserError, check_amount, check_callable, check_count, told


def check_stopping(solver: Any) -> None:
    """Raise `UserError` for a solver whose tolerances or norm cannot be what ends a search."""
    check_tolerances(solver.rtol, solver.atol)
    check_callable("norm", solver.norm, "a function of a pytree, such as optimistix.two_norm")


def check_tolerances(rtol: Any, atol: Any, *, may_be_none: bool = False) -> None:
    """Raise `UserError` unless tolerances are finite and at least 0; arrays are taken on trust."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not (isinstance(value, jax.Array) or (may_be_none and value is None)):
            check_amount(name, value)


def check_budget(budget: Any) -> None:
    """Raise `UserError` for what is no whole number of at least 0, or None."""
    if not isinstance(budget, jax.Array | np.ndarray):
        if budget is not None:
            check_count("budget", budget, 0)
    elif budget.ndim or not jnp.issubdtype(budget.dtype, jnp.integer):
        raise UserError(
            f"budget has the shape {budget.shape} and the type {budget.dtype}: give one whole "
            "number, or with jax.vmap one for each sample"
        )


def step_budget(budget: Any, most: int) -> Array | None:
    """As an int32 of at most `most`.

    A compiled function does not see the value of a number: one below 0 is 0 there.
    """
    check_budget(budget)
    if budget is None:
        return None
    if not isinstance(budget, jax.Array):
        budget = min(int(budget), most)
    return at_least(at_most(budget, most), 0).astype(jnp.int32)


def check_within(name: str, value: Any, fits: Callable[[Any], bool], allowed: str) -> None:
    """Raise `UserError` unless `value` is a real number that `fits`; arrays are taken on trust."""
    if isinstance(value, jax.Array):
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(value):
        raise UserError(f"{name}={value!r}: give a number {allowed}")


def check_loop(max_steps: Any, stall_steps: Any, bounds: Any) -> None:
    """Raise `UserError` for step counts below 1, or bounds that are no pair in order."""
    check_count("max_steps", max_steps)
    if stall_steps is not None:
        check_count("stall_steps", stall_steps)
    if bounds is None:
        return
    if not (isinstance(bounds, tuple) and len(bounds) == 2) or any(
        isinstance(bound, str) for bound in bounds
    ):
        raise UserError(f"bounds={told(bounds)}: give a pair (lower, upper)")
    if not _in_order(*bounds):
        raise UserError(f"bounds={told(bounds)}: give (lower, upper) with lower below upper")


def _in_order(lower: PyTree, upper: PyTree) -> bool:
    """Whether no bound is above the other, or NaN; True where that cannot be said.

    Numbers that are equal leave nothing to solve for, entries of arrays may hold some of it still.
    """
    if isinstance(lower, Real) and isinstance(upper, Real):
        return bool(lower < upper)
    sides = [jax.tree.leaves(lower), jax.tree.leaves(upper)]
    if any(isinstance(leaf, jax.core.Tracer) for side in sides for leaf in side):
        return True
    n = max(map(len, sides))
    low, high = (side * n if len(side) == 1 else side for side in sides)
    try:
        return all(
            np.all(part(np.asarray(one)) <= part(np.asarray(other)))
            for one, other in zip(low, high, strict=True)
            for part in (np.real, _imaginary)
        )
    except (TypeError, ValueError):  # they do not fit the state, which is said when it is known
        return True


def _imaginary(bound: np.ndarray) -> np.ndarray:
    return np.imag(bound) if np.iscomplexobj(bound) else bound  # a real one is of both parts


def flat_bounds(
    bounds: tuple[PyTree, PyTree], flat: Callable[[PyTree], Array]
) -> tuple[Array, Array]:
    """Both by `flat`, which makes one an array like the flat state; `UserError` where it cannot."""
    try:
        lower, upper = (flat(bound) for bound in bounds)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"bounds={told(bounds)}: {str(error).splitlines()[0]}; give numbers, or arrays in the "
            "structure and shapes of the state"
        ) from None
    return lax.stop_gradient((lower, upper))


def project(y: PyTree[Array], options: dict[str, Any]) -> PyTree[Array]:
    """Clip `y` to the box `options["lower"]`, `options["upper"]` (Optimistix' convention)."""
    lower, upper = options.get("lower"), options.get("upper")
    if lower is not None:
        y = jax.tree.map(at_least, y, lower)
    if upper is not None:
        y = jax.tree.map(at_most, y, upper)
    return y


def bounded(options: dict[str, Any]) -> bool:
    """Whether `project` can change anything."""
    return options.get("lower") is not None or options.get("upper") is not None


def squares_in_range(total: Float[Array, ""]) -> Float[Array, ""]:
    """What to multiply numbers with whose squares sum up to `total` before they are squared again.

    1 in the ordinary range; a power of two, which changes no digit, where squares have left the
    type's range: those of float32 do so below 1e-19 and above 1e19.
    """
    limits = jnp.finfo(total.dtype)
    up = 2.0 ** {8: 100, 11: 700}.get(limits.nexp, 0)  # by the bits of the exponent
    small, large = total < limits.tiny / limits.eps, ~(total <= limits.max)
    return jnp.where(small, up, jnp.where(large, 1 / up, 1)).astype(total.dtype)


def two_norm(x: Float[Array, " n"]) -> Float[Array, ""]:
    """|x|, also where the squares of its entries are too large or too small for the type."""
    given = jnp.finfo(x.dtype).dtype
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # float16 has no room for squares
    factor = squares_in_range(_square(x))
    return (jnp.sqrt(_square(x * factor)) / factor).astype(given)


def _square(x: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.real(x * jnp.conj(x)))


def relative_error(
    norm: Callable[[PyTree], Array], rtol: float, atol: float, g: Array, out: Array
) -> Float[Array, ""]:
    """|f(y) - y| / (atol + rtol |f(y)|): below 1 is converged, for every solver here.

    Only a solver that runs inside Optimistix looks at it; `_solve.py` tests for itself, and the
    compiler then drops this one.
    """
    return norm(g) / (atol + rtol * norm(out))
