"""Circuits of Qiskit's, whatever they are made of: the same matrix, or one line that says why not.

The matrices to compare with are Qiskit's own, `quantum_info.Operator`.
"""

import contextlib
import copy

import hypothesis.strategies as st
import numpy as np
import oracle
import pytest
from hypothesis import given, settings

from qdeq import UserError
from qdeq.circuits import Circuit

qiskit = pytest.importorskip("qiskit")
from qiskit import QuantumCircuit, qasm2  # noqa: E402
from qiskit.circuit import (  # noqa: E402
    AnnotatedOperation,
    ControlModifier,
    Gate,
    Instruction,
    InverseModifier,
    Parameter,
    PowerModifier,
)
from qiskit.circuit import library as gates  # noqa: E402
from qiskit.circuit.library import get_standard_gate_name_mapping  # noqa: E402
from qiskit.circuit.random import random_circuit  # noqa: E402
from qiskit.quantum_info import (  # noqa: E402
    Clifford,
    CNOTDihedral,
    Operator,
    SparsePauliOp,
    random_clifford,
    random_unitary,
)

from qdeq.interop.qiskit import from_qiskit  # noqa: E402

STANDARD = {n: g for n, g in get_standard_gate_name_mapping().items() if isinstance(g, Gate)}
# Every kind of gate once: fixed and parametrised, read directly and by definition, controlled by
# one and two qubits, symmetric and not. The others are in the slow test.
REPRESENTATIVE = ("u", "sx", "cx", "crz", "cu", "global_phase")


def agree(left, right):
    """Whether two unitaries are equal up to a global phase, to 1e-10."""
    return abs(abs(np.vdot(left, right)) / len(left) - 1) < 1e-10


def unitary_of(quantum_circuit):
    """In our order of bits: Qiskit's qubit 0 is the least significant one."""
    return Operator(quantum_circuit.reverse_bits()).data


def with_numbers(gate, rng):
    return gate.base_class(*rng.uniform(-3, 3, len(gate.params))) if gate.params else gate


def annotated(gate, *modifiers):
    # A copy: Qiskit binds the parameters of the operation inside, which others share.
    return AnnotatedOperation(copy.deepcopy(gate), list(modifiers))


def variants(gate):
    """The gate, its inverse, powers and controls: written out by Qiskit and only noted."""
    yield from (gate, gate.inverse(), annotated(gate, InverseModifier()))
    for power in (2, -1, 0.5):
        if not getattr([*gate.params, 0][0], "parameters", ()):
            yield gate.power(power)
        yield annotated(gate, PowerModifier(power))
    for controls, state in ((1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)):
        yield copy.deepcopy(gate).control(controls, ctrl_state=state, annotated=False)
        yield annotated(gate, ControlModifier(controls, state))
    mixed = [ControlModifier(1, 0), InverseModifier(), PowerModifier(2), ControlModifier(1, 1)]
    yield annotated(gate, *mixed)
    for state in range(2 ** getattr(gate, "num_ctrl_qubits", 0) - 1):
        other = gate.to_mutable()
        other.ctrl_state = state  # the same name and class, and another matrix
        yield from (other, other.inverse(), other.control(1, ctrl_state=0, annotated=False))


def alone(operation):
    """A circuit of one operation, on qubits that are not in order, and one that it leaves alone."""
    circuit = QuantumCircuit(operation.num_qubits + 1)
    circuit.append(operation, range(operation.num_qubits, 0, -1))
    return circuit


def nested(operation):
    """The same within two definitions whose names are those of other gates."""
    inner = QuantumCircuit(operation.num_qubits, name="h", global_phase=0.4)
    inner.append(operation, range(operation.num_qubits))
    inner.barrier()
    outer = QuantumCircuit(operation.num_qubits, name="cx")
    outer.append(inner.to_instruction(), range(operation.num_qubits))
    return alone(outer.to_instruction())


def assert_read(quantum_circuit, rng, *, may_be_refused=False):
    try:
        circuit = from_qiskit(quantum_circuit)
    except UserError as error:
        assert may_be_refused and "\n" not in str(error), error
        return
    values = rng.uniform(-3, 3, len(quantum_circuit.parameters))
    expected = unitary_of(quantum_circuit.assign_parameters(values))
    assert agree(oracle.circuit_unitary(circuit, values), expected), quantum_circuit.draw()


def _is_fractional_power(operation):
    modifiers = getattr(operation, "modifiers", ())
    return any(isinstance(m, PowerModifier) and m.power % 1 for m in modifiers)


def walk(name, rng):
    gate = with_numbers(STANDARD[name], rng)
    for variant in variants(gate):
        assert_read(alone(variant), rng)
    assert_read(nested(gate.control(1, ctrl_state=0, annotated=True)), rng)


