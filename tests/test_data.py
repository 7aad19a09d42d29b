"""`qdeq.data`: pooling against plain loops, reproducible splits, one clear error per mistake."""

import importlib.util
import io
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeq.data import DATASETS, Dataset, from_arrays, image_features, load
from qdeq.data.images import bilinear_matrix, grey, normalise, pooling_matrix
from qdeq.data.splits import stratified_indices, train_valid_indices
from qdeq.errors import UserError

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None,
    reason='the extra "data" (datasets, pyarrow, pillow) is not installed',
)
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
needs_real_data = pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason=f"{REAL_DATA} with the published images is not there"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Give every test a cache of its own, so that none sees the user's."""
    monkeypatch.delenv("QDEQ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qdeq"


# --- pooling -----------------------------------------------------------------------------------


def loop_pool(image: np.ndarray, window: int, stride: int, padding: int) -> np.ndarray:
    """Average pooling with counted zero padding, one cell at a time."""
    padded = np.zeros([size + 2 * padding for size in image.shape])
    padded[padding : padding + image.shape[0], padding : padding + image.shape[1]] = image
    side = (padded.shape[0] - window) // stride + 1
    pooled = np.zeros((side, side))
    for i, j in itertools.product(range(side), range(side)):
        total = 0.0
        for a, b in itertools.product(range(window), range(window)):
            total += padded[i * stride + a, j * stride + b]
        pooled[i, j] = total / window**2
    return pooled


def random_bytes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("n_features", "window", "stride", "padding"), [(16, 6, 6, 0), (100, 5, 3, 2)]
)
def test_the_papers_windows_agree_with_a_plain_loop(n_features, window, stride, padding):
    images = random_bytes(3, 28, 28)
    expected = [
        loop_pool((image / 255 - 0.1307) / 0.3081, window, stride, padding).ravel()
        for image in images
    ]
    # The result is rounded to float32 once, a relative 6e-8 of numbers up to 3.
    np.testing.assert_allclose(image_features(images, n_features), expected, atol=4e-7)


def test_padding_is_zero_after_normalising_and_counts():
    black = np.zeros((1, 28, 28), dtype=np.uint8)
    pooled = image_features(black, 100).reshape(10, 10)
    inside = -0.1307 / 0.3081
    assert pooled[5, 5] == pytest.approx(inside)
    # A corner window sees 3 x 3 pixels and 16 zeros.
    assert pooled[0, 0] == pytest.approx(inside * 9 / 25)


def test_sixteen_features_ignore_the_last_four_rows_and_columns():
    images = random_bytes(1, 28, 28)
    changed = images.copy()
    changed[:, 24:], changed[:, :, 24:] = 0, 0
    np.testing.assert_array_equal(image_features(images, 16), image_features(changed, 16))


def test_small_digits_pool_to_means_of_two_by_two():
    images = np.random.default_rng(0).integers(0, 17, size=(5, 8, 8)).astype(float)
    blocks = ((images / 16 - 0.1307) / 0.3081).reshape(5, 4, 2, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(image_features(images, 16, white=16), blocks.reshape(5, 16), 1e-6)


def test_as_many_features_as_pixels_is_the_normalised_image():
    images = random_bytes(2, 28, 28)
    expected = normalise(images).reshape(2, -1)
    np.testing.assert_allclose(image_features(images, 784), expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "side"), [(28, 3), (28, 7), (28, 9), (8, 5), (8, 1), (5, 5)])
def test_adaptive_pooling_covers_every_pixel_and_keeps_constants(size, side):
    matrix = pooling_matrix(size, side)
    for cell in range(side):
        first, last = int(np.floor(cell * size / side)), int(np.ceil((cell + 1) * size / side))
        row = np.zeros(size)
        row[first:last] = 1 / (last - first)
        np.testing.assert_allclose(matrix[cell], row, rtol=1e-15)
    assert (matrix.sum(axis=0) > 0).all()


def test_bilinear_resize_reproduces_a_ramp_between_the_outer_centres():
    size, side = 32, 28
    resized = bilinear_matrix(size, side) @ np.arange(size)
    centres = (np.arange(side) + 0.5) * size / side - 0.5
    np.testing.assert_allclose(resized, np.clip(centres, 0, size - 1), rtol=1e-13)


