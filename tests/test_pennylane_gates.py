"""Operations of PennyLane's, whatever they are made of: the same matrix, or one line about it.

The matrices to compare with are PennyLane's own, `qml.matrix`.
"""

import functools
import inspect
import itertools
import types

import numpy as np
import oracle
import pytest

from qdeq import UserError

qml = pytest.importorskip("pennylane")

from qdeq.interop.pennylane import _reader, from_pennylane  # noqa: E402

WORD = qml.X(0) @ qml.Y(1)
COMMUTING = qml.dot([0.3, -0.7], [qml.X(0) @ qml.X(1), qml.Z(0) @ qml.Z(1)])
NOT_COMMUTING = qml.dot([0.3, -0.7], [qml.X(0) @ qml.X(1), qml.Z(0)])


def random_unitary(n_wires, rng):
    normal = rng.normal(size=(2, 2**n_wires, 2**n_wires))
    return np.linalg.qr(normal[0] + 1j * normal[1])[0]


def agree(left, right):
    """Whether two unitaries are equal up to a global phase, to 1e-10."""
    return abs(abs(np.vdot(left, right)) / len(left) - 1) < 1e-10


# --- all operations -------------------------------------------------------------------------------


def with_fixed_wires():
    """Every class of gates with so many wires and so many angles, as functions of the angles."""
    for kind in _operations(qml.ops):
        n_wires, n_angles = kind.num_wires, kind.num_params
        if isinstance(n_wires, int) and isinstance(n_angles, int) and kind is not qml.BlockEncode:
            yield kind.__name__, functools.partial(kind, wires=range(n_wires)), n_angles


def _operations(module):
    for kind in vars(module).values():
        if (
            inspect.isclass(kind)
            and issubclass(kind, qml.operation.Operation)
            and not issubclass(kind, (qml.operation.Channel, qml.operation.CV))
            and not kind.__module__.startswith("pennylane.ops.qutrit")
        ):
            yield kind


