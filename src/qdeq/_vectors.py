"""The vectors of one sample, whose lengths compiled kernels take on trust."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from qdeq.errors import UserError, told


def as_vector(name: str, value: ArrayLike, n: int, dtype: jnp.dtype) -> Array:
    """`value` as `n` real numbers; lists and integers become `dtype`, floating types stay.

    Raises
    ------
    UserError
        For another shape, such as that of a batch, for complex or masked numbers, or for what is no
        numbers.

    Examples
    --------
    >>> as_vector("x", jnp.ones((8, 3)), 3, jnp.dtype("float32"))
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: x has the shape (8, 3): give (3,), one sample; jax.vmap maps a batch
    """
    if lost := lost_in_reals(value):
        raise UserError(f"{name} is {lost}: give ({n},) real numbers")
    if not isinstance(value, jax.Array):
        try:
            is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            value = jnp.asarray(value, None if is_float else dtype)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: {error}; give ({n},) real numbers") from None
    if value.shape != (n,):
        raise UserError(
            f"{name} has the shape {value.shape}: give ({n},), one sample; jax.vmap maps a batch"
        )
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(dtype)


def as_reals(name: str, values: Any, dtype: Any, wanted: str = "real numbers") -> Array:
    """What a user gave as real numbers.

    Raises
    ------
    UserError
        For complex or masked numbers, whose other part would be dropped, and what is no numbers.
    """
    if lost := lost_in_reals(values):
        raise UserError(f"{name} is {lost}: give real numbers")
    try:
        return jnp.asarray(values, dtype)
    except (TypeError, ValueError):
        raise UserError(f"{name} is no array of numbers: give {wanted}") from None


def check_key(key: Any) -> None:
    """Raise `UserError` for what is no key of JAX's; arrays of an old kind are keys as well."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (dtype == "uint32" or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        raise UserError(f"key={told(key)}: give a key of JAX's, such as jax.random.key(0)")


def lost_in_reals(values: Any) -> str:
    """What would be dropped if values became real numbers: `"masked"`, `"complex"` or nothing.

    Lists are looked through, since their parts may be traced.
    """
    if np.ma.is_masked(values):
        return "masked"
    return "complex" if any(map(_is_complex, jax.tree.leaves(values))) else ""


def _is_complex(value: Any) -> bool:
    of_dtype = jnp.issubdtype(getattr(value, "dtype", float), jnp.complexfloating)
    return isinstance(value, complex) or of_dtype
