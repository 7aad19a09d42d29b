"""Compiled programs kept between runs of the `qdeq` command, by JAX's own persistent cache.

Only the command switches it on: a library that writes into a home folder on import would surprise.
"""

import contextlib
import os
import sys
import zlib
from pathlib import Path

from qdeq._folders import cache_folder, private_folder, say_once


def keep_compiled_programs() -> None:
    """Let JAX, which must not be imported yet, keep what it compiles in the user's cache folder.

    The folder is `xla` in the one of `qdeq._folders`; `QDEQ_CACHE=off` switches both off. JAX's
    own variables win where they are set. JAX runs what it finds there: a folder that somebody else
    could write is not used, and a warning says so.

    Raises
    ------
    UserError
        If `QDEQ_CACHE` has a value that means nothing.
    """
    folder = cache_folder()
    if folder is None or "jax" in sys.modules:  # imported: somebody else decides, such as a test
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            kept = private_folder(folder / "xla")
            _remove_damaged(kept)
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept)
        except OSError as error:
            say_once(f"compiled programs are not kept between runs: {error}")
    # Without these JAX keeps only what took a second to compile. The fifty small programs that
    # initialise a model take as long together as one large one.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _remove_damaged(folder: Path) -> None:
    """Remove what a process that was killed, or a full disk, left half written.

    JAX writes in place and never again under the same name: it would compile such a program at
    every start, and say so each time. Looks at what is newer than the last look.
    """
    stamp = folder / "checked"
    since = stamp.stat().st_mtime_ns if stamp.exists() else 0
    for path in folder.glob("*-cache"):
        # A file may be read, and removed, by another process at the same time.
        with contextlib.suppress(OSError):
            if path.stat().st_mtime_ns >= since and not _is_whole(path.read_bytes()):
                path.unlink()
    with contextlib.suppress(OSError):  # a folder that cannot be written
        stamp.touch()


def _is_whole(program: bytes) -> bool:
    if program.startswith(b"\x28\xb5\x2f\xfd"):  # by zstandard, where that is installed
        return True
    try:
        return bool(zlib.decompress(program))
    except zlib.error:
        return False
