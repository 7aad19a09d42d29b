"""How solvers find the equilibrium of a network: every site at every step, small enough for a page.

What is drawn of it is `network_report.py` and, in the page, `page_files/sites.js`.
"""

import base64
import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qdeq.equilibrium.networks import (
    AbstractWiring,
    Chain,
    Grid,
    NetworkEquilibrium,
    Wired,
    growth,
    network_trajectory,
    path_independence,
)
from qdeq.equilibrium.networks.layer import with_tolerances_of_its_solver
from qdeq.models import Network
from qdeq.runs.report_data import until_it_ends

MOST_STEPS = 100
"""Steps of a solver that are followed."""

MOST_ACROSS = 512
"""Sites in a row that are drawn; of longer rows every second, third ... one."""

MOST_NUMBERS = 1_300_000
"""Numbers that a page holds, at 2.7 bytes each: with the rest of it below 5 MB."""

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class SitesPath:
    """What a solver does for one sample.

    Attributes
    ----------
    states
        `(steps, S, q)`: the states of the sites that are drawn, where F was evaluated; NaN where a
        mask leaves a site out.
    moves
        `(steps, S)`: |F(m)_i - m_i|; of sites that are not all drawn, the largest.
    residuals
        |F(m) - m| / |F(m)| over all sites.
    converged
        Whether the last one meets the tolerance.
    distance
        |m - m*| / |m*| at the last step, m* being what the layer found; None without a step.
    """

    states: Array
    moves: Array
    residuals: list[float | None]
    converged: bool
    distance: float | None


