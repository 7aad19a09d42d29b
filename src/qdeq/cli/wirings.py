"""Wirings by words of the command line, for `qdeq draw` and `qdeq resources`."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from qdeq.errors import UserError

if TYPE_CHECKING:
    from qdeq.equilibrium.networks import AbstractWiring

WiringName = Literal["alone", "chain", "chain-both", "ring", "grid", "grid-8", "graph"]


def wiring_of(name: WiringName, sites: str | None, edges: str | None) -> "AbstractWiring":
    """The wiring of `--wiring`, `--sites` and `--edges`.

    Parameters
    ----------
    name
        Of a wiring.
    sites
        A number, of a grid rows and columns as in 3x4; None for a small one.
    edges
        Of a graph, sender and receiver as in 0-1,1-2, with :k after an edge of kind k.

    Raises
    ------
    UserError
        For words that are no such numbers, edges of another wiring than a graph, and what the
        wiring itself refuses.
    """
    from qdeq.equilibrium.networks import Alone, Chain, Graph, Grid

    if name != "graph" and edges is not None:
        raise UserError(f"edges={edges}: only --wiring graph is given by its edges")
    if name.startswith("grid"):
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", "4x4" if sites is None else sites)
        if found is None:
            raise UserError(f"sites={sites}: a grid has rows and columns, such as 3x4")
        return Grid(int(found[1]), int(found[2]), 8 if name == "grid-8" else 4)
    if name == "graph":
        pairs, kinds = _edges_of(edges)
        n = 1 + max((site for pair in pairs for site in pair), default=0)
        return Graph(n if sites is None else _number(sites), pairs, kinds)
    n = _number("8" if sites is None else sites)
    make: dict[str, Callable[[], Any]] = {
        "alone": lambda: Alone(n),
        "chain": lambda: Chain(n),
        "chain-both": lambda: Chain(n, "both"),
        "ring": lambda: Chain(n, "both", ring=True),
    }
    try:
        return make[name]()
    except UserError as error:  # in the words of the command line
        raise UserError(re.sub("^n=", "sites=", str(error))) from None


def _number(sites: str) -> int:
    if not re.fullmatch(r"\d{1,9}", sites) or int(sites) < 1:
        raise UserError(f"sites={sites}: give a whole number of at least 1")
    return int(sites)


def _edges_of(edges: str | None) -> tuple[list[tuple[int, int]], list[int]]:
    if edges is None:
        raise UserError("wiring=graph: it is given by its edges, such as --edges 0-1,1-2,2-0")
    pairs, kinds = [], []
    for word in filter(None, edges.split(",")):
        found = re.fullmatch(r"(\d{1,9})-(\d{1,9})(?::(\d{1,4}))?", word.strip())
        if found is None:
            raise UserError(
                f"edges={edges}: {word.strip()!r} is no edge, give sender and receiver as in "
                "0-1,1-2, and :k after one of kind k"
            )
        pairs.append((int(found[1]), int(found[2])))
        kinds.append(int(found[3] or 0))
    return pairs, kinds
