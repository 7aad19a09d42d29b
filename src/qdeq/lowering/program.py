"""An encoding and a circuit written out for a device: one angle, a slot, per rotation.

What the angles are for given theta and features is here as well; running them is `qdeq.devices`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._gather import products_of_entries
from qdeq.circuits import GATES, AmplitudeEncoding, Circuit, Encoding, MeasuredCircuit, Operation
from qdeq.circuits.operation import AngleSource
from qdeq.errors import UserError
from qdeq.lowering.preparation import preparation, preparation_angles


@dataclass(frozen=True)
class Program:
    """What a device runs for a model: rotations that each have an angle of their own.

    In a model an angle may turn several gates, and features enter through encodings. A device, and
    the parameter-shift rule, want neither: here every occurrence of a rotation is a parameter of
    its own, a slot, and `angles` says which numbers go into the slots.

    Made by `lower` or `Program.of`.

    Attributes
    ----------
    circuit
        S = ``circuit.n_parameters`` slots in time order; no features. Amplitude encoding has become
        RY and CNOT gates, ``U3`` its three factors.
    encoding
        What turns features into angles or amplitudes.
    n_prepared
        The first so many slots prepare the state of an amplitude encoding.
    sources
        For each slot what its angle is; of kind ``"amplitudes"`` for the angles of the state
        preparation.
    trainable
        For each parameter of the model's circuit, whether it receives gradients.

    Examples
    --------
    >>> from qdeq.circuits import AngleEncoding, hardware_efficient
    >>> encoding = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 0)])
    >>> program = lower(hardware_efficient(2, 1), encoding)
    >>> program.circuit.n_parameters, program.encoding_slots
    (6, (0, 1))
    """

    circuit: Circuit
    encoding: Encoding
    n_prepared: int
    sources: tuple[AngleSource, ...]
    trainable: tuple[bool, ...]

    @classmethod
    def of(cls, model: Any) -> Program:
        """The program of a `QuantumModel`, or of a `MeasuredCircuit`."""
        measured = MeasuredCircuit.of(model)
        return lower(measured.circuit, measured.encoding)

    @property
    def n_slots(self) -> int:
        """S, the number of angles of one execution."""
        return len(self.sources)

    @property
    def encoding_slots(self) -> tuple[int, ...]:
        """The slots that features drive, in the order of `encoding_angles`."""
        return tuple(s for s, a in enumerate(self.sources) if a.kind != "parameter")

    @property
    def circuit_slots(self) -> tuple[int, ...]:
        """The slots that theta drives, in the order of `circuit_angles`."""
        return tuple(s for s, a in enumerate(self.sources) if a.kind == "parameter")

    @property
    def trainable_slots(self) -> tuple[int, ...]:
        """Those of `circuit_slots` with a parameter that is trainable."""
        return tuple(
            s for s in self.circuit_slots if any(self.trainable[i] for i in self.sources[s].indices)
        )

    def encoding_angles(self, v: jax.Array) -> jax.Array:
        """Angles of `encoding_slots` for features `(d,)`; see `preparation_angles` for amplitudes.

        Parameters
        ----------
        v
            `(d,)` real: what is encoded, x + R m in a model.

        Returns
        -------
        Array
            `(len(encoding_slots),)` radians.
        """
        prepared = preparation_angles(v) if self.n_prepared else jnp.zeros(0, v.dtype)
        features = [self.sources[s] for s in self.encoding_slots[self.n_prepared :]]
        return jnp.concatenate([prepared, _values(features, v)])

    def circuit_angles(self, theta: jax.Array) -> jax.Array:
        """Angles of `circuit_slots` for parameters `(P,)`: radians, no gradient where not trained.

        Parameters
        ----------
        theta
            `(P,)` radians.

        Returns
        -------
        Array
            `(len(circuit_slots),)` radians.
        """
        if not all(self.trainable):
            theta = jnp.where(np.array(self.trainable), theta, jax.lax.stop_gradient(theta))
        return _values([self.sources[s] for s in self.circuit_slots], theta)

    def parameter_gradient(self, theta: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Derivatives by theta from those by the angles of `trainable_slots`.

        Parameters
        ----------
        theta
            `(P,)` radians.
        slopes
            `(len(trainable_slots),)`.

        Returns
        -------
        ndarray
            `(P,)`; 0 where not trained.
        """
        gradient = np.zeros(len(self.trainable))
        for slot, slope in zip(self.trainable_slots, slopes, strict=True):
            source = self.sources[slot]
            for position, i in enumerate(source.indices):
                if self.trainable[i]:
                    others = source.indices[:position] + source.indices[position + 1 :]
                    gradient[i] += slope * source.factor * np.prod(theta[list(others)])
        return gradient

    def angles(self, theta: jax.Array, v: jax.Array) -> jax.Array:
        """The angles of all slots.

        Parameters
        ----------
        theta
            `(P,)` radians.
        v
            `(d,)` features.

        Returns
        -------
        Array
            `(S,)` radians; differentiable.
        """
        return self.assemble(self.encoding_angles(v), self.circuit_angles(theta))

    def assemble(self, encoding_angles: jax.Array, circuit_angles: jax.Array) -> jax.Array:
        """Angles of the two kinds, `(..., E)` and `(..., C)`, in time order `(..., S)`."""
        position = np.argsort(np.array(self.encoding_slots + self.circuit_slots, dtype=int))
        together = jnp.concatenate([encoding_angles, circuit_angles], axis=-1)
        return together[..., position]


