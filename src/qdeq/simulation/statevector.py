"""Plain statevector evaluation: the general path, and the one the faster paths are tested against.

States are complex arrays `(2**n,)`, wire 0 the most significant bit; `columns` holds several states
side by side, `(2**n, c)`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from qdeq._precision import PRECISION
from qdeq._scale import balanced, direction
from qdeq.circuits import AmplitudeEncoding, AngleEncoding, Circuit, MeasurementEnsemble
from qdeq.simulation.fusion import Block, block_matrices, complex_dtype, fuse

# Entries; at 20 qubits a whole table would be a constant of 80 MB.
_LARGEST_SIGN_TABLE = 2**18
# Amplitudes from which differentiation runs the circuit backwards instead of storing states.
_REVERSIBLE_SIZE = 2**14


def block_size(n_qubits: int) -> int:
    """Wires per fused block: half the register, from 2 to 5.

    Every block costs one pass over the state, and small products beside it are cheap. Measured on
    one core, value and gradient of the columns of the published circuit: 10 qubits 12, 7.5, 5.7,
    3.2, 6.9 ms with blocks of 2 to 6 wires; 8 qubits 1.3, 1.0, 1.7 ms with 3 to 5.
    """
    return min(5, max(2, n_qubits // 2))


def apply_blocks(
    blocks: Sequence[Block], matrices: Sequence[jax.Array], columns: jax.Array
) -> jax.Array:
    """Apply fused blocks to states.

    Parameters
    ----------
    blocks, matrices
        From `fuse` and `block_matrices`: unitary.
    columns
        `(2**n, c)` complex: c states.

    Returns
    -------
    Array
        `(2**n, c)` complex.

    Notes
    -----
    A gradient needs the state before every block. Large registers get them back from the last one,
    block by block, instead of keeping them: memory does not grow with the depth of the circuit.
    """
    if not is_large(len(columns)):
        return _apply(blocks, matrices, columns)
    return _apply_reversibly(tuple(blocks), list(matrices), columns)


def is_large(n_amplitudes: int) -> bool:
    """Whether a state is so large that memory counts more than time in derivatives."""
    return n_amplitudes >= _REVERSIBLE_SIZE


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _apply_reversibly(blocks, matrices, columns):
    return _apply(blocks, matrices, columns)


@functools.partial(_apply_reversibly.defjvp, symbolic_zeros=True)
def _apply_reversibly_jvp(blocks, primals, tangents):
    # Autodiff keeps what this rule computes for as long as its transpose needs it. The transpose
    # goes through the blocks last to first, and so does the chain of states that starts at the end.
    matrices, columns = primals
    d_matrices, d_columns = tangents
    images = _apply_reversibly(blocks, matrices, columns)
    if all(isinstance(d, SymbolicZero) for d in d_matrices):
        return images, _apply_reversibly(blocks, matrices, d_columns)
    steps = list(zip(blocks, matrices, d_matrices, strict=True))
    states, before = images, []
    for block, matrix, _ in reversed(steps):
        states = _apply([block], [matrix.conj().T], states)
        before.append(states)
    change = None if isinstance(d_columns, SymbolicZero) else d_columns
    for block, matrix, d_matrix in steps:
        states = before.pop()
        parts = [] if change is None else [_apply([block], [matrix], change)]
        if not isinstance(d_matrix, SymbolicZero):
            parts.append(_apply([block], [d_matrix], states))
        change = sum(parts[1:], parts[0]) if parts else None
    return images, change


def _apply(blocks: Sequence[Block], matrices: Sequence[jax.Array], columns: jax.Array) -> jax.Array:
    n_qubits = int(np.log2(columns.shape[0]))
    tensor = columns.reshape((2,) * n_qubits + (-1,))
    order = list(range(n_qubits))  # order[axis] is the wire of that axis: wires are not moved back
    for block, matrix in zip(blocks, matrices, strict=True):
        k = len(block.wires)
        axes = [order.index(wire) for wire in block.wires]
        gate = matrix.reshape((2,) * (2 * k))
        tensor = jnp.tensordot(
            gate, tensor, axes=(list(range(k, 2 * k)), axes), precision=PRECISION
        )
        order = [*block.wires, *(wire for wire in order if wire not in block.wires)]
    tensor = tensor.transpose([*(order.index(wire) for wire in range(n_qubits)), n_qubits])
    return tensor.reshape(columns.shape)


def unitary_columns(
    circuit: Circuit, theta: jax.Array, n_columns: int, *, max_wires: int | None = None
) -> jax.Array:
    """The first columns of the circuit's unitary.

    Parameters
    ----------
    circuit
        Without feature-fed operations.
    theta
        `(P,)` radians.
    n_columns
        How many basis states to start from.
    max_wires
        Size of the fused blocks; `block_size` when None.

    Returns
    -------
    Array
        `(2**n, n_columns)` complex.
    """
    n = circuit.n_qubits
    blocks = fuse(circuit, max_wires or block_size(n))
    # Column j starts in basis state j: only the last wires differ between columns.
    live = range(n - max(0, n_columns - 1).bit_length(), n)
    matrices = block_matrices(blocks, theta)
    dtype = complex_dtype(theta.dtype)
    return basis_images(blocks, matrices, n_qubits=n, live=live, dtype=dtype)[:, :n_columns]


def basis_images(
    blocks: Sequence[Block],
    matrices: Sequence[jax.Array],
    *,
    n_qubits: int,
    live: Sequence[int],
    dtype: jnp.dtype,
) -> jax.Array:
    """What the blocks make of every basis state of the `live` wires, the others starting in |0>.

    The tensor grows with the circuit: a wire that no block has touched has no axis yet (it would be
    an identity), which makes the first blocks nearly free.

    Parameters
    ----------
    blocks, matrices
        From `fuse` and `block_matrices`.
    n_qubits
        Wires of the register.
    live
        Wires that start in either basis state, most significant bit of the column number first.
    dtype
        The matrices' complex dtype; there may be none.

    Returns
    -------
    Array
        `(2**n_qubits, 2**len(live))` complex.
    """
    tensor = jnp.ones((), dtype)
    axes: list[tuple[str, int]] = []  # what every axis of the tensor is: ("out" | "in", wire)
    for block, matrix in zip(blocks, matrices, strict=True):
        gate = matrix.reshape((2,) * (2 * len(block.wires)))
        gate_axes = [("out", w) for w in block.wires] + [("in", w) for w in block.wires]
        for wire in block.wires:
            if ("out", wire) not in axes and wire not in live:
                position = gate_axes.index(("in", wire))
                gate = jax.lax.index_in_dim(gate, 0, position, keepdims=False)
                del gate_axes[position]
        met = [wire for wire in block.wires if ("out", wire) in axes]
        contracted = (
            [gate_axes.index(("in", wire)) for wire in met],
            [axes.index(("out", wire)) for wire in met],
        )
        tensor = jnp.tensordot(gate, tensor, axes=contracted, precision=PRECISION)
        axes = [a for i, a in enumerate(gate_axes) if i not in contracted[0]] + [
            a for i, a in enumerate(axes) if i not in contracted[1]
        ]
    for wire in range(n_qubits):
        if ("out", wire) not in axes:
            start = jnp.eye(2, 2 if wire in live else 1, dtype=tensor.dtype)
            tensor = jnp.tensordot(tensor, start if wire in live else start[:, 0], axes=0)
            axes += [("out", wire), ("in", wire)] if wire in live else [("out", wire)]
    order = [axes.index(("out", w)) for w in range(n_qubits)]
    order += [axes.index(("in", w)) for w in live]
    return tensor.transpose(order).reshape(2**n_qubits, 2 ** len(live))


def run(
    circuit: Circuit,
    theta: jax.Array,
    state: jax.Array,
    features: jax.Array | None = None,
) -> jax.Array:
    """The state after a circuit.

    Parameters
    ----------
    circuit
        May hold feature-fed operations (data re-uploading); then `features` is needed.
    theta
        `(P,)` radians.
    state
        `(2**n,)` complex, the state before.
    features
        `(d,)` radians.

    Returns
    -------
    Array
        `(2**n,)` complex.
    """
    blocks = fuse(circuit, block_size(circuit.n_qubits))
    angles = theta if features is None else jnp.concatenate([theta, features])
    return apply_blocks(blocks, block_matrices(blocks, angles), state[:, None])[:, 0]


def encode(encoding: AmplitudeEncoding | AngleEncoding, v: jax.Array) -> jax.Array:
    """The encoded state.

    Parameters
    ----------
    encoding
        Amplitude: v / |v|, zero-padded. Angle: rotations of |0...0> by the entries of v.
    v
        `(d,)` real.

    Returns
    -------
    Array
        `(2**n,)` complex. The zero vector where amplitude encoding is undefined (v = 0), so that
        every expectation value is 0 there, the maximally mixed state's, and no NaN appears.
    """
    if isinstance(encoding, AmplitudeEncoding):
        v, _, norm_squared = balanced(v)
        undefined = norm_squared == 0
        # Two `where`s: the gradient of the branch not taken must stay finite as well.
        inverse_norm = jnp.where(undefined, 0, jax.lax.rsqrt(jnp.where(undefined, 1, norm_squared)))
        padded = jnp.zeros(2**encoding.n_qubits, v.dtype).at[: v.shape[0]].set(v * inverse_norm)
        return padded.astype(complex_dtype(v.dtype))
    circuit = Circuit(encoding.n_qubits, encoding.operations)
    blocks = fuse(circuit, block_size(circuit.n_qubits))
    dtype = complex_dtype(v.dtype)
    if all(len(block.wires) == 1 for block in blocks):
        # A product state, which grows wire by wire: all of it costs two passes, not one per wire.
        matrices = block_matrices(blocks, v)
        return basis_images(blocks, matrices, n_qubits=circuit.n_qubits, live=(), dtype=dtype)[:, 0]
    zero = jnp.zeros(2**encoding.n_qubits, dtype).at[0].set(1)
    return run(circuit, jnp.zeros(0, v.dtype), zero, features=v)


def encode_sum(
    encoding: AmplitudeEncoding | AngleEncoding,
    x: jax.Array,
    reinjection: jax.Array,
    m: jax.Array,
) -> jax.Array:
    """The encoded state of v = x + R m, `(2**n,)` complex as from `encode`.

    For amplitudes the terms are added over a power of two, so that a sum of the smallest numbers
    keeps its direction.
    """
    if isinstance(encoding, AmplitudeEncoding):
        return encode(encoding, direction(x, reinjection, m)[0])
    return encode(encoding, x + jnp.matmul(reinjection, m, precision=PRECISION))


def expectation_values(observables: MeasurementEnsemble, columns: jax.Array) -> jax.Array:
    """Expectation values of the ensemble in each state.

    Parameters
    ----------
    observables
        q Pauli strings.
    columns
        `(2**n, c)` complex.

    Returns
    -------
    Array
        `(q, c)` real.
    """
    real, imag = columns.real, columns.imag
    if observables.is_diagonal:
        probabilities = real**2 + imag**2
        if observables.n_observables * len(columns) > _LARGEST_SIGN_TABLE:
            return _signed_sums(observables, probabilities)
        signs = jnp.asarray(observables.signs(), real.dtype)
        return jnp.matmul(signs, probabilities, precision=PRECISION)
    return jnp.einsum(
        "jc,kjc->kc", columns.conj(), pauli_images(observables, columns), precision=PRECISION
    ).real


def _signed_sums(observables: MeasurementEnsemble, probabilities: jax.Array) -> jax.Array:
    """Sums of `(2**n, c)` probabilities with the signs of Z strings, one half of the wires each.

    The sign of a basis state is the product of those of its halves.
    """
    half, dtype = observables.n_qubits // 2, probabilities.dtype
    first, last = (
        jnp.asarray(MeasurementEnsemble(len(part[0]), part).signs(), dtype)
        for part in zip(*((s[:half], s[half:]) for s in observables.strings), strict=True)
    )
    tensor = probabilities.reshape(first.shape[1], last.shape[1], -1)
    return jnp.einsum(
        "kac,ka->kc", jnp.einsum("abc,kb->kac", tensor, last, precision=PRECISION), first
    )


def pauli_images(observables: MeasurementEnsemble, columns: jax.Array) -> jax.Array:
    """Every Pauli string applied to every column: `(q, 2**n, c)` complex."""
    index, phase = pauli_actions(observables)
    return jnp.asarray(phase, columns.dtype)[:, :, None] * columns[jnp.asarray(index)]


def pauli_actions(observables: MeasurementEnsemble) -> tuple[np.ndarray, np.ndarray]:
    """Pauli strings as (P psi)[j] = phase[j] psi[index[j]]: two `(q, 2**n)` arrays."""
    n = observables.n_qubits
    states = np.arange(2**n)
    index = np.empty((observables.n_observables, 2**n), dtype=np.int32)
    phase = np.ones((observables.n_observables, 2**n), dtype=complex)
    for k, string in enumerate(observables.strings):
        flips = sum(1 << (n - 1 - wire) for wire, pauli in enumerate(string) if pauli in "XY")
        index[k] = states ^ flips
        for wire, pauli in enumerate(string):
            bit = (states >> (n - 1 - wire)) & 1
            if pauli == "Z":
                phase[k] *= 1 - 2 * bit
            elif pauli == "Y":
                phase[k] *= 1j * (2 * bit - 1)
    return index, phase


@jax.custom_jvp
def signed_gram(signs: jax.Array, columns: jax.Array) -> jax.Array:
    """columns' diag(signs_k) columns for every k: `(q, N)` and real `(N, d)` -> `(q, d, d)`."""
    return jnp.matmul(columns.T, signs[:, :, None] * columns, precision=PRECISION)


@signed_gram.defjvp
def _signed_gram_jvp(primals, tangents):
    # The tangent is X + X': one product where autodiff forms two, forwards and backwards.
    signs, columns = primals
    _, d_columns = tangents  # signs are constants
    signed = signs[:, :, None] * columns
    value = jnp.matmul(columns.T, signed, precision=PRECISION)
    half = jnp.matmul(d_columns.T, signed, precision=PRECISION)
    return value, half + half.swapaxes(1, 2)


def stacked_parts(columns: jax.Array) -> jax.Array:
    """Real over imaginary parts: `(N, d)` complex -> `(2 N, d)` real, inner products unchanged."""
    return jnp.concatenate([columns.real, columns.imag])
