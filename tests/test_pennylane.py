"""`qdeq.interop.pennylane`: circuits both ways, QNodes as model functions, devices as executors."""

import pickle
import sys
import types
from dataclasses import replace

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from sklearn.base import clone

import qdeq
from qdeq.circuits import GATES, AmplitudeEncoding, AngleEncoding, Circuit, Operation
from qdeq.devices import Budget, BudgetSpent, DeviceError, Ledger, device_errors
from qdeq.errors import UserError

qml = pytest.importorskip("pennylane")

from qdeq.interop._circuits import as_circuit  # noqa: E402
from qdeq.interop.pennylane import (  # noqa: E402
    PennyLaneExecutor,
    from_pennylane,
    model_function,
    to_pennylane,
)

ENCODING = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
ENSEMBLE = qdeq.z_of_every_wire(2)
ANSATZ = Circuit(
    2,
    (
        Operation("RX", (0,), parameter=0),
        Operation("RZ", (1,), parameter=1),
        Operation("CRY", (0, 1), parameter=2),
        Operation("RX", (1,), parameter=3),
    ),
)
THETA = np.array([0.3, -0.8, 1.1, 0.5])
X = np.array([0.4, -0.7])
CONTRACTING = 0.4 * np.eye(2)  # R, so that |df/dm| <= 0.4


def _qnode(device="default.qubit", method="parameter-shift", **options):
    function = to_pennylane(ANSATZ, encoding=ENCODING, observables=ENSEMBLE)
    device = qml.device(device, wires=2) if isinstance(device, str) else device
    return qml.QNode(lambda theta, v: function(theta, v), device, diff_method=method, **options)


def _probabilities(method):
    function = to_pennylane(ANSATZ, encoding=ENCODING)
    return qml.QNode(
        lambda theta, v: (function(theta, v), qml.probs(wires=0))[1],
        qml.device("default.qubit", wires=2),
        diff_method=method,
    )


def _model(qnode, **options):
    return model_function(qnode, theta=THETA, n_features=2, reinjection=CONTRACTING, **options)


def _own_model():
    return qdeq.QuantumModel(
        THETA, ANSATZ, encoding=ENCODING, observables=ENSEMBLE, reinjection=CONTRACTING
    )


def _random_unitary(size, seed):
    normal = np.random.default_rng(seed).normal(size=(2, size, size))
    return np.linalg.qr(normal[0] + 1j * normal[1])[0]


# --- circuits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*GATES, "Unitary"])
def test_every_gate_has_the_same_matrix(name):
    n_parameters = 0 if name == "Unitary" else GATES[name].n_parameters
    parameter = (None, 0, None, (0, 1, 2))[n_parameters]
    matrix = _random_unitary(4, 0) if name == "Unitary" else None
    n_wires = 2 if name == "Unitary" else GATES[name].n_wires
    circuit = Circuit(3, (Operation(name, (2, 0)[:n_wires], parameter=parameter, matrix=matrix),))
    theta = np.array([0.3, -1.2, 2.5])[:n_parameters]
    found = qml.matrix(to_pennylane(circuit), wire_order=range(3))(theta)
    expected = oracle.circuit_unitary(circuit, theta)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@st.composite
def _circuits(draw):
    operations, n_parameters = [], 0
    for name in draw(
        st.lists(st.sampled_from([*GATES, "Unitary", "feature", "fixed"]), max_size=8)
    ):
        wires = draw(st.permutations(range(3)))
        if name == "Unitary":
            matrix = _random_unitary(2, draw(st.integers(0, 9)))
            operations.append(Operation(name, wires[:1], matrix=matrix))
        elif name == "feature":
            operations.append(Operation("RY", wires[:1], feature=draw(st.integers(0, 1))))
        elif name == "fixed":
            operations.append(Operation("CRZ", wires[:2], angle=draw(st.floats(-3, 3))))
        else:
            gate = GATES[name]
            fresh = tuple(range(n_parameters, n_parameters + gate.n_parameters))
            if fresh and n_parameters and draw(st.booleans()) and len(fresh) == 1:
                fresh = (draw(st.integers(0, n_parameters - 1)),)  # shared with an earlier gate
            n_parameters = max(n_parameters, 1 + max(fresh, default=-1))
            parameter = (None, fresh[0] if fresh else None, None, fresh)[len(fresh)]
            operations.append(Operation(name, wires[: gate.n_wires], parameter=parameter))
    return Circuit(3, tuple(operations))


@settings(max_examples=40)
@given(_circuits())
def test_a_circuit_comes_back_from_pennylane_as_it_was(circuit):
    theta, v = np.linspace(0.1, 2.0, circuit.n_parameters), np.array([0.3, 0.9])
    function = to_pennylane(circuit)
    back = from_pennylane(function, theta, v, features=1, n_qubits=3)
    assert back == circuit
    found = qml.matrix(function, wire_order=range(3))(theta, v)
    np.testing.assert_allclose(found, oracle.circuit_unitary(circuit, theta, v), atol=1e-12)


