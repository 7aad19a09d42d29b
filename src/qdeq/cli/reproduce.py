"""`qdeq reproduce`: the paper's tables and figures, measured again."""

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
from rich.table import Table as Grid

from qdeq.cli.arguments import closest
from qdeq.cli.console import make_console, print_path
from qdeq.errors import UserError, check_choice
from qdeq.runs.seeds import parse_seeds
from qdeq.studies.noise_protocol import NoiseProtocol
from qdeq.studies.protocol import ENCODINGS, Protocol, Row
from qdeq.training.config import DataName, Encoding, Trainable

if TYPE_CHECKING:
    from qdeq.studies.table import Table

_FIGURES = ("overlap", "circuits", "warmup", "noise")
_NAMES = (*ENCODINGS, *_FIGURES)
_SECONDS_BETWEEN_LINES = 30.0

# What each kind of argument has to do with: anything else that is given is refused.
_FOR_PICTURES = {"table", "out", "json", "quiet"}
_FOR_WARMUP = {*_FOR_PICTURES, "data", "data_dir", "encoding", "epochs", "seeds", "trainable"}
_FOR_NOISE = {*_FOR_PICTURES, "data", "data_dir", "encoding", "epochs", "seeds", "rows"}
_FOR_TABLES = {
    *_FOR_PICTURES,
    "data_dir",
    "epochs",
    "seeds",
    "rows",
    "trainable",
    "warmup_epochs",
    "warmup_layers",
}


