"""Where a function brings a compiled solver of its own, the layer uses it.

The function says how it is evaluated, which a compiled loop has to know; what is solved, and what
comes out, stays the same: the iterates are those of `_solve.py`.
"""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qdeq.equilibrium._solve import Outcome, SolveOptions
from qdeq.equilibrium.broyden import BroydenState, DenseSecant
from qdeq.equilibrium.solution import STATUS, as_trace
from qdeq.equilibrium.solver import Estimate, kernel_of
from qdeq.native import SolverRun
from qdeq.native.constants import CONVERGED, NONFINITE, STALLED


@runtime_checkable
class WithSolver(Protocol):
    """A function m -> f(m) of one vector that brings a compiled Broyden loop."""

    def broyden(
        self,
        start: Float[Array, " n"],
        *,
        rtol: Any,
        atol: Any,
        max_steps: int,
        budget: Int[Array, ""] | None,
        stall_steps: int | None,
        fallback_steps: int,
    ) -> SolverRun | None:
        """Solve from `start`; None where the compiled loop cannot be had."""
        ...


def compiled_solve(
    f: Any,
    solver: Any,
    start: Float[Array, " n"],
    options: SolveOptions,
    *,
    fallback: Any = None,
    fallback_steps: int = 0,
) -> tuple[Outcome, Int[Array, ""] | None] | None:
    """What `solve` would return; None if this function or solver has no compiled loop.

    Second the steps of the fallback, which then is done; None if it has no compiled loop.
    """
    if not isinstance(f, WithSolver) or kernel_of(solver) != "broyden":
        return None
    if options.bounds is not None or not solver.is_dense(start.shape[0]):
        return None
    continues = kernel_of(fallback) == "homotopy" and all(
        one is other or (isinstance(one, float) and isinstance(other, float) and one == other)
        for one, other in ((fallback.rtol, solver.rtol), (fallback.atol, solver.atol))
    )
    run = f.broyden(
        start,
        rtol=solver.rtol,
        atol=solver.atol,
        max_steps=options.max_steps,
        budget=options.budget,
        stall_steps=options.stall_steps,
        fallback_steps=fallback_steps if continues else 0,
    )
    if run is None:
        return None
    status = STATUS.where(run.code == CONVERGED, STATUS.converged, STATUS.max_steps_reached)
    status = STATUS.where(run.code == STALLED, STATUS.stalled, status)
    status = STATUS.where(run.code == NONFINITE, STATUS.nonfinite, status)
    zero = jnp.zeros_like(start)
    outcome = Outcome(
        best=Estimate(run.point, run.residual, run.scale),
        last=run.last,
        steps=run.steps,
        status=status,
        trace=as_trace(run.trace, run.steps),
        solver_state=BroydenState(DenseSecant(run.inverse_jacobian), zero, None, run.residual),
    )
    return outcome, run.fallback_steps if continues else None
