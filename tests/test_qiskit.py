"""Qiskit: circuits both ways, models on its primitives, noise models of its fake backends."""

import subprocess
import sys
import time
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from execution_problems import tiny_inputs, tiny_model

import qdeq
from qdeq import UserError
from qdeq.circuits import (
    GATES,
    Circuit,
    MeasurementEnsemble,
    Operation,
    hardware_efficient,
    paper_ansatz,
    z_of_every_wire,
)
from qdeq.circuits.noise import NoiseModel
from qdeq.devices import (
    Budget,
    BudgetSpent,
    DeviceError,
    DeviceFunction,
    DeviceTiming,
    Ledger,
    shift_jacobian,
)
from qdeq.lowering import Program
from qdeq.simulation.outcomes import outcome_probabilities

qiskit = pytest.importorskip("qiskit")
pytest.importorskip("qiskit_aer")
from qiskit import QuantumCircuit  # noqa: E402
from qiskit.circuit import Parameter, ParameterVector  # noqa: E402
from qiskit.circuit.library import real_amplitudes  # noqa: E402
from qiskit.primitives import (  # noqa: E402
    PrimitiveJob,
    StatevectorEstimator,
    StatevectorSampler,
)
from qiskit.providers import BackendV2, Options  # noqa: E402
from qiskit.providers.fake_provider import GenericBackendV2  # noqa: E402
from qiskit.quantum_info import Kraus, Operator, SuperOp  # noqa: E402
from qiskit_aer import AerSimulator  # noqa: E402
from qiskit_aer.noise import NoiseModel as AerNoise  # noqa: E402
from qiskit_aer.noise import depolarizing_error  # noqa: E402
from qiskit_ibm_runtime.fake_provider import FakeCairoV2, FakeManilaV2  # noqa: E402

from qdeq.interop._circuits import as_circuit  # noqa: E402
from qdeq.interop.qiskit import (  # noqa: E402
    CountingSimulator,
    QiskitExecutor,
    from_qiskit,
    noise_from_backend,
    to_qiskit,
)
from qdeq.interop.qiskit.backends import Device  # noqa: E402

MANILA = FakeManilaV2()
MIXED = MeasurementEnsemble(4, ("ZIII", "IXII", "ZIIZ", "YIII", "IIYZ"))  # two settings


def agree(left, right):
    """Whether two unitaries are equal up to a global phase, to 1e-10."""
    return abs(abs(np.vdot(left, right)) / len(left) - 1) < 1e-10


def unitary_of(quantum_circuit):
    """In our order of bits: Qiskit's qubit 0 is the least significant one."""
    return Operator(quantum_circuit.reverse_bits()).data


def circuit_with(name):
    start = [Operation("RY", (wire,), angle=0.3 + wire) for wire in range(3)]
    if name == "Unitary":
        rng = np.random.default_rng(0)
        matrix = np.linalg.qr(rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))[0]
        return Circuit(3, (*start, Operation(name, (2, 0), matrix=matrix)))
    gate = GATES[name]
    parameter = {0: None, 1: 0, 3: (0, 1, 2)}[gate.n_parameters]
    return Circuit(3, (*start, Operation(name, (2, 0)[: gate.n_wires], parameter=parameter)))


@pytest.mark.parametrize("name", [*GATES, "Unitary"])
def test_every_gate_converts_both_ways(name):
    circuit = circuit_with(name)
    theta = np.linspace(0.4, 1.7, circuit.n_parameters)
    expected = oracle.circuit_unitary(circuit, theta)
    assert agree(unitary_of(to_qiskit(circuit, theta)), expected)
    with_parameters = to_qiskit(circuit)
    assert agree(unitary_of(with_parameters.assign_parameters(theta.tolist())), expected)
    assert from_qiskit(with_parameters) == circuit


@pytest.mark.parametrize("theta", [[np.nan], [np.inf], [1j], ["a"], [[1], [1, 2]]])
def test_angles_that_are_no_finite_real_numbers_are_refused(theta):
    with pytest.raises(UserError, match=r"^theta (cannot be read|holds NaN or infinity)"):
        to_qiskit(Circuit(1, (Operation("RX", (0,), parameter=0),)), theta)


def test_parameters_sort_as_they_count():
    circuit = paper_ansatz(10)
    names = [parameter.name for parameter in to_qiskit(circuit).parameters]
    assert names == [f"t_{i:03d}" for i in range(56)]
    many = Circuit(1, tuple(Operation("RX", (0,), parameter=i) for i in range(1001)))
    assert [p.name for p in to_qiskit(many).parameters][::500] == ["t_0000", "t_0500", "t_1000"]


