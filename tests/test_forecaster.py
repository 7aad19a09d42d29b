"""The forecaster's rows: whose columns they are, where its index goes on, what may come later."""

import copy
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import qdeq

WAVE = np.sin(0.5 * np.arange(60))
DAYS = pd.date_range("2024-01-01", periods=60, freq="B")


def forecaster(**settings):
    quick = {"window": 6, "n_qubits": 1, "ansatz_layers": 1, "epochs": 1, "random_state": 0}
    return qdeq.QDEQForecaster(**{**quick, **settings})


@pytest.fixture(scope="module")
def of_frames():
    y = pd.DataFrame({"a": WAVE, "b": 100 + WAVE}, index=DAYS)
    x = pd.DataFrame({"k": WAVE, "l": 10 + WAVE}, index=DAYS)
    return forecaster().fit(y[:50], X=x[:50]), y[50:], x[50:]


@pytest.fixture(scope="module")
def of_waves():
    return forecaster().fit(WAVE[:50])


@pytest.mark.parametrize("new", [["b", "a"], ["a", "q"], ["a"], ["a", "b", "a"]])
@pytest.mark.parametrize("name", ["y", "X"])
def test_wherever_a_frame_enters_after_the_fit_other_columns_are_refused(of_frames, name, new):
    fitted, y, x = of_frames
    there = list(y.columns if name == "y" else x.columns)
    names = [dict(a="k", b="l").get(one, one) for one in new] if name == "X" else new
    wrong = (y if name == "y" else x).reindex(columns=list(dict.fromkeys(names)), fill_value=1.0)
    wrong = wrong[names]
    entries = {"y": [lambda f: f.update(wrong, X=x)]}
    entries["X"] = [lambda f: f.update(y, X=wrong), lambda f: f.predict(2, X=wrong)]
    found = ", ".join(map(repr, names))
    expected = ", ".join(map(repr, there))
    for enter in entries[name]:
        with pytest.raises(qdeq.UserError, match=f"{name}: .*{found} where {expected} were"):
            enter(copy.deepcopy(fitted))


def test_rows_without_names_are_those_of_the_fit_and_names_stay_those_of_the_fit(of_frames):
    fitted, y, x = of_frames
    named, bare = (copy.deepcopy(fitted) for _ in range(2))
    wanted = named.update(y[:3], X=x[:3]).predict([1, 2], X=x[3:])
    found = bare.update(y[:3].to_numpy(), X=x[:3].to_numpy()).predict([1, 2], X=x[3:].to_numpy())
    pd.testing.assert_frame_equal(found, wanted)
    assert list(found.columns) == ["a", "b"] and list(found.index) == list(DAYS[53:55])
    of_arrays = forecaster().fit(WAVE[:50])
    later = of_arrays.update(pd.Series(WAVE[50:52], index=DAYS[50:52], name="v")).predict([1, 2])
    assert isinstance(later, np.ndarray)


def test_rows_of_x_stand_beside_those_of_their_own_index(of_frames):
    fitted, y, x = of_frames
    enter = {
        "fit": lambda x: forecaster().fit(y, X=x[:10]),
        "update": lambda x: copy.deepcopy(fitted).update(y[:3], X=x[:3]),
        "predict": lambda x: copy.deepcopy(fitted).predict(3, X=x[:5]),
    }
    for name, enters in enter.items():
        with pytest.raises(qdeq.UserError, match=r"X: .* in its index stands beside .* \(row 0\)"):
            enters(x[::-1])
        if name != "fit":  # ten rows are too few to train on
            enters(x.reset_index(drop=True))


@pytest.mark.parametrize(
    "index",
    [
        *(DAYS[::-1], pd.RangeIndex(60, 0, -1), DAYS[[1, 0, *range(2, 60)]]),
        # Two series or more, one below the other.
        pd.MultiIndex.from_product([range(30), DAYS[:2]]),
    ],
)
def test_rows_that_go_back_in_time_are_refused(index):
    with pytest.raises(
        qdeq.UserError, match=r"y: .* comes after .* in its index \(row [12]\): give"
    ):
        forecaster().fit(pd.Series(WAVE, index=index))


