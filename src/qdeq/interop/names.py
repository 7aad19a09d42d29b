"""Names of parameters: those that sort as they count, for tools that order parameters by name."""

from collections.abc import Collection, Sequence

from qdeq.errors import UserError


def numbered(letter: str, count: int) -> tuple[str, ...]:
    """`count` names with enough leading zeros, three digits at least.

    Qiskit orders parameters by name: without zeros, the eleventh would come before the third.

    Examples
    --------
    >>> numbered("t", 2)
    ('t_000', 't_001')
    """
    width = max(3, len(str(count - 1)))
    return tuple(f"{letter}_{i:0{width}d}" for i in range(count))


def checked_names(
    given: Sequence[str] | None, count: int, *, taken: Collection[str] = ()
) -> tuple[str, ...]:
    """The names that a user chose for `count` parameters, or the usual ones.

    Parameters
    ----------
    given
        None for ``t_000, t_001, ...``
    taken
        Names that stand for something else.

    Raises
    ------
    UserError
        When there are not `count` different ones, or for one that is no text or taken.

    Examples
    --------
    >>> checked_names(["a", "x_000"], 2, taken=["x_000"])
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: parameters has 'x_000', which stands for something else there: choose \
another name
    """
    if given is None:
        return numbered("t", count)
    names = tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"parameters has {name!r}, which is no identifier: give texts")
        if name in taken:
            raise UserError(
                f"parameters has {name!r}, which stands for something else there: choose another "
                "name"
            )
    if len(names) != count or len(set(names)) != count:
        raise UserError(
            f"parameters has {len(set(names))} different names: the circuit needs {count}, one for "
            "each of its parameters"
        )
    return names
