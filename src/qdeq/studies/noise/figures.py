"""The pictures of the comparison under noise: against strength, against shots, and the solvers'."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qdeq.runs.figures import BLUE, GREEN, GREY, ORANGE, legend_below, styled_figure
from qdeq.studies.noise.study import NoiseStudy
from qdeq.studies.results import Results
from qdeq.studies.study import Device, Row

_COLOURS = {
    "implicit": BLUE,
    "warmup": GREEN,
    "direct-1": "#E69F00",
    "direct-5": ORANGE,
    "direct-10": "#CC79A7",
    "deep-5": "#111827",
    "deep-10": GREY,
}
_SOLVERS = {
    "picard": GREY,
    "anderson": ORANGE,
    "broyden": BLUE,
    "newton": GREEN,
    "krasnoselskii-mann": "#CC79A7",
}


def draw_all(study: NoiseStudy, results: Results) -> dict[str, tuple[Figure, str]]:
    """Every picture that the finished points allow, with its caption, by name."""
    drawn = {
        "accuracy": (
            against_noise(study, results, "accuracy", "test accuracy"),
            f"Test accuracy against the strength of {study.channel} noise after every "
            "gate, exact expectation values: mean and standard deviation over seeds.",
        ),
        "residual": (
            against_noise(study, results, "residual", "mean |f(m) − m| / |f(m)|", log=True),
            "Residual of the measured state against the strength of the noise. IMPLICIT solves for "
            "the equilibrium of the noisy circuit.",
        ),
        "shots": (
            against_shots(study, results),
            "Test accuracy against the shots of each circuit execution, and the residual, on the "
            "device of the training.",
        ),
        "solvers": (
            solvers(results.more.get("solvers", {})),
            "Error of the equilibrium against the shots of each of 30 evaluations. Dashed: the "
            "sampling error of one evaluation, which falls as 1/√shots; dotted: that of the "
            "evaluations that krasnoselskii-mann averages.",
        ),
    }
    return {name: (f, caption) for name, (f, caption) in drawn.items() if f is not None}


def against_noise(
    study: NoiseStudy, results: Results, metric: str, label: str, *, log: bool = False
) -> Figure | None:
    """A panel for each way of training, a line for each row."""
    groups = [name for name in ("noiseless", "noisy") if results.with_numbers(name)]
    if not groups:
        return None
    devices = [study.exact(strength) for strength in study.strengths]
    with styled_figure(4.3 * len(groups), 3.4, columns=len(groups)) as (figure, axes):
        for panel, group in zip(axes, groups, strict=True):
            for row in _shown(results, group, metric):
                _line(panel, range(len(devices)), results, row, devices, metric, log=log)
            panel.set_xticks(range(len(devices)), [f"{p:g}" for p in study.strengths])
            panel.set(
                title=study.group_label(group).capitalize(),
                xlabel=f"{study.channel} probability",
            )
        axes[0].set_ylabel(label)
        _share_range(axes, log=log)
        legend_below(figure, axes[0], most=4)
    return figure


def against_shots(study: NoiseStudy, results: Results) -> Figure | None:
    """Accuracy for each way of training, and the residual of models trained without noise."""
    devices = [study.sampled(shots) for shots in study.shots]
    panels = [
        (group, metric, label)
        for group, metric, label in (
            ("noiseless", "accuracy", "test accuracy"),
            ("noisy", "accuracy", "test accuracy"),
            ("noiseless", "residual", "mean |f(m) − m| / |f(m)|"),
        )
        if any(
            results.numbers(row.key, metric, devices[0].name) for row in results.with_numbers(group)
        )
    ]
    if not panels:
        return None
    with styled_figure(4.0 * len(panels), 3.4, columns=len(panels)) as (figure, axes):
        for panel, (group, metric, label) in zip(axes, panels, strict=True):
            for row in _shown(results, group, metric):
                log = metric == "residual"
                _line(panel, study.shots, results, row, devices, metric, log=log)
            title = study.group_label(group).capitalize()
            panel.set(title=title, xscale="log", xlabel="shots per execution", ylabel=label)
        _share_range(
            [a for a, p in zip(axes, panels, strict=True) if p[1] == "accuracy"], log=False
        )
        legend_below(figure, axes[0], most=4)
    return figure


def solvers(found: Mapping[str, dict[str, Any]]) -> Figure | None:
    """A panel per encoding: |m - m*| against shots, with the 1/sqrt(shots) lines."""
    if not found:
        return None
    with styled_figure(4.3 * len(found), 3.5, columns=len(found)) as (figure, axes):
        for panel, (encoding, data) in zip(axes, found.items(), strict=True):
            shots, floor = np.array(data["shots"]), np.array(data["floor"], float)
            for name, errors in data["errors"].items():
                values = [math.nan if error is None else error for error in errors]
                colour = _SOLVERS.get(name, GREY)
                panel.loglog(shots, values, color=colour, marker="o", ms=3.5, label=name)
            panel.loglog(shots, floor, color="#111827", ls="--", lw=1, label="one evaluation")
            several, label = floor / math.sqrt(data["averaged"]), f"{data['averaged']} evaluations"
            panel.loglog(shots, several, color="#111827", ls=":", lw=1, label=label)
            panel.set(title=f"{encoding.capitalize()} encoding", xlabel="shots per evaluation")
        axes[0].set_ylabel("root-mean-square |m − m*|")
        _share_range(axes, log=True)
        legend_below(figure, axes[0], most=4)
    return figure


def _shown(results: Results, group: str, metric: str) -> list[Row]:
    """The rows of a panel; a deep circuit, measured once, looks for no fixed point."""
    rows = results.with_numbers(group)
    return rows if metric != "residual" else [r for r in rows if not r.name.startswith("deep")]


def _line(
    panel: Axes,
    positions: Sequence[float],
    results: Results,
    row: Row,
    devices: Sequence[Device],
    metric: str,
    *,
    log: bool,
) -> None:
    means, deviations = np.array([results.mean(row.key, metric, d.name) for d in devices]).T
    deviations = np.where(np.isfinite(deviations), deviations, 0)
    # An error bar that reaches below zero has no place on a log scale.
    low = np.minimum(deviations, 0.9 * means) if log else deviations
    colour = _COLOURS.get(row.name, GREY)
    style: Any = {"ms": 3.5, "capsize": 2.5, "lw": 1.4, "elinewidth": 0.9}
    panel.errorbar(
        positions, means, (low, deviations), color=colour, marker="o", label=row.label, **style
    )
    if log:
        panel.set_yscale("log")


def _share_range(axes: Sequence[Axes], *, log: bool) -> None:
    limits = [panel.get_ylim() for panel in axes]
    low, high = min(limit[0] for limit in limits), max(limit[1] for limit in limits)
    if log and high < 2 * low:  # one value alone has no range
        low, high = low / 2, 2 * high
    for panel in axes:
        panel.set_ylim(low, high if log else min(high, 1.02))
