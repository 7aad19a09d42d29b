"""Networks of cells at equilibrium against dense NumPy: solves, gradients, wirings, masks."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.equilibrium import STATUS, Picard
from qdeq.equilibrium.networks import (
    Alone,
    Chain,
    EdgeInjection,
    Graph,
    Grid,
    NetworkEquilibrium,
    Structured,
    Wired,
    choose_solver,
    systems,
)
from qdeq.equilibrium.networks.chains import causal_recursion
from qdeq.equilibrium.networks.solvers import FlatNetwork
from qdeq.equilibrium.networks.speculation import evaluations_of, speculative_start
from qdeq.errors import UserError

A, D, Q = 3, 2, 2
MIX = np.array([[1.0, 1.0, 0.0], [-0.5, 0.0, 1.0]])

# Isolated sites, self-loops, two kinds of edges, several edges of one kind into a site.
ODD_GRAPH = Graph(6, [(0, 1), (2, 1), (1, 3), (3, 3), (3, 0)], [0, 0, 1, 1, 0])
TREE = Graph(5, [(2, 1), (3, 1), (1, 0)], causal=True)
WIRINGS = {
    "alone": Alone(2),
    "causal": Chain(5),
    "causal of one": Chain(1),
    "line": Chain(5, "both"),
    "line of two": Chain(2, "both"),
    "ring": Chain(4, "both", ring=True),
    "ring of three": Chain(3, "both", ring=True),
    "grid": Grid(2, 3),
    "torus of 8": Grid(3, 3, 8, periodic=True),
    "graph": ODD_GRAPH,
    "tree": TREE,
    "no edges": Graph(3),
}


def cell(v, x):
    return jnp.tanh(jnp.asarray(MIX, v.dtype) @ v)


def narrow_cell(v, x):
    """One input, two states."""
    return jnp.tanh(jnp.stack([v[0], -0.5 * v[0] + 0.2]))


def network_on(wiring, gain=0.7, seed=0):
    return Wired(
        cell, EdgeInjection.random(wiring, A, D, Q, key=jax.random.key(seed), gain=gain), wiring
    )


def features_of(wiring, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(wiring.n_sites, D)))


def dense_map(network, z, x):
    """F(z) in NumPy, edge by edge."""
    inj = network.injection
    v = np.asarray(x) @ np.asarray(inj.features).T + np.asarray(inj.offset)
    edges = network.wiring.edges
    for sender, receiver, kind in zip(edges.senders, edges.receivers, edges.kinds, strict=True):
        v[receiver] += np.asarray(inj.messages)[kind] @ z[sender]
    return np.tanh(v @ MIX.T)


def dense_jacobian(network, z, x):
    """dF/dz in NumPy, edge by edge, `(N q, N q)`."""
    out, n = dense_map(network, z, x), len(z)
    jacobian = np.zeros((n, Q, n, Q))
    edges = network.wiring.edges
    for sender, receiver, kind in zip(edges.senders, edges.receivers, edges.kinds, strict=True):
        slope = (1 - out[receiver] ** 2)[:, None] * MIX
        jacobian[receiver, :, sender] += slope @ np.asarray(network.injection.messages)[kind]
    return jacobian.reshape(n * Q, n * Q)


@eqx.filter_jit
def equilibrium(layer, network, x):
    """The states alone: what only statistics need is not compiled."""
    return layer(network, x).value


def tight(solver="auto", **settings):
    return NetworkEquilibrium(solver, rtol=1e-12, atol=1e-12, max_steps=80, **settings)


SMALL_OR_COSTLY = (
    "causal of one",
    "line of two",
    "ring of three",
    "grid",
    "torus of 8",
    "no edges",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in SMALL_OR_COSTLY)) for n in WIRINGS],
)
def test_the_map_and_its_structured_inverse_are_the_dense_ones(name, x64):
    check_inverse(WIRINGS[name])


@pytest.mark.parametrize("name", ["graph", "grid", "torus of 8"])
@pytest.mark.slow
def test_graphs_too_large_to_be_written_out_have_that_inverse_too(name, x64, monkeypatch):
    monkeypatch.setattr(systems, "LARGEST_WRITTEN_OUT", 0)
    check_inverse(WIRINGS[name])


def check_inverse(wiring):
    network, x = network_on(wiring), features_of(wiring)
    rng = np.random.default_rng(2)
    z, v = rng.normal(size=(2, wiring.n_sites, Q))
    np.testing.assert_allclose(network(jnp.asarray(z), x), dense_map(network, z, x), atol=1e-12)
    fn = FlatNetwork(network)

    @jax.jit
    def both(z, v):
        solve = Structured().operator(fn, z, (x, None), None)
        return solve(v), jax.linear_transpose(solve, v)(v)[0]

    there, back = both(jnp.asarray(z).reshape(-1), jnp.asarray(v).reshape(-1))
    system = np.eye(wiring.n_sites * Q) - dense_jacobian(network, z, x)
    np.testing.assert_allclose(there, np.linalg.solve(system, v.reshape(-1)), atol=1e-10)
    np.testing.assert_allclose(back, np.linalg.solve(system.T, v.reshape(-1)), atol=1e-10)


def test_a_small_graph_is_written_out_and_a_large_one_is_not():
    assert systems.is_eliminated(Grid(3, 3), n_states=9, n_inputs=6)
    assert not systems.is_eliminated(Grid(40, 50), n_states=2, n_inputs=3)
    # As many unknowns as inputs or states, whichever are fewer.
    most = systems.LARGEST_WRITTEN_OUT
    for n_states, n_inputs in ((1, 5), (5, 1)):
        assert systems.is_eliminated(Grid(1, most), n_states, n_inputs)
        assert not systems.is_eliminated(Grid(1, most + 1), n_states, n_inputs)


@pytest.mark.parametrize(
    "name", ["line", "ring of three", pytest.param("graph", marks=pytest.mark.slow)]
)
def test_cells_with_fewer_inputs_than_states_are_solved_by_their_inputs(name, x64):
    wiring = WIRINGS[name]
    injection = EdgeInjection.random(wiring, 1, D, Q, key=jax.random.key(0), gain=0.9)
    network, x = Wired(narrow_cell, injection, wiring), features_of(wiring)
    z, v = jnp.asarray(np.random.default_rng(2).normal(size=(2, wiring.n_sites * Q)))
    fn = FlatNetwork(network)

    @jax.jit
    def both(z, v):
        solve = Structured().operator(fn, z, (x, None), None)
        jacobian = jax.jacfwd(lambda z: fn(z, (x, None)))(z)
        return solve(v), jax.linear_transpose(solve, v)(v)[0], jnp.eye(len(v)) - jacobian

    there, back, system = both(z, v)
    np.testing.assert_allclose(there, np.linalg.solve(system, v), atol=1e-10)
    np.testing.assert_allclose(back, np.linalg.solve(system.T, v), atol=1e-10)


CASES = [
    ("alone", "newton-blocks"),
    ("causal", "newton-scan"),
    ("ring", "newton-blocks"),
    ("graph", "newton-krylov"),
    ("tree", "sweep"),
]
MORE_CASES = [
    ("causal", "sweep"),
    ("line", "newton-blocks"),
    ("line", "picard-newton"),
    ("line", "homotopy"),
    ("ring", "homotopy"),
    ("alone", "homotopy"),
    ("causal", "homotopy"),
    ("torus of 8", "picard-newton"),
    ("grid", "homotopy"),
    ("graph", "homotopy"),
    ("no edges", "picard-newton"),
    ("causal of one", "sweep"),
    ("causal of one", "newton-scan"),
    ("causal", "newton-blocks"),
    ("causal", "anderson"),
    ("causal", "picard"),
    ("line of two", "newton-blocks"),
    ("line", "newton-krylov"),
    ("line", "broyden"),
    ("ring of three", "newton-blocks"),
    ("ring", "newton-krylov"),
    ("grid", "newton-krylov"),
    ("grid", "anderson"),
    ("grid", "broyden"),
    ("torus of 8", "newton-krylov"),
    ("torus of 8", "broyden"),
    ("graph", "anderson"),
    ("tree", "newton-blocks"),
    ("no edges", "newton-krylov"),
    ("no edges", "broyden"),
]


def check_against_dense(name, solver):
    """Equilibrium and gradients of one wiring by one solver: Newton in NumPy, differences."""
    wiring = WIRINGS[name]
    network, x = network_on(wiring), features_of(wiring)
    target = jnp.asarray(np.random.default_rng(3).normal(size=(wiring.n_sites, Q)))
    layer = tight(solver)

    @jax.jit
    def loss(messages, x):
        changed = eqx.tree_at(lambda n: n.injection.messages, network, messages)

        def of(messages, x):
            wired = eqx.tree_at(lambda n: n.injection.messages, changed, messages)
            solution = layer(wired, x)
            return jnp.sum(target * solution.value**2), solution

        return jax.value_and_grad(of, argnums=(0, 1), has_aux=True)(messages, x)

    messages = network.injection.messages
    (_, solution), slopes = loss(messages, x)
    assert bool(solution.stats.converged)
    assert int(solution.stats.evaluations) >= int(solution.stats.steps) >= 1
    z = np.zeros((wiring.n_sites, Q))
    for _ in range(30):
        system = np.eye(z.size) - dense_jacobian(network, z, x)
        z = z + np.linalg.solve(system, (dense_map(network, z, x) - z).reshape(-1)).reshape(z.shape)
    # The residual is at most 1e-12 of |F|; |(I - J)^-1| is about 2 here.
    np.testing.assert_allclose(solution.value, z, atol=1e-10)
    assert float(solution.stats.adjoint_residual) < 1e-9
    rng, step = np.random.default_rng(4), 1e-5
    move = (rng.normal(size=messages.shape), rng.normal(size=x.shape))
    ahead, behind = (
        loss(messages + sign * step * move[0], x + sign * step * move[1])[0][0] for sign in (1, -1)
    )
    expected = float(ahead - behind) / (2 * step)
    found = float(jnp.sum(slopes[0] * move[0]) + jnp.sum(slopes[1] * move[1]))
    assert abs(found - expected) < 1e-6 * max(1, abs(expected))


@pytest.mark.parametrize(("name", "solver"), CASES)
def test_equilibria_and_gradients_are_those_of_a_dense_solve(name, solver, x64):
    check_against_dense(name, solver)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "solver"), MORE_CASES)
def test_every_solver_that_fits_a_wiring_gives_them(name, solver, x64):
    check_against_dense(name, solver)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["causal", "line", "graph"])
def test_second_derivatives_are_central_differences_of_first_ones(name, x64):
    wiring = WIRINGS[name]
    network, x = network_on(wiring), features_of(wiring)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(tight()(network, x).value ** 3)))
    move = features_of(wiring, seed=5)
    curvature = jax.jit(lambda x: jax.jvp(slope, (x,), (move,))[1])(x)
    expected = (slope(x + 1e-5 * move) - slope(x - 1e-5 * move)) / 2e-5
    np.testing.assert_allclose(curvature, expected, atol=1e-7)


def test_a_batch_gives_what_its_samples_give_alone(x64):
    wiring = Chain(5, "both")
    network, layer = network_on(wiring, gain=1.2), NetworkEquilibrium(rtol=1e-9, atol=1e-9)
    x = jnp.stack([scale * features_of(wiring, seed) for seed, scale in ((1, 1.0), (2, 9.0))])
    together = jax.jit(jax.vmap(lambda x: layer(network, x)))(x)
    alone = [layer(network, sample) for sample in x]
    steps = [int(solution.stats.steps) for solution in alone]
    assert together.stats.steps.tolist() == steps
    for sample, solution in zip(together.value, alone, strict=True):
        np.testing.assert_allclose(sample, solution.value, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("causal", "newton-scan"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                *(("alone", "auto"), ("causal", "sweep"), ("line", "auto"), ("ring", "auto")),
                *(("line", "newton-blocks"), ("graph", "auto"), ("graph", "newton-krylov")),
                *(("graph", "anderson"), ("graph", "broyden"), ("tree", "sweep")),
            ]
        ),
    ],
)
def test_a_sample_that_is_not_finite_leaves_its_batch_mates_alone(name, solver, x64):
    wiring = WIRINGS[name]
    network = network_on(wiring)
    x = jnp.stack([features_of(wiring), features_of(wiring).at[1].set(jnp.nan)])

    @jax.jit
    def solved(x):
        def of(x):
            solution = jax.vmap(lambda x: tight(solver)(network, x))(x)
            return jnp.sum(solution.value[0]), (solution.stats, solution.value[1])

        return jax.value_and_grad(of, has_aux=True)(x)

    (value, (stats, lost)), slope = solved(x)
    assert stats.converged.tolist() == [True, False] and jnp.isnan(lost).any()
    assert jax.tree.map(lambda leaf: leaf[1], stats.result) == STATUS.nonfinite
    (other, _), other_slope = solved(x.at[1].set(x[0]))
    np.testing.assert_allclose(value, other, atol=1e-12)
    np.testing.assert_allclose(slope[0], other_slope[0], atol=1e-12)


@pytest.mark.parametrize(
    ("wiring", "solver"),
    [
        (Chain(7), "sweep"),
        pytest.param(Chain(7, "both"), "newton-blocks", marks=pytest.mark.slow),
    ],
)
def test_sites_that_are_masked_out_do_not_change_the_others(wiring, solver, x64):
    network, x = network_on(wiring), features_of(wiring)
    short = network.on(type(wiring)(4, wiring.direction))
    mask = jnp.arange(7) < 4

    @eqx.filter_jit
    def solved(network, x, mask):
        def of(pair):
            solution = tight(solver)(*pair, mask=mask)
            return jnp.sum(solution.value**3), (solution.value, solution.stats.residual)

        return eqx.filter_value_and_grad(of, has_aux=True)((network, x))

    (_, (padded, residual)), slope = solved(network, x, mask)
    (_, (alone, expected)), alone_slope = solved(short, x[:4], None)
    np.testing.assert_allclose(padded[:4], alone, atol=1e-12)
    assert not np.asarray(padded[4:]).any()
    np.testing.assert_allclose(residual, expected, atol=1e-12)
    np.testing.assert_allclose(slope[1][:4], alone_slope[1], atol=1e-12)
    np.testing.assert_allclose(
        slope[0].injection.messages, alone_slope[0].injection.messages, atol=1e-12
    )
    # What stands at sites that are not there has no influence, not even when it is not a number.
    (_, (noisy, _)), noisy_slope = solved(network, x.at[4:].set(jnp.nan), mask)
    np.testing.assert_array_equal(noisy, padded)
    np.testing.assert_array_equal(noisy_slope[1], slope[1])


@pytest.mark.slow
def test_the_numbering_of_sites_does_not_matter(x64):
    order = np.random.default_rng(0).permutation(6)  # site i becomes order[i]
    edges = np.column_stack([ODD_GRAPH.edges.senders, ODD_GRAPH.edges.receivers])
    renumbered = Graph(6, order[edges], ODD_GRAPH.edges.kinds)
    x = features_of(ODD_GRAPH)
    moved = jnp.zeros_like(x).at[order].set(x)
    here = equilibrium(tight("picard"), network_on(ODD_GRAPH), x)
    there = equilibrium(tight("picard"), network_on(renumbered), moved)
    np.testing.assert_allclose(there[order], here, atol=1e-11)


@pytest.mark.slow
def test_parts_that_are_not_connected_are_solved_as_if_alone(x64):
    two = Graph(6, [(0, 1), (1, 0), (3, 4), (4, 5), (5, 3)])
    one = Graph(2, [(0, 1), (1, 0)])
    x = features_of(two)
    whole = equilibrium(tight("picard"), network_on(two), x)
    part = equilibrium(tight("picard"), network_on(one), x[:2])
    np.testing.assert_allclose(whole[:2], part, atol=1e-11)
    # Site 2 hears nothing: its state is the cell's of its features alone.
    np.testing.assert_allclose(whole[2], dense_map(network_on(two), np.zeros((6, Q)), x)[2])


@pytest.mark.parametrize("method", ["sequential", "associative"])
def test_an_affine_recursion_never_overflows(method):
    # Products of these blocks reach 3^2000 in float32, whose largest number is 3.4e38.
    n = 2000
    signs = np.sign(np.random.default_rng(0).normal(size=(n, 1, 1))).astype(np.float32)
    offsets = np.zeros((n, 1), np.float32)
    offsets[0] = 1e-3
    one = jnp.ones((1, 1), jnp.float32)
    recursion = jax.jit(lambda c, b: causal_recursion(c, one, b, lower=-1, upper=1, method=method))
    y = recursion(jnp.asarray(3 * signs), jnp.asarray(offsets))
    # Clipped at the bounds it still knows the product of all signs.
    expected = np.cumprod(np.concatenate([[1.0], signs[1:, 0, 0]]))
    np.testing.assert_array_equal(np.sign(np.asarray(y[:, 0])), expected)
    assert np.abs(np.asarray(y)).max() == 1


@pytest.mark.parametrize("transposed", [False, True])
def test_recursions_solve_dense_systems_alone_and_in_batches(transposed, x64):
    rng = np.random.default_rng(1)
    (batch, n, q, a) = 3, 7, 3, 2
    slopes, message = 0.7 * rng.normal(size=(batch, n, q, a)), rng.normal(size=(a, q))
    offsets = rng.normal(size=(batch, n, q))
    expected = []
    for c, b in zip(slopes, offsets, strict=True):
        system = np.eye(n * q)
        for i in range(1, n):
            system[i * q : (i + 1) * q, (i - 1) * q : i * q] -= c[i] @ message
        system = system.T if transposed else system
        expected.append(np.linalg.solve(system, b.reshape(-1)).reshape(n, q))
    arguments = jnp.asarray(slopes), jnp.asarray(message), jnp.asarray(offsets)
    for method in ("sequential", "associative"):
        solve = partial(causal_recursion, transposed=transposed, method=method)
        found = jax.jit(jax.vmap(solve, in_axes=(0, None, 0)))(*arguments)
        np.testing.assert_allclose(found, expected, atol=1e-11)
        alone = jax.jit(solve)(arguments[0][1], arguments[1], arguments[2][1])
        np.testing.assert_allclose(alone, expected[1], atol=1e-11)


@pytest.mark.slow
def test_newton_on_a_chain_that_grows_ends_at_the_answer_of_the_sweep():
    # Gain 3: from 0 the linearised chain of 2,000 sites grows by hundreds of orders of magnitude.
    wiring = Chain(2000)
    network = network_on(wiring, gain=3.0)
    x = features_of(wiring).astype(jnp.float32)
    newton = NetworkEquilibrium("newton-scan", bounds=(-1.0, 1.0))(network, x)
    sweep = NetworkEquilibrium("sweep")(network, x)
    stats = newton.stats
    assert bool(stats.converged)
    swept = 2 * (stats.steps - stats.jacobians)
    assert stats.evaluations == stats.jacobians + swept + evaluations_of(2000)
    np.testing.assert_allclose(newton.value, sweep.value, atol=1e-4)


@pytest.mark.parametrize("bounds", [(None, 1.0), ("ab", "cd"), ((-1.0, -1.0), 1.0)])
def test_bounds_that_do_not_fit_the_states_are_refused_in_one_line(bounds):
    wiring = Chain(5, "both")
    with pytest.raises(UserError, match=r"bounds=.*give "):
        NetworkEquilibrium(bounds=bounds)(network_on(wiring, gain=1.5), features_of(wiring))


@pytest.mark.slow
def test_a_budget_stops_a_solve_and_says_so(x64):
    wiring = Chain(5, "both")
    solution = tight()(network_on(wiring, gain=1.5), features_of(wiring), budget=2)
    assert int(solution.stats.steps) == 2
    assert solution.stats.result == STATUS.max_steps_reached
    assert int(np.isfinite(np.asarray(solution.stats.residual_trace)).sum()) == 2


def test_what_newton_leaves_over_of_a_chain_is_swept_counted_and_traced():
    wiring = Chain(5)
    layer = NetworkEquilibrium("newton-scan")
    network, x = network_on(wiring, gain=1.5), features_of(wiring)
    stats = layer(network, x, z0=jnp.zeros((5, Q)), budget=1).stats
    assert bool(stats.converged)
    assert (int(stats.steps), int(stats.jacobians), int(stats.evaluations)) == (2, 1, 3)
    traced = stats.residual_trace[jnp.isfinite(stats.residual_trace)]
    assert traced[0] > 1e-2 and traced[1:].tolist() == [float(stats.residual)]


def test_newton_takes_over_where_applications_do_not_settle(x64):
    # Two sites that hear each other with a negative sign: applications swing between two states.
    swinging = Wired(
        lambda v, x: jnp.tanh(v), EdgeInjection([[1.0]], [[[-3.0]], [[-3.0]]]), Chain(2, "both")
    )
    x = jnp.ones((2, 1))
    layer = NetworkEquilibrium(rtol=1e-12, atol=1e-12)

    @jax.jit  # together, and without what is not looked at
    def both(x):
        mixed, alone = layer(swinging, x), NetworkEquilibrium("picard")(swinging, x)
        stats = mixed.stats
        counts = (stats.steps, stats.jacobians, jnp.isfinite(stats.residual_trace))
        return mixed.value, counts, stats.converged, alone.stats.converged

    value, (steps, jacobians, traced), converged, alone = both(x)
    assert bool(converged) and not bool(alone)
    assert 0 < int(jacobians) < int(steps)
    assert traced.tolist() == [number < int(steps) for number in range(100)]
    np.testing.assert_allclose(value, np.tanh(1 - 3 * np.asarray(value)[::-1]), atol=1e-11)


@pytest.mark.slow
def test_a_homotopy_solves_what_newton_is_caught_in(x64):
    # Cells at a gain at which repeated application is chaotic.
    wiring = Chain(12, "both")

    def wild(v, x):
        return jnp.sin(3 * jnp.stack([v[0] + v[1], v[2] - v[0]]))

    injection = EdgeInjection.random(wiring, A, D, Q, key=jax.random.key(0), gain=0.9)
    network = Wired(wild, injection, wiring)
    x = jnp.stack([features_of(wiring, seed) for seed in range(20)])

    @jax.jit
    def converged(x):
        def by(solver):
            layer = NetworkEquilibrium(solver, max_steps=400, bounds=(-1.0, 1.0))
            return jax.vmap(lambda x: layer(network, x).stats)(x)

        stats = {name: by(name) for name in ("picard", "newton-blocks", "homotopy", "auto")}
        return {name: (s.converged, s.residual) for name, s in stats.items()}

    found = converged(x)
    fractions = {name: float(np.mean(settled)) for name, (settled, _) in found.items()}
    assert fractions["picard"] == 0 and fractions["newton-blocks"] < 0.5
    assert fractions["homotopy"] == fractions["auto"] == 1
    assert float(found["homotopy"][1].max()) < 2e-5


def wild_grid():
    """A 3 x 3 grid of cells at a gain at which repeated application is chaotic."""
    wiring = Grid(3, 3)

    def wild(v, x):
        return jnp.sin(3 * jnp.stack([v[0] + v[1], v[2] - v[0]]))

    injection = EdgeInjection.random(wiring, A, D, Q, key=jax.random.key(0), gain=0.9)
    return Wired(wild, injection, wiring)


@pytest.mark.slow
def test_what_newton_leaves_over_on_a_small_grid_is_solved_by_a_homotopy(x64):
    network = wild_grid()
    x = jnp.stack([features_of(network.wiring, seed) for seed in range(20)])

    def by(solver, x):
        layer = NetworkEquilibrium(solver, max_steps=400)
        return jax.jit(jax.vmap(lambda x: layer(network, x)))(x)

    newton, found = by("newton-krylov", x), by("auto", x)
    left = ~np.asarray(newton.stats.converged)
    assert left.mean() > 0.5 and found.stats.converged.all()
    applied = jax.vmap(network)(found.value, x)
    size = np.sqrt(np.mean(np.asarray(applied) ** 2) * applied[0].size)
    # As close as the tolerance 1e-5 says, with |F| of about 3.
    assert np.linalg.norm(applied - found.value, axis=(1, 2)).max() < 2e-5 * (1 + size)
    # Those that are solved at once and those that are not do not change one another.
    for one in (int(np.argmax(left)), int(np.argmin(left))):
        alone = by("auto", x[one : one + 1])
        np.testing.assert_allclose(alone.value[0], found.value[one], atol=1e-12)
        assert int(alone.stats.steps[0]) == int(found.stats.steps[one])


@pytest.mark.slow
def test_gradients_at_what_a_homotopy_found_on_a_grid_are_those_of_differences(x64):
    network = wild_grid()
    x = features_of(network.wiring, 0)
    target = jnp.asarray(np.random.default_rng(3).normal(size=(9, Q)))
    layer = NetworkEquilibrium("homotopy", rtol=1e-12, atol=1e-12, max_steps=400)
    solution = jax.jit(lambda x: layer(network, x))(x)
    assert bool(solution.stats.converged) and float(solution.stats.adjoint_residual) < 1e-9
    # From near the equilibrium Newton's method finds that one, of several, wherever x has moved to.
    near = NetworkEquilibrium("newton-krylov", rtol=1e-12, atol=1e-12)

    @jax.jit
    def loss(x):
        return jnp.sum(target * near(network, x, z0=solution.value).value ** 2)

    slopes = jax.jit(jax.grad(lambda x: jnp.sum(target * layer(network, x).value ** 2)))(x)
    move, step = jnp.asarray(np.random.default_rng(4).normal(size=x.shape)), 1e-6
    expected = float(loss(x + step * move) - loss(x - step * move)) / (2 * step)
    # Differences of numbers of size 1 at steps of 1e-6 are right to about 1e-7 here.
    assert abs(float(jnp.sum(slopes * move)) - expected) < 1e-5 * max(1, abs(expected))


@pytest.mark.slow
def test_a_grid_without_a_homotopy_ends_where_newton_makes_no_progress(x64, monkeypatch):
    network = wild_grid()
    x = features_of(network.wiring, 0)
    monkeypatch.setattr(systems, "LARGEST_WRITTEN_OUT", 0)
    stats = jax.jit(lambda x: NetworkEquilibrium(max_steps=400)(network, x).stats)(x)
    assert not bool(stats.converged) and int(stats.steps) < 100
    assert int(stats.jacobians) > 12


def test_a_homotopy_on_a_large_graph_is_refused_with_what_it_would_need():
    wiring = Grid(8, 9)
    words = r"systems of 144 unknowns .* exact up to 128 .* give 'picard-newton', 'auto' or fewer"
    with pytest.raises(UserError, match=words):
        NetworkEquilibrium("homotopy")(network_on(wiring), features_of(wiring))


def largest_array(jaxpr):
    """The most numbers that any array of a traced program holds, loops included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [v.aval.size for v in equation.outvars if hasattr(v.aval, "size")]
        for value in equation.params.values():
            inner = value if isinstance(value, (list, tuple)) else [value]
            sizes += [largest_array(getattr(j, "jaxpr", j)) for j in inner if is_program(j)]
    return max(sizes)


