"""What a dataset is once it is split: features, labels or targets, and what they came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.data.components import ImageComponents
from qdeq.data.preparation import TablePreparation
from qdeq.errors import UserError, check_kind
from qdeq.names import Task

_LARGEST_TARGET = 1e300


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
        ``(N,)`` float32: how much each sample counts in losses and scores; None counts every one as
        one.
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


def check_dataset(dataset: Any) -> None:
    """Raise `UserError` for what is no data set, such as bare arrays."""
    check_kind("dataset", dataset, Dataset, "what qdeq.data.from_arrays or read_table returns")
