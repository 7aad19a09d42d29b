"""Whatever is given to a reader becomes a circuit or one line of a `UserError`."""

import contextlib
import math
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qdeq import UserError
from qdeq.circuits import Circuit

qml = pytest.importorskip("pennylane")
qiskit = pytest.importorskip("qiskit")
pytest.importorskip("qiskit_qasm3_import")
from qiskit import QuantumCircuit  # noqa: E402
from qiskit.circuit import ForLoopOp, Gate, Parameter  # noqa: E402
from qiskit.circuit.library import get_standard_gate_name_mapping  # noqa: E402

from qdeq.interop.pennylane import from_pennylane  # noqa: E402
from qdeq.interop.qasm import from_qasm3  # noqa: E402
from qdeq.interop.qiskit import from_qiskit  # noqa: E402

QUICK = settings(max_examples=60)
DEEP = settings(max_examples=300)


def assert_circuit_or_one_line(read, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy and Qiskit, about huge numbers
        try:
            circuit = read(*args, **kwargs)
        except UserError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert isinstance(circuit, Circuit)


# --- OpenQASM 3 -----------------------------------------------------------------------------------

PROGRAM = """OPENQASM 3.0;
include "stdgates.inc";
input float[64] a;
gate mine(b) p, r { ctrl @ ry(b / 2) p, r; inv @ pow(2) @ rx(-b) r; negctrl @ gphase(b) p; }
qubit[3] q;
bit[3] c;
mine(a + pi) q[0], q[2];
for uint i in {1, 3} { rz(0.1 * i) q[1]; }
box { u3(1e-3, a, .5) q[1]; }
barrier q;
delay[10ns] q[0];
c[0] = measure q[0];
"""
SNIPPETS = st.sampled_from(
    [
        *(
            "/0",
            "**",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ";",
            "@",
            ",",
            "'",
            '"',
            "\\",
            "\n",
            "//",
            "/*",
        ),
        *("1e999", "1e-400", "9" * 400, "nan", "inf", "1im", "sin(a)", "a", "2", "θ", "\x00", "*/"),
        *("q[99]", "q[-1]", "q[0:2]", "$0", "qubit", "input", "angle", "let", "return", "const"),
        *("inv @", "ctrl(9) @", "ctrl(-1) @", "pow(1e30) @", "pow(0.3) @", "pow(a) @"),
        *("if (c[0])", "while(true)", "reset q;", "OPENQASM 2.0;", "#pragma x\n", "@bind\n"),
        *('include "x";', "gate g a { g a; }", "def f() {}", "extern f();", "[0:1000000000000]"),
        *("\ud800", "\U0001f4a5", "\ufeff"),
    ]
)


@st.composite
def programs(draw):
    """The program above with some of it cut out, repeated, replaced or cut off."""
    text = PROGRAM
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 30))
        middle = draw(
            st.one_of(st.just(""), SNIPPETS, st.text(max_size=3), st.just(text[start:end]))
        )
        cut_off = draw(st.integers(0, 9)) == 0
        text = (
            text[:start] + middle + ("" if cut_off else text[draw(st.sampled_from([start, end])) :])
        )
    return text


@QUICK
@given(programs())
def test_mutilated_programs_are_read_or_refused(text):
    assert_circuit_or_one_line(from_qasm3, text)


@pytest.mark.slow
@DEEP
@given(programs())
def test_many_mutilated_programs_are_read_or_refused(text):
    assert_circuit_or_one_line(from_qasm3, text)


@pytest.mark.parametrize(
    "text", [None, 3, b"OPENQASM 3.0;", [], "", "\n", "\x00", "OPENQASM", object]
)
def test_what_is_no_program_at_all_is_refused(text):
    with pytest.raises(UserError):
        from_qasm3(text)


