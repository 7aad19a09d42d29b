"""The process that computes one row: `python -m qdeq.studies.worker FOLDER`.

FOLDER holds `task.json` and gets `row.json`. Lines of JSON on stdout tell how far it is.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from qdeq.studies.kinds import failed, run_row
from qdeq.studies.runner import read_task, store_of
from qdeq.studies.study import Tell


def compute(folder: Path, tell: Tell) -> int:
    """Compute the row whose task lies in a folder, in this process, and keep its result there."""
    row = read_task(folder)
    try:
        result = run_row(row, folder, tell)
    except BrokenPipeError:
        raise
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        result = failed(reason[:300])
    store_of(row, folder).write(result)
    return 0


def main(folder: Path) -> int:
    """Compute the row of a folder for the process that waits for it."""
    try:
        return compute(folder, _tell)
    except (KeyboardInterrupt, BrokenPipeError):  # the study was stopped: the row is not finished
        # Nobody reads stdout any more, and Python would complain when it flushes it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 130


def _tell(progress: dict) -> None:
    print(json.dumps(progress), flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
