"""Networks on lattices of spins: circuits, tanh units, and the mean field of physics."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qdeq.circuits import (
    AngleEncoding,
    MeasuredCircuit,
    MeasurementEnsemble,
    hardware_efficient,
    xyz_of_every_wire,
)
from qdeq.equilibrium.networks import (
    AbstractWiring,
    Chain,
    EdgeInjection,
    Grid,
    NetworkEquilibrium,
)
from qdeq.models import Network, QuantumModel
from qdeq.studies.magnet.data import DEVIATION, Shape
from qdeq.studies.parity.training import Tanh

#: `(n, sites)` on chains, `(n, rows, columns)` on grids.
Fields = Float[Array, "n ..."]
Turn = Callable[[Array], Array]

_TANH_STATES = 8  # 153 numbers, where the network of circuits has 148
_ANGLES, _FEATURES = 0.1, 0.3  # of the first parameters: deviation, and scale of U
_ROTATIONS = [
    (name, wire, 2 * wire + i) for wire in range(3) for i, name in enumerate(("RY", "RZ"))
]
_ONE_TURN = {"wide": 7, "apart": 8}  # qubits of the cells that turn each once: 133 and 153 numbers


def wiring_of(shape: Shape) -> AbstractWiring:
    """A chain both ways, or a grid of four neighbours."""
    if len(shape) == 1:
        return Chain(shape[0], "both")
    rows, columns = shape
    return Grid(rows, columns)


def symmetries(shape: Shape) -> list[tuple[Turn, Turn]]:
    """All ways to turn a lattice onto itself that keep who hears whom, each with its inverse.

    They act on the sites of arrays `(n, *shape)`: a chain and back to front, a grid mirrored in
    rows and columns and, where it is square, transposed.

    >>> len(symmetries((5,))), len(symmetries((2, 3))), len(symmetries((3, 3)))
    (2, 4, 8)
    """
    flips = [(), (1,)] if len(shape) == 1 else [(), (1,), (2,), (1, 2)]
    turns = [False, True] if len(shape) == 2 and shape[0] == shape[1] else [False]

    def turned(axes: tuple[int, ...], transposed: bool) -> tuple[Turn, Turn]:
        def there(x: Array) -> Array:
            x = jnp.flip(x, axes)
            return jnp.swapaxes(x, 1, 2) if transposed else x

        def back(x: Array) -> Array:
            return jnp.flip(jnp.swapaxes(x, 1, 2) if transposed else x, axes)

        return there, back

    return [turned(axes, transposed) for transposed in turns for axes in flips]


def initial_network(cell: str, shape: Shape, gain: float, key: Array) -> Network:
    """A network with random parameters on a chain or grid whose sites hear all neighbours.

    Circuits begin near angles of 0, where a cell is a row of sines: turning all it hears turns all
    X it measures, as turning all fields turns all spins. From random angles training is slower and
    leaves more equilibria unsolved.

    Parameters
    ----------
    cell
        "circuit" (three qubits, X, Y and Z of each), "wide" (seven, each turned once by what it
        hears, coupled to the next by learned angles, X of each), "apart" (eight of these without
        couplings, which are sines) or "tanh" (8 units): all have about as many parameters.
    shape
        Of the lattice.
    gain
        Two-norm of the initial messages.
    key
        JAX key.
    """
    for_cell, for_edges, for_head = jax.random.split(key, 3)
    wiring = wiring_of(shape)
    measured = None if cell == "tanh" else _measured(cell)
    n_inputs, n_states = _TANH_STATES, _TANH_STATES
    if measured is not None:
        n_inputs, n_states = measured.n_features, measured.n_observables
    injection = EdgeInjection.random(wiring, n_inputs, 1, n_states, key=for_edges, gain=gain)
    features = _FEATURES * injection.features
    injection = eqx.tree_at(lambda injection: injection.features, injection, features)
    if measured is None:
        return Network(Tanh(), injection, wiring, n_outputs=1, key=for_head)
    angles = _ANGLES * jax.random.normal(for_cell, (measured.n_parameters,))
    model = QuantumModel(angles, measured=measured)
    return Network(model, injection, wiring, n_outputs=1, key=for_head)


def _measured(cell: str) -> MeasuredCircuit:
    if cell == "circuit":
        circuit, rotations = hardware_efficient(3, 3), _ROTATIONS
        observables = xyz_of_every_wire(3)
    else:
        n = _ONE_TURN[cell]
        layers = 1 if cell == "wide" else 0
        circuit = hardware_efficient(n, layers, rotations=("RY",), entangler="RZZ")
        rotations = [("RY", wire, wire) for wire in range(n)]
        strings = ("I" * wire + "X" + "I" * (n - wire - 1) for wire in range(n))
        observables = MeasurementEnsemble(n, tuple(strings))
    encoding = AngleEncoding.from_rotations(circuit.n_qubits, rotations)
    return MeasuredCircuit(circuit, encoding, observables)


class Spin(eqx.Module):
    """The ground state of one spin: <Z> of -v Z - g X is v / sqrt(v^2 + g^2)."""

    g: float = eqx.field(static=True)

    def __call__(self, v: Array, x: Array) -> Array:
        """The magnetisation in a longitudinal field v."""
        del x
        return v / jnp.sqrt(v**2 + self.g**2)


def mean_field(shape: Shape, g: float) -> Network:
    """Every spin alone in its field and the magnetisations of its neighbours (J = 1)."""
    wiring = wiring_of(shape)
    messages = jnp.ones((wiring.n_kinds, 1, 1))
    injection = EdgeInjection(jnp.array([[DEVIATION]]), messages, learned=False)
    return Network(Spin(g), injection, wiring)


def scaled(fields: np.ndarray) -> Fields:
    """Fields as networks take them, in units of their deviation."""
    return jnp.asarray(fields / DEVIATION)


def answers(
    network: Network,
    x: Fields,
    layers: int | None,
    *,
    mask: Bool[Array, "n ..."] | None = None,
    layer: NetworkEquilibrium | None = None,
) -> tuple[Fields, Float[Array, "n N q"], Bool[Array, " n"]]:
    """What a network says of samples on a lattice of any size.

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
    shape = x.shape[1:]
    network = network.on(wiring_of(shape))

    def one(x: Array, mask: Array) -> tuple[Array, Array, Array]:
        found, states, converged = network.answer(
            x.reshape(-1, 1), layers, layer=layer, mask=mask.ravel()
        )
        return found.reshape(shape), states, converged

    return jax.vmap(one)(x, jnp.ones(x.shape, bool) if mask is None else mask)


def symmetric_answers(
    network: Network, x: Fields, layers: int | None, *, layer: NetworkEquilibrium | None = None
) -> tuple[Fields, Bool[Array, " n"]]:
    """The mean of what a network says of a sample turned in all ways, each answer turned back.

    The ground state turns with the lattice, and with all fields; what a network learns does so
    roughly. Second which samples converged in all ways.
    """
    ways = [(sign, *turn) for turn in symmetries(x.shape[1:]) for sign in (1, -1)]
    turned = jnp.concatenate([sign * there(x) for sign, there, _ in ways])
    found, _, settled = answers(network, turned, layers, layer=layer)
    parts = zip(ways, jnp.split(found, len(ways)), strict=True)
    mean = sum((sign * back(part) for (sign, _, back), part in parts), jnp.zeros_like(x))
    return mean / len(ways), jnp.all(settled.reshape(len(ways), -1), axis=0)
