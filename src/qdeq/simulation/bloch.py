"""Angle encoding under noise: every wire's Bloch vector through noisy rotations.

A rotation by a feature turns two components of the vector, a channel maps it affinely: the state
stays a product. What `product.py` is without noise.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from qdeq.circuits import GATES, AngleEncoding, NoiseModel
from qdeq.simulation.product import AXES, LETTERS, linear_angle, sums_and_offsets
from qdeq.simulation.superoperators import transfer_matrix

_QUARTER_TURNS = {
    axis: transfer_matrix([GATES[name].matrix(np.pi / 2)]) for name, axis in AXES.items()
}


@dataclass(frozen=True, eq=False)
class NoisyWires:
    """Wires that turn about the same axes in the same order.

    Attributes
    ----------
    axes
        0, 1, 2 for X, Y, Z, in time order.
    wires
        Which wires.
    maps
        `(steps, wires, 4, 4)`: what happens to (1, x, y, z) after each rotation.
    starts
        `(wires, 4)`: the vectors before the first rotation.
    """

    axes: tuple[int, ...]
    wires: tuple[int, ...]
    maps: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True, eq=False)
class NoisyProduct:
    """An angle encoding and its noise, lowered to rotations and affine maps of single wires.

    Neighbouring rotations about one axis are one if what lies between them does not change under
    that rotation, and a rotation about Z of a vector along Z is none, as without noise.

    Attributes
    ----------
    n_qubits
        Wires.
    classes
        Partition of the wires.
    sums, offsets
        `(n_angles, d)` and `(n_angles,)`, as in `ProductEncoding`.
    components
        Bloch components of every wire that can differ from 0, such as `"XZ"`; `""` where nothing
        depends on the features.
    constants
        `(n_qubits, 4)`: the vector (1, x, y, z) of the wires whose components are `""`.
    """

    n_qubits: int
    classes: tuple[NoisyWires, ...]
    sums: np.ndarray
    offsets: np.ndarray
    components: tuple[str, ...]
    constants: np.ndarray


@functools.lru_cache(maxsize=64)
def noisy_product(encoding: AngleEncoding, noise: NoiseModel) -> NoisyProduct | None:
    """Lower an encoding; None when it holds other than RX, RY, RZ by one feature each."""
    starts = np.tile([1.0, 0.0, 0.0, 1.0], (encoding.n_qubits, 1))
    steps: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in range(encoding.n_qubits)]
    for operation in encoding.operations:
        angle = linear_angle(operation, encoding.n_features)
        if angle is None:
            return None
        (wire,), axis = operation.wires, AXES[operation.name]
        after = np.eye(4)
        for channel, _ in noise.channels_after(operation):
            after = transfer_matrix(channel.kraus()) @ after
        turns = steps[wire]
        if not turns and _unchanged(starts[wire], axis):
            starts[wire] = after @ starts[wire]
        elif turns and turns[-1][0] == axis and _commutes(turns[-1][2], axis):
            turns[-1] = (axis, turns[-1][1] + angle, after @ turns[-1][2])
        else:
            turns.append((axis, angle, after))
    members: dict[tuple[int, ...], list[int]] = {}
    for wire, turns in enumerate(steps):
        members.setdefault(tuple(axis for axis, _, _ in turns), []).append(wire)
    classes = tuple(
        NoisyWires(
            axes,
            tuple(wires),
            np.array([[steps[w][s][2] for w in wires] for s in range(len(axes))]).reshape(
                len(axes), len(wires), 4, 4
            ),
            starts[wires],
        )
        for axes, wires in members.items()
    )
    angles = [steps[w][s][1] for g in classes for s in range(len(g.axes)) for w in g.wires]
    return NoisyProduct(
        encoding.n_qubits,
        classes,
        *sums_and_offsets(angles, encoding),
        tuple(_support(starts[w], steps[w]) for w in range(encoding.n_qubits)),
        # A wire that turns and has no component left is in the maximally mixed state.
        np.array([[1.0, 0, 0, 0] if turns else starts[w] for w, turns in enumerate(steps)]),
    )


def noisy_components(product: NoisyProduct, angles: jax.Array) -> jax.Array:
    """Expectation values 1, <X>, <Y>, <Z> of every wire `(n, 4)`; `angles` `(n_angles,)`."""
    cosines, sines = jnp.cos(angles), jnp.sin(angles)
    first, tables = 0, []
    for group in product.classes:
        n = len(group.wires)
        # A component that is zero on all wires is None; small products would cost more than the
        # contraction with the coefficients.
        vector = [_scaled(column, jnp.ones(n, angles.dtype)) for column in group.starts.T]
        for axis, maps in zip(group.axes, group.maps, strict=True):
            c, s = cosines[first : first + n], sines[first : first + n]
            first += n
            b, a = 1 + (axis + 1) % 3, 1 + (axis + 2) % 3  # from b towards a
            turned = list(vector)
            turned[b] = _sum([_times(vector[b], c), _times(vector[a], -s)])
            turned[a] = _sum([_times(vector[b], s), _times(vector[a], c)])
            vector = [_sum([_scaled(maps[:, i, j], turned[j]) for j in range(4)]) for i in range(4)]
        zero = jnp.zeros(n, angles.dtype)
        tables.append(jnp.stack([zero if v is None else v for v in vector], axis=-1))
    order = [wire for group in product.classes for wire in group.wires]
    table = tables[0] if len(tables) == 1 else jnp.concatenate(tables)
    return table if order == sorted(order) else table[np.argsort(order)]


def _scaled(factors: np.ndarray, values: jax.Array | None) -> jax.Array | None:
    if values is None or not factors.any():
        return None
    return values if np.all(factors == 1) else jnp.asarray(factors, values.dtype) * values


def _times(a: jax.Array | None, b: jax.Array) -> jax.Array | None:
    return None if a is None else a * b


def _sum(terms: list[jax.Array | None]) -> jax.Array | None:
    present = [term for term in terms if term is not None]
    return functools.reduce(jnp.add, present) if present else None


def _unchanged(vector: np.ndarray, axis: int) -> bool:
    return bool(np.allclose(np.delete(vector, [0, 1 + axis]), 0, atol=1e-15))


def _commutes(matrix: np.ndarray, axis: int) -> bool:
    """Whether an affine map commutes with all rotations about an axis: a quarter turn tells."""
    turn = _QUARTER_TURNS[axis]
    return bool(np.allclose(matrix @ turn, turn @ matrix, rtol=0, atol=1e-14))


def _support(start: np.ndarray, steps: list[tuple[int, np.ndarray, np.ndarray]]) -> str:
    """Components that some angle can make non-zero; none for a wire that no feature turns."""
    if not steps:
        return ""
    alive = np.abs(start) > 1e-14
    for axis, _, after in steps:
        b, a = 1 + (axis + 1) % 3, 1 + (axis + 2) % 3
        alive[a] = alive[b] = alive[a] or alive[b]
        alive = (np.abs(after) > 1e-14) @ alive
    return "".join(letter for letter, live in zip(LETTERS, alive[1:], strict=True) if live)