def test_templates_and_foreign_gates_are_decomposed():
    def function(weights, angle):
        qml.StronglyEntanglingLayers(weights, wires=range(3))
        qml.Toffoli(wires=[0, 1, 2])
        qml.adjoint(qml.S(0))
        qml.adjoint(qml.SX(1))
        qml.adjoint(qml.RX(angle, wires=1))
        qml.CY(wires=[2, 0])
        qml.PauliRot(angle, "XYZ", wires=[0, 1, 2])
        qml.U3(angle, 0.3, weights[0, 0, 0], wires=1)
        qml.U3(0.1, 0.2, 0.3, wires=1)
        qml.Barrier(wires=[0, 1])
        qml.Identity(wires=[0, 1])

    weights = np.random.default_rng(1).normal(size=(2, 3, 3))
    circuit = from_pennylane(function, weights, 0.7)
    assert circuit.n_parameters == 18 and circuit.count(name="U3") == 0
    found = qml.matrix(function, wire_order=range(3))(weights, 0.7)
    expected = oracle.circuit_unitary(circuit, weights.ravel())
    largest = np.unravel_index(np.abs(expected).argmax(), expected.shape)
    phase = expected[largest] / found[largest]
    np.testing.assert_allclose(phase * found, expected, atol=1e-12)


def test_a_qnode_and_a_tape_can_be_read_too():
    qnode = _qnode()
    assert from_pennylane(qnode, THETA, X, features="v") == Circuit(
        2, ENCODING.operations + ANSATZ.operations
    )
    tape = qml.tape.make_qscript(to_pennylane(ANSATZ))(THETA)
    assert from_pennylane(tape) == ANSATZ


def test_of_theta_only_the_shape_matters_whose_array_it_may_be():
    of_another_library = types.SimpleNamespace(shape=(2,), size=lambda: (2,))
    circuit = from_pennylane(lambda t: (qml.RX(t[1], 0), qml.RY(t[0], 0)), of_another_library)
    assert [operation.parameter for operation in circuit.operations] == [1, 0]
    with pytest.raises(UserError, match=r"argument 0 is a dictionary: .* in one array"):
        from_pennylane(lambda t: qml.RX(t["a"], 0), {"a": 0.3})


def test_wire_labels_are_numbered_as_the_device_orders_them():
    device = qml.device("default.qubit", wires=["b", "a"])

    @qml.qnode(device)
    def qnode(theta):
        qml.RX(theta[0], wires="a")
        return qml.expval(qml.Z("a"))

    assert from_pennylane(qnode, np.zeros(1)).operations[0].wires == (1,)
    function = to_pennylane(ANSATZ, wires=["a", "b"])
    assert list(qml.tape.make_qscript(function)(THETA).wires) == ["a", "b"]


@pytest.mark.parametrize("labels", [np.array([2, 0, 1]), np.array([2.0, 0.0, 1.0]), [2, 0, True]])
def test_whole_numbers_of_any_kind_are_wires_of_that_number(labels):
    def function(theta):
        for angle, label in zip(theta, labels, strict=True):
            qml.RX(angle, wires=label)

    operations = from_pennylane(function, THETA[:3]).operations
    assert [operation.wires for operation in operations] == [(2,), (0,), (1,)]


@pytest.mark.parametrize(
    ("function", "size", "message"),
    [
        (lambda t: qml.RX(np.sin(t[0]), wires=0), 1, "RX on wires .0,. .* that is computed"),
        (lambda t: qml.CRot(*abs(t), wires=[0, 1]), 3, "CRot on wires .0, 1. has an angle"),
        (lambda t: qml.adjoint(qml.RX(1 / t[0], wires=0)), 1, "Adjoint.RX. .* computed"),
        (lambda t: qml.DepolarizingChannel(0.1, wires=0), 1, "noise channel .* NoiseModel"),
        (lambda t: qml.measure(0), 1, "no gate with fixed wires"),
        (lambda t: qml.AmplitudeEmbedding(t, wires=[0, 1], normalize=True), 4, "AmplitudeEncoding"),
        (
            lambda t: qml.QubitUnitary(np.diag([1, 1j * t[0]]), wires=0),
            1,
            "QubitUnitary .* computed",
        ),
    ],
)
def test_what_a_circuit_cannot_express_is_named(function, size, message):
    with pytest.raises(UserError, match=message):
        from_pennylane(function, np.ones(size))


def test_a_parameter_without_a_gate_keeps_its_place():
    rotation = Operation("RY", (0,), parameter=1)
    unused = Operation("RZ", (0,), parameter=0, factor=0.0)
    circuit = Circuit(1, (rotation, replace(unused, offset=0.2)))
    for _ in range(2):  # there, back, and the same once more
        circuit = from_pennylane(to_pennylane(circuit), np.ones(2))
        assert circuit.operations[0] == unused
        assert circuit.operations[-2:] == (rotation, Operation("RZ", (0,), angle=0.2))
    three = from_pennylane(lambda t: qml.RX(t[1], wires=0), np.ones(3))
    assert three.n_parameters == 3
    assert three.operations[-1] == Operation("RX", (0,), parameter=1)


