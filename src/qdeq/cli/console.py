"""What a person sees while a run goes on and when it is done; on a terminal or in a log file."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from qdeq.names import IN_WORDS

_SECONDS_BETWEEN_LINES = 10.0
_LINES_PER_RUN = 10


def make_console(*, json: bool = False, quiet: bool = False) -> Console:
    """Return where to write for people: stderr when stdout carries JSON, nowhere when quiet."""
    return Console(stderr=json, quiet=quiet, highlight=False)


class TrainingDisplay:
    """A progress bar over epochs on a terminal, a line now and then elsewhere.

    A context manager; its methods `stage` and `epoch` are the callbacks of `training.train`.

    Parameters
    ----------
    console
        Where to write.
    epochs
        Number of epochs of the whole run.
    """

    def __init__(self, console: Console, epochs: int):
        self.console, self.epochs = console, epochs
        self._last_line = -float("inf")
        self._last_stage = ""
        narrow = console.width < 110  # the usual 80 columns just hold everything but the time left
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=6 if narrow else 20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            *([] if narrow else [TimeRemainingColumn()]),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        self._task = self._progress.add_task("", total=epochs, status="")

    def __enter__(self) -> "TrainingDisplay":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.update(self._task, description="done" if error is None else "stopped")
        self._progress.stop()

    def stage(self, name: str) -> None:
        """Show that a stage has begun."""
        if self._progress.disable:
            if name != self._last_stage:
                self.console.print(f"{name} ...")
        else:
            self._progress.update(self._task, description=name)
        self._last_stage = name

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Show one finished epoch."""
        number = metrics["epoch"]
        status = (
            f"loss {_number(metrics['train_loss'], '.3f')} "
            f"valid {_number(_score(metrics), '.3f')} "
            f"residual {_number(metrics['residual_mean'], '.0e')} "
            f"steps {_number(metrics['solver_steps_mean'], '.1f')}"
        )
        if not self._progress.disable:
            self._progress.update(self._task, completed=number, status=status)
            return
        now = time.monotonic()
        milestone = number % max(1, self.epochs // _LINES_PER_RUN) == 0 or number == self.epochs
        if milestone or now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            width = len(str(self.epochs))
            self.console.print(
                f"epoch {number:>{width}}/{self.epochs}  {metrics['phase']:<8}  {status}",
                soft_wrap=True,
            )


def print_rows(console: Console, rows: Mapping[str, str], *, title: str) -> None:
    """Print labels and values as two aligned columns under a title."""
    table = Table.grid(padding=(0, 2))
    for label, value in rows.items():
        table.add_row(f"[dim]{label}[/dim]", escape(value))
    console.print(f"\n[bold]{escape(title)}[/bold]")
    console.print(table)


def print_table(
    console: Console,
    header: Sequence[str],
    body: Sequence[Sequence[str]],
    *,
    title: str,
    text: str = "",
) -> None:
    """Print a table whose first column names its rows, and a sentence under it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, name in enumerate(header):
        table.add_column(
            escape(name), justify="left" if position == 0 else "right", overflow="fold"
        )
    for row in body:
        table.add_row(f"[dim]{escape(row[0])}[/dim]", *map(escape, row[1:]))
    console.print(f"\n[bold]{escape(title)}[/bold]")
    console.print(table)
    if text:
        console.print(f"[dim]{escape(text)}[/dim]")


def print_path(console: Console, label: str, path: object) -> None:
    """Print a path on one line, however long, so that it can be copied."""
    console.print(f"[dim]{label:<10}[/dim] ", end="")
    console.print(str(path), markup=False, soft_wrap=True)


def _score(metrics: Mapping[str, Any]) -> float | None:
    """Accuracy or R2 on the validation split."""
    return next(metrics[name] for score in IN_WORDS if (name := f"valid_{score}") in metrics)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
