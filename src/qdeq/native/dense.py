"""Inverses of many small matrices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from qdeq.native.library import target


def invert(a: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """The inverse of a matrix, and whether it is regular to working precision.

    Gauss-Jordan elimination with partial pivoting, a matrix per vector lane; entries of the inverse
    of a singular matrix mean nothing.
    """
    results = (jax.ShapeDtypeStruct(a.shape, a.dtype), jax.ShapeDtypeStruct((), jnp.bool_))
    name = target("qdeq_invert", a.dtype)
    inverse, regular = jax.ffi.ffi_call(name, results, vmap_method="broadcast_all")(a)
    return inverse, regular
