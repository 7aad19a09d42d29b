"""How much a sample counts in training: weights against repetition, removal and other units."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from small_models import direct_config, squash

import qdeq
from qdeq.data import Dataset, Split
from qdeq.training import Trainer

RNG = np.random.default_rng(1)
X = RNG.normal(size=(40, 4)).astype(np.float32)
TARGETS = RNG.normal(size=(40, 2)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] > 0).astype(np.int32)
WEIGHTS = RNG.integers(0, 4, 40)
CONFIG = direct_config(learning_rate=0.1, optimiser="sgd")
OPTIONS = {
    "preset": "paper",
    "model": squash,
    "mode": "direct",
    "layers": 2,
    "epochs": 4,
    "batch_size": 64,
    "learning_rate": 0.05,
    "random_state": 0,
}


def dataset(rows, weight=None, *, regression):
    weight = None if weight is None else weight.astype(np.float32)
    split = Split(X[rows], TARGETS[rows] if regression else LABELS[rows], weight)
    scale = qdeq.data.Targets(("a", "b"), (0.0, 0.0), (1.0, 1.0)) if regression else None
    classes = () if regression else (0, 1)
    return Dataset("own", split, split, split, classes, (1, 4), scale)


def one_step(data):
    """A step of gradient descent on all samples at once, and the metrics of the epoch."""
    trainer = Trainer(CONFIG, data, model=squash)
    state, metrics = trainer.run_epoch(trainer.init())
    parameters = jax.tree.leaves(eqx.filter(state.classifier, eqx.is_inexact_array))
    return np.concatenate([np.ravel(array) for array in parameters]), metrics


@pytest.mark.parametrize("regression", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_weight_counts_a_sample_as_often(regression):
    everything = np.arange(40)
    weighted, metrics = one_step(dataset(everything, WEIGHTS, regression=regression))
    repeated, expected = one_step(
        dataset(np.repeat(everything, WEIGHTS), np.ones(WEIGHTS.sum()), regression=regression)
    )
    # Sums in another order, in float32.
    np.testing.assert_allclose(weighted, repeated, atol=2e-6)
    for name in ("train_loss", "valid_loss", "gradient_norm", *score_names(regression)):
        assert metrics[name] == pytest.approx(expected[name], rel=2e-5, abs=2e-6), name
    unweighted, _ = one_step(dataset(everything, np.ones(40), regression=regression))
    assert np.abs(weighted - unweighted).max() > 1e-3
    # Executions and solves are of samples, whatever they count.
    assert metrics["circuit_executions"] == 40 * 2


def score_names(regression):
    return ("train_r2", "valid_r2") if regression else ("train_accuracy", "valid_accuracy")


def test_a_weight_of_zero_leaves_a_sample_out():
    kept = np.flatnonzero(WEIGHTS)
    zeros, metrics = one_step(dataset(np.arange(40), WEIGHTS > 0, regression=True))
    removed, expected = one_step(dataset(kept, np.ones(len(kept)), regression=True))
    np.testing.assert_allclose(zeros, removed, atol=2e-6)
    assert metrics["valid_loss"] == pytest.approx(expected["valid_loss"], rel=1e-5)


def test_batches_in_which_nothing_counts_change_nothing():
    weight = np.zeros(40)
    weight[7] = 3
    trainer = Trainer(
        CONFIG.replace(batch_size=2), dataset(np.arange(40), weight, regression=True), model=squash
    )
    state, metrics = trainer.run_epoch(trainer.init())
    assert np.isfinite(
        [metrics["train_loss"], metrics["gradient_norm"], metrics["valid_loss"]]
    ).all()
    alone, expected = one_step(dataset(np.array([7]), np.ones(1), regression=True))
    found = jax.tree.leaves(eqx.filter(state.classifier, eqx.is_inexact_array))
    np.testing.assert_allclose(np.concatenate([np.ravel(a) for a in found]), alone, atol=2e-6)
    assert metrics["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_split_in_which_nothing_counts_is_refused(part):
    data = dataset(np.arange(40), np.ones(40), regression=True)
    data = replace(data, **{part: replace(data.train, weight=np.zeros(40, np.float32))})
    with pytest.raises(qdeq.UserError, match=f"own: all weights of the {part} split \\(40 sam"):
        Trainer(CONFIG, data, model=squash)


def test_units_of_weights_do_not_matter():
    fits = [
        qdeq.QDEQRegressor(**OPTIONS).fit(X, TARGETS, sample_weight=WEIGHTS * unit)
        for unit in (1.0, 2.0**-40, 1e30, 1e-300)
    ]
    first, *others = [fit.predict(X) for fit in fits]
    np.testing.assert_array_equal(others[0], first)
    for other in others[1:]:  # 3 * 1e30 / 9e30 is not 1/3 to the last bit
        np.testing.assert_allclose(other, first, atol=1e-4)


@pytest.mark.slow
def test_classes_of_equal_weight_are_weights_of_samples():
    rare = np.where(np.arange(40) % 5 == 0, "rare", "usual")
    balanced = qdeq.QDEQClassifier(**OPTIONS, class_weight="balanced").fit(X, rare)
    weights = np.where(rare == "rare", 40 / (2 * 8), 40 / (2 * 32))
    by_hand = qdeq.QDEQClassifier(**OPTIONS).fit(X, rare, sample_weight=weights)
    named = {"rare": 4.0, "usual": 1.0}
    by_name = qdeq.QDEQClassifier(**OPTIONS, class_weight=named).fit(X, rare)
    scores = balanced.decision_function(X)
    np.testing.assert_array_equal(by_hand.decision_function(X), scores)
    np.testing.assert_array_equal(by_name.decision_function(X), scores)
    plain = qdeq.QDEQClassifier(**OPTIONS).fit(X, rare)
    assert np.abs(plain.decision_function(X) - scores).max() > 1e-2
    # Weights of classes and of samples multiply.
    both = qdeq.QDEQClassifier(**OPTIONS, class_weight=named)
    both.fit(X, rare, sample_weight=np.where(rare == "rare", 0.25, 1.0))
    np.testing.assert_allclose(both.decision_function(X), plain.decision_function(X), atol=1e-5)


@pytest.mark.parametrize("estimator", [qdeq.QDEQClassifier, qdeq.QDEQRegressor])
def test_samples_of_weight_zero_are_as_if_they_were_not_there(estimator):
    y = LABELS if estimator is qdeq.QDEQClassifier else TARGETS
    wild = np.where((WEIGHTS > 0)[:, None], X, 1e3)
    wild_y = y if y.ndim == 1 else np.where((WEIGHTS > 0)[:, None], y, 1e9)
    present = WEIGHTS > 0
    weighted = estimator(**OPTIONS).fit(wild, wild_y, sample_weight=WEIGHTS)
    removed = estimator(**OPTIONS).fit(X[present], y[present], sample_weight=WEIGHTS[present])
    np.testing.assert_array_equal(weighted.predict(X), removed.predict(X))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (-np.ones(40), "Negative values in data"),
        (np.full(40, np.nan), "contains NaN"),
        (np.ones(39), "sample_weight.shape == "),
        (np.zeros(40), "at least one non-zero number"),
    ],
)
def test_wrong_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        qdeq.QDEQRegressor(**OPTIONS).fit(X, TARGETS, sample_weight=weights)
