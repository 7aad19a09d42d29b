"""Enclosures of circuits that are fed by angles.

Where the encoding turns every wire by itself and light cones are small, they follow from the bounds
of `product_bounds.py`; of any other circuit from how far the generators of its rotations reach.
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

from qdeq.circuits import AngleEncoding, Circuit, MeasuredCircuit, Operation
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
from qdeq.models.product_bounds import (
    Balls,
    bloch_vectors,
    bounded,
    cones_of,
    smallest_balls,
    values_at,
)
from qdeq.simulation import lightcone_cost
from qdeq.simulation.bloch import NoisyProduct
from qdeq.simulation.cones import Product, encoded_product

# The most coefficients of light cones, beyond which nothing is done term by term; and the most
# multiplications per sample, beyond which terms are bounded once for all samples and no more for
# each of them.
_LARGEST, _MOST_TERMS = 2**22, 2**20


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
    # The statevector where there is no noise: circuits of small light cones do not come here.
    method = "auto" if measured.noise is not None else "statevector"
    model = QuantumModel(theta, measured=measured, reinjection=jnp.zeros((n, q)), method=method)
    form, still = model.prepare(), jnp.zeros(q)

    def one(phi: jax.Array) -> tuple[jax.Array, jax.Array]:
        def f(phi: jax.Array) -> jax.Array:
            return form.bind(phi)(still)

        return f(phi), jax.jacfwd(f)(phi)

    return jax.lax.map(one, angles, batch_size=32)


# Products of wires.


def _of_product(
    model: Any, product: Product, cost: int, state: np.ndarray, inputs: Inputs
) -> AngleEncloser:
    measured: MeasuredCircuit = model.measured
    wire_of = wires_of(product)
    is_pure = not isinstance(product, NoisyProduct)
    cones = cones_of(model)
    n, q, above = len(wire_of), measured.n_observables, excess(measured)
    # Nothing known of any wire but that its vector is no longer than 1.
    zeros, ones = np.zeros((1, measured.n_qubits, 3)), np.ones((1, measured.n_qubits))
    unit_balls = Balls(zeros, ones, np.zeros((1, n, 3)), np.ones((1, n)))
    anywhere = bounded(cones, wire_of, q, unit_balls)
    most = np.minimum(anywhere.off[0] * (1 + MARGIN), above)
    middle, reach = anywhere.value[0], anywhere.reach[0] * (1 + MARGIN) + MARGIN
    by_terms = cost * max(1, n) <= _MOST_TERMS

    def near(centres: np.ndarray, widths: np.ndarray) -> Local:
        vectors, slopes = bloch_vectors(product, wire_of, centres)
        chords = np.where(widths < math.pi, 2 * np.sin(np.minimum(widths, math.pi) / 2), 2)
        together = np.stack(
            [chords[:, wire_of == w].sum(axis=1) for w in range(measured.n_qubits)], axis=1
        )
        turned = together
        if is_pure:  # on the sphere, angles add up and not chords
            angles = [widths[:, wire_of == w].sum(axis=1) for w in range(measured.n_qubits)]
            turned = 2 * np.sin(np.minimum(np.stack(angles, axis=1), math.pi) / 2)
        value = values_at(cones, q, vectors)
        if by_terms:
            of_vectors = smallest_balls(vectors, turned + MARGIN)
            of_slopes = smallest_balls(slopes, together[:, wire_of] + MARGIN)
            found = bounded(cones, wire_of, q, Balls(*of_vectors, *of_slopes))
        else:
            points = Balls(
                vectors, np.zeros_like(turned), slopes, np.zeros_like(together[:, wire_of])
            )
            found = bounded(cones, wire_of, q, points)
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
