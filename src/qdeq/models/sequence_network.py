"""A chain of circuits that reads sequences: the network behind the estimators for sequences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from qdeq.circuits import AngleEncoding, hardware_efficient, xyz_of_every_wire
from qdeq.equilibrium.networks import Chain, EdgeInjection
from qdeq.models.network import Network
from qdeq.models.quantum_model import QuantumModel


def sequence_network(
    n_features: int,
    n_outputs: int,
    *,
    key: PRNGKeyArray | Array,
    n_qubits: int = 3,
    ansatz_layers: int = 2,
    direction: str = "causal",
    read_out: str = "last",
    gain: float = 0.9,
    max_gain: float | None = None,
) -> Network:
    """A chain of one circuit, with random parameters, on one site: `on` puts it on any length.

    The circuit reads two angles a qubit, RY and RZ, and measures X, Y and Z of every qubit.

    Parameters
    ----------
    n_features
        Numbers of a site.
    n_outputs
        Outputs of the head.
    key
        JAX key.
    n_qubits, ansatz_layers
        Of the circuit, which is hardware-efficient.
    direction, read_out
        See `Chain` and `Network`.
    gain, max_gain
        Two-norm of the messages at first, and at most.

    Examples
    --------
    >>> network = sequence_network(1, 2, key=jax.random.key(0))
    >>> network.on(Chain(20)).solve(jnp.ones((20, 1))).value.shape
    (20, 9)
    """
    for_cell, for_edges, for_head = jax.random.split(key, 3)
    circuit = hardware_efficient(n_qubits, ansatz_layers)
    theta = jax.random.uniform(for_cell, (circuit.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    rotations = [("RY", wire, wire) for wire in range(n_qubits)]
    rotations += [("RZ", wire, n_qubits + wire) for wire in range(n_qubits)]
    encoding = AngleEncoding.from_rotations(n_qubits, rotations)
    observables = xyz_of_every_wire(n_qubits)
    cell = QuantumModel(theta, circuit, encoding=encoding, observables=observables)
    wiring = Chain(1, direction)
    injection = EdgeInjection.random(
        wiring,
        2 * n_qubits,
        n_features,
        cell.n_observables,
        key=for_edges,
        gain=gain,
        max_gain=max_gain,
    )
    return Network(cell, injection, wiring, read_out=read_out, n_outputs=n_outputs, key=for_head)