def test_features_are_enlarged_bilinearly_beyond_the_image():
    assert pooling_matrix(8, 10) == pytest.approx(bilinear_matrix(8, 10))
    assert image_features(random_bytes(1, 8, 8), 100).shape == (1, 100)


def test_colour_becomes_luminance_without_rounding():
    red, green, blue = np.eye(3)[:, None, None, None, :] * 255
    assert [grey(c).item() for c in (red, green, blue)] == pytest.approx([76.245, 149.685, 29.07])


def test_many_images_pool_like_few():
    images = random_bytes(5000, 8, 8)  # more than one internal chunk
    np.testing.assert_array_equal(
        image_features(images, 16)[4095:4098], image_features(images[4095:4098], 16)
    )


@pytest.mark.parametrize("n_features", [0, -4, 15])
def test_a_grid_must_be_square(n_features):
    with pytest.raises(UserError, match=f"n_features={n_features}: .* square"):
        load("digits-4", n_features=n_features)


# --- splits ------------------------------------------------------------------------------------


def test_the_split_is_numpys_permutation_of_the_seed():
    order = np.random.default_rng(7).permutation(50)
    train, valid = train_valid_indices(50, valid_fraction=0.2, seed=7)
    np.testing.assert_array_equal(train, order[:40])
    np.testing.assert_array_equal(valid, order[40:])


@pytest.mark.parametrize("fraction", [0.93, 0.3, 0.1])
def test_a_fraction_means_what_it_says_despite_floating_point(fraction):
    train, valid = train_valid_indices(100, valid_fraction=fraction, seed=0)
    assert (len(train), len(valid)) == (round(100 - 100 * fraction), round(100 * fraction))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_fractions_lie_between_zero_and_one(fraction):
    with pytest.raises(UserError, match="valid_fraction="):
        load("digits-4", valid_fraction=fraction)


def test_a_stratified_split_holds_out_the_same_part_of_every_class():
    labels = np.repeat([0, 1, 5], [10, 40, 3])
    kept, held_out = stratified_indices(labels, fraction=0.2, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [2, 8, 0, 0, 0, 1]
    assert sorted([*kept, *held_out]) == list(range(53))


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


def test_the_same_seed_gives_the_same_digits_and_another_seed_keeps_the_test_set():
    first, again, other = load("digits-4"), load("digits-4"), load("digits-4", split_seed=1)
    for part in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(first, part).x, getattr(again, part).x)
        np.testing.assert_array_equal(getattr(first, part).y, getattr(again, part).y)
    np.testing.assert_array_equal(first.test.x, other.test.x)
    assert not np.array_equal(first.train.x, other.train.x)
    assert rows(first.train.x) | rows(first.valid.x) == rows(other.train.x) | rows(other.valid.x)


def test_the_test_digits_of_four_classes_are_among_those_of_ten():
    few, all_ten = load("digits-4", n_features=64), load("digits-10")
    assert rows(few.test.x) < rows(all_ten.test.x)
    assert not rows(few.test.x) & rows(all_ten.train.x)


def test_digits_have_the_documented_form():
    digits = load("digits-4")
    assert (digits.name, digits.classes) == ("digits-4", (0, 3, 6, 9))
    assert (digits.n_features, digits.n_classes, digits.image_shape) == (16, 4, (4, 4))
    assert (digits.train.x.dtype, digits.train.y.dtype) == (np.float32, np.int32)
    assert len(digits.train) + len(digits.valid) + len(digits.test) == 722
    assert set(digits.test.y) == {0, 1, 2, 3}


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    published = load_digits()
    nines = normalise(published.images[published.target == 9], white=16).reshape(-1, 64)
    digits = load("digits-4", n_features=64)
    ours = [part.x[part.y == 3] for part in (digits.train, digits.valid, digits.test)]
    assert rows(np.concatenate(ours)) == rows(nines.astype(np.float32))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"data='mnist' .*mnist-4, mnist-10"):
        load("mnist")


# --- folders in the hub's layout ---------------------------------------------------------------

FASHION = DATASETS["fashion-10"].collection.classes


