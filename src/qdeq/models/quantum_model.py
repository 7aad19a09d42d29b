"""A parametrised quantum circuit as a model function f(m, x), evaluated in measured space."""

from collections.abc import Callable
from dataclasses import replace
from types import EllipsisType
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from qdeq import native
from qdeq._precision import PRECISION
from qdeq._scale import direction
from qdeq._vectors import as_reals, as_vector
from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasuredCircuit,
    MeasurementEnsemble,
    NoiseModel,
)
from qdeq.equilibrium._programs import is_staged
from qdeq.equilibrium.enclosures import Encloser, Region
from qdeq.errors import UserError, check_choice, check_kind
from qdeq.models.function import ModelFunction, all_trained
from qdeq.models.injection import Injection, injection_of
from qdeq.names import Method
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

METHODS = get_args(Method)
TYPICAL_BATCH = 256  # samples that share one `prepare`, for the choice between evaluation paths


Form = PlainForm | QuadraticForms | ProjectedColumns | LightConeForm | DensityForm


class InjectedForm(eqx.Module):
    """What `QuantumModel.prepare` computes ahead where features enter by U and b."""

    form: Form
    injection: Injection

    def bind(self, x: Float[Array, " d"]) -> Callable[..., Array]:
        """The model function of one sample with features `x` `(d,)`."""
        x = as_vector("x", x, self.injection.n_features, self.injection.state.dtype)
        return self.form.bind(self.injection.inputs(x))


