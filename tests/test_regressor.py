"""The regressor, and what both estimators can beside `fit`: go on, learn by parts, say so."""

import pickle

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from compilations import compilations
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from small_models import Squash, squash

import qdeq

# One application of a small circuit compiles fast; encoding and sizes are the recommended ones.
FAST = {"mode": "direct", "layers": 1, "n_qubits": 2, "epochs": 15, "random_state": 0}
OWN = {"model": squash, "preset": "paper", "mode": "direct", "layers": 2, "epochs": 3}
OWN |= {"batch_size": 32, "learning_rate": 0.05, "random_state": 0, "head": "affine"}
RNG = np.random.default_rng(3)
X = RNG.normal(size=(200, 4))
Y = 100 + 20 * np.sin(X[:, 0]) + 10 * X[:, 1]


@pytest.fixture(scope="module")
def fitted():
    return qdeq.QDEQRegressor(**FAST).fit(X, Y)


def test_it_learns_in_the_units_of_the_target(fitted):
    fresh = RNG.normal(size=(200, 4))
    assert fitted.score(fresh, 100 + 20 * np.sin(fresh[:, 0]) + 10 * fresh[:, 1]) > 0.9
    assert fitted.targets_.mean[0] == pytest.approx(100, abs=5)
    assert fitted.encoding_ == "table" and fitted.n_qubits_ == 2 and fitted.n_iter_ == 15
    assert set(fitted.history_[0]) >= {"train_r2", "valid_r2", "valid_loss", "best"}


@pytest.mark.parametrize("size", [100.0, 1e-3])
def test_features_far_from_one_in_size_are_said_where_they_become_angles(size):
    x = pd.DataFrame(X * np.where(np.arange(4) == 2, size, 1e-4), columns=[*"abcd"])
    with pytest.warns(UserWarning, match=r"numbers of X are about .* \(column 2 \('c'\)\): scale"):
        qdeq.QDEQRegressor(**FAST).fit(x, Y)


def test_a_pickled_regressor_predicts_the_same_and_can_be_cloned(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(X), fitted.predict(X))
    again = clone(fitted).fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_a_grid_over_a_regression_compiles_nothing_twice(fitted):
    grid = {"learning_rate": [0.01, 0.1], "weight_decay": [0.2, 0.3], "epochs": [1, 2]}
    with compilations() as found:
        search = GridSearchCV(qdeq.QDEQRegressor(**FAST), grid, cv=2)
        search.fit(X[:64], Y[:64])  # another batch size than 200 samples have would be another one
    assert search.best_score_ < 1
    with compilations() as again:
        GridSearchCV(qdeq.QDEQRegressor(**FAST), grid, cv=2).fit(X[:64], Y[:64])
    assert not again and len(found) < 12


@pytest.mark.parametrize("shape", [(200,), (200, 1), (200, 3)])
def test_predictions_have_the_shape_of_the_targets(shape):
    y = (
        np.resize(Y, shape)
        if len(shape) == 1
        else np.stack([Y * (k + 1) for k in range(shape[1])]).T
    )
    regressor = qdeq.QDEQRegressor(**OWN).fit(X, y)
    assert regressor.predict(X).shape == shape
    assert regressor.predict(X[:1]).shape == (1, *shape[1:])
    if len(shape) == 2:  # multiples of one target, each with a scale of its own
        assert np.isfinite(regressor.score(X, y)) and len(regressor.targets_.scale) == shape[1]


@pytest.mark.slow
def test_parts_are_learned_one_after_the_other():
    classifier = qdeq.QDEQClassifier(**OWN)
    labels = np.where(X[:, 0] > 0, "high", "low")
    classifier.partial_fit(X[labels == "low"][:32], labels[labels == "low"][:32], ["low", "high"])
    before = classifier.predict_proba(X)
    for start in range(0, 192, 32):
        classifier.partial_fit(X[start : start + 32], labels[start : start + 32])
    assert classifier.n_iter_ == 7 and list(classifier.classes_) == ["high", "low"]
    assert np.abs(classifier.predict_proba(X) - before).max() > 0.1
    with pytest.raises(qdeq.UserError, match="y holds 'middle', which is not among the classes"):
        classifier.partial_fit(X[:2], ["low", "middle"])
    regressor = qdeq.QDEQRegressor(**OWN).partial_fit(X[:32], Y[:32])
    scale = regressor.targets_
    assert regressor.partial_fit(X[32:64], Y[32:64] * 50).targets_ is scale
    with pytest.raises(qdeq.UserError, match="y has 2 targets and had 1 before"):
        regressor.partial_fit(X[:2], np.ones((2, 2)))
    with pytest.raises(ValueError, match="X has 3 features"):
        regressor.partial_fit(X[:2, :3], Y[:2])


