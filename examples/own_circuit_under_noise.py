"""A circuit, encoding and observables of one's own: its equilibrium with and without noise."""

import jax
import jax.numpy as jnp

import qdeq

NOISE = "depolarising=0.01, readout=0.02"


def main():
    circuit = qdeq.hardware_efficient(4, 3)
    theta = jax.random.normal(jax.random.key(0), (circuit.n_parameters,))
    xs = jax.random.normal(jax.random.key(1), (32, 16))
    layer = qdeq.Equilibrium(fallback=qdeq.Homotopy(), fallback_steps=50)
    found = {}
    for name, noise in {"exact": None, "noisy": qdeq.parse_noise(NOISE)}.items():
        model = qdeq.QuantumModel(
            theta,
            circuit,
            encoding=qdeq.AmplitudeEncoding(4, 16),
            observables=qdeq.z_strings(4, 2),  # products of at most two Z
            noise=noise,
        )

        @jax.jit
        def solve(xs, model=model):
            prepared = model.prepare()
            zero = jnp.zeros(model.n_observables)
            return jax.vmap(lambda x: layer(prepared.bind(x), zero))(xs)

        solution = solve(xs)
        found[name] = solution.value
        print(f"{name}: {solution.stats.converged.mean():.0%} of the samples converged")
    moved = jnp.abs(found["noisy"] - found["exact"]).mean()
    shrunk = float(jnp.abs(found["noisy"]).mean() / jnp.abs(found["exact"]).mean())
    print(f"noise moves an expectation value by {moved:.3f}, to {shrunk:.2f} of its size")
    return shrunk


if __name__ == "__main__":
    main()
