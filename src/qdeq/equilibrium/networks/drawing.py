"""Wirings as text and as pictures."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from qdeq.equilibrium.networks.wiring import AbstractWiring, Chain, Grid
from qdeq.errors import UserError, check_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A colour per kind of edge, from the palette that Matplotlib has for categories.
_PALETTE = "tab10"
# As many lines of text as a person may still page through; a wiring itself may be of any size.
MOST_SITES = 10_000


def draw_wiring(wiring: AbstractWiring, *, max_width: int = 100) -> str:
    """Sites and edges as text: chains and grids as they lie, graphs as who hears whom.

    Parameters
    ----------
    wiring
        Any.
    max_width
        In columns; what does not fit is left out in the middle.

    Examples
    --------
    >>> from qdeq.equilibrium.networks import Graph
    >>> print(draw_wiring(Chain(4)))
    Chain(n=4, direction='causal', ring=False): 4 sites, 3 edges of 1 kind
    0 ─▶ 1 ─▶ 2 ─▶ 3
    >>> print(draw_wiring(Grid(2, 3)))
    Grid(rows=2, columns=3, neighbours=4, periodic=False): 6 sites, 14 edges of 4 kinds
    0 ─ 1 ─ 2
    │   │   │
    3 ─ 4 ─ 5
    >>> print(draw_wiring(Graph(3, [(1, 0), (2, 0), (0, 2)], [0, 0, 1])))
    Graph(n=3, 3 edges, 2 kinds): 3 sites, 3 edges of 2 kinds
    0 ◀─ 1, 2
    1
    2 ◀─ 0 (kind 1)

    Raises
    ------
    UserError
        For more than 10,000 sites, or a width that is none.
    """
    _check_drawable(wiring)
    check_count("max_width", max_width)
    edges, kinds = len(wiring.edges), wiring.n_kinds
    title = f"{wiring!r}: {wiring.n_sites:,} site{'s' * (wiring.n_sites > 1)}, {edges:,} edge"
    title += f"{'s' * (edges != 1)} of {kinds:,} kind{'s' * (kinds > 1)}"
    if isinstance(wiring, Chain):
        lines = _chain(wiring, max_width)
    elif isinstance(wiring, Grid):
        lines = _grid(wiring, max_width)
    else:
        lines = _hearers(wiring, max_width)
    return "\n".join([title, *lines])


def draw_wiring_mpl(wiring: AbstractWiring) -> "Figure":
    """Sites and edges as a picture: chains in a row, rings and graphs on a circle, grids as such.

    An arrow goes from a sender to who hears it, in a colour per kind of edge.
    `UserError` for more than 10,000 sites.
    """
    _check_drawable(wiring)
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    x, y = _positions(wiring)
    # Two inches of margin, and no picture of a thousand sites that is a mile wide.
    width, height = (
        float(np.clip(1.2 + 0.8 * (values.max() - values.min()), 2, 16)) for values in (x, y)
    )
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    colours = mpl.color_sequences[_PALETTE]
    edges, sizes = wiring.edges, 9 if wiring.n_sites <= 100 else 4
    drawn, numbers = np.unique(edges.kinds, return_inverse=True)
    side_by_side: Counter[tuple[int, int]] = Counter()  # edges of several kinds between two sites
    for sender, receiver, kind in zip(edges.senders, edges.receivers, numbers, strict=True):
        colour = colours[kind % len(colours)]
        before = side_by_side[sender, receiver]
        side_by_side[sender, receiver] += 1
        if sender == receiver:  # a loop above the site
            radius = 0.2 * 0.75**before
            middle = float(x[sender]), float(y[sender]) + radius + 0.05
            axes.add_patch(Circle(middle, radius, fill=False, edgecolor=colour))
            continue
        style = {"arrowstyle": "->", "color": colour, "shrinkA": sizes, "shrinkB": sizes}
        style["connectionstyle"] = f"arc3,rad={0.12 + 0.08 * before}"
        ends = (x[receiver], y[receiver]), (x[sender], y[sender])
        axes.annotate("", *ends, arrowprops=style, annotation_clip=False)
    axes.scatter(x, y, s=sizes**2 * 3, color="white", edgecolors="black", zorder=3)
    if wiring.n_sites <= 100:
        for site, place in enumerate(zip(x, y, strict=True)):
            axes.annotate(str(site), place, ha="center", va="center", fontsize=8, zorder=4)
    if wiring.n_kinds > 1 and 0 < len(drawn) <= len(colours):  # of more kinds, colours say nothing
        for kind, colour in zip(drawn, colours, strict=False):
            axes.plot([], [], color=colour, label=f"kind {kind}")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    axes.set_xlim(x.min() - 0.6, x.max() + 0.6)
    axes.set_ylim(y.min() - 0.6, y.max() + 0.6)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure


def _check_drawable(wiring: AbstractWiring) -> None:
    # Before the edges are asked for: they are arrays.
    if wiring.n_sites > MOST_SITES:
        raise UserError(
            f"{wiring!r} has {wiring.n_sites:,} sites: at most {MOST_SITES:,} can be drawn, give a "
            "smaller wiring of the same kind"
        )


def _chain(wiring: Chain, max_width: int) -> list[str]:
    arrow = " ─▶ " if wiring.direction == "causal" else " ◀▶ "
    row = _in_row(range(wiring.n), arrow, max_width)
    if not wiring.ring:
        return [row]
    return [row, "╰" + "─" * (len(row) - 2) + "╯"]


def _grid(wiring: Grid, max_width: int) -> list[str]:
    digits = len(str(wiring.n_sites - 1))
    fits = max(1, (max_width - 4) // (digits + 3))
    columns = list(range(wiring.columns))
    cut = len(columns) > fits
    columns = columns[:fits] if cut else columns
    lines = []
    between = " ╳ " if wiring.neighbours == 8 else "   "
    for row in range(wiring.rows):
        sites = [f"{row * wiring.columns + column:>{digits}}" for column in columns]
        lines.append(" ─ ".join(sites) + (" ─ …" if cut else ""))
        if row < wiring.rows - 1:
            lines.append(between.join(["│".rjust(digits)] * len(columns)))
    if wiring.periodic:
        lines.append("(opposite borders meet)")
    return lines


def _hearers(wiring: AbstractWiring, max_width: int) -> list[str]:
    edges, lines = wiring.edges, []
    ends = np.searchsorted(edges.receivers, np.arange(wiring.n_sites + 1))
    for site in range(wiring.n_sites):
        parts: list[str] = []
        own = slice(ends[site], ends[site + 1])
        for kind in np.unique(edges.kinds[own]):
            senders = edges.senders[own][edges.kinds[own] == kind]
            told = ", ".join(map(str, senders))
            parts.append(told if kind == 0 else f"{told} (kind {kind})")
        line = f"{site} ◀─ {'; '.join(parts)}" if parts else f"{site}"
        lines.append(line if len(line) <= max_width else line[: max_width - 2] + " …")
    return lines


def _in_row(sites: range, arrow: str, max_width: int) -> str:
    row = arrow.join(map(str, sites[: max_width // 4 + 2]))
    if len(row) <= max_width and len(sites) <= max_width // 4 + 2:
        return row
    end = f"{arrow}…{arrow}{sites[-1]}"
    first = 1
    while len(arrow.join(map(str, sites[: first + 1])) + end) <= max_width:
        first += 1
    return arrow.join(map(str, sites[:first])) + end


def _positions(wiring: AbstractWiring) -> tuple[np.ndarray, np.ndarray]:
    n = wiring.n_sites
    sites = np.arange(n)
    if isinstance(wiring, Grid):
        return sites % wiring.columns * 1.0, -(sites // wiring.columns) * 1.0
    if (isinstance(wiring, Chain) and not wiring.ring) or wiring.structure == "apart":
        return sites * 1.0, np.zeros(n)
    radius = max(n, 3) / (2 * np.pi)
    turn = np.pi / 2 - 2 * np.pi * sites / n
    return radius * np.cos(turn), radius * np.sin(turn)
