"""Computes the rows of a study, each in a process of its own, and keeps rows that are finished.

Nothing here knows what a row is made of or how results are shown.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from qdeq.studies.kinds import failed
from qdeq.studies.store import Store
from qdeq.studies.study import Result, Row, Tell
from qdeq.training.cores import device_environment

Launch = Callable[[Path, Tell], int]

_LOG, _TASK = "log.txt", "task.json"
_FINISHED = ("done", "diverged")


def compute_row(
    row: Row,
    out: Path,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_progress: Tell,
    launch: Launch | None = None,
) -> Result:
    """Compute a row, unless it lies finished in `out` under the same configuration.

    A row that fails gets a result that says why; it is tried again by the next call.

    Parameters
    ----------
    row
        What to compute.
    out
        Folder of the study; the row's files lie in `rows/KEY`.
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
    kept = finished(row, out)
    if kept is not None:
        return kept
    on_start()
    folder = folder_of(row, out)
    write_task(row, folder)
    store_of(row, folder).path.unlink(missing_ok=True)
    status = (launch or in_process)(folder, on_progress)
    result = _read(row, folder)
    if result is None:
        store_of(row, folder).write(failed(_death(status, folder)))
        result = _read(row, folder)
        assert result is not None
    return result


def finished(row: Row, out: Path) -> Result | None:
    """The result of a row that lies in `out` and needs no second try, else None."""
    result = _read(row, folder_of(row, out))
    return result if result is not None and result["status"] in _FINISHED else None


def finished_keys(out: Path) -> set[str]:
    """The keys of all rows that lie finished in `out`, under whatever options."""
    keys = set()
    for path in out.glob("rows/*/row.json"):
        try:
            if json.loads(path.read_text(encoding="utf-8"))["status"] in _FINISHED:
                keys.add(path.parent.name)
        except (OSError, ValueError, KeyError, TypeError):  # damaged: computed again
            continue
    return keys


def finite_seeds(result: Result) -> list[dict]:
    """The numbers of the seeds whose training did not diverge."""
    return [s for s in result["seeds"] if math.isfinite(s.get("valid_loss", 0.0))]


def folder_of(row: Row, out: Path) -> Path:
    """Where a row's files lie."""
    return out / "rows" / row.key


def store_of(row: Row, folder: Path) -> Store:
    """Where the result of the row of a folder is kept."""
    return Store(folder / "row.json", row.identity())


def write_task(row: Row, folder: Path) -> None:
    """Say what is to be computed in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(row.to_json(), indent=2) + "\n"
    (folder / _TASK).write_text(content, encoding="utf-8")


def read_task(folder: Path) -> Row:
    """The row that is to be computed in a folder."""
    return Row.from_json(json.loads((folder / _TASK).read_text(encoding="utf-8")))


def _read(row: Row, folder: Path) -> Result | None:
    """The result of the row of a folder; a seed's number that was not finite is NaN again."""
    result = store_of(row, folder).read()
    try:
        if result is not None:
            result["seeds"] = [
                {name: math.nan if value is None else value for name, value in seed.items()}
                for seed in result["seeds"]
            ]
        return result
    except (KeyError, TypeError, AttributeError):  # damaged
        return None


def in_process(folder: Path, on_progress: Tell) -> int:
    """Compute the row of a folder in a new process and return its exit status.

    What it writes to stderr goes to `log.txt` in the folder.
    """
    command = [sys.executable, "-m", "qdeq.studies.worker", str(folder)]
    row = read_task(folder)
    # Only rows that train: the cost row measures what a single seed takes.
    environment = os.environ | (device_environment(len(row.seeds)) if row.kind == "circuit" else {})
    with (folder / _LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
            env=environment,
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
