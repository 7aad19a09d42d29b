"""One JSON file that is kept as long as what it depends on has not changed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeq._arrays import write_atomically
from qdeq.runs.summary import finite_or_none


@dataclass(frozen=True)
class Store:
    """Plain values in a file, under all that they depend on.

    Attributes
    ----------
    path
        The file.
    identity
        Plain values; content that was written under others is not there for this store.
    """

    path: Path
    identity: dict[str, Any]

    def read(self) -> dict[str, Any] | None:
        """The content; None where there is none, it is damaged, or it is another identity's."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            same = content.pop("identity") == json.loads(json.dumps(self.identity))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return content if same else None

    def write(self, content: dict[str, Any]) -> dict[str, Any]:
        """Keep the content, and return it as `read` does: numbers that are not finite are None."""
        text = json.dumps(finite_or_none({"identity": self.identity, **content})) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, text.encode())
        return json.loads(json.dumps(finite_or_none(content)))
