"""A table as Markdown, CSV, JSON and HTML; pictures are made elsewhere and only placed here."""

import base64
import csv
import dataclasses
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from qdeq.runs.summary import finite_or_none
from qdeq.studies.claims import claims, notes, signed
from qdeq.studies.table import (
    COLUMNS,
    COST_COLUMNS,
    RESULT_COLUMNS,
    Column,
    Entry,
    Table,
)

_DIFFERENCE = "difference to IMPLICIT [95 %]"


def to_markdown(table: Table, pictures: Mapping[str, str]) -> str:
    """The table, its sentences and its pictures as Markdown.

    Parameters
    ----------
    table
        What to show.
    pictures
        Caption by path relative to the Markdown file.
    """
    parts = [f"# {title(table)}", _protocol(table)]
    for heading, columns in _tables():
        header, body = grid(table, columns)
        lines = ["| " + " | ".join(header) + " |"]
        lines.append("|" + "|".join("---" if i < 2 else "--:" for i in range(len(header))) + "|")
        lines += ["| " + " | ".join(cells) + " |" for cells in body]
        parts += [f"## {heading}", "\n".join(lines)]
        if columns is RESULT_COLUMNS:
            parts += ["## What holds", _bullets(claims(table))]
    parts += ["## Notes", _bullets(notes(table))]
    if pictures:
        shown = [f"![{caption}]({path})\n\n*{caption}*" for path, caption in pictures.items()]
        parts += ["## Pictures", *shown]
    parts += ["## How to reproduce", f"```\n{table.command}\n```", _bullets(environment(table))]
    return "\n\n".join(parts) + "\n"


def to_csv(table: Table) -> str:
    """One line per row, full precision, a mean and a deviation per number."""
    buffer = io.StringIO()
    names = ["group", "row", "label", "status", "reason", "n_seeds"]
    for column in COLUMNS:
        names += [column.name, f"{column.name}_std"] if column.per_seed else [column.name]
    names += ["reference", "difference", "difference_low", "difference_high", "n_pairs"]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for entry in table.entries:
        record = _record(entry)
        writer.writerow({n: "" if record[n] is None else record[n] for n in names})
    return buffer.getvalue()


def to_json(table: Table) -> str:
    """Everything: the protocol, every row with its means and with its seeds one by one."""
    content = {
        "title": title(table),
        "command": table.command,
        "protocol": dataclasses.asdict(table.protocol),
        "claims": claims(table),
        "notes": notes(table),
        "environment": environment(table),
        "rows": [
            {
                **_record(entry),
                "config": entry.result["identity"]["config"],
                "seeds": [
                    {name: value for name, value in seed.items() if name != "confusion_matrix"}
                    for seed in entry.result["seeds"]
                ],
            }
            for entry in table.entries
        ],
    }
    return json.dumps(finite_or_none(content), indent=1) + "\n"


def to_html(table: Table, pictures: Mapping[str, tuple[bytes, str]]) -> str:
    """One page that holds everything it shows.

    Parameters
    ----------
    table
        What to show.
    pictures
        PNG content and caption by name.
    """
    sections = []
    for heading, columns in _tables():
        sections.append(f"<h2>{heading}</h2>" + _html_table(*grid(table, columns)))
        if columns is RESULT_COLUMNS:
            sections.append("<h2>What holds</h2>" + html_list(claims(table)))
    sections.append("<h2>Notes</h2>" + html_list(notes(table)))
    return page(
        title(table),
        f"<p>{html.escape(_protocol(table))}</p>" + "\n".join(sections),
        figures=html_figures(pictures),
        command=table.command,
        environment=environment(table),
    )


def html_figures(pictures: Mapping[str, tuple[bytes, str]]) -> str:
    """Pictures, PNG content and caption by name, as HTML that holds them."""
    return "\n".join(
        f'<figure><img alt="{html.escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for content, caption in pictures.values()
    )


def page(title: str, body: str, *, figures: str, command: str, environment: Sequence[str]) -> str:
    """An HTML page from ready-made parts, with inline style and without scripts."""
    return _PAGE.substitute(
        title=html.escape(title),
        body=body,
        figures=figures,
        command=html.escape(command),
        environment=html_list(environment),
    )