@functools.lru_cache(maxsize=64)
def lower(circuit: Circuit, encoding: Encoding) -> Program:
    """Write an encoding and a circuit out for a device.

    Parameters
    ----------
    circuit
        What runs after the encoding; may itself be fed by features (data re-uploading).
    encoding
        Amplitude encoding becomes a state preparation on the last w = ceil(log2 d) wires, with
        2**w - 1 slots; angle encoding its rotations.

    Returns
    -------
    Program
        At `Program.angles` its circuit makes, from |0...0>, the state that encoding and circuit
        make (amplitude encoding: for v other than 0, where a model's value is 0 by definition).

    Raises
    ------
    UserError
        If the numbers of qubits differ or the circuit is fed by a feature that the encoding lacks.
    """
    if circuit.n_qubits != encoding.n_qubits:
        raise UserError(
            f"the encoding acts on {encoding.n_qubits} qubits and the circuit on "
            f"{circuit.n_qubits}: give both the same number of qubits"
        )
    if circuit.n_features > encoding.n_features:
        raise UserError(
            f"the circuit is fed by feature {circuit.n_features - 1} and the encoding has "
            f"{encoding.n_features} features: give the encoding at least {circuit.n_features}"
        )
    operations: list[Operation] = []
    sources: list[AngleSource] = []
    if isinstance(encoding, AmplitudeEncoding):
        operations += preparation(encoding.n_qubits, encoding.n_features)
        n_prepared = sum(operation.parameter is not None for operation in operations)
        sources += [AngleSource("amplitudes", (i,)) for i in range(n_prepared)]
        written = circuit.operations
    else:
        n_prepared = 0
        written = encoding.operations + circuit.operations
    for operation in written:
        for name, source in _rotations(operation):
            if source is None:
                operations.append(operation)
                continue
            operations.append(Operation(name, operation.wires, parameter=len(sources)))
            sources.append(source)
    device_circuit = Circuit(circuit.n_qubits, tuple(operations))
    return Program(device_circuit, encoding, n_prepared, tuple(sources), circuit.trainable)


def _rotations(operation: Operation) -> list[tuple[str, AngleSource | None]]:
    """The gates of an operation and what drives each; None where nothing does."""
    if not operation.sources:
        return [(operation.name, None)]
    factors = GATES[operation.name].factors or ((operation.name, 0),)
    return [(name, operation.sources[i]) for name, i in factors]


def _values(sources: Sequence[AngleSource], entries: jax.Array) -> jax.Array:
    """The angles `(len(sources),)` for theta or features `entries`."""
    if all(source.is_plain for source in sources):
        return entries[np.array([source.indices[0] for source in sources], dtype=int)]
    products = products_of_entries([source.indices for source in sources], entries)
    factors = jnp.asarray(np.array([source.factor for source in sources]), entries.dtype)
    return factors * products + jnp.asarray(np.array([s.offset for s in sources]), entries.dtype)
