"""Bounds on circuits whose encoding turns every wire by itself, term by term.

Where angles are known roughly, the Bloch vector of a wire is in a small ball. Every term of f is a
product of one component of each wire's vector, times a Pauli coefficient of the circuit, so that
the balls bound f and its derivatives. `angle_certificates.py` makes an enclosure of these bounds.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qdeq.circuits import MeasuredCircuit
from qdeq.equilibrium.enclosures import MARGIN
from qdeq.simulation import prepare_lightcone
from qdeq.simulation.bloch import NoisyProduct, noisy_components
from qdeq.simulation.cones import Product, cone_groups, n_components
from qdeq.simulation.product import pauli_components

_AT_ONCE = 2**18  # numbers that are worked on at once


@dataclass(frozen=True, eq=False)
class Cone:
    """Pauli coefficients `(obs, c_0, c_1, ...)` of some observables, and which these are.

    `wires` are those with an axis that varies, `letters` their components from 0, X.
    """

    coefficients: np.ndarray
    observables: tuple[int, ...]
    wires: tuple[int, ...]
    letters: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Balls:
    """Balls that hold the wires' Bloch vectors, and these vectors' derivatives by every angle.

    Attributes
    ----------
    vectors, radii
        Centres `(B, wires, 3)` and radii `(B, wires)`.
    slopes, slope_radii
        Centres `(B, n, 3)` and radii `(B, n)` of the derivatives.
    """

    vectors: Float[np.ndarray, "B wires 3"]
    radii: Float[np.ndarray, "B wires"]
    slopes: Float[np.ndarray, "B n 3"]
    slope_radii: Float[np.ndarray, "B n"]

    def __getitem__(self, rows: slice) -> "Balls":
        return Balls(*(array[rows] for array in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Bounded:
    """Values `(B, q)` and derivatives `(B, q, n)` of f, and how far it gets from them."""

    value: Float[np.ndarray, "B q"]
    reach: Float[np.ndarray, "B q"]
    slopes: Float[np.ndarray, "B q n"]
    off: Float[np.ndarray, "B q n"]

    def __getitem__(self, rows: slice) -> "Bounded":
        return Bounded(*(array[rows] for array in vars(self).values()))


def cones_of(model: Any) -> list[Cone]:
    """The light cones of a model's observables, with their Pauli coefficients."""
    measured: MeasuredCircuit = model.measured
    form = _prepared(measured, jnp.asarray(model.theta))
    found = []
    for group, coefficients in zip(cone_groups(measured) or (), form, strict=True):
        shape = tuple(n_components(names) for names in group.components)
        kept = [p for p, names in enumerate(group.components) if names]
        tensors = np.asarray(coefficients).reshape(
            len(group.cones), len(group.paulis), *(shape[p] for p in kept)
        )
        letters = tuple(tuple("XYZ".index(c) for c in group.components[p]) for p in kept)
        found += [
            Cone(tensor, cone.observables, tuple(cone.wires[p] for p in kept), letters)
            for cone, tensor in zip(group.cones, tensors, strict=True)
        ]
    return found


@functools.partial(jax.jit, static_argnums=0)
def _prepared(measured: MeasuredCircuit, theta: jax.Array) -> list[jax.Array]:
    return prepare_lightcone(measured, theta, jnp.zeros((1, 1))).coefficients


