"""Fused gates: a circuit lowered to a few small unitaries, each on a handful of wires.

Every parametrised gate is `constant + cos(scale t) cosine + sin(scale t) sine`, so all gates of a
circuit come out of one stacked formula, gates that share wires multiply into one block, and fixed
gates fold into a neighbour before JAX sees them. Applying the blocks lives in `statevector.py`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._gather import products_of_entries
from qdeq._precision import PRECISION
from qdeq.circuits import GATES, Circuit, Gate, Operation
from qdeq.circuits.operation import AngleSource


@dataclass(frozen=True, eq=False)
class Factor:
    """One matrix `constant + cos(scale * angle) cosine + sin(scale * angle) sine` on some wires.

    `source` is the index of its angle in `concatenate([theta, features])`; several indices are the
    product of these entries, none a fixed matrix. What an operation multiplies its angle with is
    part of `scale`, and what it adds is part of the matrices: neither costs anything at run time.
    """

    wires: tuple[int, ...]
    constant: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    scale: float
    source: tuple[int, ...]


AnyFactor = TypeVar("AnyFactor")


@dataclass(frozen=True, eq=False)
class Block(Generic[AnyFactor]):
    """Factors on the same few wires, in time order: together one unitary (or one noisy map)."""

    wires: tuple[int, ...]
    factors: tuple[AnyFactor, ...]


@functools.lru_cache(maxsize=256)
def fuse(circuit: Circuit, max_wires: int) -> tuple[Block[Factor], ...]:
    """Merge the operations of `circuit` into blocks of at most `max_wires` wires.

    Blocks merge only where the order of operations that share a wire stays. Feature-fed operations
    take their angle from the features, which follow the `circuit.n_parameters` angles.

    Parameters
    ----------
    circuit
        What to lower.
    max_wires
        The largest block; an operation on more wires keeps a block of its own.

    Returns
    -------
    tuple of Block
        In time order.
    """
    blocks = [
        Block(factor.wires, (factor,))
        for operation in circuit.operations
        for factor in factors_of(operation, circuit.n_parameters)
    ]
    blocks = merge_up_to(blocks, max_wires)
    return tuple(Block(b.wires, _fold(b.factors, b.wires)) for b in blocks)


def block_matrices(blocks: Sequence[Block[Factor]], angles: jax.Array) -> list[jax.Array]:
    """The unitary of every block.

    Parameters
    ----------
    blocks
        From `fuse`.
    angles
        `(P + d,)` radians: theta, then the features if the circuit is fed by any.

    Returns
    -------
    list of Array
        `(2**k, 2**k)` complex, one per block, first wire of the block most significant.
    """
    return by_size(blocks, lambda chosen: _products(chosen, angles))


def complex_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The complex dtype of a real dtype's precision."""
    return jnp.result_type(dtype, jnp.complex64)


def embed(matrix: np.ndarray, wires: Sequence[int], block_wires: Sequence[int]) -> np.ndarray:
    """`matrix` on `wires` as a matrix on `block_wires`, identity on the others."""
    k, n = len(wires), len(block_wires)
    positions = [block_wires.index(wire) for wire in wires]
    rest = [p for p in range(n) if p not in positions]
    full = np.kron(matrix, np.eye(2 ** (n - k))).reshape((2,) * (2 * n))
    order = [*positions, *rest]
    inverse = [order.index(p) for p in range(n)]
    return full.transpose([*inverse, *(n + i for i in inverse)]).reshape(2**n, 2**n)


def factors_of(operation: Operation, n_parameters: int) -> list[Factor]:
    """An operation as factors: itself, or the three of a U3."""
    if operation.matrix is not None:
        return [_fixed(operation.wires, np.asarray(operation.matrix, dtype=complex))]
    gate = GATES[operation.name]
    if operation.angle is not None:
        return [_fixed(operation.wires, gate.matrix(operation.angle))]
    if gate.n_parameters == 0:
        return [_fixed(operation.wires, gate.matrix())]
    sources, parts = operation.sources, gate.factors or ((gate.name, 0),)
    return [
        _turned(operation.wires, GATES[name], sources[position], n_parameters)
        for name, position in parts
    ]


def _turned(wires: tuple[int, ...], gate: Gate, source: AngleSource, n_parameters: int) -> Factor:
    """A gate with one angle; the source's offset turns its cosine and sine into each other."""
    cosine, sine = gate.cosine, gate.sine
    assert cosine is not None and sine is not None, "a parametrised gate has both parts"
    first = n_parameters if source.kind == "feature" else 0
    if source.offset:
        c, s = np.cos(gate.scale * source.offset), np.sin(gate.scale * source.offset)
        cosine, sine = c * cosine + s * sine, c * sine - s * cosine
    indices = tuple(first + i for i in source.indices)
    return Factor(wires, gate.constant, cosine, sine, gate.scale * source.factor, indices)


def _fixed(wires: tuple[int, ...], matrix: np.ndarray) -> Factor:
    return Factor(wires, matrix, 0 * matrix, 0 * matrix, 0.0, ())


def merge_up_to(blocks: Sequence[Block[AnyFactor]], max_wires: int) -> list[Block[AnyFactor]]:
    """Merge blocks in time order into blocks of at most so many wires."""
    merged = list(blocks)
    # Small blocks first: single-wire runs, then pairs, before anything larger swallows wires.
    for size in range(1, max_wires + 1):
        merged = _merge(merged, size)
    return merged