def walk_with_parameters(name, rng):
    """Only fractional powers of open angles are refused: which root it is depends on the angle."""
    make, n_parameters = STANDARD[name].base_class, len(STANDARD[name].params)
    gate = make(*(Parameter(f"p{i}") for i in range(n_parameters)))
    for variant in list(variants(gate)):  # made before Qiskit binds the gate itself
        assert_read(alone(variant), rng, may_be_refused=_is_fractional_power(variant))


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_a_gate_and_its_relatives_are_read_with_their_matrices(name):
    walk(name, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["crz", "cu", "u"])
def test_gates_with_open_parameters_are_read_with_their_matrices(name):
    walk_with_parameters(name, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STANDARD))
def test_the_whole_gate_library_is_read_with_its_matrices(name):
    walk(name, np.random.default_rng(0))
    if STANDARD[name].params:
        walk_with_parameters(name, np.random.default_rng(0))


def test_every_standard_gate_is_read_with_its_matrix():
    rng = np.random.default_rng(0)
    for gate in STANDARD.values():
        assert_read(alone(with_numbers(gate, rng)), rng)
        assert_read(nested(with_numbers(gate, rng)), rng)


# --- own gates ------------------------------------------------------------------------------------


def x_called(name):
    inner = QuantumCircuit(1, name=name)
    inner.x(0)
    return inner


def own_class(name, base=Gate, **members):
    """A user's class of gates with one qubit and no angle."""
    return type("Own", (base,), members)(name, 1, [])


def define_h(self):
    self.definition = QuantumCircuit(1)
    self.definition.h(0)


@pytest.mark.parametrize("name", ["h", "p", "rx", "cx", "unitary", "barrier", "measure", "mine"])
def test_an_own_gate_means_what_it_is_defined_as_whatever_its_name(name):
    rng = np.random.default_rng(0)
    gate = x_called(name).to_gate()
    for operation in (gate, gate.inverse(), AnnotatedOperation(gate, ControlModifier(1, 0))):
        assert_read(alone(operation), rng)
        assert_read(nested(operation), rng)
    assert_read(alone(own_class(name, _define=define_h)), rng)
    as_matrix = own_class(name, __array__=lambda self, *_, **__: gates.SXGate().to_matrix())
    assert_read(alone(as_matrix), rng)
    circuit = QuantumCircuit(1)
    circuit.append(x_called(name).to_instruction(), [0])
    assert agree(oracle.circuit_unitary(from_qiskit(circuit), ()), oracle.X)


def test_what_qasm2_writes_is_read_back():
    rng = np.random.default_rng(0)
    custom = qasm2.LEGACY_CUSTOM_INSTRUCTIONS  # without them Qiskit refuses its own text
    for gate in (
        gates.CU3Gate(0.1, 0.2, 0.3),
        gates.CSwapGate(),
        gates.RXXGate(0.7),
        gates.RYYGate(0.7),
        gates.UnitaryGate(random_unitary(4, seed=1)),
    ):
        text = qasm2.dumps(alone(gate))
        assert_read(qasm2.loads(text, custom_instructions=custom), rng)


def test_a_gate_whose_matrix_and_definition_differ_is_refused():
    replaced = gates.CCXGate().to_mutable()
    replaced.definition = QuantumCircuit(3)
    subclass = type("Own", (gates.XGate,), {"_define": define_h})()
    evolution = gates.PauliEvolutionGate(SparsePauliOp(["XX", "ZI"]), Parameter("t"))
    random = gates.PauliEvolutionGate(SparsePauliOp(["X" * 6, "I" * 5 + "Z"]), 0.3)
    for gate, message in (
        (replaced, "ccx on qubits .3, 2, 1. has a matrix and a definition that are different"),
        (subclass, "x on qubits .1. has a matrix and a definition"),
        (evolution, "PauliEvolution on .* only an approximation: append gate.definition"),
        (random, "PauliEvolution on .* only an approximation"),
    ):
        with pytest.raises(UserError, match=message):
            from_qiskit(alone(gate))


# --- everything else ------------------------------------------------------------------------------


