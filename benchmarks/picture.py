"""Results as a picture: every row as a multiple of its target, and the scaling curves."""

from pathlib import Path
from typing import Any

from benchmarks.measurements import Curve, Entry, Results
from benchmarks.tables import figure

_MET, _MISSED = "#2a7f62", "#c8553d"


def draw(results: Results, path: str | Path) -> None:
    """Write the picture of a run; the format follows from the suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in results.rows if row.target and row.reached]
    with_rows = bool(rows) or not results.curves
    n_lines = -(-len(results.curves) // 2)
    heights = [1.2 + 0.36 * len(rows)] * with_rows + [3.2 * n_lines] * (n_lines > 0)
    canvas = Figure(figsize=(11, sum(heights)), layout="constrained")
    FigureCanvasAgg(canvas)
    # Figures of their own: the rows' long names take no room from the curves.
    parts = list(canvas.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if with_rows:
        _draw_rows(parts.pop(0).subplots(), rows)
    if results.curves:
        axes = parts.pop().subplots(n_lines, 2, squeeze=False).ravel()
        for position, one in enumerate(axes):
            if position < len(results.curves):
                _draw_curve(one, results.curves[position])
            else:
                one.set_axis_off()
    canvas.savefig(path, dpi=150)


def _draw_rows(axes: Any, rows: list[Entry]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    # A dot per row and not a bar: on a logarithmic axis a bar's length means nothing.
    for position, row in enumerate(reversed(rows)):
        assert row.target and row.reached
        relative = row.reached / row.target
        colour = _MET if relative <= 1 else _MISSED
        axes.plot([1, relative], [position, position], color=colour, linewidth=1.5)
        axes.plot([relative], [position], "o", color=colour)
        axes.annotate(
            f"{figure(row, row.reached)}  (target {figure(row, row.target)})",
            (max(relative, 1), position),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.work for row in reversed(rows)], fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 4)  # room for the numbers
    axes.set_xlabel("reached / target (left of 1: met)")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Any, curve: Curve) -> None:
    for name, line in curve.seconds.items():
        points = [(v, s) for v, s in zip(curve.values, line, strict=True) if s is not None]
        axes.plot(*zip(*points, strict=True), "o-", label=name, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(curve.values, [str(value) for value in curve.values])
    axes.set_xlabel(curve.label)
    per = "step and seed" if curve.key == "seeds" else "training step"
    axes.set_ylabel(f"seconds per {per}")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
