"""From the columns of a table to features: scikit-learn's numbers, kept as plain ones."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from qdeq.data import TablePreparation, frames
from qdeq.errors import UserError
from qdeq.runs.unseen import UnseenValues


def mixed(n=120, seed=0, unit=1.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": rng.normal(3, 2, n) * unit,
            "age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 90, n)),
            "city": rng.choice(["Rome", "Oslo", "Lima"], n),
            "member": rng.random(n) < 0.4,
            "colour": np.where(rng.random(n) < 0.3, None, rng.choice(["red", "blue", "green"], n)),
        }
    )


def of_sklearn(frame):
    """The same features, in the order of scikit-learn's transformer of columns."""
    texts = frame[["city", "member", "colour"]].astype(object)
    texts["member"] = texts["member"].astype(str)
    frame = frame[["size", "age"]].join(texts.where(texts.notna(), None))
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values=None),
        OneHotEncoder(drop="if_binary", sparse_output=False),
    )
    made = ColumnTransformer(
        [("numbers", numbers, ["size", "age"]), ("words", words, ["city", "member", "colour"])]
    )
    return made.fit_transform(frame)


def test_features_are_those_of_scikit_learn():
    frame = mixed()
    preparation = TablePreparation.fit(frame)
    names = preparation.feature_names
    indicators = [name for name in names if name.endswith("is missing")]
    assert indicators == ["age is missing", "colour is missing"]
    x = preparation.transform(frame)
    kept = [index for index, name in enumerate(names) if name not in indicators]
    np.testing.assert_allclose(x[:, kept], of_sklearn(frame), rtol=1e-6, atol=1e-6)
    for name in ("age", "colour"):
        expected = frame[name].isna().to_numpy()
        np.testing.assert_array_equal(x[:, names.index(f"{name} is missing")], expected)


def test_principal_components_are_those_of_scikit_learn():
    frame = mixed()
    whole = TablePreparation.fit(frame).transform(frame).astype(np.float64)
    preparation = TablePreparation.fit(frame, components=3)
    expected = PCA(3, whiten=True, svd_solver="full").fit_transform(whole)
    np.testing.assert_allclose(preparation.transform(frame), expected, atol=1e-5)
    assert preparation.feature_names == ["component 1", "component 2", "component 3"]


@pytest.mark.parametrize("components", [None, 2])
def test_numbers_survive_json_to_the_bit(components):
    frame = mixed(unit=0.1)
    preparation = TablePreparation.fit(frame, components=components, notes=["one line"])
    again = TablePreparation.from_json(preparation.to_json())
    assert again == preparation
    np.testing.assert_array_equal(again.transform(frame), preparation.transform(frame))


@settings(max_examples=40)
@given(
    exponent=st.integers(-300, 300),
    values=st.lists(st.floats(-1, 1), min_size=3, max_size=20, unique=True),
)
def test_units_do_not_matter(exponent, values):
    column = np.array(values)
    column = column[(np.abs(column) > 1e-3) | (column == 0)]
    if len(np.unique(column)) < 2:
        return
    plain, other = (pd.DataFrame({"x": column * unit}) for unit in (1.0, 10.0**exponent))
    expected = TablePreparation.fit(plain).transform(plain)
    found = TablePreparation.fit(other).transform(other)
    # Relative to how far apart the numbers are: a mean that is large against the deviation loses
    # digits in any units.
    digits = np.abs(column).max() / column.std()
    np.testing.assert_allclose(found, expected, atol=1e-6 + 1e-14 * digits)


def test_features_of_a_row_do_not_depend_on_other_rows_nor_on_the_order_of_columns():
    frame = mixed(n=40)
    for components in (None, 4):
        preparation = TablePreparation.fit(frame, components=components)
        whole = preparation.transform(frame)
        one = [preparation.transform(frame.iloc[[row]]) for row in range(len(frame))]
        np.testing.assert_array_equal(np.concatenate(one), whole)
        shuffled = frame[frame.columns[::-1]].assign(more=1)
        np.testing.assert_array_equal(preparation.transform(shuffled), whole)


def test_any_frame_will_do():
    frame = mixed(n=30)
    preparation = TablePreparation.fit(frame)
    whole = preparation.transform(frame)
    nullable = frame.convert_dtypes()
    categories = frame.assign(city=frame["city"].astype("category"))
    columns = {name: frame[name].tolist() for name in frame}
    for other in (nullable, categories, columns, pyarrow.Table.from_pandas(frame)):
        np.testing.assert_array_equal(preparation.transform(other), whole)


