"""Angles and features that a user gives to be written into a circuit."""

from typing import Any

import numpy as np

from qdeq.errors import UserError


def finite_numbers(name: str, given: Any) -> np.ndarray:
    """An array of finite real numbers; `UserError` for anything else.

    Examples
    --------
    >>> finite_numbers("theta", [1, 0.5]).tolist()
    [1.0, 0.5]
    """
    try:
        values = np.asarray(given)
        if np.iscomplexobj(values):
            raise TypeError("complex numbers")
        values = values.astype(float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} cannot be read ({error}): give real numbers, radians") from error
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds NaN or infinity: give finite angles in radians")
    return values