def test_arguments_that_do_not_fit_a_circuit_are_refused():
    function = to_pennylane(ANSATZ)
    with pytest.raises(UserError, match=r"theta has 3 numbers: the circuit takes 4"):
        function(THETA[:3])
    with pytest.raises(UserError, match=r"v has 0 numbers: the circuit takes at least 2"):
        to_pennylane(ANSATZ, encoding=ENCODING)(THETA)
    with pytest.raises(UserError, match="give 2 different labels"):
        to_pennylane(ANSATZ, wires=["a", "a"])
    with pytest.raises(UserError, match="give 2 different labels"):
        to_pennylane(ANSATZ, wires=[[0], [1]])
    with pytest.raises(UserError, match="observables acts on 3 qubits"):
        to_pennylane(ANSATZ, observables=qdeq.z_of_every_wire(3))
    with pytest.raises(UserError, match="theta='w'"):
        from_pennylane(function, THETA, theta="w")
    with pytest.raises(UserError, match="n_qubits=1: the circuit has 2 wires"):
        from_pennylane(function, THETA, n_qubits=1)
    with pytest.raises(UserError, match=r"QNode is no tape: .*from_pennylane\(qnode, theta\)"):
        as_circuit(_qnode())


@pytest.mark.parametrize("encoding", [ENCODING, AmplitudeEncoding(2, 3)])
def test_encoding_and_observables_are_those_of_the_model(encoding, x64):
    strings = qdeq.MeasurementEnsemble(2, ("ZI", "XY", "II"))
    v = np.array([0.3, -0.5, 0.8])[: encoding.n_features]
    function = to_pennylane(ANSATZ, encoding=encoding, observables=strings)
    found = qml.QNode(function, qml.device("default.qubit", wires=2))(THETA, v)
    if isinstance(encoding, AngleEncoding):
        start = oracle.circuit_unitary(Circuit(2, encoding.operations), (), v)[:, 0]
    else:
        start = np.append(v, 0) / np.linalg.norm(v)
    state = oracle.circuit_unitary(ANSATZ, THETA) @ start
    expected = oracle.expectation_values(strings.strings, state)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# --- QNodes as model functions --------------------------------------------------------------------


def _loss(model, x):
    layer = qdeq.Equilibrium(solver=qdeq.Picard(rtol=1e-12, atol=1e-12), max_steps=60)
    solution = layer(model, jnp.zeros(2), x)
    return solution.value @ jnp.array([1.0, 2.0])


def _gradients(model):
    value, (by_model, by_x) = eqx.filter_jit(eqx.filter_value_and_grad(lambda both: _loss(*both)))(
        (model, jnp.asarray(X))
    )
    return [np.asarray(a) for a in (value, by_model.theta, by_x)]


@pytest.fixture(scope="module")
def own_gradients():
    with jax.enable_x64(True):
        return _gradients(_own_model())


@pytest.mark.parametrize(
    ("device", "method"),
    [
        ("default.qubit", "parameter-shift"),
        ("lightning.qubit", "best"),  # adjoint
        ("default.mixed", "parameter-shift"),
        pytest.param("default.qubit", "backprop", marks=pytest.mark.slow),
        pytest.param("default.mixed", "backprop", marks=pytest.mark.slow),
        pytest.param("default.qubit", "adjoint", marks=pytest.mark.slow),
        pytest.param("lightning.qubit", "parameter-shift", marks=pytest.mark.slow),
    ],
)
def test_implicit_gradients_equal_our_own_autodiff(device, method, x64, own_gradients):
    found = _gradients(_model(_qnode(device, method)))
    for ours, theirs in zip(own_gradients, found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-8)


