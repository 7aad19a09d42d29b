"""Prefix parity: what an equilibrium of cells carries that no number of applications can.

Bits come one after another, and every site of a causal chain says whether the number of ones so far
is odd. After L applications a site has heard L bits; those beyond have not heard the first, so no
training makes their answers better than a guess: accuracy at length T is at most 1/2 + L / (2 T).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure

from qdeq.errors import UserError
from qdeq.runs.figures import BLUE, GREEN, GREY, ORANGE, styled_figure
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Row, Study

TRAINED = 32
#: Sequences by length.
TESTS = {32: 1000, 64: 1000, 512: 200, 10_000: 20}
DEPTHS = (1, 2, 5, 10, 32)
#: Per cent of depolarising after every gate, in training and tests.
NOISE = (0.1, 1.0)
_STEPS, _BATCH = 600, 64
_LONGEST = f"accuracy_{max(TESTS)}"
_REFERENCE = "parity-equilibrium"
# Colour and marker of cells that are no circuits.
_UNITS = {"tanh": (GREEN, "o"), "sine": (GREEN, "^"), "gru": (GREY, "s")}


def depth_bound(layers: int, length: int) -> float:
    """The best accuracy that `layers` applications can have on average over all positions.

    The first `layers` positions may be right; the others have not heard the first bit.

    >>> depth_bound(10, 32), depth_bound(32, 32)
    (0.65625, 1.0)
    """
    return 0.5 + min(layers, length) / (2 * length)


@dataclass(frozen=True, kw_only=True)
class ParityStudy(Study):
    """Equilibrium against any number of applications of the same cell, over lengths."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        *(
            Metric(f"accuracy_{length}", f"{length:,} bits", ".4f")
            for length in sorted(TESTS)[::-1]
        ),
        Metric("carried", "bits before a mistake", ".0f"),
        Metric("converged_fraction", "converged", ".3f"),
        Metric("spread", "spread over starts", ".1e"),
        Metric("parameters", "parameters", "d", per_seed=False),
        Metric("train_seconds", "seconds, choice and all seeds", ".0f", per_seed=False),
    )
    compared: ClassVar[str] = _LONGEST
    group_header: ClassVar[str] = "task"

    seeds: tuple[int, ...] = tuple(range(10))

    @property
    def title(self) -> str:
        return "Prefix parity"

    @property
    def description(self) -> str:
        return (
            f"Trained on {TRAINED} random bits ({_STEPS} steps of {_BATCH} sequences, Adam; "
            "learning rate and initial gain chosen on validation sequences of the first seed), "
            "tested on longer ones. A cell has two qubits (two hardware-efficient layers, RY of "
            "two angles, three strings of Z), hears the site before it and its bit, U, W and b "
            "learned."
        )

    def rows(self) -> list[Row]:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")
        rows = [self._row("equilibrium", "equilibrium", None)]
        rows += [self._row(f"direct-{n}", f"direct({n})", n) for n in DEPTHS]
        rows += [
            self._row(
                f"noise-{percent:g}",
                f"equilibrium, {percent:g} % depolarising",
                None,
                noise=f"depolarising={percent / 100:g}",
            )
            for percent in NOISE
        ]
        return [
            *rows,
            self._row("tanh", "equilibrium of one tanh unit", None, "tanh"),
            self._row("sine", "equilibrium of three sine units", None, "sine"),
            self._row("gru", "GRU of two units", None, "gru"),
        ]

    def _row(
        self,
        name: str,
        label: str,
        layers: int | None,
        cell: str = "circuit",
        noise: str | None = None,
    ) -> Row:
        return Row(
            group="parity",
            name=name,
            label=label,
            kind="qdeq.studies.parity.training:train_row",
            seeds=self.seeds,
            options={
                "cell": cell,
                "layers": layers,
                "length": TRAINED,
                "steps": _STEPS,
                "batch": _BATCH,
                "tests": {str(length): n for length, n in TESTS.items()},
                **({} if noise is None else {"noise": noise}),
            },
        )

    def reference(self, row: Row, shown: object) -> str | None:
        del row, shown
        return _REFERENCE

    def grids(self, results: Results) -> list[Grid]:
        return [results.grid("Accuracy over all positions", self.metrics)]

    def claims(self, results: Results) -> list[str]:
        found = []
        for row in results.rows:
            numbers = list(results.numbers(row.key, _LONGEST).values())
            if not numbers:
                continue
            right = sum(number == 1 for number in numbers)
            sentence = (
                f"{row.label}: every answer on {max(TESTS):,} bits is right for {right} of "
                f"{len(numbers)} seeds; accuracy from {min(numbers):.4f} to {max(numbers):.4f}"
            )
            layers = row.options["layers"]
            settled = results.mean(row.key, "converged_fraction")[0]
            if row.options["cell"] == "gru":
                sentence += "."
            elif layers is None:
                sentence += f", {settled:.1%} of the equilibria converged."
            else:
                sentence += "; on average no training passes "
                sentence += f"{depth_bound(layers, max(TESTS)):.4f}."
            found.append(sentence)
        return found

    def notes(self, results: Results) -> list[str]:
        del results
        return [
            "Accuracy is the fraction of right answers over all positions of fresh sequences: "
            + ", ".join(f"{n:,} of {length:,} bits" for length, n in TESTS.items())
            + ", the same for all rows of a seed.",
            "Bits before a mistake are the median over the longest sequences, which have "
            f"{max(TESTS):,}.",
            "Noise is depolarising after every gate, the same in training and tests. A sine turns "
            "back where a tanh saturates, so that its units can count as a circuit does, and a GRU "
            "(run from the first bit to the last) can too: the study is about what an equilibrium "
            "does that a depth does not, not about circuits against other cells.",
            "After L applications a position has heard its last L bits. Those after the first L "
            "have not heard the first bit, which is 0 or 1 with equal chance, so accuracy at "
            "length T is at most 1/2 + L/(2T), but for the chance of finitely many sequences.",
            "A causal chain has one equilibrium. The spread is the largest relative distance of "
            "answers on 512 bits from 0 and four random starts by Newton's method on the whole "
            "chain, which sweeps what it has not solved: 0 where it swept them all.",
        ]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        if not any(results.has(row.key) for row in results.rows):
            return {}
        caption = (
            "Accuracy against length, trained on 32 bits: mean, and all seeds as points. Dashed: "
            "1/2 + L/(2T), which no training of L applications can pass."
        )
        return {"parity": (draw(results), caption)}