def is_program(value):
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


@pytest.mark.parametrize(
    "wiring",
    [
        Chain(2000),
        Chain(2000, "both"),
        Chain(2000, "both", ring=True),
        Grid(40, 50),
        Alone(2000),
        Graph(2000, [(i, i + 1) for i in range(1999)], causal=True),
    ],
)
def test_memory_is_linear_in_the_number_of_sites(wiring):
    network, x = network_on(wiring), jnp.zeros((2000, D))

    def loss(x):
        solution = NetworkEquilibrium()(network, x)
        return jnp.sum(solution.value**2), solution.stats

    traced = jax.make_jaxpr(jax.value_and_grad(loss, has_aux=True))(x)
    # GMRES keeps 200 directions of N q numbers, everything else a few times N q^2.
    # All sites against all would be 4000^2 = 16 million.
    assert largest_array(traced.jaxpr) <= 201 * 2000 * Q


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a choice for CPUs")
def test_one_long_chain_is_newtons_and_a_batch_of_them_is_swept(x64):
    wiring = Chain(300)
    network = network_on(wiring)
    x = jnp.stack([features_of(wiring, seed) for seed in range(5)])

    @jax.jit
    def solved(x):
        def of(x):
            solution = jax.vmap(lambda x: NetworkEquilibrium()(network, x))(x)
            return jnp.sum(solution.value[0] ** 2), (solution.value, solution.stats)

        return jax.value_and_grad(of, has_aux=True)(x)

    (_, (alone, one)), alone_slope = solved(x[:1])
    (_, (together, many)), slope = solved(x)
    assert int(one.jacobians[0]) > 0 and not np.asarray(many.jacobians).any()
    assert one.converged.all() and many.converged.all()
    np.testing.assert_allclose(together[0], alone[0], atol=1e-4)  # both to 1e-5 of the states
    np.testing.assert_allclose(slope[0], alone_slope[0], atol=1e-4)


