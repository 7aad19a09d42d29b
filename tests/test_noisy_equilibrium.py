"""Equilibria of a random f: fresh noise in every step, honest statistics, averages."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equilibrium_problems import tanh_inputs, tanh_map, tanh_weights

from qdeq.equilibrium import (
    STATUS,
    Broyden,
    ConstantShots,
    Direct,
    Equilibrium,
    GeometricShots,
    Implicit,
    JacobianFree,
    KrasnoselskiiMann,
    Newton,
    Picard,
    Unrolled,
    noise_floor,
)
from qdeq.equilibrium.shots import as_schedule
from qdeq.errors import UserError

KEYS = jax.random.split(jax.random.key(0), 400)
WEIGHTS = tanh_weights(norm=0.5)
EXACT = tanh_map(jnp.asarray(WEIGHTS, jnp.float32))
X = jnp.asarray(tanh_inputs(1)[0], jnp.float32)
STAR = Equilibrium(Newton(1e-7, 1e-7), JacobianFree())(EXACT, jnp.zeros(5), X).value
NEVER = {"rtol": 0.0, "atol": 0.0}


def f(z, x, *, key, shots):
    """A measurement of tanh(W z + x): normal errors of the variance that shots leave."""
    m = EXACT(z, x)
    return m + jnp.sqrt((1 - m**2) / shots) * jax.random.normal(key, m.shape)


@eqx.filter_jit
def compiled(solver, shots, max_steps):
    layer = Equilibrium(solver, JacobianFree(), max_steps=max_steps)
    return jax.vmap(lambda key: layer(f, jnp.zeros(5), X, key=key, shots=shots))(KEYS)


def solve(solver, shots, *, max_steps=30):
    """Solutions for every key; tolerances and numbers of shots are traced, to compile once."""
    solver = jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if eqx.is_inexact_array_like(leaf) else leaf, solver
    )
    if isinstance(shots, int):
        shots = ConstantShots(jnp.asarray(shots))
    return compiled(solver, shots, max_steps)


def error(solution):
    """Root-mean-square distance from the equilibrium."""
    return float(jnp.sqrt(jnp.mean(jnp.sum((solution.value - STAR) ** 2, axis=-1))))


@pytest.fixture(scope="module")
def averaged():
    """Krasnosel'skii-Mann at two numbers of shots."""
    return {shots: solve(KrasnoselskiiMann(**NEVER), shots) for shots in (100, 10_000)}


def test_every_evaluation_has_a_fresh_key():
    # Residuals |new - old| / |new| of independent draws: a key used twice would give a zero.
    def draw(z, *, key):
        return jax.random.normal(key, z.shape)

    layer = Equilibrium(Picard(**NEVER), JacobianFree(), max_steps=12)
    solve_one = jax.jit(lambda key: layer(draw, jnp.zeros(3), key=key))
    stats = solve_one(KEYS[0]).stats
    drawn = np.asarray(stats.residual_trace)
    assert len(np.unique(drawn)) == 12 and drawn.min() > 0
    again, other = solve_one(KEYS[0]), solve_one(KEYS[1])
    np.testing.assert_array_equal(again.stats.residual_trace, drawn)
    # From z = 0 the first relative residual is 1 whatever is drawn.
    assert not np.any(np.asarray(other.stats.residual_trace)[1:] == drawn[1:])
    # The reported residual is a draw of its own.
    assert float(stats.residual) not in drawn.tolist()
    assert int(stats.evaluations) == 13 and int(stats.steps) == 12


def test_the_average_of_a_damped_iteration_falls_as_the_root_of_all_its_shots(averaged):
    jacobian = np.asarray(1 - STAR**2, float)[:, None] * WEIGHTS
    propagated = np.linalg.inv(np.eye(5) - jacobian)
    variance = np.asarray(1 - STAR**2, float)
    for shots, solution in averaged.items():
        # (I - J)^-1 times the mean of the 22 errors of evaluations after the burn-in.
        expected = np.sqrt(np.trace((propagated * variance) @ propagated.T) / (22 * shots))
        assert error(solution) == pytest.approx(expected, rel=0.15)
    assert error(averaged[100]) / error(averaged[10_000]) == pytest.approx(10, rel=0.15)


