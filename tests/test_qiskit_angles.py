"""Angles of Qiskit's circuits: factors, offsets, sums and products, there and back, and by text."""

from dataclasses import replace

import jax
import numpy as np
import oracle
import pytest
from circuit_strategies import turned_circuits
from hypothesis import given, settings

import qdeq
from qdeq.circuits import (
    MeasurementEnsemble,
    Operation,
    hardware_efficient,
    strongly_entangling,
    z_of_every_wire,
)
from qdeq.circuits.noise import NoiseModel
from qdeq.errors import UserError
from qdeq.lowering import Program
from qdeq.simulation.outcomes import outcome_probabilities

pytest.importorskip("qiskit")
pytest.importorskip("qiskit_aer")
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit import library as theirs
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qdeq.interop.polynomials import fitted, made_up_points
from qdeq.interop.qasm import from_qasm3, to_qasm3
from qdeq.interop.qiskit import (
    QiskitExecutor,
    from_qiskit,
    noise_from_backend,
    to_qiskit,
)

MANILA = FakeManilaV2()
A, B, X, Y = (Parameter(name) for name in "abxy")


def assert_same(circuit, theta, features, quantum_circuit):
    """Equal matrices up to a global phase; our wire 0 is the most significant bit."""
    expected = Operator(quantum_circuit.reverse_bits()).data
    found = oracle.circuit_unitary(circuit, theta, features)
    # 1e-12: float64 products of some hundred gates.
    assert abs(abs(np.vdot(found, expected)) / len(expected) - 1) < 1e-12


def check_both_ways(quantum_circuit, features=()):
    """Read, write, and read again as a circuit and as text; everything has one matrix."""
    rng = np.random.default_rng(0)
    values = {parameter: rng.normal() for parameter in quantum_circuit.parameters}
    names = [getattr(feature, "name", feature) for feature in features]
    theta = [value for parameter, value in values.items() if parameter.name not in names]
    x = [values[p] for name in names for p in values if p.name == name]
    bound = quantum_circuit.assign_parameters(values)
    circuit = from_qiskit(quantum_circuit, features=features)
    assert circuit.n_parameters == len(theta)
    assert_same(circuit, theta, x, bound)
    assert_same(circuit, theta, x, to_qiskit(circuit, theta, x or None))
    ours = [f"x_{i:03d}" for i in range(circuit.n_features)]
    assert_same(from_qiskit(to_qiskit(circuit), features=ours), theta, x, bound)
    assert_same(from_qasm3(to_qasm3(circuit), features=ours), theta, x, bound)
    assert_same(from_qasm3(to_qasm3(circuit, theta, x or None)), (), (), bound)
    return circuit


