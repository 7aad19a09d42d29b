"""What users hold data in: each container gives the same dataset, or one line that says why not."""

import datetime
import decimal
import fractions
import io
import zlib
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qdeq.data import DATASETS, from_arrays, load
from qdeq.data.inputs import cast_features, label_array
from qdeq.data.sources import open_source
from qdeq.data.tables import raw_images
from qdeq.errors import UserError

WHOLE = np.arange(80).reshape(40, 2)
LABELS = np.arange(40) % 2
IMAGES = np.random.default_rng(0).integers(0, 256, size=(40, 8, 6), dtype=np.uint8)


class Tensor:
    """As PyTorch's: an array only once it is detached and on the CPU."""

    def __init__(self, values: np.ndarray):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return self

    def cpu(self):
        return self._values


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- features ----------------------------------------------------------------------------------

CONTAINERS = {
    "lists": WHOLE.tolist(),
    "tuples": tuple(map(tuple, WHOLE.tolist())),
    "list of arrays": list(WHOLE),
    "objects": WHOLE.astype(object),
    "column of arrays": pd.Series(list(WHOLE)),
    "float16": WHOLE.astype(np.float16),
    "longdouble": WHOLE.astype(np.longdouble),
    "big endian": WHOLE.astype(">f8"),
    "bytes": WHOLE.astype(np.uint8),
    "fortran": np.asfortranarray(WHOLE),
    "bfloat16": WHOLE.astype(ml_dtypes.bfloat16),
    "jax": jnp.asarray(WHOLE),
    "jax bfloat16": jnp.asarray(WHOLE, jnp.bfloat16),
    "tensor": Tensor(WHOLE),
    "masked, nothing hidden": np.ma.array(WHOLE, mask=False),
    "decimals": [[decimal.Decimal(int(v)) for v in row] for row in WHOLE],
    "fractions": [[fractions.Fraction(int(v)) for v in row] for row in WHOLE],
    "frame": pd.DataFrame(WHOLE),
    "Int64": pd.DataFrame(WHOLE).astype("Int64"),
    "Float64": pd.DataFrame(WHOLE).astype("Float64"),
    "arrow": pd.DataFrame(WHOLE).astype("int64[pyarrow]"),
    "mixed": pd.DataFrame(WHOLE).astype({0: "Int64", 1: "float32"}),
    "sparse columns": pd.DataFrame(WHOLE).astype(pd.SparseDtype("int64", 0)),
    "categories": pd.DataFrame(WHOLE).astype("category"),
}