def _with_arithmetic(scale, v, angle):
    """A circuit that computes its angles: what happens before a gate is differentiated as well."""
    qml.RY(v[0] * scale, wires=0)
    qml.RX(qml.math.sin(angle[0]) + v[1] ** 2, wires=1)
    qml.Rot(angle[1], v[0], v[1], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.CRX(angle[2], wires=[0, 1])
    return qml.expval(qml.Z(0)), qml.expval(qml.X(0) @ qml.Y(1)), qml.expval(qml.Z(1))


@pytest.fixture(scope="module")
def central_differences():
    """d(values)/d(flat theta, v) of `_with_arithmetic`, by PennyLane in NumPy."""
    qnode = qml.QNode(_with_arithmetic, qml.device("default.qubit", wires=3))
    at = np.array([*THETA[:3], 0.7, *X])  # a dictionary is flattened in the order of its names
    columns = []
    for shift in 1e-6 * np.eye(6):
        ends = [np.array(qnode(p[3], p[4:], p[:3])) for p in (at + shift, at - shift)]
        columns.append((ends[0] - ends[1]) / 2e-6)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(
    ("device", "method", "options"),
    [
        ("default.qubit", "parameter-shift", {}),
        ("default.qubit", "adjoint", {}),
        ("lightning.qubit", "adjoint", {}),
        pytest.param("default.qubit", "backprop", {}, marks=pytest.mark.slow),
        ("default.qubit", "finite-diff", {}),
        ("default.qubit", "hadamard", {"gradient_kwargs": {"aux_wire": 2}}),
    ],
)
def test_jacobians_of_every_method_are_right(device, method, options, x64, central_differences):
    device = qml.device(device, wires=3)
    qnode = qml.QNode(_with_arithmetic, device, diff_method=method, **options)
    theta = {"scale": 0.7, "angle": THETA[:3]}
    f = model_function(qnode, theta=theta, n_features=2, inputs="v")
    assert f.n_observables == 3 and f.arguments()["angle"].shape == (3,)
    jacobians = jax.jacfwd(f.evaluate, argnums=(0, 1))(f.theta, jnp.asarray(X))
    found = np.concatenate(jacobians, axis=1)
    tolerance = 1e-5 if method == "finite-diff" else 1e-8
    np.testing.assert_allclose(found, central_differences, atol=tolerance)


def test_a_batch_is_one_submission_and_the_ledger_counts_what_the_tracker_counts(x64):
    device, ledger = qml.device("default.qubit", wires=2), Ledger()
    f = _model(_qnode(device), ledger=ledger)
    assert ledger.executions == 1  # the QNode is run once, to see what it returns
    m, x = jnp.zeros((8, 2)), jnp.linspace(-1, 1, 16).reshape(8, 2)
    with qml.Tracker(device) as tracker:
        values = jax.jit(jax.vmap(f))(m, x)
    assert tracker.totals["batches"] == 1 and tracker.totals["executions"] == 8
    np.testing.assert_allclose(values, jax.vmap(_own_model())(m, x), atol=1e-12)

    with qml.Tracker(device) as tracker:
        jax.jit(jax.vmap(jax.jacfwd(f)))(m, x)
    # two encoding rotations by two shifts each, and the value
    assert tracker.totals["batches"] == 1 and tracker.totals["executions"] == 8 * (1 + 2 * 2)

    def loss(theta):
        return jnp.sum(jax.vmap(f.evaluate, (None, 0))(theta, x))

    with qml.Tracker(device) as tracker:
        jax.jit(jax.grad(loss))(f.theta)
    # three rotations, and a controlled one by four shifts
    assert tracker.totals["batches"] == 1 and tracker.totals["executions"] == 8 * (1 + 3 * 2 + 4)
    assert ledger.by_purpose == {
        "forward": 1 + 8,
        "input gradient": 8 * 5,
        "parameter gradient": 8 * 11,
    }
    assert ledger.submissions == 4


@pytest.mark.slow
def test_a_second_derivative_is_right_or_an_error(x64):
    def penalty(f):
        return qdeq.equilibrium.squared_frobenius_norm(f, jnp.zeros(2), jnp.asarray(X))

    gradient = eqx.filter_grad(penalty)
    with pytest.raises(UserError, match=r"max_diff=1 .* max_diff=2"):
        gradient(_model(_qnode()))
    with pytest.raises(UserError, match="'adjoint', which has only the first"):
        gradient(_model(_qnode("lightning.qubit", "adjoint")))
    with pytest.raises(UserError, match="diff_method=None: the QNode has no derivative"):
        penalty(_model(_qnode(method=None)))

    f = _model(_qnode(max_diff=2))
    found = gradient(f).theta
    ends = [
        [penalty(replace(f, theta=f.theta + sign * shift)) for sign in (1, -1)]
        for shift in 1e-5 * jnp.eye(4)
    ]
    expected = np.array([(above - below) / 2e-5 for above, below in ends])
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-8)


def _postselected(theta, v):
    qml.RY(v[0], wires=0)
    qml.CRY(theta[0], wires=[0, 1])
    qml.measure(1, postselect=1)
    return qml.expval(qml.X(0))


def _measured_inside(theta, v):
    qml.RY(v[0], wires=0)
    inside = qml.measure(0)
    qml.RY(theta[0], wires=1)
    return qml.expval(inside), qml.expval(qml.Z(1))


def _trained_observable(theta, v):
    qml.RY(v[0], wires=0)
    return qml.expval(theta[0] * qml.Z(0) + 0.3 * qml.X(1))


@pytest.mark.filterwarnings("ignore:Differentiating with respect to the input parameters of")
@pytest.mark.parametrize(
    ("function", "method", "message"),
    [
        (_postselected, "parameter-shift", r"postselect.* choose 'backprop' or 'finite-diff'"),
        (_postselected, "hadamard", r"postselect.* choose 'backprop' or 'finite-diff'"),
        (_measured_inside, "hadamard", "measures in the middle.* choose 'backprop'"),
        (_trained_observable, "adjoint", "an observable of the QNode has a number"),
        (_postselected, "finite-diff", None),
        (_measured_inside, "parameter-shift", None),
        (_trained_observable, "parameter-shift", None),
    ],
)
def test_a_method_that_is_wrong_about_a_circuit_is_refused(function, method, message, x64):
    """PennyLane's own derivative is silently another number there."""
    qnode = qml.QNode(function, qml.device("default.qubit", wires=3), diff_method=method)
    f = model_function(qnode, theta=[0.7], n_features=1)
    v = jnp.array([0.4])
    if message is not None:
        with pytest.raises(UserError, match=message):
            jax.jacfwd(f.evaluate)(f.theta, v)
        return
    ends = [f.evaluate(f.theta + sign * 1e-6, v) for sign in (1, -1)]
    # 1e-5: PennyLane's finite differences with steps of 1e-7.
    expected = (ends[0] - ends[1])[:, None] / 2e-6
    np.testing.assert_allclose(jax.jacfwd(f.evaluate)(f.theta, v), expected, atol=1e-5)


