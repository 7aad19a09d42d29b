"""Wirings as data: which sites hear which, by kinds of edges. Nothing is computed with them here.

A wiring is checked once, when it is made, and never changes; what is learned does not know its
size. Any wiring as a list of edges is in `graph.py`.
"""

import abc
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qdeq.errors import UserError, check_choice, check_count, check_flag

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Edges:
    """Who hears whom, one entry per edge, sorted by receiver.

    Attributes
    ----------
    senders, receivers
        Numbers of sites from 0, `(n_edges,)`.
    kinds
        Kind of every edge from 0, `(n_edges,)`.
    """

    senders: Int[np.ndarray, " n_edges"]
    receivers: Int[np.ndarray, " n_edges"]
    kinds: Int[np.ndarray, " n_edges"]

    def __len__(self) -> int:
        return len(self.senders)


class AbstractWiring(abc.ABC):
    """What the solvers ask of a wiring; a subclass is a frozen dataclass.

    Attributes
    ----------
    structure
        What may be used of it: "apart" (sites hear themselves at most), "causal" (a site hears
        nothing that hears it), "line" and "ring" (neighbours on both sides), or "graph".
    closes
        Whether its ends meet: then a site cannot be left out of it by a mask.
    """

    closes: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def structure(self) -> str: ...

    @property
    @abc.abstractmethod
    def n_sites(self) -> int:
        """N."""

    @property
    @abc.abstractmethod
    def n_kinds(self) -> int:
        """How many kinds of edges there are, at least 1; each has a weight matrix."""

    @property
    @abc.abstractmethod
    def edges(self) -> Edges:
        """All edges."""

    @property
    @abc.abstractmethod
    def depth(self) -> int:
        """For a causal wiring the sites on its longest path: as many applications are exact."""

    def gather(self, states: Float[Array, "N q"]) -> Float[Array, "kinds N q"]:
        """What every site hears, by kind: the sum of its senders' states, 0 where none sends."""
        kinds = []
        for sources, targets, single in self._by_kind:
            if single:
                zero = jnp.zeros((1, states.shape[1]), states.dtype)
                kinds.append(jnp.concatenate([states, zero])[sources])
            else:
                total = jnp.zeros_like(states).at[targets].add(states[sources])
                kinds.append(total)
        return jnp.stack(kinds)

    @cached_property
    def _by_kind(self) -> list[tuple[np.ndarray, np.ndarray, bool]]:
        """For each kind the senders: of every site (N for none), or edge by edge with receivers."""
        edges, n, found = self.edges, self.n_sites, []
        for kind in range(self.n_kinds):
            chosen = edges.kinds == kind
            # Of a type that JAX has in float32 and in float64 programs.
            senders = edges.senders[chosen].astype(np.int32)
            receivers = edges.receivers[chosen].astype(np.int32)
            if len(np.unique(receivers)) == len(receivers):
                sources = np.full(n, n, np.int32)
                sources[receivers] = senders
                found.append((sources, receivers, True))
            else:
                found.append((senders, receivers, False))
        return found

    def draw(self, *, max_width: int = 100) -> str:
        """Sites and edges as text, see `draw_mpl` for a picture."""
        from qdeq.equilibrium.networks.drawing import draw_wiring

        return draw_wiring(self, max_width=max_width)

    def draw_mpl(self) -> "Figure":
        """Sites and edges as a Matplotlib figure; arrows go from a sender to who hears it."""
        from qdeq.equilibrium.networks.drawing import draw_wiring_mpl

        return draw_wiring_mpl(self)

    @property
    def has_self_loops(self) -> bool:
        """Whether a site hears itself."""
        return bool(np.any(self.edges.senders == self.edges.receivers))


def sorted_edges(senders: np.ndarray, receivers: np.ndarray, kinds: np.ndarray) -> Edges:
    """By receiver, then by kind, then by sender."""
    order = np.lexsort((senders, kinds, receivers))
    return Edges(senders[order], receivers[order], kinds[order])


@dataclass(frozen=True)
class Alone(AbstractWiring):
    """Every site hears itself and no other: the paper's model, `n` times.

    Parameters
    ----------
    n
        Sites, at least 1.
    """

    n: int = 1

    def __post_init__(self) -> None:
        check_count("n", self.n)

    @property
    def structure(self) -> str:
        return "apart"

    @property
    def n_sites(self) -> int:
        return self.n

    @property
    def n_kinds(self) -> int:
        return 1

    @property
    def edges(self) -> Edges:
        sites = np.arange(self.n)
        return Edges(sites, sites, np.zeros(self.n, int))

    @property
    def depth(self) -> int:
        raise UserError("Alone() hears itself: no number of applications is exact")

    def gather(self, states: Float[Array, "N q"]) -> Float[Array, "kinds N q"]:
        return states[None]


