"""Ways to differentiate an equilibrium: how good their gradients are, what they cost and give."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qdeq.errors import UserError
from qdeq.names import DataName, NamedEncoding
from qdeq.runs.figures import BLUE, GREY, ORANGE, styled_figure
from qdeq.studies.claims import sorted_by
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Row, Study
from qdeq.training.config import TrainConfig

LABELS = {
    "exact": "exact",
    "broyden-backward": "Broyden backwards to 1e-3",
    "neumann-5": "Neumann, 5 terms",
    "neumann-3": "Neumann, 3 terms",
    "phantom": "phantom, 5 terms damped by half",
    "jacobian-free": "Jacobian-free (1 term)",
    "shine": "SHINE",
    "unrolled-5": "5 unrolled applications",
    "unrolled-10": "10 unrolled applications",
}
_MARKERS = "os^vD<>P"  # of all but the exact one
#: What costs fewer or more executions a sample than the exact gradient, by what is counted.
_OTHER_COST = ("jacobian-free", "shine", "unrolled-5", "unrolled-10")
#: Group: label, encoding, weight of the penalty.
_GROUPS: dict[str, tuple[str, NamedEncoding, float]] = {
    "amplitude": ("amplitude", "amplitude", 0.8),
    "angle": ("angle", "angle", 0.8),
    "free": ("angle, no penalty", "angle", 0.0),
}


@dataclass(frozen=True, kw_only=True)
class ImplicitMethodsStudy(Study):
    """Gradients against the exact one, accuracy and executions, at equal epochs and equal cost."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("test_accuracy", "test accuracy", ".4f"),
        Metric("valid_accuracy", "validation accuracy", ".4f"),
        Metric("converged_fraction", "converged", ".4f"),
        Metric("cosine_first", "cosine, epoch 1", ".4f"),
        Metric("cosine_least", "cosine, least", ".4f"),
        Metric("cosine_last", "cosine, end", ".4f"),
        Metric("epochs", "epochs", "d", per_seed=False),
        Metric("executions_per_sample", "executions a sample", ",.0f", per_seed=False),
        Metric("training_executions", "executions in training", ",.0f", per_seed=False),
        Metric("train_seconds", "run time, s", ",.0f", per_seed=False),
    )
    compared: ClassVar[str] = "test_accuracy"

    data: DataName = "mnist-4"
    data_dir: str | None = None
    epochs: int = 100
    seeds: tuple[int, ...] = tuple(range(10))

    @property
    def title(self) -> str:
        return f"Implicit methods on {self.data}"

    @property
    def description(self) -> str:
        return (
            f"The paper's 4-qubit model and recipe, {self.epochs} epochs, {len(self.seeds)} seeds; "
            "only the derivative of the equilibrium differs. Cosines are between the method's "
            "gradient of the loss in the circuit's angles and the exact one, on 256 training "
            "samples at the model that the method itself has trained."
        )

    def rows(self) -> list[Row]:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")
        rows = []
        for group in _GROUPS:
            rows += [self._row(group, name, label, "epochs") for name, label in LABELS.items()]
            rows += [
                self._row(group, name, f"{LABELS[name]}, equal executions", "executions")
                for name in _OTHER_COST
            ]
        return rows

    def _row(self, group: str, method: str, label: str, equal: str) -> Row:
        _, encoding, weight = _GROUPS[group]
        return Row(
            group=group,
            name=method if equal == "epochs" else f"{method}-equal",
            label=label,
            kind="qdeq.studies.implicit_methods.rows:train_row",
            seeds=self.seeds,
            config=TrainConfig(
                data=self.data,
                data_dir=self.data_dir,
                encoding=encoding,
                jacobian_weight=weight,
                epochs=self.epochs,
            ),
            options={"method": method, "equal": equal},
        )

    def group_label(self, group: str) -> str:
        return _GROUPS[group][0]

    def reference(self, row: Row, shown: object) -> str | None:
        del shown
        return f"{row.group}-exact"

    def grids(self, results: Results) -> list[Grid]:
        return [
            results.grid("Results", self.metrics, with_difference="difference to the exact one")
        ]

    def claims(self, results: Results) -> list[str]:
        found = []
        for group, (label, *_) in _GROUPS.items():
            ours = f"{group}-exact"
            if not results.has(ours):
                continue
            said = sorted_by(results, ours, results.with_numbers(group), "the exact gradient")
            if said:
                found.append(f"{label}, test accuracy (95 % intervals): {said}")
            worst = [
                (results.mean(row.key, "cosine_least")[0], row.label)
                for row in results.with_numbers(group)
                if row.name != "exact" and not row.name.endswith("-equal")
            ]
            if worst:
                least, who = min(worst)
                found.append(
                    f"{label}: furthest from the exact gradient at any time is {who}, with a "
                    f"cosine of {least:.3f}."
                )
        return found

    def notes(self, results: Results) -> list[str]:
        del results
        return [
            "Executions are those of parameter shifts on a device: the solve, the shifts of the "
            "encoding where the method uses the Jacobian (once a sample, however many terms), and "
            "those of the angles. The penalty's exact gradient is left out: on a device there is "
            "none. Rows of equal executions train for as many more or fewer epochs. Run times are "
            "by the clock, on a machine that may have other work.",
            "Unrolled methods train so many Picard steps and are tested as trained; the others "
            "solve by Broyden's method to 1e-5.",
            "Not here: equilibrium propagation asks for a symmetric Jacobian, the gradient of an "
            "energy, which a measured circuit's is not; SPSA's gradients are noise of their own "
            "and are compared with parameter shifts where devices train.",
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        shown = [r for r in results.rows if results.has(r.key) and not r.name.endswith("-equal")]
        if all(row.name == "exact" for row in shown):
            return {}
        caption = (
            "Test accuracy against the least cosine to the exact gradient, a point per method "
            "(shape) and setting (colour): means over seeds."
        )
        return {"methods": (draw(results, shown), caption)}


def draw(results: Results, rows: list[Row]) -> Figure:
    """Accuracy minus the exact gradient's against the least cosine: colours by setting."""
    colours = dict(zip(_GROUPS, (BLUE, ORANGE, GREY), strict=True))
    markers = dict(zip((name for name in LABELS if name != "exact"), _MARKERS, strict=True))
    with styled_figure(7.6, 3.4) as (figure, (panel,)):
        for row in rows:
            if row.name == "exact":
                continue
            panel.plot(
                results.mean(row.key, "cosine_least")[0],
                results.mean(row.key, "test_accuracy")[0]
                - results.mean(f"{row.group}-exact", "test_accuracy")[0],
                markers[row.name],
                color=colours[row.group],
                ms=5.5,
            )
        panel.axhline(0, color="#111827", lw=1)
        panel.set(
            xlabel="least cosine to the exact gradient", ylabel="accuracy less the exact one's"
        )
        key = [(_GROUPS[group][0], "o", colour) for group, colour in colours.items()]
        key += [(LABELS[name], marker, "#111827") for name, marker in markers.items()]
        handles = [Line2D([], [], ls="", marker=m, color=c, label=label) for label, m, c in key]
        figure.legend(handles=handles, loc="outside right center")
    return figure
