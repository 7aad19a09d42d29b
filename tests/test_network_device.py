"""Networks on devices: one submission per step, cells side by side, what it costs beforehand."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from execution_problems import LAYER, OBSERVABLES, Failing, simulator, tiny_model

import qdeq
from qdeq.circuits import xyz_of_every_wire, z_strings
from qdeq.devices import (
    DeviceFunction,
    Ledger,
    PackedExecutor,
    SimulatorExecutor,
    copies_that_fit,
    estimate_network,
    shift_jacobian,
    side_by_side,
    solve_on_device,
)
from qdeq.equilibrium.networks import Chain, EdgeInjection, Graph, Grid, NetworkEquilibrium
from qdeq.lowering import Program
from qdeq.models import SampledModel

SITES, SAMPLES = 3, 2
SLOW = pytest.mark.slow  # a program or more each
CIRCUIT = qdeq.hardware_efficient(2, 1)
OF_CELL = qdeq.MeasuredCircuit(
    CIRCUIT,
    qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)]),
    qdeq.MeasurementEnsemble(2, ("ZI", "XX", "IZ")),  # two settings
)


def cell():
    """In the precision of the test."""
    theta = np.random.default_rng(0).uniform(-np.pi, np.pi, CIRCUIT.n_parameters)
    return qdeq.QuantumModel(theta, measured=OF_CELL)


def executor_of(copies, **options):
    """qdeq's own simulation, of one cell or of several side by side."""
    if copies == 1:
        return simulator(cell(), **options)

    def make(circuit, observables):
        return SimulatorExecutor(circuit, observables, **options)

    circuit = Program.of(OF_CELL).circuit
    return PackedExecutor(make, circuit, OF_CELL.observables, n_qubits=2 * copies + 1)


def network_on(wiring, of=None, gain=0.5):
    edges = EdgeInjection.random(wiring, 2, 1, 3, key=jax.random.key(1), gain=gain)
    return qdeq.Network(of or cell(), edges, wiring)


def inputs(n=SITES):
    return jnp.asarray(np.random.default_rng(2).normal(size=(SAMPLES, n, 1)))


# --- cells side by side -----------------------------------------------------------------------


@pytest.mark.parametrize("observables", [OBSERVABLES, xyz_of_every_wire(2), z_strings(2, 2)])
def test_packed_rows_have_the_values_of_unpacked_ones(observables):
    circuit = Program.of(tiny_model("angle")).circuit
    one = SimulatorExecutor(circuit, observables)
    packed = PackedExecutor(SimulatorExecutor, circuit, observables, n_qubits=7)
    rows = np.random.default_rng(0).normal(size=(5, circuit.n_parameters))
    np.testing.assert_allclose(packed(rows), one(rows), atol=1e-12)
    assert packed.copies == 3 and packed.n_settings == one.n_settings
    assert one.ledger.executions == 5 * one.n_settings
    assert packed.ledger.executions == 2 * one.n_settings and packed.ledger.submissions == 1


def test_shifted_circuits_are_packed_as_well():
    program = Program.of(OF_CELL)
    one, packed = executor_of(1), executor_of(4)
    rows = np.random.default_rng(0).normal(size=(2, program.n_slots))
    values, jacobian = shift_jacobian(packed, rows, program.trainable_slots)
    expected, slopes = shift_jacobian(one, rows, program.trainable_slots)
    np.testing.assert_allclose(values, expected, atol=1e-12)
    np.testing.assert_allclose(jacobian, slopes, atol=1e-12)
    circuits = one.ledger.executions // 2
    assert packed.ledger.executions == 2 * math.ceil(circuits / 4)


def test_packed_shots_are_those_of_independent_cells():
    packed = executor_of(3, shots=4000)
    rows = np.zeros((60, Program.of(OF_CELL).n_slots))
    values = packed(rows)
    exact = executor_of(1)(rows[:1])[0]
    deviation = np.sqrt((1 - exact**2) / 4000)
    # Five standard errors of the mean of 60; every row has shots of its own.
    assert (np.abs(values.mean(axis=0) - exact) < 5 * deviation / np.sqrt(60) + 1e-12).all()
    assert len(np.unique(values[:, 1])) > 20
    assert packed.ledger.shots == 2 * 20 * 4000