def test_the_last_iterate_stays_as_wrong_as_one_evaluation(averaged):
    # Twice as many steps as the average has.
    floor = float(noise_floor(100, 5, value=STAR))
    picard = solve(Picard(**NEVER), 100, max_steps=60)
    assert error(picard) > 0.5 * floor > 2 * error(averaged[100])


def test_a_residual_that_was_chosen_as_the_smallest_is_measured_again():
    solution = solve(Picard(**NEVER), 100)
    scale = np.linalg.norm(np.asarray(STAR))
    chosen = np.nanmin(np.asarray(solution.stats.residual_trace), axis=1) * scale
    reported = np.asarray(solution.stats.absolute_residual)
    # What an independent measurement at the same point gives on average, and the biased number.
    true = np.linalg.norm(np.asarray(jax.vmap(lambda z: EXACT(z, X))(solution.value)) -
                          np.asarray(solution.value), axis=1)  # fmt: skip
    floor = float(noise_floor(100, 5, value=STAR))
    honest = np.sqrt(np.mean(true**2) + floor**2)
    assert np.sqrt(np.mean(reported**2)) == pytest.approx(honest, rel=0.1)
    assert np.sqrt(np.mean(chosen**2)) < 0.75 * honest


def test_the_estimate_of_the_average_tells_its_true_residual(averaged):
    for solution in averaged.values():
        image = jax.vmap(lambda z: EXACT(z, X))(solution.value)
        true = np.linalg.norm(np.asarray(image - solution.value), axis=1)
        told = np.asarray(solution.stats.absolute_residual)
        # On the safe side: spread and mean are both in it, and steps share some of their noise.
        assert 1 < np.sqrt(np.mean(told**2) / np.mean(true**2)) < 2
        assert np.all(solution.stats.evaluations == 30)


def test_it_stops_at_a_stated_number_of_sampling_errors():
    floor = noise_floor(1000, 5)
    stopped = solve(Picard(rtol=0.0, atol=2 * floor), 1000)
    steps = np.asarray(stopped.stats.steps)
    assert 2 < steps.mean() < 10
    assert np.mean(stopped.stats.converged) > 0.75
    # Those that an independent measurement did not confirm say so.
    not_confirmed = np.asarray(stopped.stats.absolute_residual) > 2 * floor
    np.testing.assert_array_equal(~np.asarray(stopped.stats.converged), not_confirmed)
    tight = solve(Picard(rtol=0.0, atol=0.5 * floor), 1000, max_steps=60)
    ended = np.asarray(tight.stats.steps) < 60
    assert ended.any() and np.mean(np.asarray(tight.stats.converged)[ended]) < 0.3
    averaged = solve(KrasnoselskiiMann(rtol=0.0, atol=noise_floor(8 * 1000, 5)), 1000)
    steps = np.asarray(averaged.stats.steps)
    assert np.mean(averaged.stats.converged) > 0.9 and steps.min() >= 12 and steps.mean() < 28
    assert error(averaged) < floor / np.sqrt(4)


def test_an_unconfirmed_residual_is_named():
    # f(z) is z in every second evaluation: met once, confirmed half of the times.
    def unlucky(z, *, key):
        value = jax.random.uniform(key, z.shape)
        return z + jnp.where(value < 0.5, 0.0, 1.0)

    layer = Equilibrium(Picard(0.0, 1e-3), JacobianFree(), max_steps=20)
    stats = jax.jit(jax.vmap(lambda key: layer(unlucky, jnp.zeros(1), key=key).stats))(KEYS[:8])
    results = [jax.tree.map(lambda leaf, i=i: leaf[i], stats.result) for i in range(8)]
    told = {STATUS[r]: bool(c) for r, c in zip(results, stats.converged, strict=True)}
    assert told.get(STATUS[STATUS.unconfirmed]) is False
    assert told.get(STATUS[STATUS.converged], True) is True


