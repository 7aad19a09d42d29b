"""A data set from a file or folder of one's own, told by what it is.

Tables are read by `read`; here are folders of images and arrays of images in a `.npz` file.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from qdeq._folders import say_once
from qdeq.data.components import ImageComponents, fine_side
from qdeq.data.dataset import Dataset, Split
from qdeq.data.extractors import extract
from qdeq.data.frames import listing
from qdeq.data.image_files import check_image_array, pooled, read_image, white_of
from qdeq.data.image_folders import classes_in, find_splits, skipped_in
from qdeq.data.images import grid_side, usual_n_features
from qdeq.data.preparation import TablePreparation
from qdeq.data.read import read_table
from qdeq.data.splits import classification, stratified_indices
from qdeq.data.table_files import (
    ending_of,
    existing,
    open_table,
    read_arrays_file,
    stem_of,
    target_columns,
)
from qdeq.data.table_target import classes_of, labels_of_array, positions
from qdeq.errors import UserError, check_choice
from qdeq.names import Task

_TEST_SEED = 0


def load_file(
    path: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    test: str | Path | None = None,
    group: str | None = None,
    weight: str | None = None,
    ignore: str | Sequence[str] = (),
    components: int | None = None,
    n_features: int | None = None,
    features: str = "pool",
    valid_fraction: float = 0.2,
    split_seed: int = 0,
    preparation: TablePreparation | None = None,
    image_components: ImageComponents | None = None,
) -> Dataset:
    """A data set of a table, of a folder of images, or of arrays.

    Parameters
    ----------
    path
        A table (see `read_table`); a folder ``DIR/class/image.png``, or ``DIR/train/class/...``
        beside ``DIR/test/class/...`` and perhaps ``DIR/val/class/...``, which then validates in
        place of a part of the training images; a ``.npz`` file with ``x`` and ``y``, and perhaps
        ``x_test`` and ``y_test``, of features ``(N, d)`` or images ``(N, H, W)``,
        ``(N, H, W, 3)``.
    target, task, group, weight, ignore, components, preparation
        As of `read_table`, for tables. The target of arrays is ``y``.
    test
        A file or folder of the same kind to test on.
    n_features
        Of images: cells of the pooled image, a square, or components. None is 16 for up to four
        classes, 100 for more.
    features
        What images become, ``"pool"`` or ``"pca"``, see `qdeq.data.load`. A table's features are
        its columns.
    valid_fraction, split_seed
        As of `read_table`.
    image_components
        Those that were fitted to the same images before.

    Raises
    ------
    UserError
        One line for what cannot be read or used, with what to do.
    """
    path = existing(path)
    # An .npz has arrays of both.
    if test is not None and ending_of(path) != ".npz" and existing(test).samefile(path):
        raise UserError(
            f"test={str(test)!r} is what trains: give other samples, or leave it out, and a part "
            "is held out for the test"
        )
    check_choice("features", features, ("pool", "pca"))
    make = partial(
        _images,
        n_features=n_features,
        features=features,
        components=image_components,
        valid_fraction=valid_fraction,
        split_seed=split_seed,
    )
    of_tables = {
        "target": target,
        "task": task,
        "group": group,
        "weight": weight,
        "ignore": ignore or None,
        "components": components,
    }
    if path.is_dir():
        _refuse(of_tables, f"{path} is a folder of images, whose folders are the classes")
        dataset = make(stem_of(path), *_image_folder(path, test))
        return dataclasses.replace(dataset, source=str(path.resolve()))
    if ending_of(path) == ".npz":
        arrays = read_arrays_file(path)
        if "x" in arrays and arrays["x"].ndim != 2:
            _refuse(of_tables, f"{path} holds images, whose labels are y")
            dataset = make(stem_of(path), *_image_arrays(arrays, path, test))
            return dataclasses.replace(dataset, source=str(path.resolve()))
        target = _default_target(path, arrays) if target is None else target
        test = path if test is None and "x_test" in arrays else test
    if target is None:
        columns = open_table(path).columns
        raise UserError(
            f"{path}: name the column to predict (target, --target): its columns are "
            f"{listing(columns)}"
        )
    if n_features is not None:
        raise UserError(
            f"n_features={n_features}: the features of a table are its columns; leave it out, or "
            f"set components to {n_features} for as many principal components"
        )
    return read_table(
        path,
        target,
        task=task,
        test=test,
        group=group,
        weight=weight,
        ignore=ignore,
        components=components,
        valid_fraction=valid_fraction,
        split_seed=split_seed,
        preparation=preparation,
    )


def _refuse(options: Mapping[str, object], what: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name}={value!r}: {what}; leave it out")


def _default_target(path: Path, arrays: Mapping[str, np.ndarray]) -> list[str] | None:
    if "x" not in arrays or "y" not in arrays:
        raise UserError(
            f"{path} has the arrays {listing(list(arrays)) or 'none'}: write it by "
            "np.savez(FILE, x=..., y=...)"
        )
    return target_columns(arrays["y"])


@dataclasses.dataclass(frozen=True, eq=False)
class _Labelled:
    """Images ``(H, W)`` or ``(H, W, 3)`` of bytes or numbers, their labels and names, and where."""

    images: Sequence[np.ndarray]
    labels: np.ndarray
    names: Sequence[str]
    white: float
    where: str


def _images(
    name: str,
    learning: _Labelled,
    held: _Labelled | None,
    validating: _Labelled | None = None,
    *,
    n_features: int | None,
    features: str,
    components: ImageComponents | None,
    valid_fraction: float,
    split_seed: int,
) -> Dataset:
    classes = classes_of(learning.labels, "class", learning.where)
    if features == "pool":
        side = grid_side(usual_n_features(len(classes)) if n_features is None else n_features)
    else:
        side = fine_side(max(max(image.shape[:2]) for image in learning.images))

    def split(part: _Labelled) -> Split:
        y = positions(part.labels, classes, part.where, "class", learning.where)
        x = pooled(part.images, side * side, part.white, part.where, names=part.names)
        return Split(x, y)

    samples = split(learning)
    if held is None:
        kept, held_out = stratified_indices(samples.y, fraction=0.2, seed=_TEST_SEED)
        samples, testing = samples[kept], samples[held_out]
    else:
        testing = split(held)
    if validating is None:
        kept, held_out = stratified_indices(samples.y, fraction=valid_fraction, seed=split_seed)
        samples, valid = samples[kept], samples[held_out]
    else:
        valid = split(validating)
    images = classification(
        name,
        samples,
        valid,
        testing,
        classes=classes,
        image_shape=(side, side),
        all_in_test=held is None,
    )
    return extract(images, features, n_features, components=components)


def _image_folder(
    path: Path, test: str | Path | None
) -> tuple[_Labelled, _Labelled | None, _Labelled | None]:
    splits = find_splits(path)
    held, valid, ignored = splits.test, splits.valid, list(splits.ignored)
    if test is not None:
        held = existing(test)
        if not held.is_dir():
            raise UserError(f"test={str(test)!r} is no folder: give one like {path}")
        if valid is not None and held.samefile(valid):
            valid = None  # it cannot choose the model and test it
        if splits.test is not None and not held.samefile(splits.test):
            ignored.append(splits.test.name)
    elif splits.train != path and held is None:
        beside = "" if valid is None else f" ({valid.name} validates)"
        raise UserError(
            f"{path} has a folder {splits.train.name}{beside} and none for the test: name it test, "
            f"give it by --test, or give {splits.train} to hold out a part of it"
        )
    if ignored:
        say_once(
            f"{path}: the folder{'s' * (len(ignored) > 1)} {listing(ignored)} beside "
            f"{splits.train.name} {'are' if len(ignored) > 1 else 'is'} not read"
        )
    return (
        _read_folder(splits.train),
        None if held is None else _read_folder(held),
        None if valid is None else _read_folder(valid),
    )


def _read_folder(folder: Path) -> _Labelled:
    classes = classes_in(folder)
    skipped = skipped_in(folder)
    if skipped:
        say_once(
            f"{folder}: skipped {listing(skipped, 5)}: images of a class lie in its folder, and "
            "have an ending that is known as one"
        )
    files = [file for own in classes.values() for file in own]
    labels: list[int | str] = [name for name, own in classes.items() for _ in own]
    if all(name.isdecimal() and str(int(name)) == name for name in classes):
        labels = [int(label) for label in labels]  # not 01, which would be the same class as 1
    names = [file.relative_to(folder).as_posix() for file in files]
    images = [read_image(file) for file in files]
    return _Labelled(images, np.array(labels, dtype=object), names, 255.0, str(folder))


def _image_arrays(
    arrays: Mapping[str, np.ndarray], path: Path, test: str | Path | None
) -> tuple[_Labelled, _Labelled | None]:
    if test is not None:
        held_arrays = read_arrays_file(existing(test))
        return _of_arrays(arrays, path, ""), _of_arrays(held_arrays, Path(test), "")
    held = _of_arrays(arrays, path, "_test") if "x_test" in arrays else None
    return _of_arrays(arrays, path, ""), held


def _of_arrays(arrays: Mapping[str, np.ndarray], path: Path, part: str) -> _Labelled:
    x, y = arrays.get(f"x{part}"), arrays.get(f"y{part}")
    if x is None or y is None:
        raise UserError(f"{path} needs the arrays x{part} and y{part}: it has {', '.join(arrays)}")
    check_image_array(x, f"{path}: x{part}")
    if y.shape != (len(x),):
        raise UserError(
            f"{path}: y{part} has the shape {y.shape}: give one label for each of the {len(x)} "
            f"images of x{part}"
        )
    labels = labels_of_array(y, f"{path}: y{part}")
    names = [f"index {row}" for row in range(len(x))]
    return _Labelled(list(x), labels, names, white_of(x), f"{path} (x{part})")
