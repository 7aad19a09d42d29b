"""Sequences of one length or of many as one padded array; what people hold them in is read here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.data.inputs import column_names, real_array
from qdeq.data.series import series_array
from qdeq.errors import UserError, check_choice

#: Names of the order of axes in an array of sequences.
LAYOUTS = ("time-first", "channels-first")


@dataclass(frozen=True)
class Sequences:
    """Sequences in one array.

    Attributes
    ----------
    x
        `(N, T, d)` float32, 0 beyond the end of a sequence.
    mask
        `(N, T)`: where a sequence is; None where all have length T.
    y
        What is to be said of them, `(N, ...)`, of sites `(N, T, ...)`; None where nothing is.
    counts
        How much each sample, `(N,)`, or each of its sites, `(N, T)`, counts.
    """

    x: np.ndarray
    mask: np.ndarray | None = None
    y: np.ndarray | None = None
    counts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: np.ndarray | slice) -> "Sequences":
        """Some of them."""
        parts = (self.x, self.mask, self.y, self.counts)
        return Sequences(*(None if part is None else part[rows] for part in parts))  # pyright: ignore

    @property
    def lengths(self) -> np.ndarray:
        """`(N,)`."""
        if self.mask is None:
            return np.full(len(self.x), self.x.shape[1])
        return self.mask.sum(axis=1)


def sequence_list(X: Any, layout: str = "time-first", *, name: str = "X") -> list[np.ndarray]:
    """Sequences as a list of `(T_i, d)` float64 arrays, NaN for gaps.

    Parameters
    ----------
    X
        An array `(N, T, d)`, of one channel also `(N, T)`; or a list (or a series or array of
        objects) of arrays `(T_i, d)` or `(T_i,)`, which may differ in length.
    layout
        "time-first"; or "channels-first" for arrays `(N, d, T)` and `(d, T_i)`, sktime's numpy3D.
    name
        For messages.

    Raises
    ------
    UserError
        For another shape, an empty sequence, an infinity, or something that is no number.

    Examples
    --------
    >>> [one.shape for one in sequence_list([[1.0, 2.0], [3.0, 4.0, 5.0]])]
    [(2, 1), (3, 1)]
    """
    check_choice("layout", layout, LAYOUTS)
    turned = layout == "channels-first"
    listed = one_by_one(X)
    if listed is None:
        whole = real_array(X, name)
        if whole.ndim == 2:
            whole = whole[:, :, None]
        elif whole.ndim == 3:
            whole = np.swapaxes(whole, 1, 2) if turned else whole
        if whole.ndim != 3 or 0 in whole.shape:
            axes = "(N, d, T)" if turned else "(N, T, d)"
            raise UserError(
                f"{name}: an array of shape {whole.shape}: give sequences {axes}, of one channel "
                "(N, T), or a list of arrays"
            )
        return [series_array(one, f"{name}[{i}]") for i, one in enumerate(whole)]
    if not listed:
        raise UserError(f"{name}: no sequences: give at least one")
    found = []
    for number, one in enumerate(listed):
        if turned and column_names(one) is not None:
            raise UserError(
                f"{name}[{number}]: a frame, whose rows are steps, with layout='channels-first': "
                "give layout='time-first'"
            )
        values = real_array(one, f"{name}[{number}]")
        found.append(series_array(values.T if turned else values, f"{name}[{number}]"))
    widths = [one.shape[1] for one in found]
    wrong = next((i for i, width in enumerate(widths) if width != widths[0]), None)
    if wrong is not None:
        raise UserError(
            f"{name}[{wrong}]: {widths[wrong]} channels where {name}[0] has {widths[0]}: give "
            "every sequence the same"
        )
    return found


def one_by_one(X: Any) -> list[Any] | None:
    """Sequences that are held one by one, as a list; None for one array or frame of them all.

    >>> one_by_one(np.array([[1.0, 2.0], [3.0]], dtype=object))
    [[1.0, 2.0], [3.0]]
    """
    if isinstance(X, list | tuple):
        return list(X) if column_names(X) is None else None
    if getattr(X, "ndim", None) != 1 or str(getattr(X, "dtype", "")) != "object":
        return None
    cells = list(X)
    some = any(isinstance(one, list | tuple) or getattr(one, "ndim", 0) > 0 for one in cells)
    return cells if some else None


def check_columns(given: Any, names: Sequence[str] | None, name: str) -> None:
    """Refuse a frame with other columns, or in another order; what has no names may be anything.

    Parameters
    ----------
    given
        A frame, or anything else.
    names
        Of the columns that were fitted; None where they had none.
    name
        What `given` is called in the message.

    Examples
    --------
    >>> check_columns(np.ones((3, 2)), ["a", "b"], "X")
    """
    found, known = _named(given, names)
    if found == known:
        return
    remedy = "give them in that order" if sorted(found) == sorted(known) else "give the same ones"
    raise UserError(f"{name}: the columns {_few(found)} where {_few(known)} were fitted: {remedy}")


def channel_names(X: Any, names: Sequence[str] | None = None) -> list[str] | None:
    """The names that the frames in a list of sequences share, those known before first.

    Raises
    ------
    UserError
        Naming the first frame that has other columns.
    """
    known = None if names is None else list(names)
    for number, one in enumerate(one_by_one(X) or ()):
        check_columns(one, known, f"X[{number}]")
        known = column_names(one) if known is None else known
    return known


def check_steps(X: Any, names: Sequence[str] | None) -> None:
    """Refuse a frame with a sequence a row whose columns, which are steps, come in another order.

    It may have more steps or fewer: a sequence of any length is read.
    """
    found, known = _named(X, names)
    here = [step for step in found if step in set(known)]
    there = [step for step in known if step in set(found)]
    if here != there:
        raise UserError(
            f"X: the columns {_few(here)}, which are steps, where {_few(there)} were fitted: give "
            "them in that order"
        )


def _named(given: Any, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names of the columns and of those of the fit; none where only one of the two has names.

    Columns that are counted have names where the others are the same numbers in another order.
    """
    found = column_names(given)
    some = found or names
    if some is None or not hasattr(given, "columns"):
        return [], []
    counted = [str(number) for number in range(len(some))]
    if (found is None or names is None) and sorted(some) != sorted(counted):
        return [], []
    return found or counted, list(names or counted)


def _few(names: Sequence[str]) -> str:
    """Names for a message, the first eight."""
    return ", ".join([repr(name) for name in names[:8]] + ["..."] * (len(names) > 8))


def padded(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """`(N, T, ...)` with 0 behind the shorter ones, and where they are; None: nothing is added."""
    lengths = np.array([len(part) for part in parts])
    longest = int(lengths.max())
    if (lengths == longest).all():
        return np.stack(parts), None
    out = np.zeros((len(parts), longest, *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out, np.arange(longest) < lengths[:, None]
