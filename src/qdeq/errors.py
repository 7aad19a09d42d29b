"""The one exception type for a user's mistake, and the checks that many modules share."""

import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from os import PathLike
from types import UnionType
from typing import Any


class UserError(ValueError):
    """A mistake in what the user gave: one sentence with the value, what is allowed, what to do.

    The command line prints the sentence and exits with status 2; in Python it is an ordinary
    `ValueError`.
    """


def told(value: object, most: int = 80) -> str:
    """A value as a message names it: its repr on one line, cut where it is long.

    Examples
    --------
    >>> told("phase"), told([[1, 2]] * 100, most=12)
    ("'phase'", '[[1, 2], ...')
    """
    words = " ".join(repr(value).split())
    return words if len(words) <= most else words[: most - 3] + "..."


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise `UserError` unless `value` is one of `allowed`.

    Parameters
    ----------
    name
        What the value is called in the user's call or on the command line.
    value
        What was given.
    allowed
        The valid values, in the order in which the message lists them.

    Raises
    ------
    UserError
        Naming the value and every valid one.

    Examples
    --------
    >>> check_choice("encoding", "phase", ["amplitude", "angle"])
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: encoding='phase' is not known: choose one of amplitude, angle
    """
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:  # an array has no one truth value
        raise UserError(f"{name}={told(value)} is not known: choose one of {', '.join(allowed)}")


def check_count(name: str, value: Any, least: int = 1, why: str = "") -> None:
    """Raise `UserError` unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise UserError(f"{name}={told(value)}: give an integer that is at least {least}{why}")


def check_flag(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is True or False, NumPy's too: "no" would count as True."""
    if not isinstance(value, bool) and getattr(value, "dtype", None) != "bool":
        raise UserError(f"{name}={told(value)}: give True or False")


def check_amount(name: str, value: Any, *, above: bool = False, otherwise: str = "") -> None:
    """Raise `UserError` unless `value` is a finite number that is at least 0, or above it."""
    fits = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    if not fits or value < 0 or (above and value == 0):
        least = "above 0" if above else "of at least 0"
        raise UserError(f"{name}={told(value)}: give a finite number {least}{otherwise}")


def check_kind(
    name: str, value: Any, kinds: type | tuple[type, ...] | UnionType, wanted: str
) -> None:
    """Raise `UserError` unless `value` is one of `kinds`, which the message calls `wanted`.

    Examples
    --------
    >>> check_kind("config", "demo", dict, "a TrainConfig")
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: config='demo': give a TrainConfig
    """
    if not isinstance(value, kinds):
        raise UserError(f"{name}={told(value)}: give {wanted}")


def check_callable(name: str, value: Any, wanted: str) -> None:
    """Raise `UserError` unless `value` can be called."""
    if not callable(value):
        raise UserError(f"{name}={told(value)}: give {wanted}")


def check_path(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a path, a text or what `pathlib` makes, to be asked for.

    Whether something is there is for the caller to say. The system refuses to look where a name is
    too long, or in a folder of somebody else.
    """
    check_kind(name, value, (str, PathLike), "a path")
    try:
        os.stat(os.path.join(value, "."))  # what is in a folder must be found too
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{name}={told(os.fspath(value))}: the path cannot be used ({reason}); give another one"
        ) from error


def as_tuple(name: str, value: Any, kind: type | UnionType, wanted: str) -> tuple[Any, ...]:
    """Several of one kind as a tuple; `UserError` for what is none, a text and a mapping included.

    Examples
    --------
    >>> as_tuple("rotations", 3, str, "names of gates")
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: rotations=3: give a tuple of names of gates
    """
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    values = tuple(value) if several else ()
    if not several or not all(isinstance(one, kind) for one in values):
        raise UserError(f"{name}={told(value)}: give a tuple of {wanted}")
    return values
