"""The few lines that every solver of this package shares: checks, bounds, the error it reports."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from qdeq._numbers import at_least, at_most
from qdeq.errors import UserError


def check_tolerances(rtol: Any, atol: Any) -> None:
    """Raise `UserError` for a negative tolerance; traced tolerances are taken on trust."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if isinstance(value, (int, float)) and not value >= 0:
            raise UserError(f"{name}={value!r}: a tolerance is a number that is at least 0")


def check_count(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name}={value!r}: give an integer that is at least 1")


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


def relative_error(
    norm: Callable[[PyTree], Array], rtol: float, atol: float, g: Array, out: Array
) -> Float[Array, ""]:
    """|f(y) - y| / (atol + rtol |f(y)|): below 1 is converged, for every solver here.

    Only a solver that runs inside Optimistix looks at it; `_solve.py` tests for itself, and the
    compiler then drops this one.
    """
    return norm(g) / (atol + rtol * norm(out))