@pytest.mark.parametrize("values", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_features_are_the_same_from_every_container(values):
    cast = cast_features(values)
    assert cast.dtype == np.float32
    # Whole numbers below 80 are exact in every one of these types.
    np.testing.assert_array_equal(cast, WHOLE)


def test_truth_values_are_zero_and_one():
    for truth in (WHOLE > 7, pd.DataFrame(WHOLE > 7).astype("boolean")):
        np.testing.assert_array_equal(cast_features(truth), WHOLE > 7)


NO_FEATURES = {
    "ragged": ([[1, 2], [3]], r"index 0 has the shape \(2,\), the one at index 1 \(1,\)"),
    "text": ([["a", "b"]], "type <U1, such as 'a': give real numbers"),
    "text that looks like numbers": (np.array([["1", "2"]], object), "column 0 is '1', of the ty"),
    "text in a frame": (pd.DataFrame({"a": [1], "b": ["x"]}), r"row 0, column 1 \('b'\) is 'x'"),
    "bytes": (np.array([[b"1"]]), "type |S1"),
    "complex": (WHOLE + 1j, "type complex128, such as 1j"),
    "complex cells": (np.array([[1, 1j]], object), "row 0, column 1 is 1j"),
    "dates": (pd.DataFrame({"t": pd.to_datetime(["2020-01-01"])}), r"type datetime64\[.*\]"),
    "date cells": ([[datetime.date(2020, 1, 1)]], "of the type date"),
    "durations": (np.array([[1]], "m8[s]"), r"type timedelta64"),
    "records": (np.array([(1, 2.0)], "i4,f8"), "type .*: give real numbers"),
    "sparse": (scipy.sparse.csr_matrix(WHOLE), "sparse csr_matrix: give a dense array"),
    "sparse array": (scipy.sparse.coo_array(WHOLE), "sparse coo_array"),
    "masked": (np.ma.masked_equal(WHOLE, 7), "row 3, column 1 is nan, missing"),
    "None": (np.array([[1, None]], object), "row 0, column 1 is nan, missing"),
    "NA": (pd.DataFrame({"a": [1, None]}, dtype="Int64"), r"row 1, column 0 \('a'\) is nan"),
    "one row": (WHOLE[0], r"shape \(2,\): give features \(N, d\)"),
    "images": (IMAGES, r"shape \(40, 8, 6\)"),
    "a number": (3.0, "a single float is no array"),
    "nothing": (None, "a single NoneType"),
    "a generator": ((row for row in WHOLE), "a single generator"),
    "a dict": ({"a": [1]}, "a single dict"),
    "a set": ({1, 2}, "a single set"),
    "an array of dicts": ([{"a": 1}, {"a": 2}], r"index 0 is \{'a': 1\}, of the type dict"),
    "a huge number": ([[1, 10**400]], "column 1 is 1000.*, beyond what float64 holds"),
}


@pytest.mark.parametrize(("values", "message"), NO_FEATURES.values(), ids=NO_FEATURES.keys())
def test_what_is_no_table_of_numbers_is_one_line(values, message):
    with pytest.raises(UserError, match=message) as caught:
        cast_features(values)
    one_line(caught)


def test_own_samples_pass_the_same_checks():
    for name in ("ragged", "text in a frame", "complex", "sparse", "masked", "a generator"):
        with pytest.raises(UserError, match=f"samples.*{NO_FEATURES[name][1]}"):
            from_arrays(NO_FEATURES[name][0], LABELS)


@settings(max_examples=60)
@given(
    x=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats()),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_cast_is_finite_or_refused_by_row_and_column(x, dtype):
    with np.errstate(over="ignore"):
        cast = x.astype(dtype)
    bad = np.argwhere(~np.isfinite(cast))
    if not len(bad):
        np.testing.assert_array_equal(cast_features(x, dtype), cast)
        return
    row, column = bad[0]
    with pytest.raises(UserError) as caught:
        cast_features(x, dtype)
    message = one_line(caught)
    assert f"row {row}, column {column} is {float(x[row, column])!r}" in message
    assert f"{len(bad)} of {x.size}" in message


def test_a_number_beyond_float32_names_the_column_of_a_frame():
    frame = pd.DataFrame({"width": [1.0, 2.0], "mass": [3.0, -1e39]})
    expected = r"X: row 1, column 1 \('mass'\) is -1e\+39, beyond what float32 holds \(3.4e\+38\)"
    with pytest.raises(UserError, match=expected):
        cast_features(frame, name="X")
    with pytest.raises(UserError, match=r"column 1 \('mass'\)"):
        cast_features(frame.to_numpy(), columns=["width", "mass"])
    assert cast_features(frame, np.float64)[1, 1] == -1e39


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -3.5e38])
def test_own_features_are_checked_after_the_cast_in_both_parts(value):
    bad = WHOLE.astype(float)
    bad[7, 1] = value
    with pytest.raises(UserError, match=r"mine samples: row 7, column 1 is ") as caught:
        from_arrays(bad, LABELS, name="mine")
    one_line(caught)
    with pytest.raises(UserError, match="mine test samples: row 7, column 1"):
        from_arrays(WHOLE, LABELS, test=(bad, LABELS), name="mine")


# --- images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        IMAGES[:, :, :, None],
        IMAGES[:, None],
        list(IMAGES),
        IMAGES.tolist(),
        pd.Series(list(IMAGES)),
        jnp.asarray(IMAGES),
        Tensor(IMAGES),
    ],
    ids=["channel last", "channel first", "list", "lists", "column", "jax", "tensor"],
)
def test_grey_images_may_come_in_any_layout(images):
    # Nested lists lose the type, and with it the usual range.
    white = 255.0 if isinstance(images, list) else None
    expected = from_arrays(IMAGES, LABELS).train.x
    np.testing.assert_array_equal(from_arrays(images, LABELS, white=white).train.x, expected)


def test_colours_may_come_first():
    colour = np.stack([IMAGES, IMAGES[:, ::-1], IMAGES[:, :, ::-1]], axis=3)
    last, first = (from_arrays(x, LABELS).train.x for x in (colour, np.moveaxis(colour, 3, 1)))
    np.testing.assert_array_equal(first, last)


def test_images_of_different_sizes_are_named():
    ragged = [*IMAGES[:3], IMAGES[3, :5]]
    for images in (ragged, pd.Series(ragged)):
        with pytest.raises(UserError, match=r"shape \(8, 6\), the one at index 3 \(5, 6\)") as e:
            from_arrays(images, LABELS[:4])
        one_line(e)


# --- labels ------------------------------------------------------------------------------------