def png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(
    path: Path, images: Any, labels: Any, *, column: str = "image", names: Any = None
) -> None:
    """Write as `datasets` does: a column of ClassLabel and one of Image, bytes embedded."""
    import datasets

    names = [str(label) for label in range(10)] if names is None else list(names)
    features = datasets.Features(
        {column: datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    cells = [{"bytes": image if isinstance(image, bytes) else png(image)} for image in images]
    table = datasets.Dataset.from_dict({column: cells, "label": list(labels)}, features=features)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


def write_mnist(folder: Path, n_train: int = 200, n_test: int = 20) -> dict[str, np.ndarray]:
    written = {}
    for seed, (split, count) in enumerate({"train": n_train, "test": n_test}.items()):
        images, labels = random_bytes(count, 28, 28, seed=seed), np.arange(count) % 10
        write_parquet(folder / f"{split}-00000-of-00001.parquet", images, labels)
        written |= {f"{split}_images": images, f"{split}_labels": labels}
    return written


@pytest.fixture
def quiet_datasets(monkeypatch, tmp_path):
    pytest.importorskip("datasets", reason='the extra "data" is not installed')
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    datasets.disable_progress_bars()
    yield datasets
    datasets.enable_progress_bars()


@pytest.fixture
def mnist(tmp_path, quiet_datasets) -> tuple[Path, dict[str, np.ndarray]]:
    return tmp_path / "data", write_mnist(tmp_path / "data" / "mnist")


@needs_extra
def test_a_folder_is_read_filtered_and_split(mnist):
    data_dir, written = mnist
    loaded = load("mnist-4", data_dir=data_dir)
    wanted = np.isin(written["test_labels"], (0, 3, 6, 9))
    np.testing.assert_array_equal(loaded.test.x, image_features(written["test_images"][wanted], 16))
    assert loaded.test.y.tolist() == [0, 1, 2, 3] * 2
    chosen = np.isin(written["train_labels"], (0, 3, 6, 9))
    order = np.random.default_rng(0).permutation(80)
    x = image_features(written["train_images"][chosen], 16)[order]
    np.testing.assert_array_equal(np.concatenate([loaded.train.x, loaded.valid.x]), x)
    assert (len(loaded.train), len(loaded.valid)) == (64, 16)


@needs_extra
def test_data_dir_may_be_the_datasets_own_folder(mnist):
    data_dir, _ = mnist
    above = load("mnist-4", data_dir=data_dir)
    own = load("mnist-4", data_dir=str(data_dir / "mnist"))
    np.testing.assert_array_equal(above.train.x, own.train.x)


@needs_extra
def test_several_shards_are_read_in_order(mnist, tmp_path):
    data_dir, written = mnist
    folder = tmp_path / "sharded"
    for part in range(2):
        half = slice(100 * part, 100 * (part + 1))
        write_parquet(
            folder / f"train-0000{part}-of-00002.parquet",
            written["train_images"][half],
            written["train_labels"][half],
        )
    write_parquet(folder / "test.parquet", written["test_images"], written["test_labels"])
    whole = load("mnist-4", data_dir=data_dir)
    sharded = load("mnist-4", data_dir=folder)
    np.testing.assert_array_equal(whole.train.x, sharded.train.x)


@needs_extra
def test_cifar_is_grey_then_normalised_then_resized_then_pooled(tmp_path, quiet_datasets):
    names = DATASETS["cifar-10"].collection.classes
    images = {"train": random_bytes(200, 32, 32, 3), "test": random_bytes(10, 32, 32, 3, seed=1)}
    for split, pixels in images.items():
        # plain_text is where the hub keeps the files of this dataset.
        path = tmp_path / "cifar10" / "plain_text" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, pixels, np.arange(len(pixels)) % 10, column="img", names=names)
    loaded = load("cifar-10", data_dir=tmp_path)
    assert loaded.classes == names
    light = images["test"] @ [0.299, 0.587, 0.114]
    expected = []
    for image in (light / 255 - 0.1307) / 0.3081:
        resized = np.empty((28, 28))
        for i, j in itertools.product(range(28), range(28)):
            u, v = ((k + 0.5) * 32 / 28 - 0.5 for k in (i, j))
            a, b = int(u), int(v)
            s, t = u - a, v - b
            resized[i, j] = (1 - s) * ((1 - t) * image[a, b] + t * image[a, b + 1]) + s * (
                (1 - t) * image[a + 1, b] + t * image[a + 1, b + 1]
            )
        expected.append(loop_pool(resized, 5, 3, 2).ravel())
    np.testing.assert_allclose(loaded.test.x, expected, atol=4e-7)


@needs_extra
def test_the_hub_gives_what_the_folder_gives(mnist, quiet_datasets, monkeypatch, tmp_path):
    data_dir, _ = mnist

    def fake_hub(name, split):
        assert name == "ylecun/mnist"
        file = data_dir / "mnist" / f"{split}-00000-of-00001.parquet"
        return quiet_datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "hub"))

    monkeypatch.setattr(quiet_datasets, "load_dataset", fake_hub)
    hub, folder = (load("mnist-4", data_dir=place) for place in (None, data_dir))
    np.testing.assert_array_equal(hub.train.x, folder.train.x)
    np.testing.assert_array_equal(hub.test.y, folder.test.y)


