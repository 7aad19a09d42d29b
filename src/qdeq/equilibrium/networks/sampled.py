"""Equilibria of networks whose cells are random, such as circuits that are measured with shots.

Which solver, and when it may stop; the solve is that of `qdeq.Equilibrium`, with a key.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from qdeq._numbers import at_most
from qdeq.equilibrium._problem import Problem
from qdeq.equilibrium._randomness import Randomness
from qdeq.equilibrium.layer import Equilibrium
from qdeq.equilibrium.networks.cells import measures_derivatives
from qdeq.equilibrium.networks.forward import NETWORK_SOLVERS, Task
from qdeq.equilibrium.networks.solvers import Sweep
from qdeq.equilibrium.shots import ShotSchedule, as_schedule, tolerance_under_shots
from qdeq.equilibrium.solution import Solution
from qdeq.errors import UserError

#: Solvers by name that random cells leave a meaning; "sweep" for causal wirings.
SAMPLED_SOLVERS = ("krasnoselskii-mann", "picard", "anderson", "broyden", "sweep")


def solve_sampled(
    layer: Any,
    task: Task,
    live: tuple[Any, Any],
    key: Array,
    shots: int | Int[Array, ""] | ShotSchedule | None,
    gradient_shots: int | Int[Array, ""] | None,
) -> Solution:
    """The equilibrium of random cells; its value is flat.

    Parameters
    ----------
    layer
        A `NetworkEquilibrium`.
    task
        What is solved, without derivatives.
    live
        The network and (x, mask) with theirs.
    key, shots, gradient_shots
        As in `Equilibrium.__call__`.
    """
    solver = _solver(layer.solver, task, shots)
    sweeps = isinstance(solver, Sweep)
    options = task.options
    if sweeps:  # one is as good as shots allow
        budget = None if options.budget is None else at_most(options.budget, 1)
        options = type(options)(1, budget, options.bounds, None)
    general = Equilibrium(solver, layer.adjoint, max_steps=options.max_steps)
    random = Randomness(key, shots, gradient_shots)
    fn, args = live
    problem = Problem(fn, task.start, random.draw(args, "check", 0)[0], lambda flat: flat)
    judges = not measures_derivatives(fn.wired.cell)
    solution = general._solve_random(problem, options, random, judges=judges)
    if not sweeps:
        return solution
    # The sweep itself beside the residual there, which is measured once more as any other.
    more = solution.stats.steps * (solver.evaluations_per_step - 1)
    each = 0 if shots is None else as_schedule(shots)(0)
    return eqx.tree_at(
        lambda s: (s.stats.evaluations, s.stats.shots),
        solution,
        (solution.stats.evaluations + more, solution.stats.shots + more * each),
    )


def _solver(solver: Any, task: Task, shots: Any) -> Any:
    """The solver object, with tolerances that shots can meet; `UserError` for what they cannot."""
    if not isinstance(solver, str):
        return solver
    wiring, n = task.fn.wired.wiring, task.start.shape[0]
    causal = wiring.structure == "causal"
    if solver == "auto":
        solver = "sweep" if causal else "krasnoselskii-mann"
    fit = ", ".join(name for name in SAMPLED_SOLVERS if causal or name != "sweep")
    if solver not in SAMPLED_SOLVERS:
        raise UserError(
            f"solver={solver!r} with a key: random cells are solved by averages and applications, "
            f"not by their Jacobians; give 'auto' or one of {fit}"
        )
    if solver == "sweep" and not causal:
        raise UserError(f"solver='sweep' cannot solve {wiring!r}: give 'auto' or one of {fit}")
    rtol, atol = task.rtol, task.atol
    if shots is not None:
        most = as_schedule(shots).most
        averages = solver == "krasnoselskii-mann"
        floor = tolerance_under_shots(most, n, averages=averages)
        if averages:
            rtol, atol = 0.0, floor
        else:
            floor = jnp.asarray(floor, task.start.dtype)
            atol = jnp.where(floor > atol, floor, atol)
    return NETWORK_SOLVERS[solver][0](network=task.fn, rtol=rtol, atol=atol)
