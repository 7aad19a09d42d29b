"""Files kept between runs that are only used if they read back as they were written.

A file is named `<stem>-<its SHA-256><suffix>`: checksum and content appear in one step, so that
processes which write the same file at once never see half of one, or one's checksum with another's
content. The folder is one of `_folders.private_folder`. Imports nothing large.
"""

import contextlib
import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from qdeq._folders import check_owner, writable_by_others

_DIGITS = 32  # of the checksum in hexadecimal: 128 bits


def intact(folder: Path, stem: str, suffix: str) -> Path | None:
    """The file that was kept under this name; None if there is none, or only damaged ones.

    Damaged ones, and such as others could have written, are removed.
    """
    for path in _candidates(folder, stem, suffix):
        if _checksum(path) == path.name.removesuffix(suffix)[-_DIGITS:]:
            return path
        _remove(path)
    return None


def keep(fresh: Path, folder: Path, stem: str, suffix: str) -> Path:
    """Move a finished file of the same file system into the folder under its name.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk.
    """
    with fresh.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
        fresh.chmod(0o600)
        os.fsync(file.fileno())  # else a power cut leaves the name with nothing behind it
    path = folder / f"{stem}-{digest}{suffix}"
    fresh.replace(path)
    if os.name == "posix":  # nor the name may be lost
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return path


def _candidates(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    pattern = f"{glob.escape(stem)}-{'[0-9a-f]' * _DIGITS}{suffix}"
    yield from sorted(folder.glob(pattern))


def _checksum(path: Path) -> str | None:
    """The checksum of a regular file that only this user or root can have written."""
    try:
        info = path.lstat()
        check_owner(path, info)
        if not stat.S_ISREG(info.st_mode) or (os.name == "posix" and writable_by_others(info)):
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except OSError:
        return None


def _remove(path: Path) -> None:
    # The folder may be read-only, or another process was faster.
    with contextlib.suppress(OSError):
        path.unlink()
