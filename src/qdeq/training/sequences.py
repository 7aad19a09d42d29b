"""Trains a network of cells on sequences, an epoch at a time, and reads it out in blocks.

What the cells are is the network's affair: circuits, recurrent units, any function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from qdeq._numbers import largest
from qdeq.data.sequences import Sequences
from qdeq.equilibrium.networks import Chain, growth
from qdeq.errors import UserError
from qdeq.models import Network
from qdeq.names import Loss
from qdeq.training.losses import losses, marks

# Most sequences that are read out at once, a power of two: few compiled shapes for any number.
_BLOCK = 128
_WATCHED = 8  # validation sequences on which the growth of small changes is watched


@dataclass(frozen=True, kw_only=True)
class SequenceTraining:
    """How a network is trained on sequences.

    Parameters
    ----------
    loss
        "cross-entropy", "squared" or "absolute".
    layers
        None for the equilibrium; a number for so many applications of the map.
    epochs, batch_size
        Passes over the training part, and sequences per step.
    learning_rate, schedule
        Step size of Adam, "constant" or falling along a "cosine".
    gradient_clip
        Gradients longer than it are scaled down to it, 0: never.
    patience
        End after so many epochs without a better validation loss, 0: never.
    """

    loss: Loss
    layers: int | None = None
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 0.03
    schedule: str = "cosine"
    gradient_clip: float = 1.0
    patience: int = 0

    def rate(self, epoch: int) -> float:
        """The step size of an epoch, from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2


class Trained(NamedTuple):
    """The network of the epoch with the lowest validation loss, and all epochs.

    Attributes
    ----------
    network
        The best one.
    history
        One dict per epoch: `epoch`, `train_loss`, `valid_loss`, `valid_mark` (accuracy, or mean
        squared error), `best`, of equilibria `converged_fraction` and, on chains both ways,
        `growth`: the largest of a few validation sequences, see `qdeq.equilibrium.networks.growth`.
    why
        Why training ended early, if it went wrong.
    """

    network: Network
    history: list[dict[str, Any]]
    why: str | None


