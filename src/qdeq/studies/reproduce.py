"""A whole table: compute its rows, put them together, write every document.

What a row is stands in `protocol`, how it is computed in `row`, how it is shown in `documents`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from qdeq._arrays import write_atomically
from qdeq.data.datasets import DATASETS
from qdeq.data.sources import open_source
from qdeq.errors import UserError
from qdeq.studies import overlap
from qdeq.studies.documents import page, to_csv, to_html, to_json, to_markdown
from qdeq.studies.noise_protocol import NoiseProtocol
from qdeq.studies.protocol import Protocol, Row, choose_rows, cost_row, table_rows, warmup_rows
from qdeq.studies.runner import Launch, OnProgress, compute_row, finished_rows
from qdeq.studies.table import Table, build_table
from qdeq.studies.warmup import WarmupChoice, choose_warmup, warmup_page

OnRow = Callable[[int, int, Row], None]


def reproduce_table(
    protocol: Protocol,
    out: Path,
    *,
    rows: str | None = None,
    command: str = "",
    on_row: OnRow = lambda *_: None,
    on_progress: OnProgress = lambda _: None,
    launch: Launch | None = None,
) -> Table:
    """Compute a table and write `table.md`, `results.csv`, `results.json`, `index.html`.

    Rows that lie finished in `out` under the same protocol are kept. The documents are written
    again after every row, without pictures, so that a table that is stopped shows what it has.

    Parameters
    ----------
    protocol
        Which table, and how its rows are trained.
    out
        The folder, new or of an earlier call.
    rows
        Names of the rows to compute, see `choose_rows`; None for all. Others that are finished
        stay in the table.
    command
        The command line that the documents show.
    on_row
        Called as `on_row(number, total, row)` before a row is computed, numbers from 1.
    on_progress, launch
        See `compute_row`.

    Returns
    -------
    Table

    Raises
    ------
    UserError
        When the data cannot be had, a row is unknown, or the folder cannot be written.
    """
    every = table_rows(protocol)
    chosen = choose_rows(every, rows)
    check_data(protocol)
    make_folder(out)
    groups = dict.fromkeys(row.group for row in chosen if row.kind == "circuit")
    costs = [cost_row(protocol, group) for group in groups]
    work = [*chosen, *costs]
    # Rows beyond those chosen that an earlier call has finished are part of the table too.
    results = finished_rows([*every, *costs], out)
    table = None
    for number, row in enumerate(work, start=1):
        start = partial(on_row, number, len(work), row)
        results[row.key] = compute_row(
            row, out, on_start=start, on_progress=on_progress, launch=launch
        )
        shown = [row for row in every if row.key in results]
        extras = {row.key: results[row.key] for row in costs if row.key in results}
        table = build_table(protocol, shown, results, extras=extras, command=command)
        _write_documents(table, out, {})
    assert table is not None  # `choose_rows` leaves at least one
    _write_documents(table, out, _write_pictures_of(table, out))
    return table


def _write_pictures_of(table: Table, out: Path) -> dict[str, tuple[bytes, str]]:
    from qdeq.runs.figures import png
    from qdeq.studies.figures import draw_all

    drawn = {name: (png(figure), text) for name, (figure, text) in draw_all(table, out).items()}
    make_folder(out / "figures")
    for name, (content, _) in drawn.items():
        write_atomically(out / "figures" / f"{name}.png", content)
    return drawn


def _write_documents(table: Table, out: Path, drawn: dict[str, tuple[bytes, str]]) -> None:
    captions = {f"figures/{name}.png": text for name, (_, text) in drawn.items()}
    for name, text in (
        ("table.md", to_markdown(table, captions)),
        ("results.csv", to_csv(table)),
        ("results.json", to_json(table)),
        ("index.html", to_html(table, drawn)),
    ):
        write_atomically(out / name, text.encode())


def reproduce_warmup(
    protocol: Protocol,
    out: Path,
    *,
    encoding: str = "amplitude",
    command: str = "",
    on_row: OnRow = lambda *_: None,
    on_progress: OnProgress = lambda _: None,
    launch: Launch | None = None,
) -> WarmupChoice:
    """Compare lengths and depths of the warm-up on validation data; writes `warmup.md` and `.json`.

    Parameters
    ----------
    protocol
        Its own warm-up is ignored.
    encoding
        `"amplitude"` or `"angle"`.
    out, command, on_row, on_progress, launch
        As in `reproduce_table`.

    Raises
    ------
    UserError
        When the data cannot be had or the folder cannot be written.
    """
    rows = warmup_rows(protocol, encoding)
    check_data(protocol)
    make_folder(out)
    results = {}
    for number, row in enumerate(rows, start=1):
        start = partial(on_row, number, len(rows), row)
        results[row.key] = compute_row(
            row, out, on_start=start, on_progress=on_progress, launch=launch
        )
    choice = choose_warmup(rows, results)
    write_atomically(out / "warmup.md", warmup_page(protocol, choice, command).encode())
    write_atomically(out / "warmup.json", (choice.to_json() + "\n").encode())
    return choice


def reproduce_overlap(out: Path, *, n_pairs: int = 3000, command: str = "") -> list[str]:
    """The overlap figure: writes `overlap.png` and a page, returns what the pairs say."""
    from qdeq.runs.figures import png

    found = [overlap.sample_overlaps(name, n_pairs=n_pairs) for name in overlap.ENCODINGS]
    sentences = overlap.statement(found)
    _write_pictures(
        out,
        {"overlap": (png(overlap.draw(found)), "Random pairs of inputs, and the bound.")},
        title="Overlap of single-qubit encodings",
        sentences=sentences,
        command=command,
    )
    return sentences


def reproduce_circuits(out: Path, *, command: str = "") -> list[str]:
    """The paper's circuits as pictures and a page; returns a sentence about each."""
    from qdeq.runs.diagram import CircuitDiagram
    from qdeq.runs.figures import png

    pictures, sentences = {}, []
    for n_qubits, encoding in ((4, "amplitude"), (4, "angle"), (10, "amplitude"), (10, "angle")):
        diagram = CircuitDiagram.of_paper(n_qubits, encoding)
        circuit = diagram.circuit
        text = (
            f"{n_qubits} qubits, {encoding} encoding: {circuit.n_parameters} angles, "
            f"{circuit.count(n_wires=2)} two-qubit gates, depth {circuit.depth()}."
        )
        pictures[f"circuit-{n_qubits}-{encoding}"] = (png(diagram.figure()), text)
        sentences.append(text)
    _write_pictures(
        out, pictures, title="Circuits of the paper", sentences=sentences, command=command
    )
    return sentences


def _write_pictures(
    out: Path,
    pictures: dict[str, tuple[bytes, str]],
    *,
    title: str,
    sentences: Sequence[str],
    command: str,
) -> None:
    from qdeq.runs.summary import versions
    from qdeq.studies.documents import html_figures, html_list
    from qdeq.studies.row import hardware

    make_folder(out)
    for name, (content, _) in pictures.items():
        write_atomically(out / f"{name}.png", content)
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    text = page(
        title,
        html_list(sentences),
        figures=html_figures(pictures),
        command=command,
        environment=[f"versions: {packages}", f"hardware: {hardware()}"],
    )
    write_atomically(out / "index.html", text.encode())


def check_data(protocol: Protocol | NoiseProtocol) -> None:
    """Refuse a data folder that is not there before the first process starts."""
    open_source(DATASETS[protocol.data].collection, protocol.data_dir)


def make_folder(folder: Path) -> None:
    """Make a folder for results, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"out={str(folder)!r}: the folder cannot be made ({error.strerror}); choose another one"
        ) from error
