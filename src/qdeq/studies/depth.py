"""Accuracy, executions, time and memory against the number of applications, and their limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from qdeq.names import DataName, Trainable
from qdeq.runs.figures import BLUE, ORANGE, legend_below, styled_figure
from qdeq.studies.claims import verdict
from qdeq.studies.figures import cost_against_depth
from qdeq.studies.paper import ENCODINGS, PaperTable, cost_row, table_row
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Row, Study

DEPTHS = tuple(range(1, 11))


@dataclass(frozen=True, kw_only=True)
class DepthStudy(Study):
    """DIRECT 1 to 10 and the equilibrium that they tend to, trained by the paper's recipe."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("test_accuracy", "test accuracy", ".4f"),
        Metric("valid_accuracy", "validation accuracy", ".4f"),
        Metric("residual_mean", "residual, mean", ".1e"),
        Metric("converged_fraction", "converged", ".4f"),
        Metric("executions_per_training_step", "executions per training step", ",.0f"),
        Metric("gradient_executions_per_training_step", "executions for its gradient", ",.0f"),
        Metric("executions_per_inference", "executions per inference", ".2f"),
        Metric("peak_memory_mb", "peak memory, MB", ",.0f", per_seed=False),
    )

    compared: ClassVar[str] = "test_accuracy"

    data: DataName = "mnist-4"
    data_dir: str | None = None
    epochs: int = 100
    seeds: tuple[int, ...] = tuple(range(10))
    trainable: Trainable = "all"

    @property
    def _table(self) -> PaperTable:
        """Whose protocol all rows have."""
        return PaperTable(
            data=self.data,
            data_dir=self.data_dir,
            epochs=self.epochs,
            seeds=self.seeds,
            trainable=self.trainable,
        )

    @property
    def title(self) -> str:
        return f"Accuracy against depth on {self.data}"

    @property
    def description(self) -> str:
        return self._table.description

    def rows(self) -> list[Row]:
        return [row for encoding in ENCODINGS[self.data] for row in self._of_encoding(encoding)]

    def _of_encoding(self, encoding: str) -> list[Row]:
        def row(name: str, label: str, **changes: object) -> Row:
            config = self._table.config(encoding=encoding, **changes)
            return table_row(encoding, name, label, config, self.seeds)

        return [
            row("implicit", "IMPLICIT"),
            *(row(f"direct-{n}", f"DIRECT {n}", mode="direct", layers=n) for n in DEPTHS),
            cost_row(self._table, encoding),
        ]

    def reference(self, row: Row, shown: Sequence[Row]) -> str | None:
        del shown
        return f"{row.group}-implicit"

    def grids(self, results: Results) -> list[Grid]:
        return [results.grid("Results", self.metrics, with_difference="difference to IMPLICIT")]

    def claims(self, results: Results) -> list[str]:
        found = []
        for encoding in ENCODINGS[self.data]:
            rows = [row for row in results.with_numbers(encoding) if row.name != "implicit"]
            if not rows or not results.has(f"{encoding}-implicit"):
                continue
            best = max(rows, key=lambda row: results.mean(row.key, "valid_accuracy")[0])
            compared = results.compare(f"{encoding}-implicit", best.key)
            assert compared is not None
            deepest = f"{best.label}, the depth with the highest validation accuracy"
            found.append(f"{encoding}: {verdict('IMPLICIT', deepest, compared)}")
        return found

    def notes(self, results: Results) -> list[str]:
        del results
        return [
            "All rows have the same circuit, recipe, seeds and number of epochs; the Jacobian "
            "penalty is the equilibrium's alone, as in the paper.",
            "Memory is the largest of the process that trains all seeds together. Executions are "
            "circuit evaluations of a step of one batch; those for its gradient by parameter "
            "shifts. The time of a step is in the pictures.",
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        drawn = {}
        for encoding in ENCODINGS[self.data]:
            rows = [row for row in results.with_numbers(encoding) if row.name != "implicit"]
            if len(rows) > 1 and results.has(f"{encoding}-implicit"):
                caption = (
                    f"{encoding.capitalize()} encoding: test accuracy, and gradient executions of "
                    "a training step, against the number of applications (orange) and of the "
                    "equilibrium (blue); bands and bars are one standard deviation."
                )
                drawn[f"depth-{encoding}"] = (draw(results, rows, encoding), caption)
            cost = cost_against_depth(results, encoding)
            if cost is not None:
                caption = (
                    f"{encoding.capitalize()} encoding: time of one training step (fastest of "
                    "several) and memory that its compiled program allocates, for one seed."
                )
                drawn[f"cost-{encoding}"] = (cost, caption)
        return drawn


def draw(results: Results, rows: Sequence[Row], encoding: str) -> Figure:
    """Accuracy and executions against depth, with the equilibrium as a line."""
    panels = (
        ("test_accuracy", "Test accuracy", 1.0),
        ("gradient_executions_per_training_step", "Executions for a gradient, thousands", 1e-3),
    )
    metrics = {metric.name: metric for metric in DepthStudy.metrics}
    depths = [row.training.layers for row in rows]
    with styled_figure(7.0, 3.0, columns=2) as (figure, axes):
        for panel, (name, title, unit) in zip(axes, panels, strict=True):
            values = [results.value(row.key, metrics[name]) for row in rows]
            means, spreads = unit * np.nan_to_num(np.array(values)).T  # NaN: no deviation
            panel.errorbar(
                depths, means, spreads, color=ORANGE, marker="o", ms=3.5, capsize=2, label="DIRECT"
            )
            mean, spread = results.value(f"{encoding}-implicit", metrics[name])
            panel.axhline(unit * mean, color=BLUE, lw=1.4, label="IMPLICIT")
            spread = unit * np.nan_to_num(spread)  # NaN: no deviation
            panel.axhspan(unit * mean - spread, unit * mean + spread, color=BLUE, alpha=0.13, lw=0)
            panel.set(title=title, xlabel="applications")
            panel.set_xticks(depths)
        legend_below(figure, axes[0])
    return figure
