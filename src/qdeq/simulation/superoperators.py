"""Noisy operations as real matrices on Pauli components, fused into blocks like unitaries.

A state of k wires is its Pauli vector r_i = tr(P_i rho) and an observable its coefficients c_i in
sum c_i P_i, with i over I, X, Y, Z of every wire, wire 0 most significant. A gate or channel E is
the matrix R_ij = tr(P_i E(P_j)) / 2**k (its Pauli transfer matrix): states go forwards, r' = R r,
observables backwards, c' = R^T c. All of it is real. Applying blocks to a whole register lives in
`density` and `heisenberg`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._gather import products_of_entries
from qdeq.circuits import GATES, Circuit, NoiseModel
from qdeq.errors import UserError
from qdeq.simulation.fusion import (
    Block,
    Factor,
    by_position,
    by_size,
    factors_of,
    merge_up_to,
    tree_product,
)

LARGEST = 2**28
"""Most numbers of one noisy simulation: 1 GiB in float32, of which a few live at once."""

PAULIS = np.stack([GATES[letter].constant for letter in "IXYZ"])
"""`(4, 2, 2)`: the matrices of I, X, Y, Z."""


@dataclass(frozen=True, eq=False)
class Turn:
    """The transfer matrix of one gate or channel, as a function of the one angle it may have.

    With a = scale * angle it is parts[0] + cos(a) parts[1] + sin(a) parts[2] + cos(2 a) parts[3]
    + sin(2 a) parts[4], each `(4**k, 4**k)` real. `source` is as in `fusion.Factor`;
    where it is empty the matrix is parts[0].
    """

    wires: tuple[int, ...]
    parts: np.ndarray
    scale: float
    source: tuple[int, ...]


def transfer_matrix(kraus: Sequence[np.ndarray]) -> np.ndarray:
    """The Pauli transfer matrix of a channel.

    Parameters
    ----------
    kraus
        Kraus operators, `(2**k, 2**k)` each; a unitary matrix is a channel with one.

    Returns
    -------
    ndarray
        `(4**k, 4**k)` float64; the first row is (1, 0, ..., 0) if the trace is kept.

    References
    ----------
    Greenbaum, Introduction to Quantum Gate Set Tomography, arXiv 1509.02921.

    Examples
    --------
    >>> transfer_matrix([GATES["S"].matrix()]).round(12) + 0
    array([[ 1.,  0.,  0.,  0.],
           [ 0.,  0., -1.,  0.],
           [ 0.,  1.,  0.,  0.],
           [ 0.,  0.,  0.,  1.]])
    """
    return np.sum([_bilinear(k, k) for k in kraus], axis=0).real


def _bilinear(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """tr(P_i left P_j right^dagger) / 2**k for all Pauli strings of k wires."""
    size = len(left)
    paulis = pauli_strings(size.bit_length() - 1)
    moved = np.einsum("ab,jbc,dc->jad", left, paulis, right.conj(), optimize=True)
    flat = paulis.transpose(0, 2, 1).reshape(len(paulis), -1)
    return flat @ moved.reshape(len(paulis), -1).T / size


@functools.lru_cache(maxsize=8)
def pauli_strings(n_wires: int) -> np.ndarray:
    """`(4**k, 2**k, 2**k)` complex: every Pauli string of k wires, the first most significant."""
    strings = np.ones((1, 1, 1), dtype=complex)
    for _ in range(n_wires):
        strings = np.einsum("iab,jcd->ijacbd", strings, PAULIS).reshape(
            4 * len(strings), 2 * strings.shape[1], 2 * strings.shape[2]
        )
    return strings


def transfer_block_size(n_qubits: int) -> int:
    """Wires per fused block: a block of k wires is a `(4**k, 4**k)` matrix.

    Measured on one core at 10 qubits, value and gradient of all pulled-back observables: 943 and
    780 ms of processor time with blocks of 2 and 3 wires under amplitude encoding, 640 and 243 ms
    under angle encoding; small registers gain nothing.
    """
    return 2 if n_qubits < 8 else 3


@functools.lru_cache(maxsize=256)
def fuse_noisy(
    circuit: Circuit, noise: NoiseModel | None, max_wires: int | None = None
) -> tuple[Block[Turn], ...]:
    """Every operation of `circuit` and the channels after it, merged into blocks of a few wires.

    Channels fold into the gates beside them, so that noise adds no blocks. Angles are numbered as
    in `fusion.fuse`.

    Parameters
    ----------
    circuit
        What to lower.
    noise
        What follows its operations; None is nothing.
    max_wires
        The largest block, `transfer_block_size` when None; an operation on more wires keeps a block
        of its own.

    Returns
    -------
    tuple of Block
        In time order.
    """
    turns: list[Turn] = []
    for operation in circuit.operations:
        turns += [_turn(factor) for factor in factors_of(operation, circuit.n_parameters)]
        for channel, wires in noise.channels_after(operation) if noise else ():
            turns.append(_fixed(wires, transfer_matrix(channel.kraus())))
    blocks = [Block(turn.wires, (turn,)) for turn in turns]
    blocks = merge_up_to(blocks, max_wires or transfer_block_size(circuit.n_qubits))
    return tuple(Block(b.wires, _fold(b.factors, b.wires)) for b in blocks)


def transfer_matrices(blocks: Sequence[Block[Turn]], angles: jax.Array) -> list[jax.Array]:
    """The transfer matrix of every block.

    Parameters
    ----------
    blocks
        From `fuse_noisy`.
    angles
        `(P + d,)` radians: theta, then the features if the circuit is fed by any.

    Returns
    -------
    list of Array
        `(4**k, 4**k)` real, one per block, first wire of the block most significant.
    """
    return by_size(blocks, lambda chosen: _products(chosen, angles))


def check_size(numbers: int, what: str) -> None:
    """Raise `UserError` where a noisy evaluation would hold more than `LARGEST` numbers."""
    if numbers > LARGEST:
        raise UserError(
            f"noise on {what} needs {numbers:.1e} numbers at once and {LARGEST:.1e} are allowed: "
            "use fewer qubits or observables, a shallower circuit, or noise=None"
        )


def _turn(factor: Factor) -> Turn:
    """A unitary C0 + cos(a) C1 + sin(a) C2 as a transfer matrix, by products of cosine and sine."""
    pieces = (factor.constant, factor.cosine, factor.sine)
    if not factor.source:
        return _fixed(factor.wires, transfer_matrix([factor.constant]))
    t = {(i, j): _bilinear(pieces[i], pieces[j]) for i in range(3) for j in range(3)}
    parts = np.stack(
        [
            t[0, 0] + (t[1, 1] + t[2, 2]) / 2,
            t[0, 1] + t[1, 0],
            t[0, 2] + t[2, 0],
            (t[1, 1] - t[2, 2]) / 2,
            (t[1, 2] + t[2, 1]) / 2,
        ]
    ).real
    return Turn(factor.wires, parts, factor.scale, factor.source)


def _fixed(wires: tuple[int, ...], matrix: np.ndarray) -> Turn:
    return Turn(wires, np.stack([matrix, *[np.zeros_like(matrix)] * 4]), 0.0, ())


def _embed(parts: np.ndarray, wires: Sequence[int], block_wires: Sequence[int]) -> np.ndarray:
    """Matrices on `wires` as matrices on `block_wires`, identity on the others."""
    k, n = len(wires), len(block_wires)
    positions = [block_wires.index(wire) for wire in wires]
    order = [*positions, *(p for p in range(n) if p not in positions)]
    inverse = [order.index(p) for p in range(n)]
    full = np.stack([np.kron(part, np.eye(4 ** (n - k))) for part in parts])
    full = full.reshape((len(parts),) + (4,) * (2 * n))
    axes = [0, *(1 + i for i in inverse), *(1 + n + i for i in inverse)]
    return full.transpose(axes).reshape(len(parts), 4**n, 4**n)


def _fold(turns: Sequence[Turn], wires: tuple[int, ...]) -> tuple[Turn, ...]:
    """Turns embedded in the block's wires, fixed ones multiplied into a neighbour."""
    folded: list[Turn] = []
    pending = np.eye(4 ** len(wires))  # fixed matrices that wait for one with an angle
    for turn in turns:
        parts = _embed(turn.parts, turn.wires, wires)
        if not turn.source:
            pending = parts[0] @ pending
        else:
            folded.append(Turn(wires, parts @ pending, turn.scale, turn.source))
            pending = np.eye(4 ** len(wires))
    if not folded:
        return (_fixed(wires, pending),)
    last = folded[-1]
    folded[-1] = Turn(wires, pending @ last.parts, last.scale, last.source)
    return tuple(folded)


def _products(blocks: Sequence[Block[Turn]], angles: jax.Array) -> jax.Array:
    """Matrices of blocks of one size, those with the most turns first."""
    turns, counts = by_position(blocks)
    parts = np.stack([turn.parts for turn in turns])
    matrices = jnp.asarray(parts[:, 0], angles.dtype)
    if angles.shape[0]:
        turned = products_of_entries([turn.source for turn in turns], angles)
        scale = np.array([turn.scale for turn in turns])
        a = (turned * jnp.asarray(scale, angles.dtype))[:, None, None]
        waves = {1: jnp.cos(a), 2: jnp.sin(a), 3: jnp.cos(2 * a), 4: jnp.sin(2 * a)}
        for i, wave in waves.items():
            if parts[:, i].any():  # plain rotations need only the last two
                matrices = matrices + wave * jnp.asarray(parts[:, i], angles.dtype)
    return tree_product(matrices, counts)
