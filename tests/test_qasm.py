"""OpenQASM 3, written and read: the same unitaries as dense matrices, Qiskit being the reader."""

import numpy as np
import oracle
import pytest

from qdeq import UserError
from qdeq.circuits import GATES, Circuit, MeasurementEnsemble, Operation, paper_ansatz
from qdeq.interop.qasm import from_qasm3, to_qasm3

qiskit = pytest.importorskip("qiskit")
pytest.importorskip("qiskit_qasm3_import")
from qiskit import qasm3  # noqa: E402
from qiskit.quantum_info import Operator  # noqa: E402

ALL_GATES = [*GATES, "Unitary"]


def circuit_with(name):
    """Wires in three different states, then one gate on wires that are not in order."""
    start = [Operation("RY", (wire,), angle=0.3 + wire) for wire in range(3)]
    if name == "Unitary":
        matrix = oracle.circuit_unitary(paper_ansatz(4), np.linspace(-2, 2, 39))[:4, :4]
        matrix = np.linalg.qr(matrix)[0]
        return Circuit(3, (*start, Operation(name, (2, 0), matrix=matrix)))
    gate = GATES[name]
    wires = (2, 0)[: gate.n_wires]
    parameter = {0: None, 1: 0, 3: (0, 1, 2)}[gate.n_parameters]
    return Circuit(3, (*start, Operation(name, wires, parameter=parameter)))


def agree(left, right):
    """Whether two unitaries are equal up to a global phase, to 1e-10."""
    return abs(abs(np.vdot(left, right)) / len(left) - 1) < 1e-10


def unitary_of(quantum_circuit, values=()):
    """In our order of bits; parameters take their values in the order of their names."""
    return Operator(quantum_circuit.assign_parameters(list(values)).reverse_bits()).data


@pytest.mark.parametrize("name", ALL_GATES)
def test_qiskit_reads_every_gate_with_the_same_unitary(name):
    circuit = circuit_with(name)
    theta = np.linspace(0.4, 1.7, circuit.n_parameters)
    expected = oracle.circuit_unitary(circuit, theta)
    assert agree(unitary_of(qasm3.loads(to_qasm3(circuit)), theta), expected)
    assert agree(unitary_of(qasm3.loads(to_qasm3(circuit, theta))), expected)


@pytest.mark.parametrize("name", ALL_GATES)
def test_what_was_written_reads_back_as_the_same_circuit(name):
    circuit = circuit_with(name)
    theta = np.linspace(0.4, 1.7, circuit.n_parameters)
    again = from_qasm3(to_qasm3(circuit))
    assert again.n_parameters == circuit.n_parameters
    assert agree(oracle.circuit_unitary(again, theta), oracle.circuit_unitary(circuit, theta))


def test_forty_parameters_and_twelve_features_keep_their_order():
    ansatz = paper_ansatz(4)
    encoding = tuple(Operation("RX", (i % 4,), feature=i) for i in range(12))
    circuit = Circuit(4, encoding + ansatz.operations)
    rng = np.random.default_rng(0)
    theta, x = rng.uniform(-3, 3, 39), rng.uniform(-3, 3, 12)
    text = to_qasm3(circuit)
    again = from_qasm3(text, features=[f"x_{i:03d}" for i in range(12)])
    assert again == Circuit(4, circuit.operations)
    read = qasm3.loads(text)
    values = np.concatenate([theta, x])  # Qiskit wants them sorted by name: t_... before x_...
    assert agree(unitary_of(read, values), oracle.circuit_unitary(circuit, theta, x))


def test_a_program_can_be_read_by_pennylane_without_the_include_line():
    qml = pytest.importorskip("pennylane")
    pytest.importorskip("openqasm3")
    circuit = paper_ansatz(4)
    theta = np.linspace(-2, 2, 39)
    text = to_qasm3(circuit, include=False)
    assert "include" not in text
    wires = [f"q[{i}]" for i in range(4)]  # PennyLane names wires so, whatever map it is given

    @qml.qnode(qml.device("default.qubit", wires=wires))
    def state(**angles):
        qml.from_qasm3(text, {})(**angles)
        return qml.state()

    found = state(**{f"t_{i:03d}": theta[i] for i in range(39)})
    expected = oracle.circuit_unitary(circuit, theta)[:, 0]
    assert abs(abs(np.vdot(found, expected)) - 1) < 1e-10


