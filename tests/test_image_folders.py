"""Folders of images: which are splits and classes, which files count, what is said and refused."""

import numpy as np
import pytest

import qdeq
from qdeq.data.files import load_file
from qdeq.data.image_files import find_images
from qdeq.data.image_folders import find_splits
from qdeq.data.table_files import fingerprint
from qdeq.errors import UserError
from qdeq.runs import evaluate, resume

image = pytest.importorskip("PIL.Image")


def pictures(folder, classes=("cat", "dog"), n=6, ending="png"):
    """A folder for every class, with `n` images of random pixels in each."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            pixels = rng.integers(0, 256, (6, 6), dtype=np.uint8)
            image.fromarray(pixels).save(folder / name / f"{k}.{ending}")
    return folder


def refused(path, **options):
    with pytest.raises(UserError) as caught:
        load_file(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAINING", "Testing"),
        ("training_set", "test_set"),
        ("Training Set", "test-set"),
    ],
)
def test_splits_are_found_by_all_their_usual_names(tmp_path, train, test):
    pictures(tmp_path / train, n=10)
    pictures(tmp_path / test, n=3)
    dataset = load_file(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [16, 4, 6]


@pytest.mark.parametrize(
    "valid", ["val", "Val", "valid", "VALID", "validation", "validation_set", "Validation-Set"]
)
def test_a_split_to_validate_validates(tmp_path, valid):
    pictures(tmp_path / "train", n=5)
    pictures(tmp_path / valid, n=3)
    pictures(tmp_path / "test", n=4)
    dataset = load_file(tmp_path)
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [10, 6, 8]
    # Given as the test it is one, and a part of the training images validates.
    with pytest.warns(UserWarning, match="the folder test beside train is not read"):
        dataset = load_file(tmp_path, test=tmp_path / valid)
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [8, 2, 6]


def test_splits_without_one_that_is_needed_are_refused(tmp_path):
    pictures(tmp_path / "a" / "Train")
    pictures(tmp_path / "a" / "val")
    assert "has a folder Train (val validates) and none for the test" in refused(tmp_path / "a")
    for name in ("val", "test"):
        pictures(tmp_path / "b" / name)
    assert "has the folder test, val and none to train on" in refused(tmp_path / "b")
    pictures(tmp_path / "b" / "train")
    pictures(tmp_path / "b" / "Training")
    assert "Training and train, which both name the train split" in refused(tmp_path / "b")


def test_splits_without_classes_are_refused(tmp_path):
    pictures(tmp_path, classes=("Train", "Test"))
    assert "the images of Test, Train lie in no folder of a class" in refused(tmp_path)


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    pictures(tmp_path, classes=("bus", "train", "test"))
    assert load_file(tmp_path).classes == ("bus", "test", "train")
    image.fromarray(np.eye(6, dtype=np.uint8)).save(tmp_path / "train" / "9.png")
    pictures(tmp_path / "train", classes=("more",))
    assert "train holds images itself and folders of images (more)" in refused(tmp_path)


def test_folders_beside_splits_are_said_not_to_be_read(tmp_path):
    for name in ("train", "test", "extra"):
        pictures(tmp_path / name)
    (tmp_path / "papers").mkdir()
    with pytest.warns(UserWarning, match="the folder extra beside train is not read"):
        assert load_file(tmp_path).classes == ("cat", "dog")


def test_images_of_a_class_lie_in_its_own_folder(tmp_path):
    pictures(tmp_path / "wrapped" / "archive" / "train")
    pictures(tmp_path / "wrapped" / "archive" / "test")
    said = refused(tmp_path / "wrapped")
    assert "archive: all its images lie in folders in it (test, train)" in said
    assert f"or give {tmp_path / 'wrapped' / 'archive'}" in said
    pictures(tmp_path / "pets")
    pictures(tmp_path / "pets", classes=("bird/left", "bird/right"))
    assert "bird: all its images lie in folders in it (left, right)" in refused(tmp_path / "pets")


def test_a_class_without_images_is_refused(tmp_path):
    pictures(tmp_path)
    (tmp_path / "bird").mkdir()
    assert "bird is a folder beside those of the classes and holds no image:" in refused(tmp_path)
    (tmp_path / "bird" / "1.heic").write_bytes(b"")
    assert "holds no image (it has 1.heic)" in refused(tmp_path)
    for ending in ("png", "bmp"):
        (tmp_path / "bird" / f".{ending}").write_bytes(b"")
    assert "holds no image (it has 1.heic)" in refused(tmp_path)


@pytest.mark.parametrize("ending", ["ppm", "pgm", "pnm", "PGM", "jfif", "tif", "bmp", "gif"])
def test_a_class_in_any_format_counts(tmp_path, ending):
    pictures(tmp_path, classes=("cat",))
    pictures(tmp_path, classes=("dog",), ending=ending)
    dataset = load_file(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.train.y).tolist() == [4, 4]


def test_files_that_are_skipped_are_named(tmp_path):
    pictures(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("a")
    (tmp_path / "cover.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes())
    (tmp_path / "README.md").write_text("a")  # no part of the images
    with pytest.warns(UserWarning, match=r"skipped cover\.png, cat/notes\.txt: images of a class"):
        load_file(tmp_path)


HIDDEN = (
    ".DS_Store",
    "cat/.DS_Store",
    "cat/Thumbs.db",
    "dog/desktop.ini",
    "cat/._0.png",
    ".ipynb_checkpoints/0-checkpoint.png",
    "cat/.ipynb_checkpoints/0-checkpoint.png",
    "__MACOSX/cat/._0.png",
    "dog/@eaDir/0.png",
)


def hide(folder):
    for name in HIDDEN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"written by the system")


def test_hidden_files_are_neither_read_nor_part_of_what_a_run_was_trained_on(tmp_path):
    folder = pictures(tmp_path / ".data" / "pets")  # hidden is only what lies in the folder
    before, found = fingerprint(folder), find_images(folder).names
    hide(folder)
    assert load_file(folder).classes == ("cat", "dog")
    assert fingerprint(folder) == before
    assert find_images(folder).names == found
    (folder / "cat" / "0.png").rename(folder / "cat" / "00.png")
    assert fingerprint(folder) != before


def test_a_run_remembers_the_images_that_it_reads(tmp_path):
    for name in ("train", "val", "test"):
        pictures(tmp_path / name)
    before = fingerprint(tmp_path)
    pictures(tmp_path / "more")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("a")
    assert fingerprint(tmp_path) == before
    for name in ("train", "val", "test"):
        file = tmp_path / name / "cat" / "0.png"
        kept = file.read_bytes()
        file.write_bytes((tmp_path / name / "dog" / "1.png").read_bytes())
        assert fingerprint(tmp_path) != before
        file.write_bytes(kept)
    assert fingerprint(tmp_path) == before


def test_a_class_may_be_a_link(tmp_path):
    folder = pictures(tmp_path / "pets", classes=("cat",))
    (folder / "dog").symlink_to(pictures(tmp_path / "else", classes=("dog",)) / "dog")
    (folder / "cat" / "again").symlink_to(folder)  # round in a circle
    before = fingerprint(folder)
    assert load_file(folder).classes == ("cat", "dog")
    (tmp_path / "else" / "dog" / "0.png").unlink()
    assert fingerprint(folder) != before


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("0", "1", "10"), (0, 1, 10)),
        (("1", "01"), ("01", "1")),
        (("00", "01", "02"), ("00", "01", "02")),
        (("1", "٣"), ("1", "٣")),
        (("1", "two"), ("1", "two")),
    ],
)
def test_folders_are_numbers_if_all_are_written_as_such(tmp_path, names, classes):
    pictures(tmp_path, classes=names)
    assert load_file(tmp_path).classes == classes


def test_a_blank_image_is_named(tmp_path):
    folder = pictures(tmp_path / "pets")
    blank = np.full((9, 5), 7, np.uint8)
    image.fromarray(blank).save(folder / "dog" / "grey.png")
    assert "1 of 13 images are blank (every pixel is the same): remove dog/grey.png" in refused(
        folder
    )
    # To be predicted it is an image as any other, and the others are, too.
    with pytest.warns(UserWarning, match=r"1 of 13 images are blank.*: dog/grey\.png"):
        x = find_images(folder).features(0, 13, 16)
    assert x.shape == (13, 16) and np.isfinite(x).all()
    arrays = np.random.default_rng(0).integers(0, 256, (8, 6, 6), dtype=np.uint8)
    arrays[[3, 6]] = 0
    np.savez(tmp_path / "a.npz", x=arrays, y=np.arange(8) % 2)
    assert "2 of 8 images are blank" in (said := refused(tmp_path / "a.npz"))
    assert "remove index 3, index 6" in said
    with pytest.warns(UserWarning, match=r"1 of 3 images are blank.*: index 6"):
        find_images(tmp_path / "a.npz").features(5, 8, 16)


def test_splits_are_what_their_names_and_contents_say(tmp_path):
    pictures(tmp_path / "seg_train")
    assert find_splits(tmp_path).train == tmp_path
    pictures(tmp_path / "train_set")
    splits = find_splits(tmp_path)
    assert splits.train == tmp_path / "train_set" and splits.ignored == ("seg_train",)
    assert "none for the test" in refused(tmp_path)


@pytest.mark.slow  # compiles a model
def test_a_run_on_a_folder_goes_on_when_a_system_writes_into_it(tmp_path):
    folder = tmp_path / "pets"
    for name in ("Train", "val", "Test"):
        pictures(folder / name)
    small = {"n_qubits": 2, "epochs": 1, "encoding": "table", "ansatz": "hardware-efficient"}
    run = qdeq.train(qdeq.TrainConfig(data=str(folder), **small), out=tmp_path / "run")
    before = evaluate(tmp_path / "run")
    assert [*run.summary.classes] == ["cat", "dog"] and before.n_samples == 12
    for name in ("Train", "val", "Test"):
        hide(folder / name)
    hide(folder)
    assert evaluate(tmp_path / "run").accuracy == before.accuracy
    resume(tmp_path / "run")
    image.fromarray(np.eye(6, dtype=np.uint8)).save(folder / "val" / "cat" / "9.png")
    with pytest.raises(UserError, match="pets has changed since the run"):
        evaluate(tmp_path / "run")
