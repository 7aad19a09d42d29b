"""A model function that a device evaluates, as a JAX function: jit, vmap, first derivatives.

The derivative is one parameter-shift Jacobian per sample, whatever JAX then multiplies it with.
Loops that submit only what they need are in `solve.py` and `train.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from qdeq._precision import PRECISION
from qdeq._scale import direction
from qdeq._vectors import as_vector
from qdeq.circuits import AmplitudeEncoding
from qdeq.devices.callback import on_host
from qdeq.devices.executor import Executor, as_item
from qdeq.devices.shift import shift_jacobian
from qdeq.errors import UserError
from qdeq.lowering.program import Program
from qdeq.models import QuantumModel
from qdeq.models.function import Evaluated
from qdeq.simulation.sampling import check_shots


class DeviceFunction(Evaluated):
    """f(m, x) evaluated by an `Executor`: for `Equilibrium`, `Direct` and `Classifier`.

    Works under `jax.jit` and `jax.vmap` (a whole batch, nested ones too, is one submission) and has
    first derivatives in m, x and theta. Where only m is differentiated, only encoding slots are
    shifted, where only theta is, only trainable circuit slots; the Jacobian is measured once per
    sample, however many tangents or backward steps use it. The implicit gradient of an equilibrium
    so costs, per sample and under `jax.jit`, ``k + (1 + 2 n_encoding) + (1 + 2 n_rotations + 4
    n_controlled)`` circuits, k the solver's steps, if it is solved for ``function.bind(x)`` (as a
    `Classifier` does): for ``function`` and x apart the gradient in x or of a learned injection
    measures the encoding's Jacobian once more. Inside a loop under `jax.vmap` every step runs the
    whole batch until its last sample is done; `solve_on_device` submits the unfinished only.
    Reading `stats.adjoint_residual` measures two more Jacobians; left alone it costs nothing.

    Parameters
    ----------
    model
        Supplies theta, circuit, encoding, observables and injection; its noise, if any, is left
        to the device.
    executor
        Runs ``Program.of(model).circuit`` and measures the model's observables.
    shots, gradient_shots
        For values, and for the shifted circuits of Jacobians; None: the executor's own.

    Raises
    ------
    UserError
        If the executor runs another circuit or measures something else; when traced, if a second
        derivative is asked for (a Jacobian penalty): the shift rule is not applied twice.

    Examples
    --------
    >>> import qdeq
    >>> from qdeq.devices import SimulatorExecutor
    >>> model = qdeq.paper_model(encoding="angle", key=jax.random.key(0))
    >>> executor = SimulatorExecutor(Program.of(model).circuit, model.observables)
    >>> f = DeviceFunction(model, executor)
    >>> batch = jnp.linspace(0, 1, 48).reshape(3, 16)
    >>> jax.jit(jax.vmap(lambda x: f(jnp.zeros(4), x)))(batch).shape
    (3, 4)
    >>> executor.ledger.executions, executor.ledger.submissions
    (3, 1)
    """

    measures_derivatives: ClassVar[bool] = True

    model: QuantumModel
    executor: Executor = eqx.field(static=True)
    # Plain integers: an array cannot be a constant of a program.
    shots: int | None = eqx.field(default=None, static=True, converter=as_item)
    gradient_shots: int | None = eqx.field(default=None, static=True, converter=as_item)

    def __check_init__(self) -> None:
        check_shots("shots", self.shots)
        check_shots("gradient_shots", self.gradient_shots)
        check_executor(self.executor, self.model)

    def __call__(
        self, m: Float[Array, " q"], x: Float[Array, " d"], *, key: Any = None
    ) -> Float[Array, " q"]:
        """Measured state `(q,)`, features `(d,)` -> `(q,)`, one execution per setting.

        `key` is what `Equilibrium` gives to random functions; a device has noise of its own.
        """
        return self.bind(x)(m, key=key)

    def bind(self, x: Float[Array, " d"]) -> DeviceMap:
        """The function of m alone for one sample with features `x` `(d,)`."""
        x = as_vector("x", x, self.model.n_features, self.model.theta.dtype)
        return DeviceMap(self, x)


class Jacobians(eqx.Module):
    """Of the expectation values of one circuit in its angles."""

    encoding: Float[Array, "q E"]
    circuit: Float[Array, "q R"]


class DeviceMap(eqx.Module):
    """f(m) of one sample on a device; made by `DeviceFunction.bind`."""

    function: DeviceFunction
    x: Float[Array, " d"]
    known: Jacobians | None = None

    def __call__(self, m: Float[Array, " q"], *, key: Any = None) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`; `key` is not used."""
        del key
        job, angles, defined = self._at(m)
        values = _values(job, *angles, self.known)
        return jnp.where(defined, values, 0)

    def jacobian(self, m: Float[Array, " q"]) -> Float[Array, "q q"]:
        """df/dm by one measured Jacobian in the encoding's angles."""
        return jax.jacfwd(self)(m)

    def derivatives(self, m: Float[Array, " q"]) -> Jacobians:
        """The Jacobians at m. Under `jax.jit` one that nothing uses is not measured."""
        job, angles, _ = self._at(m)
        every = job.assemble(*angles)
        return Jacobians(_jacobian(job, "encoding", every), _jacobian(job, "circuit", every))

    def with_derivatives(self, derivatives: Jacobians) -> DeviceMap:
        """The same function, differentiated by these Jacobians: right where they were measured."""
        return DeviceMap(self.function, self.x, derivatives)

    def _at(self, m: Array) -> tuple[_Job, tuple[Array, Array, Array], Array]:
        """What is run, the angles of encoding, trained and other gates, whether v is not 0."""
        f = self.function
        program = Program.of(f.model)
        job = _Job(program, f.executor, f.shots, f.gradient_shots)
        m = as_vector("the measured state", m, f.model.n_observables, f.model.theta.dtype)
        v, defined = encoder_input(f.model, m, self.x)
        angles = program.circuit_angles(f.model.theta)
        trained = np.isin(program.circuit_slots, program.trainable_slots)
        others = jax.lax.stop_gradient(angles[~trained])
        return job, (program.encoding_angles(v), angles[trained], others), defined


