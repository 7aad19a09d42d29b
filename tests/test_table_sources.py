"""The same table from every source: what words and names mean, targets, rows by their number."""

import csv

import numpy as np
import pandas as pd
import pyarrow
import pytest
from test_tables import WRITERS, equal, lose_a_row, refused, shop

from qdeq.data import TablePreparation, read_table, table_files
from qdeq.errors import UserError

SOURCES = {
    "frame": lambda frame, folder: frame,
    "mapping": lambda frame, folder: {name: frame[name].tolist() for name in frame},
    "arrow": lambda frame, folder: pyarrow.Table.from_pandas(frame),
    "a.csv": lambda frame, folder: written(frame, folder / "a.csv"),
    "a.tsv": lambda frame, folder: written(frame, folder / "A.TSV"),
    "a.parquet": lambda frame, folder: written(frame, folder / "a.parquet"),
}
WORDS_FOR_A_GAP = [
    "NA",
    "n/a",
    "None",
    "null",
    "nan",
    "NaN",
    "?",
    "-",
    "#N/A",
    "<NA>",
    "NULL",
    "#DIV/0!",
]


def written(frame, path):
    WRITERS[path.name](frame, path)
    return path


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("word", WORDS_FOR_A_GAP)
def test_a_word_means_the_same_in_every_source(word, source, tmp_path):
    """A text among texts, also where they are classes, and a gap among numbers."""
    frame = shop()
    k = np.arange(len(frame))
    frame["city"] = frame["city"].where(k % 3 > 0, word)
    frame["size"] = frame["size"].astype(str).where(k % 7 > 0, word).replace("nan", None)
    frame["few"] = (k % 3).astype(str)
    frame["few"] = frame["few"].where(k % 5 > 0, word)
    frame["kind"] = frame["kind"].where(k % 4 > 0, word)
    dataset = read_table(SOURCES[source](frame, tmp_path), "kind")
    equal(dataset, read_table(frame, "kind"))
    assert dataset.classes == tuple(sorted(["large", "small", word]))
    assert sum(len(s) for s in (dataset.train, dataset.valid, dataset.test)) == len(frame)
    columns = {column.name: column for column in dataset.preparation.columns}
    assert word in columns["city"].levels
    assert columns["size"].kind == columns["few"].kind == "number"
    x = dataset.preparation.transform(
        SOURCES[source](frame, tmp_path) if source == "frame" else frame
    )
    gap = x[:, dataset.preparation.feature_names.index("few is missing")]
    np.testing.assert_array_equal(gap, k % 5 == 0)
    said = [note for note in dataset.preparation.notes if "counts as a text" in note]
    assert len(said) == (2 if any(map(str.isalpha, word)) else 0)


@pytest.mark.parametrize("word", WORDS_FOR_A_GAP)
def test_a_word_for_a_gap_among_numbers_is_one_when_predicting(word):
    frame = pd.DataFrame({"x": np.arange(30) * 0.5})
    preparation = TablePreparation.fit(frame)
    expected = preparation.transform({"x": [None, 3.0]})
    np.testing.assert_array_equal(preparation.transform({"x": [word, "3"]}), expected)


@pytest.mark.parametrize("task", [None, "regression"])
@pytest.mark.parametrize("word", WORDS_FOR_A_GAP)
def test_a_word_for_a_gap_in_a_target_of_numbers_leaves_its_row_out(word, task):
    frame = shop()
    price = frame["price"].astype(object).where(frame.index % 10 != 3, word)
    dataset = read_table(frame.assign(price=price), "price", task=task)
    assert sum(len(s) for s in (dataset.train, dataset.valid, dataset.test)) == 135
    said = "15 rows left out: their price is missing"
    said += "" if word.lower() == "nan" else f" (also {word!r})"
    assert said in dataset.preparation.notes


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_line_break_in_a_header_takes_no_row(separator, end, tmp_path):
    frame = shop().rename(columns={"size": 'size\n"(mm)"', "city": "city, town;\nvillage"})
    path = tmp_path / "a.csv"
    # Quoted as spreadsheets do: Python leaves a line break that is not `end` without quotes.
    form = {"sep": separator, "lineterminator": end, "quoting": csv.QUOTE_NONNUMERIC}
    frame.to_csv(path, index=False, **form)
    equal(read_table(path, "kind"), read_table(frame, "kind"))
    frame.insert(0, "first\n\n row", np.arange(len(frame)))
    path.write_text("\n \n" + frame.to_csv(index=False, **form))
    read = table_files.read_whole(path)
    assert list(read.columns[:2]) == ["first row", 'size "(mm)"']
    assert read["first row"].tolist() == list(range(len(frame)))


def test_rows_that_a_reader_loses_are_not_lost_in_silence(tmp_path, monkeypatch):
    path = written(shop(), tmp_path / "a.csv")
    assert len(table_files.read_whole(path)) == 150
    lose_a_row(monkeypatch)
    assert "149 of 150 rows could be read" in refused(path, "kind")


