"""One layer from features to the equilibrium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq


@pytest.fixture(scope="module")
def model():
    return qdeq.paper_model(key=jax.random.key(0))


def test_it_is_the_layer_on_the_bound_model(model):
    x = jax.random.normal(jax.random.key(1), (16,))
    expected = qdeq.Equilibrium()(model.prepare().bind(x), jnp.zeros(4))
    found = qdeq.QuantumEquilibrium(model).solve(x)
    np.testing.assert_array_equal(found.value, expected.value)
    assert found.stats.converged
    applied = qdeq.QuantumEquilibrium(model, qdeq.Direct(layers=2))(x)
    np.testing.assert_allclose(applied, model(model(jnp.zeros(4), x), x), atol=1e-6)


def test_it_starts_where_it_is_told(model):
    x = jax.random.normal(jax.random.key(1), (16,))
    solved = qdeq.QuantumEquilibrium(model)(x)
    again = qdeq.QuantumEquilibrium(model, start=solved, solver=qdeq.Broyden(1e-4, 1e-4))
    assert again.solve(x).stats.steps == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((qdeq.Equilibrium(),), {"max_steps": 3}, "max_steps beside layer=Equilibrium"),
        ((7,), {}, "layer=7"),
        ((qdeq.NetworkEquilibrium(),), {}, "for a QuantumModel give Equilibrium or Direct"),
        ((), {"solvr": 3}, "solvr"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(model, arguments, options, message):
    with pytest.raises(qdeq.UserError, match=message):
        qdeq.QuantumEquilibrium(model, *arguments, **options)
    with pytest.raises(qdeq.UserError, match="model"):
        qdeq.QuantumEquilibrium(7)
