"""What a random f gets besides state and x: a fresh key for every evaluation, and its shots."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from qdeq._numbers import at_least
from qdeq._vectors import check_key
from qdeq.equilibrium._problem import Draw
from qdeq.equilibrium.shots import ShotSchedule, as_schedule
from qdeq.errors import UserError


def check_randomness(key: Any, shots: Any, gradient_shots: Any = None) -> None:
    """Raise `UserError` for what is no key, shots without one, or of the gradient alone."""
    if key is not None:
        check_key(key)
    if key is None and (shots is not None or gradient_shots is not None):
        raise UserError("shots without a key: sampling is random, give key=jax.random.key(...)")
    if shots is None and gradient_shots is not None:
        raise UserError(f"gradient_shots={gradient_shots!r} without shots: give both")


class Randomness:
    """Keys and shots of every evaluation of a random f; no two evaluations share a key.

    Parameters
    ----------
    key
        Everything follows from it.
    shots, gradient_shots
        As in `Equilibrium.__call__`.
    """

    _PURPOSES: tuple[str, ...] = ("step", "check", "gradient", "quality")

    def __init__(
        self,
        key: Array,
        shots: int | Array | ShotSchedule | None,
        gradient_shots: int | Array | None,
    ) -> None:
        self._keys = dict(zip(self._PURPOSES, jax.random.split(key, 4), strict=True))
        self._schedule = None if shots is None else as_schedule(shots)
        self._gradient = None if gradient_shots is None else as_schedule(gradient_shots)

    def draw(self, x: PyTree, purpose: str, step: int | Array) -> tuple[Draw, Array]:
        """What f gets in a step, and the weight of its value: its share of the most shots."""
        key = jax.random.fold_in(self._keys[purpose], step)
        if self._schedule is None:
            return Draw(x, key, None), jnp.ones(())
        shots = self._schedule(step)
        return Draw(x, key, shots), shots / self._schedule.most

    def at_root(self, x: PyTree, purpose: str) -> Draw:
        """What f gets where it is differentiated at the root."""
        schedule = self._schedule if self._gradient is None else self._gradient
        shots = None if schedule is None else jnp.asarray(schedule.most, jnp.int32)
        return Draw(x, self._keys[purpose], shots)

    def total(self, steps: Array, max_steps: int, *, extra: bool) -> Array:
        """Shots of all steps, and of the last once more."""
        if self._schedule is None:
            return jnp.zeros(())
        numbers = jnp.arange(max_steps, dtype=jnp.int32)
        each = jnp.where(numbers < steps, jax.vmap(self._schedule)(numbers), 0)
        again = self._schedule(at_least(steps - 1, 0)) if extra else 0
        return jnp.sum(each.astype(jnp.result_type(float))) + again