def with_any_wires():
    """The others of `qml.ops`, templates that are gates, and operations made of operations."""
    rng = np.random.default_rng(0)
    u2, u8 = (random_unitary(n_wires, rng) for n_wires in (1, 3))
    yield "Identity", lambda: qml.Identity([0, 1]), 0
    yield "MultiRZ", lambda a: qml.MultiRZ(a, [0, 1, 2]), 1
    yield "PauliRot", lambda a: qml.PauliRot(a, "XYZ", [0, 1, 2]), 1
    yield "PauliRot of I", lambda a: qml.PauliRot(a, "IXI", [0, 1, 2]), 1
    yield "PCPhase", lambda a: qml.PCPhase(a, 3, [0, 1]), 1
    yield "PCPhase of many", lambda a: qml.PCPhase(a, 5, [0, 1, 2]), 1
    yield "GlobalPhase", lambda a: qml.GlobalPhase(a, [0]), 1
    yield "QubitUnitary", lambda: qml.QubitUnitary(u8, [0, 1, 2]), 0
    yield "QubitUnitary of one", lambda: qml.QubitUnitary(u2, 0), 0
    diagonal = np.exp(1j * rng.uniform(-3, 3, 8))
    yield "DiagonalQubitUnitary", lambda: qml.DiagonalQubitUnitary(diagonal, [0, 1, 2]), 0
    yield "SpecialUnitary", lambda: qml.SpecialUnitary(np.linspace(-1, 1, 15), [0, 1]), 0
    yield "BlockEncode", lambda: qml.BlockEncode(np.array([[0.1, 0.2], [0.3, 0.4]]), [0, 1]), 0
    for values in itertools.product([False, True], repeat=2):
        controls = {"wires": [0, 1, 2], "control_values": values}
        yield f"MultiControlledX {values}", lambda c=controls: qml.MultiControlledX(**c), 0
        controlled = functools.partial(qml.ControlledQubitUnitary, u2, **controls)
        yield f"ControlledQubitUnitary {values}", controlled, 0
    yield "IntegerComparator", lambda: qml.IntegerComparator(2, [0, 1, 2]), 0
    yield "TemporaryAND", lambda: qml.TemporaryAND([0, 1, 2], control_values=(0, 1)), 0
    yield "Permute", lambda: qml.Permute([2, 0, 1], [0, 1, 2]), 0
    yield "QFT", lambda: qml.QFT([0, 1, 2]), 0
    yield "AQFT", lambda: qml.AQFT(1, [0, 1, 2]), 0
    yield "GroverOperator", lambda: qml.GroverOperator([0, 1, 2]), 0
    yield "FlipSign", lambda: qml.FlipSign([1, 0, 1], [0, 1, 2]), 0
    yield "Adder", lambda: qml.Adder(3, [0, 1, 2]), 0
    yield "PhaseAdder", lambda: qml.PhaseAdder(3, [0, 1, 2]), 0
    yield "Reflection", lambda: qml.Reflection(qml.prod(qml.H(0), qml.CNOT([0, 1])), 0.7), 0
    some = [qml.X(2), qml.Z(2), qml.H(2), qml.S(2)]
    yield "Select", lambda: qml.Select(some, [0, 1]), 0
    yield "SelectPauliRot", lambda: qml.SelectPauliRot([0.1, 0.2, 0.3, 0.4], [0, 1], 2), 0
    yield "QROM", lambda: qml.QROM(["01", "11"], [0], [1, 2], None), 0
    yield "BasisRotation", lambda: qml.BasisRotation([0, 1], u2), 0
    yield "FABLE", lambda: qml.FABLE(np.array([[0.1, 0.2], [0.3, 0.4]]), [0, 1, 2]), 0
    yield "ControlledSequence", lambda a: qml.ControlledSequence(qml.RX(a, 2), [0, 1]), 1
    yield (
        "phase estimation",
        lambda: qml.QuantumPhaseEstimation(qml.T(0), estimation_wires=[1, 2]),
        0,
    )
    yield "ArbitraryUnitary", lambda *a: qml.ArbitraryUnitary(np.array(a), [0, 1]), 15
    layers = "StronglyEntanglingLayers"
    yield layers, lambda *a: qml.StronglyEntanglingLayers(np.reshape(a, (1, 2, 3)), [0, 1]), 6
    yield "RandomLayers", lambda *a: qml.RandomLayers(np.reshape(a, (1, 2)), [0, 1]), 2
    yield "two design", lambda *a: qml.SimplifiedTwoDesign(a[:2], [[a[2:]]], [0, 1]), 4
    yield "AngleEmbedding", lambda *a: qml.AngleEmbedding(np.array(a), [0, 1], "Y"), 2
    yield "IQPEmbedding", lambda *a: qml.IQPEmbedding(np.array(a), [0, 1]), 2
    yield "QAOAEmbedding", lambda *a: qml.QAOAEmbedding(a[:2], [a[2:]], [0, 1]), 5
    yield "U1 layer", lambda *a: qml.ParticleConservingU1(np.reshape(a, (1, 1, 2)), [0, 1]), 2
    yield "U2 layer", lambda *a: qml.ParticleConservingU2(np.reshape(a, (1, 3)), [0, 1]), 3
    yield "single excitation", lambda a: qml.FermionicSingleExcitation(a, [0, 1, 2]), 1
    double = {"wires1": [0, 1], "wires2": [2, 3]}
    yield "double excitation", lambda a: qml.FermionicDoubleExcitation(a, **double), 1
    yield "TrotterProduct", lambda a: qml.TrotterProduct(NOT_COMMUTING, a, n=2, order=2), 1
    yield "ApproxTimeEvolution", lambda a: qml.ApproxTimeEvolution(NOT_COMMUTING, a, 2), 1
    yield "CommutingEvolution", lambda a: qml.CommutingEvolution(COMMUTING, a), 1
    yield "evolve", lambda a: qml.evolve(WORD, a), 1
    yield "Exp", lambda a: qml.exp(WORD, 0.5j * a), 1
    yield "Exp of a sum", lambda: qml.exp(NOT_COMMUTING, 0.3j), 0
    yield "Prod", lambda a, b: qml.prod(qml.RX(a, 0), qml.CRY(b, [1, 0]), qml.S(1)), 2
    yield "SProd", lambda: qml.s_prod(1j, qml.prod(qml.X(0), qml.Y(1), qml.Z(2))), 0
    yield "Sum", lambda: qml.sum(qml.s_prod(0.6, qml.X(0)), qml.s_prod(0.8, qml.Z(0))), 0
    yield "basis change", lambda a: qml.change_op_basis(qml.H(0), qml.RZ(a, 0)), 1


EVERY = {name: (make, n) for name, make, n in (*with_fixed_wires(), *with_any_wires())}


