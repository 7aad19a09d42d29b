"""Circuits as data: validation, counting, depth, concatenation."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeq.circuits import GATES, Circuit, Operation, hardware_efficient
from qdeq.errors import UserError


@st.composite
def circuits(draw, n_qubits=3):
    """Random circuits in which every parameter is used once and in order."""
    names = draw(st.lists(st.sampled_from(sorted(GATES)), max_size=12))
    operations, n_parameters = [], 0
    for name in names:
        gate = GATES[name]
        wires = tuple(draw(st.permutations(range(n_qubits)))[: gate.n_wires])
        fresh = tuple(range(n_parameters, n_parameters + gate.n_parameters))
        n_parameters += gate.n_parameters
        parameter = None if not fresh else fresh[0] if len(fresh) == 1 else fresh
        operations.append(Operation(name, wires, parameter=parameter))
    flags = draw(st.lists(st.booleans(), min_size=n_parameters, max_size=n_parameters))
    return Circuit(n_qubits, tuple(operations), tuple(flags))


@given(first=circuits(), second=circuits())
def test_addition_renumbers_the_second_circuit(first, second):
    joined = first + second
    assert joined.n_parameters == first.n_parameters + second.n_parameters
    assert joined.trainable == first.trainable + second.trainable
    assert joined.operations[: len(first.operations)] == first.operations
    used = [i for operation in joined.operations for i in operation.parameters]
    assert used == list(range(joined.n_parameters))


@given(first=circuits(), second=circuits(), third=circuits())
def test_addition_is_associative(first, second, third):
    assert (first + second) + third == first + (second + third)


def test_addition_keeps_features():
    upload = Circuit(1, (Operation("RX", (0,), feature=2),))
    assert [operation.feature for operation in (upload + upload).operations] == [2, 2]
    assert (upload + upload).n_features == 3


@given(circuit=circuits())
def test_depth_lies_between_the_busiest_wire_and_the_number_of_operations(circuit):
    busiest = max(sum(w in op.wires for op in circuit.operations) for w in range(3))
    assert busiest <= circuit.depth() <= len(circuit.operations)


def test_depth_packs_parallel_gates_into_one_layer():
    h = [Operation("H", (wire,)) for wire in range(4)]
    pairs = [Operation("CZ", (0, 1)), Operation("CZ", (2, 3)), Operation("CZ", (1, 2))]
    assert Circuit(4, tuple(h)).depth() == 1
    assert Circuit(4, (*h, *pairs)).depth() == 3
    assert Circuit(4, ()).depth() == 0


def test_count_filters_by_wires_and_name():
    circuit = hardware_efficient(4, 2)
    assert circuit.count() == 2 * (8 + 3)
    assert circuit.count(n_wires=2) == circuit.count(name="CNOT") == 6
    assert circuit.count(n_wires=1, name="CNOT") == 0


@given(circuit=circuits())
def test_equal_circuits_hash_alike_and_survive_copies(circuit):
    for twin in (copy.deepcopy(circuit), pickle.loads(pickle.dumps(circuit))):
        assert twin == circuit and hash(twin) == hash(circuit)


def test_numpy_numbers_and_lists_become_hashable():
    wires, matrix = np.array([1, 0]), np.eye(4, dtype=np.float32)
    operation = Operation("Unitary", wires, matrix=matrix)  # pyright: ignore[reportArgumentType]
    assert operation.wires == (1, 0)
    assert hash(Circuit(2, (operation,))) == hash(Circuit(2, (operation,)))


def test_parameters_can_be_shared():
    circuit = Circuit(2, (Operation("RX", (0,), 0), Operation("RX", (1,), 0)))
    assert circuit.n_parameters == 1
    assert circuit.trainable == (True,)


def test_fixed_angles_are_no_parameters():
    assert Circuit(1, (Operation("RX", (0,), angle=0.5),)).n_parameters == 0


@given(circuit=circuits())
def test_inverses_undo_every_operation(circuit):
    for scale in ({}, {"factor": -0.5, "offset": 0.3}):
        for operation in circuit.operations:
            scaled = replace(operation, **(scale if operation.parameters else {}))
            theta = np.linspace(-1, 2, circuit.n_parameters)
            # Operations alone, since the parameters of one have gaps.
            angles = [oracle.gate_angles(one, theta) for one in (scaled, scaled.inverse())]
            there = oracle.gate_matrix(scaled.name, angles[0])
            back = oracle.gate_matrix(scaled.inverse().name, angles[1])
            assert abs(abs(np.trace(back @ there)) / len(there) - 1) < 1e-12


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Operation("RX", (2,), 0), "RX on wires .2,. leaves the circuit: n_qubits=2 has wires 0"),
        (Operation("RX", (-1,), 0), "leaves the circuit"),
        (Operation("CNOT", (0, 0)), "distinct wires"),
        (Operation("X", ()), "distinct wires"),
        (Operation("CNOT", (0,)), "has 1 wires: CNOT acts on 2"),
        (Operation("Toffoli", (0, 1)), "'Toffoli' is not a known gate: use one of I, X"),
        (Operation("RX", (0,)), "needs one angle"),
        (Operation("RX", (0,), 0, feature=0), "needs one angle"),
        (Operation("RX", (0,), feature=()), "needs one angle"),
        (Operation("RX", (0,), 0, factor=float("nan")), "factor=nan: give a finite number"),
        (Operation("RX", (0,), 0, offset=float("inf")), "offset=inf: give a finite number"),
        (Operation("RX", (0,), 0, factor=(1, 2)), "one number, or one for each angle"),
        (Operation("U3", (0,), (0, 1, 2), offset=(1, 2)), "one number, or one for each angle"),
        (Operation("RX", (0,), angle=0.5, factor=2), "neither parameter nor feature"),
        (Operation("X", (0,), offset=1), "neither parameter nor feature"),
        (Operation("Unitary", (0,), matrix=((1, 0), (0, 1)), factor=2), "neither parameter nor"),
        (Operation("RX", (0,), feature=(0, -1)), "features count from 0"),
        (Operation("RX", (0,), (0,)), "needs one angle"),
        (Operation("X", (0,), 0), "X has none"),
        (Operation("U3", (0,), 0), r"parameter=\(i, j, k\)"),
        (Operation("U3", (0,), angle=0.5), r"parameter=\(i, j, k\)"),
        (Operation("RX", (0,), feature=-1), "features count from 0"),
        (Operation("RX", (0,), angle=float("nan")), "finite number of radians"),
        (Operation("RX", (0,), 1), r"the parameters \[1\] have gaps.*index 0"),
        (Operation("RX", (0,), -1), "have gaps"),
        (Operation("X", (0,), matrix=((1, 0), (0, 1))), "only Unitary takes one"),
        (Operation("Unitary", (0,)), "no matrix"),
        (Operation("Unitary", (0, 1), matrix=((1, 0), (0, 1))), r"shape \(2, 2\).*\(4, 4\)"),
        (Operation("Unitary", (0,), matrix=((1, 0), (0, 2))), "a unitary matrix"),
        (Operation("Unitary", (0,), matrix=((1, 0), (0, float("nan")))), "a unitary matrix"),
        (Operation("Unitary", (0,), 0, matrix=((1, 0), (0, 1))), "by its matrix alone"),
    ],
)
def test_mistakes_are_named(operation, message):
    with pytest.raises(UserError, match=message):
        Circuit(2, (operation,))


def test_unreadable_operations_are_named():
    with pytest.raises(UserError, match="wires as a tuple of integers"):
        Operation("RX", (0.5,), 0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="matrix as a square array"):
        Operation("Unitary", (0,), matrix=((1, 0), (0,)))
    with pytest.raises(UserError, match="matrix as a square array"):
        Operation("Unitary", (0,), matrix=5)  # pyright: ignore[reportArgumentType]


def test_a_circuit_needs_qubits_and_one_flag_per_parameter():
    with pytest.raises(UserError, match="n_qubits=0"):
        Circuit(0, ())
    with pytest.raises(UserError, match="trainable has 2 entries for 1 parameters"):
        Circuit(1, (Operation("RX", (0,), 0),), (True, False))


def test_circuits_of_different_size_cannot_be_joined():
    with pytest.raises(UserError, match="on 1 and 2 qubits cannot be joined"):
        _ = Circuit(1, ()) + Circuit(2, ())
    with pytest.raises(TypeError):
        _ = Circuit(1, ()) + 5  # pyright: ignore[reportOperatorIssue]