def test_labels_that_differ_by_capitals_alone_are_said():
    frame = pd.DataFrame({"x": np.arange(60) * 0.5, "y": ["no", "yes", "Yes"] * 20})
    (note,) = read_table(frame, "y").preparation.notes
    assert note.endswith("holds 3 different texts; 'Yes', 'yes' differ by capitals alone")


def test_words_in_a_target_of_classes_are_labels():
    chromosomes = [*map(str, range(1, 23)), "X", "Y"] * 10
    frame = pd.DataFrame({"x": np.arange(240) * 0.5, "chrom": chromosomes})
    dataset = read_table(frame, "chrom", task="classification")
    assert set(dataset.classes) == set(chromosomes)
    assert not any("left out" in note for note in dataset.preparation.notes)
    # Too many whole numbers to be classes by themselves: what the words are is not guessed.
    assert "holds texts such as 'X', 'Y' (row 23, 20 such rows)" in refused(frame, "chrom")
    fewer = pd.DataFrame({"x": np.arange(240) * 0.5, "grade": [*range(11), "out"] * 20})
    dataset = read_table(fewer, "grade")
    assert set(dataset.classes) == {*map(str, range(11)), "out"}
    assert "'grade' holds 12 different texts" in dataset.preparation.notes[0]
    floats = fewer.assign(grade=[*map(float, range(11)), "out"] * 20)
    assert read_table(floats, "grade").classes == dataset.classes


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sold", "target 'price' holds texts such as 'sold' (row 8, 2 such rows) and a regression"),
        ("2;040", "target 'price' holds texts such as '2;040' (row 8, 2 such rows)"),
        (np.inf, "target 'price' is inf in row 8 (2 such rows): a regression predicts finite"),
        ("-inf", "target 'price' is -inf in row 8 (2 such rows)"),
    ],
)
def test_what_is_no_number_in_a_target_of_numbers_is_named(word, message):
    frame = shop()
    price = frame["price"].astype(object).where(~frame.index.isin([7, 99]), word)
    frame = frame.assign(price=price)
    assert message in refused(frame, "price")
    assert message in refused(frame, "price", task="regression")
    assert message in refused(frame, ["price", "count"])
    assert message in refused(shop(), "price", test=frame)


@pytest.mark.parametrize("sign", [" ", "\u00a0", "\u2009", "\u202f", "'", "\u2019"])
@pytest.mark.parametrize("source", ["frame", "a.csv"])
def test_grouped_digits_are_numbers(sign, source, tmp_path):
    plain = shop().assign(price=lambda f: (f["price"] * 1000).round())
    grouped = plain["price"].map(lambda v: f"{v:,.0f}".replace(",", sign))
    table = SOURCES[source](plain.assign(price=grouped), tmp_path)
    for target in ("price", "kind"):
        equal(read_table(table, target), read_table(plain, target))
    odd = plain.assign(price=[f"1{sign}234,50"] * 149 + ["7"])
    assert "written for people" in refused(odd, "price")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_are_read_where_they_can_mean_nothing_else(separator, tmp_path):
    path = tmp_path / "a.csv"
    plain = shop().assign(price=lambda f: f["price"].round(3), w=np.arange(150) % 7 / 4)
    plain["size"] = plain["size"].round(3)
    commas = plain.copy()
    for column in ("size", "price", "w"):  # 10,500 as well, which is no whole number beside 0,250
        texts = plain[column].map("{:.3f}".format).str.replace(".", ",")
        commas[column] = texts.where(plain[column].notna(), "NA")
    commas.to_csv(path, sep=separator, index=False)
    for target in ("kind", "price", "price,size"):
        expected = read_table(plain, target, weight="w", test=plain)
        dataset = read_table(path, target, weight="w", test=path)
        preparation = dataset.preparation
        assert set(preparation.decimal_commas) == {"size", "price", "w", "count"}
        assert preparation.notes[1].startswith("decimal commas are read in ")
        for part in ("train", "valid", "test"):
            one, other = getattr(dataset, part), getattr(expected, part)
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.y, other.y)
            np.testing.assert_array_equal(one.weight, other.weight)
        kept = TablePreparation.from_json(preparation.to_json())
        equal(read_table(path, target, weight="w", test=path, preparation=kept), dataset)
    # Where commas separate fields, they group digits or list answers as well.
    commas.to_csv(path, index=False)
    assert "'size' holds numbers that are written for people" in refused(path, "kind")


def test_a_model_of_decimal_commas_reads_no_points_and_commas_also_where_there_were_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x;n;same;kind\n" + ",5;3;1;a\n2,25;12;1;b\n" * 20)
    preparation = read_table(path, "kind").preparation
    assert preparation.decimal_commas == ("x", "n", "same")
    assert preparation.notes[1] == "decimal commas are read in 'x', 'n', 'same'"
    new = {"x": ["1,234", "2", None], "n": ["12,5", "NA", "3"], "same": ["1.5", "", ""]}
    numbers = {"x": [1.234, 2, None], "n": [12.5, None, 3]}
    np.testing.assert_array_equal(preparation.transform(new), preparation.transform(numbers))
    assert preparation.unseen(new) == {}
    for column, wrong in (("x", "189.400"), ("n", "1.200"), ("x", "1.5")):
        with pytest.raises(
            UserError, match=f"column '{column}', row 2, holds '{wrong}' in a table"
        ):
            preparation.transform({"x": ["1", "2"], "n": ["1", "2"]} | {column: ["1", wrong]})


