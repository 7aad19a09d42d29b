"""Gradients through equilibria: exact ones by differences, inexact ones by their definitions."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equilibrium_problems import (
    central_difference,
    rational_inputs,
    rational_map,
    symmetric_matrices,
    tanh_derivatives,
    tanh_inputs,
    tanh_map,
    tanh_weights,
)

from qdeq.equilibrium import (
    Anderson,
    Broyden,
    Equilibrium,
    Implicit,
    JacobianFree,
    Neumann,
    Newton,
    Picard,
    Shine,
    Unrolled,
    linear_systems,
    squared_frobenius_norm,
)
from qdeq.equilibrium.attach import adjoint_residual, attach
from qdeq.equilibrium.broyden import DenseSecant, LimitedSecant
from qdeq.errors import UserError

EXACT = Newton(rtol=1e-13, atol=1e-13)
EXACT_LAYER = Equilibrium(EXACT, Implicit())


@functools.cache
def rational_loss(layer):
    """A scalar of three equilibria, as a function of the matrices and the inputs."""

    def loss(parameters):
        matrices, x = parameters
        f = rational_map(matrices)
        value = jax.vmap(lambda x: layer(f, jnp.zeros(4), x).value)(x)
        return jnp.sum(jnp.sin(3 * value))

    return jax.jit(loss), jax.jit(jax.grad(loss))


def rational_parameters():
    return jnp.asarray(symmetric_matrices()), jnp.asarray(rational_inputs(3))


def direction_like(tree, seed=7):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)


def inner(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(jnp.vdot(x, y)) for x, y in pairs)


@pytest.mark.slow
def test_implicit_gradients_equal_central_differences(x64):
    loss, gradient = rational_loss(EXACT_LAYER)
    point = rational_parameters()
    direction = direction_like(point)
    expected = central_difference(loss, point, direction)
    assert inner(gradient(point), direction) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_implicit_gradients_equal_a_long_unrolled_solve(x64):
    _, gradient = rational_loss(EXACT_LAYER)
    # 60 Picard steps at a spectral radius below 0.5 leave 1e-18.
    _, unrolled = rational_loss(Equilibrium(Picard(0.0, 1e-15), Unrolled(), max_steps=60))
    point = rational_parameters()
    for a, b in zip(gradient(point), unrolled(point), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)


def test_unrolled_gradients_pass_quasi_newton_iterations(x64):
    point = rational_parameters()
    layer = Equilibrium(Broyden(1e-9, 1e-9), Unrolled(), max_steps=12)
    loss, gradient = rational_loss(layer)
    direction = direction_like(point)
    expected = central_difference(loss, point, direction)
    assert inner(gradient(point), direction) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_second_derivatives_of_the_implicit_adjoint_are_right(x64):
    _, gradient = rational_loss(EXACT_LAYER)
    point = rational_parameters()
    direction, other = direction_like(point), direction_like(point, seed=8)
    # Forward over reverse, against differences of the gradient.
    _, curvature = jax.jvp(gradient, (point,), (direction,))
    expected = central_difference(lambda p: inner(gradient(p), other), point, direction)
    assert inner(curvature, other) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_jacobian_penalty_at_the_root_is_differentiated_through_the_root(x64):
    layer = EXACT_LAYER

    @jax.jit
    def penalty(weights):
        f = tanh_map(weights)
        x = jnp.asarray(tanh_inputs(2))
        return jnp.sum(
            jax.vmap(lambda x: squared_frobenius_norm(f, layer(f, jnp.zeros(5), x).value, x))(x)
        )

    point = jnp.asarray(tanh_weights())
    direction = direction_like(point)
    expected = central_difference(penalty, point, direction)
    assert inner(jax.jit(jax.grad(penalty))(point), direction) == pytest.approx(expected, rel=1e-6)


def test_forward_and_reverse_mode_agree(x64):
    loss, gradient = rational_loss(EXACT_LAYER)
    point = rational_parameters()
    direction = direction_like(point)
    _, tangent = jax.jvp(loss, (point,), (direction,))
    assert float(tangent) == pytest.approx(inner(gradient(point), direction), rel=1e-12)


@functools.cache
def tanh_sensitivity(layer):
    """dz/dx (n, n) of one tanh network by reverse mode, and its solution."""
    f = tanh_map(jnp.asarray(tanh_weights()))
    x = jnp.asarray(tanh_inputs(1)[0])

    @jax.jit
    def run(x):
        solve = lambda x: layer(f, jnp.zeros(5), x)  # noqa: E731
        return jax.jacrev(lambda x: solve(x).value)(x), solve(x)

    return run(x)


@pytest.mark.parametrize("terms", [1, 4])
def test_neumann_and_jacobian_free_equal_their_series(terms, x64):
    sensitivity, solution = tanh_sensitivity(Equilibrium(EXACT, Neumann(terms=terms)))
    jacobian, slope = tanh_derivatives(
        tanh_weights(), tanh_inputs(1)[0], np.asarray(solution.value)
    )
    series = sum(np.linalg.matrix_power(jacobian, k) for k in range(terms))
    np.testing.assert_allclose(sensitivity, series @ slope, rtol=1e-10, atol=1e-13)
    # I - (I + ... + J^(k-1)) (I - J) = J^k.
    expected = np.linalg.norm(np.linalg.matrix_power(jacobian, terms)) / np.sqrt(5)
    assert float(solution.stats.adjoint_residual) == pytest.approx(expected, rel=1e-8)
    if terms == 1:
        free, other = tanh_sensitivity(Equilibrium(EXACT, JacobianFree()))
        np.testing.assert_array_equal(free, sensitivity)
        assert float(other.stats.adjoint_residual) == pytest.approx(expected, rel=1e-8)


def test_implicit_sensitivity_equals_the_dense_formula_and_reports_a_tiny_residual(x64):
    sensitivity, solution = tanh_sensitivity(EXACT_LAYER)
    jacobian, slope = tanh_derivatives(
        tanh_weights(), tanh_inputs(1)[0], np.asarray(solution.value)
    )
    expected = np.linalg.solve(np.eye(5) - jacobian, slope)
    np.testing.assert_allclose(sensitivity, expected, rtol=1e-10, atol=1e-13)
    assert float(solution.stats.adjoint_residual) < 1e-14


def broyden_inverse(f, z, steps):
    """Broyden's good method in NumPy from -I: the inverse Jacobian of f - id after `steps`."""
    inverse, g = -np.eye(z.size), f(z) - z
    for _ in range(steps - 1):
        move = -inverse @ g
        z, old = z + move, g
        g = f(z) - z
        change = inverse @ (g - old)
        inverse = inverse + np.outer(move - change, move @ inverse) / (move @ change)
    return inverse


