"""Tables: the estimators' defaults against depth, against classical models, against PennyLane.

What is trained for a row, and what tables there are, is `rows.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure

from qdeq.errors import UserError
from qdeq.runs.figures import BLUE, GREY, ORANGE, styled_figure
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Row, Study

FOLDS = 5

#: Tables by name: what they are, and the score that is asked for.
TABLES: dict[str, tuple[str, float]] = {
    "wine": ("wine, 178 x 13, 3 classes", 0.965),
    "breast-cancer": ("breast cancer, 569 x 30, 2 classes", 0.955),
    "iris": ("iris, 150 x 4, 3 classes", 0.95),
    "digits": ("digits, 1,797 x 64, 10 classes", 0.93),
    "moons": ("two moons, 500 x 2, noise 0.2", 0.95),
    "diabetes": ("diabetes, 442 x 10, R²", 0.44),
    "friedman": ("Friedman 1, 1,000 x 10, noise 1, R²", 0.88),
}

#: Rows by name: what people read.
MODELS = {
    "equilibrium": "qdeq, all defaults",
    "direct-1": "qdeq, direct(1)",
    "direct-5": "qdeq, direct(5)",
    "linear": "logistic or linear regression",
    "boosting": "gradient boosting",
    "svm": "RBF support vector machine",
    "mlp": "MLP, 32 hidden units",
    "pennylane": "PennyLane circuit, as many qubits, principal components",
}


@dataclass(frozen=True, kw_only=True)
class TableStudy(Study):
    """Untouched defaults on seven tables, over folds and seeds."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("score", "score", ".3f"),
        Metric("converged_fraction", "converged", ".3f"),
        Metric("first_seconds", "first fit, s", ".1f", per_seed=False),
        Metric("fit_seconds", "later fits, s", ".2f", per_seed=False),
    )
    compared: ClassVar[str] = "score"
    group_header: ClassVar[str] = "table"

    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def title(self) -> str:
        return "Tables"

    @property
    def description(self) -> str:
        return (
            f"{FOLDS}-fold cross-validation, {len(self.seeds)} times over with other folds and "
            "seeds: scaler and model are fitted to four folds and judged on the fifth, which "
            "nothing was chosen on. The score is the accuracy, of a regression R². Every model is "
            "used with its defaults, qdeq's being rules for the shape of the data "
            "(qdeq.training.recommended)."
        )

    def rows(self) -> list[Row]:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")
        pairs = tuple(FOLDS * seed + fold for seed in self.seeds for fold in range(FOLDS))
        return [
            Row(
                group=table,
                name=name,
                label=label,
                kind="qdeq.studies.tables.rows:train_row",
                seeds=pairs,
                options={"table": table, "model": name},
            )
            for table in TABLES
            for name, label in MODELS.items()
            if not (name == "pennylane" and table in ("diabetes", "friedman"))
        ]

    def reference(self, row: Row, shown: object) -> str | None:
        del shown
        return f"{row.group}-equilibrium"

    def group_label(self, group: str) -> str:
        return TABLES[group][0]

    def grids(self, results: Results) -> list[Grid]:
        return [
            results.grid("Scores", self.metrics, with_difference="difference to qdeq's defaults")
        ]

    def claims(self, results: Results) -> list[str]:
        found = []
        for table, (label, asked) in TABLES.items():
            if not results.has(f"{table}-equilibrium"):
                continue
            mean, _ = results.mean(f"{table}-equilibrium", "score")
            word = "met" if mean >= asked else "missed"
            sentence = f"{label}: {mean:.3f} with all defaults, {asked} were asked for ({word})"
            shallow = results.compare(f"{table}-direct-1", f"{table}-equilibrium")
            if shallow is not None:
                verdict = {1: "better", 0: "as good, as far as this tells", -1: "worse"}
                sentence += f"; direct(1) is {verdict[shallow.sign]}"
            found.append(sentence + ".")
        return found

    def notes(self, results: Results) -> list[str]:
        del results
        return [
            "Intervals are Student's over pairs of equal folds and seeds. Folds share training "
            "samples, so that they are too narrow rather than too wide.",
            "The PennyLane circuit is PennyLane's own AngleEmbedding of as many principal "
            "components as qubits, the first of deviation 1, and two StronglyEntanglingLayers, a "
            "linear head on all <Z>, 60 epochs of Adam; it has no regression here.",
            "Seconds are of one process on two cores: the first fit compiles.",
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        tables = [t for t in TABLES if results.with_numbers(t)]
        if not tables:
            return {}
        caption = "Mean score and its deviation over folds and seeds; the line is what was asked."
        return {"tables": (draw(results, tables), caption)}


def draw(results: Results, tables: list[str]) -> Figure:
    """A panel per table, a point per model."""
    with styled_figure(8.0, 2.1 * -(-len(tables) // 2), columns=2, rows=-(-len(tables) // 2)) as (
        figure,
        axes,
    ):
        for panel, table in zip(axes, tables, strict=False):
            rows = results.with_numbers(table)
            for place, row in enumerate(rows):
                mean, deviation = results.mean(row.key, "score")
                own = row.name == "equilibrium"
                color = BLUE if own else ORANGE if row.name.startswith("direct") else GREY
                panel.errorbar(mean, place, xerr=deviation, color=color, fmt="o", ms=4, lw=1)
            panel.axvline(TABLES[table][1], color=GREY, lw=0.8, ls="--")
            panel.set_yticks(range(len(rows)), [row.name for row in rows])
            panel.invert_yaxis()
            panel.set(title=table)
        for panel in axes[len(tables) :]:
            panel.set_axis_off()
    return figure
