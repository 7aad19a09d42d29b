"""The scikit-learn estimator: its contract, and that it is the library's own training."""

import numbers
import pickle
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from compilations import compilations
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks
from small_models import Squash, squash

import qdeq
from qdeq.circuits import hardware_efficient
from qdeq.data import from_arrays
from qdeq.interop._estimator import OWN_PARAMETERS
from qdeq.training import PRESETS, TrainConfig, Trainer
from qdeq.training.options import DataOptions
from qdeq.training.predict import log_probabilities

# direct(2) compiles in a fraction of the time; what the contract is about does not depend on it.
QUICK = {
    "preset": "paper",
    "mode": "direct",
    "layers": 2,
    "ansatz": "hardware-efficient",
    "ansatz_layers": 2,
    "n_qubits": 4,
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 0.1,
    "gradient_clip": 0.0,
    "dropout": 0.0,
    "random_state": 0,
}
NAMES = np.array(["setosa", "versicolor", "virginica"])


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), NAMES[y]


@pytest.fixture(scope="module")
def fitted(iris):
    return qdeq.QDEQClassifier(**QUICK).fit(*iris)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_not_given_is_that_of_the_preset(preset, iris):
    x, y = iris
    dataset = from_arrays(np.tile(x, 4), np.unique(y, return_inverse=True)[1])
    classifier = qdeq.QDEQClassifier(preset=preset, random_state=0)
    classifier._begin()
    # 16 features: as many as the paper's circuit takes.
    assert classifier._settled(dataset) == PRESETS[preset].replace(n_qubits=4)


def test_every_choice_of_a_training_run_but_the_data_is_a_parameter():
    fields = set(vars(TrainConfig()))
    elsewhere = set(vars(DataOptions())) | {"split_seed", "seed"}
    for estimator in (qdeq.QDEQClassifier, qdeq.QDEQRegressor):
        parameters = set(estimator().get_params())
        assert parameters - OWN_PARAMETERS == fields - elsewhere
        assert set(estimator._parameter_constraints) == parameters


def test_importing_qdeq_imports_nothing_large():
    code = "import sys, qdeq; sys.exit(bool({'sklearn', 'jax', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow  # compiles long; the example in the docstring, a default test, is implicit too
def test_an_equilibrium_is_trained_solved_and_reported(iris):
    x, y = iris
    classifier = qdeq.QDEQClassifier(
        **{**QUICK, "mode": "implicit", "n_qubits": 2, "jacobian_weight": 0.0, "epochs": 2}
    ).fit(x, y)
    assert [metrics["phase"] for metrics in classifier.history_] == ["implicit"] * 2
    solution = classifier.equilibria(x)
    assert solution.value.shape == (150, 2)
    model = classifier.classifier_.model
    m = solution.value[0]
    assert solution.stats.converged[0]
    # Solved to 1e-5 (1 + |f|), |f| at most sqrt(2).
    assert np.linalg.norm(model(m, x[0].astype(np.float32)) - m) < 3e-5


def test_it_learns_iris(fitted, iris):
    assert fitted.score(*iris) > 0.8  # 0.907 measured


def test_labels_may_be_strings(fitted, iris):
    assert list(fitted.classes_) == list(NAMES)
    assert set(fitted.predict(iris[0])) <= set(NAMES)


def test_probabilities_and_scores_agree_with_the_prediction(fitted, iris):
    x, _ = iris
    probabilities, scores = fitted.predict_proba(x), fitted.decision_function(x)
    assert probabilities.shape == scores.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)  # float64, rounding only
    for values in (probabilities, scores):
        assert (fitted.classes_[values.argmax(axis=1)] == fitted.predict(x)).all()


def test_a_prediction_does_not_depend_on_what_is_predicted_with_it(fitted, iris):
    x, _ = iris
    many = np.concatenate([x, x, x])  # 450: more than one chunk
    assert (fitted.decision_function(many)[300:] == fitted.decision_function(x)).all()
    assert (fitted.decision_function(x[7:8])[0] == fitted.decision_function(x)[7]).all()


def test_equal_seeds_give_equal_models_and_others_do_not(fitted, iris):
    scores = fitted.decision_function(iris[0])
    again = clone(fitted).fit(*iris)
    assert (again.decision_function(iris[0]) == scores).all()
    other = clone(fitted).set_params(random_state=1).fit(*iris)
    assert not np.allclose(other.decision_function(iris[0]), scores)


