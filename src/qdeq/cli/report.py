"""`qdeq report`: draw a run's pictures and write its HTML page, with what takes computation."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from qdeq.errors import UserError

if TYPE_CHECKING:
    from qdeq.runs.run_folder import RunFolder


@dataclass(frozen=True)
class ReportCommand:
    """Draw the pictures of a finished run and write its report, one self-contained HTML page."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set's files are now; otherwise where they were in training."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.runs.report import write_report
        from qdeq.runs.run_folder import RunFolder

        folder = RunFolder.open(self.run)
        folder.read_histories()  # its message, where the run is not finished, or damaged
        try:
            self._add_details(folder)
        except UserError as error:  # the data are not there, or a part was given in Python
            print(
                f"qdeq: note: the report is without class probabilities and the search for the "
                f"equilibrium: {error}",
                file=sys.stderr,
            )
        for path in write_report(self.run):
            print(path)

    def _add_details(self, folder: "RunFolder") -> None:
        """Compute what the finished run left out, where that has not been done."""
        from qdeq.runs.report_data import ReportData, add_details

        data = folder.seed_folders()[0].read_report_data(ReportData)
        has_probabilities = any(sample.probabilities for sample in data.samples)
        if not (data.searches or has_probabilities) or self.data_dir is not None:
            print("computing what the run left out ...", file=sys.stderr)
            add_details(self.run, data_dir=self.data_dir)
