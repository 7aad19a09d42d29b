"""Compiled programs to be timed: every one is a few training steps on the same batches.

A program holds no loop over repetitions and no clock; see `timing`.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from benchmarks.published import PublishedClassifier, Settings, loss
from qdeq.models import Predictor, quantum_model
from qdeq.training.loop import Trainer
from qdeq.training.parallel import Layout
from qdeq.training.state import TrainState
from qdeq.training.values import Values


@dataclass(frozen=True)
class Solved:
    """How well the samples of a program were solved, over all its steps.

    Attributes
    ----------
    fraction
        Samples that met the tolerance of 1e-5.
    residual_max
        Largest relative residual.
    solver_steps_mean
        Solver steps per sample.
    """

    fraction: float
    residual_max: float
    solver_steps_mean: float


@dataclass(frozen=True)
class Program:
    """Something compiled that can be called again and again with the same result.

    Attributes
    ----------
    call
        Runs it; returns arrays that may not be ready yet.
    units
        Training steps (times seeds) of one call.
    compile_seconds
        Tracing and compiling.
    memory_bytes
        XLA's temporary memory; None where the backend does not say.
    solved
        None where nothing is solved.
    """

    call: Callable[[], Any]
    units: int
    compile_seconds: float
    memory_bytes: int | None
    solved: Solved | None = None


def compiled(
    function: Callable[..., Any],
    *arguments: PyTree,
    units: int,
    solved: Callable[[Any], Solved] | None = None,
    layout: Layout | None = None,
) -> Program:
    """Compile a function of arrays, and run it once where `solved` reads its output.

    With a `layout` the first argument has a leading seed axis, and the function is one seed's.
    """
    began = time.perf_counter()
    if layout is None:
        program: Any = jax.jit(function).lower(*arguments).compile()
    else:
        program = layout.compile(function, arguments, split_results=(False, False))
    seconds = time.perf_counter() - began
    outcome = None if solved is None else solved(program(*arguments))
    return Program(lambda: program(*arguments), units, seconds, _memory(program), outcome)


def _memory(program: Any) -> int | None:
    try:
        analysis = program.memory_analysis()
        return None if analysis is None else int(analysis.temp_size_in_bytes)
    except (NotImplementedError, RuntimeError, AttributeError):  # not every backend has one
        return None


def qdeq_epoch(trainer: Trainer, state: TrainState, *, seeds: int | None = None) -> Program:
    """One epoch of qdeq's own training loop over the trainer's data, validation left out.

    Parameters
    ----------
    trainer, state
        What to train, from where; the configuration's mode decides the layer.
    seeds
        Number of seeds of a state with a leading seed axis; None: it has none.
    """
    recipe = trainer.recipe()
    dynamic, static = eqx.partition(state, eqx.is_array)
    train = trainer.dataset.train

    def epoch(dynamic: PyTree, x: Array, y: Array, values: Values) -> tuple[PyTree, PyTree]:
        new_state, metrics = recipe.train(eqx.combine(dynamic, static), x, y, None, values)
        return eqx.filter(new_state, eqx.is_array), metrics

    def solved(output: tuple[PyTree, Any]) -> Solved:
        metrics = output[1]
        count = float(np.sum(metrics.count))
        return Solved(
            fraction=float(np.sum(metrics.converged)) / count,
            residual_max=float(np.max(metrics.residual_max)),
            solver_steps_mean=float(np.sum(metrics.steps)) / count,
        )

    steps = -(-len(train.y) // min(trainer.config.batch_size, len(train.y)))
    return compiled(
        epoch,
        dynamic,
        jnp.asarray(train.x),
        jnp.asarray(train.y),
        jax.tree.map(jnp.asarray, trainer.values),
        units=steps * (seeds or 1),
        solved=solved,
        layout=None if seeds is None else trainer.layout,
    )


def with_classifier(trainer: Trainer, classifier: Any) -> TrainState:
    """A fresh state of the trainer for another classifier than its configuration's."""
    return dataclasses.replace(
        trainer.init(),
        classifier=classifier,
        optimiser_state=trainer.values.optimiser().init(
            eqx.filter(classifier, eqx.is_inexact_array)
        ),
        best_classifier=classifier,
    )


def as_published(classifier: Predictor) -> PublishedClassifier:
    """The same angles, head and circuit for the plain published algorithm."""
    model = quantum_model(classifier.model, "the published algorithm")
    head = classifier.head
    assert head is not None, "the published classifier has a linear head"
    return PublishedClassifier(
        theta=model.theta,
        weight=head.weight,
        bias=head.bias if head.bias is not None else jnp.zeros(head.weight.shape[0]),
        circuit=model.circuit,
        encoding=model.encoding,
        observables=model.observables,
    )


def published_epoch(trainer: Trainer, classifier: Predictor, settings: Settings) -> Program:
    """The plain published algorithm on the same batches, with the same optimiser."""
    model = as_published(classifier)
    dynamic, static = eqx.partition(model, eqx.is_array)
    optimiser = trainer.values.optimiser()
    size = trainer.config.batch_size
    train = trainer.dataset.train
    steps = len(train.y) // size
    x = jnp.asarray(train.x[: steps * size]).reshape(steps, size, -1)
    y = jnp.asarray(train.y[: steps * size]).reshape(steps, size)
    keys = jax.random.split(jax.random.key(0), steps)

    def step(carry: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
        dynamic, optimiser_state = carry
        x, y, key = batch
        (_, solution), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(
            eqx.combine(dynamic, static), x, y, key, settings
        )
        updates, optimiser_state = optimiser.update(gradient, optimiser_state)
        dynamic = eqx.apply_updates(dynamic, eqx.filter(updates, eqx.is_array))
        return (dynamic, optimiser_state), (solution.residual, solution.scale, solution.evaluations)

    def epoch(dynamic: PyTree, optimiser_state: PyTree, x: Array, y: Array, keys: Array):
        return jax.lax.scan(step, (dynamic, optimiser_state), (x, y, keys))

    def solved(output: tuple[PyTree, tuple[Array, Array, Array]]) -> Solved:
        residual, scale, evaluations = (np.asarray(part, float) for part in output[1])
        met = residual <= 1e-5 * (model.unit + scale)  # qdeq's test, in units of z
        return Solved(
            fraction=float(met.mean()),
            residual_max=float((residual / scale).max()),
            solver_steps_mean=float(evaluations.mean()),  # ours counts evaluations too
        )

    start = (dynamic, optimiser.init(dynamic))
    return compiled(epoch, *start, x, y, keys, units=steps, solved=solved)
