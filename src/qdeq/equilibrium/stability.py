"""Does plain iteration settle here: the spectral radius of the Jacobian at a point."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from qdeq._numbers import largest
from qdeq.equilibrium._derivatives import matrix, products
from qdeq.equilibrium._problem import flat_at
from qdeq.equilibrium._programs import compiled_once
from qdeq.equilibrium.attach import DENSE_LIMIT
from qdeq.equilibrium.dense import product
from qdeq.errors import check_choice

# J^(2^20): Gelfand's |J^m|^(1/m) then differs from the radius by a factor kappa^(1/m), 1 + 1e-5 for
# a condition number of 1e5 of the eigenvectors, and by 1 + 1e-5 for a Jordan block.
_SQUARINGS = 20
_POWER_STEPS = 200


def spectral_radius(
    f: Callable[..., PyTree], z: PyTree, x: PyTree = None, *, method: str = "auto"
) -> Float[Array, ""]:
    """The largest absolute eigenvalue of df/dz: below 1, Picard iteration converges near z.

    A diagnostic: it carries no derivative. (For a penalty see `squared_frobenius_norm`.)

    Parameters
    ----------
    f, z, x
        As in `squared_frobenius_norm`.
    method
        "squaring": lim |J^m|^(1/m) with m = 2^20 by repeated squaring of the n x n Jacobian, exact
        to the precision of the dtype; runs batched on any device, unlike an eigenvalue solver.
        "power": 200 products with J, an estimate (a few per cent) for large states, complex pairs
        included. "auto": squaring up to n = 64.

    Raises
    ------
    UserError
        For an unknown method.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> rotation = jnp.array([[0.0, -0.5], [0.5, 0.0]])
    >>> print(f"{spectral_radius(lambda z: rotation @ z, jnp.zeros(2)):.4f}")
    0.5000
    """
    check_choice("method", method, ["auto", "squaring", "power"])
    return _spectral_radius(None, f, z, x, method=method)


@compiled_once
def _spectral_radius(
    _: None, f: Callable[..., PyTree], z: PyTree, x: PyTree, *, method: str
) -> Float[Array, ""]:
    flat_f, start = flat_at(f, z, x)
    if method == "squaring" or (method == "auto" and start.shape[0] <= DENSE_LIMIT):
        radius = _by_squaring(matrix(flat_f, start))
    else:
        radius = _by_powers(flat_f, start)
    return lax.stop_gradient(radius)


def _normalised(a: Array) -> tuple[Array, Array]:
    """`a` with largest entry 1 and log of its size; a zero stays zero with log -inf.

    The largest entry is as good a norm as any in the limit, and its squares cannot underflow.
    """
    size = largest(jnp.abs(a))
    return a / jnp.where(size == 0, 1, size), jnp.log(size)


def _by_squaring(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    power, log_size = _normalised(matrix)

    def square(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        power, log_mean = carry  # J^m / |J^m| and log(|J^m|) / m, with m = 2^k
        power, log_size = _normalised(product(power, power))
        return power, log_mean + log_size * jnp.exp2(-(k + 1).astype(log_size.dtype))

    _, log_mean = lax.fori_loop(0, _SQUARINGS, square, (power, log_size))
    return jnp.exp(log_mean)


def _by_powers(flat_f: Callable[[Array], Array], start: Float[Array, " n"]) -> Float[Array, ""]:
    push = products(flat_f, start)

    def step(carry: Array, _: None) -> tuple[Array, Array]:
        return _normalised(push(carry))

    direction, _ = _normalised(jax.random.normal(jax.random.key(0), start.shape, start.dtype))
    _, logs = lax.scan(step, direction, None, length=_POWER_STEPS)
    # The mean growth over the second half: single steps oscillate where the leading
    # eigenvalues are a complex pair.
    return jnp.exp(jnp.mean(logs[_POWER_STEPS // 2 :]))
