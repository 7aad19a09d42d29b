"""The loop: runs any Optimistix solver on one flat state, and keeps the best iterate.

Solvers know nothing of budgets, traces or autodiff, and this file knows nothing of how they step.
One definition of convergence serves them all: |f(y) - y| <= atol + rtol |f(y)| (two-norms) at a
point y where f was evaluated; the value returned is such a point. For a random f a solver that
averages gives its own point and residual instead (`AbstractSolver.estimate`). Everything is
written for one sample: under `jax.vmap` JAX freezes each sample of a `while_loop` when its own
condition fails.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from qdeq.equilibrium._problem import frozen
from qdeq.equilibrium.solution import STATUS, SolverStats, as_trace, relative
from qdeq.equilibrium.solver import Estimate, Solver, as_solver, finds_zero
from qdeq.native.constants import PROGRESS


class SolveOptions(eqx.Module):
    """How far a solve may go.

    Attributes
    ----------
    max_steps, budget
        Static bound, and the traced one (None: `max_steps`) that is never larger.
    bounds
        Flat or scalar lower and upper bounds, handed to the solver.
    stall_steps
        Give up after this many steps without progress; None never, and never a solver whose
        residual may rise on its way.
    """

    max_steps: int = eqx.field(static=True)
    budget: Int[Array, ""] | None = None
    bounds: tuple[Array, Array] | None = None
    stall_steps: int | None = eqx.field(default=None, static=True)


class Outcome(eqx.Module):
    """How a solve ended.

    `best` is the evaluated point with the smallest residual (an average, of a solver that gives
    one); `last` the newest iterate, at which f was not evaluated; `solver_state` the solver's own.
    """

    best: Estimate
    last: Float[Array, " n"]
    steps: Int[Array, ""]
    status: Any
    trace: Float[Array, " max_steps"]
    solver_state: PyTree

    def or_nan(self, value: Array) -> Array:
        """The value that is returned: NaN where f was not finite at the very first point.

        Nothing was measured then, and the start would look like an answer. A sum, so that its
        derivative is what it was.
        """
        lost = (self.status == STATUS.nonfinite) & ~jnp.isfinite(self.best.residual)
        return value + jnp.where(lost, jnp.nan, 0).astype(value.dtype)

    def stats(self, adjoint_residual: Array, evaluations: Array, jacobians: Array) -> SolverStats:
        """What a solve reports of itself, without derivatives."""
        best = self.best
        stats = SolverStats(
            steps=self.steps,
            residual=relative(best.residual, best.scale),
            absolute_residual=best.residual,
            converged=self.status == STATUS.converged,
            adjoint_residual=adjoint_residual,
            residual_trace=self.trace,
            evaluations=evaluations,
            jacobians=jacobians,
            result=self.status,
        )
        return frozen(stats)


class Begun(eqx.Module):
    """What an earlier solve left: its best point, and whether there is anything left to do."""

    best: Estimate
    active: Bool[Array, ""]


class _Progress(eqx.Module):
    reference: Float[Array, ""]  # residual when progress was last made
    waiting: Int[Array, ""]  # steps since


class _Carry(eqx.Module):
    iterate: Float[Array, " n"]
    state: PyTree
    step: Int[Array, ""]
    status: Any  # `max_steps_reached` while the solve runs: then nothing is to be done at the end
    best: Estimate
    progress: _Progress | None  # None without a stall test
    trace: Float[Array, " max_steps"]


def solve(
    fn: Callable[[Array, PyTree], Array],
    solver: Solver,
    start: Float[Array, " n"],
    x: PyTree,
    options: SolveOptions,
    *,
    begun: Begun | None = None,
    unrolled: bool = False,
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
    options
        How far it may go.
    begun
        By an earlier solve; None: from nothing.
    unrolled
        A `lax.scan` over all `max_steps` with frozen finished samples, which reverse mode can
        differentiate, instead of a `lax.while_loop`.
    draw
        For a random f: what it gets beside the state in a step (in the place of `x`), and the
        weight of that evaluation in an average.
    """
    root, driver = finds_zero(solver), as_solver(solver)
    averages = draw is not None and driver.averages
    max_steps, budget, bounds = options.max_steps, options.budget, options.bounds
    stall_steps = None if driver.may_rise else options.stall_steps
    tags: frozenset[object] = frozenset()
    given = {} if bounds is None else {"lower": bounds[0], "upper": bounds[1]}

    def evaluate(y: Array, x: PyTree) -> tuple[Array, tuple[Array, Array]]:
        out = fn(y, x)
        return (out - y if root else out), (y, out)

    vector = jax.ShapeDtypeStruct(start.shape, start.dtype)
    first = x if draw is None else draw(jnp.asarray(0, jnp.int32))[0]
    initial = driver.init(evaluate, start, first, given, vector, (vector, vector), tags)
    dynamic, static = eqx.partition(initial, eqx.is_array)

    def running(carry: _Carry) -> Bool[Array, ""]:
        going = carry.status == STATUS.max_steps_reached
        return going if unrolled and budget is None else going & (carry.step < limit)

    def advance(carry: _Carry) -> _Carry:
        state: Any = eqx.combine(carry.state, static)
        args, chosen = x, given
        if draw is not None:
            args, weight = draw(carry.step)
            chosen = {**given, "weight": weight}
        new, state, (y, out) = driver.step(evaluate, carry.iterate, args, chosen, state, tags)
        _, result = driver.terminate(evaluate, carry.iterate, args, chosen, state, tags)
        y, out = lax.stop_gradient((y, out))
        found = Estimate.at(y, out)
        measured = relative(found.residual, found.scale)
        if averages:
            found = driver.estimate(state, y, out)
        y, residual, scale = found.point, found.residual, found.scale
        converged = found.meets(driver.rtol, driver.atol)
        status, progress = carry.status, carry.progress
        if progress is not None and stall_steps is not None:
            fell = residual < PROGRESS * progress.reference
            progress = _Progress(
                reference=jnp.where(fell, residual, progress.reference),
                waiting=jnp.where(fell, 0, progress.waiting + 1),
            )
            status = STATUS.where(progress.waiting >= stall_steps, STATUS.stalled, status)
        status = STATUS.where(result == optx.RESULTS.successful, status, STATUS.solver_failed)
        status = STATUS.where(jnp.isfinite(residual), status, STATUS.nonfinite)
        status = STATUS.where(converged, STATUS.converged, status)
        # False for NaN. A converged point wins even over a smaller residual at a smaller scale,
        # which did not meet the relative tolerance.
        better = (residual < carry.best.residual) | converged
        if averages:
            better = jnp.isfinite(residual)  # the newest average has the most steps in it
        return _Carry(
            iterate=new,
            state=eqx.filter(state, eqx.is_array),
            step=carry.step + 1,
            status=status,
            best=Estimate(
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
    if begun is not None:
        status = STATUS.where(begun.active, status, STATUS.converged)
    frozen_start = lax.stop_gradient(start)
    carry = _Carry(
        iterate=start,
        state=dynamic,
        step=jnp.asarray(0, jnp.int32),
        status=status,
        best=Estimate(frozen_start, infinite, infinite) if begun is None else begun.best,
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
        trace=as_trace(carry.trace, carry.step),
        solver_state=eqx.combine(carry.state, static),
    )
