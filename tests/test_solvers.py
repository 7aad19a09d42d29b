"""Every solver finds equilibria, alone, in the layer and inside Optimistix."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from equilibrium_problems import (
    rational_inputs,
    rational_map,
    symmetric_matrices,
    tanh_inputs,
    tanh_map,
    tanh_weights,
)

from qdeq.equilibrium import (
    SOLVERS,
    STATUS,
    Anderson,
    Broyden,
    Dogleg,
    Equilibrium,
    Homotopy,
    JacobianFree,
    Newton,
    Picard,
    Unrolled,
    make_solver,
)
from qdeq.errors import UserError


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_reaches_1e8_on_a_contractive_rational_map(name, x64):
    f = rational_map(jnp.asarray(symmetric_matrices()))
    layer = Equilibrium(make_solver(name, rtol=1e-8, atol=0.0), JacobianFree(), max_steps=60)
    x = jnp.asarray(rational_inputs(16))

    @jax.jit
    @jax.vmap
    def run(x):
        solution = layer(f, jnp.zeros(4), x)
        return solution, f(solution.value, x)

    solution, image = run(x)
    z, fz = np.asarray(solution.value), np.asarray(image)
    residual = np.linalg.norm(fz - z, axis=1) / np.linalg.norm(fz, axis=1)
    # Measured at the returned value, so equal up to the rounding of one more evaluation.
    np.testing.assert_allclose(residual, solution.stats.residual, atol=1e-15)
    assert np.all(solution.stats.converged) and residual.max() <= 1e-8
    assert z.dtype == np.float64


@pytest.mark.parametrize("name", ["anderson", "broyden", "newton"])
def test_float32_solvers_reach_their_default_tolerance_and_keep_the_dtype(name):
    rational = rational_map(jnp.asarray(symmetric_matrices(), jnp.float32))
    layer = Equilibrium(make_solver(name), JacobianFree(), max_steps=60)
    x = jnp.asarray(rational_inputs(16), jnp.float32)
    solution = jax.jit(jax.vmap(lambda x: layer(rational, jnp.zeros(4), x)))(x)
    assert solution.value.dtype == solution.stats.residual.dtype == jnp.float32
    assert bool(jnp.all(solution.stats.converged))


@pytest.mark.slow
def test_tanh_networks_to_1e10_cost_picard_most_and_newton_fewest_steps(x64):
    f = tanh_map(jnp.asarray(tanh_weights(norm=0.95)))
    solvers = [solver(1e-10, 0.0) for solver in (Picard, Anderson, Broyden, Newton)]

    @jax.jit
    @jax.vmap
    def run(x):
        layers = [Equilibrium(solver, JacobianFree(), max_steps=200) for solver in solvers]
        return [layer(f, jnp.zeros(5), x).stats for layer in layers]

    stats = run(jnp.asarray(0.1 * tanh_inputs(8)))
    assert all(np.all(s.residual <= 1e-10) for s in stats)
    picard, anderson, broyden, newton = (int(np.max(s.steps)) for s in stats)
    assert newton < broyden < picard / 2
    assert newton < anderson < picard / 2


@pytest.mark.parametrize("solver", [Anderson(1e-6, 1e-6), Broyden(1e-6, 1e-6)])
def test_solvers_run_inside_optimistix_on_pytrees(solver):
    weights = jnp.asarray(tanh_weights(), jnp.float32)

    def f(z, x):
        flat = jnp.tanh(weights @ jnp.append(z["a"].ravel(), z["b"]) + x)
        return {"a": flat[:4].reshape(2, 2), "b": flat[4]}

    x = jnp.asarray(tanh_inputs(1)[0], jnp.float32)
    start = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(())}
    found = optx.fixed_point(f, solver, start, args=x, max_steps=100).value
    image = f(found, x)
    assert float(jnp.max(jnp.abs(image["a"] - found["a"]))) < 1e-5
    assert float(jnp.abs(image["b"] - found["b"])) < 1e-5


@pytest.mark.parametrize("solver", [Broyden(1e-6, 1e-6), Newton(1e-6, 1e-6)])
def test_root_finders_run_inside_optimistix_root_find(solver):
    found = optx.root_find(lambda y, _: jnp.cos(y) - y, solver, jnp.zeros(2), max_steps=50).value
    np.testing.assert_allclose(found, 0.739085, atol=1e-5)


@pytest.mark.parametrize(
    "solver",
    [optx.FixedPointIteration(1e-6, 1e-6), optx.Newton(1e-6, 1e-6)],
)
def test_optimistix_solvers_run_inside_the_layer(solver):
    layer = Equilibrium(solver, JacobianFree(), max_steps=60)
    f = tanh_map(jnp.asarray(tanh_weights(norm=0.5), jnp.float32))
    x = jnp.asarray(tanh_inputs(3), jnp.float32)
    stats = jax.jit(jax.vmap(lambda x: layer(f, jnp.zeros(5), x).stats))(x)
    assert bool(jnp.all(stats.converged))


def nan_outside(box, slope):
    """A linear map that is undefined outside |z| <= box; its fixed point is 0.5."""

    def f(z):
        return jnp.where(jnp.abs(z) <= box, 0.5 + slope * (z - 0.5), jnp.nan)

    return f


@pytest.mark.parametrize("solver", [Picard(), Broyden()])
def test_bounds_keep_iterates_in_the_box(solver):
    # From -1 the first image is 1.85, outside the box.
    f = nan_outside(1.0, -0.9)
    start = -jnp.ones(2)

    def run(bounds):
        layer = Equilibrium(solver, JacobianFree(), max_steps=200, bounds=bounds)
        return jax.jit(lambda z: layer(f, z))(start)

    free, boxed = run(None), run((-1.0, jnp.ones(2)))
    assert STATUS[free.stats.result] == STATUS[STATUS.nonfinite]
    np.testing.assert_array_equal(free.value, start)  # the only point with a finite residual
    assert bool(boxed.stats.converged)
    np.testing.assert_allclose(boxed.value, 0.5, atol=1e-4)


@pytest.mark.parametrize("solver", [Broyden(rtol=0), Anderson(rtol=0), Newton(rtol=0)])
def test_degenerate_maps_never_give_nan(solver, x64):
    # No fixed point and a singular system: f(z) = z + 1. All differences of residuals vanish.
    # And every point fixed: converged at the first evaluation. (No relative tolerance and few
    # steps: Broyden's iterates explode, and where z + 1 rounds to z every z is a fixed point.)
    layer = Equilibrium(solver, JacobianFree(), max_steps=10)
    shift = jnp.array([1.0, 0.0])
    solution = jax.jit(jax.vmap(lambda s: layer(lambda z: z + s, jnp.zeros(3))))(shift)
    assert bool(jnp.all(jnp.isfinite(solution.value)))
    np.testing.assert_array_equal(solution.stats.converged, [False, True])
    assert int(solution.stats.steps[1]) == 1


def test_limited_memory_broyden_solves_what_does_not_fit_its_history(x64):
    n = 60
    f = tanh_map(jnp.asarray(tanh_weights(n, norm=0.9)))
    layer = Equilibrium(Broyden(1e-9, 0.0, history=8), JacobianFree(), max_steps=100)
    stats = jax.jit(lambda x: layer(f, jnp.zeros(n), x).stats)(jnp.asarray(tanh_inputs(1, n)[0]))
    assert bool(stats.converged)


def test_damping_makes_picard_converge_where_it_would_cycle():
    def run(damping):
        layer = Equilibrium(Picard(damping=damping), JacobianFree(), max_steps=60)
        return layer(lambda z: 1.0 - z, jnp.zeros(1))

    assert not bool(run(0.0).stats.converged)
    np.testing.assert_allclose(run(0.5).value, 0.5)


def test_dogleg_finds_a_root_where_newton_diverges():
    # arctan has Newton's classical divergence beyond |z| = 1.39. (Four steps: soon its iterates
    # are so large that z + arctan(z) rounds to z.)
    def run(solver, max_steps):
        layer = Equilibrium(solver, JacobianFree(), max_steps=max_steps)
        return jax.jit(lambda z: layer(lambda z: z + jnp.arctan(z), z))(jnp.full(1, 3.0))

    assert not bool(run(Newton(rtol=0), 4).stats.converged)
    found = run(Dogleg(rtol=0), 20)
    assert bool(found.stats.converged)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-4)


def test_solvers_are_frozen_modules_with_hashable_defaults():
    assert hash(Broyden()) == hash(Broyden()) and Broyden() == Broyden()
    assert eqx.tree_at(lambda s: s.rtol, Broyden(), 1e-3).rtol == 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Picard(rtol=-1.0),
        lambda: Picard(damping=1.0),
        lambda: Anderson(atol=-1e-3),
        lambda: Anderson(history=0),
        lambda: Anderson(ridge=-1.0),
        lambda: Anderson(mixing=0.0),
        lambda: Broyden(history=0),
        lambda: Newton(rtol=float("nan")),
        lambda: Dogleg(rtol=-1.0),
        lambda: make_solver("brodyen"),
    ],
)
def test_impossible_options_are_user_errors(make):
    with pytest.raises(UserError):
        make()


def test_an_unknown_solver_name_lists_the_valid_ones():
    with pytest.raises(UserError, match="picard, anderson, broyden, newton, homotopy, dogleg"):
        make_solver("brodyen")


def far_from_contracting(z, x):
    """cos(A z + x) maps the box [-1, 1]^n into itself; its Jacobian's norm is about 6."""
    matrix = np.random.default_rng(11).normal(size=(6, 6)) * 1.5
    return jnp.cos(jnp.asarray(matrix, z.dtype) @ z + x)


