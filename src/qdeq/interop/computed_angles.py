"""Angles that a Python function computes from its arguments, recognised by running it.

The function is run at made-up points. Most angles depend on one entry, and a few runs tell which
one and how; for the others the entries that they depend on are looked for by changing some at a
time: of two entries by the bits of their numbers, in some 2 log2 N runs for all angles together,
of more by halving the ranges in which there are any.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qdeq.errors import UserError
from qdeq.interop._foreign import NoAnswer
from qdeq.interop.polynomials import (
    HIGHEST_DEGREE,
    OTHER_SIZES,
    Polynomial,
    fitted,
    has_values,
    n_points,
)

Columns = Callable[[np.ndarray], np.ndarray]
"""All angles `(R, K)` at points `(R, N)`; nothing depends on the other points of a call."""

# Angles computed in search of the entries that some depend on, which takes twice their number times
# log2 N runs. PennyLane makes 10,000 or so of them in a second.
_MOST_VALUES = 2_000_000


@dataclass(frozen=True)
class Computed:
    """An angle as a polynomial in some of the entries.

    Attributes
    ----------
    entries
        Which entry each variable of the polynomial is.
    polynomial
        None if the angle is none.
    """

    entries: tuple[int, ...]
    polynomial: Polynomial | None


def computed_angles(columns: Columns, n_entries: int) -> list[Computed]:
    """What each angle is as a function of the entries.

    Parameters
    ----------
    columns
        Runs the function.
    n_entries
        N.

    Examples
    --------
    >>> [angle] = computed_angles(lambda t: np.pi - t[:, [2]] / 2, 5)
    >>> angle.entries, angle.polynomial
    ((2,), {(): 3.141592653589793, (0,): -0.5})
    """
    points = _first_points(n_entries)
    values = columns(points)
    found = [_of_one_entry(points, column) for column in values.T]
    missing = [k for k, angle in enumerate(found) if angle is None]
    for search in (_pairs, _dependences):
        entries = search(columns, n_entries, missing) if missing else {}
        for k, polynomial in _fits(columns, n_entries, entries).items():
            found[k] = Computed(entries[k], polynomial)
        missing = [k for k in missing if found[k] is None]
    whole = [Computed((), None) if angle is None else angle for angle in found]
    return _confirmed(columns, n_entries, whole)


def two_points(n_entries: int) -> np.ndarray:
    """`(2, N)`: points that differ in every entry, to tell what is constant."""
    return _random(2, n_entries, seed=1)


def _random(n_points: int, n_entries: int, seed: int) -> np.ndarray:
    """Numbers between 0.5 and 2.5 of both signs.

    They are exact in float32: a detour through the default type of JAX does not change them.
    """
    generator = np.random.default_rng(seed)
    numbers = generator.uniform(0.5, 2.5, (n_points, n_entries)).astype(np.float32)
    signs = generator.choice([-1.0, 1.0], (n_points, n_entries))
    # Every entry has both signs within two points: |a| must not pass for a.
    signs[1::2] = -signs[: len(signs[1::2]) * 2 : 2]
    return numbers * signs


def _first_points(n_entries: int) -> np.ndarray:
    """Points whose differences name an entry: the third is moved by so much more the later it is.

    With points a, b, c an angle f t_i + o has (f(c) - f(a)) / (f(b) - f(a)) = code i.
    """
    points = _random(6, n_entries, seed=0)
    codes = np.arange(1, n_entries + 1) / (n_entries + 1)
    start = points[0].copy()
    points[4:6] = start + np.stack([np.ones(n_entries), codes])
    return points.astype(np.float32).astype(float)


def _of_one_entry(points: np.ndarray, values: np.ndarray) -> Computed | None:
    if (values == values[0]).all():
        return Computed((), {(): float(values[0])})
    whole = values[4] - values[0]
    if not points.shape[1] or not np.isfinite(whole) or whole == 0:
        return None
    codes = (points[5] - points[0]) / (points[4] - points[0])
    nearest = int(np.abs(codes - (values[5] - values[0]) / whole).argmin())
    polynomial = fitted(points[:, [nearest]], values, 1)
    return None if polynomial is None else Computed((nearest,), polynomial)


def _confirmed(columns: Columns, n_entries: int, found: list[Computed]) -> list[Computed]:
    """Those angles that are the same polynomial of large and of small numbers too; none else."""
    for size in OTHER_SIZES if n_entries else ():
        points = size * _random(2, n_entries, seed=9)
        try:
            values = columns(points)
        except Exception as error:
            if isinstance(error, UserError) and not isinstance(error, NoAnswer):
                raise  # the function does something else with such numbers
            continue  # whoever wrote it refuses them: none will come
        found = [
            angle
            if angle.polynomial is None
            or has_values(angle.polynomial, points[:, list(angle.entries)], column)
            else Computed((), None)
            for angle, column in zip(found, values.T, strict=True)
        ]
    return found


def _pairs(columns: Columns, n_entries: int, angles: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Which entries angles depend on that depend on two; of others this is not to be trusted.

    In each run all entries move whose number has a 0, or a 1, in one place. That moves neither of
    the two, or both, or one of them, and the value tells which, the same in all runs.
    """
    start, moved = two_points(n_entries)
    n_bits = max(n_entries - 1, 1).bit_length()
    bits = np.arange(n_entries) >> np.arange(n_bits)[:, None] & 1
    masks = np.stack([bits == 0, bits == 1], axis=1).reshape(2 * n_bits, n_entries)
    points = np.concatenate([start[None], np.where(masks, moved, start)])
    values = columns(points)[:, list(angles)]
    found: dict[int, tuple[int, ...]] = {}
    for k, column in zip(angles, values.T, strict=True):
        still, runs = column[0], column[1:].reshape(n_bits, 2)
        pair, first_moved = [0, 0], None
        for bit, (with_0, with_1) in enumerate(runs):
            if with_0 == still or with_1 == still:
                digits = (int(with_0 == still),) * 2
            else:
                first_moved = with_1 if first_moved is None else first_moved
                digits = (1, 0) if with_1 == first_moved else (0, 1)
            for which, digit in enumerate(digits):
                pair[which] |= digit << bit
        if max(pair) < n_entries:
            found[k] = tuple(sorted(set(pair)))
    return found