def composite_operations():
    """What Qiskit's library and quantum_info offer beside the standard gates."""
    rng = np.random.default_rng(1)
    state = rng.normal(size=4) + 1j * rng.normal(size=4)
    state /= np.linalg.norm(state)
    dihedral = QuantumCircuit(2)
    dihedral.cx(0, 1)
    dihedral.t(1)
    commuting = SparsePauliOp(["XX", "ZZ"], [0.3, 0.4])
    return {
        "Clifford": random_clifford(3, seed=0),
        "CNOTDihedral": CNOTDihedral(dihedral),
        "Clifford inside": Clifford(gates.CXGate()),
        "StatePreparation": gates.StatePreparation(state),
        "StatePreparation of a number": gates.StatePreparation(2, num_qubits=2),
        "StatePreparation backwards": gates.StatePreparation(state).inverse(),
        "Permutation": gates.PermutationGate([2, 0, 1]),
        "LinearFunction": gates.LinearFunction([[1, 1], [0, 1]]),
        "Pauli": gates.PauliGate("XYZ"),
        "Diagonal": gates.DiagonalGate(np.exp(1j * rng.uniform(size=4)).tolist()),
        "UCGate": gates.UCGate([random_unitary(2, seed=i).data for i in range(4)]),
        "UCRX": gates.UCRXGate([0.1, 0.2, 0.3, 0.4]),
        "UCPauliRot": gates.UCPauliRotGate([0.1, 0.2], "Y"),
        "Isometry": gates.Isometry(np.eye(4)[:, :2], 0, 0),
        "QFT": gates.QFTGate(3),
        "MCMT": gates.MCMTGate(gates.YGate(), 1, 2),
        "MCX": gates.MCXGate(3, ctrl_state=5),
        "MCPhase": gates.MCPhaseGate(0.7, 3, ctrl_state=2),
        "PauliEvolution": gates.PauliEvolutionGate(commuting, 0.7),
        "controlled evolution": gates.PauliEvolutionGate(commuting, 0.7).control(1, ctrl_state=0),
        "Hamiltonian": gates.HamiltonianGate(commuting.to_matrix(), 0.7),
        "adder": gates.ModularAdderGate(2),
        "full adder": gates.FullAdderGate(1),
        "product of bits": gates.AndGate(2),
        "graph state": gates.GraphStateGate(np.array([[0, 1], [1, 0]])),
        "a whole circuit": gates.real_amplitudes(2, reps=1).assign_parameters([0.1] * 4).to_gate(),
    }


# Qiskit's own matrix of an evolution: it hands SciPy a format that SciPy converts.
@pytest.mark.filterwarnings("ignore:splu converted its input")
@pytest.mark.filterwarnings("ignore:spsolve is more efficient")
@pytest.mark.parametrize("name", [*composite_operations()])
def test_composite_operations_are_read_with_their_matrices(name):
    operation, rng = composite_operations()[name], np.random.default_rng(0)
    assert_read(alone(operation), rng)
    assert_read(nested(operation), rng)
    assert_read(alone(AnnotatedOperation(operation, InverseModifier())), rng)
    assert_read(alone(AnnotatedOperation(operation, ControlModifier(1, 0))), rng)


def test_barriers_delays_boxes_and_loops_over_numbers_are_written_out():
    inner = QuantumCircuit(2, name="inner")
    inner.barrier()
    inner.delay(100, 1)
    inner.cx(1, 0)
    theirs, number = QuantumCircuit(3), Parameter("number")
    theirs.append(inner.to_instruction(), [2, 0])
    with theirs.box():
        theirs.h(2)
    with theirs.for_loop([1, 4], number):
        theirs.ry(0.1 * number, 1)
        theirs.cx(1, 2)
    written_out = QuantumCircuit(3)
    written_out.cx(0, 2)
    written_out.h(2)
    for angle in (0.1, 0.4):
        written_out.ry(angle, 1)
        written_out.cx(1, 2)
    assert agree(oracle.circuit_unitary(from_qiskit(theirs), ()), unitary_of(written_out))


def test_measurements_at_the_end_may_be_anywhere():
    inner = QuantumCircuit(2, 2)
    inner.h(0)
    inner.measure([0, 1], [0, 1])
    theirs = QuantumCircuit(2, 2)
    theirs.append(inner.to_instruction(), [1, 0], [0, 1])
    theirs.barrier()
    circuit = from_qiskit(theirs)
    assert [(op.name, op.wires) for op in circuit.operations] == [("H", (1,))]
    theirs.x(0)
    with pytest.raises(UserError, match=r"x on qubits \[0\] follows a measurement"):
        from_qiskit(theirs)