class QuantumModel(ModelFunction):
    """f_theta(m, x) = < O_k > of the circuit applied to encode(v), v = x + R m or U x + W m + b.

    One sample in the signature; `jax.vmap` for a batch. `model.prepare().bind(x)(m)` is the same
    number in three stages, so that work is done once per parameter value, once per sample, and once
    per solver step.

    Parameters
    ----------
    theta
        `(P,)` angles in radians, in circuit order.
    circuit, encoding, observables
        What runs on the qubits. Angles that the circuit marks as not trainable get zero gradient.
        The attribute `measured` holds them, and the noise, as one value.
    reinjection
        `(d, q)`: the fixed linear map R from measured state to features in the paper's v = x + R m;
        `nearest_neighbour_reinjection` if neither it nor an injection is given.
    injection
        In its place v = U x + W m + b with parts that are learned or fixed, see `Injection`.
    method
        How to evaluate: `"statevector"` (any model without noise), `"quadratic"` (amplitude
        encoding), `"lightcone"` (angle encoding by single rotations), `"density-matrix"` (any
        model, few qubits), or `"auto"`, the cheapest by `evaluation_path`.
    noise
        What goes wrong in the circuit, in encoding rotations and at readout; exact, in every
        evaluation and every gradient. None is a perfect device.
    measured
        In place of circuit, encoding, observables and noise; those given beside it replace its own.

    Raises
    ------
    UserError
        When shapes disagree or the method cannot evaluate the encoding.

    Notes
    -----
    Schleich et al., Quantum Deep Equilibrium Models, arXiv 2410.23940; the paper's z is R m.
    """

    theta: Float[Array, " P"]
    injection: Injection
    measured: MeasuredCircuit = eqx.field(static=True)
    method: str = eqx.field(static=True)

    def __init__(
        self,
        theta: ArrayLike,
        circuit: Circuit | None = None,
        *,
        encoding: AmplitudeEncoding | AngleEncoding | None = None,
        observables: MeasurementEnsemble | None = None,
        reinjection: ArrayLike | None = None,
        injection: Injection | None = None,
        method: str = "auto",
        noise: NoiseModel | EllipsisType | None = ...,
        measured: MeasuredCircuit | None = None,
    ):
        self.theta = as_reals("theta", theta, jnp.result_type(float), "angles in radians")
        parts = {"circuit": circuit, "encoding": encoding, "observables": observables}
        self.measured = _measured(measured, parts, noise)
        self.method = method
        shape = (self.measured.n_features, self.measured.n_observables)
        self.injection = injection_of(injection, reinjection, shape, self.theta.dtype)
        n_parameters = self.measured.n_parameters
        if self.theta.shape != (n_parameters,):
            raise UserError(
                f"theta has shape {self.theta.shape}: the circuit has {n_parameters} "
                f"parameters, give an array of shape ({n_parameters},)"
            )
        check_choice("method", method, METHODS)
        if method == "statevector" and self.noise is not None:
            raise UserError(
                "method='statevector' cannot hold noise, which turns states into mixtures: choose "
                "method='auto' or 'density-matrix', or noise=None"
            )
        if method == "quadratic" and not _is_quadratic(self.measured):
            raise UserError(
                "method='quadratic' needs amplitude encoding and a circuit without feature-fed "
                "operations: choose method='auto' or 'statevector'"
            )
        if method == "lightcone" and lightcone_cost(self.measured) is None:
            raise UserError(
                "method='lightcone' needs angle encoding by RX, RY and RZ and a circuit without "
                "feature-fed operations: choose method='auto' or 'statevector'"
            )

    @property
    def circuit(self) -> Circuit:
        """What runs after the encoding."""
        return self.measured.circuit

    @property
    def encoding(self) -> AmplitudeEncoding | AngleEncoding:
        """How features become a state."""
        return self.measured.encoding

    @property
    def observables(self) -> MeasurementEnsemble:
        """What is measured."""
        return self.measured.observables

    @property
    def noise(self) -> NoiseModel | None:
        """What goes wrong; None on a perfect device."""
        return self.measured.noise

    @property
    def reinjection(self) -> Float[Array, "a q"]:
        """R, or W of an injection as the model has it, within its bound."""
        return self.injection.bounded_state

    @property
    def n_features(self) -> int:
        """d, the length of the features; `measured.n_features` is that of v."""
        return self.injection.n_features

    @property
    def n_observables(self) -> int:
        """q, the length of the measured state."""
        return self.measured.n_observables

    @eqx.filter_jit  # called on its own, one program compiles faster than a hundred operations do
    def __call__(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Float[Array, " q"]:
        """One evaluation for one sample: measured state `(q,)`, features `(d,)` -> `(q,)`."""
        return self.prepare().bind(x)(m)

    def prepare(self) -> Form | InjectedForm:
        """Everything that depends on the parameters alone, computed once per parameter value."""
        # Outside `jit` as one program, which is called in a tenth of the time that its operations
        # take one after another. Inside it is a part of the program around it.
        return self._prepare() if is_staged() else _prepared(self)

    def _prepare(self) -> Form | InjectedForm:
        _, state, _ = self.injection.matrices()
        prepare = _PREPARE[evaluation_path(self)]
        form = prepare(self.measured, self._differentiable_theta(), state)
        return form if self.injection.keeps_features else InjectedForm(form, self.injection)

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
        theta, (_, state, _) = self._differentiable_theta(), self.injection.matrices()
        u = self.injection.inputs(x)
        v = u + jnp.matmul(state, m, precision=PRECISION)
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
            state=encode_sum(self.encoding, u, state, m),
            noise=self.noise,
        )
        return jnp.where(self.is_defined(m, x), probabilities, 1 / probabilities.shape[1])

    @property
    def n_parameters(self) -> int:
        """How many numbers training changes: P angles, and those of a learned injection."""
        return self.theta.shape[-1] + self.injection.n_learned

    def trained(self) -> Any:
        """Which numbers training changes: the circuit's trainable angles, the learned parts."""
        return eqx.tree_at(
            lambda model: (model.theta, model.injection),
            all_trained(self),
            (np.array(self.circuit.trainable, bool), self.injection.trained()),
        )

    @property
    def n_settings(self) -> int:
        """Circuits that one evaluation runs: groups of observables that are measured together."""
        return self.measured.n_settings

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
        """False where v = 0 under amplitude encoding; the model function is 0 there."""
        if not isinstance(self.encoding, AmplitudeEncoding):
            return jnp.array(True)
        _, state, _ = self.injection.matrices()
        return jnp.any(direction(self.injection.inputs(x), state, m)[0] != 0)

    def encloser(self, region: Region) -> Encloser:
        """Bounds on the derivative by m for features in a region, see `equilibrium.certificates`.

        Raises
        ------
        UserError
            Where an angle is a product of features, or amplitudes and angles are mixed.
        """
        from qdeq.models.certificates import encloser_of  # which prepares models itself

        return encloser_of(self, region)

    @property
    def n_read_out(self) -> int:
        """What a head reads: d numbers of the paper's upsampled state, q with other injections."""
        return self.injection.n_read_out

    def read_out(self, m: Float[Array, " q"]) -> Float[Array, " r"]:
        """The paper's z* = R m, with another injection than x + R m the measured state itself."""
        return self.injection.read_out(m)

    def _differentiable_theta(self) -> Float[Array, " P"]:
        if all(self.circuit.trainable):
            return self.theta
        trainable = np.array(self.circuit.trainable)
        return jnp.where(trainable, self.theta, jax.lax.stop_gradient(self.theta))