def test_features_and_sums_of_parameters():
    a, x = Parameter("a"), ParameterVector("x", 12)
    theirs = QuantumCircuit(2, 2)
    for i in range(12):
        theirs.ry(x[i], i % 2)  # by name, x[10] would come before x[2]
    theirs.rx(2 * a + x[3] + 0.5, 0)
    theirs.u(a, 0.1, x[1], 1)
    theirs.u(0.3, 0.1, 0.2, 1)
    theirs.barrier()
    theirs.measure([0, 1], [0, 1])
    circuit = from_qiskit(theirs, features=x)
    assert (circuit.n_features, circuit.n_parameters) == (12, 1)
    values = np.linspace(-2, 2, 12)
    bound = theirs.remove_final_measurements(inplace=False).assign_parameters(
        {a: 0.7, **dict(zip(x, values, strict=True))}
    )
    assert agree(oracle.circuit_unitary(circuit, [0.7], values), unitary_of(bound))


def test_a_circuit_of_qiskits_library_becomes_an_ansatz():
    theirs = real_amplitudes(3, reps=1)
    circuit = from_qiskit(theirs)
    theta = np.linspace(-1, 2, circuit.n_parameters)
    expected = unitary_of(theirs.assign_parameters(theta))
    assert agree(oracle.circuit_unitary(circuit, theta), expected)


def test_classes_that_people_derive_from_qiskits_are_what_they_derive_from():
    class Own(QuantumCircuit):
        pass

    class OwnManila(FakeManilaV2):
        pass

    own = Own(1)
    own.ry(Parameter("a"), 0)
    assert as_circuit(own) == from_qiskit(own)
    assert Device.of(OwnManila(), "sampler").simulator is not None


def refused_circuits():
    a = Parameter("a")
    curved, measured, reset, unknown, named = (QuantumCircuit(2, 1) for _ in range(5))
    curved.cp(a.sin(), 0, 1)
    measured.measure(0, 0)
    measured.x(0)
    reset.reset(1)
    unknown.append(qiskit.circuit.Gate("mystery", 2, []), [0, 1])
    named.rx(a, 0)
    return [
        (curved, (), r"cp on qubits .0, 1. turns by .*sin.a."),
        (measured, (), "x on qubits .0. follows a measurement"),
        (reset, (), "reset on qubits .1. is not a unitary gate"),
        (unknown, (), "mystery on qubits .0, 1. is not a gate that Qiskit can decompose"),
        (named, ("b",), "features.0.='b' is not a parameter of the circuit: choose from a"),
    ]


@pytest.mark.parametrize(("theirs", "features", "message"), refused_circuits())
def test_what_has_no_counterpart_is_refused_in_one_line(theirs, features, message):
    with pytest.raises(UserError, match=message) as caught:
        from_qiskit(theirs, features=features)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def angles():
    return np.random.default_rng(0).uniform(-np.pi, np.pi, (5, 39))


@pytest.fixture(scope="module")
def exact(angles):
    states = [oracle.circuit_unitary(paper_ansatz(4), row)[:, 0] for row in angles]
    return np.array([oracle.expectation_values(MIXED.strings, state) for state in states])


@pytest.mark.parametrize("backend", [None, StatevectorEstimator()])
def test_exact_expectation_values(backend, angles, exact):
    executor = QiskitExecutor(paper_ansatz(4), MIXED, backend=backend)
    np.testing.assert_allclose(executor(angles), exact, atol=1e-10)


SHOTS = 4000
# Five deviations of the mean of SHOTS values of +1 and -1.
FIVE_SIGMA = 5 / np.sqrt(SHOTS)


@pytest.mark.parametrize(
    ("backend", "primitive"),
    [(None, "sampler"), (None, "estimator"), (StatevectorSampler(seed=1), "sampler")],
)
def test_shots_scatter_about_the_exact_values(backend, primitive, angles, exact):
    executor = QiskitExecutor(
        paper_ansatz(4), MIXED, backend=backend, primitive=primitive, shots=SHOTS
    )
    error = executor(angles) - exact
    assert np.abs(error).max() < FIVE_SIGMA
    assert np.abs(error).max() > 0.1 / np.sqrt(SHOTS)


