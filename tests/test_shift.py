"""Jacobians by shift rules, stochastic and quadratic, against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from execution_problems import OBSERVABLES, simulator, tiny_inputs, tiny_model

from qdeq.circuits import Circuit, Operation
from qdeq.devices import SimulatorExecutor, quadratic_jacobian, shift_jacobian, spsa_jacobian
from qdeq.errors import UserError
from qdeq.lowering import Program, n_shifts, shift_rule
from qdeq.simulation import expectation_values, run

TWO_TERMS = ("RX", "RY", "RZ", "RXX", "RYY", "RZZ", "PhaseShift")
FOUR_TERMS = ("CRX", "CRY", "CRZ")


def scale(i):
    """Every other gate turns by a multiple of its angle: -a/2 + 0.4, 1.5 a + 0.4, ..."""
    return {"factor": (-0.5, 1.5, -2)[i % 3], "offset": 0.4} if i % 2 else {}


def every_gate():
    """Each gate with an angle once, between rotations that make every one of them count."""
    operations = []
    for name in TWO_TERMS + FOUR_TERMS:
        wires = (0,) if name in ("RX", "RY", "RZ", "PhaseShift") else (0, 1)
        operations += [
            Operation("RY", (0,), angle=0.6),
            Operation("RX", (1,), angle=0.9),
            Operation(name, wires, parameter=len(operations) // 3, **scale(len(operations) // 3)),
        ]
    return Circuit(2, tuple(operations))


CIRCUIT = every_gate()


@jax.jit
@jax.vmap
def derivative(angles):
    def values(angles):
        start = jnp.zeros(4, complex).at[0].set(1)
        found = expectation_values(OBSERVABLES, run(CIRCUIT, angles, start)[:, None])[:, 0]
        return found, found

    jacobian, value = jax.jacfwd(values, has_aux=True)(angles)
    return value, jacobian


def test_jacobian_of_every_gate_equals_automatic_differentiation(x64):
    angles = np.random.default_rng(0).uniform(-3, 3, (3, 10))
    expected_values, expected = derivative(angles)
    executor = SimulatorExecutor(CIRCUIT, OBSERVABLES)
    values, jacobian = shift_jacobian(executor, angles, range(10))
    np.testing.assert_allclose(values, expected_values, atol=1e-12)
    np.testing.assert_allclose(jacobian, expected, atol=1e-10)
    # One submission; two settings for each of three rows' 1 + 7 * 2 + 3 * 4 circuits.
    assert executor.ledger.submissions == 1
    assert executor.ledger.executions == 2 * 3 * (1 + 7 * 2 + 3 * 4)
    assert n_shifts(CIRCUIT, range(10)) == 26


def test_only_the_slots_asked_for_are_shifted(x64):
    angles = np.random.default_rng(1).uniform(-3, 3, (3, 10))
    _, expected = derivative(angles)
    executor = SimulatorExecutor(CIRCUIT, OBSERVABLES)
    _, jacobian = shift_jacobian(executor, angles, (8, 2), purpose="input gradient")
    np.testing.assert_allclose(jacobian, expected[:, :, [8, 2]], atol=1e-10)
    assert executor.ledger.by_purpose == {"input gradient": 2 * 3 * 7}
    values, empty = shift_jacobian(executor, angles, ())
    assert values.shape == (3, 2)
    assert empty.shape == (3, 2, 0)


def test_rules_have_the_published_coefficients():
    for name in TWO_TERMS:
        shifts, coefficients = shift_rule(name)
        np.testing.assert_allclose(shifts, [np.pi / 2, -np.pi / 2])
        np.testing.assert_allclose(coefficients, [0.5, -0.5])
    root = np.sqrt(2)
    large, small = (root + 1) / (4 * root), (root - 1) / (4 * root)
    for name in FOUR_TERMS:
        rule = dict(zip(*(part.round(12) for part in shift_rule(name)), strict=True))
        for shift, coefficient in ((np.pi / 2, large), (3 * np.pi / 2, -small)):
            np.testing.assert_allclose(rule[round(shift, 12)], coefficient, atol=1e-12)
            np.testing.assert_allclose(rule[round(-shift, 12)], -coefficient, atol=1e-12)


def test_mistakes():
    with pytest.raises(UserError, match=r"'CNOT' has no shift rule"):
        shift_rule("CNOT")
    shared = Circuit(1, (Operation("RX", (0,), parameter=0), Operation("RY", (0,), parameter=0)))
    executor = SimulatorExecutor(shared, OBSERVABLES.__class__(1, ("Z",)))
    with pytest.raises(UserError, match=r"angle 0 of the circuit turns RY and something else"):
        shift_jacobian(executor, np.zeros((1, 1)), (0,))
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r"size=0"):
        spsa_jacobian(executor, np.zeros((1, 1)), (0,), rng=rng, size=0)
    with pytest.raises(UserError, match=r"perturbations=0"):
        spsa_jacobian(executor, np.zeros((1, 1)), (0,), rng=rng, perturbations=0)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ((2,), "2 is no slot: give some of 0 to 1"),
        ((0, -1), "-1 is no slot"),
        (("a",), "'a' is no slot"),
        ((1, 0, np.int64(1)), "a slot is there twice"),
    ],
)
def test_slots_are_those_of_the_circuit_each_once(slots, message):
    circuit = Circuit(1, tuple(Operation(g, (0,), parameter=i) for i, g in enumerate(("RX", "RY"))))
    executor = SimulatorExecutor(circuit, OBSERVABLES.__class__(1, ("Z",)))
    for jacobian in (
        shift_jacobian,
        lambda *arguments: spsa_jacobian(*arguments, rng=np.random.default_rng(0)),
    ):
        with pytest.raises(UserError, match=message):
            jacobian(executor, np.zeros((1, 2)), slots)
    assert executor.ledger.executions == 0


def test_errors_of_jacobians_fall_as_one_over_the_root_of_the_shots():
    model = tiny_model()
    slots = Program.of(model).circuit_slots
    angles = np.random.default_rng(5).uniform(-3, 3, (8, Program.of(model).n_slots))
    _, exact = shift_jacobian(simulator(model), angles, slots)
    executor = simulator(model, seed=11)
    shots = np.array([100, 1600, 25600])
    errors = [
        np.sqrt(np.mean((shift_jacobian(executor, angles, slots, int(n))[1] - exact) ** 2))
        for n in shots
    ]
    slope = np.polyfit(np.log(shots), np.log(errors), 1)[0]
    # 8 * 2 * 10 entries per point: the slope's standard error is about 0.015.
    assert abs(slope + 0.5) < 0.06
    assert executor.ledger.shots > 0


def test_spsa_is_right_on_average_and_costs_two_circuits_a_perturbation():
    model = tiny_model()
    slots = Program.of(model).circuit_slots
    angles = np.random.default_rng(5).uniform(-3, 3, (1, Program.of(model).n_slots))
    values, exact = shift_jacobian(simulator(model), angles, slots)
    executor = simulator(model)
    n = 2000
    found_values, found = spsa_jacobian(
        executor, angles, slots, rng=np.random.default_rng(0), perturbations=n, size=0.01
    )
    assert executor.ledger.executions == 2 * (1 + 2 * n)
    np.testing.assert_allclose(found_values, values, atol=1e-12)
    # Every entry's deviation is at most the norm of its row; 4 standard errors.
    row_norms = np.linalg.norm(exact, axis=2, keepdims=True)
    assert np.all(np.abs(found - exact) < 4 * row_norms / np.sqrt(n))
    single = spsa_jacobian(executor, angles, slots, rng=np.random.default_rng(1))[1]
    assert np.linalg.matrix_rank(single[0]) == 1


@pytest.mark.slow
def test_quadratic_rule_equals_automatic_differentiation(x64):
    model = tiny_model("amplitude")
    x = jnp.asarray(np.concatenate([tiny_inputs(3), np.zeros((1, 3))]))
    m = jnp.array([[0.3, -0.2], [0.7, 0.1], [0.0, 0.0], [0.0, 0.0]])
    # The third sample has vanished amplitudes, the fourth nothing but: no state, no derivative.
    x = x.at[2].set(jnp.array([1.0, 2.0, 0.0]))
    executor = simulator(model)
    values, jacobian = quadratic_jacobian(model, executor, m, x)
    assert executor.ledger.by_purpose == {"input gradient": 2 * 4 * (1 + 2 * 2)}
    np.testing.assert_allclose(values, jax.vmap(model)(m, x), atol=1e-12)
    expected = jax.jit(jax.vmap(jax.jacfwd(model)))(m, x)
    np.testing.assert_allclose(jacobian, expected, atol=1e-10)
    assert np.abs(expected[2]).max() > 0.05
    with pytest.raises(UserError, match="needs amplitude encoding"):
        quadratic_jacobian(tiny_model(), simulator(tiny_model()), m, x)


@pytest.mark.slow
def test_shot_noise_of_the_quadratic_rule_is_that_of_a_value(x64):
    model = tiny_model("amplitude")
    x, m = jnp.asarray(tiny_inputs(30)), jnp.zeros((30, 2))
    exact = quadratic_jacobian(model, simulator(model), m, x)[1]
    found = quadratic_jacobian(model, simulator(model, seed=1), m, x, 1000)[1]
    # An expectation value's error times |R| / |v| and a number of order one.
    scale = np.linalg.norm(model.reinjection, axis=0) / np.linalg.norm(x, axis=1, keepdims=True)
    relative = (found - exact) / scale[:, None, :] * np.sqrt(1000)
    assert 0.2 < np.sqrt(np.mean(relative**2)) < 2
