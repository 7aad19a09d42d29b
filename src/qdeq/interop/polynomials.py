"""Angles that somebody computed, recognised as polynomials from their values alone.

Other libraries write an angle as a symbolic expression or compute it in Python. Whatever the form
is, its values at a few points tell its coefficients, and further points whether these were all.
"""

import itertools
import math
from fractions import Fraction

import numpy as np

HIGHEST_DEGREE = 3
"""Products of more variables than this are not looked for."""

OTHER_SIZES = (2.0**7, 2.0**-7)
"""How much larger and smaller than the points of a fit the numbers are at which it is tried again.

A clip at pi shows there, |a + 5|, or a threshold at 0.1; powers of 2 keep numbers exact in float32.
"""

# Points beyond those that determine the coefficients: a wrong form does not pass all of them.
_CHECKS = 4
# Of a value's size. Coefficients come from float64 arithmetic and a fit of a few numbers.
_TOLERANCE = 1e-11
_ROUNDING = 4e-14
_MOST_POINTS = 200
# Beside a larger one the digits of everything else are lost in float64.
_LARGEST_CONSTANT = 1e9

Polynomial = dict[tuple[int, ...], float]
"""Coefficients by variables: () the constant, (0,) the first variable, (0, 0) its square."""


def n_points(n_variables: int, degree: int) -> int | None:
    """How many points `fitted` needs for that degree; None if they would be too many."""
    count = math.comb(n_variables + degree, degree) + _CHECKS
    return count if degree <= 1 or count <= _MOST_POINTS else None


def made_up_points(n_points: int, n_variables: int) -> np.ndarray:
    """`(n_points, n_variables)` numbers to try, of both signs: |a| must not pass for a."""
    points = np.random.default_rng(0).uniform(-2.5, 2.5, (n_points, n_variables))
    points[1] = -points[0]
    return points


def fitted(points: np.ndarray, values: np.ndarray, degree: int) -> Polynomial | None:
    """The polynomial of at most that degree with given values, if there is one.

    Parameters
    ----------
    points
        `(R, n)`: at least `n_points` random points.
    values
        `(R,)`: at these.
    degree
        At least 1.

    Returns
    -------
    dict
        The coefficients that are not 0, near ones rounded to a short decimal, a fraction, or a
        fraction of pi. None if some value is not that of such a polynomial.

    Examples
    --------
    >>> points = made_up_points(8, 2)
    >>> fitted(points, np.pi - points[:, 1] / 2, 1)
    {(): 3.141592653589793, (1,): -0.5}
    >>> fitted(points, np.sin(points[:, 0]), 1) is None
    True
    """
    variables = range(points.shape[1])
    monomials = [
        chosen
        for size in range(degree + 1)
        for chosen in itertools.combinations_with_replacement(variables, size)
    ]
    if not np.isfinite(values).all():
        return None
    table = np.stack([points[:, list(chosen)].prod(axis=1) for chosen in monomials], axis=1)
    n_fitted = len(points) - _CHECKS
    coefficients, *_ = np.linalg.lstsq(table[:n_fitted], values[:n_fitted], rcond=None)
    if not np.isfinite(coefficients).all():  # of values near the largest number
        return None
    size = max(1.0, np.abs(values).max(), np.abs(coefficients).max())
    rounded = np.array([_short(value, size) for value in coefficients.tolist()])
    with np.errstate(over="ignore", invalid="ignore"):  # of such as well: they do not fit
        if not np.abs(table @ rounded - values).max() <= _TOLERANCE * size:
            return None
    if abs(rounded[0]) > _LARGEST_CONSTANT:
        return None
    return {
        chosen: value for chosen, value in zip(monomials, rounded.tolist(), strict=True) if value
    }


def has_values(polynomial: Polynomial, points: np.ndarray, values: np.ndarray) -> bool:
    """Whether a polynomial has given values `(R,)` at points `(R, n)`, to rounding.

    Examples
    --------
    >>> has_values({(): 1.0, (0, 1): -0.5}, np.array([[2.0, 3.0]]), np.array([-2.0]))
    True
    """
    terms = np.zeros((max(1, len(polynomial)), len(points)))
    for k, (variables, factor) in enumerate(polynomial.items()):
        terms[k] = factor * points[:, list(variables)].prod(axis=1)
    # In (a + 1) (a - 1) - a^2 squares cancel, and leave their rounding.
    squares = np.square(points).max(axis=1, initial=1.0)
    size = np.maximum(squares, np.abs(terms).max(axis=0))
    return bool((np.abs(terms.sum(axis=0) - values) <= _TOLERANCE * size).all())


def _short(value: float, size: float) -> float:
    """The number that was meant, as far as rounding lets one see."""
    candidates = (
        0.0,
        float(Fraction(value).limit_denominator(64)),
        float(Fraction(value / math.pi).limit_denominator(64)) * math.pi,
        float(f"{value:.10g}"),
    )
    near = (c for c in candidates if abs(c - value) <= _ROUNDING * size)
    return next(near, value)
