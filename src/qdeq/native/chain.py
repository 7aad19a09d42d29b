"""Linear systems of networks on chains both ways, as one call; `jax.vmap` makes it a batch."""

import jax
from jaxtyping import Array, Float

from qdeq.native.evaluate import of_one_type
from qdeq.native.library import target

# Numbers of a site that are eliminated together: a block of more leaves the first-level cache.
LARGEST_BLOCK = 32


def solve_chain(
    slopes: Float[Array, "N q a"],
    messages: Float[Array, "2 a q"],
    right: Float[Array, "N q"],
    scale: Float[Array, ""],
    *,
    ring: bool,
    transposed: bool,
    refined: bool,
) -> Float[Array, "N q"]:
    """x with scale x - J x = b, or scale x - J' x = b, by elimination from end to end.

    Parameters
    ----------
    slopes, messages
        C and W: (J x)_i = C_i (W_0 x_(i-1) + W_1 x_(i+1)).
    right, scale
        b, and a number.
    ring
        Whether the ends meet; then there are at least three sites.
    transposed
        For J'.
    refined
        Solve once more for what is left over where that is more than rounding.
    """
    slopes, messages, right, scale = of_one_type(slopes, messages, right, scale)
    result = jax.ShapeDtypeStruct(right.shape, right.dtype)
    name = target("qdeq_chain", right.dtype)
    call = jax.ffi.ffi_call(name, result, vmap_method="expand_dims")
    return call(slopes, messages, right, scale, ring=ring, transposed=transposed, refined=refined)
