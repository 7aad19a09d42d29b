"""The path of a solver is the one that the layer's loop takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from qdeq.equilibrium import Anderson, Broyden, Equilibrium, Newton, Picard
from qdeq.equilibrium.networks import (
    NETWORK_SOLVERS,
    Alone,
    Chain,
    EdgeInjection,
    Grid,
    NetworkEquilibrium,
    Wired,
    network_trajectory,
)
from qdeq.equilibrium.solver import name_of
from qdeq.equilibrium.trajectories import trajectory
from qdeq.errors import UserError

MATRIX = jnp.array([[0.3, -0.5], [0.4, 0.2]])


def f(z):
    return jnp.tanh(MATRIX @ z + 1)


def test_picards_points_are_the_iterates():
    path = trajectory(f, jnp.zeros(2), solver=Picard(), n_steps=4)
    z = np.zeros(2, np.float32)
    for point in np.asarray(path.points):
        np.testing.assert_allclose(point, z, rtol=1e-6)
        z = np.asarray(f(point))


@pytest.mark.parametrize(
    "solver",
    [
        Picard(),
        optx.FixedPointIteration(1e-5, 1e-5),
        optx.BestSoFarFixedPoint(optx.FixedPointIteration(1e-5, 1e-5)),
        optx.Newton(1e-5, 1e-5),
    ],
    ids=name_of,
)
def test_solvers_of_optimistix_stay_within_bounds_too(solver):
    path = trajectory(
        lambda z: 0.5 * z + 1, jnp.zeros(1), solver=solver, n_steps=4, bounds=(-1.0, 1.25)
    )
    assert path.points.max() == 1.25  # its equilibrium is 2


@pytest.mark.parametrize("bounds", [(1, -1), 1.0, "ab", (jnp.zeros(3), 1.0)])
def test_bounds_of_a_path_are_those_of_a_layer(bounds):
    with pytest.raises(UserError, match="bounds="):
        trajectory(f, jnp.zeros(2), solver=Picard(), n_steps=2, bounds=bounds)


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


SOLVED = {
    "sweep": Chain(6),
    "newton-scan": Chain(6),
    "newton-blocks": Chain(6, "both", ring=True),
    "homotopy": Alone(6),
    "newton-krylov": Grid(2, 3),
    "anderson": Chain(6, "both"),
    "broyden": Grid(2, 3),
    "picard": Chain(6),
    "krasnoselskii-mann": Chain(6, "both"),
}


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVED)
def test_the_path_of_a_network_has_the_residuals_and_the_end_of_its_layer(solver):
    wiring = SOLVED[solver]
    injection = EdgeInjection.random(wiring, 2, 1, 2, key=jax.random.key(0), gain=0.3)
    network = Wired(lambda v, x: jnp.tanh(v), injection, wiring)
    x = jax.random.normal(jax.random.key(1), (6, 1))
    mask = None if wiring.closes else jnp.arange(6) < 5
    layer = NetworkEquilibrium(solver, bounds=(-1.0, 1.0), max_steps=40)
    solution = layer(network, x, mask=mask)
    path = network_trajectory(layer, network, x, n_steps=40, mask=mask)
    steps = int(solution.stats.steps)
    assert int(np.argmax(path.converged)) == steps - 1
    end = path.points[steps - 1].reshape(6, 2)
    np.testing.assert_allclose(end, solution.value, rtol=1e-5, atol=1e-6)
    norms = np.linalg.norm(path.values - path.points, axis=1) / np.linalg.norm(path.values, axis=1)
    # As above: the last residual may be rounding alone.
    np.testing.assert_allclose(
        norms[: steps - 1], solution.stats.residual_trace[: steps - 1], rtol=0.02
    )


def test_every_solver_of_a_network_has_a_path_or_is_several():
    assert {*SOLVED, "picard-newton"} == set(NETWORK_SOLVERS)
    network = Wired(lambda v, x: v, EdgeInjection([[1.0]], [[[0.5]], [[0.5]]]), Chain(3, "both"))
    with pytest.raises(UserError, match="several solvers one after another"):
        network_trajectory(NetworkEquilibrium(), network, jnp.ones((3, 1)), n_steps=2)
