"""`qdeq reproduce`: the paper's tables and figures, and other studies, measured again."""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from qdeq.cli.arguments import closest, option_of, options_of
from qdeq.cli.console import make_console, print_path
from qdeq.errors import UserError
from qdeq.names import DataName, Encoding, Trainable
from qdeq.runs.seeds import parse_seeds
from qdeq.studies.catalogue import STUDIES, study_type
from qdeq.studies.study import Row, Study

if TYPE_CHECKING:
    from qdeq.studies.results import Results

_SECONDS_BETWEEN_LINES = 30.0

# What has to do with every study; all else is an option of some.
_OF_THE_COMMAND = {"study", "out", "rows", "json", "quiet"}


@dataclass(frozen=True, kw_only=True)
class ReproduceCommand:
    """Reproduce a table of the paper: every row, mean and deviation over seeds, with baselines."""

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """mnist-4, mnist-10, fashion-10, cifar-10; digits-4 and digits-10, the same on data that need
    no download; depth, accuracy against applications; implicit-methods, ways to differentiate the
    equilibrium; overlap and circuits, the paper's figures; warmup, the choice of the warm-up on
    validation data; recipe, the preset best taken apart; noise, all models on noisy devices and
    with finite shots; parity, a network of cells against any number of applications; magnet,
    another one on ground states of quantum magnets; series, a chain of cells that forecasts; or
    tables, the estimators' defaults on tables."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that holds the data set's files; otherwise the download cache."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the results, results/STUDY by default; finished rows in it are kept."""

    epochs: int | None = None
    """Passes over the training split; 100 as in the paper unless given, for `noise` 60, for
    `recipe` the preset's."""

    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS")] = None
    """Seeds of every row, a range such as 0:10 (ten seeds from 0) or a list such as 0,3,7; 0:10
    unless given, for `warmup` and `noise` 0:3."""

    rows: Annotated[str | None, tyro.conf.arg(metavar="ROWS")] = None
    """Only these rows, such as implicit,direct-5 or angle-implicit; otherwise all."""

    trainable: Trainable | None = None
    """Which angles learn: all of them, or only those of the published code's random layer."""

    warmup_epochs: int | None = None
    """Epochs in mode direct at the start of IMPLICIT+WARMUP; 10 unless given."""

    warmup_layers: int | None = None
    """Applications of the circuit in these epochs; 1 unless given."""

    data: DataName | None = None
    """Data set on which `warmup`, `recipe`, `implicit-methods` and `depth` (mnist-4 unless given)
    and `noise` (digits-4) compare; a table's is its name."""

    encoding: Encoding | None = None
    """Encoding with which `warmup` and `noise` compare, amplitude unless given; a table has all of
    its own."""

    json: bool = False
    """Print the results as the only line on stdout, as JSON; everything else goes to stderr."""

    quiet: bool = False
    """Show no progress and no table."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        study = self.make_study(given)
        study.rows()  # their errors, before JAX is imported
        out = Path(self.out or f"results/{self.study}")
        console = make_console(json=self.json, quiet=self.quiet)
        from qdeq.studies.documents import to_json
        from qdeq.studies.reproduction import reproduce

        with _Display(console) as display:
            results = reproduce(
                study,
                out,
                rows=self.rows,
                command=self.command(given),
                on_row=display.row,
                on_progress=display.progress,
            )
        _print_results(console, results)
        for name in ("table.md", "results.csv", "results.json", "report.html"):
            print_path(console, "written", out / name)
        if self.json:
            print(" ".join(to_json(results).split("\n")))

    def make_study(self, given: frozenset[str]) -> Study:
        """The study with the options that the user gave; others than its own are refused."""
        if self.study not in STUDIES:
            raise UserError(
                f"{self.study} is not a study: choose one of {', '.join(STUDIES)}"
                f"{closest(self.study, STUDIES)}"
            )
        kind, fixed = study_type(self.study)
        fields: Any = kind  # every study is a dataclass
        known = {field.name for field in dataclasses.fields(fields)} - set(fixed)
        unknown = given - known - _OF_THE_COMMAND
        if unknown:
            raise UserError(
                f"{options_of(unknown)} cannot be given with {self.study}: leave it out"
            )
        values = {name: getattr(self, name) for name in given & known}
        if "seeds" in values:
            values["seeds"] = tuple(parse_seeds(values["seeds"]))
        return kind(**fixed, **values)

    def command(self, given: frozenset[str]) -> str:
        """The command line that does the same."""
        words = ["qdeq", "reproduce", self.study]
        for field in dataclasses.fields(self):
            if field.name in given - {"study", "json", "quiet"}:
                words += [option_of(field.name), str(getattr(self, field.name))]
        return shlex.join(words)


class _Display:
    """Which row is being computed and how far it is: a line that is rewritten, or a few lines."""

    def __init__(self, console: Console):
        self._console = console
        self._live = console.is_terminal and not console.quiet
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=1, status="")
        self._last_line = -float("inf")

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def row(self, number: int, total: int, row: Row) -> None:
        """A row begins."""
        name = f"{number}/{total} {row.group} {row.label}"
        if self._live:
            self._progress.update(self._task, description=name, completed=0, total=1, status="")
        else:
            self._console.print(f"{name} ...", soft_wrap=True, markup=False)
        self._last_line = time.monotonic()

    def progress(self, told: dict[str, Any]) -> None:
        """A row's process has told how far it is."""
        status = str(told.get("stage", ""))
        if told.get("valid_accuracy") is not None:
            status = f"valid {told['valid_accuracy']:.3f}"
        done, total = told.get("epoch"), told.get("epochs")
        if self._live:
            self._progress.update(self._task, status=status)
            if total:
                self._progress.update(self._task, completed=done, total=total)
        elif total and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._console.print(f"  {done}/{total} {status}", markup=False)


def _print_results(console: Console, results: "Results") -> None:
    study = results.study
    # A terminal has room for accuracies and the comparison; the files have everything.
    for grid in study.grids(results)[:1]:
        shown = Table(title=study.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for name in grid.header[:5]:
            shown.add_column(name)
        for cells in grid.body:
            shown.add_row(*(cell.replace("**", "").replace("[", r"\[") for cell in cells[:5]))
        console.print()
        console.print(shown)
    console.print()
    for sentence in study.claims(results):
        console.print(f"- {sentence}", soft_wrap=True, markup=False)