def test_a_batch_is_one_job_and_the_ledger_equals_what_aer_counted(angles):
    executor = QiskitExecutor(paper_ansatz(4), MIXED, backend=MANILA, shots=100)
    executor(angles)
    executor(angles[:2], purpose="input gradient", shots=50)
    aer, ledger = executor.device.simulator, executor.ledger
    assert (ledger.executions, ledger.shots, ledger.submissions) == (14, 1200, 2)
    assert (aer.circuits, aer.shots, aer.jobs) == (14, 1200, 2)
    assert ledger.by_purpose == {"forward": 10, "input gradient": 4}


def test_rows_and_jobs_have_noise_of_their_own_and_a_seed_repeats_it(angles):
    def run(seed):
        executor = QiskitExecutor(paper_ansatz(4), MIXED, shots=200, seed=seed)
        same_twice = angles[[0, 0]]
        return np.concatenate([executor(same_twice), executor(same_twice)])

    first = run(seed=3)
    assert len(np.unique(first, axis=0)) == 4
    np.testing.assert_array_equal(run(seed=3), first)
    assert (run(seed=4) != first).any()


def test_counts_have_wire_0_as_the_most_significant_bit():
    circuit = Circuit(3, (Operation("X", (0,)), Operation("RX", (2,), parameter=0)))
    executor = QiskitExecutor(circuit, z_of_every_wire(3), shots=10)
    counts = executor.counts(np.array([[0.0], [np.pi]]), 10)
    np.testing.assert_array_equal(np.argmax(counts[:, 0], axis=1), [0b100, 0b101])
    assert counts.sum() == executor.ledger.shots == 20
    np.testing.assert_array_equal(executor.counts(np.zeros((1, 1)))[0, 0].nonzero(), [[0b100]])


def test_counts_are_checked_charged_and_answered_like_expectation_values():
    turn = Circuit(1, (Operation("RX", (0,), parameter=0),))
    executor = QiskitExecutor(turn, z_of_every_wire(1), ledger=Ledger(budget=Budget(shots=30)))
    assert executor.counts(np.zeros((0, 1)), 10).shape == (0, 1, 2)
    for angles, shots, words in (
        (np.zeros((1, 2)), 10, "the circuit has 1 angles"),
        (np.full((1, 1), np.nan), 10, "not finite in row 0"),
        (np.zeros((1, 1)), 0, "shots=0"),
        (np.zeros((1, 1)), None, "shots=None: counts need"),
    ):
        with pytest.raises(UserError, match=words):
            executor.counts(angles, shots)
    with pytest.raises(BudgetSpent):
        executor.counts(np.zeros((4, 1)), 10)
    assert executor.ledger.shots == 0
    executor.transpiled = None  # in the place of a device that fails
    with pytest.raises(DeviceError, match="failed on a submission of 1 circuits"):
        executor.counts(np.zeros((1, 1)), 10)
    estimates = QiskitExecutor(turn, z_of_every_wire(1), primitive="estimator")
    assert estimates.counts(np.zeros((1, 1)), 10).tolist() == [[[10, 0]]]
    estimator = QiskitExecutor(turn, z_of_every_wire(1), backend=StatevectorEstimator())
    with pytest.raises(UserError, match="is an estimator, which has no counts"):
        estimator.counts(np.zeros((1, 1)), 10)


def test_circuits_and_parameters_that_the_transpiler_removes():
    diagonal = Circuit(1, (Operation("H", (0,)), Operation("RZ", (0,), parameter=0)))
    executor = QiskitExecutor(
        diagonal, z_of_every_wire(1), backend=MANILA, shots=50, optimization_level=3
    )
    assert executor(np.zeros((3, 1))).shape == (3, 1)
    fixed = QiskitExecutor(Circuit(1, (Operation("X", (0,)),)), z_of_every_wire(1), shots=5)
    np.testing.assert_array_equal(fixed(np.zeros((3, 0))), -np.ones((3, 1)))


def test_controlled_rotations_are_bound_right_on_a_users_simulator(exact, angles):
    # Aer itself ignores the angle of a parametrised crx; the transpiler must not let one through.
    executor = QiskitExecutor(paper_ansatz(4), MIXED, backend=AerSimulator())
    assert "crx" not in executor.transpiled().count_ops()
    np.testing.assert_allclose(executor(angles), exact, atol=1e-10)
    noise = AerNoise()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.1, 2), ["crx"])
    with pytest.raises(UserError, match="errors for crx"):
        QiskitExecutor(paper_ansatz(4), MIXED, backend=AerSimulator(noise_model=noise))