def draw(results: Results) -> Figure:
    """Accuracy against length, a line per row, with the bounds of the direct ones."""
    lengths = sorted(TESTS)
    with styled_figure(6.4, 3.6) as (figure, (panel,)):
        depths = [row for row in results.rows if row.options["layers"] is not None]
        for row in results.rows:
            if not results.has(row.key):
                continue
            layers = row.options["layers"]
            color, marker = _UNITS.get(row.options["cell"], (ORANGE if layers else BLUE, "o"))
            fade = 0.5 if "noise" in row.options else 1.0
            if layers is not None:
                fade = 0.35 + 0.65 * (depths.index(row) + 1) / len(depths)
            means = [results.mean(row.key, f"accuracy_{n}")[0] for n in lengths]
            style = {"color": color, "alpha": fade, "marker": marker, "ms": 3.5}
            panel.plot(lengths, means, **style, label=row.label)
            for n in lengths:
                seeds = list(results.numbers(row.key, f"accuracy_{n}").values())
                panel.plot([n] * len(seeds), seeds, ".", color=color, alpha=0.3 * fade, ms=3)
            if layers is not None:
                bounds = [depth_bound(layers, n) for n in lengths]
                panel.plot(lengths, bounds, color=color, alpha=fade, lw=0.8, ls="--")
        panel.set(xscale="log", xlabel="bits", ylabel="accuracy", ylim=(0.45, 1.03))
        panel.set_xticks(lengths, [f"{n:,}" for n in lengths])
        panel.minorticks_off()
        figure.legend(loc="outside right center")
    return figure
