"""How much single-qubit encodings of two inputs overlap: the paper's figure, and its bound.

Plain NumPy on the gates of `qdeq.circuits`; no data set, no training.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from qdeq.circuits import GATES
from qdeq.runs.figures import BLUE, GREEN, ORANGE, legend_below, styled_figure
from qdeq.studies.kinds import result
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Result, Row, Study, Tell

#: Gates in time order, one number of the input each. The last is what the paper's 4-qubit angle
#: encoding does to every wire.
ENCODINGS: dict[str, tuple[str, ...]] = {
    "RX": ("RX",),
    "RY": ("RY",),
    "RZ": ("RZ",),
    "RY RZ RX RY": ("RY", "RZ", "RX", "RY"),
}


@dataclass(frozen=True, kw_only=True)
class OverlapStudy(Study):
    """Random pairs of inputs, and how many of them violate the paper's bound."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("pairs", "pairs", ",d", per_seed=False),
        Metric("violations", "violate the bound", ",d", per_seed=False),
        Metric("nearest_violation", "the nearest at |z - z'|", ".3f", per_seed=False),
    )
    group_header: ClassVar[str] = "figure"
    in_processes: ClassVar[bool] = False

    n_pairs: int = 3000

    @property
    def title(self) -> str:
        return "Overlap of single-qubit encodings"

    def rows(self) -> list[Row]:
        return [
            Row(
                group="overlap",
                name=name.replace(" ", "-"),
                label=name,
                kind=f"{__name__}:count",
                options={"n_pairs": self.n_pairs},
            )
            for name in ENCODINGS
        ]

    def grids(self, results: Results) -> list[Grid]:
        return [results.grid("Pairs", self.metrics)]

    def claims(self, results: Results) -> list[str]:
        return statement([_sampled(row) for row in results.rows])

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        found = [_sampled(row) for row in results.rows]
        return {"overlap": (draw(found), "Random pairs of inputs, and the bound.")}


def count(row: Row, folder: Path, progress: Tell) -> Result:
    """The pairs of an encoding and those that violate the bound."""
    del folder, progress
    found = _sampled(row)
    bad = found.distance[found.violations]
    return result(
        [{"seed": seed} for seed in row.seeds],
        pairs=len(found.distance),
        violations=len(bad),
        nearest_violation=float(bad.min()) if len(bad) else None,
    )


def _sampled(row: Row) -> "Overlaps":
    return sample_overlaps(row.label, n_pairs=row.options["n_pairs"])


@dataclass(frozen=True)
class Overlaps:
    """Random pairs of one encoding.

    Attributes
    ----------
    encoding
        Key of `ENCODINGS`.
    distance
        |z - z'|, two-norm, radians, `(n,)`.
    overlap
        |<0|S(z)^dagger S(z')|0>|, `(n,)`.
    """

    encoding: str
    distance: np.ndarray
    overlap: np.ndarray

    @property
    def violations(self) -> np.ndarray:
        """Which pairs lie below 1 - sin|z - z'|, by more than rounding."""
        return self.overlap < bound(self.distance) - 1e-12


def bound(distance: np.ndarray) -> np.ndarray:
    """1 - sin(d), the paper's lower bound on the overlap at distance d in radians.

    >>> bound(np.array([0.0, math.pi / 2]))
    array([1., 0.])
    """
    return 1 - np.sin(distance)


def critical_distance() -> float:
    """Where the bound stops to hold for one RX or RY: the d of cos(d/2) = 1 - sin(d), above 0.

    By bisection on (1, pi), where the difference changes its sign once.

    >>> f"{critical_distance():.4f}"
    '2.4311'
    """
    low, high = 1.0, math.pi
    for _ in range(60):
        middle = (low + high) / 2
        if math.cos(middle / 2) > 1 - math.sin(middle):
            low = middle
        else:
            high = middle
    return low


@cache
def sample_overlaps(encoding: str, *, n_pairs: int = 3000, seed: int = 0) -> Overlaps:
    """Draw pairs of inputs and compute the overlap of their encodings.

    Parameters
    ----------
    encoding
        Key of `ENCODINGS`, with k numbers per input.
    n_pairs
        Number of pairs. The first input is uniform in (-pi, pi)^k; the second lies in a uniform
        direction from it at a distance that is uniform in (0, pi), so that every distance is there
        as often as any other, whatever k is.
    seed
        Of NumPy's generator.
    """
    generator = np.random.default_rng(seed)
    gates = ENCODINGS[encoding]
    first = generator.uniform(-math.pi, math.pi, (n_pairs, len(gates)))
    direction = generator.normal(size=first.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    second = first + generator.uniform(0, math.pi, (n_pairs, 1)) * direction
    overlap = np.array(
        [abs(np.vdot(_state(gates, z), _state(gates, w))) for z, w in zip(first, second)]  # noqa: B905
    )
    return Overlaps(encoding, np.linalg.norm(first - second, axis=1), overlap)


def _state(gates: tuple[str, ...], angles: np.ndarray) -> np.ndarray:
    state = np.array([1.0, 0.0], complex)
    for name, angle in zip(gates, angles, strict=True):
        state = GATES[name].matrix(angle) @ state
    return state


def statement(found: list[Overlaps]) -> list[str]:
    """What the pairs say about the bound, in sentences made from the numbers."""
    sentences = ["The bound: the overlap |<0|S(z)^dagger S(z')|0>| is at least 1 - sin(|z - z'|)."]
    for overlaps in found:
        n, bad = len(overlaps.distance), overlaps.violations
        if bad.any():
            nearest = float(overlaps.distance[bad].min())
            sentences.append(
                f"{overlaps.encoding}: {int(bad.sum())} of {n} pairs violate it, the nearest at "
                f"|z - z'| = {nearest:.3f}."
            )
        else:
            sentences.append(f"{overlaps.encoding}: all {n} pairs satisfy it.")
    sentences.append(
        "For one RX or RY the overlap is |cos(|z - z'| / 2)|, which is at least 1 - sin(|z - z'|) "
        f"up to |z - z'| = {critical_distance():.4f} and below it from there to pi: as a statement "
        "about all pairs the bound does not hold. RZ leaves |0> as it is, up to a phase, so its "
        "overlap is always 1."
    )
    return sentences


def draw(found: list[Overlaps]) -> Figure:
    """Overlap against distance, a panel per encoding, with the bound and what violates it."""
    with styled_figure(2.9 * len(found), 3.2, columns=len(found)) as (figure, axes):
        for panel, overlaps in zip(axes, found, strict=True):
            bad = overlaps.violations
            style = {"s": 2.5, "lw": 0, "rasterized": True}
            panel.scatter(
                overlaps.distance[~bad],
                overlaps.overlap[~bad],
                color=BLUE,
                label="above the bound",
                **style,
            )
            panel.scatter(
                overlaps.distance[bad],
                overlaps.overlap[bad],
                color=ORANGE,
                label="below the bound",
                **style,
            )
            line = np.linspace(0, math.pi, 200)
            panel.plot(line, bound(line), color=GREEN, label="1 − sin|z − z′|")
            panel.set(title=overlaps.encoding, xlabel="|z − z′|, radians", ylim=(-0.03, 1.05))
            panel.set_xticks([0, math.pi / 2, math.pi], ["0", "π/2", "π"])
        axes[0].set_ylabel("|⟨0|S(z)† S(z′)|0⟩|")
        legend = legend_below(figure, axes[0])
        for handle in legend.legend_handles[:2]:
            if isinstance(handle, PathCollection):
                handle.set_sizes([16])
    return figure
