"""Pooled features kept between runs, so that training starts at once.

Decoding 70,000 PNG images takes seconds, reading their pooled features back takes milliseconds.
One file per source and grid lies in ``$XDG_CACHE_HOME/qdeq`` (``~/.cache/qdeq`` without that
variable) and may be deleted at any time. ``QDEQ_CACHE=off`` switches the cache off; an absolute
path in ``QDEQ_CACHE`` is the folder to use instead.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from qdeq._folders import cache_folder, private_folder, say_once
from qdeq._kept import intact, keep

# Raise when the preprocessing changes meaning, so that features of older versions are not used.
_FORMAT = 1


def cached_arrays(
    name: str, key: Mapping[str, object], compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the arrays stored under `key`, or compute and store them.

    A file that does not read back as it was written is ignored and written anew; so is what
    another user could have written (`qdeq._folders.private_folder`).

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
    stem = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    failure: OSError | None = None
    try:
        folder = private_folder(folder)
        if (arrays := _read(intact(folder, stem, ".npz"), text)) is not None:
            return arrays
    except OSError as error:
        failure = error
    arrays = compute()
    try:
        if failure is None:
            _write(folder, stem, text, arrays)
    except OSError as error:
        failure = error
    if failure is not None:
        say_once(
            f"features could not be kept in {folder} ({failure}); the next run prepares them "
            "again. QDEQ_CACHE=off silences this, or set it to a folder of your own."
        )
    return arrays


def _read(path: Path | None, key: str) -> dict[str, np.ndarray] | None:
    if path is None:
        return None
    try:
        # Opened here: `np.load` on a path leaves the file open when it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        return arrays if str(arrays.pop("key")) == key else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # another version's, or replaced
        return None


def _write(folder: Path, stem: str, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        fresh = Path(scratch) / "arrays.npz"
        np.savez(fresh, allow_pickle=False, key=np.asarray(key), **arrays)
        keep(fresh, folder, stem, ".npz")
