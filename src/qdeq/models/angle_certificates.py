"""Enclosures of circuits that are fed by angles: products of wires term by term, others by steps.

A product encoding turns every wire on its own: where angles are known roughly, the Bloch vector of
a wire is in a small ball, and Pauli coefficients say what that leaves of a derivative.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qdeq.circuits import MeasuredCircuit, Operation
from qdeq.equilibrium.enclosures import MARGIN, Enclosure, spectral_norms
from qdeq.models.certificates import Inputs
from qdeq.models.gains import (
    FedAngles,
    encoding_operations,
    ensemble_norm,
    excess,
    fed_angles,
    fed_operations,
    generator_spread,
    wires_of,
)
from qdeq.simulation import lightcone_cost, prepare_lightcone
from qdeq.simulation.bloch import NoisyProduct, noisy_components
from qdeq.simulation.cones import Product, cone_groups, encoded_product, n_components
from qdeq.simulation.product import pauli_components

# Numbers that are worked on at once; the most coefficients of light cones, beyond which nothing is
# done term by term; and multiplications per sample from which on terms are bounded once for all
# samples and no more for each of them.
_AT_ONCE, _LARGEST, _MOST_TERMS = 2**18, 2**22, 2**20


@dataclass(frozen=True, eq=False)
class Local:
    """What is known near an angle vector, `(B, ...)`.

    Attributes
    ----------
    low, high
        Of f within the half widths, `(B, q)`.
    slopes, off
        `(B, q, n)`: derivatives by the angles, and how far from these they get within the half
        widths.
    """

    low: Float[np.ndarray, "B q"]
    high: Float[np.ndarray, "B q"]
    slopes: Float[np.ndarray, "B q n"]
    off: Float[np.ndarray, "B q n"]


@dataclass(frozen=True, eq=False)
class AngleEncloser:
    """f of angles phi = offsets + sums v, v = u + W m.

    Attributes
    ----------
    most
        `(q, n)`: what no |df_k / dphi_j| exceeds, whatever the angles.
    least_value, most_value
        `(q,)`: of f, whatever the angles.
    two_norm
        What no Jacobian exceeds, whatever the angles.
    near
        Angles and half widths `(B, n)` to what is known there.
    """

    angles: FedAngles
    state: Float[np.ndarray, "a q"]
    inputs: Inputs
    most: Float[np.ndarray, "q n"]
    least_value: Float[np.ndarray, " q"]
    most_value: Float[np.ndarray, " q"]
    two_norm: float
    near: Callable[[np.ndarray, np.ndarray], Local]

    @property
    def low(self) -> Float[np.ndarray, "B q"]:
        return -self.high

    @property
    def high(self) -> Float[np.ndarray, "B q"]:
        # All that outcomes of +1 and -1 can give, so that measured states are in it as well.
        values = np.maximum(1.0, np.maximum(abs(self.least_value), abs(self.most_value)))
        return np.broadcast_to(values, (len(self.inputs.centre), self.state.shape[1]))

    def __call__(self, low: np.ndarray, high: np.ndarray) -> Enclosure:
        middle, half = (low + high) / 2, (high - low) / 2
        turns, offsets = self.angles.sums, self.angles.offsets
        slope = turns @ self.state  # how angles follow the state
        centres = self.inputs.centre @ turns.T + offsets + middle @ slope.T
        with np.errstate(invalid="ignore"):
            moved = abs(turns) * self.inputs.half_width[:, None, :]
            by_box = np.nansum(moved, axis=2)  # NaN of 0 times infinity is 0
        rows = np.linalg.norm(turns, axis=1)
        distance = np.nan_to_num(self.inputs.distance)  # NaN: no ball
        by_ball = np.where(rows > 0, distance[:, None] * rows, 0)
        by_ball = np.where(np.isfinite(self.inputs.distance)[:, None], by_ball, np.inf)
        by_inputs = np.where(rows > 0, np.fmin(by_box, by_ball), 0)  # NaN: no such bound
        sums = abs(self.inputs.centre) @ abs(turns).T + abs(offsets)
        widths = half @ abs(slope).T + by_inputs + MARGIN * (sums + abs(middle) @ abs(slope).T)
        local = self.near(centres, widths)
        centre = local.slopes @ slope
        rounding = MARGIN * (self.most @ abs(slope))
        radius = local.off @ abs(slope) + rounding
        return Enclosure(
            np.maximum(self.least_value, local.low),
            np.minimum(self.most_value, local.high),
            centre,
            radius,
            np.broadcast_to(self.most @ abs(slope) * (1 + MARGIN), centre.shape),
            np.full(len(low), self.two_norm),
        )


def angle_encloser(model: Any, state: np.ndarray, inputs: Inputs) -> AngleEncloser:
    """Of a model with angle encoding, in float64; under JAX's x64."""
    measured: MeasuredCircuit = model.measured
    product = encoded_product(measured)
    cost = None if measured.circuit.n_features else lightcone_cost(measured)
    if product is not None and cost is not None and cost <= _LARGEST:
        return _of_product(model, product, cost, state, inputs)
    return _of_steps(model, state, inputs)


