"""What the seeds of a run have in common: means and deviations, as `summary.json` and as a page."""

import dataclasses
import html
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qdeq.runs.pages import pairs
from qdeq.runs.report import command_line, page
from qdeq.runs.run_folder import Metrics, RunFolder
from qdeq.runs.summary import Summary, finite_or_none
from qdeq.training.config import TrainConfig

COMPARED = (
    "test_accuracy",
    "valid_accuracy",
    "train_accuracy",
    "test_loss",
    "residual_mean",
    "residual_max",
    "converged_fraction",
    "solver_steps_mean",
    "best_epoch",
)
"""Numbers of a `Summary` that differ from seed to seed."""

_SHARED = (
    "dataset",
    "n_features",
    "n_qubits",
    "encoding",
    "mode",
    "solver",
    "adjoint",
    "n_parameters",
    "n_head_parameters",
    "epochs",
)


@dataclass(frozen=True)
class Spread:
    """A number over the seeds; `std` is the sample standard deviation, NaN for one seed.

    All are NaN where a seed has NaN."""

    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """
        >>> Spread.of([0.5, 0.7]).mean
        0.6
        """
        has_deviation = len(values) > 1 and all(map(math.isfinite, values))  # none diverged
        deviation = statistics.stdev(values) if has_deviation else math.nan
        # NumPy finds a NaN first; what Python's own make of one depends on where it stands.
        low, high = values[int(np.argmin(values))], values[int(np.argmax(values))]
        return cls(statistics.fmean(values), deviation, low, high)

    def __str__(self) -> str:
        if math.isnan(self.std):
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ± {self.std:.2g}"


@dataclass(frozen=True, kw_only=True)
class ManySummary:
    """A finished run of many seeds in numbers."""

    run: str
    """The folder of all seeds."""

    seeds: list[int]
    shared: dict[str, object]
    """What all seeds have in common: data set, model, method, epochs."""

    statistics: dict[str, Spread]
    """Mean, sample standard deviation, minimum and maximum over the seeds by name."""

    by_seed: dict[str, list[float]]
    """The same numbers seed by seed, in the order of `seeds`."""

    circuit_executions: int
    """Of all seeds together."""

    stopped: list[str]
    """The seeds whose training ended early, and why: a loss or gradient that was not finite."""

    train_seconds: float
    compile_seconds: float
    peak_memory_mb: float
    device: str
    versions: dict[str, str]

    @classmethod
    def of(cls, summaries: Sequence[Summary], *, run: Path) -> "ManySummary":
        """Sum up the summaries of all seeds."""
        by_seed = {name: [getattr(s, name) for s in summaries] for name in COMPARED}
        first = summaries[0]
        return cls(
            run=str(run),
            seeds=[summary.seed for summary in summaries],
            shared={name: getattr(first, name) for name in _SHARED},
            statistics={name: Spread.of(values) for name, values in by_seed.items()},
            by_seed=by_seed,
            circuit_executions=sum(summary.circuit_executions for summary in summaries),
            stopped=[f"seed {s.seed}: {s.stopped}" for s in summaries if s.stopped],
            train_seconds=sum(summary.train_seconds for summary in summaries),
            compile_seconds=sum(summary.compile_seconds for summary in summaries),
            peak_memory_mb=first.peak_memory_mb,
            device=first.device,
            versions=first.versions,
        )

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the summary as JSON text; numbers that are not finite become null."""
        return json.dumps(finite_or_none(dataclasses.asdict(self)), indent=indent)

    def rows(self) -> dict[str, str]:
        """Return what a person wants to see, label to formatted value."""
        rows = {name.replace("_", " "): str(self.statistics[name]) for name in COMPARED}
        stopped = {"stopped": "; ".join(self.stopped)} if self.stopped else {}
        return {
            "seeds": str(len(self.seeds)),
            **stopped,
            **rows,
            "training time": f"{self.train_seconds:.2f} s for all seeds",
            "compile time": f"{self.compile_seconds:.2f} s",
            "peak memory": f"{self.peak_memory_mb:.0f} MB",
        }


def write_many_report(
    run: Path, config: TrainConfig, many: ManySummary, histories: Sequence[Sequence[Metrics]]
) -> None:
    """Write `report.html` and the picture in it: how the seeds learned, and where they ended."""
    from qdeq.runs import figures  # Matplotlib takes half a second to import

    folder = RunFolder(run)
    pictures = {"seeds": figures.png(figures.training_bands(histories))}
    folder.write_figures(pictures)
    seeds = ",".join(map(str, many.seeds))
    command = f"{command_line(config.replace(seed=0))} --seeds {seeds}"
    results = {
        "Results, mean ± standard deviation over seeds": pairs(many.rows()),
        "Seed by seed": _by_seed(many),
    }
    title = f"{config.data}, {config.mode}, {config.encoding} encoding, {len(many.seeds)} seeds"
    folder.write_report(
        page(
            title,
            run=str(run),
            score=str(many.statistics["test_accuracy"]),
            results=results,
            pictures=pictures,
            command=command,
            config=config,
            versions={**many.versions, "device": many.device},
        )
    )


def _by_seed(many: ManySummary) -> str:
    names = ("test_accuracy", "valid_accuracy", "residual_max", "converged_fraction", "best_epoch")
    head = "".join(f"<th>{html.escape(n.replace('_', ' '))}</th>" for n in ("seed", *names))
    lines = [f"<tr>{head}</tr>"]
    for position, seed in enumerate(many.seeds):
        cells = "".join(f"<td>{many.by_seed[name][position]:.4g}</td>" for name in names)
        lines.append(f'<tr><td><a href="seed-{seed}/">{seed}</a></td>{cells}</tr>')
    return f'<table class="grid">{"".join(lines)}</table>'