@dataclass(frozen=True)
class Chain(AbstractWiring):
    """Sites in a row: each hears the one before it, or its neighbours on both sides.

    Parameters
    ----------
    n
        Sites, at least 1; a ring has at least 3.
    direction
        "causal": site i hears site i - 1, one kind of edge. "both": it hears i - 1 (kind 0) and
        i + 1 (kind 1).
    ring
        Whether the ends meet, for "both" only: a ring is a cycle.

    Raises
    ------
    UserError
        For a size or a direction that there is not, or a causal ring.

    Examples
    --------
    >>> Chain(3).edges.senders.tolist(), Chain(3).edges.receivers.tolist()
    ([0, 1], [1, 2])
    """

    n: int
    direction: str = "causal"
    ring: bool = False

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, ["causal", "both"])
        check_flag("ring", self.ring)
        if self.ring and self.direction == "causal":
            raise UserError(
                "ring=True with direction='causal': a ring is a cycle, in which nothing comes "
                "first; give direction='both'"
            )
        why = ": the two neighbours of a site in a ring are two others" if self.ring else ""
        check_count("n", self.n, 3 if self.ring else 1, why)

    @property
    def closes(self) -> bool:
        return self.ring

    @property
    def structure(self) -> str:
        if self.direction == "causal":
            return "causal"
        return "ring" if self.ring else "line"

    @property
    def n_sites(self) -> int:
        return self.n

    @property
    def n_kinds(self) -> int:
        return 1 if self.direction == "causal" else 2

    @property
    def edges(self) -> Edges:
        sites = np.arange(self.n)
        before = sites[1:] - 1, sites[1:]
        if self.direction == "causal":
            return Edges(*before, np.zeros(self.n - 1, int))
        after = sites[:-1] + 1, sites[:-1]
        if self.ring:
            before, after = ((sites - 1) % self.n, sites), ((sites + 1) % self.n, sites)
        pairs = np.concatenate([before, after], axis=1)
        return sorted_edges(pairs[0], pairs[1], np.repeat([0, 1], len(before[0])))

    @property
    def depth(self) -> int:
        if self.direction != "causal":
            raise UserError("a chain both ways has cycles: no number of applications is exact")
        return self.n

    def gather(self, states: Float[Array, "N q"]) -> Float[Array, "kinds N q"]:
        # Shifts and no gather: XLA's CPU backend copies the rows of a gather one by one.
        zero = jnp.zeros((1, states.shape[1]), states.dtype)
        first, last = (states[-1:], states[:1]) if self.ring else (zero, zero)
        before = jnp.concatenate([first, states[:-1]])
        if self.direction == "causal":
            return before[None]
        return jnp.stack([before, jnp.concatenate([states[1:], last])])


_DIRECTIONS = {
    4: ((-1, 0), (1, 0), (0, -1), (0, 1)),
    8: ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)),
}


@dataclass(frozen=True)
class Grid(AbstractWiring):
    """Sites in rows and columns, row by row, that hear their neighbours; a kind per direction.

    Parameters
    ----------
    rows, columns
        At least 1 each; at least 3 where the grid is periodic.
    neighbours
        4 (above, below, left, right: kinds 0 to 3), or 8 (and the diagonals: kinds 4 to 7).
    periodic
        Whether opposite borders meet.

    Raises
    ------
    UserError
        For a size that is too small, or another number of neighbours.
    """

    rows: int
    columns: int
    neighbours: int = 4
    periodic: bool = False

    def __post_init__(self) -> None:
        check_flag("periodic", self.periodic)
        least, why = (3, " where the grid is periodic") if self.periodic else (1, "")
        check_count("rows", self.rows, least, why)
        check_count("columns", self.columns, least, why)
        if not isinstance(self.neighbours, Integral) or self.neighbours not in _DIRECTIONS:
            raise UserError(f"neighbours={self.neighbours!r}: give 4 or 8")

    @property
    def closes(self) -> bool:
        return self.periodic

    @property
    def structure(self) -> str:
        return "graph"

    @property
    def n_sites(self) -> int:
        return self.rows * self.columns

    @property
    def n_kinds(self) -> int:
        return self.neighbours

    @cached_property
    def edges(self) -> Edges:
        row, column = np.divmod(np.arange(self.n_sites), self.columns)
        senders, receivers, kinds = [], [], []
        for kind, (down, right) in enumerate(_DIRECTIONS[self.neighbours]):
            r, c = row + down, column + right
            if self.periodic:
                r, c = r % self.rows, c % self.columns
            there = (r >= 0) & (r < self.rows) & (c >= 0) & (c < self.columns)
            senders.append((r * self.columns + c)[there])
            receivers.append(np.flatnonzero(there))
            kinds.append(np.full(int(there.sum()), kind))
        return sorted_edges(*(np.concatenate(part) for part in (senders, receivers, kinds)))

    @property
    def depth(self) -> int:
        raise UserError("a grid has cycles: no number of applications is exact")