def _rate(measured: MeasuredCircuit, state: np.ndarray) -> float:
    """What no two-norm of a Jacobian by the state exceeds."""
    fed = fed_angles(measured)
    whole = spectral_norms((fed.speeds[:, None] * fed.sums @ state)[None])[0]
    return float(ensemble_norm(measured) * whole * (1 + MARGIN))


# Any circuit: derivatives by how far generators reach.


def _of_steps(model: Any, state: np.ndarray, inputs: Inputs) -> AngleEncloser:
    measured: MeasuredCircuit = model.measured
    operations = (*encoding_operations(measured), *measured.circuit.operations)
    angles = fed_operations(measured)
    fed = angles.operations
    gaps = np.array([generator_spread(operations[i].name) for i in fed])
    most = _reached(measured, operations, fed) * gaps * excess(measured)
    q = measured.n_observables
    bound = np.full(q, excess(measured))

    def near(centres: np.ndarray, widths: np.ndarray) -> Local:
        # An angle moves a derivative by at most the spread of its generator.
        wide = np.sum(np.minimum(widths, 1e6) * gaps, axis=1)
        value, slopes = _by_operations(measured, fed, model.theta, centres)
        off = wide[:, None, None] * most
        reach = _reach(slopes, off, most, widths)
        return Local(value - reach, value + reach, slopes, off)

    return AngleEncloser(angles, state, inputs, most, -bound, bound, _rate(measured, state), near)


