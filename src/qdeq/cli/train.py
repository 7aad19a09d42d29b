"""`qdeq train`: start or resume a run."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from qdeq.cli.console import TrainingDisplay, make_console, print_path, print_rows
from qdeq.errors import UserError
from qdeq.training.config import PRESETS, PresetName, TrainConfig

# A resumed run keeps its configuration: only these may be given along.
_WITH_RESUME = {"resume", "epochs", "data_dir", "json", "quiet"}


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig):
    """Train a classifier and write a run folder with its model, metrics, pictures and report."""

    preset: PresetName = "paper"
    """Defaults for all other options: the paper's recipe, a first look within two minutes, or the
    published code like for like. Options that are given override it."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write; otherwise a new one in runs/."""

    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Run folder to continue, with its own configuration; a larger --epochs extends it."""

    json: bool = False
    """Print the summary as the only line on stdout, as JSON; everything else goes to stderr."""

    quiet: bool = False
    """Show no progress and no summary table."""

    def __post_init__(self) -> None:
        """Check nothing yet: `config` does, outside of tyro, which would box the message."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> "TrainCommand":
        name: Any = "paper"  # an unknown name was refused before
        for word, following in itertools.pairwise([*argv, ""]):
            if word == "--preset":
                name = following
            elif word.startswith("--preset="):
                name = word.partition("=")[2]
        return cls(**dataclasses.asdict(PRESETS[name]), preset=name)

    def config(self) -> TrainConfig:
        """Return the configuration alone, checked."""
        fields = dataclasses.fields(TrainConfig)
        return TrainConfig(**{field.name: getattr(self, field.name) for field in fields})

    def execute(self, given: frozenset[str]) -> None:
        console = make_console(json=self.json, quiet=self.quiet)
        if self.resume is not None:
            refused = sorted(given - _WITH_RESUME)
            if refused:
                options = ", ".join("--" + name.replace("_", "-") for name in refused)
                raise UserError(
                    f"{options} cannot be given with --resume: a run keeps its configuration; "
                    "leave it out, or start a new run"
                )
        else:
            config = self.config()  # before JAX is imported: mistakes should answer at once
        from qdeq.training import report, run, run_folder

        if self.resume is not None:
            epochs = self.epochs if "epochs" in given else None
            total = epochs or run_folder.RunFolder.open(self.resume).read_config().epochs
            with TrainingDisplay(console, total) as display:
                summary = run.resume(
                    self.resume,
                    epochs=epochs,
                    data_dir=self.data_dir if "data_dir" in given else None,
                    on_epoch=display.epoch,
                    on_stage=display.stage,
                )
        else:
            with TrainingDisplay(console, config.epochs) as display:
                summary = run.train(
                    config, out=self.out, on_epoch=display.epoch, on_stage=display.stage
                )
        title = f"{summary.dataset}, {summary.n_qubits} qubits, {summary.encoding}, {summary.mode}"
        print_rows(console, report.summary_rows(summary), title=title)
        folder = run_folder.RunFolder(run.Path(summary.run))
        console.print()
        for picture in sorted(folder.figures_path.glob("*.png")):
            print_path(console, "picture", picture)
        print_path(console, "report", folder.report_path)
        print_path(console, "run folder", folder.path)
        if self.json:
            print(summary.to_json())
