"""Where files are kept between runs that may be deleted at any time: the user's cache folder.

`$XDG_CACHE_HOME/qdeq` (`~/.cache/qdeq` without that variable). `QDEQ_CACHE=off` keeps nothing; an
absolute path in `QDEQ_CACHE` is the folder to use instead. What lies there is loaded, and some of
it is run: only a folder that nobody else can write is used. Imports nothing large: the command
line asks before it imports JAX.
"""

import functools
import os
import stat
import warnings
from pathlib import Path

from qdeq.errors import UserError


def cache_folder() -> Path | None:
    """The folder, or None where nothing is to be kept; a warning, once, if nothing can be.

    Raises
    ------
    UserError
        If ``QDEQ_CACHE`` is neither ``off`` nor an absolute path.
    """
    setting = os.environ.get("QDEQ_CACHE", "")
    if setting == "off":
        return None
    if setting:
        folder = Path(os.path.expanduser(setting))  # leaves ~ where there is no home folder
        if not folder.is_absolute():
            raise UserError(
                f"QDEQ_CACHE={setting!r}: set it to off, or to the absolute path of a folder"
            )
        return folder
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        return Path(base) / "qdeq"
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        return Path(home) / ".cache" / "qdeq"
    # As in a container that runs under a number which is no user of its system.
    say_once(
        "there is no home folder (HOME is not an absolute path, or is not set and the user has no "
        "entry in the list of users), so nothing is kept between runs and every start compiles "
        "again: set QDEQ_CACHE to the absolute path of a folder, or to off to silence this."
    )
    return None


@functools.cache
def say_once(message: str) -> None:
    """Warn, once in this process."""
    warnings.warn(message, stacklevel=3)


def private_folder(folder: Path) -> Path:
    """A folder that nobody but this user and root can put files into, made if it is missing.

    Parameters
    ----------
    folder
        Absolute path. Its last name must be writable by its owner alone; above it a folder like
        `/tmp`, where all may write and nobody may rename what belongs to others, is good enough.

    Returns
    -------
    Path
        The folder without links, so that a link that changes later does not matter.

    Raises
    ------
    OSError
        If it cannot be made, or if somebody else could change what is in it: which folder is the
        reason, and why. Not looked at on Windows, which has other permissions.
    """
    if not hasattr(os, "geteuid"):
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()
    for path in (*reversed(folder.parents), folder):
        if path.is_symlink():
            check_owner(path, path.lstat())
    try:
        real = folder.resolve()
    except RuntimeError as error:  # links that lead to each other; an OSError from Python 3.13 on
        raise OSError(str(error)) from error
    hidden = False  # below a folder that others may not even pass
    for path in (*reversed(real.parents), real):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)  # another process may be making it too
        info = path.lstat()
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(f"{path} is not a folder")
        check_owner(path, info)
        kept_apart = path != real and info.st_mode & stat.S_ISVTX
        if not hidden and not kept_apart and writable_by_others(info):
            raise PermissionError(
                f"others can write {path} (mode {stat.S_IMODE(info.st_mode):o}); "
                "chmod go-w makes it yours alone"
            )
        hidden = hidden or not info.st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    return real


def check_owner(path: Path, info: os.stat_result) -> None:
    """Raise `PermissionError` if something belongs neither to this user nor to root."""
    if hasattr(os, "geteuid") and info.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} belongs to another user (number {info.st_uid})")


def writable_by_others(info: os.stat_result) -> bool:
    """Whether a mode lets anybody but the owner write.

    A group that has the user's name and no other member is the user: many systems give every user
    such a group, and make all that it makes writable for it.
    """
    if info.st_mode & stat.S_IWOTH:
        return True
    return bool(info.st_mode & stat.S_IWGRP) and not _is_mine_alone(info.st_gid)


def _is_mine_alone(group_number: int) -> bool:
    import grp  # neither exists on Windows
    import pwd

    try:
        group, name = grp.getgrgid(group_number), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}
