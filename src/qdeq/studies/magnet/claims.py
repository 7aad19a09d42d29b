"""The sentences of the magnet study: what its numbers say, met or missed."""

import math
from collections.abc import Sequence
from typing import Protocol

from qdeq.runs.statistics import Comparison, compare
from qdeq.studies.results import ABSENT, Grid, Results
from qdeq.studies.study import Row

_OTHER_CIRCUITS = ("wide", "apart")
_SAME = 0.01  # states so close, relative to their length, are one equilibrium


class Tested(Protocol):
    """What is known of a task here: its lattices, and the errors that were asked for."""

    @property
    def label(self) -> str:
        """What people read."""
        ...

    @property
    def tests(self) -> dict[str, int]:
        """Samples by lattice, small ones first."""
        ...

    @property
    def asked(self) -> dict[str, float]:
        """Errors by lattice, where one was asked for."""
        ...


def sentences(results: Results, group: str, task: Tested) -> list[str]:
    """What holds in one task; empty where its equilibrium has no numbers."""
    ours = f"{group}-equilibrium"
    if not results.has(ours):
        return []
    rows = results.with_numbers(group)
    untrained = list(task.tests)[1:]
    found = [_asked(results, ours, size, task.asked.get(size)) for size in task.tests]
    found += [_deeper(results, rows, ours, size, bool(task.asked)) for size in untrained]
    for row in rows:
        if row.name in ("equilibrium", *_OTHER_CIRCUITS):
            found += [_tanh_units(results, row, f"{group}-tanh", size) for size in untrained]
    for row in rows:
        if row.name in ("one-size", "larger"):
            found += [_other_sizes(results, row, ours, size) for size in untrained]
    largest = list(task.tests)[-1]
    found += [_stays(results, row, largest) for row in rows if results.numbers(row.key, "spread")]
    return [f"{task.label}, {sentence}" for sentence in found if sentence]


def ratio(results: Results, key: str, reference: str, metric: str) -> Comparison | None:
    """Geometric mean of one row's numbers over another's, paired by seed, and its 95 % interval."""
    ours, theirs = results.numbers(key, metric), results.numbers(reference, metric)
    common = [s for s in ours if s in theirs and ours[s] > 0 and theirs[s] > 0]
    if not common:
        return None
    logs = [[math.log(numbers[s]) for s in common] for numbers in (ours, theirs)]
    found = compare(*logs)
    middle, low, high = (math.exp(x) for x in (found.difference, found.low, found.high))
    return Comparison(middle, low, high, found.n)


def _written(found: Comparison) -> str:
    if math.isnan(found.low):
        return f"{found.difference:.3g}"
    return f"{found.difference:.3g} [{found.low:.3g}, {found.high:.3g}]"


def ratios(results: Results, group: str, label: str, sizes: Sequence[str]) -> Grid:
    """Errors of a task's rows over its equilibrium's."""
    ours, body = f"{group}-equilibrium", []
    for row in results.rows:
        if row.key == ours or not results.has(row.key):
            continue
        found = [ratio(results, row.key, ours, f"error_{size}") for size in sizes]
        cells = [ABSENT if one is None else _written(one) for one in found]
        body.append([label, row.label, *cells])
    header = ["task", "row", *(f"{size} spins" for size in sizes)]
    return Grid(f"Error over the equilibrium's at the same seed [95 %], {label}", header, body)


def _asked(results: Results, ours: str, size: str, asked: float | None) -> str | None:
    numbers = list(results.numbers(ours, f"error_{size}").values())
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    sentence = (
        f"{size} spins: the equilibrium's error is {mean:.4f} on average over {len(numbers)} "
        f"seeds, from {min(numbers):.4f} to {max(numbers):.4f}"
    )
    if asked is None:
        return sentence + "."
    below = sum(number <= asked for number in numbers)
    return (
        f"{sentence}; at most {asked:g} were asked for "
        f"({'met' if mean <= asked else 'missed'}, by {below} seeds one by one)."
    )


def _deeper(
    results: Results, rows: Sequence[Row], ours: str, size: str, was_asked: bool
) -> str | None:
    metric = f"error_{size}"
    direct = [row for row in rows if row.name.startswith("direct-")]
    direct = [row for row in direct if results.numbers(row.key, metric)]
    if not direct:
        return None
    best = min(direct, key=lambda row: results.mean(row.key, metric)[0])
    found = ratio(results, ours, best.key, metric)
    if found is None:
        return None
    met = found.difference <= 0.5 and found.high < 1
    mean = results.mean(best.key, metric)[0]
    sentence = (
        f"{size} spins: the equilibrium's error is {_written(found)} times that of the best number "
        f"of applications, {best.label} ({mean:.4f})"
    )
    if not was_asked:
        return sentence + "."
    return (
        f"{sentence}; at most half, and an interval below 1, were asked for "
        f"({'met' if met else 'missed'})."
    )


def _tanh_units(results: Results, row: Row, theirs: str, size: str) -> str | None:
    found = ratio(results, row.key, theirs, f"error_{size}")
    if found is None:
        return None
    words = "level with it as far as this tells"
    if found.high < 1:
        words = "better"
    elif found.low > 1:
        words = "worse"
    return (
        f"{size} spins: the error of the {row.label} is {_written(found)} times that of an "
        f"equilibrium of tanh units: {words}."
    )


def _other_sizes(results: Results, row: Row, ours: str, size: str) -> str | None:
    found = ratio(results, row.key, ours, f"error_{size}")
    if found is None:
        return None
    return (
        f"{size} spins: the error of {row.label} ({found.n} seeds) is {_written(found)} times that "
        "of the one trained on 2 to 10."
    )


def _stays(results: Results, row: Row, largest: str) -> str:
    def mean(metric: str) -> float:
        return results.mean(row.key, metric)[0]

    spreads = list(results.numbers(row.key, "spread").values())
    one = sum(spread < _SAME for spread in spreads)
    sentence = (
        f"{row.label}: {mean('converged_fraction'):.1%} of the test equilibria converged; on "
        f"{largest} spins {mean('starts_converged'):.1%} of the random starts did, and for "
        f"{one} of {len(spreads)} seeds all found one equilibrium (growth {mean('growth'):.2f} on "
        "average)"
    )
    if one == len(spreads):
        return sentence + "."
    return sentence + ". For the others there are several: errors are those of the one from 0."