def test_shine_uses_the_inverse_of_the_forward_solve(x64):
    sensitivity, solution = tanh_sensitivity(Equilibrium(Broyden(1e-6, 1e-6), Shine()))
    weights, x = tanh_weights(), tanh_inputs(1)[0]
    inverse = broyden_inverse(
        lambda z: np.tanh(weights @ z + x), np.zeros(5), int(solution.stats.steps)
    )
    jacobian, slope = tanh_derivatives(weights, x, np.asarray(solution.value))
    # Differences of g of size 1e-6 carry a rounding of 1e-16 / 1e-6.
    np.testing.assert_allclose(sensitivity, -inverse @ slope, rtol=1e-8, atol=1e-10)
    expected = np.linalg.norm(np.eye(5) + inverse @ (np.eye(5) - jacobian)) / np.sqrt(5)
    assert float(solution.stats.adjoint_residual) == pytest.approx(expected, rel=1e-6)


def test_shine_falls_back_to_jacobian_free_where_its_inverse_is_not_trusted(x64):
    solver = Broyden(1e-6, 1e-6, history=2)  # keeps rank-one terms, not a matrix
    shine, _ = tanh_sensitivity(Equilibrium(solver, Shine(max_gain=1e-3)))
    free, _ = tanh_sensitivity(Equilibrium(solver, JacobianFree()))
    np.testing.assert_array_equal(shine, free)


