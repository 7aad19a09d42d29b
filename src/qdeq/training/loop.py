"""The compiled training loop: an epoch of every seed is one XLA program, its validation another.

Knows no files and prints nothing; `session.py` writes what comes out of it. What is computed is in
`epoch.py`, where it is computed in `parallel.py`.
"""

import time
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from qdeq.circuits import parse_noise
from qdeq.data import Dataset, Split
from qdeq.models import Classifier, build_classifier, state_dtype
from qdeq.training.config import TrainConfig
from qdeq.training.epoch import BatchMetrics, Recipe
from qdeq.training.epoch import TrainState as TrainState
from qdeq.training.parallel import Layout

EVALUATION_CHUNK = 1024  # samples measured at once: one compiled shape for every split


class Trainer:
    """Trains one configuration on one data set, with one seed or with many at once.

    The methods that end in `_seeds` work on states and classifiers whose arrays have a leading seed
    axis. A seed's results do not depend on the others: its randomness follows from its own key.

    Parameters
    ----------
    config
        What to train; `config.seed` counts for `init` alone.
    dataset
        Its `x` are `(N, d)` features.
    layout
        Number of seeds and the devices they run on; one seed on JAX's default device if None.
    programs
        Compiled programs to use and to add to, shared by trainers whose configurations (but for
        the seed), layouts and sizes of splits are equal; its own if None.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        *,
        layout: Layout | None = None,
        programs: dict[tuple[str, str], Any] | None = None,
    ):
        self.config = config
        self.dataset = dataset
        self.layout = Layout() if layout is None else layout
        self.n_qubits = n_qubits_of(config, dataset)
        self.recipe = Recipe(config, self.layout.batch_axis)
        self._programs = {} if programs is None else programs
        self._train_split: PyTree = None
        parts = 1 if self.recipe.batch_axis is None else self.recipe.batch_axis.size
        self._chunk = -(-EVALUATION_CHUNK // parts) * parts

    def init(self) -> TrainState:
        """A fresh state: random angles and head, seeded by the configuration."""
        return self._init(self.config.seed)

    def init_seeds(self, seeds: Sequence[int]) -> TrainState:
        """Fresh states with a leading seed axis; entry i is `init` of a run with `seeds[i]`."""
        return self.stack([self._init(seed) for seed in seeds])

    def stack(self, states: Sequence[TrainState]) -> TrainState:
        """Join states of one seed each to states with a leading seed axis."""
        arrays = jax.tree.map(
            lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
            *(eqx.filter(state, eqx.is_array) for state in states),
        )
        return self.put(eqx.combine(arrays, eqx.filter(states[0], eqx.is_array, inverse=True)))

    def put(self, states: TrainState) -> TrainState:
        """Put the arrays of states with a seed axis where the programs expect them."""
        arrays, static = eqx.partition(states, eqx.is_array)
        return eqx.combine(self.layout.put(arrays), static)

    def compile(self, states: TrainState | None = None) -> float:
        """Compile what the next epoch needs; returns the seconds spent, 0 when it was compiled.

        Parameters
        ----------
        states
            The states that the epoch will start from, with or without seed axis; fresh ones if
            None.
        """
        if states is None:
            seeded = self.init_seeds([self.config.seed] * self.layout.n_seeds)
        else:
            seeded = _stacked(states) if states.epoch.ndim == 0 else states
        phase = self.recipe.phase(int(np.asarray(seeded.epoch)[0]))
        began = time.perf_counter()
        missing = [name for name in ("train", "measure") if (name, phase) not in self._programs]
        if "train" in missing:
            self._compile_train(phase, seeded)
        if "measure" in missing:
            self._compile_measure(phase, seeded.classifier)
        return time.perf_counter() - began if missing else 0.0

    def run_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Train one epoch of one seed: `run_epoch_seeds` for a state without seed axis."""
        states, (metrics,) = self.run_epoch_seeds(_stacked(state))
        return _only(states), metrics

    def run_epoch_seeds(self, states: TrainState) -> tuple[TrainState, list[dict[str, Any]]]:
        """Train one epoch, validate, keep the best model of the phase, for every seed.

        Returns
        -------
        states, metrics
            The metrics are plain numbers, a dict per seed: see the keys below. Residuals are
            per-sample relative norms |f(m) - m| / |f(m)|; executions count evaluations of the model
            function in the forward passes of training; seconds are a seed's share.
        """
        self.compile(states)
        epoch = int(np.asarray(states.epoch)[0])
        phase = self.recipe.phase(epoch)
        began = time.perf_counter()
        dynamic, static = eqx.partition(states, eqx.is_array)
        if self._train_split is None:
            self._train_split = self.layout.put((self.dataset.train.x, self.dataset.train.y))
        dynamic, summed = self._programs["train", phase](dynamic, *self._train_split)
        trained = _averages(summed)
        states = eqx.combine(dynamic, static)
        validated = self.evaluate_seeds(states.classifier, self.dataset.valid, phase=phase)
        # The first implicit epoch starts the search for the best model anew: a model of the warm-up
        # was chosen with another layer than the one it would be used with.
        first = epoch == 0 or (phase == "implicit" and epoch == self.config.warmup_epochs)
        best_losses = np.asarray(states.best_valid_loss)
        losses = np.array([found["loss"] for found in validated], best_losses.dtype)
        states = self._keep(states, first | (losses < best_losses) | np.isnan(best_losses), losses)
        seconds = (time.perf_counter() - began) / self.layout.n_seeds
        metrics = [
            {
                "epoch": epoch + 1,
                "phase": phase,
                "train_loss": train["loss"],
                "train_accuracy": train["accuracy"],
                "valid_loss": valid["loss"],
                "valid_accuracy": valid["accuracy"],
                "residual_mean": train["residual_mean"],
                "residual_max": train["residual_max"],
                "converged_fraction": train["converged_fraction"],
                "solver_steps_mean": train["solver_steps_mean"],
                "gradient_norm": train["gradient_norm"],
                "circuit_executions": train["circuit_executions"],
                "seconds": seconds,
            }
            for train, valid in zip(trained, validated, strict=True)
        ]
        return states, metrics

    def evaluate(
        self, classifier: Classifier, split: Split, *, phase: str | None = None
    ) -> dict[str, Any]:
        """Metrics of one model on a split: `evaluate_seeds` for arrays without seed axis."""
        return self.evaluate_seeds(_stacked(classifier), split, phase=phase)[0]

    def evaluate_seeds(
        self, classifiers: Classifier, split: Split, *, phase: str | None = None
    ) -> list[dict[str, Any]]:
        """Metrics of every seed's model on a split.

        Parameters
        ----------
        classifiers, split
            Any models of this configuration, any split of its data set.
        phase
            With which layer; None is the one that the trained model is used with.

        Returns
        -------
        list of dict
            Per seed `loss, accuracy, residual_mean, residual_max, converged_fraction,
            solver_steps_mean, undefined_inputs, circuit_executions`, `residual_trace` (mean over
            samples, one entry per solver step, NaN where no sample was still iterating) and
            `predictions` `(N,)`.
        """
        phase = phase or self.config.mode
        if ("measure", phase) not in self._programs:
            self._compile_measure(phase, classifiers)
        program = self._programs["measure", phase]
        dynamic = eqx.filter(classifiers, eqx.is_array)
        n_samples = len(split.y)
        parts = []
        for start in range(0, n_samples, self._chunk):
            positions = np.arange(start, start + self._chunk)
            weight = (positions < n_samples).astype(split.x.dtype)
            chosen = positions % n_samples
            shared = self.layout.put((split.x[chosen], split.y[chosen], weight))
            metrics, *rest = program(dynamic, *shared)
            parts.append((jax.tree.map(lambda sums: np.asarray(sums)[:, None], metrics), *rest))
        metrics, predictions, traces, defined = jax.tree.map(
            lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves], axis=1), *parts
        )
        found = []
        for seed, averages in enumerate(_averages(metrics)):
            del averages["gradient_norm"]
            trace = traces[seed, :n_samples]
            running = (~np.isnan(trace)).sum(axis=0)
            mean_trace = np.nansum(trace, axis=0) / np.maximum(running, 1)  # NaN: not running
            found.append(
                {
                    **averages,
                    "undefined_inputs": int(np.sum(~defined[seed, :n_samples])),
                    "residual_trace": np.where(running > 0, mean_trace, np.nan),
                    "predictions": predictions[seed, :n_samples],
                }
            )
        return found

    def _init(self, seed: int) -> TrainState:
        return self._fresh(jnp.asarray(seed, jnp.uint32))

    @eqx.filter_jit  # one program compiles faster than the fifty operations one by one
    def _fresh(self, seed: Array) -> TrainState:
        model_key, head_key, run_key = jax.random.split(jax.random.key(seed), 3)
        config = self.config
        classifier = build_classifier(
            self.n_qubits,
            self.dataset.n_classes,
            n_features=self.dataset.n_features,
            encoding=config.encoding,
            ansatz=config.ansatz,
            ansatz_layers=config.ansatz_layers,
            trainable=config.trainable,
            head=config.head,
            dropout=config.dropout,
            method=config.method,
            noise=parse_noise(config.noise) if config.noise else None,
            model_key=model_key,
            head_key=head_key,
        )
        parameters = eqx.filter(classifier, eqx.is_inexact_array)
        shape = (len(self.dataset.train.y), classifier.model.n_observables)
        previous = config.start == "previous" and config.mode == "implicit"
        return TrainState(
            classifier=classifier,
            optimiser_state=self.recipe.optimiser.init(parameters),
            best_classifier=classifier,
            best_valid_loss=jnp.array(jnp.inf, state_dtype(classifier.model)),
            epoch=jnp.array(0, jnp.int32),
            key=jax.random.key_data(run_key),
            starts=jnp.zeros(shape, state_dtype(classifier.model)) if previous else None,
        )

    def _compile_train(self, phase: str, states: TrainState) -> None:
        dynamic, static = eqx.partition(states, eqx.is_array)

        def train(dynamic: PyTree, x: Array, y: Array) -> tuple[PyTree, BatchMetrics]:
            state, metrics = self.recipe.train(phase, eqx.combine(dynamic, static), x, y)
            return eqx.filter(state, eqx.is_array), metrics

        split = self.dataset.train
        self._programs["train", phase] = self.layout.compile(
            train,
            (_shapes(dynamic), _shapes(split.x), _shapes(split.y)),
            split_results=(False, False),
        )

    def _compile_measure(self, phase: str, classifiers: Classifier) -> None:
        dynamic, static = eqx.partition(classifiers, eqx.is_array)

        def measure(dynamic: PyTree, x: Array, y: Array, weight: Array):
            return self.recipe.measure(phase, eqx.combine(dynamic, static), x, y, weight)

        split, size = self.dataset.valid, self._chunk
        shared = (
            jax.ShapeDtypeStruct((size, split.x.shape[1]), split.x.dtype),
            jax.ShapeDtypeStruct((size,), split.y.dtype),
            jax.ShapeDtypeStruct((size,), split.x.dtype),
        )
        self._programs["measure", phase] = self.layout.compile(
            measure,
            (_shapes(dynamic), *shared),
            split_arguments=True,
            split_results=(False, True, True, True),
        )

    def _keep(self, states: TrainState, better: np.ndarray, losses: np.ndarray) -> TrainState:
        """Make the current models the best ones for the seeds where they are `better`."""
        if better.all():
            kept = states.classifier
        elif better.any():
            current = eqx.filter(states.classifier, eqx.is_array)
            best, static = eqx.partition(states.best_classifier, eqx.is_array)
            chosen = jax.tree.map(lambda new, old: _where(better, new, old), current, best)
            kept = eqx.combine(self.layout.put(chosen), static)
        else:
            return states
        best_losses = np.where(better, losses, np.asarray(states.best_valid_loss))
        return eqx.tree_at(
            lambda s: (s.best_classifier, s.best_valid_loss),
            states,
            (kept, self.layout.put(best_losses)),
        )


