"""Pictures of the magnet study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qdeq.runs.figures import BLUE, GREEN, GREY, ORANGE, styled_figure
from qdeq.studies.magnet.data import shape_of
from qdeq.studies.results import Results
from qdeq.studies.study import Row


def draw_errors(
    results: Results, rows: Sequence[Row], tests: Sequence[str], asked: Mapping[str, float]
) -> Figure:
    """Error against size, a line per row."""
    sizes = {text: math.prod(shape_of(text)) for text in tests}
    depths = [row for row in rows if row.name.startswith("direct-")]
    with styled_figure(6.8, 3.9) as (figure, (panel,)):
        for row in rows:
            color, style, fade = _style(row, depths)
            there = [text for text in sizes if results.numbers(row.key, f"error_{text}")]
            means = [results.mean(row.key, f"error_{text}")[0] for text in there]
            look = {"color": color, "alpha": fade, "ls": style}
            panel.plot(
                [sizes[n] for n in there], means, marker="o", ms=3.5, label=row.label, **look
            )
            for n in there:
                seeds = list(results.numbers(row.key, f"error_{n}").values())
                panel.plot([sizes[n]] * len(seeds), seeds, ".", color=color, alpha=0.3 * fade, ms=3)
        if asked:
            wanted = [sizes[n] for n in asked], list(asked.values())
            panel.plot(*wanted, "kx", ms=6, label="asked for")
        panel.set(xscale="log", yscale="log", xlabel="spins", ylabel="error / variance")
        panel.set_xticks(list(sizes.values()), list(sizes))
        panel.minorticks_off()
        figure.legend(loc="outside right center")
    return figure


def draw_profile(profiles: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Magnetisations along one chain: exact, and by model."""
    exact = next(iter(profiles.values()))["exact"]
    colors = {"equilibrium": BLUE, "direct(1)": ORANGE, "direct(10)": ORANGE, "mean field": GREY}
    styles: dict[str, Any] = {"direct(1)": ":"}
    with styled_figure(7.2, 3.0) as (figure, (panel,)):
        panel.plot(exact, color="black", lw=2.5, alpha=0.35, label="exact")
        for label, color in colors.items():
            if label in profiles:
                answers = profiles[label]["answers"]
                panel.plot(answers, color=color, lw=1.2, ls=styles.get(label, "-"), label=label)
        panel.set(xlabel="site", ylabel="⟨Z⟩", ylim=(-1.05, 1.05))
        figure.legend(loc="outside right center")
    return figure


def field_of(m: Any, g: float) -> Any:
    """The uniform field in which m is a mean-field magnetisation of an endless chain (J = 1).

    m = v / |(v, g)| with v = h + 2 m, solved for h. Several m may have the same field.
    """
    return g * m / np.sqrt(1 - m**2) - 2 * m


def branch_point(g: float) -> tuple[float, float] | None:
    """Field and magnetisation, the positive one, at which two mean-field equilibria become one.

    None from g = 2 on, where there is one equilibrium in every field.

    >>> branch_point(2.0) is None, branch_point(1.0) is None
    (True, False)
    """
    if g >= 2:
        return None
    m = math.sqrt(1 - (g / 2) ** (2 / 3))  # where the derivative of `field_of` is 0
    return float(field_of(m, g)), m


def draw_branches(strengths: Sequence[float]) -> Figure:
    """Mean-field magnetisation against a uniform field, with the points where branches end."""
    m = np.linspace(-0.999, 0.999, 2001)
    with styled_figure(6.4, 3.2) as (figure, (panel,)):
        for color, g in zip((BLUE, GREEN, ORANGE), strengths, strict=True):
            h, end = field_of(m, g), branch_point(g)
            held = np.abs(m) >= (0 if end is None else end[1])
            for side in (m < 0, m >= 0):  # apart, so that no line joins the two branches
                label = f"g = {g:g}" if side[-1] else None
                panel.plot(np.where(held & side, h, np.nan), m, color=color, label=label)
            if end is not None:
                panel.plot(h[~held], m[~held], color=color, ls=":", lw=1)
                panel.plot([end[0], -end[0]], [end[1], -end[1]], "o", color=color, ms=5)
        panel.set(xlim=(-1.2, 1.2), xlabel="field h", ylabel="magnetisation m")
        figure.legend(loc="outside right center")
    return figure


def _style(row: Row, depths: Sequence[Row]) -> tuple[str, str, float]:
    if row in depths:
        return ORANGE, "-", 0.35 + 0.65 * (depths.index(row) + 1) / len(depths)
    if row.options.get("cell") == "tanh":
        return GREEN, "-" if row.options["layers"] is None else "--", 1.0
    if row.options.get("cell") in ("wide", "apart"):
        return BLUE, "-.", 1.0 if row.name == "wide" else 0.5
    if row.name == "equilibrium":
        return BLUE, "-", 1.0
    if row.options.get("cell") == "circuit":  # trained on other sizes
        return BLUE, ":" if row.name == "one-size" else "--", 0.7
    return GREY, "--" if row.name == "ridge" else "-", 1.0
