"""How a dataset is split: which samples train, validate and test, and what each part must have.

What comes out is `dataset.py`; pixels and features are `images`, names and files `datasets` and
`sources`.
"""

import numbers
from collections.abc import Mapping, Sequence

import numpy as np

from qdeq.data.dataset import Dataset, Split, Targets
from qdeq.errors import UserError


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


def group_indices(
    groups: np.ndarray,
    labels: np.ndarray | None,
    *,
    fraction: float,
    seed: int,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out whole groups: of 50 draws the one nearest to the fraction of rows and classes.

    Parameters
    ----------
    groups
        ``(N,)``: what each sample belongs to.
    labels
        ``(N,)`` integers, not negative, of a classification.
    fraction
        Part of the samples to hold out, between 0 and 1.
    seed
        Seed of the draws.
    name
        Name of the dataset, for messages.

    Returns
    -------
    tuple of np.ndarray
        Indices kept and indices held out, both ascending.

    Raises
    ------
    UserError
        With one group.
    """
    from sklearn.model_selection import GroupShuffleSplit

    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise UserError(
            f"{name}: one group alone cannot be split: training, validation and test need a group "
            "each at least"
        )
    strata = np.zeros(len(groups), dtype=int) if labels is None else labels
    sizes = np.bincount(strata)
    draws = GroupShuffleSplit(50, test_size=fraction, random_state=seed)
    best = min(
        (held_out for _, held_out in draws.split(groups, groups=groups)),
        key=lambda rows: _unevenness(
            np.bincount(strata[rows], minlength=len(sizes)), sizes, fraction
        ),
    )
    kept = np.ones(len(groups), dtype=bool)
    kept[best] = False
    return np.flatnonzero(kept), np.flatnonzero(~kept)


def _unevenness(held_out: np.ndarray, sizes: np.ndarray, fraction: float) -> float:
    """How far a draw is from holding out the fraction of every class; a class of none is far."""
    present = sizes > 0
    parts = held_out[present] / sizes[present]
    empty = ((parts == 0) | (parts == 1)).sum()
    return float(np.abs(parts - fraction).mean() + empty)


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
    """Split the learning samples of a classification, and check that no class is missing.

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
    return classification(
        name,
        learning[kept],
        learning[held_out],
        test,
        classes=classes,
        image_shape=image_shape,
    )


def classification(
    name: str,
    train: Split,
    valid: Split,
    test: Split,
    *,
    classes: Sequence[int | str],
    image_shape: tuple[int, int],
    all_in_test: bool = True,
) -> Dataset:
    """A classification of three splits, each of which has samples of every class.

    Parameters
    ----------
    name, classes, image_shape
        See `assemble`.
    train, valid, test
        The splits.
    all_in_test
        Whether the test split must have every class, too.

    Raises
    ------
    UserError
        If a split has no sample of some class.
    """
    parts: Mapping[str, Split] = {"train": train, "valid": valid}
    parts = {**parts, "test": test} if all_in_test else parts
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
        train=train,
        valid=valid,
        test=test,
        classes=tuple(classes),
        image_shape=image_shape,
    )


def assemble_regression(
    name: str,
    learning: Split,
    test: Split,
    *,
    names: Sequence[str] | None = None,
    valid_fraction: float,
    split_seed: int,
) -> Dataset:
    """Split the learning samples of a regression, and scale targets by those that train.

    Parameters
    ----------
    name
        Name of the dataset, for messages and summaries.
    learning, test
        Samples whose ``y`` is ``(N, T)`` float64 in the targets' own units.
    names
        Of the targets.
    valid_fraction, split_seed
        See `assemble`.

    Raises
    ------
    UserError
        If a split is empty, a target cannot be scaled, or the fraction is out of range.
    """
    kept, held_out = train_valid_indices(
        len(learning), valid_fraction=valid_fraction, seed=split_seed
    )
    return scaled_regression(name, learning[kept], learning[held_out], test, names=names)


def scaled_regression(
    name: str,
    train: Split,
    valid: Split,
    test: Split,
    *,
    names: Sequence[str] | None = None,
    targets: Targets | None = None,
) -> Dataset:
    """A regression of three splits whose ``y`` is ``(N, T)`` float64 in the targets' own units.

    Their scale is `targets`, if it is known from before.

    Raises
    ------
    UserError
        If a split is empty, or a target cannot be scaled.
    """
    for part, split in {"train": train, "valid": valid, "test": test}.items():
        if not len(split):
            raise UserError(
                f"{name}: the {part} split has no sample: give more samples or other fractions"
            )
    if targets is None:
        targets = Targets.of(train.y, names, weight=train.weight)
    parts = [Split(s.x, targets.scaled(s.y), s.weight) for s in (train, valid, test)]
    return Dataset(name, *parts, classes=(), image_shape=(1, train.x.shape[1]), targets=targets)
