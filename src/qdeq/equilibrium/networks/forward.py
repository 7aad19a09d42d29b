"""The forward solve of a network: which solver a wiring gets, and what it does in which order."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from qdeq._numbers import at_most
from qdeq.equilibrium._solve import Begun, Outcome, SolveOptions, solve
from qdeq.equilibrium.anderson import Anderson
from qdeq.equilibrium.broyden import Broyden
from qdeq.equilibrium.krasnoselskii_mann import KrasnoselskiiMann
from qdeq.equilibrium.networks.solvers import (
    FlatNetwork,
    NetworkHomotopy,
    NewtonBlocks,
    NewtonScan,
    Sweep,
)
from qdeq.equilibrium.networks.speculation import evaluations_of, speculative_start
from qdeq.equilibrium.networks.systems import (
    BOTH_WAYS,
    LARGEST_WRITTEN_OUT,
    is_eliminated,
)
from qdeq.equilibrium.networks.wiring import AbstractWiring, Chain
from qdeq.equilibrium.picard import Picard
from qdeq.equilibrium.solution import STATUS
from qdeq.equilibrium.solver import Estimate, as_solver
from qdeq.errors import UserError

# Shorter causal chains are swept: a round of Newton's method costs as much as a few sites.
SHORT_CHAIN = 256

# Applications of F before Newton's method. Where cells contract by 0.4 they are enough.
_APPLICATIONS = 20
# On chains both ways a round costs as much as four of them: 16 chains of 1,000 3-qubit cells that
# hardly contract take 51 ms of processor time with 8 and 68 with 20. With fewer than 10 Newton's
# method is caught, and a homotopy takes over, where repeated application does not settle.
_APPLICATIONS_BOTH_WAYS = 10
# Of chains in a batch that Newton's method solves faster than a sweep on a CPU. One of 4,000 sites
# takes 4 ms instead of 13, 64 of them 154 ms instead of 38.
_FEW_CHAINS = 3
# Newton's method is near when the residual is below this times the square root of the tolerance.
_NEARLY = 0.2
_PATIENCE = 5  # steps without progress
# Samples that go through a homotopy together: as many as a compiled kernel takes at once.
_GROUP = 16
_ROUNDS = 12  # of Newton's method, before a homotopy takes over
# Where none can, because systems of a large graph are not solved exactly. Batches of 16 grids of
# 5 x 5 3-qubit cells, four seeds, at gains 3 and 3.5: 46 and 8 of 64 converge with and without it,
# in 2.5 and 3.7 s of processor time instead of 6.2 and 7.0. With at most 25 rounds 42 and 2.
_PATIENCE_ALONE = 12


def _general(kind: Callable[..., Any]) -> Callable[..., Any]:
    """How a solver is made that knows nothing of networks."""
    return lambda network, rtol, atol: kind(rtol=rtol, atol=atol)


#: How each solver is made, and for which wirings (None: for all).
NETWORK_SOLVERS: dict[str, tuple[Callable[..., Any], tuple[str, ...] | None]] = {
    "sweep": (Sweep, ("causal",)),
    "newton-scan": (NewtonScan, ("causal",)),
    "newton-blocks": (NewtonBlocks, ("apart", "causal", "line", "ring")),
    "homotopy": (NetworkHomotopy, None),
    "picard-newton": (_general(Picard), None),
    "newton-krylov": (partial(NewtonBlocks, krylov=True), None),
    "anderson": (_general(Anderson), None),
    "broyden": (_general(partial(Broyden, history=20)), None),
    "picard": (_general(Picard), None),
    "krasnoselskii-mann": (_general(KrasnoselskiiMann), None),
}


def choose_solver(wiring: AbstractWiring) -> str:
    """The solver that `auto` takes for a wiring; on a CPU it sweeps more than 3 long chains.

    Examples
    --------
    >>> choose_solver(Chain(16)), choose_solver(Chain(10_000)), choose_solver(Chain(16, "both"))
    ('sweep', 'newton-scan', 'picard-newton')
    """
    if wiring.structure == "causal":
        long = isinstance(wiring, Chain) and wiring.n_sites > SHORT_CHAIN
        return "newton-scan" if long else "sweep"
    return "picard-newton"


def why_not(
    solver: str, wiring: AbstractWiring, n_states: int = 1, n_inputs: int = 1
) -> str | None:
    """Why a solver by name cannot solve a network with cells of these sizes; None where it can.

    Examples
    --------
    >>> from qdeq.equilibrium.networks import Grid
    >>> why_not("newton-blocks", Grid(2, 2))[:35]
    "solver='newton-blocks' cannot solve"
    >>> why_not("homotopy", Grid(2, 2), n_states=9, n_inputs=6) is None
    True
    """
    structures = NETWORK_SOLVERS[solver][1]
    fits = structures is None or wiring.structure in structures
    if solver == "newton-scan":
        fits = fits and isinstance(wiring, Chain)
    if solver == "homotopy" and not is_eliminated(wiring, n_states, n_inputs):
        return (
            f"solver='homotopy' on {wiring!r}: it needs exact solutions of systems of "
            f"{wiring.n_sites * min(n_states, n_inputs)} unknowns (sites times inputs or states), "
            f"and they are exact up to {LARGEST_WRITTEN_OUT} on such a wiring; give "
            "'picard-newton', 'auto' or fewer sites"
        )
    if fits:
        return None
    return f"solver={solver!r} cannot solve {wiring!r}: give {choose_solver(wiring)!r} or 'auto'"


class Task(eqx.Module):
    """What is to be solved: without derivatives.

    Attributes
    ----------
    fn, args
        The network, its features and mask.
    start
        `(N q,)`.
    options
        How far the solve may go.
    rtol, atol
        Tolerances of solvers by name.
    is_free
        Whether the start is ours to choose.
    """

    fn: FlatNetwork
    args: Any
    start: Float[Array, " n"]
    options: SolveOptions
    rtol: Any
    atol: Any
    is_free: bool = eqx.field(static=True)


class Solved(eqx.Module):
    """How it ended, how many Jacobians were computed and how often F was evaluated."""

    outcome: Outcome
    jacobians: Int[Array, ""]
    evaluations: Int[Array, ""]


def forward(solver: Any, task: Task) -> Solved:
    """Solve by a solver's name, by "auto", or by a solver object."""
    if not isinstance(solver, str) or solver != "auto":
        return _forward(solver, task)
    name = choose_solver(task.fn.wired.wiring)
    if name == "newton-scan" and jax.default_backend() == "cpu":
        return _by_batch(task)
    return _forward(name, task)