def bloch_vectors(
    product: Product, wire_of: np.ndarray, angles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The wires' vectors `(B, wires, 3)`, and their derivatives by every angle `(B, n, 3)`."""
    with jax.enable_x64(True):
        vectors, moved = map(np.asarray, _vectors(product, jnp.asarray(angles)))
    return vectors, moved[:, wire_of, :, np.arange(len(wire_of))].swapaxes(0, 1)


@functools.partial(jax.jit, static_argnums=0)
def _vectors(product: Product, angles: jax.Array) -> tuple[jax.Array, jax.Array]:
    def vectors(phi: jax.Array) -> jax.Array:
        if isinstance(product, NoisyProduct):
            return noisy_components(product, phi)[:, 1:]
        return pauli_components(product, phi)[:, 1:]

    return jax.vmap(vectors)(angles), jax.vmap(jax.jacfwd(vectors))(angles)


def values_at(cones: Sequence[Cone], q: int, vectors: np.ndarray) -> np.ndarray:
    """f `(B, q)` where the wires' vectors are these."""
    values = np.zeros((len(vectors), q))
    for cone in cones:
        tensor = cone.coefficients[None]
        for wire, letters in reversed(list(zip(cone.wires, cone.letters, strict=True))):
            one = np.ones((len(vectors), 1))
            at = np.concatenate([one, vectors[:, wire, list(letters)]], axis=1)
            if len(tensor) == 1:  # the first wire: one product of matrices
                tensor = np.moveaxis(tensor[0] @ at.T, -1, 0)
            else:
                tensor = np.einsum("b...c,bc->b...", tensor, at)
        values[:, list(cone.observables)] = tensor
    return values


def smallest_balls(
    points: Float[np.ndarray, "... 3"], distances: Float[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "... 3"], Float[np.ndarray, "..."]]:
    """Small balls, by centre and radius, around what is near a point and no longer than 1.

    >>> centre, radius = smallest_balls(np.array([0.0, 0.0, 1.0]), np.array(1.0))
    >>> print(centre.round(4), radius.round(4))
    [0.  0.  0.5] 0.866
    """
    length = np.linalg.norm(points, axis=-1)
    safe = np.where(length > 0, length, 1)
    # Both spheres meet in a circle around the line to the point, so far out on it.
    out = (1 + length**2 - distances**2) / (2 * safe)
    circle = np.sqrt(np.maximum(0, 1 - out**2))
    inside = (out >= length) & (distances < 1) | (length == 0) & (distances < 1)
    between = ~inside & (out > 0) & (length > 0)
    scale = np.where(inside, 1.0, np.where(between, out / safe, 0.0))
    radius = np.where(inside, distances, np.where(between, circle, 1.0))
    return points * scale[..., None], radius * (1 + MARGIN) + MARGIN


def bounded(cones: Sequence[Cone], wire_of: np.ndarray, q: int, balls: Balls) -> Bounded:
    """Values and derivatives at the centres of balls, and how far they get in these."""
    b, n = len(balls.vectors), len(wire_of)
    found = Bounded(np.zeros((b, q)), np.zeros((b, q)), np.zeros((b, q, n)), np.zeros((b, q, n)))
    for cone in cones:
        rows = max(1, _AT_ONCE // max(cone.coefficients.size, 1))
        for first in range(0, b, rows):
            part = slice(first, first + rows)
            _bound_cone(cone, wire_of, balls[part], found[part])
    return found


def _bound_cone(cone: Cone, wire_of: np.ndarray, balls: Balls, found: Bounded) -> None:
    """Write the bounds of one cone's observables into the arrays of `found`.

    A term of f is a product of one component of every wire. With r = r0 + e on every wire and
    |e| <= radius, the coefficients are written for (1, e); then a wire is closed by
    |t_1 + e.t| <= |t_1| + radius |t|, one after the other.
    """
    chosen, radii = list(cone.observables), balls.radii
    axes = list(enumerate(zip(cone.wires, cone.letters, strict=True), 2))
    tensor = np.repeat(cone.coefficients[None], len(radii), axis=0)
    for axis, (wire, letters) in axes:
        along = np.moveaxis(tensor, axis, -1)  # a view: the change is in the tensor
        along[..., 0] += _contracted(along[..., 1:], balls.vectors[:, wire, list(letters)])
    origin = (slice(None), slice(None), *[0] * len(cone.wires))
    found.value[:, chosen] = tensor[origin]
    rest = tensor.copy()
    rest[origin] = 0
    found.reach[:, chosen] = _closed(rest, cone.wires, radii)
    for axis, (wire, letters) in axes:
        others = tuple(w for w in cone.wires if w != wire)
        terms = np.moveaxis(tensor, axis, -1)[..., 1:]
        largest = np.linalg.norm(_closed(np.moveaxis(terms, -1, 2), others, radii), axis=2)
        for j in np.flatnonzero(wire_of == wire):
            turned = _contracted(terms, balls.slopes[:, j, list(letters)])
            found.slopes[:, chosen, j] = turned[origin[:-1]]
            turned[origin[:-1]] = 0
            off = _closed(turned, others, radii)
            found.off[:, chosen, j] = off + balls.slope_radii[:, j, None] * largest


def _contracted(terms: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The sum over the last axis of terms `(B, ..., c)` times components `(B, c)`."""
    components = components.reshape(len(components), *[1] * (terms.ndim - 2), -1)
    return np.sum(terms * components, axis=-1)


def _closed(tensor: np.ndarray, wires: Sequence[int], radii: np.ndarray) -> np.ndarray:
    """|t_1| + radius |t_e| for one wire's axis after the other; some axes in front stay."""
    for wire in reversed(wires):
        radius = radii[:, wire].reshape(-1, *[1] * (tensor.ndim - 2))
        rest = tensor[..., 1:]
        tensor = abs(tensor[..., 0]) + radius * np.sqrt(np.einsum("...c,...c->...", rest, rest))
    return abs(tensor)
