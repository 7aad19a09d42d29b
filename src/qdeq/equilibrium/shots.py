"""Shots: how many samples an evaluation of f averages over, step by step, and the error they leave.

How a solve uses them is in `layer.py`; where samples come from is the business of f.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qdeq._numbers import at_most
from qdeq._vectors import as_vector
from qdeq.errors import UserError, check_amount, check_count

LARGEST_SHOTS = 2**24  # whole numbers up to here are exact in float32, in which counts are kept


class ShotSchedule(eqx.Module):
    """A rule for the shots of each solver step; goes to `Equilibrium.__call__(..., shots=...)`."""

    @property
    @abc.abstractmethod
    def most(self) -> int | Array:
        """The most shots of any step."""

    @abc.abstractmethod
    def __call__(self, step: int | Int[Array, ""]) -> Int[Array, ""]:
        """Shots of a step, int32.

        Parameters
        ----------
        step
            Finished solver steps, from 0; may be traced.
        """


class ConstantShots(ShotSchedule):
    """The same number of shots in every step.

    Parameters
    ----------
    shots
        At least 1, at most 2**24; possibly traced.
    """

    shots: int | Int[Array, ""]

    def __check_init__(self) -> None:
        if not isinstance(self.shots, jax.Array):
            _check_shots("shots", self.shots)
        elif not jnp.issubdtype(self.shots.dtype, jnp.integer):
            raise UserError(f"shots has the type {self.shots.dtype}: give a whole number")

    @property
    def most(self) -> int | Array:
        """`shots`."""
        return self.shots

    def __call__(self, step: int | Int[Array, ""]) -> Int[Array, ""]:
        """`shots`."""
        return jnp.full(jnp.shape(step), jnp.asarray(self.shots, jnp.int32))


class GeometricShots(ShotSchedule):
    """Few shots early, many late: first x growth**step, rounded, and never more than `last`.

    While the iterate is far away a rough value points in the right direction; a step can only use
    a precision that the residual has come down to. Where f contracts by a factor c per step, a
    growth of 1 / c**2 keeps the two in balance.

    Parameters
    ----------
    first, last
        Shots of the first step, and the most of any; `last` is not below `first`.
    growth
        Factor from step to step, at least 1.

    Raises
    ------
    UserError
        For numbers of shots below 1 or above 2**24, a falling schedule, or a growth below 1.

    Examples
    --------
    >>> schedule = GeometricShots(100, 1000, growth=2)
    >>> [int(schedule(step)) for step in range(5)]
    [100, 200, 400, 800, 1000]
    """

    first: int = eqx.field(static=True)
    last: int = eqx.field(static=True)
    growth: float = eqx.field(default=1.5, static=True)

    def __check_init__(self) -> None:
        _check_shots("first", self.first)
        _check_shots("last", self.last)
        if self.last < self.first:
            raise UserError(f"last={self.last} with first={self.first}: give at least first")
        check_amount("growth", self.growth)
        if self.growth < 1:
            raise UserError(f"growth={self.growth!r}: give a factor of at least 1, such as 1.5")

    @property
    def most(self) -> int:
        """`last`."""
        return self.last

    def __call__(self, step: int | Int[Array, ""]) -> Int[Array, ""]:
        """Shots of this step."""
        # The exponent is bounded where `last` is reached: growth**step would overflow.
        steps = math.log(self.last / self.first) / math.log(self.growth) if self.growth > 1 else 0
        exponent = at_most(jnp.asarray(step, jnp.result_type(float)), math.ceil(steps))
        return at_most(jnp.round(self.first * self.growth**exponent), self.last).astype(jnp.int32)


def as_schedule(shots: int | Int[Array, ""] | ShotSchedule) -> ShotSchedule:
    """A number of shots as a schedule; schedules pass.

    Raises
    ------
    UserError
        For anything else.
    """
    if isinstance(shots, jax.Array) and shots.ndim:
        raise UserError(
            f"shots has the shape {shots.shape}: give one number, a schedule such as "
            "GeometricShots, or with jax.vmap one number for each sample"
        )
    return shots if isinstance(shots, ShotSchedule) else ConstantShots(shots)


def noise_floor(shots: float | Array, n: int, *, value: Float[Any, " n"] | None = None) -> Any:
    """The expected size of the sampling error: what no residual of single evaluations gets below.

    The root-mean-square length of the error of n averages, each over `shots` samples that are +1 or
    -1 (the outcomes of a Pauli measurement): sqrt(sum_k (1 - value_k^2) / shots), at most
    sqrt(n / shots). As a tolerance, `atol=2 * noise_floor(shots, n)` with `rtol=0` says "stop where
    the residual is within two sampling errors": a measured residual at the equilibrium itself is
    about one floor long, and at an output of f about sqrt(2).

    Parameters
    ----------
    shots
        Samples per average. For a solver that averages its steps, the shots of all of them.
    n
        Length of the state.
    value
        `(n,)` averages, if they are known; None takes 0, which gives the bound.

    Returns
    -------
    float or Array
        In the units of f, two-norm.

    Raises
    ------
    UserError
        For shots of 0 or less, an n below 1, or another number of averages than n.

    Examples
    --------
    >>> noise_floor(100, 4)
    0.2
    >>> from qdeq.equilibrium import Picard
    >>> Picard(rtol=0.0, atol=2 * noise_floor(10_000, 4)).atol
    0.04
    """
    check_count("n", n)
    if not isinstance(shots, jax.Array | np.ndarray):
        check_amount("shots", shots, above=True)
        if value is None:
            return math.sqrt(n / shots)
    default = jnp.dtype(jnp.result_type(float))
    variance = n if value is None else jnp.sum(1 - as_vector("value", value, n, default) ** 2)
    return jnp.sqrt(variance / shots)


def tolerance_under_shots(shots: float | Array, n: int, *, averages: bool) -> Any:
    """The absolute tolerance that a solve with so many shots per evaluation can meet soon.

    Two sampling errors, since a residual measured at the equilibrium has one to sqrt(2); for a
    solver that averages its steps, the sampling error of ten evaluations together.

    Parameters
    ----------
    shots
        Per evaluation and setting, possibly traced.
    n
        Length of the state.
    averages
        Whether the solver averages its steps.

    >>> tolerance_under_shots(100, 4, averages=False)
    0.4
    """
    return noise_floor(10 * shots, n) if averages else 2.0 * noise_floor(shots, n)


def _check_shots(name: str, value: Any) -> None:
    check_count(name, value)
    if value > LARGEST_SHOTS:
        raise UserError(f"{name}={value}: give at most {LARGEST_SHOTS} (2**24) shots")
