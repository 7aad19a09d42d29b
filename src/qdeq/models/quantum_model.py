"""A parametrised quantum circuit as a model function f(m, x), evaluated in measured space."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from qdeq._precision import PRECISION
from qdeq._scale import direction
from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasurementEnsemble,
    NoiseModel,
)
from qdeq.errors import UserError, check_choice
from qdeq.models.function import ModelFunction
from qdeq.simulation import (
    DensityForm,
    LightConeForm,
    PlainForm,
    ProjectedColumns,
    QuadraticForms,
    encode_sum,
    lightcone_cost,
    outcome_probabilities,
    prepare_columns,
    prepare_density,
    prepare_forms,
    prepare_lightcone,
    prepare_plain,
    sample_expectations,
)

METHODS = ("auto", "statevector", "quadratic", "lightcone", "density-matrix")
TYPICAL_BATCH = 256  # samples that share one `prepare`, for the choice between evaluation paths


Form = PlainForm | QuadraticForms | ProjectedColumns | LightConeForm | DensityForm


class QuantumModel(ModelFunction):
    """f_theta(m, x) = < O_k > of the circuit applied to encode(x + R m).

    One sample in the signature; `jax.vmap` for a batch. `model.prepare().bind(x)(m)` is the same
    number in three stages, so that work is done once per parameter value, once per sample, and once
    per solver step.

    Parameters
    ----------
    theta
        `(P,)` angles in radians, in circuit order.
    circuit, encoding, observables
        What runs on the qubits. Angles that the circuit marks as not trainable get zero gradient.
    reinjection
        `(d, q)`: the fixed linear map R from measured state to features.
    method
        How to evaluate: `"statevector"` (any model without noise), `"quadratic"` (amplitude
        encoding), `"lightcone"` (angle encoding by single rotations), `"density-matrix"` (any
        model, few qubits), or `"auto"`, the cheapest by `evaluation_path`.
    noise
        What goes wrong in the circuit, in encoding rotations and at readout; exact, in every
        evaluation and every gradient. None is a perfect device.

    Raises
    ------
    UserError
        When shapes disagree or the method cannot evaluate the encoding.

    Notes
    -----
    Schleich et al., Quantum Deep Equilibrium Models, arXiv 2410.23940; the paper's z is R m.
    """

    theta: Float[Array, " P"]
    reinjection: Float[Array, "d q"]
    circuit: Circuit = eqx.field(static=True)
    encoding: AmplitudeEncoding | AngleEncoding = eqx.field(static=True)
    observables: MeasurementEnsemble = eqx.field(static=True)
    method: str = eqx.field(static=True)
    noise: NoiseModel | None = eqx.field(static=True)

    def __init__(
        self,
        theta: ArrayLike,
        circuit: Circuit,
        *,
        encoding: AmplitudeEncoding | AngleEncoding,
        observables: MeasurementEnsemble,
        reinjection: ArrayLike | None = None,
        method: str = "auto",
        noise: NoiseModel | None = None,
    ):
        self.theta = jnp.asarray(theta, jnp.result_type(float))
        self.circuit = circuit
        self.encoding = encoding
        self.observables = observables
        self.method = method
        # A model without rules and readout errors is a perfect device: the fast paths serve it.
        self.noise = None if noise == NoiseModel() else noise
        shape = (encoding.n_features, observables.n_observables)
        if reinjection is None:
            reinjection = nearest_neighbour_reinjection(*shape)
        self.reinjection = jnp.asarray(reinjection, self.theta.dtype)
        if self.theta.shape != (circuit.n_parameters,):
            raise UserError(
                f"theta has shape {self.theta.shape}: the circuit has {circuit.n_parameters} "
                f"parameters, give an array of shape ({circuit.n_parameters},)"
            )
        if self.reinjection.shape != shape:
            raise UserError(
                f"reinjection has shape {self.reinjection.shape}: it maps {shape[1]} expectation "
                f"values to {shape[0]} features, give an array of shape {shape}"
            )
        for what, n_qubits in (
            ("encoding", encoding.n_qubits),
            ("observables", observables.n_qubits),
        ):
            if n_qubits != circuit.n_qubits:
                raise UserError(
                    f"the {what} acts on {n_qubits} qubits and the circuit on {circuit.n_qubits}: "
                    "give both the same number of qubits"
                )
        if circuit.n_features > encoding.n_features:
            raise UserError(
                f"the circuit is fed by feature {circuit.n_features - 1} and the encoding has "
                f"{encoding.n_features} features: give the encoding at least {circuit.n_features}"
            )
        check_choice("method", method, METHODS)
        if noise is not None and not isinstance(noise, NoiseModel):
            raise UserError(
                f"noise={noise!r} is not a NoiseModel: build one, or read a text with parse_noise"
            )
        if self.noise is not None:
            self.noise.check_wires(circuit.n_qubits)
        if method == "statevector" and self.noise is not None:
            raise UserError(
                "method='statevector' cannot hold noise, which turns states into mixtures: choose "
                "method='auto' or 'density-matrix', or noise=None"
            )
        if method == "quadratic" and not _is_quadratic(self):
            raise UserError(
                "method='quadratic' needs amplitude encoding and a circuit without feature-fed "
                "operations: choose method='auto' or 'statevector'"
            )
        if method == "lightcone" and _lightcone_cost(self) is None:
            raise UserError(
                "method='lightcone' needs angle encoding by RX, RY and RZ and a circuit without "
                "feature-fed operations: choose method='auto' or 'statevector'"
            )

    @property
    def n_features(self) -> int:
        """d, the length of the features."""
        return self.encoding.n_features

    @property
    def n_observables(self) -> int:
        """q, the length of the measured state."""
        return self.observables.n_observables

    @eqx.filter_jit  # called on its own, one program compiles faster than a hundred operations do
    def __call__(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Float[Array, " q"]:
        """One evaluation for one sample: measured state `(q,)`, features `(d,)` -> `(q,)`."""
        return self.prepare().bind(x)(m)

    def prepare(self) -> Form:
        """Everything that depends on the parameters alone, computed once per parameter value."""
        theta, reinjection = self._differentiable_theta(), jax.lax.stop_gradient(self.reinjection)
        path = evaluation_path(self)
        if path == "quadratic-forms":
            return prepare_forms(self.circuit, self.observables, theta, reinjection, self.noise)
        if path == "projected-columns":
            return prepare_columns(self.circuit, self.observables, theta, reinjection)
        if path == "lightcone":
            assert isinstance(self.encoding, AngleEncoding)
            return prepare_lightcone(
                self.circuit, self.encoding, self.observables, theta, reinjection, self.noise
            )
        if path == "density-matrix":
            return prepare_density(
                self.circuit, self.encoding, self.observables, theta, reinjection, self.noise
            )
        return prepare_plain(self.circuit, self.encoding, self.observables, theta, reinjection)

    @eqx.filter_jit
    def outcome_probabilities(
        self, m: Float[Array, " q"], x: Float[Array, " d"]
    ) -> Float[Array, "settings outcomes"]:
        """How likely a device reads each bit string, noise included; what shots are drawn from.

        Parameters
        ----------
        m, x
            Measured state `(q,)` and features `(d,)` of one sample.

        Returns
        -------
        Array
            `(n_settings, 2**n)`, a row per group of `observables.settings()`, wire 0 the most
            significant bit. Uniform where amplitude encoding is undefined.
        """
        theta, reinjection = self._differentiable_theta(), jax.lax.stop_gradient(self.reinjection)
        v = x + jnp.matmul(reinjection, m, precision=PRECISION)
        if isinstance(self.encoding, AngleEncoding):
            upload = Circuit(self.encoding.n_qubits, self.encoding.operations)
            return outcome_probabilities(
                upload + self.circuit,
                jnp.concatenate([theta, v]),
                self.observables,
                noise=self.noise,
            )
        angles = jnp.concatenate([theta, v]) if self.circuit.n_features else theta
        probabilities = outcome_probabilities(
            self.circuit,
            angles,
            self.observables,
            state=encode_sum(self.encoding, x, reinjection, m),
            noise=self.noise,
        )
        return jnp.where(self.is_defined(m, x), probabilities, 1 / probabilities.shape[1])

    @property
    def n_parameters(self) -> int:
        """P, the number of angles."""
        return self.theta.shape[-1]

    @property
    def n_settings(self) -> int:
        """Circuits that one evaluation runs: groups of observables that are measured together."""
        return len(self.observables.settings())

    def sample(
        self,
        m: Float[Array, " q"],
        x: Float[Array, " d"],
        *,
        key: PRNGKeyArray | Array,
        shots: int | Int[Array, ""] | None,
    ) -> Float[Array, " q"]:
        """One evaluation from `shots` outcomes per setting, drawn with `key`; None: exact."""
        return sample_expectations(key, self.outcome_probabilities(m, x), self.observables, shots)

    def is_defined(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Bool[Array, ""]:
        """False where v = x + R m = 0 under amplitude encoding; the model function is 0 there."""
        if not isinstance(self.encoding, AmplitudeEncoding):
            return jnp.array(True)
        return jnp.any(direction(x, jax.lax.stop_gradient(self.reinjection), m)[0] != 0)

    @property
    def n_read_out(self) -> int:
        """d: a head reads the upsampled state."""
        return self.n_features

    def read_out(self, m: Float[Array, " q"]) -> Float[Array, " d"]:
        """The re-injected state z = R m, the paper's z*."""
        return jnp.matmul(jax.lax.stop_gradient(self.reinjection), m, precision=PRECISION)

    def _differentiable_theta(self) -> Float[Array, " P"]:
        if all(self.circuit.trainable):
            return self.theta
        trainable = np.array(self.circuit.trainable)
        return jnp.where(trainable, self.theta, jax.lax.stop_gradient(self.theta))


