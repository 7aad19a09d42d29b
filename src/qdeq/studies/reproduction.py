"""A whole study: compute its rows, measure them on its devices, write every document.

What a row is stands in `study`, how it is computed in `kinds`, how it is shown in `documents`.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from qdeq._arrays import write_atomically
from qdeq._locks import held
from qdeq.data.datasets import DATASETS
from qdeq.data.sources import open_source
from qdeq.errors import UserError
from qdeq.studies.documents import Pictures, to_csv, to_html, to_json, to_markdown
from qdeq.studies.results import Results
from qdeq.studies.runner import (
    Launch,
    compute_row,
    finished,
    finished_keys,
    finite_seeds,
    folder_of,
)
from qdeq.studies.store import Store
from qdeq.studies.study import Numbers, Result, Row, Study, Tell, choose_rows
from qdeq.studies.worker import compute

#: Raise when the meaning of a measured number changes, so that it is measured again.
POINT_FORMAT = 1

OnRow = Callable[[int, int, Row], None]


def reproduce(
    study: Study,
    out: Path,
    *,
    rows: str | None = None,
    command: str = "",
    on_row: OnRow = lambda *_: None,
    on_progress: Tell = lambda _: None,
    launch: Launch | None = None,
) -> Results:
    """Make a study and write `table.md`, `results.csv`, `results.json`, `report.html`, `figures/`.

    Rows and measurements that lie finished in `out` under the same options are kept. The documents
    are written again after every row, without pictures, so that a study that is stopped shows what
    it has. Several processes may compute different rows of one folder.

    Parameters
    ----------
    study
        What is asked.
    out
        The folder, new or of an earlier call.
    rows
        Names of the rows to compute, see `choose_rows`; None for all. No other is computed; others
        that are finished stay in the documents.
    command
        The command line that the documents show.
    on_row
        Called as `on_row(number, total, row)` before a row is computed or measured, numbers from 1.
    on_progress, launch
        See `compute_row`.

    Returns
    -------
    Results

    Raises
    ------
    UserError
        When the data cannot be had, a row is unknown, the folder cannot be written, or it holds
        finished rows of other options or of another study; when another process computes a row.
    """
    every = study.rows()
    chosen = choose_rows(every, rows)
    configs = [row.config for row in chosen if row.config is not None]
    for data, data_dir in dict.fromkeys((config.data, config.data_dir) for config in configs):
        # A folder that is not there, or holds other files, is refused before a process starts.
        open_source(DATASETS[data].collection, data_dir).check()
    make_folder(out)
    _check_that_no_row_is_replaced(every, out)
    launch = launch or (None if study.in_processes else compute)
    ours: dict[str, tuple[Result, dict[str, Numbers]]] = {}

    def results(more: dict[str, Any] | None = None) -> Results:
        # Rows that an earlier call has finished, or another process now, are part of it too.
        found = dict(ours)
        for row in every:
            kept = None if row.key in ours else finished(row, out)
            if kept is not None:
                found[row.key] = kept, _kept(study, row, kept, out)
        computed = {key: result for key, (result, _) in found.items()}
        points = {key: numbers for key, (_, numbers) in found.items()}
        shown = tuple(row for row in every if row.key in computed and row.shown)
        return Results(study, shown, computed, points, more or {}, command)

    for number, row in enumerate(chosen, start=1):
        start = cache(partial(on_row, number, len(chosen), row))  # told once, whatever begins
        refusal = (
            f"out={str(out)!r}: another process computes {row.key}; wait for its end, or name "
            "other rows (--rows)"
        )
        make_folder(folder_of(row, out))
        with held(folder_of(row, out), refusal):
            result = compute_row(row, out, on_start=start, on_progress=on_progress, launch=launch)
            ours[row.key] = result, _measured(study, row, result, out, start, on_progress)
        write_documents(results(), out, {})
    whole = results(study.more(results(), out, on_progress))
    write_documents(whole, out, draw_pictures(whole, out))
    return whole


def _check_that_no_row_is_replaced(rows: Sequence[Row], out: Path) -> None:
    ours = {row.key for row in rows if finished(row, out) is not None}
    others = sorted(finished_keys(out) - ours)
    if others:
        raise UserError(
            f"out={str(out)!r}: it holds the row {others[0]} of another study or of other options, "
            "such as epochs or seeds: choose another folder, or repeat the command that made it"
        )


def make_folder(folder: Path) -> None:
    """Make a folder for results, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"out={str(folder)!r}: the folder cannot be made ({error.strerror}); choose another one"
        ) from error


def draw_pictures(results: Results, out: Path) -> Pictures:
    """Draw what the rows allow, and write it to `figures/`."""
    from qdeq.runs.figures import png

    figures = results.study.pictures(results, out)
    drawn = {name: (png(figure), caption) for name, (figure, caption) in figures.items()}
    if drawn:
        make_folder(out / "figures")
    for name, (content, _) in drawn.items():
        write_atomically(out / "figures" / f"{name}.png", content)
    return drawn


def write_documents(results: Results, out: Path, pictures: Pictures) -> None:
    """Write the study in every form."""
    for name, text in (
        ("table.md", to_markdown(results, pictures)),
        ("results.csv", to_csv(results)),
        ("results.json", to_json(results)),
        ("report.html", to_html(results, pictures)),
    ):
        write_atomically(out / name, text.encode())


def _kept(study: Study, row: Row, result: Result, out: Path) -> dict[str, Numbers]:
    """What is known of a row without measuring: where it was computed, and what was kept."""
    seeds = finite_seeds(result)
    names = {device.name for device in study.devices(row)}
    known = (_store(study, row, seeds, out).read() or {}).get("points", {}) if names != {""} else {}
    known |= {"": seeds} if "" in names else {}
    return {name: found for name, found in known.items() if name in names}


def _measured(
    study: Study,
    row: Row,
    result: Result,
    out: Path,
    start: Callable[[], None],
    tell: Tell,
) -> dict[str, Numbers]:
    """The numbers of a row on every device; a point that is measured is kept at once."""
    seeds, points = finite_seeds(result), _kept(study, row, result, out)
    missing = [device for device in study.devices(row) if device.name not in points]
    if not seeds or not missing:
        return points
    start()
    measure = study.measurer(row, folder_of(row, out), [seed["seed"] for seed in seeds])
    store = _store(study, row, seeds, out)
    for device in missing:
        tell({"stage": f"measuring, {device.name}"})
        points[device.name] = measure(device)
        points |= store.write({"points": {k: v for k, v in points.items() if k}})["points"]
    return points


def _store(study: Study, row: Row, seeds: Sequence[dict[str, Any]], out: Path) -> Store:
    trained = {"trained": [seed["seed"] for seed in seeds]}
    identity = {"format": POINT_FORMAT, **row.identity(), **study.measurement(), **trained}
    return Store(out / "points" / f"{row.key}.json", identity)
