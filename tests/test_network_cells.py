"""Cells of networks: noisy circuits against dense matrices, circuits with shots, several kinds."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from test_network_model import features_of, two_qubits

import qdeq
from qdeq.equilibrium import STATUS, GeometricShots, KrasnoselskiiMann, noise_floor
from qdeq.equilibrium.networks import Cells, Chain, EdgeInjection, Graph, NetworkEquilibrium, Wired
from qdeq.equilibrium.networks.wired import CellWithLinearisation
from qdeq.models import SampledModel
from qdeq.models.cells import prepared_cell

TIGHT = {"rtol": 1e-13, "atol": 1e-13}
DEPOLARISING, DAMPING, MISREAD = 0.03, 0.02, 0.04
NOISE = qdeq.parse_noise(
    f"depolarising={DEPOLARISING},amplitude-damping={DAMPING},readout={MISREAD}"
)


@pytest.mark.parametrize("noise", [None, NOISE], ids=["exact", "noisy"])
@pytest.mark.parametrize(
    ("observables", "feeds"),
    [(qdeq.z_of_every_wire(2), 4), (qdeq.xyz_of_every_wire(2), 4), (qdeq.z_strings(2, 2), 3)],
    ids=["fewer than angles", "more than angles", "as many"],
)
def test_a_circuits_slopes_are_those_of_what_it_hears(observables, feeds, noise, x64):
    circuit = qdeq.hardware_efficient(2, 2)
    turns = [("RY", 0, 0), ("RZ", 0, 1), ("RX", 1, 2), ("RZ", 1, 3)][:feeds]
    encoding = qdeq.AngleEncoding.from_rotations(2, turns)
    theta = jnp.linspace(-2, 2, circuit.n_parameters)
    model = qdeq.QuantumModel(
        theta, circuit, encoding=encoding, observables=observables, noise=noise
    )
    cell, v = prepared_cell(model), jnp.linspace(-1, 1.5, feeds)
    # One call of a kernel, where there is one: cells that lack it were thirty times slower.
    assert isinstance(cell, CellWithLinearisation)
    if noise is None:
        turned = oracle.circuit_unitary(qdeq.Circuit(2, encoding.operations), (), v)
        state = oracle.circuit_unitary(circuit, theta) @ turned @ np.eye(4)[0]
        expected = oracle.expectation_values(observables.strings, state)
        np.testing.assert_allclose(eqx.filter_jit(cell)(v, v), expected, atol=1e-12)
    value, slopes = eqx.filter_jit(lambda v: cell.linearise(v, v))(v)
    steps = 1e-6 * np.eye(feeds)
    values = eqx.filter_jit(jax.vmap(lambda v: cell(v, v)))(
        np.stack([v, *(v + steps), *(v - steps)])
    )
    np.testing.assert_allclose(value, values[0], atol=1e-12)
    differences = (values[1 : 1 + feeds] - values[1 + feeds :]) / 2e-6
    np.testing.assert_allclose(slopes, differences.T, atol=1e-8)


# --- noise ------------------------------------------------------------------------------------


def kraus_operators(wire):
    """Of what happens after a gate on one of two wires: depolarising, then decay."""
    p, g = DEPOLARISING, DAMPING
    flips = [np.sqrt(1 - p) * oracle.I2, *(np.sqrt(p / 3) * oracle.PAULIS[a] for a in "XYZ")]
    decay = [np.diag([1, np.sqrt(1 - g)]), np.array([[0, np.sqrt(g)], [0, 0]])]
    return [[oracle.on_wires(np.asarray(k), (wire,), 2) for k in ks] for ks in (flips, decay)]


KRAUS = [kraus_operators(wire) for wire in range(2)]


def dense_cell(model, theta, v):
    """Z strings of two noisy qubits by density matrices; misread bits shrink every Z."""
    encoding = model.encoding
    if isinstance(encoding, qdeq.AmplitudeEncoding):
        state = v / np.linalg.norm(v)
        operations = [(o, theta) for o in model.circuit.operations]
    else:
        state = np.eye(4)[0]
        operations = [(o, v) for o in encoding.operations]
        operations += [(o, theta) for o in model.circuit.operations]
    rho = np.outer(state, state).astype(complex)
    for operation, numbers in operations:
        angles = [] if operation.parameter is None else [numbers[operation.parameter]]
        if operation.feature is not None:
            angles = [numbers[operation.feature]]
        u = oracle.on_wires(oracle.gate_matrix(operation.name, angles), operation.wires, 2)
        rho = u @ rho @ u.conj().T
        for wire in operation.wires:
            for channel in KRAUS[wire]:
                rho = sum(k @ rho @ k.conj().T for k in channel)
    values = []
    for string in model.observables.strings:
        matrix = np.kron(*(oracle.PAULIS[letter] for letter in string))
        shrunk = (1 - 2 * MISREAD) ** (2 - string.count("I"))
        values.append(shrunk * np.trace(matrix @ rho).real)
    return np.array(values)


def dense_loss(network, theta, messages, x):
    """Sum of cubes of the equilibrium that repeated application reaches, all in NumPy."""
    edges, injection = network.wiring.edges, network.injection
    alone = np.asarray(x) @ np.asarray(injection.features).T + np.asarray(injection.offset)
    z = np.zeros((len(alone), 3))
    for _ in range(100):
        v = alone.copy()
        for sender, receiver, kind in zip(edges.senders, edges.receivers, edges.kinds, strict=True):
            v[receiver] += messages[kind] @ z[sender]
        before, z = z, np.array([dense_cell(network.cell, theta, one) for one in v])
        if np.abs(z - before).max() < 1e-14:
            break
    return np.sum(z**3), z


def noisy_network(encoding, method):
    circuit = qdeq.hardware_efficient(2, 1)
    theta = np.random.default_rng(0).uniform(-np.pi, np.pi, circuit.n_parameters)
    reads = qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RX", 1, 1)])
    if encoding == "amplitude":
        reads = qdeq.AmplitudeEncoding(2, 4)
    cell = qdeq.QuantumModel(
        theta,
        circuit,
        encoding=reads,
        observables=qdeq.z_strings(2, 2),
        noise=NOISE,
        method=method,
    )
    wiring = Chain(3, "both")
    a = cell.n_features
    edges = EdgeInjection.random(wiring, a, 1, 3, key=jax.random.key(1), gain=0.5)
    edges = EdgeInjection(edges.features, edges.messages, np.linspace(0.5, 1, a))
    return qdeq.Network(cell, edges, wiring)


@pytest.mark.parametrize(
    ("encoding", "method"),
    list(itertools.product(("angle", "amplitude"), ("auto", "density-matrix"))),
)
@pytest.mark.slow
def test_noisy_cells_have_the_equilibrium_and_gradient_of_density_matrices(encoding, method, x64):
    network, x = noisy_network(encoding, method), features_of(3)
    layer = NetworkEquilibrium(**TIGHT)

    def loss(network):
        z = network.solve(x, layer=layer).value
        return jnp.sum(z**3), z

    (_, z), slope = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))(network)
    theta, messages = np.asarray(network.cell.theta), np.asarray(network.injection.messages)
    np.testing.assert_allclose(z, dense_loss(network, theta, messages, x)[1], atol=1e-12)
    rng = np.random.default_rng(4)
    turn, weigh = rng.normal(size=theta.shape), rng.normal(size=messages.shape)
    ahead, behind = (
        dense_loss(network, theta + h * turn, messages + h * weigh, x)[0] for h in (1e-5, -1e-5)
    )
    found = np.sum(slope.cell.theta * turn) + np.sum(slope.injection.messages * weigh)
    assert found == pytest.approx((ahead - behind) / 2e-5, abs=1e-8)


# --- shots ------------------------------------------------------------------------------------


def sampled_network(wiring):
    injection = EdgeInjection.random(wiring, 2, 1, 3, key=jax.random.key(1), gain=0.8)
    return qdeq.Network(SampledModel(two_qubits()), injection, wiring)


KEYS = jax.random.split(jax.random.key(5), 60)
SHOTS = 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wiring", "evaluations"), [(Chain(4), 3), (Chain(4, "both"), None)], ids=["sweep", "averages"]
)
def test_measured_cells_have_the_exact_equilibrium_within_their_shots(wiring, evaluations):
    network, x = sampled_network(wiring), features_of(4).astype("float32")
    exact = qdeq.Network(network.cell.model, network.injection, wiring).solve(x).value
    many = jax.jit(jax.vmap(lambda key: network.solve(x, key=key, shots=SHOTS)))(KEYS)
    assert many.stats.converged.all()
    used = np.asarray(many.stats.evaluations)
    np.testing.assert_array_equal(many.stats.shots, SHOTS * used)  # of one site
    error = np.asarray(many.value - exact)
    # Unbiased up to five standard errors and the curvature, which is of order 1 / shots.
    spread = error.std(axis=0)
    assert (np.abs(error.mean(axis=0)) < 5 * spread / np.sqrt(len(KEYS)) + 3 / SHOTS).all()
    if evaluations is None:  # about ten evaluations and those before them, averaged
        assert used.min() > 10 and error.std() < 0.6 / np.sqrt(SHOTS)
    else:
        assert (used == evaluations).all() and error.std() < 1.5 / np.sqrt(SHOTS)


@pytest.mark.slow
def test_every_site_and_sample_has_randomness_of_its_own():
    # No edges: nothing but chance tells the sites apart.
    network = sampled_network(Graph(3))
    x = jnp.zeros((3, 1))
    drawn = jax.jit(jax.vmap(lambda key: network.wired()(jnp.zeros((3, 3)), x, key=key, shots=50)))
    values = np.asarray(drawn(jax.random.split(jax.random.key(0), 400)))[:, :, 0]
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 5 / np.sqrt(400)
    assert len(np.unique(values[:50], axis=0)) > 25  # samples
    np.testing.assert_array_equal(drawn(KEYS)[0], drawn(KEYS)[0])  # a key fixes all


@pytest.mark.slow
def test_gradients_of_measured_cells_are_those_of_the_exact_ones_nearby(x64):
    wiring = Chain(3, "both")
    network, x = sampled_network(wiring), features_of(3)

    def loss(network, key):
        random = {} if key is None else {"key": key, "shots": 2**22}
        return jnp.sum(network.solve(x, **random).value ** 3)

    found = eqx.filter_jit(eqx.filter_grad(loss))(network, KEYS[0])
    exact = qdeq.Network(network.cell.model, network.injection, wiring)
    expected = eqx.filter_jit(eqx.filter_grad(loss))(exact, None)
    # Exact derivatives at a point that is off by the shots: 5e-4 / sqrt(10).
    np.testing.assert_allclose(found.cell.model.theta, expected.cell.theta, atol=3e-3)
    np.testing.assert_allclose(found.injection.messages, expected.injection.messages, atol=3e-3)
    assert network.n_parameters == exact.n_parameters
    assert jax.tree.structure(network.trained().cell.model) == jax.tree.structure(
        exact.trained().cell
    )


@pytest.mark.slow
def test_a_schedule_of_shots_and_solvers_of_ones_own_serve_networks():
    wiring = Chain(4, "both")
    network, x = sampled_network(wiring), features_of(4).astype("float32")
    solver = KrasnoselskiiMann(0.0, noise_floor(10 * 2000, 12), burn_in=5)
    growing = GeometricShots(100, 2000, growth=2)
    solution = network.solve(
        x, layer=NetworkEquilibrium(solver, max_steps=40), key=KEYS[0], shots=growing
    )
    assert solution.stats.converged and solution.stats.shots < 2000 * solution.stats.steps
    for name in ("picard", "anderson", "broyden"):
        one = network.solve(x, layer=NetworkEquilibrium(name), key=KEYS[0], shots=2000)
        assert np.abs(one.value - solution.value).max() < 6 / np.sqrt(2000)
        # Confirmed by fresh shots, or said not to be.
        assert STATUS[one.stats.result] in (STATUS[STATUS.converged], STATUS[STATUS.unconfirmed])


@pytest.mark.slow
def test_a_network_as_a_whole_is_sampled_as_its_cells_are():
    wiring = Chain(3, "both")
    exact = qdeq.Network(two_qubits(), sampled_network(wiring).injection, wiring)
    x, z = features_of(3).astype("float32"), jnp.full(9, 0.1)
    whole = SampledModel(exact)(z, x.reshape(-1), key=KEYS[0], shots=100)
    cells = qdeq.Network(SampledModel(two_qubits()), exact.injection, wiring)
    np.testing.assert_array_equal(whole, cells(z, x.reshape(-1), key=KEYS[0], shots=100))
    layer = qdeq.Equilibrium(KrasnoselskiiMann(0.0, 0.0), max_steps=30)
    found = layer(SampledModel(exact), jnp.zeros(9), x.reshape(-1), key=KEYS[0], shots=2000)
    assert np.abs(found.value - exact.solve(x).value.reshape(-1)).max() < 0.02


def test_a_random_cell_of_ones_own_takes_a_key_by_name(x64):
    def cell(v, x, *, key, shots):
        return jnp.tanh(v) + jax.random.normal(key, v.shape) / jnp.sqrt(shots)

    network = Wired(cell, EdgeInjection([[1.0]], [[[0.3]], [[0.3]]]), Chain(3, "both"))
    layer, x = NetworkEquilibrium(max_steps=60), jnp.ones((3, 1))
    found = layer(network, x, key=KEYS[0], shots=10**6)
    exact = layer(Wired(lambda v, x: jnp.tanh(v), network.injection, network.wiring), x)
    np.testing.assert_allclose(found.value, exact.value, atol=5e-3)
    with pytest.raises(qdeq.UserError, match="there is no key"):
        layer(network, x)
    # Swept once whatever the budget: a site once on a chain, on a graph as often as its longest
    # path has sites; then the residual, and that once more.
    for wiring, times in ((Chain(3), 1), (Graph(3, [(0, 1), (1, 2)], causal=True), 3)):
        swept = Wired(cell, EdgeInjection([[1.0]], [[0.3]]), wiring)
        stats = layer(swept, x, key=KEYS[0], shots=10, budget=4).stats
        assert (stats.steps, stats.evaluations, stats.shots) == (1, times + 2, 10 * (times + 2))


@pytest.mark.parametrize(
    ("wiring", "options", "message"),
    [
        (Chain(3), {}, "there is no key: give key="),
        (Chain(3), {"shots": 10}, "shots without a key"),
        (Chain(3), {"key": KEYS[0], "shots": 0}, "shots=0"),
        (
            Chain(3),
            {"key": KEYS[0], "solver": "newton-scan"},
            "not by their Jacobians",
        ),
        (Chain(3, "both"), {"key": KEYS[0], "solver": "sweep"}, "'sweep' cannot solve Chain"),
    ],
)
def test_what_shots_cannot_do_is_refused_in_one_line(wiring, options, message):
    layer = NetworkEquilibrium(options.pop("solver", "auto"))
    with pytest.raises(qdeq.UserError, match=message):
        sampled_network(wiring).solve(jnp.ones((3, 1)), layer=layer, **options)


def test_shots_for_cells_that_are_exact_are_refused_in_one_line():
    injection = EdgeInjection.random(1, 2, 1, 3, key=jax.random.key(1))
    network = qdeq.Network(two_qubits(), injection, Chain(3))
    with pytest.raises(qdeq.UserError, match=r"SampledModel\(circuit\) as the cell"):
        network.solve(jnp.ones((3, 1)), key=KEYS[0], shots=10)
    with pytest.raises(qdeq.UserError, match=r"SampledModel\(circuit\) as the cell"):
        network.apply(jnp.ones((3, 1)), 2, key=KEYS[0], shots=10)


# --- several kinds of cell --------------------------------------------------------------------


def tanh_cell(v, x):
    """Two inputs, three states."""
    return jnp.tanh(jnp.stack([v[0], v[1] - v[0], 0.5 * v[1]]))


class Scaled(eqx.Module):
    """A cell with a parameter of its own."""

    scale: jax.Array

    def __call__(self, v, x):
        return tanh_cell(self.scale * v, x)


KINDS = [1, 0, 2, 1]
MIXED_WIRINGS = {
    "causal": Chain(4),
    "both ways": Chain(4, "both"),
    "graph": Graph(4, [(0, 1), (2, 1), (1, 3), (3, 3), (3, 0)], [0, 0, 1, 1, 0]),
}


def mixed(wiring, kinds=KINDS):
    """Two circuits and a classical cell."""
    injection = EdgeInjection.random(wiring, 2, 1, 3, key=jax.random.key(1), gain=0.6)
    cells = Cells([two_qubits(0), two_qubits(1), Scaled(jnp.asarray(0.8))], kinds)
    return qdeq.Network(cells, injection, wiring, n_outputs=1, key=jax.random.key(2))


def one_by_one(network, z, x):
    """F(z), every site by hand."""
    v = network.wired().heard(z, x)
    found = []
    for i, kind in enumerate(network.cell.kinds):
        cell = network.cell.cells[kind]
        is_circuit = isinstance(cell, qdeq.QuantumModel)
        found.append(cell(jnp.zeros(3), v[i]) if is_circuit else cell(v[i], x[i]))
    return jnp.stack(found)


@pytest.mark.parametrize(
    "name",
    ["causal", "both ways", "graph"],
)
@pytest.mark.slow
def test_several_kinds_of_cell_are_solved_and_differentiated_together(name, x64):
    network, x = mixed(MIXED_WIRINGS[name]), features_of(4)
    layer = NetworkEquilibrium(**TIGHT)

    def loss(network):
        z = network.solve(x, layer=layer).value
        return jnp.sum(jnp.sin(network.outputs(z))), z

    both = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
    (_, z), slope = both(network)
    np.testing.assert_allclose(z, one_by_one(network, z, x), atol=1e-12)
    rng = np.random.default_rng(4)
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    move = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), arrays)

    def at(step):
        return both(eqx.combine(jax.tree.map(lambda a, d: a + step * d, arrays, move), rest))[0][0]

    found = sum(
        float(jnp.sum(a * b))
        for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(move), strict=True)
    )
    assert found == pytest.approx(float(at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-6)
    assert all(np.any(cell.theta) for cell in slope.cell.cells[:2]) and slope.cell.cells[2].scale


@pytest.mark.slow
def test_a_network_of_several_kinds_runs_on_other_sizes_and_counts(x64):
    small = mixed(Chain(4))
    large = small.on(Chain(7), kinds=[1, 0, 2, 1, 0, 0, 2])
    x = features_of(7)
    np.testing.assert_allclose(large.solve(x).value[:4], small.solve(x[:4]).value, atol=1e-14)
    # Of two circuits, the scale, U, W and b, and the head.
    assert large.n_parameters == small.n_parameters == 8 + 8 + 1 + 2 + 6 + 2 + 4
    assert (small.n_settings, large.n_settings) == (4, 7)
    trained = small.trained()
    assert jax.tree.structure(trained) == jax.tree.structure(
        eqx.filter(small, eqx.is_inexact_array)
    )
    for wiring, kinds, message in (
        (Chain(7), None, "kinds has 4 numbers and the wiring 7 sites"),
        (Chain(2), [0, 3], r"kinds\[1\]=3: there are 3 cells"),
    ):
        with pytest.raises(qdeq.UserError, match=message):
            small.on(wiring, kinds)
    with pytest.raises(qdeq.UserError, match="one kind of cell, leave kinds out"):
        sampled_network(Chain(4)).on(Chain(2), kinds=[0, 0])


@pytest.mark.slow
def test_a_long_chain_of_several_kinds_is_newtons_as_it_is_swept(x64):
    wiring, kinds = Chain(300), np.arange(300) % 3
    injection = EdgeInjection.random(wiring, 1, 1, 1, key=jax.random.key(1), gain=0.9)
    cells = Cells([lambda v, x: jnp.tanh(v), lambda v, x: jnp.sin(v), lambda v, x: -v / 2], kinds)
    network, x = Wired(cells, injection, wiring), features_of(300)
    swept, found = (
        NetworkEquilibrium(name, **TIGHT)(network, x).value for name in ("sweep", "newton-scan")
    )
    np.testing.assert_allclose(found, swept, atol=1e-12)


@pytest.mark.slow
def test_measured_and_classical_cells_may_stand_side_by_side():
    wiring = Chain(4, "both")
    injection = EdgeInjection.random(wiring, 2, 1, 3, key=jax.random.key(1), gain=0.6)
    cells = Cells([SampledModel(two_qubits()), tanh_cell], [0, 1, 0, 1])
    network, x = qdeq.Network(cells, injection, wiring), features_of(4).astype("float32")
    found = network.solve(x, key=KEYS[0], shots=4000).value
    exact = network.on(wiring, kinds=cells.kinds)
    exact = qdeq.Network(Cells([two_qubits(), tanh_cell], cells.kinds), injection, wiring)
    assert np.abs(found - exact.solve(x).value).max() < 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cells([], [0]), "cells is empty"),
        (lambda: Cells(3, [0]), "cells=3: give a list"),
        (lambda: Cells([tanh_cell], [0.5]), r"kinds=\[0.5\]: give the number"),
        (lambda: Cells([tanh_cell], [[0]]), r"kinds=\[\[0\]\]: give the number"),
        (lambda: Cells([tanh_cell], [0, -1]), r"kinds\[1\]=-1"),
        (lambda: mixed(Chain(5)), "kinds has 4 numbers and the wiring 5 sites"),
        (
            lambda: qdeq.Network(
                Cells([two_qubits(), qdeq.paper_model(key=jax.random.key(0))], [0, 1]),
                EdgeInjection.random(1, 2, 1, 3, key=jax.random.key(0)),
                Chain(2),
            ),
            "the cells read and measure 2 and 3, 16 and 4",
        ),
        (
            lambda: qdeq.Network(
                Cells([tanh_cell, 3], [0, 1]),
                EdgeInjection.random(1, 2, 1, 3, key=jax.random.key(0)),
                Chain(2),
            ),
            "cell=3",
        ),
    ],
)
def test_kinds_that_do_not_fit_are_refused_in_one_line(make, message):
    with pytest.raises(qdeq.UserError, match=message):
        make()
