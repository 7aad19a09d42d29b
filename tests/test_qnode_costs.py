"""What a QNode costs: read as encoding, circuit and observables of ours, counted as on its device.

What QNodes compute as model functions is in `test_pennylane.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.circuits import AmplitudeEncoding, AngleEncoding, Circuit, MeasuredCircuit, Operation
from qdeq.devices import Ledger, estimate, estimate_network
from qdeq.errors import UserError

qml = pytest.importorskip("pennylane")

from qdeq.interop.pennylane import model_function  # noqa: E402

ROWS = np.array([[0.1, -0.7], [1.3, 0.4]])
# Re-uploading, an angle in two places, a factor, a controlled rotation, two measurement settings.
MEASURED = MeasuredCircuit(
    Circuit(
        2,
        (
            Operation("RX", (0,), parameter=0),
            Operation("RX", (1,), parameter=1),
            Operation("CNOT", (0, 1)),
            Operation("RZ", (1,), feature=1),
            Operation("CRY", (0, 1), parameter=2),
            Operation("RX", (1,), parameter=0),
            Operation("RY", (1,), parameter=3),
        ),
    ),
    AngleEncoding(
        2,
        (Operation("RY", (0,), feature=0, factor=0.5), Operation("RY", (1,), feature=1)),
        n_inputs=2,
    ),
    qdeq.MeasurementEnsemble(2, ("ZI", "XX")),
)


def _weights_then_inputs(weights, inputs):
    qml.RY(0.5 * inputs[0], wires=0)
    qml.RX(weights[0, 0], wires=0)
    qml.RY(inputs[1], wires=1)
    qml.RX(weights[0, 1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RZ(inputs[1], wires=1)
    qml.CRY(weights[1, 0], wires=[0, 1])
    qml.RX(weights[0, 0], wires=1)
    qml.RY(weights[1, 1], wires=1)
    return qml.expval(qml.Z(0)), qml.expval(qml.X(0) @ qml.X(1))


def _inputs_then_weights(inputs, weights):
    return _weights_then_inputs(weights, inputs)


def _several(second, v, first):
    return _weights_then_inputs(jnp.stack([first, second]), v)


def _dictionary(inputs, params):
    rows = jnp.zeros((2, 2)).at[0].set(params["b"]).at[1].set(params["a"])
    return _weights_then_inputs(rows, inputs)


def _model(function, theta=ROWS, n_features=2, method="parameter-shift", **options):
    n_wires = options.pop("wires", 2)
    qnode = qml.QNode(function, qml.device("default.qubit", wires=n_wires), diff_method=method)
    return model_function(qnode, theta=theta, n_features=n_features, **options)


def _own_model(f):
    return qdeq.QuantumModel(f.theta, measured=f.measured, injection=f.injection)


def _angles(measured, theta):
    return [operation.angle_values(theta, [1.0, 2.0]) for operation in measured.circuit.operations]


def test_a_qnode_costs_what_the_same_circuit_of_ours_costs():
    f = _model(_weights_then_inputs)
    assert f.measured == MEASURED
    for options in ({}, {"solver": "newton", "steps": 3.5, "shots": 100}, {"layers": 2}):
        assert estimate(f, **options) == estimate(MEASURED, **options)


@pytest.mark.parametrize(
    ("function", "theta"),
    [
        (_inputs_then_weights, ROWS),
        (_inputs_then_weights, {"weights": ROWS}),
        (_several, {"second": ROWS[1], "first": ROWS[0]}),
        (_dictionary, {"params": {"b": ROWS[0], "a": ROWS[1]}}),
    ],
)
def test_arguments_stand_where_they_like(function, theta, x64):
    f = _model(function, theta)
    ours, expected = estimate(f), estimate(MEASURED)
    assert ours.training_step(3).to_dict() == expected.training_step(3).to_dict()
    # The numbers of theta may have another order than in `MEASURED`; the angles are the same.
    assert _angles(f.measured, f.theta) == _angles(MEASURED, ROWS.ravel())


def test_an_argument_that_no_gate_reads_is_named():
    f = _model(lambda theta, v: _weights_then_inputs(theta[:2], v), np.ones((3, 2)))
    with pytest.raises(UserError, match=r"theta\[4\] is used by no gate"):
        estimate(f)


def test_the_ledger_of_a_qnode_counts_what_was_predicted():
    ledger = Ledger()
    f = _model(_weights_then_inputs, ledger=ledger, reinjection=0.3 * np.eye(2))
    layer = qdeq.Equilibrium(qdeq.Picard(rtol=0, atol=0), max_steps=3)
    x = jnp.array([[-1.0, -0.6], [0.2, 1.0]])

    def loss(f):
        return jnp.sum(jax.vmap(lambda x: layer(f.bind(x), jnp.zeros(2)).value)(x))

    jax.block_until_ready(jax.jit(jax.grad(loss))(f))
    found = ledger.by_purpose
    found["forward"] -= 2  # the trial run of `model_function`, in two settings
    assert found == estimate(f, solver="picard", steps=3).training_step(2).by_purpose


def test_amplitudes_are_those_of_our_encoding_on_any_wires(x64):
    def function(theta, v):
        qml.AmplitudeEmbedding(v, wires=["c", "a"], normalize=True, pad_with=0)
        for angle, wire in zip(theta, "abc", strict=True):
            qml.RY(angle, wires=wire)
        qml.CNOT(wires=["a", "b"])
        return [qml.expval(qml.Z(wire)) for wire in "abc"]

    f = _model(function, np.array([0.3, 0.9, -0.4]), 3, wires=["a", "b", "c"])
    assert f.measured.encoding == AmplitudeEncoding(3, 3)
    m, x = jnp.array([0.2, -0.1, 0.5]), jnp.array([0.5, 1.1, -0.3])
    np.testing.assert_allclose(_own_model(f)(m, x), f(m, x), atol=1e-12)
    assert estimate(f).circuit.preparation_two_qubit_gates > 0


def test_features_may_enter_behind_other_gates(x64):
    def function(theta, v):
        qml.RY(theta[0], wires=0)
        qml.IQPEmbedding(v, wires=range(2))
        qml.CRX(theta[1], wires=[0, 1])
        return {"z": qml.expval(qml.Z(1)), "a": qml.expval(qml.Y(0))}

    m, x = jnp.array([0.2, -0.1]), jnp.array([0.5, 1.1])
    for method in ("backprop", "parameter-shift"):
        f = _model(function, np.array([0.4, 0.9]), method=method)
        assert f.measured.encoding == AngleEncoding(2, (), n_inputs=2)
        np.testing.assert_allclose(_own_model(f)(m, x), f(m, x), atol=1e-12)


def test_a_learned_injection_costs_its_gradient():
    injection = qdeq.Injection.random(2, 5, 2, key=jax.random.key(0))
    f = _model(_weights_then_inputs, injection=injection)
    found = estimate(f, adjoint="jacobian-free").training_step(1).by_purpose
    assert found["input gradient"] == 2 * (1 + 2 * 3)  # in two settings


def test_a_network_of_qnodes_costs_what_one_of_our_circuits_costs():
    chain, f = qdeq.Chain(5), _model(_weights_then_inputs)
    injection = qdeq.EdgeInjection.random(chain, 2, 1, 2, key=jax.random.key(0))
    network = qdeq.Network(f, injection, chain)
    assert estimate_network(network) == estimate_network(MEASURED, chain)
    longer = type(chain)(100)  # a wiring that is given is the one that is priced
    assert estimate_network(network, longer) == estimate_network(MEASURED, longer)


def _angle(theta, v):
    qml.RY(jnp.arctan(v[0]) + theta[0], wires=0)
    return qml.expval(qml.Z(0))


def _probabilities(theta, v):
    qml.RY(v[0] + theta[0], wires=0)
    return qml.probs(wires=0)


def _sum(theta, v):
    qml.RY(v[0] + theta[0], wires=0)
    return qml.expval(qml.Z(0) + 2 * qml.X(0))


def _reversed(theta, v):
    qml.AmplitudeEmbedding(v[::-1], wires=[0], normalize=True)
    qml.RY(theta[0], wires=0)
    return qml.expval(qml.Z(0))


def _noisy(theta, v):
    qml.RY(v[0] + theta[0], wires=0)
    qml.BitFlip(0.1, wires=0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_angle, "RY on wires .0,. has an angle that is computed from the arguments"),
        (_probabilities, r"it measures probs\(wires=\[0\]\): measure expectation values"),
        (_sum, "without a factor, such as qml.expval"),
        (_reversed, "AmplitudeEmbedding has other amplitudes than the encoder input"),
        (_noisy, "BitFlip on wires .0,. is a noise channel"),
    ],
)
def test_what_is_no_circuit_of_ours_is_one_sentence(function, message):
    device = qml.device("default.mixed" if function is _noisy else "default.qubit", wires=1)
    f = model_function(qml.QNode(function, device), theta=[0.3], n_features=2)
    with pytest.raises(UserError, match="the QNode cannot be read as a circuit: .*" + message):
        estimate(f)


def test_a_qnode_itself_says_what_to_make_of_it():
    qnode = qml.QNode(_weights_then_inputs, qml.device("default.qubit", wires=2))
    with pytest.raises(UserError, match=r"a QNode as qdeq.interop.pennylane.model_f"):
        estimate(qnode)
