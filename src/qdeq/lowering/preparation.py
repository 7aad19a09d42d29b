"""Real amplitudes on a register by RY and CNOT: the circuit, and its angles as a function of v.

Amplitude encoding as a device prepares it. How programs use it is in `program.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._precision import PRECISION
from qdeq._scale import balanced, balanced_columns, times_power
from qdeq.circuits import Operation


def active_wires(n_qubits: int, n_features: int) -> tuple[int, ...]:
    """The wires that d amplitudes reach: the last ceil(log2 d); the others stay |0>."""
    return tuple(range(n_qubits - (n_features - 1).bit_length(), n_qubits))


def preparation(n_qubits: int, n_features: int) -> tuple[Operation, ...]:
    """RY and CNOT gates that prepare any `n_features` real amplitudes from |0...0>.

    One uniformly controlled RY per active wire, each written as alternating RY and CNOT along a
    Gray code: with w active wires 2**w - 1 rotations, numbered from 0 in time order, and 2**w - 2
    CNOTs.

    Parameters
    ----------
    n_qubits
        Wires of the register.
    n_features
        d, the number of amplitudes that may differ from zero.

    Returns
    -------
    tuple of Operation
        Empty for one feature, which is the state |0...0> itself.

    References
    ----------
    Möttönen et al., Transformation of quantum states using uniformly controlled rotations,
    Quantum Inf. Comput. 5, 467 (2005), arXiv quant-ph/0407010.

    Examples
    --------
    >>> [operation.name for operation in preparation(2, 4)]
    ['RY', 'RY', 'CNOT', 'RY', 'CNOT']
    """
    operations: list[Operation] = []
    wires = active_wires(n_qubits, n_features)
    slot = 0
    for level, target in enumerate(wires):
        for i in range(2**level):
            operations.append(Operation("RY", (target,), parameter=slot))
            slot += 1
            if level:
                # The bit in which Gray codes i and i + 1 differ; the last CNOT closes the cycle.
                bit = min(((i + 1) & -(i + 1)).bit_length() - 1, level - 1)
                operations.append(Operation("CNOT", (wires[level - 1 - bit], target)))
    return tuple(operations)


def preparation_angles(v: jax.Array) -> jax.Array:
    """The angles with which `preparation` makes v / |v|.

    A binary tree of arctan2: the rotation of a level turns the weight of a block of amplitudes into
    the weights of its halves, and the last level also brings the signs.

    Parameters
    ----------
    v
        `(d,)` real.

    Returns
    -------
    Array
        `(2**w - 1,)` radians, w = ceil(log2 d). All zero where v = 0, which leaves |0...0>.

    Notes
    -----
    Differentiable wherever no block of amplitudes vanishes as a whole. Where one does, the angles
    inside it are undetermined, like the azimuth at a pole: the value is right and the derivative is
    NaN, never a wrong number.
    """
    n_levels = (v.shape[0] - 1).bit_length()
    weights = jnp.zeros(2**n_levels, v.dtype).at[: v.shape[0]].set(balanced(v)[0])
    n_live = v.shape[0]
    levels: list[jax.Array] = []
    for level in reversed(range(n_levels)):
        # A block may be far smaller than the largest, and its squares no numbers.
        pairs, power = balanced_columns(weights.reshape(-1, 2).T)
        left, right = pairs
        last = level == n_levels - 1
        # Blocks in the zero padding turn by nothing, whatever v is: 0/0 of no consequence.
        live = np.arange(2**level) * 2 + (0 if last else 1) < n_live
        tilt = 2 * jnp.arctan2(jnp.where(live, right, 0), jnp.where(live, left, 1))
        levels.append(jnp.matmul(_gray_transform(level, v.dtype), tilt, precision=PRECISION))
        n_live = -(-n_live // 2)
        there = np.arange(2**level) < n_live
        squares = jnp.where(there, left**2 + right**2, 1)
        weights = jnp.where(there, times_power(jnp.sqrt(squares), power), 0)
    angles = jnp.concatenate(levels[::-1]) if levels else jnp.zeros(0, v.dtype)
    return jnp.where(jnp.all(jnp.isfinite(v)), angles, jnp.nan)  # arctan2 knows infinities


def _gray_transform(level: int, dtype: jnp.dtype) -> jax.Array:
    """The matrix from the tilts of 2**level blocks to the angles between the CNOTs, eq. (3)."""
    i = np.arange(2**level)
    gray = i ^ (i >> 1)
    overlap = gray[:, None] & i[None, :]
    parity = np.zeros_like(overlap)
    for bit in range(level):
        parity ^= (overlap >> bit) & 1
    return jnp.asarray((1 - 2 * parity) / 2**level, dtype)
