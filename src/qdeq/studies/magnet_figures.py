"""Pictures of the magnet study."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from qdeq.runs.figures import BLUE, GREEN, GREY, ORANGE, styled_figure
from qdeq.studies.results import Results
from qdeq.studies.study import Row


def draw_errors(results: Results, rows: Sequence[Row], asked: Mapping[int, float]) -> Figure:
    """Error against size, a line per row."""
    sizes = sorted(asked)
    depths = [row for row in rows if row.name.startswith("direct-")]
    with styled_figure(6.8, 3.9) as (figure, (panel,)):
        for row in rows:
            color, style, fade = _style(row, depths)
            there = [n for n in sizes if results.numbers(row.key, f"error_{n}")]
            means = [results.mean(row.key, f"error_{n}")[0] for n in there]
            look = {"color": color, "alpha": fade, "ls": style}
            panel.plot(there, means, marker="o", ms=3.5, label=row.label, **look)
            for n in there:
                seeds = list(results.numbers(row.key, f"error_{n}").values())
                panel.plot([n] * len(seeds), seeds, ".", color=color, alpha=0.3 * fade, ms=3)
        panel.plot(sizes, [asked[n] for n in sizes], "kx", ms=6, label="asked for")
        panel.set(xscale="log", yscale="log", xlabel="spins", ylabel="error / variance")
        panel.set_xticks(sizes, [str(n) for n in sizes])
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


def _style(row: Row, depths: Sequence[Row]) -> tuple[str, str, float]:
    if row in depths:
        return ORANGE, "-", 0.35 + 0.65 * (depths.index(row) + 1) / len(depths)
    if row.options.get("cell") == "tanh":
        return GREEN, "-" if row.options["layers"] is None else "--", 1.0
    if row.name == "equilibrium":
        return BLUE, "-", 1.0
    return GREY, "--" if row.name == "ridge" else "-", 1.0
