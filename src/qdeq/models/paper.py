"""The paper's models: four published circuits, and the same recipe at any number of qubits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from qdeq._vectors import check_key
from qdeq.circuits import MeasuredCircuit, NoiseModel
from qdeq.models.quantum_model import QuantumModel


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
    measured = MeasuredCircuit.named(
        n_qubits, encoding, trainable=trainable, n_features=n_features, noise=noise
    )
    check_key(key)
    theta = jax.random.uniform(key, (measured.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    return QuantumModel(theta, measured=measured, method=method)