def _dependences(
    columns: Columns, n_entries: int, angles: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """The entries on which some angles depend, halving the ranges in which there are any."""
    start, moved = two_points(n_entries)
    found: dict[int, list[int]] = {k: [] for k in angles}
    ranges, n_values = [(0, n_entries)], 0
    while ranges:
        points = np.tile(start, (len(ranges) + 1, 1))
        for row, (first, last) in enumerate(ranges):
            points[row + 1, first:last] = moved[first:last]
        values = columns(points)
        n_values += values.size
        if n_values > _MOST_VALUES:
            return {}
        changed = values[1:, list(angles)] != values[0, list(angles)]
        halves = []
        for (first, last), touched in zip(ranges, changed, strict=True):
            if not touched.any():
                continue
            if last - first == 1:
                for k in np.flatnonzero(touched).tolist():
                    found[angles[k]].append(first)
                continue
            middle = (first + last) // 2
            halves += [(first, middle), (middle, last)]
        ranges = halves
    return {k: tuple(sorted(entries)) for k, entries in found.items()}


def _fits(
    columns: Columns, n_entries: int, entries: dict[int, tuple[int, ...]]
) -> dict[int, Polynomial]:
    """The polynomials of those angles that are one, of as low a degree as possible."""
    found: dict[int, Polynomial] = {}
    for degree in range(1, HIGHEST_DEGREE + 1):
        needed = {k: n_points(len(e), degree) for k, e in entries.items() if e and k not in found}
        counts = [count for count in needed.values() if count is not None]
        if not counts:
            break
        points = _random(max(counts), n_entries, seed=1 + degree)
        values = columns(points)
        for k in (k for k, count in needed.items() if count is not None):
            polynomial = fitted(points[:, list(entries[k])], values[:, k], degree)
            if polynomial is not None:
                found[k] = polynomial
    return found
