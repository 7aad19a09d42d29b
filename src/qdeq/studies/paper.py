"""The paper's tables: which rows, trained how, and which numbers are shown. Nothing is computed.

The tables are those of Schleich et al., Quantum Deep Equilibrium Models (arXiv 2410.23940), with
the baselines that the paper leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qdeq.errors import UserError
from qdeq.names import DataName, Trainable
from qdeq.studies.study import Metric, Row, Study
from qdeq.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qdeq.studies.results import Grid, Results

#: The encodings of a table: the paper's 10-class tables have one.
ENCODINGS: dict[DataName, tuple[str, ...]] = {
    "mnist-4": ("amplitude", "angle"),
    "mnist-10": ("amplitude",),
    "fashion-10": ("amplitude",),
    "cifar-10": ("amplitude",),
    "digits-4": ("amplitude", "angle"),
    "digits-10": ("amplitude",),
}

#: Depths of the weight-tied baseline.
DEPTHS = (1, 2, 5, 10)

# Chosen by `qdeq reproduce warmup` on mnist-4: mean validation accuracy 0.9193 over seeds 0 to 2,
# without warm-up 0.9120, with five layers 0.9117.
WARMUP_EPOCHS, WARMUP_LAYERS = 10, 1

RESULT_METRICS = (
    Metric("test_accuracy", "test accuracy", ".4f"),
    Metric("valid_accuracy", "validation accuracy", ".4f"),
    Metric("residual_mean", "residual, mean", ".1e"),
    Metric("residual_max", "residual, max", ".1e"),
    Metric("converged_fraction", "converged", ".4f"),
    Metric("solver_steps", "solver steps", ".2f"),
)
COST_METRICS = (
    Metric("executions_per_training_step", "executions per training step", ",.0f"),
    Metric("gradient_executions_per_training_step", "executions for its gradient", ",.0f"),
    Metric("executions_per_inference", "executions per inference", ".2f"),
    Metric("trainable_angles", "trainable angles", ",d", per_seed=False),
    Metric("classical_parameters", "classical parameters", ",d", per_seed=False),
    Metric("depth", "circuit depth", "d", per_seed=False),
    Metric("two_qubit_gates", "two-qubit gates", "d", per_seed=False),
    Metric("train_seconds", "run time, s", ",.1f", per_seed=False),
    Metric("compile_seconds", "compile time, s", ",.1f", per_seed=False),
    Metric("peak_memory_mb", "peak memory, MB", ",.0f", per_seed=False),
)


@dataclass(frozen=True, kw_only=True)
class PaperTable(Study):
    """One of the paper's tables; the defaults are the paper's protocol.

    Everything else, such as the batch of 256, Adam at 0.005, clipping at 0.25 and the Jacobian
    weight of 0.8, is `TrainConfig`'s default.

    Raises
    ------
    UserError
        For a warm-up of no epochs.
    """

    metrics: ClassVar[tuple[Metric, ...]] = RESULT_METRICS + COST_METRICS
    compared: ClassVar[str] = "test_accuracy"

    data: DataName
    data_dir: str | None = None
    epochs: int = 100
    seeds: tuple[int, ...] = tuple(range(10))
    trainable: Trainable = "all"
    warmup_epochs: int = WARMUP_EPOCHS
    warmup_layers: int = WARMUP_LAYERS

    def __post_init__(self) -> None:
        if self.warmup_epochs < 1:
            raise UserError(
                f"warmup_epochs={self.warmup_epochs}: IMPLICIT+WARMUP needs at least 1; the row "
                "IMPLICIT has none"
            )

    @property
    def title(self) -> str:
        return f"{self.data}: the paper's table, measured again"

    @property
    def description(self) -> str:
        config = self.config()
        return (
            f"{self.epochs} epochs, batch {config.batch_size}, Adam {config.learning_rate:g}, "
            f"gradient clipped at {config.gradient_clip:g}, Jacobian weight "
            f"{config.jacobian_weight:g}, {1 - config.valid_fraction:.0%} / "
            f"{config.valid_fraction:.0%} split into training and validation, {len(self.seeds)} "
            f"seeds ({', '.join(map(str, self.seeds))}), trainable angles: {self.trainable}; "
            f"{config.plain()['solver']} to {config.tolerance:g} in at most {config.max_steps} "
            "steps."
        )

    def config(self, **changes: Any) -> TrainConfig:
        """A configuration of this protocol; `changes` say what is particular to a row."""
        values = {"epochs": self.epochs, "trainable": self.trainable, **changes}
        return TrainConfig(data=self.data, data_dir=self.data_dir, **values)

    def rows(self) -> list[Row]:
        encodings = ENCODINGS[self.data]
        rows = [row for encoding in encodings for row in _encoding_rows(self, encoding)]
        plain = self.config(trainable="all")
        for name, label in (("logistic", "Logistic regression"), ("mlp", "Small MLP")):
            rows.append(table_row("classical", name, label, plain, self.seeds, kind=name))
        return [*rows, *(cost_row(self, encoding) for encoding in encodings)]

    def reference(self, row: Row, shown: Sequence[Row]) -> str | None:
        # Classical rows are compared with the first encoding that there is.
        encodings = [other.group for other in shown if other.kind == "circuit"]
        group = row.group if row.kind == "circuit" else next(iter(encodings), "")
        return f"{group}-implicit"

    def grids(self, results: "Results") -> "list[Grid]":
        return [
            results.grid("Results", RESULT_METRICS, with_difference="difference to IMPLICIT"),
            results.grid("Cost", COST_METRICS),
        ]

    def claims(self, results: "Results") -> list[str]:
        from qdeq.studies.claims import claims

        return claims(results)

    def notes(self, results: "Results") -> list[str]:
        from qdeq.studies.claims import notes

        del results
        return notes(self)

    def pictures(self, results: "Results", out: Path) -> "dict[str, tuple[Figure, str]]":
        from qdeq.studies.figures import draw_all

        return draw_all(results, out)


def table_row(
    group: str,
    name: str,
    label: str,
    config: TrainConfig,
    seeds: tuple[int, ...],
    *,
    kind: str = "circuit",
    test: bool = True,
    traces: bool = False,
    shown: bool = True,
) -> Row:
    """A row that is trained by a configuration, or by scikit-learn on its data.

    `test` is whether the test split is looked at: not when something is being chosen. `traces` is
    whether the residual per step of several solvers is measured on the trained model.
    """
    options = {"test": test, "traces": traces}
    return Row(
        group=group,
        name=name,
        label=label,
        kind=kind,
        config=config,
        seeds=seeds,
        options=options,
        shown=shown,
    )


def _encoding_rows(table: PaperTable, encoding: str) -> list[Row]:
    def row(name: str, label: str, *, traces: bool = False, **changes: Any) -> Row:
        config = table.config(encoding=encoding, **changes)
        return table_row(encoding, name, label, config, table.seeds, traces=traces)

    # A run shorter than the warm-up is a trial: half of it warms up.
    warmup_epochs = min(table.warmup_epochs, max(1, table.epochs // 2))
    rows = [
        row("implicit", "IMPLICIT", traces=True),
        row(
            "warmup",
            f"IMPLICIT+WARMUP ({warmup_epochs} epoch{'s' * (warmup_epochs != 1)} of DIRECT "
            f"{table.warmup_layers})",
            warmup_epochs=warmup_epochs,
            warmup_layers=table.warmup_layers,
        ),
    ]
    rows += [
        row(f"direct-{depth}", f"DIRECT {depth}", mode="direct", layers=depth) for depth in DEPTHS
    ]
    rows.append(row("qml", "QML circuit, no head", mode="direct", head="none"))
    if table.data in ("mnist-10", "fashion-10", "cifar-10", "digits-10"):
        for features, label in (("pca", "PCA"), ("vae", "VAE")):
            rows.append(
                row(
                    f"qml-{features}",
                    f"QML circuit on {label} features, no head",
                    mode="direct",
                    head="none",
                    features=features,
                )
            )
    rows.append(row("unentangled", "IMPLICIT, no two-qubit gates", ansatz="paper-unentangled"))
    return rows


def cost_row(table: PaperTable, encoding: str) -> Row:
    """The measurement behind the figure of memory and time against depth."""
    config = table.config(encoding=encoding, epochs=1)
    label = "time and memory per step"
    return table_row(encoding, "cost", label, config, (0,), kind="cost", test=False, shown=False)
