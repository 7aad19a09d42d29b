"""From plain values, such as a configuration's, to a classifier with random angles and head."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from qdeq.circuits import Circuit, Encoding, MeasuredCircuit, MeasurementEnsemble, NoiseModel
from qdeq.models.classifier import Classifier
from qdeq.models.quantum_model import QuantumModel


def build_classifier(
    n_qubits: int,
    n_classes: int,
    *,
    n_features: int,
    encoding: str | Encoding = "amplitude",
    ansatz: str | Circuit = "paper",
    ansatz_layers: int = 3,
    observables: str | MeasurementEnsemble = "z",
    trainable: str = "all",
    head: str = "linear",
    dropout: float = 0.05,
    method: str = "auto",
    noise: NoiseModel | None = None,
    model_key: PRNGKeyArray | Array,
    head_key: PRNGKeyArray | Array,
) -> Classifier:
    """A classifier over the equilibrium of a circuit, each part by its name or as an object.

    Parameters
    ----------
    n_qubits, n_classes, n_features
        Sizes. Angle encoding takes `n_qubits**2` features.
    encoding, ansatz, ansatz_layers, observables, trainable
        See `qdeq.circuits.MeasuredCircuit.named`.
    head
        `"linear"` or `"none"`, see `Classifier`.
    dropout
        See `Classifier`.
    method, noise
        See `QuantumModel`.
    model_key, head_key
        JAX keys for the angles, uniform in (-pi, pi), and for the head's weights.

    Raises
    ------
    UserError
        For an unknown name, or sizes that do not fit together.

    Examples
    --------
    >>> keys = jax.random.split(jax.random.key(0))
    >>> classifier = build_classifier(
    ...     4, 4, n_features=16, head="none", model_key=keys[0], head_key=keys[1]
    ... )
    >>> classifier.model.circuit.n_parameters, classifier.head
    (39, None)
    """
    measured = MeasuredCircuit.named(
        n_qubits,
        encoding,
        ansatz=ansatz,
        ansatz_layers=ansatz_layers,
        observables=observables,
        trainable=trainable,
        n_features=n_features,
        noise=noise,
    )
    theta = jax.random.uniform(model_key, (measured.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    model = QuantumModel(theta, measured=measured, method=method)
    return Classifier(model, n_classes, dropout=dropout, head=head, key=head_key)