# --- mistakes ----------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere' does not exist: .*mnist/train-\*\.parquet"):
        load("mnist-4", data_dir=tmp_path / "nowhere")


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file' is not a folder"):
        load("mnist-4", data_dir=tmp_path / "file")


def test_a_folder_without_parquet_files_says_what_is_expected(tmp_path):
    (tmp_path / "fashion_mnist").mkdir()
    with pytest.raises(UserError, match=r"no Parquet files of mnist: expected mnist/train-\*"):
        load("mnist-4", data_dir=tmp_path)


def test_a_missing_split_is_named(tmp_path):
    (tmp_path / "train-00000-of-00001.parquet").touch()
    with pytest.raises(UserError, match=r"has no test split: expected test-\*\.parquet"):
        load("mnist-4", data_dir=tmp_path)


def test_a_missing_extra_says_what_to_install(tmp_path, monkeypatch):
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").touch()
    for package, data_dir in (("pyarrow", tmp_path), ("datasets", None)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf'{package}, .*pip install "qdeq\[data\]"'):
            load("mnist-4", data_dir=data_dir)


@needs_extra
def test_no_network_says_what_to_do_without_one(quiet_datasets, monkeypatch):
    def unreachable(name, split):
        raise ConnectionError("Couldn't reach the hub\nand more lines")

    monkeypatch.setattr(quiet_datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"ylecun/mnist .*reach the hub\): .*data_dir") as caught:
        load("mnist-4")
    assert "\n" not in str(caught.value)


@needs_extra
def test_a_damaged_parquet_file_is_named(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(UserError, match=r"train\.parquet cannot be read as Parquet"):
        load("mnist-4", data_dir=tmp_path)


@needs_extra
def test_another_collection_is_not_taken_for_mnist(tmp_path, quiet_datasets):
    for split in ("train", "test"):
        images = random_bytes(10, 28, 28)
        write_parquet(tmp_path / f"{split}.parquet", images, range(10), names=FASHION)
    with pytest.raises(UserError, match="not the classes of mnist"):
        load("mnist-4", data_dir=tmp_path)


@needs_extra
def test_wrong_columns_are_listed(tmp_path, quiet_datasets):
    for split in ("train", "test"):
        path = tmp_path / f"{split}.parquet"
        write_parquet(path, random_bytes(10, 28, 28), range(10), column="picture")
    with pytest.raises(UserError, match="columns picture, label: expected image"):
        load("mnist-4", data_dir=tmp_path)


def replace_train(data_dir: Path, images: Any, labels: Any) -> None:
    write_parquet(data_dir / "mnist" / "train-00000-of-00001.parquet", images, labels)


@needs_extra
def test_images_of_another_size_are_refused(mnist):
    images = [*random_bytes(3, 28, 28), random_bytes(32, 30)]
    replace_train(mnist[0], images, range(4))
    with pytest.raises(UserError, match="index 3 has 32 x 30 pixels: mnist has 28 x 28"):
        load("mnist-4", data_dir=mnist[0])


@needs_extra
def test_an_image_that_cannot_be_decoded_is_named(mnist):
    images = [png(random_bytes(28, 28)), png(random_bytes(28, 28))[:200], b"no image"]
    replace_train(mnist[0], images, range(3))
    with pytest.raises(UserError, match="image at index 1 cannot be decoded"):
        load("mnist-4", data_dir=mnist[0])


@needs_extra
def test_blank_images_are_counted_and_refused(mnist):
    data_dir, written = mnist
    images = written["train_images"].copy()
    images[[4, 30]] = 0
    replace_train(data_dir, images, written["train_labels"])
    with pytest.raises(
        UserError, match=r"mnist train images: 2 of 200 are blank .*first at index 4"
    ):
        load("mnist-4", data_dir=data_dir)


@needs_extra
def test_labels_out_of_range_are_refused(mnist):
    data_dir, written = mnist
    labels = written["train_labels"].copy()
    labels[7] = -1  # what `datasets` writes for an unknown class
    replace_train(data_dir, written["train_images"], labels)
    with pytest.raises(UserError, match=r"label -1 at index 7 is out of range .* from 0 to 9"):
        load("mnist-4", data_dir=data_dir)


@needs_extra
def test_a_class_that_a_split_lacks_is_named(mnist):
    data_dir, written = mnist
    kept = written["train_labels"] != 6
    replace_train(data_dir, written["train_images"][kept], written["train_labels"][kept])
    with pytest.raises(UserError, match=r"mnist-4: the train split .* none of class 6"):
        load("mnist-4", data_dir=data_dir)


# --- the cache ---------------------------------------------------------------------------------


def forbid_reading(monkeypatch) -> None:
    def fail(self):
        raise AssertionError("the source was read although its features are cached")

    monkeypatch.setattr("qdeq.data.sources.Digits.read", fail)


def test_the_second_load_reads_the_cache(cache, monkeypatch):
    first = load("digits-4")
    assert [path.suffix for path in cache.iterdir()] == [".npz"]
    forbid_reading(monkeypatch)
    np.testing.assert_array_equal(load("digits-4").train.x, first.train.x)


def test_another_grid_is_another_entry(cache):
    load("digits-4")
    assert load("digits-4", n_features=64).n_features == 64
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_is_off_writes_nothing(cache, monkeypatch):
    monkeypatch.setenv("QDEQ_CACHE", "off")
    load("digits-4")
    assert not cache.exists()


def test_the_cache_can_be_another_folder(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("QDEQ_CACHE", str(tmp_path / "elsewhere"))
    load("digits-4")
    assert not cache.exists()
    assert list((tmp_path / "elsewhere").iterdir())


def test_a_meaningless_cache_setting_is_refused(monkeypatch):
    monkeypatch.setenv("QDEQ_CACHE", "yes")
    with pytest.raises(UserError, match="QDEQ_CACHE='yes'"):
        load("digits-4")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "foreign"])