def test_both_forms_of_broydens_inverse_measure_their_gain_alike(x64):
    rng = np.random.default_rng(0)
    us, vs = rng.normal(size=(2, 3, 6))
    matrix = -np.eye(6) + us.T @ vs
    dense = DenseSecant(jnp.asarray(matrix))
    limited = LimitedSecant(jnp.asarray(us), jnp.asarray(vs), jnp.asarray(3))
    vector = jnp.asarray(rng.normal(size=6))
    assert float(limited.gain()) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
    assert float(dense.gain()) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
    np.testing.assert_allclose(limited.mv(vector), matrix @ vector, rtol=1e-12)
    np.testing.assert_allclose(limited.rmv(vector), matrix.T @ vector, rtol=1e-12)


@pytest.mark.slow
def test_gmres_and_the_dense_inverse_give_the_same_gradients(x64):
    dense, _ = tanh_sensitivity(EXACT_LAYER)
    layer = Equilibrium(EXACT, Implicit(method="gmres", rtol=1e-12, atol=1e-12))
    gmres, solution = tanh_sensitivity(layer)
    np.testing.assert_allclose(gmres, dense, rtol=1e-9, atol=1e-12)
    assert float(solution.stats.adjoint_residual) < 1e-10


@pytest.mark.slow
def test_large_states_use_gmres_and_estimate_the_adjoint_residual():
    n = 100
    f = tanh_map(jnp.asarray(tanh_weights(n, norm=0.7), jnp.float32))
    x = jnp.asarray(tanh_inputs(2, n), jnp.float32)
    layer = Equilibrium(Broyden(), Implicit(), max_steps=40)

    @jax.jit
    def run(x):
        stats = jax.vmap(lambda x: layer(f, jnp.zeros(n), x).stats)(x)
        sensitivity = jax.vmap(jax.grad(lambda x: jnp.sum(layer(f, jnp.zeros(n), x).value)))
        return stats.adjoint_residual, sensitivity(x)

    residual, sensitivity = run(x)
    assert float(jnp.max(residual)) < 1e-4 and bool(jnp.all(jnp.isfinite(sensitivity)))


@pytest.mark.parametrize("method", ["dense", pytest.param("gmres", marks=pytest.mark.slow)])
def test_a_singular_sample_neither_raises_nor_touches_its_batch_mates(method):
    # f(z) = a z + x: at a = 1 every system is singular; a = inf makes J infinite.
    layer = Equilibrium(Broyden(), Implicit(method=method), max_steps=30)

    @jax.jit
    def gradients(a):
        def loss(a, x):
            solution = layer(lambda z: a * z + x, jnp.ones(3))
            return jnp.sum(solution.value), solution.stats.adjoint_residual

        return jax.vmap(jax.grad(loss, argnums=(0, 1), has_aux=True))(a, jnp.zeros((4, 3)))

    spoiled, residual = gradients(jnp.array([0.5, 1.0, -0.5, jnp.inf]))
    healthy, _ = gradients(jnp.array([0.5, 0.25, -0.5, 0.25]))
    assert bool(jnp.all(jnp.isfinite(spoiled[1])))
    assert bool(jnp.all(jnp.isfinite(spoiled[0][:3])))
    for a, b in zip(spoiled, healthy, strict=True):
        np.testing.assert_array_equal(a[::2], b[::2])
    np.testing.assert_allclose(spoiled[1][0], 2.0, rtol=1e-5)  # 1 / (1 - 0.5)
    assert float(residual[1]) == pytest.approx(1.0) and float(residual[0]) < 1e-6


