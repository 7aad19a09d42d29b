"""OpenQASM 3 programs of every standard gate under every modifier: the matrices that they name.

What they are compared with is NumPy alone, from the definitions of the language; only for the phase
of U and u3 under a control, Qiskit's convention (no factor exp(i theta / 2)) is taken.
"""

import numpy as np
import oracle
import pytest

from qdeq import UserError
from qdeq.circuits import Circuit, Operation
from qdeq.interop.qasm import from_qasm3, to_qasm3

qiskit = pytest.importorskip("qiskit")
pytest.importorskip("qiskit_qasm3_import")
from qiskit import qasm2  # noqa: E402

from qdeq.interop.qiskit import from_qiskit, to_qiskit  # noqa: E402

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


def agree(left, right):
    """Whether two unitaries are equal up to a global phase, to 1e-10."""
    return abs(abs(np.vdot(left, right)) / len(left) - 1) < 1e-10


def controlled(matrix, value=1):
    size = len(matrix)
    whole = np.eye(2 * size, dtype=complex)
    place = slice(size, None) if value else slice(0, size)
    whole[place, place] = matrix
    return whole


def power(matrix, exponent):
    """The principal one."""
    values, vectors = np.linalg.eig(matrix)
    return vectors @ np.diag(np.exp(1j * exponent * np.angle(values))) @ np.linalg.inv(vectors)


def phase(angle):
    return oracle.gate_matrix("PhaseShift", [angle])


def u3(*angles):
    return oracle.gate_matrix("U3", angles)


def named(name):
    return lambda *angles: oracle.gate_matrix(name, angles)


def control_of(make):
    return lambda *angles: controlled(make(*angles))


def cu(theta, phi, lam, gamma):
    return controlled(np.exp(1j * gamma) * u3(theta, phi, lam))


# Name, number of angles, matrix with the first qubit most significant.
ONE = {
    "p": (1, phase),
    "phase": (1, phase),
    "u1": (1, phase),
    "id": (0, named("I")),
    "x": (0, named("X")),
    "y": (0, named("Y")),
    "z": (0, named("Z")),
    "h": (0, named("H")),
    "s": (0, named("S")),
    "sdg": (0, lambda: phase(-np.pi / 2)),
    "t": (0, named("T")),
    "tdg": (0, lambda: phase(-np.pi / 4)),
    "sx": (0, named("SX")),
    "rx": (1, named("RX")),
    "ry": (1, named("RY")),
    "rz": (1, named("RZ")),
    "u2": (2, lambda phi, lam: u3(np.pi / 2, phi, lam)),
    "u3": (3, u3),
    "U": (3, u3),
}
OTHERS = {
    "cx": (0, named("CNOT")),
    "CX": (0, named("CNOT")),
    "cy": (0, control_of(named("Y"))),
    "cz": (0, named("CZ")),
    "ch": (0, control_of(named("H"))),
    "swap": (0, named("SWAP")),
    "ccx": (0, control_of(named("CNOT"))),
    "cswap": (0, control_of(named("SWAP"))),
    "cp": (1, control_of(phase)),
    "cphase": (1, control_of(phase)),
    "crx": (1, named("CRX")),
    "cry": (1, named("CRY")),
    "crz": (1, named("CRZ")),
    "cu": (4, cu),
}
STANDARD = ONE | OTHERS
# With what each does to a matrix.
MODIFIERS = {
    "": lambda u: u,
    "inv @ ": lambda u: u.conj().T,
    "pow(2) @ ": lambda u: u @ u,
    "pow(-3) @ ": lambda u: np.linalg.matrix_power(u.conj().T, 3),
    "pow(0) @ ": lambda u: np.eye(len(u)),
    "pow(0.5) @ ": lambda u: power(u, 0.5),
    "ctrl @ ": controlled,
    "negctrl @ ": lambda u: controlled(u, 0),
    "ctrl(2) @ ": lambda u: controlled(controlled(u)),
    "negctrl(2) @ ": lambda u: controlled(controlled(u, 0), 0),
    "ctrl @ negctrl @ ": lambda u: controlled(controlled(u, 0)),
    "negctrl @ ctrl @ inv @ pow(2) @ ": lambda u: controlled(controlled((u @ u).conj().T), 0),
    "inv @ pow(2) @ ctrl @ ": lambda u: (controlled(u) @ controlled(u)).conj().T,
}