def _forward(solver: Any, task: Task) -> Solved:
    made = solver_object(solver, task)
    if isinstance(solver, str) and solver == "picard-newton":
        return _in_stages(made, task)
    task, guesses = with_start_of(made, task)
    outcome = solve(task.fn, made, task.start, task.args, task.options)
    driver = as_solver(made)
    jacobians = outcome.steps * driver.uses_jacobian
    evaluations = outcome.steps * getattr(driver, "evaluations_per_step", 1)
    if isinstance(made, NewtonScan):
        outcome, more = _swept(made, task, outcome)
        evaluations = evaluations + more
        if guesses:
            evaluations = evaluations + evaluations_of(task.fn.wired.wiring.n_sites)
    return Solved(outcome, jacobians, evaluations)


def _by_batch(task: Task) -> Solved:
    """Newton's method for a few long chains, a sweep for many: they fill a processor anyway."""
    arrays, rest = eqx.partition(task, eqx.is_array)

    def by(name: str) -> Callable[[Any], Solved]:
        return lambda arrays: _forward(name, eqx.combine(arrays, rest))

    one = custom_vmap(by("newton-scan"))

    @one.def_vmap
    def many(axis_size: int, in_batched: Any, arrays: Any) -> Any:
        axes = jax.tree.map(lambda batched: 0 if batched else None, in_batched[0])
        name = "newton-scan" if axis_size <= _FEW_CHAINS else "sweep"
        found = jax.vmap(by(name), in_axes=(axes,))(arrays)
        return found, jax.tree.map(lambda _: True, found)

    return one(arrays)