def test_a_damaged_cache_is_ignored_and_rewritten(cache, monkeypatch, damage):
    first = load("digits-4")
    (path,) = cache.iterdir()
    good = path.read_bytes()
    middle = len(good) // 2
    if damage == "foreign":
        np.savez(path, key=np.asarray("another key"), train_x=np.zeros((2, 16)))
    else:
        flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        path.write_bytes(
            {"truncated": good[:middle], "flipped": flipped, "empty": b"", "text": b"oh"}[damage]
        )
    np.testing.assert_array_equal(load("digits-4").train.x, first.train.x)
    assert list(cache.iterdir()) == [path]
    forbid_reading(monkeypatch)
    np.testing.assert_array_equal(load("digits-4").train.x, first.train.x)


def test_a_cache_that_cannot_be_written_is_a_warning(cache):
    cache.parent.mkdir()
    cache.touch()  # a file where the folder should be
    with pytest.warns(UserWarning, match="could not be kept in"):
        digits = load("digits-4")
    assert isinstance(digits, Dataset)


@needs_extra
def test_changed_files_are_read_again(mnist):
    data_dir, written = mnist
    before = load("mnist-4", data_dir=data_dir)
    replace_train(data_dir, 255 - written["train_images"], written["train_labels"])
    after = load("mnist-4", data_dir=data_dir)
    assert not np.array_equal(before.train.x, after.train.x)
    np.testing.assert_array_equal(before.test.x, after.test.x)


# --- users' own arrays -------------------------------------------------------------------------


def test_own_images_are_pooled_like_named_ones():
    images, labels = random_bytes(60, 28, 28), np.arange(60) % 3
    dataset = from_arrays(images, labels, name="mine")
    assert (dataset.name, dataset.classes, dataset.image_shape) == ("mine", (0, 1, 2), (4, 4))
    assert rows(dataset.test.x) < rows(image_features(images, 16))
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [38, 10, 12]


def test_floats_are_taken_as_zero_to_one_and_bytes_as_zero_to_255():
    images, labels = random_bytes(60, 9, 7), np.arange(60) % 2
    as_bytes, as_floats = (from_arrays(x, labels) for x in (images, images / 255))
    np.testing.assert_allclose(as_bytes.train.x, as_floats.train.x, rtol=1e-6)


