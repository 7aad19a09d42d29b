"""The numbers of a study as one long table, rows x devices x metrics x seeds, and cuts of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qdeq.runs.statistics import Comparison, mean_and_deviation, paired
from qdeq.studies.study import Device, Metric, Numbers, Result, Row, Study

ABSENT = "—"


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes
    ----------
    heading
        What it is about.
    header, body
        Its cells.
    text
        A paragraph before it.
    n_labels
        Columns from the left that are words and not numbers.
    """

    heading: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    text: str = ""
    n_labels: int = 2


@dataclass(frozen=True)
class Results:
    """What came out of a study so far.

    Attributes
    ----------
    study
        What was asked.
    rows
        The rows that are shown and have been computed, failed ones too, in order.
    computed
        What came out of every row by key, those included that are not shown.
    points
        By row and by name of the device, the numbers of every seed that did not diverge.
    more
        Further measurements, see `Study.more`.
    command
        What a person types to get it.
    """

    study: Study
    rows: tuple[Row, ...]
    computed: Mapping[str, Result]
    points: Mapping[str, Mapping[str, Numbers]]
    more: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def numbers(self, key: str, metric: str, device: str = "") -> dict[int, float]:
        """The numbers of a row by seed; empty where there are none."""
        found: Sequence[dict[str, Any]] = self.points.get(key, {}).get(device, [])
        return {p["seed"]: p[metric] for p in found if p.get(metric) is not None}

    def seeds(self, key: str) -> list[int]:
        """The seeds of a row that have numbers on any device."""
        found = [p["seed"] for numbers in self.points.get(key, {}).values() for p in numbers]
        return list(dict.fromkeys(found))

    def has(self, key: str) -> bool:
        """Whether there are numbers of a row."""
        return bool(self.seeds(key))

    def with_numbers(self, group: str) -> list[Row]:
        """The shown rows of a group that have numbers."""
        return [row for row in self.rows if row.group == group and self.has(row.key)]

    def mean(self, key: str, metric: str, device: str = "") -> tuple[float, float]:
        """Mean and deviation over seeds, NaN where there is none."""
        return mean_and_deviation(list(self.numbers(key, metric, device).values()))

    def value(self, key: str, metric: Metric, device: str = "") -> tuple[float, float]:
        """Mean and deviation of a metric that has a number per seed, else the row's number."""
        if metric.per_seed:
            return self.mean(key, metric.name, device)
        found = self.computed[key].get(metric.name)
        return (math.nan if found is None else found), math.nan

    def compare(self, key: str, reference: str, device: str = "") -> Comparison | None:
        """What the study compares, of one row minus another, paired by seed."""
        metric = self.study.compared
        return paired(self.numbers(key, metric, device), self.numbers(reference, metric, device))

    def difference(self, row: Row, device: str = "") -> tuple[str, Comparison] | None:
        """The row that a row is compared with and the comparison, as far as there is one."""
        reference = self.study.reference(row, self.rows)
        if reference is None or reference == row.key or not self.study.compared:
            return None
        found = self.compare(row.key, reference, device)
        return None if found is None else (reference, found)

    def grid(self, heading: str, metrics: Sequence[Metric], *, with_difference: str = "") -> Grid:
        """Rows against metrics, on the device that rows were computed on.

        Parameters
        ----------
        heading
            Of the grid.
        metrics
            Its columns.
        with_difference
            Header of a column for the difference to the reference, after the first metric.
        """
        header = [self.study.group_header, "row", *(metric.header for metric in metrics)]
        if with_difference:
            header.insert(3, f"{with_difference} [95 %]")
        body = []
        for row in self.rows:
            status, failed = self.computed[row.key]["status"], not self.has(row.key)
            mark = "failed" if failed else "" if status == "done" else status
            label = f"{row.label} **{mark}**" if mark else row.label
            group = self.study.group_label(row.group)
            cells = [
                group,
                label,
                *(cell(metric, *self.value(row.key, metric)) for metric in metrics),
            ]
            if with_difference:
                found = self.difference(row)
                cells.insert(3, ABSENT if found is None else str(found[1]))
            if failed:
                cells[2] = str(self.computed[row.key]["reason"]).replace("|", "/")
            body.append(cells)
        return Grid(heading, header, body)

    def grid_of_devices(
        self, heading: str, group: str, metric: Metric, devices: Sequence[Device]
    ) -> Grid | None:
        """The rows of a group against devices, one metric; None where no row has a number."""
        body = []
        for row in self.with_numbers(group):
            cells = [cell(metric, *self.value(row.key, metric, d.name)) for d in devices]
            if any(text != ABSENT for text in cells):
                body.append([row.label, *cells])
        header = ["row", *(device.header for device in devices)]
        return Grid(heading, header, body, n_labels=1) if body else None


def cell(metric: Metric, mean: float, deviation: float) -> str:
    """A number with its deviation, as far as there are any."""
    if math.isnan(mean):
        return ABSENT
    if metric.form.endswith("d"):
        return format(int(mean), metric.form)
    text = format(mean, metric.form)
    return text if math.isnan(deviation) else f"{text} ± {format(deviation, metric.form)}"
