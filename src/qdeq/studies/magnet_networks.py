"""Networks on chains of spins: circuits, tanh units, and the mean field of physics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qdeq.circuits import AngleEncoding, hardware_efficient, xyz_of_every_wire
from qdeq.equilibrium.networks import Chain, EdgeInjection, NetworkEquilibrium
from qdeq.models import Network, QuantumModel
from qdeq.studies.magnet_data import DEVIATION
from qdeq.studies.parity_training import Tanh

Fields = Float[Array, "n N"]

_TANH_STATES = 8  # 153 numbers, where the network of circuits has 148
_ANGLES, _FEATURES = 0.1, 0.3  # of the first parameters: deviation, and scale of U
_ROTATIONS = [
    (name, wire, 2 * wire + i) for wire in range(3) for i, name in enumerate(("RY", "RZ"))
]


def initial_network(cell: str, length: int, gain: float, key: Array) -> Network:
    """A network with random parameters on a chain both ways.

    Circuits begin near angles of 0, where a cell is a row of sines: turning all it hears turns all
    X it measures, as turning all fields turns all spins. From random angles training is slower and
    leaves more equilibria unsolved.

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
    n_inputs, n_states = (_TANH_STATES, _TANH_STATES) if cell == "tanh" else (6, 9)
    injection = EdgeInjection.random(wiring, n_inputs, 1, n_states, key=for_edges, gain=gain)
    features = _FEATURES * injection.features
    injection = eqx.tree_at(lambda injection: injection.features, injection, features)
    if cell == "tanh":
        return Network(Tanh(), injection, wiring, n_outputs=1, key=for_head)
    circuit = hardware_efficient(3, 3)
    model = QuantumModel(
        _ANGLES * jax.random.normal(for_cell, (circuit.n_parameters,)),
        circuit,
        encoding=AngleEncoding.from_rotations(3, _ROTATIONS),
        observables=xyz_of_every_wire(3),
    )
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


def answers(
    network: Network,
    x: Fields,
    layers: int | None,
    *,
    mask: Bool[Array, "n N"] | None = None,
    layer: NetworkEquilibrium | None = None,
) -> tuple[Fields, Float[Array, "n N q"], Bool[Array, " n"]]:
    """What a network says of samples on any number of sites.

    Parameters
    ----------
    network
        Of any size.
    x
        Fields in units of their deviation.
    layers
        Applications; None for the equilibrium.
    mask
        Which sites there are; None for all.
    layer
        See `Network.solve`.

    Returns
    -------
    Magnetisations, states, and which equilibria converged.
    """
    network = network.on(Chain(x.shape[1], "both"))

    def one(x: Array, mask: Array) -> tuple[Array, Array, Array]:
        found, states, converged = network.answer(x[:, None], layers, layer=layer, mask=mask)
        return found[:, 0], states, converged

    return jax.vmap(one)(x, jnp.ones(x.shape, bool) if mask is None else mask)