@eqx.filter_jit
def _prepared(model: QuantumModel) -> Form | InjectedForm:
    return model._prepare()


# With 256 samples a step, solve and gradient by light cones in the kernels take an eighth to a
# fifth of a statevector's time, where they have 1 to 4 times as many coefficients as that has
# multiplications; with 16 samples half of it at twice as many, twice as long at four times as many.
_KERNELS_GAIN = 4

# A function for each evaluation path, of what is measured, theta and the re-injection.
_PREPARE: dict[str, Callable[[MeasuredCircuit, Array, Array], Form]] = {
    "quadratic-forms": prepare_forms,
    "projected-columns": prepare_columns,
    "lightcone": prepare_lightcone,
    "density-matrix": prepare_density,
    "statevector": prepare_plain,
}


def _measured(
    whole: MeasuredCircuit | None, parts: dict[str, Any], noise: NoiseModel | EllipsisType | None
) -> MeasuredCircuit:
    """The constructor's arguments as one value."""
    if whole is None:
        missing = [name for name, part in parts.items() if part is None]
        if missing:
            raise UserError(f"{', '.join(missing)} left out: give them, or measured=")
        return MeasuredCircuit(**parts, noise=None if noise is ... else noise)
    check_kind("measured", whole, MeasuredCircuit, "a MeasuredCircuit")
    changes = {name: part for name, part in parts.items() if part is not None}
    return replace(whole, **changes, **({} if noise is ... else {"noise": noise}))


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
    coefficients than a statevector evaluation has multiplications; compiled kernels, which have
    light cones and no statevector, go through four of them in the time of one. Under noise
    amplitude encoding takes the forms, and what no light cone serves (re-uploading, a phase gate in
    the encoding) the density matrix.
    """
    return path_of(model.measured, model.method)


def path_of(measured: MeasuredCircuit, method: str) -> str:
    """`evaluation_path` of a model of these."""
    if method in ("statevector", "lightcone", "density-matrix"):
        return method
    d, q, size = measured.n_features, measured.n_observables, 2**measured.n_qubits
    if _is_quadratic(measured) and measured.noise is not None:
        return "quadratic-forms"
    if _is_quadratic(measured):
        forms = 2 * size * q * d**2 + TYPICAL_BATCH * q * d**2
        columns = 2 * size * q**2 * d + TYPICAL_BATCH * 2 * size * (d + q)
        cheaper = forms <= columns or not measured.observables.is_diagonal
        return "quadratic-forms" if cheaper else "projected-columns"
    lightcone = lightcone_cost(measured)
    gates = max(len(measured.circuit.operations), 1)  # without any, the state is still prepared
    general, simulation = "statevector", 8 * size * gates
    if measured.noise is not None:
        # Sixteen multiplications for each of 4**n numbers and each block of two wires.
        general, simulation = "density-matrix", 16 * size**2 * gates
    elif native.serves(jnp.float32):
        simulation *= _KERNELS_GAIN
    return general if lightcone is None or lightcone > simulation else "lightcone"


def _is_quadratic(measured: MeasuredCircuit) -> bool:
    return isinstance(measured.encoding, AmplitudeEncoding) and measured.circuit.n_features == 0