def program(modifier, name, size, arguments, inputs=(), *, nested=False):
    """One call on qubits in reverse order, straight or within two gates of the program's own."""
    declared = "".join(f"input float[64] {i};\n" for i in inputs)
    qubits = [f"q[{i}]" for i in reversed(range(size))]
    given = f"({', '.join(arguments)})" if arguments else ""
    if not nested:
        return f"{HEAD}{declared}qubit[{size}] q;\n{modifier}{name}{given} {', '.join(qubits)};\n"
    inner, names = ", ".join("abcdef"[:size]), ", ".join(f"v{i}" for i in range(len(arguments)))
    angles = f"({names})" if names else ""
    return (
        f"{HEAD}gate inner{angles} {inner} {{ {modifier}{name}{angles} {inner}; }}\n"
        f"gate outer{angles} {inner} {{ inner{angles} {inner}; }}\n"
        f"{declared}qubit[{size}] q;\nouter{given} {', '.join(qubits)};\n"
    )


def assert_read(modifier, name, *, nested=False, open_angles=False):
    n_angles, make = STANDARD[name]
    # Of rotations within a turn: the power 0.5 is the principal one for these.
    values = np.random.default_rng(len(name) + n_angles).uniform(-1.5, 1.5, n_angles)
    matrix = MODIFIERS[modifier](make(*values))
    size = len(matrix).bit_length() - 1
    inputs = [f"in_{i}" for i in range(n_angles)] if open_angles else []
    arguments = inputs or [repr(float(value)) for value in values]
    text = program(modifier, name, size, arguments, inputs, nested=nested)
    try:
        circuit = from_qasm3(text)
    except UserError as error:
        # Which root of a rotation by an open angle it is depends on the angle; and of a gate that
        # a power of 0 makes nothing of, Qiskit does not define another gate.
        opened = n_angles and (open_angles or nested)
        odd = "0.5" in modifier or ("pow(0)" in modifier and nested)
        assert "\n" not in str(error) and opened and odd, (text, error)
        return
    expected = oracle.on_wires(matrix, tuple(reversed(range(size))), size)
    found = oracle.circuit_unitary(circuit, values if open_angles else ())
    assert agree(found, expected), text
    if circuit.count(name="Unitary") == 0:
        again = from_qasm3(to_qasm3(circuit))
        assert agree(oracle.circuit_unitary(again, values if open_angles else ()), expected), text


def walk(name, modifiers=MODIFIERS):
    for modifier in modifiers:
        assert_read(modifier, name)
        assert_read(modifier, name, nested=True)
        if STANDARD[name][0]:
            assert_read(modifier, name, open_angles=True)
            assert_read(modifier, name, nested=True, open_angles=True)


@pytest.mark.parametrize("name", STANDARD)
def test_every_gate_of_the_standard_library_is_the_matrix_that_it_names(name):
    assert_read("", name)


@pytest.mark.parametrize("name", ["u3", "cry"])
def test_a_gate_under_modifiers_is_the_matrix_that_it_names(name):
    walk(name, ["pow(2) @ ", "pow(0.5) @ ", "negctrl @ ctrl @ inv @ pow(2) @ "])