def test_a_pickled_classifier_predicts_the_same(fitted, iris):
    copy = pickle.loads(pickle.dumps(fitted))
    assert (copy.decision_function(iris[0]) == fitted.decision_function(iris[0])).all()


def test_cross_validation_and_grid_search_in_a_pipeline_compile_nothing(fitted, iris):
    fitted.predict(iris[0])  # programs of the same sort as below are there
    pipeline = make_pipeline(StandardScaler(), qdeq.QDEQClassifier(**QUICK))
    with compilations() as found:
        scores = cross_val_score(pipeline, *iris, cv=3)
        grid = {
            # By NumPy: its scalars are no Python numbers.
            "qdeqclassifier__random_state": np.arange(2),
            "qdeqclassifier__learning_rate": np.array([0.05, 0.1], np.float32),
            "qdeqclassifier__dropout": [0.0, 0.1],
            "qdeqclassifier__tolerance": [1e-4],
            "qdeqclassifier__valid_fraction": [0.3],
            "qdeqclassifier__epochs": [2],
        }
        search = GridSearchCV(pipeline, grid, cv=3).fit(*iris)
        search.predict(iris[0][:7])
    assert scores.mean() > 0.5  # chance: 1/3
    assert search.best_params_["qdeqclassifier__random_state"] in (0, 1)
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "parameters"),
    [
        (3, {}),
        (4, {"valid_fraction": 0.99}),
        (5, {"valid_fraction": 1e-9}),
        (7, {"batch_size": 1000}),
        (9, {"batch_size": 1}),
    ],
)
def test_few_samples_and_any_batch_size_train(iris, rows, parameters):
    x, y = iris[0][-rows - 50 : -50], np.arange(rows) % 2
    classifier = qdeq.QDEQClassifier(**{**QUICK, "epochs": 2, **parameters}).fit(x, y)
    assert np.isfinite([metrics["train_loss"] for metrics in classifier.history_]).all()
    assert classifier.predict(x[:1]).shape == (1,)


@pytest.mark.slow
def test_one_feature_is_enough(iris):
    x, y = iris
    assert qdeq.QDEQClassifier(**{**QUICK, "epochs": 1}).fit(x[:, :1], y).n_features_in_ == 1


def test_a_loss_that_is_not_finite_ends_training(iris):
    x, y = iris
    wild = {**QUICK, "learning_rate": 1e38}
    with pytest.raises(qdeq.UserError, match=r"^epoch 1: the .* not finite; learning_rate=1e\+38"):
        qdeq.QDEQClassifier(**wild).fit(x, y)


def test_the_best_model_before_a_loss_that_is_not_finite_is_kept(fitted, iris, monkeypatch):
    x, y = iris
    run_epoch = Trainer.run_epoch_seeds

    def diverge_in_epoch_3(self, states, **options):
        states, (metrics,) = run_epoch(self, states, **options)
        metrics["train_loss"] = np.nan if metrics["epoch"] == 3 else metrics["train_loss"]
        return states, [metrics]

    monkeypatch.setattr(Trainer, "run_epoch_seeds", diverge_in_epoch_3)
    with pytest.warns(ConvergenceWarning, match="epoch 3: the training loss is not finite"):
        classifier = clone(fitted).fit(x, y)
    assert classifier.n_iter_ == 3
    assert np.isfinite(classifier.predict_proba(x)).all()


