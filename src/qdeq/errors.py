"""The one exception type for a user's mistake, and the checks that many modules share."""

from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave: one sentence with the value, what is allowed, what to do.

    The command line prints the sentence and exits with status 2; in Python it is an ordinary
    `ValueError`.
    """


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
        raise UserError(f"{name}={value!r} is not known: choose one of {', '.join(allowed)}")
