"""A small variational autoencoder of images, whose latent means serve as features.

The paper feeds one of its baselines with such features. One hidden layer on each side; it is
trained on the machine that needs it, in seconds, and is not kept: its features are.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

_HIDDEN = 256
_CHUNK = 4096


class VariationalAutoencoder(eqx.Module):
    """Gaussian latents with a unit Gaussian prior, Gaussian pixels of unit variance.

    Parameters
    ----------
    n_pixels, n_latents, key
        Sizes, and the JAX key of the initial weights.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv 1312.6114.
    """

    encoder: eqx.nn.MLP
    decoder: eqx.nn.MLP

    def __init__(self, n_pixels: int, n_latents: int, *, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.encoder = eqx.nn.MLP(n_pixels, 2 * n_latents, _HIDDEN, 1, key=first)
        self.decoder = eqx.nn.MLP(n_latents, n_pixels, _HIDDEN, 1, key=second)

    def encode(self, pixels: Float[Array, " p"]) -> tuple[Array, Array]:
        """Mean and logarithm of the variance of the latents of one image, ``(n_latents,)`` each."""
        mean, log_variance = jnp.split(self.encoder(pixels), 2)
        return mean, jnp.clip(log_variance, -10.0, 10.0)

    def loss(self, pixels: Float[Array, " p"], key: PRNGKeyArray) -> Array:
        """Negative evidence lower bound of one image, up to a constant."""
        mean, log_variance = self.encode(pixels)
        latents = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        misfit = 0.5 * jnp.sum((self.decoder(latents) - pixels) ** 2)
        divergence = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)
        return misfit + divergence

    def means(self, x: np.ndarray) -> np.ndarray:
        """Latent means ``(N, n_latents)`` of images ``(N, p)``."""
        parts = [
            _means(self, jnp.asarray(x[start : start + _CHUNK]))
            for start in range(0, len(x), _CHUNK)
        ]
        return np.concatenate([np.asarray(part) for part in parts])


@eqx.filter_jit
def _means(vae: VariationalAutoencoder, x: Array) -> Array:
    return jax.vmap(vae.encode)(x)[0]


def train_vae(
    x: np.ndarray,
    n_latents: int,
    *,
    seed: int,
    epochs: int = 15,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> VariationalAutoencoder:
    """Fit an autoencoder to images by Adam.

    Parameters
    ----------
    x
        ``(N, p)`` normalised pixels.
    n_latents
        Number of latents.
    seed
        Of the weights, the order of the batches and the samples of the latents.
    epochs, batch_size, learning_rate
        Of the training; samples beyond the last whole batch of an epoch are left out of it.
    """
    model_key, run_key = jax.random.split(jax.random.key(seed))
    vae = VariationalAutoencoder(x.shape[1], n_latents, key=model_key)
    optimiser = optax.adam(learning_rate)
    state = optimiser.init(eqx.filter(vae, eqx.is_inexact_array))
    batch_size = min(batch_size, len(x))
    n_batches = len(x) // batch_size
    dynamic, static = eqx.partition(vae, eqx.is_array)

    @jax.jit
    def epoch(dynamic, state, pixels, key):
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(x))[: n_batches * batch_size]

        def step(carry, batch):
            dynamic, state = carry
            indices, key = batch
            keys = jax.random.split(key, batch_size)

            def loss(vae):
                return jnp.mean(jax.vmap(vae.loss)(pixels[indices], keys))

            gradient = eqx.filter_grad(loss)(eqx.combine(dynamic, static))
            updates, state = optimiser.update(gradient, state)
            vae = eqx.apply_updates(eqx.combine(dynamic, static), updates)
            return (eqx.filter(vae, eqx.is_array), state), None

        batches = (
            order.reshape(n_batches, batch_size),
            jax.random.split(noise_key, n_batches),
        )
        return jax.lax.scan(step, (dynamic, state), batches)[0]

    pixels = jnp.asarray(x)
    for key in jax.random.split(run_key, epochs):
        dynamic, state = epoch(dynamic, state, pixels, key)
    return eqx.combine(dynamic, static)
