"""From the points of all rows to means, comparisons and sentences; no layout."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qdeq.studies.noise_points import Points, noise_name, shots_name
from qdeq.studies.noise_protocol import GROUPS, NoiseProtocol
from qdeq.studies.protocol import Row
from qdeq.studies.row import Result
from qdeq.studies.statistics import Comparison, compare, mean_and_deviation

#: Numbers of a point: key, what people read, format of the mean.
METRICS = (
    ("accuracy", "test accuracy", ".3f"),
    ("residual", "residual", ".1e"),
    ("converged", "converged", ".2f"),
    ("executions", "circuit executions per inference", ".1f"),
    ("shots_per_inference", "shots per inference", ",.0f"),
)


# Accuracy above that of guessing from which on a model is said to know something.
_ABOVE_CHANCE = 0.1

# Totals of shots within this factor are compared as equal.
_ABOUT_EQUAL = 1.5


@dataclass(frozen=True)
class NoiseEntry:
    """A row with its points.

    Attributes
    ----------
    row, result
        What was trained, and how that went; `result` has depth and two-qubit gates.
    points
        A list of numbers per seed for each device, by name; empty where training failed.
    """

    row: Row
    result: Result
    points: Points

    def numbers(self, point: str, metric: str) -> dict[int, float]:
        """By seed."""
        found: dict[int, Any] = {p["seed"]: p.get(metric) for p in self.points.get(point, [])}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, point: str, metric: str) -> tuple[float, float]:
        """Mean and deviation over seeds."""
        return mean_and_deviation(list(self.numbers(point, metric).values()))


@dataclass(frozen=True)
class NoiseTable:
    """Everything that was measured.

    Attributes
    ----------
    protocol
        How.
    entries
        One per row, in order.
    solvers
        `solver_errors` per encoding.
    command
        What a person types to get it.
    """

    protocol: NoiseProtocol
    entries: tuple[NoiseEntry, ...]
    solvers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    command: str = ""

    def group(self, name: str) -> list[NoiseEntry]:
        """The rows of one kind of training that have points."""
        return [entry for entry in self.entries if entry.row.group == name and entry.points]

    def entry(self, key: str) -> NoiseEntry | None:
        """A row that has points, or None."""
        return next((e for e in self.entries if e.row.key == key and e.points), None)

    def kept(self, key: str, reference: str, point: str) -> Comparison | None:
        """How much more accuracy a row keeps on a device than another, paired by seed.

        Kept is the accuracy on the device minus that of the same model on a perfect one.
        """
        first, second = (self._kept(self.entry(k), point) for k in (key, reference))
        return _paired(first, second)

    def ahead(self, key: str, reference: str, point: str) -> Comparison | None:
        """Accuracy of a row minus that of another on the same device, paired by seed."""
        first, second = (
            {} if entry is None else entry.numbers(point, "accuracy")
            for entry in (self.entry(key), self.entry(reference))
        )
        return _paired(first, second)

    @staticmethod
    def _kept(entry: NoiseEntry | None, point: str) -> dict[int, float]:
        if entry is None:
            return {}
        perfect = entry.numbers(noise_name(0.0), "accuracy")
        here = entry.numbers(point, "accuracy")
        return {seed: here[seed] - perfect[seed] for seed in here if seed in perfect}


def _paired(first: dict[int, float], second: dict[int, float]) -> Comparison | None:
    common = [seed for seed in first if seed in second]
    return compare([first[s] for s in common], [second[s] for s in common]) if common else None


def answers(table: NoiseTable) -> list[str]:
    """Does the shallower equilibrium model keep more accuracy: sentences made from the numbers."""
    return [*_against_noise(table), *_trained_under_noise(table), *_against_shots(table)]


def _others(table: NoiseTable, group: str) -> list[NoiseEntry]:
    return [entry for entry in table.group(group) if entry.row.name != "implicit"]


def _against_noise(table: NoiseTable) -> list[str]:
    sentences = []
    chance = 1 / int(table.protocol.data.rpartition("-")[2]) + _ABOVE_CHANCE
    for strength in (p for p in table.protocol.strengths if p >= table.protocol.trained_at):
        device, point = table.protocol.noise(strength), noise_name(strength)
        means = [e.mean(point, "accuracy")[0] for e in table.group("noiseless")]
        if all(mean < chance for mean in means):
            # Who starts lower would "keep more" there.
            sentences.append(
                f"{device}, trained without noise: every model guesses, there is nothing to keep."
            )
            continue
        for entry in _others(table, "noiseless"):
            found = table.kept("noiseless-implicit", entry.row.key, point)
            if found is not None:
                sentences.append(
                    f"{device}, trained without noise: IMPLICIT {_verdict(found)} accuracy than "
                    f"{entry.row.label}, {_interval(found)}."
                )
    return sentences


def _trained_under_noise(table: NoiseTable) -> list[str]:
    sentences = []
    device, point = table.protocol.noise(table.protocol.trained_at), noise_name
    here = point(table.protocol.trained_at)
    for entry in _others(table, "noisy"):
        found = table.ahead("noisy-implicit", entry.row.key, here)
        if found is not None:
            sentences.append(
                f"{device}, trained under it: IMPLICIT is {_better(found)} {entry.row.label}, "
                f"{_interval(found)}."
            )
    for entry in table.group("noisy"):
        found = table.ahead(entry.row.key, f"noiseless-{entry.row.name}", here)
        if found is not None:
            sentences.append(
                f"{device}: training {entry.row.label} under the noise {_gain(found)}, "
                f"{_interval(found)}."
            )
    return sentences


def _against_shots(table: NoiseTable) -> list[str]:
    sentences = []
    fewest = min(table.protocol.shots)
    for group in ("noiseless", "noisy"):
        implicit = table.entry(f"{group}-implicit")
        for entry in _others(table, group) if implicit is not None else []:
            device = group_label(group, table.protocol)
            found = table.ahead(f"{group}-implicit", entry.row.key, shots_name(fewest))
            if found is not None:
                sentences.append(
                    f"{fewest} shots per execution, {device}: IMPLICIT is {_better(found)} "
                    f"{entry.row.label}, {_interval(found)}."
                )
            equal = _equal_totals(table, implicit, entry)
            if equal is not None:
                sentences.append(f"{equal[0]}, {device}: IMPLICIT is {equal[1]}.")
    return sentences


def _equal_totals(
    table: NoiseTable, implicit: NoiseEntry | None, other: NoiseEntry
) -> tuple[str, str] | None:
    """The comparison where both spend about the same shots on an inference, the fewest there is."""
    if implicit is None:
        return None
    for mine in table.protocol.shots:
        total = implicit.mean(shots_name(mine), "shots_per_inference")[0]
        for theirs in table.protocol.shots:
            spent = other.mean(shots_name(theirs), "shots_per_inference")[0]
            if not 1 / _ABOUT_EQUAL < spent / total < _ABOUT_EQUAL or mine == theirs:
                continue
            found = _paired(
                implicit.numbers(shots_name(mine), "accuracy"),
                other.numbers(shots_name(theirs), "accuracy"),
            )
            if found is not None:
                what = f"about {total:,.0f} shots per inference ({mine} and {theirs} per execution)"
                return what, f"{_better(found)} {other.row.label}, {_interval(found)}"
    return None


def why(table: NoiseTable) -> list[str]:
    """What a reader has to know before drawing conclusions."""
    implicit, deep = table.entry("noiseless-implicit"), None
    for entry in table.group("noiseless"):
        deep = entry if entry.row.name.startswith("deep") else deep
    sentences = [
        "IMPLICIT, IMPLICIT+WARMUP and DIRECT L all run the same shallow circuit and measure after "
        "each run: noise acts on one circuit's depth, whatever L is, and what differs is how often "
        "the circuit runs."
    ]
    if implicit is not None and deep is not None:
        sentences.append(
            f"{deep.row.label} is one circuit without a measurement in between, depth "
            f"{deep.result.get('depth')} with {deep.result.get('two_qubit_gates')} two-qubit gates "
            f"against {implicit.result.get('depth')} and {implicit.result.get('two_qubit_gates')}: "
            "there noise acts on the whole depth."
        )
    p = table.protocol
    sentences += [
        f"Mean and standard deviation over {len(p.seeds)} seeds. Epochs were chosen on the "
        "validation split, and the numbers are the test split's. Intervals are Student's 95 % over "
        "seeds, not corrected for the number of comparisons.",
        "Against noise, expectation values are exact. Against shots, the device has the noise that "
        "the models were trained under. With finite shots the equilibrium is found "
        "by averaging (krasnoselskii-mann), and accuracies are means over "
        f"{p.repeats} evaluations per seed. Residuals are |f(m) − m| / |f(m)|, f with infinitely "
        "many shots.",
    ]
    return sentences


def _verdict(found: Comparison) -> str:
    return {1: "keeps more", -1: "keeps less", 0: "is not shown to keep more or less"}[found.sign]


def _gain(found: Comparison) -> str:
    return {1: "gains accuracy", -1: "costs accuracy", 0: "is not shown to matter"}[found.sign]


def _better(found: Comparison) -> str:
    return {1: "better than", -1: "worse than", 0: "not shown to differ from"}[found.sign]


def _interval(found: Comparison) -> str:
    from qdeq.studies.claims import signed

    if math.isnan(found.low):
        return f"difference {signed(found.difference)} (one seed, no interval)"
    return f"difference {signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def title(table: NoiseTable) -> str:
    """What the table is called."""
    return f"Noise and shots on {table.protocol.data}, {table.protocol.encoding} encoding"


def group_label(name: str, protocol: NoiseProtocol) -> str:
    """How a group was trained, in words."""
    if name == "noisy":
        return f"trained under {protocol.noise(protocol.trained_at)}"
    return GROUPS.get(name, name)
