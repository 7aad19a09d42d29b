"""What the chain of circuits is compared with on series: ridge regression, an echo state network.

Both say what the next row adds, as the networks do, and feed on their own forecasts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.training.forecasting import LIMIT, lagged

_WASHOUT = 32  # rows after which a reservoir has forgotten how it began


@dataclass(frozen=True)
class Ridge:
    """Linear regression on the last rows, with a penalty on its weights."""

    lags: int
    weights: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, end: int, lags: int, penalty: float) -> "Ridge":
        """From the rows before `end`."""
        x = lagged(values[: end - 1], lags)
        return cls(lags, solved(with_one(x), np.diff(values[lags - 1 : end], axis=0), penalty))

    def forecast(self, history: np.ndarray, steps: int) -> np.ndarray:
        """`(B, L, d)` -> `(B, steps, d)`."""
        recent, found = history[:, -self.lags :], []
        for _ in range(steps):
            row = recent[:, -1] + with_one(recent.reshape(len(recent), -1)) @ self.weights
            row = np.clip(row, -LIMIT, LIMIT)
            recent = np.concatenate([recent[:, 1:], row[:, None]], axis=1)
            found.append(row)
        return np.stack(found, axis=1)

    @property
    def n_parameters(self) -> int:
        """Trained numbers."""
        return self.weights.size


@dataclass(frozen=True)
class EchoState:
    """A reservoir of random units, of which a linear read-out alone is trained.

    References
    ----------
    H. Jaeger and H. Haas, Harnessing nonlinearity: predicting chaotic systems and saving energy in
    wireless communication, Science 304 (2004).
    """

    inner: np.ndarray
    inputs: np.ndarray
    leak: float
    weights: np.ndarray

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        end: int,
        *,
        seed: int,
        units: int,
        radius: float,
        leak: float,
        penalty: float,
        scale: float = 0.3,
    ) -> "EchoState":
        """From the rows before `end`."""
        rng = np.random.default_rng(seed)
        inner = rng.uniform(-1, 1, (units, units)) * (rng.random((units, units)) < 10 / units)
        inner *= radius / max(np.abs(np.linalg.eigvals(inner)).max(), 1e-9)
        inputs = scale * rng.uniform(-1, 1, (units, values.shape[1] + 1))
        empty = cls(inner, inputs, leak, np.zeros(0))
        rows = values[: end - 1]
        states = empty._run(rows[None])[0]
        x = with_one(np.concatenate([states, rows], axis=1))[_WASHOUT:]
        steps = np.diff(values[:end], axis=0)[_WASHOUT:]
        return cls(inner, inputs, leak, solved(x, steps, penalty))

    def forecast(self, history: np.ndarray, steps: int) -> np.ndarray:
        """`(B, L, d)` -> `(B, steps, d)`."""
        state, row, found = self._run(history)[:, -1], history[:, -1], []
        for _ in range(steps):
            row = row + with_one(np.concatenate([state, row], axis=1)) @ self.weights
            row = np.clip(row, -LIMIT, LIMIT)
            state = self._next(state, row)
            found.append(row)
        return np.stack(found, axis=1)

    @property
    def n_parameters(self) -> int:
        """Trained numbers."""
        return self.weights.size

    def _run(self, rows: np.ndarray) -> np.ndarray:
        state, found = np.zeros((len(rows), len(self.inner))), []
        for row in np.swapaxes(rows, 0, 1):
            state = self._next(state, row)
            found.append(state)
        return np.stack(found, axis=1)

    def _next(self, state: np.ndarray, row: np.ndarray) -> np.ndarray:
        new = np.tanh(state @ self.inner.T + with_one(row) @ self.inputs.T)
        return (1 - self.leak) * state + self.leak * new


def with_one(x: np.ndarray) -> np.ndarray:
    """A column of ones behind the others."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def solved(x: np.ndarray, y: np.ndarray, penalty: float) -> Any:
    """Weights of least squares, `penalty` times their squares added to the mean square."""
    n = len(x)
    return np.linalg.solve(x.T @ x / n + penalty * np.eye(x.shape[1]), x.T @ y / n)
