"""The layer: what it returns, per sample, and what it says when it fails."""

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
    STATUS,
    Anderson,
    Broyden,
    Direct,
    Dogleg,
    Equilibrium,
    Homotopy,
    Implicit,
    JacobianFree,
    LevenbergMarquardt,
    Newton,
    Picard,
    Unrolled,
)
from qdeq.errors import UserError


def one(layer, f, z0, x=None, **options):
    """One compiled solve."""
    return jax.jit(lambda z0, x: layer(f, z0, x, **options))(z0, x)


def test_a_sample_does_not_depend_on_its_batch_mates(x64):
    f = rational_map(jnp.asarray(symmetric_matrices()))
    # Length 2: spectral radii up to about 1, so that step counts differ widely.
    x = jnp.asarray(rational_inputs(256, length=2.0))
    layer = Equilibrium(Broyden(1e-10, 1e-10), JacobianFree(), max_steps=60)

    @jax.jit
    def batch(x):
        solution = jax.vmap(lambda x: layer(f, jnp.zeros(4), x))(x)
        return solution.value, solution.stats.steps

    value, steps = batch(x)
    assert len(set(np.asarray(steps).tolist())) > 3
    order = np.random.default_rng(0).permutation(256)
    shuffled, shuffled_steps = batch(x[order])
    alone, alone_steps = batch(x[17:18])
    # The same operations on the same numbers, but a product over a batch of another size or order
    # may be summed in another order; the iterations carry that rounding of 1e-16 along.
    np.testing.assert_allclose(shuffled, value[order], rtol=0, atol=1e-9)
    np.testing.assert_allclose(alone[0], value[17], rtol=0, atol=1e-9)
    assert abs(int(alone_steps[0]) - int(steps[17])) <= 1
    assert np.mean(np.asarray(shuffled_steps) == np.asarray(steps)[order]) > 0.95


def test_one_undefined_sample_leaves_the_others_alone():
    f = tanh_map(jnp.asarray(tanh_weights(), jnp.float32))
    layer = Equilibrium(max_steps=30)
    x = jnp.asarray(tanh_inputs(3), jnp.float32)
    run = jax.jit(jax.vmap(lambda x: layer(f, jnp.zeros(5), x)))
    clean, spoiled = run(x), run(x.at[1].set(jnp.nan))
    second = jax.tree.map(lambda leaf: leaf[1], spoiled.stats)
    assert STATUS[second.result] == STATUS[STATUS.nonfinite]
    np.testing.assert_array_equal(spoiled.value[1], jnp.full(5, jnp.nan))  # nothing was measured
    assert not bool(second.converged) and bool(jnp.isinf(second.absolute_residual))
    # Not NaN, which would say that it was done before it began.
    assert jnp.isinf(second.residual_trace[0]) and jnp.isnan(second.residual_trace[1:]).all()
    np.testing.assert_array_equal(spoiled.value[::2], clean.value[::2])


def test_float32_states_stay_float32_where_float64_is_on(x64):
    dtype = jnp.float32
    f = tanh_map(jnp.asarray(tanh_weights(), dtype))
    solution = one(Equilibrium(), f, jnp.zeros(5, dtype), jnp.ones(5, dtype))
    stats = solution.stats
    for array in (solution.value, stats.residual, stats.adjoint_residual, stats.residual_trace):
        assert array.dtype == dtype


@pytest.mark.parametrize("solver", [Dogleg, LevenbergMarquardt])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trust_regions_take_states_of_another_precision_than_the_default(solver, dtype, x64):
    # Optimistix keeps numbers of the default precision: an error of Lineax's, or of JAX's.
    layer = Equilibrium(solver(rtol=0.0, atol=0.02))
    solution = layer(lambda z: 0.5 * jnp.cos(z), jnp.zeros(2, dtype))
    assert solution.stats.converged and solution.value.dtype == dtype
    np.testing.assert_allclose(np.asarray(solution.value, float), 0.4502, atol=0.02)


def test_states_may_be_pytrees_and_scalars_and_x_may_be_missing():
    def f(z):
        return {"a": 0.5 * jnp.cos(z["a"]) + z["b"], "b": 0.1 * jnp.sum(z["a"])}

    solution = one(Equilibrium(), f, {"a": jnp.zeros((2, 3)), "b": jnp.zeros(())})
    image = f(solution.value)
    assert solution.value["a"].shape == (2, 3) and solution.value["b"].shape == ()
    np.testing.assert_allclose(image["a"], solution.value["a"], atol=1e-4)
    scalar = Equilibrium()(lambda z, x: jnp.cos(z * x), 0.0, 1.0)
    np.testing.assert_allclose(scalar.value, 0.739085, atol=1e-5)