def quantum_model(model: Any, purpose: str) -> QuantumModel:
    """The model itself where it is a `QuantumModel`.

    Raises
    ------
    UserError
        Where it is another model function; `purpose` says what a circuit is needed for.
    """
    if isinstance(model, QuantumModel):
        return model
    raise UserError(
        f"model={type(model).__name__}: {purpose} needs the circuit of a QuantumModel, which this "
        "model function does not have"
    )


def nearest_neighbour_reinjection(n_features: int, n_observables: int) -> np.ndarray:
    """The paper's R: every measured value is repeated over d/q neighbouring features.

    Where q does not divide d, feature i takes the value number `i * q // d`; with more observables
    than features the surplus ones are not fed back.

    Returns
    -------
    ndarray
        `(n_features, n_observables)` of zeros and ones.
    """
    reinjection = np.zeros((n_features, n_observables))
    rows = np.arange(n_features)
    columns = rows * n_observables // n_features if n_observables <= n_features else rows
    reinjection[rows, columns] = 1
    return reinjection


def evaluation_path(model: QuantumModel) -> str:
    """Which path evaluates the model.

    Returns
    -------
    str
        `"statevector"`, `"quadratic-forms"`, `"projected-columns"`, `"lightcone"` or
        `"density-matrix"`.

    Notes
    -----
    The cost model counts real multiplications for one batch of 256 samples. Amplitude encoding
    always takes a quadratic path, whose solver steps cost next to nothing: forms pay q d^2 2^n
    once and q d^2 a sample, projected columns pay q^2 d 2^n once and (d + q) 2^n a sample;
    non-diagonal observables need forms. Angle encoding takes the light cones unless they hold more
    coefficients than a statevector evaluation has multiplications. Under noise amplitude encoding
    takes the forms, and what no light cone serves (re-uploading, a phase gate in the encoding) the
    density matrix.
    """
    if model.method in ("statevector", "lightcone", "density-matrix"):
        return model.method
    d, q, size = model.n_features, model.n_observables, 2**model.circuit.n_qubits
    if _is_quadratic(model) and model.noise is not None:
        return "quadratic-forms"
    if _is_quadratic(model):
        forms = 2 * size * q * d**2 + TYPICAL_BATCH * q * d**2
        columns = 2 * size * q**2 * d + TYPICAL_BATCH * 2 * size * (d + q)
        cheaper = forms <= columns or not model.observables.is_diagonal
        return "quadratic-forms" if cheaper else "projected-columns"
    lightcone = _lightcone_cost(model)
    general, simulation = "statevector", 8 * size * len(model.circuit.operations)
    if model.noise is not None:
        # Sixteen multiplications for each of 4**n numbers and each block of two wires.
        general, simulation = "density-matrix", 16 * size**2 * len(model.circuit.operations)
    return general if lightcone is None or lightcone > simulation else "lightcone"


def _is_quadratic(model: QuantumModel) -> bool:
    return isinstance(model.encoding, AmplitudeEncoding) and model.circuit.n_features == 0


def _lightcone_cost(model: QuantumModel) -> int | None:
    if not isinstance(model.encoding, AngleEncoding):
        return None
    return lightcone_cost(model.circuit, model.encoding, model.observables, model.noise)
