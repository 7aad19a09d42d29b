"""Noisy evaluation of any model: the density matrix as a real Pauli vector, block after block.

The general path under noise, as `plain.py` is without: 4**n numbers are simulated at every call.
Where a model allows it, `heisenberg` moves this work out of the solver's loop.
"""

from collections.abc import Sequence
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qdeq._precision import PRECISION
from qdeq._vectors import as_vector
from qdeq.circuits import (
    AmplitudeEncoding,
    Circuit,
    MeasuredCircuit,
    MeasurementEnsemble,
    NoiseModel,
)
from qdeq.simulation.fusion import Block
from qdeq.simulation.statevector import encode_sum
from qdeq.simulation.superoperators import PAULIS, check_size, fuse_noisy, transfer_matrices


class DensityForm(eqx.Module):
    """A noisy circuit with the transfer matrices of its blocks."""

    theta: Float[Array, " P"]
    matrices: list[Array] | None
    reinjection: Float[Array, "d q"]
    measured: MeasuredCircuit = eqx.field(static=True)

    def bind(self, x: Float[Array, " d"]) -> "DensityMap":
        """The model function of one sample with features `x` `(d,)`."""
        x = as_vector("x", x, len(self.reinjection), self.reinjection.dtype)
        return DensityMap(self, x)


class DensityMap(eqx.Module):
    """f(m) by encoding x + R m, running the noisy circuit and measuring."""

    form: DensityForm
    x: Float[Array, " d"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        form, measured = self.form, self.form.measured
        m = as_vector("the measured state", m, form.reinjection.shape[1], form.reinjection.dtype)
        v = self.x + jnp.matmul(form.reinjection, m, precision=PRECISION)
        n = measured.n_qubits
        if isinstance(measured.encoding, AmplitudeEncoding):
            vector = pauli_vector(encode_sum(measured.encoding, self.x, form.reinjection, m))
        else:
            upload = Circuit(n, measured.encoding.operations)
            vector = evolve(upload, measured.noise, v, zero_vector(n, v.dtype))
        blocks = fuse_noisy(measured.circuit, measured.noise)
        matrices = form.matrices
        if matrices is None:
            matrices = transfer_matrices(blocks, jnp.concatenate([form.theta, v]))
        vector = apply_transfer(blocks, matrices, vector)
        return read_values(measured.observables, measured.noise, vector)


def prepare_density(
    measured: MeasuredCircuit, theta: jax.Array, reinjection: jax.Array
) -> DensityForm:
    """Compute the blocks' matrices once, unless features feed the circuit (re-uploading)."""
    blocks = fuse_noisy(measured.circuit, measured.noise)
    matrices = None if measured.circuit.n_features else transfer_matrices(blocks, theta)
    return DensityForm(theta, matrices, reinjection, measured)


def zero_vector(n_qubits: int, dtype: jnp.dtype) -> jax.Array:
    """The Pauli vector `(4,) * n` of |0...0>: 1 for strings of I and Z, else 0."""
    check_size(4**n_qubits, f"{n_qubits} qubits")
    vector = jnp.ones((), dtype)
    for _ in range(n_qubits):
        vector = jnp.tensordot(vector, jnp.array([1, 0, 0, 1], dtype), axes=0)
    return vector


def pauli_vector(state: jax.Array) -> jax.Array:
    """The Pauli vector of a pure state: `(2**n,)` complex -> `(4,) * n` real.

    A state that is the zero vector (amplitude encoding of v = 0) gives zeros.
    """
    n = state.shape[0].bit_length() - 1
    check_size(4**n, f"{n} qubits")
    tensor = jnp.outer(state, state.conj()).reshape((2,) * (2 * n))
    paulis = jnp.asarray(PAULIS, state.dtype)
    for wire in range(n):  # row and column axis of a wire become one Pauli axis at the end
        tensor = jnp.tensordot(tensor, paulis, axes=([0, n - wire], [2, 1]), precision=PRECISION)
    return tensor.real


def evolve(
    circuit: Circuit, noise: NoiseModel | None, angles: jax.Array, vector: jax.Array
) -> jax.Array:
    """The Pauli vector after a noisy circuit.

    Parameters
    ----------
    circuit, noise
        What happens.
    angles
        `(P + d,)` radians: theta, then the features if the circuit is fed by any.
    vector
        `(4,) * n` real, before.

    Returns
    -------
    Array
        `(4,) * n` real, after.
    """
    blocks = fuse_noisy(circuit, noise)
    return apply_transfer(blocks, transfer_matrices(blocks, angles), vector)


def apply_transfer(
    blocks: Sequence[Block], matrices: Sequence[jax.Array], vector: jax.Array
) -> jax.Array:
    """Apply blocks to a Pauli vector `(4,) * n`; matrices from `transfer_matrices`."""
    order = list(range(vector.ndim))  # order[axis] is the wire of that axis
    for block, matrix in zip(blocks, matrices, strict=True):
        k = len(block.wires)
        axes = [order.index(wire) for wire in block.wires]
        vector = jnp.tensordot(
            matrix.reshape((4,) * (2 * k)),
            vector,
            axes=(list(range(k, 2 * k)), axes),
            precision=PRECISION,
        )
        order = [*block.wires, *(wire for wire in order if wire not in block.wires)]
    return vector.transpose([order.index(wire) for wire in range(len(order))])


def readout_components(observables: MeasurementEnsemble, noise: NoiseModel | None) -> np.ndarray:
    """What is read instead of every letter: misread bits mix a letter with the identity.

    A wire whose bit is misread reports (p10 - p01) I + (1 - p01 - p10) P where P was meant; a wire
    that the string does not name is not read.

    Returns
    -------
    ndarray
        `(q, n, 4)` float64: the product over wires of the components of I, X, Y, Z is the operator
        whose expectation value is reported.
    """
    components = np.zeros((observables.n_observables, observables.n_qubits, 4))
    for k, string in enumerate(observables.strings):
        for wire, letter in enumerate(string):
            error = noise.readout_of(wire) if noise and letter != "I" else None
            if error is None:
                components[k, wire, "IXYZ".index(letter)] = 1
            else:
                components[k, wire, "IXYZ".index(letter)] = 1 - error.p01 - error.p10
                components[k, wire, 0] = error.p10 - error.p01
    return components


def read_values(
    observables: MeasurementEnsemble, noise: NoiseModel | None, vector: jax.Array
) -> jax.Array:
    """Expectation values `(q,)` from a Pauli vector `(4,) * n`, readout errors included."""
    index, weight = [], []
    for components in readout_components(observables, noise):
        chosen = [np.flatnonzero(wire) for wire in components]
        strings = np.array(list(product(*chosen)))
        index.append(np.ravel_multi_index(tuple(strings.T), (4,) * len(chosen)))
        weight.append(np.prod(components[np.arange(len(chosen)), strings], axis=1))
    flat = vector.reshape(-1)
    values = [flat[i] @ jnp.asarray(w, flat.dtype) for i, w in zip(index, weight, strict=True)]
    return jnp.stack(values)
