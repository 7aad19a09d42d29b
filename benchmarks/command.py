"""`python -m benchmarks`: the speed suite, its files, and what changed since an earlier run."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qdeq.cli.console import make_console, print_path
from qdeq.errors import UserError
from qdeq.training.cores import device_environment

MANY = 32  # seeds, as `groups.SEEDS` trains together


@dataclass(frozen=True)
class BenchmarkCommand:
    """Measure speed and memory against named alternatives on the same work."""

    quick: bool = False
    """Only the most telling rows, in under 40 seconds."""

    full: bool = False
    """Every alternative in every row, and curves over qubits, layers, batch and seeds."""

    only: Annotated[str | None, tyro.conf.arg(metavar="GROUPS")] = None
    """Groups of rows, separated by commas, such as step-4-amplitude,seeds."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with MNIST's files; otherwise built-in digits are drawn as MNIST draws its own."""

    compare: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """results.json of an earlier run: show what changed, and end with status 1 if qdeq became
    slower beyond the noise."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for results.json, table.md and results.png; otherwise a new one in runs/."""

    json: bool = False
    """Print the results as JSON on stdout; everything else goes to stderr."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        if self.quick and self.full:
            raise UserError("--quick and --full exclude each other: give one of them")
        # As `qdeq train --seeds` does; rows of one seed use the first device alone.
        os.environ.update(device_environment(MANY))  # JAX is not imported yet
        from benchmarks import tables
        from benchmarks.compare import compare, regressions
        from benchmarks.measurements import Results
        from benchmarks.picture import draw
        from benchmarks.suite import Plan, run_suite

        only = tuple(filter(None, (self.only or "").replace(" ", "").split(",")))
        mode = "quick" if self.quick else "full" if self.full else "default"
        plan = Plan(mode, self.data_dir, only)
        earlier = None if self.compare is None else Results.read(self.compare)
        folder = Path(self.out or f"runs/benchmark-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {folder}: cannot be made ({error.strerror})") from error

        def keep(results: Results) -> None:  # after every group: an interrupted run has its figures
            (folder / "results.json").write_text(results.to_json(), encoding="utf-8")
            (folder / "table.md").write_text(tables.markdown(results), encoding="utf-8")

        console = make_console(json=self.json)
        with console.status("starting") as status:
            show = status.update if console.is_terminal else console.print
            try:
                results = run_suite(plan, on_stage=show, on_results=keep)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted: what had been measured is in {folder}"
                ) from None
        draw(results, folder / "results.png")
        console.print(tables.terminal_table(results))
        console.print(tables.machine_line(results), style="dim", markup=False)
        slower = []
        if earlier is not None:
            changes = compare(earlier, results)
            slower = regressions(changes)
            console.print(tables.comparison_table(changes))
        for label, name in (
            ("results", "results.json"),
            ("table", "table.md"),
            ("picture", "results.png"),
        ):
            print_path(console, label, folder / name)
        console.print(f"{results.seconds:.0f} s")
        if self.json:
            print(results.to_json(), end="")
        if slower:
            raise SystemExit(1)
