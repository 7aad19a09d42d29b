"""Losses and scores against NumPy, scikit-learn and Optax; targets in units and in training."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import direct_config, squash

import qdeq
from qdeq.data import Targets, from_arrays
from qdeq.equilibrium import Picard
from qdeq.models import Regressor
from qdeq.training import Trainer
from qdeq.training.batches import Batch
from qdeq.training.config import TrainConfig
from qdeq.training.epoch import Recipe
from qdeq.training.losses import loss_of, losses, marks, predictions
from qdeq.training.scores import regression_scores
from qdeq.training.values import Values

RNG = np.random.default_rng(0)
TRUE, FOUND = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 3))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("squared", ((FOUND - TRUE) ** 2).mean(axis=1) / 2),
        ("absolute", np.abs(FOUND - TRUE).mean(axis=1)),
    ],
)
def test_the_loss_of_a_regression_is_a_mean_over_its_targets(loss, expected):
    found = losses(loss, jnp.array(FOUND), jnp.array(TRUE))
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32
    squares = ((FOUND - TRUE) ** 2).mean(axis=1)
    np.testing.assert_allclose(marks(loss, jnp.array(FOUND), jnp.array(TRUE)), squares, rtol=1e-5)
    np.testing.assert_array_equal(predictions(loss, jnp.array(FOUND)), jnp.array(FOUND))


def test_the_loss_of_classes_is_their_cross_entropy():
    labels = np.array([0, 2, 1, 1, 0, 2, 2])
    chances = np.exp(FOUND) / np.exp(FOUND).sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(labels, chances)
    found = losses("cross-entropy", jnp.array(FOUND), jnp.array(labels))
    assert float(found.mean()) == pytest.approx(expected, rel=1e-5)
    optaxs = optax.softmax_cross_entropy_with_integer_labels(jnp.array(FOUND), jnp.array(labels))
    np.testing.assert_array_equal(found, optaxs)
    accuracy = sklearn.metrics.accuracy_score(labels, FOUND.argmax(axis=1))
    assert float(marks("cross-entropy", jnp.array(FOUND), jnp.array(labels)).mean()) == (
        pytest.approx(accuracy)
    )


def test_a_loss_belongs_to_a_task():
    assert loss_of("auto", "classification") == "cross-entropy"
    assert loss_of("auto", "regression") == "squared"
    for loss, task in (("absolute", "regression"), ("cross-entropy", "classification")):
        assert loss_of(loss, task) == loss
    with pytest.raises(qdeq.UserError, match="loss='squared' with a classification: choose cross"):
        loss_of("squared", "classification")
    with pytest.raises(qdeq.UserError, match="with a regression: choose squared or absolute"):
        loss_of("cross-entropy", "regression")


@pytest.mark.parametrize("weight", [None, np.arange(7.0)])
def test_scores_are_scikit_learns(weight):
    found = regression_scores(TRUE, FOUND, weight=weight)
    assert found["r2"] == sklearn.metrics.r2_score(TRUE, FOUND, sample_weight=weight)
    errors = FOUND - TRUE
    rmse = np.sqrt(np.average(errors**2, axis=0, weights=weight)).mean()
    assert found["rmse"] == pytest.approx(rmse)
    assert found["mae"] == pytest.approx(np.average(np.abs(errors), axis=0, weights=weight).mean())
    broken = np.where(np.arange(7)[:, None] == 3, np.nan, FOUND)
    assert np.isnan(list(regression_scores(TRUE, broken).values())).all()
    one = regression_scores(TRUE[:1], FOUND[:1])
    assert np.isnan(one["r2"]) and one["mae"] == pytest.approx(np.abs(errors[0]).mean())


@pytest.mark.parametrize("loss", ["squared", pytest.param("absolute", marks=pytest.mark.slow)])
def test_the_gradient_of_a_regression_through_its_equilibrium_is_that_of_differences(x64, loss):
    # Solved to 1e-13: differences of 1e-5 then have errors near 1e-9.
    keys = jax.random.split(jax.random.key(0), 4)
    model = squash(keys[0])
    regressor = Regressor(model, 2, key=keys[1])
    x, y = jax.random.normal(keys[2], (5, 4)), jax.random.normal(keys[3], (5, 2))
    config = TrainConfig(
        loss=loss,
        jacobian_weight=0.0,
        dropout=0.0,
        solver=Picard(1e-13, 1e-13),
        max_steps=60,
        fallback="none",
        batch_size=5,
    )
    recipe, values = Recipe.of(config, task="regression"), Values.of(config, 5)
    weights = jnp.array([1.0, 0.5, 0.0, 2.0, 1.0])
    batch = Batch(jnp.arange(5), jnp.ones(5), weights, jnp.ones((5, 3), bool), jax.random.key(0))
    flat, restore = jax.flatten_util.ravel_pytree((model, regressor.head))

    @jax.jit
    @jax.value_and_grad
    def loss_at(numbers):
        model, head = restore(numbers)
        own = eqx.tree_at(lambda r: (r.model, r.head), regressor, (model, head))
        return recipe._loss(own, x, y, batch, None, jnp.array(0), values)[0]

    _, gradient = loss_at(flat)
    step = 1e-5 * np.eye(len(flat))
    differences = [(loss_at(flat + e)[0] - loss_at(flat - e)[0]) / 2e-5 for e in step]
    np.testing.assert_allclose(gradient, differences, atol=1e-7)
    assert np.abs(gradient).min() > 0


@settings(max_examples=60)
@given(
    numbers=st.lists(st.floats(-1, 1), min_size=2, max_size=9),
    offset=st.floats(-100, 100),
    size=st.integers(-100, 100),
)
def test_targets_come_back_in_their_units(numbers, offset, size):
    values = (np.array(numbers)[:, None] + [0, offset]) * 10.0**size
    targets = Targets.of(values)
    scaled = targets.scaled(values)
    assert np.isfinite(scaled).all() and scaled.dtype == np.float32
    # float32 has 2**-24 of what is scaled, which is as large as the deviation.
    error = np.abs(targets.restored(scaled) - values)
    bound = np.abs(scaled) * np.array(targets.scale) * 2.0**-23 + np.abs(values) * 1e-14
    assert (error <= bound + np.finfo(float).tiny).all()  # below it numbers have fewer digits


def test_targets_have_the_mean_and_deviation_of_training():
    values = RNG.normal(size=(50, 2)) * [3, 1e-8] + [5, 7]
    targets = Targets.of(values, ["price", "size"])
    np.testing.assert_allclose(targets.mean, values.mean(axis=0))
    np.testing.assert_allclose(targets.scale, values.std(axis=0), rtol=1e-6)
    assert targets.names == ("price", "size")
    assert Targets.of(np.full((5, 1), 0.1)).scale == (1.0,)
    with pytest.raises(qdeq.UserError, match=r"target 'far': its numbers reach 1\.7e\+308, too"):
        Targets.of(np.array([[1.7e308], [-1.7e308]]), ["far"])


def test_targets_that_do_not_count_do_not_make_the_scale():
    values = np.array([[1.0], [2.0], [3.0], [1e9]])
    weighted = Targets.of(values, weight=np.array([1, 2, 1, 0]))
    assert weighted == Targets.of(np.array([[1.0], [2.0], [2.0], [3.0]]))


# Powers of two change no bit of what is trained; the others change the last ones.
@pytest.fixture(scope="module")
def regression():
    x = RNG.normal(size=(60, 4))
    return x, x[:, :2] @ np.array([[1.0, 0.5], [-1.0, 2.0]]) + [3.0, -1.0]


@pytest.mark.parametrize("size", [2.0**-100, 2.0**100, 1e-30, 1e30])
def test_predictions_have_the_units_of_the_targets(regression, size):
    x, y = regression
    options = {"model": squash, "random_state": 0, "preset": "paper", "mode": "direct", "layers": 2}
    options |= {"epochs": 2, "batch_size": 16, "learning_rate": 0.05}
    plain = qdeq.QDEQRegressor(**options).fit(x, y).predict(x)
    found = qdeq.QDEQRegressor(**options).fit(x, y * size).predict(x * 1.0)
    np.testing.assert_allclose(found / size, plain, rtol=1e-3, atol=1e-3)
    if float(np.log2(size)).is_integer():
        np.testing.assert_array_equal(found / size, plain)


def test_a_constant_target_is_predicted_beside_another(regression):
    x, y = regression
    both = np.stack([y[:, 0], np.full(len(y), 1e6)], axis=1)
    trainer = Trainer(
        direct_config(learning_rate=0.05, epochs=3),
        from_arrays(x, both, task="regression"),
        model=squash,
    )
    state = trainer.init()
    for _ in range(3):
        state, metrics = trainer.run_epoch(state)
    found = trainer.evaluate(state.classifier, trainer.dataset.test)
    # Its deviation counts as 1: the head's first values are of that size.
    assert np.abs(found["predictions"][:, 1] - 1e6).max() < 5
    assert np.isfinite([found["loss"], metrics["train_r2"], metrics["valid_loss"]]).all()
