"""Step budgets: values, ranges and dtypes."""

import jax
import jax.numpy as jnp
import pytest

from qdeq.equilibrium import ConstantSteps, LinearSteps, RandomSteps
from qdeq.errors import UserError

KEY = jax.random.key(0)


def test_constant_steps_stay():
    budget = ConstantSteps(7)(KEY, 3)
    assert int(budget) == 7 and budget.dtype == jnp.int32


def test_random_steps_draw_every_value_down_to_steps_minus_minus_and_no_other():
    draws = jax.vmap(lambda key: RandomSteps(10, minus=2)(key, 0))(jax.random.split(KEY, 200))
    assert set(draws.tolist()) == {8, 9, 10} and draws.dtype == jnp.int32


def test_linear_steps_go_from_first_to_last_and_stay_there():
    schedule = LinearSteps(4, 12, over=4)
    budgets = jax.jit(jax.vmap(lambda epoch: schedule(KEY, epoch)))(jnp.arange(6))
    assert budgets.tolist() == [4, 6, 8, 10, 12, 12] and budgets.dtype == jnp.int32
    assert int(LinearSteps(5, 2, over=1)(KEY, 9)) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConstantSteps(0),
        lambda: RandomSteps(5, minus=5),
        lambda: RandomSteps(5, minus=-1),
        lambda: LinearSteps(0, 5, over=2),
        lambda: LinearSteps(1, 5, over=0),
    ],
)
def test_a_schedule_that_leaves_no_step_is_a_user_error(make):
    with pytest.raises(UserError):
        make()