@given(circuit=turned_circuits())
@settings(max_examples=25)
def test_any_factor_and_offset_survives_both_ways(circuit):
    theta = np.linspace(-2, 2, circuit.n_parameters)
    assert_same(circuit, theta, (), to_qiskit(circuit, theta))
    for back in (from_qiskit(to_qiskit(circuit)), from_qasm3(to_qasm3(circuit))):
        assert_same(back, theta, (), to_qiskit(circuit, theta))
    scales = [
        np.append(np.atleast_1d(op.factor), np.atleast_1d(op.offset))
        for one in (circuit, from_qiskit(to_qiskit(circuit)))
        for op in one.operations
    ]
    for ours, back in zip(scales[: len(scales) // 2], scales[len(scales) // 2 :], strict=True):
        np.testing.assert_allclose(back, ours, rtol=0, atol=1e-13)


def expressions():
    circuit = QuantumCircuit(2, name="expressions")
    circuit.rx(-A, 0)
    circuit.ry(A / 2, 1)
    circuit.crz(1.5 * A + B, 0, 1)
    circuit.rzz(0.3 - np.sqrt(2) * B, 0, 1)
    circuit.u(A, -B, A / 3 + np.pi, 0)
    circuit.u(A + B, 0.5, B, 1)
    circuit.cp(-A / 2, 0, 1)
    circuit.cu(A, B, A + B, B / 2, 0, 1)
    circuit.rxx(2 * B, 0, 1)
    return circuit


CIRCUITS = {
    "expressions": expressions,
    "inverse": lambda: expressions().inverse(),
    "control": lambda: theirs.RXGate(-A / 2).control(2, annotated=False).definition,
    "power": lambda: expressions().power(2).decompose(),
    "parameter for parameter": lambda: expressions().assign_parameters({A: 2 * B - 1}),
    "efficient_su2": lambda: theirs.efficient_su2(3, reps=1).inverse(),
    "EfficientSU2": lambda: theirs.EfficientSU2(3, reps=1).decompose(),
    "real_amplitudes": lambda: theirs.real_amplitudes(3, reps=1).inverse(),
    "RealAmplitudes": lambda: theirs.RealAmplitudes(3, reps=1).inverse(),
    "qaoa": lambda: theirs.qaoa_ansatz(SparsePauliOp(["ZZI", "IZZ"], [1, -0.5]), reps=1).inverse(),
    "QAOAAnsatz": lambda: theirs.QAOAAnsatz(SparsePauliOp(["ZZI", "IZX"], [1, -0.5]), reps=1),
}


# The classes will go with Qiskit 3, until then people use them. SciPy dislikes sparse matrices.
classes_of_today = pytest.mark.filterwarnings(
    "ignore:.*deprecated as of Qiskit 2:DeprecationWarning",
    "ignore::scipy.sparse.SparseEfficiencyWarning",
)


@classes_of_today
@pytest.mark.parametrize("name", CIRCUITS)
def test_circuits_that_people_write(name):
    check_both_ways(CIRCUITS[name]())


@classes_of_today
@pytest.mark.parametrize("fed", ["parameters", "features"])
@pytest.mark.parametrize("as_class", [False, True])
def test_feature_maps_with_products_of_features(fed, as_class):
    make = theirs.ZZFeatureMap if as_class else theirs.zz_feature_map
    circuit = make(3, reps=1)
    ours = check_both_ways(circuit, list(circuit.parameters) if fed == "features" else ())
    assert max(len(op.features or op.parameters) for op in ours.operations) == 2


def test_sums_become_one_gate_for_each_term():
    circuit = QuantumCircuit(1)
    circuit.rz(A / 2 - 2 * X * Y + B + np.pi, 0)
    assert from_qiskit(circuit, features=["x", "y"]).operations == (
        Operation("RZ", (0,), parameter=0, factor=0.5, offset=np.pi),
        Operation("RZ", (0,), parameter=1),
        Operation("RZ", (0,), feature=(0, 1), factor=-2),
    )


def test_a_parameter_that_cancels_keeps_its_place():
    circuit = QuantumCircuit(1)
    circuit.rx(A - A + B, 0)
    assert check_both_ways(circuit).n_parameters == 2


@pytest.mark.parametrize("where", ["phase", "delay", "definition"])
def test_a_parameter_that_turns_no_gate_keeps_its_place(where):
    circuit = QuantumCircuit(1)
    circuit.rx(B, 0)
    if where == "phase":
        circuit.global_phase = A + X
    elif where == "delay":
        circuit.delay(A, 0)
        circuit.delay(X, 0)
    else:
        circuit.append(QuantumCircuit(1, global_phase=A + X).to_gate(), [0])
    read = from_qiskit(circuit, features=[X])
    assert [operation.parameters for operation in read.operations] == [(0,), (1,)]
    assert check_both_ways(to_qiskit(read)) == read


@pytest.mark.parametrize(
    "angle",
    [
        *(A.sin(), abs(A), A / B, A * X, A * B * X, A + 1e14, A**4, (1 + A).exp(), (A * A) ** 0.5),
        # The same as a polynomial for small numbers only.
        *(abs(A + np.pi), 3 * (A / 3).sin().arcsin(), A * (A + 9).sign()),
    ],
)
def test_other_expressions_are_refused_by_the_name_of_the_users_gate(angle):
    inner, circuit = QuantumCircuit(1, name="mine"), QuantumCircuit(2)
    inner.ry(angle, 0)
    circuit.append(inner.to_gate(), [1])
    with pytest.raises(UserError, match=r"^mine on qubits \[1\] turns by .*of its own$") as caught:
        from_qiskit(circuit, features=["x"] if X in circuit.parameters else ())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "expression", "angle"),
    [
        ("angle", "-a/2 + pi/4", -0.35 + np.pi / 4),
        ("angle", "2*a", 1.4),
        ("float[64]", "(a - b)/3", 0.4 / 3),
        ("float", "pi - (a - 1)*(b + 2)", np.pi + 0.3 * 2.3),
    ],
)
def test_expressions_of_openqasm_inputs(kind, expression, angle):
    text = f"""OPENQASM 3.0;
    include "stdgates.inc";
    input {kind} a;
    input float[64] b;
    qubit[1] q;
    rx(a) q[0];
    ry(b) q[0];
    rz({expression}) q[0];
    """
    expected = QuantumCircuit(1)
    expected.rx(0.7, 0)
    expected.ry(0.3, 0)
    expected.rz(angle, 0)
    assert_same(from_qasm3(text), [0.7, 0.3], (), expected)