def relatives(make):
    """The gate, its inverse, powers and controls, and these of each other, as functions."""
    yield make
    yield lambda *a: qml.adjoint(make(*a))
    for power in (2, -1, 0, 0.5, -0.3):
        yield lambda *a, z=power: qml.pow(make(*a), z)
    for values in ([0], [1], [0, 1], [1, 0], [0, 0]):
        wires = ["c", "d"][: len(values)]
        yield lambda *a, c=wires, v=values: qml.ctrl(make(*a), c, control_values=v)
    yield lambda *a: qml.adjoint(qml.ctrl(qml.pow(make(*a), 2), "c", control_values=[0]))
    yield lambda *a: qml.ctrl(qml.prod(make(*a), qml.T(0)), "c", control_values=[0])
    yield lambda *a: qml.pow(qml.adjoint(make(*a)), 3)


def matrix_of(operation, wires):
    """PennyLane's matrix of what is inside, inverted, raised, controlled, multiplied here."""
    if isinstance(operation, qml.ops.Adjoint):
        return matrix_of(operation.base, wires).conj().T
    if isinstance(operation, qml.ops.Pow) and operation.z == int(operation.z):
        return np.linalg.matrix_power(matrix_of(operation.base, wires), int(operation.z))
    if isinstance(operation, qml.ops.Prod):
        parts = (matrix_of(part, wires) for part in operation.operands)
        return functools.reduce(np.matmul, parts)
    if type(operation) in (qml.ops.Controlled, qml.ops.ControlledOp):
        on = np.eye(2 ** len(wires))
        for wire, value in zip(operation.control_wires, operation.control_values, strict=True):
            on = on @ oracle.on_wires(
                oracle.P1 if value else oracle.P0, [wires.index(wire)], len(wires)
            )
        return on @ matrix_of(operation.base, wires) + np.eye(2 ** len(wires)) - on
    return qml.matrix(operation, wire_order=wires)


WIRES = ["c", "d", 0, 1, 2, 3]


def assert_read(make, n_angles, rng, *, may_be_refused=False, open_angles=False):
    """As a QNode whose wires have names, with numbers or with entries of theta for its angles."""
    values = rng.uniform(-3, 3, n_angles)
    operation = make(*values)
    wires = [wire for wire in WIRES if wire in operation.wires]

    @qml.qnode(qml.device("default.qubit", wires=wires))
    def qnode(theta):
        make(*(theta[i] for i in range(n_angles)))
        return qml.state()

    try:
        circuit = from_pennylane(qnode, values, theta=0 if open_angles else None)
    except UserError as error:
        assert may_be_refused and "\n" not in str(error), (operation, error)
        return
    found = oracle.circuit_unitary(circuit, values if open_angles else ())
    assert agree(found, matrix_of(operation, wires)), operation


# Fractional powers, and what PennyLane has no circuit for, are one line that names the operation.
NO_CIRCUIT = ("DoubleExcitationPlus", "DoubleExcitationMinus", "GlobalPhase")
# PennyLane says that these prepare a state first.
PREPARING = ("U1 layer", "U2 layer")
# Hundreds of gates: their relatives are read with numbers only.
LONG = ("double excitation", "ArbitraryUnitary")


def walk(name, rng):
    make, n_angles = EVERY[name]
    for relative in relatives(make):
        operation = relative(*rng.uniform(-3, 3, n_angles))
        power = getattr(operation, "z", 1)
        for open_angles in (False, True)[: 1 + bool(n_angles and name not in LONG)]:
            odd = power % 1 or name in PREPARING
            odd = odd or (open_angles and (name in NO_CIRCUIT or power == 0))
            if power % 1 and not operation.base.has_matrix:
                continue  # nothing to compare with
            assert_read(relative, n_angles, rng, may_be_refused=odd, open_angles=open_angles)


