"""The loop: runs any Optimistix solver on one flat state, and keeps the best iterate.

Solvers know nothing of budgets, traces or autodiff, and this file knows nothing of how they step.
One definition of convergence serves them all: |f(y) - y| <= atol + rtol |f(y)| (two-norms) at a
point y where f was evaluated; the value returned is such a point. For a random f a solver that
averages gives its own point and residual instead (`KrasnoselskiiMann.estimate`). Everything is
written for one sample: under `jax.vmap` JAX freezes each sample of a `while_loop` when its own
condition fails.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from qdeq.equilibrium._common import two_norm
from qdeq.equilibrium.homotopy import Homotopy
from qdeq.equilibrium.krasnoselskii_mann import KrasnoselskiiMann
from qdeq.equilibrium.solution import STATUS, relative
from qdeq.native.constants import PROGRESS

Solver: TypeAlias = (
    optx.AbstractFixedPointSolver | optx.AbstractRootFinder | optx.AbstractLeastSquaresSolver
)


class Best(eqx.Module):
    """The evaluated point with the smallest residual: y, |f(y) - y|, |f(y)|."""

    point: Float[Array, " n"]
    residual: Float[Array, ""]
    scale: Float[Array, ""]


class Outcome(eqx.Module):
    """How a solve ended.

    `last` is the newest iterate, at which f was not evaluated; `solver_state` the solver's own.
    """

    best: Best
    last: Float[Array, " n"]
    steps: Int[Array, ""]
    status: Any
    trace: Float[Array, " max_steps"]
    solver_state: PyTree


class _Progress(eqx.Module):
    reference: Float[Array, ""]  # residual when progress was last made
    waiting: Int[Array, ""]  # steps since


class _Carry(eqx.Module):
    iterate: Float[Array, " n"]
    state: PyTree
    step: Int[Array, ""]
    status: Any  # `max_steps_reached` while the solve runs: then nothing is to be done at the end
    best: Best
    progress: _Progress | None  # None without a stall test
    trace: Float[Array, " max_steps"]


def solve(
    fn: Callable[[Array, PyTree], Array],
    solver: Solver,
    start: Float[Array, " n"],
    x: PyTree,
    *,
    max_steps: int,
    budget: Int[Array, ""] | None = None,
    bounds: tuple[Array, Array] | None = None,
    stall_steps: int | None = None,
    unrolled: bool = False,
    best: Best | None = None,
    active: Bool[Array, ""] | None = None,
    draw: Callable[[Array], tuple[PyTree, Array]] | None = None,
) -> Outcome:
    """Iterate until the residual meets the solver's tolerances, or something else ends it.

    Parameters
    ----------
    fn
        `fn(y, x) -> f(y)` on flat states.
    solver
        Its `rtol` and `atol` define convergence; its own test is not used, its failures are.
    start, x
        Where to start, and what f gets beside the state.
    max_steps, budget
        Static bound, and the traced one (None: `max_steps`) that is never larger.
    bounds
        Flat or scalar lower and upper bounds, handed to the solver.
    stall_steps
        Give up after this many steps without progress; None never. `Homotopy` never gives up: on
        its way the residual rises too.
    unrolled
        A `lax.scan` over all `max_steps` with frozen finished samples, which reverse mode can
        differentiate, instead of a `lax.while_loop`.
    best, active
        A best point that is already known, and whether there is anything to do.
    draw
        For a random f: what it gets beside the state in a step (in the place of `x`), and the
        weight of that evaluation in an average.
    """
    root = not isinstance(solver, optx.AbstractFixedPointSolver)
    averager = solver if draw is not None and isinstance(solver, KrasnoselskiiMann) else None
    stall_steps = None if isinstance(solver, Homotopy) else stall_steps
    tags: frozenset[object] = frozenset()
    options = {} if bounds is None else {"lower": bounds[0], "upper": bounds[1]}

    def evaluate(y: Array, x: PyTree) -> tuple[Array, tuple[Array, Array]]:
        out = fn(y, x)
        return (out - y if root else out), (y, out)

    vector = jax.ShapeDtypeStruct(start.shape, start.dtype)
    first = x if draw is None else draw(jnp.asarray(0, jnp.int32))[0]
    initial = solver.init(evaluate, start, first, options, vector, (vector, vector), tags)
    dynamic, static = eqx.partition(initial, eqx.is_array)

    def running(carry: _Carry) -> Bool[Array, ""]:
        going = carry.status == STATUS.max_steps_reached
        return going if unrolled and budget is None else going & (carry.step < limit)

    def advance(carry: _Carry) -> _Carry:
        state: Any = eqx.combine(carry.state, static)
        args, chosen = x, options
        if draw is not None:
            args, weight = draw(carry.step)
            chosen = {**options, "weight": weight}
        new, state, (y, out) = solver.step(evaluate, carry.iterate, args, chosen, state, tags)
        _, result = solver.terminate(evaluate, carry.iterate, args, chosen, state, tags)
        y, out = lax.stop_gradient((y, out))
        residual, scale = two_norm(out - y), two_norm(out)
        measured = relative(residual, scale)
        if averager is not None:
            average = averager.estimate(state)
            y, residual, scale = average.point, average.residual, average.scale
        # An infinite residual is within the tolerance of an infinite f.
        finite = jnp.isfinite(residual)
        converged = finite & (residual <= solver.atol + solver.rtol * scale)
        if averager is not None:
            converged &= averager.is_settled(state)
        status, progress = carry.status, carry.progress
        if progress is not None and stall_steps is not None:
            fell = residual < PROGRESS * progress.reference
            progress = _Progress(
                reference=jnp.where(fell, residual, progress.reference),
                waiting=jnp.where(fell, 0, progress.waiting + 1),
            )
            status = STATUS.where(progress.waiting >= stall_steps, STATUS.stalled, status)
        status = STATUS.where(result == optx.RESULTS.successful, status, STATUS.solver_failed)
        status = STATUS.where(finite, status, STATUS.nonfinite)
        status = STATUS.where(converged, STATUS.converged, status)
        # False for NaN. A converged point wins even over a smaller residual at a smaller scale,
        # which did not meet the relative tolerance.
        better = (residual < carry.best.residual) | converged
        if averager is not None:
            better = finite  # the newest average has the most steps in it
        return _Carry(
            iterate=new,
            state=eqx.filter(state, eqx.is_array),
            step=carry.step + 1,
            status=status,
            best=Best(
                point=jnp.where(better, y, carry.best.point),
                residual=jnp.where(better, residual, carry.best.residual),
                scale=jnp.where(better, scale, carry.best.scale),
            ),
            progress=progress,
            # A mask and not `.at[step].set`: under vmap that is a scatter, slow on CPU.
            trace=jnp.where(jnp.arange(max_steps) == carry.step, measured, carry.trace),
        )

    infinite = jnp.asarray(jnp.inf, start.dtype)
    limit = max_steps if budget is None else budget
    status = STATUS.max_steps_reached
    if active is not None:
        status = STATUS.where(active, status, STATUS.converged)
    frozen_start = lax.stop_gradient(start)
    carry = _Carry(
        iterate=start,
        state=dynamic,
        step=jnp.asarray(0, jnp.int32),
        status=status,
        best=Best(frozen_start, infinite, infinite) if best is None else best,
        progress=None if stall_steps is None else _Progress(infinite, jnp.asarray(0, jnp.int32)),
        trace=jnp.full(max_steps, jnp.nan, start.dtype),
    )
    if unrolled:

        def advance_or_keep(carry: _Carry, _: None) -> tuple[_Carry, None]:
            going = running(carry)
            new = advance(carry)
            return jax.tree.map(lambda a, b: jnp.where(going, a, b), new, carry), None

        carry, _ = lax.scan(advance_or_keep, carry, None, length=max_steps)
    else:
        carry = lax.while_loop(running, advance, carry)
    return Outcome(
        best=carry.best,
        last=carry.iterate,
        steps=carry.step,
        status=carry.status,
        trace=carry.trace,
        solver_state=eqx.combine(carry.state, static),
    )