def test_a_gate_that_pennylane_cannot_bind_is_one_line():
    def function(theta, v):
        qml.RY(v[0], wires=0)
        qml.evolve(qml.Hamiltonian([1.0, 0.5], [qml.Z(0) @ qml.Z(1), qml.X(0)]), theta[0])
        return qml.expval(qml.Z(0))

    qnode = qml.QNode(function, qml.device("default.qubit"), diff_method="parameter-shift")
    with pytest.raises(UserError, match=r"cannot give another number.* choose 'backprop'"):
        model_function(qnode, theta=[0.7], n_features=1)


def test_shots_are_drawn_anew_and_errors_fall_with_their_root(x64):
    exact = np.asarray(jax.jacfwd(_own_model())(jnp.zeros(2), jnp.asarray(X)))
    device = qml.device("default.qubit", wires=2, seed=3)
    m, x = jnp.zeros((24, 2)), jnp.tile(jnp.asarray(X), (24, 1))
    errors = []
    for shots in (100, 10_000):
        f = _model(_qnode(device, shots=shots))
        found = jax.jit(jax.vmap(jax.jacfwd(f)))(m, x)
        assert len(np.unique(found[:, 0, 0])) > 12
        errors.append(np.sqrt(np.mean((np.asarray(found) - exact) ** 2)))
    # 96 entries per root mean square: 7 % standard error on each of the two
    assert 7 < errors[0] / errors[1] < 14


def test_gradients_may_have_shots_of_their_own(x64):
    device, ledger = qml.device("default.qubit", wires=2, seed=1), Ledger()
    f = _model(_qnode(device, shots=10), ledger=ledger, gradient_shots=70)
    ledger.shots = 0
    f(jnp.zeros(2), jnp.asarray(X))
    assert ledger.shots == 10
    jax.jacfwd(f)(jnp.zeros(2), jnp.asarray(X))
    assert ledger.shots == 10 + 5 * 70


def test_amplitude_embedding_and_probabilities_can_be_shifted(x64):
    def function(theta, v):
        qml.AmplitudeEmbedding(v, wires=range(2), normalize=True)
        qml.RX(theta[0], wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.probs(wires=[0, 1])

    x = jnp.array([0.4, 1.0, -0.1, 0.9])
    qnode = qml.QNode(function, qml.device("default.qubit", wires=2), diff_method="parameter-shift")
    f = model_function(qnode, theta=[0.4], n_features=4)
    assert f.n_observables == 4
    found = jax.jacfwd(f.evaluate, argnums=1)(f.theta, x)
    shifts = 1e-6 * np.eye(4)
    at = np.asarray(x)
    central = [(qnode([0.4], at + h) - qnode([0.4], at - h)) / 2e-6 for h in shifts]
    np.testing.assert_allclose(found, np.stack(central, axis=1), atol=1e-8)


@pytest.mark.parametrize("method", ["parameter-shift", "adjoint"])
def test_transforms_of_the_qnode_are_applied_and_counted(method, x64):
    device, ledger = qml.device("default.qubit", wires=2), Ledger()

    def function(theta, v):
        qml.RY(theta[0] * v[0], wires=0)
        qml.CNOT(wires=[0, 1])
        qml.RX(v[1], wires=1)
        return [qml.expval(qml.Z(0) @ qml.Z(1)), qml.expval(qml.X(1)), qml.expval(qml.Y(1))]

    qnode = qml.transforms.split_non_commuting(qml.QNode(function, device, diff_method=method))
    f = model_function(qnode, theta=[0.8], n_features=2, ledger=ledger)
    ledger.executions = 0
    m, x = jnp.zeros((4, 3)), jnp.linspace(-1, 1, 8).reshape(4, 2)
    with qml.Tracker(device) as tracker:
        values = jax.vmap(f)(m, x)
    assert tracker.totals["batches"] == 1
    assert tracker.totals["executions"] == 4 * 3 == ledger.executions
    expected = [qnode([0.8], np.asarray(row)) for row in x]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    found = jax.jacfwd(f.evaluate, argnums=1)(f.theta, x[0])
    at, shifts = np.asarray(x[0]), 1e-6 * np.eye(2)
    central = [np.subtract(qnode([0.8], at + h), qnode([0.8], at - h)) / 2e-6 for h in shifts]
    np.testing.assert_allclose(found, np.stack(central, axis=1), atol=1e-8)


def test_float32_is_computed_in_without_warnings():
    def function(theta, v):
        qml.RX(theta[0] * v[0], wires=0)
        return qml.expval(qml.Z(0))

    qnode = qml.QNode(function, qml.device("default.qubit", wires=1), diff_method="backprop")
    values = model_function(qnode, theta=[0.5], n_features=1)(jnp.zeros(1), jnp.ones(1))
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, np.cos([0.5]), atol=1e-6)


