"""`qdeq report`: draw a run's pictures and write its HTML page again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ReportCommand:
    """Draw the pictures of a finished run and write its report, one self-contained HTML page."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.runs.report import write_report

        for path in write_report(self.run):
            print(path)
