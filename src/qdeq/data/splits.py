"""What a dataset is once it is split, and how a split is drawn.

Pixels and features are `images`; names and files are `datasets` and `sources`.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdeq.data.components import ImageComponents
from qdeq.data.preparation import TablePreparation
from qdeq.errors import UserError
from qdeq.names import Task


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Samples of one part of a dataset.

    Parameters
    ----------
    x
        ``(N, d)`` float32: the features.
    y
        ``(N,)`` int32: the position of each sample's class in `Dataset.classes`; of a regression
        ``(N, T)`` float32: its targets in the scale of `Dataset.targets`.
    weight
        ``(N,)`` float32: how much each sample counts in losses; None counts every one as one.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: np.ndarray | slice) -> "Split":
        """The samples of some rows."""
        weight = None if self.weight is None else self.weight[rows]
        return Split(self.x[rows], self.y[rows], weight)

    def __repr__(self) -> str:
        return f"Split(x={self.x.shape}, y={self.y.shape})"


_LARGEST_TARGET = 1e300


@dataclass(frozen=True)
class Targets:
    """What a regression predicts, and the scale it is trained in: (t - mean) / scale.

    Parameters
    ----------
    names
        Of the T targets.
    mean, scale
        T numbers each, in the targets' own units: of the training samples the mean and the
        standard deviation (1 where that is zero).
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        names: Sequence[str] | None = None,
        *,
        weight: np.ndarray | None = None,
    ) -> "Targets":
        """The scale of ``(N, T)`` float64 training targets in their own units.

        With ``(N,)`` weights a sample makes it as much as it counts, and not at all with 0.

        Raises
        ------
        UserError
            If a target's numbers are so large that differences or predictions would overflow.
        """
        names = _target_names(values.shape[1]) if names is None else tuple(names)
        if weight is not None:
            values, weight = values[weight > 0], weight[weight > 0]
        largest = np.abs(values).max(axis=0)
        unit = np.where(largest > 0, largest, 1.0)  # neither squares nor sums overflow
        mean = np.average(values / unit, axis=0, weights=weight)
        scale = np.sqrt(np.average((values / unit - mean) ** 2, axis=0, weights=weight)) * unit
        mean = mean * unit
        bad = np.flatnonzero(largest > _LARGEST_TARGET)
        if len(bad):
            raise UserError(
                f"target {names[bad[0]]!r}: its numbers reach {largest[bad[0]]:.3g}, too large to "
                "be scaled: divide it by a constant"
            )
        # Rounding leaves a constant target a deviation of about eps times its size.
        scale = np.where(scale > 1e-12 * unit, scale, 1.0)
        return cls(names, tuple(mean.tolist()), tuple(scale.tolist()))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """``(N, T)`` targets in their own units -> ``(N, T)`` float32 as they are trained."""
        return ((values - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)

    def restored(self, values: np.ndarray) -> np.ndarray:
        """``(N, T)`` trained scale -> ``(N, T)`` float64 in the targets' own units."""
        return np.asarray(values, np.float64) * np.array(self.scale) + np.array(self.mean)


def _target_names(n_targets: int) -> tuple[str, ...]:
    return ("target",) if n_targets == 1 else tuple(f"target {k}" for k in range(n_targets))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification or regression: three splits that share features and classes or targets.

    Parameters
    ----------
    name
        As in `qdeq.data.DATASETS`, or the name given to `qdeq.data.from_arrays`.
    train, valid, test
        What to learn from, what to choose by, what to report.
    classes
        The name or original label of each class; ``y == k`` means ``classes[k]``. Empty for a
        regression.
    image_shape
        Rows and columns of the pooled image that the features are, row by row;
        ``(1, d)`` if the features never were an image.
    targets
        What a regression predicts; None for a classification.
    preparation
        Of a table: how its columns became features, see `qdeq.data.read_table`.
    image_components
        Of images: the principal components that are their features; None where these are pooled
        pixels or something else.
    source
        Path of the file it was read from.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: tuple[int | str, ...]
    image_shape: tuple[int, int]
    targets: Targets | None = None
    preparation: TablePreparation | None = None
    image_components: ImageComponents | None = None
    source: str | None = None

    @property
    def task(self) -> Task:
        """`"classification"` or `"regression"`."""
        return "classification" if self.targets is None else "regression"

    @property
    def is_of_images(self) -> bool:
        """Whether its features are pooled pixels or components of images."""
        return self.image_components is not None or self.image_shape[0] > 1

    @property
    def n_outputs(self) -> int:
        """Numbers that a model predicts for a sample: the classes' scores, or the targets."""
        return len(self.classes) if self.targets is None else len(self.targets.names)

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