def test_a_setting_is_measured_in_its_basis():
    observables = MeasurementEnsemble(2, ("XY",))
    state = Circuit(2, (Operation("RY", (0,), angle=0.7), Operation("RX", (1,), angle=-1.1)))
    text = to_qasm3(state, basis=observables.basis((0,)), comments=["a comment"])
    assert "// a comment" in text and "c[1] = measure q[1];" in text
    read = qasm3.loads(text)
    read.remove_final_measurements()
    turned = unitary_of(read)[:, 0]
    expected = oracle.expectation_values(("XY",), oracle.circuit_unitary(state, ())[:, 0])
    np.testing.assert_allclose(oracle.expectation_values(("ZZ",), turned), expected, atol=1e-12)


def test_other_peoples_gates_are_decomposed():
    text = """OPENQASM 3.0;
include "stdgates.inc";
input float[64] alpha;
gate mine(a) p, q { ch p, q; rx(a) q; }
qubit[3] q;
bit[3] c;
ccx q[0], q[1], q[2];
mine(alpha) q[2], q[0];
sdg q[1];
c = measure q;
"""
    read = qasm3.loads(text)
    read.remove_final_measurements()
    circuit = from_qasm3(text)
    assert circuit.n_parameters == 1
    assert agree(oracle.circuit_unitary(circuit, [0.8]), unitary_of(read, [0.8]))


def test_a_gate_with_the_name_of_a_standard_one_keeps_its_own_meaning():
    text = 'OPENQASM 3.0;\ninclude "stdgates.inc";\ngate rzz(a) p, q { rx(a) p; }\n'
    text += "qubit[2] q;\nrzz(0.3) q[0], q[1];\n"
    circuit = from_qasm3(text)
    assert agree(oracle.circuit_unitary(circuit, []), unitary_of(qasm3.loads(text)))


