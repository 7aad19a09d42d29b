"""What circuits know of their derivative over boxes of states: the enclosures of certificates.

What follows from them is `qdeq.equilibrium.certificates`, derivations are in `docs/theory.md`.
Amplitude encoding and the choice are here, rotation angles in `angle_certificates.py`.
"""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qdeq._precision import PRECISION
from qdeq.circuits import AmplitudeEncoding, MeasuredCircuit
from qdeq.equilibrium.enclosures import MARGIN, Encloser, Enclosure, Region, spectral_norms
from qdeq.errors import UserError
from qdeq.models.gains import MIXED, ensemble_norm
from qdeq.simulation import prepare_forms

if TYPE_CHECKING:
    from qdeq.models.angle_certificates import AngleEncloser


@dataclass(frozen=True, eq=False)
class Inputs:
    """Where the encoding's inputs u, before feedback, can be: a part of every row's region.

    Attributes
    ----------
    centre, half_width
        `(B, a)` of the box that holds all of them; half widths may be infinite.
    distance
        `(B,)`: from the centre, in the two-norm.
    least_norm
        `(B,)`: no u is shorter.
    """

    centre: Float[np.ndarray, "B a"]
    half_width: Float[np.ndarray, "B a"]
    distance: Float[np.ndarray, " B"]
    least_norm: Float[np.ndarray, " B"]

    @classmethod
    def known(cls, u: Float[np.ndarray, "B a"]) -> "Inputs":
        """Single vectors."""
        zero = np.zeros(len(u))
        return cls(u, np.zeros_like(u), zero, np.linalg.norm(u, axis=1) * (1 - MARGIN))


def double(tree: Any) -> Any:
    """Its floating-point arrays in float64; under JAX's x64."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64) if eqx.is_inexact_array(leaf) else leaf, tree
    )


def check_finite(tree: Any) -> None:
    """Raise `UserError` where a number of a model is none: bounds would hold of another model."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if eqx.is_inexact_array(leaf) and not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise UserError(f"{name} holds a number that is not finite: nothing can be certified")


def encloser_of(model: Any, region: Region) -> Encloser:
    """`QuantumModel.encloser`."""
    check_finite(model)
    with jax.enable_x64(True):
        model = double(model)
        injection = model.injection
        matrix, state, _ = injection.matrices()
        centres = jnp.asarray(region.centre)
        single = np.asarray(jax.vmap(injection.inputs)(centres))
        inputs = np.asarray(jax.vmap(injection.affine)(centres))
    matrix = None if matrix is None else np.asarray(matrix)
    spread = region.spread(matrix)
    if matrix is None:
        distance = np.linalg.norm(region.half_width, axis=1) + region.radius
        least = region.least_norm
    else:
        distance = np.linalg.norm(region.spread(abs(matrix)), axis=1)
        least = np.zeros(len(region))
    least = np.maximum(least, np.linalg.norm(inputs, axis=1) * (1 - MARGIN) - distance)
    inputs = np.where((distance > 0)[:, None], inputs, single)
    if injection.floor is not None:
        # Lengthening what is short moves inputs more than they differ: only single ones are known.
        moved = (distance > 0) & (least < injection.floor)
        spread = np.where(moved[:, None], np.inf, spread)
        distance = np.where(moved, np.inf, distance)
        least = np.maximum(least, injection.floor * (1 - MARGIN))
    found = Inputs(inputs, spread, distance * (1 + MARGIN), least)
    return circuit_encloser(model, np.asarray(state), found)


def circuit_encloser(
    model: Any, state: Float[np.ndarray, "a q"], inputs: Inputs
) -> "AmplitudeEncloser | AngleEncloser":
    """Of m -> f(u + W m) for a model's circuit, W and what is known of u."""
    from qdeq.models.angle_certificates import angle_encloser

    with jax.enable_x64(True):
        model = double(model)
        measured: MeasuredCircuit = model.measured
        if isinstance(measured.encoding, AmplitudeEncoding):
            if measured.circuit.n_features:
                raise UserError(MIXED)
            return AmplitudeEncloser.of(model, state, inputs)
        return angle_encloser(model, state, inputs)


@functools.partial(jax.jit, static_argnums=0)
def _forms(measured: MeasuredCircuit, theta: jax.Array, state: jax.Array) -> jax.Array:
    return prepare_forms(measured, theta, state).forms


@jax.jit
def _values(forms: jax.Array, u: jax.Array) -> jax.Array:
    return jax.lax.map(
        lambda u: jnp.einsum("kde,d,e->k", forms, u, u, precision=PRECISION), u, batch_size=64
    )


