"""Step budgets: how many solver steps a call may take, as a traced number.

A budget goes to `Equilibrium.__call__(..., budget=...)`; changing it never recompiles.
"""

import abc
from numbers import Integral
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from qdeq.errors import UserError, check_count


class StepSchedule(eqx.Module):
    """A rule for the step budget of a call."""

    @abc.abstractmethod
    def __call__(self, key: PRNGKeyArray, epoch: int | Int[Array, ""]) -> Int[Array, ""]:
        """The budget, int32.

        Parameters
        ----------
        key
            JAX key, used by random schedules only.
        epoch
            Finished epochs, from 0; may be traced.
        """


class ConstantSteps(StepSchedule):
    """Always the same budget.

    Parameters
    ----------
    steps
        The budget, at least 1.
    """

    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_count("steps", self.steps)

    def __call__(self, key: PRNGKeyArray, epoch: int | Int[Array, ""]) -> Int[Array, ""]:
        """`steps`."""
        del key, epoch
        return jnp.asarray(self.steps, jnp.int32)


class RandomSteps(StepSchedule):
    """`steps` minus a uniform integer 0 ... `minus`: the published QDEQ's random depth.

    Parameters
    ----------
    steps
        The largest budget.
    minus
        The largest deduction, at least 0 and below `steps`; may be traced, and is then not checked.

    Raises
    ------
    UserError
        If `minus` would leave no step.
    """

    steps: int = eqx.field(static=True)
    minus: int | Int[Array, ""] = 2

    def __check_init__(self) -> None:
        check_count("steps", self.steps)
        if isinstance(self.minus, jax.Array):
            return
        if not isinstance(self.minus, Integral) or not 0 <= int(self.minus) < self.steps:
            raise UserError(
                f"minus={self.minus!r} with steps={self.steps}: give an integer from 0 to "
                f"{self.steps - 1}, so that a step is left"
            )

    def __call__(self, key: PRNGKeyArray, epoch: int | Int[Array, ""]) -> Int[Array, ""]:
        """A draw for this key."""
        del epoch
        less = jax.random.randint(key, (), 0, self.minus + 1, jnp.int32)
        return jnp.asarray(self.steps, jnp.int32) - less


class LinearSteps(StepSchedule):
    """From `first` steps in epoch 0 linearly to `last` in epoch `over`, and `last` from there on.

    Parameters
    ----------
    first, last
        Budgets, at least 1.
    over
        Epochs that the change takes, at least 1.
    """

    first: int = eqx.field(static=True)
    last: int = eqx.field(static=True)
    over: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        for name in ("first", "last", "over"):
            value: Any = getattr(self, name)
            check_count(name, value)

    def __call__(self, key: PRNGKeyArray, epoch: int | Int[Array, ""]) -> Int[Array, ""]:
        """The budget of this epoch, rounded."""
        del key
        done = jnp.clip(jnp.asarray(epoch) / self.over, 0, 1)
        return jnp.round(self.first + done * (self.last - self.first)).astype(jnp.int32)
