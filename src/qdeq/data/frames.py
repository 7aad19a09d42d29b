"""Columns of a data frame as numbers or texts, and what kind a column is.

A column that holds numbers is one of float64 with NaN where a number is missing; any other is one
of texts with None. What is made of them is `preparation`, where files are read is `table_files`.
"""

import datetime
import decimal
import difflib
import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qdeq.data.inputs import is_missing, shown
from qdeq.data.tables import require
from qdeq.errors import UserError

Kind = Literal["number", "text"]

# So many texts among numbers (`unknown`, `?`, `n/a`) mean that a number is missing; a column with
# more of them is one of texts.
_MISSING_WORDS = 10
_MISSING_FRACTION = 0.5
_TIME = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(\s?[AP]M)?"
_MONTH = r"(JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEPT?|OCT|NOV|DEC)[A-Z]*\.?"
_DATE = re.compile(
    rf"{_TIME}"
    r"|(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})"
    rf"|{_MONTH}\s\d{{1,2}},?\s\d{{4}}|\d{{1,2}}\.?[\s-]{_MONTH}[\s-](\d{{4}}|\d{{2}}))"
    rf"([T ]{_TIME})?\s*(Z|UTC|[+-]\d{{2}}:?\d{{2}})?",
    re.IGNORECASE,
)
# 1,5 and 1,234.50; 1 234,50 and 1.234.567; (12) and 12-, which are negative; $12 and 12 %.
_WRITTEN_OUT = re.compile(
    r"[+-]?(\d+(,\d+)+(\.\d+)?|\d{1,3}([.\s'’]\d{3})+,\d+|\d{1,3}(\.\d{3}){2,}"
    r"|\(\s?\d[\d,.\s'’]*\)|\d[\d,.\s'’]*-"
    r"|[€$£¥]\s?-?\d[\d,.\s'’]*|\d[\d,.\s'’]*\s?[€$£¥%])"
)
# 2 040 and 2'040.5 can mean one number only: any space (also no-break and thin) or apostrophe.
_GROUPED = re.compile(r"[+\u2212-]?\d{1,3}([\s'’])\d{3}(\1\d{3})*(\.\d*)?")
# What programs and people write where a number is missing (R, pandas, SQL, spreadsheets, UCI).
_GAP_WORDS = frozenset(
    [
        *("na", "n/a", "n.a.", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "null", "none", "nil"),
        *("?", "-", "--", "\u2013", "\u2014", ".", "..", "..."),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
        *("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "#nv"),
    ]
)
_BOOLEANS = {"true": "True", "TRUE": "True", "false": "False", "FALSE": "False"}


@dataclass(frozen=True)
class ColumnKind:
    """What a column holds.

    Parameters
    ----------
    kind
        `"number"` or `"text"`.
    missing_words
        Texts that stand in a column of numbers where one is missing, such as `?`.
    """

    kind: Kind
    missing_words: tuple[str, ...] = ()


def is_frame(values: Any) -> bool:
    """Whether it has columns with names: a frame of pandas, Arrow or polars, or a mapping."""
    if isinstance(values, Mapping) or hasattr(values, "to_pandas"):
        return True
    columns = getattr(values, "columns", None)
    return columns is not None and not callable(columns)


def as_frame(values: Any, name: str) -> Any:
    """A pandas frame with the names of columns as texts, as `plain_names` makes them.

    Parameters
    ----------
    values
        A frame of pandas, a table of Arrow, a frame of polars, or a mapping from names to columns.
    name
        What it is called in messages.

    Raises
    ------
    UserError
        For anything else, or two columns of one name.
    """
    pandas = require("pandas")
    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    elif isinstance(values, Mapping):
        try:
            values = pandas.DataFrame(dict(values))
        except (ValueError, TypeError) as error:
            raise UserError(f"{name}: no table ({error}): give columns of one length") from error
    if not isinstance(values, pandas.DataFrame):
        raise UserError(
            f"{name}: a {type(values).__name__} has no columns with names: give a path, a data "
            "frame or an Arrow table"
        )
    if values.columns.nlevels > 1:
        raise UserError(f"{name}: its columns have names in several levels: give each one name")
    columns = plain_names(values.columns)
    check_names(columns, name)
    return values.set_axis(columns, axis=1)


def plain_name(name: Any) -> str:
    """A column's name as it is shown and given: without spaces around it, on one line.

    >>> plain_name(" width\\n(mm)")
    'width (mm)'
    """
    return re.sub(r"\s*[\r\n]\s*", " ", str(name).strip())


def plain_names(names: Iterable[Any]) -> list[str]:
    """Names by which every source, file or frame, has the same columns."""
    return [plain_name(name) or f"Unnamed: {index}" for index, name in enumerate(names)]


def names_given(given: str | Sequence[str] | None, columns: Sequence[str] = ()) -> list[str]:
    """Names given as one, with commas, or as a list; a column may have a comma in its name."""
    if given is None:
        return []
    if isinstance(given, str) and plain_name(given) in columns:
        return [plain_name(given)]
    parts = given.split(",") if isinstance(given, str) else list(given)
    return [name for part in parts if (name := plain_name(part))]


def check_names(columns: Sequence[str], where: str) -> None:
    """Raise `UserError` if two columns have one name."""
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise UserError(
                f"{where} has {columns.count(column)} columns named {column!r}: rename all but one"
            )
        seen.add(column)


def check_columns(wanted: Iterable[str], columns: Sequence[str], where: str, what: str) -> None:
    """Raise `UserError`, with the nearest names, for columns that a table does not have.

    Parameters
    ----------
    wanted, columns
        Names that are needed, and those that there are.
    where, what
        What the table and the needed columns are called in the message.
    """
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return
    lower = {column.lower().strip(): column for column in columns}
    near = [
        lower[match]
        for name in missing
        for match in difflib.get_close_matches(name.lower().strip(), list(lower), n=2, cutoff=0.6)
    ]
    guess = f"; did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?" if near else ""
    named = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
    raise UserError(
        f"{where} has no column {named}, {what}{guess}: its columns are {listing(columns)}"
    )


def listing(names: Sequence[Any], most: int = 12) -> str:
    """Names with commas, the first of them where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def kind_of(series: Any, where: str) -> ColumnKind:
    """What a column of a frame holds: by its type, and in a column of objects by its values.

    Whole numbers that texts spell out are numbers; booleans are texts. Readers of files take no
    word for a gap: what a word means is decided here, from the values beside it, and so is the
    same for every source. Among numbers the usual words for a gap are gaps, and so are a few
    others; among texts a word is a text.

    Parameters
    ----------
    series
        A column of a pandas frame.
    where
        What it is called in messages, such as `column 'age'`.

    Raises
    ------
    UserError
        For dates, durations, complex numbers, bytes and lists.
    """
    types = require("pandas").api.types
    dtype = series.dtype
    if types.is_bool_dtype(dtype):
        return ColumnKind("text")
    if types.is_complex_dtype(dtype):
        raise UserError(f"{where} holds complex numbers: give their parts as two columns")
    if types.is_numeric_dtype(dtype):
        return ColumnKind("number")
    text = str(dtype)
    if types.is_datetime64_any_dtype(dtype) or text.startswith(("timedelta", "period", "interval")):
        raise UserError(_no_date(where, series.dropna().iloc[0] if series.notna().any() else text))
    return _kind_of_values([v for v in uniques_of(series, where)[1] if not is_missing(v)], where)


def _kind_of_values(values: list[Any], where: str) -> ColumnKind:
    """The kind of a column from its different values."""
    for value in values:
        if not isinstance(value, str) and is_date(value):
            raise UserError(_no_date(where, value))
        if not isinstance(value, str | numbers.Real | decimal.Decimal | np.generic):
            kind = type(value).__name__
            raise UserError(
                f"{where} holds {shown(value)}, a {kind}: give one number or text in every row, "
                "or leave the column out (--ignore)"
            )
    if not values or all(isinstance(value, bool | np.bool_) for value in values):
        return ColumnKind("text")
    words = [v.strip() for v in values if isinstance(v, str) and _number(v) is None]
    words = list(dict.fromkeys(word for word in words if word))
    others = [word for word in words if not is_gap_word(word)]
    n_numbers = sum(is_number(value) for value in values)
    dates = list(filter(is_date, others))
    if dates and len(dates) >= 0.9 * (n_numbers + len(others)):
        raise UserError(_no_date(where, dates[0]))
    if not words or (n_numbers and not others):
        return ColumnKind("number", tuple(words))
    written = [word for word in others if _WRITTEN_OUT.fullmatch(word)]
    if written and n_numbers + len(written) >= 0.9 * (n_numbers + len(others)):
        raise UserError(
            f"{where} holds numbers that are written for people, such as {written[0]!r}: write "
            "them as 1234.5, without other signs, or leave the column out (--ignore)"
        )
    few = len(others) <= _MISSING_WORDS
    few = few and len(others) < _MISSING_FRACTION * (n_numbers + len(others))
    if few and n_numbers >= 10:
        return ColumnKind("number", tuple(words))
    return ColumnKind("text")


def as_numbers(
    series: Any,
    where: str,
    missing_words: Sequence[str] = (),
    *,
    first_row: int = 1,
    rows: np.ndarray | None = None,
    infinite: bool = False,
    advice: str = " as in training: correct it, or leave it empty",
) -> np.ndarray:
    """A column as float64, NaN where a number is missing or infinite.

    Parameters
    ----------
    series
        A column of a pandas frame.
    where
        What it is called in messages.
    missing_words
        Texts that mean that a number is missing, beside the usual ones.
    first_row, rows
        Number of the first row for messages, or of every row where some were left out.
    infinite
        Whether infinite numbers stay as they are.
    advice
        How the message goes on.

    Raises
    ------
    UserError
        Naming row (counted from 1) and value of the first that is no number.
    """
    types = require("pandas").api.types
    if types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series.dtype):
        array = series.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    else:
        codes, uniques = uniques_of(series, where)
        table = np.full(len(uniques) + 1, np.nan)
        for position, value in enumerate(uniques):
            if is_missing(value) or (
                isinstance(value, str) and (value.strip() in missing_words or is_gap_word(value))
            ):
                continue
            number = _number(value)
            if number is None:
                index = int(np.flatnonzero(codes == position)[0])
                row = index + first_row if rows is None else rows[index]
                raise UserError(
                    f"{where} holds {shown(value)} in row {row}, which is no number{advice}"
                )
            table[position] = number
        array = table[codes]  # a missing value has the code -1, the last place
    if not infinite:
        array[~np.isfinite(array)] = np.nan
    return array


def infinite_numbers(values: np.ndarray) -> dict[str, int]:
    """`inf` and `-inf`, each with the number of its rows, if there are any.

    Numbers too large for float64, such as 1e400, are among them.
    """
    counts = {"inf": int((values == np.inf).sum()), "-inf": int((values == -np.inf).sum())}
    return {number: n for number, n in counts.items() if n}


def as_texts(series: Any, where: str) -> tuple[np.ndarray, list[str]]:
    """A column as positions in its different texts, -1 where one is missing.

    Spaces around a text do not count; `true` and `TRUE` are `True`, as readers of files differ in
    what they make of them; a whole number has no point.

    Returns
    -------
    codes, texts
        ``(N,)`` whole numbers, and the different texts.
    """
    codes, uniques = uniques_of(series, where)
    texts: dict[str, int] = {}
    positions = np.full(len(uniques) + 1, -1)
    for position, value in enumerate(uniques):
        if is_missing(value) or not (text := text_of(value)):
            continue
        positions[position] = texts.setdefault(text, len(texts))
    return positions[codes], list(texts)


def uniques_of(series: Any, where: str) -> tuple[np.ndarray, list[Any]]:
    """Positions ``(N,)`` in the different values, -1 where one is missing, and these values."""
    try:
        codes, uniques = require("pandas").factorize(series)
    except (TypeError, NotImplementedError):  # lists and dictionaries have no hash, Arrow's neither
        value = next(v for v in series if not is_missing(v))
        raise UserError(
            f"{where} holds {shown(value)}, a {type(value).__name__}: give one number or text in "
            "every row, or leave the column out (--ignore)"
        ) from None
    return codes, list(uniques)


def text_of(value: Any) -> str:
    """A cell as a text, as `as_texts` makes it."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return _BOOLEANS.get(text, text)


def is_gap_word(text: str) -> bool:
    """Whether a text among numbers says that one is missing: empty, `NA`, `n/a`, `?` and so on."""
    text = text.strip()
    return not text or text.casefold() in _GAP_WORDS


def check_missing_words(words: Iterable[str], where: str) -> None:
    """Raise `UserError` for one that has a number in it, which would be lost as a gap."""
    for word in words:
        if any(character.isdigit() for character in word) and not is_gap_word(word):
            raise UserError(
                f"{where} holds {shown(word)} among its numbers, which would count as missing: "
                "write a number alone, such as 1234.5, leave the cell empty, or leave the column "
                "out (--ignore)"
            )


def said_of_gap_words(texts: Iterable[str]) -> str:
    """What is to be said where words that mean a gap elsewhere are texts; empty if none are."""
    # A lone sign, such as - beside +, is hardly meant as a gap.
    words = [text for text in texts if is_gap_word(text) and any(c.isalpha() for c in text)]
    named = listing([repr(word) for word in words])
    return f"{named} counts as a text, leave cells empty where one is missing" if words else ""


def said_of_case(texts: Iterable[str]) -> str:
    """What is to be said of texts such as `yes` and `Yes`, which are hardly meant as two."""
    alike: dict[str, list[str]] = {}
    for text in sorted(texts):
        alike.setdefault(text.casefold(), []).append(text)
    several = [listing([repr(text) for text in group]) for group in alike.values() if group[1:]]
    return f"{'; '.join(several[:3])} differ by capitals alone" if several else ""


def is_date(value: Any) -> bool:
    """Whether a value is a date, a time or a duration, or a text that spells one out."""
    if isinstance(value, str):
        return _DATE.fullmatch(value.strip()) is not None
    return isinstance(value, datetime.date | datetime.time | datetime.timedelta)


def is_number(value: Any) -> bool:
    """Whether a value is a number, or a text that spells one out."""
    number = _number(value)
    return number is not None and not math.isnan(number)


def _number(value: Any) -> float | None:
    try:
        if isinstance(value, str):
            if "_" in value:  # Python's own way to write a million
                return None
            if grouped := _GROUPED.fullmatch(value.strip()):
                value = value.strip().replace(grouped[1], "")
            value = value.replace("\u2212", "-")  # the minus sign of typesetting
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def _no_date(where: str, value: Any) -> str:
    return (
        f"{where} holds dates or times, such as {value}: make numbers of them that mean something "
        "for the task (year, month, hour, days since a date), or leave the column out (--ignore)"
    )
