"""Enclosures of a network's Jacobian: what bounds on its cells say along the wiring."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qdeq.equilibrium.enclosures import MARGIN, Bound, perron_bound, spectral_norms
from qdeq.equilibrium.networks.wiring import AbstractWiring


@dataclass(frozen=True, eq=False)
class Slopes:
    """What is known of every cell where what its site hears is in a box.

    Attributes
    ----------
    low, high
        Of its values, `(B, N, q)`.
    sizes
        What no entry of its derivative by what it hears exceeds, `(B, N, q, a)`.
    two_norm
        What no two-norm of it exceeds, `(B, N)`.
    """

    low: Float[np.ndarray, "B N q"]
    high: Float[np.ndarray, "B N q"]
    sizes: Float[np.ndarray, "B N q a"]
    two_norm: Float[np.ndarray, "B N"]


def gathered(
    wiring: AbstractWiring, states: Float[np.ndarray, "B N q"]
) -> Float[np.ndarray, "B kinds N q"]:
    """`wiring.gather` of many states, in float64."""
    with jax.enable_x64(True):
        return np.asarray(_gathered(wiring, jnp.asarray(states)))


@functools.partial(jax.jit, static_argnums=0)
def _gathered(wiring: AbstractWiring, states: jax.Array) -> jax.Array:
    return jax.vmap(wiring.gather)(states)


@dataclass(frozen=True, eq=False)
class WiredEnclosure:
    """Of F(z)_i = cell(v_i), as an `AbstractEnclosure` of the flat states."""

    slopes: Slopes
    messages: Float[np.ndarray, "kinds a q"]
    wiring: AbstractWiring

    @property
    def low(self) -> Float[np.ndarray, "B Nq"]:
        return self.slopes.low.reshape(len(self.slopes.low), -1)

    @property
    def high(self) -> Float[np.ndarray, "B Nq"]:
        return self.slopes.high.reshape(len(self.slopes.high), -1)

    def bound(self) -> Bound:
        """The smaller one of a weighted maximum norm over all states, and the two-norm."""
        slopes, flat = self.slopes, self.low.shape
        q = slopes.low.shape[2]
        known = np.asarray(np.isfinite(slopes.sizes).all(axis=(1, 2, 3)))
        sizes = np.where(known[:, None, None, None], slopes.sizes, 0)

        def product(w: np.ndarray) -> np.ndarray:
            heard = heard_at_most(self.wiring, self.messages, w.reshape(len(w), -1, q))
            return np.einsum("bnqa,bna->bnq", sizes, heard).reshape(flat)

        weighted = perron_bound(product, (flat[0], flat[1]))
        weighted = Bound(np.where(known, weighted.factor, np.inf), weighted.weights)
        kinds, a, _ = self.messages.shape
        side_by_side = np.moveaxis(self.messages, 0, 1).reshape(1, a, kinds * q)
        gain = np.max(slopes.two_norm, axis=1) * spectral_norms(side_by_side)[0]
        two = gain * spread_norm(self.wiring) * (1 + MARGIN)
        return Bound(two, np.full(flat, np.nan)).smaller(weighted)


def spread_norm(wiring: AbstractWiring) -> float:
    """What no two-norm of `wiring.gather` exceeds: by the edges that leave and that reach a site.

    Examples
    --------
    >>> from qdeq.equilibrium.networks import Chain
    >>> round(spread_norm(Chain(5, "both")), 3)
    1.414
    """
    edges, n = wiring.edges, wiring.n_sites
    if not len(edges):
        return 0.0
    leaving = np.bincount(edges.senders, minlength=n).max()
    reaching = np.bincount(edges.receivers + n * edges.kinds).max()
    return float(np.sqrt(leaving * reaching))


def heard_at_most(
    wiring: AbstractWiring,
    messages: Float[np.ndarray, "kinds a q"],
    sizes: Float[np.ndarray, "B N q"],
) -> Float[np.ndarray, "B N a"]:
    """How large what sites hear is at most, of states no larger than `sizes`."""
    return np.einsum("bknq,kaq->bna", gathered(wiring, sizes), abs(messages))


@dataclass(frozen=True, eq=False)
class WiredEncloser:
    """F for features in a region, see `Encloser`.

    Attributes
    ----------
    cells
        Boxes `(B, N, a)` of what sites hear, low and high, to what is known of their cells.
    centre, half_width
        `(B, N, a)`: of U x + b.
    low, high
        `(B, N q)`.
    """

    cells: Callable[[np.ndarray, np.ndarray], Slopes]
    messages: Float[np.ndarray, "kinds a q"]
    wiring: AbstractWiring
    centre: Float[np.ndarray, "B N a"]
    half_width: Float[np.ndarray, "B N a"]
    low: Float[np.ndarray, "B Nq"]
    high: Float[np.ndarray, "B Nq"]

    @property
    def depth(self) -> int | None:
        """After how many applications nothing is left of where they began; None for never."""
        return self.wiring.depth if self.wiring.structure == "causal" else None

    def __call__(self, low: np.ndarray, high: np.ndarray) -> WiredEnclosure:
        shape = (len(low), self.wiring.n_sites, -1)
        middle = ((low + high) / 2).reshape(shape)
        half = ((high - low) / 2).reshape(shape)
        heard = np.einsum("bknq,kaq->bna", gathered(self.wiring, middle), self.messages)
        centre = self.centre + heard
        width = self.half_width + heard_at_most(self.wiring, self.messages, half)
        sums = heard_at_most(self.wiring, self.messages, abs(middle)) + abs(self.centre)
        width = width * (1 + MARGIN) + MARGIN * sums
        return WiredEnclosure(
            self.cells(centre - width, centre + width), self.messages, self.wiring
        )