def test_the_evaluations_of_a_guess_are_those_of_all_its_cells():
    calls = []

    def counted(v, x):
        jax.debug.callback(calls.append, v)
        return v

    network = Wired(counted, EdgeInjection([[1.0]], [[0.5]]), Chain(70))
    guess = jax.jit(lambda x: speculative_start(network, x, None))
    jax.block_until_ready(guess(jnp.ones((70, 1))))
    jax.effects_barrier()
    assert 0 <= 70 * evaluations_of(70) - len(calls) < 70


@pytest.mark.slow
def test_a_long_chain_that_remembers_takes_a_few_rounds():
    # Every site keeps or turns the sign of what it hears, as its feature says: nothing is
    # forgotten, and the cell is flat where the states lie.
    def flip(v, x):
        return jnp.tanh(3 * x * v)

    n = 3000
    network = Wired(flip, EdgeInjection([[0.0]], [[1.0]], [0.3]), Chain(n))
    x = jnp.asarray(np.sign(np.random.default_rng(0).normal(size=(n, 1))), jnp.float32)
    layer = NetworkEquilibrium("newton-scan", bounds=(-1.0, 1.0))
    guessed = layer(network, x)
    swept = NetworkEquilibrium("sweep")(network, x)
    assert bool(guessed.stats.converged) and int(guessed.stats.jacobians) <= 8
    np.testing.assert_allclose(guessed.value, swept.value, atol=1e-4)


