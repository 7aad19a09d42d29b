"""(1 + shift) x - J x = b for the Jacobian of a network, by what its wiring allows.

A causal chain is an affine recursion, a chain both ways a block elimination, sites apart are small
systems of their own: all exact. A causal graph ends its Neumann series. Any other wiring takes
GMRES on products with J, preconditioned by each site's own block.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from qdeq.equilibrium import linear_systems
from qdeq.equilibrium.attach import AbstractAdjoint
from qdeq.equilibrium.dense import robust_inverse
from qdeq.equilibrium.networks.chains import LineFactors, RingFactors, affine_recursion
from qdeq.equilibrium.networks.wired import push
from qdeq.equilibrium.networks.wiring import AbstractWiring, Chain

Blocks = Float[Array, "kinds N q q"]
Solve = Callable[[Float[Array, "N q"]], Float[Array, "N q"]]


def is_eliminated(wiring: AbstractWiring) -> bool:
    """Whether systems of this wiring are solved exactly, without Krylov steps."""
    return wiring.structure != "graph"


def solver_of(wiring: AbstractWiring, blocks: Blocks, shift: Array | float = 0.0) -> Solve:
    """b -> x with (1 + shift) x - J x = b, for a wiring whose systems are solved exactly."""
    scale = 1 + shift
    if wiring.structure == "apart":
        identity = jnp.eye(blocks.shape[-1], dtype=blocks.dtype)
        inverses = jax.vmap(lambda b: robust_inverse(scale * identity - b)[0])(blocks[0])
        return lambda b: _each(inverses, b)
    if isinstance(wiring, Chain) and wiring.structure == "causal":
        return lambda b: affine_recursion(blocks[0] / scale, b / scale)
    if wiring.structure == "causal":
        return lambda b: _series(lambda x: push(wiring, blocks, x) / scale, b / scale, wiring.depth)
    factors = RingFactors if wiring.structure == "ring" else LineFactors
    return factors.of(blocks[0], blocks[1], shift).solve


def transposed_solver_of(wiring: AbstractWiring, blocks: Blocks) -> Solve:
    """b -> x with x - J' x = b, for the same wirings."""
    turned = jnp.swapaxes(blocks, -1, -2)
    if wiring.structure == "apart":
        return solver_of(wiring, turned)
    if isinstance(wiring, Chain) and wiring.structure == "causal":
        # What i tells i + 1 comes back from there.
        later = jnp.concatenate([turned[0, 1:], jnp.zeros_like(turned[0, :1])])
        return lambda b: affine_recursion(later, b, reverse=True)
    if wiring.structure == "causal":
        back = jax.linear_transpose(
            lambda x: push(wiring, blocks, x),
            jax.ShapeDtypeStruct((blocks.shape[1], blocks.shape[-1]), blocks.dtype),
        )
        return lambda b: _series(lambda x: back(x)[0], b, wiring.depth)
    before = jnp.roll(turned[1], 1, axis=0)
    after = jnp.roll(turned[0], -1, axis=0)
    factors = RingFactors if wiring.structure == "ring" else LineFactors
    return factors.of(before, after, 0.0).solve


def _each(blocks: Float[Array, "N q q"], x: Float[Array, "N q"]) -> Float[Array, "N q"]:
    return jnp.sum(blocks * x[:, None, :], axis=-1)


def _series(product: Solve, b: Array, terms: int) -> Array:
    """The first terms of the Neumann series; exact where J to the power of `terms` is 0."""
    return lax.fori_loop(0, terms - 1, lambda _, x: b + product(x), b)


def krylov_step(
    wiring: AbstractWiring, blocks: Blocks, shift: Array, right: Float[Array, "N q"], rtol: float
) -> Float[Array, "N q"]:
    """x with |b - (1 + shift) x + J x| <= rtol |b|, or as good as a few cycles of GMRES find."""
    scale = 1 + shift

    def system(x: Array) -> Array:
        return scale * x - push(wiring, blocks, x)

    if wiring.has_self_loops:
        own = _own_blocks(wiring, blocks)
        identity = jnp.eye(own.shape[-1], dtype=own.dtype)
        inverses = jax.vmap(lambda b: robust_inverse(scale * identity - b)[0])(own)
        product, right = (lambda x: _each(inverses, system(x))), _each(inverses, right)
    else:  # the diagonal is that of a multiple of the identity
        product = system
    operator = lx.FunctionLinearOperator(product, jax.ShapeDtypeStruct(right.shape, right.dtype))
    gmres = lx.GMRES(rtol=rtol, atol=0.0, restart=20, max_steps=10, stagnation_iters=5)
    # Scaled, so that the smallest residuals keep their digits.
    size = jnp.linalg.norm(right)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    return lx.linear_solve(operator, right / size, gmres, throw=False).value * size


def _own_blocks(wiring: AbstractWiring, blocks: Blocks) -> Float[Array, "N q q"]:
    """What every site hears of itself."""
    edges = wiring.edges
    loops = edges.senders == edges.receivers
    weights = np.zeros(blocks.shape[:2])
    weights[edges.kinds[loops], edges.receivers[loops]] = 1
    return jnp.sum(blocks * jnp.asarray(weights, blocks.dtype)[:, :, None, None], axis=0)


class Structured(AbstractAdjoint):
    """The implicit function theorem by the wiring: B = (I - J)^-1, without a matrix of N q rows.

    Exact where the wiring allows elimination; else GMRES, whose result is checked as
    `qdeq.equilibrium.Implicit` checks it. Blocks that are not finite count as 0 (B = I) for their
    sample, and `stats.adjoint_residual` tells.

    Parameters
    ----------
    rtol
        Of GMRES; None for as good as the dtype allows.
    max_steps
        Of each cycle of GMRES.
    """

    rtol: float | None = None
    max_steps: int = 200

    def operator(self, fn: Any, root: Array, x: Any, memory: Any) -> Callable[[Array], Array]:
        """v -> (I - J)^-1 v; `fn` is a `FlatNetwork`."""
        del memory
        wiring = fn.wired.wiring
        blocks = fn.linearise(root, x)[1]
        blocks = jnp.where(jnp.all(jnp.isfinite(blocks)), blocks, 0)
        shape = blocks.shape[1], blocks.shape[-1]

        def system(v: Array) -> Array:
            return v - push(wiring, blocks, v.reshape(shape)).reshape(-1)

        if not is_eliminated(wiring):

            def solution(product: Callable[[Array], Array], v: Array) -> Array:
                return linear_systems.solve(
                    product,
                    v,
                    rtol=self.rtol,
                    atol=None,
                    max_steps=self.max_steps,
                    largest_dense=0,
                )

            return lambda v: lax.custom_linear_solve(system, v, solution, transpose_solve=solution)

        def exactly(make: Callable[..., Solve]) -> Callable[[Callable, Array], Array]:
            def solution(product: Callable[[Array], Array], v: Array) -> Array:
                solve = make(wiring, lax.stop_gradient(blocks))
                x = solve(v.reshape(shape)).reshape(-1)
                # Once more on what is left over: elimination pivots within a block only.
                change = solve((v - product(x)).reshape(shape)).reshape(-1)
                return x + jnp.where(jnp.all(jnp.isfinite(change)), change, 0)

            return solution

        return lambda v: lax.custom_linear_solve(
            system, v, exactly(solver_of), transpose_solve=exactly(transposed_solver_of)
        )
