"""Series: a causal chain of circuits at equilibrium against what else forecasts series.

What is trained for a row is `rows.py`; the series are `data.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from qdeq.errors import UserError
from qdeq.runs.figures import BLUE, GREEN, GREY, ORANGE, styled_figure
from qdeq.runs.statistics import Comparison, paired
from qdeq.studies.results import ABSENT, Grid, Results
from qdeq.studies.study import Metric, Row, Study

#: Series by name: what they are, rows of the long horizon, rows between windows and between tests.
SERIES: dict[str, tuple[str, int, int, int]] = {
    "mackey-glass": ("Mackey-Glass, delay 17, every 3", 48, 2, 4),
    "sunspots": ("sunspots, 309 years", 11, 1, 1),
    "lorenz": ("Lorenz, three channels, every 0.05", 20, 2, 4),
    "laser": ("Santa Fe laser, first 2,000", 16, 2, 4),
}

#: Rows by name: what people read.
MODELS = {
    "chain": "chain of circuits, equilibrium",
    "alone": "the circuit alone, on lags",
    "ridge": "ridge regression on lags",
    "gru": "GRU of equal size",
    "esn": "echo state network of equal size",
    "esn-large": "echo state network, 500 units",
}

_COLOURS = {"chain": BLUE, "alone": ORANGE, "ridge": GREY, "gru": GREEN}
_OPTIONS = {"n_qubits": 3, "ansatz_layers": 2, "length": 24, "warm_up": 8, "batch": 32}
_STEPS = 1200


@dataclass(frozen=True, kw_only=True)
class SeriesStudy(Study):
    """One step ahead, and far ahead on its own forecasts."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("one_step", "one step", ".4f"),
        Metric("far", "far ahead", ".3f"),
        Metric("parameters", "trained numbers", "d", per_seed=False),
        Metric("train_seconds", "seconds, choice and all seeds", ".0f", per_seed=False),
    )
    compared: ClassVar[str] = "one_step"
    group_header: ClassVar[str] = "series"

    seeds: tuple[int, ...] = tuple(range(10))

    @property
    def title(self) -> str:
        return "Series"

    @property
    def description(self) -> str:
        return (
            "Forecasts of four series, normalised root mean squared error (1: what the mean of the "
            "test part has). Three fifths of the rows train, the next fifth validates, the last "
            "tests. Every model says what the next row adds to this one; far ahead it feeds on its "
            "own forecasts, the chain's state going from row to row. A cell has three qubits (two "
            "hardware-efficient layers, RY and RZ of each, X, Y and Z of each), hears the row and "
            f"the cell before it, and is trained for {_STEPS:,} steps of Adam on windows of "
            f"{_OPTIONS['length']} rows, as the GRU and the circuit alone are. What is chosen on "
            "validation rows of the first seed stands below."
        )

    def rows(self) -> list[Row]:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")
        return [
            Row(
                group=series,
                name=model,
                label=label,
                kind="qdeq.studies.series.rows:train_row",
                seeds=self.seeds,
                options={
                    "series": series,
                    "model": model,
                    "horizon": horizon,
                    "stride": stride,
                    "every": every,
                    "steps": _STEPS,
                    "units": 500 if model == "esn-large" else None,
                    **_OPTIONS,
                },
            )
            for series, (_, horizon, stride, every) in SERIES.items()
            for model, label in MODELS.items()
        ]

    def reference(self, row: Row, shown: object) -> str | None:
        del shown
        return f"{row.group}-chain"

    def group_label(self, group: str) -> str:
        return SERIES[group][0]

    def grids(self, results: Results) -> list[Grid]:
        first = results.grid(
            "One step, and far ahead", self.metrics, with_difference="one step less the chain's"
        )
        body = [
            [SERIES[row.group][0], row.label, f"{SERIES[row.group][1]} rows", _text(found)]
            for row in results.rows
            if results.has(row.key)
            for found in [far_difference(results, row)]
        ]
        header = ["series", "row", "horizon", "error less the chain's [95 %]"]
        return [first, Grid("Far ahead, paired by seed", header, body)]

    def claims(self, results: Results) -> list[str]:
        found = []
        for series, (label, horizon, *_) in SERIES.items():
            if not results.has(f"{series}-chain"):
                continue
            rows = [row for row in results.with_numbers(series) if row.name != "chain"]
            for what, compare in (
                ("one step ahead", lambda row: results.compare(row.key, f"{row.group}-chain")),
                (f"{horizon} rows ahead", lambda row: far_difference(results, row)),
            ):
                signs = {row.label: compare(row) for row in rows}
                sentence = f"{label}, {what}: the chain of circuits "
                parts = [
                    f"{verb} {', '.join(names)}"
                    for verb, sign in (("beats", 1), ("loses to", -1), ("is not told from", 0))
                    if (names := [n for n, c in signs.items() if c is not None and c.sign == sign])
                ]
                if parts:
                    found.append(sentence + "; ".join(parts) + ".")
        return found

    def notes(self, results: Results) -> list[str]:
        del results
        return [
            "The series do not change with the seed: it decides initial weights, the order of "
            "windows, the reservoir. Ridge regression has no randomness, and one number. Intervals "
            "cover that, on one split; they are not corrected for the number of comparisons.",
            "Every model sees 64 rows before it forecasts, and no forecast leaves five standard "
            "deviations. Sizes are numbers that are trained: of an echo state network those of its "
            "read-out.",
            "The circuit alone is the same circuit, without edges, that sees the last rows at once "
            "through a learned map.",
            "Mackey-Glass and Lorenz are integrated by SciPy; the sunspots are those that "
            "statsmodels ships, the laser's series that of ReservoirPy (pip install "
            '"qdeq[series]").',
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        shown = [series for series in SERIES if results.with_numbers(series)]
        if not shown:
            return {}
        caption = (
            "Error against rows ahead, models feeding on their own forecasts: mean over seeds, and "
            "their deviation as a band; 1 is what the mean of the test part has."
        )
        return {"series": (draw(results, shown), caption)}


def far_difference(results: Results, row: Row) -> Comparison | None:
    """A row's error far ahead less the chain's, paired by seed; None for the chain itself."""
    reference = f"{row.group}-chain"
    if row.key == reference:
        return None
    return paired(results.numbers(row.key, "far"), results.numbers(reference, "far"))


def _text(found: Comparison | None) -> str:
    return ABSENT if found is None else str(found)


def draw(results: Results, shown: list[str]) -> Figure:
    """A panel per series, a line per model."""
    rows = -(-len(shown) // 2)
    with styled_figure(8.0, 2.7 * rows, columns=min(2, len(shown)), rows=rows) as (figure, axes):
        lines = {}
        for panel, series in zip(axes, shown, strict=False):
            horizon = SERIES[series][1]
            ahead = range(1, horizon + 1)
            for row in results.with_numbers(series):
                colour = _COLOURS.get(row.name, "#a855f7")
                style = "--" if row.name == "esn-large" else "-"
                pairs = [results.mean(row.key, f"ahead_{h}") for h in ahead]
                mean = [m for m, _ in pairs]
                (line,) = panel.plot(ahead, mean, color=colour, ls=style)
                panel.fill_between(
                    ahead,
                    [max(m - d, 1e-4) for m, d in pairs],
                    [m + d for m, d in pairs],
                    color=colour,
                    alpha=0.15,
                    lw=0,
                )
                lines[row.label] = line
            panel.axhline(1, color=GREY, lw=0.8, ls=":")
            panel.set(title=SERIES[series][0], yscale="log", xlabel="rows ahead", ylabel="error")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.yaxis.set_minor_formatter(NullFormatter())
        for panel in axes[len(shown) :]:
            panel.set_axis_off()
        figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=3)
    return figure