def test_rows_keep_their_numbers_where_others_are_left_out():
    frame, bad = shop(60), shop(60)
    frame["price"] = frame["price"].where(frame.index >= 10)
    frame["kind"] = frame["kind"].where(frame.index >= 10)
    here = frame.index == 30
    for target in ("kind", "price"):
        dataset = read_table(shop(), target, test=frame)
        assert f"test table: 10 rows left out: their {target} is missing" in (
            dataset.preparation.notes
        )
        assert len(dataset.test) == 50
        bad = frame.assign(size=frame["size"].astype(object).mask(here, "big"))
        assert "column 'size' holds 'big' in row 31," in refused(shop(), target, test=bad)
        group = frame.assign(g=pd.Series(frame.index.astype(str)).mask(here))
        assert "(the first is row 31)" in refused(group, target, group="g")
        own = shop().assign(g=lambda f: "own" + f.index.astype(str))
        assert "(the first is row 31)" in refused(own, target, test=group, group="g")
        for wrong in (np.nan, -1.0, np.inf):
            weight = frame.assign(w=np.where(here, wrong, 1.0))
            assert f"index 30 is {wrong} (row 31)" in refused(weight, target, weight="w")
        weight = frame.assign(w=pd.Series(["2"] * 60).mask(here, "heavy"))
        assert "holds 'heavy' in row 31, which is no number" in refused(weight, target, weight="w")
    other = frame.assign(kind=frame["kind"].mask(here, "huge"))
    assert "label 'huge' of 'kind' (row 31; 1 such rows)" in refused(shop(), "kind", test=other)


def test_labels_of_two_tables_meet_however_they_are_written():
    x = np.arange(60) * 0.5
    for values, tested in (
        ([0.5, 1.0], [1.0]),
        ([0.5, 1.0], ["1"]),
        ([1, 2], ["1", " 2"]),
        ([*range(12), "X"], [3.0]),
        ([*range(12), "X"], ["X"]),
        (["1", "2"], [1.0, np.nan]),
    ):
        learning = pd.DataFrame({"x": np.arange(130) * 0.5, "y": (values * 130)[:130]})
        testing = pd.DataFrame({"x": x, "y": pd.Series((tested * 60)[:60])})
        dataset = read_table(learning, "y", task="classification", test=testing)
        found = {str(dataset.classes[k]).removesuffix(".0") for k in dataset.test.y}
        known = [value for value in tested if not pd.isna(value)]
        assert found == {str(v).strip().removesuffix(".0") for v in known}


# Names

NAMES = ["s", " s", "s ", "\ts", "s\n", " s t ", "s\nt", "s,t"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", NAMES)
def test_names_are_the_same_in_every_source(name, source, tmp_path):
    plain = " ".join(name.split())
    for old, options in (("kind", {}), ("city", {}), ("count", {"weight": name})):
        expected = read_table(
            shop().rename(columns={old: plain}),
            [plain if old == "kind" else "kind"],
            **{key: plain for key in options},
        )
        table = SOURCES[source](shop().rename(columns={old: name}), tmp_path)
        for said in (name, plain):
            target = said if old == "kind" else "kind"
            equal(read_table(table, target, **dict.fromkeys(options, said)), expected)


def test_a_model_of_one_source_reads_the_others(tmp_path):
    frame = shop().rename(columns={"size": " size", "city": "city\n(town)"}).replace("Oslo", "NA")
    preparation = read_table(frame, "kind").preparation
    expected = preparation.transform(frame)
    for name in ("a.csv", "a.parquet"):
        file = table_files.open_table(written(frame, tmp_path / name))
        (read,) = file.frames(
            None, columns=preparation.column_names, texts=preparation.text_columns
        )
        np.testing.assert_array_equal(preparation.transform(read), expected)
    assert "NA" in preparation.columns[2].levels
    old = preparation.to_json().replace('"size"', '" size"')
    assert TablePreparation.from_json(old) == preparation


@pytest.mark.parametrize("option", ["group", "weight"])
def test_a_group_or_weight_is_one_column(option):
    frame = shop().assign(a=np.arange(150) % 30 + 1, b=1)
    expected = read_table(frame, "kind", **{option: "a"})
    for said in (" a", "a ", ["a"]):
        equal(read_table(frame, "kind", **{option: said}), expected)
    for said in ("", " ", "a,b", ","):
        assert f"{option}={said!r}: name one column" in refused(frame, "kind", **{option: said})
    message = refused(frame.assign(**{" a ": 1}), "kind")
    assert "has 2 columns named 'a'" in message
