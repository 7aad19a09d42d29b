"""The index of a series of pandas: whether its rows come in time order, and how it goes on.

What is made of the rows themselves is `series`.
"""

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from qdeq.data.frames import is_date
from qdeq.errors import UserError


@dataclass(frozen=True)
class RowIndex:
    """How the index of a series of pandas goes on after its last row.

    Attributes
    ----------
    last
        That row's part of the index.
    step
        From a row to the next: a whole number, or a frequency of pandas. None where all rows that
        were fitted do not have one, and rows are counted from the last one instead.
    rises
        Whether every row comes after the one before it.
    """

    last: Any
    step: Any
    rises: bool

    @classmethod
    def of(cls, index: Any) -> "RowIndex":
        import pandas as pd

        step = None
        if isinstance(index, pd.MultiIndex) or index.hasnans:
            pass
        elif isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pandas 3.1: it will return no text but an offset
                step = index.freq or pd.infer_freq(index)
        elif isinstance(index, pd.PeriodIndex) or pd.api.types.is_integer_dtype(index):
            numbers = index.asi8 if isinstance(index, pd.PeriodIndex) else index
            steps = {b - a for a, b in pairwise(map(int, numbers))}
            step = steps.pop() if len(steps) == 1 and index.is_unique else None
        return cls(index[-1:], step, bool(index.is_monotonic_increasing and index.is_unique))

    def at(self, horizon: np.ndarray) -> Any:
        """Of rows ahead, rising."""
        import pandas as pd

        if self.step is None:
            return pd.Index(horizon)
        last, name, periods = self.last[0], self.last.name, int(horizon[-1]) + 1
        if isinstance(self.last, pd.DatetimeIndex | pd.TimedeltaIndex):
            is_date = isinstance(self.last, pd.DatetimeIndex)
            make = pd.date_range if is_date else pd.timedelta_range
            dates: Any = make(last, periods=periods, freq=self.step, name=name)
            # A last date beside the frequency, such as a Saturday of business days, is no part.
            return dates[dates != last][horizon - 1]
        is_period = isinstance(self.last, pd.PeriodIndex)
        # Numbers of a period count single months where its own are of two; and uint8 ends at 255.
        begin = int(self.last.asi8[0] if is_period else last)
        ahead = [begin + self.step * int(h) for h in horizon]
        if not is_period:
            return pd.Index(ahead, name=name)
        return pd.PeriodIndex([pd.Period(ordinal=n, freq=last.freq) for n in ahead], name=name)

    def after(self, rows: int) -> "RowIndex":
        """After rows that came without an index."""
        return self if self.step is None else replace(self, last=self.at(np.array([rows])))

    def with_rows(self, index: Any) -> "RowIndex":
        """After rows that came with theirs; `UserError` for one that is not after the last."""
        if not self.rises:  # of names in no order, nothing can be said
            return replace(self, last=index[-1:])
        try:
            follows = index[0] > self.last[0] and index.is_monotonic_increasing
        except (TypeError, ValueError):  # dates and numbers, dates with a time zone and without
            follows = False
        if not follows:
            raise UserError(
                f"y: an index from {index[0]} to {index[-1]} after {self.last[0]}, the last row "
                "known: give rows that come after it, in order, or an array without an index"
            )
        if self.step is not None:
            steps = self.at(np.arange(1, len(index) + 1))
            missed = np.flatnonzero(steps < index)
            if len(missed):
                row = int(missed[0])
                raise UserError(
                    f"y: {index[row]} in its index where the series goes on with {steps[row]}: "
                    "give a row for every step, NaN where nothing is known"
                )
        return replace(self, last=index[-1:])


def _is_time(index: Any) -> bool:
    """Whether rows stand in it at dates, times or numbers, and not under names."""
    import pandas as pd

    times = pd.DatetimeIndex | pd.TimedeltaIndex | pd.PeriodIndex
    return isinstance(index, times) or pd.api.types.is_numeric_dtype(index)


def check_order(index: Any, name: str) -> None:
    """Raise `UserError` for dates or numbers that go back, of which the series would run so."""
    import pandas as pd

    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    remedy = f"rows in time order, as {name}.sort_index() has them, or an array without an index"
    if len(levels) > 1:  # numbers may go back, as months do where years are the other level
        levels = [level for level in levels if not pd.api.types.is_numeric_dtype(level)]
        remedy = "one series alone, whose index holds its times and no names of series"
    for times in levels:
        if _is_time(times) and not times.hasnans and not times.is_monotonic_increasing:
            row = next(row for row, (a, b) in enumerate(pairwise(times), 1) if b < a)
            raise UserError(
                f"{name}: {times[row]} comes after {times[row - 1]} in its index (row {row}): give "
                + remedy
            )


def warn_of_index(index: Any) -> None:
    """Say that rows count as equally spaced where their dates or numbers are not, or are texts."""
    if _is_time(index):
        steps = np.diff(getattr(index, "asi8", index))
        if steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6, atol=0):  # as of 0.1, 0.2, 0.3
            return
        row = int(np.abs(steps - np.median(steps)).argmax()) + 1
        what = f"has no one step (row {row}: {index[row]} after {index[row - 1]})"
        remedy = "a row for every step, as y.asfreq has them, NaN where nothing is known"
    elif is_date(index[0]) and is_date(index[-1]):
        what = f"holds dates that pandas does not take for such ({index[0]!r}, ...)"
        remedy = "pd.to_datetime of it"
    else:
        return
    warnings.warn(
        f"y: its index {what}, so rows are taken for equally spaced and in time order and "
        f"forecasts are numbered from 1: give {remedy}, or y.to_numpy()",
        stacklevel=4,
    )


def check_same_rows(x: Any, wanted: Any) -> None:
    """Raise `UserError` where X has an index, and it is not that of the rows that it is beside."""
    given = x.index if hasattr(x, "iloc") else None
    if given is None or wanted is None or _only_counts(given) or _only_counts(wanted):
        return
    if given.equals(wanted):  # missing dates as well
        return
    for row, (own, other) in enumerate(zip(given, wanted, strict=False)):
        if own != other:
            raise UserError(
                f"X: {own} in its index stands beside {other} (row {row}): give the rows of X that "
                "belong to those of y or of the forecast, in their order, or an array without an "
                "index"
            )


def _only_counts(index: Any) -> bool:
    """Whether an index is the one that pandas gives to rows without any."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
