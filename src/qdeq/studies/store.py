"""The folder of one row: its task, its result, and when a finished one may be kept."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeq._arrays import write_atomically
from qdeq.runs.summary import finite_or_none
from qdeq.studies.protocol import Row

_FINISHED = ("done", "diverged")


@dataclass(frozen=True)
class RowStore:
    """Paths and files of one row."""

    path: Path

    def write_task(self, row: Row) -> None:
        """Say what is to be computed."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = json.dumps(row.to_json(), indent=2) + "\n"
        write_atomically(self.path / "task.json", content.encode())

    def read_task(self) -> dict[str, Any]:
        return json.loads((self.path / "task.json").read_text(encoding="utf-8"))

    def write_result(self, result: dict[str, Any]) -> None:
        content = json.dumps(finite_or_none(result)) + "\n"
        write_atomically(self.path / "row.json", content.encode())

    def read_result(self) -> dict[str, Any] | None:
        """The result, or None where there is none or it is damaged; null becomes NaN in seeds."""
        try:
            result = json.loads((self.path / "row.json").read_text(encoding="utf-8"))
            for seed in result["seeds"]:
                for name, value in seed.items():
                    seed[name] = math.nan if value is None else value
            return result
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def read_finished(self, row: Row) -> dict[str, Any] | None:
        """The result if it is `row`'s and needs no second try, else None."""
        result = self.read_result()
        if result is None or result.get("status") not in _FINISHED:
            return None
        return result if result.get("identity") == json.loads(json.dumps(row.identity())) else None