def test_shots_of_a_schedule_reach_f_and_are_added_up():
    schedule = GeometricShots(10, 1000, growth=2)
    seen = jax.jit(jax.vmap(schedule))(jnp.arange(10))
    assert seen.tolist() == [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]
    assert int(schedule(10_000)) == 1000 and schedule.most == 1000
    assert [int(ConstantShots(7)(step)) for step in (0, 5)] == [7, 7]

    def tell(z, *, key, shots):
        del key
        return jnp.zeros_like(z) + shots

    layer = Equilibrium(Picard(**NEVER), JacobianFree(), max_steps=4)
    # The value before the last is the third step's, and the last measured point has its shots.
    solution = layer(tell, jnp.zeros(1), key=KEYS[0], shots=schedule)
    assert float(solution.stats.shots) == 10 + 20 + 40 + 80 + 80
    assert solution.stats.residual_trace.shape == (4,)
    averaged = Equilibrium(KrasnoselskiiMann(**NEVER), JacobianFree(), max_steps=4)
    assert float(averaged(tell, jnp.zeros(1), key=KEYS[0], shots=schedule).stats.shots) == 150


@pytest.mark.slow
def test_few_shots_early_cost_less_and_lose_little():
    growing = GeometricShots(125, 8000, growth=2)
    late = Picard(rtol=0.0, atol=2 * noise_floor(growing.most, 5))
    few, many = solve(late, growing), solve(late, growing.most)
    assert np.mean(few.stats.shots) < 0.75 * np.mean(many.stats.shots)
    assert error(few) < 1.4 * error(many)


def test_the_average_weighs_evaluations_by_their_shots():
    # Equal totals: without weights the first evaluations, of one shot each, would spoil the mean.
    schedule = GeometricShots(1, 10_000, growth=4)
    solution = solve(KrasnoselskiiMann(**NEVER, burn_in=2), schedule, max_steps=20)
    total = sum(int(schedule(step)) for step in range(2, 20))
    assert error(solution) < 2 * float(noise_floor(total, 5, value=STAR))


@pytest.mark.slow
def test_gradients_have_noise_and_shots_of_their_own():
    @jax.custom_jvp
    def measured(z, x, draw):
        return EXACT(z, x)

    @measured.defjvp
    def _(primals, tangents):
        z, x, draw = primals
        _, tangent = jax.jvp(EXACT, (z, x), tangents[:2])
        return EXACT(z, x), tangent * draw

    def random(z, x, *, key, shots):
        draw = 1 + jax.random.normal(key) / jnp.sqrt(shots)
        return measured(z, x, jax.lax.stop_gradient(draw))

    layer = Equilibrium(Newton(1e-6, 1e-6), JacobianFree(), max_steps=8)

    def slope(key, gradient_shots):
        def loss(x):
            return layer(
                random, jnp.zeros(5), x, key=key, shots=10**6, gradient_shots=gradient_shots
            ).value[0]

        return jax.grad(loss)(X)[0]

    spread = {}
    for shots in (100, 10_000):
        slopes = np.asarray(jax.jit(jax.vmap(lambda key, s=shots: slope(key, s)))(KEYS))
        spread[shots] = slopes.std() / abs(slopes.mean())
    assert spread[100] == pytest.approx(0.1, rel=0.2)
    assert spread[10_000] == pytest.approx(0.01, rel=0.2)


@pytest.mark.slow
def test_the_implicit_gradient_of_a_random_f_is_the_exact_one_on_average():
    def target(x):
        value = Equilibrium(Newton(1e-7, 1e-7))(EXACT, jnp.zeros(5), x).value
        return jnp.sum(value**2)

    def loss(x, key):
        layer = Equilibrium(KrasnoselskiiMann(**NEVER), Implicit())
        return jnp.sum(layer(f, jnp.zeros(5), x, key=key, shots=10_000).value ** 2)

    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(X, KEYS[:100])
    # f's own noise depends on z, which its derivative sees: 1 / sqrt(10^4) each, averaged.
    np.testing.assert_allclose(gradients.mean(axis=0), jax.grad(target)(X), rtol=0, atol=0.01)


def test_direct_draws_fresh_noise_for_every_application():
    def draw(z, *, key, shots):
        return z + jax.random.normal(key, z.shape) / jnp.sqrt(shots)

    run = jax.jit(jax.vmap(lambda key: Direct(4)(draw, jnp.zeros(1), key=key, shots=25)))
    solution = run(KEYS)
    # Four independent draws add up: variance 4 / 25.
    assert float(jnp.var(solution.value)) == pytest.approx(4 / 25, rel=0.2)
    assert np.all(solution.stats.shots == 100) and np.all(solution.stats.evaluations == 4)


