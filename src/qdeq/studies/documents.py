"""A study as Markdown, CSV, JSON and HTML; pictures are made elsewhere and only placed here."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qdeq.runs import pages
from qdeq.runs.summary import finite_or_none
from qdeq.runs.summary_rows import tolerance_in_words
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Device, Row

Pictures = Mapping[str, tuple[bytes, str]]
"""PNG content and caption by name."""


def to_markdown(results: Results, pictures: Pictures) -> str:
    """Tables, sentences and pictures as Markdown; the pictures are taken from `figures/`."""
    parts = [f"# {results.study.title}", results.study.description]
    for heading, content in sections(results):
        text = markdown_grid(content) if isinstance(content, Grid) else _bullets(content)
        parts += [f"## {heading}", text]
    if pictures:
        parts.append("## Pictures")
    for name, (_, caption) in pictures.items():
        parts.append(f"![{caption}](figures/{name}.png)\n\n*{caption}*")
    parts.append("## How to reproduce")
    parts += [f"```\n{results.command}\n```" if results.command else ""]
    parts.append(_bullets(environment(results)))
    return "\n\n".join(filter(None, parts)) + "\n"


def to_html(results: Results, pictures: Pictures) -> str:
    """One page that holds everything it shows."""
    parts = [pages.paragraph(results.study.description)]
    for heading, content in sections(results):
        parts.append(pages.heading(heading))
        if isinstance(content, Grid):
            body = [[text.replace("**", "") for text in cells] for cells in content.body]
            table = pages.grid(content.header, body, n_labels=content.n_labels)
            parts += [pages.paragraph(content.text), table]
        else:
            parts.append(pages.bullets(content))
    if pictures:
        shown = {name: (png, "", caption) for name, (png, caption) in pictures.items()}
        parts += [pages.heading("Pictures"), pages.figures(shown)]
    parts += [
        pages.heading("How to reproduce"),
        pages.command(results.command),
        pages.bullets(environment(results)),
    ]
    return pages.page(results.study.title, parts, wide=True)


def to_csv(results: Results) -> str:
    """One line per row and device, full precision, a mean and a deviation per number."""
    records = [record(results, row, device) for row, device in _measured(results)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0] if records else ()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)  # None becomes an empty cell
    return buffer.getvalue()


def to_json(results: Results) -> str:
    """Everything: the options, every row with its means and with its seeds one by one."""
    study: Any = results.study
    content = {
        "title": study.title,
        "command": results.command,
        "protocol": dataclasses.asdict(study),
        "claims": study.claims(results),
        "notes": notes(results),
        "environment": environment(results),
        "rows": [_row(results, row) for row in results.rows],
        **results.more,
    }
    return json.dumps(finite_or_none(content), indent=1) + "\n"


def sections(results: Results) -> Iterator[tuple[str, Grid | list[str]]]:
    """Headings and what stands under them; sentences where it is no grid."""
    grids = [(grid.heading, grid) for grid in results.study.grids(results)]
    yield from grids[:1]
    if claims := results.study.claims(results):
        yield "What holds", claims
    yield from grids[1:]
    if notes(results):
        yield "Notes", notes(results)


def notes(results: Results) -> list[str]:
    """What went wrong in rows, what they say of themselves, and what the study says."""
    found = [(row, results.computed[row.key]) for row in results.rows]
    where = {row.key: f"{results.study.group_label(row.group)}, {row.label}" for row, _ in found}
    wrong = [
        f"{where[row.key]}: {result['status']}. {result['reason']}."
        for row, result in found
        if result["status"] != "done"
    ]
    own = [f"{where[row.key]}: {result['note']}." for row, result in found if result.get("note")]
    absent = [row for row in results.study.rows() if row.shown and row.key not in where]
    names = "; ".join(f"{results.study.group_label(row.group)}, {row.label}" for row in absent)
    missing = [f"Rows of the whole table that have not been computed: {names}."] if absent else []
    return [*wrong, *own, *missing, *_converged_means(results), *results.study.notes(results)]


def _converged_means(results: Results) -> list[str]:
    """Where a largest residual stands beside what converged, what makes a sample converge."""
    if not {"residual_max", "converged_fraction"} <= {m.name for m in results.study.metrics}:
        return []
    configs = (row.identity().get("config") or {} for row in results.rows)
    tolerances = {config["tolerance"] for config in configs if "tolerance" in config}
    return [f"Converged means {tolerance_in_words(None, t)}." for t in sorted(tolerances)]


def environment(results: Results) -> list[str]:
    """Versions, hardware and devices; more than one of each where rows were computed apart."""
    lines = []
    for row in results.rows:
        result = results.computed[row.key]
        packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        lines += [f"versions: {packages}", f"hardware: {result['hardware']}"]
        if result.get("device"):
            lines.append(f"JAX device: {result['device']}")
    return list(dict.fromkeys(lines))


def record(results: Results, row: Row, device: Device) -> dict[str, Any]:
    """The numbers of a row on a device as plain values, None where there is none."""
    study, result = results.study, results.computed[row.key]
    values: dict[str, Any] = {
        "group": row.group,
        "row": row.name,
        "label": row.label,
        "status": result["status"],
        "reason": result["reason"],
        **{name: device.columns.get(name) for name in study.device_columns},
        "n_seeds": len(results.points.get(row.key, {}).get(device.name, [])),
    }
    for metric in study.metrics:
        values[metric.name], deviation = results.value(row.key, metric, device.name)
        if metric.per_seed:
            values[f"{metric.name}_std"] = deviation
    if study.compared:
        reference, found = results.difference(row, device.name) or (None, None)
        values |= {
            "reference": reference,
            "difference": found and found.difference,
            "difference_low": found and found.low,
            "difference_high": found and found.high,
            "n_pairs": found and found.n,
        }
    return finite_or_none(values)


def _row(results: Results, row: Row) -> dict[str, Any]:
    """A row with its configuration, its seeds one by one, and what was measured on devices."""
    measured = {d.name: record(results, row, d) for d in results.study.devices(row)}
    plain = measured.pop("", None) or record(results, row, Device())
    seeds = [
        {name: value for name, value in seed.items() if name != "confusion_matrix"}
        for seed in results.computed[row.key]["seeds"]
    ]
    points = {"points": results.points.get(row.key, {})} if measured else {}
    return {**plain, "config": row.identity().get("config"), "seeds": seeds, **points}


def _measured(results: Results) -> Iterator[tuple[Row, Device]]:
    for row in results.rows:
        for device in results.study.devices(row) if results.has(row.key) else (Device(),):
            yield row, device


def markdown_grid(grid: Grid) -> str:
    """A grid as Markdown, its text before it."""
    sides = ["---" if i < grid.n_labels else "--:" for i in range(len(grid.header))]
    lines = [f"| {' | '.join(grid.header)} |", f"|{'|'.join(sides)}|"]
    lines += [f"| {' | '.join(cells)} |" for cells in grid.body]
    return "\n\n".join(filter(None, [grid.text, "\n".join(lines)]))


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences) or "Nothing to compare yet."
