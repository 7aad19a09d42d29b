"""Every JAX transformation passes an equilibrium, whatever kind of number it is asked about.

The equilibrium is z = cos(z x) / 2, whose derivatives are written down by hand.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.equilibrium import (
    Broyden,
    Direct,
    Equilibrium,
    Implicit,
    JacobianFree,
    Neumann,
    Picard,
    Shine,
    Unrolled,
)
from qdeq.errors import UserError

# Picard compiles fastest. The map contracts by 0.2: 20 steps reach rounding.
LAYER = Equilibrium(Picard(1e-7, 1e-7), Implicit(), max_steps=20)


def f(z, x):
    return 0.5 * jnp.cos(z * x)


def by_hand(x):
    """The equilibrium, dz/dx and its parts: df/dx and J = df/dz."""
    z = 0.0
    for _ in range(100):
        z = 0.5 * math.cos(z * x)
    slope, jacobian = -0.5 * math.sin(z * x) * z, -0.5 * math.sin(z * x) * x
    return z, slope / (1 - jacobian), slope, jacobian


def value(x, layer=LAYER):
    return layer(f, jnp.zeros(1), x).value[0]


# Each gives dz/dx at x.
DERIVATIVES = {
    "grad": jax.grad(value),
    "value_and_grad": lambda x: jax.value_and_grad(value)(x)[1],
    "jacfwd": jax.jacfwd(value),
    "jacrev": jax.jacrev(value),
    "grad of jit": jax.grad(jax.jit(value)),
    "jit of grad": jax.jit(jax.grad(value)),
    "jvp": lambda x: jax.jvp(value, (x,), (x,))[1] / x,
    "vjp": lambda x: jax.vjp(value, x)[1](jnp.ones(()))[0],
    "linearize": lambda x: jax.linearize(value, x)[1](x) / x,
    "checkpoint": jax.grad(jax.checkpoint(value)),
    "jit around grad": lambda x: jax.jit(lambda: jax.grad(value)(x))(),
    "jit around jvp": lambda x: jax.jit(lambda: jax.jvp(value, (x,), (x,))[1])() / x,
    "jit around vmap around jacfwd": lambda x: jax.jit(
        jax.vmap(lambda _: jax.jacfwd(value)(x), axis_size=2, in_axes=None)
    )(0)[1],
    "scan over grad": lambda x: jax.lax.scan(
        lambda total, _: (total + jax.grad(value)(x) / 2, None), 0.0, length=2
    )[0],
    "vmap of grad": lambda x: jax.vmap(jax.grad(value))(jnp.stack([jnp.asarray(x)] * 2))[1],
    "grad of vmap": lambda x: jax.grad(
        lambda x: jnp.mean(jax.vmap(value, in_axes=None, axis_size=2)(x))
    )(x),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_every_transformation_takes_a_python_number(name):
    # float32 and a residual of 1e-7: six digits.
    np.testing.assert_allclose(DERIVATIVES[name](1.0), by_hand(1.0)[1], rtol=1e-5)


def test_second_derivatives_take_a_python_number():
    h = 1e-4
    expected = (by_hand(1 + h)[1] - by_hand(1 - h)[1]) / (2 * h)
    np.testing.assert_allclose(jax.hessian(value)(1.0), expected, rtol=1e-4)
    inside = jax.jit(lambda: jax.hessian(value)(1.0))()
    np.testing.assert_allclose(inside, expected, rtol=1e-4)


NUMBERS = {
    "python float": 1.3,
    "numpy float32": np.float32(1.3),
    "numpy float64": np.float64(1.3),
    "numpy array": np.array(1.3),
    "jax array": jnp.asarray(1.3, jnp.float32),
    "numpy vector": np.array([1.3]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_kind_of_number_is_differentiated(kind):
    x = NUMBERS[kind]
    loss = lambda x: jnp.sum(LAYER(f, jnp.zeros(1), x).value)  # noqa: E731
    np.testing.assert_allclose(jnp.ravel(jax.grad(loss)(x))[0], by_hand(1.3)[1], rtol=1e-5)
    # As a closure, and as the factor of a closure.
    closed = lambda a: jnp.sum(LAYER(lambda z: f(z, a), jnp.zeros(1)).value)  # noqa: E731
    np.testing.assert_allclose(jnp.ravel(jax.grad(closed)(x))[0], by_hand(1.3)[1], rtol=1e-5)


ADJOINTS = {
    "implicit": (Picard(1e-7, 1e-7), Implicit(), lambda exact, slope, j: exact),
    "implicit gmres": (Picard(1e-7, 1e-7), Implicit(method="gmres"), lambda e, slope, j: e),
    "jacobian-free": (Picard(1e-7, 1e-7), JacobianFree(), lambda exact, slope, j: slope),
    "neumann": (Picard(1e-7, 1e-7), Neumann(2), lambda exact, slope, j: (1 + j) * slope),
    # In one dimension the last secant of the forward solve is nearly the derivative.
    "shine": (Broyden(1e-6, 1e-6), Shine(), lambda exact, slope, j: exact),
    "unrolled": (Picard(0.0, 1e-7), Unrolled(), lambda exact, slope, j: exact),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "implicit gmres")) for n in ADJOINTS]
)
def test_every_adjoint_passes_python_numbers_both_ways(name):
    solver, adjoint, expected = ADJOINTS[name]
    of_x = functools.partial(value, layer=Equilibrium(solver, adjoint, max_steps=20))
    right = expected(*by_hand(1.0)[1:])
    tolerance = 2e-2 if name == "shine" else 1e-5
    np.testing.assert_allclose(jax.grad(of_x)(1.0), right, rtol=tolerance)
    np.testing.assert_allclose(jax.jvp(of_x, (1.0,), (1.0,))[1], right, rtol=tolerance)


def test_direct_passes_python_numbers():
    layers = functools.partial(value, layer=Direct(layers=20))
    np.testing.assert_allclose(jax.grad(layers)(1.0), by_hand(1.0)[1], rtol=1e-5)


def test_a_mixed_pytree_is_differentiated_where_it_has_numbers():
    def mixed(z, x):
        assert x["name"] == "cosine" and x["twice"] is False and x["nothing"] is None
        noise = 0.0 * jax.random.normal(x["key"], z.shape)
        total = sum(0.5 / x["count"] * jnp.cos(z * x["a"]) for _ in range(x["count"]))
        return total + x["b"] * x["more"][0] + noise

    rest = {"name": "cosine", "twice": False, "nothing": None, "key": jax.random.key(0)}

    def loss(parts):
        x = {**rest, "count": 3, **parts, "more": (1, np.ones(1))}
        return LAYER(mixed, jnp.zeros(1), x).value[0]

    gradient = jax.grad(loss)({"a": 1.0, "b": 0.0})
    z, exact, slope, _ = by_hand(1.0)
    np.testing.assert_allclose(gradient["a"], exact, rtol=1e-5)
    np.testing.assert_allclose(gradient["b"], exact / slope, rtol=1e-5)
    np.testing.assert_allclose(loss({"a": 1.0, "b": 0.0}), z, rtol=1e-5)


def test_complex_numbers_in_x_and_in_a_closure_are_differentiated():
    point = 0.6 + 0.8j
    size = lambda x: jnp.abs(x)  # noqa: E731  one here: f depends on the absolute value
    gradient = jax.grad(lambda x: LAYER(lambda z, x: f(z, size(x)), jnp.zeros(1), x).value[0])
    # JAX' convention: the gradient of a real function of x + iy is d/dx - i d/dy.
    np.testing.assert_allclose(gradient(point), by_hand(1.0)[1] * (0.6 - 0.8j), rtol=1e-5)
    closed = jax.grad(lambda x: LAYER(lambda z: f(z, size(x)), jnp.zeros(1)).value[0])
    np.testing.assert_allclose(closed(point), by_hand(1.0)[1] * (0.6 - 0.8j), rtol=1e-5)


def test_a_complex_state_is_solved_in_its_real_and_imaginary_parts(x64):
    layer = Equilibrium(Broyden(1e-13, 1e-13), Implicit(), max_steps=40)
    matrix = 0.3 * np.array([[1.0, 1j], [0.5j, -1.0]])

    def both(z, x):
        return {"a": jnp.tanh(matrix @ z["a"] + z["b"] * x), "b": 0.2 * jnp.abs(z["a"][0])}

    start = {"a": jnp.zeros(2, complex), "b": 0.0}
    solve = jax.jit(lambda x: layer(both, start, x).value)
    solution = solve(1.0 + 0.5j)
    image = both(solution, 1.0 + 0.5j)
    assert solution["a"].dtype == complex and solution["b"].dtype == float
    np.testing.assert_allclose(image["a"], solution["a"], atol=1e-12)
    assert float(jnp.abs(solution["b"])) > -1
    loss = lambda x: jnp.sum(jnp.abs(solve(x)["a"] - 0.1) ** 2)  # noqa: E731
    gradient = complex(jax.grad(loss)(1.0 + 0.5j))
    h = 1e-6
    real = (loss(1.0 + h + 0.5j) - loss(1.0 - h + 0.5j)) / (2 * h)
    imaginary = (loss(1.0 + (0.5 + h) * 1j) - loss(1.0 + (0.5 - h) * 1j)) / (2 * h)
    np.testing.assert_allclose(gradient, complex(real, -imaginary), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("z0", [0.0, 0, np.float32(0), np.zeros(1), [0.0], {"z": 0}])
def test_the_start_may_be_any_number(z0):
    wrapped = lambda z, x: jax.tree.map(lambda leaf: f(leaf, x), z)  # noqa: E731
    found = jax.tree.leaves(LAYER(wrapped, z0, 1.0).value)
    np.testing.assert_allclose(jnp.ravel(found[0])[0], by_hand(1.0)[0], rtol=1e-5)


def test_the_start_as_a_python_number_has_no_gradient():
    assert float(jax.grad(lambda z0: LAYER(f, z0, 1.0).value)(0.5)) == 0.0


@pytest.mark.parametrize(
    ("z0", "words"),
    [
        ({}, "no array"),
        (None, "no array"),
        (jnp.zeros(0), "no number"),
        ({"a": jnp.zeros((0, 3))}, "no number"),
        ("zero", "'zero'"),
        (True, "bool"),
    ],
)
@pytest.mark.parametrize("layer", [LAYER, Direct()])
def test_a_start_without_numbers_is_one_clear_line(z0, words, layer):
    for call in (lambda: layer(lambda z: z, z0), lambda: jax.jit(lambda: layer(lambda z: z, z0))()):
        with pytest.raises(UserError) as caught:
            call()
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_scan_over_layers_is_differentiated():
    @jax.grad
    def through(x):
        step = lambda z, _: (LAYER(f, z, x).value, None)  # noqa: E731
        return jax.lax.scan(step, jnp.zeros(1), None, length=2)[0][0]

    np.testing.assert_allclose(through(1.0), by_hand(1.0)[1], rtol=1e-5)


def test_random_functions_pass_python_numbers():
    noisy = lambda z, x, key: f(z, x) + 1e-7 * jax.random.normal(key, z.shape)  # noqa: E731
    of_x = lambda x: LAYER(noisy, jnp.zeros(1), x, key=jax.random.key(0)).value[0]  # noqa: E731
    np.testing.assert_allclose(jax.grad(of_x)(1.0), by_hand(1.0)[1], rtol=1e-4)
    np.testing.assert_allclose(jax.jvp(of_x, (1.0,), (1.0,))[1], by_hand(1.0)[1], rtol=1e-4)


@jax.custom_vjp
def own_rule(z, x):
    return f(z, x)


def _backward(kept, cotangent):
    z, x = kept
    common = -0.5 * jnp.sin(z * x) * cotangent
    return common * x, jnp.sum(common * z)


own_rule.defvjp(lambda z, x: (f(z, x), (z, x)), _backward)


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", [Implicit(), Implicit(method="gmres"), Neumann(2)])
def test_a_function_with_a_reverse_derivative_only_is_differentiated_in_reverse(adjoint):
    own = Equilibrium(Picard(1e-7, 1e-7), adjoint, max_steps=20)
    through = lambda g: jax.grad(lambda x: own(g, jnp.zeros(1), x).value[0])(1.0)  # noqa: E731
    np.testing.assert_allclose(through(own_rule), through(f), rtol=1e-5)


def test_newton_solves_a_function_with_a_reverse_derivative_only():
    from qdeq.equilibrium import Newton

    solution = Equilibrium(Newton(), JacobianFree())(own_rule, jnp.zeros(1), 1.0)
    np.testing.assert_allclose(solution.value, by_hand(1.0)[0], rtol=1e-5)
