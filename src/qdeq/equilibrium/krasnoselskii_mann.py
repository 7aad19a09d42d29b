"""Krasnosel'skii-Mann iteration with averaging: for an f whose values are noisy."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from qdeq._numbers import at_least
from qdeq.equilibrium._common import check_stopping, check_within, project, two_norm
from qdeq.equilibrium._problem import flatten
from qdeq.equilibrium.solver import AbstractSolver, Estimate
from qdeq.errors import check_choice, check_count

# Below this many averaged steps their spread says too little about the error of the average.
_FEWEST = 4


class _AverageState(eqx.Module):
    step: Int[Array, ""]
    count: Int[Array, ""]  # averaged steps
    weight: Float[Array, ""]  # and the sum of their weights
    value: Float[Array, " n"]  # weighted mean of the iterates
    image: Float[Array, " n"]  # and of f at them
    spread: Float[Array, ""]  # root of the weighted sum of squares of f(y) - y about its mean


class KrasnoselskiiMann(AbstractSolver, optx.AbstractFixedPointSolver):
    """y <- y + a_k (f(y) - y), and the average of the y after a burn-in as the answer.

    One evaluation of f per step. Damping makes it converge where f is only non-expansive, and keeps
    the noise of f, of which the share a_k enters the iterate, small; the average (Polyak and
    Ruppert) then removes it: after n averaged steps the error is (I - J)^-1 times the mean of n
    independent errors of f, and falls as 1 / sqrt(n x shots). No other way to spend these shots on
    a linear f does better. The last iterate of a Picard iteration, in contrast, stays as wrong as
    one evaluation, however long it runs.

    Its residual is an estimate for the average, from the steps themselves: the length of the mean
    of f(y_k) - y_k, together with that mean's standard error. Tolerances are compared with this,
    so `atol=noise_floor(20 * shots, n)` stops when about 20 evaluations have been averaged.

    A key tells `Equilibrium` that f is random. Without one averaging would only slow down, and this
    is a damped Picard iteration with the best iterate as its answer. An f with noise of its own,
    such as a device, takes a key and ignores it.

    Parameters
    ----------
    rtol, atol
        Converged where the estimated residual is at most atol + rtol |f|, and at least 4 steps have
        been averaged.
    norm
        Not used: lengths are two-norms. Optimistix expects the field.
    step_size
        a_0, in (0, 1].
    decay
        "constant": a_k = a_0. "inverse-sqrt": a_k = a_0 / sqrt(k + 1), for an f that is noisy and
        not contractive.
    burn_in
        First steps that are not averaged, in which the iterate comes near the equilibrium. What is
        left of the way at their end goes into the average, divided by the number of averaged steps.

    Raises
    ------
    UserError
        For a negative tolerance or burn-in, a step size outside (0, 1], or an unknown decay.

    References
    ----------
    W. R. Mann, Proc. Amer. Math. Soc. 4 (1953) 506; M. A. Krasnosel'skii, Uspekhi Mat. Nauk 10
    (1955) 123; B. T. Polyak and A. B. Juditsky, SIAM J. Control Optim. 30 (1992) 838.
    """

    averages: ClassVar[bool] = True

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm
    step_size: float = 0.7
    decay: str = eqx.field(default="constant", static=True)
    burn_in: int = eqx.field(default=8, static=True)

    def __check_init__(self) -> None:
        check_stopping(self)
        check_choice("decay", self.decay, ["constant", "inverse-sqrt"])
        check_within("step_size", self.step_size, lambda value: 0 < value <= 1, "in (0, 1]")
        check_count("burn_in", self.burn_in, 0)

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> _AverageState:
        """Start with nothing averaged."""
        del fn, args, options, f_struct, aux_struct, tags
        flat, _ = flatten(y)
        zero = jnp.zeros((), flat.dtype)
        integer = jnp.asarray(0, jnp.int32)
        return _AverageState(integer, integer, zero, flat, flat, zero)

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, _AverageState, Any]:
        """Evaluate f once, move a part of the way, take the point into the average."""
        del tags
        out, aux = fn(y, args)
        flat, unravel = flatten(y)
        flat_out, _ = flatten(out)
        size = jnp.asarray(self.step_size, flat.dtype)
        if self.decay == "inverse-sqrt":
            size = size / jnp.sqrt(state.step + 1).astype(flat.dtype)
        new = flat + size * (flat_out - flat)
        # Where an evaluation has more shots than others it counts more ("weight", from the loop).
        weight = jnp.asarray(options.get("weight", 1), flat.dtype)
        averaged = jax.lax.stop_gradient(self._average(state, flat, flat_out, weight))
        return project(unravel(new), options), averaged, aux

    def _average(
        self, state: _AverageState, flat: Array, out: Array, weight: Array
    ) -> _AverageState:
        # Until the burn-in is over every step starts the average anew.
        begins = state.step <= self.burn_in
        total = jnp.where(begins, 0, state.weight) + weight
        share = weight / total
        value = jnp.where(begins, flat, state.value + share * (flat - state.value))
        image = jnp.where(begins, out, state.image + share * (out - state.image))
        # Welford's update: no difference of large sums, and lengths, since squares may underflow.
        distance = two_norm((out - flat) - (state.image - state.value))
        widened = jnp.hypot(state.spread, jnp.sqrt(weight * (1 - share)) * distance)
        spread = jnp.where(begins, 0, widened)
        count = jnp.where(begins, 1, state.count + 1)
        return _AverageState(state.step + 1, count, total, value, image, spread)

    def estimate(self, state: _AverageState, y: Array, out: Array) -> Estimate:
        """The average, and the residual that it is expected to have."""
        del y, out
        return _estimate(state)

    def terminate(self, fn, y, args, options, state, tags) -> tuple[Array, optx.RESULTS]:
        """Stop where the estimated residual of the average met the tolerances."""
        del fn, y, args, options, tags
        return _estimate(state).meets(self.rtol, self.atol), optx.RESULTS.successful

    def postprocess(self, fn, y, aux, args, options, state, tags, result) -> tuple:
        """Return the average instead of the last iterate."""
        del fn, args, options, tags, result
        return flatten(y)[1](state.value), aux, {}


def _estimate(state: _AverageState) -> Estimate:
    # The deviation of an evaluation of weight 1, divided by the root of the weight of the mean.
    deviation = state.spread / jnp.sqrt(at_least(state.count - 1, 1) * state.weight)
    return Estimate(
        point=state.value,
        residual=jnp.hypot(two_norm(state.image - state.value), deviation),
        scale=two_norm(state.image),
        is_settled=state.count >= _FEWEST,
    )
