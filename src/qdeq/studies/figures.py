"""The pictures of a table: curves, comparisons, depth, solvers, cost, confusion, circuits.

Each function returns a Matplotlib figure, or None where the rows that it needs are not there.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qdeq.runs.circuit import circuit_of
from qdeq.runs.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    confusion,
    legend_below,
    styled_figure,
    whole_numbers,
)
from qdeq.studies.paper import DEPTHS
from qdeq.studies.results import Results
from qdeq.studies.runner import folder_of
from qdeq.studies.study import Row

PURPLE, YELLOW = "#CC79A7", "#E69F00"
_CURVES = (
    ("implicit", "IMPLICIT", BLUE),
    ("warmup", "IMPLICIT+WARMUP", GREEN),
    ("direct-1", "DIRECT 1", ORANGE),
    ("direct-5", "DIRECT 5", YELLOW),
    ("direct-10", "DIRECT 10", PURPLE),
)
_SOLVER_COLOURS = {"picard": GREY, "anderson": ORANGE, "broyden": BLUE, "newton": GREEN}


def draw_all(results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
    """Every picture that the finished rows allow, with its caption, by name."""
    drawn: dict[str, tuple[Figure | None, str]] = {}
    for encoding in dict.fromkeys(row.group for row in results.rows if row.kind == "circuit"):
        captions = {
            "training": (
                training_curves(results, encoding, out),
                "Validation loss and accuracy per epoch: mean over seeds, and a band of one "
                "standard deviation.",
            ),
            "differences": (
                differences(results, encoding),
                "Test accuracy minus that of IMPLICIT at the same seed: mean and 95 % interval.",
            ),
            "depth": (
                accuracy_against_depth(results, encoding),
                "Test accuracy of DIRECT against the number of applications of the circuit, and of "
                "the equilibrium, its limit: mean and standard deviation over seeds.",
            ),
            "solvers": (
                residual_per_solver(results, encoding),
                "Smallest relative residual up to each solver step, on validation samples of one "
                "trained IMPLICIT model: median (line) and 95th percentile (dashed). A step of "
                "Newton computes the Jacobian as well.",
            ),
            "cost": (
                cost_against_depth(results, encoding),
                "Time of one training step (fastest of several) and memory that its compiled "
                "program allocates, for one seed, against depth.",
            ),
            "confusion": (
                confusion_of_implicit(results, encoding),
                "Test samples by true and predicted class, IMPLICIT, all seeds together.",
            ),
            "circuit": (
                circuit(results, encoding),
                "The model function: encoding, circuit, measured observables.",
            ),
        }
        for name, (figure, caption) in captions.items():
            drawn[f"{name}-{encoding}"] = (figure, f"{encoding.capitalize()} encoding. {caption}")
    return {name: (f, caption) for name, (f, caption) in drawn.items() if f is not None}


def training_curves(results: Results, encoding: str, out: Path) -> Figure | None:
    """Validation loss and accuracy against epoch, with bands over seeds."""
    curves = []
    for name, label, colour in _CURVES:
        row = _find(results, f"{encoding}-{name}")
        histories = _histories(results, row, out) if row else []
        if histories:
            curves.append((label, colour, histories))
    if not curves:
        return None
    with styled_figure(8.6, 3.6, columns=2) as (figure, axes):
        for panel, name in zip(axes, ("loss", "accuracy"), strict=True):
            late = []
            for label, colour, histories in curves:
                values = np.array([[_number(m[f"valid_{name}"]) for m in h] for h in histories])
                epochs = np.arange(1, values.shape[1] + 1)
                mean = values.mean(axis=0)
                spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
                marker = "o" if len(epochs) == 1 else None  # a line of one point is not seen
                panel.plot(epochs, mean, color=colour, label=label, lw=1.3, marker=marker)
                band = np.array([mean - spread, mean + spread])
                panel.fill_between(epochs, *band, color=colour, alpha=0.15, lw=0)
                late.append(band[:, len(epochs) // 10 :])
            # The first epochs would squeeze the rest, where the curves part, into a line.
            ends = np.hstack(late)
            ends = ends[np.isfinite(ends)]
            panel.set(title=f"Validation {name}", xlabel="epoch")
            if ends.size:
                margin = 0.05 * (ends.max() - ends.min()) or 0.01
                panel.set_ylim(ends.min() - margin, ends.max() + margin)
            panel.xaxis.set_major_locator(whole_numbers())
        legend_below(figure, axes[0])
    return figure


def differences(results: Results, encoding: str) -> Figure | None:
    """Difference to IMPLICIT of every row of an encoding and of the classical ones."""
    shown = []
    for row in results.rows:
        if row.group in (encoding, "classical") and row.name != "implicit":
            found = results.compare(row.key, f"{encoding}-implicit")
            if found is not None:
                shown.append((row.label, found))
    if not shown:
        return None
    with styled_figure(6.4, 0.9 + 0.32 * len(shown)) as (figure, (axes,)):
        for height, (_, found) in enumerate(reversed(shown)):
            colour = {1: GREEN, -1: ORANGE, 0: GREY}[found.sign]
            if math.isfinite(found.low):
                axes.plot([found.low, found.high], [height] * 2, color=colour, lw=2)
            axes.plot(found.difference, height, "o", color=colour, ms=5)
        axes.axvline(0, color="#111827", lw=1)
        axes.set_yticks(range(len(shown)), [label for label, _ in reversed(shown)])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set(title="Test accuracy minus IMPLICIT's, 95 % interval", xlabel="difference")
        axes.grid(axis="y", visible=False)
    return figure


def accuracy_against_depth(results: Results, encoding: str) -> Figure | None:
    """DIRECT 1 to 10, and the equilibrium as the line that it tends to."""
    points = []
    for depth in DEPTHS:
        key = f"{encoding}-direct-{depth}"
        if results.has(key):
            points.append((depth, *_accuracy(results, key)))
    if len(points) < 2 or not results.has(f"{encoding}-implicit"):
        return None
    with styled_figure(4.8, 3.3) as (figure, (axes,)):
        for name, label, colour in _CURVES[:2]:
            key = f"{encoding}-{name}"
            if not results.has(key):
                continue
            mean, deviation = _accuracy(results, key)
            axes.axhline(
                mean, color=colour, lw=1.4, label=label, ls="-" if name[0] == "i" else "--"
            )
            axes.axhspan(mean - deviation, mean + deviation, color=colour, alpha=0.13, lw=0)
        depths, means, deviations = np.array(points).T
        axes.errorbar(
            depths, means, deviations, color=ORANGE, marker="o", ms=4, capsize=3, label="DIRECT"
        )
        axes.set(title="Accuracy against depth", xlabel="applications of the circuit")
        axes.set_ylabel("test accuracy")
        axes.set_xticks(depths, [f"{int(depth)}" for depth in depths])
        legend_below(figure, axes)
    return figure


def residual_per_solver(results: Results, encoding: str) -> Figure | None:
    """Residual against solver step for Picard, Anderson, Broyden and Newton."""
    traces = results.computed.get(f"{encoding}-implicit", {}).get("traces")
    if not traces:
        return None
    with styled_figure(5.2, 3.5) as (figure, (axes,)):
        for name, found in traces["solvers"].items():
            median, high = (_numbers(found[key]) for key in ("median", "high"))
            steps = np.arange(1, len(median) + 1)
            colour = _SOLVER_COLOURS[name]
            axes.semilogy(steps, median, color=colour, label=name.capitalize())
            axes.semilogy(steps, high, color=colour, ls="--", lw=1)
        axes.axhline(traces["tolerance"], color="#111827", lw=0.8, ls=":")
        axes.annotate(
            f"tolerance {traces['tolerance']:g}",
            (1, traces["tolerance"]),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
        )
        axes.set(title="Residual against solver step", xlabel="solver step")
        axes.set_ylabel("smallest |f(m) − m| / |f(m)| so far")
        axes.legend(loc="upper right", ncols=2)
    return figure


def cost_against_depth(results: Results, encoding: str) -> Figure | None:
    """Time and memory of one training step of direct(L), and of the equilibrium as a line."""
    costs = results.computed.get(f"{encoding}-cost", {}).get("costs")
    if not costs:
        return None
    panels = [("seconds", "Time of a training step", "ms", 1e3)]
    if all(value is not None for value in costs["temporary_mb"]):
        panels.append(("temporary_mb", "Memory of a training step", "MB", 1.0))
    with styled_figure(3.6 * len(panels), 3.0, columns=len(panels)) as (figure, axes):
        for panel, (name, title, unit, factor) in zip(axes, panels, strict=True):
            values = factor * np.array(costs[name])
            limit = factor * costs["implicit"][name]
            panel.plot(costs["depths"], values, color=ORANGE, marker="o", ms=4, label="DIRECT")
            panel.axhline(limit, color=BLUE, lw=1.4, label="IMPLICIT")
            panel.set(title=title, xlabel="applications of the circuit", ylabel=unit)
            panel.set_xticks(costs["depths"])
            panel.set_ylim(0, 1.15 * max(*values, limit))
        legend_below(figure, axes[0])
    return figure


def confusion_of_implicit(results: Results, encoding: str) -> Figure | None:
    """Confusion matrix of IMPLICIT, summed over seeds."""
    key = f"{encoding}-implicit"
    if not results.has(key):
        return None
    matrices = [p["confusion_matrix"] for p in results.points[key][""]]
    return confusion(np.sum(matrices, axis=0).tolist(), results.computed[key]["classes"])


def circuit(results: Results, encoding: str) -> Figure | None:
    """The circuit of the encoding's first row."""
    rows = [row for row in results.rows if row.group == encoding]
    return circuit_of(rows[0].training).draw_mpl() if rows else None


def _find(results: Results, key: str) -> Row | None:
    return next((row for row in results.rows if row.key == key and results.has(key)), None)


def _histories(results: Results, row: Row, out: Path) -> list[list[dict[str, Any]]]:
    """The metrics of every seed's epochs, as far as their files are there."""
    found = []
    for seed in results.seeds(row.key):
        path = folder_of(row, out) / "runs" / f"seed-{seed}" / "metrics.jsonl"
        if path.exists():
            found.append(
                [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            )
    return found if len({len(history) for history in found}) == 1 else []


def _accuracy(results: Results, key: str) -> tuple[float, float]:
    mean, deviation = results.mean(key, "test_accuracy")
    return mean, 0.0 if math.isnan(deviation) else deviation


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([_number(value) for value in values])


def _number(value: float | None) -> float:
    return math.nan if value is None else value
