"""A stand-in for the compiled loop, for tests of what surrounds it: same interface, no compiling.

The angles do a random walk whose steps follow from the run's key and the epoch's number, so
resuming can be tested bit by bit. Losses fall with the epochs and carry no meaning.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import qdeq.training.state as begun
from qdeq.models import Classifier, paper_model


class FakeTrainer:
    """Trains nothing, and interrupts itself where it is told to."""

    interrupt_in_epoch: int | None = None
    """Raise KeyboardInterrupt within this epoch, counted from 1."""

    diverge_in_epoch: ClassVar[dict[int, int]] = {}
    """Seed (its position among those that train together) to the first epoch, from 1, without
    finite numbers."""

    def __init__(self, config, dataset, *, layout=None):
        self.config, self.dataset = config, dataset
        self.n_qubits = begun.n_qubits_of(config, dataset)

    def init(self):
        return self._init(self.config.seed)

    def init_seeds(self, seeds):
        return self.stack([self._init(seed) for seed in seeds])

    def stack(self, states):
        return jax.tree.map(lambda *leaves: _stack(leaves), *states)

    def put(self, states):
        return states

    def _init(self, seed):
        model = paper_model(4, key=jax.random.key(seed), n_features=16)
        classifier = Classifier(model, 4, key=jax.random.key(1))
        return begun.TrainState(
            classifier=classifier,
            optimiser_state=(jnp.zeros(39),),
            best_classifier=classifier,
            best_valid_loss=jnp.array(jnp.inf),
            epoch=jnp.array(0, jnp.int32),
            key=jax.random.key_data(jax.random.key(seed)),
        )

    def compile(self, state=None):
        return 0.25

    def run_epoch_seeds(self, states, *, ended=None):
        done = [self._run_epoch(_entry(states, seed)) for seed in range(len(states.epoch))]
        new = self.stack([state for state, _ in done])
        metrics = [metrics for _, metrics in done]
        for position, first in type(self).diverge_in_epoch.items():
            if metrics[position]["epoch"] >= first:
                metrics[position] |= {"train_loss": float("nan"), "gradient_norm": float("inf")}
                old = states.best_valid_loss[position]
                loss = new.best_valid_loss.at[position].set(old)
                new = eqx.tree_at(lambda s: s.best_valid_loss, new, loss)
        return new, metrics

    def evaluate_seeds(self, classifiers, split, *, phase=None):
        n_seeds = len(classifiers.model.theta)
        return [self.evaluate(_entry(classifiers, seed), split) for seed in range(n_seeds)]

    def _run_epoch(self, state):
        epoch = int(state.epoch) + 1
        if epoch == type(self).interrupt_in_epoch:
            raise KeyboardInterrupt
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
        model = state.classifier.model
        theta = model.theta + 0.1 * jax.random.normal(key, model.theta.shape)
        classifier = _with_theta(state.classifier, theta)
        direct = self.config.mode == "direct" or epoch <= self.config.warmup_epochs
        new_state = begun.TrainState(
            classifier=classifier,
            optimiser_state=state.optimiser_state,
            best_classifier=classifier,
            best_valid_loss=jnp.array(1 / epoch),
            epoch=state.epoch + 1,
            key=state.key,
        )
        metrics = {
            "epoch": epoch,
            "phase": "direct" if direct else "implicit",
            "train_loss": 0.9 / epoch,
            "train_accuracy": 0.8,
            "valid_loss": 1 / epoch,
            "valid_accuracy": 0.7,
            "residual_mean": 1e-6,
            "residual_max": float("nan"),
            "converged_fraction": 1.0,
            "solver_steps_mean": 9.0,
            "gradient_norm": 0.1,
            "circuit_executions": 1000,
            "seconds": 0.5,
        }
        return new_state, metrics

    def evaluate(self, classifier, split):
        return {
            "loss": 0.5,
            "accuracy": float(np.mean(split.y == 0)),
            "residual_mean": 1e-6,
            "residual_max": 1e-5,
            "converged_fraction": 1.0,
            "solver_steps_mean": 9.0,
            "undefined_inputs": 0,
            "not_finite": 0,
            "circuit_executions": 1000,
            "residual_trace": np.array([1.0, 1e-3, 1e-6, np.nan]),
            "predictions": np.zeros(len(split.y), dtype=int),
        }


def _with_theta(classifier, theta):
    return eqx.tree_at(lambda c: c.model.theta, classifier, theta)


def _stack(leaves):
    return jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0]


def _entry(tree, seed):
    return jax.tree.map(lambda leaf: leaf[seed] if eqx.is_array(leaf) else leaf, tree)
