"""Does a network's equilibrium stay one: growth of small changes, and the spread over starts."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from qdeq._numbers import largest
from qdeq.equilibrium.networks.layer import (
    NetworkEquilibrium,
    check_layer,
    checked_features,
    checked_states,
    with_tolerances_of_its_solver,
)
from qdeq.equilibrium.networks.wired import Jacobian, Wired, checked_mask
from qdeq.equilibrium.regularisers import hinge
from qdeq.errors import check_amount, check_count


def growth(
    network: Wired,
    z: Float[Array, "N q"],
    x: Float[Array, "N d"],
    mask: Bool[Array, " N"] | None = None,
    *,
    warm_up: int = 50,
    steps: int = 10,
) -> Float[Array, ""]:
    """By what factor repeated application makes a small change grow: about the spectral radius.

    (|J^(k + n) p| / |J^k p|)^(1 / n) for a fixed random p, by products with J along the wiring.
    The derivative is that of the last n products, their start held fixed: it lowers the radius
    where it is descended. On a causal wiring J^N = 0, and so is the radius, however far a change
    travels before.

    Parameters
    ----------
    network
        Whose Jacobian.
    z, x, mask
        Where it is taken.
    warm_up, steps
        k and n.

    Returns
    -------
    Scalar; 0 where J^(k + n) p is 0.

    Examples
    --------
    >>> from qdeq.equilibrium.networks import Chain, EdgeInjection
    >>> ring = Chain(8, "both", ring=True)
    >>> network = Wired(lambda v, x: v, EdgeInjection([[1.0]], [[[0.3]], [[0.3]]]), ring)
    >>> print(f"{growth(network, jnp.zeros((8, 1)), jnp.zeros((8, 1))):.3f}")
    0.600
    """
    check_count("warm_up", warm_up)
    check_count("steps", steps)
    x, mask = checked_features(network, x), checked_mask(mask, network.wiring)
    z = checked_states(network, z, "z")
    jacobian = network.linearise(z, x.astype(z.dtype), mask)[1]
    start = jax.random.normal(jax.random.key(0), z.shape, z.dtype)

    def product(p: Array, matrix: Jacobian) -> tuple[Array, Array]:
        p = matrix.push(p)
        # Not at 0, where a length has no derivative.
        square = jnp.sum(p**2)
        alive = square > 0
        length = jnp.sqrt(jnp.where(alive, square, 1))
        return jnp.where(alive, p / length, 0), jnp.where(alive, jnp.log(length), -jnp.inf)

    still = lax.stop_gradient(jacobian)
    p, _ = lax.scan(lambda p, _: product(p, still), start, None, length=warm_up)
    _, logs = lax.scan(lambda p, _: product(p, jacobian), p, None, length=steps)
    return jnp.exp(jnp.mean(logs))


def stability_penalty(
    network: Wired,
    z: Float[Array, "N q"],
    x: Float[Array, "N d"],
    mask: Bool[Array, " N"] | None = None,
    *,
    ceiling: float = 0.95,
) -> Float[Array, ""]:
    """max(growth - ceiling, 0)^2: silent below the ceiling, so that nothing pulls gains to zero.

    Parameters
    ----------
    network, z, x, mask
        See `growth`; z is the equilibrium.
    ceiling
        Just below 1.
    """
    return hinge(growth(network, z, x, mask), ceiling) ** 2


class PathIndependence(eqx.Module):
    """How far answers from random starts lie apart.

    Attributes
    ----------
    spread
        The largest |z - z'| / |z| over the answers z', z that from 0; where z is 0 to the tolerance
        the largest |z - z'|.
    converged_fraction
        Of the starts.
    """

    spread: Float[Array, ""]
    converged_fraction: Float[Array, ""]


def path_independence(
    layer: NetworkEquilibrium,
    network: Wired,
    x: Float[Array, "N d"],
    *,
    key: PRNGKeyArray | Array,
    mask: Bool[Array, " N"] | None = None,
    n_starts: int = 8,
    scale: float = 1.0,
) -> PathIndependence:
    """Solve one sample from random starts: one equilibrium, or several?

    Parameters
    ----------
    layer, network, x, mask
        What is solved, and how. (A sweep has no start.)
    key
        JAX key.
    n_starts
        Random starts beside 0, uniform in (-scale, scale).
    scale
        1 for expectation values.

    Returns
    -------
    PathIndependence
        Its spread is of the order of the tolerances where there is one equilibrium.

    References
    ----------
    C. Anil et al., Path independent equilibrium models can better exploit test-time computation,
    NeurIPS 2022.
    """
    check_layer(layer)
    check_count("n_starts", n_starts)
    check_amount("scale", scale, above=True)
    x = checked_features(network, x)
    shape = (n_starts, network.wiring.n_sites, network.injection.n_states)
    starts = jax.random.uniform(key, shape, jnp.result_type(x, float), -scale, scale)
    starts = jnp.concatenate([jnp.zeros_like(starts[:1]), starts])
    found = jax.vmap(lambda z0: layer(network, x, z0=z0, mask=mask))(starts)
    distances = jnp.sqrt(jnp.sum((found.value - found.value[0]) ** 2, axis=(1, 2)))
    length = jnp.sqrt(jnp.sum(found.value[0] ** 2))
    # Nothing is small relative to 0, which answers come as close to as the tolerance asks.
    unit = jnp.where(length > with_tolerances_of_its_solver(layer).atol, length, 1)
    return PathIndependence(largest(distances) / unit, jnp.mean(found.stats.converged))
