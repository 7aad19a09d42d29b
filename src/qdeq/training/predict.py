"""What a trained classifier says of any number of samples, in blocks of one compiled shape."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from qdeq.models import Prediction, Predictor
from qdeq.training.config import TrainConfig
from qdeq.training.layer import LayerRecipe
from qdeq.training.parallel import Layout
from qdeq.training.programs import Structure, compiled
from qdeq.training.values import Values

# Samples predicted at once: one compiled shape, so that a sample's scores are the same bits
# whatever else is predicted with it. A program runs up to so many of these blocks one after the
# other: calls of one block each take two to four times as long (4 qubits).
_BLOCK, _BLOCKS = 256, 16


def predict(classifier: Predictor, config: TrainConfig, x: Float[np.ndarray, "N d"]) -> Prediction:
    """Scores and measured states with NumPy arrays, a leading axis N on every one.

    Parameters
    ----------
    classifier
        A trained one.
    config
        What it was trained as: the layer and the tolerance are taken from there.
    x
        Finite features in the model's type, at least one row.
    """
    layer = LayerRecipe.of(config)
    tolerance = Values.of(config, 1).tolerance
    # No part of a program: a grid over dropout has one for all.
    classifier = eqx.tree_at(lambda c: c.dropout, classifier, 0.0)
    dynamic, static = eqx.partition(classifier, eqx.is_array)
    dynamic = jax.tree.map(lambda leaf: np.asarray(leaf)[None], dynamic)
    blocks = np.empty((_BLOCKS, _BLOCK, x.shape[1]), x.dtype)
    program = compiled(
        _predict,
        (layer, Structure.of(static)),
        Layout(),
        (dynamic, jax.ShapeDtypeStruct(blocks.shape, x.dtype), np.int32(0), tolerance),
        split_results=(False,),
    )
    rows = blocks.reshape(-1, x.shape[1])
    parts = []
    for start in range(0, len(x), len(rows)):
        chosen = x[start : start + len(rows)]
        n_blocks = -(-len(chosen) // _BLOCK)
        rows[: len(chosen)] = chosen
        # Samples that no one asked for must have an equilibrium, too, and cost as little.
        rows[len(chosen) : n_blocks * _BLOCK] = chosen[0]
        (part,) = program(dynamic, blocks, np.int32(n_blocks), tolerance)
        parts.append(jax.tree.map(functools.partial(_samples, n=len(chosen)), part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _samples(leaf: Array, n: int) -> np.ndarray:
    """Of the one seed, the first `n` samples of all blocks."""
    values = np.asarray(leaf)[0]
    return values.reshape(-1, *values.shape[2:])[:n]


def _predict(
    layer: LayerRecipe,
    structure: Structure,
    dynamic: PyTree,
    blocks: Float[Array, "K B d"],
    n_blocks: Int[Array, ""],
    tolerance: Float[Array, ""],
) -> tuple[Prediction]:
    classifier, built = eqx.combine(dynamic, structure.tree), layer.build(tolerance)

    def of_block(x: Float[Array, "B d"]) -> Prediction:
        return jax.vmap(lambda x: classifier(x, built))(x)

    def step(index: Array, found: Prediction) -> Prediction:
        part = of_block(blocks[index])
        return jax.tree.map(lambda whole, own: whole.at[index].set(own), found, part)

    shapes = jax.eval_shape(of_block, blocks[0])
    empty = jax.tree.map(lambda leaf: jnp.zeros((len(blocks), *leaf.shape), leaf.dtype), shapes)
    return (jax.lax.fori_loop(0, n_blocks, step, empty),)


def probabilities(logits: ArrayLike) -> Float[np.ndarray, "N C"]:
    """The softmax of class scores `(N, C)`, in float64."""
    scores = np.asarray(logits, np.float64)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def log_probabilities(logits: ArrayLike) -> Float[np.ndarray, "N C"]:
    """The logarithm of the softmax, in float64; finite where a probability is rounded to 0."""
    from scipy.special import log_softmax

    return log_softmax(np.asarray(logits, np.float64), axis=1)