class EdgesWithoutIndex:
    """As networkx gives those of a graph with several edges between two nodes."""

    def __iter__(self):
        return iter([(0, 1), (1, 2)])

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    "edges",
    [
        zip([0, 1], [1, 2], strict=True),
        ((i, i + 1) for i in range(2)),
        {(0, 1), (1, 2)},
        {(0, 1): {}, (1, 2): {"colour": 1}},  # as networkx gives them
        EdgesWithoutIndex(),
        jnp.array([[0, 1], [1, 2]]),
        np.array([[0, 1], [1, 2]], np.uint8),
        np.argwhere([[0, 1, 0], [0, 0, 0.5], [0, 0, 0]]),
    ],
)
def test_edges_are_whatever_gives_pairs(edges):
    assert Graph(3, edges) == Graph(3, [(0, 1), (1, 2)])


def test_wirings_take_numpys_numbers_and_truth():
    assert Grid(3, np.int64(3), np.int64(8), np.True_) == Grid(3, 3, 8, periodic=True)


def test_wirings_are_values():
    assert Chain(3) == Chain(3) and hash(Grid(2, 2)) == hash(Grid(2, 2))
    again = Graph(6, [(3, 0), (3, 3), (0, 1), (2, 1), (1, 3)], [0, 1, 0, 0, 1])
    assert again == ODD_GRAPH and hash(again) == hash(ODD_GRAPH)
    assert again != Graph(6, [(3, 0)])
    assert [
        choose_solver(WIRINGS[name]) for name in ("causal", "line", "ring", "grid", "tree")
    ] == [*("sweep", "picard-newton", "picard-newton", "picard-newton", "sweep")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain(0), "n=0: give an integer that is at least 1"),
        (lambda: Chain(2.5), "n=2.5"),
        (lambda: Chain(3, "left"), "causal, both"),
        (lambda: Chain(4, ring=True), "a ring is a cycle"),
        (lambda: Chain(2, "both", ring=True), "at least 3"),
        (lambda: Alone(0), "n=0"),
        (lambda: Grid(0, 3), "rows=0"),
        (lambda: Grid(2, 3, periodic=True), "at least 3 where the grid is periodic"),
        (lambda: Grid(2, 3, 6), "neighbours=6: give 4 or 8"),
        (lambda: Graph(0), "n=0"),
        (lambda: Graph(3, [(0, 3)]), r"edges\[0\]=\(0, 3\): sites are numbered from 0 to 2"),
        (lambda: Graph(3, [(0, -1)]), r"\(0, -1\)"),
        (lambda: Graph(3, [(0, 1, 2)]), "pairs"),
        (lambda: Graph(4, [[0, 1, 2], [1, 2, 3]]), r"edge_index\.T"),
        (lambda: Graph(3, np.eye(3, dtype=int)), r"np\.argwhere\(matrix\)"),
        (lambda: Graph(3, [(0, 1)], causal="no"), "causal='no': give True or False"),
        (lambda: Chain(3, "both", ring="no"), "ring='no'"),
        (lambda: Grid(3, 3, periodic="no"), "periodic='no'"),
        (lambda: EdgeInjection([[1.0]], [[0.5]], learned="no"), "learned='no'"),
        (
            lambda: NetworkEquilibrium(adjoint=qdeq.Unrolled()),
            r"Unrolled\(\): give .* Structured\(\); .* network\.apply\(x, layers\)",
        ),
        (lambda: Graph(3, [(0.5, 1)]), "whole numbers"),
        (lambda: Graph(3, [(0, 1)], [0, 1]), "there are 1 edges"),
        (lambda: Graph(3, {(0, 1): 0.5}), r"holds 0.5 beside \(0, 1\): .* no weight"),
        (lambda: Graph(3, {(0, 1): {}, (1, 2): {"weight": 2}}), r"beside \(1, 2\): .* no weight"),
        (lambda: Graph(3, [(0, 1)], [-1]), "kinds holds -1"),
        (lambda: Graph(3, [(0, 1)], [2], n_kinds=2), "kinds holds 2"),
        (lambda: Graph(3, [(0, 1), (0, 1)]), r"\(0, 1\) of kind 0 twice"),
        (lambda: Graph(3, [(0, 1), (1, 2), (2, 0)], causal=True), "hold a cycle, .* -> "),
        (lambda: Graph(3, [(1, 1)], causal=True), "site 1 hears itself"),
        (lambda: NetworkEquilibrium("gauss"), "solver='gauss' is not known"),
        (lambda: NetworkEquilibrium(max_steps=0), "max_steps=0"),
        (lambda: NetworkEquilibrium(bounds=1.0), "bounds=1.0"),
        (lambda: EdgeInjection(np.ones((3, 2)), np.ones((2, 2, 2))), "shapes"),
        (lambda: EdgeInjection(np.ones((3, 2)), np.ones((1, 3, 2)), max_gain=0), "max_gain=0"),
        (
            lambda: Wired(cell, EdgeInjection(np.ones((3, 2)), np.ones((3, 2))), Grid(2, 2)),
            "4 kinds",
        ),
        (lambda: Wired(cell, EdgeInjection(np.ones((3, 2)), np.ones((3, 2))), 5), "wiring=5"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_call_that_does_not_fit_is_refused_in_one_line():
    chain, ring = network_on(Chain(5)), network_on(Chain(5, "both", ring=True))
    x = features_of(Chain(5))
    for call, message in [
        (lambda: NetworkEquilibrium()(chain, x[:4]), "5 sites"),
        (lambda: NetworkEquilibrium()(chain, x[:, :1]), r"\(5, 2\)"),
        (lambda: NetworkEquilibrium()(chain, x, z0=jnp.zeros(5)), "z0 has shape"),
        (lambda: NetworkEquilibrium()(chain, x, mask=jnp.ones(5)), "a bool per site"),
        (lambda: NetworkEquilibrium()(ring, x, mask=jnp.ones(5, bool)), "would open it"),
        (lambda: NetworkEquilibrium("sweep")(ring, x), "solver='sweep' cannot solve"),
        (lambda: NetworkEquilibrium("newton-scan")(network_on(TREE), x), "cannot solve"),
    ]:
        with pytest.raises(UserError, match=message):
            call()


def test_a_bounded_gain_scales_messages_down_and_never_up():
    def norm_of(injection):
        return np.linalg.norm(np.concatenate(list(injection.weights()[1]), axis=1), 2)

    wide = EdgeInjection.random(2, A, D, Q, key=jax.random.key(0), gain=3.0, max_gain=0.9)
    assert norm_of(wide) == pytest.approx(0.9, rel=1e-5)
    narrow = EdgeInjection.random(2, A, D, Q, key=jax.random.key(0), gain=0.5, max_gain=0.9)
    assert norm_of(narrow) == pytest.approx(0.5, rel=1e-5)


def test_an_own_solver_with_its_tolerances_is_taken_as_it_is(x64):
    wiring = Chain(5, "both")
    layer = NetworkEquilibrium(Picard(1e-12, 1e-12, damping=0.2), max_steps=200)
    network, x = network_on(wiring), features_of(wiring)
    found, expected = equilibrium(layer, network, x), equilibrium(tight(), network, x)
    np.testing.assert_allclose(found, expected, atol=1e-10)