def paper_program(encoding):
    return Program.of(qdeq.paper_model(encoding=encoding, key=jax.random.key(0))).circuit


# One of each where a second compilation would tell nothing new; the others with the slow ones.
RECIPES = [
    pytest.param(name, level, marks=() if (name, level) in FAST else pytest.mark.slow)
    for FAST in [{("strongly-entangling", 3)}]
    for name in ("angle", "amplitude", "hardware-efficient", "strongly-entangling")
    for level in (0, 1, 3)
]


@pytest.mark.parametrize(("name", "level"), RECIPES)
def test_a_transpiled_program_under_a_backends_noise_equals_aers_simulation(x64, name, level):
    circuit = {
        "hardware-efficient": lambda: hardware_efficient(4, 2),
        "strongly-entangling": lambda: strongly_entangling(4, 2),
    }.get(name, lambda: paper_program(name))()
    executor = QiskitExecutor(circuit, z_of_every_wire(4), backend=MANILA, optimization_level=level)
    angles = np.random.default_rng(0).uniform(-3, 3, circuit.n_parameters)
    aer = executor(angles[None])[0]
    transpiled = executor.transpiled()
    native = from_qiskit(transpiled)
    order = [int(parameter.name[2:]) for parameter in transpiled.parameters]
    # A wire is measured on the physical qubit to which the transpiler has moved it.
    places = transpiled.layout.final_index_layout()
    strings = tuple("".join("Z" if w == p else "I" for w in range(5)) for p in places)
    observables = MeasurementEnsemble(5, strings)
    noise = replace(noise_from_backend(MANILA), readout=NoiseModel(()).readout)  # Aer's has none
    outcomes = outcome_probabilities(native, angles[order], observables, noise=noise)
    # 1e-8: thermal relaxation is written with T2 a hair below 2 T1 on some qubits.
    np.testing.assert_allclose(outcomes[0] @ observables.signs().T, aer, rtol=0, atol=1e-8)


@pytest.mark.parametrize("encoding", ["angle", "amplitude"])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_every_transpiled_program_of_the_papers_model_can_be_read(encoding, level):
    circuit = paper_program(encoding)
    transpiled = QiskitExecutor(
        circuit, z_of_every_wire(4), backend=MANILA, optimization_level=level
    ).transpiled()
    theta = np.random.default_rng(0).uniform(-3, 3, transpiled.num_parameters)
    assert_same(from_qiskit(transpiled), theta, (), transpiled.assign_parameters(theta))


def test_values_near_the_largest_number_are_no_polynomial_of_infinite_numbers():
    points, rng = made_up_points(8, 1), np.random.default_rng(0)
    for _ in range(60):  # three of them have infinite coefficients
        values = 1.7e308 * rng.choice([-1, 1], 8) * rng.uniform(0.5, 1, 8)
        assert fitted(points, values, 2) is None
