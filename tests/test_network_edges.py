"""Wirings at the edge of what there is: each works, or is refused in one clear line."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_networks import A, D, Q, cell, dense_map, network_on

import qdeq
from qdeq.equilibrium.networks import (
    Alone,
    Cells,
    Chain,
    EdgeInjection,
    Graph,
    Grid,
    NetworkEquilibrium,
    Wired,
    growth,
    network_trajectory,
    path_independence,
    stability_penalty,
)
from qdeq.runs import write_network_report

KEY = jax.random.key(0)

SLOW = pytest.mark.slow  # a program or two each
EDGES = {
    "one site": Chain(1),
    "one site, both ways": Chain(1, "both"),
    "one cell of a grid": Grid(1, 1),
    "one row of a grid": Grid(1, 4, 8),
    "one site of a graph": Graph(1),
    "a site that hears itself": Graph(1, [(0, 0)]),
    "no edges": Graph(4),
    "no edges, causal": Graph(4, causal=True),
    "isolated sites": Graph(5, [(1, 1), (1, 3)]),
    "parts that are not connected": Graph(6, [(0, 1), (1, 0), (3, 4)]),
    "causal parts": Graph(6, [(0, 1), (3, 4)], causal=True),
    "a kind without edges": Graph(3, [(0, 1)], n_kinds=3),
    "alone": Alone(3),
}
DEFAULT = ("causal parts",)


@eqx.filter_jit
def solved(network, x, mask):
    """The equilibrium of a masked network, and how a number of it changes with the features."""

    def total(x):
        solution = NetworkEquilibrium(rtol=1e-10, atol=1e-10)(network, x, mask=mask)
        return jnp.sum(solution.value**2), solution

    (_, solution), slope = jax.value_and_grad(total, has_aux=True)(x)
    return solution.value, solution.stats.converged, slope


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in DEFAULT else SLOW) for n in EDGES]
)
def test_the_edges_of_what_there_is_work_with_and_without_padding(name, x64):
    wiring = EDGES[name]
    network = network_on(wiring, gain=0.5)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(wiring.n_sites, D)))
    every = np.ones(wiring.n_sites, bool)
    for mask in (every, np.arange(wiring.n_sites) % 2 == 0, ~every):
        expected = np.zeros((wiring.n_sites, Q))
        for _ in range(200):  # repeated application in NumPy, of a map that contracts
            expected = np.where(mask[:, None], dense_map(network, expected, x), 0)
        value, converged, slope = solved(network, x, jnp.asarray(mask))
        assert converged
        np.testing.assert_allclose(value, expected, atol=1e-8)
        assert np.isfinite(slope).all() and not np.asarray(slope)[~mask].any()


def test_the_mean_over_no_site_at_all_is_zero():
    network = network_on(Chain(3))
    network = qdeq.Network(cell, network.injection, Chain(3), read_out="mean")
    nobody = jnp.zeros(3, bool)
    found, slope = jax.value_and_grad(lambda z: jnp.sum(network.outputs(z, nobody)))(
        jnp.ones((3, Q))
    )
    assert found == 0 and not np.asarray(slope).any()


def test_cells_without_features_are_solved():
    injection = EdgeInjection.random(1, A, 0, Q, key=jax.random.key(0), gain=0.5)
    network = Wired(cell, injection, Chain(3))
    assert NetworkEquilibrium()(network, jnp.zeros((3, 0))).value.shape == (3, Q)


NETWORK = qdeq.Network(
    cell, EdgeInjection.random(1, A, D, Q, key=jax.random.key(0), gain=0.5), Chain(3)
)


PAPERS = qdeq.paper_model(key=KEY)
STATES, X = jnp.zeros((3, Q)), jnp.ones((3, D))
OF_WIRED = (  # what takes a `Wired`, and a layer
    lambda network, layer: growth(network, STATES, X),
    lambda network, layer: stability_penalty(network, STATES, X),
    lambda network, layer: layer(network, X),
    lambda network, layer: path_independence(layer, network, X, key=KEY),
    lambda network, layer: network_trajectory(layer, network, X, n_steps=2),
)


def random_edges(*sizes):
    return EdgeInjection.random(*sizes, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Graph(3, [(0, 3)]), r"edges\[0\]=\(0, 3\): sites are numbered from 0 to 2"),
        (lambda: Graph(3, [(0, 1), (-1, 0)]), r"edges\[1\]=\(-1, 0\): sites are numbered"),
        (lambda: Graph(3, [(0.0, 1.0)]), "other things than whole numbers"),
        (lambda: Graph(3, [(0, 1), (2,)]), "other things than whole numbers"),
        (lambda: Graph(3, [(0, 1, 2)]), r"shape \(1, 3\): give pairs"),
        (lambda: Graph(3, [(0, 1), (0, 1)]), "twice"),
        (lambda: Graph(3, [(0, 1), (1, 0)], causal=True), "a cycle, 0 -> 1 -> 0"),
        (lambda: Graph(3, [(1, 1)], causal=True), "site 1 hears itself"),
        (lambda: Chain(3, ring=True), "a ring is a cycle"),
        (lambda: NETWORK.solve(None), "x=None: give the features of every site"),
        (lambda: NETWORK.solve(np.full((40, 40), "a")), "x=array.*: give the features"),
        (lambda: NETWORK.solve(X, z0=np.full((40, 40), "a")), "z0=array.*: give a state"),
        (lambda: NETWORK.solve(X, mask=np.full((40, 40), "a")), "mask=array.*: give a bool"),
        (lambda: Cells([cell], np.ones((40, 40))), "kinds=array.*: give the number"),
        (lambda: NETWORK.on(Chain(40), kinds=np.ones((40, 40))), "kinds=array.*: the network"),
        (lambda: Wired(PAPERS.measured, random_edges(1, A, D, Q), Chain(3)), "cell=Measured.*: g"),
        (lambda: qdeq.Network(PAPERS.measured, random_edges(1, A, D, Q), Chain(3)), "cell=Mea"),
        (lambda: Chain(np.arange(1600).reshape(40, 40)), "n=array.*: give an integer"),
        (lambda: Grid(3, 3, periodic=[0.5] * 99), "periodic=.*: give True or False"),
        (lambda: write_network_report(PAPERS, X, "page.html"), "network=Quantum.*: give a qdeq"),
        (
            lambda: (
                NETWORK.on(Graph(3, [(0, 1)]))
                and qdeq.Network(cell, random_edges(2, A, D, Q), Chain(3, "both")).on(
                    Graph(3, [(0, 1)])
                )
            ),
            "n_kinds=2 to a Graph",
        ),
        (lambda: NETWORK.solve("abc"), "x='abc': give the features of every site"),
        (lambda: NETWORK.solve(jnp.ones((3, D)) * 1j), "x has dtype complex64: features are real"),
        (lambda: NETWORK.solve(jnp.ones((4, D))), r"x has shape \(4, 2\)"),
        (lambda: NETWORK.apply(jnp.ones((4, D)), 2), r"x has shape \(4, 2\)"),
        (lambda: NETWORK.apply(jnp.ones((3, D)), -1), "layers=-1"),
        (lambda: NETWORK.apply(jnp.ones((3, D)), 2.5), "layers=2.5"),
        (lambda: EdgeInjection("a", [[0.5]]), "no arrays of numbers"),
        (lambda: EdgeInjection(1.0, [[0.5]]), r"give \(a, d\), \(kinds, a, q\)"),
        (lambda: random_edges("x", A, D, Q), "wiring='x'"),
        (lambda: random_edges(0, A, D, Q), "wiring=0"),
        (lambda: random_edges(1, 0, D, Q), "n_inputs=0"),
        (lambda: random_edges(1, A, 1.5, Q), "n_features=1.5"),
        (lambda: random_edges(1, A, D, 0), "n_states=0"),
        *(
            (lambda make=make, lost=lost: make(lost), f"(is|are) {lost[0]}")
            for make in (
                lambda lost: EdgeInjection([[1.0]], [[0.5]], lost[1]),
                lambda lost: qdeq.Injection([[1.0]], bias=lost[1]),
                lambda lost: qdeq.QuantumModel(lost[1], measured=PAPERS.measured),
                lambda lost: Wired(cell, random_edges(1, A, D, 1), Chain(3), lost[1]),
            )
            for lost in (
                ("complex", np.array([1j])),
                ("masked", np.ma.masked_array([1.0], mask=[True])),
            )
        ),
        (lambda: Graph(3, np.ma.masked_array([(0, 1)], mask=[(0, 1)])), "edges is masked"),
        *(
            (lambda bound=bound: EdgeInjection([[1.0]], [[0.5]], max_gain=bound), "max_gain=")
            for bound in (np.inf, np.nan, 0, -1.0, "a", True)
        ),
        *(
            (lambda gain=gain: EdgeInjection.random(1, A, D, Q, key=KEY, gain=gain), "gain=")
            for gain in (np.inf, np.nan, -1.0, "a")
        ),
        *((lambda n=n: Grid(2, 2, neighbours=n), "give 4 or 8") for n in (4.0, [4], "4", 5)),
        *(
            (
                lambda n=n: qdeq.Network(
                    cell, random_edges(1, A, D, Q), Chain(3), n_outputs=n, key=KEY
                ),
                "n_outputs=",
            )
            for n in (0, -1, 2.0, "a")
        ),
        (lambda: Wired(5, random_edges(1, A, D, Q), Chain(3)), "cell=5"),
        (lambda: Wired(Cells([cell, 2], [0, 1, 0]), random_edges(1, A, D, Q), Chain(3)), "cell=2"),
        (lambda: NetworkEquilibrium()(NETWORK, jnp.ones((3, D))), "network is a Network"),
        *(
            (lambda call=call: call(NETWORK, NetworkEquilibrium("picard")), "network is a Network")
            for call in OF_WIRED
        ),
        *(
            (lambda call=call, z=z: call(NETWORK.wired(), z, X), message)
            for call in (growth, stability_penalty)
            for z, message in (
                (STATES[:2], r"z has shape \(2, "),
                (STATES[None], r"z has shape \(1, 3, .*jax.vmap for a batch"),
                ("zero", "z='zero'"),
                (1j * STATES, "z has dtype complex"),
            )
        ),
        (lambda: NETWORK.solve(jnp.ones((3, D)), layer="auto"), "layer='auto'"),
        *(
            (lambda call=call, layer=layer: call(NETWORK.wired(), layer), "NetworkEquilibrium")
            for call in OF_WIRED[-2:]
            for layer in ("auto", qdeq.Equilibrium(), None)
        ),
        (lambda: NETWORK.solve(jnp.ones((3, D)), layer=qdeq.Equilibrium()), "NetworkEquilibrium"),
        (lambda: NETWORK.solve(jnp.ones((3, D)), key=0), "key=0"),
        (lambda: NETWORK.solve(jnp.ones((3, D)), z0="zero"), "z0='zero'"),
        (lambda: NETWORK.solve(jnp.ones((3, D)), z0=1j * np.ones((3, Q))), "z0 has dtype complex"),
        (lambda: NetworkEquilibrium("broyden", adjoint=qdeq.Shine()), "Shine.*give Structured"),
        (
            lambda: qdeq.QuantumEquilibrium(NETWORK).solve(jnp.ones((3, D)), shots=9),
            "without a key",
        ),
        *(
            (lambda bounds=bounds: NetworkEquilibrium(bounds=bounds), "bounds=")
            for bounds in ((1, -1), (1, 1), (np.nan, 1.0), ("a", "b"), 1.0)
        ),
        *(
            (lambda rtol=rtol: NetworkEquilibrium(rtol=rtol), "rtol=")
            for rtol in ("1", None, np.float32(-1), np.nan, True)
        ),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(call, message):
    with pytest.raises(qdeq.UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "wrong",
    [
        lambda v: (v, v),
        lambda v: None,
        lambda v: v[:2].astype(jnp.float16),
        lambda v: v[:2] > 0,
        lambda v: v[:2] * 1j,
        lambda v: v[:1],
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_cell_that_returns_no_state_is_refused_in_one_line(wrong, several):
    kind = lambda v, x: wrong(v)  # noqa: E731
    cells = Cells([cell, kind], [0, 1, 0]) if several else kind
    network = Wired(cells, NETWORK.injection, Chain(3))
    with pytest.raises(qdeq.UserError, match="the cell returned") as error:
        NetworkEquilibrium()(network, jnp.ones((3, D)))
    assert "\n" not in str(error.value)


MASK = np.array([True, True, False])
BOTH = Wired(cell, random_edges(2, A, D, Q), Chain(3, "both"))
STATES = jnp.full((3, Q), 0.1)
# All that take a mask: what it says of no site may be in no answer and in no gradient.
TAKE_A_MASK = {
    "map": lambda wired, x, mask: wired(STATES, x, mask),
    "linearise": lambda wired, x, mask: wired.linearise(STATES, x, mask)[1].slopes,
    "growth": lambda wired, x, mask: growth(wired, STATES, x, mask),
    "solve": lambda wired, x, mask: NetworkEquilibrium()(wired, x, mask=mask).value,
    "apply": lambda wired, x, mask: qdeq.Network(
        wired.cell, wired.injection, wired.wiring, read_out="mean"
    ).apply(x, 2, mask=mask),
}


@pytest.mark.parametrize("name", TAKE_A_MASK)
def test_what_stands_at_sites_that_are_left_out_is_in_no_gradient(name):
    take = TAKE_A_MASK[name]

    def total(injection, x):
        return jnp.sum(take(Wired(cell, injection, BOTH.wiring), x, jnp.asarray(MASK)) ** 2)

    slopes = jax.jit(jax.grad(total))
    x = jnp.ones((3, D))
    expected = slopes(BOTH.injection, x)
    found = slopes(BOTH.injection, x.at[2].set(jnp.nan))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(expected.messages).all()


READ = qdeq.Network(cell, BOTH.injection, BOTH.wiring, read_out="mean")
CHECK_A_MASK = {
    **{name: TAKE_A_MASK[name] for name in ("growth", "solve", "apply")},
    "outputs": lambda wired, x, mask: READ.outputs(STATES, mask),
}


@pytest.mark.parametrize("name", CHECK_A_MASK)
@pytest.mark.parametrize("mask", [np.ones(2, bool), np.ones((3, 1), bool), np.ones(3), "abc"])
def test_a_mask_of_another_kind_is_refused_in_one_line(name, mask):
    with pytest.raises(qdeq.UserError, match="give a bool per site") as error:
        CHECK_A_MASK[name](BOTH, jnp.ones((3, D)), mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CHECK_A_MASK)
def test_a_mask_may_be_a_list(name):
    take, x = CHECK_A_MASK[name], jnp.ones((3, D))
    np.testing.assert_array_equal(take(BOTH, x, MASK.tolist()), take(BOTH, x, jnp.asarray(MASK)))


def test_whole_numbers_are_features_as_well():
    ones = NETWORK.apply(jnp.ones((3, D), int), 2)
    np.testing.assert_allclose(ones, NETWORK.apply(jnp.ones((3, D)), 2))
