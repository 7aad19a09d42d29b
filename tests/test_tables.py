"""Tables of one's own: what is read from files and frames, and what each mistake is answered by."""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeq.data import csv_files, read_table, table_files
from qdeq.errors import UserError


def shop(n=150, seed=0):
    """A table of numbers and texts with gaps, to classify by `kind` or regress on `price`."""
    rng = np.random.default_rng(seed)
    size = rng.normal(10, 3, n)
    return pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, size),
            "count": rng.integers(0, 50, n),
            "city": rng.choice(["Rome", "Oslo", "Lima"], n),
            "open": rng.random(n) < 0.5,
            "price": size * 2.5 + rng.normal(0, 1, n),
            "kind": np.where(size > 10, "large", "small"),
        }
    )


def equal(one, other):
    for part in ("train", "valid", "test"):
        a, b = getattr(one, part), getattr(other, part)
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
    assert one.classes == other.classes and one.preparation == other.preparation


def lose_a_row(monkeypatch):
    """From now on one row is lost wherever rows of a CSV file are read."""
    header_row = csv_files._header_row

    def loses_a_row(file, separator):
        header = header_row(file, separator)
        if not isinstance(file, io.StringIO):  # not where columns are named
            next(file)
        return header

    monkeypatch.setattr(csv_files, "_header_row", loses_a_row)


