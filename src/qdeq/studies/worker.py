"""The process that computes one row: `python -m qdeq.studies.worker FOLDER`.

FOLDER holds `task.json` and gets `row.json`. Lines of JSON on stdout tell how far it is.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from qdeq.studies.protocol import Row
from qdeq.studies.store import RowStore


def main(folder: Path) -> int:
    """Compute the row whose task lies in a folder, and write its result there."""
    from qdeq.studies.row import failed, run_row

    store = RowStore(folder)
    row = Row.from_json(store.read_task())
    try:
        result = run_row(row, folder, _tell)
    except (KeyboardInterrupt, BrokenPipeError):  # the table was stopped: the row is not finished
        # Nobody reads stdout any more, and Python would complain when it flushes it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 130
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        result = failed(row, reason[:300])
    store.write_result(result)
    return 0


def _tell(progress: dict) -> None:
    print(json.dumps(progress), flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
