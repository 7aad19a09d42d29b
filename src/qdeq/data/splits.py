"""What a dataset is once it is split, and how a split is drawn.

Pixels and features are `images`; names and files are `datasets` and `sources`.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdeq.errors import UserError


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Samples of one part of a dataset.

    Parameters
    ----------
    x
        ``(N, d)`` float32: the features.
    y
        ``(N,)`` int32: the position of each sample's class in `Dataset.classes`.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"Split(x={self.x.shape}, y={self.y.shape})"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification task: three splits that share classes and features.

    Parameters
    ----------
    name
        As in `qdeq.data.DATASETS`, or the name given to `qdeq.data.from_arrays`.
    train, valid, test
        What to learn from, what to choose by, what to report.
    classes
        The name or original label of each class; ``y == k`` means ``classes[k]``.
    image_shape
        Rows and columns of the pooled image that the features are, row by row;
        ``(1, d)`` if the features never were an image.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: tuple[int | str, ...]
    image_shape: tuple[int, int]

    @property
    def n_features(self) -> int:
        """Number of features, ``d``."""
        return self.train.x.shape[1]

    @property
    def n_classes(self) -> int:
        """Number of classes, ``C``."""
        return len(self.classes)


def train_valid_indices(
    n_samples: int, *, valid_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw which of `n_samples` train and which validate.

    One permutation by NumPy's `Generator`; the first ``floor((1 - valid_fraction) N)`` train.

    Parameters
    ----------
    n_samples
        Number of samples to share out.
    valid_fraction
        Part held out for validation, between 0 and 1.
    seed
        Seed of the permutation.

    Returns
    -------
    tuple of np.ndarray
        Indices of the training and of the validation samples, in the order drawn.

    Raises
    ------
    UserError
        If the fraction is not between 0 and 1, or the seed not a whole number from 0 on.
    """
    check_fraction("valid_fraction", valid_fraction)
    if not (isinstance(seed, numbers.Integral) and seed >= 0):
        raise UserError(f"split_seed={seed!r}: give a whole number from 0 on")
    order = np.random.default_rng(seed).permutation(n_samples)
    # 1e-6: (1 - 0.93) * 100 is 6.999999999999995 in floating point and means 7.
    n_train = int((1 - valid_fraction) * n_samples + 1e-6)
    return order[:n_train], order[n_train:]


def stratified_indices(
    labels: np.ndarray, *, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the same fraction of every class.

    Every class has a random stream of its own, so leaving other classes out of `labels` does not
    change what is held out of this one: the test samples of digits-4 are among those of
    digits-10.

    Parameters
    ----------
    labels
        ``(N,)`` integers, not negative.
    fraction
        Part of each class to hold out, between 0 and 1; at least one sample of each.
    seed
        Seed of the choice.

    Returns
    -------
    tuple of np.ndarray
        Indices kept and indices held out, both ascending.

    Raises
    ------
    UserError
        If the fraction is not between 0 and 1.
    """
    check_fraction("test_fraction", fraction)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(fraction * len(members)))
        held_out[np.random.default_rng([seed, label]).permutation(members)[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def check_fraction(name: str, value: float) -> None:
    """Raise `UserError` unless ``0 < value < 1``.

    Parameters
    ----------
    name
        What the fraction is called in the user's call.
    value
        What was given.

    Raises
    ------
    UserError
        Naming the value and the range.
    """
    if not (isinstance(value, numbers.Real) and 0 < value < 1):
        raise UserError(f"{name}={value!r}: give a fraction between 0 and 1, such as 0.2")


def assemble(
    name: str,
    learning: Split,
    test: Split,
    *,
    classes: Sequence[int | str],
    image_shape: tuple[int, int],
    valid_fraction: float,
    split_seed: int,
) -> Dataset:
    """Split the learning samples into train and valid, and check that no class is missing.

    Parameters
    ----------
    name
        Name of the dataset, for messages and summaries.
    learning
        The samples to share out between train and valid.
    test
        The test samples, left as they are.
    classes
        The classes, in the order that ``y`` counts them.
    image_shape
        Rows and columns of the pooled image.
    valid_fraction
        Part of `learning` that validates.
    split_seed
        Seed of that split.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If a split has no sample of some class, or the fraction is out of range.
    """
    kept, held_out = train_valid_indices(
        len(learning), valid_fraction=valid_fraction, seed=split_seed
    )
    parts: Mapping[str, Split] = {
        "train": Split(learning.x[kept], learning.y[kept]),
        "valid": Split(learning.x[held_out], learning.y[held_out]),
        "test": test,
    }
    for part, split in parts.items():
        present = np.bincount(split.y, minlength=len(classes)) > 0
        missing = [repr(label) for label, seen in zip(classes, present, strict=True) if not seen]
        if missing:
            raise UserError(
                f"{name}: the {part} split ({len(split)} samples) has none of class "
                f"{', '.join(missing)}: give at least one sample of every class to each split"
            )
    return Dataset(
        name=name,
        train=parts["train"],
        valid=parts["valid"],
        test=parts["test"],
        classes=tuple(classes),
        image_shape=image_shape,
    )