def test_closures_and_pytrees_of_inputs_are_differentiated(x64):
    weights = jnp.asarray(tanh_weights())
    layer = EXACT_LAYER

    @jax.jit
    def loss(closed, x):
        def f(z, x):
            mixed = closed["w"] @ jnp.append(z["a"], z["b"]) + x[0] * x[1]["shift"]
            out = jnp.tanh(mixed)
            return {"a": out[:4], "b": out[4]}

        value = layer(f, {"a": jnp.zeros(4), "b": 0.0}, x).value
        return jnp.sum(value["a"] ** 2) + value["b"]

    point = ({"w": weights}, (jnp.asarray(0.7), {"shift": jnp.asarray(tanh_inputs(1)[0])}))
    direction = direction_like(point)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(*point)
    expected = central_difference(lambda p: loss(*p), point, direction)
    assert inner(gradient, direction) == pytest.approx(expected, rel=1e-6)


def test_the_start_and_the_statistics_carry_no_derivative():
    f = tanh_map(jnp.asarray(tanh_weights(), jnp.float32))
    layer = Equilibrium(Picard(), JacobianFree(), max_steps=5)

    @jax.jit
    @jax.grad
    def sensitivity(z0):
        solution = layer(f, z0, jnp.ones(5))
        return jnp.sum(solution.value) + solution.stats.residual

    np.testing.assert_array_equal(sensitivity(jnp.zeros(5)), jnp.zeros(5))


def test_attach_is_usable_on_its_own_root():
    # A root that somebody else found: z = x z + 1, so dz/dx = z / (1 - x) = z^2.
    x, root = jnp.asarray(0.5), jnp.full(1, 2.0)
    closed = eqx.filter_closure_convert(lambda y, x: x * y + root / root, root, x)
    slope = jax.grad(lambda x: attach(Implicit(), closed, root, x, None).value[0])(x)
    np.testing.assert_allclose(slope, 4.0, rtol=1e-6)
    assert float(adjoint_residual(JacobianFree(), closed, root, x, None)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Implicit(method="lu"),
        lambda: Neumann(terms=0),
        lambda: Equilibrium(Anderson(), Shine())(lambda z: z, jnp.zeros(1)),
        lambda: Equilibrium(adjoint="implicit"),
        lambda: Equilibrium(adjoint=Unrolled(), fallback=Newton(), fallback_steps=3),
    ],
)
def test_impossible_adjoints_are_user_errors(make):
    with pytest.raises(UserError):
        make()


def system_of_condition(n, condition, seed):
    """f(z) = (I - A) z + x with I - J = A of this condition number, and a cotangent."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    matrix = left @ np.diag(np.geomspace(1, 1 / condition, n)) @ right
    return matrix.astype(np.float32), rng.normal(size=n).astype(np.float32)


@functools.cache
def gradient_and_tangent(n, adjoint):
    """B' v and B v for f(z) = z - A z + x, compiled once per size."""

    def both(matrix, v):
        f = lambda y, x: y - matrix @ y + x  # noqa: E731
        root = jnp.zeros(n)

        def value(x):
            closed = eqx.filter_closure_convert(f, root, x)
            return attach(adjoint, closed, root, x, None).value

        _, pull = jax.vjp(value, root)
        closed = eqx.filter_closure_convert(f, root, root)
        return (
            pull(v)[0],
            jax.jvp(value, (root,), (v,))[1],
            adjoint_residual(adjoint, closed, root, root, None),
        )

    return jax.jit(both), jax.jit(jax.vmap(both))


# 65 is the first size for GMRES; at a condition of 1e4 it fails.
@pytest.mark.parametrize(
    "n", [4, 33, *(pytest.param(n, marks=pytest.mark.slow) for n in (65, 300))]
)
def test_implicit_gradients_are_as_right_as_the_arithmetic_allows(n):
    one, _ = gradient_and_tangent(n, Implicit())
    for condition in (2.0, 1e2, 1e4):
        matrix, v = system_of_condition(n, condition, seed=n)
        for cotangent in (v, matrix.T @ v):  # the second is nearly lost in the inverse
            pulled, pushed, residual = one(matrix, cotangent)
            exact = matrix.astype(float)
            bound = 100 * np.finfo(np.float32).eps * condition
            for found, wanted in (
                (pulled, np.linalg.solve(exact.T, cotangent)),
                (pushed, np.linalg.solve(exact, cotangent)),
            ):
                error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
                assert error <= bound, (condition, error, bound)
            assert float(residual) <= bound


