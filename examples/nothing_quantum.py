"""A deep equilibrium model without anything quantum: a layer of tanh units on real digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import qdeq
import qdeq.data


class Model(eqx.Module):
    inner: eqx.nn.Linear
    inputs: eqx.nn.Linear
    head: eqx.nn.Linear
    layer: qdeq.Equilibrium

    def __init__(self, units, key):
        keys = jax.random.split(key, 3)
        self.inner = eqx.nn.Linear(units, units, use_bias=False, key=keys[0])
        self.inputs = eqx.nn.Linear(16, units, key=keys[1])
        self.head = eqx.nn.Linear(units, 4, key=keys[2])
        self.layer = qdeq.Equilibrium(qdeq.Anderson(), max_steps=50)

    def solve(self, x):
        def f(z, x):
            return jnp.tanh(0.5 * self.inner(z) + self.inputs(x))

        return self.layer(f, jnp.zeros(self.inner.in_features), x)

    def __call__(self, x):
        return self.head(self.solve(x).value)


def main():
    data = qdeq.data.load("digits-4")
    x, y = jnp.asarray(data.train.x), jnp.asarray(data.train.y)
    model = Model(24, jax.random.key(0))
    optimiser = optax.adam(0.01)
    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        def loss(model):
            logits = jax.vmap(model)(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        changes, state = optimiser.update(eqx.filter_grad(loss)(model), state)
        return eqx.apply_updates(model, changes), state

    for _ in range(100):
        model, state = step(model, state)
    right = jnp.argmax(jax.vmap(model)(jnp.asarray(data.test.x)), axis=1) == data.test.y
    print(f"test accuracy {right.mean():.3f}")
    return float(right.mean())


if __name__ == "__main__":
    main()