def test_a_power_of_a_gate_with_angles_is_made_for_each_call_of_it():
    """Qiskit notes powers in objects that calls would share, with the angles of the last."""
    text = f"{HEAD}gate twice(a) p {{ pow(2) @ u3(a, 0, 0) p; }}\nqubit[2] q;\n"
    text += "input float[64] b;\ntwice(0.3) q[0];\ntwice(0.8) q[1];\ntwice(b) q[0];\n"
    circuit = from_qasm3(text)
    expected = np.kron(oracle.gate_matrix("RY", [0.6 + 2 * 0.4]), oracle.gate_matrix("RY", [1.6]))
    assert agree(oracle.circuit_unitary(circuit, [0.4]), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", STANDARD)
def test_every_gate_under_every_modifier_is_the_matrix_that_it_names(name):
    walk(name)


# --- OpenQASM 2, through Qiskit's own reader ------------------------------------------------------

QELIB = {
    name: (n, make)
    for name, (n, make) in STANDARD.items()
    if name not in ("phase", "cphase", "CX", "U", "p", "cp", "cu")
} | {
    "cu1": (1, control_of(phase)),
    "cu3": (3, control_of(u3)),
    "rxx": (1, named("RXX")),
    "rzz": (1, named("RZZ")),
    "c3x": (0, control_of(control_of(named("CNOT")))),
    "c4x": (0, control_of(control_of(control_of(named("CNOT"))))),
    "c3sqrtx": (0, control_of(control_of(control_of(named("SX"))))),
    "csx": (0, control_of(named("SX"))),
    "sxdg": (0, lambda: named("SX")().conj().T),
}


def test_every_gate_of_the_openqasm_2_library_is_the_matrix_that_it_names():
    for name, (n_angles, make) in QELIB.items():
        values = np.linspace(0.4, 1.3, n_angles)
        matrix = make(*values)
        size = len(matrix).bit_length() - 1
        given = f"({', '.join(map(repr, values.tolist()))})" if n_angles else ""
        qubits, letters = ", ".join(f"q[{i}]" for i in range(size)), ", ".join("abcdef"[:size])
        text = (
            'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
            f"gate mine {letters} {{ {name}{given} {letters}; }}\nqreg q[{size}];\nmine {qubits};\n"
        )
        custom = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
        circuit = from_qiskit(qasm2.loads(text, custom_instructions=custom))
        assert agree(oracle.circuit_unitary(circuit, ()), matrix), name


@pytest.mark.parametrize(
    "beginning", ["", "// a comment\n\n", "/* OPENQASM 3; */ ", "\n\t", "// OPENQASM 3.0;\n"]
)
@pytest.mark.parametrize("version", ["2", "2.0"])
def test_openqasm_2_is_named_as_such(beginning, version):
    text = f'{beginning}OPENQASM {version};\ninclude "qelib1.inc";\nqreg q[1];\nh q[0];\n'
    with pytest.raises(UserError, match=r"is a program in OpenQASM 2, not 3: .*qasm2.loads"):
        from_qasm3(text)


# --- names ----------------------------------------------------------------------------------------

TWO = Circuit(
    2,
    (
        Operation("RX", (0,), parameter=0),
        Operation("CRY", (0, 1), parameter=1, factor=-0.5, offset=0.3),
        Operation("RZ", (1,), feature=0),
    ),
)
TAKEN = (
    *("pi", "tau", "euler", "q", "c", "U", "gphase", "gate", "input", "qubit", "ctrl", "for", "in"),
    *("let", "sin", "arccos", "popcount", "bit", "rx", "cphase", "CX", "durationof", "im", "x_000"),
)


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_the_program_needs_itself_is_refused(name):
    with pytest.raises(UserError, match=rf"parameters has {name!r}, which .* choose another name"):
        to_qasm3(TWO, parameters=["a", name])


@pytest.mark.parametrize("name", ["a b", "0a", "", "a-b", "θ", "a;", "a\n", None, 3])
def test_a_name_that_is_no_identifier_is_refused(name):
    with pytest.raises(UserError, match="no identifier"):
        to_qasm3(TWO, parameters=["a", name])


@pytest.mark.parametrize(
    "names", [("_", "a"), ("Pi", "pi_"), ("Q", "_9"), ("GATE", "x_0"), ("a", "qq")]
)
def test_odd_names_come_back_as_the_same_circuit(names):
    text = to_qasm3(TWO, parameters=names, comments=["two\nlines"])
    assert from_qasm3(text, features=["x_000"]) == TWO


def test_names_that_features_have_are_refused_for_qiskit_too():
    with pytest.raises(UserError, match=r"parameters has 'x_000', which .* choose another name"):
        to_qiskit(TWO, parameters=["a", "x_000"])
    for wrong in (["a", 3], ["a", None]):
        with pytest.raises(UserError, match="parameters has"):
            to_qiskit(TWO, parameters=wrong)
