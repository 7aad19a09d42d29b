"""The vectors of one sample, whose lengths compiled kernels take on trust."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from qdeq.errors import UserError


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
    if np.ma.is_masked(value):
        raise UserError(f"{name} is masked: give ({n},) real numbers")
    if not isinstance(value, jax.Array):
        try:
            kept = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            kept = kept or any(map(_is_complex, jax.tree.leaves(value)))  # for the message below
            value = jnp.asarray(value, None if kept else dtype)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: {error}; give ({n},) real numbers") from None
    if jnp.iscomplexobj(value):
        raise UserError(f"{name} is complex: give ({n},) real numbers")
    if value.shape != (n,):
        raise UserError(
            f"{name} has the shape {value.shape}: give ({n},), one sample; jax.vmap maps a batch"
        )
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(dtype)


def _is_complex(value: Any) -> bool:  # of a list's part, which may be traced
    of_dtype = jnp.issubdtype(getattr(value, "dtype", float), jnp.complexfloating)
    return isinstance(value, complex) or of_dtype
