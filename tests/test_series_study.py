"""The series study: its series, its rivals against formulas, a row in miniature."""

import numpy as np
import pytest

import qdeq
from qdeq.studies.series.data import load_series, lorenz, mackey_glass
from qdeq.studies.series.models import EchoState, Ridge
from qdeq.studies.series.rows import Prepared, chain_network, error, gru_network, train_row
from qdeq.studies.series.study import SERIES, SeriesStudy


def test_rows_have_one_key_each_and_a_reference_in_their_series():
    rows = SeriesStudy(seeds=(0, 1)).rows()
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys) == 6 * len(SERIES)
    assert all(SeriesStudy().reference(row, rows) in keys for row in rows)
    with pytest.raises(qdeq.UserError, match="seeds is empty"):
        SeriesStudy(seeds=()).rows()


def test_mackey_glass_obeys_its_equation():
    # Central differences on a fine grid; the delayed values are rows of it too.
    every, delay, lag = 0.05, 5.0, 100
    x = mackey_glass(300, delay=delay, every=every)[:, 0]
    slope = (x[lag + 2 :] - x[lag:-2]) / (2 * every)
    old, here = x[1 : -lag - 1], x[lag + 1 : -1]
    expected = 0.2 * old / (1 + old**10) - 0.1 * here
    assert np.abs(slope - expected).max() < 1e-4 < 1e-2 < np.abs(slope).max()


def test_lorenz_obeys_its_equation_on_both_wings():
    p = lorenz(4000, every=0.005)
    x, y, z = p[1:-1].T
    slope = (p[2:] - p[:-2]) / 0.01
    expected = np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)
    # The differences' error is every^2 / 6 times the third derivative: up to 0.2 %.
    assert np.abs(slope - expected).max() < 0.01 * np.abs(expected).max()
    assert x.min() < -5 and x.max() > 5


@pytest.mark.parametrize(
    ("name", "package"), [("sunspots", "statsmodels"), ("laser", "reservoirpy")]
)
def test_a_measured_series_is_there_or_one_line_says_what_to_install(name, package, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(qdeq.UserError, match=rf"needs the package {package}.*qdeq\[series\]"):
        load_series(name)


def test_ridge_regression_continues_what_obeys_a_linear_recursion():
    series = np.sin(0.3 * np.arange(300))[:, None]
    ridge = Ridge.fit(series, 200, lags=2, penalty=1e-12)
    found = ridge.forecast(series[200:220][None], 30)[0]
    np.testing.assert_allclose(found, series[220:250], atol=1e-3)
    assert ridge.n_parameters == 3


def test_an_echo_state_network_runs_as_its_equation_says_and_forecasts_a_wave():
    series = np.sin(0.3 * np.arange(400))[:, None]
    network = EchoState.fit(series, 300, seed=0, units=50, radius=0.9, leak=0.5, penalty=1e-8)
    assert np.abs(np.linalg.eigvals(network.inner)).max() == pytest.approx(0.9)
    state = np.zeros(50)
    for row in series[:3]:
        heard = network.inner @ state + network.inputs @ np.r_[row, 1]
        state = 0.5 * state + 0.5 * np.tanh(heard)
    np.testing.assert_allclose(network._run(series[None, :3])[0, -1], state)
    found = network.forecast(series[240:300][None], 20)[0]
    np.testing.assert_allclose(found, series[300:320], atol=0.05)


def test_the_error_of_the_mean_is_one_and_scales_come_from_the_training_part():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(400, 2)) * [1, 50] + [3, -7]
    series[240:] *= 2
    data = Prepared.of(series)
    assert data.edges == (240, 320, 400)
    np.testing.assert_allclose(data.values[:240].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.values[:240].std(axis=0), 1, atol=1e-5)
    mean = data.values[320:].mean(axis=0)

    def predict(history, steps):
        return np.broadcast_to(mean, (len(history), steps, 2))

    np.testing.assert_allclose(error(predict, data, 2, 3), 1, atol=0.05)

    def perfect(history, steps):
        last = [np.abs(data.values - h[-1]).sum(axis=1).argmin() for h in history]
        return np.stack([data.values[i + 1 : i + 1 + steps] for i in last])

    np.testing.assert_allclose(error(perfect, data, 2, 3), 0, atol=1e-6)


@pytest.mark.slow
def test_rivals_are_of_the_size_of_the_chain():
    options = {"n_qubits": 3, "ansatz_layers": 2}
    for channels in (1, 3):
        size = chain_network(options, channels, 0, 1.0).n_parameters
        assert abs(gru_network(channels, size, 0).n_parameters - size) <= 0.15 * size


@pytest.mark.slow
@pytest.mark.parametrize("model", ["chain", "alone", "gru", "esn"])
def test_a_row_is_trained_and_measured(model, tmp_path, monkeypatch):
    wave = np.sin(0.5 * np.arange(400))[:, None]
    monkeypatch.setattr("qdeq.studies.series.rows.load_series", lambda _: wave)
    row = SeriesStudy(seeds=(0,)).rows()[0]
    options = {**row.options, "model": model, "steps": 120, "horizon": 4, "n_qubits": 2}
    told = []
    row = type(row)(group="wave", name=model, label="", kind="", seeds=(0,), options=options)
    (found,) = train_row(row, tmp_path, told.append)["seeds"]
    assert told[-1] == {"stage": "training", "epoch": 1, "epochs": 1}
    assert found["one_step"] == found["ahead_1"] and found["far"] == found["ahead_4"]
    # To stay where it is would be wrong by 0.5.
    assert found["one_step"] < 0.2
