"""From plain values, such as a configuration's, to a model function with random angles."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from qdeq.circuits import (
    Circuit,
    Encoding,
    MeasurementEnsemble,
    NoiseModel,
)
from qdeq.circuits.tables import circuit_by_names
from qdeq.models.classifier import Classifier
from qdeq.models.gains import injection_within
from qdeq.models.injection import Injection, nearest_neighbour_reinjection
from qdeq.models.quantum_model import QuantumModel
from qdeq.names import TABLE_ENCODING

_LARGEST_GAIN = 2.0

# Angles of standardised features begin with this deviation, in radians: where the circuit is nearly
# linear in them, it learns the simple part first and overfits less (`docs/results/tables`).
_INPUT_SCALE = 0.3


def build_model(
    n_qubits: int,
    *,
    n_features: int,
    encoding: str | Encoding = "amplitude",
    rotations: int = 2,
    uploads: int = 1,
    ansatz: str | Circuit = "paper",
    ansatz_layers: int = 3,
    observables: str | MeasurementEnsemble = "z",
    trainable: str = "all",
    method: str = "auto",
    noise: NoiseModel | None = None,
    max_contraction: float | None = None,
    key: PRNGKeyArray | Array,
) -> QuantumModel:
    """A circuit as a model function, each part by its name or as an object.

    Parameters
    ----------
    n_qubits, n_features
        Sizes. Encoding `"angle"` takes `n_qubits**2` features.
    encoding, ansatz, ansatz_layers, observables, trainable
        See `qdeq.circuits.MeasuredCircuit.named`; or encoding `"table"`, any number of features by
        a learned injection into the rotations of `qdeq.table_circuit`.
    rotations, uploads
        Of encoding `"table"`: rotations of every wire, and how often.
    method, noise
        See `QuantumModel`.
    max_contraction
        Feedback is held so small that no angles and no features make the contraction factor
        larger, see `qdeq.equilibrium.certificates`: a learned W gets a bound, the paper's R is
        scaled down, and under amplitude encoding short features are lengthened. None: it is not.
    key
        JAX key for the angles, uniform in (-pi, pi).

    Raises
    ------
    UserError
        For an unknown name, or sizes that do not fit together.

    Examples
    --------
    >>> model = build_model(3, n_features=13, encoding="table", ansatz="hardware-efficient",
    ...     ansatz_layers=1, key=jax.random.key(0))
    >>> model.n_features, model.injection.state.shape
    (13, (6, 3))
    """
    measured = circuit_by_names(
        n_qubits,
        encoding,
        rotations=rotations,
        uploads=uploads,
        n_features=n_features,
        ansatz=ansatz,
        ansatz_layers=ansatz_layers,
        observables=observables,
        trainable=trainable,
        noise=noise,
    )
    injection = None
    if encoding == TABLE_ENCODING:
        key, injection_key = jax.random.split(key)
        injection = Injection.random(
            measured.n_features,
            n_features,
            measured.n_observables,
            key=injection_key,
            scale=_INPUT_SCALE,
            bound=_LARGEST_GAIN,
        )
    if max_contraction is not None:
        fixed = nearest_neighbour_reinjection(measured.n_features, measured.n_observables)
        injection = Injection(fixed) if injection is None else injection
        largest = float(np.linalg.norm(fixed, 2))
        injection = injection_within(measured, injection, max_contraction, largest)
    theta = jax.random.uniform(key, (measured.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    return QuantumModel(theta, measured=measured, injection=injection, method=method)


def build_classifier(
    n_qubits: int,
    n_classes: int,
    *,
    n_features: int,
    head: str = "linear",
    dropout: float = 0.05,
    model_key: PRNGKeyArray | Array,
    head_key: PRNGKeyArray | Array,
    **parts: object,
) -> Classifier:
    """A classifier over the equilibrium of a circuit.

    Parameters
    ----------
    n_qubits, n_classes, n_features
        Sizes.
    head, dropout
        See `Classifier`.
    model_key, head_key
        JAX keys for the angles, and for the head's weights.
    **parts
        The others of `build_model`.

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
    options: dict[str, object] = {"n_features": n_features, "key": model_key, **parts}
    model = build_model(n_qubits, **options)  # pyright: ignore[reportArgumentType]
    return Classifier(model, n_classes, dropout=dropout, head=head, key=head_key)