def with_start_of(made: Any, task: Task) -> tuple[Task, bool]:
    """The task from where a solver starts, and whether that is a guess which costs evaluations."""
    guesses = isinstance(made, NewtonScan) and task.is_free
    if guesses:
        start = speculative_start(task.fn.wired, *task.args).reshape(-1)
        task = eqx.tree_at(lambda task: task.start, task, start)
    return task, guesses


def solver_object(solver: Any, task: Task) -> Any:
    """The solver of a name; `UserError` where the wiring does not allow it."""
    if not isinstance(solver, str):
        return solver
    wired = task.fn.wired
    reason = why_not(solver, wired.wiring, wired.injection.n_states, wired.injection.n_inputs)
    if reason is not None:
        raise UserError(reason)
    return NETWORK_SOLVERS[solver][0](network=task.fn, rtol=task.rtol, atol=task.atol)


def _in_stages(picard: Any, task: Task) -> Solved:
    """Applications, Newton's method, homotopy.

    A stage takes no step where an earlier one has converged. Newton's method, whose residuals fall
    as their squares, first goes only as far as one more of its steps should be enough: whether it
    was, an application says, at a quarter of what a round costs.
    """
    fn, wiring, rtol, atol = task.fn, task.fn.wired.wiring, picard.rtol, picard.atol
    applied = _APPLICATIONS_BOTH_WAYS if wiring.structure in BOTH_WAYS else _APPLICATIONS
    injection = fn.wired.injection
    has_homotopy = why_not("homotopy", wiring, injection.n_states, injection.n_inputs) is None
    rounds, patience = _ROUNDS, _PATIENCE
    if not has_homotopy:
        rounds = task.options.max_steps
        patience = task.options.stall_steps or _PATIENCE_ALONE
    loose: Any = {"rtol": _NEARLY * jnp.sqrt(rtol), "atol": _NEARLY * jnp.sqrt(atol)}
    nearly = NewtonBlocks(network=fn, **loose)
    now = _Staged.begin(task)
    now = now.stage(picard, applied, _PATIENCE, now.outcome.best.point, jnp.asarray(True))
    now = now.stage(nearly, rounds, patience, now.outcome.best.point, ~now.converged(picard))
    left = ~now.converged(picard)
    near = left & now.converged(nearly)
    now = now.stage(picard, 1, None, now.outcome.last, near)
    newton = NewtonBlocks(rtol=rtol, atol=atol, network=fn)
    left = near & ~now.converged(picard)
    now = now.stage(newton, rounds, patience, now.outcome.best.point, left)
    if has_homotopy:
        now = _by_groups(_left_to_homotopy, now, ~now.converged(picard))
    return Solved(now.outcome, now.jacobians, now.outcome.steps)


def _left_to_homotopy(now: "_Staged", left: Bool[Array, ""]) -> "_Staged":
    task = now.task
    homotopy = NetworkHomotopy(rtol=task.rtol, atol=task.atol, network=task.fn)
    return now.stage(homotopy, task.options.max_steps, None, task.start, left)


def _by_groups(
    stage: Callable[["_Staged", Array], "_Staged"], now: "_Staged", active: Bool[Array, ""]
) -> "_Staged":
    """A stage that few samples of a batch need, in groups: those that do come first.

    A group takes as many steps as its slowest sample, one that needs none costs next to nothing.
    """
    arrays, rest = eqx.partition(now, eqx.is_array)

    def of_one(arrays: Any, active: Array) -> tuple[Outcome, Array]:
        found = stage(eqx.combine(arrays, rest), active)
        return found.outcome, found.jacobians

    one = custom_vmap(of_one)

    @one.def_vmap
    def many(axis_size: int, in_batched: Any, arrays: Any, active: Array) -> Any:
        axes = jax.tree.map(lambda batched: 0 if batched else None, in_batched[0])
        together = jax.vmap(of_one, in_axes=(axes, 0))
        active = jnp.broadcast_to(active, axis_size)
        if axis_size <= _GROUP:
            found = together(arrays, active)
        else:
            order = jnp.argsort(~active)
            # Filled up with samples that need nothing.
            n_groups = -(-axis_size // _GROUP)
            members = jnp.pad(order, (0, n_groups * _GROUP - axis_size)).reshape(n_groups, _GROUP)
            needed = jnp.arange(members.size).reshape(members.shape) < jnp.sum(active)

            def of_group(group: tuple[Array, Array]) -> Any:
                chosen = jax.tree.map(
                    lambda leaf, batched: leaf[group[0]] if batched else leaf,
                    arrays,
                    in_batched[0],
                )
                return together(chosen, group[1])

            found = lax.map(of_group, (members, needed))
            place = jnp.argsort(order)
            found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[place], found)
        return found, jax.tree.map(lambda _: True, found)

    return _Staged(now.task, *one(arrays, active))


