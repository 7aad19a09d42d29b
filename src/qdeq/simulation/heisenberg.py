"""Observables pulled back through a noisy circuit: their Pauli coefficients in front of it.

The adjoint of a channel maps the identity to itself, so an observable grows over wires only where
blocks of two wires spread it, exactly as without noise. From the coefficients come the quadratic
forms of amplitude encoding here and the light cones of angle encoding in `lightcone`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._precision import PRECISION
from qdeq.circuits import MeasuredCircuit
from qdeq.simulation.density import readout_components
from qdeq.simulation.superoperators import check_size, fuse_noisy, transfer_matrices

# Up to so many numbers, pulling all observables back in one go makes the smaller program (8 qubits:
# compiled in 7 instead of 15 s). Beyond, each grows over its own light cone, and derivatives
# compute it again instead of storing it: 10 qubits, angle encoding, value and gradient of all
# coefficients 640 instead of 1760 ms of processor time and 212 instead of 510 MB.
_TOGETHER = 2**20

ZERO_STATE = np.array([[1.0], [0.0], [0.0], [1.0]])
"""`(4, 1)`: the components of a wire in |0>."""


def pull_back(
    positions: Sequence[tuple[int, ...]],
    matrices: Sequence[jax.Array],
    components: jax.Array,
    ends: Sequence[np.ndarray | None],
    supports: np.ndarray,
) -> jax.Array:
    """Pauli coefficients of several observables in front of a circuit.

    Parameters
    ----------
    positions, matrices
        The wires and the transfer matrix of every block, in time order.
    components
        `(q, n, 4)`: every observable as a product over wires of components of I, X, Y, Z.
    ends
        For every wire a `(4, c)` matrix whose columns say what becomes of its coefficients in the
        end, such as `ZERO_STATE` where the wire starts in |0>; None keeps all four.
    supports
        `(q, n)` booleans: whether an observable has more than the identity on a wire. A wire gets
        an axis only when the observable has reached it.

    Returns
    -------
    Array
        `(q, c_0, c_1, ...)` real.
    """
    q, n = supports.shape
    if q * 4**n <= _TOGETHER:
        return _pull_back(
            positions, ends, np.asarray(supports.any(axis=0)), list(matrices), components
        )
    one_by_one = [
        jax.checkpoint(functools.partial(_pull_back, positions, ends, supports[k]))(
            list(matrices), components[k : k + 1]
        )
        for k in range(q)
    ]
    return jnp.concatenate(one_by_one)


def _pull_back(
    positions: Sequence[tuple[int, ...]],
    ends: Sequence[np.ndarray | None],
    supports: np.ndarray,
    matrices: list[jax.Array],
    components: jax.Array,
) -> jax.Array:
    """`pull_back` of observables that grow together from the wires that any of them is on."""
    n = components.shape[1]
    first_use = {w: b for b, wires in reversed(list(enumerate(positions))) for w in wires}
    tensor = jnp.ones(components.shape[0], components.dtype)
    axes: list[int] = []  # axes[i] is the wire of axis 1 + i

    def grow(tensor: jax.Array, wire: int) -> jax.Array:
        factor = components[:, wire].reshape((-1,) + (1,) * len(axes) + (4,))
        axes.append(wire)
        return tensor[..., None] * factor

    def finish(tensor: jax.Array, wire: int) -> jax.Array:
        end = ends[wire]
        if end is None:
            return tensor
        axis = 1 + axes.index(wire)
        closed = jnp.tensordot(
            tensor, jnp.asarray(end, tensor.dtype), axes=(axis, 0), precision=PRECISION
        )
        axes.append(axes.pop(axis - 1))
        return closed

    for wire in range(n):
        if supports[wire]:
            tensor = grow(tensor, wire)
    for b in reversed(range(len(positions))):
        wires = positions[b]
        for wire in wires:
            if wire not in axes:
                tensor = grow(tensor, wire)
        k = len(wires)
        contracted = [1 + axes.index(wire) for wire in wires]
        tensor = jnp.tensordot(
            tensor,
            matrices[b].reshape((4,) * (2 * k)),
            axes=(contracted, list(range(k))),
            precision=PRECISION,
        )
        axes[:] = [*(wire for wire in axes if wire not in wires), *wires]
        for wire in wires:
            if first_use[wire] == b:  # closing a wire early makes all earlier blocks cheaper
                tensor = finish(tensor, wire)
    for wire in range(n):
        if wire not in first_use:
            if wire not in axes:
                tensor = grow(tensor, wire)
            tensor = finish(tensor, wire)
    return tensor.transpose([0, *(1 + axes.index(wire) for wire in range(n))])


def noisy_forms(measured: MeasuredCircuit, theta: jax.Array) -> jax.Array:
    """A_k = Re of observable k pulled back through the noisy circuit, on the first basis states.

    Parameters
    ----------
    measured
        With noise and amplitude encoding: only the first d basis states carry features. No
        feature-fed operations. Misread bits are part of the observables.
    theta
        `(P,)` radians.

    Returns
    -------
    Array
        `(q, d, d)` real and symmetric.

    Raises
    ------
    UserError
        When q 4**n numbers are more than fit into memory.
    """
    n, n_features, noise = measured.n_qubits, measured.n_features, measured.noise
    assert noise is not None
    check_size(measured.n_observables * 4**n, f"{n} qubits")
    components = readout_components(measured.observables, noise)
    n_live = max(0, n_features - 1).bit_length()
    dead = range(n - n_live)  # every feature's basis state has 0 on these wires
    blocks = fuse_noisy(measured.circuit, noise)
    matrices = transfer_matrices(blocks, theta)
    coefficients = pull_back(
        [block.wires for block in blocks],
        matrices,
        jnp.asarray(components, theta.dtype),
        [ZERO_STATE if wire in dead else None for wire in range(n)],
        np.asarray(components[:, :, 1:].any(axis=2)),
    )
    coefficients = coefficients.reshape((-1,) + (4,) * n_live)
    return _real_matrices(coefficients)[:, :n_features, :n_features]


def _real_matrices(coefficients: jax.Array) -> jax.Array:
    """Re sum c_P P as matrices: `(q, 4, ..., 4)` -> `(q, 2**n, 2**n)`.

    Y = i J with a real J: strings with an odd number of Y are imaginary and drop out, the others
    are real up to the sign i**(number of Y).
    """
    n = coefficients.ndim - 1
    number_of_y = jnp.zeros((), int)
    for _ in range(n):
        number_of_y = number_of_y[..., None] + jnp.array([0, 0, 1, 0])
    sign = jnp.array([1, 0, -1, 0], coefficients.dtype)[number_of_y % 4]
    tensor = coefficients * sign
    letters = np.array([np.eye(2), [[0, 1], [1, 0]], [[0, -1], [1, 0]], np.diag([1, -1])])
    for _ in range(n):  # one wire's axis becomes a row and a column axis at the end
        tensor = jnp.tensordot(
            tensor, jnp.asarray(letters, tensor.dtype), axes=(1, 0), precision=PRECISION
        )
    rows = [1 + 2 * wire for wire in range(n)]
    tensor = tensor.transpose([0, *rows, *(row + 1 for row in rows)])
    return tensor.reshape(-1, 2**n, 2**n)
