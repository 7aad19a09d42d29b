"""`qdeq train`: start or resume a run."""

import dataclasses
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from rich.console import Console

from qdeq.cli.arguments import options_of
from qdeq.cli.config_file import read_options
from qdeq.cli.console import TrainingDisplay, make_console, print_path, print_rows
from qdeq.cli.effects import OF_TRAINING, warn_of_no_effect
from qdeq.errors import UserError, check_path
from qdeq.names import PresetName
from qdeq.runs.seeds import parse_seeds
from qdeq.runs.tracking import trackers_of
from qdeq.training.config import PRESETS, TrainConfig
from qdeq.training.cores import device_environment
from qdeq.training.processes import Processes

if TYPE_CHECKING:
    from qdeq.data import Dataset
    from qdeq.runs.summary import Summary
    from qdeq.runs.trained import Run

ConfigType = TypeVar("ConfigType", bound=TrainConfig)

_TOGETHER = {"coordinator", "processes", "process_id"}
# A resumed run keeps its configuration: only these may be given along.
_WITH_RESUME = {"resume", "epochs", "data_dir", "devices", "track", "json", "quiet"} | _TOGETHER


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig):
    """Train a model and write a run folder with it, its metrics, pictures and a report."""

    preset: PresetName = "paper"
    """Defaults for all other options: the paper's recipe, a first look within two minutes (demo),
    the published code like for like, or what does best on images (best); without it those of a
    file of your own follow from its shape. Options that are given override it."""

    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Options from a file: a run's config.json or its folder, which trains the same once more, or
    your own .toml. Options that are given override it."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write; otherwise a new one in runs/."""

    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Run folder to continue, with its own configuration; a larger --epochs extends it."""

    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS")] = None
    """Train with many seeds at once, 0:32 (32 seeds from 0) or 0,3,7, each into its own folder in
    the run folder; excludes --seed."""

    track: Annotated[str | None, tyro.conf.arg(metavar="NAMES")] = None
    """Where else to follow the run: tensorboard, mlflow or wandb, several with commas, each of an
    extra of its own. A run that is resumed goes on in the same places."""

    devices: int | None = None
    """Devices to spread seeds, then batches, over; otherwise all that JAX has."""

    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address of process 0, when several processes train together: start the same command in each
    of them, with its own --process-id."""

    processes: int | None = None
    """Number of processes that train together."""

    process_id: int | None = None
    """Number of this process, from 0, which writes the run folder."""

    json: bool = False
    """Print the summary as the only line on stdout, as JSON; everything else goes to stderr."""

    quiet: bool = False
    """Show no progress and no summary table."""

    def __post_init__(self) -> None:
        """Check nothing yet: `config` does, outside of tyro, which would box the message."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> "TrainCommand":
        return preset_defaults(cls, argv)

    def execute(self, given: frozenset[str]) -> None:
        trackers_of(self.track)  # mistakes should answer at once
        together = Processes.of(self.coordinator, self.processes, self.process_id)
        # The others would show and print the same once more.
        speaks = together is None or together.process_id == 0
        console = make_console(json=self.json, quiet=self.quiet or not speaks)
        if self.resume is not None:
            self._check_resumed(given)
        else:
            # Before JAX is imported: mistakes should answer at once.
            config, dataset = with_data(config_of(self), chosen(self.config, given), console)
            seeds = self._seeds(given)
            if speaks:
                warn_of_no_effect(given, [config], OF_TRAINING)
        if together is not None:
            together.join()
        elif self.devices is None:
            # A run that is resumed gets the devices that it began with: the same last bits.
            n_seeds = len(seeds or []) if self.resume is None else _n_seeds_of(self.resume)
            os.environ.update(device_environment(n_seeds))  # JAX is not imported yet
        from qdeq.runs import run

        if self.resume is not None:
            epochs = self.epochs if "epochs" in given else None
            with TrainingDisplay(console, epochs or _epochs_of(self.resume)) as display:
                result = run.resume(
                    self.resume,
                    epochs=epochs,
                    data_dir=self.data_dir if "data_dir" in given else None,
                    devices=self.devices,
                    on_epoch=display.epoch,
                    on_stage=display.stage,
                    track=self.track,
                )
        else:
            with TrainingDisplay(console, config.epochs) as display:
                result = run.train(
                    config,
                    seeds=seeds,
                    dataset=dataset,
                    out=self.out,
                    devices=self.devices,
                    on_epoch=display.epoch,
                    on_stage=display.stage,
                    track=self.track,
                )
        if speaks:
            _warn_of_divergence(result.summaries)
            self._show(console, result)

    def _check_resumed(self, given: frozenset[str]) -> None:
        refused = given - _WITH_RESUME
        if refused:
            raise UserError(
                f"{options_of(refused)} cannot be given with --resume: a run keeps its "
                "configuration; leave it out, or start a new run"
            )

    def _seeds(self, given: frozenset[str]) -> list[int] | None:
        if "seeds" in given and "seed" in given:
            raise UserError(
                f"--seed {self.seed} and --seeds {self.seeds} exclude each other: give one"
            )
        # One seed in words, of a file that has many, is that one.
        return None if self.seeds is None or "seed" in given else parse_seeds(self.seeds)

    def _show(self, console: Console, run: "Run") -> None:
        from qdeq.runs.summary_rows import summary_rows

        summary, folder = run.summary, run.folder
        title = f"{summary.dataset}, {summary.n_qubits} qubits, {summary.encoding}, {summary.mode}"
        print_rows(console, summary_rows(summary, run.config), title=title)
        console.print()
        for picture in sorted(folder.figures_path.glob("*.png")):
            print_path(console, "picture", picture)
        print_path(console, "report", folder.report_path)
        command = f"qdeq report {shlex.quote(str(folder.path))}"
        if summary.mode == "implicit":
            what = "how solvers find the equilibria, step by step"
            print_path(console, "to add", f"{command}  ({what})")
        print_path(console, "run folder", folder.path)
        if self.json:
            print(summary.to_json())


def _warn_of_divergence(summaries: "list[Summary]") -> None:
    """Name the seeds whose training ended early; an error where that left no trained model."""
    for summary in summaries:
        seed = f"seed {summary.seed}, " if len(summaries) > 1 else ""
        if summary.stopped and summary.best_epoch:
            kept = f"kept the model of epoch {summary.best_epoch}"
            print(f"qdeq: warning: {seed}{summary.stopped} ({kept})", file=sys.stderr)
        elif summary.stopped:
            print(f"qdeq: warning: {seed}{summary.stopped}", file=sys.stderr)
    if all(summary.stopped and not summary.best_epoch for summary in summaries):
        raise UserError(
            f"{summaries[0].run}: no epoch ended with finite numbers, so no model is trained"
        )


def with_data(
    config: TrainConfig, given: frozenset[str], console: Console
) -> "tuple[TrainConfig, Dataset | None]":
    """A configuration on a file with that data set, whose shape sets the options not `given`.

    What was decided about a table is said on the console. Of a named data set the configuration
    stays as it is, and nothing is loaded.
    """
    if not config.is_file:
        return config, None
    from qdeq.runs.dataset import absolute, load_dataset
    from qdeq.training.recommended import recommended

    config = absolute(config)
    if not given & {"preset", "features"}:  # of images; a table's features are its columns
        config = config.replace(features=PRESETS["best"].features)
    dataset = load_dataset(config)
    if dataset.preparation is not None:
        if "features" in given and config.features != "pool":
            raise UserError(
                f"features={config.features!r}: the features of a table are its columns; leave it "
                "out, or set components for principal components of a table"
            )
        config = config.replace(features="pool")
        for note in dataset.preparation.notes:
            console.print(note, markup=False, soft_wrap=True)
    if "preset" not in given:
        values = recommended(dataset)
        config = config.replace(**{k: v for k, v in values.items() if k not in given})
    return config, dataset


def chosen(file: str | None, given: frozenset[str]) -> frozenset[str]:
    """The options that the user set, on the command line or in a file.

    The file of a run has them all, so that no preset and no rule decides any.
    """
    if file is None:
        return given
    told = read_options(file)
    whole = len(told) >= len(dataclasses.fields(TrainConfig))
    return given | told.keys() | ({"preset"} if whole else set())


def preset_defaults(command: type[ConfigType], argv: Sequence[str]) -> ConfigType:
    """Return a command with the values of the preset that the words name."""
    name: Any = _last_of("--preset", argv) or "paper"  # an unknown name was refused before
    values: dict[str, Any] = {**dataclasses.asdict(PRESETS[name]), "preset": name}
    file = _last_of("--config", argv)
    if file is not None and "config" in {field.name for field in dataclasses.fields(command)}:
        values |= read_options(file)
        # Refused here if out of range: tyro would show its own message for such a default.
        TrainConfig(**{f.name: values[f.name] for f in dataclasses.fields(TrainConfig)})
    return command(**values)


def _last_of(option: str, argv: Sequence[str]) -> str | None:
    value = None
    for word, following in itertools.pairwise([*argv, ""]):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def config_of(command: TrainConfig) -> TrainConfig:
    """Return the configuration in a command's options, checked."""
    fields = dataclasses.fields(TrainConfig)
    return TrainConfig(**{field.name: getattr(command, field.name) for field in fields})


def _n_seeds_of(run: str) -> int:
    check_path("resume", run)
    return len(list(Path(run).glob("seed-*")))


def _epochs_of(run: str) -> int:
    from qdeq.runs.run_folder import RunFolder

    return RunFolder.open(run).read_config().epochs
