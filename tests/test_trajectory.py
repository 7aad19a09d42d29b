"""The path of a solver is the one that the layer's loop takes."""

import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.equilibrium import Anderson, Broyden, Equilibrium, Newton, Picard
from qdeq.equilibrium.solver import name_of
from qdeq.equilibrium.trajectories import trajectory

MATRIX = jnp.array([[0.3, -0.5], [0.4, 0.2]])


def f(z):
    return jnp.tanh(MATRIX @ z + 1)


def test_picards_points_are_the_iterates():
    path = trajectory(f, jnp.zeros(2), solver=Picard(), n_steps=4)
    z = np.zeros(2, np.float32)
    for point in np.asarray(path.points):
        np.testing.assert_allclose(point, z, rtol=1e-6)
        z = np.asarray(f(point))


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Anderson(), Broyden(), Newton()], ids=name_of)
def test_the_path_has_the_residuals_and_the_end_of_the_layer(solver):
    path = trajectory(f, jnp.zeros(2), solver=solver, n_steps=12)
    solution = Equilibrium(solver=solver, max_steps=12)(f, jnp.zeros(2))
    steps = int(solution.stats.steps)
    assert int(np.argmax(path.converged)) == steps - 1
    np.testing.assert_allclose(path.points[steps - 1], solution.value, rtol=1e-5)
    norms = np.linalg.norm(path.values - path.points, axis=1) / np.linalg.norm(path.values, axis=1)
    # Once rounding is what is left, the two programs' residuals need not agree.
    np.testing.assert_allclose(
        norms[: steps - 1], solution.stats.residual_trace[: steps - 1], rtol=0.02
    )
