"""A solver's steps where a device evaluates f, once a step and at the iterate.

Which samples are evaluated, and when that ends, is `solve.py`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from qdeq.devices.executor import as_item
from qdeq.equilibrium import Anderson, KrasnoselskiiMann
from qdeq.equilibrium.shots import tolerance_under_shots
from qdeq.equilibrium.solver import Solver, as_solver, check_solver, finds_zero, name_of
from qdeq.errors import UserError, check_amount


@eqx.filter_jit
def advance(
    solver: Solver, iterate: jax.Array, out: jax.Array, state: PyTree, weight: jax.Array
) -> tuple:
    """One step of every sample's solver, given what f returned at its iterate."""
    driver = as_solver(solver)

    def one(y: jax.Array, out: jax.Array, state: PyTree) -> tuple:
        evaluation = _Evaluation(y, out, finds_zero(solver))
        options = {"weight": weight}
        new, state, _ = driver.step(evaluation, y, out, options, state, frozenset())
        if evaluation.count != 1:
            raise _unfit(solver, f"evaluates f {evaluation.count} times in a step")
        found = driver.estimate(state, y, out)
        converged = found.meets(solver.rtol, solver.atol)
        return new, state, found.point, found.residual, found.scale, converged

    return jax.vmap(one)(iterate, out, state)


class _Evaluation:
    """f for one step: a device has evaluated it at the iterate, and nowhere else."""

    def __init__(self, y: jax.Array, out: jax.Array, finds_zero: bool):
        self.y, self.out, self.finds_zero = y, out, finds_zero
        self.count = 0

    def __call__(self, y: jax.Array, args: Any) -> tuple[jax.Array, None]:
        del args
        self.count += 1
        if y is not self.y:
            raise _Elsewhere
        return (self.out - y if self.finds_zero else self.out), None


class _Elsewhere(Exception):
    """A solver asked for f somewhere else, or for its derivative."""


def _unfit(solver: Solver, why: str) -> UserError:
    return UserError(
        f"solver={name_of(solver)}(): on a device give one that evaluates f once per step, at its "
        f"iterate (this one {why}): KrasnoselskiiMann(), Anderson(), Broyden(), Picard(), or your "
        "own"
    )


def check_steps(solver: Solver, start: jax.Array) -> None:
    """Raise `UserError` for a solver that a device cannot serve, before anything is submitted."""
    check_solver("solver", solver)
    try:
        jax.eval_shape(
            lambda y: advance(solver, y, y, initial_states(solver, y), jnp.ones(())), start
        )
    except _Elsewhere:
        raise _unfit(solver, "needs f beside its iterate, or a derivative of it") from None


def initial_states(solver: Solver, start: jax.Array) -> PyTree:
    """The states with which the solvers of all samples begin."""
    driver = as_solver(solver)
    vector = jax.ShapeDtypeStruct(start.shape[1:], start.dtype)

    def one(y: jax.Array) -> PyTree:
        return driver.init(lambda y, _: (y, None), y, None, {}, vector, None, frozenset())

    return jax.vmap(one)(start)


def alike(one: PyTree, other: PyTree) -> bool:
    """Whether two solvers' states have parts of the same names and shapes."""

    def form(tree: PyTree) -> Any:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return [(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in leaves]

    return form(one) == form(other)


def with_tolerance(
    solver: Solver | None, tolerance: float | None, shots: int | None, n: int
) -> Solver:
    """The solver with the tolerances that this solve uses."""
    if solver is None:
        if shots is None:
            solver = Anderson()
        else:
            atol = tolerance_under_shots(shots, n, averages=True)
            solver = KrasnoselskiiMann(rtol=0.0, atol=atol)
    rtol, atol = solver.rtol, solver.atol
    if tolerance is not None:
        check_amount("tolerance", as_item(tolerance))
        rtol, atol = 0.0, tolerance
    elif shots is not None and not as_solver(solver).averages:
        atol = max(float(atol), tolerance_under_shots(shots, n, averages=False))
    return eqx.tree_at(lambda s: (s.rtol, s.atol), solver, (rtol, atol))
