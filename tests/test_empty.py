"""Nothing empty or single is special: no gates, no parameters, one wire, one feature, no rows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeq import native
from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasurementEnsemble,
    Operation,
    hardware_efficient,
    parse_noise,
    strongly_entangling,
)
from qdeq.devices import (
    CircuitCost,
    DeviceFunction,
    SimulatorExecutor,
    estimate,
    solve_on_device,
    train_on_device,
)
from qdeq.devices.quadratic import quadratic_jacobian
from qdeq.devices.shift import shift_jacobian
from qdeq.devices.spsa import spsa_jacobian
from qdeq.equilibrium import Broyden, Direct, Equilibrium, Homotopy, Newton
from qdeq.interop.qasm import to_qasm3
from qdeq.lowering import Program
from qdeq.models import Classifier, QuantumModel, paper_model

METHODS = ("auto", "quadratic", "lightcone", "statevector", "density-matrix")
PRODUCT = ("RX", "RY", "RZ")


def model_of(circuit, encoding, strings, method="auto", noise=None):
    rng = np.random.default_rng(0)
    observables = MeasurementEnsemble(circuit.n_qubits, strings)
    return QuantumModel(
        rng.normal(size=circuit.n_parameters),
        circuit,
        encoding=encoding,
        observables=observables,
        reinjection=rng.uniform(0.2, 1, (encoding.n_features, observables.n_observables)),
        method=method,
        noise=noise,
    )


def serves(method, encoding):
    amplitudes = isinstance(encoding, AmplitudeEncoding)
    if method == "lightcone":
        return not amplitudes and all(o.name in PRODUCT for o in encoding.operations)
    return method != "quadratic" or amplitudes


def right_values(model, m, x):
    v = np.asarray(x + model.reinjection @ m, np.float64)
    encoding = model.encoding
    if isinstance(encoding, AmplitudeEncoding):
        state = np.zeros(2**encoding.n_qubits)
        state[: len(v)] = v / np.linalg.norm(v)
    else:
        upload = Circuit(encoding.n_qubits, encoding.operations)
        state = oracle.circuit_unitary(upload, (), v)[:, 0]
    state = oracle.circuit_unitary(model.circuit, model.theta, v) @ state
    return oracle.expectation_values(model.observables.strings, state)


@eqx.filter_jit
def evaluated(model, m, x):
    function = model.prepare().bind(x)
    return function(m), jax.jacfwd(function)(m)


def check(circuit, encoding, strings, methods=METHODS):
    results = {}
    for method in methods:
        if serves(method, encoding):
            model = model_of(circuit, encoding, strings, method)
            m = jnp.linspace(0.1, 0.4, model.n_observables)
            x = jnp.linspace(0.3, 0.9, model.n_features)
            results[method] = evaluated(model, m, x)
            np.testing.assert_allclose(
                results[method][0], right_values(model, m, x), atol=1e-5, err_msg=method
            )
    for method, found in results.items():
        np.testing.assert_allclose(found[1], results["auto"][1], atol=1e-5, err_msg=method)


SILENT = Circuit(2, ())
LAST = Circuit(3, (Operation("RY", (2,), parameter=0),))


@pytest.mark.parametrize(
    ("circuit", "encoding", "strings"),
    [
        (SILENT, AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)]), ("IZ",)),
        (SILENT, AmplitudeEncoding(2, 1), ("ZI", "IZ")),
        (Circuit(1, ()), AmplitudeEncoding(1, 2), ("X",)),
        (Circuit(1, ()), AngleEncoding.from_rotations(1, [("PhaseShift", 0, 0)]), ("I",)),
        (LAST, AngleEncoding.from_rotations(3, [("RZ", 1, 0)]), ("IZI", "III", "ZIX")),
        (LAST, AngleEncoding.from_rotations(3, [("RX", 2, 2)]), ("III",)),
    ],
    ids=["no gates", "one feature", "one qubit", "identity", "untouched wires", "unread features"],
)
def test_circuits_with_empty_parts_equal_dense_matrices(circuit, encoding, strings):
    check(circuit, encoding, strings)


@pytest.mark.slow
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_random_small_circuits_equal_dense_matrices(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    operations, n_parameters = [], 0
    for _ in range(rng.integers(0, 4)):
        wires = tuple(int(w) for w in rng.permutation(n)[: rng.integers(1, min(n, 2) + 1)])
        if len(wires) == 2:
            operations.append(Operation("CNOT", wires))
        elif rng.random() < 0.3:
            operations.append(Operation("H", wires))
        else:
            operations.append(Operation(str(rng.choice(PRODUCT)), wires, parameter=n_parameters))
            n_parameters += 1
    if rng.random() < 0.5:
        encoding = AmplitudeEncoding(n, int(rng.integers(1, 2**n + 1)))
    else:
        names = [str(name) for name in rng.choice([*PRODUCT, "PhaseShift"], rng.integers(1, 4))]
        rotations = [(name, int(rng.integers(n)), int(rng.integers(3))) for name in names]
        encoding = AngleEncoding.from_rotations(n, rotations)
    q = int(rng.integers(1, 4))
    strings = tuple("".join(rng.choice(list("IIXYZ"), n)) for _ in range(q))
    check(Circuit(n, tuple(operations)), encoding, strings)


@pytest.mark.parametrize("noise", ["depolarising=0.02", "depolarising=0.02,readout=0.03"])
def test_noise_on_circuits_with_empty_parts_is_the_density_matrixs(noise):
    for circuit, encoding, strings in (
        (SILENT, AngleEncoding.from_rotations(2, [("RY", 0, 0)]), ("IZ", "II")),
        (SILENT, AmplitudeEncoding(2, 1), ("ZI",)),
    ):
        m, x = jnp.full(len(strings), 0.2), jnp.full(encoding.n_features, 0.7)
        found = [
            evaluated(model_of(circuit, encoding, strings, method, parse_noise(noise)), m, x)
            for method in ("auto", "density-matrix")
        ]
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("ansatz", [hardware_efficient, strongly_entangling])
@pytest.mark.parametrize("n_qubits", [1, 3])
def test_an_ansatz_without_layers_changes_nothing(ansatz, n_qubits):
    circuit = ansatz(n_qubits, 0)
    assert circuit == Circuit(n_qubits, ()) and circuit.depth() == 0
    rotations = [("RY", wire, wire) for wire in range(n_qubits)]
    model = model_of(circuit, AngleEncoding.from_rotations(n_qubits, rotations), ("Z" * n_qubits,))
    x = jnp.linspace(0.2, 0.8, n_qubits)
    np.testing.assert_allclose(model(jnp.zeros(1), x), [np.prod(np.cos(x))], atol=1e-6)


def no_angles():
    """A model whose device circuit has no angle at all, of one feature and the identity too."""
    return model_of(SILENT, AmplitudeEncoding(2, 1), ("IZ", "II"))


def no_parameters():
    encoding = AngleEncoding.from_rotations(2, [("RY", 1, 0)])
    return model_of(hardware_efficient(2, 0), encoding, ("ZI", "IZ"))


@pytest.mark.parametrize("make", [no_angles, no_parameters])
def test_such_circuits_are_drawn_written_and_counted(make):
    model = make()
    parts = {"encoding": model.encoding, "observables": model.observables}
    assert model.circuit.draw(**parts).count("\n") >= 1
    assert model.circuit.draw().count("\n") == 1
    assert model.circuit.draw_mpl(**parts).axes
    assert model.circuit.draw_mpl().axes
    assert to_qasm3(model.circuit).rstrip().endswith("qubit[2] q;")
    cost = CircuitCost.of(model)
    assert cost.parameter_slots == 0 and cost.depth == len(Program.of(model).encoding_slots)


@pytest.mark.parametrize("make", [no_angles, no_parameters])
@pytest.mark.parametrize("n_rows", [0, 2])
def test_such_circuits_run_on_devices_for_any_number_of_rows(make, n_rows):
    model = make()
    program = Program.of(model)
    executor = SimulatorExecutor(program.circuit, model.observables)
    x, m = np.full((n_rows, model.n_features), 0.4), np.zeros((n_rows, model.n_observables))
    angles = np.zeros((n_rows, program.n_slots))
    slots, rng = program.encoding_slots, np.random.default_rng(0)
    q = model.n_observables
    for values, jacobian in (
        shift_jacobian(executor, angles, slots),
        spsa_jacobian(executor, angles, slots, rng=rng),
    ):
        assert values.shape == (n_rows, q) and jacobian.shape == (n_rows, q, len(slots))
    if isinstance(model.encoding, AmplitudeEncoding):
        assert quadratic_jacobian(model, executor, m, x)[1].shape == (n_rows, q, q)
    solution = solve_on_device(model, executor, x)
    assert solution.value.shape == (n_rows, q) and solution.converged.all()
    f = DeviceFunction(model, executor)
    slope = jax.jit(jax.vmap(jax.jacrev(f)))(jnp.asarray(m), jnp.asarray(x))
    assert slope.shape == (n_rows, q, q)


def test_a_model_without_parameters_has_a_head_that_trains():
    model = no_parameters()
    classifier = Classifier(model, 2, key=jax.random.key(0))
    x = jnp.full((2, model.n_features), 0.4)

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(classifier):
        return jnp.sum(jax.vmap(lambda x: classifier(x, Equilibrium()).logits)(x)[:, 0])

    gradient = slope(classifier)
    assert gradient.model.theta.shape == (0,)
    assert np.any(gradient.head.weight != 0)
    executor = SimulatorExecutor(Program.of(model).circuit, model.observables)
    trained = train_on_device(classifier, executor, x, np.array([0, 1]), steps=1)
    assert np.any(trained.classifier.head.weight != classifier.head.weight)
    assert estimate(model).inference(1).executions > 0


LAYERS = {
    "Broyden": Equilibrium(Broyden(), fallback=Homotopy(), fallback_steps=5),
    "Newton": Equilibrium(Newton()),
    "direct": Direct(2),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_a_batch_of_no_rows_has_no_results_and_no_gradient(monkeypatch, layer, kernels, encoding):
    if layer != "Broyden" and encoding == "angle":
        pytest.skip("the same loop as for amplitudes")
    if not kernels:
        monkeypatch.setattr(native, "serves", lambda dtype: False)
    classifier = Classifier(paper_model(encoding=encoding, key=jax.random.key(0)), 3, key=KEY)

    def logits(classifier):
        found = jax.vmap(lambda x: classifier(x, LAYERS[layer]))(jnp.zeros((0, 16)))
        assert found.solution.value.shape == (0, 4)
        return found.logits

    slope = eqx.filter_jit(eqx.filter_grad(lambda c: jnp.sum(logits(c))))(classifier)
    assert eqx.filter_jit(logits)(classifier).shape == (0, 3)
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_array_equal(leaf, 0)


KEY = jax.random.key(1)