@pytest.mark.parametrize("rows", [np.ones((3, 2)), pd.DataFrame({"a": [1.0], "b": [2.0]})])
def test_rows_of_other_channels_are_refused_in_one_line(of_waves, rows):
    with pytest.raises(qdeq.UserError, match="y: 2 channels where 1 were fitted: give the same"):
        copy.deepcopy(of_waves).update(rows)


INDICES = {
    "business days": DAYS,
    "business days of no stated frequency": pd.DatetimeIndex(list(DAYS)),
    "month ends of a zone": pd.date_range("2020-01-31", periods=60, freq="ME", tz="UTC"),
    "periods": pd.period_range("2020-01", periods=60, freq="M"),
    "periods of two months": pd.period_range("2020-01", periods=60, freq="2M"),
    "every third month": pd.period_range("2020-01", periods=180, freq="M")[::3],
    "even numbers": pd.RangeIndex(0, 120, 2),
    "small numbers": pd.Index(np.arange(196, 256), dtype="uint8"),
    "times since": pd.timedelta_range("0s", periods=60, freq="s"),
}


@pytest.mark.parametrize("index", [pytest.param(i, id=name) for name, i in INDICES.items()])
def test_the_index_goes_on_as_the_whole_one_of_the_fit_does(index):
    series = pd.Series(WAVE, index=index.rename("when"), name="wave")
    fitted = forecaster().fit(series[:50])
    for after in range(50, 56):  # after whatever day of a week one row comes
        found = copy.deepcopy(fitted)
        if after > 51:
            found.update(series[50 : after - 1])
        if after > 50:
            found.update(series[after - 1 : after])
        found = found.predict([1, 2, 4])
        assert list(found.index) == list(index[[after, after + 1, after + 3]])
        assert found.index.name == "when" and found.name == "wave"
    # Rows without an index are the next ones.
    unnamed = copy.deepcopy(fitted).update(WAVE[50:53]).update(series[53:54]).predict(1)
    pd.testing.assert_series_equal(unnamed, copy.deepcopy(fitted).update(series[50:54]).predict(1))
    known = copy.deepcopy(fitted).update(WAVE[50:53])
    for wrong in (series[49:52], series[52:53], series[53:56][::-1], series[:3]):
        with pytest.raises(qdeq.UserError, match=r"y: an index from .* give rows that come after"):
            known.update(wrong)
    for wrong, row, step in ((series[54:56], 54, 53), (series.iloc[[53, 55]], 55, 54)):
        left_out = f"y: {index[row]} in its index where the series goes on with {index[step]}"
        with pytest.raises(qdeq.UserError, match=re.escape(left_out)):
            known.update(wrong)
    # What was refused has changed nothing.
    assert list(known.predict([1]).index) == [index[53]]


def test_an_index_of_another_kind_is_refused_and_one_without_a_step_counts_rows():
    series = pd.Series(WAVE, index=DAYS)
    fitted = forecaster().fit(series[:50])
    others = [pd.RangeIndex(3), DAYS[50:53].tz_localize("UTC"), DAYS[50:53].to_period("D")]
    for index in [*others, pd.Index(["a", "b", "c"]), pd.DatetimeIndex([pd.NaT] * 3)]:
        with pytest.raises(qdeq.UserError, match="y: an index from"):
            copy.deepcopy(fitted).update(pd.Series(WAVE[50:53], index=index))
    # Monday is the next business day after a Saturday, on which a row came out of turn.
    saturday = pd.Series([0.5], index=[DAYS[49] + pd.offsets.Week(weekday=5)])
    assert list(fitted.update(saturday).predict([1]).index.day_name()) == ["Monday"]
    gone = np.delete(np.arange(61), 9)  # of business days a Friday
    every = pd.date_range("2024-01-01", periods=60)
    months = pd.period_range("2020-01", periods=61, freq="M")
    equal = "equally spaced and in time order and forecasts are numbered from 1: give"
    for index, said in (
        ([f"row {i}" for i in np.arange(60)], None),
        (np.arange(60) * 0.1, None),
        (pd.MultiIndex.from_product([range(6), range(10)]), None),
        ([pd.NaT] * 60, "(row 1: NaT after NaT)"),
        ([pd.Timestamp("2024-01-01")] * 60, "(row 1: 2024-01-01 00:00:00 after 2024-01-01"),
        (every[:40].append(every[39:59]), "(row 40: 2024-02-09 00:00:00 after 2024-02-09 00:"),
        ([str(day.date()) for day in DAYS[::-1]], "does not take for such ('2024-03-22', ...)"),
        ([day.date() for day in DAYS], "take for such (datetime.date(2024, 1, 1), ...)"),
        (pd.bdate_range("2024-01-01", periods=61)[gone], "(row 9: 2024-01-15 00:00:00 after 2024"),
        (pd.date_range("2024-01-15", periods=60) + pd.to_timedelta(gone, "h"), "(row 9: 2024-01-"),
        (pd.timedelta_range("0s", periods=61, freq="s")[gone], "(row 9: 0 days 00:00:10 after 0"),
        (months[gone], "(row 9: 2020-11 after 2020-09)"),
        (gone, "(row 9: 10 after 8)"),
        (gone * 0.1, "(row 9: 1.0 after 0.8"),
        (np.zeros(60, int), "(row 1: 0 after 0)"),
    ):
        rows = pd.Series(WAVE, index=index)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = forecaster().fit(rows[:50])
        messages = [str(one.message) for one in caught]
        assert len(messages) == (said is not None)
        assert all(said in message and equal in message for message in messages)
        found = found.update(WAVE[50:52]).update(rows[52:]).predict([1, 3])
        assert list(found.index) == [1, 3]