def test_copies_share_neither_wires_nor_angles():
    wide = side_by_side(LAYER, 3)
    assert (wide.n_qubits, wide.n_parameters) == (6, 3 * LAYER.n_parameters)
    assert wide.trainable == 3 * LAYER.trainable and wide.depth() == LAYER.depth()
    for copy in range(3):
        size = len(LAYER.operations)
        own = wide.operations[copy * size : (copy + 1) * size]
        assert {wire for o in own for wire in o.wires} == {2 * copy, 2 * copy + 1}
    assert copies_that_fit(3, 127) == 42


@pytest.mark.slow
def test_cells_side_by_side_on_aer_are_counted_by_aer_itself():
    pytest.importorskip("qiskit_aer")
    from qdeq.interop.qiskit import QiskitExecutor

    circuit = Program.of(OF_CELL).circuit
    packed = PackedExecutor(
        lambda c, o: QiskitExecutor(c, o, shots=4000), circuit, OF_CELL.observables, n_qubits=9
    )
    rows = np.random.default_rng(0).normal(size=(10, circuit.n_parameters))
    values, exact = packed(rows), executor_of(1)(rows)
    assert np.abs(values - exact).max() < 5 / np.sqrt(4000)
    aer, ledger = packed.inner.device.simulator, packed.ledger
    assert (aer.circuits, aer.shots) == (ledger.executions, ledger.shots) == (6, 24_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_qubits": 1}, "n_qubits=1: the circuit has 2 qubits"),
        ({"n_qubits": 0}, "n_qubits=0"),
        ({"n_qubits": 5, "copies": 3}, "copies=3 of 2 qubits on 5: 2 of them fit"),
        ({"n_qubits": 5, "copies": 0}, "copies=0"),
    ],
)
def test_what_does_not_fit_on_a_device_is_refused_in_one_line(options, message):
    with pytest.raises(qdeq.UserError, match=message):
        PackedExecutor(SimulatorExecutor, LAYER, OBSERVABLES, **options)


def test_a_device_that_fails_is_asked_again_through_the_pack():
    def make(circuit, observables):
        return Failing(SimulatorExecutor(circuit, observables), {0, 2, 3}, retries=1)

    turn = qdeq.Circuit(1, (qdeq.Operation("RY", (0,), parameter=0),))
    packed = PackedExecutor(make, turn, z_strings(1, 1), n_qubits=2)
    np.testing.assert_allclose(packed(np.zeros((2, 1))), 1)
    assert packed.ledger.executions == 2  # one, tried twice
    with pytest.raises(qdeq.UserError, match="the lid was open"):
        packed(np.zeros((2, 1)))
    assert packed(np.zeros((0, 1))).shape == (0, 1)


# --- networks ---------------------------------------------------------------------------------

CASES = [
    pytest.param(Chain(SITES, "both"), "picard", 1, marks=SLOW),
    (Chain(SITES, "both"), "picard", 3),
    pytest.param(Chain(SITES), "sweep", 1, marks=SLOW),
    pytest.param(Chain(SITES), "sweep", 4, marks=SLOW),
    pytest.param(Graph(3, [(0, 1), (0, 2)], causal=True), "sweep", 1, marks=SLOW),
    pytest.param(Chain(SITES), "newton-scan", 3, marks=SLOW),
    pytest.param(Chain(SITES, "both", ring=True), "newton-blocks", 1, marks=SLOW),
    pytest.param(Grid(1, 3), "anderson", 1, marks=SLOW),
]


