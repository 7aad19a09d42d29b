"""Numbers with a decimal comma (1,5), as spreadsheets of half of Europe write them.

They are read in text tables whose fields no comma separates, where they can mean nothing else; the
preparation of a run keeps in which columns. What comes after this file sees ordinary numbers.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from qdeq.data.frames import is_gap_word, is_number, kind_of, uniques_of
from qdeq.data.inputs import shown
from qdeq.data.tables import require
from qdeq.errors import UserError

_COMMA = re.compile(r"[+\u2212-]?(?=,?\d)(\d*),(\d*)([eE][+-]?\d+)?")
# 1.234 and 1.234.567 may be whole numbers; 0.234, 1.5 and 1234.567 are none.
_MAY_BE_GROUPED = re.compile(r"[+\u2212-]?[1-9]\d{0,2}(\.\d{3})+")


def decimal_comma_columns(frame: Any, columns: Iterable[str], where: str) -> tuple[str, ...]:
    """Which columns are to be read with decimal commas; none if no column surely has them.

    These are the ones all of whose numbers may be written so, if one number of the table can be
    no other: 1,234 alone may be a whole number. Columns of whole numbers are among them, as later
    rows may have a comma.

    Parameters
    ----------
    frame, columns
        A pandas frame, of a file with its cells as texts, and the columns to look at.
    where
        What the table is called in messages.

    Raises
    ------
    UserError
        For a column beside those whose points may all be there to group digits, such as 189.400.
    """
    found, with_points, is_sure = [], {}, False
    for column in columns:
        place = f"{where}: column {column!r}"
        texts = _texts(frame[column], place)
        commas = [match for text in texts if (match := _COMMA.fullmatch(text))]
        numbers = [text for text in texts if is_number(text)]
        if not (commas or numbers) or kind_of(_read(frame[column], place), place).kind == "text":
            continue
        is_sure |= any(len(m[2]) != 3 or m[1][:1] in ("", "0") or len(m[1]) > 3 for m in commas)
        if points := [text for text in numbers if "." in text]:
            with_points[place] = points
        else:
            found.append(column)
    if not is_sure:
        return ()
    for place, points in with_points.items():
        if all(map(_MAY_BE_GROUPED.fullmatch, points)):
            raise _ambiguous(place, points[0])
    return tuple(found)


def read_decimal_commas(
    frame: Any,
    columns: Sequence[str],
    where: str,
    *,
    first_row: int = 1,
    rows: np.ndarray | None = None,
) -> Any:
    """The frame with ordinary numbers in those columns, as far as it has them.

    Parameters
    ----------
    frame, columns, where
        As `decimal_comma_columns` has them.
    first_row, rows
        Number of the first row for messages, or of every row where some were left out.

    Raises
    ------
    UserError
        For a number with a point, which may be there to group digits.
    """
    changed = {}
    for column in columns:
        if column not in frame.columns:
            continue
        place = f"{where}: column {column!r}"
        codes, values = uniques_of(frame[column], place)
        for position, value in enumerate(values):
            if isinstance(value, str) and "." in value and is_number(value):
                index = int(np.flatnonzero(codes == position)[0])
                row = index + first_row if rows is None else rows[index]
                raise _ambiguous(f"{place}, row {row},", value)
        changed[column] = _read(frame[column], place)
    return frame.assign(**changed) if changed else frame


def _texts(series: Any, where: str) -> list[str]:
    """The different texts of a column that say more than that something is missing."""
    pandas = require("pandas")
    if pandas.api.types.is_numeric_dtype(series.dtype):
        return []
    values = uniques_of(series, where)[1]
    return [v.strip() for v in values if isinstance(v, str) and not is_gap_word(v)]


def _read(series: Any, where: str) -> Any:
    codes, values = uniques_of(series, where)
    found = [
        float(value.strip().replace(",", ".").replace("\u2212", "-"))
        if isinstance(value, str) and _COMMA.fullmatch(value.strip())
        else value
        for value in values
    ]
    cells = np.array([*found, None], dtype=object)[codes]
    return require("pandas").Series(cells, index=series.index, name=series.name)


def _ambiguous(where: str, value: str) -> UserError:
    return UserError(
        f"{where} holds {shown(value)} in a table with decimal commas, where its point may be "
        "there to group digits: write it as 1234,5 (a whole number as 1234)"
    )
