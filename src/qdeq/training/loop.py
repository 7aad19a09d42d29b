"""The compiled training loop: one epoch, validation included, is one XLA program.

Knows no files and prints nothing; `run.py` writes what comes out of it.
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..data import Dataset, Split
from ..equilibrium import (
    ADJOINTS,
    SOLVERS,
    ConstantSteps,
    Direct,
    Equilibrium,
    RandomSteps,
    frobenius_norm,
)
from ..models import Classifier, Prediction, paper_model
from .config import TrainConfig

EVALUATION_CHUNK = 1024  # samples evaluated at once: bounds memory, and 10-qubit columns stay in cache


class TrainState(eqx.Module):
    """Everything that a resumed run needs; randomness follows from `key` and `epoch` alone."""

    classifier: Classifier
    optimiser_state: PyTree
    best_classifier: Classifier
    best_valid_loss: Float[Array, ""]
    epoch: Int[Array, ""]
    key: Array


class BatchMetrics(eqx.Module):
    """Sums over the samples of a batch (maxima for `residual_max`); weights mask the padding."""

    count: Array
    loss: Array
    correct: Array
    residual: Array
    residual_max: Array
    converged: Array
    steps: Array
    evaluations: Array
    gradient_norm: Array


class Trainer:
    """Trains one configuration on one data set.

    Parameters
    ----------
    config
        What to train.
    dataset
        Its `x` are `(N, d)` features.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset):
        self.config = config
        self.dataset = dataset
        self.n_qubits = config.n_qubits or (4 if dataset.n_classes <= 4 else 10)
        steps = [optax.adam(config.learning_rate)]
        if config.gradient_clip:
            steps.insert(0, optax.clip_by_global_norm(config.gradient_clip))
        self.optimiser = optax.chain(*steps)
        self.equilibrium = Equilibrium(
            solver=SOLVERS[config.solver](rtol=config.tolerance, atol=config.tolerance),
            adjoint=ADJOINTS[config.adjoint](),
            max_steps=config.max_steps,
        )
        if config.random_steps_minus:
            self.schedule = RandomSteps(config.max_steps, minus=config.random_steps_minus)
        else:
            self.schedule = ConstantSteps(config.max_steps)
        self._static: Any = None
        self._arrays = {
            name: (jnp.asarray(split.x), jnp.asarray(split.y))
            for name, split in (("train", dataset.train), ("valid", dataset.valid))
        }
        self._programs: dict[str, Any] = {}

    def layer(self, phase: str) -> Equilibrium | Direct:
        """The layer of a phase: `"implicit"` or `"direct"` (warm-up, or the whole run)."""
        if phase == "implicit":
            return self.equilibrium
        warming_up = self.config.mode == "implicit"
        return Direct(layers=self.config.warmup_layers if warming_up else self.config.layers)

    def phase(self, epoch: int) -> str:
        """The phase of an epoch, counted from 0."""
        if self.config.mode == "direct" or epoch < self.config.warmup_epochs:
            return "direct"
        return "implicit"

    @property
    def final_layer(self) -> Equilibrium | Direct:
        """The layer with which the trained model is used."""
        return self.layer(self.config.mode)

    def init(self) -> TrainState:
        """A fresh state: random angles and head, seeded by the configuration."""
        key = jax.random.key(self.config.seed)
        model_key, head_key, run_key = jax.random.split(key, 3)
        model = paper_model(
            self.n_qubits,
            self.config.encoding,
            key=model_key,
            n_features=self.dataset.n_features,
            trainable=self.config.trainable,
            method=self.config.method,
        )
        classifier = Classifier(
            model, self.dataset.n_classes, dropout=self.config.dropout, key=head_key
        )
        return TrainState(
            classifier=classifier,
            optimiser_state=self.optimiser.init(eqx.filter(classifier, eqx.is_inexact_array)),
            best_classifier=classifier,
            best_valid_loss=jnp.array(jnp.inf, classifier.model.theta.dtype),
            epoch=jnp.array(0, jnp.int32),
            key=jax.random.key_data(run_key),
        )

    def compile(self, state: TrainState | None = None) -> float:
        """Compile what the next epoch needs; returns the seconds spent, 0 when it was compiled."""
        state = self.init() if state is None else state
        _, seconds = self._program(self.phase(int(state.epoch)), state)
        return seconds

    def run_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Train one epoch, validate, keep the best model of the phase.

        Returns
        -------
        state, metrics
            The metrics are plain numbers: see the keys below. Residuals are per-sample relative
            norms |f(m) - m| / |f(m)|; executions count evaluations of the model function in the
            forward passes of training.
        """
        epoch = int(state.epoch)
        phase = self.phase(epoch)
        program, _ = self._program(phase, state)
        began = time.perf_counter()
        dynamic, static = eqx.partition(state, eqx.is_array)
        dynamic, train, valid = jax.block_until_ready(
            program(dynamic, self._arrays["train"], self._arrays["valid"])
        )
        seconds = time.perf_counter() - began
        new_state = eqx.combine(dynamic, static)
        trained, validated = _averages(train), _averages(valid)
        metrics = {
            "epoch": epoch + 1,
            "phase": phase,
            "train_loss": trained["loss"],
            "train_accuracy": trained["accuracy"],
            "valid_loss": validated["loss"],
            "valid_accuracy": validated["accuracy"],
            "residual_mean": trained["residual_mean"],
            "residual_max": trained["residual_max"],
            "converged_fraction": trained["converged_fraction"],
            "solver_steps_mean": trained["solver_steps_mean"],
            "gradient_norm": trained["gradient_norm"],
            "circuit_executions": trained["circuit_executions"],
            "seconds": seconds,
        }
        return new_state, metrics

    def evaluate(self, classifier: Classifier, split: Split) -> dict[str, Any]:
        """Metrics of a model on a split, with the layer that the trained model is used with.

        Returns
        -------
        dict
            `loss, accuracy, residual_mean, residual_max, converged_fraction, solver_steps_mean,
            undefined_inputs, circuit_executions`, `residual_trace` (mean over samples, one entry
            per solver step, NaN where no sample was still iterating) and `predictions` `(N,)`.
        """
        if "evaluate" not in self._programs:
            self._programs["evaluate"] = eqx.filter_jit(self._evaluate)
        metrics, predictions, traces, defined = self._programs["evaluate"](
            classifier, jnp.asarray(split.x), jnp.asarray(split.y)
        )
        averages = _averages(metrics)
        traces = np.asarray(traces)
        still_running = np.isfinite(traces).sum(axis=0)
        trace = np.where(
            still_running > 0, np.nansum(traces, axis=0) / np.maximum(still_running, 1), np.nan
        )
        del averages["gradient_norm"]
        return {
            **averages,
            "undefined_inputs": int(np.sum(~np.asarray(defined))),
            "residual_trace": trace,
            "predictions": np.asarray(predictions),
        }

    def _program(self, phase: str, state: TrainState) -> tuple[Any, float]:
        if phase in self._programs:
            return self._programs[phase], 0.0
        dynamic, static = eqx.partition(state, eqx.is_array)

        def epoch(dynamic, train, valid):
            state, trained, validated = self._epoch(phase, eqx.combine(dynamic, static), train, valid)
            return eqx.filter(state, eqx.is_array), trained, validated

        began = time.perf_counter()
        arguments = (dynamic, self._arrays["train"], self._arrays["valid"])
        self._programs[phase] = jax.jit(epoch).lower(*arguments).compile()
        return self._programs[phase], time.perf_counter() - began

    def _epoch(self, phase: str, state: TrainState, train, valid):
        x, y = train
        n_samples = x.shape[0]
        batch_size = min(self.config.batch_size, n_samples)
        n_batches = -(-n_samples // batch_size)
        order_key, batches_key = jax.random.split(
            jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
        )
        # The last batch is filled up with repeated samples of weight zero: one shape, one program.
        order = jax.random.permutation(order_key, n_samples)
        positions = jnp.arange(n_batches * batch_size)
        batches = order[positions % n_samples].reshape(n_batches, batch_size)
        weights = (positions < n_samples).astype(x.dtype).reshape(n_batches, batch_size)
        keys = jax.random.split(batches_key, n_batches)
        static = eqx.filter(state.classifier, eqx.is_array, inverse=True)

        def step(carry, batch):
            dynamic, optimiser_state = carry
            indices, weight, key = batch
            classifier = eqx.combine(dynamic, static)
            (_, metrics), gradient = eqx.filter_value_and_grad(self._loss, has_aux=True)(
                classifier, phase, x[indices], y[indices], weight, key, state.epoch
            )
            metrics = eqx.tree_at(lambda m: m.gradient_norm, metrics, optax.global_norm(gradient))
            updates, optimiser_state = self.optimiser.update(gradient, optimiser_state)
            classifier = eqx.apply_updates(classifier, updates)
            return (eqx.filter(classifier, eqx.is_array), optimiser_state), metrics

        carry = (eqx.filter(state.classifier, eqx.is_array), state.optimiser_state)
        (dynamic, optimiser_state), trained = jax.lax.scan(step, carry, (batches, weights, keys))
        classifier = eqx.combine(dynamic, static)
        validated, *_ = self._measure(classifier, self.layer(phase), *valid)
        valid_loss = jnp.sum(validated.loss) / jnp.sum(validated.count)
        # The first epoch after warm-up starts the search for the best model anew: a model of the
        # other phase would be evaluated with a layer it was not chosen for.
        first_of_phase = (
            state.epoch == self.config.warmup_epochs if phase == "implicit" else state.epoch == 0
        )
        better = first_of_phase | (valid_loss < state.best_valid_loss)
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            eqx.filter(classifier, eqx.is_array),
            eqx.filter(state.best_classifier, eqx.is_array),
        )
        state = TrainState(
            classifier=classifier,
            optimiser_state=optimiser_state,
            best_classifier=eqx.combine(best, static),
            best_valid_loss=jnp.where(better, valid_loss, state.best_valid_loss),
            epoch=state.epoch + 1,
            key=state.key,
        )
        return state, trained, validated

    def _loss(
        self,
        classifier: Classifier,
        phase: str,
        x: Float[Array, "B d"],
        y: Int[Array, " B"],
        weight: Float[Array, " B"],
        key: PRNGKeyArray,
        epoch: Int[Array, ""],
    ):
        layer = self.layer(phase)
        dropout_key, budget_key = jax.random.split(key)
        keys = jax.random.split(dropout_key, x.shape[0])
        budget = self.schedule(budget_key, epoch)
        prediction = jax.vmap(
            lambda x, key: classifier(x, layer, key=key, budget=budget),
        )(x, keys)
        losses = optax.softmax_cross_entropy_with_integer_labels(prediction.logits, y)
        loss = jnp.sum(weight * losses) / jnp.sum(weight)
        if phase == "implicit" and self.config.jacobian_weight:
            norms = jax.vmap(lambda x, m: _jacobian_penalty(classifier, x, m))(
                x, jax.lax.stop_gradient(prediction.solution.value)
            )
            loss += self.config.jacobian_weight * jnp.sum(weight * norms) / jnp.sum(weight)
        return loss, _metrics(prediction, losses, y, weight)

    def _evaluate(self, classifier: Classifier, x, y):
        return self._measure(classifier, self.final_layer, x, y)

    def _measure(self, classifier: Classifier, layer: Equilibrium | Direct, x, y):
        """Metrics summed per chunk, predictions, residual traces and whether inputs are defined."""
        n_samples = x.shape[0]
        chunk = min(EVALUATION_CHUNK, n_samples)
        n_chunks = -(-n_samples // chunk)
        positions = jnp.arange(n_chunks * chunk)
        indices = (positions % n_samples).reshape(n_chunks, chunk)
        weights = (positions < n_samples).astype(x.dtype).reshape(n_chunks, chunk)

        def measure(batch):
            indices, weight = batch
            chosen, labels = x[indices], y[indices]
            prediction = jax.vmap(lambda x: classifier(x, layer))(chosen)
            losses = optax.softmax_cross_entropy_with_integer_labels(prediction.logits, labels)
            stats = prediction.solution.stats
            defined = jax.vmap(classifier.model.is_defined)(prediction.solution.value, chosen)
            return (
                _metrics(prediction, losses, labels, weight),
                jnp.argmax(prediction.logits, axis=-1),
                stats.residual_trace,
                defined,
            )

        metrics, predictions, traces, defined = jax.lax.map(measure, (indices, weights))
        flat = [a.reshape(-1, *a.shape[2:])[:n_samples] for a in (predictions, traces, defined)]
        return metrics, *flat


def _jacobian_penalty(classifier: Classifier, x: Array, m: Array) -> Array:
    """|J|_F^2 / q of the model function at fixed m, exact: in measured space J is q x q."""
    return frobenius_norm(classifier.model.prepare().bind(x), m) ** 2 / m.shape[0]


def _metrics(prediction: Prediction, losses: Array, y: Array, weight: Array) -> BatchMetrics:
    stats = prediction.solution.stats
    correct = jnp.argmax(prediction.logits, axis=-1) == y
    return BatchMetrics(
        count=jnp.sum(weight),
        loss=jnp.sum(weight * losses),
        correct=jnp.sum(weight * correct),
        residual=jnp.sum(weight * stats.residual),
        residual_max=jnp.max(jnp.where(weight > 0, stats.residual, 0)),
        converged=jnp.sum(weight * stats.converged),
        steps=jnp.sum(weight * stats.steps),
        evaluations=jnp.sum(weight * stats.evaluations),
        gradient_norm=jnp.zeros(()),
    )


def _averages(metrics: BatchMetrics) -> dict[str, Any]:
    """Plain numbers from the stacked metrics of an epoch, in float64."""
    sums = {name: np.asarray(value, float) for name, value in vars(metrics).items()}
    count = sums["count"].sum()
    return {
        "loss": float(sums["loss"].sum() / count),
        "accuracy": float(sums["correct"].sum() / count),
        "residual_mean": float(sums["residual"].sum() / count),
        "residual_max": float(sums["residual_max"].max()),
        "converged_fraction": float(sums["converged"].sum() / count),
        "solver_steps_mean": float(sums["steps"].sum() / count),
        "gradient_norm": float(sums["gradient_norm"].mean()),
        "circuit_executions": round(float(sums["evaluations"].sum())),
    }
