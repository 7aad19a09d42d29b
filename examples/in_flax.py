"""A quantum equilibrium inside a Flax NNX module, trained with Optax on real digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import qdeq
import qdeq.data


class QuantumLayer(nnx.Module):
    """Holds the angles as an `nnx.Param` that takes its place in the JAX module."""

    def __init__(self, rngs: nnx.Rngs):
        self.fixed = nnx.data(qdeq.QuantumEquilibrium(qdeq.paper_model(key=jax.random.key(0))))
        self.theta = nnx.Param(self.fixed.model.theta)

    def __call__(self, x):
        layer = eqx.tree_at(lambda layer: layer.model.theta, self.fixed, self.theta[...])
        return jax.vmap(layer)(x)


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.layer = QuantumLayer(rngs)
        self.head = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.layer(x))


def main():
    data = qdeq.data.load("digits-4")
    x, y = jnp.asarray(data.train.x), jnp.asarray(data.train.y)
    model = Model(nnx.Rngs(0))
    optimiser = nnx.Optimizer(model, optax.adam(0.03), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimiser, x, y):
        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        optimiser.update(model, nnx.grad(loss)(model))

    for number in range(150):
        rows = jax.random.randint(jax.random.key(number), (128,), 0, len(x))
        step(model, optimiser, x[rows], y[rows])

    right = jnp.argmax(model(jnp.asarray(data.test.x)), axis=1) == jnp.asarray(data.test.y)
    print(f"test accuracy {right.mean():.3f}")
    return float(right.mean())


if __name__ == "__main__":
    main()
