"""A wiring given as a list of edges: what is checked of it, and its longest path."""

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import numpy as np

from qdeq.equilibrium.networks.wiring import AbstractWiring, Edges, sorted_edges
from qdeq.errors import UserError, check_count, check_flag, told


@dataclass(frozen=True, eq=False)
class Graph(AbstractWiring):
    """Any wiring, as a list of edges.

    Sites that nothing reaches hear their features alone; a site may hear itself. Several graphs
    are one: number their sites one after the other. Edges have a direction: where two sites hear
    one another both pairs are there. They have a kind and no weight.

    Parameters
    ----------
    n
        Sites, at least 1.
    edges
        Pairs (sender, receiver), an array `(n_edges, 2)` or an iterable; it may be empty.
    kinds
        Kind of every edge, numbers from 0, as long as `edges`; None: one kind.
    n_kinds
        How many kinds there are; None: those that occur. Say it where graphs that share weights
        have not all kinds.
    causal
        That there is no cycle: it is checked, and used.

    Raises
    ------
    UserError
        For numbers of sites or kinds that there are not, an edge that is there twice, or a cycle
        in a causal graph.

    Examples
    --------
    >>> star = Graph(4, [(1, 0), (2, 0), (3, 0)])
    >>> star.n_kinds, len(star.edges)
    (1, 3)
    """

    n: int
    connections: tuple[tuple[int, int], ...] | np.ndarray | Sequence
    edge_kinds: Sequence[int] | np.ndarray | None
    number_of_kinds: int
    causal: bool

    def __init__(
        self,
        n: int,
        edges: Iterable | np.ndarray = (),
        kinds: Sequence[int] | np.ndarray | None = None,
        *,
        n_kinds: int | None = None,
        causal: bool = False,
    ) -> None:
        check_count("n", n)
        check_flag("causal", causal)
        _check_weights(edges)
        pairs = _whole_numbers("edges", edges, "pairs (sender, receiver) of site numbers")
        pairs = pairs.reshape(-1, 2) if pairs.size == 0 else pairs
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise UserError(
                f"edges has shape {pairs.shape}: give pairs (sender, receiver), (n_edges, 2); "
                "those of an edge_index are edge_index.T, of a matrix np.argwhere(matrix)"
            )
        wrong = (pairs < 0) | (pairs >= n)
        if wrong.any():
            at = int(np.flatnonzero(wrong.any(axis=1))[0])
            raise UserError(
                f"edges[{at}]=({pairs[at, 0]}, {pairs[at, 1]}): sites are numbered from 0 to "
                f"{n - 1}"
            )
        marks = np.zeros(len(pairs), int)
        if kinds is not None:
            marks = _whole_numbers("kinds", kinds, "a number from 0 for every edge")
        if marks.shape != (len(pairs),):
            raise UserError(f"kinds has shape {marks.shape}: there are {len(pairs)} edges")
        most = int(marks.max()) + 1 if len(marks) else 1
        if n_kinds is not None:
            check_count("n_kinds", n_kinds)
        if len(marks) and (marks.min() < 0 or (n_kinds is not None and most > n_kinds)):
            value = int(marks.min()) if marks.min() < 0 else most - 1
            allowed = "0 on" if n_kinds is None else f"0 to {n_kinds - 1}"
            raise UserError(f"kinds holds {value}: kinds are numbered from {allowed}")
        rows, counts = np.unique(np.column_stack([pairs, marks]), axis=0, return_counts=True)
        if (counts > 1).any():
            sender, receiver, kind = rows[int(np.argmax(counts > 1))]
            raise UserError(
                f"edges holds ({sender}, {receiver}) of kind {kind} twice: give every edge once"
            )
        for name, value in (
            ("n", int(n)),
            ("connections", pairs),
            ("edge_kinds", marks),
            ("number_of_kinds", most if n_kinds is None else int(n_kinds)),
            ("causal", bool(causal)),
        ):
            object.__setattr__(self, name, value)
        if causal:
            _ = self._longest_path  # refuses cycles

    def _identity(self) -> tuple:
        edges = self.edges
        parts = (edges.senders, edges.receivers, edges.kinds)
        return (self.n, self.number_of_kinds, self.causal, *(part.tobytes() for part in parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        causal = ", causal=True" if self.causal else ""
        return f"Graph(n={self.n}, {len(self.edges)} edges, {self.n_kinds} kinds{causal})"

    @property
    def structure(self) -> str:
        return "causal" if self.causal else "graph"

    @property
    def n_sites(self) -> int:
        return self.n

    @property
    def n_kinds(self) -> int:
        return self.number_of_kinds

    @cached_property
    def edges(self) -> Edges:
        pairs = np.asarray(self.connections)
        return sorted_edges(pairs[:, 0], pairs[:, 1], np.asarray(self.edge_kinds))

    @property
    def depth(self) -> int:
        if not self.causal:
            raise UserError("the graph may have cycles: no number of applications is exact")
        return self._longest_path

    @cached_property
    def _longest_path(self) -> int:
        """Sites on it; `UserError` where there is a cycle."""
        heard: dict[int, list[int]] = {site: [] for site in range(self.n)}
        pairs = zip(self.edges.receivers.tolist(), self.edges.senders.tolist(), strict=True)
        for receiver, sender in pairs:
            heard[receiver].append(sender)
        length: dict[int, int] = {}
        try:
            for site in graphlib.TopologicalSorter(heard).static_order():
                length[site] = 1 + max((length[sender] for sender in heard[site]), default=0)
        except graphlib.CycleError as error:
            cycle = error.args[1]
            what = " -> ".join(map(str, cycle if len(cycle) <= 8 else [*cycle[:7], "..."]))
            what = f"site {cycle[0]} hears itself" if len(cycle) == 2 else what
            raise UserError(
                f"causal=True: the edges hold a cycle, {what}; leave causal out, or the edge"
            ) from None
        return max(length.values())


def _check_weights(edges: object) -> None:
    """Raise `UserError` for edges that come with weights, as those of a networkx graph may."""
    if not isinstance(edges, Mapping):
        return
    for pair, value in edges.items():
        if isinstance(value, Real) or (isinstance(value, Mapping) and "weight" in value):
            raise UserError(
                f"edges holds {told(value)} beside {told(pair)}: an edge has a kind and no weight; "
                "give the pairs alone, list(edges), and kinds"
            )


def _whole_numbers(name: str, values: object, wanted: str) -> np.ndarray:
    if np.ma.is_masked(values):
        raise UserError(f"{name} is masked: give {wanted}")
    try:
        if isinstance(values, Iterable) and not isinstance(values, Sequence | np.ndarray):
            # Which NumPy takes for one object: a zip, a set, the edges of a networkx graph.
            values = values if hasattr(values, "__array__") else list(values)
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.size == 0:
        return np.zeros(array.shape if array.ndim else (0,), int)
    if array.dtype.kind not in "iu":
        raise UserError(f"{name} holds other things than whole numbers: give {wanted}")
    return array.astype(int)
