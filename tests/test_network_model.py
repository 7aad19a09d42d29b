"""`Network`: circuits and other cells at many sites, read-outs, stability."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq import native
from qdeq.equilibrium.networks import (
    Alone,
    Chain,
    EdgeInjection,
    Graph,
    NetworkEquilibrium,
    Wired,
    growth,
    path_independence,
    stability_penalty,
)
from qdeq.models.cells import prepared_cell


def two_qubits(seed=0):
    """Reads two angles, measures three Z strings."""
    circuit = qdeq.hardware_efficient(2, 2)
    theta = np.random.default_rng(seed).uniform(-np.pi, np.pi, circuit.n_parameters)
    encoding = qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
    return qdeq.QuantumModel(theta, circuit, encoding=encoding, observables=qdeq.z_strings(2, 2))


def chain_of_circuits(wiring, **settings):
    injection = EdgeInjection.random(wiring, 2, 1, 3, key=jax.random.key(1), gain=0.8)
    return qdeq.Network(two_qubits(), injection, wiring, **settings)


def features_of(n, seed=2, d=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.slow
def test_the_papers_model_as_a_network_gives_its_numbers(x64):
    model = qdeq.paper_model(key=jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, 16))
    injection = EdgeInjection(np.eye(16), model.reinjection, learned=False)
    network = qdeq.Network(model, injection, Alone())
    tolerances = {"rtol": 1e-13, "atol": 1e-13}

    def of_network(network, x):
        value = network.solve(x[None], layer=NetworkEquilibrium(**tolerances)).value
        return jnp.sum(value**3), value[0]

    def of_model(model, x):
        layer = qdeq.Equilibrium(solver=qdeq.Newton(**tolerances))
        value = layer(model.prepare().bind(x), jnp.zeros(4)).value
        return jnp.sum(value**3), value

    (_, value), slope = eqx.filter_jit(eqx.filter_value_and_grad(of_network, has_aux=True))(
        network, x
    )
    (_, expected), other = eqx.filter_jit(eqx.filter_value_and_grad(of_model, has_aux=True))(
        model, x
    )
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_allclose(slope.cell.theta, other.theta, atol=1e-12)
    assert not np.asarray(slope.injection.messages).any()


@pytest.mark.parametrize("a_and_q", ["few inputs", "many inputs"])
def test_a_circuit_as_a_cell_is_the_circuit_without_feedback(a_and_q, x64):
    model = two_qubits()
    if a_and_q == "many inputs":
        circuit = qdeq.hardware_efficient(2, 1)
        encoding, observables = qdeq.AmplitudeEncoding(2, 4), qdeq.z_of_every_wire(2)
        theta = np.linspace(-1, 2, circuit.n_parameters)
        model = qdeq.QuantumModel(theta, circuit, encoding=encoding, observables=observables)
    v = jnp.asarray(np.random.default_rng(1).normal(size=model.n_features))
    silent = jnp.zeros(model.n_observables)

    @jax.jit
    def all_at_once(v):
        cell = prepared_cell(model)
        slopes = jax.jacfwd(lambda v: cell(v, None))(v)
        own = cell.linearise(v, None)[1] if hasattr(cell, "linearise") else slopes
        expected = model(silent, v), jax.jacfwd(lambda v: model(silent, v))(v)
        return cell(v, None), slopes, own, expected

    value, slopes, own, (expected, expected_slopes) = all_at_once(v)
    np.testing.assert_allclose(value, expected, atol=1e-14)
    np.testing.assert_allclose(slopes, expected_slopes, atol=1e-13)
    np.testing.assert_allclose(own, expected_slopes, atol=1e-13)


@pytest.mark.parametrize(
    "read_out",
    [
        "sites",
        pytest.param("mean", marks=pytest.mark.slow),
        pytest.param("last", marks=pytest.mark.slow),
    ],
)
def test_gradients_of_every_read_out_are_central_differences(read_out, x64):
    network = chain_of_circuits(
        Chain(4, "both"), read_out=read_out, n_outputs=2, key=jax.random.key(3)
    )
    layer = NetworkEquilibrium(rtol=1e-12, atol=1e-12)
    x = features_of(4)

    def loss(network, x):
        outputs = network.outputs(network.solve(x, layer=layer).value)
        return jnp.sum(jnp.sin(outputs))

    both = eqx.filter_jit(eqx.filter_value_and_grad(lambda pair: loss(*pair)))
    pair = (network, x)
    _, slope = both(pair)
    rng = np.random.default_rng(4)
    arrays, rest = eqx.partition(pair, eqx.is_inexact_array)
    move = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), arrays)

    def at(step):
        return both(eqx.combine(jax.tree.map(lambda a, d: a + step * d, arrays, move), rest))[0]

    expected = float(at(1e-5) - at(-1e-5)) / 2e-5
    found = sum(
        float(jnp.sum(a * b))
        for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(move), strict=True)
    )
    assert abs(found - expected) < 1e-6 * max(1, abs(expected))


def test_a_network_of_one_size_runs_on_any_other(x64):
    small = chain_of_circuits(Chain(3))
    large = small.on(Chain(7))
    x = features_of(7)
    # A causal site does not know what comes after it.
    np.testing.assert_allclose(large.solve(x).value[:3], small.solve(x[:3]).value, atol=1e-14)
    # Angles, U, W and b; not the feedback that a circuit has when it stands alone.
    assert large.n_parameters == small.n_parameters == 8 + 2 + 6 + 2
    assert (small.n_settings, large.n_settings) == (3, 7)
    fixed = EdgeInjection(np.ones((2, 1)), np.ones((1, 2, 3)), learned=False)
    headed = qdeq.Network(two_qubits(), fixed, Chain(3), n_outputs=1, key=jax.random.key(0))
    assert headed.n_parameters == 8 + 3 + 1
    with pytest.raises(qdeq.UserError, match="2 kinds of edges"):
        small.on(Chain(7, "both"))


def test_a_network_is_a_model_function(x64):
    network = chain_of_circuits(Chain(4, "both"))
    x = features_of(4)
    layer = qdeq.Equilibrium(solver=qdeq.Newton(1e-12, 1e-12))
    general = layer(network.prepare().bind(x.reshape(-1)), jnp.zeros(12)).value
    layer = NetworkEquilibrium(rtol=1e-12, atol=1e-12)
    structured = network.solve(x, layer=layer).value
    np.testing.assert_allclose(general, structured.reshape(-1), atol=1e-11)
    np.testing.assert_allclose(network.read_out(general), general)
    assert eqx.tree_equal(qdeq.QuantumEquilibrium(network).layer, network.default_layer())
    z = network.apply(x, 2)
    again = network(network(jnp.zeros(12), x.reshape(-1)), x.reshape(-1))
    np.testing.assert_allclose(z.reshape(-1), again, atol=1e-14)


def test_applications_carry_a_bit_as_far_as_their_number_and_an_equilibrium_all_the_way(x64):
    network = chain_of_circuits(Chain(12))
    x = features_of(12)
    other = x.at[0].add(1.0)
    for layers in (1, 3, 7):
        change = network.apply(other, layers) - network.apply(x, layers)
        assert np.abs(change[:layers]).max() > 0 and not np.asarray(change[layers:]).any()
    change = network.solve(other).value - network.solve(x).value
    assert (np.abs(change).max(axis=1) > 0).all()


class Gru(eqx.Module):
    """A cell of the user, which wants its features beside the injection."""

    gru: eqx.nn.GRUCell

    def __call__(self, v, x):
        return self.gru(x, v)


@pytest.mark.slow
def test_a_gru_on_a_causal_chain_is_the_ordinary_recurrence(x64):
    gru = eqx.nn.GRUCell(2, 3, key=jax.random.key(0))
    injection = EdgeInjection(np.zeros((3, 2)), np.eye(3), learned=False)
    network = qdeq.Network(Gru(gru), injection, Chain(6))
    x = features_of(6, d=2)
    _, expected = jax.lax.scan(lambda h, x: (gru(x, h), gru(x, h)), jnp.zeros(3), x)
    layer = NetworkEquilibrium("newton-scan", rtol=1e-12, atol=1e-12)
    found = jax.jit(lambda x: network.solve(x, layer=layer).value)(x)
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_read_outs_leave_out_masked_sites():
    mask = jnp.array([True, True, False, False])
    states = jnp.arange(12.0).reshape(4, 3)
    for read_out, expected in (("mean", states[:2].mean(axis=0)), ("last", states[1])):
        network = chain_of_circuits(Chain(4), read_out=read_out)
        np.testing.assert_allclose(network.outputs(states, mask), expected)


@pytest.mark.skipif(not native.serves(jnp.float32), reason="no compiled kernels here")
def test_all_cells_of_a_step_are_one_call_of_the_kernel():
    wired = chain_of_circuits(Chain(50)).wired()
    z, x = jnp.zeros((50, 3)), jnp.ones((50, 1))
    text = str(jax.make_jaxpr(wired.linearise)(z, x))
    assert text.count("qdeq_evaluate[") == 1 and "scan" not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"read_out": "first"}, "sites, mean, last"),
        ({"n_outputs": 2}, "n_outputs=2 without a key"),
        ({"key": jax.random.key(0)}, "n_outputs=None with a key"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings, message):
    with pytest.raises(qdeq.UserError, match=message):
        chain_of_circuits(Chain(3), **settings)


@pytest.mark.parametrize("read_out", ["sites", "mean", "last"])
@pytest.mark.parametrize("shape", [(5, 3, 3), (4, 3), (3, 2), (9,)])
def test_only_states_of_every_site_are_read_out(read_out, shape):
    # The mean of a batch was the one over its samples, and the last site its last sample.
    with pytest.raises(qdeq.UserError, match=r"give those of every site, \(3, 3\)"):
        chain_of_circuits(Chain(3), read_out=read_out).outputs(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("m", "x", "words"), [(8, 3, r"m has shape \(8,\): give \(9,\)"), (9, 4, "x has shape")]
)
def test_a_flat_state_has_the_numbers_of_every_site(m, x, words):
    with pytest.raises(qdeq.UserError, match=words):
        chain_of_circuits(Chain(3))(jnp.zeros(m), jnp.zeros(x))


@pytest.mark.parametrize("predictor", [qdeq.Classifier, qdeq.Regressor])
def test_a_predictor_refuses_a_network_whose_own_head_it_would_not_read(predictor):
    key = jax.random.key(0)
    headed = chain_of_circuits(Chain(3), n_outputs=2, key=key)
    with pytest.raises(qdeq.UserError, match=r"Network\(n_outputs=2\).*without n_outputs"):
        predictor(headed, 2, key=key)
    assert predictor(chain_of_circuits(Chain(3)), 2, key=key).head.in_features == 9


@pytest.mark.parametrize("cell", [3, eqx.nn.GRUCell])
def test_what_is_no_cell_is_refused_in_one_line(cell):
    injection = EdgeInjection.random(1, 2, 1, 3, key=jax.random.key(0))
    with pytest.raises(qdeq.UserError, match="cell="):
        qdeq.Network(cell, injection, Chain(3))


@pytest.mark.parametrize("injection", [None, qdeq.Injection(np.ones((2, 3)))])
def test_what_is_no_injection_of_edges_is_refused_in_one_line(injection):
    with pytest.raises(qdeq.UserError, match="give an EdgeInjection"):
        qdeq.Network(two_qubits(), injection, Chain(3))


def test_a_cell_whose_own_injection_learns_is_refused_in_one_line():
    cell, own = two_qubits(), qdeq.Injection(np.ones((2, 3)), learned="state")
    cell = qdeq.QuantumModel(cell.theta, measured=cell.measured, injection=own)
    edges = EdgeInjection.random(1, 2, 1, 3, key=jax.random.key(0))
    with pytest.raises(qdeq.UserError, match="learns its state and a network feeds its cells"):
        qdeq.Network(cell, edges, Chain(3))


def test_an_injection_for_another_cell_is_refused_in_one_line():
    injection = EdgeInjection.random(1, 4, 1, 3, key=jax.random.key(0))
    with pytest.raises(qdeq.UserError, match="the cell reads 2 and measures 3"):
        qdeq.Network(two_qubits(), injection, Chain(3))


def linear_graph(seed=0, n=6):
    """A network whose map is linear, and its matrix."""
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(n) for j in range(n) if rng.random() < 0.5]
    messages = rng.normal(size=(1, 2, 2))
    network = Wired(lambda v, x: v, EdgeInjection(np.zeros((2, 1)), messages), Graph(n, pairs))
    matrix = np.zeros((n, 2, n, 2))
    for j, i in pairs:
        matrix[i, :, j] += messages[0]
    return network, matrix.reshape(2 * n, 2 * n)


def test_growth_is_the_spectral_radius_and_its_slope(x64):
    network, matrix = linear_graph()
    z, x = jnp.zeros((6, 2)), jnp.zeros((6, 1))
    radius = np.abs(np.linalg.eigvals(matrix)).max()

    def of(scale):
        scaled = eqx.tree_at(
            lambda n: n.injection.messages, network, scale * network.injection.messages
        )
        return growth(scaled, z, x, warm_up=200)

    value, slope = jax.jit(jax.value_and_grad(of))(1.0)
    # A power method: what is left of the other eigenvalues after 200 products.
    assert value == pytest.approx(radius, rel=1e-2)
    assert slope == pytest.approx(float(value), rel=1e-6)  # it is proportional to the scale
    low = float(stability_penalty(network, z, x, ceiling=2 * radius))
    assert low == 0 < float(stability_penalty(network, z, x, ceiling=radius / 2))


def test_growth_on_a_causal_chain_is_zero_with_a_finite_slope(x64):
    network = Wired(lambda v, x: 2 * v, EdgeInjection([[1.0]], [[1.0]]), Chain(5))

    def of(network):
        return growth(network, jnp.zeros((5, 1)), jnp.zeros((5, 1)))

    value, slope = eqx.filter_value_and_grad(of)(network)
    assert value == 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "expected"), [(0.5, "one"), (3.0, "several")])
def test_the_spread_over_starts_tells_one_equilibrium_from_several(gain, expected, x64):
    wiring = Chain(3, "both")
    injection = EdgeInjection([[0.1]], [[[gain / 2]], [[gain / 2]]])
    network = Wired(lambda v, x: jnp.tanh(v), injection, wiring)
    layer = NetworkEquilibrium(qdeq.Picard(1e-9, 1e-9, damping=0.5), max_steps=300)
    for x in (jnp.ones((3, 1)), jnp.zeros((3, 1))):  # from which 0 is an equilibrium
        found = path_independence(layer, network, x, key=jax.random.key(0))
        assert found.converged_fraction == 1
        assert found.spread < 1e-7 if expected == "one" else 1 < found.spread < 100


@pytest.mark.slow
@pytest.mark.skipif(not native.serves(jnp.float32), reason="no compiled kernels here")
def test_derivatives_of_a_cell_with_fewer_inputs_than_states_are_those_of_jax(x64):
    """The kernel of a function of two numbers with three values, in every order and direction."""
    assert native.serves(jnp.float64)
    circuit = two_qubits()
    v, direction = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 2)))
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(5, 3)))

    def results(theta, v):
        cell = prepared_cell(eqx.tree_at(lambda c: c.theta, circuit, theta))

        def total(theta, v):
            cell = prepared_cell(eqx.tree_at(lambda c: c.theta, circuit, theta))
            value, slopes = jax.vmap(cell.linearise)(v, v)
            return jnp.sum(weights * value**2) + jnp.sum(jnp.sin(slopes))

        values = jax.vmap(cell.linearise)(v, v)
        plain = jax.jvp(lambda v: jax.vmap(cell)(v, v), (v,), (direction,))
        slope = jax.grad(total, argnums=(0, 1))
        return values, plain, slope(theta, v), jax.jvp(slope, (theta, v), (theta, direction))[1]

    given = (circuit.theta, v)
    kernel = jax.jit(results).lower(*given)
    assert "qdeq_evaluate_product" in kernel.as_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "serves", lambda dtype: False)
        expected = jax.jit(lambda *given: results(*given))(*given)
    for ours, theirs in zip(
        jax.tree.leaves(kernel.compile()(*given)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
