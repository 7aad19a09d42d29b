"""What users hold data in (arrays, frames, tensors, lists) as NumPy arrays, or one clear line.

What the numbers mean, images or features, is decided by the callers.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from qdeq.errors import UserError

# How a cell of a table says that it is empty, beside NaN: None, pandas' NA and NaT.
_MISSING = ("NoneType", "NAType", "NaTType")


def cast_features(
    values: Any,
    dtype: DTypeLike = np.float32,
    *,
    name: str = "features",
    columns: Sequence[Any] | None = None,
) -> np.ndarray:
    """Features in a model's type, every one of them finite after the cast.

    Parameters
    ----------
    values
        ``(N, d)`` real numbers: an array of NumPy or JAX, a tensor, a data frame, nested lists.
    dtype
        Type that the model computes in.
    name
        What the features are called in messages.
    columns
        ``d`` names for messages. None takes those of a frame.

    Returns
    -------
    np.ndarray
        ``(N, d)`` in `dtype`.

    Raises
    ------
    UserError
        Naming row, column (both counted from 0) and value of the first number that is missing,
        NaN, infinite or too large for `dtype`, or that is no real number; or for another shape.

    Examples
    --------
    >>> cast_features([[1, 2.5], [3, 4]])
    array([[1. , 2.5],
           [3. , 4. ]], dtype=float32)
    >>> cast_features([[1, 2.5], [3, 1e39]])
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: features: row 1, column 1 is 1e+39, beyond what float32 holds \
(3.4e+38), as 1 of 4 numbers is: divide the column by a constant
    """
    columns = column_names(values) if columns is None else [str(column) for column in columns]
    array = real_array(values, name, columns=columns)
    if array.ndim != 2:
        raise UserError(
            f"{name}: an array of shape {array.shape}: give features (N, d), one sample per row"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    finite = np.isfinite(cast)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        value, count = array[row, column].item(), int((~finite).sum())
        many = f"as {count} of {cast.size} numbers {'is' if count == 1 else 'are'}"
        if np.isfinite(array[row, column]):
            largest = float(np.finfo(cast.dtype).max)
            what = f"beyond what {cast.dtype} holds ({largest:.2g}), {many}"
            remedy = "divide the column by a constant"
        else:
            what = f"{'missing' if math.isnan(value) else 'not finite'}, {many}"
            remedy = "fill such numbers in, or leave their rows out"
        raise UserError(f"{name}: {_place((row, column), columns)} is {value!r}, {what}: {remedy}")
    return cast


def real_array(values: Any, name: str, *, columns: Sequence[str] | None = None) -> np.ndarray:
    """Real numbers of any container, in its own type where NumPy has that type.

    Parameters
    ----------
    values
        An array of NumPy or JAX, a tensor, a data frame, nested lists, a list of arrays. Missing
        numbers become NaN.
    name, columns
        For messages, as in `cast_features`.

    Returns
    -------
    np.ndarray
        Of bool, whole or floating-point numbers.

    Raises
    ------
    UserError
        For samples of different shapes, text, dates, complex numbers, sparse matrices, or something
        that is no array.
    """
    array = _array(values, name)
    if array.dtype.kind in "fiub":
        return array
    if array.dtype.kind == "O":
        return _numbers(array, name, columns)
    if array.dtype.kind == "V" and array.dtype.names is None:
        # The short floats of JAX (bfloat16) are types of their own, which float64 contains.
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            pass
    example = f", such as {shown(array.flat[0])}" if array.size else ""
    reason = "Complex data not supported, " if array.dtype.kind == "c" else ""
    raise UserError(f"{name}: values of type {array.dtype}{example}: {reason}give real numbers")


def label_array(values: Any, name: str) -> np.ndarray:
    """One whole number or one string for every sample.

    Parameters
    ----------
    values
        ``(N,)`` whole numbers (also as floats), booleans or strings, in any container.
    name
        What the samples are called in messages.

    Returns
    -------
    np.ndarray
        ``(N,)`` int64 or strings.

    Raises
    ------
    UserError
        Naming the position of the first label that is missing, of another type, or of another
        type than the others.
    """
    array = _array(values, f"{name}: labels")
    wanted = "give one whole number or one string per sample"
    if array.ndim != 1:
        raise UserError(
            f"{name}: labels have the shape {array.shape} and the type {array.dtype}: {wanted}"
        )
    if array.dtype.kind in "ib":
        return array.astype(np.int64)
    if array.dtype.kind == "U" and isinstance(values, list | tuple):
        array = np.array(values, dtype=object)  # NumPy makes "nan" of a NaN among strings
    cells = array.tolist()
    check_no_label_missing(cells, name)
    is_text = bool(cells) and isinstance(cells[0], str)
    accepts: Callable[[Any], bool] = (lambda c: isinstance(c, str)) if is_text else _is_whole
    for index, cell in enumerate(cells):
        if not accepts(cell):
            raise UserError(
                f"{name}: label {shown(cell)} at index {index} of labels of type {array.dtype}: "
                f"{wanted}"
            )
    return np.array(cells, dtype=str) if is_text else np.array([int(c) for c in cells], np.int64)


def check_no_label_missing(labels: Any, name: str) -> None:
    """Raise `UserError` for the first of some labels, in any container, that is missing."""
    if not isinstance(labels, list | tuple):  # of which NumPy makes "nan" of a NaN among strings
        array = np.asarray(labels)
        labels = array.tolist() if array.dtype == object else []
    for index, label in enumerate(labels):
        if is_missing(label):
            raise UserError(
                f"{name}: the label at index {index} is missing ({label}): fill it in, or leave "
                "the sample out"
            )


def target_array(values: Any, name: str) -> np.ndarray:
    """The real numbers that a regression predicts, one or several for every sample.

    Parameters
    ----------
    values
        ``(N,)`` or ``(N, T)`` finite real numbers, in any container.
    name
        What they are called in messages.

    Returns
    -------
    np.ndarray
        ``(N, T)`` float64.

    Raises
    ------
    UserError
        For another shape, or naming the first that is missing, not finite or no real number.
    """
    array = real_array(values, name, columns=column_names(values))
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise UserError(
            f"{name}: an array of shape {array.shape}: give one number for each sample, (N,), or "
            "several, (N, T)"
        )
    return cast_features(array, np.float64, name=name, columns=column_names(values))


def weight_array(values: Any, n_samples: int, name: str) -> np.ndarray:
    """How much each sample counts: ``(N,)`` float32, not negative, not all of them zero.

    Raises
    ------
    UserError
        Naming what is wrong with them.
    """
    array = real_array(values, f"{name}: weights").astype(np.float64)
    if array.shape != (n_samples,):
        raise UserError(
            f"{name}: weights of shape {array.shape} for {n_samples} samples: give one for each"
        )
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(bad):
        raise UserError(
            f"{name}: the weight at index {bad[0]} is {array[bad[0]]}: give finite numbers of at "
            "least 0"
        )
    if not array.any():
        raise UserError(f"{name}: all weights are zero: give at least one sample a positive weight")
    # Losses are means over weights: what counts is their ratio, which no unit changes.
    return (array / array.max()).astype(np.float32)


def without_mask(values: Any, name: str) -> Any:
    """Values as they are; scikit-learn would take what stands under a mask for data."""
    if np.ma.is_masked(values):
        raise UserError(
            f"{name}: {np.ma.count_masked(values)} of its {np.size(values)} values are masked: "
            "fill them in, or leave their samples out"
        )
    return values


def column_names(values: Any) -> list[str] | None:
    """The names of a frame's columns as texts; None where columns are only counted, from 0."""
    columns = getattr(values, "columns", None)
    if columns is None or callable(columns):
        return None
    names = list(columns)
    return None if names == list(range(len(names))) else [str(name) for name in names]


