"""qdeq's own simulation as a device: exact or sampled, with or without noise.

For tests, for studies of shots and noise, and as the smallest example of an `Executor`.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.circuits.noise import NoiseModel, check_noise
from qdeq.devices.executor import Executor
from qdeq.devices.ledger import Ledger
from qdeq.errors import check_count
from qdeq.simulation.outcomes import outcome_probabilities
from qdeq.simulation.sampling import sample_expectations

# Rows are padded to the next of these sizes and cut into pieces of the last, so that batches of
# every length share two compiled programs.
_ROWS = (16, 256)


class SimulatorExecutor(Executor):
    """Runs circuits on qdeq's own simulation, in float64 whatever JAX's default is.

    Parameters
    ----------
    circuit, observables, shots, ledger, timeout, retries
        See `Executor`. ``shots=None``: exact expectation values.
    noise
        A noise model of gates and readout; None for a perfect device. It acts on the gates of
        `circuit`. Those of a `Program` are the gates of a device: a model's U3 is three of them,
        its encoding prepares states by some, and each has noise of its own, where the same noise of
        the model acts once on the U3 and not on prepared amplitudes.
    seed
        Of the sampled outcomes. The number of earlier submissions enters too: two equal programs
        see equal outcomes, two submissions of one program different ones.

    Examples
    --------
    >>> from qdeq.circuits import Operation, z_of_every_wire
    >>> bell = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> executor = SimulatorExecutor(bell, z_of_every_wire(2))
    >>> executor(np.array([[0.0], [np.pi / 3]])).round(3)
    array([[1. , 1. ],
           [0.5, 0.5]])
    >>> executor.ledger.executions, executor.ledger.submissions
    (2, 1)
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: MeasurementEnsemble,
        *,
        shots: int | None = None,
        noise: NoiseModel | None = None,
        seed: int = 0,
        ledger: Ledger | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ):
        super().__init__(
            circuit,
            observables,
            shots=shots,
            ledger=ledger,
            name="simulator",
            timeout=timeout,
            retries=retries,
        )
        check_noise(noise, circuit.n_qubits)
        check_count("seed", seed, 0)
        self.noise = noise
        self.seed = seed
        self.n_submissions = 0

    def run(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        """Simulate every row; see `Executor.run`."""
        rng = np.random.default_rng([self.seed, self.n_submissions])
        self.n_submissions += 1
        pieces = []
        # Another thread, such as a callback's, has its own precision setting: it is set here.
        with jax.enable_x64(True):
            for start in range(0, len(angles), _ROWS[-1]):
                piece = angles[start : start + _ROWS[-1]]
                n_rows = next(size for size in _ROWS if size >= len(piece))
                padded = np.concatenate([piece, np.zeros((n_rows - len(piece), angles.shape[1]))])
                weights = np.asarray(
                    _probabilities(self.circuit, self.observables, self.noise, padded)
                )
                if shots is not None:
                    weights = _counts(rng, weights, shots)
                pieces.append(np.asarray(_averages(self.observables, weights))[: len(piece)])
        return np.concatenate(pieces)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _probabilities(
    circuit: Circuit, observables: MeasurementEnsemble, noise: NoiseModel | None, rows: jax.Array
) -> jax.Array:
    return jax.vmap(
        lambda angles: outcome_probabilities(circuit, angles, observables, noise=noise)
    )(rows)


def _counts(rng: np.random.Generator, probabilities: np.ndarray, shots: int) -> np.ndarray:
    # NumPy's multinomial and not JAX's: on the host nothing is gained by a compiled one, and
    # `sample_counts` takes seconds to compile for every number of rows.
    clean = np.maximum(probabilities, 0)
    return rng.multinomial(shots, clean / clean.sum(axis=-1, keepdims=True)).astype(float)


@functools.partial(jax.jit, static_argnums=0)
def _averages(observables: MeasurementEnsemble, weights: jax.Array) -> jax.Array:
    unused = jax.random.key(0)
    return jax.vmap(lambda rows: sample_expectations(unused, rows, observables, None))(weights)
