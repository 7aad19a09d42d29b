"""The parts of a report about single test samples: behind each cell, and on their way to m*.

All of it can be read without scripts; `view.js` and `search.js` of `page_files/` add the
view that moves.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from qdeq.runs import pages
from qdeq.runs.report_data import MOST_SAMPLES, ReportData, Sample
from qdeq.runs.summary import Summary

NAMES = {
    "picard": "Picard",
    "anderson": "Anderson",
    "broyden": "Broyden",
    "newton": "Newton",
}


def tested_samples(
    summary: Summary, data: ReportData, *, of_seed: str = "", picture: str = ""
) -> list[str]:
    """The confusion matrix with the samples behind its cells; of a regression the worst samples.

    Parameters
    ----------
    summary
        Of the run.
    data
        Of the run, of many seeds the first one's.
    of_seed
        Whose samples they are, in words.
    picture
        Of a regression, predicted against true: HTML.
    """
    heading = pages.heading("Test samples")
    if summary.targets:
        return [heading, picture, *_furthest_off(summary, data, of_seed)]
    behind = _by_cell(data.samples)
    parts = [heading, _matrix(summary, behind)]
    if not data.samples:
        return parts
    text = (
        f"Follow a number (click, or Tab and Enter) to see the test samples{of_seed} behind it, at "
        f"most {MOST_SAMPLES} of a cell."
    )
    if any(sample.image for sample in data.samples):
        text += " Images are shown as the model gets them."
    parts.append(pages.paragraph(text, "note"))
    for (true, predicted), samples in sorted(behind.items()):
        names = str(summary.classes[true]), str(summary.classes[predicted])
        title = f"True {names[0]}, predicted {names[1]}"
        shown = "".join(_sample(sample, summary) for sample in samples)
        parts.append(
            f'<section class="behind" id="cell-{true}-{predicted}" tabindex="-1">'
            f"<h3>{escape(title)}</h3>"
            f'<ul class="samples">{shown}</ul></section>'
        )
    if not any(sample.probabilities for sample in data.samples):
        parts.append(pages.paragraph(_on_demand(summary, "adds class probabilities"), "note"))
    return parts


def _matrix(summary: Summary, behind: dict[tuple[int, int], list[Sample]]) -> str:
    classes = [str(name) for name in summary.classes]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    rows = [f'<tr><th scope="col">true \\ predicted</th>{head}</tr>']
    for true, counts in enumerate(summary.confusion_matrix):
        cells = []
        for predicted, count in enumerate(counts):
            kind = "empty" if not count else "right" if true == predicted else "wrong"
            text = f"{count:,}"
            if (true, predicted) in behind:
                label = f"{count} test samples of {classes[true]}, predicted {classes[predicted]}"
                address = f"#cell-{true}-{predicted}"
                text = f'<a href="{address}" aria-label="{escape(label)}">{text}</a>'
            cells.append(f'<td class="{kind}">{text}</td>')
        rows.append(f'<tr><th scope="row">{escape(classes[true])}</th>{"".join(cells)}</tr>')
    return (
        '<div class="wide" tabindex="0"><table class="matrix" '
        'aria-label="Test samples by true class (row) and predicted class (column)">'
        f"{''.join(rows)}</table></div>"
    )


def _sample(sample: Sample, summary: Summary) -> str:
    image = ""
    if sample.image:
        side = round(len(sample.image) ** 0.5)
        image = pages.grey_image(sample.image, side, f"test sample {sample.index}")
    chances = ""
    if sample.probabilities:
        ordered = sorted(enumerate(sample.probabilities), key=lambda pair: -pair[1])[:4]
        lines = (
            f'<tr><th scope="row">{escape(str(summary.classes[k]))}</th>'
            f'<td><meter min="0" max="1" value="{p}">{p:.3f}</meter> {p:.3f}</td></tr>'
            for k, p in ordered
        )
        chances = f"<table>{''.join(lines)}</table>"
    return f"<li>{image}sample {sample.index}{chances}</li>"


def _furthest_off(summary: Summary, data: ReportData, of_seed: str) -> list[str]:
    if not data.samples:
        return []
    header = ["test sample"]
    for name in summary.targets:
        header += [f"{name}, true", "predicted", "true − predicted"]
    body = []
    for sample in data.samples:
        cells = [str(sample.index)]
        for true, predicted in zip(_numbers(sample.true), _numbers(sample.predicted), strict=True):
            off = None if true is None or predicted is None else true - predicted
            cells += [_text(true), _text(predicted), _text(off)]
        body.append(cells)
    text = (
        f"The {len(body)} test samples{of_seed} that are furthest off, counted in their targets' "
    )
    return [pages.paragraph(text + "standard deviations:", "note"), pages.grid(header, body)]


def search_of_equilibria(summary: Summary, data: ReportData, *, of_seed: str = "") -> list[str]:
    """How solvers find the equilibria of some test samples: a table, and the place of the view."""
    if summary.mode == "direct":
        return []
    heading = pages.heading("The search for the equilibrium")
    if not data.searches:
        return [heading, pages.paragraph(_on_demand(summary, "adds the view of it"), "note")]
    text = (
        f"An equilibrium is a measured state m* that the circuit maps to itself, m* = f(m*). Four "
        f"solvers start at m = 0 for the same {len(data.searches)} test samples{of_seed}, from the "
        f"one that took the run's own solver the most steps to the one that took it the fewest, "
        f"and end where |f(m) − m| <= {data.tolerance:g} + {data.tolerance:g} |f(m)|. The spectral "
        "radius is that of df/dm at the equilibrium: below 1 plain iteration (Picard) gets there "
        "from close by, and the smaller it is, the faster."
    )
    header = ["test sample", "spectral radius"]
    header += [f"{NAMES[name]}, steps" for name in data.searches[0].paths]
    body = []
    for search in data.searches:
        radius = "none" if search.radius is None else f"{search.radius:.3f}"
        cells = [f"{search.index}", radius]
        for path in search.paths.values():
            cells.append(f"{len(path.points)}" + " (not converged)" * (not path.converged))
        body.append(cells)
    view = '<div id="search" class="search" hidden></div>'
    without = (
        "<noscript><p>The view that moves needs JavaScript; the table has its results.</p>"
        "</noscript>"
    )
    return [heading, pages.paragraph(text, "note"), view, without, pages.grid(header, body)]


def search_data(summary: Summary, data: ReportData) -> dict[str, Any]:
    """What `search.js` reads."""
    said = {sample.index: sample for sample in data.samples}

    def label(index: int) -> str:
        sample = said.get(index)
        if sample is None or summary.targets:
            return f"test sample {index}"
        true, predicted = summary.classes[sample.true], summary.classes[sample.predicted]
        return f"test sample {index}: true {true}, predicted {predicted}"

    return {
        "tolerance": data.tolerance,
        "observables": data.observables,
        "names": NAMES,
        "searches": [
            {**dataclasses.asdict(search), "label": label(search.index)} for search in data.searches
        ],
    }


def _on_demand(summary: Summary, what: str) -> str:
    return f"qdeq report {shlex.quote(summary.run)} {what}, in a few seconds of computation."


def _by_cell(samples: Sequence[Sample]) -> dict[tuple[int, int], list[Sample]]:
    cells: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        cells.setdefault((sample.true, sample.predicted), []).append(sample)
    return cells


def _numbers(value: Any) -> list[float | None]:
    return value if isinstance(value, list) else [value]


def _text(number: float | None) -> str:
    return "none" if number is None else f"{number:.4g}".replace("-", "−")