def test_a_qnode_has_the_three_stages_of_a_model():
    f = _model(_qnode("lightning.qubit", "adjoint"))
    m, x = jnp.array([0.2, -0.1]), jnp.asarray(X)
    np.testing.assert_array_equal(f.prepare().bind(x)(m), f(m, x))
    assert (f.n_features, f.n_observables, bool(f.is_defined(m, x))) == (2, 2, True)


def test_a_learned_injection_has_our_own_gradients_through_a_qnode(x64):
    injection = qdeq.Injection(
        CONTRACTING, [[0.5, -1, 2], [1, 0.3, 0.1]], learned=("input", "state")
    )
    f = model_function(_qnode(), theta=THETA, n_features=2, injection=injection)
    own = qdeq.QuantumModel(
        THETA, ANSATZ, encoding=ENCODING, observables=ENSEMBLE, injection=injection
    )
    assert (f.n_features, f.n_read_out, f.n_parameters) == (3, 2, own.n_parameters)
    m, x = jnp.array([0.2, -0.1]), jnp.array([0.4, -0.7, 0.2])

    def gradient(model):
        def value(injection):
            changed = eqx.tree_at(lambda model: model.injection, model, injection)
            return jnp.sum(jnp.sin(3 * changed(m, x)))

        return jax.grad(value)(model.injection)

    found, expected = gradient(f), gradient(own)
    np.testing.assert_allclose(found.input, expected.input, atol=1e-10)
    np.testing.assert_allclose(found.state, expected.state, atol=1e-10)
    assert np.any(found.input) and np.any(found.state)


@pytest.mark.slow  # a compilation of ten seconds
def test_a_classifier_takes_a_qnode_for_its_model():
    f = _model(_qnode("lightning.qubit", "adjoint"))
    classifier = qdeq.Classifier(f, 2, key=jax.random.key(0))
    logits = classifier(jnp.asarray(X), qdeq.Equilibrium()).logits
    assert logits.shape == (2,) and bool(jnp.all(jnp.isfinite(logits)))


def test_an_estimator_with_a_qnode_can_be_cloned_and_charges_one_ledger():
    f = _model(_qnode(), ledger=Ledger())
    options = {"mode": "direct", "layers": 1, "epochs": 1, "batch_size": 8, "preset": "paper"}
    copy = clone(qdeq.QDEQRegressor(model=f, **options))
    assert copy.model is not f and copy.model.guest is f.guest
    copy.fit(np.random.default_rng(0).normal(size=(10, 2)), np.arange(10.0))
    assert f.guest.ledger.executions > 0


@pytest.mark.parametrize("method", ["backprop", "parameter-shift", "finite-diff", "adjoint"])
def test_a_model_of_a_qnode_can_be_pickled_after_use(method):
    f = _model(_qnode(method=method))
    m, x = jnp.zeros(2), jnp.asarray(X)
    value = f(m, x)
    again = pickle.loads(pickle.dumps(f))  # the function has no name in this module
    assert again.guest.way == f.guest.way and again.guest.qml is qml
    np.testing.assert_array_equal(again(m, x), value)


@pytest.mark.parametrize("transform", [qml.transforms.cancel_inverses, lambda qnode: qnode])
def test_a_qnode_that_cannot_be_pickled_says_so_in_one_line(transform):
    f = _model(transform(_qnode("lightning.qubit")))
    with pytest.raises(UserError, match=r"cannot be copied .* or take n_jobs=1$") as caught:
        pickle.dumps(f)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model_function(len, theta=None, n_features=2), "is no QNode"),
        (lambda: _model(_qnode(), gradient_shots=None, inputs="x"), "inputs='x': .* theta, v"),
        (lambda: _model(_qnode(shots=[10, 20])), "give it one number"),
        (lambda: _model(_qnode(interface="autograd")), "interface='autograd'"),
        (lambda: _model(_qnode(method="backprop"), ledger=Ledger()), "nothing is counted"),
        (lambda: _model(_qnode(gradient_kwargs={"broadcast": True})), "leave it out"),
        (lambda: model_function(_qnode(), theta=THETA[:2], n_features=2), "theta has 2 numbers"),
        (lambda: model_function(_qnode(), theta={"w": 1.0}, n_features=2), "theta has 'w'"),
        (lambda: model_function(_qnode(), theta=THETA, n_features=0), "n_features=0"),
        (lambda: model_function(_qnode(), theta=THETA, n_features=2.5), "n_features=2.5"),
        (lambda: model_function(_qnode(), theta=[1j, 1, 1, 1], n_features=2), "theta has 1j: give"),
        (lambda: model_function(_qnode(), theta="abc", n_features=2), "theta has 'abc': give real"),
        (lambda: _model(_qnode(), gradient_shots=0.5), "gradient_shots=0.5: give a whole"),
        (lambda: _model(_probabilities("adjoint")), "diff_method='adjoint' reads probabilities"),
        (
            lambda: model_function(_qnode(), theta=THETA, n_features=2, reinjection=np.eye(3)),
            r"reinjection has shape \(3, 3\)",
        ),
        (
            lambda: model_function(
                _qnode(), theta=THETA, n_features=2, injection=qdeq.Injection(np.eye(3))
            ),
            r"the injection's state has shape \(3, 3\).*shape \(2, 2\)",
        ),
    ],
)
def test_a_qnode_that_cannot_be_a_model_function_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_noisy_device_is_no_circuit_and_has_no_measured_one():
    damping = qml.noise.partial_wires(qml.AmplitudeDamping, 0.2)
    noise = qml.NoiseModel({qml.noise.op_in(["RX", "RZ"]): damping})
    noisy = qml.noise.add_noise(qml.device("default.mixed", wires=2), noise)
    f = _model(_qnode(noisy))
    with pytest.raises(UserError, match=r"device default.mixed adds noise.* with a NoiseModel"):
        _ = f.measured
    assert _model(_qnode("default.mixed")).measured.n_observables == 2


