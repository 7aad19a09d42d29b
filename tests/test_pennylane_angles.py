"""Angles of PennyLane's circuits: factors, offsets, sums and products, there and back."""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from circuit_strategies import turned_circuits
from hypothesis import given, settings

from qdeq.circuits import Operation
from qdeq.errors import UserError
from qdeq.interop.computed_angles import computed_angles

qml = pytest.importorskip("pennylane")

from qdeq.interop.pennylane import from_pennylane, to_pennylane  # noqa: E402

THETA, X = np.array([0.4, -1.3, 2.1, 0.7]), np.array([-0.6, 1.9])


def assert_same(circuit, function, *args, theta=THETA, x=X):
    """Equal matrices up to a global phase."""
    found = oracle.circuit_unitary(circuit, theta, x)
    expected = qml.matrix(function, wire_order=range(circuit.n_qubits))(*args)
    # 1e-12: float64 products of some dozen gates.
    assert abs(abs(np.vdot(found, expected)) / len(found) - 1) < 1e-12


def rescaled(theta, x):
    qml.RX(-theta[0], wires=0)
    qml.RY(theta[0] / 2 + np.pi, wires=1)
    qml.CRZ(1.5 * theta[1] - np.sqrt(2), wires=[0, 1])
    qml.IsingZZ(np.pi * x[0], wires=[0, 1])
    qml.Rot(theta[2], -theta[0] / 3, 0.5, wires=0)
    qml.U3(theta[0], 2 * theta[2] + 0.3, -theta[3], wires=1)


def adjoint(theta, x):
    qml.adjoint(rescaled)(theta, x)


def powers(theta, x):
    qml.pow(qml.RX(theta[0], wires=0), 3)
    qml.pow(qml.RY(theta[1] / 2, wires=1), 0.5)
    qml.pow(qml.adjoint(qml.IsingXX(theta[2], wires=[0, 1])), 2)
    qml.RZ(theta[3] * -2, wires=0)
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=1)


def controlled(theta, x):
    qml.ctrl(qml.RX, control=0)(-theta[0] / 2 + x[0], wires=1)
    qml.CRot(theta[1], theta[2], theta[0], wires=[0, 1])
    qml.ControlledPhaseShift(2 * theta[3], wires=[1, 0])
    qml.ctrl(qml.adjoint(qml.RY(theta[3], wires=1)), control=0)
    qml.RX(x[1], wires=1)


def sums(theta, x):
    qml.RZ(theta[0] - theta[1] / 2 + 1, wires=0)
    qml.CRX(np.sum(theta) / 4, wires=[0, 1])
    qml.PhaseShift(x[0] + 2 * theta[1], wires=1)
    qml.RX(jnp.pi - x[1] / 2, wires=1)


def products(theta, x):
    qml.Hadamard(wires=0)
    qml.IQPEmbedding(x, wires=[0, 1], n_repeats=2)
    qml.IsingZZ(2 * (np.pi - x[0]) * (np.pi - x[1]), wires=[0, 1])
    qml.RY(theta[0] * theta[1] - theta[2] ** 2, wires=0)
    qml.RX(theta[3], wires=1)
    qml.RY((theta[3] + 1) ** 3 - theta[3] ** 3 - 3 * theta[3] ** 2 - 3 * theta[3], wires=1)


def jax_arithmetic(theta, x):
    angles = jnp.array([[1.0, 0.5, 0, 0], [0, 0, -1, 1 / 3]]) @ jnp.asarray(theta)
    qml.RX(angles[0] + jnp.asarray(x)[0], wires=0)
    qml.RY(angles[1] * 0.7, wires=1)
    qml.RZ(-jnp.asarray(x)[1], wires=1)


@pytest.mark.parametrize(
    "function", [rescaled, adjoint, powers, controlled, sums, products, jax_arithmetic]
)
def test_functions_that_people_write(function, x64):
    circuit = from_pennylane(function, THETA, X, features="x")
    assert circuit.n_parameters == len(THETA)
    assert_same(circuit, function, THETA, X)
    again = to_pennylane(circuit)
    assert_same(circuit, again, THETA, X)
    assert_same(from_pennylane(again, THETA, X, features=1), function, THETA, X)


def test_angles_come_back_as_they_were_written():
    circuit = from_pennylane(rescaled, THETA, X[:1], features="x")
    assert circuit.operations[:4] == (
        Operation("RX", (0,), parameter=0, factor=-1),
        Operation("RY", (1,), parameter=0, factor=0.5, offset=np.pi),
        Operation("CRZ", (0, 1), parameter=1, factor=1.5, offset=circuit.operations[2].offset),
        Operation("RZZ", (0, 1), feature=0, factor=np.pi),
    )
    assert circuit.operations[2].offset == pytest.approx(-np.sqrt(2), abs=1e-14)


def test_a_circuit_read_without_double_precision_is_as_exact():
    circuit = from_pennylane(jax_arithmetic, THETA, X, features="x")
    factors = [operation.factor for operation in circuit.operations]
    np.testing.assert_allclose(factors, [1, 0.5, 1, -0.7, 0.7 / 3, -1], atol=1e-13)