@pytest.mark.slow
def test_homotopy_solves_what_other_solvers_leave_over(x64):
    x = jnp.asarray(np.random.default_rng(12).normal(size=(64, 6)))

    def solved(layer):
        return jax.jit(jax.vmap(lambda x: layer(far_from_contracting, jnp.zeros(6), x).stats))(x)

    homotopy = solved(Equilibrium(Homotopy(), JacobianFree(), max_steps=100))
    assert np.all(homotopy.converged) and np.mean(homotopy.steps) < 30
    np.testing.assert_array_equal(homotopy.jacobians, homotopy.steps)
    # As a fallback it starts from z0 again, and only where there is something left to do.
    both = solved(
        Equilibrium(
            Broyden(), JacobianFree(), max_steps=20, fallback=Homotopy(), fallback_steps=100
        )
    )
    first = solved(Equilibrium(Broyden(), JacobianFree(), max_steps=20))
    assert np.mean(first.converged) < 0.9 and np.all(both.converged)
    left = ~np.asarray(first.converged)
    np.testing.assert_array_equal(both.steps, np.where(left, 20 + homotopy.steps, first.steps))
    np.testing.assert_array_equal(both.jacobians, np.where(left, homotopy.steps, 0))


def test_homotopy_is_not_ended_by_a_residual_that_rises_on_its_way(x64):
    x = jnp.asarray(np.random.default_rng(12).normal(size=(64, 6)))
    layer = Equilibrium(Homotopy(), JacobianFree(), max_steps=100, stall_steps=2)
    stats = jax.jit(jax.vmap(lambda x: layer(far_from_contracting, jnp.zeros(6), x).stats))(x)
    assert np.all(stats.converged)
    trace = np.asarray(stats.residual_trace)
    assert np.any(np.diff(trace, axis=1) > 0)


