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

EVALUATION_CHUNK = 1024  # samples measured at once: one compiled shape for every split


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
        clip = config.gradient_clip
        self.optimiser = optax.chain(
            optax.clip_by_global_norm(clip) if clip else optax.identity(),
            optax.adam(config.learning_rate),
        )
        self.equilibrium = Equilibrium(
            solver=SOLVERS[config.solver](rtol=config.tolerance, atol=config.tolerance),
            adjoint=ADJOINTS[config.adjoint](),
            max_steps=config.max_steps,
        )
        if config.random_steps_minus:
            self.schedule = RandomSteps(config.max_steps, minus=config.random_steps_minus)
        else:
            self.schedule = ConstantSteps(config.max_steps)
        self._programs: dict[tuple[str, str], Any] = {}

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
        phase = self.phase(int(state.epoch))
        began = time.perf_counter()
        missing = [name for name in ("train", "measure") if (name, phase) not in self._programs]
        if "train" in missing:
            dynamic, static = eqx.partition(state, eqx.is_array)

            def epoch(dynamic: PyTree, x: Array, y: Array):
                new_state, metrics = self._epoch(phase, eqx.combine(dynamic, static), x, y)
                return eqx.filter(new_state, eqx.is_array), metrics

            split = self.dataset.train
            program = jax.jit(epoch).lower(dynamic, split.x, split.y).compile()
            self._programs["train", phase] = program
        if "measure" in missing:
            self._compile_measure(phase, state.classifier)
        return time.perf_counter() - began if missing else 0.0

    def run_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Train one epoch, validate, keep the best model of the phase.

        Returns
        -------
        state, metrics
            The metrics are plain numbers: see the keys below. Residuals are per-sample relative
            norms |f(m) - m| / |f(m)|; executions count evaluations of the model function in the
            forward passes of training.
        """
        self.compile(state)
        epoch = int(state.epoch)
        phase = self.phase(epoch)
        began = time.perf_counter()
        dynamic, static = eqx.partition(state, eqx.is_array)
        train = self.dataset.train
        dynamic, summed = self._programs["train", phase](dynamic, train.x, train.y)
        trained = _averages(summed)
        state = eqx.combine(dynamic, static)
        validated = self.evaluate(state.classifier, self.dataset.valid, phase=phase)
        # The first implicit epoch starts the search for the best model anew: a model of the warm-up
        # was chosen with another layer than the one it would be used with.
        first = epoch == 0 or (phase == "implicit" and epoch == self.config.warmup_epochs)
        best_loss = float(state.best_valid_loss)
        if first or validated["loss"] < best_loss or np.isnan(best_loss):
            loss = jnp.asarray(validated["loss"], state.best_valid_loss.dtype)
            state = eqx.tree_at(
                lambda s: (s.best_classifier, s.best_valid_loss), state, (state.classifier, loss)
            )
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
            "seconds": time.perf_counter() - began,
        }
        return state, metrics

    def evaluate(
        self, classifier: Classifier, split: Split, *, phase: str | None = None
    ) -> dict[str, Any]:
        """Metrics of a model on a split.

        Parameters
        ----------
        classifier, split
            Any model of this configuration, any split of its data set.
        phase
            With which layer; None is the one that the trained model is used with.

        Returns
        -------
        dict
            `loss, accuracy, residual_mean, residual_max, converged_fraction, solver_steps_mean,
            undefined_inputs, circuit_executions`, `residual_trace` (mean over samples, one entry
            per solver step, NaN where no sample was still iterating) and `predictions` `(N,)`.
        """
        phase = phase or self.config.mode
        if ("measure", phase) not in self._programs:
            self._compile_measure(phase, classifier)
        program = self._programs["measure", phase]
        dynamic = eqx.filter(classifier, eqx.is_array)
        n_samples = len(split.y)
        parts = []
        for start in range(0, n_samples, EVALUATION_CHUNK):
            positions = np.arange(start, start + EVALUATION_CHUNK)
            weight = (positions < n_samples).astype(split.x.dtype)
            chosen = positions % n_samples
            parts.append(program(dynamic, split.x[chosen], split.y[chosen], weight))
        metrics, predictions, traces, defined = jax.tree.map(
            lambda *leaves: np.concatenate([np.atleast_1d(leaf) for leaf in leaves]), *parts
        )
        averages = _averages(metrics)
        del averages["gradient_norm"]
        traces = traces[:n_samples]
        running = np.isfinite(traces).sum(axis=0)
        mean_trace = np.nansum(traces, axis=0) / np.maximum(running, 1)
        return {
            **averages,
            "undefined_inputs": int(np.sum(~defined[:n_samples])),
            "residual_trace": np.where(running > 0, mean_trace, np.nan),
            "predictions": predictions[:n_samples],
        }

    def _compile_measure(self, phase: str, classifier: Classifier) -> None:
        dynamic, static = eqx.partition(classifier, eqx.is_array)

        def measure(dynamic: PyTree, x: Array, y: Array, weight: Array):
            return self._measure(phase, eqx.combine(dynamic, static), x, y, weight)

        split = self.dataset.valid
        shapes = (
            jax.ShapeDtypeStruct((EVALUATION_CHUNK, split.x.shape[1]), split.x.dtype),
            jax.ShapeDtypeStruct((EVALUATION_CHUNK,), split.y.dtype),
            jax.ShapeDtypeStruct((EVALUATION_CHUNK,), split.x.dtype),
        )
        program = jax.jit(measure).lower(dynamic, *shapes).compile()
        self._programs["measure", phase] = program

    def _epoch(self, phase: str, state: TrainState, x: Array, y: Array):
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
            norm = optax.tree.norm(gradient)
            metrics = eqx.tree_at(lambda m: m.gradient_norm, metrics, norm)
            updates, optimiser_state = self.optimiser.update(gradient, optimiser_state)
            classifier = eqx.apply_updates(classifier, updates)
            return (eqx.filter(classifier, eqx.is_array), optimiser_state), metrics

        carry = (eqx.filter(state.classifier, eqx.is_array), state.optimiser_state)
        (dynamic, optimiser_state), trained = jax.lax.scan(step, carry, (batches, weights, keys))
        state = eqx.tree_at(
            lambda s: (s.classifier, s.optimiser_state, s.epoch),
            state,
            (eqx.combine(dynamic, static), optimiser_state, state.epoch + 1),
        )
        return state, trained

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

    def _measure(self, phase: str, classifier: Classifier, x: Array, y: Array, weight: Array):
        """Summed metrics of a chunk, predictions, residual traces, whether inputs are defined."""
        layer = self.layer(phase)
        prediction = jax.vmap(lambda x: classifier(x, layer))(x)
        losses = optax.softmax_cross_entropy_with_integer_labels(prediction.logits, y)
        solution = prediction.solution
        return (
            _metrics(prediction, losses, y, weight),
            jnp.argmax(prediction.logits, axis=-1),
            solution.stats.residual_trace,
            jax.vmap(classifier.model.is_defined)(solution.value, x),
        )


def _jacobian_penalty(classifier: Classifier, x: Array, m: Array) -> Array:
    """|J|_F^2 / q of the model function at fixed m, exact: in measured space J is q x q."""
    return frobenius_norm(classifier.model.prepare().bind(x), m) / m.shape[0]


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
