"""Estimators for sequences and the forecaster: their contract, their data, what they learn."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

import qdeq
from qdeq.data.inputs import column_names
from qdeq.data.sequences import check_columns, check_steps, padded, sequence_list
from qdeq.models.sequence_network import sequence_network
from qdeq.training.forecasting import forecast, forecasting_sequences
from qdeq.training.sequences import SequenceTraining, on_length, train_sequences

ESTIMATORS = [qdeq.QDEQSequenceClassifier, qdeq.QDEQSequenceRegressor, qdeq.QDEQForecaster]
QUICK = {"n_qubits": 2, "ansatz_layers": 1, "random_state": 0}


def bits_and_parities(n, seed=0):
    rng = np.random.default_rng(seed)
    x = [rng.integers(0, 2, rng.integers(4, 9)).astype(float) for _ in range(n)]
    return x, [np.cumsum(one).astype(int) % 2 for one in x]


def test_arrays_and_lists_of_either_layout_are_the_same_sequences():
    x = np.random.default_rng(0).normal(size=(3, 5, 2))
    for other, layout in [
        (x, "time-first"),
        (list(x), "time-first"),
        (jnp.asarray(x), "time-first"),
        (np.swapaxes(x, 1, 2), "channels-first"),
        (list(np.swapaxes(x, 1, 2)), "channels-first"),
    ]:
        np.testing.assert_allclose(sequence_list(other, layout), x, atol=1e-6)
    for layout in ("time-first", "channels-first"):  # one channel has no order of axes
        np.testing.assert_array_equal(sequence_list(x[..., 0], layout), x[..., :1])
    values, mask = padded([np.ones((2, 1)), np.ones((4, 1))])
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(values[..., 0], mask)
    assert padded([np.ones((2, 1))])[1] is None


def test_a_list_of_frames_has_steps_as_rows_in_either_layout_or_is_refused():
    frames = [pd.DataFrame({"a": np.arange(4.0), "b": np.ones(4)}) for _ in range(2)]
    assert [one.shape for one in sequence_list(frames)] == [(4, 2), (4, 2)]
    with pytest.raises(qdeq.UserError, match=r"X\[0\]: a frame, .* give layout='time-first'"):
        sequence_list(frames, "channels-first")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # sktime's own, of what it will change
def test_sktime_makes_a_forecaster_of_a_regressor_and_its_horizons_are_taken():
    pytest.importorskip("sktime", reason="sktime is no dependency; it is only checked against")
    from sktime.forecasting.base import ForecastingHorizon
    from sktime.forecasting.compose import make_reduction

    wave = pd.Series(np.sin(0.5 * np.arange(60)))
    regressor = qdeq.QDEQSequenceRegressor(**QUICK, epochs=3)
    reduced = make_reduction(regressor, window_length=10, strategy="recursive")
    assert list(reduced.fit(wave, fh=[1, 2]).predict().index) == [60, 61]
    forecaster = qdeq.QDEQForecaster(**QUICK, window=10, epochs=3).fit(wave)
    found = forecaster.predict(ForecastingHorizon([1, 3]))
    pd.testing.assert_series_equal(found, forecaster.predict([1, 3]))
    with pytest.raises(qdeq.UserError, match=r"fh.to_relative\(cutoff\)"):
        forecaster.predict(ForecastingHorizon([60, 61], is_relative=False))


@pytest.mark.parametrize("estimator", ESTIMATORS[:2])
def test_masked_targets_are_no_data(estimator):
    y = np.ma.masked_equal([0, 1, 0, 1], 1)
    with pytest.raises(qdeq.UserError, match="y: 2 of its 4 values are masked: fill them in"):
        estimator(**QUICK).fit(np.zeros((4, 3)), y)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parameters_are_kept_cloned_and_checked_in_fit(estimator):
    made = estimator(n_qubits=2, gain=1.5)
    assert clone(made).get_params() == made.get_params()
    assert set(made.get_params()) == set(estimator._parameter_constraints)
    x = np.zeros((4, 3))
    for name, wrong in [("n_qubits", 0), ("gain", -1), ("epochs", 0), ("schedule", "linear")]:
        with pytest.raises(InvalidParameterError, match=name) as caught:
            estimator(**{name: wrong}).fit(x, np.arange(4))
        assert isinstance(caught.value, qdeq.UserError)
    with pytest.raises(NotFittedError):
        estimator().predict(x if estimator is not qdeq.QDEQForecaster else 1)


@pytest.mark.parametrize(
    ("x", "y", "settings", "message"),
    [
        (np.zeros((4, 3, 2, 1)), np.arange(4), {}, "shape"),
        (np.zeros((4, 0, 2)), np.arange(4), {}, "shape"),
        ([], [], {}, "no sequences"),
        ([np.zeros(3), np.zeros((3, 2))], [0, 1], {}, r"X\[1\]: 2 channels where X\[0\] has 1"),
        ([np.zeros(3), np.zeros(0)], [0, 1], {}, r"X\[1\]"),
        ([np.zeros(3), [1.0, np.inf]], [0, 1], {}, r"X\[1\]: row 1, channel 0 is inf"),
        ([np.zeros(3), ["a"]], [0, 1], {}, r"X\[1\].*give real numbers"),
        (np.full((4, 3), np.nan), [0, 1, 0, 1], {}, "channel 0 holds no number"),
        (np.zeros((4, 3)), [0, 1, 0], {}, "y holds 3 and X 4 sequences"),
        (np.zeros((1, 3)), [0], {}, "1 sample of a sequence that counts"),
        (np.zeros((4, 3)), 7, {}, "y=7"),
        (np.zeros((4, 3)), [0, 1, 0, 1], {"read_out": "sites"}, r"y\[0\] has shape \(\)"),
        (np.zeros((2, 3)), np.zeros((2, 2), int), {"read_out": "sites"}, "3 sites"),
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS[:2])
def test_sequences_that_do_not_fit_are_refused_in_one_line(estimator, x, y, settings, message):
    with pytest.raises(qdeq.UserError, match=message):
        estimator(**settings).fit(x, y)


def test_a_single_class_and_weights_without_any_weight_are_refused_in_one_line():
    x = np.zeros((4, 3))
    with pytest.raises(qdeq.UserError, match="y holds 1 class"):
        qdeq.QDEQSequenceClassifier().fit(x, np.zeros(4))
    with pytest.raises(qdeq.UserError, match="all weights are zero"):
        qdeq.QDEQSequenceRegressor().fit(x, np.arange(4), sample_weight=np.zeros(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.fit(np.arange(10.0)), "10 rows"),
        (lambda f: f.fit(np.arange(40.0), fh=0), "fh=0"),
        (lambda f: f.fit(np.arange(40.0), fh=[2, 1]), "rising order"),
        (lambda f: f.fit(np.arange(40.0), fh="next"), "fh='next'"),
        (lambda f: f.fit(np.arange(40.0), X=np.arange(3.0)), "X holds 3 and y 40 rows"),
        (lambda f: f.fit(np.full(40, np.nan)), "channel 0 holds no number"),
    ],
)
def test_a_series_that_cannot_be_forecast_is_refused_in_one_line(make, message):
    with pytest.raises(qdeq.UserError, match=message):
        make(qdeq.QDEQForecaster(window=8))


@pytest.mark.slow
def test_a_classifier_of_sites_learns_parity_and_keeps_it_on_any_length():
    x, y = bits_and_parities(120)
    classifier = qdeq.QDEQSequenceClassifier(read_out="sites", random_state=0, epochs=40)
    assert classifier.fit(x, y).score(x, y) == 1
    longer, truth = bits_and_parities(3, seed=1)
    longer = [np.tile(one, 30) for one in longer]
    truth = [np.cumsum(one).astype(int) % 2 for one in longer]
    found = classifier.predict(longer)
    assert [len(one) for one in found] == [len(one) for one in longer]
    assert all((a == b).all() for a, b in zip(found, truth, strict=True))
    chances = classifier.predict_proba(longer)
    np.testing.assert_allclose(np.concatenate(chances).sum(axis=1), 1)
    for logarithms, one in zip(classifier.predict_log_proba(longer), chances, strict=True):
        np.testing.assert_allclose(np.exp(logarithms), one)
    # What a sequence is predicted to be does not depend on what is predicted with it.
    alone = classifier.decision_function(longer[:1])[0]
    np.testing.assert_allclose(classifier.decision_function(longer)[0], alone, atol=1e-4)
    kept = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(kept.predict(longer)[0], found[0])


@pytest.mark.slow
def test_a_chain_both_ways_takes_gaps_names_and_the_layout_of_sktime():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2, 6))
    x[:, 1] += 2 * np.sign(rng.normal(size=(80, 1)))
    y = np.where(x[:, 1].mean(axis=1) > 0, "up", "down")
    x[:40, 0, 3] = np.nan
    settings = {"direction": "both", "read_out": "mean", "layout": "channels-first"}
    classifier = qdeq.QDEQSequenceClassifier(**QUICK, **settings, epochs=40).fit(x, y)
    assert classifier.n_features_in_ == 2 and classifier.preparation_.marked == (0,)
    assert classifier.network_.wiring == qdeq.Chain(6, "both")
    assert all(0 < line["growth"] < 1 for line in classifier.history_)
    assert classifier.score(x, y) > 0.9 and classifier.converged(x).all()
    assert set(classifier.predict(x)) == {"up", "down"}
    assert classifier.decision_function(x).shape == (80,)


@pytest.mark.slow
def test_a_regressor_learns_what_came_last_in_the_units_of_its_targets():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 5, 1))
    y = np.stack([1e6 + 1e5 * x[:, -1, 0], x[:, -2, 0] - x[:, -1, 0]], axis=1)
    weights = np.r_[np.zeros(10), np.ones(90)]
    spoilt = y.copy()
    spoilt[:10] = 1e12  # does not count
    regressor = qdeq.QDEQSequenceRegressor(**QUICK, epochs=150).fit(x, spoilt, weights)
    assert regressor.score(x, y) > 0.9
    assert regressor.predict(x).shape == (100, 2)
    with pytest.raises(qdeq.UserError, match="2 channels where 1 were fitted"):
        regressor.predict(np.zeros((3, 5, 2)))


@pytest.mark.slow
def test_a_forecast_goes_on_with_state_as_one_chain_of_its_own_rows_would(x64):
    network = sequence_network(3, 2, key=jax.random.key(0), n_qubits=2, read_out="sites")
    rng = np.random.default_rng(0)
    history, unit = jnp.asarray(rng.normal(size=(1, 6, 2))), jnp.asarray([0.1, 0.2])
    known = jnp.asarray(rng.normal(size=(1, 9, 1)))
    found, converged = forecast(network, history, 4, unit=unit, known=known)
    rows = np.concatenate([history[0], found[0]])
    x = np.concatenate([rows[:9], known[0]], axis=1)
    whole = on_length(network, 9)
    steps = whole.outputs(whole.solve(jnp.asarray(x)).value)
    np.testing.assert_allclose(np.diff(rows, axis=0)[5:9], steps[5:] * unit, atol=1e-9)
    assert converged.all()


def test_windows_of_a_forecaster_ask_for_the_next_row_of_their_part_alone():
    values = np.random.default_rng(0).normal(size=(40, 2))
    observed = np.ones((40, 2), bool)
    observed[25, 1] = False
    found = forecasting_sequences(
        values, (20, 40), 6, unit=np.array([1.0, 2.0]), warm_up=2, lags=2, observed=observed
    )
    assert found.x.shape[1:] == (6, 4)
    asked = set()
    for x, y, counts in zip(found.x, found.y, found.counts, strict=True):
        assert not counts[:2].any()
        for site in np.flatnonzero(counts):
            row = int(np.argmin(np.abs(values - x[site, 2:]).sum(axis=1)))
            asked.add(row + 1)
            np.testing.assert_allclose(x[site, :2], values[row - 1], atol=1e-6)
            step = (values[row + 1] - values[row]) / [1, 2]
            np.testing.assert_allclose(y[site], step, atol=1e-6)
    assert asked == {*range(20, 40)} - {25}


@pytest.mark.slow
def test_a_forecaster_goes_on_with_a_wave_its_index_and_what_it_was_told():
    time = np.arange(160)
    push = (time % 7 == 0).astype(float)  # known beforehand: the wave is lifted there
    wave = np.sin(0.5 * time) + push
    index = pd.date_range("2024-01-01", periods=160, freq="D")
    series = pd.Series(wave, index=index, name="wave")
    series.iloc[30] = np.nan
    forecaster = qdeq.QDEQForecaster(window=16, random_state=0, epochs=80)
    forecaster.fit(series[:140], X=push[:140], fh=[1, 7, 8])
    found = forecaster.predict(X=push[140:])
    assert list(found.index) == [index[139 + h] for h in (1, 7, 8)] and found.name == "wave"
    np.testing.assert_allclose(found, wave[[140, 146, 147]], atol=0.35)
    later = forecaster.update(series[140:150], X=push[140:150]).predict(fh=1, X=push[150:])
    assert abs(later.iloc[0] - wave[150]) < 0.35 and later.index[0] == index[150]
    with pytest.raises(qdeq.UserError, match="X is missing"):
        forecaster.predict(fh=1)
    with pytest.raises(qdeq.UserError, match="X holds 2 rows and fh reaches 3"):
        forecaster.predict(fh=3, X=push[:2])


@pytest.mark.slow
def test_the_model_of_the_best_epoch_is_kept_and_padding_teaches_nothing():
    x, y = bits_and_parities(12)
    classifier = qdeq.QDEQSequenceClassifier(read_out="sites")
    sequences = classifier.__class__(read_out="sites")
    sequences.preparation_ = qdeq.data.SeriesPreparation.fit(x)
    data = sequences._sequences(sequence_list(x), y)
    spoilt = data.y.copy()
    spoilt[~data.mask] = 1  # beyond the end of sequences
    network = sequence_network(1, 2, key=jax.random.key(0), n_qubits=2, read_out="sites")
    training = SequenceTraining(loss="cross-entropy", epochs=4, batch_size=5)
    told = []
    one = train_sequences(network, data, data, training, tell=told.append)
    other = type(data)(data.x, data.mask, spoilt, data.counts)
    two = train_sequences(network, other, other, training)
    assert told == one.history == two.history
    best = min(one.history, key=lambda line: line["valid_loss"])
    assert [line for line in one.history if line["best"]][-1] == best


@pytest.mark.slow
def test_a_forecaster_goes_on_with_a_line_and_with_frames_of_several_channels():
    line = pd.Series(3.0 * np.arange(60), index=np.arange(0, 120, 2))
    forecaster = qdeq.QDEQForecaster(**QUICK, window=10, epochs=30).fit(line[:50], fh=[1, 4])
    found = forecaster.predict()
    assert list(found.index) == [100, 106]
    # It leaves the range it was trained on, in which a circuit knows what a number means.
    assert abs(found.iloc[0] - 150) < 3 and found.iloc[1] > found.iloc[0]
    assert list(forecaster.update(line[50:51]).predict(1).index) == [102]  # one row has no step
    waves = pd.DataFrame({"a": np.sin(0.5 * np.arange(60)), "b": np.cos(0.5 * np.arange(60))})
    found = qdeq.QDEQForecaster(**QUICK, window=10, epochs=80).fit(waves[:50]).predict([1, 2])
    assert list(found.columns) == ["a", "b"] and list(found.index) == [50, 51]
    np.testing.assert_allclose(found, waves.iloc[50:52], atol=0.3)


TINY = {"n_qubits": 1, "ansatz_layers": 1, "epochs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def few():
    """Eight sequences of five steps and two channels, a label of each and of each step."""
    x = np.random.default_rng(0).normal(size=(8, 5, 2))
    return x, np.arange(8) % 2, (x.sum(axis=2) > 0).astype(int)


@pytest.fixture(scope="module", params=ESTIMATORS[:2])
def whole(request, few):
    return request.param(**TINY).fit(frames(few[0]), few[1])


@pytest.fixture(scope="module", params=ESTIMATORS[:2])
def of_sites(request, few):
    return request.param(**TINY, read_out="sites").fit(few[0], few[2])


def frames(x, columns=("a", "b")):
    return [pd.DataFrame(one, columns=list(columns)) for one in x]


def entries(estimator, x, y, path):
    """All that takes sequences after the fit."""
    names = {"predict", "predict_proba", "predict_log_proba", "decision_function", "converged"}
    names &= {*dir(estimator)}
    return [lambda name=name: getattr(estimator, name)(x) for name in names] + [
        lambda: estimator.score(x, y),
        lambda: estimator.write_report(x, path),
    ]


def test_wherever_frames_enter_after_the_fit_other_columns_are_refused(whole, few, tmp_path):
    x, y, _ = few
    assert list(whole.feature_names_in_) == ["a", "b"] and whole.n_features_in_ == 2
    for columns in (["b", "a"], ["a", "c"]):
        given = [*frames(x[:7]), *frames(x[7:], columns)]
        for enter in entries(whole, given, y, tmp_path / "page.html"):
            wanted = f"X\\[7\\]: the columns '{columns[0]}', '{columns[1]}' where 'a', 'b' were"
            with pytest.raises(qdeq.UserError, match=wanted):
                enter()
        with pytest.raises(qdeq.UserError, match=r"X\[7\]: the columns"):
            clone(whole).fit(given, y)
    # What has no names is taken as it comes, as scikit-learn does, and so is what then has some.
    wanted = whole.predict(frames(x))
    np.testing.assert_array_equal(whole.predict(x), wanted)
    np.testing.assert_array_equal(whole.predict([frames(x)[0], *x[1:]]), wanted)


def test_names_are_those_of_the_last_fit_and_steps_in_another_order_are_refused(few):
    x, y, _ = few
    steps = pd.DataFrame(x[..., 0], columns=[f"t{i}" for i in range(5)])
    classifier = qdeq.QDEQSequenceClassifier(**TINY).fit(frames(x), y).fit(steps, y)
    assert not hasattr(classifier, "feature_names_in_")
    wanted = classifier.predict(steps)
    np.testing.assert_array_equal(classifier.predict(steps.to_numpy()), wanted)
    assert classifier.predict(steps.iloc[:, 1:].assign(t5=1.0)).shape == (8,)  # of another length
    with pytest.raises(qdeq.UserError, match=r"'t4', 't3', .*, which are steps, where 't0'"):
        classifier.predict(steps.iloc[:, ::-1])


@pytest.mark.parametrize(
    "names", [["a", "b"], [0, 1], [1, 0], [7, 5], [("a", 1), ("a", 2)], [2.5, "a"]]
)
def test_columns_of_any_names_come_in_the_order_of_the_fit(names):
    fitted, bare = pd.DataFrame(np.ones((3, 2))), np.ones((3, 2))
    fitted.columns = pd.Index(names, tupleize_cols=False)
    known = column_names(fitted)
    check_columns(fitted, known, "X")
    check_columns(bare, known, "X")
    for check in (lambda x: check_columns(x, known, "X"), lambda x: check_steps(x, known)):
        with pytest.raises(qdeq.UserError, match="were fitted: give them in that order"):
            check(fitted.iloc[:, ::-1])


def test_a_score_of_sites_pairs_each_sequence_with_its_own_sites_or_is_refused(of_sites, few):
    x, y, ys = few
    weights = np.arange(8.0)
    wanted = of_sites.score(x, ys, weights)
    assert abs(of_sites.score(list(x), list(ys), list(weights)) - wanted) < 1e-6
    shorter = of_sites.score([x[0][:2], x[1]], [ys[0][:2], pd.Series(ys[1])])
    assert np.isfinite(shorter)
    for given, said, weight, message in [
        ([x[0][:2], x[1][:4]], [ys[0][:4], ys[1][:2]], None, r"y\[0\] has shape \(4,\), X\[0\] 2"),
        (x, None, None, "the target y is None"),
        (x, y, None, r"y\[0\] has shape \(\), X\[0\] 5 sites"),
        (x, ys[:5], None, "y holds 5 and X 8 sequences"),
        (x, ys, np.ones(3), r"sample_weight: weights of shape \(3,\) for 8"),
        (x, ys, -weights, "sample_weight: the weight at index 1 is -1"),
    ]:
        with pytest.raises(qdeq.UserError, match=message):
            of_sites.score(given, said, sample_weight=weight)
    if isinstance(of_sites, qdeq.QDEQSequenceRegressor):
        with pytest.raises(qdeq.UserError, match="y holds 2 targets where 1 were fitted"):
            of_sites.score(x, np.stack([ys, ys], axis=2))


def test_a_score_of_sequences_weighs_them_and_refuses_what_does_not_fit(whole, few):
    x, y, _ = few
    once = whole.score(x[2:], pd.Series(y[2:], index=range(5, 11)))
    assert abs(whole.score(x, list(y), sample_weight=[0, 0, *np.ones(6)]) - once) < 1e-6
    for said, weight, message in [
        (None, None, "the target y is None"),
        (y[:5], None, "y holds 5 and X 8 sequences"),
        (y, np.ones(3), "sample_weight"),
    ]:
        with pytest.raises(qdeq.UserError, match=message):
            whole.score(x, said, sample_weight=weight)


def test_what_is_set_after_a_fit_is_of_the_next_fit(whole, of_sites, few):
    x, _, ys = few
    for fitted, others in [
        (whole, [{"read_out": "sites"}, {"read_out": "mean"}, {"mode": "direct", "layers": 1}]),
        (of_sites, [{"read_out": "last"}, {"direction": "both"}, {"mode": "direct", "layers": 1}]),
    ]:
        wanted, before = fitted.predict(list(x)), fitted.get_params()
        for other in others:
            found = fitted.set_params(**other).predict(list(x))
            assert fitted.converged(x).all()
            fitted.set_params(**before)
            assert len(found) == len(wanted)
            for one, two in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, two)
    again = clone(whole).set_params(read_out="sites").fit(x, ys).set_params(read_out="last")
    assert again.predict(x).shape == (8, 5)


def test_sequences_in_any_list_of_objects_are_read_as_in_a_list(whole, of_sites, few):
    x = few[0]
    listed = [x[0][:2], x[1], x[2][:4]]
    objects = np.empty(3, dtype=object)
    objects[:] = listed
    for fitted in (whole, of_sites):
        wanted = fitted.predict(listed)
        for other in (objects, pd.Series(objects), pd.Series(objects, index=[5, 3, 4])):
            found = fitted.predict(other)
            assert type(found) is type(wanted) and len(found) == 3
            for one, two in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, two)
    lists = np.array([[1.0, 2.0], [3.0]], dtype=object)
    assert [one.shape for one in sequence_list(lists)] == [(2, 1), (1, 1)]
    with pytest.raises(qdeq.UserError, match=r"X\[1\]: a single NoneType"):
        sequence_list(np.array([[1.0, 2.0], None], dtype=object))


def test_targets_of_sites_are_scaled_by_what_their_sequences_count(monkeypatch):
    monkeypatch.setattr(qdeq.QDEQSequenceRegressor, "_fit", lambda self, *_: self)
    y, weights = np.array([1e6, 1.0, 2.0, 3.0, 4.0, 1e6]), [1e-6, 1, 1, 1, 1, 1e-6]
    whole, sites = (
        qdeq.QDEQSequenceRegressor(read_out=read_out, random_state=0)
        .fit(np.ones((6, 1)), y if read_out == "last" else y[:, None], weights)
        .targets_
        for read_out in ("last", "sites")
    )
    assert sites == whole and whole.scale[0] < 1e4


@pytest.mark.parametrize("estimator", ESTIMATORS[:2])
def test_where_nothing_is_solved_nothing_is_said_to_have_converged(estimator, few, tmp_path):
    x, y, _ = few
    fitted = estimator(**TINY, mode="direct", layers=1).fit(x, y)
    assert set(fitted.history_[0]) == {"epoch", "train_loss", "valid_loss", "valid_mark", "best"}
    for enter in (lambda: fitted.converged(x), lambda: fitted.write_report(x, tmp_path / "a.html")):
        with pytest.raises(qdeq.UserError, match="mode='direct': the map is applied once and noth"):
            enter()
    with pytest.raises(NotFittedError):
        estimator(mode="direct").converged(x)


# X is a batch of sequences, whose features are channels: (N, T) is N sequences of one channel.
_ONE_CHANNEL = "two axes are sequences of one channel, any length of which may be read"
_EXPECTED_FAILURES = {
    "check_n_features_in": _ONE_CHANNEL,
    "check_n_features_in_after_fitting": _ONE_CHANNEL,
    "check_classifiers_train": _ONE_CHANNEL,
    "check_regressors_train": _ONE_CHANNEL,
    "check_fit2d_predict1d": "an array of one axis is refused, in other words",
    "check_estimators_empty_data_messages": "sequences without a step are refused, in other words",
    "check_dtype_object": "a cell that is no number is refused, in other words",
    "check_sample_weight_equivalence_on_dense_data": "repeating a sequence changes which validate",
}


@pytest.mark.slow  # some dozens of fits of as many sizes
@pytest.mark.filterwarnings("default")  # the checks provoke warnings on purpose
@parametrize_with_checks(
    [
        qdeq.QDEQSequenceClassifier(epochs=3, n_qubits=2, ansatz_layers=1),
        qdeq.QDEQSequenceRegressor(epochs=3, n_qubits=2, ansatz_layers=1),
    ]
)
def test_scikit_learn_checks_of_what_holds_for_sequences(estimator, check):
    reason = _EXPECTED_FAILURES.get(check.func.__name__)
    if reason is not None:
        pytest.skip(reason)
    check(estimator)
