"""The paper's models: four published circuits, and the same recipe at any number of qubits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    NoiseModel,
    paper_angle_encoding,
    paper_ansatz,
    z_of_every_wire,
)
from qdeq.errors import UserError, check_choice
from qdeq.models.quantum_model import QuantumModel

ENCODINGS = ("amplitude", "angle")


def angle_encoding_of(n_qubits: int, n_features: int) -> AngleEncoding:
    """The paper's angle encoding, for exactly the features that it reads.

    Raises
    ------
    UserError
        Unless there are n_qubits**2 of them.
    """
    encoding = paper_angle_encoding(n_qubits)
    if n_features != encoding.n_features:
        raise UserError(
            f"n_features={n_features}: angle encoding on {n_qubits} qubits reads "
            f"{encoding.n_features} features; ask for {encoding.n_features} of them, or for as "
            "many qubits as the root of their number"
        )
    return encoding


def paper_model(
    n_qubits: int = 4,
    encoding: str = "amplitude",
    *,
    key: PRNGKeyArray | Array,
    n_features: int | None = None,
    trainable: str = "all",
    method: str = "auto",
    noise: NoiseModel | None = None,
) -> QuantumModel:
    """The paper's model function: random layer, blocks, <Z> of every wire, upsampled and fed back.

    Parameters
    ----------
    n_qubits
        4 and 10 are the published circuits (39 and 56 angles).
    encoding
        `"amplitude"` or `"angle"`.
    key
        JAX key for the angles, uniform in (-pi, pi).
    n_features
        d; the paper's n_qubits**2 when None. Angle encoding takes n_qubits**2 only.
    trainable
        `"all"` angles, or the `"published"` code's: 35 of 39 and 40 of 56.
    method, noise
        See `QuantumModel`.

    Returns
    -------
    QuantumModel

    Raises
    ------
    UserError
        For an unknown option, or too few qubits for the features.

    Examples
    --------
    >>> import jax
    >>> model = paper_model(key=jax.random.key(0))
    >>> model.theta.shape, model.circuit.depth()
    ((39,), 27)
    """
    check_choice("encoding", encoding, ENCODINGS)
    circuit = paper_ansatz(n_qubits, trainable=trainable)
    if encoding == "amplitude":
        d = n_qubits**2 if n_features is None else n_features
        encoder = AmplitudeEncoding(n_qubits, d)
    else:
        encoder = angle_encoding_of(n_qubits, n_features or n_qubits**2)
    theta = jax.random.uniform(key, (circuit.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    return QuantumModel(
        theta,
        circuit,
        encoding=encoder,
        observables=z_of_every_wire(n_qubits),
        method=method,
        noise=noise,
    )