@pytest.mark.parametrize(
    ("body", "written_out"),
    [
        (
            "const float[64] a = pi / 3; const uint n = 2; qubit[n] q; rx(a * n) q[n - 1];",
            [(1, 2 / 3)],
        ),
        ("const int n = 2; gate g(a) p { rx(a * n) p; } qubit[2] q; g(pi / 4) q[0];", [(0, 0.5)]),
        ("qubit[2] q; for int i in [0:1] { rx(pi / 2 ** (i + 1)) q[i]; }", [(0, 0.5), (1, 0.25)]),
        ("qubit[2] q; for uint i in {1, 0} { rx(i * pi / 4) q[i]; }", [(1, 0.25), (0, 0)]),
        (
            "qubit[2] q; rx(pi * sqrt(2.25) * cos(0)) q[0]; rx(pi * mod(7, 4)) q[1];",
            [(0, 1.5), (1, 3)],
        ),
        ("const angle a = pi / 2; const angle[3] b = 0.3 * pi; qubit q; rx(a + b) q;", [(0, 0.75)]),
        ("const bool b = false; qubit q; if (b) rx(1) q; else rx(pi) q;", [(0, 1)]),
        ("qubit[3] q; for int i in [0:2] { if (i % 2 == 0 && !(i > 1)) rx(pi) q[i]; }", [(0, 1)]),
        ("float a = pi / 3; qubit q; { rx(float(2) * a) q; } delay[7ns] q;", [(0, 2 / 3)]),
        (
            "const duration d = 1us; stretch w; qubit q; delay[d] q; delay[w] q; rx(pi * -1.5) q;",
            [(0, -1.5)],
        ),
        ("qubit[2] q; rx(pi * (-3 / 2)) q[sizeof(q) - 1];", [(1, -1)]),
        (
            "qubit[4] q; for int i in [0:1] { for int j in [i + 1:2] { rx(pi) q[i:j]; } }",
            [(0, 1), (1, 1), (0, 1), (1, 1), (2, 1), (1, 1), (2, 1)],
        ),
        ("qubit[3] q; rx(pi) q[0:-1]; rx(0) q[2:-1:1];", [(0, 1), (1, 1), (2, 1), (2, 0), (1, 0)]),
        ("qubit[2] q; rx(pi) q[0]; measure q[0]; rx(0) q[1]; measure q;", [(0, 1), (1, 0)]),
        ("gate g(b, a) p { rx(b) p; rx(a) p; } qubit q; g(pi, 0) q;", [(0, 1), (0, 0)]),
        ("gate g(c, b, a) p { rx(b) p; } qubit q; inv @ g(0, pi, 1) q;", [(0, -1)]),
        (
            "const int n = 1; def f(qubit[2] p, float t) { rx(n * t) p[1]; } "
            "def g(qubit[2] r, angle a) { f(r, a / 2); } qubit[3] q; "
            "for int n in [5:6] { g(q[0:1], pi); }",
            [(1, 0.5), (1, 0.5)],
        ),
    ],
)
def test_constants_loops_functions_and_calls_mean_numbers(body, written_out):
    """Angles in units of pi, as the language defines them."""
    circuit = from_qasm3(f'\ufeffOPENQASM 3.0; include "stdgates.inc"; {body}')
    found = [(op.wires[0], op.angle / np.pi) for op in circuit.operations]
    np.testing.assert_allclose(found, written_out, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("qubit[1] q;\nrx( q[0];", r"4,8: ';' is not expected there"),
        ("qubit[1] q;\nfor int i in [0:999999999] { x q[0]; }", "more than 500,000 rounds"),
        ("const complex a = 1.0;\nqubit[1] q;", "constants of type 'complex'"),
        ("const angle x = 1.0;\nqubit[1] q;", "x is the name of something else already"),
        ("qubit[2] q;\nx q[0:2];", "4,2: a register of 2 has no such range"),
        ("qubit[1] q;\nrx(1, 2) q[0];", "4,0: rx takes 1 angles, not 2"),
        ("input float a;\nqubit q;\nif (a > 1) x q;", "5,4: only numbers can be compared"),
        ("qubit q;\nif (9ns > 5us) x q;", "4,4: only numbers can be compared"),
        ("input float a;\nqubit q;\nrx(int(a)) q;", "5,3: an input can be cast to float"),
        ("qubit[2] q;\nbit c;\nc = measure q[0];\nif (c == true) x q[1];", "if_else on qubits"),
        ("def f(qubit p) { f(p); }\nqubit q;\nf(q);", "recursion"),
        ("def f(qubit p) { x p; }\nqubit[2] q;\nf(q);", r"p is one qubit, not qubit\[2\]"),
        ("def f(qubit p) { x p; }\nqubit[2] q;\nf(q[0], 1);", "f takes 1 arguments, not 2"),
        ("def f(qubit p) -> bit { return measure p; }\nqubit q;\nf(q);", "ReturnStatement"),
        ("const uint[2] a = 4;\nqubit[1] q;", "4 is no whole number of this type"),
        ("qubit[1] q;\nrx(9999 ** 9999) q[0];", "9999 .. 9999 is beyond 64 bits"),
        ("qubit[1] q;\nrx(3 ** 63) q[0];", "3 .. 63 is beyond 64 bits"),
        ("qubit[1] q;\nnonsense q[0];", "not an OpenQASM 3 program that Qiskit can read"),
        ("qubit[1] q;\nbit c;\nc = measure q[0];\nx q[0];", "follows a measurement"),
        ("qubit[1] q;\nmeasure q;\nx q[0];", "follows a measurement"),
        ("qubit[1] q;\nreset q[0];", "reset on qubits"),
        (
            "input float[64] a;\nqubit[1] q;\nrx(1 / a) q[0];",
            r"rx on qubits .0. turns by 1.*/a",
        ),
    ],
)
def test_a_program_that_is_no_circuit_of_gates_is_refused_in_one_line(body, message):
    with pytest.raises(UserError, match=message) as caught:
        from_qasm3(f'OPENQASM 3.0;\ninclude "stdgates.inc";\n{body}\n')
    assert "\n" not in str(caught.value)


def test_an_input_that_turns_no_gate_keeps_its_place():
    text = 'OPENQASM 3.0; include "stdgates.inc"; input float b; input float a; qubit q; rx(b) q;'
    circuit = from_qasm3(text + " gphase(a);")
    assert circuit.n_parameters == 2
    expected = oracle.circuit_unitary(Circuit(1, (Operation("RX", (0,), angle=0.7),)), [])
    for again in (circuit, from_qasm3(text), from_qasm3(to_qasm3(circuit))):
        assert agree(oracle.circuit_unitary(again, [0.4, 0.7]), expected)


def test_wrong_arguments_are_refused():
    circuit = paper_ansatz(4)
    for arguments, message in (
        ({"theta": [1.0]}, r"theta has shape \(1,\)"),
        ({"theta": np.full(39, np.nan)}, "NaN"),
        ({"theta": np.full(39, 1 + 1j)}, r"theta cannot be read \(complex numbers\): give real"),
        ({"theta": ["a"] * 39}, "theta cannot be read .*'a'.*: give real numbers"),
        ({"parameters": ["a"] * 39}, "different names"),
        ({"parameters": ["a b", *(f"a{i}" for i in range(38))]}, "no identifier"),
        ({"basis": "ZZ"}, "basis='ZZ'"),
    ):
        with pytest.raises(UserError, match=message):
            to_qasm3(circuit, **arguments)
