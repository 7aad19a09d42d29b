"""Penalties on the Jacobian: exact values against NumPy, estimates against exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equilibrium_problems import tanh_derivatives, tanh_inputs, tanh_map, tanh_weights

from qdeq.equilibrium import (
    denoising,
    hinge,
    hutchinson,
    spectral_radius,
    squared_frobenius_norm,
)
from qdeq.equilibrium.regularisers import gain_factor
from qdeq.errors import UserError


def problem():
    z, x = tanh_inputs(2)
    exact = np.linalg.norm(tanh_derivatives(tanh_weights(), x, z)[0]) ** 2
    return tanh_map(jnp.asarray(tanh_weights())), jnp.asarray(z), jnp.asarray(x), exact


def test_frobenius_norm_is_exact(x64):
    f, z, x, exact = problem()
    assert float(squared_frobenius_norm(f, z, x)) == pytest.approx(exact, rel=1e-12)


def test_frobenius_norm_takes_pytrees_and_maps_of_z_alone():
    value = squared_frobenius_norm(lambda z: {"a": 2 * z["b"], "b": z["a"]}, {"a": 1.0, "b": 0.0})
    assert float(value) == 5.0


@pytest.mark.parametrize(("probe", "mode"), [("rademacher", "jvp"), ("normal", "vjp")])
def test_hutchinson_is_an_unbiased_estimate(probe, mode, x64):
    f, z, x, exact = problem()
    estimate = hutchinson(f, z, x, jax.random.key(0), n_probes=4000, probe=probe, mode=mode)
    # 4000 probes: a standard error of about 1.5 per cent for normal ones.
    assert float(estimate) == pytest.approx(exact, rel=0.06)


def test_hutchinson_with_random_signs_is_exact_for_a_diagonal_jacobian():
    estimate = hutchinson(lambda z: 3 * z, jnp.zeros(4), None, jax.random.key(1))
    assert float(estimate) == 36.0


def test_hinge_is_silent_below_its_bound_in_value_and_gradient():
    value, slope = jax.value_and_grad(lambda v: hinge(v, 2.0))(1.5)
    assert (float(value), float(slope)) == (0.0, 0.0)
    value, slope = jax.value_and_grad(lambda v: hinge(v, 2.0))(3.0)
    assert (float(value), float(slope)) == (1.0, 1.0)


def test_denoising_is_the_frobenius_norm_to_first_order(x64):
    f, _, x, _ = problem()
    z = jnp.zeros(5)
    for _ in range(200):
        z = f(z, x)
    keys = jax.random.split(jax.random.key(0), 4000)
    energy = jnp.mean(jax.vmap(lambda key: denoising(f, z, x, key, scale=1e-3))(keys))
    assert float(energy) / 1e-6 == pytest.approx(float(squared_frobenius_norm(f, z, x)), rel=0.06)


def test_penalties_keep_float32():
    z = jnp.ones(3, jnp.float32)
    key = jax.random.key(0)
    for value in (
        squared_frobenius_norm(jnp.sin, z),
        hutchinson(jnp.sin, z, None, key),
        denoising(jnp.sin, z, None, key),
    ):
        assert value.dtype == jnp.float32


@pytest.mark.parametrize("options", [{"probe": "gauss"}, {"mode": "forward"}, {"n_probes": 0}])
def test_unknown_options_are_user_errors(options):
    with pytest.raises(UserError):
        hutchinson(jnp.sin, jnp.zeros(2), None, jax.random.key(0), **options)


@pytest.mark.parametrize("matrix", [np.zeros((3, 2)), 0.5 * np.eye(3, 2)], ids=["zero", "equal"])
def test_a_bound_that_is_not_reached_is_in_no_derivative(matrix):
    # Equal singular values: the second derivative of the norm is not a number.
    bounded = jax.hessian(lambda m: jnp.sum((m * gain_factor(m, 1.0)) ** 2))(jnp.asarray(matrix))
    np.testing.assert_array_equal(bounded.reshape(6, 6), 2 * jnp.eye(6))


def test_a_function_with_a_reverse_derivative_alone_has_a_frobenius_norm():
    f = jax.custom_vjp(lambda z: 3.0 * z)
    f.defvjp(lambda z: (3.0 * z, None), lambda _, c: (3.0 * c,))
    assert float(squared_frobenius_norm(f, jnp.zeros(2))) == 18


@pytest.mark.parametrize("z", [jnp.arange(2), {}, "text"])
def test_a_state_that_is_none_is_named(z):
    """As an equilibrium names it; whole numbers have no derivative."""
    for penalty in (
        lambda f: squared_frobenius_norm(f, z),
        lambda f: hutchinson(f, z, None, jax.random.key(0)),
        lambda f: denoising(f, z, None, jax.random.key(0)),
    ):
        with pytest.raises(UserError, match="z0 has"):
            penalty(lambda z: z)


@pytest.mark.parametrize(
    "penalty",
    [
        lambda f, z, x: denoising(f, z, x, jax.random.key(0)),
        spectral_radius,
    ],
)
def test_a_map_to_another_space_has_no_attraction_and_no_radius(penalty):
    with pytest.raises(UserError, match=r"f returned complex64\[4\] where z0 is float32"):
        penalty(lambda z, x: z + x, jnp.zeros(4), 1j * jnp.ones(4))
