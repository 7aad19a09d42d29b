"""A dataset from a user's own arrays, with the checks that the named datasets pass."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from qdeq.data.components import fine_side
from qdeq.data.dataset import Dataset, Split
from qdeq.data.extractors import extract
from qdeq.data.images import (
    are_image_shaped,
    check_finite,
    check_not_blank,
    grid_side,
    image_features,
    usual_n_features,
)
from qdeq.data.inputs import (
    cast_features,
    column_names,
    label_array,
    real_array,
    target_array,
    weight_array,
)
from qdeq.data.splits import assemble, assemble_regression, stratified_indices, train_valid_indices
from qdeq.errors import UserError, check_choice
from qdeq.names import Task


def from_arrays(
    images: Any,
    labels: Any,
    *,
    task: Task = "classification",
    name: str = "custom",
    n_features: int | None = None,
    features: str = "pool",
    classes: Sequence[int | str] | None = None,
    targets: Sequence[str] | None = None,
    weights: Any = None,
    white: float | None = None,
    test: tuple[Any, Any] | None = None,
    test_fraction: float = 0.2,
    valid_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Make a dataset from images or from features.

    Images are normalised and pooled exactly as the named datasets are; features are taken as
    they are.

    Parameters
    ----------
    images
        ``(N, H, W)`` grey images, ``(N, H, W, 3)`` colour images, or ``(N, d)`` features: an array
        of NumPy or JAX, a tensor, a data frame, a list of arrays. The channels may also come
        first, and a single one may have an axis.
    labels
        ``(N,)`` whole numbers, booleans or strings, also as a column of a frame. Of a regression
        ``(N,)`` or ``(N, T)`` real numbers, in any units.
    task
        ``"classification"`` or ``"regression"``.
    name
        Name in messages and summaries.
    n_features
        Images: a square, the number of cells of the pooled image, or a number of components; None
        is 16 for up to four classes, 100 for more. Features: None or ``d``.
    features
        What images become: ``"pool"``, pooled pixels, or ``"pca"``, principal components of the
        training images, which the result keeps as `image_components`.
    classes
        The labels that are allowed, in the order in which ``y`` counts them. None takes those
        that occur, sorted.
    white
        The pixel value of full brightness. None is 255 for bytes and 1 for floats; other
        integers need it. Features do not use it.
    test
        Images (or features) and labels of a test set. None holds out `test_fraction` of every
        class (of a regression's samples), the same samples for every `split_seed`.
    test_fraction
        Part to hold out when there is no `test`, between 0 and 1.
    valid_fraction
        Part of the other samples that validates, between 0 and 1.
    split_seed
        Seed of the split into train and valid.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If shapes do not match, a label is missing or not one of `classes`, a class is missing in
        a split, a feature is NaN, infinite or too large for float32 (row and column are named), an
        image is blank, or a pixel lies outside 0 to `white`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> dataset = from_arrays(rng.normal(size=(50, 4)), ["left", "right"] * 25, name="sides")
    >>> dataset.classes, dataset.n_features, len(dataset.test)
    (('left', 'right'), 4, 10)
    """
    check_choice("task", task, get_args(Task))
    check_choice("features", features, ("pool", "pca"))
    columns = column_names(images)
    x = sample_array(images, f"{name} samples")
    wanted = n_features
    if features == "pca":
        if not are_image_shaped(x):
            raise UserError(
                f"features='pca': {name} samples have the shape {x.shape}, features as they are; "
                "leave it out, or give images (N, H, W) or (N, H, W, 3)"
            )
        n_features = fine_side(max(x.shape[1:3])) ** 2
    weight = None if weights is None else weight_array(weights, len(x), name)
    if task == "regression":
        if classes is not None:
            raise UserError(f"classes={classes!r}: a regression has none, leave them out")
        if targets is None:
            targets = column_names(labels)
        learning = _regression(x, labels, name, n_features, white, columns, weight)
        if test is None:
            kept, held_out = train_valid_indices(len(x), valid_fraction=test_fraction, seed=0)
            learning, held = learning[np.sort(kept)], learning[np.sort(held_out)]
        else:
            test_x = _test_samples(test, name, x)
            held = _regression(test_x, test[1], f"{name} test", n_features, white, columns)
            _check_targets(name, learning, held)
        dataset = assemble_regression(
            name,
            learning,
            held,
            names=targets,
            valid_fraction=valid_fraction,
            split_seed=split_seed,
        )
        return extract(dataset, features, wanted)
    y = label_array(labels, name)
    classes = _classes(np.unique(y).tolist() if classes is None else classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise UserError(
            f"{name}: {len(classes)} classes ({', '.join(map(repr, classes))}): "
            "a classification task needs at least two different classes"
        )
    if n_features is None and x.ndim != 2:
        n_features = usual_n_features(len(classes))
    learning = _split(x, y, f"{name} samples", classes, n_features, white, columns)
    learning = Split(learning.x, learning.y, weight)
    if test is None:
        kept, held_out = stratified_indices(learning.y, fraction=test_fraction, seed=0)
        learning, held = learning[kept], learning[held_out]
    else:
        test_x = _test_samples(test, name, x)
        test_y = label_array(test[1], f"{name} test")
        held = _split(test_x, test_y, f"{name} test samples", classes, n_features, white, columns)
    width = learning.x.shape[1]
    side = grid_side(width) if x.ndim != 2 else None
    dataset = assemble(
        name,
        learning,
        held,
        classes=classes,
        image_shape=(1, width) if side is None else (side, side),
        valid_fraction=valid_fraction,
        split_seed=split_seed,
    )
    return extract(dataset, features, wanted)


def _test_samples(test: Any, name: str, x: np.ndarray) -> np.ndarray:
    if not (isinstance(test, list | tuple) and len(test) == 2):
        raise UserError(
            f"test={type(test).__name__}: give a pair, the samples and the labels of the test "
            "set, or None to hold out a part of every class"
        )
    test_x = sample_array(test[0], f"{name} test samples")
    if test_x.ndim != x.ndim or (x.ndim == 2 and test_x.shape[1] != x.shape[1]):
        raise UserError(
            f"{name}: samples have the shape {x.shape} and test samples {test_x.shape}: "
            "both must be images, or features of the same number"
        )
    return test_x


def _regression(
    x: np.ndarray,
    labels: Any,
    name: str,
    n_features: int | None,
    white: float | None,
    columns: Sequence[str] | None,
    weight: np.ndarray | None = None,
) -> Split:
    """Features and ``(N, T)`` float64 targets in their own units."""
    y = target_array(labels, f"{name} targets")
    if len(x) != len(y):
        raise UserError(f"{name}: {len(x)} samples and {len(y)} targets: give one for each")
    features = _features(x, f"{name} samples", n_features, white, columns)
    return Split(features, y, weight)


def _check_targets(name: str, learning: Split, held: Split) -> None:
    if learning.y.shape[1] != held.y.shape[1]:
        raise UserError(
            f"{name}: {learning.y.shape[1]} targets to learn and {held.y.shape[1]} to test: give "
            "both the same"
        )


def _classes(classes: Any) -> tuple[int | str, ...]:
    listed: tuple[Any, ...]
    try:
        listed = tuple(classes)
    except TypeError:
        listed = (None,)
    if not all(isinstance(label, int | str | np.integer | np.bool_) for label in listed):
        raise UserError(f"classes={classes!r}: give the labels that are allowed, as a list")
    return tuple(label.item() if isinstance(label, np.generic) else label for label in listed)


def sample_array(images: Any, name: str) -> np.ndarray:
    """The array, images without an axis for their one channel and colours last."""
    x = real_array(images, name, columns=column_names(images))
    if x.ndim == 4 and x.shape[3] == 1:
        return x[:, :, :, 0]
    if x.ndim == 4 and x.shape[3] != 3 and x.shape[1] == 1:
        return x[:, 0]
    if x.ndim == 4 and x.shape[3] != 3 and x.shape[1] == 3:
        return np.moveaxis(x, 1, 3)
    return x


def _split(
    x: np.ndarray,
    y: np.ndarray,
    name: str,
    classes: tuple[int | str, ...],
    n_features: int | None,
    white: float | None,
    columns: Sequence[str] | None,
) -> Split:
    if len(x) != len(y):
        raise UserError(f"{name}: {len(x)} samples and {len(y)} labels: give one label for each")
    position = {label: index for index, label in enumerate(classes)}
    unknown = [index for index, label in enumerate(y.tolist()) if label not in position]
    if unknown:
        raise UserError(
            f"{name}: label {y[unknown[0]].item()!r} at index {unknown[0]} is not a class "
            f"({len(unknown)} such labels): the classes are {', '.join(map(repr, classes))}"
        )
    counted = np.array([position[label] for label in y.tolist()], dtype=np.int32)
    return Split(_features(x, name, n_features, white, columns), counted)


def _features(
    x: np.ndarray,
    name: str,
    n_features: int | None,
    white: float | None,
    columns: Sequence[str] | None,
) -> np.ndarray:
    is_image = are_image_shaped(x)
    if not (is_image or x.ndim == 2) or 0 in x.shape:
        raise UserError(
            f"{name}: an array of shape {x.shape} and type {x.dtype}: give images (N, H, W) or "
            "(N, H, W, 3), or features (N, d), as real numbers"
        )
    if not is_image:
        if n_features not in (None, x.shape[1]):
            raise UserError(
                f"n_features={n_features!r}: {name} have {x.shape[1]} features, which are taken as "
                "they are, so leave n_features out or give images (N, H, W)"
            )
        return cast_features(x, name=name, columns=columns)
    check_finite(x, name)
    check_not_blank(x, name)
    n_features = 16 if n_features is None else n_features
    return image_features(x, n_features, white=_white(x, name, white))


def _white(images: np.ndarray, name: str, white: float | None) -> float:
    if white is None:
        if images.dtype.kind in "iu" and images.dtype != np.uint8:
            raise UserError(
                f"{name}: pixels of type {images.dtype} have no usual range: "
                "give white, the pixel value of full brightness"
            )
        white = 255.0 if images.dtype == np.uint8 else 1.0
    if not (isinstance(white, numbers.Real) and 0 < white < math.inf):
        raise UserError(
            f"white={white!r}: give a positive number, the pixel value of full brightness"
        )
    white = float(white)
    low, high = images.min(), images.max()
    if low < 0 or high > white:
        raise UserError(
            f"{name}: pixels run from {low} to {high}, outside 0 to white={white:g}: "
            "give white, the pixel value of full brightness"
        )
    return white
