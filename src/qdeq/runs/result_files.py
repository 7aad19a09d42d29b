"""The files that a finished run leaves: summary, test predictions, pictures and report."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from qdeq._arrays import read_arrays, write_arrays, write_atomically
from qdeq.errors import UserError
from qdeq.runs.run_files import RunFiles, make_folder, text_in
from qdeq.runs.summary import Summary, finite_or_none

Data = TypeVar("Data")

_PREDICTIONS_FORMAT = "qdeq-predictions-1"


class ResultFiles(RunFiles):
    """`summary.json`, `predictions.safetensors`, `report.json`, `report.html` and `figures`."""

    @property
    def summary_path(self) -> Path:
        return self.path / "summary.json"

    @property
    def predictions_path(self) -> Path:
        return self.path / "predictions.safetensors"

    @property
    def report_data_path(self) -> Path:
        return self.path / "report.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def figures_path(self) -> Path:
        return self.path / "figures"

    def write_summary(self, summary: Summary) -> None:
        write_atomically(self.summary_path, (summary.to_json(indent=2) + "\n").encode())

    def read_summary(self) -> Summary:
        """Return the summary of a finished run; of many seeds, made of theirs.

        Raises
        ------
        UserError
            When the run is not finished or the file is damaged.
        """
        if not self.summary_path.exists():
            self.read_config()  # of another program's folder this says that it is none of ours
            raise UserError(
                f"run={str(self.path)!r}: the run is not finished (no summary.json); "
                f"{self.to_continue}"
            )
        if self.has_many_seeds:
            return Summary.over([f.read_summary() for f in self.seed_folders()], run=str(self.path))
        summary = Summary.from_json(text_in(self.summary_path), source=str(self.summary_path))
        return dataclasses.replace(summary, run=str(self.path))  # which may have been moved since

    def remove_summaries(self) -> None:
        """Before a finished run goes on: they are of fewer epochs than its model will be."""
        for path in {folder.summary_path for folder in (self, *self.seed_folders())}:
            path.unlink(missing_ok=True)

    def write_predictions(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Write what a regression says of its test samples, `(N, T)` each, for pictures."""
        arrays = {"true": np.asarray(true), "predicted": np.asarray(predicted)}
        write_arrays(self.predictions_path, arrays, metadata={"format": _PREDICTIONS_FORMAT})

    def read_predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """What `write_predictions` wrote, `(N, T)` each; of many seeds the first one's.

        Raises
        ------
        UserError
            When the file is missing or damaged.
        """
        path = self.seed_folders()[0].predictions_path
        arrays, _ = read_arrays(path, kind=_PREDICTIONS_FORMAT)
        return arrays["true"], arrays["predicted"]

    def write_report_data(self, data: Any) -> None:
        """Write what a report shows beside the summary, a `ReportData`."""
        content = json.dumps(finite_or_none(dataclasses.asdict(data)), separators=(",", ":"))
        write_atomically(self.report_data_path, (content + "\n").encode())

    def read_report_data(self, kind: type[Data]) -> Data:
        """What `write_report_data` wrote, as a `kind`; an empty one where there is no such file.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        if not self.report_data_path.is_file():
            return kind()
        try:
            return msgspec.convert(json.loads(text_in(self.report_data_path)), kind)
        except ValueError as error:
            raise UserError(
                f"{self.report_data_path} is damaged ({error}): remove it and run `qdeq report "
                f"{shlex.quote(str(self.path))}`"
            ) from error

    def write_report(self, page: str) -> None:
        write_atomically(self.report_path, page.encode())

    def write_figures(self, pictures: Mapping[str, bytes]) -> list[Path]:
        """Write PNG pictures as `figures/NAME.png` and return their paths."""
        make_folder(self.figures_path)
        paths = [self.figures_path / f"{name}.png" for name in pictures]
        for path, content in zip(paths, pictures.values(), strict=True):
            write_atomically(path, content)
        return paths