@pytest.mark.parametrize(
    "statement",
    [
        "rx({}1{}) q;".format("(" * 400, ")" * 400),
        "rx({}1) q;".format("-" * 400),
        "{}x q;".format("inv @ " * 400),
        "pow(1e300) @ x q;",
        "for uint i in [0:1000000000000] { x q; }",
        "rx(1e999) q;",
    ],
)
def test_deep_and_huge_programs_are_read_or_refused(statement):
    text = f'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit q;\n{statement}\n'
    assert_circuit_or_one_line(from_qasm3, text)


# --- Qiskit ---------------------------------------------------------------------------------------

STANDARD = sorted(get_standard_gate_name_mapping().items())
SYMBOLS = [Parameter(name) for name in ("a", "b", "θ", "x_000")]
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1e-320, 1e308, -1e308])
)


@st.composite
def quantum_circuits(draw, depth=2):
    """Gates, resets, measurements, loops, conditions and boxes, in one another."""
    circuit = QuantumCircuit(3, 2)
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["gate", "gate", "gate", "measure", "nested", "modified"]))
        if kind == "measure":
            circuit.measure(draw(st.integers(0, 2)), 0)
            continue
        if kind == "nested" and depth:
            body = draw(quantum_circuits(depth=depth - 1))
            wrap = draw(st.sampled_from(["box", "if", "for", "instruction", "gate"]))
            # Not everything can be wrapped: that is Qiskit's to say.
            with contextlib.suppress(qiskit.exceptions.QiskitError, TypeError):
                if wrap == "box":
                    circuit.box(body, range(3), range(2))
                elif wrap == "if":
                    circuit.if_test((circuit.clbits[0], 1), body, range(3), range(2))
                elif wrap == "for":
                    loop = ForLoopOp(range(draw(st.sampled_from([0, 2, 10**12]))), None, body)
                    circuit.append(loop, range(3), range(2))
                else:
                    inner = body.to_gate() if wrap == "gate" else body.to_instruction()
                    circuit.append(inner, range(3), () if wrap == "gate" else range(2))
            continue
        _, standard = draw(st.sampled_from(STANDARD))
        if not standard.num_qubits or standard.num_qubits > 3 or standard.num_clbits:
            continue
        gate = standard
        if isinstance(standard, Gate) and standard.params:
            angles = [draw(angle_expressions()) for _ in standard.params]
            gate = standard.base_class(*angles)
        if kind == "modified":
            with contextlib.suppress(Exception):
                gate = (
                    gate.inverse() if draw(st.booleans()) else gate.power(draw(st.integers(-3, 3)))
                )
        circuit.append(gate, draw(st.permutations(range(3)))[: gate.num_qubits])
    return circuit


@st.composite
def angle_expressions(draw):
    a, b = draw(st.sampled_from(SYMBOLS)), draw(st.sampled_from(SYMBOLS))
    number = draw(NUMBERS)
    made = draw(st.integers(0, 6))
    if made == 0:
        return number
    return (a, number * a, a + number, a * b, a.sin(), number * a + number * b)[made - 1]


@QUICK
@given(quantum_circuits())
def test_any_circuit_of_qiskit_is_read_or_refused(circuit):
    assert_circuit_or_one_line(from_qiskit, circuit)


@pytest.mark.slow
@DEEP
@given(quantum_circuits(depth=4))
def test_many_circuits_of_qiskit_are_read_or_refused(circuit):
    assert_circuit_or_one_line(from_qiskit, circuit)


# --- PennyLane ------------------------------------------------------------------------------------

