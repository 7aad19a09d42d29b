"""`qdeq sweep`: a grid of configurations with many seeds each, through Ray."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import tyro

from qdeq.cli.console import make_console, print_path
from qdeq.cli.effects import OF_TRAINING, warn_of_no_effect
from qdeq.cli.train import chosen, config_of, preset_defaults, with_data
from qdeq.errors import UserError
from qdeq.names import IN_WORDS, PresetName
from qdeq.runs.seeds import parse_seeds
from qdeq.runs.tracking import trackers_of
from qdeq.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class SweepCommand(TrainConfig):
    """Train every combination of some options' values with many seeds, and compare them."""

    preset: PresetName = "paper"
    """Defaults for all other options, as of `qdeq train`."""

    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Options from a file, as of `qdeq train`: a run, or your own .toml. Options that are given
    and axes of the grid override it."""

    grid: tyro.conf.UseAppendAction[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,...")]
    ] = ()
    """Values of one option to try, such as learning-rate=0.001,0.005; repeat it for more options,
    of which every combination is trained."""

    seeds: Annotated[str, tyro.conf.arg(metavar="SEEDS")] = "0:4"
    """Seeds of every configuration, 0:4 (four from 0) or 0,3,7."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the sweep. The same command with the same folder continues it: what has finished
    is kept, what failed is tried again."""

    track: Annotated[str | None, tyro.conf.arg(metavar="NAMES")] = None
    """Where else to follow the runs, as of `qdeq train`: tensorboard, mlflow or wandb."""

    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Ray cluster to use, such as auto or ray://HOST:10001; otherwise one on this machine."""

    cpus_per_task: float = 1.0
    """Processor cores that Ray reserves for a configuration."""

    gpus_per_task: float = 0.0
    """GPUs that Ray reserves for a configuration."""

    json: bool = False
    """Print the results as JSON on stdout; everything else goes to stderr."""

    quiet: bool = False
    """Show no progress and no table."""

    def __post_init__(self) -> None:
        """Check nothing yet: `config` does, outside of tyro, which would box the message."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> "SweepCommand":
        return preset_defaults(cls, argv)

    def execute(self, given: frozenset[str]) -> None:
        trackers_of(self.track)  # mistakes should answer at once
        if self.out is None:
            raise UserError("--out: name the folder of the sweep, with which it can be continued")
        if "seed" in given:
            raise UserError(f"--seed {self.seed}: a sweep has many; use --seeds")
        base, seeds = config_of(self), parse_seeds(self.seeds)
        if base.data_dir is not None:  # Ray's processes start in other folders
            base = base.replace(data_dir=str(Path(base.data_dir).resolve()))
        console = make_console(json=self.json, quiet=self.quiet)
        base, _ = with_data(base, chosen(self.config, given), console)
        from qdeq.runs import sweep

        out = Path(self.out).resolve()
        grid = sweep.parse_grid(self.grid)
        tasks = sweep.plan(base, grid, seeds, out, track=self.track)
        # Unchecked: a combination that cannot be is a row of the table, with its reason.
        every = [SimpleNamespace(**vars(base) | task.changes) for task in tasks]
        warn_of_no_effect(given | grid.keys(), every, OF_TRAINING)
        runner = sweep.ray_runner(
            address=self.address,
            cpus_per_task=self.cpus_per_task,
            gpus_per_task=self.gpus_per_task,
        )
        done = 0

        def on_result(result: sweep.Result) -> None:
            nonlocal done
            done += 1
            changes = ", ".join(f"{key} {value}" for key, value in result.task.changes.items())
            score = sweep.score_of(result)
            outcome = (
                result.failure or f"valid {IN_WORDS[score]} {result.mean(f'valid_{score}'):.4f}"
            )
            console.print(
                f"{done}/{len(tasks)}  {changes}: {outcome}", markup=False, soft_wrap=True
            )

        results = sweep.run_sweep(tasks, out, runner=runner, on_result=on_result)
        console.print()
        console.print(sweep.as_markdown(results), markup=False, soft_wrap=True)
        console.print()
        winner = sweep.best(results)
        if winner is not None:
            print_path(console, "best", winner.task.folder)
        print_path(console, "table", out / "results.md")
        if self.json:
            print(json.dumps(json.loads(sweep.as_json(results))))