@pytest.mark.parametrize(("wiring", "solver", "copies"), CASES)
def test_a_network_on_a_device_is_the_exact_one_at_the_predicted_cost(wiring, solver, copies, x64):
    executor = executor_of(copies)
    layer = NetworkEquilibrium(solver, rtol=1e-9, atol=1e-9)
    x, start = inputs(), jnp.zeros((SITES, 3))

    @eqx.filter_jit
    def gradient(network, x):
        def loss(network):
            solution = jax.vmap(lambda x: network.solve(x, layer=layer, z0=start))(x)
            return jnp.sum(solution.value**3), (solution.value, solution.stats.steps)

        return eqx.filter_grad(loss, has_aux=True)(network)

    found, (value, steps) = gradient(network_on(wiring, DeviceFunction(cell(), executor)), x)
    expected, (exact, _) = gradient(network_on(wiring), x)
    np.testing.assert_allclose(value, exact, atol=1e-12)
    np.testing.assert_allclose(found.cell.model.theta, expected.cell.theta, atol=1e-10)
    np.testing.assert_allclose(found.injection.messages, expected.injection.messages, atol=1e-10)
    # Under vmap every step runs the whole batch.
    network = network_on(wiring)
    cost = estimate_network(network, solver=solver, steps=int(max(steps)), copies=copies)
    predicted = cost.training_step(SAMPLES)
    assert executor.ledger.by_purpose == predicted.by_purpose
    assert executor.ledger.submissions == predicted.submissions
    assert executor.ledger.executions == predicted.executions


@pytest.mark.slow
def test_direct_on_a_device_costs_what_was_predicted(x64):
    executor, wiring = executor_of(2), Chain(SITES, "both")

    @eqx.filter_jit
    def gradient(network, x):
        def loss(network):
            return jnp.sum(jax.vmap(lambda x: network.apply(x, 2))(x) ** 3)

        return eqx.filter_grad(loss)(network)

    found = gradient(network_on(wiring, DeviceFunction(cell(), executor)), inputs())
    expected = gradient(network_on(wiring), inputs())
    np.testing.assert_allclose(found.cell.model.theta, expected.cell.theta, atol=1e-10)
    predicted = estimate_network(network_on(wiring), layers=2, copies=2).training_step(SAMPLES)
    assert executor.ledger.by_purpose == predicted.by_purpose


@pytest.mark.slow
def test_outside_jit_a_solve_costs_its_steps_and_nothing_else(x64):
    executor = executor_of(1)
    network = network_on(Chain(SITES, "both"), DeviceFunction(cell(), executor))
    layer = NetworkEquilibrium("anderson")
    solution = network.solve(inputs()[0], layer=layer)
    assert solution.stats.converged and np.isnan(solution.stats.adjoint_residual)
    assert executor.ledger.by_purpose == {"forward": 2 * SITES * int(solution.stats.steps)}
    # A device's noise is averaged where a key says that there is some.
    noisy = network_on(Chain(SITES, "both"), DeviceFunction(cell(), executor_of(1, shots=1000)))
    averaged = noisy.solve(
        inputs()[0],
        key=jax.random.key(0),
        layer=NetworkEquilibrium(
            qdeq.KrasnoselskiiMann(0.0, qdeq.equilibrium.noise_floor(10_000, 9))
        ),
    )
    assert averaged.stats.steps > 8
    np.testing.assert_allclose(averaged.value, solution.value, atol=6 / np.sqrt(10_000))


def test_the_host_loop_submits_the_sites_of_unfinished_samples_only(x64):
    network, x, layer = network_on(Chain(SITES, "both")), inputs(), qdeq.Picard(1e-9, 1e-9)
    one, packed = executor_of(1), executor_of(3)
    found = solve_on_device(network, one, x, solver=layer, max_steps=40)
    again = solve_on_device(network, packed, x, solver=layer, max_steps=40)
    assert found.converged.all() and found.steps[0] != found.steps[1]
    np.testing.assert_allclose(again.value, found.value, atol=1e-12)
    z = jnp.asarray(found.value).reshape(SAMPLES, SITES, 3)
    np.testing.assert_allclose(jax.vmap(network.wired())(z, x), z, atol=1e-8)
    # Two settings; a submission per step, of the samples that still iterate.
    assert one.ledger.executions == 2 * SITES * found.steps.sum()
    active = [int((found.steps > step).sum()) for step in range(found.steps.max())]
    assert packed.ledger.executions == 2 * sum(math.ceil(SITES * n / 3) for n in active)
    assert one.ledger.submissions == packed.ledger.submissions == found.steps.max()
    steps = float(found.steps.mean())
    predicted = estimate_network(network, solver="picard", steps=steps).inference(SAMPLES)
    assert predicted.executions == one.ledger.executions


