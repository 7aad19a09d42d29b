"""What scikit-learn and `TrainConfig` say of an estimator's parameters, from one declaration.

Types, ranges, names and kinds of objects are those of the options in `qdeq.training`.
"""

import typing
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, Literal

from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

from qdeq.errors import UserError
from qdeq.names import OWN_MODEL
from qdeq.training.checked import checked, hints_of, objects_of, plain_type, range_of
from qdeq.training.config import TrainConfig


class WrongParameter(UserError, InvalidParameterError):
    """A parameter out of range: what scikit-learn raises, and ours."""


def constraints(names: Iterable[str]) -> dict[str, list[Any]]:
    """scikit-learn's `_parameter_constraints` of options of a training run.

    Parameters
    ----------
    names
        Fields of `TrainConfig`.

    Examples
    --------
    >>> [str(allowed) for allowed in constraints(["epochs"])["epochs"]]
    ['an int in the range [1, inf)']
    """
    hints = hints_of(TrainConfig)
    return {name: list(_allowed(hints[name])) for name in names}


def _allowed(hint: Any) -> Iterable[Any]:
    plain, limits, objects = plain_type(hint), range_of(hint), objects_of(hint)
    if typing.get_origin(plain) is Literal:
        yield StrOptions(set(typing.get_args(plain)) - {OWN_MODEL})
    elif limits is None:
        yield plain
    else:
        low: Any = limits.ge if limits.gt is None else limits.gt
        closed = "left" if limits.gt is None else "neither"
        kind, bound = (Integral, int) if plain is int else (Real, float)
        high = None if limits.lt is None else bound(limits.lt)
        yield Interval(kind, bound(low), high, closed=closed)
    if objects is not None:
        yield from objects.kinds
    if type(None) in typing.get_args(hint):
        yield None


def check_parameters(
    allowed: Mapping[str, list[Any]], values: Mapping[str, Any], estimator: str
) -> None:
    """Raise `WrongParameter`, with both sentences, for a value that is not allowed.

    Parameters
    ----------
    allowed
        Constraints, of options of a training run and of others.
    values
        Of the parameters.
    estimator
        Its name.
    """
    hints = hints_of(TrainConfig)
    for name, value in values.items():
        try:
            validate_parameter_constraints(allowed, {name: value}, estimator)
        except InvalidParameterError as error:
            ours = ""
            if name in hints:
                try:
                    checked(name, value, hints[name])
                except UserError as reason:
                    ours = f"{reason}. "
            raise WrongParameter(f"{ours}{error}") from None


def drawn_seed(random_state: Any) -> int:
    """The seed of a fit: a whole number itself, else one that scikit-learn's generator draws."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