def _array(values: Any, name: str) -> np.ndarray:
    kind = type(values).__name__
    if hasattr(values, "toarray") or hasattr(values, "todense"):
        raise UserError(f"{name}: a sparse {kind}: give a dense array, as its toarray() returns")
    if hasattr(values, "detach"):  # a PyTorch tensor, perhaps on a GPU or with a gradient
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            array = array.astype(object)
            array[np.ma.getmaskarray(values)] = None
        # A column of arrays, such as a frame holds images in.
        nested = array.dtype == object and array.ndim == 1 and len(array) > 0
        if nested and all(_shape(cell) for cell in array):
            values = array.tolist()
            array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(_why_no_array(values, name, error)) from error
    if array.ndim == 0:
        raise UserError(f"{name}: a single {kind} is no array of samples: give one, or a list")
    return array


def _why_no_array(values: Any, name: str, error: Exception) -> str:
    samples = list(values) if isinstance(values, list | tuple | np.ndarray) else []
    shapes = [_shape(sample) for sample in samples]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            return (
                f"{name}: the sample at index 0 has the shape {shapes[0]}, the one at index "
                f"{index} {shape}: give every sample the same shape"
            )
    if shapes and shapes[0] is None:
        return f"{name}: the rows of the sample at index 0 differ in length: give every row as many"
    message = (str(error) or type(error).__name__).splitlines()[0]
    return f"{name}: {type(values).__name__} cannot be read as an array ({message})"


def _shape(sample: Any) -> tuple[int, ...] | None:
    """None: rows of different lengths."""
    try:
        return np.shape(sample)
    except ValueError:
        return None


def _numbers(array: np.ndarray, name: str, columns: Sequence[str] | None) -> np.ndarray:
    values = np.empty(array.shape)
    for place, cell in np.ndenumerate(array):
        if is_missing(cell):
            values[place] = np.nan
            continue
        try:
            if isinstance(cell, str | bytes | complex | np.datetime64 | np.timedelta64):
                raise TypeError
            values[place] = float(cell)
        except OverflowError as error:
            raise UserError(
                f"{name}: {_place(place, columns)} is {shown(cell)}, beyond what float64 holds: "
                "divide the column by a constant"
            ) from error
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name}: {_place(place, columns)} is {shown(cell)}, of the type "
                f"{type(cell).__name__}: give real numbers"
            ) from error
    return values


def _place(place: tuple[int, ...], columns: Sequence[str] | None) -> str:
    if len(place) != 2:
        return f"the value at index {place[0] if len(place) == 1 else place}"
    row, column = place
    named = f" ({columns[column]!r})" if columns and column < len(columns) else ""
    return f"row {row}, column {column}{named}"


def is_missing(cell: Any) -> bool:
    """Whether a cell of a table is empty: NaN, None, or pandas' NA and NaT."""
    if type(cell).__name__ in _MISSING:
        return True
    return isinstance(cell, float | np.floating) and math.isnan(float(cell))


def _is_whole(cell: Any) -> bool:
    if isinstance(cell, float | np.floating):
        return math.isfinite(float(cell)) and float(cell).is_integer() and bool(abs(cell) < 2**63)
    if isinstance(cell, numbers.Integral):
        return -(2**63) <= int(cell) < 2**63
    return isinstance(cell, bool | np.bool_)


def shown(value: Any) -> str:
    """A value for a message, on one line and not longer than 40 characters."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:37]}..."
