"""Finished runs next to each other: their numbers, what they were given, differences by seed."""

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np

from qdeq.errors import UserError
from qdeq.names import SplitName
from qdeq.runs import pages
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.statistics import LEVEL, Comparison, paired
from qdeq.runs.summary import Spread, Summary
from qdeq.runs.summary_rows import seed_columns

# Numbers whose difference by seed means something; residuals differ by orders of magnitude.
_PAIRED = ("converged_fraction", "solver_steps_mean")


@dataclass(frozen=True)
class RunComparison:
    """What `compare` found; a run's entry stands at the place that it was named at.

    Attributes
    ----------
    runs
        What the runs are called: their folders.
    metrics
        Label to a number per run, with its deviation over the seeds where there are several.
    differing
        Configuration options, seeds, versions and devices that are not the same in all runs: name
        to a text per run.
    differences
        Label to the mean difference to the first run over the seeds that both have, with its
        interval where there are two; None of the first run, and without a common seed.
    """

    runs: list[str]
    metrics: dict[str, list[Spread]]
    differing: dict[str, list[str]]
    differences: dict[str, list[Comparison | None]]

    def tables(self) -> dict[str, tuple[list[str], list[list[str]], str]]:
        """By heading a header, rows of texts, and a sentence that explains them."""
        metrics = [[label, *map(_number, found)] for label, found in self.metrics.items()]
        options = [[name, *texts] for name, texts in self.differing.items()]
        found = [
            [label, *(_difference(one) for one in row[1:])]
            for label, row in self.differences.items()
        ]
        is_paired = any(one is not None for row in self.differences.values() for one in row)
        text = "Mean ± standard deviation over seeds, if any."
        if not is_paired:
            text += f" No other run has a seed of {self.runs[0]}, so no differences are paired."
        tables = {"Numbers": (["", *self.runs], metrics, text)}
        if options:
            tables["What differs"] = (["", *self.runs], options, "Everything else is the same.")
        if is_paired:
            text = (
                f"Each run minus {self.runs[0]}, the mean over the seeds that both have, with its "
                f"{LEVEL:.0%} interval (Student's t) where these are two or more. An interval "
                "around 0 shows no difference. It covers the variation over seeds, on one test "
                "set, and is not corrected for the number of comparisons."
            )
            tables["Differences by seed"] = (["", *self.runs[1:]], found, text)
        return tables

    def page(self, folder: Path) -> str:
        """The tables as a page that stands in a folder, with links to the reports."""
        parts = []
        for heading, (header, body, text) in self.tables().items():
            parts += [pages.heading(heading), pages.paragraph(text, "note")]
            parts.append(pages.grid(header, body))
        reports = {run: Path(run) / "report.html" for run in self.runs}
        links = {
            run: os.path.relpath(path, folder) for run, path in reports.items() if path.is_file()
        }
        if links:
            parts += [pages.heading("Reports"), pages.links(links)]
        return pages.page(f"{len(self.runs)} runs compared", parts, wide=True)


