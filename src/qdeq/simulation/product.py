"""Angle encoding as a product state: the Bloch vector of every wire, from rotations fed by features.

The circuit after the encoding is not simulated here; see `lightcone.py`.
"""

import functools
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..circuits import AngleEncoding
from .fusion import PRECISION

AXES = {"RX": 0, "RY": 1, "RZ": 2}


@dataclass(frozen=True, eq=False)
class ProductEncoding:
    """An angle encoding lowered to layers: in layer t, wire w turns about one axis by one angle.

    Neighbouring rotations of a wire about one axis are one rotation by the sum of their features,
    and a rotation of |0> about Z does nothing, so both are gone.

    Attributes
    ----------
    n_qubits
        Wires.
    axes
        `(n_layers, n_qubits, 3)` unit vectors; zero where a wire has fewer rotations.
    sums
        `(n_layers, n_qubits, d)` zeros and ones (or more): angle = sums @ v.
    components
        For every wire the Bloch components that can differ from (0, 0, 1): `""` (the wire stays in
        |0>), `"XZ"` or `"YZ"` (one rotation), or `"XYZ"`.
    """

    n_qubits: int
    axes: np.ndarray
    sums: np.ndarray
    components: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def product_encoding(encoding: AngleEncoding) -> ProductEncoding | None:
    """Lower an encoding; None when it holds other gates than RX, RY, RZ with one feature each."""
    rotations: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(encoding.n_qubits)]
    for operation in encoding.operations:
        if operation.name not in AXES or operation.feature is None:
            return None
        (wire,) = operation.wires
        axis, angle = AXES[operation.name], np.zeros(encoding.n_features)
        angle[operation.feature] = 1
        turns = rotations[wire]
        if turns and turns[-1][0] == axis:
            turns[-1] = (axis, turns[-1][1] + angle)
        elif turns or axis != AXES["RZ"]:
            turns.append((axis, angle))
    n_layers = max(1, max(len(turns) for turns in rotations))
    axes = np.zeros((n_layers, encoding.n_qubits, 3))
    sums = np.zeros((n_layers, encoding.n_qubits, encoding.n_features))
    for wire, turns in enumerate(rotations):
        for layer, (axis, angle) in enumerate(turns):
            axes[layer, wire, axis] = 1
            sums[layer, wire] = angle
    names = {(): "", (0,): "YZ", (1,): "XZ"}
    components = tuple(names.get(tuple(axis for axis, _ in turns), "XYZ") for turns in rotations)
    return ProductEncoding(encoding.n_qubits, axes, sums, components)


class ProductAngles(eqx.Module):
    """The encoding angles as an affine function of the measured state: offset + slope @ m."""

    offset: Float[Array, "layers n"]
    slope: Float[Array, "layers n q"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, "layers n"]:
        """Angles in radians at measured state `m` `(q,)`."""
        return self.offset + jnp.matmul(self.slope, m, precision=PRECISION)


def bloch_vectors(axes: np.ndarray, angles: Float[Array, "layers n"]) -> Float[Array, "n 3"]:
    """Bloch vectors of wires that start in |0> and turn about fixed axes.

    Parameters
    ----------
    axes
        `(layers, n, 3)` unit or zero vectors, static.
    angles
        `(layers, n)` radians.

    Returns
    -------
    Array
        `(n, 3)`: <X>, <Y>, <Z> of every wire.
    """
    n = axes.shape[1]
    x, y, z = jnp.zeros(n), jnp.zeros(n), jnp.ones(n)
    x, y, z = (jnp.asarray(c, angles.dtype) for c in (x, y, z))
    for layer, axis in enumerate(axes):
        # Rodrigues' formula for a unit axis a: r + sin t (a x r) + (1 - cos t) (a (a.r) - r).
        ax, ay, az = (jnp.asarray(a, angles.dtype) for a in axis.T)
        sine, versine = jnp.sin(angles[layer]), 1 - jnp.cos(angles[layer])
        along = ax * x + ay * y + az * z
        turned = jnp.asarray(axis.any(axis=1), angles.dtype)
        x, y, z = (
            x + sine * (ay * z - az * y) + versine * (ax * along - turned * x),
            y + sine * (az * x - ax * z) + versine * (ay * along - turned * y),
            z + sine * (ax * y - ay * x) + versine * (az * along - turned * z),
        )
    return jnp.stack([x, y, z], axis=-1)


def bind_angles(
    encoding: ProductEncoding, x: jax.Array, reinjection: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Offset `(layers, n)` and slope `(layers, n, q)` of the angles in m, for v = x + R m."""
    sums = jnp.asarray(encoding.sums, x.dtype)
    return (
        jnp.matmul(sums, x, precision=PRECISION),
        jnp.matmul(sums, reinjection, precision=PRECISION),
    )
