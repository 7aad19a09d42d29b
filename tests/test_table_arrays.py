"""Tables and labels in `.npz` files: of any type and shape, damaged or whole."""

import numpy as np
import pandas as pd
import pytest
from test_tables import equal

from qdeq.data import read_table
from qdeq.data.files import load_file
from qdeq.errors import UserError


def arrays_file(path, **arrays):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    np.savez_compressed(path, **({"x": x, "y": np.where(x[:, 0] > 0, "up", "down")} | arrays))
    return path


def as_big_endian(array):
    return array.astype(array.dtype.newbyteorder(">"))


Y = np.arange(60) % 2


@pytest.mark.parametrize(
    "arrays",
    [
        {"y": np.array(3)},
        {"y": np.zeros((60, 2, 2))},
        {"y": np.zeros((60, 0))},
        {"y": Y[:50]},
        {"x": np.array(3.0)},
        {"x": np.zeros((60, 0)), "y": Y},
        {"x": np.zeros((0, 3)), "y": np.zeros(0)},
        {"x": np.zeros((60, 3), complex), "y": Y},
        {"x": np.zeros((60, 3), "M8[s]"), "y": Y},
        {"x": np.zeros((60, 3), "i4,i4"), "y": Y},
        {"y": np.zeros(60, "i4,i4")},
        {"y": np.zeros(60, "M8[s]")},
        {"y": np.full(60, np.nan)},
        {"y": np.full(60, b"\xff")},
        {"y": np.array([{}] * 60)},
        {"x_test": np.zeros((5, 3)), "y_test": np.zeros((5, 2))},
        {"x_test": np.zeros((5, 2)), "y_test": Y[:5]},
        {"x_test": np.zeros((5, 3)), "y_test": np.array(1)},
    ],
    ids=str,
)
def test_arrays_that_are_no_table_are_one_line(arrays, tmp_path):
    path = arrays_file(tmp_path / "a.npz", **arrays)
    for read in (load_file, lambda path: read_table(path, "y", test=None)):
        if "x_test" in arrays and read is not load_file:
            continue
        with pytest.raises(UserError) as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", [np.savez, np.savez_compressed])
def test_damaged_arrays_are_read_or_one_line(kind, tmp_path):
    path = tmp_path / "a.npz"
    x = np.random.default_rng(0).normal(size=(60, 3))
    kind(path, x=x, y=np.where(x[:, 0] > 0, "up", "down"))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    variants = [whole[:n] for n in range(0, len(whole), max(1, len(whole) // 60))]
    for _ in range(250):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        variants.append(bytes(changed))
    # Every byte of the first local header: its method of packing, its flags, its lengths.
    variants += [whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :] for k in range(40)]
    at = whole.index(b"PK\x01\x02")
    variants += [whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :] for k in range(at, at + 46)]
    for variant in variants:
        path.write_bytes(variant)
        try:
            read_table(path, "y")
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 500


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", ">i4", "u1", "?", "longdouble", "U9"])
def test_arrays_of_any_type_are_the_same_table(dtype, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, size=(60, 3)).astype(dtype)
    expected = pd.DataFrame(x.astype(float if dtype != "?" else bool), columns=["x0", "x1", "x2"])
    x[:, 0] = Y
    expected["x0"] = Y.astype(expected["x0"].dtype)
    for y in (as_big_endian(Y), as_big_endian(Y.astype(float)), Y.astype(">U4"), Y.astype("S1")):
        dataset = read_table(arrays_file(tmp_path / "a.npz", x=x, y=y), "y")
        equal(dataset, read_table(expected.assign(y=Y), "y"))
        assert all(type(label) is int for label in dataset.classes)


def test_labels_of_arrays_that_are_missing_leave_their_rows_out(tmp_path):
    y = np.where(np.arange(60) % 6 == 0, np.nan, Y)
    dataset = read_table(arrays_file(tmp_path / "a.npz", y=y), "y")
    assert dataset.classes == (0, 1)
    assert "10 rows left out: their y is missing" in dataset.preparation.notes
    bytes_of = read_table(arrays_file(tmp_path / "b.npz", y=np.where(Y, b"a", b"b")), "y")
    assert bytes_of.classes == ("a", "b")


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y.astype("S1"), ("0", "1")),
        (as_big_endian(Y), (0, 1)),
        (Y.astype(float), (0, 1)),
        (Y + 0.5, ("0.5", "1.5")),
        (np.where(Y, np.nan, 1.0), "y is nan at index 1 (30 such rows): give every sample a label"),
        (np.where(Y, np.inf, 1.0), "y is inf at index 1"),
        (Y + 1j, "y has the type complex128: give one whole number or text"),
        (Y.astype("M8[s]"), "y has the type datetime64[s]"),
        (Y.reshape(30, 2), "y has the shape (30, 2): give one label for each"),
    ],
    ids=str,
)
def test_labels_of_images_in_arrays_are_labels_or_one_line(y, classes, tmp_path):
    images = np.random.default_rng(0).random((60, 4, 4))
    path = arrays_file(tmp_path / "a.npz", x=as_big_endian(images), y=y)
    if isinstance(classes, tuple):
        assert load_file(path).classes == classes
        return
    with pytest.raises(UserError) as caught:
        load_file(path)
    assert classes in str(caught.value) and "\n" not in str(caught.value)
