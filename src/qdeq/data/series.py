"""Series as windows: scaled by their training part, gaps filled from the past, split in time order.

Nothing here looks ahead: what a window holds was known at its last row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from qdeq.data.dataset import Split, Targets
from qdeq.data.inputs import real_array
from qdeq.data.row_index import check_order
from qdeq.data.splits import check_fraction
from qdeq.errors import UserError


@dataclass(frozen=True)
class SeriesPreparation:
    """How the channels of a series become features: scaled, gaps filled forward and marked.

    Parameters
    ----------
    scale
        Mean and standard deviation of every channel.
    marked
        Channels that had gaps where this was fitted: each has a column that is 1 where it has one.

    Examples
    --------
    >>> series = np.array([1.0, np.nan, 3.0, 5.0])
    >>> SeriesPreparation.fit([series]).features(series).round(2).tolist()
    [[-1.2200000286102295, 0.0], [-1.2200000286102295, 1.0], [0.0, 0.0], [1.2200000286102295, 0.0]]
    """

    scale: Targets
    marked: tuple[int, ...]

    @classmethod
    def fit(cls, series: Sequence[Any], *, name: str = "series") -> "SeriesPreparation":
        """From one series or several with the same channels, `(T,)` or `(T, channels)` each.

        Raises
        ------
        UserError
            For a channel without a single number, one that is infinite, or different channels.
        """
        arrays = [series_array(part, name) for part in series]
        if not arrays:
            raise UserError(f"{name}: empty: give at least one series")
        widths = {part.shape[1] for part in arrays}
        if len(widths) > 1:
            raise UserError(
                f"{name}: series of {' and '.join(map(str, sorted(widths)))} channels: give all of "
                "them the same"
            )
        rows = np.concatenate(arrays)
        missing = np.isnan(rows)
        empty = np.flatnonzero(missing.all(axis=0))
        if len(empty):
            raise UserError(
                f"{name}: channel {empty[0]} holds no number in the {len(rows)} rows that its "
                "scale is taken from: leave the channel out"
            )
        found = [
            Targets.of(column[~gap][:, None], [f"channel {number}"])
            for number, (column, gap) in enumerate(zip(rows.T, missing.T, strict=True))
        ]
        scale = Targets(
            tuple(one.names[0] for one in found),
            tuple(one.mean[0] for one in found),
            tuple(one.scale[0] for one in found),
        )
        return cls(scale, tuple(np.flatnonzero(missing.any(axis=0)).tolist()))

    @property
    def n_channels(self) -> int:
        """Channels of a series."""
        return len(self.scale.names)

    @property
    def n_features(self) -> int:
        """Columns that come out: channels, and marks of gaps."""
        return self.n_channels + len(self.marked)

    def features(
        self, series: Any, *, name: str = "series", before: np.ndarray | None = None
    ) -> np.ndarray:
        """`(T, n_features)` float32: scaled, gaps as the number before, before the first the mean.

        With `before` that is no mean but the row which the series goes on from, `(channels,)`,
        scaled.

        Raises
        ------
        UserError
            For other channels than it was fitted to, or numbers that are infinite or, scaled, too
            large for float32.
        """
        values = series_array(series, name)
        if values.shape[1] != self.n_channels:
            raise UserError(
                f"{name}: {values.shape[1]} channels where {self.n_channels} were fitted: give the "
                "same"
            )
        missing = np.isnan(values)
        with np.errstate(over="ignore"):
            scaled = self.scale.scaled(values)
        bad = np.argwhere(~np.isfinite(scaled) & ~missing)
        if len(bad):
            row, channel = (int(index) for index in bad[0])
            raise UserError(
                f"{name}: row {row}, channel {channel} is {values[row, channel].item()!r}, on the "
                "scale of the training part beyond what float32 holds: leave the row out"
            )
        marks = missing[:, list(self.marked)].astype(np.float32)
        return np.concatenate([filled_forward(scaled, before), marks], axis=1)


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of a series in three parts, one after the other in time.

    Attributes
    ----------
    train, valid, test
        `x` is `(n, length, features)`, `y` `(n, horizons, targets)`, both float32 and scaled.
    preparation
        How rows became features, from the training part alone.
    horizons
        Rows from the last of a window to its targets.
    targets
        The channels that are targets.
    """

    train: Split
    valid: Split
    test: Split
    preparation: SeriesPreparation
    horizons: tuple[int, ...]
    targets: tuple[int, ...]

    def restored(self, y: np.ndarray) -> np.ndarray:
        """Targets `(..., T)` in the series' own units, float64."""
        scale, chosen = self.preparation.scale, list(self.targets)
        factor, mean = np.array(scale.scale)[chosen], np.array(scale.mean)[chosen]
        return np.asarray(y, np.float64) * factor + mean