# A rotation and a phase; all others are in the slow test.
REPRESENTATIVE = ("RY", "PhaseShift")


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_an_operation_and_its_relatives_are_read_with_their_matrices(name):
    walk(name, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_whole_library_is_read_with_its_matrices(name):
    walk(name, np.random.default_rng(0))


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_operation_is_read_with_its_matrix(name):
    make, n_angles = EVERY[name]
    rng = np.random.default_rng(0)
    assert_read(make, n_angles, rng, may_be_refused=name in PREPARING)
    if n_angles:
        odd = name in (*PREPARING, *NO_CIRCUIT)
        assert_read(make, n_angles, rng, may_be_refused=odd, open_angles=True)


def test_no_operation_of_the_library_is_left_out():
    used = {type(make(*np.ones(n))).__name__ for make, n in EVERY.values()}
    states = ("BasisState", "StatePrep", "QubitDensityMatrix")
    others = ("Barrier", "WireCut", "Snapshot", "FromBloq", "Conditional", "Evolution")
    abstract = ("Operation", "ControlledOp", "AdjointOperation", "PowOperation")
    existing = {kind.__name__ for kind in _operations(qml.ops)}
    assert existing - used <= {*states, *others, *abstract}


# --- own operations -------------------------------------------------------------------------------


def own(name, **members):
    """A user's class of operations of one wire with the name of another."""
    return type(name, (qml.operation.Operation,), {"num_wires": 1, **members})


def parts_of(*kinds):
    return staticmethod(lambda *_, wires, **__: [kind(wires=wires) for kind in kinds])


def matrix_is(matrix):
    return staticmethod(lambda *_, **__: matrix)


@pytest.mark.parametrize("name", ["RX", "Hadamard", "Barrier", "GlobalPhase", "Identity", "Mine"])
def test_an_own_operation_means_what_it_is_whatever_its_name(name):
    rng = np.random.default_rng(0)
    decomposed = own(name, compute_decomposition=parts_of(qml.S, qml.H))
    as_matrix = own(name, compute_matrix=matrix_is(oracle.gate_matrix("SX")))
    for kind in (decomposed, as_matrix):
        assert_read(lambda k=kind: k(wires=0), 0, rng)
        assert_read(lambda k=kind: qml.adjoint(k(wires=0)), 0, rng)
        assert_read(lambda k=kind: qml.ctrl(k(wires=0), "c", control_values=[0]), 0, rng)


def test_an_own_operation_with_a_trained_angle_is_decomposed():
    turn = staticmethod(lambda a, wires: [qml.RX(-a / 2, wires), qml.RZ(2 * a + 0.1, wires)])
    kind = own("RY", num_params=1, compute_decomposition=turn)
    rng = np.random.default_rng(0)
    for make in (
        lambda a: kind(a, wires=0),
        lambda a: qml.ctrl(qml.adjoint(kind(a, wires=0)), ["c", "d"], control_values=[0, 1]),
    ):
        assert_read(make, 1, rng, open_angles=True)


ENDLESS = own("Endless", compute_decomposition=staticmethod(lambda wires: [ENDLESS(wires)]))
DOUBLING = own("Doubling", compute_decomposition=staticmethod(lambda wires: 2 * [DOUBLING(wires)]))
TWO_MEANINGS = own("RX", compute_matrix=matrix_is(oracle.X), compute_decomposition=parts_of(qml.H))
NO_MEANING = own("Mine")
RAISING = own("Mine", compute_decomposition=staticmethod(lambda wires: {}["mine"]))
STRETCHED = own("Mine", compute_matrix=matrix_is(2 * oracle.X))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda t: TWO_MEANINGS(wires=0), "^RX on wires .0,. has a matrix and a decomposition"),
        (lambda t: qml.ctrl(TWO_MEANINGS(wires=0), 1), "has a matrix and a decomposition"),
        (lambda t: NO_MEANING(wires=0), "^Mine on wires .0,. cannot be expressed"),
        (lambda t: ENDLESS(0), "without end|fewer levels"),
        (lambda t: RAISING(0), "^Mine on wires .0,. could not be read .KeyError: 'mine'"),
        (lambda t: STRETCHED(wires=0), "^Mine on wires .0,. is no gate of"),
        (lambda t: qml.Hermitian(np.diag([1.0, 2]), 0), "^Hermitian on wires .0,. is no gate of"),
        (lambda t: qml.RX(np.ones(3), 0), "is given 3 sets of numbers at once"),
        (lambda t: qml.AngleEmbedding(np.ones((3, 1)), [0]), "3 sets of numbers|batch"),
        (lambda t: qml.RX(np.ones((2, 2)), 0), "could not be read"),
        (lambda t: qml.measure(0), "no gate with fixed wires"),
        (lambda t: qml.cond(qml.measure(0), qml.X)(1), "no gate with fixed wires"),
        (lambda t: qml.pauli_measure("XY", wires=[0, 1]), "no gate with fixed wires"),
        (lambda t: qml.BitFlip(0.1, 0), "noise channel"),
        (lambda t: qml.TShift(0), "^TShift on wires"),
        (lambda t: qml.Displacement(0.1, 0.2, 0), "^Displacement on wires"),
        (lambda t: qml.MultiControlledX([0, 1], [bool(t[0] > 0)]), "for other values of the arg"),
        (lambda t: qml.pow(qml.X(0), t[0]), "for other values of the arguments"),
        # For large numbers only, beyond those by which angles are found.
        (lambda t: (qml.RX(t[0], 0), t[0] > 5 and qml.X(0)), "for different values of its argum"),
        (lambda t: (qml.RX(t[0], 0), (qml.X if t[0] > 5 else qml.Y)(0)), "for other values of the"),
        (lambda t: (qml.RX(t[0], 0), qml.X(int(t[0] > 5))), "for other values of the arguments"),
        (
            lambda t: (qml.RX(t[0], 0), qml.QubitUnitary(np.eye(2)[:: 1 if t[0] > 5 else -1], 0)),
            "for different values of its arguments",
        ),
        (lambda t: qml.pow(qml.Rot(t[0], t[0], t[0], 0), 10**9), "cannot be expressed"),
        (lambda t: qml.Adder(1, [0, 1, 2], 5, [3, 4]), "work wires"),
        (lambda t: qml.X(10**12), "wire 1000000000000: the numbers of wires become"),
        (lambda t: qml.X([0, 1]), "could not be read .ValueError"),
        (lambda t: 1 / 0, "could not be read .ZeroDivisionError: division by zero"),
        (lambda t, u: None, "could not be read .TypeError"),
    ],
)
def test_what_no_circuit_can_express_is_one_line(function, message):
    with pytest.raises(UserError, match=message) as caught:
        from_pennylane(function, np.ones(1))
    assert "\n" not in str(caught.value)


