"""Outcome probabilities: how likely every bit string is, for each setting of an ensemble.

What shots are drawn from (`sampling`); with channels the density matrix is simulated, without them
the statevector.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._numbers import at_least
from qdeq._precision import PRECISION
from qdeq.circuits import GATES, Circuit, MeasurementEnsemble, NoiseModel
from qdeq.simulation.density import evolve, pauli_vector, zero_vector
from qdeq.simulation.fusion import block_matrices, complex_dtype, fuse
from qdeq.simulation.statevector import apply_blocks, block_size

# A measurement is of Z: what turns each letter's eigenbasis into that of Z.
_TO_Z = {
    "I": np.eye(2),
    "Z": np.eye(2),
    "X": GATES["H"].matrix(),
    "Y": GATES["H"].matrix() @ GATES["S"].matrix().conj(),
}


def outcome_probabilities(
    circuit: Circuit,
    angles: jax.Array,
    observables: MeasurementEnsemble,
    *,
    state: jax.Array | None = None,
    noise: NoiseModel | None = None,
) -> jax.Array:
    """Probabilities of all bit strings, one row per group of `observables.settings()`.

    Parameters
    ----------
    circuit
        What runs; encoding rotations may be part of it, as feature-fed operations.
    angles
        `(P + d,)` radians: theta, then the features if the circuit is fed by any.
    observables
        Their settings say in which basis each wire is measured; a wire that a setting leaves open
        is measured in Z.
    state
        `(2**n,)` complex, the state before; |0...0> when None.
    noise
        Channels after operations and misread bits. The change of basis is without error.

    Returns
    -------
    Array
        `(n_settings, 2**n)` real, wire 0 the most significant bit of the column.

    Examples
    --------
    >>> from qdeq.circuits import Operation, parse_noise, xyz_of_every_wire
    >>> flip = Circuit(1, (Operation("X", (0,)),))
    >>> x_y_z = outcome_probabilities(
    ...     flip, jnp.zeros(0), xyz_of_every_wire(1), noise=parse_noise("readout=0.125")
    ... )
    >>> [[f"{p:.3f}" for p in row] for row in x_y_z]
    [['0.500', '0.500'], ['0.500', '0.500'], ['0.125', '0.875']]
    """
    n = circuit.n_qubits
    bases = [observables.basis(group) for group in observables.settings()]
    if noise is not None and noise.rules:
        start = zero_vector(n, angles.dtype) if state is None else pauli_vector(state)
        vector = evolve(circuit, noise, angles, start)
        rows = [_from_pauli_vector(vector, basis, noise) for basis in bases]
    else:
        dtype = complex_dtype(angles.dtype)
        if state is None:
            state = jnp.zeros(2**n, dtype).at[0].set(1)
        blocks = fuse(circuit, block_size(n))
        state = apply_blocks(blocks, block_matrices(blocks, angles), state[:, None])[:, 0]
        rows = [_from_state(state, basis, noise) for basis in bases]
    return jnp.stack(rows)


def _from_state(state: jax.Array, basis: str, noise: NoiseModel | None) -> jax.Array:
    turned = _on_every_wire(state.reshape((2,) * len(basis)), [_TO_Z[letter] for letter in basis])
    probabilities = turned.real**2 + turned.imag**2
    errors = [None if noise is None else noise.readout_of(wire) for wire in range(len(basis))]
    matrices = [np.eye(2) if error is None else error.confusion() for error in errors]
    return _on_every_wire(probabilities, matrices).reshape(-1)


def _from_pauli_vector(vector: jax.Array, basis: str, noise: NoiseModel) -> jax.Array:
    """p(b) is the mean over strings of I and the basis's letter of +-1 times the component."""
    matrices = []
    for wire, letter in enumerate(basis):
        vector = jnp.take(vector, np.array([0, "IXYZ".index(letter) or 3]), axis=wire)
        error = noise.readout_of(wire)
        signs = np.array([[1, 1], [1, -1]]) / 2
        matrices.append(signs if error is None else error.confusion() @ signs)
    # Rounding can leave -1e-9 where the probability is 0, which no sampler accepts.
    return at_least(_on_every_wire(vector, matrices).reshape(-1), 0)


def _on_every_wire(tensor: jax.Array, matrices: list[np.ndarray]) -> jax.Array:
    """Apply a `(2, 2)` matrix to every axis of a `(2,) * n` tensor; identities cost nothing."""
    for wire, matrix in enumerate(matrices):
        if np.array_equal(matrix, np.eye(2)):
            continue
        turned = jnp.tensordot(
            jnp.asarray(matrix, tensor.dtype), tensor, axes=(1, wire), precision=PRECISION
        )
        tensor = jnp.moveaxis(turned, 0, wire)
    return tensor