def test_the_best_iterate_is_kept_where_the_map_diverges():
    # Residuals of z -> 2 z - 1 double from 1: the start is the best that was seen.
    solution = one(Equilibrium(Picard(), max_steps=8), lambda z: 2 * z - 1, jnp.full(1, 2.0))
    np.testing.assert_array_equal(solution.value, [2.0])
    assert float(solution.stats.absolute_residual) == 1.0
    np.testing.assert_allclose(solution.stats.residual, 1 / 3, rtol=1e-6)
    assert STATUS[solution.stats.result] == STATUS[STATUS.max_steps_reached]


def test_the_statistics_of_a_hand_computed_solve():
    # Picard on z -> z / 2 from 1: residual 2^-(k+1), relative residual 1, until atol is met.
    solution = one(Equilibrium(Picard(0.0, 0.1), max_steps=6), lambda z: 0.5 * z, jnp.ones(1))
    stats = solution.stats
    assert int(stats.steps) == int(stats.evaluations) == 4 and int(stats.jacobians) == 0
    assert float(solution.value[0]) == 0.125 and float(stats.absolute_residual) == 0.0625
    assert bool(stats.converged) and STATUS[stats.result] == STATUS[STATUS.converged]
    np.testing.assert_array_equal(stats.residual_trace, [1, 1, 1, 1, np.nan, np.nan])


def test_newton_counts_its_jacobians():
    stats = one(Equilibrium(Newton()), lambda z: jnp.cos(z), jnp.zeros(2)).stats
    assert int(stats.jacobians) == int(stats.evaluations) == int(stats.steps) > 1


def test_evaluations_count_the_calls_of_f():
    # A state that counts: f adds one to its last entry, which no tolerance can meet.
    def f(z):
        return jnp.array([0.5, 1.0]) * z + jnp.array([0.0, 1.0])

    solution = one(Equilibrium(Picard(), max_steps=7), f, jnp.zeros(2), budget=5)
    assert int(solution.stats.evaluations) == 5
    unrolled = one(Equilibrium(Picard(), Unrolled(), max_steps=7), f, jnp.zeros(2), budget=5)
    assert float(unrolled.value[1]) == 5.0 and int(unrolled.stats.evaluations) == 5


def test_a_traced_budget_is_honoured_without_recompiling():
    traces = []

    def f(z):
        traces.append(None)
        return z + 1.0

    layer = Equilibrium(Picard(rtol=0), max_steps=6)
    run = jax.jit(lambda budget: layer(f, jnp.zeros(1), budget=budget).stats.steps)
    assert [int(run(budget)) for budget in (0, 1, 4, 99)] == [0, 1, 4, 6]
    assert len(traces) == 1


@pytest.mark.parametrize(
    "bounds", [(None, 1.0), (-jnp.ones(3), jnp.ones(3)), ({"b": -1.0}, {"b": 1.0}), ("ab", "cd")]
)
@pytest.mark.parametrize("z0", [jnp.zeros(2), {"a": jnp.zeros(2)}])
def test_bounds_that_do_not_fit_the_state_are_refused_in_one_line(bounds, z0):
    with pytest.raises(UserError, match=r"bounds=.*: give|bounds=.*; give"):
        Equilibrium(bounds=bounds)(lambda z: jax.tree.map(jnp.cos, z), z0)


@pytest.mark.parametrize("layer", [Equilibrium(Picard()), Direct(4)])
@pytest.mark.parametrize("budget", [2.5, "3", True, np.array([1, 2]), jnp.array(2.0)])
def test_a_budget_is_one_whole_number(layer, budget):
    with pytest.raises(UserError, match=r"budget.*: give .*(integer|whole number)"):
        layer(lambda z: z + 1.0, jnp.zeros(1), budget=budget)


def test_a_budget_below_zero_allows_no_step():
    for layer in (Equilibrium(Picard()), Direct(4)):
        solution = layer(lambda z: z + 1.0, jnp.zeros(1), budget=jnp.int32(-1))
        assert int(solution.stats.steps) == 0 and float(solution.value[0]) == 0.0


