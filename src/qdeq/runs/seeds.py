"""Which seeds a run of many has, as people write them; free of JAX, for the command line."""

import operator
from collections.abc import Iterable
from typing import Any

from qdeq.errors import UserError

_BEYOND = 2**32  # JAX makes keys of 32 bits
_MOST = 100_000  # each has a folder of its own


def parse_seeds(text: str) -> list[int]:
    """Read seeds as the command line has them: `0:32` (32 seeds from 0), `0,3,7`, or both.

    Raises
    ------
    UserError
        When the text is neither, a seed is out of range, or one is named twice.

    Examples
    --------
    >>> parse_seeds("0:3,7")
    [0, 1, 2, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        if not first.isdecimal() or (colon and not last.isdecimal()):
            raise UserError(
                f"seeds={text[:60]}: give a range such as 0:32, from the first to before the "
                "last, or a list such as 0,3,7"
            )
        more = range(_number(first), _number(last)) if colon else [_number(first)]
        if len(seeds) + len(more) > _MOST:
            raise UserError(f"seeds={text[:60]}: give at most {_MOST:,} seeds")
        seeds += more
    return check_seeds(seeds)


def _number(digits: str) -> int:
    """A number that a range may begin or end with."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > 10 or int(digits) > _BEYOND:  # Python refuses to read thousands of digits
        raise UserError(f"seeds={digits[:20]}: {_ALLOWED}")
    return int(digits)


_ALLOWED = "give whole numbers of at least 0 and below 2**32"


def check_seeds(seeds: Any) -> list[int]:
    """Return seeds as a list of Python's numbers.

    Raises
    ------
    UserError
        When there are none, one is out of range or no whole number, or one is there twice.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise UserError(f"seeds={seeds!r}: give several, such as range(3) or [0, 3, 7]")
    seeds = [_checked(seed) for seed in seeds]
    if not seeds:
        raise UserError("seeds=[]: give at least one seed, such as 0:32 or 0,3,7")
    seen: set[int] = set()
    for seed in seeds:
        if seed in seen:
            shown = f"{seeds}" if len(seeds) <= 20 else f"[{seeds[0]}, ...]"
            raise UserError(f"seeds={shown}: {seed} is there twice; name each seed once")
        seen.add(seed)
    return seeds


def _checked(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = None
    if number is None or isinstance(seed, bool) or not 0 <= number < _BEYOND:
        raise UserError(f"seeds=[..., {seed!r}, ...]: {_ALLOWED}")
    return number
