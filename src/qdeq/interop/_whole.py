"""A fit is whole or nothing: one that fails leaves the estimator as it was before."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def whole_or_nothing(fit: Callable[P, R]) -> Callable[P, R]:
    """A method after whose failure, or interruption, all attributes are those from before.

    A new scale of the features beside the model of the fit before would give wrong numbers.
    """

    @functools.wraps(fit)
    def wrapped(*args: P.args, **options: P.kwargs) -> R:
        attributes = vars(args[0])
        before = dict(attributes)
        try:
            return fit(*args, **options)
        except BaseException:
            attributes.clear()
            attributes.update(before)
            raise

    return wrapped
