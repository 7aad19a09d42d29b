"""What one epoch of training and one evaluation compute, as pure functions of one model.

How they become programs, and are spread over seeds and devices, is decided in `loop.py` and
`parallel.py`; only the sums over a batch know here that other devices may hold the rest of it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from qdeq._numbers import at_least, at_most, largest, largest_over_devices, nan_unless_finite
from qdeq.equilibrium import (
    ConstantSteps,
    Direct,
    Equilibrium,
    RandomSteps,
    squared_frobenius_norm,
)
from qdeq.models import Prediction, Predictor
from qdeq.models.function import trained_parts
from qdeq.names import Loss, Schedule, Task
from qdeq.training.config import TrainConfig
from qdeq.training.layer import LayerRecipe
from qdeq.training.losses import loss_of, losses, marks, predictions
from qdeq.training.options import OptimiserOption

_BATCHES_PER_DRAW = 16


class TrainState(eqx.Module):
    """Everything that a resumed run needs; randomness follows from `key` and `epoch` alone.

    `starts` are the equilibria of the training samples in the epoch before, for runs that start the
    solver there. Many seeds share one state whose arrays have a leading seed axis.
    """

    classifier: Predictor
    optimiser_state: PyTree
    best_classifier: Predictor
    best_valid_loss: Float[Array, ""]
    epoch: Int[Array, ""]
    key: Array
    starts: Float[Array, "N q"] | None = None


class BatchMetrics(eqx.Module):
    """Sums over the samples of a batch (maxima for `residual_max`), without the padding.

    `loss`, `penalty` (which is a part of it) and `mark` are sums over `weight`, how much samples
    count; the rest is over samples.
    """

    count: Array
    weight: Array
    loss: Array
    penalty: Array
    mark: Array
    residual: Array
    residual_max: Array
    converged: Array
    steps: Array
    evaluations: Array
    gradient_norm: Array


class _Batch(eqx.Module):
    """Which samples a batch has, what dropout keeps of each, a key for the budget.

    `present` is 0 for those that only fill it up and 1 for others; `weights` say how much each of
    them counts. A whole epoch has one more leading axis.
    """

    indices: Int[Array, " B"]
    present: Float[Array, " B"]
    weights: Float[Array, " B"]
    keep: Bool[Array, "B d"]
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

        Where `size` does not divide B, the last part is filled up with the first entries of the
        batch; the caller's `weights` must be zero there.
        """
        part = -(-batch.shape[1] // self.size)
        filled = jnp.take(batch, jnp.arange(part * self.size) % batch.shape[1], axis=1)
        start = jax.lax.axis_index(self.name) * part
        return jax.lax.dynamic_slice_in_dim(filled, start, part, axis=1)

    def own_weights(self, weights: Array) -> Array:
        """As `own`, with zero weight for what only fills up."""
        surplus = -weights.shape[1] % self.size
        return self.own(jnp.pad(weights, ((0, 0), (0, surplus))))


class Values(eqx.Module):
    """The numbers of a configuration that its programs take as arguments.

    Programs do not depend on them: another learning rate, or another number of samples, costs no
    compilation.

    Attributes
    ----------
    gradient_clip
        0: gradients are never clipped.
    random_steps_minus
        Read where `Recipe.has_random_steps`.
    n_samples
        How many of the rows of the training split are samples; the others are never read.
    n_epochs
        Over which a schedule runs.
    """

    learning_rate: Any
    weight_decay: Any
    gradient_clip: Any
    dropout: Any
    jacobian_weight: Any
    tolerance: Any
    random_steps_minus: Any
    n_samples: Any
    n_epochs: Any

    @classmethod
    def of(cls, config: TrainConfig, n_samples: int) -> "Values":
        """As NumPy scalars, in JAX's default precision."""
        number, whole = np.dtype(jnp.result_type(float)).type, np.int32
        return cls(
            learning_rate=number(config.learning_rate),
            weight_decay=number(config.weight_decay),
            gradient_clip=number(config.gradient_clip),
            dropout=number(config.dropout),
            jacobian_weight=number(config.jacobian_weight),
            tolerance=number(config.tolerance),
            random_steps_minus=whole(config.random_steps_minus),
            n_samples=whole(n_samples),
            n_epochs=whole(config.epochs),
        )

    def optimiser(
        self, chosen: OptimiserOption = "adam", factor: Any = None
    ) -> optax.GradientTransformation:
        """An optimiser on clipped gradients; its state has the same form for all values.

        Parameters
        ----------
        chosen
            By its name in Optax, or one, which has a learning rate of its own.
        factor
            Of the learning rate; None is 1.
        """
        longest = jnp.where(self.gradient_clip > 0, self.gradient_clip, jnp.inf)
        stepping = getattr(optax, chosen)(self.rate(factor)) if isinstance(chosen, str) else chosen
        return optax.chain(optax.clip_by_global_norm(longest), stepping)

    def rate(self, factor: Any = None) -> Any:
        """The learning rate times a factor."""
        return self.learning_rate if factor is None else self.learning_rate * factor


@dataclass(frozen=True)
class Recipe:
    """The computations of a phase of training: what its programs depend on beside the model.

    Attributes
    ----------
    layer
        How the measured state is found.
    batch_size
        Samples per optimiser step.
    is_penalised
        Whether the Jacobian penalty has a weight; without one nothing of it is computed.
    has_random_steps
        Whether the solver's budget is drawn for every batch.
    loss
        Of a sample, see `losses.py`.
    optimiser
        By name, or an object.
    schedule
        How the learning rate changes.
    decays
        Whether there is weight decay.
    batch_axis
        Over which devices a batch is split; None: one device has all of it.
    """

    layer: LayerRecipe
    batch_size: int
    is_penalised: bool
    has_random_steps: bool
    loss: Loss = "cross-entropy"
    optimiser: OptimiserOption = "adam"
    schedule: Schedule = "constant"
    decays: bool = False
    batch_axis: BatchAxis | None = None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        phase: str | None = None,
        *,
        task: Task = "classification",
        batch_axis: BatchAxis | None = None,
    ) -> "Recipe":
        """The recipe of a configuration's phase, see `LayerRecipe.of`."""
        layer = LayerRecipe.of(config, phase)
        return cls(
            loss=loss_of(config.loss, task),
            optimiser=config.given_again().optimiser,
            schedule=config.schedule,
            decays=config.weight_decay > 0,
            layer=layer,
            batch_size=config.batch_size,
            is_penalised=layer.is_implicit and config.jacobian_weight > 0,
            has_random_steps=layer.is_implicit and config.random_steps_minus > 0,
            batch_axis=batch_axis,
        )

    def train(
        self,
        state: TrainState,
        x: Float[Array, "N d"],
        y: Array,
        weight: Float[Array, " N"] | None,
        values: Values,
    ) -> tuple[TrainState, BatchMetrics]:
        """One epoch over the training split; the metrics have an axis of batches.

        The axis is as long as N rows need; batches that `values.n_samples` does not fill are not
        computed, and zero there.
        """
        batches = self._batches(state, x.shape[0], x.dtype, weight, values)
        n_rows, size = batches.indices.shape
        static = eqx.filter(state.classifier, eqx.is_array, inverse=True)
        starts = state.starts if self.layer.is_implicit else None
        n_batches = -(-values.n_samples // self._batch_size(x.shape[0]))
        is_trained = trained_parts(state.classifier.model)
        dtype = state.best_valid_loss.dtype

        def step(index: Array, carry: PyTree) -> PyTree:
            dynamic, optimiser_state, metrics, found = carry
            classifier = eqx.combine(dynamic, static)
            batch = jax.tree.map(lambda rows: _row(rows, index), batches)
            own_x, own_y = _rows(x, batch.indices), _rows(y, batch.indices)
            start = None if starts is None else _rows(starts, batch.indices)
            (_, (summed, solved)), gradient = eqx.filter_value_and_grad(self._loss, has_aux=True)(
                classifier, own_x, own_y, batch, start, state.epoch, values
            )
            gradient, summed = self._sum(gradient), _sum_metrics(summed, self.batch_axis)
            summed = eqx.tree_at(lambda m: m.gradient_norm, summed, optax.tree.norm(gradient))
            factor = self._factor(state.epoch, index / n_batches, values)
            parameters = eqx.filter(classifier, eqx.is_inexact_array)
            updates, optimiser_state = values.optimiser(self.optimiser, factor).update(
                gradient, optimiser_state, parameters
            )
            if self.decays:
                shrink = values.weight_decay * values.rate(factor)
                updates = jax.tree.map(
                    lambda update, p: update - shrink * p if p.ndim > 1 else update,
                    updates,
                    parameters,
                )
            classifier = eqx.apply_updates(classifier, _of_trained(updates, is_trained))
            metrics = jax.tree.map(
                lambda rows, row: _with_row(rows, row.astype(dtype), index), metrics, summed
            )
            found = None if found is None else _with_row(found, solved, index)
            return eqx.filter(classifier, eqx.is_array), optimiser_state, metrics, found

        carry = (
            eqx.filter(state.classifier, eqx.is_array),
            state.optimiser_state,
            BatchMetrics(*(jnp.zeros(n_rows, dtype) for _ in dataclasses.fields(BatchMetrics))),
            None if starts is None else jnp.zeros((n_rows, size, starts.shape[1]), starts.dtype),
        )
        dynamic, optimiser_state, trained, found = lax.fori_loop(0, n_batches, step, carry)
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
        rows = jnp.where(batches.present > 0, batches.indices, starts.shape[0])
        return self._sum(jnp.zeros_like(starts).at[rows].set(found, mode="drop"))

    def _batch_size(self, n_rows: int) -> int:
        return min(self.batch_size, n_rows)

    def _batches(
        self,
        state: TrainState,
        n_rows: int,
        dtype: jnp.dtype,
        weight: Float[Array, " N"] | None,
        values: Values,
    ) -> "_Batch":
        """The batches of an epoch, along a leading axis; this device's part of them.

        Samples, their order and what dropout hides do not depend on `n_rows`: JAX's random numbers
        are functions of their position, so that a longer draw begins with the shorter one.
        """
        batch_size = self._batch_size(n_rows)
        n_batches = -(-n_rows // batch_size)
        order_key, keep_key, budget_key = jax.random.split(
            jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch), 3
        )
        # The last batch is filled up with repeated samples of weight zero: one shape, one program.
        order = permutation(order_key, values.n_samples, n_rows)
        positions = jnp.arange(n_batches * batch_size, dtype=jnp.int32)
        indices = order[positions % values.n_samples].reshape(n_batches, batch_size)
        present = (positions < values.n_samples).astype(dtype).reshape(n_batches, batch_size)
        keep = self._keep(state.classifier, keep_key, (n_batches, batch_size), values.dropout)
        if self.batch_axis is not None:
            indices, present = self.batch_axis.own(indices), self.batch_axis.own_weights(present)
            keep = self.batch_axis.own(keep)
        weights = present if weight is None else present * weight[indices]
        return _Batch(indices, present, weights, keep, jax.random.split(budget_key, n_batches))

    def _keep(
        self, classifier: Predictor, key: PRNGKeyArray, shape: tuple[int, int], dropout: Array
    ) -> Bool[Array, "n B d"]:
        n_batches, batch_size = shape
        # A few batches in one draw: starting it takes longer than the numbers of one batch.
        part = min(_BATCHES_PER_DRAW, n_batches)
        keys = jax.random.split(key, -(-n_batches // part))

        def draw() -> Array:
            masks = lax.map(
                lambda key: classifier.keep_mask(key, (part, batch_size), dropout=dropout), keys
            )
            return masks.reshape(-1, *masks.shape[2:])[:n_batches]

        everything = jax.eval_shape(draw)
        return lax.cond(dropout > 0, draw, lambda: jnp.ones(everything.shape, bool))

    def _loss(
        self,
        classifier: Predictor,
        x: Float[Array, "B d"],
        y: Array,
        batch: "_Batch",
        start: Float[Array, "B q"] | None,
        epoch: Int[Array, ""],
        values: Values,
    ) -> tuple[Float[Array, ""], tuple[BatchMetrics, Float[Array, "B q"]]]:
        """This device's share of the mean loss of a batch: the shares add up to it.

        Beside it metrics, and equilibria to start from; zero where none was found.
        """
        layer = self.layer.build(values.tolerance)
        weight = batch.weights
        budget = None  # of direct(L): all L
        if isinstance(layer, Equilibrium):
            budget = self._budget(batch.budget_key, epoch, values)
        form = classifier.model.prepare()

        def predict(x: Array, keep: Array, start: Array | None) -> tuple[Prediction, Array | float]:
            # Bound once: what solve and penalty pull back adds up before it passes the circuit.
            function = form.bind(x)
            prediction = classifier.predict(
                function, layer, start=start, keep=keep, dropout=values.dropout, budget=budget
            )
            penalty = _jacobian_penalty(function, prediction) if self.is_penalised else 0.0
            return prediction, penalty

        prediction, norms = jax.vmap(predict)(x, batch.keep, start)
        costs = losses(self.loss, prediction.outputs, y)
        penalties = values.jacobian_weight * norms
        costs += penalties
        # A batch of which no sample counts has no loss, and no gradient.
        total = at_least(self._sum(jnp.sum(weight)), jnp.finfo(weight.dtype).tiny)
        loss = jnp.sum(weight * costs) / total
        solution = prediction.solution
        found = jnp.where(solution.stats.converged[:, None], solution.value, 0)
        marked = marks(self.loss, prediction.outputs, y)
        penalty = jnp.sum(weight * penalties)
        return loss, (_metrics(prediction, costs, penalty, marked, weight, batch.present), found)

    def _factor(self, epoch: Array, part: Array, values: Values) -> Array | None:
        """Of the learning rate, after a part of an epoch."""
        if self.schedule == "constant":
            return None
        progress = at_most((epoch + part) / values.n_epochs, 1.0)
        return (1 + jnp.cos(jnp.pi * progress)) / 2

    def _budget(self, key: PRNGKeyArray, epoch: Array, values: Values) -> Array:
        steps = self.layer.max_steps
        if self.has_random_steps:
            return RandomSteps(steps, minus=values.random_steps_minus)(key, epoch)
        return ConstantSteps(steps)(key, epoch)

    def _sum(self, tree: PyTree) -> PyTree:
        return _sum(tree, self.batch_axis)


def measure(
    layer: Equilibrium | Direct,
    loss: Loss,
    classifier: Predictor,
    x: Float[Array, "B d"],
    y: Array,
    present: Float[Array, " B"],
    weight: Float[Array, " B"] | None,
    batch_axis: BatchAxis | None = None,
) -> tuple[BatchMetrics, Array, Array, Array]:
    """Summed metrics of samples, predictions, residual traces, whether inputs are defined.

    With a batch axis x, y, present and weight are this device's, and so is all but the metrics.
    """
    prediction = jax.vmap(lambda x: classifier(x, layer))(x)
    costs = losses(loss, prediction.outputs, y)
    weight = present if weight is None else present * weight
    marked = marks(loss, prediction.outputs, y)
    metrics = _metrics(prediction, costs, jnp.zeros(()), marked, weight, present)
    solution = prediction.solution
    return (
        _sum_metrics(metrics, batch_axis),
        predictions(loss, prediction.outputs),
        solution.stats.residual_trace,
        jax.vmap(classifier.model.is_defined)(solution.value, x),
    )


def permutation(key: PRNGKeyArray, n: Int[Array, ""] | int, n_rows: int) -> Int[Array, " n_rows"]:
    """A random order of 0 ... n - 1 in the first n of `n_rows` numbers; it depends on n alone.

    Sorting numbers with the index in their low bits takes a fifth of the time in which
    `jax.random.permutation` sorts pairs (CPU, n = 19,200: 1.5 against 7.5 ms). Numbers that tie in
    their high bits stay in order; the second pass parts them.
    """
    low = 32 - lax.clz(jnp.maximum(jnp.asarray(n, jnp.uint32) - 1, 1))  # whole numbers
    positions = jnp.arange(n_rows, dtype=jnp.uint32)
    order = positions
    for pass_key in jax.random.split(key):
        bits = jax.random.bits(pass_key, (n_rows,), jnp.uint32)
        # The other rows come last: nothing is larger.
        numbers = jnp.where(positions < n, (bits << low) | positions, jnp.uint32(2**32 - 1))
        order = order[jnp.sort(numbers) & ((jnp.uint32(1) << low) - 1)]
    return order.astype(jnp.int32)


def _sum(tree: PyTree, batch_axis: BatchAxis | None) -> PyTree:
    return tree if batch_axis is None else lax.psum(tree, batch_axis.name)


def _sum_metrics(metrics: BatchMetrics, batch_axis: BatchAxis | None) -> BatchMetrics:
    if batch_axis is None:
        return metrics
    highest = largest_over_devices(metrics.residual_max, batch_axis.name)
    return eqx.tree_at(lambda m: m.residual_max, _sum(metrics, batch_axis), highest)


def _jacobian_penalty(function: Callable[[Array], Array], prediction: Prediction) -> Array:
    """|J|_F^2 / q of the model function at fixed m, exact: in measured space J is q x q."""
    solution = prediction.solution
    if solution.jacobian is not None:
        return jnp.sum(solution.jacobian**2) / len(solution.jacobian)
    m = jax.lax.stop_gradient(solution.value)
    return squared_frobenius_norm(function, m) / len(m)


def _metrics(
    prediction: Prediction,
    costs: Array,
    penalty: Array,
    marked: Array,
    weight: Array,
    present: Array,
) -> BatchMetrics:
    stats = prediction.solution.stats
    return BatchMetrics(
        count=jnp.sum(present),
        weight=jnp.sum(weight),
        loss=nan_unless_finite(jnp.sum(weight * costs), prediction.solution.value),
        penalty=penalty,
        mark=jnp.sum(weight * marked),
        residual=jnp.sum(present * stats.residual),
        residual_max=largest(jnp.where(present > 0, stats.residual, 0)),
        converged=jnp.sum(present * stats.converged),
        steps=jnp.sum(present * stats.steps),
        evaluations=jnp.sum(present * stats.evaluations),
        gradient_norm=jnp.zeros(()),
    )


# Indices of a loop are in range: no scatter, and nothing is clamped.
def _rows(rows: Array, indices: Array) -> Array:
    return rows.at[indices].get(mode="promise_in_bounds")


def _row(rows: Array, index: Array) -> Array:
    if jnp.issubdtype(rows.dtype, jax.dtypes.prng_key):
        return rows[index]
    return lax.dynamic_index_in_dim(rows, index, keepdims=False)


def _with_row(rows: Array, row: Array, index: Array) -> Array:
    return lax.dynamic_update_index_in_dim(rows, row, index, 0)


def _of_trained(updates: PyTree, is_trained: PyTree) -> PyTree:
    """Updates of a predictor without those of fixed arrays, which weight decay would shrink."""
    kept = jax.tree.map(
        lambda trained, update: update if trained is True else jnp.where(trained, update, 0),
        is_trained,
        updates.model,
    )
    return eqx.tree_at(lambda predictor: predictor.model, updates, kept)
