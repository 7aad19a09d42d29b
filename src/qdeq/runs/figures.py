"""Pictures of a training run, as Matplotlib figures that need no display.

`pyplot` is avoided: it keeps global state and looks for a window system.
"""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator

from qdeq.names import IN_WORDS

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b7280"  # safe for colour blindness
_MOST_TARGETS = 4

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def training_curves(history: Sequence[dict[str, Any]]) -> Figure:
    """Loss and score per epoch on both splits; a warm-up is shaded, the kept epoch is marked.

    Parameters
    ----------
    history
        The lines of `metrics.jsonl`.
    """
    kept = max((metrics["epoch"] for metrics in history if metrics["best"]), default=None)
    return _training([history], kept)


def training_bands(histories: Sequence[Sequence[dict[str, Any]]]) -> Figure:
    """Loss and score per epoch of many seeds: the mean, and a band from lowest to highest.

    Each epoch shows the seeds that had not ended before it.

    Parameters
    ----------
    histories
        The lines of `metrics.jsonl` of every seed.
    """
    return _training(histories)


def _training(histories: Sequence[Sequence[dict[str, Any]]], kept: int | None = None) -> Figure:
    longest = max(histories, key=len)
    epochs = [metrics["epoch"] for metrics in longest]
    implicit = [metrics["epoch"] for metrics in longest if metrics["phase"] == "implicit"]
    warm_up = implicit[0] - 1 if implicit else 0
    marker = "o" if len(epochs) == 1 else None
    with styled_figure(8.0, 3.2, columns=2) as (figure, axes):
        for panel, name in zip(axes, ("loss", _score(histories[0])), strict=True):
            for split, label, colour in (
                ("train", "training", BLUE),
                ("valid", "validation", ORANGE),
            ):
                values = _by_seed([_curve(history, split, name) for history in histories])
                mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
                panel.plot(epochs, mean, color=colour, label=label, marker=marker, markersize=4)
                if len(histories) > 1:
                    panel.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0)
            if name == "loss" and has_penalty(histories):
                penalties = _by_seed([_numbers(h, "train_penalty") for h in histories])
                mean = penalties.mean(axis=0)
                panel.plot(epochs, mean, color=GREEN, lw=1.2, ls="--", label="penalty")
            if warm_up:
                panel.axvspan(0.5, warm_up + 0.5, color="#e0e7ef", lw=0, label="warm-up")
            if kept is not None:
                panel.axvline(kept, color=GREY, lw=1, ls=":", label=f"kept: epoch {kept}")
            panel.set(title=_title(name), xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
            panel.xaxis.set_major_locator(whole_numbers())
        legend_below(figure, axes[0])
    return figure


def _by_seed(curves: Sequence[Sequence[float]]) -> np.ma.MaskedArray:
    """Curves `(S, epochs)`, masked where a seed has ended or has no finite number."""
    values = np.full((len(curves), max(map(len, curves))), math.nan)
    for row, curve in zip(values, curves, strict=True):
        row[: len(curve)] = curve
    return np.ma.masked_invalid(values)


def residual_trace(
    trace: Sequence[float | None], *, tolerance: float, not_finite: int = 0
) -> Figure:
    """Mean relative residual of the test samples after each solver step, on a log scale.

    Parameters
    ----------
    trace
        One number per step; None or NaN where no sample was still iterating.
    tolerance
        Residual at which a sample counts as solved.
    not_finite
        How many samples met a residual that is no number, which the mean leaves out.
    """
    values = np.array([math.nan if value is None else value for value in trace], dtype=float)
    steps = np.arange(1, len(values) + 1)
    shown = np.isfinite(values) & (values > 0)
    with styled_figure(4.4, 3.0) as (figure, (axes,)):
        axes.semilogy(steps[shown], values[shown], color=BLUE, marker="o", markersize=3.5)
        axes.axhline(tolerance, color=ORANGE, lw=1, ls="--")
        axes.annotate(
            f"tolerance {tolerance:g}",
            (0, tolerance),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            color=ORANGE,
        )
        title = "Residual of the test samples"
        if not_finite:
            title += f"\nwithout {not_finite} where it is no number"
        axes.set(title=title, xlabel="solver step")
        axes.set_ylabel("mean |f(m) − m| / |f(m)|")
        axes.xaxis.set_major_locator(whole_numbers())
    return figure


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[int | str]) -> Figure:
    """Counts of test samples by true class (row) and predicted class (column).

    Colour shows the fraction of the row, so that rare classes stay readable.
    """
    counts = np.asarray(matrix)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.42 * len(classes)
    with styled_figure(side + 0.3, side) as (figure, (axes,)):
        axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*counts.shape):
            if counts[row, column]:
                colour = "white" if fractions[row, column] > 0.5 else "#111827"
                axes.text(
                    column, row, str(counts[row, column]), ha="center", va="center", color=colour
                )
        # Longer ones would leave no room for the picture.
        labels = [text if len(text) <= 20 else f"{text[:19]}…" for text in map(str, classes)]
        rotation = 90 if max(map(len, labels)) > 2 else 0
        labels = [literal(text) for text in labels]
        axes.set_xticks(range(len(labels)), labels, rotation=rotation)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(title="Test samples", xlabel="predicted", ylabel="true")
        axes.grid(False)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def predicted_against_true(true: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure:
    """Targets of the test samples, predicted against true, and what is left of them.

    Parameters
    ----------
    true, predicted
        `(N, T)` in the targets' own units; of more than four targets the first four are shown.
    names
        Of the targets.
    """
    shown = min(len(names), _MOST_TARGETS)
    with styled_figure(8.0, 2.9 * shown, columns=2, rows=shown) as (figure, axes):
        for k in range(shown):
            left, right = axes[2 * k], axes[2 * k + 1]
            t, p = true[:, k], predicted[:, k]
            left.scatter(t, p, s=9, color=BLUE, alpha=0.5, lw=0)
            both = np.concatenate([t, p])
            ends = np.quantile(both[np.isfinite(both)], [0, 1])
            left.plot(ends, ends, color=GREY, lw=1, ls="--")
            left.set(title=f"Test samples: {literal(names[k])}", xlabel="true", ylabel="predicted")
            right.scatter(p, t - p, s=9, color=BLUE, alpha=0.5, lw=0)
            right.axhline(0, color=GREY, lw=1, ls="--")
            right.set(title="Residuals", xlabel="predicted", ylabel="true − predicted")
    return figure


def png(figure: Figure) -> bytes:
    """Render a figure as a PNG file's content, 160 dots per inch."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A class named in a script that the font lacks (Chinese, Japanese, Korean) is drawn as
        # boxes, with a warning for every sign each time; the report's tables have its name.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        # Without the default "Software" entry equal figures are equal files.
        figure.savefig(
            buffer,
            format="png",
            dpi=160,
            bbox_inches="tight",
            facecolor="white",
            metadata={"Software": None},
        )
    return buffer.getvalue()


def literal(text: object) -> str:
    """What a user named, for a picture: Matplotlib reads what stands between two `$` as formulas.

    >>> print(literal("US$ 5_ to US$ 10"))
    US\\$ 5_ to US\\$ 10
    """
    return str(text).replace("$", r"\$")


@contextmanager
def styled_figure(
    width: float, height: float, *, columns: int = 1, rows: int = 1
) -> Iterator[tuple[Figure, tuple[Axes, ...]]]:
    """A figure with panels, row by row, in the project's style, which ends with the block."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, tuple(figure.subplots(rows, columns, squeeze=False).flat)


def legend_below(figure: Figure, panel: Axes, *, most: int = 5) -> Legend:
    """The legend of all panels, from the labels of one, outside of them: it covers no data.

    `most` is how many labels stand side by side.
    """
    handles, labels = panel.get_legend_handles_labels()
    ncols = min(len(labels), most)
    return figure.legend(handles, labels, loc="outside lower center", ncols=ncols)


def has_penalty(histories: Sequence[Sequence[dict[str, Any]]]) -> bool:
    """Whether a Jacobian penalty was trained with, and its size is known of every epoch."""
    penalties = [metrics.get("train_penalty", 0) for history in histories for metrics in history]
    known = all("train_penalty" in metrics for history in histories for metrics in history)
    return known and any(penalties)


def _curve(history: Sequence[dict[str, Any]], split: str, name: str) -> list[float]:
    """Loss or score per epoch; the training loss without the penalty that is a part of it."""
    values = _numbers(history, f"{split}_{name}")
    if split == "train" and name == "loss" and has_penalty([history]):
        penalties = _numbers(history, "train_penalty")
        return [loss - penalty for loss, penalty in zip(values, penalties, strict=True)]
    return values


def _score(history: Sequence[dict[str, Any]]) -> str:
    return next(score for score in IN_WORDS if f"valid_{score}" in history[0])


def _title(name: str) -> str:
    return IN_WORDS.get(name, name).capitalize()


def whole_numbers() -> MaxNLocator:
    """Marks at whole numbers, also where there is a single one."""
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def _numbers(history: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [math.nan if metrics[name] is None else metrics[name] for metrics in history]
