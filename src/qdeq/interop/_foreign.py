"""Code that is not ours, other libraries' and the classes that people derive: whose, and asked."""

from collections.abc import Callable
from typing import TypeVar

from qdeq.errors import UserError

Answer = TypeVar("Answer")


class NoAnswer(UserError):
    """Code that is not ours raised something."""


def comes_from(value: object, package: str) -> bool:
    """Whether its class, or one that this is derived from, is of a package.

    Examples
    --------
    >>> import collections
    >>> class Own(collections.OrderedDict):
    ...     pass
    >>> comes_from(Own(), "collections"), comes_from({}, "collections")
    (True, False)
    """
    modules = (kind.__module__ for kind in type(value).__mro__)
    return any(f"{module}.".startswith(f"{package}.") for module in modules)


def ask(
    question: Callable[[], Answer], where: Callable[[], str], failed: str, advice: str
) -> Answer:
    """The answer of code that may raise anything, or `NoAnswer`; a `UserError` of ours passes.

    Parameters
    ----------
    question
        Calls that code.
    where
        Names what was asked.
    failed, advice
        What could not be done with it, and what to do: the rest of the message.
    """
    try:
        return question()
    except (UserError, RecursionError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise NoAnswer(
            f"{where()} {failed} ({type(error).__name__}: {reason}): {advice}"
        ) from error
