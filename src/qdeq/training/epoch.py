"""What one epoch of training and one evaluation compute, as pure functions of one model.

How they become programs, and are spread over seeds and devices, is decided in `loop.py` and
`parallel.py`; only the sums over a batch know here that other devices may hold the rest of it.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from qdeq._numbers import is_correct, largest, largest_over_devices, nan_unless_finite
from qdeq.equilibrium import (
    ADJOINTS,
    SOLVERS,
    ConstantSteps,
    Direct,
    Equilibrium,
    Homotopy,
    RandomSteps,
    squared_frobenius_norm,
)
from qdeq.models import Classifier, Prediction
from qdeq.training.config import TrainConfig

_BATCHES_PER_DRAW = 16
_FALLBACK_STEPS = 100  # five times what most samples need


class TrainState(eqx.Module):
    """Everything that a resumed run needs; randomness follows from `key` and `epoch` alone.

    `starts` are the equilibria of the training samples in the epoch before, for runs that start the
    solver there. Many seeds share one state whose arrays have a leading seed axis.
    """

    classifier: Classifier
    optimiser_state: PyTree
    best_classifier: Classifier
    best_valid_loss: Float[Array, ""]
    epoch: Int[Array, ""]
    key: Array
    starts: Float[Array, "N q"] | None = None


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


class _Batch(eqx.Module):
    """Which samples a batch has, their weights, what dropout keeps of each, a key for the budget.

    A whole epoch has one more leading axis.
    """

    indices: Int[Array, " B"]
    weights: Float[Array, " B"]
    keep: Bool[Array, "B d"] | None
    budget_key: PRNGKeyArray


class BatchAxis(eqx.Module):
    """A mesh axis over whose devices every batch is split.

    Parameters
    ----------
    name
        Of the axis; the functions below then run inside `jax.shard_map`.
    size
        Number of devices along it.
    """

    name: str = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def own(self, batch: Array) -> Array:
        """This device's part of a batch along axis 1: `(n, B)` -> `(n, ceil(B / size))`.

        Where the parts do not come out even the first entries fill up the last part; `weights`
        of the caller must be zero there.
        """
        part = -(-batch.shape[1] // self.size)
        filled = jnp.take(batch, jnp.arange(part * self.size) % batch.shape[1], axis=1)
        start = jax.lax.axis_index(self.name) * part
        return jax.lax.dynamic_slice_in_dim(filled, start, part, axis=1)

    def own_weights(self, weights: Array) -> Array:
        """As `own`, with zero weight for what only fills up."""
        surplus = -weights.shape[1] % self.size
        return self.own(jnp.pad(weights, ((0, 0), (0, surplus))))


class Recipe:
    """The computations of a configuration.

    Parameters
    ----------
    config
        What to train.
    batch_axis
        Over which devices a batch is split; None: one device has all of it.
    """

    def __init__(self, config: TrainConfig, batch_axis: BatchAxis | None = None):
        self.config = config
        self.batch_axis = batch_axis
        clip = config.gradient_clip
        self.optimiser = optax.chain(
            optax.clip_by_global_norm(clip) if clip else optax.identity(),
            optax.adam(config.learning_rate),
        )
        falls_back = (
            config.fallback == "homotopy"
            and config.solver != "homotopy"
            and config.adjoint != "unrolled"  # it differentiates one loop
            and config.random_steps_minus == 0  # a few steps are what is asked for
        )
        tolerances: dict[str, Any] = {"rtol": config.tolerance, "atol": config.tolerance}
        self.equilibrium = Equilibrium(
            solver=SOLVERS[config.solver](**tolerances),
            adjoint=ADJOINTS[config.adjoint](),
            max_steps=config.max_steps,
            fallback=Homotopy(**tolerances) if falls_back else None,
            fallback_steps=_FALLBACK_STEPS if falls_back else 0,
        )
        if config.random_steps_minus:
            self.schedule = RandomSteps(config.max_steps, minus=config.random_steps_minus)
        else:
            self.schedule = ConstantSteps(config.max_steps)

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

    def train(
        self, phase: str, state: TrainState, x: Float[Array, "N d"], y: Int[Array, " N"]
    ) -> tuple[TrainState, BatchMetrics]:
        """One epoch over the training split; the metrics have an axis of batches."""
        batches = self._batches(state, x.shape[0], x.dtype)
        static = eqx.filter(state.classifier, eqx.is_array, inverse=True)
        starts = state.starts if phase == "implicit" else None

        def step(carry, batch):
            dynamic, optimiser_state = carry
            classifier = eqx.combine(dynamic, static)
            start = None if starts is None else starts[batch.indices]
            (_, (metrics, found)), gradient = eqx.filter_value_and_grad(self._loss, has_aux=True)(
                classifier, phase, x[batch.indices], y[batch.indices], batch, start, state.epoch
            )
            gradient, metrics = self._sum(gradient), self._sum_metrics(metrics)
            norm = optax.tree.norm(gradient)
            metrics = eqx.tree_at(lambda m: m.gradient_norm, metrics, norm)
            updates, optimiser_state = self.optimiser.update(gradient, optimiser_state)
            classifier = eqx.apply_updates(classifier, updates)
            found = None if starts is None else found
            return (eqx.filter(classifier, eqx.is_array), optimiser_state), (metrics, found)

        carry = (eqx.filter(state.classifier, eqx.is_array), state.optimiser_state)
        (dynamic, optimiser_state), (trained, found) = jax.lax.scan(step, carry, batches)
        state = eqx.tree_at(
            lambda s: (s.classifier, s.optimiser_state, s.epoch),
            state,
            (eqx.combine(dynamic, static), optimiser_state, state.epoch + 1),
        )
        if starts is not None and found is not None:
            state = eqx.tree_at(lambda s: s.starts, state, self._by_sample(batches, found, starts))
        return state, trained

    def _by_sample(self, batches: "_Batch", found: Array, starts: Array) -> Array:
        """An epoch's equilibria `(n_batches, B, q)` in the order of the samples."""
        # Repeated samples are left out: what is written twice would depend on who comes last.
        rows = jnp.where(batches.weights > 0, batches.indices, starts.shape[0])
        return self._sum(jnp.zeros_like(starts).at[rows].set(found, mode="drop"))

    def measure(
        self,
        phase: str,
        classifier: Classifier,
        x: Float[Array, "B d"],
        y: Int[Array, " B"],
        weight: Float[Array, " B"],
    ) -> tuple[BatchMetrics, Array, Array, Array]:
        """Summed metrics of samples, predictions, residual traces, whether inputs are defined.

        With a batch axis x, y and weight are this device's, and so is all but the metrics.
        """
        layer = self.layer(phase)
        prediction = jax.vmap(lambda x: classifier(x, layer))(x)
        losses = optax.softmax_cross_entropy_with_integer_labels(prediction.logits, y)
        solution = prediction.solution
        return (
            self._sum_metrics(_metrics(prediction, losses, y, weight)),
            jnp.argmax(prediction.logits, axis=-1),
            solution.stats.residual_trace,
            jax.vmap(classifier.model.is_defined)(solution.value, x),
        )

    def _batches(self, state: TrainState, n_samples: int, dtype: jnp.dtype) -> "_Batch":
        """The batches of an epoch, along a leading axis; this device's part of them."""
        batch_size = min(self.config.batch_size, n_samples)
        n_batches = -(-n_samples // batch_size)
        order_key, keep_key, budget_key = jax.random.split(
            jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch), 3
        )
        # The last batch is filled up with repeated samples of weight zero: one shape, one program.
        order = _permutation(order_key, n_samples)
        positions = jnp.arange(n_batches * batch_size)
        indices = order[positions % n_samples].reshape(n_batches, batch_size)
        weights = (positions < n_samples).astype(dtype).reshape(n_batches, batch_size)
        keep = None
        if self.config.dropout:
            # A few batches in one draw: starting it takes longer than the numbers of one batch.
            part = min(_BATCHES_PER_DRAW, n_batches)
            draws = jax.lax.map(
                lambda key: state.classifier.keep_mask(key, (part, batch_size)),
                jax.random.split(keep_key, -(-n_batches // part)),
            )
            keep = draws.reshape(-1, *draws.shape[2:])[:n_batches]
        if self.batch_axis is not None:
            indices, weights = self.batch_axis.own(indices), self.batch_axis.own_weights(weights)
            keep = None if keep is None else self.batch_axis.own(keep)
        return _Batch(indices, weights, keep, jax.random.split(budget_key, n_batches))

    def _loss(
        self,
        classifier: Classifier,
        phase: str,
        x: Float[Array, "B d"],
        y: Int[Array, " B"],
        batch: "_Batch",
        start: Float[Array, "B q"] | None,
        epoch: Int[Array, ""],
    ) -> tuple[Float[Array, ""], tuple[BatchMetrics, Float[Array, "B q"]]]:
        """This device's share of the mean loss of a batch: the shares add up to it.

        Beside it metrics, and equilibria to start from; zero where none was found.
        """
        layer = self.layer(phase)
        weight = batch.weights
        budget = self.schedule(batch.budget_key, epoch)
        form = classifier.model.prepare()
        penalised = phase == "implicit" and self.config.jacobian_weight > 0

        def predict(
            x: Array, keep: Array | None, start: Array | None
        ) -> tuple[Prediction, Array | float]:
            # Bound once: what solve and penalty pull back adds up before it passes the circuit.
            function = form.bind(x)
            prediction = classifier.predict(function, layer, start=start, keep=keep, budget=budget)
            return prediction, _jacobian_penalty(function, prediction) if penalised else 0.0

        prediction, norms = jax.vmap(predict)(x, batch.keep, start)
        losses = optax.softmax_cross_entropy_with_integer_labels(prediction.logits, y)
        losses += self.config.jacobian_weight * norms
        loss = jnp.sum(weight * losses) / self._sum(jnp.sum(weight))
        solution = prediction.solution
        found = jnp.where(solution.stats.converged[:, None], solution.value, 0)
        return loss, (_metrics(prediction, losses, y, weight), found)

    def _sum(self, tree: PyTree) -> PyTree:
        if self.batch_axis is None:
            return tree
        return jax.lax.psum(tree, self.batch_axis.name)

    def _sum_metrics(self, metrics: BatchMetrics) -> BatchMetrics:
        if self.batch_axis is None:
            return metrics
        highest = largest_over_devices(metrics.residual_max, self.batch_axis.name)
        return eqx.tree_at(lambda m: m.residual_max, self._sum(metrics), highest)


def _permutation(key: PRNGKeyArray, n: int) -> Int[Array, " n"]:
    """A random order of 0 ... n - 1.

    Sorting numbers with the index in their low bits takes a fifth of the time in which
    `jax.random.permutation` sorts pairs (CPU, n = 19,200: 1.5 against 7.5 ms). Numbers that tie in
    their high bits stay in order; the second pass parts them.
    """
    low = max(n - 1, 1).bit_length()
    order = jnp.arange(n, dtype=jnp.uint32)
    for pass_key in jax.random.split(key):
        bits = jax.random.bits(pass_key, (n,), jnp.uint32)
        numbers = (bits << low) | jnp.arange(n, dtype=jnp.uint32)
        order = order[jnp.sort(numbers) & ((1 << low) - 1)]
    return order.astype(jnp.int32)


def _jacobian_penalty(function: Callable[[Array], Array], prediction: Prediction) -> Array:
    """|J|_F^2 / q of the model function at fixed m, exact: in measured space J is q x q."""
    solution = prediction.solution
    if solution.jacobian is not None:
        return jnp.sum(solution.jacobian**2) / len(solution.jacobian)
    m = jax.lax.stop_gradient(solution.value)
    return squared_frobenius_norm(function, m) / len(m)


def _metrics(prediction: Prediction, losses: Array, y: Array, weight: Array) -> BatchMetrics:
    stats = prediction.solution.stats
    correct = is_correct(prediction.logits, y)
    return BatchMetrics(
        count=jnp.sum(weight),
        loss=nan_unless_finite(jnp.sum(weight * losses), prediction.solution.value),
        correct=jnp.sum(weight * correct),
        residual=jnp.sum(weight * stats.residual),
        residual_max=largest(jnp.where(weight > 0, stats.residual, 0)),
        converged=jnp.sum(weight * stats.converged),
        steps=jnp.sum(weight * stats.steps),
        evaluations=jnp.sum(weight * stats.evaluations),
        gradient_norm=jnp.zeros(()),
    )
