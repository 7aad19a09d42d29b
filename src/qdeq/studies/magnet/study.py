"""Disordered quantum magnets: fields in, magnetisations of the exact ground state out.

How every spin points depends on fields many sites away. After L applications a site has heard L
neighbours on each side; an equilibrium has heard all.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from qdeq.errors import UserError
from qdeq.studies.magnet import claims
from qdeq.studies.magnet.figures import draw_branches, draw_errors, draw_profile
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Row, Study

_TRAINING, _VALIDATION = 4096, 512
_STEPS, _BATCH = 3000, 32
_LARGER, _FEW = 14, 3  # what limits the error on long chains: the trained size, with fewer seeds
_BESIDE = 5  # seeds of other fields and of the grid
_DEPTHS = (1, 3, 5, 10)


def _chains(longest: int) -> tuple[str, ...]:
    return tuple(str(n) for n in range(2, longest + 1))


@dataclass(frozen=True)
class Task:
    """Lattices to learn from and lattices to be tested on, at one transverse field.

    Attributes
    ----------
    label
        What people read.
    g
        Transverse field.
    sizes
        What is trained on, side by side.
    tests
        Samples by lattice, small ones first.
    asked
        The error that was asked for there, where one was.
    """

    label: str
    g: float
    sizes: tuple[str, ...]
    tests: dict[str, int]
    asked: dict[str, float]


_CHAINS = {"10": 512, "14": 200, "64": 40}
_GRIDS = ("2x2", "2x3", "3x2", "3x3")
#: By group; the endless chain orders below g = 1, the endless square lattice below 3.04.
TASKS = {
    "magnet": Task("chain, g = 1", 1.0, _chains(10), _CHAINS, {"10": 0.01, "14": 0.03, "64": 0.06}),
    "ordered": Task("chain, g = 0.9", 0.9, _chains(10), _CHAINS, {}),
    "disordered": Task("chain, g = 1.1", 1.1, _chains(10), _CHAINS, {}),
    "grid": Task("grid, g = 2.5", 2.5, _GRIDS, {"3x3": 512, "4x4": 200}, {}),
}
_MAIN = "magnet"


@dataclass(frozen=True, kw_only=True)
class MagnetStudy(Study):
    """Equilibrium against numbers of applications, other cells and classical models, over sizes."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        *(
            Metric(f"error_{n}", f"{n.replace('x', ' x ')} spins", ".4f")
            for n in ("4x4", "3x3", "64", "14", "10")
        ),
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
            "Open chains and square grids of spins, H = −Σ Z Z − g Σ X − Σ h Z, fields h of "
            "deviation 0.05; asked is ⟨Z⟩ of every site of the exact ground state. Trained on "
            "chains of 2 to 10 spins, or grids of 2 x 2 to 3 x 3 "
            f"({_TRAINING:,} samples, {_STEPS:,} steps of {_BATCH} that are turned in all ways, "
            "Adam, cosine; learning rate, initial gain and weight of the ceiling chosen on "
            "validation samples of the largest size with the first seed), tested on larger ones "
            "too. A cell has three qubits (three hardware-efficient layers, RY and RZ of each, X, "
            "Y and Z of each) and hears its two or four neighbours and its field, U, W and b "
            "learned."
        )

    def group_label(self, group: str) -> str:
        return TASKS[group].label

    def rows(self) -> list[Row]:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")
        few = self.seeds[:_FEW]
        rows = [row for group in TASKS for row in self._rows(group)]
        rows += [
            self._trained(_MAIN, "wide", "equilibrium of 7 coupled qubits", cell="wide"),
            self._trained(_MAIN, "apart", "equilibrium of 8 qubits apart (sines)", cell="apart"),
            self._trained(_MAIN, "one-size", "equilibrium, 10 spins alone", few, ["10"]),
            self._trained(
                _MAIN,
                "larger",
                f"equilibrium, up to {_LARGER} spins",
                few,
                list(_chains(_LARGER)),
            ),
        ]
        return sorted(rows, key=lambda row: list(TASKS).index(row.group))

    def _rows(self, group: str) -> list[Row]:
        """Those that a task has; the other fields of the chain have the main ones."""
        whole = group in (_MAIN, "grid")
        depths = _DEPTHS if whole else _DEPTHS[-1:]
        rows = [
            self._trained(group, "equilibrium", "equilibrium"),
            *(self._trained(group, f"direct-{n}", f"direct({n})", layers=n) for n in depths),
            self._trained(group, "tanh", "equilibrium of tanh units", cell="tanh"),
        ]
        if whole:
            rows += [
                self._trained(
                    group, "rounds", "10 rounds of tanh units", cell="tanh", layers=_DEPTHS[-1]
                ),
                self._row(
                    group,
                    "mean-field",
                    "mean field",
                    "magnet.baselines:mean_field_row",
                    damping=0.5,
                ),
                self._row(
                    group,
                    "ridge",
                    "ridge, fields within 10",
                    "magnet.baselines:ridge_row",
                    **_learns(group),
                ),
            ]
        return rows

    def _trained(
        self,
        group: str,
        name: str,
        label: str,
        seeds: tuple[int, ...] | None = None,
        sizes: list[str] | None = None,
        *,
        cell: str = "circuit",
        layers: int | None = None,
    ) -> Row:
        options: dict[str, Any] = {"cell": cell, "layers": layers, **_learns(group)}
        options |= {"steps": _STEPS, "batch": _BATCH}
        options["sizes"] = sizes or options["sizes"]
        return self._row(group, name, label, "magnet.training:train_row", seeds, **options)

    def _row(
        self,
        group: str,
        name: str,
        label: str,
        kind: str,
        seeds: tuple[int, ...] | None = None,
        **options: Any,
    ) -> Row:
        task = TASKS[group]
        return Row(
            group=group,
            name=name,
            label=label,
            kind=f"qdeq.studies.{kind}",
            seeds=seeds or (self.seeds if group == _MAIN else self.seeds[:_BESIDE]),
            options={**options, "g": task.g, "tests": task.tests},
        )

    def reference(self, row: Row, shown: object) -> str | None:
        del shown
        return f"{row.group}-equilibrium"

    def grids(self, results: Results) -> list[Grid]:
        found = []
        for group, task in TASKS.items():
            of_task = replace(results, rows=tuple(r for r in results.rows if r.group == group))
            if not of_task.rows:
                continue
            metrics = [
                metric
                for metric in self.metrics
                if not metric.name.startswith("error_") or metric.name[6:] in task.tests
            ]
            found.append(of_task.grid(f"Error over the variance, {task.label}", metrics))
            sizes = list(task.tests)[::-1]
            found.append(claims.ratios(of_task, group, task.label, sizes))
        return found

    def claims(self, results: Results) -> list[str]:
        return [
            sentence
            for group, task in TASKS.items()
            for sentence in claims.sentences(results, group, task)
        ]

    def notes(self, results: Results) -> list[str]:
        del results
        sizes = ", ".join(f"{n} of {size} spins" for size, n in _CHAINS.items())
        grids = ", ".join(f"{n} of {size}" for size, n in TASKS["grid"].tests.items())
        return [
            "The error is the mean squared error over all sites of all samples, divided by the "
            f"variance of the answers of that size: {sizes}; {grids}, which nothing was chosen on. "
            "Fields are the same for all rows and seeds; seeds differ in initial parameters and "
            "batches.",
            "Ground states turn with the lattice and with all fields. Every trained network is "
            "asked about a sample turned in all ways (chains 4, square grids 16), its answers are "
            "turned back and averaged; a sample has converged if it did in all of them.",
            "Ground states of up to 16 spins are SciPy's (Lanczos' method), those of 64 TeNPy's "
            '(DMRG, `pip install "qdeq[magnet]"`).',
            "A ratio is the geometric mean of the row's error over the equilibrium's at the same "
            "seed, its interval Student's of the logarithms. Mean field and ridge have one error "
            "for all seeds.",
            "Growth is by what factor repeated application lets a small change grow (about the "
            "spectral radius), the largest of 10 samples of the largest size. The spread is the "
            "largest relative distance of states from 0 and from eight random starts there, found "
            "as the answers are: by repeated application, Newton's method, and on chains a "
            "homotopy where that fails (mean field: by repeated application). Newton's method "
            "finds equilibria that repeated application would leave, too.",
            "The cell of 7 qubits turns each once by one input (RY), then by a learned angle, "
            "couples neighbours by learned RZZ and measures X of each; that of 8 qubits apart has "
            "neither and is a row of sines.",
            "10 rounds of tanh units are a message-passing network: the same cell as in the row "
            "before it, with the same weights in every round. On chains the circuits' network has "
            "as many parameters but five (the one of 7 qubits but twenty), on grids a tenth fewer. "
            "On grids ridge has the fields of a square around the site, which holds the whole "
            "grid. Mean field solves m = (h + Σ m') / |(h + Σ m', g)| over neighbours m' by damped "
            "repeated application "
            "from 0; nothing in it is learned.",
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        drawn = {}
        shown, task = results.with_numbers("grid"), TASKS["grid"]
        if shown:
            caption = (
                f"Error against size ({task.label}), trained on 2 x 2 to 3 x 3 spins: mean, and "
                "all seeds as points."
            )
            drawn["grid"] = draw_errors(results, shown, list(task.tests), task.asked), caption
        shown, task = results.with_numbers(_MAIN), TASKS[_MAIN]
        if not shown:
            return drawn
        caption = (
            f"Error against size ({task.label}), trained on 2 to 10 spins: mean, and all seeds as "
            "points. Crosses: what was asked for."
        )
        drawn["magnet"] = draw_errors(results, shown, list(task.tests), task.asked), caption
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


def _learns(group: str) -> dict[str, Any]:
    sizes = list(TASKS[group].sizes)
    return {"n_training": _TRAINING, "n_validation": _VALIDATION, "sizes": sizes}
