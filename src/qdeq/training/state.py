"""The state that training carries from epoch to epoch, and the one that it begins with.

What an epoch does with it is in `epoch.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from qdeq.circuits import MeasuredCircuit
from qdeq.circuits.noise_text import as_noise
from qdeq.circuits.tables import circuit_by_names
from qdeq.data import Dataset
from qdeq.errors import UserError
from qdeq.models import (
    Classifier,
    ModelFunction,
    Predictor,
    Regressor,
    build_model,
    check_model,
    state_dtype,
)
from qdeq.models.memory import check_memory, check_memory_of
from qdeq.names import Head, Task
from qdeq.training.config import TrainConfig
from qdeq.training.options import OptimiserOption
from qdeq.training.programs import kept_on_disk
from qdeq.training.values import Values

ModelMaker = Callable[[PRNGKeyArray], ModelFunction]
"""What makes a model function from a JAX key."""


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


def initial_state(
    config: TrainConfig,
    dataset: Dataset,
    seed: int,
    *,
    at_once: int,
    model: ModelFunction | ModelMaker | None = None,
) -> TrainState:
    """Random angles and head from a seed, and an optimiser that has made no step.

    Parameters
    ----------
    config, dataset
        As `Trainer` takes them; `config.seed` does not count.
    seed
        Of everything random.
    at_once
        How many samples a device computes at once: training must fit into its memory.
    model
        A model function in the place of the configuration's circuit, or what makes one from a key.

    Raises
    ------
    UserError
        When the configuration, the sizes and the model do not go together, or do not fit.
    """
    sizes = dataset.n_features, dataset.n_outputs
    choices = _choices(config, n_qubits_of(config, dataset), *sizes, dataset.task)
    if model is None:
        _check_that_it_fits(choices, at_once)
    with kept_on_disk():
        state = _fresh(jax.device_put(np.uint32(seed)), choices, model)
    if model is not None:
        check_memory_of(state.classifier.model, batch_size=at_once)
    state = with_dropout(state, config.dropout)
    if config.start == "previous" and config.mode == "implicit":
        made = state.classifier.model
        shape = (len(dataset.train.y), made.n_observables)
        starts = jax.device_put(np.zeros(shape, state_dtype(made)))
        state = eqx.tree_at(lambda s: s.starts, state, starts, is_leaf=lambda x: x is None)
    return state


def untrained(
    config: TrainConfig,
    n_features: int,
    n_outputs: int,
    model: ModelFunction | ModelMaker | None = None,
    *,
    task: Task = "classification",
) -> Predictor:
    """The predictor that a configuration begins with, for data of these sizes; see `Trainer`.

    Raises
    ------
    UserError
        When the configuration, the sizes and the model do not go together.
    """
    choices = _choices(config, _n_qubits(config, n_outputs), n_features, n_outputs, task)
    with kept_on_disk():
        state = _fresh(jax.device_put(np.uint32(config.seed)), choices, model)
    return with_dropout(state, config.dropout).classifier


@dataclass(frozen=True)
class _Choices:
    """What a fresh state is made of, hashable."""

    task: Task
    n_outputs: int
    head: Head
    optimiser: OptimiserOption
    n_qubits: int
    n_features: int
    parts: tuple[tuple[str, Any], ...]
    """What else `build_model` is told."""


def _choices(
    config: TrainConfig, n_qubits: int, n_features: int, n_outputs: int, task: Task
) -> _Choices:
    config = config.given_again()
    parts = {
        "encoding": config.encoding,
        "rotations": config.rotations,
        "uploads": config.uploads,
        "ansatz": config.ansatz,
        "ansatz_layers": config.ansatz_layers,
        "observables": config.observables,
        "trainable": config.trainable,
        "method": config.method,
        "noise": as_noise(config.noise),
        "max_contraction": config.max_contraction,
    }
    return _Choices(
        task=task,
        n_outputs=n_outputs,
        head=config.head,
        optimiser=config.optimiser,
        n_qubits=n_qubits,
        n_features=n_features,
        parts=tuple(parts.items()),
    )


def _check_that_it_fits(choices: _Choices, batch_size: int) -> None:
    """Raise `UserError` before the circuit is built where its training would not fit."""
    parts = dict(choices.parts)
    method, _ = parts.pop("method"), parts.pop("max_contraction")

    def circuit(n_qubits: int) -> MeasuredCircuit:
        return circuit_by_names(n_qubits, n_features=choices.n_features, **parts)

    # An object is of a size of its own.
    is_named = all(isinstance(parts[name], str) for name in ("encoding", "ansatz", "observables"))
    check_memory(
        circuit(choices.n_qubits),
        method,
        batch_size=batch_size,
        smaller=circuit if is_named else None,
    )


@eqx.filter_jit  # one program compiles faster than the fifty operations one by one
def _fresh(seed: Array, choices: _Choices, model: ModelFunction | ModelMaker | None) -> TrainState:
    model_key, head_key, run_key = jax.random.split(jax.random.key(seed), 3)
    made = _model_of(model, choices, model_key)
    kind = Classifier if choices.task == "classification" else Regressor
    predictor = kind(made, choices.n_outputs, dropout=0.0, head=choices.head, key=head_key)
    # The state of the optimiser depends on none of the values.
    optimiser = Values.of(TrainConfig(), 1).optimiser(choices.optimiser)
    return TrainState(
        classifier=predictor,
        optimiser_state=optimiser.init(eqx.filter(predictor, eqx.is_inexact_array)),
        best_classifier=predictor,
        best_valid_loss=jnp.array(jnp.inf, state_dtype(predictor.model)),
        epoch=jnp.array(0, jnp.int32),
        key=jax.random.key_data(run_key),
        starts=None,
    )


def with_dropout(state: TrainState, dropout: float) -> TrainState:
    """The state with another dropout: programs are compiled for one without."""
    return eqx.tree_at(
        lambda s: (s.classifier.dropout, s.best_classifier.dropout), state, (dropout, dropout)
    )


def _model_of(
    model: ModelFunction | ModelMaker | None, choices: _Choices, key: Array
) -> ModelFunction:
    if model is None:
        parts = dict(choices.parts)
        return build_model(choices.n_qubits, n_features=choices.n_features, key=key, **parts)
    made: Any = model
    if callable(model) and not isinstance(model, ModelFunction):
        made = model(key)
    check_model(made)
    if made.n_features != choices.n_features:
        raise UserError(
            f"model={type(made).__name__} reads {made.n_features} features and the data set has "
            f"{choices.n_features}: give a model of as many features"
        )
    return made


def n_qubits_of(config: TrainConfig, dataset: Dataset) -> int:
    """The qubits of a configuration's circuit on a data set."""
    return _n_qubits(config, dataset.n_outputs)


def _n_qubits(config: TrainConfig, n_outputs: int) -> int:
    """The paper's where none are given: 4 qubits for 4 classes, 10 for 10."""
    return config.given_n_qubits or (4 if n_outputs <= 4 else 10)
