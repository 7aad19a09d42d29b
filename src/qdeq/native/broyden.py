"""Broyden's method for one sample's model function as one call; `jax.vmap` makes it a batch."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qdeq.native.evaluate import Kernel, of_one_type
from qdeq.native.library import target


class SolverRun(eqx.Module):
    """How a solve ended, in plain arrays.

    `code` is 0 (out of steps), 1 (converged), 2 (stalled) or 3 (not finite); `steps`, `last`,
    `trace` and `inverse_jacobian` are Broyden's.
    """

    point: Float[Array, " n"]
    residual: Float[Array, ""]
    scale: Float[Array, ""]
    last: Float[Array, " n"]
    trace: Float[Array, " max_steps"]
    inverse_jacobian: Float[Array, "n n"]
    steps: Int[Array, ""]
    code: Int[Array, ""]
    fallback_steps: Int[Array, ""]


def broyden(
    kernel: Kernel,
    operands: Sequence[Array],
    start: Float[Array, " n"],
    *,
    rtol: float | Array,
    atol: float | Array,
    max_steps: int,
    budget: Int[Array, ""] | None = None,
    stall_steps: int | None = None,
    fallback_steps: int = 0,
) -> SolverRun:
    """Solve m = f(m) from `start`; the iterates are those of `qdeq.equilibrium.Broyden`.

    Parameters
    ----------
    kernel, operands
        The model function f and its numbers.
    start
        `(n,)`, float32 or float64 like every operand.
    rtol, atol, max_steps, budget, stall_steps
        As in `qdeq.equilibrium.Equilibrium`.
    fallback_steps
        Steps of `qdeq.equilibrium.Homotopy` for the samples that Broyden's method leaves over.
    """
    (n,), dtype = start.shape, start.dtype

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    whole = jax.ShapeDtypeStruct((), jnp.int32)
    results = (
        array(n),
        array(),
        array(),
        array(n),
        array(max_steps),
        array(n, n),
        whole,
        whole,
        whole,
    )
    call = jax.ffi.ffi_call(
        target(f"qdeq_broyden_{kernel.kind}", dtype), results, vmap_method="expand_dims"
    )
    outputs = call(
        *of_one_type(*operands, start),
        jnp.stack([jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype)]),
        jnp.asarray(max_steps if budget is None else budget, jnp.int32),
        plan=np.array(kernel.plan, np.int64),
        max_steps=max_steps,
        stall_steps=stall_steps or 0,
        fallback_steps=fallback_steps,
    )
    return SolverRun(*outputs)
