"""The choice of the warm-up: a small grid, judged by validation accuracy alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from qdeq.names import DataName, Encoding, Trainable
from qdeq.studies.paper import PaperTable, table_row
from qdeq.studies.study import Metric, Row, Study

if TYPE_CHECKING:
    from pathlib import Path

    from qdeq.studies.results import Grid, Results
    from qdeq.studies.study import Tell

EPOCHS = (3, 10, 30)
LAYERS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class WarmupStudy(Study):
    """Lengths and depths of the warm-up on validation data; test data play no part."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("valid_accuracy", "validation accuracy", ".4f"),
    )

    data: DataName = "mnist-4"
    data_dir: str | None = None
    encoding: Encoding = "amplitude"
    epochs: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    trainable: Trainable = "all"

    @property
    def title(self) -> str:
        return f"Warm-up on {self.data}"

    @property
    def description(self) -> str:
        return (
            f"{self.epochs} epochs, seeds {', '.join(map(str, self.seeds))}. Mean ± standard "
            "deviation of the validation accuracy; test data play no part."
        )

    def rows(self) -> list[Row]:
        table = PaperTable(
            data=self.data, data_dir=self.data_dir, epochs=self.epochs, trainable=self.trainable
        )
        rows = []
        for epochs, layers in [(0, 1), *((e, n) for e in EPOCHS for n in LAYERS)]:
            if epochs > self.epochs:
                continue
            name = f"warmup-{epochs}-{layers}" if epochs else "no-warmup"
            label = f"{epochs} epochs of DIRECT {layers}" if epochs else "no warm-up"
            config = table.config(
                encoding=self.encoding, warmup_epochs=epochs, warmup_layers=layers
            )
            rows.append(table_row(self.encoding, name, label, config, self.seeds, test=False))
        return rows

    def more(self, results: "Results", out: "Path", tell: "Tell") -> dict[str, Any]:
        del out, tell
        best = choose(results)
        return {"chosen": None if best is None else best.key}

    def grids(self, results: "Results") -> "list[Grid]":
        return [results.grid("Results", self.metrics)]

    def claims(self, results: "Results") -> list[str]:
        best = choose(results)
        if best is None:
            return ["No warm-up has been trained to its end."]
        mean = results.mean(best.key, "valid_accuracy")[0]
        return [f"Chosen: {best.label}, validation accuracy {mean:.4f}."]


def choose(results: "Results") -> Row | None:
    """The warm-up with the highest mean validation accuracy; runs that diverged are out.

    Having no warm-up is a trial for comparison and is never chosen: the row that needs the choice
    is the one with warm-up.
    """
    candidates = [
        row
        for row in results.rows
        if row.training.warmup_epochs and results.computed[row.key]["status"] == "done"
    ]
    return max(candidates, key=lambda r: results.mean(r.key, "valid_accuracy")[0], default=None)
