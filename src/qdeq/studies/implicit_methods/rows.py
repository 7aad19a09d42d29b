"""Trains with one way to differentiate an equilibrium; one row of `implicit-methods`."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, PyTree

from qdeq.equilibrium import (
    AbstractAdjoint,
    AbstractDerivative,
    Broyden,
    Equilibrium,
    Homotopy,
    Implicit,
    JacobianFree,
    Neumann,
    Shine,
    Unrolled,
)
from qdeq.equilibrium._derivatives import products
from qdeq.runs.cost import executions_per_sample
from qdeq.runs.dataset import load_dataset
from qdeq.runs.run import resume, train
from qdeq.runs.summary import peak_memory_mb
from qdeq.runs.trained import Run
from qdeq.studies.kinds import result
from qdeq.studies.study import Result, Row, Tell
from qdeq.training.config import TrainConfig
from qdeq.training.layer import layer_of

_SAMPLES = 256  # of the training split, on which gradients are compared
_STEPS = 7.0  # of Broyden's method for a sample, for costs that are needed before training


class Phantom(AbstractAdjoint):
    """A few damped terms: B = w (1 + D + ... + D^(terms - 1)), D = w J + (1 - w).

    The derivative of so many damped applications of f from the equilibrium on.

    References
    ----------
    Z. Geng et al., On training implicit models, NeurIPS 2021.
    """

    terms: int = eqx.field(default=5, static=True)
    weight: float = eqx.field(default=0.5, static=True)

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> B v, by Horner's rule."""
        del memory
        push, weight = products(lambda y: fn(y, x), root), self.weight

        def damped(v: Array) -> Array:
            def term(total: Array, _: None) -> tuple[Array, None]:
                return weight * v + weight * push(total) + (1 - weight) * total, None

            return lax.scan(term, weight * v, None, length=self.terms - 1)[0]

        return damped


class BroydenBackward(AbstractAdjoint):
    """The published code's backward pass: Broyden's method on the adjoint equation, to `rtol`."""

    rtol: float = eqx.field(default=1e-3, static=True)
    max_steps: int = eqx.field(default=30, static=True)

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> about (I - J)^-1 v."""
        del memory
        push = products(lambda y: fn(y, x), root)
        layer = Equilibrium(Broyden(self.rtol, 1e-12), Implicit(), max_steps=self.max_steps)

        def solution(product: Callable[[Array], Array], v: Array) -> Array:
            found = layer(lambda u: v + u - product(u), jnp.zeros_like(v))
            return lax.stop_gradient(found.value)

        return lambda v: lax.custom_linear_solve(
            lambda u: u - push(u), v, solution, transpose_solve=solution
        )


#: By the name of a row: how gradients are made, and what changes in the configuration beside it.
METHODS: dict[str, tuple[AbstractDerivative, dict[str, Any]]] = {
    "exact": (Implicit(), {}),
    "broyden-backward": (BroydenBackward(), {}),
    "neumann-5": (Neumann(5), {}),
    "neumann-3": (Neumann(3), {}),
    "phantom": (Phantom(), {}),
    "jacobian-free": (JacobianFree(), {}),
    "shine": (Shine(), {}),
    "unrolled-5": (Unrolled(), {"solver": "picard", "max_steps": 5}),
    "unrolled-10": (Unrolled(), {"solver": "picard", "max_steps": 10}),
}


def with_method(config: TrainConfig, method: str) -> TrainConfig:
    """The configuration with one of the methods."""
    adjoint, changes = METHODS[method]
    return config.replace(adjoint=adjoint, **changes)


def executions(config: TrainConfig) -> float:
    """Circuits that training runs for a sample: its solve and its gradient, by shifts."""
    steps = float(config.max_steps) if config.adjoint == Unrolled() else _STEPS
    return executions_per_sample(config, steps)


@eqx.filter_jit
def _slope(classifier: Any, layer: Equilibrium, x: Array, y: Array) -> Array:
    """The gradient of the mean loss in the circuit's angles."""

    def loss(theta: Array) -> Array:
        model = eqx.tree_at(lambda c: c.model.theta, classifier, theta)
        found = jax.vmap(lambda x: model(x, layer).outputs)(x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, y))

    return jax.grad(loss)(classifier.model.theta)


def cosine(run: Run, config: TrainConfig, x: Array, y: Array) -> float:
    """Between the gradient that a trained model gets by its method and the exact one."""
    layer = layer_of(config)
    assert isinstance(layer, Equilibrium)
    # One sample that the reference does not solve would be most of the difference.
    fallback = Homotopy(1e-6, 1e-6)
    exact = Equilibrium(Broyden(1e-6, 1e-6), Implicit(), max_steps=60, fallback=fallback)
    ours, theirs = (
        np.asarray(_slope(run.classifier, layer, x, y), np.float64) for layer in (layer, exact)
    )
    size = np.linalg.norm(ours) * np.linalg.norm(theirs)
    return float(ours @ theirs / size) if size > 0 else math.nan


def train_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Train all seeds in stages; between them compare gradients."""
    base, method = row.training, row.options["method"]
    config, epochs = with_method(base, method), base.epochs
    if row.options["equal"] == "executions":
        epochs = max(1, round(epochs * executions(base) / executions(config)))
    stages = sorted({1, max(1, epochs // 10), epochs})
    train_split = load_dataset(base).train
    x, y = jnp.asarray(train_split.x[:_SAMPLES]), jnp.asarray(train_split.y[:_SAMPLES])
    runs, cosines = folder / "runs", {seed: [] for seed in row.seeds}
    shutil.rmtree(runs, ignore_errors=True)

    def tell(metrics: dict[str, Any]) -> None:
        progress({"epoch": metrics["epoch"], "epochs": epochs})

    began, trained = time.perf_counter(), None
    for stage in stages:
        config = config.replace(epochs=stage)
        if trained is None:
            trained = train(config, seeds=row.seeds, out=runs, on_epoch=tell)
        else:
            trained = resume(runs, epochs=stage, config=config, on_epoch=tell)
        for seed in row.seeds:
            cosines[seed].append(cosine(trained.of_seed(seed), config, x, y))
    assert trained is not None
    seeds = []
    for seed, summary in zip(row.seeds, trained.summaries, strict=True):
        found = cosines[seed]
        seeds.append(
            {
                "seed": seed,
                "test_accuracy": summary.test_accuracy,
                "valid_accuracy": summary.valid_accuracy,
                "converged_fraction": summary.converged_fraction,
                "cosine_first": found[0],
                "cosine_least": min(found),
                "cosine_last": found[-1],
                "valid_loss": _last_loss(trained.of_seed(seed)),
            }
        )
    each = executions(config)
    return result(
        seeds,
        epochs=epochs,
        executions_per_sample=each,
        training_executions=each * epochs * len(train_split),
        train_seconds=time.perf_counter() - began,
        peak_memory_mb=peak_memory_mb(),
    )


def _last_loss(run: Run) -> float:
    history = run.folder.read_metrics(epochs=run.summary.epochs)
    last = history[-1]["valid_loss"] if history else None
    return math.nan if last is None else last