@dataclass(frozen=True, kw_only=True)
class ReproduceCommand:
    """Reproduce a table of the paper: every row, mean and deviation over seeds, with baselines."""

    table: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """mnist-4, mnist-10, fashion-10, cifar-10; digits-4 and digits-10, the same on data that need
    no download; overlap and circuits, the paper's figures; warmup, the choice of the warm-up on
    validation data; or noise, all models on noisy devices and with finite shots."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that holds the data set's files; otherwise the download cache."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the results, results/TABLE by default; finished rows in it are kept."""

    epochs: int = 100
    """Passes over the training split; the paper's are 100. For `noise` 60 unless given."""

    seeds: Annotated[str, tyro.conf.arg(metavar="SEEDS")] = "0:10"
    """Seeds of every row, a range such as 0:10 (ten seeds from 0) or a list such as 0,3,7; for
    `warmup` and `noise` 0:3 unless given."""

    rows: Annotated[str | None, tyro.conf.arg(metavar="ROWS")] = None
    """Only these rows, such as implicit,direct-5 or angle-implicit; otherwise all."""

    trainable: Trainable = "all"
    """Which angles learn: all of them, or only those of the published code's random layer."""

    warmup_epochs: int = Protocol.warmup_epochs
    """Epochs in mode direct at the start of IMPLICIT+WARMUP."""

    warmup_layers: int = Protocol.warmup_layers
    """Applications of the circuit in these epochs."""

    data: DataName = "mnist-4"
    """Data set on which `warmup` and `noise` compare (`noise` on digits-4 unless given); a table's
    is its name."""

    encoding: Encoding = "amplitude"
    """Encoding with which `warmup` and `noise` compare; a table has all of its own."""

    json: bool = False
    """Print the results as the only line on stdout, as JSON; everything else goes to stderr."""

    quiet: bool = False
    """Show no progress and no table."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        if self.table not in _NAMES:
            raise UserError(
                f"{self.table} is not a table: choose one of {', '.join(_NAMES)}"
                f"{closest(self.table, _NAMES)}"
            )
        figure, grid = self.table in ("overlap", "circuits"), self.table == "warmup"
        known = _FOR_PICTURES if figure else _FOR_WARMUP if grid else _FOR_TABLES
        if self.table == "noise":
            known = _FOR_NOISE
        if given - known:
            options = ", ".join(f"--{n.replace('_', '-')}" for n in sorted(given - known))
            raise UserError(f"{options} cannot be given with {self.table}: leave it out")
        out = Path(self.out or f"results/{self.table}")
        console = make_console(json=self.json, quiet=self.quiet)
        if figure:
            self._figures(out, console)
        elif grid:
            self._warmup(out, console, given)
        elif self.table == "noise":
            self._noise(out, console, given)
        else:
            self._table(out, console)

    def protocol(self) -> Protocol:
        """How the rows are trained; checked when they are built."""
        if self.table in ENCODINGS:
            check_choice("table", self.table, ENCODINGS)
        data: Any = self.table if self.table in ENCODINGS else self.data
        if self.warmup_epochs < 1:
            raise UserError(
                f"warmup_epochs={self.warmup_epochs}: IMPLICIT+WARMUP needs at least 1; the row "
                "IMPLICIT has none"
            )
        return Protocol(
            data=data,
            data_dir=self.data_dir,
            epochs=self.epochs,
            seeds=tuple(parse_seeds(self.seeds)),
            trainable=self.trainable,
            warmup_epochs=self.warmup_epochs,
            warmup_layers=self.warmup_layers,
        )

    def command(self) -> str:
        """The command line that does the same: every option that is not a default."""
        words = ["qdeq", "reproduce", self.table]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("table", "json", "quiet") and value != field.default:
                words += [f"--{field.name.replace('_', '-')}", str(value)]
        return shlex.join(words)

    def _table(self, out: Path, console: Console) -> None:
        protocol = self.protocol()
        from qdeq.studies.documents import to_json
        from qdeq.studies.reproduce import reproduce_table

        with _Display(console) as display:
            table = reproduce_table(
                protocol,
                out,
                rows=self.rows,
                command=self.command(),
                on_row=display.row,
                on_progress=display.progress,
            )
        _print_table(console, table)
        for name in ("table.md", "results.csv", "results.json", "index.html"):
            print_path(console, "written", out / name)
        if self.json:
            print(" ".join(to_json(table).split("\n")))

    def _warmup(self, out: Path, console: Console, given: frozenset[str]) -> None:
        protocol = self.protocol()
        if "seeds" not in given:
            protocol = dataclasses.replace(protocol, seeds=(0, 1, 2))
        from qdeq.studies.reproduce import reproduce_warmup

        with _Display(console) as display:
            choice = reproduce_warmup(
                protocol,
                out,
                encoding=self.encoding,
                command=self.command(),
                on_row=display.row,
                on_progress=display.progress,
            )
        best = choice.best
        console.print(
            f"chosen: {best.epochs} epochs of DIRECT {best.layers}, validation accuracy "
            f"{best.mean:.4f}"
        )
        print_path(console, "written", out / "warmup.md")
        if self.json:
            print(" ".join(choice.to_json().split("\n")))

    def _noise(self, out: Path, console: Console, given: frozenset[str]) -> None:
        values: dict[str, Any] = {"data_dir": self.data_dir, "encoding": self.encoding}
        if "seeds" in given:
            values["seeds"] = tuple(parse_seeds(self.seeds))
        values |= {name: getattr(self, name) for name in ("data", "epochs") if name in given}
        protocol = NoiseProtocol(**values)
        protocol.rows()  # its errors, before JAX is imported
        from qdeq.studies.noise_documents import to_json
        from qdeq.studies.noise_reproduce import reproduce_noise
        from qdeq.studies.noise_table import answers

        with _Display(console) as display:
            table = reproduce_noise(
                protocol,
                out,
                rows=self.rows,
                command=self._noise_command(protocol),
                on_row=display.row,
                on_progress=display.progress,
            )
        for sentence in answers(table):
            console.print(f"- {sentence}", soft_wrap=True, markup=False)
        for name in ("noise.md", "noise.csv", "noise.json", "figures"):
            print_path(console, "written", out / name)
        if self.json:
            print(" ".join(to_json(table).split("\n")))

    def _noise_command(self, protocol: NoiseProtocol) -> str:
        # Its defaults are not those of the tables, so it names what they would hide.
        words = ["qdeq", "reproduce", "noise", "--data", protocol.data]
        words += ["--encoding", protocol.encoding, "--epochs", str(protocol.epochs)]
        words += ["--seeds", ",".join(map(str, protocol.seeds))]
        for name in ("data_dir", "rows", "out"):
            if getattr(self, name) is not None:
                words += [f"--{name.replace('_', '-')}", getattr(self, name)]
        return shlex.join(words)

    def _figures(self, out: Path, console: Console) -> None:
        import json

        from qdeq.studies.reproduce import reproduce_circuits, reproduce_overlap

        draw = reproduce_overlap if self.table == "overlap" else reproduce_circuits
        sentences = draw(out, command=self.command())
        for sentence in sentences:
            console.print(sentence, soft_wrap=True, markup=False)
        print_path(console, "written", out / "index.html")
        if self.json:
            print(json.dumps({"statements": sentences}))


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


def _print_table(console: Console, table: "Table") -> None:
    from qdeq.studies.claims import claims
    from qdeq.studies.documents import grid, title
    from qdeq.studies.table import RESULT_COLUMNS

    # A terminal has room for accuracies and the comparison; the files have everything.
    shown = Grid(title=title(table), title_justify="left", box=None, padding=(0, 2, 0, 0))
    header, body = grid(table, RESULT_COLUMNS)
    for name in header[:5]:
        shown.add_column(name)
    for cells in body:
        shown.add_row(*(cell.replace("**", "").replace("[", r"\[") for cell in cells[:5]))
    console.print()
    console.print(shown)
    console.print()
    for sentence in claims(table):
        console.print(f"- {sentence}", soft_wrap=True, markup=False)