@pytest.mark.slow
def test_implicit_gradients_through_aer_equal_automatic_differentiation(x64):
    model, x = tiny_model(), jnp.asarray(tiny_inputs(2))
    layer = qdeq.Equilibrium(qdeq.Broyden(rtol=1e-11, atol=1e-11), max_steps=40)

    @eqx.filter_jit
    def gradient(function):
        def total(function):
            rows = jax.vmap(lambda row: layer(function.prepare().bind(row), jnp.zeros(2)).value)(x)
            return rows.sum()

        found = eqx.filter_grad(total)(function)
        return (found.model if isinstance(function, DeviceFunction) else found).theta

    executor = QiskitExecutor(Program.of(model).circuit, model.observables)
    expected, found = gradient(model), gradient(DeviceFunction(model, executor))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_shift_gradients_through_aer_converge_as_one_over_the_root_of_shots():
    model = tiny_model()
    circuit, slots = Program.of(model).circuit, Program.of(model).trainable_slots
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, circuit.n_parameters))
    _, exact = shift_jacobian(QiskitExecutor(circuit, model.observables), angles, slots)
    errors = []
    for shots in (40, 2560):
        executor = QiskitExecutor(circuit, model.observables, shots=shots)
        errors.append(np.sqrt(np.mean((shift_jacobian(executor, angles, slots)[1] - exact) ** 2)))
    assert 5 < errors[0] / errors[1] < 13  # 8, within what a few dozen numbers can tell


@pytest.mark.parametrize("fold", [1, 3])
def test_seconds_are_those_of_the_circuits_that_run(fold):
    timing = DeviceTiming(1.0, 10.0, 100.0, 1000.0, 1e5)
    turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    executor = QiskitExecutor(
        turn,
        MeasurementEnsemble(1, ("Z", "X")),
        shots=10,
        fold=fold,
        calibration_shots=100,
        ledger=Ledger(timing=timing),
    )
    executor(np.zeros((3, 1)))
    # For X one more gate; calibrations measure Z alone, of one X gate at most.
    each = 2 * fold + 1 + 2 * (100 + 1000)
    assert executor.ledger.seconds == 1e5 + 3 * 10 * each + 1e5 + 2 * 100 * (1 + 1100)
    assert executor.ledger.executions == 3 * 2 + 2


def test_a_calibration_is_charged_before_the_job_that_needs_it():
    turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    ledger = Ledger(budget=Budget(executions=4))
    executor = QiskitExecutor(
        turn, z_of_every_wire(1), shots=10, calibration_shots=100, ledger=ledger
    )
    for _ in range(2):
        with pytest.raises(BudgetSpent):
            executor(np.zeros((3, 1)))
        # What is charged has run: the calibration, once, and no job.
        assert (ledger.executions, executor.jobs) == (2, 1)
    assert executor(np.zeros((2, 1))).tolist() == [[1.0], [1.0]] and ledger.executions == 4


def test_folding_multiplies_the_noise_on_the_same_qubits_and_nothing_else(angles, exact):
    values = {}
    for fold in (1, 3):
        executor = QiskitExecutor(paper_ansatz(4), MIXED, backend=MANILA, fold=fold)
        values[fold] = executor(angles)
        gates = executor.transpiled().count_ops()
        if fold == 3:
            once = QiskitExecutor(paper_ansatz(4), MIXED, backend=MANILA).transpiled()
            assert gates["cx"] == 3 * once.count_ops()["cx"]
            assert set(gates) <= {"cx", "rz", "sx", "x", "barrier"}
    noiseless = QiskitExecutor(paper_ansatz(4), MIXED, fold=3)
    np.testing.assert_allclose(noiseless(angles), exact, atol=1e-10)
    assert np.abs(values[3] - exact).mean() > 1.5 * np.abs(values[1] - exact).mean()


@pytest.mark.slow
def test_readout_is_corrected_on_the_qubits_that_are_measured(angles):
    observables = MeasurementEnsemble(4, ("ZIII", "IIZZ", "IXIX"))
    options = {"backend": MANILA, "shots": 20_000}
    gates_only = QiskitExecutor(paper_ansatz(4), observables, backend=MANILA)(angles)
    raw = QiskitExecutor(paper_ansatz(4), observables, **options)(angles)
    corrected = QiskitExecutor(paper_ansatz(4), observables, calibration_shots=20_000, **options)
    error = np.abs(corrected(angles) - gates_only)
    assert error.max() < 6 / np.sqrt(20_000)
    assert error.mean() < 0.4 * np.abs(raw - gates_only).mean()
    corrected(angles)  # calibrated once
    ledger, aer = corrected.ledger, corrected.device.simulator
    assert ledger.by_purpose["forward"] == 20
    assert ledger.by_purpose["mitigation"] in (2, 4)  # by whether both settings share their qubits
    assert (ledger.executions, ledger.shots) == (aer.circuits, aer.shots)


