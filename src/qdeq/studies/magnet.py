"""Disordered quantum magnets: fields in, magnetisations of the exact ground state out.

How every spin points depends on fields many sites away. After L applications a site has heard L
neighbours on each side; an equilibrium has heard all.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from qdeq.errors import UserError
from qdeq.studies.magnet_figures import draw_branches, draw_errors, draw_profile
from qdeq.studies.results import ABSENT, Grid, Results
from qdeq.studies.statistics import Comparison, compare
from qdeq.studies.study import Metric, Row, Study

TRAINED = 10
#: Test samples by size, and the error that is asked for there.
TESTS = {10: (512, 0.01), 14: (200, 0.03), 64: (40, 0.06)}
DEPTHS = (1, 3, 5, 10)
_TRAINING, _VALIDATION = 4096, 512
_STEPS, _BATCH = 1500, 32
_LARGER, _FEW = 14, 3  # what limits the error on long chains: the trained size, with fewer seeds
_FIELD = 1.0
_SAME = 0.01  # states so close, relative to their length, are one equilibrium
_REFERENCE = "magnet-equilibrium"
_TANH = "magnet-tanh"


def _up_to(size: int) -> list[int]:
    return list(range(2, size + 1))


_LEARNS = {"n_training": _TRAINING, "n_validation": _VALIDATION, "sizes": _up_to(TRAINED)}


@dataclass(frozen=True, kw_only=True)
class MagnetStudy(Study):
    """Equilibrium against numbers of applications, other cells and classical models, over sizes."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        *(Metric(f"error_{n}", f"{n} spins", ".4f") for n in sorted(TESTS)[::-1]),
        Metric("converged_fraction", "converged", ".3f"),
        Metric("growth", "growth, at most", ".2f"),
        Metric("spread", "spread over starts", ".1e"),
        Metric("starts_converged", "starts converged", ".3f"),
        Metric("parameters", "parameters", "d", per_seed=False),
        Metric("train_seconds", "seconds, choice and all seeds", ".0f", per_seed=False),
    )
    compared: ClassVar[str] = "error_14"
    group_header: ClassVar[str] = "task"

    seeds: tuple[int, ...] = tuple(range(10))

    @property
    def title(self) -> str:
        return "Disordered quantum magnets"

    @property
    def description(self) -> str:
        return (
            f"Open chains of spins, H = −Σ Z Z − g Σ X − Σ h Z, g = {_FIELD:g}, fields h of "
            "deviation 0.05; asked is ⟨Z⟩ of every site of the exact ground state. Trained on 2 to "
            f"{TRAINED} spins ({_TRAINING:,} samples, {_STEPS:,} steps of {_BATCH}, half of "
            "them turned and half mirrored, AdamW, cosine; learning rate, initial gain and weight "
            f"of the ceiling chosen on validation samples of {TRAINED} with the first seed), "
            "tested on longer chains too. A cell has three qubits (three "
            "hardware-efficient layers, RY and RZ of each, X, Y and Z of each) and hears its two "
            "neighbours and its field, U, W and b learned."
        )

    def rows(self) -> list[Row]:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")
        circuit = {"cell": "circuit", "layers": None}
        few = self.seeds[:_FEW]
        return [
            self._trained("equilibrium", "equilibrium", **circuit),
            *(
                self._trained(f"direct-{n}", f"direct({n})", cell="circuit", layers=n)
                for n in DEPTHS
            ),
            self._trained("tanh", "equilibrium of tanh units", cell="tanh", layers=None),
            self._trained("rounds", "10 rounds of tanh units", cell="tanh", layers=10),
            self._row("mean-field", "mean field", "magnet_baselines:mean_field_row", damping=0.5),
            self._row("ridge", "ridge, fields within 10", "magnet_baselines:ridge_row", **_LEARNS),
            self._trained(
                "one-size", f"equilibrium, {TRAINED} spins alone", few, [TRAINED], **circuit
            ),
            self._trained(
                "larger", f"equilibrium, up to {_LARGER} spins", few, _up_to(_LARGER), **circuit
            ),
        ]

    def _trained(
        self,
        name: str,
        label: str,
        seeds: tuple[int, ...] | None = None,
        sizes: list[int] | None = None,
        **options: Any,
    ) -> Row:
        options |= _LEARNS | {"steps": _STEPS, "batch": _BATCH}
        options["sizes"] = sizes or options["sizes"]
        return self._row(name, label, "magnet_training:train_row", seeds, **options)

    def _row(
        self, name: str, label: str, kind: str, seeds: tuple[int, ...] | None = None, **options: Any
    ) -> Row:
        tests = {str(size): n for size, (n, _) in TESTS.items()}
        return Row(
            group="magnet",
            name=name,
            label=label,
            kind=f"qdeq.studies.{kind}",
            seeds=seeds or self.seeds,
            options={**options, "g": _FIELD, "tests": tests},
        )

    def reference(self, row: Row, shown: object) -> str | None:
        del row, shown
        return _REFERENCE

    def grids(self, results: Results) -> list[Grid]:
        errors = results.grid("Error over the variance of the answers", self.metrics)
        return [errors, _ratios(results)]

    def claims(self, results: Results) -> list[str]:
        if not results.has(_REFERENCE):
            return []
        found = [_asked(results, size) for size in TESTS]
        found += [_deeper(results, size) for size in list(TESTS)[1:]]
        found += [_other_cell(results, size) for size in list(TESTS)[1:]]
        for row in results.rows:
            if row.name in ("one-size", "larger"):
                found += [_other_sizes(results, row, size) for size in list(TESTS)[1:]]
        for row in results.rows:
            if results.numbers(row.key, "spread"):
                found.append(_stays(results, row))
        return [sentence for sentence in found if sentence]

    def notes(self, results: Results) -> list[str]:
        del results
        sizes = ", ".join(f"{n} of {size} spins" for size, (n, _) in TESTS.items())
        return [
            "The error is the mean squared error over all sites of all samples, divided by the "
            f"variance of the answers of that size: {sizes}, which nothing was chosen on. Fields "
            "are the same for all rows and seeds; seeds differ in initial parameters and batches.",
            "Ground states of up to 14 spins are SciPy's (Lanczos' method), those of 64 TeNPy's "
            '(DMRG, `pip install "qdeq[magnet]"`).',
            "A ratio is the geometric mean of the row's error over the equilibrium's at the same "
            "seed, its interval Student's of the logarithms. Mean field and ridge have one error "
            "for all seeds.",
            "Growth is by what factor repeated application lets a small change grow (about the "
            "spectral radius), the largest of 10 chains of 64. The spread is the largest relative "
            "distance of states from 0 and from eight random starts there, found as the answers "
            "are: by repeated application, Newton's method, and a homotopy where that fails (mean "
            "field: by repeated application). Newton's method finds equilibria that repeated "
            "application would leave, too.",
            "10 rounds of tanh units are a message-passing network: the same cell as in the row "
            "before it, with the same weights in every round. The circuits' network has as many "
            "parameters but five. Mean field solves m = (h + Σ m') / |(h + Σ m', g)| over "
            "neighbours m' by damped repeated application from 0; nothing in it is learned.",
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        shown = [row for row in results.rows if results.has(row.key)]
        if not shown:
            return {}
        asked = {size: error for size, (_, error) in TESTS.items()}
        caption = (
            f"Error against size, trained on 2 to {TRAINED} spins: mean, and all seeds as points. "
            "Crosses: what was asked for."
        )
        drawn = {"magnet": (draw_errors(results, shown, asked), caption)}
        kept = {row.label: results.computed[row.key].get("profile") for row in shown}
        profiles = {label: profile for label, profile in kept.items() if profile}
        if profiles:
            caption = "The first test magnet of the largest size: the exact ground state, and "
            caption += "what models of the first seed say."
            drawn["profile"] = (draw_profile(profiles), caption)
        caption = (
            "Mean field of an endless chain in a uniform field: where g is below 2 there are two "
            "stable equilibria (lines) and one between them that is not (dotted), up to the branch "
            "points (dots). The exact chain does so below g = 1 only, which is why mean field "
            "fails at g = 1."
        )
        drawn["mean-field"] = (draw_branches((1.0, 2.0, 3.0)), caption)
        return drawn


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


def _ratios(results: Results) -> Grid:
    sizes = sorted(TESTS)[::-1]
    body = []
    for row in results.rows:
        if row.key == _REFERENCE or not results.has(row.key):
            continue
        found = [ratio(results, row.key, _REFERENCE, f"error_{size}") for size in sizes]
        cells = [ABSENT if one is None else _written(one) for one in found]
        body.append(["magnet", row.label, *cells])
    header = ["task", "row", *(f"{size} spins" for size in sizes)]
    return Grid("Error over the equilibrium's at the same seed [95 %]", header, body)


def _asked(results: Results, size: int) -> str | None:
    numbers = list(results.numbers(_REFERENCE, f"error_{size}").values())
    if not numbers:
        return None
    asked, mean = TESTS[size][1], sum(numbers) / len(numbers)
    below = sum(number <= asked for number in numbers)
    return (
        f"{size} spins: the equilibrium's error is {mean:.4f} on average over {len(numbers)} "
        f"seeds, from {min(numbers):.4f} to {max(numbers):.4f}; at most {asked:g} were asked for "
        f"({'met' if mean <= asked else 'missed'}, by {below} seeds one by one)."
    )


def _deeper(results: Results, size: int) -> str | None:
    metric = f"error_{size}"
    direct = [row for row in results.rows if row.name.startswith("direct-")]
    direct = [row for row in direct if results.numbers(row.key, metric)]
    if not direct:
        return None
    best = min(direct, key=lambda row: results.mean(row.key, metric)[0])
    found = ratio(results, _REFERENCE, best.key, metric)
    if found is None:
        return None
    met = found.difference <= 0.5 and found.high < 1
    mean = results.mean(best.key, metric)[0]
    return (
        f"{size} spins: the equilibrium's error is {_written(found)} times that of the best number "
        f"of applications, {best.label} ({mean:.4f}); at most half, and an interval below 1, were "
        f"asked for ({'met' if met else 'missed'})."
    )


def _other_cell(results: Results, size: int) -> str | None:
    found = ratio(results, _REFERENCE, _TANH, f"error_{size}")
    if found is None:
        return None
    words = "level with it as far as this tells"
    if found.high < 1:
        words = "better"
    elif found.low > 1:
        words = "worse"
    return (
        f"{size} spins: the equilibrium's error is {_written(found)} times that of an equilibrium "
        f"of tanh units with as many parameters: {words}."
    )


def _other_sizes(results: Results, row: Row, size: int) -> str | None:
    found = ratio(results, row.key, _REFERENCE, f"error_{size}")
    if found is None:
        return None
    return (
        f"{size} spins: the error of {row.label} ({found.n} seeds) is {_written(found)} times that "
        f"of the one trained on 2 to {TRAINED}."
    )


def _stays(results: Results, row: Row) -> str:
    def mean(metric: str) -> float:
        return results.mean(row.key, metric)[0]

    spreads = list(results.numbers(row.key, "spread").values())
    one = sum(spread < _SAME for spread in spreads)
    sentence = (
        f"{row.label}: {mean('converged_fraction'):.1%} of the test equilibria converged; on "
        f"chains of {max(TESTS)} {mean('starts_converged'):.1%} of the random starts did, and for "
        f"{one} of {len(spreads)} seeds all found one equilibrium (growth {mean('growth'):.2f} on "
        "average)"
    )
    if one == len(spreads):
        return sentence + "."
    return sentence + ". For the others there are several: errors are those of the one from 0."