WORDS = np.array(["left", "right"])[LABELS]
LABEL_CONTAINERS = {
    "list": (LABELS.tolist(), (0, 1)),
    "bytes": (LABELS.astype(np.uint8), (0, 1)),
    "whole floats": (LABELS.astype(float), (0, 1)),
    "objects": (LABELS.astype(object), (0, 1)),
    "jax": (jnp.asarray(LABELS), (0, 1)),
    "tensor": (Tensor(LABELS), (0, 1)),
    "series": (pd.Series(LABELS, index=range(100, 140)), (0, 1)),
    "Int64": (pd.Series(LABELS).astype("Int64"), (0, 1)),
    "Float64": (pd.Series(LABELS).astype("Float64"), (0, 1)),
    "truth": (LABELS > 0, (0, 1)),
    "boolean": (pd.Series(LABELS > 0).astype("boolean"), (0, 1)),
    "numbers as categories": (pd.Series(LABELS).astype("category"), (0, 1)),
    "words": (WORDS.tolist(), ("left", "right")),
    "word objects": (WORDS.astype(object), ("left", "right")),
    "words of pandas": (pd.Series(WORDS), ("left", "right")),
    "words of arrow": (pd.Series(WORDS).astype("string[pyarrow]"), ("left", "right")),
    "words as categories": (pd.Series(WORDS).astype("category"), ("left", "right")),
    "index": (pd.Index(WORDS), ("left", "right")),
    "new strings of NumPy": (WORDS.astype(np.dtypes.StringDType()), ("left", "right")),
}


@pytest.mark.parametrize(
    ("labels", "classes"), LABEL_CONTAINERS.values(), ids=LABEL_CONTAINERS.keys()
)
def test_labels_are_the_same_from_every_container(labels, classes):
    dataset = from_arrays(WHOLE, labels)
    assert dataset.classes == classes
    np.testing.assert_array_equal(dataset.train.y, from_arrays(WHOLE, LABELS).train.y)


def spoilt(cell: Any, dtype: str = "object") -> pd.Series:
    cells = WORDS.tolist() if isinstance(cell, str) or dtype != "object" else LABELS.tolist()
    return pd.Series([*cells[:5], cell, *cells[6:]], dtype=dtype)


NO_LABELS = {
    "None": (spoilt(None), "label at index 5 is missing"),
    "NaN": (spoilt(np.nan), "label at index 5 is missing"),
    "NaN among words": ([*WORDS[:5].tolist(), np.nan, *WORDS[6:].tolist()], "index 5 is missing"),
    "NA": (spoilt(pd.NA, "string"), "index 5 is missing"),
    "no category": (spoilt(None, "category"), "index 5 is missing"),
    "missing whole number": (pd.Series([1, None] * 20, dtype="Int64"), "index 1 is missing"),
    "mixed": ([*LABELS[:5].tolist(), "a", *LABELS[6:].tolist()], "label 'a' at index 5"),
    "mixed words": ([*WORDS[:5].tolist(), 3, *WORDS[6:].tolist()], "label 3 at index 5"),
    "halves": (LABELS / 2, "label 0.5 at index 1 of labels of type float64: give one whole"),
    "infinite": (np.where(LABELS, np.inf, 0), "label inf at index 1"),
    "huge": (LABELS.astype(np.uint64) * np.uint64(2**63), "label 9223372036854775808 at index 1"),
    "bytes": (np.where(LABELS, b"a", b"b"), "label b'b' at index 0"),
    "complex": (LABELS + 1j, "label 1j at index 0"),
    "dates": (np.full(40, "2020-01-01", "M8[D]"), "label datetime.date"),
    "one hot": (np.eye(2)[LABELS], r"labels have the shape \(40, 2\)"),
    "a column": (LABELS[:, None], r"shape \(40, 1\)"),
    "ragged": ([[0], [0, 1]] * 20, r"shape \(1,\), the one at index 1 \(2,\)"),
    "sparse": (scipy.sparse.csr_matrix(LABELS), "sparse csr_matrix"),
    "one label": (3, "a single int"),
    "none at all": ([], "classification task needs at least two"),
    "one class": (LABELS * 0, "at least two different classes"),
    "masked": (np.ma.masked_equal(LABELS, 1), "index 1 is missing"),
}


@pytest.mark.parametrize(("labels", "message"), NO_LABELS.values(), ids=NO_LABELS.keys())
def test_what_are_no_labels_is_one_line(labels, message):
    with pytest.raises(UserError, match=message) as caught:
        from_arrays(WHOLE, labels)
    one_line(caught)


