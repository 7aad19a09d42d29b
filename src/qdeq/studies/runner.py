"""Computes a row of a table in a process of its own, and keeps rows that are finished.

Nothing here knows what a row is made of or how results are shown.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qdeq.studies.protocol import Row
from qdeq.studies.row import Result, failed
from qdeq.studies.store import RowStore
from qdeq.training.cores import device_environment

OnProgress = Callable[[dict[str, Any]], None]
Launch = Callable[[Path, OnProgress], int]

_LOG = "log.txt"


def compute_row(
    row: Row,
    out: Path,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_progress: OnProgress,
    launch: Launch | None = None,
) -> Result:
    """Compute a row, unless it lies finished in `out` under the same configuration.

    A row that fails gets a result that says why; it is tried again by the next call.

    Parameters
    ----------
    row
        What to compute.
    out
        Folder of the table; the row's files lie in `rows/KEY`.
    on_start
        Called if the row has to be computed, before that.
    on_progress
        Called with what the row's process tells.
    launch
        Computes the row of a folder and returns an exit status; a new process if None.

    Returns
    -------
    dict
        Content of `row.json`.
    """
    store = store_of(row, out)
    result = store.read_finished(row)
    if result is not None:
        return result
    on_start()
    store.write_task(row)
    (store.path / "row.json").unlink(missing_ok=True)
    status = (launch or in_process)(store.path, on_progress)
    result = store.read_result()
    if result is None:
        store.write_result(failed(row, _death(status, store.path)))
        result = store.read_result()
        assert result is not None
    return result


def finished_rows(rows: Sequence[Row], out: Path) -> dict[str, Result]:
    """The results that lie finished in `out` under the configurations of `rows`."""
    found = {row.key: store_of(row, out).read_finished(row) for row in rows}
    return {key: result for key, result in found.items() if result is not None}


def store_of(row: Row, out: Path) -> RowStore:
    """The folder of a row."""
    return RowStore(out / "rows" / row.key)


def in_process(folder: Path, on_progress: OnProgress) -> int:
    """Compute the row of a folder in a new process and return its exit status.

    What it writes to stderr goes to `log.txt` in the folder.
    """
    command = [sys.executable, "-m", "qdeq.studies.worker", str(folder)]
    row = Row.from_json(RowStore(folder).read_task())
    # Only rows that train: the cost row measures what a single seed takes.
    environment = os.environ | (device_environment(len(row.seeds)) if row.kind == "circuit" else {})
    with (folder / _LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    on_progress(json.loads(line))
                except ValueError:  # a library that prints: not ours to read
                    log.write(line)
            status = process.wait()
            if status == 130:
                raise KeyboardInterrupt
            return status
        finally:
            if process.poll() is None:
                process.terminate()  # the row writes its checkpoint first
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _death(status: int, folder: Path) -> str:
    """Why there is no result: the signal or status, and the last line of the log."""
    if status == -9:
        reason = "the process was killed (signal 9), perhaps because memory ran out"
    elif status < 0:
        reason = f"the process died of signal {-status}"
    else:
        reason = f"the process ended with status {status} and no result"
    try:
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    except OSError:
        last = ""
    return f"{reason}; last line of its log: {last[:200]}" if last else reason
