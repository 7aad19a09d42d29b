"""Pytrees of arrays to safetensors files and back; nothing here knows what the arrays mean.

safetensors holds named arrays and a little text, and cannot run code when it is read.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from qdeq.errors import UserError

Tree = TypeVar("Tree")

# The ends of names as they are, and as files of version 0.1 have them.
_FORMER = {".injection.state": ".reinjection"}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a later process after a crash, sees all of it or none.

    Raises
    ------
    UserError
        When the folder cannot be written.
    """
    # Of two processes that write the same file the last one's is there, whole.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # half a file, where room is short
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path} ({error.strerror}): free some space or choose another run folder"
        ) from error


def tree_to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Copy every array of a pytree to the host, named by its path such as `model.theta`.

    The copies own their memory, so they outlive a donated or deleted device buffer.
    """
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]
    return {_name(path): np.array(leaf, order="C") for path, leaf in leaves}


def arrays_to_tree(template: Tree, arrays: Mapping[str, np.ndarray], *, source: Path) -> Tree:
    """Return `template` with every array replaced by the one of the same name.

    Parameters
    ----------
    template
        A pytree with the wanted structure, shapes and dtypes.
    arrays
        What `tree_to_arrays` returned for such a pytree.
    source
        The file that the arrays come from, for the error message.

    Raises
    ------
    UserError
        When a name is missing or unknown, or a shape or dtype differs.
    """
    dynamic, static = eqx.partition(template, eqx.is_array)
    leaves, structure = jax.tree_util.tree_flatten_with_path(dynamic)
    arrays = _renamed(arrays, [_name(path) for path, _ in leaves])
    advice = "it belongs to another configuration or version; restore the file or train again"
    differing = {_name(path) for path, _ in leaves} ^ set(arrays)
    if differing:
        raise UserError(f"{source} does not fit this run at {min(differing)}: {advice}")
    restored = []
    for path, leaf in leaves:
        array = arrays[_name(path)]
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise UserError(
                f"{source} holds {_name(path)} as {array.dtype}{list(array.shape)} where this run "
                f"has {leaf.dtype}{list(leaf.shape)}: {advice}"
            )
        restored.append(jnp.asarray(array))
    return eqx.combine(jax.tree_util.tree_unflatten(structure, restored), static)


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], *, metadata: Mapping[str, str]
) -> None:
    """Write named arrays and text metadata as one safetensors file, atomically."""
    # safetensors writes memory as it lies, also that of a transposed array.
    in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_atomically(path, safetensors.numpy.save(in_order, metadata=dict(metadata)))


def read_arrays(path: Path, *, kind: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what `write_arrays` wrote.

    Parameters
    ----------
    path
        The file.
    kind
        Value that the metadata must have under `format`.

    Raises
    ------
    UserError
        When the file is missing, damaged, or of another kind.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: restore it or train again") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it or train again") from error
    if metadata.get("format") != kind:
        raise UserError(
            f"{path} has format {metadata.get('format')!r} where {kind!r} is expected: it was "
            "written by another program or version of qdeq; restore it or train again"
        )
    return arrays, metadata


def _renamed(arrays: Mapping[str, np.ndarray], wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays, with the wanted names that they lack where they have them as they once were."""
    found = dict(arrays)
    for name in wanted:
        for end, former in _FORMER.items():
            before = name.removesuffix(end) + former
            if name.endswith(end) and name not in found and before in found:
                found[name] = found.pop(before)
    return found


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
