"""`qdeq evaluate`: how a saved model does on one split of its data set."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from qdeq.cli.console import make_console, print_rows
from qdeq.errors import UserError
from qdeq.names import IN_WORDS, SolverName, SplitName

if TYPE_CHECKING:
    from qdeq.runs.evaluation import Evaluation


@dataclass(frozen=True)
class EvaluateCommand:
    """Evaluate the model of a run folder."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote, of one seed or many."""

    split: SplitName = "test"
    """Part of the data set to evaluate on."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set's files are now; otherwise where they were in training."""

    noise: Annotated[str | None, tyro.conf.arg(metavar="NOISE")] = None
    """Noise of the device, such as depolarising=0.01,readout=0.02, simulated exactly; otherwise
    what the model was trained with. none: a perfect device."""

    shots: int | None = None
    """Shots per circuit execution; otherwise expectation values are exact."""

    repeats: int = 5
    """With --shots: evaluations with shots of their own, for mean and deviation."""

    seed: int = 0
    """With --shots: seed of all shots."""

    solver: SolverName | None = None
    """Method that finds the equilibrium; otherwise the run's own, and with --shots
    krasnoselskii-mann, which averages."""

    json: bool = False
    """Print the result as one line of JSON instead of a table."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.runs.evaluation import evaluate
        from qdeq.runs.run_folder import RunFolder
        from qdeq.runs.summary import finite_or_none
        from qdeq.runs.summary_rows import tolerance_in_words

        for name in ("repeats", "seed"):
            if name in given and self.shots is None:
                raise UserError(f"--{name} needs --shots: exact expectation values do not vary")
        result = evaluate(
            self.run,
            split=self.split,
            data_dir=self.data_dir,
            noise="" if self.noise == "none" else self.noise,
            shots=self.shots,
            repeats=self.repeats,
            seed=self.seed,
            solver=self.solver,
        )
        if self.json:
            print(json.dumps(finite_or_none(dataclasses.asdict(result))))
            return

        config, means = RunFolder.open(self.run).read_config(), {}
        if result.shots is None and config.mode == "implicit":
            words = tolerance_in_words(self.solver or config.solver, config.tolerance)
            means["converged means"] = words
        title = f"{result.run}: {result.n_samples:,} {result.split} samples"
        print_rows(make_console(), _rows(result, means), title=title)


def _rows(result: "Evaluation", means: dict[str, str]) -> dict[str, str]:
    """What a person wants to see of an evaluation; `means` says what "converged" means."""

    def with_deviation(name: str, form: str) -> str:
        text = format(getattr(result, name), form)
        deviation = result.deviation.get(name)
        return text if deviation is None else f"{text} ± {format(deviation, form)}"

    scores = {"accuracy": ".4f"}
    if result.task == "regression":
        scores = {"r2": ".4f", "rmse": ".4g", "mae": ".4g"}
    rows = {
        **{
            IN_WORDS.get(name, name.upper()): with_deviation(name, form)
            for name, form in scores.items()
        },
        "loss": with_deviation("loss", ".4f"),
        "residual, mean": with_deviation("residual_mean", ".2e"),
        "residual, max": with_deviation("residual_max", ".2e"),
        "converged": with_deviation("converged_fraction", ".2%"),
        **means,
        "solver steps, mean": with_deviation("solver_steps_mean", ".2f"),
        "circuit executions": f"{result.circuit_executions:,}",
    }
    if result.shots is not None:
        rows["residual as measured"] = with_deviation("measured_residual_mean", ".2e")
        rows["shots"] = (
            f"{result.shots:,} per execution, {result.total_shots:,} in all; {result.repeats} "
            f"repeat{'s' * (result.repeats != 1)}"
        )
    if result.seeds is not None:
        rows["seeds"] = str(len(result.seeds))
    if result.solver is not None:
        rows["solver"] = result.solver
    if result.noise:
        rows["noise"] = result.noise
    if result.undefined_inputs:
        rows["undefined inputs"] = str(result.undefined_inputs)
    return rows
