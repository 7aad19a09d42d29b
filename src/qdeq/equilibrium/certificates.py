"""Proofs about equilibria from bounds on a Jacobian: that there is one, only one, how far it is.

Mathematics on what a function says of its own derivative over boxes; nothing here knows circuits.
Derivations are in `docs/theory.md`. Everything is NumPy in float64, rounded outwards (`MARGIN`).
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from qdeq.errors import UserError, check_amount, check_count

MARGIN = 1e-9
"""What bounds are widened by, relative to the sums of magnitudes that they were computed from.

A sum of n float64 numbers is off by at most n 1.1e-16 of that: enough for millions of terms.
"""

_POWER_STEPS = 60
# Of weights of a norm, relative to the largest: with smaller ones L may be smaller, but an error
# in one entry counts so much more.
_LEAST_WEIGHT = 0.1
_SMALLER = 0.98  # rounds go on as long as sides of boxes, or factors, fall below that of before


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


def _rows(name: str, x: ArrayLike) -> np.ndarray:
    if np.iscomplexobj(x) or np.ma.is_masked(x):
        kind = "complex" if np.iscomplexobj(x) else "masked"
        raise UserError(f"{name} has {kind} numbers: features are real and known, give such")
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


@runtime_checkable
class Certifiable(Protocol):
    """A model function that knows bounds on its own derivative."""

    def encloser(self, region: Region) -> Encloser:
        """Of all features in a region."""
        ...


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proven of m -> f(m, x), for every row of features or for all of a region at once.

    Attributes
    ----------
    outer
        The Lipschitz constant on the box between `low` and `high`, which holds all states that can
        be measured, and its norm.
    low, high
        `(B, q)`.
    inner
        The one on a smaller box, `inner_low` to `inner_high`, `(B, q)`: f maps it into itself, and
        after `rounds` `(B,)` applications every state of the larger one is in it. So are all
        equilibria, and one of them is alone where this factor is below 1.
    depth
        Of a causal network: after so many applications, from any start, the one equilibrium is
        exact, whatever the factors are. None otherwise.
    """

    outer: Bound
    low: Float[np.ndarray, "B q"]
    high: Float[np.ndarray, "B q"]
    inner: Bound
    inner_low: Float[np.ndarray, "B q"]
    inner_high: Float[np.ndarray, "B q"]
    rounds: np.ndarray
    depth: int | None = None

    @property
    def factor(self) -> Float[np.ndarray, " B"]:
        """L on all states, `(B,)`: no Jacobian there is larger in its norm."""
        return self.outer.factor

    @property
    def exists(self) -> Bool[np.ndarray, " B"]:
        """Whether there is an equilibrium: f is continuous and maps a box into itself (Brouwer).

        A causal network always has one.
        """
        return np.isfinite(self.factor) | (self.depth is not None)

    @property
    def is_contraction(self) -> Bool[np.ndarray, " B"]:
        """Whether L < 1 on all states."""
        return self.factor < 1

    @property
    def is_unique(self) -> Bool[np.ndarray, " B"]:
        """Whether there is one equilibrium, and iteration from any state finds it."""
        return (self.inner.factor < 1) | (self.depth is not None)

    def steps(self, tolerance: float) -> Float[np.ndarray, " B"]:
        """After how many applications every entry is within `tolerance` of the equilibrium's.

        From any start in the box, 0 among them. Infinite where nothing is certified.
        """
        _check_positive("tolerance", tolerance)
        inner, found = self.inner, self.inner.factor < 1
        width = inner.length(self.inner_high - self.inner_low) * inner.largest_entry()
        factor = np.where(found, np.maximum(inner.factor, np.finfo(float).tiny), 0.5)
        ratio = np.maximum(width / tolerance, 1)
        steps = np.where(found, self.rounds + np.ceil(np.log(ratio) / -np.log(factor)), np.inf)
        return steps if self.depth is None else np.minimum(steps, self.depth)

    def sensitivity(self, error: float = 1.0) -> Float[np.ndarray, " B"]:
        """How far a state m = f(m) + e is from the equilibrium: |e| / (1 - L), in L's norm.

        Parameters
        ----------
        error
            |e|, such as that of a device, in the same norm.

        Returns
        -------
        ndarray
            `(B,)`; infinite where L is not below 1.
        """
        if not np.all(np.asarray(error) >= 0):  # NaN as well
            raise UserError(f"error={error!r}: give a number of at least 0")
        certain = self.is_contraction
        return np.where(certain, error / np.where(certain, 1 - self.factor, 1), np.inf)

    def shots(self, error: float, *, confidence: float = 0.95, evaluations: int = 1) -> np.ndarray:
        """Shots per observable so that a measured equilibrium is off by at most `error`.

        By Hoeffding's inequality for outcomes of +1 and -1. A state that equals what was measured
        at it differs from the equilibrium by at most `sensitivity` of that measurement's error.

        Parameters
        ----------
        error
            Of an entry of the equilibrium.
        confidence
            Probability with which all entries are that close.
        evaluations
            Measurements that are to be that good, all of them: 1 for the last one alone.

        Returns
        -------
        ndarray
            `(B,)`; infinite where L is not below 1.
        """
        _check_positive("error", error)
        if not (isinstance(confidence, Real) and 0 < confidence < 1):
            raise UserError(f"confidence={confidence!r}: give a probability between 0 and 1")
        is_number = isinstance(evaluations, Real) and not isinstance(evaluations, bool)
        if not (is_number and evaluations >= 1 and evaluations % 1 == 0):
            raise UserError(f"evaluations={evaluations!r}: give a whole number of at least 1")
        ones = np.ones_like(self.low)
        # From an error of every entry to the norm, through the equilibrium, and back to an entry.
        amplified = self.outer.length(ones) * self.sensitivity() * self.outer.largest_entry()
        chances = 2 * ones.shape[1] * evaluations / (1 - confidence)
        with np.errstate(invalid="ignore"):
            return np.ceil(2 * math.log(chances) * (amplified / error) ** 2)


