"""A classical model function of three numbers, which compiles in a fraction of a circuit's time."""

from typing import Any

import jax
import jax.numpy as jnp

import qdeq
from qdeq.training.config import TrainConfig


class Squash(qdeq.ModelFunction):
    """tanh(w * m + A x): a contraction for small w."""

    weight: jax.Array
    mix: jax.Array

    @property
    def n_features(self):
        return self.mix.shape[1]

    @property
    def n_observables(self):
        return len(self.mix)

    def __call__(self, m, x):
        return jnp.tanh(self.weight * m + self.mix @ x)


def squash(key):
    """Of four features."""
    return Squash(jnp.full(3, 0.2), jax.random.normal(key, (3, 4)))


def direct_config(**options: Any) -> TrainConfig:
    """Two applications, nothing random but the order, one batch for all."""
    chosen: dict[str, Any] = {
        "ansatz": "own",
        "mode": "direct",
        "layers": 2,
        "epochs": 1,
        "batch_size": 64,
        "dropout": 0.0,
        "gradient_clip": 0.0,
        "head": "affine",
    }
    return TrainConfig(**{**chosen, **options})
