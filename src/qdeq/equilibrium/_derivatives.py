"""df/dy of a function of one vector, as products and as a matrix.

Forward derivatives, unless f has none: a `jax.custom_vjp` brings a reverse derivative only, and its
transpose serves instead.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def products(
    function: Callable[[Array], Array], y: Float[Array, " n"]
) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """v -> J v at y, J = df/dy; f is evaluated once, however many products are taken."""
    _, push = jax.linearize(function, y)
    try:  # JAX says it when a product is batched
        jax.eval_shape(jax.vmap(push), jax.ShapeDtypeStruct((1, *y.shape), y.dtype))
    except TypeError:
        _, pull = jax.vjp(function, y)
        transposed = jax.linear_transpose(lambda c: pull(c)[0], y)
        return lambda v: transposed(v)[0]
    return push


def matrix(function: Callable[[Array], Array], y: Float[Array, " n"]) -> Float[Array, "n n"]:
    """J at y, all of it."""
    try:
        return jax.jacfwd(function)(y)
    except TypeError:
        return jax.jacrev(function)(y)


def value_and_matrix(
    function: Callable[[Array], tuple[Array, object]], y: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, "n n"], object]:
    """f(y), J and what else f returns, from one evaluation of f."""
    identity = jnp.eye(y.shape[0], dtype=y.dtype)
    try:
        value, push, aux = jax.linearize(function, y, has_aux=True)
        return value, jax.vmap(push, out_axes=-1)(identity), aux
    except TypeError:
        value, pull, aux = jax.vjp(function, y, has_aux=True)
        return value, jax.vmap(lambda c: pull(c)[0])(identity), aux