class _Staged(eqx.Module):
    """What the stages of one solve have come to."""

    task: Task
    outcome: Outcome
    jacobians: Int[Array, ""]

    @classmethod
    def begin(cls, task: Task) -> "_Staged":
        infinite, none = jnp.asarray(jnp.inf, task.start.dtype), jnp.asarray(0, jnp.int32)
        trace = jnp.full(task.options.max_steps, jnp.nan, task.start.dtype)
        best = Estimate(task.start, infinite, infinite)
        status = STATUS.max_steps_reached
        return cls(task, Outcome(best, task.start, none, status, trace, None), none)

    def converged(self, solver: Any) -> Bool[Array, ""]:
        return self.outcome.best.meets(solver.rtol, solver.atol)

    def stage(
        self, solver: Any, most: int, patience: int | None, point: Array, active: Bool[Array, ""]
    ) -> "_Staged":
        """At most so many steps from a point, where there is anything left to do."""
        task, before, options = self.task, self.outcome, self.task.options
        allowed = options.max_steps if options.budget is None else options.budget
        most = min(most, options.max_steps)
        limits = SolveOptions(most, at_most(allowed - before.steps, most), options.bounds, patience)
        begun = Begun(before.best, active)
        found = solve(task.fn, solver, point, task.args, limits, begun=begun)
        more = jnp.pad(found.trace, (0, options.max_steps - most), constant_values=jnp.nan)
        number = jnp.arange(options.max_steps)
        outcome = Outcome(
            found.best,
            jnp.where(active, found.last, before.last),
            before.steps + found.steps,
            STATUS.where(active, found.status, before.status),
            jnp.where(number < before.steps, before.trace, more[number - before.steps]),
            None,
        )
        return _Staged(task, outcome, self.jacobians + found.steps * solver.uses_jacobian)


def _swept(solver: NewtonScan, task: Task, first: Outcome) -> tuple[Outcome, Array]:
    """What Newton's method left over, site after site; no step where it left nothing.

    Second how often F was evaluated for it.
    """
    sweep = Sweep(network=task.fn, rtol=solver.rtol, atol=solver.atol)
    one = SolveOptions(1, None, task.options.bounds, None)
    x, mask = task.args

    def swept(now: tuple[Array, Array, Outcome]) -> tuple[Array, Array, Outcome]:
        active, x, before = now
        begun = Begun(before.best, active)
        found = solve(task.fn, sweep, task.start, (x, mask), one, begun=begun)
        here = jnp.arange(len(before.trace)) == before.steps  # nowhere after all steps that fit
        after = eqx.tree_at(
            lambda o: (o.best, o.steps, o.status, o.trace),
            before,
            (
                found.best,
                before.steps + found.steps,
                found.status,
                jnp.where(here, found.trace, before.trace),
            ),
        )
        # The features travel and change: XLA moves work that depends on nothing else out of
        # the loop, and the sweep would run where nothing is left over.
        return jnp.zeros_like(active), jnp.zeros_like(x), after

    begin = (first.status != STATUS.converged, x, first)
    outcome = lax.while_loop(lambda now: now[0], swept, begin)[2]
    return outcome, (outcome.steps - first.steps) * sweep.evaluations_per_step