class Hosted(BackendV2):
    """Somebody's device: not Aer's, not IBM's, run through Qiskit's generic sampler."""

    def __init__(self, failure=None, delay=0.0):
        super().__init__(name="hosted")
        self.simulator, self.failure, self.delay = CountingSimulator(), failure, delay
        self._target = GenericBackendV2(5, seed=0).target

    @property
    def target(self):
        return self._target

    @property
    def max_circuits(self):
        return None

    @classmethod
    def _default_options(cls):
        return Options()

    def run(self, run_input, **options):
        time.sleep(self.delay)
        if self.failure is not None:
            raise self.failure
        return self.simulator.run(run_input, **options)


def test_a_backend_object_runs_the_whole_batch_in_one_job(angles, exact):
    hosted = Hosted()
    executor = QiskitExecutor(paper_ansatz(4), MIXED, backend=hosted, shots=SHOTS)
    assert np.abs(executor(angles) - exact).max() < FIVE_SIGMA
    assert (hosted.simulator.circuits, hosted.simulator.jobs) == (10, 1)


def test_a_device_that_fails_or_hangs_is_one_clear_line(angles):
    failing = Hosted(failure=RuntimeError("calibration running\nsecond line"))
    executor = QiskitExecutor(paper_ansatz(4), MIXED, backend=failing, shots=10)
    with pytest.raises(DeviceError, match=r"hosted failed.*calibration running") as caught:
        executor(angles)
    assert "\n" not in str(caught.value)
    slow = QiskitExecutor(paper_ansatz(4), MIXED, backend=Hosted(delay=1.0), shots=10, timeout=0.1)
    slow.transpiled("ZXXZ")
    with pytest.raises(DeviceError, match=r"0\.1 s"):
        slow(angles)


def test_a_job_that_takes_too_long_is_cancelled():
    cancelled = []

    class Stuck(StatevectorSampler):
        def run(self, pubs, *, shots=None):
            job = PrimitiveJob(time.sleep, 0.5)
            job.cancel = lambda: cancelled.append(True)
            job._submit()
            return job

    executor = QiskitExecutor(
        Circuit(1, ()), z_of_every_wire(1), backend=Stuck(), shots=10, timeout=0.1
    )
    with pytest.raises(DeviceError, match=r"0\.1 s"):
        executor(np.zeros((1, 0)))
    time.sleep(0.3)
    assert cancelled


def test_a_spent_budget_stops_before_the_job():
    ledger = Ledger(budget=Budget(executions=3))
    executor = QiskitExecutor(paper_ansatz(4), z_of_every_wire(4), shots=10, ledger=ledger)
    with pytest.raises(UserError, match="budget of 3 executions"):
        executor(np.zeros((4, 39)))
    assert executor.device.simulator.jobs == 0