def test_labels_keep_their_order_and_length():
    assert label_array(np.array([3, 1, 2], np.int8), "mine").tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 5}, "classes=5"),
        ({"classes": [[0], [1]]}, r"classes=\[\[0\], \[1\]\]"),
        ({"test": WHOLE}, "test=ndarray"),
        ({"test": (WHOLE,)}, "test=tuple"),
        ({"split_seed": -1}, "split_seed=-1"),
        ({"split_seed": "a"}, "split_seed='a'"),
        ({"split_seed": 0.5}, "split_seed=0.5"),
        ({"valid_fraction": "a"}, "valid_fraction='a'"),
        ({"valid_fraction": None}, "valid_fraction=None"),
        ({"n_features": "2"}, "n_features='2'"),
    ],
)
def test_options_of_a_wrong_type_are_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        from_arrays(WHOLE, LABELS, **arguments)
    one_line(caught)


@pytest.mark.parametrize("white", [0, -1, np.nan, np.inf, "255", 1e-300])
def test_white_is_a_positive_number(white):
    with pytest.raises(UserError, match="white="):
        from_arrays(IMAGES / 255, LABELS, white=white)


@pytest.mark.parametrize("n_features", [16.5, "16", -4, 0, np.nan])
def test_the_grid_of_own_images_is_a_square_number(n_features):
    with pytest.raises(UserError, match="n_features="):
        from_arrays(IMAGES, LABELS, n_features=n_features)


@pytest.mark.parametrize("n_features", [0, -1, 2.5, "2"])
def test_learnt_features_are_a_whole_number(n_features):
    with pytest.raises(UserError, match="n_features="):
        load("digits-4", features="pca", n_features=n_features)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3])
def test_few_rows_are_one_line(n_rows):
    for x in (WHOLE, IMAGES):
        with pytest.raises(UserError) as caught:
            from_arrays(x[:n_rows], LABELS[:n_rows])
        one_line(caught)


# --- image files -------------------------------------------------------------------------------

BYTES = np.random.default_rng(3).integers(0, 256, size=(28, 28), dtype=np.uint8)


def table_of(images: list[bytes], labels: Any = None):
    arrow = pytest.importorskip("pyarrow", reason='the extra "data" is not installed')
    cells = [{"bytes": image, "path": None} for image in images]
    labels = list(range(len(images))) if labels is None else labels
    return arrow.table({"image": cells, "label": labels})


def file_of(image: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def grey_variants() -> dict[str, bytes]:
    image = pytest.importorskip("PIL.Image")
    plain = image.fromarray(BYTES)
    opaque = image.fromarray(np.full((28, 28), 255, np.uint8))
    return {
        "8 bits": file_of(plain),
        "16 bits": file_of(image.fromarray(BYTES.astype(np.uint16) * 257)),
        "16 bits, TIFF": file_of(image.fromarray(BYTES.astype(np.uint16) * 257), "TIFF"),
        "32 bits, TIFF": file_of(image.fromarray(BYTES.astype(np.int32) * 257), "TIFF"),
        "with alpha": file_of(image.merge("LA", (plain, opaque))),
        "colour": file_of(plain.convert("RGB")),
        "colour with alpha": file_of(image.merge("RGBA", (plain, plain, plain, opaque))),
        "palette": file_of(plain.convert("P")),
        "BMP": file_of(plain, "BMP"),
    }


def test_grey_images_are_the_same_from_every_kind_of_file():
    variants = grey_variants()
    found = raw_images(table_of(list(variants.values())), DATASETS["mnist-4"].collection, "here")
    for name, pixels in zip(variants, found.images, strict=True):
        np.testing.assert_array_equal(pixels, BYTES, err_msg=name)


def test_sixteen_bits_are_rounded_and_one_bit_is_black_or_white():
    image = pytest.importorskip("PIL.Image")
    values = np.linspace(0, 65535, 28 * 28).astype(np.uint16).reshape(28, 28)
    black = image.fromarray(BYTES > 99)
    table = table_of([file_of(image.fromarray(values)), file_of(black)])
    found = raw_images(table, DATASETS["mnist-4"].collection, "here").images
    np.testing.assert_array_equal(found[0], np.rint(values / 257))
    np.testing.assert_array_equal(found[1], 255 * (BYTES > 99))


def test_colour_images_are_the_same_from_every_kind_of_file():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(4).integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
    colour = image.fromarray(pixels)
    grey = np.repeat(pixels[:, :, :1], 3, axis=2)
    files = {
        "RGB": (file_of(colour), pixels),
        "RGBA": (file_of(colour.convert("RGBA")), pixels),
        "CMYK": (file_of(colour.convert("CMYK"), "TIFF"), pixels),
        "grey": (file_of(image.fromarray(pixels[:, :, 0])), grey),
        "16 bits": (file_of(image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)), grey),
    }
    table = table_of([file for file, _ in files.values()])
    found = raw_images(table, DATASETS["cifar-10"].collection, "here").images
    for (name, (_, expected)), image in zip(files.items(), found, strict=True):
        np.testing.assert_array_equal(image, expected, err_msg=name)