def test_gradients_of_any_size_are_as_right_as_those_of_size_one():
    one, _ = gradient_and_tangent(65, Implicit())
    matrix, v = system_of_condition(65, 10.0, seed=0)
    for size in (2.0**-60, 2.0**60):
        np.testing.assert_array_equal(one(matrix, v * size)[0], one(matrix, v)[0] * size)
    np.testing.assert_array_equal(one(matrix, 0 * v)[0], 0 * v)


@pytest.mark.slow
def test_a_sample_that_is_solved_densely_leaves_its_batch_mates_alone():
    one, many = gradient_and_tangent(65, Implicit())
    easy, v = system_of_condition(65, 2.0, seed=1)
    hard, w = system_of_condition(65, 1e4, seed=2)
    pulled, _, _ = many(np.stack([easy, hard, easy]), np.stack([v, w, w]))
    wanted = np.linalg.solve(hard.T.astype(float), w)
    assert np.linalg.norm(pulled[1] - wanted) <= 1e-2 * np.linalg.norm(wanted)
    # The same iterations as alone, up to the order in which a batch is summed.
    np.testing.assert_allclose(pulled[0], one(easy, v)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pulled[2], one(easy, w)[0], rtol=1e-4, atol=1e-5)


def test_a_system_that_is_solved_by_no_means_is_said_once_with_its_residual():
    matrix, v = (jnp.asarray(a) for a in system_of_condition(65, 1e6, seed=3))
    solve = jax.jit(
        jax.vmap(
            lambda v: linear_systems.solve(
                lambda x: matrix @ x, v, rtol=None, atol=None, max_steps=5, largest_dense=10
            )
        )
    )
    with pytest.warns(RuntimeWarning, match=r"65 numbers.*residual of \d\.\de[-+]\d+") as said:
        solve(jnp.stack([v, 2 * v]))
        solve(jnp.stack([v, 2 * v]))
        jax.effects_barrier()
    assert len(said) == 1


@pytest.mark.parametrize("solver", [Broyden(1e-6, 0.0), Newton(1e-6, 0.0)])
def test_the_implicit_gradient_does_not_depend_on_the_units_of_the_state(solver):
    """Volts and 1e-8 volts in one state: I - J has entries of 1e8 and 1e-8, and is regular."""
    weights = jnp.array([[0.0, -0.9, 0.3], [0.6, 0.0, -0.2], [0.1, 0.4, 0.5]])

    def slopes(units):
        f = lambda z, a: units * (a * jnp.array([0.3, -0.2, 0.5]) - jnp.tanh(weights @ (z / units)))  # noqa: E731
        solve = lambda a: Equilibrium(solver, max_steps=60)(f, jnp.zeros(3), a).value / units  # noqa: E731
        return jax.jacfwd(solve)(1.0)

    found = jax.jit(jax.vmap(slopes))(jnp.array([[1.0, 1.0, 1.0], [1e4, 1e-4, 1.0]]))
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_gmres_of_half_precision_is_as_good_as_its_products(dtype):
    """In float32, since LAPACK has no least squares of half precision."""
    weights = jnp.array([[0.5, -0.4, 0.2], [0.3, 0.1, -0.6], [-0.2, 0.7, 0.4]])
    layer = Equilibrium(Picard(0.01, 0.01), Implicit(method="gmres"))

    def loss(x):
        return layer(lambda z: weights.astype(dtype) @ z + x, jnp.zeros(3, dtype)).value.sum()

    gradient = jax.jit(jax.grad(loss))(jnp.ones(3, dtype))
    exact = np.linalg.solve(np.eye(3) - np.asarray(weights).T, np.ones(3))
    np.testing.assert_allclose(gradient.astype(float), exact, rtol=0.03)