def test_the_residual_is_infinite_where_nothing_was_measured():
    f = tanh_map(np.eye(2))
    samples, start = jnp.ones((2, 2)).at[1].set(jnp.nan), jnp.zeros(2)
    residual = jax.vmap(lambda x: Equilibrium()(f, start, x))(samples).stats.residual
    assert jnp.isfinite(residual[0]) and jnp.isinf(residual[1])
    assert jnp.isinf(Equilibrium()(f, start, samples[0], budget=0).stats.residual)


def test_bisection_is_refused_in_one_line():
    with pytest.raises(UserError, match="bisection searches"):
        Equilibrium(optx.Bisection(1e-3, 1e-3))


def test_a_stalled_sample_gives_up():
    layer = Equilibrium(Picard(), max_steps=50, stall_steps=3)
    stats = one(layer, lambda z: 1.0 - z, jnp.zeros(1)).stats
    # The first step sets the reference, the next three bring nothing.
    assert int(stats.steps) == 4 and STATUS[stats.result] == STATUS[STATUS.stalled]


def test_the_fallback_continues_only_where_it_is_needed():
    # Picard converges at slope 0.5 (the error halves: 17 steps to 1e-5) and cycles at -1.
    layer = Equilibrium(
        Picard(), JacobianFree(), max_steps=30, fallback=Dogleg(), fallback_steps=20
    )
    slopes = jnp.array([0.5, -1.0, -1.5])
    solve = jax.vmap(lambda a: layer(lambda z: a * z + 1.0, jnp.zeros(2)))
    solution = jax.jit(solve)(slopes)
    steps = np.asarray(solution.stats.steps)
    assert np.all(solution.stats.converged)
    expected = np.broadcast_to(1 / (1 - np.asarray(slopes))[:, None], (3, 2))
    np.testing.assert_allclose(solution.value, expected, atol=1e-3)
    assert 15 <= steps[0] <= 17 and np.all(steps[1:] > 30)
    np.testing.assert_array_equal(solution.stats.jacobians, [0, steps[1] - 30, steps[2] - 30])


def test_every_status_is_a_sentence():
    for item in (
        STATUS.converged,
        STATUS.max_steps_reached,
        STATUS.stalled,
        STATUS.nonfinite,
        STATUS.solver_failed,
    ):
        assert STATUS[item].endswith(".") and STATUS[item][0].isupper()


def test_bounds_may_be_pytrees_like_the_state():
    bounds = ({"a": -1.0, "b": jnp.zeros(2)}, {"a": 1.0, "b": jnp.ones(2)})
    layer = Equilibrium(Picard(), JacobianFree(), max_steps=5, bounds=bounds)
    f = lambda z: jax.tree.map(lambda leaf: leaf + 0.7, z)  # noqa: E731
    solution = one(
        Equilibrium(Picard(), Unrolled(), max_steps=5, bounds=bounds),
        f,
        {"a": jnp.zeros(()), "b": jnp.zeros(2)},
    )
    assert float(solution.value["a"]) == 1.0
    np.testing.assert_array_equal(solution.value["b"], [1.0, 1.0])
    assert layer.bounds == bounds


@pytest.mark.parametrize("solver", [Picard(), Broyden(), Anderson(), Newton()])
def test_real_bounds_of_a_complex_state_bound_both_parts(solver):
    layer = Equilibrium(solver, bounds=(-1.0, 1.0))
    found = one(layer, lambda z: 0.5j * z + 1, jnp.zeros(1, complex))
    assert found.stats.converged
    np.testing.assert_allclose(found.value, [0.8 + 0.4j], atol=1e-4)


def test_direct_applies_f_layers_times_and_differentiates_like_a_loop(x64):
    f = tanh_map(jnp.asarray(tanh_weights()))
    x = jnp.asarray(tanh_inputs(1)[0])

    def by_hand(x):
        z = jnp.zeros(5)
        for _ in range(3):
            z = f(z, x)
        return z

    layer = Direct(layers=3)
    solution = one(layer, f, jnp.zeros(5), x)
    np.testing.assert_allclose(solution.value, by_hand(x), rtol=1e-14)
    slopes = jax.jit(jax.jacrev(lambda x: layer(f, jnp.zeros(5), x).value))(x)
    np.testing.assert_allclose(slopes, jax.jacrev(by_hand)(x), rtol=1e-12, atol=1e-15)
    residual = np.linalg.norm(f(by_hand(x), x) - by_hand(x)) / np.linalg.norm(f(by_hand(x), x))
    assert float(solution.stats.residual) == pytest.approx(float(residual), rel=1e-12)
    assert int(solution.stats.steps) == int(solution.stats.evaluations) == 3
    assert not bool(solution.stats.converged)