@given(circuit=turned_circuits())
@settings(max_examples=20)
def test_any_factor_and_offset_survives_both_ways(circuit):
    theta = np.linspace(-2, 2, circuit.n_parameters)
    function = to_pennylane(circuit)
    assert_same(circuit, function, theta, theta=theta)
    back = from_pennylane(function, theta, n_qubits=2)
    assert_same(back, function, theta, theta=theta)
    for ours, theirs in zip(circuit.operations, back.operations, strict=True):
        np.testing.assert_allclose(theirs.factor, ours.factor, rtol=0, atol=1e-12)
        np.testing.assert_allclose(theirs.offset, ours.offset, rtol=0, atol=1e-12)


def test_trained_parameters_of_a_tape_keep_their_factors():
    with qml.tape.QuantumTape() as tape:
        qml.adjoint(qml.RX(0.3, wires=0))
        qml.CRot(0.1, 0.2, 0.3, wires=[0, 1])
    circuit = from_pennylane(tape)
    assert circuit.n_parameters == 4
    assert circuit.operations[0] == Operation("RX", (0,), parameter=0, factor=-1)


@pytest.mark.parametrize(
    ("angle", "message"),
    [
        (lambda t, x: np.sin(t[0]), "computed from the arguments: an angle is a sum"),
        (lambda t, x: abs(t[0]), "computed from the arguments"),
        (lambda t, x: np.maximum(t[0], 0), "computed from the arguments"),
        (lambda t, x: jnp.clip(t[0], -np.pi, np.pi), "computed from the arguments"),
        (lambda t, x: np.where(abs(t[0]) < 0.1, 0, t[0]), "computed from the arguments"),
        (lambda t, x: np.clip(t[0], 3, 4), "computed from the arguments"),
        (lambda t, x: t[0] / t[1], "computed from the arguments"),
        (lambda t, x: t[0] * x[0], "a product of a parameter and a feature"),
    ],
)
def test_other_angles_are_refused_by_the_name_of_the_gate(angle, message):
    def function(theta, x):
        qml.adjoint(qml.CRY(angle(theta, x), wires=[0, 1]))

    with pytest.raises(
        UserError, match=rf"^Adjoint\(CRY\) on wires \(0, 1\) .*{message}"
    ) as caught:
        from_pennylane(function, THETA[:2], X, features="x")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_entries_are_told_apart_however_many_there_are():
    n = 12_000
    entry, factor = np.arange(n)[::-1], np.linspace(-3, 3, n) + 1e-4

    def columns(points):
        return factor * points[:, entry] + 0.25

    found = computed_angles(columns, n)
    assert [angle.entries for angle in found] == [(i,) for i in entry]
    slopes = [(angle.polynomial or {}).get((0,), np.nan) for angle in found]
    np.testing.assert_allclose(slopes, factor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 5, 4096, 12_000])
def test_all_angles_of_two_entries_are_found_in_as_many_runs_as_the_numbers_have_bits(n):
    first, second = np.random.default_rng(0).permutation(n)[[0, 1]], np.array([0, n - 1])
    n_runs = 0

    def columns(points):
        nonlocal n_runs
        n_runs += len(points)
        a, b = points[:, first], points[:, second]
        return np.concatenate([a - b / 2 + 0.3, a * b, 1.5 * a], axis=1)

    found = computed_angles(columns, n)
    for k, (i, j) in enumerate(zip(first, second, strict=True)):
        pair = tuple(sorted({i, j}))
        assert found[k].entries == found[2 + k].entries == pair
        assert found[4 + k].entries == (i,)
        assert None not in (found[k].polynomial, found[2 + k].polynomial)
    assert n_runs < 40 + 2 * np.log2(n)


def test_a_search_that_would_never_end_is_given_up(monkeypatch):
    """A thousand sums of three entries each, which take 20,000 runs."""
    chosen = np.random.default_rng(0).permutation(3000).reshape(1000, 3)
    n_runs = 0

    def columns(points):
        nonlocal n_runs
        n_runs += len(points)
        return points[:, chosen].sum(axis=2)

    monkeypatch.setattr("qdeq.interop.computed_angles._MOST_VALUES", 100_000)
    assert all(angle.polynomial is None for angle in computed_angles(columns, 3000))
    assert n_runs < 300


def test_sums_are_found_among_many_entries():
    def columns(points):
        return np.stack([points[:, 7] - points[:, 900] / 2, points[:, 3] * points[:, 4]], axis=1)

    first, second = computed_angles(columns, 1000)
    assert (first.entries, first.polynomial) == ((7, 900), {(0,): 1.0, (1,): -0.5})
    assert (second.entries, second.polynomial) == ((3, 4), {(0, 1): 1.0})


def test_a_function_may_refuse_numbers_out_of_its_range():
    def columns(points):
        if np.abs(points).max() > 10:
            raise ValueError("out of range")
        return 2 * points[:, :1]

    (angle,) = computed_angles(columns, 1)
    assert angle.entries == (0,)
