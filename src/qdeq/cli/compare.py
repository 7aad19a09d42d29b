"""`qdeq compare`: finished runs next to each other, as a table and as a page."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qdeq.cli.console import make_console, print_path, print_table
from qdeq.errors import UserError, check_path


@dataclass(frozen=True)
class CompareCommand:
    """Compare finished runs: their numbers, what differs in them, differences by seed."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")]
    """Run folders that `qdeq train` wrote, two or more; the others are compared with the first."""

    out: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the tables as one HTML page, too."""

    json: bool = False
    """Print the result as one line of JSON instead of tables."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.runs.comparison import compare
        from qdeq.runs.summary import finite_or_none

        out = None if self.out is None else _writable(self.out)
        found = compare(self.runs)
        console = make_console(json=self.json)
        if self.json:
            print(json.dumps(finite_or_none(dataclasses.asdict(found))))
        else:
            for heading, (header, body, text) in found.tables().items():
                print_table(console, header, body, title=heading, text=text)
        if out is not None:
            from qdeq._arrays import write_atomically

            write_atomically(out, found.page(out.resolve().parent).encode())
            console.print()
            print_path(console, "page", out)


def _writable(out: str) -> Path:
    check_path("out", out)
    path = Path(out)
    if path.suffix != ".html":
        raise UserError(f"out={out!r}: name a file that ends in .html")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in no folder ({path.parent} is none)"
        raise UserError(f"out={out!r} {what}: name a file in a folder that exists")
    return path
