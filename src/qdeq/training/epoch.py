"""What one epoch of training and one evaluation compute, as pure functions of one model.

How they become programs, and are spread over seeds and devices, is decided in `loop.py` and
`parallel.py`; only the sums over a batch know here that other devices may hold the rest of it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from qdeq._numbers import at_least, at_most
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
from qdeq.training.batches import Batch, draw_batches
from qdeq.training.config import TrainConfig
from qdeq.training.layer import LayerRecipe
from qdeq.training.losses import loss_of, losses, marks, predictions
from qdeq.training.metrics import BatchMetrics, metrics_of, over_devices
from qdeq.training.options import OptimiserOption
from qdeq.training.parallel import BatchAxis
from qdeq.training.state import TrainState
from qdeq.training.values import Values


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
        batch_size = min(self.batch_size, x.shape[0])
        batches = draw_batches(
            state,
            x.shape[0],
            batch_size,
            weight,
            n_samples=values.n_samples,
            dropout=values.dropout,
            dtype=x.dtype,
            batch_axis=self.batch_axis,
        )
        n_rows, size = batches.indices.shape
        static = eqx.filter(state.classifier, eqx.is_array, inverse=True)
        starts = state.starts if self.layer.is_implicit else None
        n_batches = -(-values.n_samples // batch_size)
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
            gradient, summed = self._sum(gradient), over_devices(summed, self.batch_axis)
            summed = eqx.tree_at(lambda m: m.gradient_norm, summed, optax.tree.norm(gradient))
            factor = self._factor(state.epoch, index / n_batches, values)
            classifier, optimiser_state = self._updated(
                classifier, gradient, optimiser_state, factor, values
            )
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

    def _updated(
        self,
        classifier: Predictor,
        gradient: PyTree,
        optimiser_state: PyTree,
        factor: Array | None,
        values: Values,
    ) -> tuple[Predictor, PyTree]:
        """The predictor after a step of the optimiser, whose step size has a factor, and decay."""
        parameters = eqx.filter(classifier, eqx.is_inexact_array)
        updates, optimiser_state = values.optimiser(self.optimiser, factor).update(
            gradient, optimiser_state, parameters
        )
        if self.decays:
            shrink = values.weight_decay * values.rate(factor)
            updates = jax.tree.map(
                lambda update, p: update - shrink * p if p.ndim > 1 else update, updates, parameters
            )
        updates = _of_trained(updates, trained_parts(classifier.model))
        return eqx.apply_updates(classifier, updates), optimiser_state

    def _by_sample(self, batches: Batch, found: Array, starts: Array) -> Array:
        """An epoch's equilibria `(n_batches, B, q)` in the order of the samples."""
        # Repeated samples are left out: what is written twice would depend on who comes last.
        rows = jnp.where(batches.present > 0, batches.indices, starts.shape[0])
        return self._sum(jnp.zeros_like(starts).at[rows].set(found, mode="drop"))

    def _loss(
        self,
        classifier: Predictor,
        x: Float[Array, "B d"],
        y: Array,
        batch: Batch,
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
            # Bound once, so that the gradients of solve and penalty are added up before they are
            # passed through the circuit.
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
        return loss, (metrics_of(prediction, costs, penalty, marked, weight, batch.present), found)

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
    metrics = metrics_of(prediction, costs, jnp.zeros(()), marked, weight, present)
    solution = prediction.solution
    return (
        over_devices(metrics, batch_axis),
        predictions(loss, prediction.outputs),
        solution.stats.residual_trace,
        jax.vmap(classifier.model.is_defined)(solution.value, x),
    )


def _sum(tree: PyTree, batch_axis: BatchAxis | None) -> PyTree:
    return tree if batch_axis is None else lax.psum(tree, batch_axis.name)


def _jacobian_penalty(function: Callable[[Array], Array], prediction: Prediction) -> Array:
    """|J|_F^2 / q of the model function at fixed m, exact: in measured space J is q x q."""
    solution = prediction.solution
    if solution.jacobian is not None:
        return jnp.sum(solution.jacobian**2) / len(solution.jacobian)
    m = jax.lax.stop_gradient(solution.value)
    return squared_frobenius_norm(function, m) / len(m)


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
