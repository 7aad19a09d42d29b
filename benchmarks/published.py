"""The published algorithm, written out plainly in JAX: the baseline that speed is measured against.

The state is z in R^d (16 or 100 numbers per sample), the circuit runs gate by gate in every
evaluation, and both the forward and the backward equation are solved by Broyden's method with one
norm for the batch. Written from the paper and a description of the published program; no line of
that program is here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from benchmarks.joint_broyden import (
    JointSolution,
    joint_broyden,
    joint_size,
    worst_size,
)
from qdeq.circuits import GATES, AmplitudeEncoding, Circuit, Encoding, MeasurementEnsemble


@dataclass(frozen=True)
class Settings:
    """How far the published algorithm iterates, and its regularisation.

    Attributes
    ----------
    max_steps, tolerance
        Of both solves.
    every_sample
        Stop on the worst sample (the same work as ours) instead of one norm for the batch.
    dropout, jacobian_weight
        The paper's 0.05 and 0.8.
    """

    max_steps: int = 10
    tolerance: float = 1e-3
    every_sample: bool = False
    dropout: float = 0.05
    jacobian_weight: float = 0.8


OWN_SETTINGS = Settings()
"""Broyden 10 / 10 to a joint 1e-3, as published."""

SAME_WORK = Settings(max_steps=40, tolerance=1e-5, every_sample=True)
"""On until the worst sample is solved to 1e-5, which is what qdeq does."""


class PublishedClassifier(eqx.Module):
    """The angles and the linear head; what runs on the qubits is static."""

    theta: Float[Array, " P"]
    weight: Float[Array, "C d"]
    bias: Float[Array, " C"]
    circuit: Circuit = eqx.field(static=True)
    encoding: Encoding = eqx.field(static=True)
    observables: MeasurementEnsemble = eqx.field(static=True)

    @property
    def unit(self) -> float:
        """sqrt(d / q): how much longer the upsampled state is than the measured one."""
        return (self.encoding.n_features / self.observables.n_observables) ** 0.5


def apply_gate(state: Array, matrix: Array, wires: tuple[int, ...]) -> Array:
    """One gate on one state `(2,) * n`: contract the wires, put the axes back."""
    k = len(wires)
    gate = matrix.reshape((2,) * (2 * k))
    tensor = jnp.tensordot(gate, state, axes=(tuple(range(k, 2 * k)), wires))
    return jnp.moveaxis(tensor, tuple(range(k)), wires)


def gate_matrix(name: str, angle: Array | None, dtype: jnp.dtype) -> Array:
    """The `(2^k, 2^k)` matrix of a gate with at most one angle."""
    gate = GATES[name]
    if angle is None or gate.cosine is None:
        return jnp.asarray(gate.constant, dtype)
    constant, cosine, sine = (
        jnp.asarray(m, dtype) for m in (gate.constant, gate.cosine, gate.sine)
    )
    return constant + jnp.cos(gate.scale * angle) * cosine + jnp.sin(gate.scale * angle) * sine


def model_function(classifier: PublishedClassifier, z: Array, x: Array) -> Array:
    """One evaluation for one sample: encode x + z, run gate by gate, measure, upsample; `(d,)`."""
    n, v = classifier.circuit.n_qubits, x + z
    dtype = jnp.result_type(v.dtype, jnp.complex64)
    if isinstance(classifier.encoding, AmplitudeEncoding):
        state = jnp.zeros(2**n, v.dtype).at[: v.shape[0]].set(v / jnp.linalg.norm(v))
        state = state.astype(dtype).reshape((2,) * n)
    else:
        state = jnp.zeros(2**n, dtype).at[0].set(1).reshape((2,) * n)
        for operation in classifier.encoding.operations:
            (angle,) = operation.angle_values(classifier.theta, v)
            state = apply_gate(state, gate_matrix(operation.name, angle, dtype), operation.wires)
    for operation in classifier.circuit.operations:
        angle = next(iter(operation.angle_values(classifier.theta, v)), None)
        state = apply_gate(state, gate_matrix(operation.name, angle, dtype), operation.wires)
    probabilities = state.real**2 + state.imag**2
    signs = jnp.asarray(classifier.observables.signs(), v.dtype)
    m = signs @ probabilities.reshape(-1)
    return jnp.repeat(m, v.shape[0] // m.shape[0])


def batch_function(classifier: PublishedClassifier, z: Array, x: Array) -> Array:
    """`model_function` for a batch: `(B, d)`, `(B, d)` -> `(B, d)`."""
    return jax.vmap(lambda z, x: model_function(classifier, z, x))(z, x)


def equilibrium(
    classifier: PublishedClassifier, x: Float[Array, "B d"], settings: Settings
) -> tuple[Array, JointSolution]:
    """z* `(B, d)` with its implicit gradient, and how the forward solve ended."""
    size = worst_size(classifier.unit) if settings.every_sample else joint_size
    solve = eqx.Partial(
        joint_broyden, max_steps=settings.max_steps, tolerance=settings.tolerance, size=size
    )
    frozen = jax.lax.stop_gradient(classifier)
    forward = solve(lambda z: batch_function(frozen, z, x) - z, jnp.zeros_like(x))
    forward = jax.lax.stop_gradient(forward)
    # One more evaluation carries the gradient to the parameters; its cotangent is replaced by the
    # solution of v = J'v + cotangent.
    value = batch_function(classifier, forward.value, x)
    return _with_adjoint(value, frozen, forward.value, x, solve), forward


def _with_adjoint(
    value: Array, classifier: PublishedClassifier, z: Array, x: Array, solve: Callable
) -> Array:
    """`value`, whose cotangent c becomes the solution v of v = J'v + c at z."""
    arrays, static = eqx.partition(classifier, eqx.is_array)

    @jax.custom_vjp
    def identity(value: Array, linearised_at: tuple) -> Array:
        return value

    def backward(linearised_at: tuple, cotangent: Array) -> tuple:
        arrays, z, x = linearised_at
        _, pull = jax.vjp(lambda z: batch_function(eqx.combine(arrays, static), z, x), z)
        adjoint = solve(lambda v: pull(v)[0] + cotangent - v, jnp.zeros_like(cotangent))
        return adjoint.value, jax.tree.map(jnp.zeros_like, linearised_at)

    identity.defvjp(lambda value, linearised_at: (value, linearised_at), backward)
    return identity(value, (arrays, z, x))


def loss(
    classifier: PublishedClassifier,
    x: Float[Array, "B d"],
    y: Int[Array, " B"],
    key: Array,
    settings: Settings,
) -> tuple[Array, JointSolution]:
    """Cross-entropy with dropout, plus the Jacobian penalty with one Gaussian vector."""
    dropout_key, probe_key = jax.random.split(key)
    z, solution = equilibrium(classifier, x, settings)
    kept = jax.random.bernoulli(dropout_key, 1 - settings.dropout, z.shape)
    hidden = jnp.where(kept, z / (1 - settings.dropout), 0)
    hidden = jax.nn.relu(hidden)  # may drop NaN, as published: its loss is not reported
    logits = hidden @ classifier.weight.T + classifier.bias
    value = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    if settings.jacobian_weight:
        probe = jax.random.normal(probe_key, z.shape, z.dtype)
        fixed = solution.value
        _, pull = jax.vjp(lambda z: batch_function(classifier, z, x), fixed)
        value += settings.jacobian_weight * jnp.sum(pull(probe)[0] ** 2) / z.size
    return value, solution
