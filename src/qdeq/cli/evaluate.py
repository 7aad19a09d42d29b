"""`qdeq evaluate`: how a saved model does on one split of its data set."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from qdeq.cli.console import make_console, print_rows


@dataclass(frozen=True)
class EvaluateCommand:
    """Evaluate the model of a run folder."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote."""

    split: Literal["test", "valid", "train"] = "test"
    """Part of the data set to evaluate on."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set's files are now; otherwise where they were in training."""

    json: bool = False
    """Print the result as one line of JSON instead of a table."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.training.run import evaluate
        from qdeq.training.summary import finite_or_none

        result = evaluate(self.run, split=self.split, data_dir=self.data_dir)
        if self.json:
            print(json.dumps(finite_or_none(dataclasses.asdict(result))))
            return
        rows = {
            "accuracy": f"{result.accuracy:.4f}",
            "loss": f"{result.loss:.4f}",
            "residual, mean": f"{result.residual_mean:.2e}",
            "residual, max": f"{result.residual_max:.2e}",
            "converged": f"{result.converged_fraction:.2%}",
            "solver steps, mean": f"{result.solver_steps_mean:.2f}",
            "circuit executions": f"{result.circuit_executions:,}",
        }
        if result.undefined_inputs:
            rows["undefined inputs"] = str(result.undefined_inputs)
        title = f"{result.run}: {result.n_samples:,} {result.split} samples"
        print_rows(make_console(), rows, title=title)
