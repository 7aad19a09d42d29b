"""Values inside `jax.shard_map`: what JAX's types say of them there, and where that is refused."""

from typing import Any

import jax
from jax.core import Tracer

from qdeq.errors import UserError


def are_present() -> bool:
    """Whether what is computed now is inside of `jax.shard_map`."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def check_types(tree: Any) -> None:
    """Raise `UserError` for arrays whose types say that they vary over devices.

    `jax.shard_map(check_vma=True)` gives them such types, and wants every loop and kernel to do so:
    loops raise, and the gradient of a kernel would lack the sum over devices.
    """
    axes: set[Any] = set()
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Tracer):
            kind = getattr(jax.typeof(leaf), "manual_axis_type", None)
            axes.update(getattr(kind, "varying", ()))
    if axes:
        raise UserError(
            f"inside jax.shard_map values vary over {', '.join(sorted(map(repr, axes)))}: give "
            "jax.shard_map(..., check_vma=False), which solvers and kernels need, and sum "
            "gradients that are taken inside of it with jax.lax.psum"
        )
