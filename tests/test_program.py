"""Programs: what a device is given prepares the same state as encoding and circuit do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    Operation,
    hardware_efficient,
    reuploading,
)
from qdeq.errors import UserError
from qdeq.lowering import lower
from qdeq.lowering.preparation import preparation_angles

# A shared parameter, a U3, factors and offsets, a product, a fixed angle, a controlled rotation, a
# matrix.
MIXED = Circuit(
    2,
    (
        Operation("U3", (0,), parameter=(0, 1, 2), factor=(1, 0.5, -2), offset=(0, 0.3, 0)),
        Operation("RY", (1,), parameter=3),
        Operation("CRX", (0, 1), parameter=3, factor=-0.5, offset=np.pi),
        Operation("RZZ", (0, 1), parameter=(0, 3), factor=1.5),
        Operation("RZ", (0,), angle=0.7),
        Operation("Unitary", (1,), matrix=np.array([[0, 1], [1, 0]])),
        Operation("PhaseShift", (1,), parameter=0),
    ),
    trainable=(True, False, True, True),
)
# Feature 0 turns two gates.
ROTATIONS = AngleEncoding(
    2,
    (
        Operation("RY", (0,), feature=0),
        Operation("RX", (1,), feature=1, factor=-0.5, offset=0.2),
        Operation("RZ", (1,), feature=0, factor=np.sqrt(2)),
        Operation("RY", (0,), feature=(0, 1), factor=2),
    ),
)


def random_numbers(n, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def program_state(program, theta, v):
    angles = jax.jit(program.angles)(jnp.asarray(theta), jnp.asarray(v))
    return oracle.circuit_unitary(program.circuit, np.asarray(angles))[:, 0]


@pytest.mark.parametrize("circuit", [MIXED, reuploading(ROTATIONS, [MIXED, MIXED])])
def test_angle_program_makes_the_state_of_encoding_and_circuit(circuit, x64):
    theta, v = random_numbers(circuit.n_parameters), random_numbers(2, 1)
    encode = oracle.circuit_unitary(Circuit(2, ROTATIONS.operations), (), v)
    expected = (oracle.circuit_unitary(circuit, theta, v) @ encode)[:, 0]
    found = program_state(lower(circuit, ROTATIONS), theta, v)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("n_features", [1, 2, 5, 7, 8])
def test_amplitude_program_prepares_any_real_amplitudes(n_features, x64):
    encoding, empty = AmplitudeEncoding(3, n_features), Circuit(3, ())
    for seed in range(3):
        v = random_numbers(n_features, seed)
        v = np.abs(v) if n_features == 1 else v  # -1 times the only amplitude is a global phase
        state = np.zeros(8)
        state[:n_features] = v / np.linalg.norm(v)
        found = program_state(lower(empty, encoding), (), v)
        np.testing.assert_allclose(found, state, atol=1e-12)


def test_zero_amplitudes_of_all_patterns_are_prepared(x64):
    program = lower(Circuit(3, ()), AmplitudeEncoding(3, 8))
    prepare = jax.jit(lambda v: program.angles(jnp.zeros(0), v))
    for pattern in range(1, 256, 3):
        v = np.array([(pattern >> i) & 1 for i in range(8)]) * random_numbers(8, pattern)
        state = oracle.circuit_unitary(program.circuit, np.asarray(prepare(v)))[:, 0]
        np.testing.assert_allclose(state, v / np.linalg.norm(v), atol=1e-12)


def test_amplitude_program_with_circuit(x64):
    circuit = hardware_efficient(3, 1)
    theta, v = random_numbers(circuit.n_parameters), random_numbers(6, 1)
    state = np.pad(v / np.linalg.norm(v), (0, 2))
    expected = oracle.circuit_unitary(circuit, theta) @ state
    program = lower(circuit, AmplitudeEncoding(3, 6))
    np.testing.assert_allclose(program_state(program, theta, v), expected, atol=1e-12)


@pytest.mark.slow
def test_zero_features_prepare_the_zero_state(x64):
    program = lower(Circuit(2, ()), AmplitudeEncoding(2, 4))
    np.testing.assert_array_equal(program.angles(jnp.zeros(0), jnp.zeros(4)), np.zeros(3))


def test_preparation_uses_only_the_wires_that_the_amplitudes_reach():
    program = lower(Circuit(6, ()), AmplitudeEncoding(6, 5))
    assert {wire for op in program.circuit.operations for wire in op.wires} == {3, 4, 5}
    assert program.n_slots == 7
    assert program.circuit.count(name="CNOT") == 6


@pytest.mark.parametrize("n_features", [5, 8])
def test_derivatives_of_the_preparation_angles(n_features, x64):
    v = jnp.asarray(random_numbers(n_features, 4))
    found, step = jax.jit(jax.jacfwd(preparation_angles))(v), 1e-6
    angles = jax.jit(preparation_angles)
    for i, unit in enumerate(np.eye(n_features)):
        difference = (angles(v + step * unit) - angles(v - step * unit)) / (2 * step)
        np.testing.assert_allclose(found[:, i], difference, atol=1e-8)


def test_derivative_at_a_vanished_block_is_nan_and_not_a_wrong_number(x64):
    jacobian = jax.jit(jax.jacfwd(preparation_angles))(jnp.array([1.0, 2.0, 0.0, 0.0]))
    assert np.isnan(jacobian[:, 2:]).any()


def test_slots_are_in_time_order_and_know_their_source():
    program = lower(reuploading(ROTATIONS, [MIXED, MIXED]), ROTATIONS)
    order = [op.parameter for op in program.circuit.operations if op.parameter is not None]
    assert order == list(range(program.n_slots))
    assert sorted(program.encoding_slots + program.circuit_slots) == order
    assert len(program.encoding_slots) == 2 * 4
    assert len(program.circuit_slots) == 2 * 7
    # The second angle of each U3, parameters 1 and 5, is frozen.
    assert len(program.trainable_slots) == len(program.circuit_slots) - 2


def test_frozen_parameters_get_no_gradient(x64):
    program = lower(MIXED, ROTATIONS)
    jacobian = jax.jacrev(program.circuit_angles)(jnp.zeros(4))
    np.testing.assert_array_equal(jacobian.any(axis=0), MIXED.trainable)


def test_derivatives_by_angles_become_those_by_parameters(x64):
    program, theta = lower(MIXED, ROTATIONS), random_numbers(4)
    slopes = random_numbers(len(program.trainable_slots), 1)
    trained = np.isin(program.circuit_slots, program.trainable_slots)
    jacobian = jax.jacrev(program.circuit_angles)(jnp.asarray(theta))[trained]
    np.testing.assert_allclose(
        program.parameter_gradient(theta, slopes), slopes @ jacobian, atol=1e-14
    )


def test_angles_take_batches_by_vmap():
    program = lower(MIXED, ROTATIONS)
    angles = functools.partial(program.angles, jnp.ones(4))
    assert jax.eval_shape(jax.vmap(angles), jnp.ones((5, 2))).shape == (5, program.n_slots)


def test_mistakes():
    with pytest.raises(UserError, match=r"encoding acts on 2 qubits and the circuit on 3"):
        lower(Circuit(3, ()), ROTATIONS)
    fed = Circuit(2, (Operation("RX", (0,), feature=4),))
    with pytest.raises(UserError, match=r"fed by feature 4"):
        lower(fed, ROTATIONS)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_angles_of_what_is_no_number_are_none(value):
    assert np.isnan(preparation_angles(jnp.ones(6).at[2].set(value))).all()
