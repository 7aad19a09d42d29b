"""Where compiled programs live: in memory, one for everything that is equal, and on disk.

A program is looked up by what it is a function of (`compiled`): the function, its settings, the
structure and the shapes of its arguments. Nothing else knows that programs are kept.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import PyTree

from qdeq import native
from qdeq._folders import cache_folder, private_folder
from qdeq.training.parallel import Layout

_PROGRAMS = 64  # a training program holds about 2 MiB

_lock = threading.RLock()


@dataclass(frozen=True)
class Structure:
    """A pytree that can be compared and hashed: one without arrays, or of shapes."""

    leaves: tuple[Hashable, ...]
    treedef: Any

    @classmethod
    def of(cls, tree: PyTree) -> "Structure":
        """Of a pytree whose leaves and static fields are hashable."""
        leaves, treedef = jax.tree.flatten(tree)
        return cls(tuple(leaves), treedef)

    @classmethod
    def of_shapes(cls, tree: PyTree) -> "Structure":
        """The shapes and types of a pytree of arrays."""
        return cls.of(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree))

    @property
    def tree(self) -> PyTree:
        """The pytree."""
        return jax.tree.unflatten(self.treedef, self.leaves)


def compiled(
    function: Callable[..., tuple[PyTree, ...]],
    settings: tuple[Hashable, ...],
    layout: Layout,
    arguments: Sequence[PyTree],
    *,
    split_arguments: Sequence[bool] | None = None,
    split_results: Sequence[bool],
) -> Callable[..., tuple[PyTree, ...]]:
    """The program of `function(*settings, state, *shared)` for all seeds of a layout.

    The last 64 are kept. Of several threads that ask for the same one, one compiles it.

    Parameters
    ----------
    function
        Of a module, so that it is the same one in every call.
    settings
        What it is specialised to.
    layout, arguments, split_arguments, split_results
        See `Layout.compile`; of the arguments only structure, shapes and types are looked at.
    """
    with _lock:
        return _compiled(
            function,
            settings,
            layout,
            tuple(Structure.of_shapes(argument) for argument in arguments),
            None if split_arguments is None else tuple(split_arguments),
            tuple(split_results),
            _surroundings(),
        )


@functools.lru_cache(maxsize=_PROGRAMS)
def _compiled(
    function: Callable[..., tuple[PyTree, ...]],
    settings: tuple[Hashable, ...],
    layout: Layout,
    shapes: tuple[Structure, ...],
    split_arguments: tuple[bool, ...] | None,
    split_results: tuple[bool, ...],
    surroundings: tuple[Hashable, ...],
) -> Callable[..., tuple[PyTree, ...]]:
    del surroundings
    with kept_on_disk():
        return layout.compile(
            functools.partial(function, *settings),
            [shape.tree for shape in shapes],
            split_arguments=split_arguments,
            split_results=split_results,
        )


def _surroundings() -> tuple[Hashable, ...]:
    """What tracing and compiling depend on beside their arguments."""
    config: Any = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_device,
        jax.default_backend(),
        native.serves(jnp.float32),
    )


@contextlib.contextmanager
def kept_on_disk() -> Iterator[None]:
    """Keep what is compiled inside in the user's cache folder, and take it from there.

    The folder is the one that the `qdeq` command keeps programs in (`cli/compilation.py`);
    `QDEQ_CACHE=off` keeps nothing. JAX's own setting wins where there is one, and is as it was
    afterwards: what else a process compiles is not ours to keep.

    Raises
    ------
    UserError
        If `QDEQ_CACHE` has a value that means nothing.
    """
    folder = cache_folder()
    config: Any = jax.config
    decided = config.jax_compilation_cache_dir is not None
    place = None if folder is None or decided else _place(folder / "xla")
    if place is None:
        yield
        return
    wanted = {
        "jax_compilation_cache_dir": str(place),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _lock:
        before = {name: getattr(config, name) for name in wanted}
        try:
            _configure(wanted)
            yield
        finally:
            _configure(before)


def _place(folder: Path) -> Path | None:
    """The folder, where it can be written, by nobody else: JAX runs what it finds there."""
    try:
        kept = private_folder(folder)
    except OSError:
        return None
    return kept if os.access(kept, os.W_OK) else None  # else JAX warns at every program


def _configure(values: dict[str, Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    # JAX decides once in a process whether it keeps programs, and where.
    compilation_cache.reset_cache()
