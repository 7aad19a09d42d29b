"""What `jax.shard_map` does to values: solved and differentiated as outside of it, or refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from equilibrium_problems import tanh_inputs, tanh_map, tanh_weights
from jax.sharding import Mesh, PartitionSpec

import qdeq
from qdeq.equilibrium.linear_systems import by_gmres
from qdeq.equilibrium.networks import (
    Chain,
    EdgeInjection,
    Graph,
    Grid,
    NetworkEquilibrium,
    Wired,
)
from qdeq.errors import UserError

# Types inside of it are the same on one device as on many.
MESH = Mesh(jax.devices()[:1], "batch")
SPLIT, WHOLE = PartitionSpec("batch"), PartitionSpec()


def over_devices(function, *, check_vma):
    """`function(shared, samples)`, the samples split over devices."""
    return jax.shard_map(
        function, mesh=MESH, in_specs=(WHOLE, SPLIT), out_specs=SPLIT, check_vma=check_vma
    )


def assert_same_over_devices(solve, shared, samples):
    """Sums and their gradient by what is shared."""

    def total(function):
        return jax.jit(jax.value_and_grad(lambda shared: function(shared, samples).sum()))(shared)

    there, here = total(over_devices(solve, check_vma=False)), total(solve)
    for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # float32


def test_gmres_solves_inside_of_it():
    matrix, gmres = jnp.eye(5) - tanh_weights(), lx.GMRES(rtol=1e-6, atol=1e-6, max_steps=9)

    def solve(matrix, samples):
        return jax.vmap(lambda v: by_gmres(lambda x: matrix @ x, v, gmres))(samples)

    v = tanh_inputs(2)
    found = jax.jit(over_devices(solve, check_vma=False))(matrix, jnp.asarray(v))
    np.testing.assert_allclose(found @ matrix.T, v, atol=1e-5)  # float32


@pytest.mark.slow
def test_gradients_by_gmres_are_those_of_outside():
    layer = qdeq.Equilibrium(adjoint=qdeq.Implicit(method="gmres"))

    def solve(weights, samples):
        f = tanh_map(weights)
        return jax.vmap(lambda x: layer(f, jnp.zeros(5), x).value)(samples)

    assert_same_over_devices(solve, jnp.asarray(tanh_weights()), jnp.asarray(tanh_inputs(2)))


@pytest.mark.parametrize(
    "wiring",
    [
        pytest.param(Grid(12, 12), marks=pytest.mark.slow, id="by GMRES"),
        pytest.param(Graph(3, [(0, 2), (1, 2), (0, 1)], causal=True), id="by its depth"),
    ],
)
def test_networks_are_solved_as_outside_of_it(wiring):
    injection = EdgeInjection.random(wiring, 1, 1, 1, key=jax.random.key(0), gain=0.8)
    layer = NetworkEquilibrium("newton-krylov" if isinstance(wiring, Grid) else "auto")

    def solve(offset, samples):
        moved = eqx.tree_at(lambda injection: injection.offset, injection, offset)
        network = Wired(lambda v, x: jnp.tanh(v), moved, wiring)
        return jax.vmap(lambda x: layer(network, x).value)(samples)

    x = jax.random.normal(jax.random.key(1), (2, wiring.n_sites, 1))
    assert_same_over_devices(solve, jnp.ones(1), x)


def of_a_layer(shared, samples):
    layer = qdeq.Equilibrium()
    return jax.vmap(lambda x: layer(lambda z: jnp.tanh(z + x), shared).value)(samples)


def of_a_network(shared, samples):
    network = Wired(lambda v, x: jnp.tanh(v), EdgeInjection([[1.0]], [[0.5]]), Chain(4))
    return jax.vmap(lambda x: NetworkEquilibrium()(network, x[:, None]).value)(samples)


def of_a_model(encoding):
    model = qdeq.paper_model(encoding=encoding, key=jax.random.key(0))

    def evaluate(shared, samples):
        return jax.vmap(model.prepare().bind(jnp.ones(16)))(samples)

    return evaluate


@pytest.mark.parametrize(
    "function",
    [of_a_layer, of_a_network, of_a_model("angle"), of_a_model("amplitude")],
    ids=["layer", "network", "angle", "amplitude"],
)
def test_types_that_vary_over_devices_are_refused_in_one_line(function):
    # The gradient of a kernel lacked the sum over devices; loops raised JAX's own errors.
    with pytest.raises(UserError, match=r"vary over 'batch': give .*check_vma=False"):
        jax.eval_shape(over_devices(function, check_vma=True), jnp.zeros(4), jnp.ones((2, 4)))