def by_size(
    blocks: Sequence[Block[AnyFactor]],
    matrices_of: Callable[[list[Block[AnyFactor]]], jax.Array],
) -> list[jax.Array]:
    """A matrix per block; `matrices_of` makes those of all blocks on `k` wires, `(blocks, ...)`.

    It gets the blocks with the most factors first.
    """
    matrices: list[jax.Array] = [jnp.zeros(())] * len(blocks)
    for size in sorted({len(block.wires) for block in blocks}):
        chosen = [i for i, block in enumerate(blocks) if len(block.wires) == size]
        chosen.sort(key=lambda i: -len(blocks[i].factors))
        stacked = matrices_of([blocks[i] for i in chosen])
        for position, i in enumerate(chosen):
            matrices[i] = stacked[position]
    return matrices


def _merge(blocks: Sequence[Block[AnyFactor]], max_wires: int) -> list[Block[AnyFactor]]:
    """One pass over the blocks in time order, each joining the latest block before it if it can."""
    merged: list[Block[AnyFactor] | None] = []  # None: moved into a later block
    last: dict[int, int] = {}  # wire -> position of the latest block on it

    def fits(a: Block, b: Block) -> bool:
        wires = set(a.wires) | set(b.wires)
        return len(wires) <= max(max_wires, len(a.wires), len(b.wires))

    def join(a: Block[AnyFactor], b: Block[AnyFactor]) -> Block[AnyFactor]:
        return Block(tuple(sorted(set(a.wires) | set(b.wires))), a.factors + b.factors)

    for block in blocks:
        moved = set(block.wires)
        before = {last[wire] for wire in block.wires if wire in last}
        # Every other block on these wires is earlier than the latest one: joining that one keeps
        # the order of all operations that share a wire.
        position = max(before, default=None)
        target = merged[position] if position is not None else None
        if position is not None and target is not None and fits(target, block):
            block = join(target, block)
        else:
            position = len(merged)
            merged.append(None)
        # An earlier block that nothing has followed may move forward into this one.
        for other in sorted(before - {position}, reverse=True):
            candidate = merged[other]
            assert candidate is not None
            untouched = all(last[wire] == other for wire in candidate.wires)
            if untouched and fits(candidate, block):
                block = join(candidate, block)
                moved |= set(candidate.wires)
                merged[other] = None
        merged[position] = block
        # Only these: a later block may act on the other wires of the block just joined.
        last.update(dict.fromkeys(moved, position))
    return [block for block in merged if block is not None]


def _fold(factors: Sequence[Factor], wires: tuple[int, ...]) -> tuple[Factor, ...]:
    """Factors embedded in the block's wires, fixed ones multiplied into a neighbour."""
    folded: list[Factor] = []
    pending = np.eye(2 ** len(wires), dtype=complex)  # fixed gates that wait for a parametrised one
    for factor in factors:
        c0, c1, c2 = (
            embed(m, factor.wires, wires) for m in (factor.constant, factor.cosine, factor.sine)
        )
        if not factor.source:
            pending = c0 @ pending
        else:
            folded.append(
                Factor(wires, c0 @ pending, c1 @ pending, c2 @ pending, factor.scale, factor.source)
            )
            pending = np.eye(2 ** len(wires), dtype=complex)
    if not folded:
        return (_fixed(wires, pending),)
    last = folded[-1]
    folded[-1] = Factor(
        wires,
        pending @ last.constant,
        pending @ last.cosine,
        pending @ last.sine,
        last.scale,
        last.source,
    )
    return tuple(folded)


def _products(blocks: Sequence[Block[Factor]], angles: jax.Array) -> jax.Array:
    """Unitaries of blocks of one size, those with the most factors first."""
    factors, counts = by_position(blocks)
    dtype = complex_dtype(angles.dtype)
    matrices = jnp.asarray(np.stack([factor.constant for factor in factors]), dtype)
    if angles.shape[0]:
        turned = products_of_entries([factor.source for factor in factors], angles)
        scale = np.array([factor.scale for factor in factors])
        scaled = (turned * jnp.asarray(scale, angles.dtype))[:, None, None]
        cosine = jnp.asarray(np.stack([factor.cosine for factor in factors]), dtype)
        sine = jnp.asarray(np.stack([factor.sine for factor in factors]), dtype)
        matrices = matrices + jnp.cos(scaled) * cosine + jnp.sin(scaled) * sine
    return tree_product(matrices, counts)


def by_position(blocks: Sequence[Block[AnyFactor]]) -> tuple[list[AnyFactor], list[int]]:
    """The first factors of all blocks, the second ones of those that have two, and so on.

    Returns
    -------
    factors, counts
        In this order, and how many each position has; blocks come with the most factors first, so
        that those with a factor at some position are the first ones.
    """
    length = len(blocks[0].factors)
    columns = [[b.factors[p] for b in blocks if len(b.factors) > p] for p in range(length)]
    return [factor for column in columns for factor in column], [len(c) for c in columns]


def tree_product(matrices: jax.Array, counts: Sequence[int]) -> jax.Array:
    """Products over the factors of every block, in log2 batched products.

    Parameters
    ----------
    matrices
        `(factors, n, n)`, ordered by `by_position`.
    counts
        From there.

    Returns
    -------
    Array
        `(blocks, n, n)`; the last factor acts last.
    """
    columns = jnp.split(matrices, np.cumsum(counts)[:-1])
    while len(columns) > 1:
        pairs = list(zip(columns[0::2], columns[1::2], strict=False))
        joined = jnp.matmul(
            jnp.concatenate([later for _, later in pairs]),
            jnp.concatenate([earlier[: len(later)] for earlier, later in pairs]),
            precision=PRECISION,
        )
        products = jnp.split(joined, np.cumsum([len(later) for _, later in pairs])[:-1])
        # Blocks that end with the earlier factor keep it.
        ended = [earlier[len(later) :] for earlier, later in pairs]
        odd = columns[2 * len(pairs) :]
        columns = [jnp.concatenate(both) for both in zip(products, ended, strict=True)] + odd
    return columns[0]