@np.errstate(over="ignore", invalid="ignore")  # beyond float64 nothing is certified
def certify(model: Any, x: ArrayLike | Region, *, rounds: int = 8) -> Certificate:
    """Bound the contraction factor of a model function, for samples or a region of features.

    Parameters
    ----------
    model
        A `QuantumModel`, a `Network`, or any other with a method `encloser(region)`.
    x
        Features `(N, d)` or `(d,)`, each certified on its own; or a `Region`, each row of which is
        certified for all of its features.
    rounds
        How often the box of states is replaced by what f makes of it, see `Certificate.inner`.

    Raises
    ------
    UserError
        For a model function that knows no bounds, or features of another number.

    Examples
    --------
    One qubit turned by RY(a + w m): f(m) = cos(a + w m), whose slope is at most |w|.

    >>> import jax.numpy as jnp, qdeq
    >>> from qdeq.equilibrium.certificates import Region, certify
    >>> model = qdeq.QuantumModel(
    ...     jnp.zeros(0), qdeq.Circuit(1, ()), reinjection=[[0.8]],
    ...     encoding=qdeq.AngleEncoding.from_rotations(1, [("RY", 0, 0)]),
    ...     observables=qdeq.z_of_every_wire(1),
    ... )
    >>> found = certify(model, Region.everywhere(1))
    >>> found.factor.round(6), found.is_unique
    (array([0.8]), array([ True]))
    """
    if not isinstance(model, Certifiable):
        raise UserError(
            f"model={type(model).__name__}: nothing is known of its derivative; certify a "
            "QuantumModel or a Network, or give the model a method encloser(region)"
        )
    check_count("rounds", rounds, 0)
    region = x if isinstance(x, Region) else Region.samples(x)
    expected = getattr(model, "n_features", region.centre.shape[1])
    if region.centre.shape[1] != expected:
        raise UserError(
            f"x has {region.centre.shape[1]} features: the model takes {expected}, give (N, "
            f"{expected})"
        )
    encloser = model.encloser(region)
    low, high = encloser.low, encloser.high
    known = encloser(low, high)
    outer = inner = known.bound()
    box, at, done = (low, high), (low, high), np.zeros(len(low))
    promising = np.full(len(low), True)
    for number in range(1, rounds + 1):
        wide = box[1] - box[0]
        box = (np.fmax(box[0], known.low), np.fmin(box[1], known.high))  # NaN: no such bound
        shrinks = np.any(box[1] - box[0] < _SMALLER * wide, axis=1)
        # A factor below 1 that does not fall any more is found; one above may need small boxes.
        if not np.any(shrinks & (promising | (inner.factor >= 1))):
            break
        known = encloser(*box)
        bound = known.bound()
        better, promising = bound.factor <= inner.factor, bound.factor < _SMALLER * inner.factor
        inner = Bound(
            np.where(better, bound.factor, inner.factor),
            np.where(better[:, None], bound.weights, inner.weights),
        )
        at = (
            np.where(better[:, None], box[0], at[0]),
            np.where(better[:, None], box[1], at[1]),
        )
        done = np.where(better, number, done)
    return Certificate(outer, low, high, inner, *at, done, getattr(encloser, "depth", None))


def overlap_bound(distance: ArrayLike, rotations: int = 1) -> np.ndarray:
    """The least overlap |<0|S(z)^dagger S(z')|0>| of a wire's encodings at a distance |z - z'|.

    cos(min(sqrt(T) |z - z'|, pi) / 2) for T rotations, an angle each: every rotation turns the
    wire's state by half its change. The paper's 1 - sin|z - z'| lies below that for one rotation up
    to 2.43 rad, and for four of them is no bound (see `docs/theory.md`).

    Parameters
    ----------
    distance
        Two-norm of the difference of the angles, in radians.
    rotations
        T, rotations of the wire.

    Examples
    --------
    >>> overlap_bound([0.0, np.pi / 2, 10.0]).round(4)
    array([1.    , 0.7071, 0.    ])
    """
    check_count("rotations", rotations)
    if not np.all(np.asarray(distance) >= 0):  # NaN as well
        raise UserError(f"distance={distance!r}: give numbers of at least 0")
    turned = math.sqrt(rotations) * np.asarray(distance, np.float64)
    return np.cos(np.minimum(turned, np.pi) / 2)


def _check_positive(name: str, value: float) -> None:
    if not (isinstance(value, Real) and 0 < value < math.inf):
        raise UserError(f"{name}={value!r}: give a number above 0")
