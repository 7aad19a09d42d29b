"""(1 + shift) x - J x = b for the Jacobian of a network, by what its wiring allows.

A causal chain is an affine recursion, a chain both ways a block elimination (on CPUs a compiled
kernel), sites apart are small systems of their own: all exact. A causal graph ends its Neumann
series. The system of any other wiring is written out where it is small; else it takes GMRES on
products with J, preconditioned by each site's own block.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from qdeq import native
from qdeq._precision import PRECISION
from qdeq.equilibrium import linear_systems
from qdeq.equilibrium.attach import AbstractAdjoint
from qdeq.equilibrium.dense import robust_inverse
from qdeq.equilibrium.networks.chains import RingFactors, causal_recursion, line_factors
from qdeq.equilibrium.networks.wired import Jacobian
from qdeq.equilibrium.networks.wiring import AbstractWiring, Chain
from qdeq.native.constants import SOLVED

Solve = Callable[[Float[Array, "N q"]], Float[Array, "N q"]]

BOTH_WAYS = ("line", "ring")  # structures of chains both ways

#: Unknowns up to which the system of a graph is written out. Gradients of 32 samples on grids of
#: cells with 6 inputs and 9 states, GMRES and written out, in ms of processor time: 15 and 7 at
#: 54 unknowns, 42 and 28 at 96, 67 and 79 at 150.
LARGEST_WRITTEN_OUT = 128


def is_eliminated(wiring: AbstractWiring, n_states: int, n_inputs: int) -> bool:
    """Whether systems of this wiring, with such cells, are solved exactly, without Krylov steps."""
    unknowns = wiring.n_sites * min(n_states, n_inputs)
    return wiring.structure != "graph" or unknowns <= LARGEST_WRITTEN_OUT


def solver_of(jacobian: Jacobian, shift: Array | float = 0.0) -> Solve:
    """b -> x with (1 + shift) x - J x = b, for a wiring whose systems are solved exactly."""
    scale, wiring = 1 + shift, jacobian.wiring
    if wiring.structure == "apart":
        return _apart(jacobian.blocks()[0], scale)
    if isinstance(wiring, Chain) and wiring.structure == "causal":
        message = jacobian.messages[0]
        return lambda b: causal_recursion(jacobian.slopes / scale, message, b / scale)
    if wiring.structure == "causal":
        return lambda b: _series(lambda x: jacobian.push(x) / scale, b / scale, wiring.depth)
    if _has_kernel(jacobian):
        return _by_kernel(jacobian, scale, transposed=False)
    if not _by_inputs(jacobian):
        return _eliminated(jacobian, shift, transposed=False)
    # J = C W: with u = W x it is (1 + shift) u - W C u = W b, in fewer numbers.
    of_inputs = _eliminated(jacobian, shift, transposed=False)

    def solve(b: Array) -> Array:
        u = of_inputs(jacobian.heard(b))
        return (b + _each(jacobian.slopes, u)) / scale

    return solve


def transposed_solver_of(jacobian: Jacobian) -> Solve:
    """b -> x with x - J' x = b, for the same wirings."""
    wiring, slopes = jacobian.wiring, jacobian.slopes
    if wiring.structure == "apart":
        return _apart(jnp.swapaxes(jacobian.blocks()[0], -1, -2), 1.0)
    if isinstance(wiring, Chain) and wiring.structure == "causal":
        return lambda b: causal_recursion(slopes, jacobian.messages[0], b, transposed=True)
    state = jax.ShapeDtypeStruct(slopes.shape[:2], slopes.dtype)
    if wiring.structure == "causal":
        back = jax.linear_transpose(jacobian.push, state)
        return lambda b: _series(lambda x: back(x)[0], b, wiring.depth)
    if _has_kernel(jacobian):
        return _by_kernel(jacobian, 1.0, transposed=True)
    if not _by_inputs(jacobian):
        return _eliminated(jacobian, 0.0, transposed=True)
    of_inputs = _eliminated(jacobian, 0.0, transposed=True)
    back = jax.linear_transpose(jacobian.heard, state)

    def solve(b: Array) -> Array:
        u = of_inputs(jnp.sum(slopes * b[:, :, None], axis=1))
        return b + back(u)[0]

    return solve


def _has_kernel(jacobian: Jacobian) -> bool:
    """Whether a chain both ways is eliminated by a compiled kernel."""
    _, q, a = jacobian.slopes.shape
    small = min(q, a) <= native.LARGEST_BLOCK
    return jacobian.wiring.structure in BOTH_WAYS and small and native.serves(jacobian.slopes.dtype)


def _by_kernel(
    jacobian: Jacobian, scale: Array | float, *, transposed: bool, refined: bool = False
) -> Solve:
    slopes, messages = jacobian.slopes, jacobian.messages
    return lambda b: native.solve_chain(
        slopes,
        messages,
        b,
        jnp.asarray(scale, slopes.dtype),
        ring=jacobian.wiring.structure == "ring",
        transposed=transposed,
        refined=refined,
    )


def _by_inputs(jacobian: Jacobian) -> bool:
    """Whether a cell has fewer inputs than states: elimination costs the cube of either."""
    return jacobian.slopes.shape[2] < jacobian.slopes.shape[1]


def _eliminated(jacobian: Jacobian, shift: Any, *, transposed: bool) -> Solve:
    """The solution of a chain both ways, or of a small graph, in inputs where they are fewer."""
    by_inputs, structure = _by_inputs(jacobian), jacobian.wiring.structure
    if structure not in BOTH_WAYS:
        matrix = jacobian.matrix_of_inputs() if by_inputs else jacobian.matrix()
        return _written_out(matrix.T if transposed else matrix, 1 + shift)
    blocks = jacobian.blocks_of_inputs() if by_inputs else jacobian.blocks()
    before, after = _turned(blocks) if transposed else blocks
    if structure == "ring":
        return RingFactors.of(before, after, shift).solve
    return line_factors(before, after, shift).solve