@pytest.mark.parametrize(
    ("parameters", "n_features", "n_qubits"),
    [
        ({"ansatz": "hardware-efficient"}, 1, 2),
        ({"ansatz": "hardware-efficient"}, 8, 3),
        ({"ansatz": "hardware-efficient"}, 9, 4),
        ({"ansatz": "paper"}, 2, 4),
        ({"ansatz": "paper"}, 30, 5),
        ({"ansatz": "hardware-efficient", "head": "none"}, 4, 3),
        ({"ansatz": "hardware-efficient", "encoding": "angle"}, 9, 3),
    ],
)
def test_the_fewest_qubits_that_serve_are_taken(parameters, n_features, n_qubits):
    classifier = qdeq.QDEQClassifier(**{"encoding": "amplitude", **parameters}, random_state=0)
    x = np.random.default_rng(0).normal(size=(30, n_features))
    classifier._begin()
    assert classifier._settled(from_arrays(x, np.arange(30) % 3)).n_qubits == n_qubits


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"solver": "magic"}, "solver='magic' is not known: choose one of picard"),
        ({"solver": qdeq.Implicit()}, r"solver=Implicit.*: give a solver object such as Broyden"),
        ({"epochs": 0}, "epochs=0: give a number of at least 1"),
        (
            {"epochs": 0},
            r"'epochs' parameter .* an int in the range \[1, inf\) or None. Got 0 instead",
        ),
        ({"epochs": True}, "epochs=True: give a whole number"),
        ({"learning_rate": np.inf}, "learning_rate=inf: give a finite number"),
        ({"dropout": 1}, r"range \[0.0, 1.0\)"),
        ({"noise": "frost=1"}, "noise='frost=1': 'frost' is not known"),
        ({"ansatz": "own"}, "'ansatz' parameter of QDEQClassifier must be a str among"),
        ({"observables": ["ZI"]}, "give a MeasurementEnsemble"),
        ({"model": "quantum"}, "'model' .* must be .* a callable or None. Got 'quantum'"),
        ({"random_state": "x"}, "'random_state' parameter of QDEQClassifier must be"),
        (
            {"encoding": "angle", "n_qubits": None},
            "encoding='angle' with 5 features: it takes n \\* n features",
        ),
        ({"n_qubits": 2}, "n_qubits=2: amplitude encoding of 5 features needs at least 3"),
        ({"ansatz": "paper", "n_qubits": 3}, "n_qubits=3: a block of the paper's ansatz"),
        ({"valid_fraction": 0.0}, "valid_fraction=0.0: give a fraction between"),
        ({"n_qubits": 2, "ansatz": hardware_efficient(3, 1)}, "n_qubits=2: amplitude encoding of"),
        (
            {"encoding": qdeq.AmplitudeEncoding(3, 4), "n_qubits": None},
            "acts on 3 qubits|reads 4 features",
        ),
        (
            {"model": qdeq.paper_model(key=jax.random.key(0), n_features=5)},
            "model=QuantumModel with ansatz, ansatz_layers, n_qubits: a model function is given",
        ),
    ],
)
def test_a_mistake_is_one_sentence(parameters, sentence):
    x = np.random.default_rng(0).normal(size=(12, 5))
    with pytest.raises(qdeq.UserError, match=sentence):
        qdeq.QDEQClassifier(**{**QUICK, **parameters}).fit(x, [0, 1] * 6)


def test_labels_need_two_classes_and_one_that_is_repeated():
    x = np.random.default_rng(0).normal(size=(3, 5))
    with pytest.raises(qdeq.UserError, match=r"y holds 1 class \(4\)"):
        qdeq.QDEQClassifier(**QUICK).fit(x, [4, 4, 4])
    with pytest.raises(qdeq.UserError, match="each the only one of its class"):
        qdeq.QDEQClassifier(**QUICK).fit(x, [1, 2, 3])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("y", [["a", None], ["a", float("nan")], pd.array(["a", pd.NA], "string")])
def test_a_label_that_is_missing_is_named(y, method):
    with pytest.raises(qdeq.UserError, match="y: the label at index 1 is missing"):
        getattr(qdeq.QDEQClassifier(), method)([[0.0], [1.0]], y)


def test_a_warm_start_goes_on_with_what_the_model_was_made_for(iris):
    x, y = iris
    x = pd.DataFrame(x, columns=list("abcd"))
    warm = qdeq.QDEQClassifier(**{**QUICK, "epochs": 2}, warm_start=True).fit(x, y)
    with pytest.raises(qdeq.UserError, match=r"y holds the classes .*'rose'.* goes on from one of"):
        warm.fit(x, np.where(y == "setosa", "rose", y))
    with pytest.raises(ValueError, match="in the same order as they were in fit"):
        warm.fit(x[["b", "a", "c", "d"]], y)
    warm.set_params(warm_start=False).fit(x[["b", "a", "c", "d"]], np.where(y == "setosa", "r", y))
    assert warm.classes_.tolist() == ["r", *NAMES[1:]]


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (qdeq.QDEQClassifier(), "fit"),
        (qdeq.QDEQClassifier(), "partial_fit"),
        (qdeq.QDEQRegressor(), "fit"),
        (qdeq.QDEQRegressor(), "partial_fit"),
        (qdeq.QDEQSequenceClassifier(), "fit"),
        (qdeq.QDEQSequenceRegressor(), "fit"),
        (qdeq.QDEQForecaster(window=2), "fit"),
    ],
)
def test_a_fit_that_ends_early_leaves_an_estimator_as_it_was(monkeypatch, estimator, method):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    # As late as can be: what a fit learns of features, labels and targets is known.
    for place in ("_estimator.Trainer", "_sequences.train_sequences"):
        monkeypatch.setattr(f"qdeq.interop.{place}", interrupt)
    estimator.n_features_in_, estimator.classes_ = 7, NAMES  # of a fit before
    before = dict(vars(estimator))
    with pytest.raises(KeyboardInterrupt):
        getattr(estimator, method)(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2)
    assert vars(estimator) == before


