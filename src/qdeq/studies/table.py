"""From the results of rows to the numbers of a table: means, deviations, comparisons; no layout."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qdeq.studies.protocol import Protocol, Row
from qdeq.studies.row import Result
from qdeq.studies.statistics import Comparison, compare, mean_and_deviation


@dataclass(frozen=True)
class Column:
    """A number of the table.

    Attributes
    ----------
    name
        Key in a seed's or a row's result, and in CSV and JSON.
    header
        What people read.
    form
        Format specification of the mean; deviations are shown to the same digits.
    per_seed
        Whether there is one per seed, hence a mean and a deviation.
    """

    name: str
    header: str
    form: str
    per_seed: bool = True


RESULT_COLUMNS = (
    Column("test_accuracy", "test accuracy", ".4f"),
    Column("valid_accuracy", "validation accuracy", ".4f"),
    Column("residual_mean", "residual, mean", ".1e"),
    Column("residual_max", "residual, max", ".1e"),
    Column("converged_fraction", "converged", ".4f"),
    Column("solver_steps", "solver steps", ".2f"),
)
COST_COLUMNS = (
    Column("executions_per_training_step", "executions per training step", ",.0f"),
    Column("gradient_executions_per_training_step", "executions for its gradient", ",.0f"),
    Column("executions_per_inference", "executions per inference", ".2f"),
    Column("trainable_angles", "trainable angles", ",d", per_seed=False),
    Column("classical_parameters", "classical parameters", ",d", per_seed=False),
    Column("depth", "circuit depth", "d", per_seed=False),
    Column("two_qubit_gates", "two-qubit gates", "d", per_seed=False),
    Column("train_seconds", "run time, s", ",.1f", per_seed=False),
    Column("compile_seconds", "compile time, s", ",.1f", per_seed=False),
    Column("peak_memory_mb", "peak memory, MB", ",.0f", per_seed=False),
)
COLUMNS = RESULT_COLUMNS + COST_COLUMNS


@dataclass(frozen=True)
class Entry:
    """A row with its numbers.

    Attributes
    ----------
    row, result
        What it is, and what came out.
    seeds
        The seeds that did not diverge.
    mean, deviation
        By column name; NaN where there is no such number.
    comparison
        Test accuracy minus the reference's, paired by seed; None without a pair, and for the
        reference itself.
    reference
        Key of the IMPLICIT row that it is compared with.
    """

    row: Row
    result: Result
    seeds: tuple[int, ...]
    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    comparison: Comparison | None
    reference: str

    @property
    def is_failed(self) -> bool:
        """Whether there are no numbers at all."""
        return not self.seeds


@dataclass(frozen=True)
class Table:
    """A whole table.

    Attributes
    ----------
    protocol
        How its rows were trained.
    entries
        One per row, in order.
    extras
        Other results by key, for figures.
    command
        What a person types to get it.
    """

    protocol: Protocol
    entries: tuple[Entry, ...]
    extras: Mapping[str, Result] = field(default_factory=dict)
    command: str = ""

    @property
    def encodings(self) -> tuple[str, ...]:
        """Groups of rows that are trained by the training loop, in order."""
        groups = dict.fromkeys(e.row.group for e in self.entries if e.row.kind == "circuit")
        return tuple(groups)

    def entry(self, key: str) -> Entry | None:
        """The entry of a row that has numbers, or None."""
        found = (e for e in self.entries if e.row.key == key and not e.is_failed)
        return next(found, None)

    def compare(self, key: str, reference: str) -> Comparison | None:
        """Paired test accuracies of two rows over their common seeds; None without any."""
        first, second = self.entry(key), self.entry(reference)
        if first is None or second is None:
            return None
        return _paired(first.result, second.result)


def build_table(
    protocol: Protocol,
    rows: Sequence[Row],
    results: Mapping[str, Result],
    *,
    extras: Mapping[str, Result] | None = None,
    command: str = "",
) -> Table:
    """Put the results of rows together.

    Parameters
    ----------
    protocol
        Of the rows.
    rows
        In the order of the table; every one has a result, those that failed too.
    results
        By key.
    extras, command
        See `Table`.
    """
    encodings = [row.group for row in rows if row.kind == "circuit"]
    entries = []
    for row in rows:
        group = row.group if row.kind == "circuit" else next(iter(encodings), "")
        reference = f"{group}-implicit"
        result = results[row.key]
        seeds = _finite_seeds(result)
        mean, deviation = {}, {}
        for column in COLUMNS:
            if column.per_seed:
                values = [seed[column.name] for seed in seeds if column.name in seed]
                mean[column.name], deviation[column.name] = mean_and_deviation(values)
            else:
                value = result.get(column.name)
                mean[column.name] = math.nan if value is None else value
                deviation[column.name] = math.nan
        comparison = None
        if reference in results and reference != row.key:
            comparison = _paired(result, results[reference])
        entries.append(
            Entry(
                row,
                result,
                tuple(seed["seed"] for seed in seeds),
                mean,
                deviation,
                comparison,
                reference,
            )
        )
    return Table(protocol, tuple(entries), extras or {}, command)


def _finite_seeds(result: Result) -> list[dict[str, Any]]:
    return [seed for seed in result["seeds"] if math.isfinite(seed["valid_loss"])]


def _paired(result: Result, reference: Result) -> Comparison | None:
    first, second = (
        {s["seed"]: s["test_accuracy"] for s in _finite_seeds(r) if "test_accuracy" in s}
        for r in (result, reference)
    )
    common = [seed for seed in first if seed in second]
    if not common:
        return None
    return compare([first[s] for s in common], [second[s] for s in common])
