"""One training step on a device, in parts that a failure between them does not undo.

Equilibria, Jacobian in the encoding, Jacobian in the angles; then Adam on the host.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from qdeq._numbers import is_correct
from qdeq.devices.batches import batch_angles
from qdeq.devices.executor import DeviceError, Executor
from qdeq.devices.function import encoder_input
from qdeq.devices.ledger import BudgetSpent
from qdeq.devices.quadratic import quadratic_jacobian
from qdeq.devices.shift import shift_jacobian
from qdeq.devices.solve import solve_on_device
from qdeq.devices.solve_state import DeviceSolution
from qdeq.devices.spsa import spsa_jacobian
from qdeq.devices.train_recipe import DeviceRecipe
from qdeq.devices.train_state import DeviceTraining, StepRecord, Unfinished
from qdeq.equilibrium import AbstractAdjoint, robust_inverse
from qdeq.equilibrium.solver import Solver, as_solver
from qdeq.lowering.program import Program
from qdeq.models import Classifier, Injection, QuantumModel, quantum_model


class Attempt:
    """One step, part by part; `state` always holds what has been measured."""

    def __init__(self, state: DeviceTraining):
        self.state = state

    def run(
        self, executor: Executor, recipe: DeviceRecipe, batch: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Make the step on a batch, `(B, d)` and `(B,)`, leaving out what is measured already.

        Raises
        ------
        DeviceError, BudgetSpent
            From the device; `state` then is where the step goes on.
        """
        self.state = self.state.keep(batch=batch)
        x, y = map(jnp.asarray, batch)
        classifier = self.state.classifier
        model, program = self._model, Program.of(self._model)
        solution = self._solve(executor, recipe, x)
        m = jnp.asarray(solution.value)
        key = jax.random.fold_in(jax.random.key(recipe.seed), self.state.step)
        (loss, accuracy), gradient, vectors = _loss_and_gradients(classifier, m, y, key)
        angles, defined = batch_angles(model, m, x)
        defined = defined[:, 0]  # a single site
        learns_injection = bool(model.injection.learned)
        measured = np.zeros(0)
        if _uses_jacobian(recipe.adjoint) or learns_injection:
            measured = self._input_jacobian(executor, recipe, m, x, angles)
        vectors = _through_equilibrium(recipe, model, solution, x, measured, vectors)
        weights = np.asarray(vectors, np.float64) * defined[:, None]
        slopes = np.einsum("bq,bqs->s", weights, self._angle_jacobian(executor, recipe, angles))
        theta_gradient = program.parameter_gradient(np.asarray(model.theta, np.float64), slopes)
        gradient = eqx.tree_at(
            lambda c: c.model.theta, gradient, jnp.asarray(theta_gradient, model.theta.dtype)
        )
        if learns_injection:
            cotangents = jnp.asarray(np.einsum("bq,bqe->be", weights, measured), m.dtype)
            gradient = eqx.tree_at(
                lambda c: c.model.injection, gradient, _injection_gradient(model, m, x, cotangents)
            )
        classifier, optimiser_state = _update(
            classifier, gradient, self.state.optimiser_state, jnp.asarray(recipe.learning_rate)
        )
        record = StepRecord(
            step=self.state.step + 1,
            loss=float(loss),
            accuracy=float(accuracy),
            gradient_norm=float(optax.tree.norm(gradient)),
            solver_steps=float(np.mean(solution.steps)),
            residual=float(np.mean(solution.residual)),
            converged=float(np.mean(solution.converged)),
            executions=executor.ledger.executions,
            shots=executor.ledger.shots,
        )
        self.state = replace(
            self.state,
            classifier=classifier,
            optimiser_state=optimiser_state,
            step=record.step,
            history=(*self.state.history, record),
            unfinished=Unfinished(),
        )

    @property
    def _model(self) -> QuantumModel:
        return quantum_model(self.state.classifier.model, "training on a device")

    def _solve(self, executor: Executor, recipe: DeviceRecipe, x: jax.Array) -> DeviceSolution:
        if self.state.unfinished.solution is not None:
            return self.state.unfinished.solution
        try:
            solution = solve_on_device(
                self._model,
                executor,
                x,
                solver=recipe.solver,
                tolerance=recipe.tolerance,
                max_steps=recipe.max_steps,
                shots=recipe.shots,
                state=self.state.unfinished.solve,
            )
        except DeviceError as error:
            self.state = self.state.keep(solve=error.state)
            raise
        if solution.budget_spent:
            self.state = self.state.keep(solve=solution.state)
            raise BudgetSpent("the budget ended in the middle of a solve")
        self.state = self.state.keep(solution=solution)
        return solution

    def _input_jacobian(
        self,
        executor: Executor,
        recipe: DeviceRecipe,
        m: jax.Array,
        x: jax.Array,
        angles: np.ndarray,
    ) -> np.ndarray:
        """Derivatives by the encoding's slots `(B, q, E)`, by m `(B, q, q)` if quadratic."""
        if self.state.unfinished.input_jacobian is None:
            shots = recipe.gradient_shots
            if recipe.input_rule == "quadratic":
                measured = quadratic_jacobian(self._model, executor, m, x, shots)[1]
            else:
                slots = Program.of(self._model).encoding_slots
                measured = shift_jacobian(executor, angles, slots, shots, purpose="input gradient")[
                    1
                ]
            self.state = self.state.keep(input_jacobian=measured)
        return np.asarray(self.state.unfinished.input_jacobian)

    def _angle_jacobian(
        self, executor: Executor, recipe: DeviceRecipe, angles: np.ndarray
    ) -> np.ndarray:
        slots = Program.of(self._model).trainable_slots
        if recipe.estimator == "shift":
            return shift_jacobian(executor, angles, slots, recipe.gradient_shots)[1]
        return spsa_jacobian(
            executor,
            angles,
            slots,
            recipe.gradient_shots,
            rng=np.random.default_rng([recipe.seed, self.state.step, 1]),
            perturbations=recipe.perturbations,
            size=recipe.perturbation_size,
        )[1]


