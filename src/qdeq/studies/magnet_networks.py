"""Networks on chains of spins: circuits, tanh units, and the mean field of physics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qdeq.circuits import AngleEncoding, hardware_efficient, xyz_of_every_wire
from qdeq.equilibrium.networks import Chain, EdgeInjection
from qdeq.models import Network, QuantumModel
from qdeq.studies.magnet_data import DEVIATION

Fields = Float[Array, "n N"]

_TANH_STATES = 8  # 153 numbers, where the network of circuits has 148
_ROTATIONS = [
    (name, wire, 2 * wire + i) for wire in range(3) for i, name in enumerate(("RY", "RZ"))
]


class Tanh(eqx.Module):
    """A cell of one layer of units, for comparison."""

    def __call__(self, v: Array, x: Array) -> Array:
        """The units' states."""
        del x
        return jnp.tanh(v)


def initial_network(cell: str, length: int, gain: float, key: Array) -> Network:
    """A network with random parameters on a chain both ways.

    Parameters
    ----------
    cell
        "circuit" (three qubits, X, Y and Z of each) or "tanh" (8 units: about as many parameters).
    length
        Sites.
    gain
        Two-norm of the initial messages.
    key
        JAX key.
    """
    for_cell, for_edges, for_head = jax.random.split(key, 3)
    wiring = Chain(length, "both")
    if cell == "tanh":
        q = _TANH_STATES
        injection = EdgeInjection.random(wiring, q, 1, q, key=for_edges, gain=gain)
        return Network(Tanh(), injection, wiring, n_outputs=1, key=for_head)
    circuit = hardware_efficient(3, 3)
    theta = jax.random.uniform(for_cell, (circuit.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    encoding = AngleEncoding.from_rotations(3, _ROTATIONS)
    model = QuantumModel(theta, circuit, encoding=encoding, observables=xyz_of_every_wire(3))
    injection = EdgeInjection.random(wiring, 6, 1, 9, key=for_edges, gain=gain)
    return Network(model, injection, wiring, n_outputs=1, key=for_head)


class Spin(eqx.Module):
    """The ground state of one spin: <Z> of -v Z - g X is v / sqrt(v^2 + g^2)."""

    g: float = eqx.field(static=True)

    def __call__(self, v: Array, x: Array) -> Array:
        """The magnetisation in a longitudinal field v."""
        del x
        return v / jnp.sqrt(v**2 + self.g**2)


def mean_field(length: int, g: float) -> Network:
    """Every spin alone in its field and the magnetisations of its neighbours (J = 1)."""
    messages = jnp.ones((2, 1, 1))
    injection = EdgeInjection(jnp.array([[DEVIATION]]), messages, learned=False)
    return Network(Spin(g), injection, Chain(length, "both"))


def scaled(fields: np.ndarray) -> Fields:
    """Fields as networks take them, in units of their deviation."""
    return jnp.asarray(fields / DEVIATION)


def answers(network: Network, x: Fields, layers: int | None) -> tuple[Fields, Array, Array]:
    """Magnetisations of the equilibrium or after `layers` applications, states, which converged."""
    network = network.on(Chain(x.shape[1], "both"))
    x = x[..., None]
    if layers is None:
        solution = jax.vmap(network.solve)(x)
        states, converged = solution.value, solution.stats.converged
    else:
        states = jax.vmap(lambda x: network.apply(x, layers))(x)
        converged = jnp.ones(len(x), bool)
    return jax.vmap(network.outputs)(states)[..., 0], states, converged
