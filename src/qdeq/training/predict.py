"""What a trained classifier says of any number of samples, in chunks of one compiled shape."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from qdeq.models import Prediction, Predictor
from qdeq.training.config import TrainConfig
from qdeq.training.epoch import Values
from qdeq.training.layer import LayerRecipe
from qdeq.training.parallel import Layout
from qdeq.training.programs import Structure, compiled

# Samples predicted at once: one compiled shape, so that a sample's scores are the same bits
# whatever else is predicted with it.
_CHUNK = 256


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
    program = compiled(
        _predict,
        (layer, Structure.of(static)),
        Layout(),
        (dynamic, jax.ShapeDtypeStruct((_CHUNK, x.shape[1]), x.dtype), tolerance),
        split_results=(False,),
    )
    parts = []
    for start in range(0, len(x), _CHUNK):
        chosen = np.arange(start, start + _CHUNK) % len(x)
        (part,) = program(dynamic, x[chosen], tolerance)
        parts.append(jax.tree.map(lambda leaf: np.asarray(leaf)[0], part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(x)], *parts)


def _predict(
    layer: LayerRecipe,
    structure: Structure,
    dynamic: PyTree,
    x: Float[Array, "B d"],
    tolerance: Float[Array, ""],
) -> tuple[Prediction]:
    classifier, built = eqx.combine(dynamic, structure.tree), layer.build(tolerance)
    return (jax.vmap(lambda x: classifier(x, built))(x),)


def probabilities(logits: ArrayLike) -> Float[np.ndarray, "N C"]:
    """The softmax of class scores `(N, C)`, in float64."""
    scores = np.asarray(logits, np.float64)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
