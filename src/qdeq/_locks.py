"""Folders into which one process at a time writes; one that dies, however it does, lets go."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from qdeq.errors import UserError


class FolderInUse(UserError):
    """Another process writes to the folder now; what it holds is nobody else's to replace."""


@contextlib.contextmanager
def held(folder: Path, refusal: str) -> Iterator[bool]:
    """Keep other processes from a folder that is there; whether that is certain.

    Parameters
    ----------
    folder
        Asked for by its name alone: those within it are not held.
    refusal
        What is raised where another process holds it, in a sentence.

    Raises
    ------
    FolderInUse
        When it is held, by this process too.
    """
    certain = False
    with contextlib.ExitStack() as stack:
        # Without locks, as on Windows and some network file systems, only the names of new folders
        # are safe.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderInUse(refusal) from error
            certain = True
        yield certain