@dataclasses.dataclass(frozen=True)
class SitesSearch:
    """How the equilibrium of one sample is found.

    Attributes
    ----------
    label
        What the sample is called.
    equilibrium
        `(S, q)`: the states m* that the layer finds.
    gains
        `(S,)`: two-norm of the derivative of a site's state at m* by the states that it hears; the
        largest, of sites that are not all drawn.
    largest_gain
        Of all sites.
    growth
        Of small changes under application at m*, about the spectral radius; 0 of a causal wiring.
    spread
        Between the states that the layer finds from random starts and those from 0, by the size of
        these; 0 of a causal wiring, which has one equilibrium.
    steps, converged
        Of the layer.
    paths
        By solver.
    """

    label: str
    equilibrium: Array
    gains: Array
    largest_gain: float | None
    growth: float | None
    spread: float | None
    steps: int
    converged: bool
    paths: dict[str, SitesPath]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Which sites a page draws: all, or every k-th of a row (and every k-th row).

    Attributes
    ----------
    rows, columns
        Of all sites, as they lie; rows are 1 but for grids.
    every
        k.

    Examples
    --------
    >>> drawn = Drawn(1, 5, 2)
    >>> drawn.shape, drawn.largest(np.array([1.0, 3.0, 2.0, 0.0, 4.0])).tolist()
    ((1, 3), [3.0, 2.0, 4.0])
    """

    rows: int
    columns: int
    every: int = 1

    @classmethod
    def of(cls, wiring: AbstractWiring) -> "Drawn":
        """So few of a row that a picture shows them."""
        is_grid = isinstance(wiring, Grid)
        rows, columns = (wiring.rows, wiring.columns) if is_grid else (1, wiring.n_sites)
        return cls(rows, columns, -(-max(rows, columns) // MOST_ACROSS))

    def within(self, most: int) -> "Drawn":
        """No more than `most` sites, or a single one; those that are drawn, or some of them."""
        k = 1
        while (coarser := Drawn(self.rows, self.columns, self.every * k)).n > max(most, 1):
            k += 1
        return coarser

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that are drawn."""
        return -(-self.rows // self.every), -(-self.columns // self.every)

    @property
    def n(self) -> int:
        """S."""
        return math.prod(self.shape)

    def chosen(self, values: Array) -> Array:
        """Of `(..., N, q)` the sites that are drawn, `(..., S, q)`."""
        lead, q = values.shape[:-2], values.shape[-1]
        lying = values.reshape(*lead, self.rows, self.columns, q)
        return lying[..., :: self.every, :: self.every, :].reshape(*lead, self.n, q)

    def largest(self, values: Array) -> Array:
        """Of `(..., N)` the largest from each site that is drawn to the next, `(..., S)`.

        NaN counts only where there is nothing else.
        """
        lead, (high, wide) = values.shape[:-1], self.shape
        lying = values.reshape(*lead, self.rows, self.columns)
        ends = [(0, high * self.every - self.rows), (0, wide * self.every - self.columns)]
        lying = np.pad(lying, [(0, 0)] * len(lead) + ends, constant_values=np.nan)
        blocks = lying.reshape(*lead, high, self.every, wide, self.every)
        found = np.fmax.reduce(np.fmax.reduce(blocks, axis=-1), axis=-2)  # NaN: as said above
        return found.reshape(*lead, self.n)


def solvers_for(wiring: AbstractWiring) -> tuple[str, ...]:
    """The solvers that a page compares on a wiring, by their names in `NetworkEquilibrium`.

    >>> solvers_for(Chain(8))
    ('sweep', 'picard', 'anderson', 'newton-scan')
    """
    if wiring.structure == "causal":
        newton = "newton-scan" if isinstance(wiring, Chain) else "newton-blocks"
        return "sweep", "picard", "anderson", newton
    newton = "newton-krylov" if wiring.structure == "graph" else "newton-blocks"
    return "picard", "anderson", "broyden", newton


def searches(
    network: Network | Wired,
    x: Array,
    mask: Array | None,
    *,
    layer: NetworkEquilibrium,
    labels: list[str],
) -> tuple[list[SitesSearch], Drawn]:
    """Follow the solvers that fit the wiring from 0, sample by sample, one program per solver.

    Parameters
    ----------
    network
        On the wiring of the samples.
    x, mask
        `(B, N, d)` and `(B, N)`.
    layer
        Finds m*; its tolerances, bounds and `max_steps` are those of all solvers.
    labels
        Of the samples.
    """
    wiring, n_steps = network.wiring, min(layer.max_steps, MOST_STEPS)
    drawn = Drawn.of(wiring)
    causal = wiring.structure == "causal"
    layer = with_tolerances_of_its_solver(layer)
    found = []
    for k, label in enumerate(labels):
        present = np.ones(wiring.n_sites, bool) if mask is None else mask[k]
        sample = jnp.asarray(x[k]), None if mask is None else jnp.asarray(present)
        end = jax.tree.map(np.asarray, _end(layer, network, *sample))
        gains = np.where(present, gains_of(end.blocks, wiring, present), np.nan)
        paths = {}
        for name in solvers_for(wiring):
            steps = 1 if name == "sweep" else n_steps
            by_name = dataclasses.replace(layer, solver=name)
            path = jax.tree.map(np.asarray, _path(by_name, network, *sample, steps))
            paths[name] = _followed(path, end.value, present, drawn)
        found.append(
            SitesSearch(
                label=label,
                equilibrium=drawn.chosen(_of(present, end.value)),
                gains=drawn.largest(gains),
                largest_gain=_number(np.max(gains[present], initial=0)),
                growth=0.0 if causal else _number(end.growth),
                spread=0.0 if causal else _number(end.spread),
                steps=int(end.steps),
                converged=bool(end.converged),
                paths=paths,
            )
        )
    return _within_a_page(found, drawn)


def _within_a_page(found: list[SitesSearch], drawn: Drawn) -> tuple[list[SitesSearch], Drawn]:
    """The same with fewer sites, where a page would be too large."""
    q = found[0].equilibrium.shape[-1]
    steps = [len(path.residuals) for search in found for path in search.paths.values()]
    fewer = Drawn(*drawn.shape).within(MOST_NUMBERS // ((q + 1) * (sum(steps) + len(found))))

    def thinned(path: SitesPath) -> SitesPath:
        return dataclasses.replace(
            path, states=fewer.chosen(path.states), moves=fewer.largest(path.moves)
        )

    found = [
        dataclasses.replace(
            search,
            equilibrium=fewer.chosen(search.equilibrium),
            gains=fewer.largest(search.gains),
            paths={name: thinned(path) for name, path in search.paths.items()},
        )
        for search in found
    ]
    return found, dataclasses.replace(drawn, every=drawn.every * fewer.every)


class _End(eqx.Module):
    """What the layer finds, and what is to be known of F there."""

    value: Any
    steps: Any
    converged: Any
    growth: Any
    spread: Any
    blocks: Any


@eqx.filter_jit
def _end(layer: NetworkEquilibrium, network: Any, x: Any, mask: Any) -> _End:
    wired = wired_of(network)
    solution = layer(wired, x, mask=mask)
    z, stats = solution.value, solution.stats
    blocks = wired.linearise(z, x, mask)[1].blocks()
    rate = spread = jnp.zeros(())
    if wired.wiring.structure != "causal":
        rate = growth(wired, z, x, mask)
        spread = path_independence(layer, wired, x, key=jax.random.key(0), mask=mask).spread
    return _End(z, stats.steps, stats.converged, rate, spread, blocks)


@eqx.filter_jit
def _path(layer: NetworkEquilibrium, network: Any, x: Any, mask: Any, n_steps: int) -> Any:
    wired = wired_of(network)
    n, q = wired.wiring.n_sites, wired.injection.n_states
    return network_trajectory(layer, wired, x, n_steps=n_steps, z0=jnp.zeros((n, q)), mask=mask)


def wired_of(network: Network | Wired) -> Wired:
    """The map of all sites."""
    return network.wired() if isinstance(network, Network) else network


def _of(present: Array, states: Array) -> Array:
    """NaN where there is no site."""
    return np.where(present[:, None], states, np.nan)


def _followed(path: Any, end: Array, present: Array, drawn: Drawn) -> SitesPath:
    stop, residuals = until_it_ends(path.points, path.values, path.converged)
    of_sites = (stop, *end.shape)
    points, values = path.points[:stop].reshape(of_sites), path.values[:stop].reshape(of_sites)
    distance = None
    with np.errstate(over="ignore", invalid="ignore"):  # of what runs away
        moves = np.linalg.norm(values - points, axis=-1)
        if stop:
            length = np.linalg.norm(end)
            distance = _number(np.linalg.norm(points[-1] - end) / (length if length > 0 else 1))
    return SitesPath(
        states=drawn.chosen(_of(present, points)),
        moves=drawn.largest(np.where(present, moves, np.nan)),
        residuals=residuals,
        converged=bool(path.converged[:stop].any()),
        distance=distance,
    )


def _number(value: Any) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


def gains_of(blocks: Array, wiring: AbstractWiring, present: Array) -> Array:
    """`(N,)`: two-norm of the derivative of every site's state by the states of all that it hears.

    Parameters
    ----------
    blocks
        `(kinds, N, q, q)`: how the state of a site changes with what it hears by a kind of edge.
    wiring
        Who hears whom.
    present
        `(N,)`: which sites there are.
    """
    kinds, n, q, _ = blocks.shape
    edges = wiring.edges
    there = present[edges.senders]
    pairs = edges.receivers[there] * n + edges.senders[there]
    pairs, place = np.unique(pairs, return_inverse=True)
    has = np.zeros((len(pairs), kinds))
    has[place, edges.kinds[there]] = 1
    # The derivative D by one sender is the sum over its kinds, and the square of the norm sought
    # the largest eigenvalue of the sum of D D' over senders: products of blocks of two kinds count
    # as often as there are senders by both.
    both = np.zeros((n, kinds, kinds))
    np.add.at(both, pairs // n, has[:, :, None] * has[:, None])
    finite = np.asarray(np.isfinite(blocks).all(axis=(0, 2, 3)))
    known = np.where(finite[:, None, None], blocks, 0).astype(np.float64)
    squares = np.zeros((n, q, q))
    for r in range(kinds):
        for s in range(kinds):
            if (counts := both[:, r, s]).any():
                squares += counts[:, None, None] * (known[r] @ np.swapaxes(known[s], 1, 2))
    largest = np.linalg.eigvalsh(squares)[:, -1]
    return np.where(finite, np.sqrt(np.maximum(largest, 0)), np.nan)


def packed(numbers: Array) -> str:
    """Numbers as the upper halves of their float32, rounded, in base64: three digits, any size.

    >>> packed(np.array([1.0, -0.5]))
    'gD8Avw=='
    """
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    # Half of what is cut off; not to NaN, whose payload would run over.
    upper = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    upper = np.where(np.isnan(numbers), 0x7FC0, upper).astype("<u2")
    return base64.b64encode(upper.tobytes()).decode()