X, CRX = (lambda t: qml.X(0)), (lambda t: qml.CRX(t[0], [0, 1]))
LEAVES = [
    X,
    CRX,
    lambda t: qml.Rot(*t, 0),
    lambda t: qml.RX(1e308 * t[0] * 10, 0),
    lambda t: qml.RX(math.nan, 0),
    lambda t: qml.RX(t[0] * (1 + 1j), 0),
    lambda t: qml.RX("a", 0),
    lambda t: qml.RX(None, 0),
    lambda t: qml.RX(t, 0),
    lambda t: qml.RX(abs(t[0]), "a"),
    lambda t: qml.X(math.nan),
    lambda t: qml.X(None),
    lambda t: qml.CNOT([0, 0]),
    lambda t: qml.QubitUnitary(np.full((2, 2), t[0]), 0),
    lambda t: qml.QubitUnitary(np.full((2, 2), math.inf), 0),
    lambda t: qml.StatePrep(np.ones(2) / np.sqrt(2), 0),
    lambda t: qml.Hermitian(np.eye(2), 0),
    lambda t: qml.dot(t[:2], [qml.X(0), qml.Z(1)]),
    lambda t: qml.measure(0),
    lambda t: qml.expval(qml.X(0)),
    lambda t: t[7],
]


@st.composite
def functions(draw):
    """One to three operations, each with up to three changes, of which many make no sense."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        make = draw(st.sampled_from(LEAVES))
        for _ in range(draw(st.integers(0, 3))):
            make = draw(_changed(make))
        made.append(make)
    return lambda theta: [make(theta) for make in made]


@st.composite
def _changed(draw, make):
    power = draw(st.sampled_from([2, -1, 0, 0.5, 1000, math.nan, math.inf, 1j, "a"]))
    values = draw(st.sampled_from([None, [0], [1], [2], [0, 1], []]))
    wires = draw(st.sampled_from(["c", 0, 5, -1, ["c", "d"], []]))
    changes = [
        lambda t: qml.adjoint(make(t)),
        lambda t: qml.pow(make(t), power),
        lambda t: qml.ctrl(make(t), wires, control_values=values),
        lambda t: qml.prod(make(t), qml.Z(0)),
        lambda t: qml.cond(qml.measure(1), make)(t),
        lambda t: qml.s_prod(t[0], make(t)),
    ]
    return draw(st.sampled_from(changes))


@QUICK
@given(functions())
def test_any_quantum_function_is_read_or_refused(function):
    assert_circuit_or_one_line(from_pennylane, function, np.ones(3))


@pytest.mark.slow
@DEEP
@given(functions())
def test_many_quantum_functions_are_read_or_refused(function):
    assert_circuit_or_one_line(from_pennylane, function, np.ones(3))


@pytest.mark.parametrize("given", [None, 3, math.nan, "a", [["a"]], ["a", "a"], object(), -1, 2.5])
def test_wrong_arguments_are_read_or_refused(given):
    def function(theta, x):
        qml.RX(theta[0] + x[0], 0)

    for name in ("theta", "features", "n_qubits"):
        assert_circuit_or_one_line(from_pennylane, function, [0.1], [0.1], **{name: given})
    assert_circuit_or_one_line(from_pennylane, function, given, [0.1])
    turned = QuantumCircuit(1)
    turned.rx(SYMBOLS[0], 0)
    assert_circuit_or_one_line(from_qiskit, turned, features=given)
    text = 'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float a;\nqubit q;\nrx(a) q;\n'
    assert_circuit_or_one_line(from_qasm3, text, features=given)


@pytest.mark.parametrize(
    "operations", [[], ["a"], [None], [3], [qml.RX("a", 0)], [qml.RX(1j, 0)], [qml.RX(math.nan, 0)]]
)
def test_any_tape_is_read_or_refused(operations):
    with contextlib.suppress(AttributeError):  # PennyLane makes no tape of some
        tape = qml.tape.QuantumScript(operations)
        assert_circuit_or_one_line(from_pennylane, tape)


def test_a_complex_angle_does_not_lose_its_imaginary_part():
    for angle in ((1 + 1j), np.complex128(1 + 1j)):
        with pytest.raises(UserError, match=r"^RX on wires"):
            from_pennylane(lambda t, a=angle: qml.RX(t[0] * a, 0), np.ones(1))