def test_direct_honours_a_budget():
    run = jax.jit(lambda budget: Direct(layers=4)(lambda z: z + 1.0, jnp.zeros(1), budget=budget))
    solution = run(2)
    assert float(solution.value[0]) == 2.0 and int(solution.stats.steps) == 2
    np.testing.assert_array_equal(jnp.isnan(solution.stats.residual_trace), [0, 0, 1, 1])


def test_the_same_solve_twice_is_bit_identical():
    f = tanh_map(jnp.asarray(tanh_weights(), jnp.float32))
    layer = Equilibrium(Broyden(), JacobianFree())
    run = jax.jit(jax.grad(lambda x: jnp.sum(layer(f, jnp.zeros(5), x).value)))
    np.testing.assert_array_equal(run(jnp.ones(5)), run(jnp.ones(5)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Equilibrium()(lambda z: z[:2], jnp.zeros(3)), "shapes and dtypes of z0"),
        (lambda: Equilibrium()(lambda z: (z,), jnp.zeros(3)), "f must return the structure"),
        (lambda: Equilibrium()(lambda z: [z], jnp.zeros(3)), "([*]) with leaves float32[3] where"),
        (lambda: Equilibrium()(lambda z: None, jnp.zeros(3)), "f returned no array where"),
        (lambda: Equilibrium()(jnp.zeros(3), jnp.cos), "give a function f(z, x)"),
        (lambda: jax.jit(lambda z: Direct(2)(z, jnp.cos))(jnp.zeros(3)), "give a function f(z, x)"),
        (lambda: Equilibrium()(lambda z: z.astype(jnp.float16), jnp.zeros(3)), "float16"),
        (lambda: Direct(layers=2)(lambda z: z[:2], jnp.zeros(3)), "shapes and dtypes of z0"),
        (lambda: Equilibrium()(lambda z: z, jnp.zeros(3, int)), "floating-point"),
        (lambda: Equilibrium()(lambda z: z, {}), "no array"),
        (lambda: Equilibrium(max_steps=0), "max_steps=0"),
        (lambda: Equilibrium(stall_steps=0), "stall_steps=0"),
        (lambda: Equilibrium(solver="broyden"), "Broyden()"),
        (lambda: Equilibrium(fallback=Newton(), fallback_steps=0), "fallback_steps=0"),
        (lambda: Equilibrium(bounds=1.0), "bounds=1.0"),
        (lambda: Equilibrium(bounds=(1.0, 0.0)), "lower below upper"),
        (lambda: Equilibrium(bounds=(np.zeros((2, 2)), -jnp.eye(2))), "lower below upper"),
        (lambda: Equilibrium(bounds=({"a": 0.0, "b": 1.0}, np.full(2, 0.5))), "lower below upper"),
        (lambda: Equilibrium(bounds=(jnp.nan, jnp.ones(2))), "lower below upper"),
        (lambda: Equilibrium(bounds=(-1, 1 - 2j)), "lower below upper"),
        (lambda: Equilibrium(bounds=("a", 1.0)), "give a pair"),
        (lambda: Broyden(rtol="a"), "rtol='a'"),
        (lambda: Broyden(atol=None), "atol=None"),
        (lambda: Picard(rtol=np.float32(-1)), "give a finite number of at least 0"),
        (lambda: Direct(layers=0), "layers=0"),
        (lambda: Direct(rtol=-1.0), "rtol=-1.0"),
        (lambda: Implicit(method="exact"), "auto, dense, gmres"),
    ],
)
def test_user_errors_name_the_value_and_what_to_do(call, words):
    with pytest.raises(UserError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fallback", [Homotopy(), Newton()])
def test_a_fallback_needs_nothing_but_its_name(fallback):
    # Plain iteration goes back and forth here: the slope at the equilibrium is below -1.
    def f(z):
        return jnp.tanh(0.5 - 3 * z)

    alone = Equilibrium(Picard())(f, jnp.zeros(2))
    helped = Equilibrium(Picard(), fallback=fallback)(f, jnp.zeros(2))
    assert not alone.stats.converged and helped.stats.converged
    np.testing.assert_allclose(helped.value, f(helped.value), atol=2e-5)
