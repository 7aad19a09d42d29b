"""Bounds on a Jacobian over boxes of states and inputs: what certificates are made from.

A model function gives them by an `Encloser`; what follows from them is `certificates.py`.
Everything is NumPy in float64, rounded outwards (`MARGIN`).
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.core
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from qdeq._vectors import lost_in_reals
from qdeq.errors import UserError, check_amount, check_count

MARGIN = 1e-9
"""What bounds are widened by, relative to the sums of magnitudes that they were computed from.

A sum of n float64 numbers is off by at most n 1.1e-16 of that: enough for millions of terms.
"""

_POWER_STEPS = 60
# Of weights of a norm, relative to the largest: with smaller ones L may be smaller, but an error
# in one entry counts so much more.
_LEAST_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class Region:
    """Sets of features, one per row: a box, widened by a ball, without what is too short.

    Attributes
    ----------
    centre, half_width
        Of the box, `(B, d)`; half widths may be infinite. Zero for single samples.
    radius
        Of a ball that is added to the box, `(B,)`.
    least_norm
        Only features of at least this two-norm belong to it, `(B,)`.

    Examples
    --------
    >>> Region.box([0.0, 0.0], [1.0, 2.0]).half_width
    array([[0.5, 1. ]])
    """

    centre: Float[np.ndarray, "B d"]
    half_width: Float[np.ndarray, "B d"]
    radius: Float[np.ndarray, " B"]
    least_norm: Float[np.ndarray, " B"]

    @classmethod
    def samples(cls, x: ArrayLike) -> "Region":
        """Every row `(d,)` of x on its own."""
        rows = _rows("x", x)
        zero = np.zeros(len(rows))
        return cls(rows, np.zeros_like(rows), zero, np.linalg.norm(rows, axis=1) * (1 - MARGIN))

    @classmethod
    def box(cls, low: ArrayLike, high: ArrayLike, *, least_norm: float = 0.0) -> "Region":
        """All features between `low` and `high`, `(d,)`, of a two-norm of at least `least_norm`."""
        lows, highs = _rows("low", low), _rows("high", high)
        check_amount("least_norm", least_norm)
        if lows.shape != highs.shape or not np.all(lows <= highs):
            raise UserError(
                f"low and high of shapes {lows.shape[1:]} and {highs.shape[1:]}: give as many "
                "numbers in both, none of low above that of high"
            )
        centre, half = (lows + highs) / 2, (highs - lows) / 2
        half += MARGIN * (abs(lows) + abs(highs))
        return cls(centre, half, np.zeros(len(lows)), np.full(len(lows), float(least_norm)))

    @classmethod
    def ball(cls, centre: ArrayLike, radius: float) -> "Region":
        """All features within the two-norm `radius` of `centre` `(d,)`."""
        check_amount("radius", radius)
        rows = _rows("centre", centre)
        least = np.maximum(0, np.linalg.norm(rows, axis=1) * (1 - MARGIN) - radius)
        return cls(rows, np.zeros_like(rows), np.full(len(rows), float(radius)), least)

    @classmethod
    def everywhere(cls, n_features: int, *, least_norm: float = 0.0) -> "Region":
        """All features, of a two-norm of at least `least_norm`."""
        check_count("n_features", n_features, 0)
        check_amount("least_norm", least_norm)
        zero = np.zeros((1, n_features))
        return cls(zero, zero + math.inf, np.zeros(1), np.full(1, float(least_norm)))

    def __len__(self) -> int:
        return len(self.centre)

    def rows(self, chosen: slice) -> "Region":
        """Some of the sets."""
        return Region(
            self.centre[chosen],
            self.half_width[chosen],
            self.radius[chosen],
            self.least_norm[chosen],
        )

    def spread(self, matrix: Float[np.ndarray, "a d"] | None) -> Float[np.ndarray, "B a"]:
        """How far every entry of `matrix` x (None: of x) gets from that of the centre."""
        if matrix is None:
            return self.half_width + self.radius[:, None]
        rows = np.linalg.norm(matrix, axis=1)
        with np.errstate(invalid="ignore"):  # 0 times infinity is 0 here
            moved = abs(matrix) * self.half_width[:, None, :]
            by_box = np.nansum(moved, axis=2)  # NaN of 0 times infinity is 0
        return (1 + MARGIN) * (by_box + self.radius[:, None] * rows)


def check_known(name: str, given: Any) -> None:
    """Raise `UserError` where an array has no value, as inside `jax.jit`."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        raise UserError(
            f"{name} is traced by JAX and has no value: certificates are computed with NumPy, ask "
            "for them outside jax.jit, jax.vmap and jax.grad, all rows of features at once"
        )


def _rows(name: str, x: ArrayLike) -> np.ndarray:
    check_known(name, x)
    if lost := lost_in_reals(x):
        raise UserError(f"{name} has {lost} numbers: features are real and known, give such")
    try:
        rows = np.atleast_2d(np.asarray(x, np.float64))
    except (TypeError, ValueError):
        rows = np.zeros(0)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise UserError(f"{name} of shape {np.shape(x)}: give finite numbers, (d,) or (N, d)")
    return rows


