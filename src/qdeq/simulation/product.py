"""Angle encoding as a product state: Bloch vectors of the wires, from rotations fed by features.

The circuit after the encoding is not simulated here; see `lightcone.py`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._precision import PRECISION
from qdeq.circuits import AngleEncoding, Operation

AXES = {"RX": 0, "RY": 1, "RZ": 2}
LETTERS = "XYZ"


@dataclass(frozen=True, eq=False)
class WireClass:
    """Wires that turn about the same axes in the same order, starting in |0>.

    Attributes
    ----------
    axes
        0, 1, 2 for X, Y, Z, in time order.
    wires
        Which wires.
    """

    axes: tuple[int, ...]
    wires: tuple[int, ...]

    @property
    def components(self) -> str:
        """Bloch components that vary: `""` (it stays |0>), `"XZ"`, `"YZ"` or `"XYZ"`."""
        return {(): "", (0,): "YZ", (1,): "XZ"}.get(self.axes, "XYZ")


@dataclass(frozen=True, eq=False)
class ProductEncoding:
    """An angle encoding lowered to rotations of single wires.

    Neighbouring rotations of a wire about one axis are one rotation by the sum of their features,
    and a rotation of |0> about Z does nothing, so both are gone.

    Attributes
    ----------
    n_qubits
        Wires.
    classes
        Partition of the wires.
    sums, offsets
        `(n_angles, d)` and `(n_angles,)`: the angles are sums @ v + offsets, class by class, in
        each class step by step, in each step wire by wire.
    """

    n_qubits: int
    classes: tuple[WireClass, ...]
    sums: np.ndarray
    offsets: np.ndarray

    @property
    def components(self) -> tuple[str, ...]:
        """`WireClass.components` of every wire."""
        names = {wire: group.components for group in self.classes for wire in group.wires}
        return tuple(names[wire] for wire in range(self.n_qubits))


@functools.lru_cache(maxsize=256)
def product_encoding(encoding: AngleEncoding) -> ProductEncoding | None:
    """Lower an encoding; None when it holds other than RX, RY, RZ by one feature each."""
    rotations: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(encoding.n_qubits)]
    for operation in encoding.operations:
        angle = linear_angle(operation, encoding.n_features)
        if angle is None:
            return None
        (wire,), axis = operation.wires, AXES[operation.name]
        turns = rotations[wire]
        if turns and turns[-1][0] == axis:
            turns[-1] = (axis, turns[-1][1] + angle)
        elif turns or axis != AXES["RZ"]:
            turns.append((axis, angle))
    members: dict[tuple[int, ...], list[int]] = {}
    for wire, turns in enumerate(rotations):
        members.setdefault(tuple(axis for axis, _ in turns), []).append(wire)
    classes = tuple(WireClass(axes, tuple(wires)) for axes, wires in members.items())
    angles = [
        rotations[wire][step][1]
        for group in classes
        for step in range(len(group.axes))
        for wire in group.wires
    ]
    return ProductEncoding(encoding.n_qubits, classes, *sums_and_offsets(angles, encoding))


def linear_angle(operation: Operation, n_features: int) -> np.ndarray | None:
    """The angle of an RX, RY or RZ as coefficients of 1 and of every feature `(1 + d,)`.

    None for other gates and for products of features.
    """
    if operation.name not in AXES or len(operation.features) != 1:
        return None
    (source,) = operation.sources
    angle = np.zeros(1 + n_features)
    angle[0] = source.offset
    angle[1 + source.indices[0]] = source.factor
    return angle


def sums_and_offsets(
    angles: Sequence[np.ndarray], encoding: AngleEncoding
) -> tuple[np.ndarray, np.ndarray]:
    """Angles from `linear_angle` as `ProductEncoding.sums` and `ProductEncoding.offsets`."""
    table = np.array(angles).reshape(-1, 1 + encoding.n_features)
    return table[:, 1:], table[:, 0]


def bind_angles(
    sums: np.ndarray, offsets: np.ndarray, x: jax.Array, reinjection: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The angles sums @ v + offsets, v = x + R m, as `(n_angles,)` + `(n_angles, q)` @ m."""
    matrix = jnp.asarray(sums, x.dtype)
    start = jnp.matmul(matrix, x, precision=PRECISION)
    if offsets.any():
        start = start + jnp.asarray(offsets, x.dtype)
    return start, jnp.matmul(matrix, reinjection, precision=PRECISION)


def pauli_components(encoding: ProductEncoding, angles: jax.Array) -> jax.Array:
    """Expectation values of I, X, Y, Z of every wire.

    Parameters
    ----------
    encoding
        From `product_encoding`.
    angles
        `(n_angles,)` radians.

    Returns
    -------
    Array
        `(n_qubits, 4)`: 1, <X>, <Y>, <Z>.
    """
    cosines, sines = jnp.cos(angles), jnp.sin(angles)
    start, rows = 0, []
    for group in encoding.classes:
        n = len(group.wires)
        one, zero = jnp.ones(n, angles.dtype), jnp.zeros(n, angles.dtype)
        bloch: list[jax.Array | None] = [
            None,
            None,
            one,
        ]  # None is zero: what is known is not spent
        for axis in group.axes:
            c, s = cosines[start : start + n], sines[start : start + n]
            start += n
            b, a = (axis + 1) % 3, (axis + 2) % 3  # from b towards a
            bloch[b], bloch[a] = (
                _sum(_times(bloch[b], c), _times(bloch[a], -s)),
                _sum(_times(bloch[b], s), _times(bloch[a], c)),
            )
        rows.append(jnp.stack([one, *(zero if r is None else r for r in bloch)], axis=-1))
    table = rows[0] if len(rows) == 1 else jnp.concatenate(rows)
    order = [wire for group in encoding.classes for wire in group.wires]
    return table if order == sorted(order) else table[np.argsort(order)]


def _times(a: jax.Array | None, b: jax.Array) -> jax.Array | None:
    return None if a is None else a * b


def _sum(a: jax.Array | None, b: jax.Array | None) -> jax.Array | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