def _written_out(matrix: Float[Array, "n n"], scale: Any) -> Solve:
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    inverse, _ = robust_inverse(scale * identity - matrix)
    return lambda b: jnp.matmul(inverse, b.reshape(-1), precision=PRECISION).reshape(b.shape)


def _turned(blocks: Float[Array, "2 N k k"]) -> Float[Array, "2 N k k"]:
    """Before and after of the transposed system of a chain both ways."""
    before, after = jnp.swapaxes(blocks, -1, -2)
    return jnp.stack([jnp.roll(after, 1, axis=0), jnp.roll(before, -1, axis=0)])


def _apart(blocks: Float[Array, "N q q"], scale: Array | float) -> Solve:
    identity = jnp.eye(blocks.shape[-1], dtype=blocks.dtype)
    inverses = jax.vmap(lambda block: robust_inverse(scale * identity - block)[0])(blocks)
    return lambda b: _each(inverses, b)


def _each(blocks: Float[Array, "N q q"], x: Float[Array, "N q"]) -> Float[Array, "N q"]:
    return jnp.sum(blocks * x[:, None, :], axis=-1)


def _series(product: Solve, b: Array, terms: int) -> Array:
    """The first terms of the Neumann series; exact where J to the power of `terms` is 0."""
    return lax.fori_loop(0, terms - 1, lambda _, x: b + product(x), b)


def krylov_step(
    jacobian: Jacobian, shift: Array, right: Float[Array, "N q"], rtol: float
) -> Float[Array, "N q"]:
    """x with |b - (1 + shift) x + J x| <= rtol |b|, or as good as a few cycles of GMRES find."""
    scale = 1 + shift

    def system(x: Array) -> Array:
        return scale * x - jacobian.push(x)

    product = system
    if jacobian.wiring.has_self_loops:  # without them the diagonal is a multiple of the identity
        own = _apart(_own_blocks(jacobian), scale)
        product, right = (lambda x: own(system(x))), own(right)
    gmres = lx.GMRES(rtol=rtol, atol=0.0, restart=20, max_steps=10, stagnation_iters=5)
    # Scaled, so that the smallest residuals keep their digits.
    size = jnp.linalg.norm(right)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    return linear_systems.by_gmres(product, right / size, gmres) * size


def _own_blocks(jacobian: Jacobian) -> Float[Array, "N q q"]:
    """What every site hears of itself."""
    edges, dtype = jacobian.wiring.edges, jacobian.slopes.dtype
    loops = edges.senders == edges.receivers
    weights = np.zeros((len(jacobian.messages), jacobian.wiring.n_sites))
    weights[edges.kinds[loops], edges.receivers[loops]] = 1
    heard = jnp.einsum("rn,raq->naq", jnp.asarray(weights, dtype), jacobian.messages)
    return jnp.matmul(jacobian.slopes, heard, precision="highest")


class Structured(AbstractAdjoint):
    """The implicit function theorem by the wiring: B = (I - J)^-1.

    Exact where the wiring allows elimination, and by a dense matrix on small graphs; else GMRES,
    whose result is checked as `qdeq.equilibrium.Implicit` checks it. Blocks that are not finite
    count as 0 (B = I) for their sample, and `stats.adjoint_residual` tells.

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
        jacobian = fn.linearise(root, x)[1]
        finite = jnp.all(jnp.isfinite(jacobian.slopes))
        slopes = jnp.where(finite, jacobian.slopes, 0)
        jacobian = Jacobian(slopes, jacobian.messages, jacobian.wiring)
        shape = slopes.shape[:2]

        def system(v: Array) -> Array:
            return v - jacobian.push(v.reshape(shape)).reshape(-1)

        if not is_eliminated(jacobian.wiring, *slopes.shape[1:]):

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

        def exactly(transposed: bool) -> Callable[[Callable, Array], Array]:
            def solution(product: Callable[[Array], Array], v: Array) -> Array:
                known = lax.stop_gradient(jacobian)
                if _has_kernel(known):
                    solve = _by_kernel(known, 1.0, transposed=transposed, refined=True)
                    return solve(v.reshape(shape)).reshape(-1)
                solve = (transposed_solver_of if transposed else solver_of)(known)
                flat = lambda v: solve(v.reshape(shape)).reshape(-1)  # noqa: E731
                structure = jacobian.wiring.structure
                if structure == "causal":  # substitution: nothing is inverted
                    return flat(v)
                return _refined(flat, product, v, always=structure not in BOTH_WAYS)

            return solution

        return lambda v: lax.custom_linear_solve(
            system, v, exactly(False), transpose_solve=exactly(True)
        )


def _refined(
    solve: Callable[[Array], Array], product: Callable[[Array], Array], v: Array, *, always: bool
) -> Array:
    """`solve(v)`, and once more for what that leaves over: elimination pivots within a block only.

    Where it is more than rounding, as the kernel does, or always.
    """
    x = solve(v)
    left = v - product(x)

    def again(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, x, left = now
        change = solve(left)
        x = x + jnp.where(jnp.all(jnp.isfinite(change)), change, 0)
        return jnp.asarray(False), x, left

    if always:
        return again((jnp.asarray(True), x, left))[1]
    most, given = jnp.max(jnp.abs(left)), jnp.max(jnp.abs(v))  # NaN would not be mended anyway
    needed = most > SOLVED * jnp.finfo(v.dtype).eps * given
    return lax.while_loop(lambda now: now[0], again, (needed, x, left))[1]
