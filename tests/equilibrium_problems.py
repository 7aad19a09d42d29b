"""Fixed-point problems with known properties, and dense NumPy formulas, for the solver tests."""

import jax
import jax.numpy as jnp
import numpy as np


def tanh_weights(n: int = 5, norm: float = 0.8, seed: int = 0) -> np.ndarray:
    """A matrix of spectral norm `norm`: tanh(W z + x) contracts by that factor."""
    weights = np.random.default_rng(seed).normal(size=(n, n))
    return norm * weights / np.linalg.norm(weights, 2)


def tanh_map(weights):
    return lambda z, x: jnp.tanh(weights @ z + x)


def tanh_inputs(batch: int, n: int = 5, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, n))


def symmetric_matrices(q: int = 4, d: int = 8, seed: int = 2) -> np.ndarray:
    """q symmetric d x d matrices with spectrum in [-1, 1], like Pauli strings pulled back."""
    rng = np.random.default_rng(seed)
    frames = [np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(q)]
    return np.stack([u @ np.diag(rng.uniform(-1, 1, d)) @ u.T for u in frames])


def rational_map(matrices):
    """f_k(z) = v'A_k v / v'v with v = x + R z, R repeating each number d / q times."""
    q, d = matrices.shape[:2]

    def f(z, x):
        v = x + jnp.repeat(z, d // q)
        return (matrices @ v) @ v / (v @ v)

    return f


def rational_inputs(batch: int, d: int = 8, seed: int = 3, length: float = 6.0) -> np.ndarray:
    """Inputs of one length; 6 makes the map contract (its radius is below 0.5), 1 does not."""
    x = np.random.default_rng(seed).normal(size=(batch, d))
    return length * x / np.linalg.norm(x, axis=1, keepdims=True)


def tanh_derivatives(weights: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple:
    """(J, df/dx) of tanh(W z + x) at (z, x)."""
    slope = np.diag(1 - np.tanh(weights @ z + x) ** 2)
    return slope @ weights, slope


def central_difference(function, point, direction, step: float = 1e-5) -> float:
    """Directional derivative; in float64 its error is about 1e-10 relative."""
    forward = function(jax.tree.map(lambda p, d: p + step * d, point, direction))
    backward = function(jax.tree.map(lambda p, d: p - step * d, point, direction))
    return float(forward - backward) / (2 * step)