def test_decompositions_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(_reader, "_MOST_OPERATIONS", 500)
    with pytest.raises(UserError, match=r"more than 500 operations|fewer levels"):
        from_pennylane(lambda: DOUBLING(0))


class _Odd:
    __name__ = 3

    def __call__(self, *_):
        raise RuntimeError


@pytest.mark.parametrize("arguments", [(), (np.zeros(2),), ("text",), (None,), ([[1], [1, 2]],)])
def test_what_is_no_quantum_function_is_refused_or_turns_nothing(arguments):
    calls = [qml.RX, int, print, _Odd(), _Odd, types.SimpleNamespace]
    for nothing in (None, [], "RX", 3, b"", object(), *calls):
        try:
            circuit = from_pennylane(nothing, *arguments)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            # An entry of theta that no gate uses keeps its place as an RZ by 0 times it.
            assert nothing in calls and not any(gate.factor for gate in circuit.operations)


def test_a_tape_keeps_its_angles_and_leaves_arrays_and_observables_constant():
    with qml.tape.QuantumTape() as tape:
        qml.QubitUnitary(oracle.gate_matrix("SX"), 0)
        qml.ctrl(qml.DiagonalQubitUnitary([1, -1], 1), 0)
        qml.ArbitraryUnitary(np.linspace(-1, 1, 3), [0])
        qml.expval(qml.Hermitian(oracle.Z, 0) + 0.3 * qml.X(1))
    circuit = from_pennylane(tape)
    assert circuit.n_parameters == 3
    found = oracle.circuit_unitary(circuit, np.linspace(-1, 1, 3))
    assert agree(found, qml.matrix(tape, wire_order=[0, 1]))


def assert_told_apart(n):
    """Returns how often the function was run."""
    n_runs = 0

    def function(theta, x):
        nonlocal n_runs
        n_runs += 1
        for i in range(n):
            qml.RX(theta[n - 1 - i] / 2, wires=i % 4)
            if i % 8 == 0:
                qml.RZ(theta[i] + x[i // 8 % 5], wires=i % 4)

    circuit = from_pennylane(function, np.zeros(n), np.zeros(5), features="x")
    turned = [op for op in circuit.operations if op.name == "RX"]
    assert [op.parameter for op in turned] == list(range(n))[::-1]
    assert {op.factor for op in turned} == {0.5}
    assert circuit.count(name="RZ") == 2 * len(range(0, n, 8))
    return n_runs


def test_runs_grow_with_the_digits_of_the_number_of_parameters():
    assert assert_told_apart(400) - assert_told_apart(100) <= 10  # two for each bit, and chunks


@pytest.mark.slow
def test_four_thousand_parameters_are_told_apart():
    assert_told_apart(4_000)
