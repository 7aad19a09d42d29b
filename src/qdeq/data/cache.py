"""Pooled features kept between runs, so that training starts at once.

Decoding 70,000 PNG images takes seconds, reading their pooled features back takes milliseconds.
One file per source and grid lies in ``$XDG_CACHE_HOME/qdeq`` (``~/.cache/qdeq`` without that
variable) and may be deleted at any time. ``QDEQ_CACHE=off`` switches the cache off; an absolute
path in ``QDEQ_CACHE`` is the folder to use instead.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from qdeq._folders import cache_folder

# Raise when the preprocessing changes meaning, so that features of older versions are not used.
_FORMAT = 1


def cached_arrays(
    name: str, key: Mapping[str, object], compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the arrays stored under `key`, or compute and store them.

    A file that cannot be read back whole is ignored and written anew; a file appears under its
    name only when it is complete, so that runs side by side never see half of one.

    Parameters
    ----------
    name
        Beginning of the file name, for people who look into the folder.
    key
        What the arrays depend on, as JSON can write it: the source files with their size and
        time of change, and the preprocessing.
    compute
        Makes the arrays.

    Returns
    -------
    dict of str to np.ndarray

    Raises
    ------
    UserError
        If ``QDEQ_CACHE`` has a value that means nothing.
    """
    folder = cache_folder()
    if folder is None:
        return compute()
    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    arrays = _read(path, text)
    if arrays is None:
        arrays = compute()
        try:
            _write(path, text, arrays)
        except OSError as error:
            warnings.warn(
                f"features could not be kept in {folder} ({error}); the next run prepares them "
                "again. QDEQ_CACHE=off silences this, or set it to a folder that can be written.",
                stacklevel=2,
            )
    return arrays


def _read(path: Path, key: str) -> dict[str, np.ndarray] | None:
    # A damaged archive raises any of these, depending on the byte that is wrong; the checksum of
    # each member is verified by zipfile.
    damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        # Opened here: `np.load` on a path leaves the file open when the archive is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        return arrays if str(arrays.pop("key")) == key else None
    except damaged:
        return None


def _write(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, key=np.asarray(key), **arrays)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
