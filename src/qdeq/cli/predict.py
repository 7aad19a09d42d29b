"""`qdeq predict`: what a trained run says of the rows of a file, or of images."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qdeq.cli.console import make_console, print_path


@dataclass(frozen=True)
class PredictCommand:
    """Predict the rows of a table, or images, with a run that was trained on such."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote; of many seeds the best on the validation split."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Table with the columns that the run was trained on, in any order; others are ignored. Of a
    run that was trained on images a folder of them, one image, or a .npz file with x."""

    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "predictions.csv"
    """File to write, a row for each row: .csv, .tsv (also .gz) or .parquet; replaced if it is
    there."""

    keep: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Columns of the table to write before the predictions, such as those that name its rows;
    several with commas."""

    json: bool = False
    """Print what was done as one line of JSON on stdout; everything else goes to stderr."""

    quiet: bool = False
    """Show no progress."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.runs.predictions import predict_file
        from qdeq.runs.trained import load

        console = make_console(json=self.json, quiet=self.quiet)
        started = time.monotonic()
        progress = Progress(
            TextColumn("predicting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        with progress:
            task = progress.add_task("", total=None)
            done = predict_file(
                load(self.run),
                self.file,
                self.out,
                keep=self.keep or (),
                on_rows=lambda rows, total: progress.update(task, completed=rows, total=total),
            )
        seconds = time.monotonic() - started
        for note in done.notes:
            console.print(note, markup=False, soft_wrap=True)
        console.print(
            f"{done.n_rows:,} rows in {seconds:.1f} s, {done.converged_fraction:.2%} converged"
        )
        print_path(console, "written", done.path)
        if self.json:
            print(json.dumps({**asdict(done), "path": str(done.path), "notes": list(done.notes)}))