def n_qubits_of(config: TrainConfig, dataset: Dataset) -> int:
    """The qubits of a configuration's circuit on a data set."""
    return config.n_qubits or (4 if dataset.n_classes <= 4 else 10)


def _averages(metrics: BatchMetrics) -> list[dict[str, Any]]:
    """Plain numbers per seed from metrics `(S, n_batches)`, in float64."""
    sums = {name: np.asarray(value, float) for name, value in vars(metrics).items()}
    count = sums["count"].sum(axis=1)
    means = {
        "loss": sums["loss"].sum(axis=1) / count,
        "accuracy": sums["correct"].sum(axis=1) / count,
        "residual_mean": sums["residual"].sum(axis=1) / count,
        "residual_max": sums["residual_max"].max(axis=1),
        "converged_fraction": sums["converged"].sum(axis=1) / count,
        "solver_steps_mean": sums["steps"].sum(axis=1) / count,
        "gradient_norm": sums["gradient_norm"].mean(axis=1),
    }
    executions = sums["evaluations"].sum(axis=1)
    return [
        {
            **{name: float(value[seed]) for name, value in means.items()},
            "circuit_executions": round(float(executions[seed])),
        }
        for seed in range(len(count))
    ]


def _where(chosen: np.ndarray, new: Any, old: Any) -> np.ndarray:
    """`new` where the seed is chosen, else `old`; both with a leading seed axis."""
    new, old = np.asarray(new), np.asarray(old)
    return np.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def _stacked(tree: PyTree) -> PyTree:
    """Give the arrays of one seed a seed axis of length 1."""
    return jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, tree)


def _only(tree: PyTree) -> PyTree:
    """Undo `_stacked`."""
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, tree)
