"""A quantum equilibrium as a layer of an Equinox model, trained with Optax on real digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import qdeq
import qdeq.data


class Model(eqx.Module):
    layer: qdeq.QuantumEquilibrium
    head: eqx.nn.Linear

    def __init__(self, key):
        circuit_key, head_key = jax.random.split(key)
        self.layer = qdeq.QuantumEquilibrium(qdeq.paper_model(key=circuit_key))
        self.head = eqx.nn.Linear(4, 4, key=head_key)

    def __call__(self, x):
        return self.head(self.layer(x))


def loss(model, x, y):
    logits = jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def main():
    data = qdeq.data.load("digits-4")
    x, y = jnp.asarray(data.train.x), jnp.asarray(data.train.y)
    model = Model(jax.random.key(0))
    optimiser = optax.adam(0.03)
    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, rows):
        gradient = eqx.filter_grad(loss)(model, x[rows], y[rows])
        changes, state = optimiser.update(gradient, state)
        return eqx.apply_updates(model, changes), state

    for number in range(150):
        rows = jax.random.randint(jax.random.key(number), (128,), 0, len(x))
        model, state = step(model, state, rows)

    test_x, test_y = jnp.asarray(data.test.x), jnp.asarray(data.test.y)
    right = jnp.argmax(jax.vmap(model)(test_x), axis=1) == test_y
    converged = jax.vmap(model.layer.solve)(test_x).stats.converged
    print(f"test accuracy {right.mean():.3f}, {converged.mean():.0%} of the equilibria converged")
    return float(right.mean())


if __name__ == "__main__":
    main()