def refused(*args, **options):
    """The one line by which a table is refused."""
    with pytest.raises(UserError) as caught:
        read_table(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


WRITERS = {
    "a.csv": lambda frame, path: frame.to_csv(path, index=False),
    "a.csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "A.TSV": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "a.txt": lambda frame, path: frame.to_csv(path, index=False, sep=";"),
    "bom.csv": lambda frame, path: frame.to_csv(path, index=False, encoding="utf-8-sig"),
    "sheet.csv": lambda frame, path: frame.to_csv(path, index=False, encoding="utf-16", sep="\t"),
    "a.parquet": lambda frame, path: frame.to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_read_as_the_frame_that_it_was_written_from(name, tmp_path):
    frame = shop().rename(columns={"city": "città, nome"})
    WRITERS[name](frame, tmp_path / name)
    dataset = read_table(tmp_path / name, target="kind")
    equal(dataset, read_table(frame, "kind"))
    assert dataset.source == str(tmp_path / name) and dataset.name == name.split(".")[0]


def test_arrow_tables_and_mappings_are_frames():
    frame = shop()
    expected = read_table(frame, "kind")
    equal(read_table(pyarrow.Table.from_pandas(frame), "kind"), expected)
    equal(read_table({name: frame[name] for name in frame}, "kind"), expected)
    equal(read_table(frame.set_index(np.arange(len(frame))[::-1]), "kind"), expected)


def test_only_training_rows_are_learnt_from():
    frame = shop()
    dataset = read_table(frame, "kind", ignore="price")
    (number,) = [c for c in dataset.preparation.columns if c.name == "count"]
    at = [c for c in dataset.preparation.feature_names].index("count")
    # Standardised by themselves: mean 0 and deviation 1 up to float32.
    assert abs(dataset.train.x[:, at].mean()) < 1e-6
    assert abs(dataset.train.x[:, at].std() - 1) < 1e-6
    assert abs(dataset.test.x[:, at].mean()) > 1e-3
    # A test row changes nothing that was learnt.
    values = frame["count"].to_numpy()
    of_test = dataset.test.x[:, at] * number.scale * number.unit + number.mean * number.unit
    row = int(np.flatnonzero(np.isclose(values, of_test[0], atol=1e-3))[-1])
    candidates = np.flatnonzero(values == values[row])
    changed = [
        read_table(frame.assign(count=np.where(np.arange(len(frame)) == r, 1e6, values)), "kind")
        for r in candidates
    ]
    kept = [number in other.preparation.columns for other in changed]
    assert any(kept)


def test_splits_hold_every_class_and_the_test_rows_stay():
    frame = shop()
    one, other = (read_table(frame, "kind", split_seed=seed) for seed in (0, 1))
    sizes = [len(getattr(one, part)) for part in ("train", "valid", "test")]
    assert sum(sizes) == len(frame) and sizes[2] == round(0.2 * len(frame))
    np.testing.assert_array_equal(one.test.y, other.test.y)
    assert not np.array_equal(one.valid.y, other.valid.y)


@pytest.mark.parametrize("n_rows", [20, 33])
def test_small_tables_have_every_class_in_every_split(n_rows):
    frame = pd.DataFrame(
        {"x": np.arange(n_rows) ** 2.0, "y": ["a", "b", "c"] * (n_rows // 3) + ["a"] * (n_rows % 3)}
    )
    dataset = read_table(frame, "y")
    for part in (dataset.train, dataset.valid, dataset.test):
        assert set(part.y) == {0, 1, 2}


def test_a_hundred_classes():
    frame = pd.DataFrame({"x": np.arange(2000.0), "y": np.arange(2000) % 100})
    assert read_table(frame, "y").task == "regression"
    dataset = read_table(frame, "y", task="classification")
    assert dataset.classes == tuple(range(100)) and len(np.unique(dataset.test.y)) == 100


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["yes", "no"] * 30, "classification"),
        ([True, False] * 30, "classification"),
        ([True, None, False] * 20, "classification"),
        ([0, 1] * 30, "classification"),
        ([0.5, 1.5] * 30, "classification"),
        ([1.0, 2.0, 3.0] * 20, "classification"),
        (list(range(20)) * 3, "classification"),
        (list(range(21)) * 3, "regression"),
        (list(range(20)) * 2, "regression"),
        ([0.1, 0.2, 0.3] * 20, "regression"),
        (["1", "2", "3"] * 20, "classification"),
        ([f"{k / 7}" for k in range(60)], "regression"),
    ],
)
def test_the_task_follows_from_the_target_and_is_said(target, task):
    frame = pd.DataFrame({"x": np.arange(len(target)) * 0.5, "y": pd.Series(target)})
    dataset = read_table(frame, "y")
    assert dataset.task == task
    assert dataset.preparation.notes[0].startswith(f"task: {task}, 'y' holds ")


@pytest.mark.parametrize(
    "written",
    [
        *("2024-01-{:02d}", "{:02d}.01.2024", "{:02d}/01/24", "2024-01-{:02d}T08:30:00Z"),
        *("08:{:02d}", "8:{:02d} PM", "08:30:{:02d}.5", "Jan {:d} 2024", "January {:d}, 2024"),
        *("{:d} Feb 2024", "{:02d}-Sep-24", "Dec. {:d}, 2024", "{:d}. march 2024"),
    ],
)
def test_dates_and_times_are_refused_however_they_are_written(written):
    frame = pd.DataFrame({"a": [written.format(1 + i % 28) for i in range(60)]})
    frame["y"] = ["no", "yes"] * 30
    with pytest.raises(UserError, match="'a' holds dates or times"):
        read_table(frame, "y")


@pytest.mark.parametrize(
    "texts", [["16:9", "4:3", "21:9"], ["May", "June", "July"], ["1-2", "3-4"]]
)
def test_texts_that_are_no_dates_stay_texts(texts):
    frame = pd.DataFrame({"a": (texts * 60)[:60], "y": ["no", "yes"] * 30})
    assert len(read_table(frame, "y").preparation.feature_names) == len(texts) - (len(texts) == 2)


@pytest.mark.parametrize("dtype", ["int64", "str"])
def test_codes_that_float64_does_not_tell_apart_are_refused_as_labels(dtype):
    codes = np.array([999000041000000102, 999000041000000103, 447562003447562017] * 20)
    frame = pd.DataFrame({"a": np.linspace(0, 1, 60), "code": codes.astype(dtype)})
    with pytest.raises(UserError, match=r"in row 1 \(60 such rows\): labels of 2\*\*53 and more"):
        read_table(frame, "code")
    frame["code"] = "c" + codes.astype("str").astype(object)
    assert len(read_table(frame, "code").classes) == 3
    frame["code"] = np.where(codes % 2, "X", codes.astype("str"))  # texts beside a word
    assert read_table(frame, "code").classes == ("999000041000000102", "X")


def test_labels_keep_their_kind():
    x = np.arange(60) * 0.5
    for values, classes in (
        ([3.0, 1.0, None] * 20, (1, 3)),
        ([True, False] * 30, ("False", "True")),
        ([" b", "a "] * 30, ("a", "b")),
        ([0.5, 0.25] * 30, ("0.25", "0.5")),
        (["10", "9"] * 30, (9, 10)),
    ):
        dataset = read_table(pd.DataFrame({"x": x, "y": pd.Series(values)}), "y")
        assert dataset.classes == classes


def test_a_regression_has_targets_in_their_own_units():
    frame = shop()
    dataset = read_table(frame, target="price,count")
    assert dataset.targets.names == ("price", "count")
    train = dataset.targets.restored(dataset.train.y)
    rows = [np.flatnonzero(np.isclose(frame["price"], price))[0] for price in train[:, 0]]
    np.testing.assert_allclose(frame["count"].iloc[rows], train[:, 1], atol=1e-4)
    assert dataset.preparation.targets == ("price", "count")
    assert read_table(frame, ["price", "count"]).targets == dataset.targets


def test_rows_without_a_target_are_left_out_and_said():
    frame = shop().assign(price=lambda f: f["price"].where(f.index % 10 != 3))
    dataset = read_table(frame, "price")
    assert sum(len(s) for s in (dataset.train, dataset.valid, dataset.test)) == 135
    assert "15 rows left out: their price is missing" in dataset.preparation.notes


def test_groups_stay_together():
    frame = shop(300).assign(patient=[f"p{k // 4}" for k in range(300)], mark=np.arange(300.0))
    dataset = read_table(frame, "kind", group="patient")
    (mark,) = [c for c in dataset.preparation.columns if c.name == "mark"]
    at = dataset.preparation.feature_names.index("mark")
    found = [
        set(np.rint((s.x[:, at] * mark.scale + mark.mean) * mark.unit).astype(int) // 4)
        for s in (dataset.train, dataset.valid, dataset.test)
    ]
    assert sum(map(len, found)) == len(set().union(*found)) == 75
    assert 0.1 < len(dataset.test) / 300 < 0.3
    assert "patient" not in dataset.preparation.column_names
    three = frame.assign(patient=[f"p{k % 3}" for k in range(300)])
    assert len(read_table(three, "kind", group="patient").valid) == 100
    assert "one group alone" in refused(three.assign(patient="p"), "kind", group="patient")
    spaced = three.assign(patient=three["patient"] + [" ", ""] * 150)
    equal(read_table(spaced, "kind", group="patient"), read_table(three, "kind", group="patient"))


def test_weights_follow_their_rows():
    frame = shop().assign(w=lambda f: f["count"] + 1.0)
    dataset = read_table(frame, "kind", weight="w")
    at = dataset.preparation.feature_names.index("count")
    (count,) = [c for c in dataset.preparation.columns if c.name == "count"]
    for split in (dataset.train, dataset.valid, dataset.test):
        counts = (split.x[:, at] * count.scale + count.mean) * count.unit
        np.testing.assert_allclose(split.weight * frame["w"].max(), counts + 1, rtol=1e-5)
    # What is tested is not trained on: a test table needs no weights.
    alone = read_table(frame, "kind", weight="w", test=frame.drop(columns="w"))
    assert len(alone.test) == len(frame) and alone.test.weight is None
    assert "the weight at index 3 is nan" in refused(
        frame.assign(w=frame["w"].where(frame.index != 3)), "kind", weight="w"
    )


def test_a_table_of_its_own_tests():
    learning, testing = shop(150), shop(60, seed=1)
    dataset = read_table(learning, "kind", test=testing)
    assert len(dataset.train) + len(dataset.valid) == 150 and len(dataset.test) == 60
    np.testing.assert_array_equal(
        dataset.test.x, dataset.preparation.transform(testing.drop(columns="kind"))
    )
    one_class = testing[testing["kind"] == "small"]
    assert set(read_table(learning, "kind", test=one_class).test.y) == {1}
    more = read_table(learning, "kind", test=testing.assign(extra=1))
    assert any("extra ignored" in note for note in more.preparation.notes)


def test_arrays_in_a_file(tmp_path):
    frame = shop()
    x = frame[["size", "count"]].to_numpy()
    y = frame["kind"].to_numpy(dtype=str)
    np.savez(tmp_path / "a.npz", x=x, y=y, x_test=x[:20], y_test=y[:20])
    dataset = read_table(tmp_path / "a.npz", "y")
    assert dataset.classes == ("large", "small") and dataset.n_features == 3
    tested = read_table(tmp_path / "a.npz", "y", test=tmp_path / "a.npz")
    assert len(tested.test) == 20
    np.savez(tmp_path / "b.npz", x=x[:, 1:], y=np.stack([frame["price"], frame["count"]], axis=1))
    assert read_table(tmp_path / "b.npz", ["y0", "y1"]).targets.names == ("y0", "y1")


@settings(max_examples=25)
@given(
    separator=st.sampled_from(",;\t|"),
    texts=st.lists(
        st.text("abc,;|\t \"'é\n", min_size=1, max_size=8).filter(lambda t: t.strip(' "\n\t')),
        min_size=2,
        max_size=4,
        unique_by=str.strip,
    ),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_quoted_texts_and_any_separator_come_back(separator, texts, ending, tmp_path_factory):
    frame = pd.DataFrame({"x": np.arange(60) * 0.5, "y": (texts * 60)[:60]})
    path = tmp_path_factory.mktemp("quoted") / "a.csv"
    frame.to_csv(path, sep=separator, index=False, lineterminator=ending)
    assert read_table(path, "y").classes == tuple(sorted({text.strip() for text in texts}))


# Mistakes: what a person does with a file, and words of the one line that answers.


def text_file(text, name="a.csv"):
    def write(folder):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / name

    return write


ROWS = "".join(f"{k * 0.5},{'ab'[k % 2]}\n" for k in range(30))
MISTAKES = {
    "empty": (text_file(""), "is empty: give a table"),
    "blank": (text_file("\n \n"), "is empty: give a table"),
    "header only": (text_file("x,y\n"), "has a header and no rows"),
    "spaces between": (text_file("x y z\n1 2 a\n2 3 b\n"), "has ' ' between its fields: separate"),
    "colons between": (text_file("x:y\n1:a\n2:b\n"), "has ':' between its fields"),
    "misspelt": (text_file("x,Y \n" + ROWS), "no column 'y', the target; did you mean 'Y'?"),
    "twice": (text_file("x,x,y\n" + "1,2,a\n2,1,b\n"), "has 2 columns named 'x': rename"),
    "long row": (text_file("x,y\n" + ROWS + "1,2,3\n"), "line 32 has 3 fields and the header 2"),
    "short row": (text_file("x,z,y\n1,2,a\n1,b\n"), "line 3 has 2 fields and the header 3"),
    "shifted rows": (text_file("x,y\n1,2,a\n1,2,b\n"), "line 2 has 3 fields and the header 2"),
    "latin-1": (text_file("x,y\n" + ROWS + "1,é\n", "l.csv"), None),
    "one class": (text_file("x,y\n1,a\n2,a\n3,a\n4,a\n"), "holds one class (a)"),
    "rare class": (text_file("x,y\n" + ROWS + "1,c\n"), "1 of 3 classes of 'y' have fewer than 3"),
    "no target": (text_file("x,y\n1,\n2,\n"), "every value of the target y is missing"),
    "nothing to learn": (text_file("x,y\n" + "1,a\n1,b\n" * 9), "no column is left to learn from"),
    "only missing": (text_file("x,y\n" + ",a\n,b\n" * 9), "every value is missing"),
    "only the target": (text_file("y\n" + "a\nb\n" * 9), "has no column beside y"),
    "dates": (text_file("x,y\n" + "2024-01-02,a\n2024-01-03,b\n" * 9), "'x' holds dates"),
    "date target": (text_file("x,y\n" + "1,2024-01-02\n2,2024-01-03\n" * 9), "'y' holds dates"),
    "decimal commas and points": (
        text_file("x;y\n" + "1,5;a\n2.25;b\n" * 9),
        "such as '1,5': write them as",
    ),
    "commas for either": (text_file("x;y\n" + "1,500;a\n2,250;b\n" * 9), "such as '1,500'"),
    "points for either": (text_file("x;y\n" + "1,5;a\n189.400;b\n" * 9), "'x' holds '189.400'"),
    "points in another column": (
        text_file("x;z;y\n" + "1,5;189.400;a\n2,25;7;b\n" * 9),
        "'z' holds '189.400' in a table with decimal commas, where its point may be there to group",
    ),
    "decimal commas, grouped": (text_file("x;y\n" + "1.234,5;a\n2,5;b\n" * 9), "for people"),
    "thousands": (text_file("x,y\n" + '"1,234",a\n999,b\n' * 9), "written for people"),
    "units": (text_file("x,y\n" + "$12,a\n$9.50,b\n" * 9), "such as '$12'"),
    "per cent": (text_file("x,y\n" + "a,12 %\nb,9.5%\n" * 9), "target 'y' holds numbers that"),
    "open quote": (text_file('x,y\n1,"a\n' + ROWS), "quotation mark in row 1 is never closed"),
    "zero bytes": (text_file(b"\0" * 100), "no text table"),
    "picture": (text_file(b"\x89PNG\r\n\x1a\n\xff\xfe"), "is not UTF-8 text (byte 0x89 in line 1)"),
    "Parquet as CSV": (text_file(b"PAR1abcPAR1"), "is a Parquet file and no text table: name it"),
    "gzip as CSV": (text_file(gzip.compress(b"x,y\n1,a\n")), "packed by gzip"),
    "spreadsheet as CSV": (text_file(b"PK\x03\x04abc"), "save its table as CSV"),
    "spreadsheet": (text_file(b"PK\x03\x04abc", "a.xlsx"), "is a spreadsheet: save its table"),
    "not gzip": (text_file("x,y\n" + ROWS, "a.csv.gz"), "is damaged (Not a gzipped file"),
    "half a gzip": (text_file(gzip.compress(b"x,y\n" * 999)[:-12], "a.csv.gz"), "is damaged"),
    "bits of a gzip": (
        text_file(
            bytes(b ^ (k > 15) for k, b in enumerate(gzip.compress(b"x,y\n1,a"))), "a.csv.gz"
        ),
        "is damaged",
    ),
    "CSV as Parquet": (text_file("x,y\n" + ROWS, "a.parquet"), "no intact Parquet file"),
    "empty Parquet": (text_file("", "a.parquet"), "no intact Parquet file"),
    "CSV as npz": (text_file("x,y\n" + ROWS, "a.npz"), "cannot be read as a .npz file"),
    "unknown ending": (text_file("x,y\n" + ROWS, "a.jpeg"), "ends in .jpeg, which is no known"),
    "no ending": (text_file("x,y\n" + ROWS, "table"), "ends in nothing"),
}


@pytest.mark.parametrize("header", ["length, mm;kind", "a, b, c;d, e;kind", "a|b, c;kind"])
def test_a_separator_divides_every_row_and_not_the_header_alone(header, tmp_path):
    path, names = tmp_path / "a.csv", header.split(";")
    rows = pd.DataFrame({name: np.arange(90) / 2 for name in names} | {"kind": ["p", "q"] * 45})
    path.write_text(header + "\n" + rows.to_csv(sep=";", index=False, header=False))
    equal(read_table(path, "kind"), read_table(rows, "kind"))


@pytest.mark.parametrize(("separator", "first"), [(";", "sep=;"), ("\t", "SEP=\t"), (",", ",,")])
def test_lines_before_the_header_that_say_nothing_are_left_out(separator, first, tmp_path):
    rows = ["x,y,z", *(f"{k},{k % 2},a{k % 3}" for k in range(20))]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([first, *(row.replace(",", separator) for row in rows)]))
    frame = table_files.read_whole(path)
    assert list(frame.columns) == ["x", "y", "z"] and len(frame) == 20


def test_a_line_above_the_header_is_shown(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("# from the scale\nx,y\n1,2\n")
    with pytest.raises(UserError, match=r"line 2 has 2 .* first line, here '# from the scale'"):
        table_files.read_whole(path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do(mistake, tmp_path):
    write, words = MISTAKES[mistake]
    path = write(tmp_path)
    if mistake == "latin-1":
        path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
        words = "is not UTF-8 text (byte 0xe9 in line 32): save it as UTF-8, or convert it"
    message = refused(path, "y")
    assert words in message and str(path) in message


def test_texts_that_are_not_utf8_far_into_a_file(tmp_path):
    path = tmp_path / "long.csv"
    path.write_bytes(b"x,y\n" + ROWS.encode() * 6000 + b"1,\xe9\n")
    assert "is not UTF-8 text (byte 0xe9" in refused(path, "y")


def test_paths_that_lead_nowhere(tmp_path, monkeypatch):
    (tmp_path / "wine.csv").write_text("x,y\n" + ROWS)
    assert f"did you mean {tmp_path / 'wine.csv'}?" in refused(tmp_path / "wine.cvs", "y")
    assert "there is no file or folder" in refused(tmp_path / "no" / "a.csv", "y")
    assert "is a folder: give a file" in refused(tmp_path, "y")
    assert "a list: give a path" in refused([[1, 2]], "y")
    monkeypatch.setattr(Path, "open", _no_permission)
    assert "cannot be read (Permission denied)" in refused(tmp_path / "wine.csv", "y")


def _no_permission(self, *args, **options):
    raise PermissionError(13, "Permission denied", str(self))


def test_options_that_do_not_fit_the_table():
    frame = shop()
    assert "no column 'Price', the target; did you mean 'price'" in refused(frame, "Price")
    assert "no column 'town', the group" in refused(frame, "kind", group="town")
    assert "no column 'foo', the ignore" in refused(frame, "kind", ignore=["foo"])
    assert "'kind' is named twice" in refused(frame, "kind", group="kind")
    assert "ignore='kind': it is the target" in refused(frame, "kind", ignore="kind")
    assert "target=...: name" in refused(frame, "")
    assert "holds texts such as" in refused(frame, "kind", task="regression")
    assert "holds texts such as" in refused(frame, "price,kind")
    assert "a classification has one target" in refused(frame, "kind,city", task="classification")
    assert "--task regression predicts numbers" in refused(frame, "price", task="classification")
    assert "task='ranking' is not known" in refused(frame, "kind", task="ranking")
    assert "components=90" in refused(frame, "kind", components=90)
    assert "test_fraction=1: give a fraction" in refused(frame, "kind", test_fraction=1)
    assert "valid_fraction=0: give a fraction" in refused(frame, "kind", valid_fraction=0)


def test_tables_that_do_not_fit_each_other():
    frame, other = shop(), shop(40, seed=1)

    def against(test, **options):
        return refused(frame, "kind", test=test, **options)

    assert "test table has no column 'size', which table has" in against(other.drop(columns="size"))
    assert "no column 'kind'" in against(other.drop(columns="kind"))
    assert "label 'huge' of 'kind' (row 1; 40 such rows) is not in table" in against(
        other.assign(kind="huge")
    )
    assert "column 'size' holds 'big' in row 1, which is no number" in against(
        other.assign(size="big")
    )
    assert "2 values of the group 'g' are both in table and in test table" in refused(
        frame.assign(g=frame.index % 5),
        "kind",
        test=other.assign(g=other.index % 2 * 1.0),  # as where another group is missing
        group="g",
    )


def test_files_that_do_not_fit_in_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.csv"
    path.write_text("x,y\n" + ROWS)
    os.truncate(path, 10**10)  # a hole, which takes no room on the disk
    monkeypatch.setattr(table_files, "available_memory", lambda: 8e9)
    message = refused(path, "y")
    assert "GB of memory where 5.6 GB are free" in message and "rows fit" in message
    packed = tmp_path / "a.parquet"
    shop().to_parquet(packed)
    monkeypatch.setattr(table_files, "available_memory", lambda: 1e4)
    assert "holds about 150 rows of 6 columns" in refused(packed, "kind")
    np.savez(tmp_path / "a.npz", x=np.zeros((99, 9)))
    assert "GB of arrays where" in refused(tmp_path / "a.npz", "y")


def test_the_memory_of_this_machine_is_known():
    assert 1e7 < table_files.available_memory() < 1e15


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_a_missing_package_is_one_line(package, tmp_path, monkeypatch):
    shop().to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    if package == "pyarrow":
        monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    assert 'run pip install "qdeq[data]"' in refused(tmp_path / "a.parquet", "kind")