def test_parts_are_learned_with_the_parameters_as_they_are_then():
    larger = Squash(jnp.full(4, 0.2), jnp.ones((4, 4)))
    model = qdeq.QDEQRegressor(**OWN).partial_fit(X[:32], Y[:32])
    before = model.predict(X)
    model.set_params(learning_rate=1e-12).partial_fit(X[32:64], Y[32:64])
    np.testing.assert_allclose(model.predict(X), before, atol=1e-6)
    model.set_params(learning_rate=0.05, optimiser="sgd").partial_fit(X[32:64], Y[32:64])
    assert np.abs(model.predict(X) - before).max() > 1e-3
    with pytest.raises(qdeq.UserError, match="the model that was fitted before has other sizes"):
        model.set_params(model=larger).partial_fit(X[:32], Y[:32])


def test_a_warm_start_goes_on_from_the_model_before():
    warm = qdeq.QDEQRegressor(**OWN, warm_start=True).fit(X, Y)
    first = warm.history_[-1]["train_loss"]
    warm.fit(X, Y)
    assert warm.history_[0]["train_loss"] < first
    cold = qdeq.QDEQRegressor(**OWN).fit(X, Y)
    losses = cold.history_
    cold.fit(X, Y)
    assert [m["train_loss"] for m in cold.history_] == [m["train_loss"] for m in losses]
    with pytest.raises(qdeq.UserError, match="the model that was fitted before has other"):
        warm.fit(X, np.stack([Y, Y], axis=1))


def test_a_warm_start_keeps_the_scale_of_the_targets():
    warm = qdeq.QDEQRegressor(**OWN, warm_start=True).fit(X, Y)
    before, scale = warm.predict(X), warm.targets_
    warm.set_params(epochs=1, learning_rate=1e-9).fit(X[Y > 0], Y[Y > 0])
    assert warm.targets_ == scale
    np.testing.assert_allclose(warm.predict(X), before, atol=1e-4)


def test_early_stopping_ends_a_fit_and_verbose_says_so(capsys):
    noise = np.random.default_rng(0).normal(size=200)
    options = {**OWN, "epochs": 50, "learning_rate": 1.0, "early_stopping": True, "patience": 2}
    stopped = qdeq.QDEQRegressor(**options, verbose=2).fit(X, noise)
    assert 3 <= stopped.n_iter_ < 50
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[QDEQRegressor] ") for line in lines)
    assert "160 + 40 samples, 4 features, own model" in lines[0] and "compiling" in lines[0]
    assert len(lines) == 2 + stopped.n_iter_ and lines[-1].endswith(
        "no better validation loss for 2 epochs"
    )
    # Patience says it alone.
    alone = qdeq.QDEQRegressor(**{**options, "early_stopping": False}).fit(X, noise)
    assert alone.n_iter_ == stopped.n_iter_
    assert capsys.readouterr().out == ""


def test_an_optimiser_of_optax_is_taken_as_it_is():
    own = qdeq.QDEQRegressor(**{**OWN, "optimiser": optax.sgd(0.05)}).fit(X, Y)
    named = qdeq.QDEQRegressor(**{**OWN, "optimiser": "sgd"}).fit(X, Y)
    np.testing.assert_allclose(own.predict(X), named.predict(X), rtol=1e-5)
    assert clone(own).optimiser == own.optimiser


@pytest.mark.slow  # compiles three circuits
def test_circuits_of_other_libraries_are_taken():
    qiskit = pytest.importorskip("qiskit")
    qml = pytest.importorskip("pennylane")
    theirs = qiskit.QuantumCircuit(2)
    a = [qiskit.circuit.Parameter(f"t{k}") for k in range(2)]
    theirs.ry(a[0], 0)
    theirs.ry(a[1], 1)
    theirs.cx(0, 1)
    ours = qdeq.Circuit(
        2,
        (
            qdeq.Operation("RY", (0,), parameter=0),
            qdeq.Operation("RY", (1,), parameter=1),
            qdeq.Operation("CNOT", (0, 1)),
        ),
    )
    expected = qdeq.QDEQRegressor(**{**FAST, "epochs": 2, "ansatz": ours}).fit(X, Y).predict(X)
    found = qdeq.QDEQRegressor(**{**FAST, "epochs": 2, "ansatz": theirs}).fit(X, Y).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    tape = qml.tape.QuantumScript([qml.RY(0.1, 0), qml.RY(0.2, 1), qml.CNOT([0, 1])])
    options = {**FAST, "epochs": 2, "ansatz": tape}
    assert qdeq.QDEQRegressor(**options).fit(X, Y).predict(X).shape == (200,)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.full(200, np.nan), "y: .*is nan, missing|contains NaN"),
        (np.array(["a"] * 200), "could not convert|give real numbers|must be"),
        (np.ones(199), "inconsistent numbers of samples"),
    ],
)
def test_wrong_targets_are_refused(y, words):
    with pytest.raises(ValueError, match=words):
        qdeq.QDEQRegressor(**OWN).fit(X, y)