def test_without_a_key_krasnoselskii_mann_is_a_damped_iteration_and_returns_its_best():
    layer = Equilibrium(KrasnoselskiiMann(0.0, 1e-6), JacobianFree(), max_steps=60)
    solution = layer(EXACT, jnp.zeros(5), X)
    np.testing.assert_allclose(solution.value, STAR, rtol=0, atol=3e-6)
    assert bool(solution.stats.converged) and float(solution.stats.shots) == 0


@pytest.mark.slow
def test_step_sizes_that_shrink_still_converge():
    solver = KrasnoselskiiMann(**NEVER, decay="inverse-sqrt", burn_in=15)
    assert error(solve(solver, 1000, max_steps=60)) < 0.4 * float(noise_floor(1000, 5, value=STAR))


def test_the_noise_floor_is_the_length_of_a_sampling_error():
    draws = jax.vmap(lambda key: f(STAR, X, key=key, shots=50) - EXACT(STAR, X))(KEYS)
    length = float(jnp.sqrt(jnp.mean(jnp.sum(draws**2, axis=-1))))
    assert float(noise_floor(50, 5, value=STAR)) == pytest.approx(length, rel=0.1)
    assert noise_floor(50, 5) == pytest.approx(np.sqrt(0.1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: KrasnoselskiiMann(step_size=0.0), "step_size=0.0: give a number in"),
        (lambda: KrasnoselskiiMann(decay="linear"), "choose one of constant, inverse-sqrt"),
        (lambda: KrasnoselskiiMann(burn_in=-1), "burn_in=-1"),
        (lambda: ConstantShots(0), "shots=0"),
        (lambda: ConstantShots(2**25), "at most 16777216"),
        (lambda: ConstantShots(jnp.asarray(9.5)), "shots has the type float32"),
        (lambda: as_schedule(jnp.asarray([9, 9])), "shots has the shape"),
        (lambda: GeometricShots(100, 10), "last=10 with first=100"),
        (lambda: GeometricShots(10, 100, growth=0.5), "growth=0.5"),
        (lambda: noise_floor(0, 4), "shots=0"),
        (lambda: noise_floor("many", 4), "shots='many'"),
        (lambda: noise_floor(100, -1), "n=-1"),
        (lambda: noise_floor(100, 4, value=STAR), "value has the shape"),
        (lambda: Equilibrium()(EXACT, jnp.zeros(5), X, shots=10), "shots without a key"),
        (lambda: Direct()(EXACT, jnp.zeros(5), X, shots=10), "shots without a key"),
        (lambda: Equilibrium()(f, jnp.zeros(5), X, key=KEYS[0], gradient_shots=5), "give both"),
        (
            lambda: Equilibrium(adjoint=Unrolled())(f, jnp.zeros(5), X, key=KEYS[0], shots=9),
            "adjoint=Unrolled",
        ),
        (
            lambda: Equilibrium(fallback=Broyden(), fallback_steps=3)(
                f, jnp.zeros(5), X, key=KEYS[0], shots=9
            ),
            "fallback",
        ),
    ],
)
def test_what_makes_no_sense_is_a_user_error(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_the_estimated_residual_of_an_average_does_not_depend_on_units():
    """Squares of 1e-21 are 0 in float32, which looked like convergence, and of 1e21 infinite."""
    layer = Equilibrium(KrasnoselskiiMann(rtol=0.02, atol=0.0), JacobianFree(), max_steps=200)

    def solved(unit):
        def f(z, key):
            return unit * (0.5 * z / unit + 1 + 0.1 * jax.random.normal(key, (2,)))

        stats = layer(f, jnp.zeros(2), key=jax.random.key(0)).stats
        return stats.steps, stats.residual

    steps, residual = jax.jit(jax.vmap(solved))(jnp.array([1.0, 1e-21, 1e21]))
    assert 12 < steps[0] < 200 and (steps == steps[0]).all()
    np.testing.assert_allclose(residual, residual[0], rtol=1e-3)
