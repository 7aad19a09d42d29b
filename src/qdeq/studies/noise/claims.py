"""Does the shallower equilibrium model keep more accuracy: sentences made from the numbers."""

import math
from typing import TYPE_CHECKING

from qdeq.runs.statistics import Comparison, paired
from qdeq.studies.results import Results
from qdeq.studies.study import Row

if TYPE_CHECKING:
    from qdeq.studies.noise.study import NoiseStudy

# Accuracy above that of guessing from which on a model is said to know something.
_ABOVE_CHANCE = 0.1

# Totals of shots within this factor are compared as equal.
_ABOUT_EQUAL = 1.5

_KEEPS = {1: "keeps more", -1: "keeps less", 0: "is not shown to keep more or less"}
_GAINS = {1: "gains accuracy", -1: "costs accuracy", 0: "is not shown to matter"}
_IS = {1: "better than", -1: "worse than", 0: "not shown to differ from"}


def claims(study: "NoiseStudy", results: Results) -> list[str]:
    """What holds against noise, for training under noise, and against shots."""
    return [
        *_against_noise(study, results),
        *_trained_under_noise(study, results),
        *_against_shots(study, results),
    ]


def kept(
    results: Results, key: str, reference: str, device: str, perfect: str
) -> Comparison | None:
    """How much more accuracy a row keeps on a device than another, paired by seed.

    Kept is the accuracy on the device minus that of the same model on a perfect one.
    """

    def of(key: str) -> dict[int, float]:
        here, there = (results.numbers(key, "accuracy", name) for name in (device, perfect))
        return {seed: here[seed] - there[seed] for seed in here if seed in there}

    return paired(of(key), of(reference))


def _others(results: Results, group: str) -> list[Row]:
    return [row for row in results.with_numbers(group) if row.name != "implicit"]


def _against_noise(study: "NoiseStudy", results: Results) -> list[str]:
    sentences = []
    chance = 1 / int(study.data.rpartition("-")[2]) + _ABOVE_CHANCE
    perfect = study.exact(0.0).name
    for device in (study.exact(p) for p in study.strengths if p >= study.trained_at):
        where = f"{device.header}, trained without noise"
        rows = results.with_numbers("noiseless")
        if all(results.mean(row.key, "accuracy", device.name)[0] < chance for row in rows):
            # A model that starts lower would seem to keep more there.
            sentences.append(f"{where}: every model guesses, there is nothing to keep.")
            continue
        for row in _others(results, "noiseless"):
            found = kept(results, "noiseless-implicit", row.key, device.name, perfect)
            if found is not None:
                sentences.append(
                    f"{where}: IMPLICIT {_KEEPS[found.sign]} accuracy than {row.label}, "
                    f"{_interval(found)}."
                )
    return sentences


def _trained_under_noise(study: "NoiseStudy", results: Results) -> list[str]:
    sentences = []
    device = study.exact(study.trained_at)
    for row in _others(results, "noisy"):
        found = results.compare("noisy-implicit", row.key, device.name)
        if found is not None:
            sentences.append(
                f"{device.header}, trained under it: IMPLICIT is {_IS[found.sign]} {row.label}, "
                f"{_interval(found)}."
            )
    for row in results.with_numbers("noisy"):
        found = results.compare(row.key, f"noiseless-{row.name}", device.name)
        if found is not None:
            sentences.append(
                f"{device.header}: training {row.label} under the noise {_GAINS[found.sign]}, "
                f"{_interval(found)}."
            )
    return sentences


def _against_shots(study: "NoiseStudy", results: Results) -> list[str]:
    sentences = []
    fewest = min(study.shots)
    for group in ("noiseless", "noisy"):
        for row in _others(results, group) if results.has(f"{group}-implicit") else []:
            where, implicit = study.group_label(group), f"{group}-implicit"
            found = results.compare(implicit, row.key, study.sampled(fewest).name)
            if found is not None:
                sentences.append(
                    f"{fewest} shots per execution, {where}: IMPLICIT is {_IS[found.sign]} "
                    f"{row.label}, {_interval(found)}."
                )
            sentences += _equal_totals(study, results, implicit, row, where)
    return sentences


def _equal_totals(
    study: "NoiseStudy", results: Results, implicit: str, other: Row, where: str
) -> list[str]:
    """The comparison where both spend about the same shots on an inference, the fewest there is."""
    for mine in study.shots:
        here = study.sampled(mine).name
        total = results.mean(implicit, "shots_per_inference", here)[0]
        for theirs in study.shots:
            there = study.sampled(theirs).name
            spent = results.mean(other.key, "shots_per_inference", there)[0]
            if not 1 / _ABOUT_EQUAL < spent / total < _ABOUT_EQUAL or mine == theirs:
                continue
            found = paired(
                results.numbers(implicit, "accuracy", here),
                results.numbers(other.key, "accuracy", there),
            )
            if found is not None:
                return [
                    f"about {total:,.0f} shots per inference ({mine} and {theirs} per execution), "
                    f"{where}: IMPLICIT is {_IS[found.sign]} {other.label}, {_interval(found)}."
                ]
    return []


def notes(study: "NoiseStudy", results: Results) -> list[str]:
    """What a reader has to know before drawing conclusions."""
    sentences = [
        "IMPLICIT, IMPLICIT+WARMUP and DIRECT L all run the same shallow circuit and measure after "
        "each run: noise acts on one circuit's depth, whatever L is, and what differs is how often "
        "the circuit runs."
    ]
    deep = [row for row in results.with_numbers("noiseless") if row.name.startswith("deep")]
    if deep and results.has("noiseless-implicit"):
        own, implicit = (results.computed[k] for k in (deep[-1].key, "noiseless-implicit"))
        sentences.append(
            f"{deep[-1].label} is one circuit without a measurement in between, depth "
            f"{own.get('depth')} with {own.get('two_qubit_gates')} two-qubit gates "
            f"against {implicit.get('depth')} and {implicit.get('two_qubit_gates')}: "
            "there noise acts on the whole depth."
        )
    sentences += [
        f"Mean and standard deviation over {len(study.seeds)} seeds. Epochs were chosen on the "
        "validation split, and the numbers are the test split's. Intervals are Student's 95 % over "
        "seeds, not corrected for the number of comparisons.",
        "Against noise, expectation values are exact. Against shots, the device has the noise that "
        "the models were trained under. With finite shots the equilibrium is found "
        "by averaging (krasnoselskii-mann), and accuracies are means over "
        f"{study.repeats} evaluations per seed. Residuals are |f(m) − m| / |f(m)|, f with "
        "infinitely many shots.",
    ]
    return sentences


def _interval(found: Comparison) -> str:
    only = " (one seed, no interval)" if math.isnan(found.low) else ""
    return f"difference {found}{only}"
