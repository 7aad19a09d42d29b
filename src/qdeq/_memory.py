"""How much memory is free, for what would rather say so beforehand than be killed."""

import os
from pathlib import Path


def available_memory() -> float:
    """Bytes of memory that are free, the limit of a container included."""
    free = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free += [
                int(line.split()[1]) * 1024.0 for line in file if line.startswith("MemAvailable")
            ]
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        free += [max(0.0, float(limit) - float(used))] if limit != "max" else []
    except (OSError, ValueError):
        pass
    if not free and "SC_PHYS_PAGES" in os.sysconf_names:
        free = [0.5 * float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")]
    return min(free) if free else 8e9