def test_a_horizon_is_taken_from_any_list_of_whole_numbers(of_waves):
    wanted = of_waves.predict([1, 2])
    for fh in (pd.Index([1, 2]), pd.RangeIndex(1, 3), pd.Series([1, 2]), jnp.array([1, 2]), (1, 2)):
        np.testing.assert_array_equal(of_waves.predict(fh), wanted)
    for fh in (np.array(2), np.int64(2), jnp.array(2)):
        np.testing.assert_array_equal(of_waves.predict(fh), of_waves.predict(2))
    for fh in (pd.Index([1.5]), DAYS[:2], pd.Index(["a"]), pd.Index([], dtype=int), b"12"):
        with pytest.raises(qdeq.UserError, match=r"fh=.*: give a whole number of at least 1"):
            of_waves.predict(fh)


def test_a_series_that_has_left_its_range_does_not_leap_back_into_it(of_waves):
    # Of 1,400 standard deviations.
    assert abs(copy.copy(of_waves).update([1000.0]).predict(1)[0] - 1000) < 10


def test_a_channel_that_never_moved_stays_whatever_its_size():
    both = np.column_stack([np.full(50, 2e-6), WAVE[:50]])
    found = forecaster().fit(both).predict([1, 20])
    np.testing.assert_allclose(found[:, 0], 2e-6, rtol=1e-6)
    assert found[0, 1] != found[1, 1]


def test_forecasters_serve_programs_in_float64(of_waves):
    wanted = of_waves.predict([1, 2])
    with jax.enable_x64(True):
        np.testing.assert_allclose(of_waves.predict([1, 2]), wanted, rtol=1e-5)
        found = forecaster().fit(WAVE[:50], X=WAVE[:50]).predict(2, X=WAVE[50:52])
        assert np.isfinite(found).all()


def test_a_window_that_is_set_after_the_fit_is_of_the_next_fit(of_waves):
    wanted = copy.deepcopy(of_waves).update(WAVE[50:53]).predict([1, 2])
    found = copy.deepcopy(of_waves).set_params(window=3).update(WAVE[50:53]).predict([1, 2])
    np.testing.assert_array_equal(found, wanted)


def test_a_gap_at_the_begin_of_new_rows_is_the_row_before_them(of_frames):
    fitted, y, x = of_frames
    last_y, last_x = y.copy(), x.copy()
    last_y.iloc[0], last_x.iloc[0] = [WAVE[49], 100 + WAVE[49]], [WAVE[49], 10 + WAVE[49]]
    gap_y, gap_x = y.copy(), x.copy()
    gap_y.iloc[0] = gap_x.iloc[0] = np.nan

    def forecasts(y, x):
        ahead = fitted.predict(3, X=x[:3])  # which an update of a copy does not change
        return ahead, copy.copy(fitted).update(y[:3], X=x[:3]).predict(3, X=x[3:])

    for found, wanted in zip(forecasts(gap_y, gap_x), forecasts(last_y, last_x), strict=True):
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-5)
    pd.testing.assert_frame_equal(forecasts(y, x)[0], fitted.predict(3, X=x[:3]))