@dataclass(frozen=True, eq=False)
class AmplitudeEncloser:
    """f_k = v'A_k v / v'v with v = u + W m: by |v|, the spread of A_k, and second derivatives.

    Attributes
    ----------
    least, most
        `(q,)`: the smallest and largest eigenvalue of every A_k.
    norm
        The largest half spread of sum c_k A_k over unit vectors c.
    constant, linear, quadratic
        u'A_k u `(B, q)`, W'A_k u `(B, q, q)` and W'A_k W `(q, q, q)`, of the centres.
    """

    state: Float[np.ndarray, "a q"]
    inputs: Inputs
    least: Float[np.ndarray, " q"]
    most: Float[np.ndarray, " q"]
    norm: float
    constant: Float[np.ndarray, "B q"]
    linear: Float[np.ndarray, "B q q"]
    quadratic: Float[np.ndarray, "q q q"]
    low: Float[np.ndarray, "B q"]
    high: Float[np.ndarray, "B q"]

    @classmethod
    def of(cls, model: Any, state: np.ndarray, inputs: Inputs) -> "AmplitudeEncloser":
        """Under JAX's x64."""
        measured = model.measured
        exact = jnp.asarray(state, jnp.float64)
        forms = _forms(measured, jnp.asarray(model.theta), exact)
        constant = np.asarray(_values(forms, jnp.asarray(inputs.centre)))
        forms = np.asarray(forms)
        forms = (forms + forms.swapaxes(1, 2)) / 2
        eigenvalues = np.linalg.eigvalsh(forms)
        least, most = eigenvalues[:, 0] - MARGIN, eigenvalues[:, -1] + MARGIN
        centred = forms - ((least + most) / 2)[:, None, None] * np.eye(forms.shape[1])
        squares = np.einsum("kde,kef->df", centred, centred, optimize=True)
        norm = min(ensemble_norm(measured), math.sqrt(np.linalg.norm(squares, 2)) + MARGIN)
        reinjected = forms @ state
        shape = (len(inputs.centre), state.shape[1])
        box = np.maximum(1.0, np.maximum(abs(least), abs(most)))
        return cls(
            state,
            inputs,
            least,
            most,
            norm,
            constant,
            np.einsum("kdl,bd->bkl", reinjected, inputs.centre, optimize=True),
            np.einsum("dm,kdl->kml", state, reinjected, optimize=True),
            np.broadcast_to(-box, shape[:1] + box.shape),
            np.broadcast_to(box, shape[:1] + box.shape),
        )

    def __call__(self, low: np.ndarray, high: np.ndarray) -> Enclosure:
        state, inputs = self.state, self.inputs
        middle, half = (low + high) / 2, (high - low) / 2
        columns = np.linalg.norm(state, axis=0)
        whole = spectral_norms(state[None])[0]
        shortest = self._shortest(low, high)
        known = shortest > 0
        divisor = np.where(known, shortest, 1.0)
        # At the middle: f, and the Jacobian 2 W'(A_k - f_k) v / v'v.
        v = inputs.centre + middle @ state.T
        square = np.sum(v**2, axis=1)
        square = np.where(known & (square > 0), square, 1.0)
        chord = self.linear + np.einsum("klm,bm->bkl", self.quadratic, middle)
        value = self.constant + np.einsum("bkl,bl->bk", self.linear + chord, middle)
        value = np.clip(value / square[:, None], self.least, self.most)
        turned = v @ state
        centre = chord - value[:, :, None] * turned[:, None, :]
        centre *= 2 / square[:, None, None]
        # How far v gets from there, and by the second derivative the Jacobian.
        moved = np.minimum(whole * np.linalg.norm(half, axis=1), half @ columns)
        moved = (moved + inputs.distance) * (1 + MARGIN)
        spread = self.most - self.least
        size = spread[:, None] * columns / divisor[:, None, None]
        off = 2 * spread[:, None] * columns * (moved / divisor**2)[:, None, None]
        sums = np.linalg.norm(inputs.centre, axis=1) + abs(middle) @ columns
        rounding = MARGIN * 4 * columns * (sums / square)[:, None, None]
        two_norm = 2 * self.norm * whole / divisor
        by_middle = spectral_norms(centre) + 4 * self.norm * whole * moved / divisor**2
        by_middle += spectral_norms(rounding + 0 * centre)
        enclosure = Enclosure(
            low,
            high,
            centre,
            off + rounding,
            size * (1 + MARGIN),
            np.fmin(two_norm, by_middle) * (1 + MARGIN),  # NaN: no such bound
        )
        reach = np.einsum("bkl,bl->bk", enclosure.sizes, half)
        reach += spread * (inputs.distance / divisor)[:, None]
        reach = np.fmin(reach, spread * (moved / divisor)[:, None]) + MARGIN  # NaN: no such bound
        return Enclosure(
            np.where(known[:, None], np.maximum(self.least, value - reach), self.low),
            np.where(known[:, None], np.minimum(self.most, value + reach), self.high),
            centre,
            np.where(known[:, None, None], enclosure.radius, np.inf),
            np.where(known[:, None, None], enclosure.largest, np.inf),
            np.where(known, enclosure.two_norm, np.inf),
        )

    def _shortest(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """`(B,)`: no v is shorter; at most 0 where it may be none.

        For any unit vector p, |v| >= p.v, whose least value over a box is a sum over its sides. The
        p of the shortest v is the best; it comes from a descent that need not have ended.
        """
        state, inputs = self.state, self.inputs
        gram, pull = state.T @ state, inputs.centre @ state
        m = np.clip(0, low, high)
        for _ in range(20):
            for k in np.flatnonzero(np.diag(gram) > 0):
                step = (pull[:, k] + m @ gram[k]) / gram[k, k]
                m[:, k] = np.clip(m[:, k] - step, low[:, k], high[:, k])
        v = inputs.centre + m @ state.T
        length = np.linalg.norm(v, axis=1)
        p = v / np.where(length > 0, length, 1)[:, None]
        by_side = p @ state
        product = np.sum(p * inputs.centre, axis=1) - inputs.distance
        product += np.sum(np.minimum(by_side * low, by_side * high), axis=1)
        columns, largest = np.linalg.norm(state, axis=0), np.maximum(abs(low), abs(high))
        whole = spectral_norms(state[None])[0] * np.linalg.norm(largest, axis=1)
        shorter = inputs.least_norm - np.minimum(whole, largest @ columns)
        sums = np.linalg.norm(inputs.centre, axis=1) + largest @ columns
        return np.fmax(product, shorter) - MARGIN * sums  # NaN: no such bound