def _reach(slopes: np.ndarray, off: np.ndarray, most: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """`(B, q)`: how far f gets from its value at the centre."""
    moves = np.fmin(abs(slopes) + off, most)  # NaN: no such bound
    return np.einsum("bkj,bj->bk", moves, np.minimum(widths, 1e6)) * (1 + MARGIN) + MARGIN


def _reached(
    measured: MeasuredCircuit, operations: Sequence[Operation], fed: Sequence[int]
) -> np.ndarray:
    """`(q, n)`: 1 where an observable can feel an operation that features turn, else 0."""
    found = np.zeros((measured.n_observables, len(fed)))
    row_of = {i: row for row, i in enumerate(fed)}
    for k, letters in enumerate(measured.observables.strings):
        wires = {wire for wire, letter in enumerate(letters) if letter != "I"}
        for i in reversed(range(len(operations))):
            if wires & set(operations[i].wires):
                wires |= set(operations[i].wires)
                if i in row_of:
                    found[k, row_of[i]] = 1
    return found


def _by_operations(
    measured: MeasuredCircuit, fed: Sequence[int], theta: Any, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """f and its derivatives where every operation that features turn has an angle of its own."""
    split = len(encoding_operations(measured))
    operations = list((*encoding_operations(measured), *measured.circuit.operations))
    for row, i in enumerate(fed):
        old = operations[i]
        operations[i] = Operation(old.name, old.wires, feature=row)
    alone = _with_operations(measured, operations, split, len(fed))
    with jax.enable_x64(True):
        value, slopes = _linearised(alone, jnp.asarray(theta), jnp.asarray(centres))
    return np.asarray(value), np.asarray(slopes)


def _with_operations(
    measured: MeasuredCircuit, operations: list[Operation], split: int, n: int
) -> MeasuredCircuit:
    from qdeq.circuits import AngleEncoding, Circuit

    return MeasuredCircuit(
        Circuit(measured.n_qubits, tuple(operations[split:])),
        AngleEncoding(measured.n_qubits, tuple(operations[:split]), n_inputs=n),
        measured.observables,
        noise=measured.noise,
    )


@functools.partial(jax.jit, static_argnums=0)
def _linearised(
    measured: MeasuredCircuit, theta: jax.Array, angles: jax.Array
) -> tuple[jax.Array, jax.Array]:
    from qdeq.models.quantum_model import QuantumModel

    n, q = angles.shape[1], measured.n_observables
    # What turns is the features alone: the derivative is by them.
    # Large light cones are why it is done here.
    method = "auto" if measured.noise is not None else "statevector"
    model = QuantumModel(theta, measured=measured, reinjection=jnp.zeros((n, q)), method=method)
    form, still = model.prepare(), jnp.zeros(q)

    def one(phi: jax.Array) -> tuple[jax.Array, jax.Array]:
        def f(phi: jax.Array) -> jax.Array:
            return form.bind(phi)(still)

        return f(phi), jax.jacfwd(f)(phi)

    return jax.lax.map(one, angles, batch_size=32)


# Products of wires.


@dataclass(frozen=True, eq=False)
class _Cone:
    """Pauli coefficients `(obs, c_0, c_1, ...)` of some observables, and which these are.

    `wires` are those with an axis that varies, `letters` their components from 0, X.
    """

    coefficients: np.ndarray
    observables: tuple[int, ...]
    wires: tuple[int, ...]
    letters: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class _Turns:
    """Which wire every angle turns."""

    wire_of: np.ndarray
    is_pure: bool


def _of_product(
    model: Any, product: Product, cost: int, state: np.ndarray, inputs: Inputs
) -> AngleEncloser:
    measured: MeasuredCircuit = model.measured
    wire_of = wires_of(product)
    turns = _Turns(wire_of, is_pure=not isinstance(product, NoisyProduct))
    cones = _cones(model)
    n, q, above = len(wire_of), measured.n_observables, excess(measured)
    # Nothing known of any wire but that its vector is no longer than 1.
    zeros = np.zeros((1, measured.n_qubits, 3)), np.zeros((1, n, 3))
    anywhere = _bounded(cones, turns, q, *zeros, np.ones((1, measured.n_qubits)), np.ones((1, n)))
    most = np.minimum(anywhere.off[0] * (1 + MARGIN), above)
    middle, reach = anywhere.value[0], anywhere.reach[0] * (1 + MARGIN) + MARGIN
    by_terms = cost * max(1, len(wire_of)) <= _MOST_TERMS

    def near(centres: np.ndarray, widths: np.ndarray) -> Local:
        vectors, slopes = _bloch(product, wire_of, centres)
        chords = np.where(widths < math.pi, 2 * np.sin(np.minimum(widths, math.pi) / 2), 2)
        together = np.stack(
            [chords[:, wire_of == w].sum(axis=1) for w in range(measured.n_qubits)], axis=1
        )
        turned = together
        if turns.is_pure:  # on the sphere, angles add up and not chords
            angles = [widths[:, wire_of == w].sum(axis=1) for w in range(measured.n_qubits)]
            turned = 2 * np.sin(np.minimum(np.stack(angles, axis=1), math.pi) / 2)
        balls = smallest_balls(vectors, turned + MARGIN)
        of_slopes = smallest_balls(slopes, together[:, wire_of] + MARGIN)
        value = _values(cones, q, vectors)
        if by_terms:
            found = _bounded(cones, turns, q, balls[0], of_slopes[0], balls[1], of_slopes[1])
        else:
            none = np.zeros_like(turned), np.zeros_like(together[:, wire_of])
            found = _bounded(cones, turns, q, vectors, slopes, *none)
            wide = np.minimum(widths, 1e6).sum(axis=1)[:, None, None]
            found = replace(found, reach=np.inf + value, off=wide * (most > 0) * above)
        reach = _reach(found.slopes, found.off, most, widths)
        within = found.reach * (1 + MARGIN) + MARGIN
        low = np.maximum(value - reach, found.value - within)
        high = np.minimum(value + reach, found.value + within)
        return Local(low, high, found.slopes, found.off)

    return AngleEncloser(
        fed_angles(measured),
        state,
        inputs,
        most,
        np.maximum(middle - reach, -above),
        np.minimum(middle + reach, above),
        _rate(measured, state),
        near,
    )


def _cones(model: Any) -> list[_Cone]:
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
            _Cone(tensor, cone.observables, tuple(cone.wires[p] for p in kept), letters)
            for cone, tensor in zip(group.cones, tensors, strict=True)
        ]
    return found


@functools.partial(jax.jit, static_argnums=0)
def _prepared(measured: MeasuredCircuit, theta: jax.Array) -> list[jax.Array]:
    return prepare_lightcone(measured, theta, jnp.zeros((1, 1))).coefficients


def _bloch(
    product: Product, wire_of: np.ndarray, angles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The wires' vectors `(B, wires, 3)`, and their derivatives by every angle `(B, n, 3)`."""
    with jax.enable_x64(True):
        vectors, moved = _vectors(product, jnp.asarray(angles))
    return np.asarray(vectors), np.asarray(moved)[:, wire_of, :, np.arange(len(wire_of))].swapaxes(
        0, 1
    )


@functools.partial(jax.jit, static_argnums=0)
def _vectors(product: Product, angles: jax.Array) -> tuple[jax.Array, jax.Array]:
    def vectors(phi: jax.Array) -> jax.Array:
        if isinstance(product, NoisyProduct):
            return noisy_components(product, phi)[:, 1:]
        return pauli_components(product, phi)[:, 1:]

    return jax.vmap(vectors)(angles), jax.vmap(jax.jacfwd(vectors))(angles)


def _values(cones: Sequence[_Cone], q: int, vectors: np.ndarray) -> np.ndarray:
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


@dataclass(frozen=True, eq=False)
class _Bounded:
    value: np.ndarray
    reach: np.ndarray
    slopes: np.ndarray
    off: np.ndarray


def _bounded(
    cones: Sequence[_Cone],
    turns: _Turns,
    q: int,
    vectors: np.ndarray,
    slopes: np.ndarray,
    radii: np.ndarray,
    slope_radii: np.ndarray,
) -> _Bounded:
    """Values and derivatives at the centres of balls, and how far they get in these.

    A term of f is a product of one component of every wire. With r = r0 + e on every wire and
    |e| <= radius, the coefficients are written for (1, e); then a wire is closed by
    |t_1 + e.t| <= |t_1| + radius |t|, one after the other.
    """
    b, n = len(vectors), len(turns.wire_of)
    result = _Bounded(np.zeros((b, q)), np.zeros((b, q)), np.zeros((b, q, n)), np.zeros((b, q, n)))
    for cone in cones:
        size = cone.coefficients.size
        rows = max(1, _AT_ONCE // max(size, 1))
        chosen = list(cone.observables)
        for first in range(0, b, rows):
            part = slice(first, first + rows)
            tensor = np.broadcast_to(
                cone.coefficients, (len(vectors[part]), *cone.coefficients.shape)
            ).copy()
            for axis, (wire, letters) in enumerate(zip(cone.wires, cone.letters, strict=True), 2):
                moved = np.moveaxis(tensor, axis, -1)  # a view: the change is in the tensor
                at = vectors[part][:, wire, list(letters)]
                at = at.reshape(len(at), *[1] * (moved.ndim - 2), -1)
                moved[..., 0] += np.sum(moved[..., 1:] * at, axis=-1)
            origin = (slice(None), slice(None), *[0] * len(cone.wires))
            result.value[part, chosen] = tensor[origin]
            rest = tensor.copy()
            rest[origin] = 0
            result.reach[part, chosen] = _closed(rest, cone.wires, radii[part])
            for axis, (wire, letters) in enumerate(zip(cone.wires, cone.letters, strict=True), 2):
                others = tuple(w for w in cone.wires if w != wire)
                terms = np.moveaxis(tensor, axis, -1)[..., 1:]
                sizes = _closed(np.moveaxis(terms, -1, 2), others, radii[part])
                largest = np.linalg.norm(sizes, axis=2)
                for j in np.flatnonzero(turns.wire_of == wire):
                    along = slopes[part][:, j, list(letters)]
                    along = along.reshape(len(along), *[1] * (terms.ndim - 2), -1)
                    turned = np.sum(terms * along, axis=-1)
                    middle = (slice(None), slice(None), *[0] * len(others))
                    for place, k in enumerate(chosen):
                        result.slopes[part, k, j] = turned[middle][:, place]
                    turned[middle] = 0
                    off = _closed(turned, others, radii[part])
                    off = off + slope_radii[part][:, j, None] * largest
                    for place, k in enumerate(chosen):
                        result.off[part, k, j] = off[:, place]
    return result


def _closed(tensor: np.ndarray, wires: Sequence[int], radii: np.ndarray) -> np.ndarray:
    """|t_1| + radius |t_e| for one wire's axis after the other; some axes in front stay."""
    for wire in reversed(wires):
        radius = radii[:, wire].reshape(-1, *[1] * (tensor.ndim - 2))
        rest = tensor[..., 1:]
        tensor = abs(tensor[..., 0]) + radius * np.sqrt(np.einsum("...c,...c->...", rest, rest))
    return abs(tensor)
