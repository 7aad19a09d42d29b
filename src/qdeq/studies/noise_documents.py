"""The comparison under noise as Markdown, CSV and JSON; pictures are made elsewhere."""

import csv
import io
import json
import math
from collections.abc import Mapping
from typing import Any

from qdeq.runs.summary import finite_or_none
from qdeq.studies.noise_points import noise_name, shots_name
from qdeq.studies.noise_table import (
    METRICS,
    NoiseEntry,
    NoiseTable,
    answers,
    group_label,
    title,
    why,
)


def to_markdown(table: NoiseTable, pictures: Mapping[str, str]) -> str:
    """Tables, sentences and pictures.

    Parameters
    ----------
    table
        What to show.
    pictures
        Caption by path relative to the Markdown file.
    """
    parts = [f"# {title(table)}", "\n".join(f"- {sentence}" for sentence in why(table))]
    if pictures:
        parts += [f"![{caption}]({path})\n\n*{caption}*" for path, caption in pictures.items()]
    parts += ["## Does the shallower model keep more accuracy?", _bullets(answers(table))]
    for group in dict.fromkeys(entry.row.group for entry in table.entries):
        for metric, header, form in METRICS[:3]:
            heading = f"{header.capitalize()} against noise, {group_label(group, table.protocol)}"
            columns = {
                table.protocol.noise(p) or "no noise": noise_name(p)
                for p in table.protocol.strengths
            }
            parts += _grid(table, group, heading, columns, metric, form)
    for group in dict.fromkeys(entry.row.group for entry in table.entries):
        for metric, header, form in METRICS:
            heading = f"{header.capitalize()} against shots, {group_label(group, table.protocol)}"
            columns = {f"{shots:,} shots": shots_name(shots) for shots in table.protocol.shots}
            parts += _grid(table, group, heading, columns, metric, form)
    for encoding, found in table.solvers.items():
        parts += _solver_grid(encoding, found)
    failures = [
        f"{group_label(e.row.group, table.protocol)}, {e.row.label}: {e.result['reason']}"
        for e in table.entries
        if e.result.get("reason")
    ]
    if failures:
        parts += ["## What failed", _bullets(failures)]
    parts += ["## How to reproduce", f"```\n{table.command}\n```", _bullets(_environment(table))]
    return "\n\n".join(parts) + "\n"


def to_csv(table: NoiseTable) -> str:
    """One line per row, device and number: mean and deviation over seeds, full precision."""
    buffer = io.StringIO()
    names = ["trained", "row", "label", "depth", "two_qubit_gates", "noise", "shots", "metric"]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*names, "mean", "std", "n_seeds"])
    for entry, device, noise, shots in _devices(table):
        for metric in ("accuracy", "valid_accuracy", *(m[0] for m in METRICS[1:])):
            values = entry.numbers(device, metric)
            if values:
                mean, deviation = entry.mean(device, metric)
                what = [entry.row.group, entry.row.name, entry.row.label]
                cost = [entry.result.get("depth"), entry.result.get("two_qubit_gates")]
                spread = "" if math.isnan(deviation) else deviation
                where = [noise, shots, metric]
                writer.writerow([*what, *cost, *where, mean, spread, len(values)])
    return buffer.getvalue()


def to_json(table: NoiseTable) -> str:
    """Everything, seed by seed."""
    content = {
        "title": title(table),
        "command": table.command,
        "protocol": table.protocol.to_json(),
        "answers": answers(table),
        "notes": why(table),
        "environment": _environment(table),
        "rows": [
            {
                "trained": entry.row.group,
                "row": entry.row.name,
                "label": entry.row.label,
                "status": entry.result["status"],
                "reason": entry.result["reason"],
                "depth": entry.result.get("depth"),
                "two_qubit_gates": entry.result.get("two_qubit_gates"),
                "trainable_angles": entry.result.get("trainable_angles"),
                "config": entry.result["identity"]["config"],
                "points": entry.points,
            }
            for entry in table.entries
        ],
        "solvers": dict(table.solvers),
    }
    return json.dumps(finite_or_none(content), indent=1) + "\n"


def _devices(table: NoiseTable) -> list[tuple[NoiseEntry, str, str, Any]]:
    protocol = table.protocol
    found: list[tuple[NoiseEntry, str, str, Any]] = []
    for entry in table.entries:
        found += [(entry, noise_name(p), protocol.noise(p), "") for p in protocol.strengths]
        noise = entry.row.config.noise
        found += [(entry, shots_name(shots), noise, shots) for shots in protocol.shots]
    return found


def _grid(
    table: NoiseTable, group: str, heading: str, columns: Mapping[str, str], metric: str, form: str
) -> list[str]:
    lines = []
    for entry in table.group(group):
        cells = []
        for name in columns.values():
            mean, deviation = entry.mean(name, metric)
            text = "—" if math.isnan(mean) else format(mean, form)
            cells.append(text if math.isnan(deviation) else f"{text} ± {format(deviation, form)}")
        if any(cell != "—" for cell in cells):
            lines.append("| " + " | ".join([entry.row.label, *cells]) + " |")
    if not lines:
        return []
    header = "| " + " | ".join(["row", *columns]) + " |"
    return [f"## {heading}", "\n".join([header, "|---|" + "--:|" * len(columns), *lines])]


def _solver_grid(encoding: str, found: dict[str, Any]) -> list[str]:
    header = ["shots per evaluation", *(f"{shots:,}" for shots in found["shots"])]
    rows = {**found["errors"], "sampling error of one evaluation": found["floor"]}
    lines = [
        "| " + " | ".join([name, *(f"{error:.2e}" for error in errors)]) + " |"
        for name, errors in rows.items()
    ]
    text = (
        f"Root-mean-square |m − m*| over {found['n_samples']} test samples after {found['steps']} "
        f"evaluations; median spectral radius {found['radius']:.2f}. Newton also has exact "
        "Jacobians."
    )
    table = "\n".join(
        ["| " + " | ".join(header) + " |", "|---|" + "--:|" * len(found["shots"]), *lines]
    )
    return [f"## Error of the equilibrium against shots, {encoding} encoding", text, table]


def _environment(table: NoiseTable) -> list[str]:
    lines = []
    for entry in table.entries:
        packages = ", ".join(f"{n} {v}" for n, v in entry.result["versions"].items())
        lines += [f"versions: {packages}", f"hardware: {entry.result['hardware']}"]
    return list(dict.fromkeys(lines))


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences) or "Nothing to compare yet."
