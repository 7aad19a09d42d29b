"""How fast expectation values can follow what a circuit is fed, whatever its angles are.

Of structure alone: a model that is made within these gains is a contraction at every step of its
training. What an angle or an input leaves of them is in the two files of certificates.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qdeq.circuits import (
    GATES,
    AmplitudeEncoding,
    KrausChannel,
    MeasuredCircuit,
    MeasurementEnsemble,
    Operation,
)
from qdeq.equilibrium.enclosures import MARGIN
from qdeq.errors import UserError
from qdeq.models.injection import Injection
from qdeq.simulation.bloch import NoisyProduct
from qdeq.simulation.cones import Product, encoded_product

# Of what is aimed at: float32 weights differ from what they are taken for by less.
_BELOW = 1 - 1e-5


def anticommuting_sets(observables: MeasurementEnsemble) -> int:
    """Into how few sets whose members all anticommute the observables are parted, greedily.

    The norm of sum c_k O_k over such a set is |c|, so over all it is at most sqrt(sets) |c|.

    Examples
    --------
    >>> from qdeq.circuits import xyz_of_every_wire
    >>> anticommuting_sets(xyz_of_every_wire(3))
    3
    """
    sets: list[list[str]] = []
    for string in observables.strings:
        for members in sets:
            if all(_anticommute(string, other) for other in members):
                members.append(string)
                break
        else:
            sets.append([string])
    return len(sets)


def _anticommute(one: str, other: str) -> bool:
    differ = sum(a != b and "I" not in (a, b) for a, b in zip(one, other, strict=True))
    return differ % 2 == 1


def excess(measured: MeasuredCircuit) -> float:
    """By what factor expectation values may exceed 1: own matrices are unitary to 1e-5 only."""
    factor = 1.0
    for operation in (*encoding_operations(measured), *measured.circuit.operations):
        if operation.matrix is not None:
            factor *= max(1.0, float(np.linalg.norm(np.asarray(operation.matrix), 2)) ** 2)
        if measured.noise is None:
            continue
        for channel, _ in measured.noise.channels_after(operation):
            if isinstance(channel, KrausChannel):
                whole = sum(k.conj().T @ k for k in channel.kraus())
                factor *= max(1.0, float(np.linalg.norm(whole, 2)))
    return factor * (1 + MARGIN)


def encoding_operations(measured: MeasuredCircuit) -> tuple[Operation, ...]:
    """Of an angle encoding; none of amplitudes."""
    encoding = measured.encoding
    return () if isinstance(encoding, AmplitudeEncoding) else encoding.operations


def ensemble_norm(measured: MeasuredCircuit) -> float:
    """The largest |sum c_k O_k| over unit vectors c, or a little more."""
    return math.sqrt(anticommuting_sets(measured.observables)) * excess(measured)


@dataclass(frozen=True, eq=False)
class FedAngles:
    """The angles that an input v turns, phi = offsets + sums v, and how fast each may.

    Attributes
    ----------
    sums, offsets
        `(n, a)` and `(n,)`.
    speeds
        `(n,)`: |sum c_k df_k / dphi . a| <= norm |speeds a| for directions a and unit vectors c,
        with `ensemble_norm`.
    operations
        Of angles that are one operation's each: which one of encoding and circuit.
    """

    sums: Float[np.ndarray, "n a"]
    offsets: Float[np.ndarray, " n"]
    speeds: Float[np.ndarray, " n"]
    operations: tuple[int, ...] = ()


def fed_angles(measured: MeasuredCircuit) -> FedAngles:
    """Of a circuit with angle encoding: rotations merged in a product, else every operation's.

    Raises
    ------
    UserError
        Where an angle is a product of features.
    """
    product = encoded_product(measured)
    if product is None or measured.circuit.n_features:
        return fed_operations(measured)
    counts = np.bincount(wires_of(product), minlength=measured.n_qubits)
    # Two rotations about different axes, of which the first turns |0>, move it at right angles.
    pure = not isinstance(product, NoisyProduct)
    effective = np.where(counts > 1, counts - pure, counts)
    speeds = np.sqrt(effective[wires_of(product)].astype(float))
    return FedAngles(product.sums, product.offsets, speeds)


def wires_of(product: Product) -> np.ndarray:
    """Which wire every angle of a product encoding turns, `(n,)`."""
    wires = [wire for c in product.classes for _ in c.axes for wire in c.wires]
    return np.array(wires, dtype=int)


def fed_operations(measured: MeasuredCircuit) -> FedAngles:
    """An angle for every operation that features turn, also in the circuit."""
    encoding = encoding_operations(measured)
    operations = (*encoding, *measured.circuit.operations)
    fed = tuple(i for i, operation in enumerate(operations) if operation.features)
    sums, offsets = np.zeros((len(fed), measured.n_features)), np.zeros(len(fed))
    gaps = np.zeros(len(fed))
    for row, i in enumerate(fed):
        (source,) = operations[i].sources
        if len(source.indices) != 1:
            raise UserError(
                f"an angle of {operations[i].name} on wires {operations[i].wires} is a product of "
                "features, for which no contraction factor is known; feed it by one feature"
            )
        sums[row, source.indices[0]], offsets[row] = source.factor, source.offset
        gaps[row] = generator_spread(operations[i].name)
    # In the product state in front every wire turns on its own; later steps add up.
    counts = np.zeros(measured.n_qubits)
    for operation in encoding:
        counts[operation.wires[0]] += 1
    later = sum(i >= len(encoding) for i in fed)
    speeds = gaps * math.sqrt(counts.max() + later)
    return FedAngles(sums, offsets, speeds, fed)


@functools.cache
def generator_spread(name: str) -> float:
    """Largest less smallest eigenvalue of G, where a gate with one angle t is exp(-i t G).

    >>> round(generator_spread("RX"), 6), round(generator_spread("CRZ"), 6)
    (1.0, 1.0)
    """
    gate, t = GATES[name], 0.3
    assert gate.cosine is not None and gate.sine is not None
    slope = gate.scale * (math.cos(gate.scale * t) * gate.sine)
    slope = slope - gate.scale * math.sin(gate.scale * t) * gate.cosine
    eigenvalues = np.linalg.eigvalsh(1j * slope @ gate.matrix(t).conj().T)
    return float(eigenvalues[-1] - eigenvalues[0]) * (1 + MARGIN)


def injection_within(
    measured: MeasuredCircuit, injection: Injection, most: float, largest_state: float
) -> Injection:
    """The injection, bounded so that L <= `most` for every sample and whatever the angles are.

    Parameters
    ----------
    measured
        Encoding, circuit, observables.
    injection
        A learned W gets a bound, a fixed one is scaled down once. Under amplitude encoding, which
        sees W m against U x + b alone, features get a least length instead.
    most
        Of the contraction factor, in the two-norm.
    largest_state
        |W| where it is known and fixed.

    Raises
    ------
    UserError
        Where no bound is known: products of features, amplitudes and angles mixed.
    """
    norm, q = ensemble_norm(measured), measured.n_observables
    aim = most * _BELOW
    learns = "state" in injection.learned
    if isinstance(measured.encoding, AmplitudeEncoding):
        if measured.circuit.n_features:
            raise UserError(MIXED)
        if learns and injection.bound is None:
            raise UserError("a learned state under amplitude encoding: give its injection a bound")
        longest = injection.bound if learns else largest_state
        assert longest is not None
        floor = longest * (math.sqrt(q) * excess(measured) + 2 * norm / aim)
        return injection.changed(floor=max(floor, injection.floor or 0.0))
    rate = gain_of_inputs(measured)
    if learns:
        return injection.changed(bound=min(aim / rate, injection.bound or math.inf))
    factor = min(1.0, aim / (rate * largest_state)) if largest_state > 0 else 1.0
    return injection.changed(factor=factor)


def gain_of_inputs(measured: MeasuredCircuit) -> float:
    """What no two-norm of the derivative by v exceeds, with angle encoding, whatever the angles.

    A network of such cells is a contraction by at most c if its `EdgeInjection` has a `max_gain` of
    c over this and over `spread_norm(wiring)` of `equilibrium.networks.certificates`.
    """
    fed = fed_angles(measured)
    fastest = float(np.linalg.norm(fed.speeds[:, None] * fed.sums, 2))
    return ensemble_norm(measured) * fastest * (1 + 1e-6)


MIXED = (
    "the circuit reads features after their amplitude encoding, for which no contraction factor is "
    "known: use an angle encoding"
)