@pytest.mark.parametrize("solver", [Picard, Anderson, Broyden, Newton])
def test_a_state_may_be_in_any_unit(solver):
    """Squares of 1e-30 and 1e30 are no numbers of float32."""
    weights = jnp.array([[0.0, -0.9, 0.3], [0.6, 0.0, -0.2], [0.1, 0.4, 0.5]])
    layer = Equilibrium(solver(rtol=1e-4, atol=0.0), JacobianFree(), max_steps=60)

    def solved(unit):
        f = lambda z: unit * (-jnp.tanh(weights @ (z / unit)) + jnp.array([0.3, -0.2, 0.5]))  # noqa: E731
        found = layer(f, jnp.zeros(3))
        return found.stats.converged, found.stats.steps, found.value / unit

    converged, steps, value = jax.jit(jax.vmap(solved))(jnp.array([1.0, 1e-30, 1e-22, 1e22, 1e30]))
    assert converged.all()
    np.testing.assert_allclose(value, value[:1].repeat(5, 0), atol=1e-3)
    assert (abs(steps - steps[0]) <= 1).all()  # learns as much, with other roundings


def test_homotopy_takes_boxes_of_any_size():
    """Its steps are at most 1 long, in units that follow the state."""
    layer = Equilibrium(Homotopy(rtol=1e-4, atol=0.0), JacobianFree(), max_steps=30)
    f = lambda z, size: size * jnp.cos(4 * z / size)  # noqa: E731
    sizes = jnp.array([1.0, 1e2, 1e12, 1e30])
    found = jax.jit(jax.vmap(lambda size: layer(f, jnp.zeros(1), size)))(sizes)
    assert found.stats.converged.all()
    np.testing.assert_allclose(
        jnp.cos(4 * found.value[:, 0] / sizes) * sizes, found.value[:, 0], rtol=1e-3
    )


def test_steps_of_anderson_that_change_nothing_have_a_derivative():
    layer = Equilibrium(Anderson(), Unrolled(), max_steps=6)
    f = lambda z, x: 0 * z + x  # noqa: E731
    # The scan goes on over steps of a sample that is done.
    assert jax.jit(jax.grad(lambda x: layer(f, jnp.zeros(2), x).value.sum()))(
        jnp.ones(2)
    ).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("size", "tolerance"), [(1e-4, 1e-3), (200.0, 1e-2)])
def test_residuals_of_half_precision_are_no_squares_of_it(size, tolerance):
    """1e-8 is 0 in float16, and 200**2 infinite."""
    layer = Equilibrium(Picard(rtol=tolerance, atol=0.0), JacobianFree())
    found = layer(lambda z: 0.5 * z + jnp.float16(size), jnp.zeros(2, jnp.float16))
    assert found.stats.converged and found.stats.residual.dtype == jnp.float16
    np.testing.assert_allclose(found.value, 2 * size, rtol=0.03)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_long_history_of_half_precision_is_solved(dtype):
    """Beyond 6 differences by LAPACK, which has no half precision."""
    layer = Equilibrium(Anderson(0.02, 0.0, history=8), JacobianFree())
    found = layer(lambda z: -0.9 * z + 1, jnp.linspace(0, 1, 8, dtype=dtype))
    assert found.stats.converged and found.value.dtype == dtype
    np.testing.assert_allclose(found.value.astype(float), 1 / 1.9, rtol=0.02)