@dataclass(frozen=True, eq=False)
class Bound:
    """A Lipschitz constant of a map for every row, and the norm in which it holds.

    Attributes
    ----------
    factor
        `(B,)`; infinite where nothing is known.
    weights
        `(B, q)`: the norm is max_k |m_k| / weights_k. NaN in rows where it is the two-norm.
    """

    factor: Float[np.ndarray, " B"]
    weights: Float[np.ndarray, "B q"]

    @property
    def is_two_norm(self) -> Bool[np.ndarray, " B"]:
        """Where the norm is the two-norm."""
        return np.asarray(np.isnan(self.weights).any(axis=1))

    def length(self, sizes: Float[np.ndarray, "B q"]) -> Float[np.ndarray, " B"]:
        """The largest norm of a state whose entries are no larger than `sizes`."""
        with np.errstate(invalid="ignore"):
            weighted = np.max(abs(sizes) / self.weights, axis=1)  # of NumPy, keeps NaN
        return np.where(self.is_two_norm, np.linalg.norm(sizes, axis=1), weighted)

    def largest_entry(self) -> Float[np.ndarray, " B"]:
        """The largest entry of a state of norm 1."""
        return np.where(self.is_two_norm, 1.0, np.max(self.weights, axis=1))

    def smaller(self, other: "Bound") -> "Bound":
        """Row by row the one with the smaller factor."""
        better = other.factor < self.factor
        return Bound(
            np.where(better, other.factor, self.factor),
            np.where(better[:, None], other.weights, self.weights),
        )


class AbstractEnclosure(Protocol):
    """What is known of f and its Jacobian where states are in a box and features in a region.

    Attributes
    ----------
    low, high
        `(B, q)`: between which the values of f are.
    """

    @property
    def low(self) -> np.ndarray: ...
    @property
    def high(self) -> np.ndarray: ...

    def bound(self) -> Bound:
        """The smallest Lipschitz constant that is known."""
        ...


@dataclass(frozen=True, eq=False)
class Enclosure:
    """An `AbstractEnclosure` by a matrix: every Jacobian is within `radius` of `centre`.

    Attributes
    ----------
    low, high
        `(B, q)`: between which the values of f are.
    centre, radius
        `(B, q, q)`, entry by entry; radii may be infinite.
    largest
        `(B, q, q)`: what no entry exceeds, by another argument.
    two_norm
        `(B,)`: what no two-norm exceeds, by another argument.

    Examples
    --------
    A Jacobian with entries of at most 0.5 and 0.1 in the rows, 2 and 0.2 in the second:

    >>> sizes = np.array([[[0.5, 0.1], [2.0, 0.2]]])
    >>> known = Enclosure(-np.ones((1, 2)), np.ones((1, 2)), 0 * sizes, sizes, sizes, np.full(1, 9))
    >>> known.bound().factor.round(3)  # its Perron root, in a weighted maximum norm
    array([0.822])
    """

    low: Float[np.ndarray, "B q"]
    high: Float[np.ndarray, "B q"]
    centre: Float[np.ndarray, "B q q"]
    radius: Float[np.ndarray, "B q q"]
    largest: Float[np.ndarray, "B q q"]
    two_norm: Float[np.ndarray, " B"]

    @property
    def sizes(self) -> Float[np.ndarray, "B q q"]:
        """What no entry of a Jacobian exceeds."""
        return np.fmin(abs(self.centre) + self.radius, self.largest)  # NaN: no such bound

    def bound(self) -> Bound:
        """The smaller one of a bound in the two-norm and one in a weighted maximum norm."""
        sizes = self.sizes
        factor = np.fmin(spectral_norms(sizes), self.two_norm)  # NaN: no such bound
        by_centre = spectral_norms(self.centre) + spectral_norms(self.radius)
        factor = np.fmin(factor, by_centre)  # NaN: no such bound
        two = Bound(factor * (1 + MARGIN), np.full(self.low.shape, np.nan))
        known = np.asarray(np.isfinite(sizes).all(axis=(1, 2)))
        safe = np.where(known[:, None, None], sizes, 0)
        weighted = perron_bound(lambda w: np.einsum("bkl,bl->bk", safe, w), self.low.shape)
        return two.smaller(Bound(np.where(known, weighted.factor, np.inf), weighted.weights))


def spectral_norms(matrices: Float[np.ndarray, "B q p"]) -> Float[np.ndarray, " B"]:
    """The two-norms of matrices; infinite where an entry is not finite."""
    known = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    safe = np.where(known[:, None, None], matrices, 0)
    return np.where(known, np.linalg.norm(safe, 2, axis=(1, 2)), np.inf)


def perron_bound(product: Any, shape: tuple[int, int]) -> Bound:
    """A bound on the spectral radius of matrices without negative entries, and its norm.

    For any positive w, max_i (S w)_i / w_i is the norm of S in max_i |m_i| / w_i (Collatz,
    Wielandt): the best w is the Perron vector, and a rough one only gives a larger bound.

    Parameters
    ----------
    product
        S w for w `(B, q)`.
    shape
        `(B, q)`.
    """
    w = np.ones(shape)
    image = product(w)
    best = Bound(np.max(image, axis=1), w)
    for _ in range(_POWER_STEPS):
        # Half of it stays: a periodic S would not settle.
        scale = np.max(image, axis=1, keepdims=True)
        w = w + image / np.where(scale > 0, scale, 1)
        w = np.maximum(w / np.max(w, axis=1, keepdims=True), _LEAST_WEIGHT)
        image = product(w)
        best = best.smaller(Bound(np.max(image / w, axis=1), w))
    return Bound(best.factor * (1 + MARGIN), best.weights)


class Encloser(Protocol):
    """A function with features in a region: what it says of boxes of states."""

    @property
    def low(self) -> np.ndarray:
        """`(B, q)`: a box with 0 into which f maps all of itself."""
        ...

    @property
    def high(self) -> np.ndarray: ...

    def __call__(self, low: np.ndarray, high: np.ndarray) -> AbstractEnclosure:
        """For states between `low` and `high`, `(B, q)`."""
        ...