def series_windows(
    series: Any,
    length: int,
    horizons: int | Sequence[int] = 1,
    *,
    targets: int | Sequence[int] | None = None,
    stride: int = 1,
    valid_fraction: float = 0.2,
    test_fraction: float = 0.2,
) -> SeriesWindows:
    """Windows and what comes after them, split in time order.

    A window belongs to the part that holds all of its targets; one whose targets lie in two parts
    belongs to none. It may reach back into the part before, which is known by then. The scale is
    that of the training part alone. Windows whose targets are missing are left out.

    Parameters
    ----------
    series
        `(T,)` or `(T, channels)` real numbers in time order; NaN and None are gaps.
    length
        Rows of a window.
    horizons
        How many rows after a window's last its targets lie, 1 is the next.
    targets
        Channels that are targets; None for all.
    stride
        Rows between the begins of windows.
    valid_fraction, test_fraction
        Parts of the rows at the end, validation before test.

    Raises
    ------
    UserError
        For what is no series, numbers out of range, or a part without a window.

    Examples
    --------
    >>> windows = series_windows(np.arange(20.0), 3, [1, 2])
    >>> windows.train.x.shape, windows.test.y.shape
    ((8, 3, 1), (3, 2, 1))
    >>> windows.restored(windows.test.y)[0, :, 0].round(4).tolist()
    [16.0, 17.0]
    """
    values = series_array(series, "series")
    if hasattr(series, "iloc"):
        check_order(series.index, "series")
    length, stride = whole_number("length", length), whole_number("stride", stride)
    ahead = horizon_list("horizons", horizons)
    chosen = _targets(targets, values.shape[1])
    rows = len(values)
    begins = _boundaries(rows, valid_fraction, test_fraction)
    preparation = SeriesPreparation.fit([values[: begins[0]]])
    features = preparation.features(values)
    with np.errstate(over="ignore"):
        wanted = preparation.scale.scaled(values)[:, list(chosen)]
    last = np.arange(length - 1, rows - max(ahead), stride)  # rows that windows end with
    places = last[:, None] + np.array(ahead)
    is_known = np.isfinite(wanted[places]).all(axis=(1, 2))
    parts = []
    ends = (*begins, rows)
    for name, begin, end in zip(
        ("training", "validation", "test"), (0, *begins), ends, strict=True
    ):
        inside = is_known & (places[:, 0] >= begin) & (places[:, -1] < end)
        if not inside.any():
            raise UserError(
                f"{rows} rows, length={length}, horizons={list(ahead)}: the {name} part, rows "
                f"{begin} to {end - 1}, has no window with all its targets; give more rows, "
                "shorter windows or nearer horizons"
            )
        of_part = last[inside]
        x = features[of_part[:, None] + np.arange(1 - length, 1)]
        parts.append(Split(x, wanted[places[inside]]))
    train, valid, test = parts
    return SeriesWindows(train, valid, test, preparation, ahead, chosen)


def filled_forward(values: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """`(T, d)` with NaN as the last number before it; before the first as `before`, or 0."""
    known = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    latest = np.maximum.accumulate(known, axis=0)
    taken = np.take_along_axis(values, np.maximum(latest, 0), axis=0)
    first = np.zeros_like(values) if before is None else before.astype(values.dtype)
    return np.where(latest < 0, first, taken)


def series_array(series: Any, name: str) -> np.ndarray:
    """`(T, channels)` float64 with NaN for gaps; `UserError` for another shape or an infinity."""
    values = real_array(series, name).astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or 0 in values.shape:
        raise UserError(
            f"{name}: an array of shape {values.shape}: give numbers in time order, (T,), or "
            "(T, channels)"
        )
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, channel = (int(index) for index in infinite[0])
        raise UserError(
            f"{name}: row {row}, channel {channel} is {values[row, channel].item()!r}: give a "
            "finite number, or NaN for a gap"
        )
    return values


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """An integer of at least `least`, or `UserError`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or value < least:
        raise UserError(f"{name}={value!r}: give a whole number of at least {least}")
    return int(value)


def horizon_list(name: str, horizons: Any) -> tuple[int, ...]:
    """One whole number of rows ahead or several, 1 is the next, in rising order; or `UserError`."""
    if isinstance(horizons, np.ndarray) and horizons.ndim == 0:
        horizons = horizons.item()
    given = [horizons] if isinstance(horizons, Integral) else horizons
    is_list = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str | bytes)
    if not is_list or not len(given):
        raise UserError(
            f"{name}={horizons!r}: give a whole number of at least 1, or a list of such"
        )
    found = tuple(whole_number(name, value) for value in given)
    if list(found) != sorted(set(found)):
        raise UserError(f"{name}={horizons!r}: give each once, in rising order")
    return found


def _targets(targets: Any, n_channels: int) -> tuple[int, ...]:
    if targets is None:
        return tuple(range(n_channels))
    given = [targets] if isinstance(targets, Integral) else list(targets)
    found = tuple(whole_number("targets", value, 0) for value in given)
    wrong = [value for value in found if value >= n_channels]
    if wrong or not found or len(set(found)) < len(found):
        raise UserError(
            f"targets={targets!r}: give channels from 0 to {n_channels - 1}, each once, or None "
            "for all"
        )
    return found


def _boundaries(rows: int, valid_fraction: Any, test_fraction: Any) -> tuple[int, int]:
    check_fraction("valid_fraction", valid_fraction)
    check_fraction("test_fraction", test_fraction)
    if valid_fraction + test_fraction >= 1:
        raise UserError(
            f"valid_fraction={valid_fraction} and test_fraction={test_fraction} leave nothing to "
            "train on: together they have to be below 1"
        )
    n_test, n_valid = round(test_fraction * rows), round(valid_fraction * rows)
    if n_test < 1 or n_valid < 1 or rows - n_test - n_valid < 1:
        raise UserError(f"{rows} rows: too few for three parts; give more")
    return rows - n_test - n_valid, rows - n_test