def test_every_call_of_partial_fit_has_the_same_classes(iris):
    x, y = iris
    with pytest.raises(qdeq.UserError, match="y holds 1 class"):
        qdeq.QDEQClassifier(**QUICK).partial_fit(x[:50], y[:50])
    part = qdeq.QDEQClassifier(**QUICK).partial_fit(x[:50], y[:50], classes=NAMES)
    part.partial_fit(x[50:], y[50:], classes=NAMES[::-1])
    with pytest.raises(qdeq.UserError, match=r"'rose'.* and they were .* in the first call"):
        part.partial_fit(x, y, classes=[*NAMES, "rose"])


def test_logarithms_of_probabilities_are_finite(fitted, iris):
    x, _ = iris
    logarithms = fitted.predict_log_proba(x)
    np.testing.assert_allclose(np.exp(logarithms), fitted.predict_proba(x), rtol=1e-12)
    assert np.isfinite(log_probabilities(np.array([[0.0, 2000.0]]))).all()


def test_masked_values_are_no_data(fitted, iris):
    x, y = iris
    masked = np.ma.masked_greater(x, 2)
    with pytest.raises(qdeq.UserError, match=f"X: {masked.mask.sum()} of its 600 values are mask"):
        clone(fitted).fit(masked, y)
    with pytest.raises(qdeq.UserError, match=r"X: .* are masked"):
        fitted.predict(masked)
    with pytest.raises(qdeq.UserError, match="y: 50 of its 150 values are masked"):
        clone(fitted).fit(x, np.ma.masked_equal(y, "setosa"))


def test_texts_among_features_are_named_as_such(fitted, iris):
    x, y = iris
    texts = pd.DataFrame(x, columns=list("abcd")).assign(b=pd.Categorical(y))
    with pytest.raises(qdeq.UserError, match=r"^X: row 0, column 1 \('b'\) is 'setosa'"):
        clone(fitted).fit(texts, y)


def test_wrong_inputs_are_refused_as_scikit_learn_does(fitted, iris):
    x, y = iris
    with pytest.raises(NotFittedError):
        qdeq.QDEQClassifier().predict(x)
    with pytest.raises(ValueError, match="X has 3 features, but QDEQClassifier is expecting 4"):
        fitted.predict(x[:, :3])
    broken = x.copy()
    for wrong in (np.nan, np.inf, 1e39):  # the last is finite until it is cast to float32
        broken[3, 1] = wrong
        with pytest.raises(ValueError, match=r"contains NaN.* row 3, column 1 is"):
            fitted.predict(broken)
        with pytest.raises(ValueError, match=r"contains NaN.* row 3, column 1 is"):
            clone(fitted).fit(broken, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(fitted).fit(x, y[:-1])
    with pytest.raises(ValueError, match="Unknown label type"):
        clone(fitted).fit(x, np.linspace(0, 1, len(x)))


# What cannot hold, with the reason.
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "repeating a sample changes which samples "
    "validate and share a batch; in a batch of all samples it does hold (test_sample_weights.py)"
}


@pytest.mark.filterwarnings("ignore")  # of scikit-learn's own
def test_scikit_learn_finds_a_constraint_for_every_parameter():
    check_param_validation("QDEQClassifier", qdeq.QDEQClassifier(**QUICK))


# Just inside and just outside what scikit-learn's constraints allow.
def edges(allowed):
    if isinstance(allowed, StrOptions):
        return list(allowed.options), ["no such name"]
    if not isinstance(allowed, Interval):
        return [], []
    near = 1 if allowed.type is numbers.Integral else 1e-9
    low, high = allowed.left, allowed.right
    inside = [low if allowed.closed == "left" else low + near]
    outside = [low - near if allowed.closed == "left" else low]
    if high is not None:
        inside.append(high - near)
        outside.append(high)
    return inside, outside