def train_sequences(
    network: Network,
    train: Sequences,
    valid: Sequences,
    training: SequenceTraining,
    *,
    seed: int = 0,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Trained:
    """Train, and keep the network with the lowest validation loss.

    Parameters
    ----------
    network
        With initial parameters; its wiring is put on the length of the sequences.
    train, valid
        With `y` and `counts`; classes as numbers, targets `(N, K)`, per site `(N, T)`, `(N, T, K)`.
    training
        How.
    seed
        Of the order of the batches.
    tell
        Called with every epoch's line of the history.

    Raises
    ------
    UserError
        Where the loss of the first epoch is not finite.
    """
    assert train.y is not None and train.counts is not None
    rng = np.random.default_rng(seed)
    size = min(training.batch_size, len(train))
    network = best = on_length(network, train.x.shape[1])
    state = _optimiser(0.0).init(eqx.filter(network, eqx.is_inexact_array))
    data = jax.tree.map(jnp.asarray, (train.x, train.mask, train.y, train.counts))
    history: list[dict[str, Any]] = []
    lowest, since, why = math.inf, 0, None
    clip = training.gradient_clip or math.inf
    try:
        for epoch in range(1, training.epochs + 1):
            order = np.full(-(-len(train) // size) * size, -1)
            order[: len(train)] = rng.permutation(len(train))
            numbers = jnp.asarray(training.rate(epoch)), jnp.asarray(clip)
            network, state, loss = _epoch(
                network,
                state,
                data,
                jnp.asarray(order.reshape(-1, size)),
                numbers,
                loss=training.loss,
                layers=training.layers,
            )
            found = judged(network, valid, training)
            line = {"epoch": epoch, "train_loss": float(loss), **found}
            line["best"] = found["valid_loss"] < lowest
            history.append(line)
            tell(line)
            if not (math.isfinite(line["train_loss"]) and math.isfinite(found["valid_loss"])):
                why = (
                    f"epoch {epoch}: the loss is not finite; give a smaller learning_rate than "
                    f"{training.learning_rate:g}, or a gradient_clip"
                )
                if math.isinf(lowest):
                    raise UserError(why)
                break
            if line["best"]:
                best, lowest, since = network, found["valid_loss"], 0
            else:
                since += 1
            if training.patience and since >= training.patience:
                break
    except KeyboardInterrupt:
        if math.isinf(lowest):
            raise
        why = f"interrupted after epoch {len(history)}"
    return Trained(best, history, why)


def judged(network: Network, valid: Sequences, training: SequenceTraining) -> dict[str, Any]:
    """Loss and score on sequences; of equilibria which fraction converged, and their growth."""
    scores, converged = read_out(network, valid, training.layers)
    watched, wiring = {}, network.wiring
    if training.layers is None:
        watched["converged_fraction"] = float(np.mean(converged))
    if training.layers is None and isinstance(wiring, Chain) and wiring.direction == "both":
        few = valid[np.arange(min(_WATCHED, len(valid)))]
        watched["growth"] = float(_growth(on_length(network, few.x.shape[1]), few.x, few.mask))
    outputs, y, counts = jnp.asarray(scores), jnp.asarray(valid.y), valid.counts
    assert counts is not None
    every = np.asarray(losses(training.loss, outputs, y), np.float64)
    mark = np.asarray(marks(training.loss, outputs, y), np.float64)
    present = counts > 0  # what stands beyond the end of a sequence may be anything
    weights = counts[present]
    return {
        "valid_loss": float(np.average(every[present], weights=weights)),
        "valid_mark": float(np.average(mark[present], weights=weights)),
        **watched,
    }


def read_out(
    network: Network, sequences: Sequences, layers: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs `(N, K)`, of sites `(N, T, K)`, and which equilibria converged `(N,)`."""
    network = on_length(network, sequences.x.shape[1])
    size = min(_BLOCK, 1 << (len(sequences) - 1).bit_length())
    parts = []
    for begin in range(0, len(sequences), size):
        rows = np.arange(begin, begin + size)
        rows[rows >= len(sequences)] = begin  # any sequence will do to fill up the block
        block = sequences[rows]
        found = _read_block(network, block.x, block.mask, layers)
        n = min(size, len(sequences) - begin)
        parts.append(tuple(np.asarray(part)[:n] for part in found))
    outputs, converged = (np.concatenate(part) for part in zip(*parts, strict=True))
    return outputs, converged


def on_length(network: Network, length: int) -> Network:
    """The network on a chain of another length, in its own direction."""
    wiring = network.wiring
    if not isinstance(wiring, Chain):
        raise UserError(f"wiring={wiring!r}: sequences are read by a Chain")
    return network if wiring.n == length else network.on(Chain(length, wiring.direction))


def outputs_of(
    network: Network, x: Float[Array, "B T d"], mask: Any, layers: int | None
) -> tuple[Array, Array]:
    """Outputs of a batch, and which equilibria converged."""

    def one(x: Array, mask: Array | None) -> tuple[Array, Array]:
        outputs, _, converged = network.answer(x, layers, mask=mask)
        return outputs, converged

    return jax.vmap(one, in_axes=(0, None if mask is None else 0))(x, mask)


@eqx.filter_jit
def _read_block(network: Network, x: Any, mask: Any, layers: int | None) -> tuple[Array, Array]:
    return outputs_of(network, jnp.asarray(x), mask, layers)


@eqx.filter_jit
def _growth(network: Network, x: Any, mask: Any) -> Array:
    wired = network.wired()

    def one(x: Array, mask: Array | None) -> Array:
        return growth(wired, network.solve(x, mask=mask).value, x, mask)

    found = jax.vmap(one, in_axes=(0, None if mask is None else 0))(jnp.asarray(x), mask)
    return largest(found)


def _optimiser(clip: Any) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam())


@eqx.filter_jit
def _epoch(
    network: Network,
    state: Any,
    data: tuple,
    order: Array,
    numbers: tuple[Array, Array],
    *,
    loss: Loss,
    layers: int | None,
) -> tuple[Network, Any, Array]:
    """One pass over all batches; rows of -1 count nothing."""
    learned, rest = eqx.partition(network, eqx.is_inexact_array)
    is_trained = network.trained()
    rate, clip = numbers
    optimiser = _optimiser(clip)

    def batch_loss(learned: Any, rows: Array) -> tuple[Array, Array]:
        x, mask, y, counts = jax.tree.map(lambda a: a[rows], data)
        network = eqx.combine(learned, rest)
        outputs, _ = outputs_of(network, x, mask, layers)
        is_real = (rows >= 0).reshape(-1, *[1] * (counts.ndim - 1))
        counts = jnp.where(is_real, counts, 0)
        every = losses(loss, outputs, y)
        total = jnp.sum(jnp.where(counts > 0, every, 0) * counts)
        weight = jnp.sum(counts)
        return total / jnp.where(weight > 0, weight, 1), weight

    def step(carry: tuple[Any, Any], rows: Array) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
        learned, state = carry
        (value, weight), slope = jax.value_and_grad(batch_loss, has_aux=True)(learned, rows)
        change, state = optimiser.update(slope, state)
        learned = jax.tree.map(
            lambda a, c, trains: jnp.where(trains, a - rate * c, a), learned, change, is_trained
        )
        return (learned, state), (value, weight)

    (learned, state), (values, weights) = jax.lax.scan(step, (learned, state), order)
    return eqx.combine(learned, rest), state, jnp.sum(values * weights) / jnp.sum(weights)