def test_the_host_loop_with_shots_agrees_packed_and_unpacked():
    network, x = network_on(Chain(SITES, "both")), inputs()
    one, packed = executor_of(1, shots=2000), executor_of(3, shots=2000)
    values = [solve_on_device(network, e, x, max_steps=25).value for e in (one, packed)]
    exact = solve_on_device(network, executor_of(1), x, max_steps=40).value
    # About ten evaluations are averaged.
    for value in values:
        assert np.abs(value - exact).max() < 5 / np.sqrt(2000 * 5)
    assert 2.5 < one.ledger.executions / packed.ledger.executions < 3.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n, x: solve_on_device(n, executor_of(1), x[0]), r"give samples .* \(B, 3, 1\)"),
        (lambda n, x: solve_on_device(n, executor_of(1), x[:, :2]), r"\(B, 3, 1\)"),
        (lambda n, x: solve_on_device(n, executor_of(1), x, start=x), r"shape \(2, 9\)"),
        *(
            (lambda n, x, wrong=wrong: solve_on_device(n, executor_of(1), wrong), "real numbers")
            for wrong in ("zero", [[[0.0], [1.0, 2.0]]], None, 1j * np.ones((2, SITES, 1)))
        ),
        (lambda n, x: solve_on_device(n, executor_of(1), x, start="zero"), "real numbers"),
        (lambda n, x: estimate_network(n.wired()), "Wired has no circuit"),
        (
            lambda n, x: solve_on_device(n, simulator(tiny_model()), x),
            "runs another circuit than the model's program",
        ),
        (
            lambda n, x: solve_on_device(
                qdeq.Network(lambda v, x: jnp.stack([*v, v[0]]), n.injection, n.wiring),
                executor_of(1),
                x,
            ),
            "a device runs one circuit",
        ),
        (lambda n, x: estimate_network(OF_CELL), "wiring=None: give Chain"),
        (lambda n, x: estimate_network(n, solver="sweep"), "'sweep' cannot solve"),
        (
            lambda n, x: estimate_network(OF_CELL, qdeq.Grid(99, 99), solver="homotopy"),
            "they are exact up to 128",
        ),
        (lambda n, x: estimate_network(n, solver="bfgs"), "solver='bfgs' is not known"),
        (lambda n, x: estimate_network(n, copies=0), "copies=0"),
        (lambda n, x: estimate_network(n, steps=0), "steps=0"),
    ],
)
def test_what_a_device_cannot_do_is_refused_in_one_line(make, message):
    with pytest.raises(qdeq.UserError, match=message):
        make(network_on(Chain(SITES, "both")), inputs())


def test_a_sampled_network_runs_on_a_device_as_its_circuit():
    network = network_on(Chain(SITES), SampledModel(cell()))
    executor = executor_of(1)
    assert solve_on_device(network, executor, inputs()).value.shape == (SAMPLES, 9)
    assert isinstance(executor.ledger, Ledger)


def test_sweep_scan_and_direct_trade_executions_for_round_trips():
    wiring, batch = Chain(64), 32
    costs = {
        "sweep": estimate_network(OF_CELL, wiring, solver="sweep"),
        "scan": estimate_network(OF_CELL, wiring, solver="newton-scan", steps=4),
        "direct": estimate_network(OF_CELL, wiring, layers=64),
    }
    found = {name: cost.inference(batch) for name, cost in costs.items()}
    settings, shifts = 2, 2 * 2
    assert found["sweep"].executions == settings * batch * (64 + 64)
    assert found["sweep"].submissions == 64 + 1
    assert found["scan"].executions == settings * batch * 64 * 4 * (1 + 1 + shifts)
    assert found["scan"].submissions == 2 * 4
    assert found["direct"].executions == settings * batch * 64 * 64
    assert found["direct"].submissions == 64
    packed = estimate_network(OF_CELL, wiring, solver="sweep", copies=63).inference(batch)
    assert packed.executions == settings * (64 * 1 + math.ceil(64 * batch / 63))