@pytest.mark.parametrize("kind", ["int64", "float64", "bool", "str", "Int64", "int64[pyarrow]"])
def test_categories_with_gaps_are_what_they_stand_for(kind):
    codes = pd.Series(np.arange(60) % 2, dtype="int64").astype(kind)
    plain = pd.DataFrame({"x": codes.astype(object).where(np.arange(60) % 5 > 0, None)})
    coded = plain.assign(x=pd.Categorical(plain["x"], categories=codes.unique()[::-1]))
    preparation = TablePreparation.fit(coded)
    assert preparation == TablePreparation.fit(plain)
    np.testing.assert_array_equal(preparation.transform(coded), preparation.transform(plain))


def test_texts_that_training_has_not_seen_are_the_rare_ones_or_none():
    frame = pd.DataFrame({"few": list("abc") * 100, "many": [f"t{k % 30}" for k in range(300)]})
    preparation = TablePreparation.fit(frame)
    assert preparation.feature_names[-1] == "many = other"
    (row,) = preparation.transform({"few": ["new"], "many": ["new"]})
    assert row.tolist() == [0.0] * (len(row) - 1) + [1.0]
    assert any("'many': 19 of 30 different texts" in note for note in preparation.notes)


def test_columns_that_tell_nothing_are_left_out_and_said():
    n = 60
    frame = pd.DataFrame(
        {
            "x": np.arange(n) * 0.5,
            "one": 1.0,
            "word": "same",
            "empty": np.nan,
            "nothing": [None] * n,
            "customer_id": np.arange(n),
            "Unnamed: 0": np.arange(n),
            "name": [f"person {k}" for k in range(n)],
            "remark": ["late", None] * (n // 2),
        }
    )
    preparation = TablePreparation.fit(frame)
    assert preparation.feature_names == ["x", "remark is missing"]
    assert len(preparation.notes) == 7 and all("left out: " in n for n in preparation.notes)
    with pytest.raises(UserError, match=r"no column is left .* 'one' left out"):
        TablePreparation.fit(frame[["one", "empty"]])


def test_columns_that_number_the_rows_are_known_by_name():
    names = ["id", "user_id", "PassengerId", "customerID", "sampleId", "#", "No", "No.", "nr"]
    names += ["Sample No.", "row", "Index"]
    others = ["paid", "acid", "COVID", "casino", "height", "y1", "#leaves"]
    numbers = {name: np.arange(60) for name in [*names, *others]}
    assert TablePreparation.fit(pd.DataFrame(numbers)).feature_names == others


def test_texts_that_differ_by_capitals_alone_are_said():
    frame = pd.DataFrame({"smoker": ["no", "yes", "Yes", "NO"] * 15})
    (note,) = TablePreparation.fit(frame).notes
    assert note == "column 'smoker': 'NO', 'no'; 'Yes', 'yes' differ by capitals alone"


def test_numbers_with_few_texts_among_them_are_numbers():
    frame = pd.DataFrame({"x": [str(k) for k in range(50)] + ["?", "unknown", " ? "]})
    preparation = TablePreparation.fit(frame)
    (column,) = preparation.columns
    assert column.kind == "number" and column.missing_words == ("?", "unknown")
    assert column.fill == 24.5 and column.indicator
    with pytest.raises(UserError, match=r"column 'x' holds 'what' in row 2, which is no number"):
        preparation.transform({"x": ["3", "what"]})


@pytest.mark.parametrize("word", ["<0.5", "12 kg", "~7", "3rd", "5+"])
def test_a_number_with_something_beside_it_is_no_gap(word):
    frame = pd.DataFrame({"x": [*map(str, range(50)), word]})
    with pytest.raises(UserError, match=f"'x' holds {re.escape(repr(word))} among its numbers"):
        TablePreparation.fit(frame)


@pytest.mark.parametrize("word", ["(12.50)", "12-", "1.234.567", "-1.234.567"])
def test_numbers_written_for_people_are_no_gaps(word):
    frame = pd.DataFrame({"x": [*map(str, range(50)), word]})
    with pytest.raises(UserError, match=f"written for people, such as {re.escape(repr(word))}"):
        TablePreparation.fit(frame)


def test_a_minus_sign_is_one_in_any_writing():
    frame = pd.DataFrame({"x": ["\u22121.5", "-1.5", "\u22122 000", "1e\u22123"]})
    values = frames.as_numbers(frame["x"], "column 'x'")
    np.testing.assert_array_equal(values, [-1.5, -1.5, -2000, 1e-3])


def test_infinite_and_far_away_numbers_are_tame():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, np.inf, np.nan]})
    preparation = TablePreparation.fit(frame)
    assert "'x': inf among its numbers means that one is missing" in preparation.notes[0]
    new = {"x": [np.inf, 1e300, -1e300, None]}
    assert preparation.unseen(new) == {"x": {"inf": 1}}
    unseen = UnseenValues(preparation)
    for row in ({"x": ["-1e400"]}, new, new):
        unseen.add(preparation.unseen(row))
    assert unseen.notes() == (
        "column 'x': 3 rows with -inf and inf among its numbers, taken for missing",
    )
    x = preparation.transform(new)
    assert x[:, 0].tolist() == [0.0, 1e4, -1e4, 0.0]
    assert x[:, 1].tolist() == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pd.date_range("2024-01-01", periods=9), "holds dates or times, such as 2024-01-01"),
        ([f"2024-01-0{k}" for k in range(1, 10)], "such as 2024-01-01: make numbers"),
        ([f"{k}.12.2024 10:30" for k in range(1, 10)], "such as 1.12.2024 10:30"),
        ([f"12/{k}/99" for k in range(1, 10)], "dates or times"),
        (pd.to_timedelta(range(9), unit="D"), "dates or times"),
        ([k * 1j for k in range(9)], "complex numbers"),
        ([[k, 1] for k in range(9)], "holds [0, 1], a list"),
        ([{"a": k} for k in range(9)], "a dict"),
        (pd.array([[1]] * 9, dtype=pd.ArrowDtype(pyarrow.list_(pyarrow.int64()))), "a list"),
        ([b"a"] * 9, "a bytes"),
    ],
)
def test_what_is_neither_number_nor_text_is_one_line(values, words):
    with pytest.raises(UserError) as caught:
        TablePreparation.fit(pd.DataFrame({"when": values}))
    assert "column 'when' holds" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_columns_are_one_line_with_the_nearest_names():
    preparation = TablePreparation.fit(mixed(n=30))
    with pytest.raises(UserError, match=r"no column 'age', .* did you mean 'Age'"):
        preparation.transform(mixed(n=3).rename(columns={"age": "Age"}))