def test_scikit_learn_allows_what_a_training_run_allows():
    free = {"epochs": 10, "max_steps": 2**31 - 1, "ansatz": "paper", "warmup_epochs": 0}
    seen = 0
    for name, constraints in qdeq.QDEQClassifier._parameter_constraints.items():
        if name in OWN_PARAMETERS:
            continue
        for allowed in constraints:
            inside, outside = edges(allowed)
            for value in inside:
                assert getattr(TrainConfig(**{**free, name: value}), name) == value
            for value in outside:
                with pytest.raises(qdeq.UserError, match=f"^{name}="):
                    TrainConfig(**{**free, name: value})
            seen += len(inside) + len(outside)
    assert seen > 60  # most parameters have a range or names


@pytest.mark.slow
def test_objects_in_the_place_of_names_are_those_that_the_names_mean(iris):
    x, y = iris
    options = {**QUICK, "epochs": 2, "n_qubits": 2, "ansatz_layers": 1, "noise": "readout=0.02"}
    by_name = qdeq.QDEQClassifier(**options).fit(x, y)
    objects = {
        "n_qubits": None,
        "encoding": qdeq.AmplitudeEncoding(2, 4),
        "ansatz": hardware_efficient(2, 1),
        "observables": qdeq.z_of_every_wire(2),
        "noise": qdeq.parse_noise("readout=0.02"),
    }
    estimator = clone(qdeq.QDEQClassifier(**{**options, **objects}))
    by_object = estimator.fit(x, y)
    np.testing.assert_array_equal(by_object.decision_function(x), by_name.decision_function(x))
    assert by_object.n_qubits_ == by_name.n_qubits_ == 2
    # The trained model is the same, and so are the programs.
    with compilations() as found:
        clone(estimator).set_params(learning_rate=0.01, **objects).fit(x, y)
    assert not found
    assert estimator.get_params()["ansatz"] == objects["ansatz"]
    assert "encoding=AmplitudeEncoding(" in repr(estimator)
    copy = pickle.loads(pickle.dumps(by_object))
    np.testing.assert_array_equal(copy.predict(x), by_object.predict(x))
    assert clone(copy).get_params()["noise"] == objects["noise"]


@pytest.mark.slow  # compiles three solvers
def test_a_grid_runs_over_solvers_as_names_and_as_objects(iris):
    options = {"model": squash, "preset": "paper", "mode": "implicit", "epochs": 1}
    options |= {"jacobian_weight": 0.0, "random_state": 0}
    solvers = ["picard", qdeq.Picard(1e-5, 1e-5), qdeq.Anderson(1e-4, 1e-4)]
    search = GridSearchCV(qdeq.QDEQClassifier(**options), {"solver": solvers}, cv=2).fit(*iris)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == scores[1]  # the same solver with the same tolerances
    assert list(search.cv_results_["param_solver"]) == solvers
    best = pickle.loads(pickle.dumps(search)).best_estimator_
    assert best.config_.solver == search.best_params_["solver"]


@pytest.mark.slow
def test_a_model_function_of_ones_own_is_trained(iris):
    x, y = iris
    options = {"mode": "direct", "layers": 2, "epochs": 3, "learning_rate": 0.05, "batch_size": 32}
    options["preset"] = "paper"
    made = clone(qdeq.QDEQClassifier(model=squash, random_state=0, **options)).fit(x, y)
    assert made.n_qubits_ is None and made.equilibria(x).value.shape == (150, 3)
    trained = made.classifier_.model
    assert isinstance(trained, Squash) and not np.allclose(trained.weight, 0.2)
    copy = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(copy.predict_proba(x), made.predict_proba(x))
    # One with values starts from them, whatever the seed of its head.
    start = squash(jax.random.key(7))
    given = qdeq.QDEQClassifier(model=start, random_state=1, **options).fit(x, y)
    assert not np.allclose(given.classifier_.model.mix, start.mix)
    np.testing.assert_allclose(given.classifier_.model.mix, start.mix, atol=1)  # 3 epochs


# The recommended recipe, but for what compiles long.
FAST = {"mode": "direct", "layers": 1, "n_qubits": 2, "epochs": 30, "random_state": 0}


@pytest.mark.slow  # some forty fits of as many sizes, each compiled
@pytest.mark.filterwarnings("default")  # the checks provoke warnings on purpose
@parametrize_with_checks(
    [qdeq.QDEQClassifier(**FAST), qdeq.QDEQRegressor(**FAST)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