def compare(runs: Sequence[str | Path]) -> RunComparison:
    """Compare finished runs on the same test samples, of one seed or many.

    Parameters
    ----------
    runs
        Two or more run folders; the others are compared with the first.

    Raises
    ------
    UserError
        When there are fewer than two, one is there twice, one is not finished, or they were tested
        on different samples, so that their numbers say nothing of each other.

    Examples
    --------
    >>> found = compare(["runs/a", "runs/b"])  # doctest: +SKIP
    >>> print(found.differences["test accuracy"][1])  # doctest: +SKIP
    +0.0124 [+0.0031, +0.0217]
    """
    if isinstance(runs, str | Path) or not isinstance(runs, Sequence) or len(runs) < 2:
        raise UserError(f"runs={runs!r}: give two run folders or more to compare")
    folders = [RunFolder.open(run) for run in runs]
    places = [folder.path.resolve() for folder in folders]
    twice = [f.path for f, place in zip(folders, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UserError(f"run={str(twice[0])!r} is there twice: name each run once")
    summaries = [folder.read_summary() for folder in folders]
    for folder, summary in zip(folders[1:], summaries[1:], strict=True):
        _check_comparable(folders[0], summaries[0], folder, summary)
    labels = {**seed_columns(summaries[0].score), "test_loss": "test loss"}
    if summaries[0].task == "regression":
        labels |= {"test_rmse": "test RMSE", "test_mae": "test MAE"}
    metrics = {label: [s.spread(name) for s in summaries] for name, label in labels.items()}
    for name, label in (
        ("n_parameters", "parameters in the model"),
        ("n_head_parameters", "parameters in the head"),
        ("circuit_executions", "circuit executions"),
        ("train_seconds", "training time, s"),
    ):
        metrics[label] = [
            Spread.of([getattr(own.read_summary(), name) for own in folder.seed_folders()])
            for folder in folders
        ]
    reference = [_by_seed(summaries[0], name) for name in labels]
    differences: dict[str, list[Comparison | None]] = {}
    for (name, label), first in zip(labels.items(), reference, strict=True):
        if name.startswith(get_args(SplitName)) or name in _PAIRED:
            others = (paired(_by_seed(s, name), first) for s in summaries[1:])
            differences[label] = [None, *others]
    return RunComparison(
        [str(folder.path) for folder in folders],
        metrics,
        _differing(folders, summaries),
        differences,
    )


def _check_comparable(
    first: RunFolder, summary: Summary, folder: RunFolder, other: Summary
) -> None:
    def refuse(what: str, one: object, two: object) -> NoReturn:
        raise UserError(
            f"{folder.path} cannot be compared with {first.path}: {what} ({two}, and {one}); "
            "compare runs on the same data"
        )

    if summary.dataset != other.dataset:
        refuse("another data set", summary.dataset, other.dataset)
    if summary.task != other.task:
        refuse("another task", summary.task, other.task)
    if summary.classes != other.classes:
        refuse("other classes", summary.classes, other.classes)
    if summary.targets != other.targets:
        refuse("other targets", summary.targets, other.targets)
    files = first.read_files(), folder.read_files()
    for name in {**files[0], **files[1]}:  # either may have a file to test on
        one, two = (found.get(name, {}) for found in files)
        if one.get("sha256") != two.get("sha256"):
            refuse(f"another file of {name}", one.get("path", "none"), two.get("path", "none"))
    rows = [[sum(row) for row in s.confusion_matrix] for s in (summary, other)]
    sizes = [len(s.seeds or [0]) for s in (summary, other)]
    samples = [[n // size for n in row] for row, size in zip(rows, sizes, strict=True)]
    if samples[0] != samples[1]:
        refuse("other test samples of each class", *samples)
    configs = first.read_config(), folder.read_config()
    if configs[0].target != configs[1].target:  # two columns may have classes of the same names
        refuse("another target", configs[0].target, configs[1].target)
    if configs[0].weight != configs[1].weight:  # test samples count by it
        refuse("other weights of the test samples", configs[0].weight, configs[1].weight)
    # Of a table without a file to test on the groups decide which rows are held out; the seed of
    # the split does not.
    drawn = [f"group={c.group}" if c.is_file and c.test is None else "" for c in configs]
    one, two = (_true_targets(f) if summary.targets else None for f in (first, folder))
    if one is not None and two is not None:
        if not _are_the_same(one, two):
            if drawn[0] == drawn[1]:
                drawn = [f"{len(targets):,} with targets of their own" for targets in (one, two)]
            refuse("other test samples", *drawn)
    elif drawn[0] != drawn[1]:
        refuse("other test samples", *drawn)
    one, two = first.read_test_labels(), folder.read_test_labels()
    if one and two and one != two:
        refuse("other test samples", f"labels of hash {one[:8]}", f"of hash {two[:8]}")


def _true_targets(folder: RunFolder) -> np.ndarray | None:
    """Of the test samples of a regression; None where the run did not keep them."""
    with contextlib.suppress(UserError):
        return folder.read_predictions()[0]
    return None


def _are_the_same(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether targets are equal up to float32, in which every run scales them by its own rows."""
    if one.shape != two.shape:
        return False
    spread = np.ptp(one, axis=0) if len(one) else 0.0
    return bool((np.abs(one - two) <= 1e-5 * spread + 1e-6 * np.abs(one)).all())


def _by_seed(summary: Summary, name: str) -> dict[int, float]:
    """A number by seed, where it is one."""
    if summary.seeds is None:
        values = {summary.seed or 0: getattr(summary, name)}
    else:
        values = dict(zip(summary.seeds, summary.by_seed[name], strict=True))
    return {seed: v for seed, v in values.items() if v is not None and math.isfinite(v)}


def _differing(folders: Sequence[RunFolder], summaries: Sequence[Summary]) -> dict[str, list[str]]:
    plain = [folder.read_config().plain() for folder in folders]
    rows: dict[str, list[str]] = {
        name: [str(values[name]) for values in plain] for name in plain[0] if name != "seed"
    }
    rows["seeds"] = [", ".join(map(str, s.seeds or [s.seed])) for s in summaries]
    rows["epochs trained"] = [str(s.epochs) for s in summaries]
    rows["stopped"] = [s.stopped for s in summaries]
    packages: Mapping[str, None] = dict.fromkeys(p for s in summaries for p in s.versions)
    for package in packages:
        rows[package] = [s.versions.get(package, "none") for s in summaries]
    rows["device"] = [s.device for s in summaries]
    rows = {name: texts for name, texts in rows.items() if len(set(texts)) > 1}
    if rows.get("epochs trained") == rows.get("epochs"):
        rows.pop("epochs trained", None)
    return rows


def _number(spread: Spread) -> str:
    is_count = spread.mean >= 1e4 or (math.isnan(spread.std) and spread.mean.is_integer())
    return format(spread, ",.0f" if is_count else ".4g")


def _difference(found: Comparison | None) -> str:
    if found is None:
        return "no common seed"
    return f"{found} ({found.n} seed{'s' * (found.n != 1)})"