def test_a_damaged_file_is_one_line():
    text = TablePreparation.fit(mixed(n=30)).to_json()
    broken = json.loads(text)
    for wrong in ("{", "[]", text[:-30], "{}", json.dumps({**broken, "columns": 3})):
        with pytest.raises(UserError, match=r"p\.json is damaged"):
            TablePreparation.from_json(wrong, source="p.json")
    with pytest.raises(UserError, match="use the version"):
        TablePreparation.from_json(json.dumps({**broken, "format": "other"}))


def test_texts_that_are_all_rare_tell_nothing():
    frame = pd.DataFrame({"x": np.arange(600.0), "t": [f"w{k % 150}" for k in range(600)]})
    preparation = TablePreparation.fit(frame)
    assert preparation.column_names == ["x"]
    assert "each of its 150 different texts is in less than 1 %" in preparation.notes[0]


def test_texts_that_training_did_not_have_are_found_of_every_kind_of_column():
    n = 200
    frame = pd.DataFrame(
        {
            "two": ["b", "b", "b", "a"] * (n // 4),
            "three": (["a", "b", "c"] * n)[:n],
            "flag": [True, False] * (n // 2),
            "gaps": [None, "a", "b", "b"] * (n // 4),
            "rare": ["uvw"[k % 3] if k > 1 else f"once {k}" for k in range(n)],
            "number": np.arange(n) % 7,
        }
    )
    preparation = TablePreparation.fit(frame)
    assert preparation.columns[4].pooled  # new ones are among the rare ones, as they should be
    assert preparation.unseen(frame) == {}
    new = frame.assign(two="B", three=["a", None] * (n // 2), flag=[0, 7] * (n // 2), rare="new")
    new = new.assign(gaps=["a", "A", "A", None] * (n // 4))
    found = preparation.unseen(new)
    assert found == {"two": {"B": n}, "flag": {"7": n // 2}, "gaps": {"A": n // 2}}
    again = TablePreparation.from_json(preparation.to_json())
    assert again == preparation and again.unseen(new) == found


def test_preparations_from_before_the_first_of_two_texts_was_kept_say_what_they_can():
    frame = pd.DataFrame({"often a": ["a", "a", "b"] * 20, "often b": ["b", "b", "a"] * 20})
    values = json.loads(TablePreparation.fit(frame).to_json())
    for column in values["columns"]:
        del column["base"]
    before = TablePreparation.from_json(json.dumps(values))
    assert before.unseen(frame) == {}
    new = pd.DataFrame({"often a": ["A"], "often b": ["A"]})
    assert before.unseen(new) == {"often a": {"A": 1}}  # of the other only b is known
    np.testing.assert_array_equal(before.transform(new), TablePreparation.fit(frame).transform(new))