def bomb() -> bytes:
    """A PNG of a few bytes that claims to be 60,000 pixels wide and high."""
    good = file_of(pytest.importorskip("PIL.Image").fromarray(BYTES))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + good[24:29]
    return good[:12] + header + zlib.crc32(header).to_bytes(4, "big") + good[33:]


def broken_images() -> dict[str, tuple[bytes, str]]:
    image = pytest.importorskip("PIL.Image")
    good = file_of(image.fromarray(BYTES))
    return {
        "empty": (b"", "cannot be decoded"),
        "text": (b"hello", "cannot be decoded"),
        "truncated": (good[:120], "cannot be decoded"),
        "header only": (good[:33], "cannot be decoded"),
        "huge": (bomb(), "cannot be decoded|60000 x 60000"),
        "floats": (file_of(image.fromarray(BYTES.astype(np.float32)), "TIFF"), "floating-point"),
        "negative": (file_of(image.fromarray(-BYTES.astype(np.int32)), "TIFF"), "not from 0 to 6"),
        "wide": (file_of(image.fromarray(BYTES[:20])), "20 x 28 pixels"),
    }


@pytest.mark.parametrize(
    "name", ["empty", "text", "truncated", "header only", "huge", "floats", "negative", "wide"]
)
def test_a_file_that_is_no_such_image_is_named(name):
    content, message = broken_images()[name]
    good = file_of(pytest.importorskip("PIL.Image").fromarray(BYTES))
    with pytest.raises(UserError, match=f"image at index 1 .*({message})") as caught:
        raw_images(table_of([good, content]), DATASETS["mnist-4"].collection, "here")
    one_line(caught)


def test_tables_of_another_form_are_one_line():
    arrow = pytest.importorskip("pyarrow")
    good = file_of(pytest.importorskip("PIL.Image").fromarray(BYTES))
    cell = {"bytes": good, "path": None}
    wrong = {
        "no images": (arrow.table({"image": arrow.array([], "binary"), "label": [0][:0]}), "no im"),
        "words": (table_of([good], ["a"]), "type string and 0 empty rows"),
        "halves": (table_of([good], [0.5]), "type double"),
        "missing": (table_of([good, good], [0, None]), "1 empty"),
        "lists": (table_of([good], [[0]]), "type list"),
        "numbers as images": (arrow.table({"image": [5], "label": [0]}), "row 0 holds no image"),
        "text as images": (arrow.table({"image": [{"bytes": "x"}], "label": [0]}), "index 0 canno"),
        "paths only": (table_of([None]), "row 0 holds no image bytes"),  # pyright: ignore
        "two labels": (
            arrow.Table.from_arrays(
                [arrow.array([cell])] + 2 * [arrow.array([0])], names=["image", "label", "label"]
            ),
            "two columns",
        ),
    }
    for name, (table, message) in wrong.items():
        with pytest.raises(UserError, match=message) as caught:
            raw_images(table, DATASETS["mnist-4"].collection, "here")
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(
    "metadata", [b"{", b"\xff", b"[]", b'{"info": {"features": {"label": 1}}}']
)
def test_class_names_that_cannot_be_read_are_not_looked_at(metadata):
    image = pytest.importorskip("PIL.Image")
    table = table_of([file_of(image.fromarray(BYTES))]).replace_schema_metadata(
        {b"huggingface": metadata}
    )
    assert len(raw_images(table, DATASETS["mnist-4"].collection, "here").images) == 1


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"x" * 5000])
def test_parquet_files_that_are_none_are_named(tmp_path, content):
    pytest.importorskip("pyarrow")
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").write_bytes(content)
    source = open_source(DATASETS["mnist-4"].collection, tmp_path)
    for read in (source.read, source.check, lambda: load("mnist-4", data_dir=tmp_path)):
        with pytest.raises(UserError, match=r"train\.parquet cannot be read as Parquet") as caught:
            read()
        one_line(caught)


def test_data_folders_that_cannot_be_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "train.parquet").symlink_to(tmp_path / "nothing")
    (tmp_path / "test.parquet").symlink_to(tmp_path / "test.parquet")
    for folder in (tmp_path, "~no-such-user/data", "", 5, "x" * 5000, "a\0b"):
        with pytest.raises(UserError) as caught:
            load("mnist-4", data_dir=folder)  # pyright: ignore[reportArgumentType]
        one_line(caught)
