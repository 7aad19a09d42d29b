"""Small models and executors that the tests of `qdeq.devices` share."""

import functools

import jax.numpy as jnp
import numpy as np

from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasurementEnsemble,
    Operation,
    reuploading,
    z_of_every_wire,
)
from qdeq.devices import Executor, SimulatorExecutor
from qdeq.lowering import Program
from qdeq.models import QuantumModel

# A parameter that turns two gates, a controlled rotation, a U3, a frozen angle; factors, offsets
# and a product of parameters.
LAYER = Circuit(
    2,
    (
        Operation("RY", (0,), parameter=0),
        Operation("CRX", (0, 1), parameter=1),
        Operation("U3", (1,), parameter=(2, 3, 0), factor=(0.5, 1, -1)),
        Operation("CNOT", (1, 0)),
        Operation("CRZ", (1, 0), parameter=4),
        Operation("RX", (0,), parameter=1, factor=-1.5, offset=0.4),
        Operation("RZZ", (0, 1), parameter=(5, 0), factor=0.7),
        Operation("RY", (1,), parameter=4),
    ),
    trainable=(True, True, True, False, True, True),
)
ROTATIONS = AngleEncoding(
    2,
    (
        Operation("RY", (0,), feature=0),
        Operation("RX", (1,), feature=1, factor=-0.5, offset=np.pi / 3),
        Operation("RZ", (1,), feature=2),
        Operation("RY", (1,), feature=0, factor=1.2),
    ),
)
ENCODINGS = {"angle": ROTATIONS, "amplitude": AmplitudeEncoding(2, 3), "reuploading": ROTATIONS}
# Not diagonal: two measurement settings.
OBSERVABLES = MeasurementEnsemble(2, ("ZI", "XX"))


def tiny_model(kind="angle"):
    """Two qubits; the re-injection is small, so that the equilibrium attracts."""
    return _tiny_model(kind, jnp.result_type(float))


@functools.cache
def _tiny_model(kind, dtype):
    circuit = reuploading(ROTATIONS, [LAYER, LAYER]) if kind == "reuploading" else LAYER
    rng = np.random.default_rng(1)
    return QuantumModel(
        rng.normal(size=circuit.n_parameters),
        circuit,
        encoding=ENCODINGS[kind],
        observables=OBSERVABLES,
        reinjection=jnp.asarray(0.3 * rng.normal(size=(3, 2)), dtype),
    )


def tiny_inputs(n, seed=2):
    """`(n, 3)` features."""
    return np.random.default_rng(seed).normal(size=(n, 3))


def simulator(model, **options):
    """qdeq's own simulation of a model's program."""
    return SimulatorExecutor(Program.of(model).circuit, model.observables, **options)


class Failing(Executor):
    """Passes submissions on to another executor, except those whose numbers are in `failures`."""

    def __init__(self, inner, failures=(), error=RuntimeError("the lid was open"), **options):
        super().__init__(inner.circuit, inner.observables, shots=inner.shots, **options)
        self.inner, self.failures, self.error = inner, set(failures), error
        self.n_calls = 0

    def run(self, angles, shots):
        """Fail or run."""
        self.n_calls += 1
        if self.n_calls - 1 in self.failures:
            raise self.error
        return self.inner.run(angles, shots)


class Scripted(Executor):
    """Does whatever the function it is given does."""

    def __init__(self, function, n_qubits=1, **options):
        circuit = Circuit(n_qubits, (Operation("RY", (0,), parameter=0),))
        super().__init__(circuit, z_of_every_wire(n_qubits), **options)
        self.function = function

    def run(self, angles, shots):
        """Call the function."""
        return self.function(angles, shots)
