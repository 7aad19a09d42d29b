"""Where a solver goes on its way: every point at which it evaluates f, for pictures.

The loop that the layer runs is `_solve.py`; it keeps the best point and no path.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from qdeq.equilibrium._common import check_loop, flat_bounds
from qdeq.equilibrium._problem import make_problem
from qdeq.equilibrium._programs import compiled_once
from qdeq.equilibrium.solver import Estimate, Solver, as_solver, check_solver, finds_zero
from qdeq.errors import check_count


class Trajectory(eqx.Module):
    """The path of one solve, step by step; nothing ends it before its last step.

    Attributes
    ----------
    points
        `(n_steps, n)`: the points y at which f was evaluated.
    values
        `(n_steps, n)`: f(y) there.
    converged
        `(n_steps,)`: whether |f(y) - y| <= atol + rtol |f(y)|. A solve would end at the first.
    """

    points: Float[Array, "n_steps n"]
    values: Float[Array, "n_steps n"]
    converged: Bool[Array, " n_steps"]


def trajectory(
    f: Callable[..., PyTree],
    z0: PyTree,
    x: PyTree = None,
    *,
    solver: Solver,
    n_steps: int,
    bounds: tuple[Any, Any] | None = None,
) -> Trajectory:
    """Take `n_steps` steps of a solver and keep where it was.

    Parameters
    ----------
    f, z0, x
        As an `Equilibrium` takes them.
    solver
        Of this package or of Optimistix; its tolerances say what has converged.
    n_steps
        How many steps to take. After the one that converges the path may go anywhere.
    bounds
        Lower and upper bounds that iterates are clipped to, numbers or flat.

    Returns
    -------
    Trajectory
        Of the flattened state, without derivatives.

    Raises
    ------
    UserError
        For something that is not a solver, `n_steps` below 1, or bounds that are no pair in order.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from qdeq.equilibrium import Picard
    >>> path = trajectory(lambda z: 0.5 * z + 1, jnp.zeros(1), solver=Picard(), n_steps=3)
    >>> path.points[:, 0].tolist()
    [0.0, 1.0, 1.5]
    """
    check_solver("solver", solver)
    check_count("n_steps", n_steps)
    check_loop(n_steps, None, bounds)
    return _trajectory((solver, n_steps, bounds), f, z0, x)


@compiled_once
def _trajectory(
    layer: tuple[Solver, int, tuple[Any, Any] | None],
    f: Callable[..., PyTree],
    z0: PyTree,
    x: PyTree,
) -> Trajectory:
    solver, n_steps, bounds = layer
    problem = make_problem(f, z0, x)
    root, driver = finds_zero(solver), as_solver(solver)
    tags: frozenset[object] = frozenset()

    def evaluate(y: Array, x: PyTree) -> tuple[Array, tuple[Array, Array]]:
        out = problem.fn(y, x)
        return (out - y if root else out), (y, out)

    start, args = lax.stop_gradient((problem.start, problem.x))
    vector = jax.ShapeDtypeStruct(start.shape, start.dtype)
    given = {}
    if bounds is not None:
        lower, upper = flat_bounds(
            bounds, lambda bound: jnp.broadcast_to(jnp.asarray(bound, start.dtype), start.shape)
        )
        given = {"lower": lower, "upper": upper}
    initial = driver.init(evaluate, start, args, given, vector, (vector, vector), tags)
    dynamic, static = eqx.partition(initial, eqx.is_array)

    def step(carry: tuple[Array, PyTree], _: None) -> tuple[tuple[Array, PyTree], Any]:
        iterate, state = carry
        state = eqx.combine(state, static)
        new, state, (y, out) = driver.step(evaluate, iterate, args, given, state, tags)
        met = Estimate.at(y, out).meets(driver.rtol, driver.atol)
        return (new, eqx.filter(state, eqx.is_array)), (y, out, met)

    _, (points, values, converged) = lax.scan(step, (start, dynamic), None, length=n_steps)
    return Trajectory(points, values, jnp.asarray(converged))
