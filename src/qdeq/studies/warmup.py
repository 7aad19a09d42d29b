"""The choice of the warm-up: a small grid, judged by validation accuracy alone."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qdeq.errors import UserError
from qdeq.runs.summary import finite_or_none
from qdeq.studies.protocol import Protocol, Row
from qdeq.studies.row import Result
from qdeq.studies.statistics import mean_and_deviation


@dataclass(frozen=True)
class WarmupTrial:
    """One point of the grid: mean and deviation of the validation accuracy over seeds."""

    epochs: int
    layers: int
    mean: float
    deviation: float
    status: str


@dataclass(frozen=True)
class WarmupChoice:
    """The grid, and the point of it with the highest mean validation accuracy."""

    trials: tuple[WarmupTrial, ...]
    best: WarmupTrial

    def to_json(self) -> str:
        """Plain JSON."""
        return json.dumps(finite_or_none(dataclasses.asdict(self)), indent=1)


def choose_warmup(rows: Sequence[Row], results: Mapping[str, Result]) -> WarmupChoice:
    """Pick the warm-up with the highest mean validation accuracy; runs that diverged are out.

    Having no warm-up is a trial for comparison and is never chosen: the row that needs the choice
    is the one with warm-up.

    Raises
    ------
    UserError
        When no trial with warm-up has finished.
    """
    trials = []
    for row in rows:
        result = results[row.key]
        values = [seed["valid_accuracy"] for seed in result["seeds"]]
        config = row.config
        trials.append(
            WarmupTrial(
                config.warmup_epochs,
                config.warmup_layers,
                *mean_and_deviation(values),
                result["status"],
            )
        )
    candidates = [trial for trial in trials if trial.epochs and trial.status == "done"]
    if not candidates:
        reasons = {str(results[row.key]["reason"]) for row in rows}
        raise UserError(f"no warm-up could be trained to its end: {'; '.join(sorted(reasons))}")
    return WarmupChoice(tuple(trials), max(candidates, key=lambda trial: trial.mean))


def warmup_page(protocol: Protocol, choice: WarmupChoice, command: str) -> str:
    """The grid as Markdown."""
    lines = [
        f"# Warm-up on {protocol.data}",
        "",
        f"{protocol.epochs} epochs, seeds {', '.join(map(str, protocol.seeds))}. Mean ± standard "
        "deviation of the validation accuracy; test data play no part.",
        "",
        "| warm-up epochs | layers | validation accuracy | |",
        "|--:|--:|--:|---|",
    ]
    for trial in choice.trials:
        mark = "chosen" if trial == choice.best else "" if trial.status == "done" else trial.status
        layers = str(trial.layers) if trial.epochs else "—"
        value = f"{trial.mean:.4f} ± {trial.deviation:.4f}"
        lines.append(f"| {trial.epochs} | {layers} | {value} | {mark} |")
    return "\n".join([*lines, "", f"`{command}`", ""])
