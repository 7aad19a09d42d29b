"""The spectral radius against NumPy's eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.equilibrium import spectral_radius
from qdeq.errors import UserError


def radius(matrix):
    return spectral_radius(lambda z: matrix @ z, jnp.zeros(matrix.shape[0], matrix.dtype))


def test_the_radius_of_random_matrices_is_that_of_their_eigenvalues(x64):
    matrices = np.random.default_rng(0).normal(size=(20, 6, 6))  # mostly complex leading pairs
    expected = np.abs(np.linalg.eigvals(matrices)).max(axis=1)
    found = jax.jit(jax.vmap(radius))(jnp.asarray(matrices))
    # Gelfand's formula at power 2^20 is off by the condition number to the power 1e-6.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.zeros((3, 3)), 0.0),
        (np.eye(3, k=1), 0.0),  # nilpotent
        (np.array([[0.0, -2.0], [2.0, 0.0]]), 2.0),  # a pure rotation: a complex pair
        (0.5 * np.eye(3) + np.eye(3, k=1), 0.5),  # a Jordan block
        (1e-20 * np.eye(2), 1e-20),
    ],
)
def test_awkward_matrices(matrix, expected):
    found = radius(jnp.asarray(matrix, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_power_method_estimates_large_states():
    matrix = np.random.default_rng(1).normal(size=(100, 100)) / 10
    expected = np.abs(np.linalg.eigvals(matrix)).max()
    found = radius(jnp.asarray(matrix, jnp.float32))
    # 200 products: the leading eigenvalues of a random matrix are close to one another.
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_it_is_a_diagnostic_without_derivative():
    slope = jax.grad(lambda a: spectral_radius(lambda z: a * z, jnp.zeros(2)))(0.5)
    assert float(slope) == 0.0


def test_an_unknown_method_is_a_user_error():
    with pytest.raises(UserError, match="auto, squaring, power"):
        spectral_radius(jnp.sin, jnp.zeros(2), method="eig")


def test_one_undefined_number_among_many_is_seen():
    # XLA's maximum of tens of thousands of numbers drops NaN on CPUs.
    slopes = jnp.full(40_000, 0.5).at[20_000].set(jnp.nan)
    assert bool(jnp.isnan(spectral_radius(lambda z: slopes * z, jnp.zeros(40_000))))