def grid(table: Table, columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Header and cells as text, one list per row."""
    with_difference = columns is RESULT_COLUMNS
    header = ["encoding", "row", *(c.header for c in columns)]
    if with_difference:
        header.insert(3, _DIFFERENCE)
    body = []
    for entry in table.entries:
        name = entry.row.label
        if entry.is_failed:
            name += " **failed**"
        elif entry.result["status"] != "done":
            name += f" **{entry.result['status']}**"
        cells = [entry.row.group, name, *(_cell(entry, column) for column in columns)]
        if with_difference:
            cells.insert(3, difference(entry))
        if entry.is_failed:
            cells[2] = str(entry.result["reason"]).replace("|", "/")
        body.append(cells)
    return header, body


def difference(entry: Entry) -> str:
    """The comparison of a row with IMPLICIT, as text."""
    found = entry.comparison
    if found is None:
        return "—"
    if math.isnan(found.low):
        return signed(found.difference)
    return f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def title(table: Table) -> str:
    """What the table is called."""
    return f"{table.protocol.data}: the paper's table, measured again"


def environment(table: Table) -> list[str]:
    """Versions, hardware and devices; more than one of each where rows were computed apart."""
    lines = []
    for entry in table.entries:
        result = entry.result
        packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        lines += [f"versions: {packages}", f"hardware: {result['hardware']}"]
        if result.get("device"):
            lines.append(f"JAX device: {result['device']}")
    return list(dict.fromkeys(lines))


def _protocol(table: Table) -> str:
    p = table.protocol
    config = p.config()
    return (
        f"{p.epochs} epochs, batch {config.batch_size}, Adam {config.learning_rate:g}, gradient "
        f"clipped at {config.gradient_clip:g}, Jacobian weight {config.jacobian_weight:g}, "
        f"{1 - config.valid_fraction:.0%} / {config.valid_fraction:.0%} split into training and "
        f"validation, {len(p.seeds)} seeds ({', '.join(map(str, p.seeds))}), trainable angles: "
        f"{p.trainable}; {config.solver} to {config.tolerance:g} in at most {config.max_steps} "
        "steps."
    )


def _tables() -> list[tuple[str, Sequence[Column]]]:
    return [("Results", RESULT_COLUMNS), ("Cost", COST_COLUMNS)]


def _cell(entry: Entry, column: Column) -> str:
    mean, deviation = entry.mean[column.name], entry.deviation[column.name]
    if math.isnan(mean):
        return "—"
    if column.form.endswith("d"):
        return format(int(mean), column.form)
    text = format(mean, column.form)
    return text if math.isnan(deviation) else f"{text} ± {format(deviation, column.form)}"


def _record(entry: Entry) -> dict[str, Any]:
    record: dict[str, Any] = {
        "group": entry.row.group,
        "row": entry.row.name,
        "label": entry.row.label,
        "status": entry.result["status"],
        "reason": entry.result["reason"],
        "n_seeds": len(entry.seeds),
    }
    for column in COLUMNS:
        record[column.name] = entry.mean[column.name]
        if column.per_seed:
            record[f"{column.name}_std"] = entry.deviation[column.name]
    found = entry.comparison
    record["reference"] = None if found is None else entry.reference
    record["difference"] = None if found is None else found.difference
    record["difference_low"] = None if found is None else found.low
    record["difference_high"] = None if found is None else found.high
    record["n_pairs"] = None if found is None else found.n
    return finite_or_none(record)


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences) or "Nothing to compare yet."


def html_list(sentences: Sequence[str]) -> str:
    """Sentences as an HTML list."""
    return "<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in sentences) + "</ul>"


def _html_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    rows = []
    for cells in body:
        shown = (html.escape(cell).replace("**", "") for cell in cells)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qdeq: $title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; margin: 0; background: #f3f4f6; }
main { max-width: 84rem; margin: 2rem auto; padding: 2rem 2.5rem; background: #fff;
  border: 1px solid #e5e7eb; border-radius: 8px; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th { text-align: right; font-weight: 400; color: #6b7280; padding: .2rem .8rem .4rem 0;
  vertical-align: bottom; border-bottom: 1px solid #d1d5db; }
td { text-align: right; padding: .2rem .8rem .2rem 0; white-space: nowrap; }
tr > :nth-child(-n+2) { text-align: left; }
tr:hover td { background: #f9fafb; }
ul { padding-left: 1.2rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; }
figure { margin: 0; max-width: 100%; }
figure img { max-width: min(100%, 50rem); height: auto; display: block; }
figcaption { color: #6b7280; font-size: .85rem; margin-top: .3rem; max-width: 44rem; }
pre { background: #f3f4f6; padding: .8rem 1rem; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
<h2>Pictures</h2>
<div class="figures">
$figures
</div>
<h2>How to reproduce</h2>
<pre>$command</pre>
$environment
</main>
</body>
</html>
""")