def test_own_features_are_taken_as_they_are():
    features = np.random.default_rng(0).normal(size=(60, 5))
    dataset = from_arrays(features, np.arange(60) % 2, test=(features[:4], [0, 1, 0, 1]))
    np.testing.assert_array_equal(dataset.test.x, features[:4].astype(np.float32))
    assert (dataset.image_shape, dataset.n_features) == ((1, 5), 5)
    assert len(dataset.train) + len(dataset.valid) == 60


def test_classes_count_in_the_order_given():
    labels = ["cat", "dog"] * 20
    features = np.arange(80.0).reshape(40, 2)
    dataset = from_arrays(features, labels, classes=["dog", "cat"], test=(features, labels))
    assert dataset.classes == ("dog", "cat")
    assert dataset.test.y[:2].tolist() == [1, 0]


GOOD = np.random.default_rng(0).uniform(size=(40, 8, 8))
LABELS = np.arange(40) % 2


def spoil(value: float) -> np.ndarray:
    bad = GOOD.copy()
    bad[5, 0, 0] = bad[11, 0, 0] = value
    return bad


def with_blank() -> np.ndarray:
    bad = GOOD.copy()
    bad[[3, 9]] = 0.5
    return bad


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((spoil(np.nan), LABELS), {}, "2 of 40 hold NaN or infinity, the first at index 5"),
        ((spoil(np.inf), LABELS), {}, "2 of 40 hold NaN"),
        ((with_blank(), LABELS), {}, "2 of 40 are blank .* the first at index 3"),
        ((spoil(7.0), LABELS), {}, "outside 0 to white=1: give white"),
        ((spoil(-1.0), LABELS), {}, "pixels run from -1"),
        (((GOOD * 99).astype(int), LABELS), {}, "type int64 have no usual range: give white"),
        ((GOOD, LABELS[:-1]), {}, "40 samples and 39 labels"),
        ((GOOD, LABELS / 2), {}, "type float64: give one whole number or one string"),
        ((GOOD, LABELS), {"classes": [0, 2]}, "label 1 at index 1 is not a class .*: the .* 0, 2"),
        ((GOOD, LABELS), {"classes": [0, 1, 2]}, "none of class 2"),
        ((GOOD, LABELS), {"classes": [1, 1]}, "at least two different classes"),
        ((GOOD, LABELS * 0), {}, "1 classes"),
        ((GOOD, LABELS), {"n_features": 15}, "n_features=15: .* square"),
        ((GOOD[:, :, 0], LABELS), {"n_features": 4}, "n_features=4: .* have 8 features"),
        ((GOOD[:, 0, 0], LABELS), {}, r"shape \(40,\)"),
        ((np.stack([GOOD] * 4, axis=3), LABELS), {}, r"shape \(40, 8, 8, 4\)"),
        ((GOOD[:0], LABELS[:0]), {"classes": [0, 1]}, r"shape \(0, 8, 8\)"),
        ((GOOD, LABELS), {"test": (GOOD[:, :, 0], LABELS)}, r"test samples \(40, 8\)"),
        ((GOOD, LABELS), {"test": (GOOD[::2], LABELS[::2])}, "test split .* none of class 1"),
        ((GOOD, LABELS), {"test_fraction": 1.5}, "test_fraction=1.5"),
    ],
)
def test_mistakes_in_own_arrays_are_named(arguments, options, message):
    with pytest.raises(UserError, match=message) as caught:
        from_arrays(*arguments, **options)
    assert "\n" not in str(caught.value)


# --- the published images ----------------------------------------------------------------------


@needs_extra
@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "mean"),
    # The mean of the training pixels is the documented 0.1307 for MNIST; its pooled features
    # average 0.01 over 10 x 10 windows, whose padding adds zeros.
    [
        ("mnist-4", (19136, 4785, 3957), 0.196),
        ("mnist-10", (48000, 12000, 10000), 0.011),
        ("fashion-10", (48000, 12000, 10000), 0.450),
        ("cifar-10", (40000, 10000, 10000), 0.961),
    ],
)
def test_the_published_images_load(name, sizes, mean):
    dataset = load(name, data_dir=REAL_DATA)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == sizes
    assert dataset.train.x.mean() == pytest.approx(mean, abs=2e-3)
    assert np.bincount(dataset.test.y).min() >= 892