def test_wrong_devices_are_refused_in_one_line():
    circuit, observables = paper_ansatz(4), z_of_every_wire(4)
    line = [[i, i + 1] for i in range(13)]
    large = GenericBackendV2(14, coupling_map=line, noise_info=True, seed=0)
    for options, message in (
        ({"backend": "ibm_torino"}, "backend='ibm_torino' is not a device of Qiskit's"),
        ({"backend": GenericBackendV2(3)}, "has 3 qubits and the circuit 4"),
        ({"backend": Hosted()}, "shots=None with hosted: only a simulator"),
        ({"backend": StatevectorSampler()}, "a sampler measures"),
        ({"backend": large}, "needs a density matrix"),
        ({"primitive": "vqe"}, "primitive='vqe' is not known"),
        ({"optimization_level": 7}, "optimization_level=7"),
        ({"timeout": 0.0}, "timeout=0.0"),
        ({"backend": MANILA, "initial_layout": [0, 1, 2, 5]}, "give 4 different physical qubits"),
        ({"fold": 2}, "fold=2: give an odd number"),
        ({"fold": 3.0}, "fold=3.0: give an odd number"),
        ({"seed": "a"}, "seed='a': give an integer that is at least 0"),
        ({"initial_layout": "0123"}, "initial_layout='0123': give 4 different physical qubits"),
        ({"calibration_shots": 5, "primitive": "estimator"}, "counts only"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            QiskitExecutor(circuit, observables, **options)
        assert "\n" not in str(caught.value)


def test_channels_of_native_gates_are_aers():
    ours, theirs = noise_from_backend(MANILA), AerNoise.from_backend(MANILA)
    for name, gate in (("sx", "SX"), ("x", "X"), ("id", "I"), ("cx", "CNOT")):
        for qubits, error in theirs._local_quantum_errors[name].items():
            total = SuperOp(np.eye(4 ** len(qubits)))
            for channel, wires in ours.channels_after(Operation(gate, qubits)):
                # Our first wire is the most significant bit, Qiskit's first qubit the least.
                where = [qubits.index(wire) for wire in wires][::-1]
                total = total.compose(SuperOp(Kraus(list(channel.kraus()))), where)
            np.testing.assert_allclose(total.data, SuperOp(error).data, atol=1e-12)


def test_noise_of_a_fake_backend_equals_aers_simulation(x64):
    circuit, observables = hardware_efficient(2, 3), z_of_every_wire(2)
    executor = QiskitExecutor(circuit, observables, backend=MANILA)
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, circuit.n_parameters)
    aer = executor(angles[None])[0]
    layout = executor.transpiled().layout.final_index_layout()
    noise = NoiseModel(noise_from_backend(MANILA, layout).rules)  # Aer's has no readout errors here
    signs = observables.signs().T

    # In the device's own gates the two models are the same.
    native = from_qiskit(executor.transpiled())
    used = [replace(op, wires=tuple(map(layout.index, op.wires))) for op in native.operations]
    order = [int(parameter.name[2:]) for parameter in executor.transpiled().parameters]
    outcomes = outcome_probabilities(Circuit(2, used), angles[order], observables, noise=noise)
    np.testing.assert_allclose(outcomes[0] @ signs, aer, atol=1e-8)

    # In ours, gates are counted in native ones: the noise is right to a tenth of itself.
    noisy = outcome_probabilities(circuit, angles, observables, noise=noise)[0] @ signs
    clean = outcome_probabilities(circuit, angles, observables)[0] @ signs
    assert np.abs(noisy - aer).max() < 0.1 * np.abs(clean - aer).max()


def test_readout_errors_of_a_fake_backend_are_taken_over():
    wires = (3, 1)
    executor = QiskitExecutor(
        Circuit(2, (Operation("I", (0,)), Operation("X", (1,)))),
        z_of_every_wire(2),
        backend=MANILA,
        shots=20_000,
        initial_layout=list(wires),
    )
    noise = noise_from_backend(MANILA, wires)
    # Wire 0 is 0 and wire 1 is 1: of the gates' errors hardly anything is left beside the readout.
    p01, p10 = noise.readout_of(0).p01, noise.readout_of(1).p10
    measured = executor(np.zeros((1, 0)))[0]
    np.testing.assert_allclose(measured, [1 - 2 * p01, 2 * p10 - 1], atol=5 / np.sqrt(20_000))
    assert min(p01, p10) > 0.01


def test_backends_without_calibration_are_refused():
    with pytest.raises(UserError, match="does not describe its noise"):
        noise_from_backend(AerSimulator())
    with pytest.raises(UserError, match=r"wires=\(0, 9\): give distinct physical qubits out of 0"):
        noise_from_backend(MANILA, wires=(0, 9))
    with pytest.raises(UserError, match="no couplings lead from qubit 0 of the backend to qubit 1"):
        noise_from_backend(FakeCairoV2(), wires=(0, 1))


def test_a_missing_extra_is_one_line_that_says_what_to_install():
    """In a fresh interpreter that pretends to have no Qiskit."""
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'qiskit' else real(name)\n"
        "from qdeq import UserError\n"
        "from qdeq.circuits import Circuit, Operation\n"
        "from qdeq.interop.qasm import from_qasm3, to_qasm3\n"
        "to_qasm3(Circuit(1, (Operation('H', (0,)),)))  # needs none\n"
        "for use in ('import qdeq.interop.qiskit', 'from_qasm3(\"\")'):\n"
        "    try:\n"
        "        exec(use)\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and all('pip install "qdeq[qiskit]"' in line for line in lines), result
