"""Hysteresis: a function with several equilibria keeps the branch that it starts on. A picture."""

import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import qdeq

GAIN = 2.0  # above 1 there are three equilibria around a field of 0


def f(z, field):
    return jnp.tanh(GAIN * z + field)


def follow(fields):
    """The equilibrium at each field, started from that of the field before."""
    layer = qdeq.Equilibrium(qdeq.Picard(), max_steps=400)

    def step(z, field):
        z = layer(f, z, field).value
        return z, z

    return jax.lax.scan(step, f(jnp.sign(fields[0]), fields[0]), fields)[1]


def main(out=None):
    fields = jnp.linspace(-1.5, 1.5, 121)
    up, down = jax.jit(follow)(fields), jax.jit(follow)(fields[::-1])[::-1]
    if out is not None:
        z = np.linspace(-0.999, 0.999, 400)
        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        axes.plot(np.arctanh(z) - GAIN * z, z, ":", color="0.5", label="all equilibria")
        axes.plot(fields, up, label="field rises")
        axes.plot(fields, down, label="field falls")
        axes.set(xlabel="field", ylabel="equilibrium z = tanh(2 z + field)")
        axes.legend(frameon=False)
        figure.savefig(out, dpi=150)
        plt.close(figure)
    loop = float(jnp.abs(up - down).sum() * (fields[1] - fields[0]))
    print(f"area between rising and falling field: {loop:.2f}")
    return loop


if __name__ == "__main__":
    main(*sys.argv[1:2])
