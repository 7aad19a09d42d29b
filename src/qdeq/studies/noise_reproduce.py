"""`qdeq reproduce noise`: train, measure on every device, write the documents.

Everything finished is kept: rows by `runner.py`, points by `noise_points.py`.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qdeq._arrays import write_atomically
from qdeq.runs.summary import finite_or_none
from qdeq.studies.noise_documents import to_csv, to_json, to_markdown
from qdeq.studies.noise_points import PointStore, measure_row
from qdeq.studies.noise_protocol import NoiseProtocol, choose_noise_rows
from qdeq.studies.noise_table import NoiseEntry, NoiseTable
from qdeq.studies.protocol import Row
from qdeq.studies.reproduce import OnRow, check_data, make_folder
from qdeq.studies.row import Result
from qdeq.studies.runner import Launch, OnProgress, compute_row, store_of

#: Raise when the comparison of solvers changes.
SOLVERS_FORMAT = 1


def reproduce_noise(
    protocol: NoiseProtocol,
    out: Path,
    *,
    rows: str | None = None,
    solvers: bool = True,
    command: str = "",
    on_row: OnRow = lambda *_: None,
    on_progress: OnProgress = lambda _: None,
    launch: Launch | None = None,
) -> NoiseTable:
    """Compare equilibrium and other models on noisy devices and with finite shots.

    Writes `noise.md`, `noise.csv`, `noise.json` and `figures/*.png`. Rows and points that lie
    finished in `out` are kept, so that a comparison that was stopped goes on where it was.

    Parameters
    ----------
    protocol
        What is trained and on which devices it is measured.
    out
        The folder, new or of an earlier call.
    rows
        Names of the rows, see `choose_rows`; None for all. IMPLICIT is always there.
    solvers
        Whether every solver's error against shots is measured too.
    command
        The command line that the documents show.
    on_row, on_progress, launch
        As in `reproduce_table`.

    Raises
    ------
    UserError
        When the data cannot be had, a row is unknown, or the folder cannot be written.
    """
    chosen = choose_noise_rows(protocol.rows(), rows)
    extra = protocol.solver_rows(protocol.rows()) if solvers else {}
    work = list({row.key: row for row in [*chosen, *extra.values()]}.values())
    check_data(protocol)
    make_folder(out)
    results: dict[str, Result] = {}
    entries: list[NoiseEntry] = []
    for number, row in enumerate(work, start=1):
        start = partial(on_row, number, len(work), row)
        results[row.key] = compute_row(
            row, out, on_start=start, on_progress=on_progress, launch=launch
        )
        if row in chosen:
            points = _points(protocol, row, results[row.key], out, start, on_progress)
            entries.append(NoiseEntry(row, results[row.key], points))
            _write(NoiseTable(protocol, tuple(entries), {}, command), out, {})
    found = {}
    for encoding, row in extra.items():
        errors = _solver_errors(row, results[row.key], out, on_progress)
        if errors is not None:
            found[encoding] = errors
    table = NoiseTable(protocol, tuple(entries), found, command)
    _write(table, out, _draw(table, out))
    return table


def _points(
    protocol: NoiseProtocol,
    row: Row,
    result: Result,
    out: Path,
    on_start: Callable[[], None],
    on_progress: OnProgress,
) -> dict[str, Any]:
    seeds = _trained(result)
    if not seeds:
        return {}
    identity = {**row.identity(), "channel": protocol.channel, "repeats": protocol.repeats}
    store = PointStore(out / "points" / f"{row.key}.json", {**identity, "trained": seeds})
    begun = False

    def tell(name: str) -> None:
        nonlocal begun
        if not begun:
            on_start()
        begun = True
        on_progress({"stage": f"measuring, {name}"})

    runs = store_of(row, out).path / "runs"
    return measure_row(protocol, row, runs, store, seeds=seeds, on_point=tell)


def _trained(result: Result) -> list[int]:
    """The seeds whose training ended with a finite loss."""
    return [s["seed"] for s in result["seeds"] if s["valid_loss"] == s["valid_loss"]]


def _solver_errors(
    row: Row, result: Result, out: Path, on_progress: OnProgress
) -> dict[str, Any] | None:
    seeds = _trained(result)
    if not seeds:
        return None
    path = out / "points" / f"solvers-{row.key}.json"
    identity = json.loads(json.dumps({"format": SOLVERS_FORMAT, "row": row.identity()}))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["identity"] == identity:
            return content["found"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from qdeq.studies.noise_solvers import solver_errors

    run = store_of(row, out).path / "runs" / f"seed-{seeds[0]}"
    found = solver_errors(
        run, on_solver=lambda name: on_progress({"stage": f"error against shots, {name}"})
    )
    found = json.loads(json.dumps(finite_or_none(found)))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"identity": identity, "found": found}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return found


def _draw(table: NoiseTable, out: Path) -> dict[str, str]:
    from qdeq.runs.figures import png
    from qdeq.studies.noise_figures import draw_all

    make_folder(out / "figures")
    captions = {}
    for name, (figure, caption) in draw_all(table).items():
        write_atomically(out / "figures" / f"{name}.png", png(figure))
        captions[f"figures/{name}.png"] = caption
    return captions


def _write(table: NoiseTable, out: Path, captions: dict[str, str]) -> None:
    for name, text in (
        ("noise.md", to_markdown(table, captions)),
        ("noise.csv", to_csv(table)),
        ("noise.json", to_json(table)),
    ):
        write_atomically(out / name, text.encode())
