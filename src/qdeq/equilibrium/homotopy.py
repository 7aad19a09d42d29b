"""A globally convergent solver: follow a curve from a point that is known to an equilibrium.

Expectation values lie in a box that f maps into itself, so an equilibrium exists (Brouwer), and for
almost every point a the curve of solutions of

    h(y, s) = (y - a) - s (f(y) - a) = 0

that starts at (a, 0) is smooth and reaches s = 1, where it is an equilibrium (Chow, Mallet-Paret
and Yorke). It may turn back in s on its way, so it is followed by its length.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from qdeq._numbers import at_least, at_most, largest
from qdeq.equilibrium._common import check_stopping, relative_error, two_norm
from qdeq.equilibrium._problem import flatten
from qdeq.equilibrium.dense import robust_inverse
from qdeq.equilibrium.newton import value_and_jacobian
from qdeq.equilibrium.solver import AbstractSolver
from qdeq.native.constants import (
    CONTRACTION,
    CORRECTIONS,
    FARTHEST,
    FIRST_STEP,
    GROW,
    LARGEST_STEP,
    NEAR,
    SHRINK,
    SMALLEST_STEP,
)


class HomotopyState(eqx.Module):
    """A trial point is `y` and `s`; the last point on the curve and its tangent follow.

    All of them in units of `unit`.
    """

    unit: Float[Array, ""]
    start: Float[Array, " n"]  # a
    s: Float[Array, ""]
    base: Float[Array, " n_and_1"]
    tangent: Float[Array, " n_and_1"]
    length: Float[Array, ""]  # of the step
    corrections: Int[Array, ""]
    distance: Float[Array, ""]  # |h| before the last correction
    final: Bool[Array, ""]  # at s = 1, which corrections then keep
    first: Bool[Array, ""]  # at (a, 0)
    error: Float[Array, ""]


class Homotopy(AbstractSolver, optx.AbstractRootFinder):
    """Follows y - a = s (f(y) - a) from y = a at s = 0 to an equilibrium at s = 1.

    For f that maps a box into itself, as model functions do, it converges from almost every start:
    the solver for maps that are far from contracting. Every step is one evaluation of f with its
    Jacobian, a dozen or two in all, so it is slower than `Broyden` where that converges: the
    natural use is `Equilibrium(fallback=Homotopy())`. Bounds are not honoured; boxes may be of any
    size from about 1 on.

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of that test when Optimistix drives the solver; `Equilibrium` uses the two-norm.

    References
    ----------
    S. N. Chow, J. Mallet-Paret, J. A. Yorke, Finding zeroes of maps: homotopy methods that are
    constructive with probability one, Math. Comp. 32 (1978). E. L. Allgower, K. Georg, Introduction
    to Numerical Continuation Methods (2003), for predictor and corrector.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from qdeq.equilibrium import Equilibrium
    >>> layer = Equilibrium(solver=Homotopy(), max_steps=50)
    >>> solution = layer(lambda z: jnp.cos(4 * z), jnp.zeros(1))  # z <- f(z) is chaotic here
    >>> print(f"{solution.value[0]:.3f}")
    0.313
    """

    uses_jacobian: ClassVar[bool] = True
    restarts: ClassVar[bool] = True  # a curve that starts near a local minimum stays there
    may_rise: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "homotopy"

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm

    def __check_init__(self) -> None:
        check_stopping(self)

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> HomotopyState:
        """Start on the curve at (y, 0)."""
        del fn, args, options, f_struct, aux_struct, tags
        flat, _ = flatten(y)
        return _begin(flat, jnp.asarray(jnp.inf, flat.dtype))

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, HomotopyState, Any]:
        """Evaluate g and its Jacobian; accept the point and predict, correct it, or retreat."""
        del options, tags
        flat, unravel = flatten(y)
        n, dtype = flat.shape[0], flat.dtype
        g, slopes, aux = self._linearise(fn, y, args)
        unit = jnp.where(state.first, _unit(g), state.unit)
        point = flat / unit
        start = jnp.where(state.first, point, state.start)
        reach = (g + flat) / unit - start  # f(y) - a
        off = point - start - state.s * reach
        distance = two_norm(off)
        accepted = ~state.final & (state.first | (distance < NEAR * state.length))
        row = jnp.where(state.final, jnp.zeros(n + 1, dtype).at[n].set(1), state.tangent)
        ahead, back = self._directions(slopes, state.s, reach, row, off)
        corrected = ~accepted & (state.corrections < CORRECTIONS)
        corrected &= distance < CONTRACTION * state.distance
        corrected &= two_norm(back) < FARTHEST
        here = jnp.concatenate([point, state.s[None]])
        # The next prediction: onwards from here, or a shorter step from the last point.
        easy = state.corrections <= 1
        grown = jnp.where(easy & ~state.first, GROW * state.length, state.length)
        length = jnp.where(
            accepted,
            at_most(grown, LARGEST_STEP),
            jnp.where(corrected, state.length, state.length / SHRINK),
        )
        base = jnp.where(accepted, here, state.base)
        tangent = jnp.where(accepted, ahead / two_norm(ahead), state.tangent)
        arrives = (tangent[n] > 0) & (base[n] + length * tangent[n] >= 1)
        reach_one = (1 - base[n]) / jnp.where(arrives, tangent[n], 1)
        predicted = base + jnp.where(arrives, reach_one, length) * tangent
        trial = jnp.where(corrected, here + back, predicted)
        going = HomotopyState(
            unit=unit,
            start=start,
            s=trial[n],
            base=base,
            tangent=tangent,
            length=length,
            corrections=jnp.where(corrected, state.corrections + 1, 0),
            distance=jnp.where(corrected, distance, jnp.inf),
            final=jnp.where(corrected, state.final, arrives),
            first=jnp.asarray(False),
            error=relative_error(self.norm, self.rtol, self.atol, g, g + flat),
        )
        anew = _begin(base[:n] * unit, going.error)
        lost = ~corrected & (length < SMALLEST_STEP)
        state = jax.tree.map(lambda a, b: jnp.where(lost, a, b), anew, going)
        return unravel(jnp.where(lost, base[:n], trial[:n]) * unit), state, aux

    def _linearise(self, fn, y, args) -> tuple[Float[Array, " n"], Any, Any]:
        """f(y) - y, df/dy as `_directions` takes it, and what fn returns beside."""
        g, jacobian, aux = value_and_jacobian(fn, y, args)
        return g, jacobian + jnp.eye(g.shape[0], dtype=g.dtype), aux

    def _directions(
        self, slopes: Any, s: Array, reach: Array, row: Array, off: Array
    ) -> tuple[Float[Array, " n_and_1"], Float[Array, " n_and_1"]]:
        """Along the curve, and back to it: both where (I - s df/dy, -reach; row) leads.

        The first solves it for (0, 1), the second for (-off, 0).
        """
        n = off.shape[0]
        identity = jnp.eye(n, dtype=off.dtype)
        top = jnp.concatenate([identity - s * slopes, -reach[:, None]], axis=1)
        inverse, _ = robust_inverse(jnp.concatenate([top, row[None]]))
        return inverse[:, n], -(inverse[:, :n] @ off)


def _unit(g: Float[Array, " n"]) -> Float[Array, ""]:
    """A power of two, in which |f(a) - a| is below 4: steps along the curve are at most 1 long.

    1 for measured states. A state may be large, but that f moves it little is no small unit.
    """
    size = largest(jnp.abs(g))
    exponent = jnp.frexp(jnp.where(jnp.isfinite(size), size, 1))[1]
    return jnp.ldexp(jnp.ones((), g.dtype), at_least(exponent - 2, 0))


def _begin(start: Float[Array, " n"], error: Float[Array, ""]) -> HomotopyState:
    n, dtype = start.shape[0], start.dtype
    zero = jnp.zeros((), dtype)
    return HomotopyState(
        unit=jnp.ones((), dtype),
        start=start,
        s=zero,
        base=jnp.append(start, zero),
        tangent=jnp.zeros(n + 1, dtype).at[n].set(1),
        length=jnp.asarray(FIRST_STEP, dtype),
        corrections=jnp.asarray(0, jnp.int32),
        distance=jnp.asarray(jnp.inf, dtype),
        final=jnp.asarray(False),
        first=jnp.asarray(True),
        error=lax.stop_gradient(error),
    )
