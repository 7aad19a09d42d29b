"""Equilibria on devices: right, no more executions than needed, resumable, within a budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from execution_problems import Failing, simulator, tiny_inputs, tiny_model

from qdeq.devices import Budget, BudgetSpent, DeviceError, Ledger, solve_on_device
from qdeq.equilibrium import (
    Anderson,
    Broyden,
    GeometricShots,
    KrasnoselskiiMann,
    Newton,
    Picard,
    noise_floor,
)
from qdeq.errors import UserError

N_SETTINGS = 2


@pytest.fixture(scope="module")
def exact():
    """`(64, 2)` equilibria by many plain iterations of the model, no solver."""
    with jax.enable_x64(True):
        model, x = tiny_model(), jnp.asarray(tiny_inputs(64))
        f = jax.jit(jax.vmap(model))
        m = jnp.zeros((64, 2))
        for _ in range(100):
            m = f(m, x)
        np.testing.assert_allclose(f(m, x), m, atol=1e-13)
        return np.asarray(m)


@pytest.mark.parametrize("solver", [Anderson(), Broyden()])
def test_every_solver_finds_the_equilibrium(solver, exact, x64):
    model = tiny_model()
    solution = solve_on_device(
        model, simulator(model), tiny_inputs(5), solver=solver, tolerance=1e-10, max_steps=80
    )
    assert solution.converged.all()
    np.testing.assert_allclose(solution.value, exact[:5], atol=1e-9)
    assert np.all(solution.absolute_residual <= 1e-10)
    assert solution.residual.shape == (5,)


def test_only_unfinished_samples_are_submitted(x64):
    model, x = tiny_model(), tiny_inputs(5)
    executor = simulator(model)
    solution = solve_on_device(model, executor, x, solver=Picard(), tolerance=1e-6)
    assert len(set(solution.steps)) > 1
    assert executor.ledger.by_purpose == {"forward": N_SETTINGS * solution.steps.sum()}
    assert executor.ledger.submissions == solution.steps.max()
    # A sample's result is the one that it has alone.
    alone = solve_on_device(model, simulator(model), x[3:4], solver=Picard(), tolerance=1e-6)
    np.testing.assert_allclose(alone.value[0], solution.value[3], atol=1e-12)
    assert alone.steps[0] == solution.steps[3]


def test_averaged_equilibria_converge_as_one_over_the_root_of_the_shots(exact, x64):
    model = tiny_model()
    shots, errors = np.array([100, 1000, 10000]), []
    for n in shots:
        executor = simulator(model, shots=int(n), seed=5)
        solution = solve_on_device(model, executor, tiny_inputs(64), max_steps=60)
        assert solution.converged.all()
        errors.append(np.sqrt(np.mean((solution.value - exact) ** 2)))
        # The default aims at ten averaged evaluations; (I - J)^-1 is of order one here.
        assert errors[-1] < noise_floor(10 * int(n), 2)
    slope = np.polyfit(np.log(shots), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.1  # 128 numbers a point: standard error below 0.03


def test_tolerances_under_shots_are_not_below_the_noise(x64):
    model = tiny_model()
    solution = solve_on_device(
        model, simulator(model, shots=500), tiny_inputs(5), solver=Anderson()
    )
    assert solution.converged.all()
    assert np.all(solution.absolute_residual <= 2 * noise_floor(500, 2))
    assert solution.steps.max() < 15


def test_shots_may_change_from_step_to_step(x64):
    model = tiny_model()
    executor = simulator(model)
    schedule = GeometricShots(100, 400, growth=2)
    solver = KrasnoselskiiMann(rtol=0.0, atol=0.0)
    solve_on_device(model, executor, tiny_inputs(5), solver=solver, shots=schedule, max_steps=4)
    assert executor.ledger.shots == 5 * N_SETTINGS * (100 + 200 + 400 + 400)


@pytest.mark.parametrize("solver", [Anderson(), KrasnoselskiiMann(rtol=0.0, atol=1e-6)])
def test_an_interrupted_solve_goes_on_to_the_same_result(solver, x64):
    model, x = tiny_model(), tiny_inputs(5)
    expected = solve_on_device(model, simulator(model), x, solver=solver)
    executor = Failing(simulator(model), {3, 5})
    state = None
    for _ in range(2):
        with pytest.raises(DeviceError, match="the lid was open") as caught:
            solve_on_device(model, executor, x, solver=solver, state=state)
        state = caught.value.state
        assert state.steps.max() == (3 if executor.n_calls == 4 else 4)
    found = solve_on_device(model, executor, x, solver=solver, state=state)
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.steps, expected.steps)


def test_a_spent_budget_ends_the_solve_with_what_was_found(x64):
    model, x = tiny_model(), tiny_inputs(5)
    expected = solve_on_device(model, simulator(model), x)
    ledger = Ledger(budget=Budget(executions=3 * 5 * N_SETTINGS))
    executor = simulator(model, ledger=ledger)
    part = solve_on_device(model, executor, x)
    assert part.budget_spent
    assert not part.converged.any()
    assert ledger.executions == 3 * 5 * N_SETTINGS
    ledger.budget = None
    found = solve_on_device(model, executor, x, state=part.state)
    np.testing.assert_array_equal(found.value, expected.value)
    assert not found.budget_spent
    with pytest.raises(BudgetSpent):
        solve_on_device(
            model, simulator(model, ledger=Ledger(budget=Budget(executions=3))), tiny_inputs(5)
        )


def test_undefined_inputs_cost_nothing_and_have_the_value_zero(x64):
    model = tiny_model("amplitude")
    executor = simulator(model)
    x = np.concatenate([np.zeros((1, 3)), tiny_inputs(1)])
    solution = solve_on_device(model, executor, x)
    np.testing.assert_array_equal(solution.value[0], 0)
    assert solution.converged.all()
    assert executor.ledger.executions == N_SETTINGS * solution.steps[1]


def test_mistakes(x64):
    model = tiny_model()
    executor = simulator(model)
    with pytest.raises(UserError, match=r"solver=Newton\(\): on a device"):
        solve_on_device(model, executor, tiny_inputs(5), solver=Newton())
    with pytest.raises(UserError, match=r"x has shape \(3,\)"):
        solve_on_device(model, executor, tiny_inputs(1)[0])
    with pytest.raises(UserError, match=r"start has shape \(2, 2\)"):
        solve_on_device(model, executor, tiny_inputs(5), start=np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"tolerance=-1"):
        solve_on_device(model, executor, tiny_inputs(5), tolerance=-1)
    with pytest.raises(UserError, match=r"tolerance=inf"):
        solve_on_device(model, executor, tiny_inputs(5), tolerance=np.inf)
    with pytest.raises(UserError, match=r"tolerance='a'"):
        solve_on_device(model, executor, tiny_inputs(5), tolerance="a")
    for x, kind in (
        (tiny_inputs(5) + 1j, "complex"),
        (np.ma.masked_greater(tiny_inputs(5), 0), "masked"),
        ([["a"] * 3], "no array of numbers"),
    ):
        with pytest.raises(UserError, match=f"x is {kind}: give real numbers"):
            solve_on_device(model, executor, x)
        with pytest.raises(UserError, match=f"start is {kind}: give real numbers"):
            solve_on_device(model, executor, tiny_inputs(5), start=x)
    solution = solve_on_device(model, executor, tiny_inputs(5))
    with pytest.raises(UserError, match=r"state=.*: give the SolveState"):
        solve_on_device(model, executor, tiny_inputs(5), state=solution)
    state = solution.state
    loose = solve_on_device(model, executor, tiny_inputs(5), tolerance=jnp.asarray(0.5))
    assert loose.converged.all() and (loose.absolute_residual <= 0.5).all()
    for solver in (Picard(), KrasnoselskiiMann(), Broyden()):
        with pytest.raises(UserError, match=r"state is not of a solve by .*\(\)"):
            solve_on_device(model, executor, tiny_inputs(5), solver=solver, state=state)
    with pytest.raises(UserError, match=r"state is of 5 samples and x has 2"):
        solve_on_device(model, executor, tiny_inputs(2), state=state)
