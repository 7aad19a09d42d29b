"""Where files are kept between runs that may be deleted at any time: the user's cache folder.

`$XDG_CACHE_HOME/qdeq` (`~/.cache/qdeq` without that variable). `QDEQ_CACHE=off` keeps nothing; an
absolute path in `QDEQ_CACHE` is the folder to use instead. Imports nothing large: the command line
asks before it imports JAX.
"""

import os
from pathlib import Path

from qdeq.errors import UserError


def cache_folder() -> Path | None:
    """The folder, or None where nothing is to be kept.

    Raises
    ------
    UserError
        If ``QDEQ_CACHE`` is neither ``off`` nor an absolute path.
    """
    setting = os.environ.get("QDEQ_CACHE", "")
    if setting == "off":
        return None
    if setting:
        folder = Path(setting).expanduser()
        if not folder.is_absolute():
            raise UserError(
                f"QDEQ_CACHE={setting!r}: set it to off, or to the absolute path of a folder"
            )
        return folder
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path in the variable is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "qdeq"
