"""The compiled training loop: an epoch of every seed is one XLA program, its validation another.

Knows no files and prints nothing; `session.py` writes what comes out of it. What it begins with is
in `state.py`, what is computed in `epoch.py`, where it is computed in `parallel.py`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from qdeq.data import Dataset, Split
from qdeq.errors import UserError
from qdeq.models import ModelFunction, Predictor
from qdeq.names import SCORES, Loss
from qdeq.training.batches import padded_rows
from qdeq.training.config import TrainConfig
from qdeq.training.epoch import Recipe, measure
from qdeq.training.layer import LayerRecipe
from qdeq.training.losses import loss_of
from qdeq.training.metrics import BatchMetrics, averages, mean_trace
from qdeq.training.parallel import BatchAxis, Layout
from qdeq.training.programs import Structure, compiled
from qdeq.training.scores import Scoring
from qdeq.training.state import ModelMaker, TrainState, initial_state, n_qubits_of, with_dropout
from qdeq.training.values import Values

# Samples measured at once. Few shapes to compile, and a small table does not pay after every epoch
# for rows that it does not have: 13 of an epoch's 32 ms, on the 178 rows of scikit-learn's wine.
_CHUNKS = (128, 256, 1024)


class Trainer:
    """Trains one configuration on one data set, with one seed or with many at once.

    The methods that end in `_seeds` work on states and classifiers whose arrays have a leading seed
    axis. A seed's results do not depend on the others: its randomness follows from its own key.

    Trainers whose programs are equal share them: learning rate, penalty weight, dropout, clipping,
    tolerance, epochs, seed and the number of samples (see `padded_rows`) are not part of a program.

    Parameters
    ----------
    config
        What to train; `config.seed` counts for `init` alone.
    dataset
        Its `x` are `(N, d)` features.
    layout
        Number of seeds and the devices they run on; one seed on JAX's default device if None.
    model
        A model function to train instead of the configuration's circuit, from the values that it
        has; or what makes one from a JAX key, a different start for every seed.

    Raises
    ------
    UserError
        When the configuration and the sizes of the data do not go together, or the model's.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        *,
        layout: Layout | None = None,
        model: ModelFunction | ModelMaker | None = None,
    ):
        _check_that_some_count(dataset)
        loss_of(config.loss, dataset.task)  # its message, before anything is compiled
        self.config = config
        self.dataset = dataset
        self.model = model
        self.layout = Layout() if layout is None else layout
        self.n_qubits = n_qubits_of(config, dataset)
        self.values = Values.of(config, len(dataset.train.y))
        self._scoring = Scoring(dataset)
        self._programs: dict[tuple[str, str], Callable[..., tuple[PyTree, ...]]] = {}
        self._train_arguments: PyTree = None
        axis = self.layout.batch_axis
        parts = 1 if axis is None else axis.size
        self._chunk = -(-_chunk_for(len(dataset.valid)) // parts) * parts

    def recipe(self, phase: str | None = None) -> Recipe:
        """What an epoch of a phase computes; None is the phase of the trained model."""
        return Recipe.of(
            self.config, phase, task=self.dataset.task, batch_axis=self.layout.batch_axis
        )

    def phase(self, epoch: int) -> str:
        """The phase of an epoch, counted from 0: `"direct"` or `"implicit"`."""
        if self.config.mode == "direct" or epoch < self.config.warmup_epochs:
            return "direct"
        return "implicit"

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
        """Compile what the next epoch needs; returns the seconds spent, 0 when it was at hand.

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
        phase = self.phase(int(np.asarray(seeded.epoch)[0]))
        if ("train", phase) in self._programs and ("measure", phase) in self._programs:
            return 0.0
        began = time.perf_counter()
        self._train_program(phase, seeded)
        self._measure_program(phase, seeded.classifier)
        return time.perf_counter() - began

    def run_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Train one epoch of one seed: `run_epoch_seeds` for a state without seed axis."""
        states, (metrics,) = self.run_epoch_seeds(_stacked(state))
        return only(states), metrics

    def run_epoch_seeds(
        self, states: TrainState, *, ended: Sequence[bool] | None = None
    ) -> tuple[TrainState, list[dict[str, Any]]]:
        """Train one epoch, validate, keep the best model of the phase, for every seed.

        A model whose loss on the validation split is not finite is never kept.

        Parameters
        ----------
        states
            With a leading seed axis.
        ended
            Which seeds have ended: they stay in the program of the others and keep their best
            model.

        Returns
        -------
        states, metrics
            The metrics are plain numbers, a dict per seed: see the keys below. Residuals are
            per-sample relative norms |f(m) - m| / |f(m)|; executions count evaluations of the model
            function in the forward passes of training; seconds are a seed's share. A
            regression's have `_r2` in the place of `_accuracy`.
        """
        self.compile(states)
        epoch = int(np.asarray(states.epoch)[0])
        phase = self.phase(epoch)
        began = time.perf_counter()
        program, shared = self._train_program(phase, states), self._shared()
        dynamic, static = eqx.partition(self._with_rows(states), eqx.is_array)
        dynamic, summed = program(dynamic, *shared)
        trained = averages(summed)
        states = self._without_rows(eqx.combine(dynamic, static))
        validated = self.evaluate_seeds(states.classifier, self.dataset.valid, phase=phase)
        # The first implicit epoch starts the search for the best model anew: a model of the warm-up
        # was chosen with another layer than the one it would be used with.
        first = epoch == 0 or (phase == "implicit" and epoch == self.config.warmup_epochs)
        best_losses = np.asarray(states.best_valid_loss)
        losses = np.array([found["loss"] for found in validated], best_losses.dtype)
        better = np.isfinite(losses) & (first | (losses < best_losses))
        if ended is not None:
            better &= ~np.asarray(ended)
        states = self._keep(states, better, losses)
        score = SCORES[self.dataset.task]
        seconds = (time.perf_counter() - began) / self.layout.n_seeds
        metrics = [
            {
                "epoch": epoch + 1,
                "phase": phase,
                "train_loss": train["loss"],
                "train_penalty": train["penalty"],
                f"train_{score}": self._scoring.of_training(train["mark"]),
                "valid_loss": valid["loss"],
                f"valid_{score}": valid[score],
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
        self, classifier: Predictor, split: Split, *, phase: str | None = None
    ) -> dict[str, Any]:
        """Metrics of one model on a split: `evaluate_seeds` for arrays without seed axis."""
        return self.evaluate_seeds(_stacked(classifier), split, phase=phase)[0]

    def evaluate_seeds(
        self, classifiers: Predictor, split: Split, *, phase: str | None = None
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
            the samples whose residual is a number, one entry per solver step, NaN where none was
            still iterating), `not_finite` (how many samples met a residual that is none) and
            `predictions` `(N,)`. Of a regression `r2`, `rmse` and `mae` (means over the targets, in
            their own units) in the place of the accuracy, and predictions `(N, T)`.
        """
        program = self._measure_program(phase or self.config.mode, classifiers)
        dynamic = eqx.filter(classifiers, eqx.is_array)
        n_samples = len(split.y)
        parts = []
        for start in range(0, n_samples, self._chunk):
            positions = np.arange(start, start + self._chunk)
            present = (positions < n_samples).astype(split.x.dtype)
            chosen = split[positions % n_samples]
            shared = (chosen.x, chosen.y, present, chosen.weight, self.values.tolerance)
            metrics, *rest = program(dynamic, *self.layout.put(shared))
            parts.append((jax.tree.map(lambda sums: np.asarray(sums)[:, None], metrics), *rest))
        metrics, predictions, traces, defined = jax.tree.map(
            lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves], axis=1), *parts
        )
        found = []
        for seed, numbers in enumerate(averages(metrics)):
            del numbers["gradient_norm"], numbers["penalty"]  # of training only
            predicted = predictions[seed, :n_samples]
            numbers |= self._scoring.of_split(split, numbers.pop("mark"), predicted)
            mean, not_finite = mean_trace(traces[seed, :n_samples])
            found.append(
                {
                    **numbers,
                    "undefined_inputs": int(np.sum(~defined[seed, :n_samples])),
                    "not_finite": not_finite,
                    "residual_trace": mean,
                    "predictions": self._scoring.in_units(predicted),
                }
            )
        return found

    def _init(self, seed: int) -> TrainState:
        axis = self.layout.batch_axis
        at_once = max(self._chunk, self.config.batch_size) // (1 if axis is None else axis.size)
        return initial_state(self.config, self.dataset, seed, at_once=at_once, model=self.model)

    def _train_program(self, phase: str, states: TrainState) -> Callable[..., tuple[PyTree, ...]]:
        if ("train", phase) not in self._programs:
            dynamic, static = eqx.partition(self._with_rows(states), eqx.is_array)
            self._programs["train", phase] = compiled(
                _train,
                (self.recipe(phase), Structure.of(with_dropout(static, 0.0))),
                self.layout,
                (dynamic, *self._shared()),
                split_results=(False, False),
            )
        return self._programs["train", phase]

    def _measure_program(
        self, phase: str, classifiers: Predictor
    ) -> Callable[..., tuple[PyTree, ...]]:
        if ("measure", phase) not in self._programs:
            dynamic, static = eqx.partition(classifiers, eqx.is_array)
            static = eqx.tree_at(lambda c: c.dropout, static, 0.0)
            recipe = self.recipe(phase)
            split, size = self.dataset.valid, self._chunk
            per_sample = jax.ShapeDtypeStruct((size,), split.x.dtype)
            shared = (
                jax.ShapeDtypeStruct((size, split.x.shape[1]), split.x.dtype),
                jax.ShapeDtypeStruct((size, *split.y.shape[1:]), split.y.dtype),
                per_sample,
                None if split.weight is None else per_sample,
                self.values.tolerance,
            )
            self._programs["measure", phase] = compiled(
                _measure,
                (recipe.layer, recipe.loss, recipe.batch_axis, Structure.of(static)),
                self.layout,
                (dynamic, *shared),
                split_arguments=(True, True, True, True, False),
                split_results=(False, True, True, True),
            )
        return self._programs["measure", phase]

    def _shared(self) -> tuple[Array, Array, Array | None, Values]:
        """The training split and the values on the devices."""
        if self._train_arguments is None:
            split = self.dataset.train
            surplus = padded_rows(len(split.y), self.config.batch_size) - len(split.y)

            def filled(rows: np.ndarray | None) -> np.ndarray | None:
                if rows is None:
                    return None
                return np.pad(rows, ((0, surplus), *((0, 0),) * (rows.ndim - 1)))

            rows = filled(split.x), filled(split.y), filled(split.weight)
            self._train_arguments = self.layout.put((*rows, self.values))
        return self._train_arguments

    def _with_rows(self, states: TrainState) -> TrainState:
        """States whose starts have as many rows as the training split on the devices."""
        if states.starts is None:
            return states
        n_rows, starts = len(self._shared()[1]), np.asarray(states.starts)
        filled = np.pad(starts, ((0, 0), (0, n_rows - starts.shape[1]), (0, 0)))
        return eqx.tree_at(lambda s: s.starts, states, self.layout.put(filled))

    def _without_rows(self, states: TrainState) -> TrainState:
        """Undo `_with_rows`."""
        if states.starts is None:
            return states
        starts = np.asarray(states.starts)[:, : len(self.dataset.train.y)]
        return eqx.tree_at(lambda s: s.starts, states, self.layout.put(starts))

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


def _chunk_for(n_samples: int) -> int:
    """The smallest chunk that holds a split, or the largest."""
    return next((chunk for chunk in _CHUNKS if chunk >= n_samples), _CHUNKS[-1])


def _train(
    recipe: Recipe,
    structure: Structure,
    dynamic: PyTree,
    x: Float[Array, "N d"],
    y: Array,
    weight: Float[Array, " N"] | None,
    values: Values,
) -> tuple[PyTree, BatchMetrics]:
    state = eqx.combine(dynamic, structure.tree)
    state, metrics = recipe.train(state, x, y, weight, values)
    return eqx.filter(state, eqx.is_array), metrics


def _measure(
    layer: LayerRecipe,
    loss: Loss,
    batch_axis: BatchAxis | None,
    structure: Structure,
    dynamic: PyTree,
    x: Float[Array, "B d"],
    y: Array,
    present: Float[Array, " B"],
    weight: Float[Array, " B"] | None,
    tolerance: Float[Array, ""],
) -> tuple[BatchMetrics, Array, Array, Array]:
    predictor = eqx.combine(dynamic, structure.tree)
    return measure(layer.build(tolerance), loss, predictor, x, y, present, weight, batch_axis)


def _check_that_some_count(dataset: Dataset) -> None:
    """Without a sample that counts the best model would be any."""
    for name in ("train", "valid"):
        weight = getattr(dataset, name).weight
        if weight is not None and not weight.any():
            raise UserError(
                f"{dataset.name}: all weights of the {name} split ({len(weight)} samples) are 0: "
                "leave samples out that do not count, or change split_seed or valid_fraction"
            )


def _where(chosen: np.ndarray, new: Any, old: Any) -> np.ndarray:
    """`new` where the seed is chosen, else `old`; both with a leading seed axis."""
    new, old = np.asarray(new), np.asarray(old)
    return np.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _stacked(tree: PyTree) -> PyTree:
    """Give the arrays of one seed a seed axis of length 1."""
    # By NumPy, which compiles nothing.
    return jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(leaf)[None]) if eqx.is_array(leaf) else leaf, tree
    )


def only(tree: PyTree) -> PyTree:
    """The first seed of a pytree with a leading seed axis."""
    return jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(leaf)[0]) if eqx.is_array(leaf) else leaf, tree
    )