@eqx.filter_jit
def _loss_and_gradients(
    classifier: Classifier, m: jax.Array, y: jax.Array, key: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], Classifier, jax.Array]:
    """Mean cross-entropy and accuracy; gradients in the head and in each measured state."""
    keep = classifier.keep_mask(key, m.shape[:1])

    def mean_loss(parts: tuple[Classifier, jax.Array]) -> tuple[jax.Array, jax.Array]:
        classifier, m = parts
        logits = jax.vmap(lambda m, keep: classifier.read_out(m, keep=keep))(m, keep)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.mean(losses), jnp.mean(is_correct(logits, y))

    value, (gradient, vectors) = eqx.filter_value_and_grad(mean_loss, has_aux=True)((classifier, m))
    return value, gradient, vectors


def _uses_jacobian(adjoint: str | AbstractAdjoint) -> bool:
    return adjoint == "implicit" if isinstance(adjoint, str) else adjoint.uses_derivatives


def _through_equilibrium(
    recipe: DeviceRecipe,
    model: QuantumModel,
    solution: DeviceSolution,
    x: jax.Array,
    measured: np.ndarray,
    vectors: jax.Array,
) -> jax.Array:
    """Gradients in the measured states `(B, q)`, passed through their equilibria by the adjoint."""
    m, adjoint = jnp.asarray(solution.value), recipe.adjoint
    jacobians = jnp.zeros((*m.shape, m.shape[1]), m.dtype)
    if _uses_jacobian(adjoint):
        jacobians = jnp.asarray(_in_measured_space(recipe, model, m, x, measured))
    if not isinstance(adjoint, str):
        solver_states = solution.state.solver_state
        return _pull_back_by(adjoint, recipe.solver, jacobians, m, solver_states, vectors)
    return _pull_back(jacobians, vectors) if adjoint == "implicit" else vectors


