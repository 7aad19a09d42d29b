"""Proofs about equilibria from bounds on a Jacobian: that there is one, only one, how far it is.

Mathematics on what a function says of its own derivative over boxes; nothing here knows circuits.
The bounds are `enclosures.py`, derivations in `docs/theory.md`.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from qdeq.equilibrium.enclosures import Bound as Bound
from qdeq.equilibrium.enclosures import Encloser as Encloser
from qdeq.equilibrium.enclosures import Enclosure as Enclosure
from qdeq.equilibrium.enclosures import Region as Region
from qdeq.equilibrium.enclosures import check_known
from qdeq.errors import UserError, check_count

_SMALLER = 0.98  # rounds go on as long as sides of boxes, or factors, fall below that of before


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
        For a model function that knows no bounds, features of another number, or inside `jax.jit`
        and other transformations: bounds are NumPy's.

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
    check_known("model", model)
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