def encoder_input(
    model: QuantumModel, m: Float[Array, " q"], x: Float[Array, " d"]
) -> tuple[Float[Array, " a"], Bool[Array, ""]]:
    """v of the injection and whether the model is defined there; where not, v is all ones.

    An amplitude-encoded zero vector is no state: a model's value is 0 there, without derivative.
    Where nothing but amplitudes is fed by v, a positive multiple of it is returned, whose squares
    are numbers.
    """
    (_, state, _), u = model.injection.matrices(), model.injection.inputs(x)
    v = u + jnp.matmul(state, m, precision=PRECISION)
    if not isinstance(model.encoding, AmplitudeEncoding):
        return v, jnp.array(True)
    scaled, _ = direction(u, state, m)
    defined = jnp.any(scaled != 0)
    return jnp.where(defined, v if model.circuit.n_features else scaled, 1), defined


def check_executor(executor: Executor, model: QuantumModel) -> None:
    """Raise `UserError` unless the executor runs the model's program and measures its ensemble."""
    if not isinstance(executor, Executor):
        raise UserError(f"executor={executor!r}: give an Executor such as SimulatorExecutor(...)")
    if executor.circuit != Program.of(model).circuit:
        raise UserError(
            f"executor {executor.name} runs another circuit than the model's program: build it "
            "with Program.of(model).circuit"
        )
    if executor.observables != model.observables:
        raise UserError(
            f"executor {executor.name} measures {executor.observables.strings} and the model "
            f"{model.observables.strings}: build it with model.observables"
        )


@dataclass(frozen=True)
class _Job:
    """What a callback needs to know; hashable, since it is a constant of the traced program."""

    program: Program
    executor: Executor
    shots: int | None
    gradient_shots: int | None

    def slots(self, kind: str) -> tuple[int, ...]:
        return self.program.encoding_slots if kind == "encoding" else self.program.trainable_slots

    def assemble(self, encoding: Array, trained: Array, frozen: Array) -> Array:
        program = self.program
        is_trained = np.isin(program.circuit_slots, program.trainable_slots)
        position = np.argsort(
            np.concatenate([np.flatnonzero(is_trained), np.flatnonzero(~is_trained)])
        )
        return program.assemble(encoding, jnp.concatenate([trained, frozen])[position])

    def values(self, angles: np.ndarray) -> np.ndarray:
        return self.executor(angles, purpose="forward", shots=self.shots)

    def jacobian(self, kind: str, angles: np.ndarray) -> np.ndarray:
        purpose = "input gradient" if kind == "encoding" else "parameter gradient"
        return shift_jacobian(
            self.executor, angles, self.slots(kind), self.gradient_shots, purpose=purpose
        )[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _values(
    job: _Job, encoding: Array, trained: Array, frozen: Array, known: Jacobians | None
) -> Array:
    """Expectation values; `known` are the Jacobians there, where they were measured before."""
    del known
    shape = (job.executor.observables.n_observables,)
    return on_host(job.values, job.assemble(encoding, trained, frozen), shape)


@functools.partial(_values.defjvp, symbolic_zeros=True)
def _values_jvp(job: _Job, primals: tuple, tangents: tuple) -> tuple[Array, Any]:
    # The value is measured on its own, with the shots for values. Where nothing uses it, as in an
    # equilibrium's backward pass, the compiler removes that callback.
    value = _values(job, *primals)
    *parts, known = primals
    angles = job.assemble(*parts)
    change = jnp.zeros_like(value)
    for kind, tangent in (("encoding", tangents[0]), ("circuit", tangents[1])):
        if not isinstance(tangent, SymbolicZero):
            jacobian = _jacobian(job, kind, angles) if known is None else getattr(known, kind)
            change += jnp.matmul(jacobian, tangent, precision=PRECISION)
    return value, change


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _jacobian(job: _Job, kind: str, angles: Array) -> Array:
    shape = (job.executor.observables.n_observables, len(job.slots(kind)))
    return on_host(functools.partial(job.jacobian, kind), angles, shape)


@_jacobian.defjvp
def _no_second_derivative(job: _Job, kind: str, primals: tuple, tangents: tuple) -> Any:
    raise UserError(
        f"a second derivative of a function on device {job.executor.name} was asked for: devices "
        "give first derivatives, leave out Jacobian penalties and differentiate once"
    )
