"""Penalties that keep an equilibrium easy to reach: on its Jacobian, or on its attraction.

Each is a plain function of (f, z, x) to add to a loss, differentiable with respect to all of them:
where z is an `Equilibrium`'s value, its derivative through the equilibrium is included.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from qdeq._numbers import positive_part
from qdeq._vectors import check_key
from qdeq.equilibrium._derivatives import matrix
from qdeq.equilibrium._problem import flat_at, knows_jacobian
from qdeq.errors import check_choice, check_count


def squared_frobenius_norm(
    f: Callable[..., PyTree], z: PyTree, x: PyTree = None
) -> Float[Array, ""]:
    """The square of the Frobenius norm of df/dz, exactly, by n forward derivatives.

    A model function bound to its sample brings its Jacobian along, which is cheaper.

    Parameters
    ----------
    f
        `f(z, x)`, or `f(z)` where x is None.
    z
        Where the Jacobian is taken, any pytree with n numbers in all.
    x
        Second argument of f.

    Returns
    -------
    Scalar |J|_F^2, not divided by n; an upper bound on the squared spectral radius.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(squared_frobenius_norm(lambda z: 3.0 * z, jnp.zeros(2)))
    18.0
    """
    if x is None and knows_jacobian(f) and isinstance(z, jax.Array) and z.ndim == 1:
        return jnp.sum(f.jacobian(z) ** 2)
    flat_f, start = flat_at(f, z, x, into_itself=False)
    return jnp.sum(matrix(flat_f, start) ** 2)


def hutchinson(
    f: Callable[..., PyTree],
    z: PyTree,
    x: PyTree,
    key: PRNGKeyArray,
    *,
    n_probes: int = 1,
    probe: str = "rademacher",
    mode: str = "jvp",
) -> Float[Array, ""]:
    """Unbiased estimate of `squared_frobenius_norm`: the mean of |J e|^2 over random probes e.

    Parameters
    ----------
    f, z, x
        As in `squared_frobenius_norm`; `x=None` for an f of z alone.
    key
        JAX key, one per sample.
    n_probes
        Probes; each costs one derivative of f.
    probe
        "rademacher" (random signs, less variance) or "normal" (the published QDEQ's).
    mode
        "jvp" for |J e|^2, or "vjp" for |J' e|^2 (the published QDEQ's): same mean.

    Raises
    ------
    UserError
        For an unknown probe or mode, or `n_probes` below 1.

    References
    ----------
    S. Bai, V. Koltun, J. Z. Kolter, Stabilizing equilibrium models by Jacobian regularization,
    ICML 2021 (with a division by n that is left to the caller here).
    """
    check_key(key)
    check_count("n_probes", n_probes)
    check_choice("probe", probe, ["rademacher", "normal"])
    check_choice("mode", mode, ["jvp", "vjp"])
    flat_f, start = flat_at(f, z, x, into_itself=False)
    draw = jax.random.rademacher if probe == "rademacher" else jax.random.normal
    probes = draw(key, (n_probes, start.shape[0]), start.dtype)
    if mode == "jvp":
        products = jax.vmap(lambda e: jax.jvp(flat_f, (start,), (e,))[1])(probes)
    else:
        _, pull = jax.vjp(flat_f, start)
        products = jax.vmap(lambda e: pull(e)[0])(probes)
    return jnp.sum(products**2) / n_probes


def hinge(value: Float[Array, ""], bound: float) -> Float[Array, ""]:
    """max(value - bound, 0): a penalty that is silent below the bound, in value and gradient.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(hinge(jnp.asarray(3.0), 1.0)), float(hinge(jnp.asarray(0.5), 1.0))
    (2.0, 0.0)
    """
    return positive_part(value - bound)


def denoising(
    f: Callable[..., PyTree], z: PyTree, x: PyTree, key: PRNGKeyArray, *, scale: float = 0.1
) -> Float[Array, ""]:
    """|f(z + e) - z|^2 for normal noise e: how well f pulls a disturbed state back.

    To first order its mean at an equilibrium is scale^2 |J|_F^2. It needs one evaluation of f and
    no derivative, which makes it the cheapest of these penalties on hardware.

    Parameters
    ----------
    f, z, x
        As in `squared_frobenius_norm`; `x=None` for an f of z alone.
    key
        JAX key, one per sample.
    scale
        Standard deviation of the noise, in the units of z.
    """
    flat_f, start = flat_at(f, z, x)
    noise = scale * jax.random.normal(key, start.shape, start.dtype)
    return jnp.sum((flat_f(start + noise) - start) ** 2)


def gain_factor(matrix: Float[Array, "a q"], bound: float) -> Float[Array, ""]:
    """min(1, bound / |M|): what a matrix is multiplied with so that its gain is at most `bound`.

    Parameters
    ----------
    matrix
        M; |M| is its spectral norm, the most that it makes a vector longer.
    bound
        Above 0.

    Returns
    -------
    Scalar; 1 exactly within the bound. Beyond it the gradient of the product has no part along M's
    leading singular direction.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(gain_factor(jnp.diag(jnp.array([2.0, 1.0])), 1.0))
    0.5
    """
    singular = jnp.linalg.norm(lax.stop_gradient(matrix), ord=2)  # NaN where M holds any
    is_within = singular <= bound
    # The second derivative of a norm is not a number where singular values are equal, as those of 0
    # are: within the bound it is taken of another matrix, and counts nothing.
    apart = jnp.eye(*matrix.shape, dtype=matrix.dtype) * jnp.arange(1, matrix.shape[1] + 1)
    chosen = jnp.where(is_within, apart.astype(matrix.dtype), matrix)
    largest = jnp.linalg.norm(chosen, ord=2)  # NaN where M holds any
    return jnp.where(is_within, 1, bound / largest)
