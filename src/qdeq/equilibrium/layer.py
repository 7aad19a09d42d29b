"""The equilibrium layer: z = f(z, x) solved forwards, differentiated by the chosen adjoint."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from qdeq._numbers import at_least
from qdeq.equilibrium._common import check_loop, flat_bounds, step_budget
from qdeq.equilibrium._problem import Draw, Problem, flatten, frozen, make_problem
from qdeq.equilibrium._programs import compiled_once
from qdeq.equilibrium._randomness import Randomness, check_randomness
from qdeq.equilibrium._solve import Begun, Outcome, SolveOptions, solve
from qdeq.equilibrium.adjoints import Implicit
from qdeq.equilibrium.attach import (
    AbstractAdjoint,
    AbstractDerivative,
    adjoint_residual,
    attach,
    check_adjoint,
)
from qdeq.equilibrium.broyden import Broyden
from qdeq.equilibrium.compiled import compiled_solve
from qdeq.equilibrium.shots import ShotSchedule
from qdeq.equilibrium.solution import STATUS, Solution
from qdeq.equilibrium.solver import Estimate, Solver, as_solver, check_solver
from qdeq.errors import UserError, check_count


class Equilibrium(eqx.Module):
    """Finds z with z = f(z, x), and differentiates through it.

    One sample; `jax.vmap` for a batch, in which every sample stops on its own residual and none
    influences another.

    Parameters
    ----------
    solver
        Any of this package's solvers, or any Optimistix fixed-point solver, root finder or
        least-squares solver. Its `rtol` and `atol` decide when a sample is converged:
        |f(z) - z| <= atol + rtol |f(z)|, two-norms over the flattened state.
    adjoint
        How gradients pass the equilibrium.
    max_steps
        Static bound on the solver's steps.
    bounds
        (lower, upper), numbers or pytrees like z0: iterates are clipped to the box, of complex
        numbers both parts. Solvers with a trust region (`Dogleg`, `LevenbergMarquardt`) ignore it,
        and so does `Homotopy`, which may end outside where f leads out of the box.
    stall_steps
        A sample gives up after this many steps in which its residual did not fall by a tenth; None
        never. `Homotopy` ignores it: on its way the residual rises too.
    fallback, fallback_steps
        A robust solver for the samples that did not converge: `Homotopy` goes from z0 once more,
        others from the best iterate. Where all did, it takes no step; without one there are none.

    Raises
    ------
    UserError
        For something that is not a solver or an adjoint, `max_steps` below 1, bounds that are not a
        pair, or a fallback without steps.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> layer = Equilibrium(max_steps=30)
    >>> solution = layer(lambda z, x: jnp.cos(z * x), jnp.zeros(1), 1.0)
    >>> print(f"{solution.value[0]:.4f}")
    0.7391
    """

    solver: Solver = Broyden()
    adjoint: AbstractDerivative = Implicit()
    max_steps: int = eqx.field(default=30, static=True)
    bounds: tuple[PyTree, PyTree] | None = None
    stall_steps: int | None = eqx.field(default=None, static=True)
    fallback: Solver | None = None
    fallback_steps: int = eqx.field(default=100, static=True)  # five times what most samples need

    def __check_init__(self) -> None:
        check_solver("solver", self.solver)
        check_adjoint("adjoint", self.adjoint)
        check_loop(self.max_steps, self.stall_steps, self.bounds)
        if self.fallback is not None:
            check_solver("fallback", self.fallback)
            check_count("fallback_steps", self.fallback_steps)
            if self.adjoint.differentiates_loop:
                raise UserError(
                    f"adjoint={type(self.adjoint).__name__}() with a fallback: it differentiates "
                    "one loop, leave the fallback out or take another adjoint"
                )

    @compiled_once
    def __call__(
        self,
        f: Callable[..., PyTree],
        z0: PyTree,
        x: PyTree = None,
        *,
        budget: int | Int[Array, ""] | None = None,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Array | ShotSchedule | None = None,
        gradient_shots: int | Array | None = None,
    ) -> Solution:
        """Solve z = f(z, x) from z0.

        Parameters
        ----------
        f
            `f(z, x) -> z`, or `f(z) -> z` where x is None: any JAX function with a forward
            derivative; what it closes over is differentiated too. With `key` it is called as
            `f(z, x, key=step_key)`, with `shots` as `f(z, x, key=step_key, shots=step_shots)`.
        z0
            Start, any pytree of floating-point arrays. Gradients with respect to it are zero.
        x
            Any pytree, differentiated.
        budget
            Steps allowed in this call, possibly traced, at most `max_steps`; a fallback takes its
            own beside them.
        key
            Says that f is random: every evaluation gets a fresh key, and so does the derivative.
        shots
            What a random f gets as `shots`: a number, or one per step.
        gradient_shots
            The same where f is differentiated for the adjoint; None for the most of `shots`.

        Returns
        -------
        Solution
            The evaluated point with the smallest residual (with `Unrolled`, the last iterate), and
            `SolverStats`. NaN where f is not finite at z0, as with features that are NaN. For a
            random f `KrasnoselskiiMann` returns its average; the other solvers the point whose
            residual was measured smallest, which protects from iterates that noise threw far off.
            The smallest of noisy numbers is too small, so its residual is measured again there.

        Raises
        ------
        UserError
            At trace time, if f does not return what z0 is, or for a key with `Unrolled` or a
            fallback.
        """
        check_randomness(key, shots, gradient_shots)
        random = None if key is None else Randomness(key, shots, gradient_shots)
        problem = make_problem(f, z0, x if random is None else random.draw(x, "check", 0)[0])
        options = SolveOptions(
            max_steps=self.max_steps,
            budget=step_budget(budget, self.max_steps),
            bounds=None if self.bounds is None else self._flat_bounds(z0, problem),
            stall_steps=self.stall_steps,
        )
        if random is not None:
            return self._solve_random(problem, options, random)
        adjoint, x = self.adjoint, problem.x
        if not isinstance(adjoint, AbstractAdjoint):
            return self._solve_unrolled(problem, options)
        still = frozen(problem)
        outcome, jacobians = self._solve_values(f, still, options)
        memory = adjoint.remember(as_solver(self.solver), outcome.solver_state)
        root = outcome.best.point
        attached = attach(adjoint, problem.fn, root, x, memory)
        quality = adjoint_residual(adjoint, still.fn, root, still.x, memory)
        return self._solution(
            problem, attached.value, outcome, quality, jacobians, attached.jacobian
        )

    def _solve_unrolled(self, problem: Problem, options: SolveOptions) -> Solution:
        outcome = solve(problem.fn, self.solver, problem.start, problem.x, options, unrolled=True)
        jacobians = outcome.steps * as_solver(self.solver).uses_jacobian
        return self._solution(problem, outcome.last, outcome, None, jacobians)

    def _solve_values(
        self, f: Callable[..., PyTree], still: Problem, options: SolveOptions
    ) -> tuple[Outcome, Array]:
        """The forward solve, fallback included, and how many Jacobians it computed."""
        compiled = None
        if still.x is None:
            compiled = compiled_solve(
                frozen(f),
                self.solver,
                still.start,
                options,
                fallback=self.fallback,
                fallback_steps=self.fallback_steps,
            )
        outcome, done = compiled or (
            solve(still.fn, self.solver, still.start, still.x, options),
            None,
        )
        jacobians = outcome.steps * as_solver(self.solver).uses_jacobian
        if self.fallback is None:
            return outcome, jacobians
        first = outcome.steps
        if done is None:
            outcome = self._fall_back(self.fallback, still, options, outcome)
        else:
            outcome = eqx.tree_at(lambda o: o.steps, outcome, first + done)
        return outcome, jacobians + (outcome.steps - first) * as_solver(self.fallback).uses_jacobian

    def _solve_random(
        self, problem: Problem, options: SolveOptions, random: Randomness, *, judges: bool = True
    ) -> Solution:
        adjoint = self.adjoint
        if self.fallback is not None or not isinstance(adjoint, AbstractAdjoint):
            name = "a fallback solver"
            if self.fallback is None:
                name = f"adjoint={type(adjoint).__name__}()"
            raise UserError(f"{name} with a key: a random f is solved without it, leave it out")
        x = problem.x.x
        still, still_x = frozen((problem, x))
        outcome = solve(
            still.fn,
            self.solver,
            still.start,
            None,
            options,
            draw=lambda step: random.draw(still_x, "step", step),
        )
        solver = as_solver(self.solver)
        memory = adjoint.remember(solver, outcome.solver_state)
        root, steps = outcome.best.point, outcome.steps
        evaluations, last = steps, at_least(steps - 1, 0)
        if not solver.averages:
            outcome = self._measured_again(still, outcome, random.draw(still_x, "check", last)[0])
            evaluations = steps + 1
        # The derivative has noise of its own, and its quality is judged with noise of its own.
        value = attach(adjoint, problem.fn, root, random.at_root(x, "gradient"), memory).value
        quality = None
        if judges:
            judged = random.at_root(still_x, "quality")
            quality = adjoint_residual(adjoint, still.fn, root, judged, memory)
        jacobians = steps * solver.uses_jacobian
        solution = self._solution(problem, value, outcome, quality, jacobians)
        total = random.total(steps, self.max_steps, extra=evaluations is not steps)
        return eqx.tree_at(
            lambda s: (s.stats.evaluations, s.stats.shots), solution, (evaluations, total)
        )

    def _measured_again(self, problem: Problem, outcome: Outcome, args: Draw) -> Outcome:
        point = outcome.best.point
        image = problem.fn(point, args)
        found = Estimate.at(point, image)
        holds = found.meets(self.solver.rtol, self.solver.atol)
        status = STATUS.where(
            outcome.status == STATUS.converged,
            STATUS.where(holds, STATUS.converged, STATUS.unconfirmed),
            outcome.status,
        )
        return eqx.tree_at(
            lambda o: (o.best.residual, o.best.scale, o.status),
            outcome,
            (found.residual, found.scale, status),
        )

    def _fall_back(
        self, solver: Solver, problem: Problem, options: SolveOptions, first: Outcome
    ) -> Outcome:
        start = problem.start if as_solver(solver).restarts else first.best.point
        second = solve(
            problem.fn,
            solver,
            start,
            problem.x,
            replace(options, max_steps=self.fallback_steps, budget=None),
            begun=Begun(first.best, first.status != STATUS.converged),
        )
        return eqx.tree_at(
            lambda outcome: (outcome.best, outcome.steps, outcome.status),
            first,
            (second.best, first.steps + second.steps, second.status),
        )

    def _flat_bounds(self, z0: PyTree, problem: Problem) -> tuple[Array, Array]:
        def flat(bound: PyTree) -> Array:
            if jax.tree.structure(bound) == jax.tree.structure(z0):
                return flatten(jax.tree.map(_filled, bound, z0))[0]
            return jnp.broadcast_to(
                jnp.asarray(bound, problem.start.dtype), jnp.shape(problem.start)
            )

        assert self.bounds is not None
        return flat_bounds(self.bounds, flat)

    def _solution(
        self,
        problem: Problem,
        value: Array,
        outcome: Outcome,
        quality: Array | None,
        jacobians: Array,
        jacobian: Array | None = None,
    ) -> Solution:
        if quality is None:
            quality = jnp.asarray(jnp.nan, value.dtype)
        stats = outcome.stats(quality, outcome.steps, jacobians)
        return Solution(problem.unravel(outcome.or_nan(value)), stats, jacobian)


def _filled(bound: Any, z: Any) -> Array:
    """A bound of every entry of z; a real one of both parts of complex numbers."""
    dtype = jnp.result_type(z)
    bound = jnp.asarray(bound)
    if jnp.issubdtype(dtype, jnp.complexfloating) and not jnp.iscomplexobj(bound):
        bound = bound + 1j * bound
    return jnp.broadcast_to(bound.astype(dtype), jnp.shape(z))