def test_an_argument_may_be_given_by_place_alone():
    def function(theta, /, v):
        qml.RX(theta[0], wires=0)
        qml.RY(v[0], wires=1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    f = model_function(qml.QNode(function, qml.device("default.qubit")), theta=[0.3], n_features=1)
    found = f.evaluate(f.theta, jnp.array([0.7]))
    np.testing.assert_allclose(found, np.cos([0.3, 0.7]), atol=1e-6)


def test_results_must_be_real_finite_numbers():
    device = qml.device("default.qubit", wires=1)

    def state(theta, v):
        qml.RX(theta[0] + v[0], wires=0)
        return qml.state()

    with pytest.raises(UserError, match="complex"):
        model_function(qml.QNode(state, device, diff_method="backprop"), theta=[1.0], n_features=1)
    with pytest.raises(UserError, match="StateMP"):
        model_function(
            qml.QNode(state, device, diff_method="finite-diff"), theta=[1.0], n_features=1
        )

    @qml.qnode(device)
    def undefined(theta, v):
        qml.RX(theta[0] / 0 * v[0], wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match="not finite"):
        model_function(undefined, theta=[1.0], n_features=1)


def test_broadcasting_in_a_qnode_is_refused():
    @qml.qnode(qml.device("default.qubit", wires=1))
    def broadcasting(theta, v):
        qml.RX(theta[0] * v, wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match=r"RX is given 3 angles at once, .* jax.vmap"):
        model_function(broadcasting, theta=[1.0], n_features=3)


def test_a_batch_in_place_of_a_sample_is_refused():
    f = _model(_qnode())
    with pytest.raises(UserError, match=r"x has shape \(8, 2\): .* use jax.vmap"):
        f(jnp.zeros(2), jnp.zeros((8, 2)))


def test_versions_that_cannot_work_are_named(monkeypatch):
    monkeypatch.setattr(jax, "__version__", "0.11.2")
    with pytest.raises(UserError, match=r"JAX 0.11.2 cannot compile .* jax<0.11"):
        _model(_qnode())
    monkeypatch.setattr(qml, "__version__", "0.46.0")
    with pytest.raises(UserError, match=r"PennyLane 0.46.0 .* pennylane>=0.45,<0.46"):
        to_pennylane(ANSATZ)
    monkeypatch.setitem(sys.modules, "pennylane", None)
    with pytest.raises(UserError, match=r"install qdeq\[pennylane\]"):
        from_pennylane(lambda: None)


def test_a_spent_budget_and_a_failing_device_are_told_through_compiled_code():
    ledger = Ledger(budget=Budget(executions=3))
    f = _model(_qnode(), ledger=ledger)
    compiled = jax.jit(jax.vmap(lambda m, x: f(m, x)))
    compiled(jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    with pytest.raises(BudgetSpent, match="budget of 3 executions"), device_errors(f.guest):
        jax.block_until_ready(compiled(jnp.zeros((2, 2)), jnp.zeros((2, 2))))
    assert ledger.executions == 3

    device = qml.device("default.qubit", wires=2)
    f = _model(_qnode(device))
    device.execute = lambda *args, **options: 1 / 0
    broken = pytest.raises(DeviceError, match=r"default.qubit failed .ZeroDivisionError")
    with broken, device_errors(f.guest):
        jax.block_until_ready(f(jnp.zeros(2), jnp.zeros(2)))
    with pytest.raises(DeviceError, match="ZeroDivisionError"):
        _model(_qnode(device))


def test_a_unitary_among_traced_gates_runs_with_every_method(x64):
    circuit = ANSATZ + Circuit(2, (Operation("Unitary", (1, 0), matrix=_random_unitary(4, 1)),))
    function = to_pennylane(circuit, encoding=ENCODING, observables=ENSEMBLE)
    x, found = jnp.asarray(X), []
    for device, method in (("default.qubit", "parameter-shift"), ("lightning.qubit", "adjoint")):
        qnode = qml.QNode(function, qml.device(device, wires=2), diff_method=method)
        f = model_function(qnode, theta=THETA, n_features=2)
        found.append(jax.jacfwd(f.evaluate)(f.theta, x))
    np.testing.assert_allclose(*found, atol=1e-10)
    assert float(jnp.abs(found[0]).max()) > 0.1


# --- devices as executors -------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "default.mixed"])
def test_an_executor_is_one_batch_and_agrees_with_dense_matrices(device):
    observables = qdeq.xyz_of_every_wire(2)
    device, ledger = qml.device(device, wires=2), Ledger()
    executor = PennyLaneExecutor(ANSATZ, observables, device=device, ledger=ledger)
    rows = np.random.default_rng(0).normal(size=(4, 4))
    with qml.Tracker(device) as tracker:
        found = executor(rows)
    for row, values in zip(rows, found, strict=True):
        state = oracle.circuit_unitary(ANSATZ, row)[:, 0]
        expected = oracle.expectation_values(observables.strings, state)
        np.testing.assert_allclose(values, expected, atol=1e-12)
    assert tracker.totals["batches"] == 1 == ledger.submissions
    assert tracker.totals["executions"] == 4 * 3 == ledger.executions


def test_an_executor_samples_and_counts_shots():
    device, ledger = qml.device("default.qubit", wires=2, seed=5), Ledger()
    executor = PennyLaneExecutor(ANSATZ, ENSEMBLE, device=device, shots=400, ledger=ledger)
    rows = np.tile(THETA, (50, 1))
    with qml.Tracker(device) as tracker:
        found = executor(rows)
    assert tracker.totals["shots"] == ledger.shots == 50 * 400
    state = oracle.circuit_unitary(ANSATZ, THETA)[:, 0]
    expected = oracle.expectation_values(ENSEMBLE.strings, state)
    deviation = (found.mean(axis=0) - expected) / np.sqrt((1 - expected**2) / (50 * 400))
    assert np.abs(deviation).max() < 4 and found.std(axis=0).min() > 0


def test_an_executor_names_what_its_device_cannot_do():
    with pytest.raises(UserError, match="is no PennyLane device"):
        PennyLaneExecutor(ANSATZ, ENSEMBLE, device="default.qubit")
    with pytest.raises(UserError, match="has 1 wires and the circuit 2"):
        PennyLaneExecutor(ANSATZ, ENSEMBLE, device=qml.device("default.qubit", wires=1))
    device = qml.device("default.qubit", wires=2)
    device.execute = lambda *args, **options: 1 / 0
    with pytest.raises(DeviceError, match=r"default.qubit failed .* .ZeroDivisionError"):
        PennyLaneExecutor(ANSATZ, ENSEMBLE, device=device)(THETA[None])


def _weights_then_inputs(weights, inputs):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.BasicEntanglerLayers(weights, wires=range(2))
    return [qml.expval(qml.Z(wire)) for wire in range(2)]


def _inputs_then_weights(inputs, weights):
    return _weights_then_inputs(weights, inputs)


def _inputs_between(first, inputs, second):
    return _weights_then_inputs(jnp.stack([first, second]), inputs)


def _weights_in_a_dictionary(inputs, params):
    return _weights_then_inputs(jnp.stack([params["first"], params["second"]]), inputs)


ROWS = np.array([[0.1, -0.7], [1.3, 0.4]])


@pytest.mark.parametrize(
    ("function", "theta"),
    [
        (_weights_then_inputs, ROWS),
        (_inputs_then_weights, ROWS),
        (_inputs_then_weights, {"weights": ROWS}),
        (_inputs_between, {"first": ROWS[0], "second": ROWS[1]}),
        (_weights_in_a_dictionary, {"first": ROWS[0], "second": ROWS[1]}),
        (_weights_in_a_dictionary, {"params": {"first": ROWS[0], "second": ROWS[1]}}),
    ],
)
def test_weights_stand_where_they_like_beside_inputs(function, theta, x64):
    qnode = qml.QNode(function, qml.device("default.qubit", wires=2))
    if function is _weights_in_a_dictionary and "params" not in theta:
        with pytest.raises(UserError, match="theta has 'first'"):
            model_function(qnode, theta=theta, n_features=2)
        return
    f = model_function(qnode, theta=theta, n_features=2)
    m, x = jnp.array([0.2, -0.1]), jnp.array([0.5, 1.1])
    expected = _weights_then_inputs_by_hand(f.injection(m, x))
    np.testing.assert_allclose(f(m, x), expected, atol=1e-12)
    np.testing.assert_array_equal(np.sort(f.theta), np.sort(ROWS.ravel()))


def _weights_then_inputs_by_hand(v):
    turns = [Operation("RX", (wire,), angle=float(angle)) for wire, angle in enumerate(v)]
    for row in ROWS:
        turns += [Operation("RX", (wire,), angle=float(angle)) for wire, angle in enumerate(row)]
        turns.append(Operation("CNOT", (0, 1)))
    state = oracle.circuit_unitary(Circuit(2, turns), [])[:, 0]
    return oracle.expectation_values(["ZI", "IZ"], state)
