"""Sampled expectation values: unbiased, with the variance of a multinomial."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.circuits import MeasurementEnsemble, xyz_of_every_wire, z_of_every_wire, z_strings
from qdeq.errors import UserError
from qdeq.simulation import sample_counts, sample_expectations

KEYS = jax.random.split(jax.random.key(0), 4000)
# Five standard errors of a mean, and of a variance (sqrt(2 / 4000)), of 4000 independent draws.
MEAN, VARIANCE = 5 / np.sqrt(4000), 5 * np.sqrt(2 / 4000)


ENSEMBLE = MeasurementEnsemble(2, ("ZI", "IZ", "ZZ"))


@partial(jax.jit, static_argnums=2)
def compiled(probabilities, shots, observables):
    return jax.vmap(lambda key: sample_expectations(key, probabilities, observables, shots))(KEYS)


def draw(probabilities, observables, shots):
    """One set of estimates per key, float64; a binomial takes seconds to compile: once a shape."""
    each = np.broadcast_to(shots, len(probabilities))
    return np.asarray(compiled(jnp.asarray(probabilities), jnp.asarray(each), observables), float)


@pytest.mark.parametrize("shots", [1, 7, 1000])
def test_mean_and_covariance_are_those_of_the_outcomes(shots):
    # Three correlated readings of the same shots: covariance (<O_j O_k> - <O_j><O_k>) / shots.
    p = np.random.default_rng(3).dirichlet(np.ones(4))[None].astype(np.float32)
    signs = ENSEMBLE.signs()
    mean = signs @ p[0]
    covariance = (signs * p) @ signs.T - np.outer(mean, mean)
    found = draw(p, ENSEMBLE, shots)
    deviation = np.sqrt(np.diag(covariance) / shots)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - mean) / deviation, MEAN)
    scaled = np.cov(found.T) * shots / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    target = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    # A few shots make heavy tails: the variance of a variance is larger by up to 1 / shots.
    np.testing.assert_allclose(scaled, target, rtol=0, atol=VARIANCE * np.sqrt(1 + 4 / shots))


def test_each_setting_has_shots_of_its_own():
    ensemble = xyz_of_every_wire(1)
    p = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]], np.float32)
    found = draw(p, ensemble, 100)
    # Uncertain as 1 - <O>^2: X fully, Z, always read as 0, not at all.
    np.testing.assert_allclose(found.mean(axis=0), [0, 0.8, 1], rtol=0, atol=MEAN * 0.1)
    np.testing.assert_allclose(found.var(axis=0) * 100, [1, 0.36, 0], rtol=VARIANCE, atol=1e-12)
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1]) < MEAN
    apart = draw(p, ensemble, [4, 400, 1])
    np.testing.assert_allclose(np.var(apart[:, :2], axis=0), [1 / 4, 0.36 / 400], rtol=VARIANCE)


@pytest.mark.slow
def test_counts_are_whole_numbers_that_add_up_to_the_shots():
    p = jax.random.dirichlet(jax.random.key(1), jnp.ones(16), (2,))
    shots = jnp.array([12345.0, 1.0])
    counts = np.asarray(jax.jit(jax.vmap(lambda key: sample_counts(key, p, shots)))(KEYS[:200]))
    np.testing.assert_array_equal(counts, np.round(counts))
    assert counts.min() >= 0
    np.testing.assert_array_equal(counts.sum(axis=2), np.tile(shots, (200, 1)))
    expected = np.asarray(p[0], float) * 12345
    error = np.abs(counts[:, 0].mean(axis=0) - expected) / np.sqrt(expected / 200)
    assert error.max() < 5


def test_probabilities_that_sum_to_one_only_roughly_do_no_harm():
    ensemble = z_of_every_wire(2)
    certain = np.array([[1.0000001, -1e-9, 0.0, -0.0]], np.float32)
    assert np.all(draw(certain, ENSEMBLE, 1000) == 1)
    exact = sample_expectations(KEYS[0], 3 * jnp.array([[0.1, 0.2, 0.3, 0.4]]), ensemble, None)
    np.testing.assert_allclose(exact, [-0.4, -0.2], rtol=1e-6)
    # Amplitude encoding of nothing: the maximally mixed state, as in the model function.
    nothing = draw(np.zeros((1, 4), np.float32), ENSEMBLE, 100)
    np.testing.assert_allclose(nothing.var(axis=0), 0.01, rtol=VARIANCE)


def test_infinitely_many_shots_are_exact_and_differentiable(x64):
    ensemble = z_strings(2, 2)
    p = jnp.array([[0.1, 0.2, 0.3, 0.4]])
    found = sample_expectations(KEYS[0], p, ensemble, None)
    np.testing.assert_allclose(found, ensemble.signs() @ np.asarray(p[0]), rtol=0, atol=1e-15)
    # Through the normalisation too: only ratios count, so the gradient sums to zero against p.
    slope = jax.jacobian(lambda p: sample_expectations(KEYS[0], p, ensemble, None))(p)
    np.testing.assert_allclose(np.sum(slope[:, 0] * p, axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(
        slope[:, 0], ensemble.signs() - np.asarray(found)[:, None], rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("shots", [0, -5, 2.5, True, "many"])
def test_shots_that_are_no_number_of_shots_are_refused(shots):
    with pytest.raises(UserError, match="whole number of at least 1"):
        sample_expectations(KEYS[0], np.full((1, 4), 0.25), z_of_every_wire(2), shots)


def test_rows_of_another_ensemble_are_refused():
    with pytest.raises(UserError, match=r"give an array of shape \(3, 4\)"):
        sample_expectations(KEYS[0], np.full((1, 4), 0.25), xyz_of_every_wire(2), 10)