def circuits_without_a_matrix():
    """With what the refusal names."""
    reset, whole = QuantumCircuit(1, name="own"), QuantumCircuit(2, 2)
    reset.reset(0)
    whole.append(reset.to_instruction(), [1])
    yield whole, r"reset on qubits \[1\] \(in own\) is not a unitary gate"
    initialized = QuantumCircuit(1)
    initialized.initialize([0, 1])
    yield initialized, r"reset on qubits \[0\] \(in initialize\) is not"
    for kind in ("if_test", "while_loop"):
        conditional = QuantumCircuit(1, 1)
        with getattr(conditional, kind)((conditional.clbits[0], 1)):
            conditional.x(0)
        yield conditional, f"{kind.replace('test', 'else')} on qubits .0. is not a unitary gate"
    switch = QuantumCircuit(1, 1)
    with switch.switch(switch.clbits[0]) as case, case(0):
        switch.x(0)
    yield switch, "switch_case on qubits .0. is not"
    left = QuantumCircuit(1, 1)
    with left.for_loop(range(3)):
        left.x(0)
        left.break_loop()
    yield left, r"break_loop on qubits .0. \(in for_loop\) is not"
    noise = QuantumCircuit(1)
    noise.append(qiskit.quantum_info.Kraus([0.6 * np.eye(2), 0.8 * oracle.X]).to_instruction(), [0])
    yield noise, "kraus on qubits .0. is not a unitary gate"
    unknown = QuantumCircuit(1)
    unknown.append(Instruction("mystery", 1, 0, []), [0])
    yield unknown, "mystery on qubits .0. is not a unitary gate"
    measured = QuantumCircuit(2, 1)
    inside = QuantumCircuit(1, 1)
    inside.measure(0, 0)
    measured.append(AnnotatedOperation(inside.to_instruction(), ControlModifier(1)), [0, 1], [0])
    yield measured, "annotated on qubits .0, 1. changes a measurement"
    raising = own_class("raising", _define=lambda self: 1 / 0)
    yield alone(raising), r"raising on qubits .1. could not .* .ZeroDivisionError: division by zero"
    misfit = own_class(
        "misfit", _define=lambda self: setattr(self, "definition", QuantumCircuit(2))
    )
    yield alone(misfit), "misfit acts on 1 qubits and its definition on 2"
    turned = AnnotatedOperation(gates.RXGate(Parameter("a")), PowerModifier(0.5))
    yield alone(turned), "annotated on qubits .1. is raised to the power 0.5"
    stretched = own_class("big", __array__=lambda self, *_, **__: 2 * np.eye(2))
    yield alone(stretched), r"big on qubits .1. could not be written"
    yield QuantumCircuit(), "n_qubits=0"


@pytest.mark.parametrize(("theirs", "message"), [*circuits_without_a_matrix()])
def test_what_is_no_circuit_of_gates_is_named_in_one_line(theirs, message):
    with pytest.raises(UserError, match=message) as caught:
        from_qiskit(theirs)
    assert "\n" not in str(caught.value)


def test_circuits_without_end_are_refused(monkeypatch):
    monkeypatch.setattr("qdeq.interop.qiskit.expand._MOST_INSTRUCTIONS", 1000)
    loop = QuantumCircuit(1)
    with loop.for_loop(range(10**15)):
        pass
    with pytest.raises(UserError, match=r"more than 1,000 .* \(in for_loop\): give a smaller one"):
        from_qiskit(loop)
    doubled = "".join(f"gate g{i + 1} a {{ g{i} a; g{i} a; }}\n" for i in range(60))
    text = f"OPENQASM 2.0;\ngate g0 a {{ U(1,0,0) a; }}\n{doubled}qreg q[1];\ng60 q[0];\n"
    with pytest.raises(UserError, match=r"more than 1,000 .* \(in g60\)"):
        from_qiskit(qasm2.loads(text))


def test_definitions_of_many_levels_are_read_or_refused():
    nested = "".join(f"gate g{i + 1} a {{ g{i} a; }}\n" for i in range(900))
    text = "OPENQASM 2.0;\ngate g0 a { U(1,0,0) a; }\n" + nested + "qreg q[1];\n"
    assert_read(qasm2.loads(text + "g30 q[0];\n"), np.random.default_rng(0))
    with pytest.raises(UserError, match="fewer levels of definitions"):
        from_qiskit(qasm2.loads(text + "g900 q[0];\n"))


@pytest.mark.parametrize(
    "nothing", [None, "OPENQASM 3.0;", b"", [], 3, gates.XGate(), QuantumCircuit, Circuit(1, ())]
)
def test_what_is_no_circuit_at_all_is_refused(nothing):
    with pytest.raises(UserError, match="cannot be read: give a QuantumCircuit"):
        from_qiskit(nothing)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([3], r"features\[0\]=3 is no parameter"),
        (None, r"features\[0\]=None is no parameter"),
        (["a", "a"], r"features\[1\]='a' is there already"),
        (["b"], "not a parameter of the circuit: choose from a"),
    ],
)
def test_features_are_parameters_of_the_circuit(features, message):
    with pytest.raises(UserError, match=message):
        from_qiskit(alone(gates.RXGate(Parameter("a"))), features=features)


@pytest.mark.slow
@settings(max_examples=200)
@given(seed=st.integers(0, 2**32 - 1), n_qubits=st.integers(1, 5), wild=st.booleans())
def test_random_circuits_are_read_or_refused(seed, n_qubits, wild):
    options = {"measure": True, "conditional": True, "reset": True} if wild else {}
    theirs = random_circuit(n_qubits, 6, seed=seed, **options)
    if wild:
        with contextlib.suppress(UserError):
            from_qiskit(theirs)
    else:
        assert_read(theirs, np.random.default_rng(seed))