def _in_measured_space(
    recipe: DeviceRecipe, model: QuantumModel, m: jax.Array, x: jax.Array, measured: np.ndarray
) -> np.ndarray:
    """df/dm of every sample, `(B, q, q)`."""
    if recipe.input_rule == "quadratic":
        return measured
    return np.asarray(_by_state(model, m, x, jnp.asarray(measured, m.dtype)))


@eqx.filter_jit
def _by_state(
    model: QuantumModel, m: jax.Array, x: jax.Array, slot_jacobian: jax.Array
) -> jax.Array:
    program = Program.of(model)

    def one(m: jax.Array, x: jax.Array, slot_jacobian: jax.Array) -> jax.Array:
        moved = jax.jacfwd(lambda m: program.encoding_angles(encoder_input(model, m, x)[0]))(m)
        return jnp.where(encoder_input(model, m, x)[1], slot_jacobian @ moved, 0)

    return jax.vmap(one)(m, x, slot_jacobian)


@eqx.filter_jit
def _injection_gradient(
    model: QuantumModel, m: jax.Array, x: jax.Array, cotangents: jax.Array
) -> Injection:
    """Gradient by U, W and b from that by the encoding's angles, `(B, E)`."""
    program = Program.of(model)

    def by_input(m: jax.Array, x: jax.Array, cotangent: jax.Array) -> jax.Array:
        v = encoder_input(model, m, x)[0]
        found = jax.vjp(program.encoding_angles, v)[1](cotangent)[0]
        # Where the angles of amplitudes have no derivative, the sample adds nothing.
        return jnp.where(jnp.all(jnp.isfinite(found)), found, 0)

    pulled = jax.vmap(by_input)(m, x, cotangents)

    def along(injection: Injection) -> jax.Array:
        changed = eqx.tree_at(lambda model: model.injection, model, injection)
        v = jax.vmap(lambda m, x: encoder_input(changed, m, x)[0])(m, x)
        return jnp.sum(pulled * v)

    return eqx.filter_grad(along)(model.injection)


@jax.jit
def _pull_back(jacobians: jax.Array, vectors: jax.Array) -> jax.Array:
    """(I - J)^-T g of every sample."""

    def one(jacobian: jax.Array, vector: jax.Array) -> jax.Array:
        # The identity where J is not finite: at amplitudes whose angles have no derivative.
        inverse, _ = robust_inverse(jnp.eye(vector.shape[0], dtype=vector.dtype) - jacobian)
        return inverse.T @ vector

    return jax.vmap(one)(jacobians.astype(vectors.dtype), vectors)


@eqx.filter_jit
def _pull_back_by(
    adjoint: AbstractAdjoint,
    solver: Solver,
    jacobians: jax.Array,
    m: jax.Array,
    solver_states: Any,
    vectors: jax.Array,
) -> jax.Array:
    """B' g of every sample, B the adjoint's for a function with the measured Jacobian."""

    def one(jacobian: jax.Array, root: jax.Array, state: Any, vector: jax.Array) -> jax.Array:
        memory = adjoint.remember(as_solver(solver), state)
        operator = adjoint.operator(lambda y, _: jacobian @ y, root, None, memory)
        return jax.linear_transpose(operator, vector)(vector)[0]

    return jax.vmap(one)(jacobians.astype(vectors.dtype), m, solver_states, vectors)


@eqx.filter_jit
def _update(
    classifier: Classifier, gradient: Any, state: Any, learning_rate: jax.Array
) -> tuple[Classifier, Any]:
    scaled, state = optax.scale_by_adam().update(gradient, state)
    updates = jax.tree.map(lambda u: -learning_rate.astype(u.dtype) * u, scaled)
    return eqx.apply_updates(classifier, updates), state
