"""Which seeds a run of many has, as people write them; free of JAX, for the command line."""

from collections.abc import Sequence

from qdeq.errors import UserError


def parse_seeds(text: str) -> list[int]:
    """Read seeds as the command line has them: `0:32` (32 seeds from 0), `0,3,7`, or both.

    Raises
    ------
    UserError
        When the text is neither, or a seed is named twice.

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
                f"seeds={text}: give a range such as 0:32, from the first to before the last, or "
                "a list such as 0,3,7"
            )
        seeds += range(int(first), int(last)) if colon else [int(first)]
    return check_seeds(seeds)


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Return seeds as a list, or raise `UserError` when there are none or one is there twice."""
    seeds = list(seeds)
    if not seeds:
        raise UserError("seeds=[]: give at least one seed, such as 0:32 or 0,3,7")
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise UserError(f"seeds={seeds}: {twice} is there twice; name each seed once")
    return seeds
