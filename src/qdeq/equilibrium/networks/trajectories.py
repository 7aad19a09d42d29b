"""Where a solver of a network goes on its way, for pictures: all sites at every step."""

from typing import Any

from jaxtyping import Array, Bool, Float

from qdeq.equilibrium.networks.forward import choose_solver, solver_object, with_start_of
from qdeq.equilibrium.networks.layer import (
    NetworkEquilibrium,
    check_layer,
    checked_features,
    task_of,
)
from qdeq.equilibrium.networks.wired import Wired
from qdeq.equilibrium.trajectories import Trajectory, trajectory
from qdeq.errors import UserError, check_count


def network_trajectory(
    layer: NetworkEquilibrium,
    network: Wired,
    x: Float[Array, "N d"],
    *,
    n_steps: int,
    z0: Float[Array, "N q"] | None = None,
    mask: Bool[Array, " N"] | None = None,
) -> Trajectory:
    """Take `n_steps` steps of a layer's solver and keep where all sites were.

    Parameters
    ----------
    layer
        With a solver that is one: "picard-newton" is several, one after another.
    network, x, z0, mask
        As the layer takes them.
    n_steps
        How many steps to take. A sweep is one; "newton-scan" begins where the layer lets it begin,
        and nothing is swept after it.

    Returns
    -------
    Trajectory
        Of the flat state, `(n_steps, N q)`, without derivatives.

    Raises
    ------
    UserError
        For a solver that the wiring does not allow, or that is several.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from qdeq.equilibrium.networks import Chain, EdgeInjection
    >>> network = Wired(lambda v, x: v, EdgeInjection([[1.0]], [[0.5]]), Chain(3))
    >>> layer = NetworkEquilibrium("picard")
    >>> network_trajectory(layer, network, jnp.ones((3, 1)), n_steps=3).points.tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.5, 1.5]]
    """
    check_layer(layer)
    check_count("n_steps", n_steps)
    x = checked_features(network, x)
    solver: Any = layer.solver
    if isinstance(solver, str):
        solver = choose_solver(network.wiring) if solver == "auto" else solver
        if solver == "picard-newton":
            raise UserError(
                f"solver={layer.solver!r}: {network.wiring!r} is solved by several solvers one "
                "after another, and a path is that of one; give 'picard' or another name"
            )
    task, _, _ = task_of(layer, network, x, z0, mask)
    made = solver_object(solver, task)
    task, _ = with_start_of(made, task)
    return trajectory(
        task.fn,
        task.start,
        task.args,
        solver=made,
        n_steps=n_steps,
        bounds=task.options.bounds,
    )
