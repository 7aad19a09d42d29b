"""How much memory is free, for what would rather say so beforehand than be killed."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def available_memory(root: Path = Path("/")) -> float:
    """Bytes of memory that are free, limits of containers and batch systems included.

    Parameters
    ----------
    root
        Where `proc` and `sys` are.
    """
    free = [*_of_machine(root), *_of_groups(root)]
    if not free and "SC_PHYS_PAGES" in os.sysconf_names:
        free = [0.5 * float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")]
    return min(free) if free else 8e9


def _of_machine(root: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                yield int(line.split()[1]) * 1024.0


@dataclass(frozen=True)
class _Files:
    """Names of what Linux says of the memory of a control group."""

    folder: str
    limit: str
    used: str
    cached: tuple[str, str]

    def free(self, group: Path) -> float:
        """Copies of files in memory count as used, and go where something else needs the room."""
        limit, used = (
            float((group / name).read_text(encoding="ascii")) for name in (self.limit, self.used)
        )
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        stat = dict(line.split() for line in lines)
        return max(0.0, limit - used + sum(float(stat.get(name, 0)) for name in self.cached))


_SECOND = _Files("sys/fs/cgroup", "memory.max", "memory.current", ("inactive_file", "active_file"))
_FIRST = _Files(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def _of_groups(root: Path) -> Iterator[float]:
    """What the control groups of this process have left: its own and all above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if controllers and "memory" not in controllers.split(","):
            continue
        files = _FIRST if controllers else _SECOND
        top = root / files.folder
        group = top / name.lstrip("/")
        # Containers may not see the folders of groups outside of them, only the top one.
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # no limit is the word max, or no file
                yield files.free(folder)
            if folder == top:
                break
