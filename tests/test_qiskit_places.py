"""Parts of a circuit side by side go to the best places that a device's calibration says."""

import numpy as np
import pytest

from qdeq.circuits import Circuit, MeasurementEnsemble, Operation
from qdeq.devices import PackedExecutor, side_by_side
from qdeq.errors import UserError

pytest.importorskip("qiskit_aer")
from qiskit.circuit import Measure
from qiskit.circuit.library import CZGate
from qiskit.transpiler import InstructionProperties, Target
from qiskit_ibm_runtime.fake_provider import FakeManilaV2, FakeSherbrooke

from qdeq.interop.qiskit import QiskitExecutor
from qdeq.interop.qiskit.places import best_places, placeable_copies

PAIR = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
LINE = Circuit(3, (Operation("CNOT", (0, 1)), Operation("CNOT", (1, 2))) * 2)


def row_of_qubits(couplings, readout):
    target = Target(num_qubits=len(readout))
    pairs = {(i, i + 1): InstructionProperties(error=e) for i, e in enumerate(couplings)}
    target.add_instruction(CZGate(), pairs)
    errors = {(i,): InstructionProperties(error=e) for i, e in enumerate(readout)}
    target.add_instruction(Measure(), errors)
    return target


def test_the_best_couplings_are_taken_first_and_those_that_fail_never():
    # By hand: 2-3 loses least, 5-6 next; 0-1 fails, 4-5 has no error, of 6-7 one reads nothing.
    target = row_of_qubits([1.0, 0.02, 0.001, 0.01, None, 0.01, 0.001], [0.01] * 7 + [0.5])
    assert [sorted(p) for p in np.reshape(best_places(side_by_side(PAIR, 2), target), (2, 2))] == [
        [2, 3],
        [5, 6],
    ]
    # A third pair has no coupling left: 0-1 fails, and 4 stands alone.
    assert best_places(side_by_side(PAIR, 3), target) is None


def test_a_bad_reading_outweighs_a_good_coupling():
    target = row_of_qubits([0.01, 0.01, 0.001, 0.01], [0.01, 0.01, 0.01, 0.2, 0.2])
    alone = Circuit(1, (Operation("RY", (0,), parameter=0),))
    places = best_places(side_by_side(alone, 3), target)
    assert sorted(places) == [0, 1, 2]
    wide = Circuit(3, (Operation("CNOT", (0, 1)), Operation("X", (2,))))
    assert sorted(best_places(wide, target)[:2]) in ([0, 1], [1, 2])


@pytest.mark.parametrize(
    ("circuit", "target"),
    [
        (PAIR, row_of_qubits([0.01], [0.01] * 2)),
        (side_by_side(PAIR, 2), None),
        (side_by_side(PAIR, 2), row_of_qubits([None] * 3, [None] * 4)),
    ],
    ids=["one part", "no target", "no errors"],
)
def test_what_the_transpiler_does_as_well_is_left_to_it(circuit, target):
    assert best_places(circuit, target) is None


def test_copies_on_a_snapshot_lose_less_than_where_the_transpiler_puts_them():
    target = FakeSherbrooke().target
    errors = {frozenset(pair): found.error for pair, found in target["ecr"].items()}
    readout = [target["measure"][(qubit,)].error for qubit in range(127)]

    def total(places):
        lines = np.reshape(places, (-1, 3))
        pairs = [errors[frozenset(pair)] for a, b, c in lines for pair in ((a, b), (b, c))]
        assert max(pairs) < 0.1
        return 2 * sum(pairs) + sum(readout[qubit] for qubit in places)

    places = best_places(side_by_side(LINE, 10), target)
    assert len(set(places)) == 30
    # Where the transpiler put 10 copies of such a line, of Qiskit 2.6, they came to 3.5.
    assert total(places) < 1


class Backend:
    def __init__(self, target):
        self.target = target


def test_copies_are_counted_that_have_a_place_each():
    # Pairs on 2-3 and 5-6, see above; single qubits on all but the one that reads nothing.
    target = row_of_qubits([1.0, 0.02, 0.001, 0.01, None, 0.01, 0.001], [0.01] * 7 + [0.5])
    assert placeable_copies(PAIR, Backend(target)) == 2
    assert placeable_copies(Circuit(1, ()), Backend(target)) == 7
    assert placeable_copies(LINE, Backend(row_of_qubits([1.0], [0.1, 0.1]))) == 0
    # The third copy of a pair and a lonely wire has no room for its pair.
    assert placeable_copies(Circuit(3, PAIR.operations), Backend(target)) == 2


def test_as_many_copies_as_are_counted_are_placed():
    backend = FakeSherbrooke()
    copies = placeable_copies(LINE, backend)
    assert 25 < copies < 127 // 3
    assert best_places(side_by_side(LINE, copies), backend.target) is not None
    assert best_places(side_by_side(LINE, copies + 1), backend.target) is None
    in_two_parts = Circuit(4, LINE.operations)
    copies = placeable_copies(in_two_parts, backend)
    assert best_places(side_by_side(in_two_parts, copies), backend.target) is not None


def test_what_cannot_be_counted_is_said():
    with pytest.raises(UserError, match="says no errors"):
        placeable_copies(PAIR, Backend(None))
    with pytest.raises(UserError, match="more than two wires"):
        placeable_copies(
            Circuit(3, (Operation("Unitary", (0, 1, 2), matrix=np.eye(8)),)), FakeManilaV2()
        )


def test_a_packed_executor_runs_at_these_places():
    backend = FakeManilaV2()
    packed = PackedExecutor(
        lambda circuit, observables: QiskitExecutor(
            circuit, observables, backend=backend, shots=400
        ),
        PAIR,
        MeasurementEnsemble(2, ("ZI", "IZ")),
        n_qubits=5,
    )
    wide = side_by_side(PAIR, 2)
    layout = packed.inner.transpiled().layout.final_index_layout()
    assert layout == best_places(wide, backend.target)
    # 400 shots and readout errors of some per cent.
    found = packed(np.array([[0.0], [np.pi]]))
    np.testing.assert_allclose(found, [[1, 1], [-1, -1]], atol=0.4)
