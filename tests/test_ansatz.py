"""The paper's ansatz gate by gate, and the other families by their counts."""

import json
from pathlib import Path

import numpy as np
import pytest

from qdeq.circuits import hardware_efficient, paper_ansatz, strongly_entangling
from qdeq.errors import UserError

# The circuits of the published code, read off by running it.
PUBLISHED = json.loads((Path(__file__).parent / "data" / "paper_circuits.json").read_text())
NAMES = {"hadamard": "H"}


@pytest.mark.parametrize("n_qubits", [4, 10])
def test_paper_ansatz_is_the_published_circuit_gate_by_gate(n_qubits):
    published = PUBLISHED["circuits"][str(n_qubits)]
    expected = [
        (NAMES.get(name, name.upper()), tuple(wires), parameter)
        for name, wires, parameter in published["operations"]
    ]
    circuit = paper_ansatz(n_qubits)
    assert [(op.name, op.wires, op.parameter) for op in circuit.operations] == expected
    assert circuit.n_parameters == published["n_parameters"]
    assert all(circuit.trainable)


@pytest.mark.parametrize(("n_qubits", "learned"), [(4, 35), (10, 40)])
def test_published_training_freezes_the_angles_of_the_blocks(n_qubits, learned):
    circuit = paper_ansatz(n_qubits, trainable="published")
    blocks = PUBLISHED["circuits"][str(n_qubits)]["blocks"]
    assert sum(circuit.trainable) == learned
    for operation, block in zip(circuit.operations, blocks, strict=True):
        for i in operation.parameters:
            assert circuit.trainable[i] == (block == "random_layer")
    assert circuit.operations == paper_ansatz(n_qubits).operations


def test_paper_ansatz_leaves_the_global_random_state_alone():
    np.random.seed(7)
    expected = np.random.random(3)
    np.random.seed(7)
    paper_ansatz(4)
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_paper_ansatz_at_other_sizes():
    for n_qubits in (5, 6, 7):
        circuit = paper_ansatz(n_qubits)
        assert circuit.count(name="CRX") == (n_qubits - 2) // 2
    assert paper_ansatz(6, n_random=0, n_blocks=1).n_parameters == 4
    assert paper_ansatz(4, n_random=0, n_blocks=0).operations == ()
    assert paper_ansatz(4, seed=1) != paper_ansatz(4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_qubits": 3}, "n_qubits=3: a block of the paper's ansatz needs at least 4 wires"),
        ({"n_qubits": 4, "trainable": "some"}, "trainable='some' is not known"),
        ({"n_qubits": 4, "n_random": -1}, "n_random=-1"),
        ({"n_qubits": 4, "seed": -1}, "seed=-1"),
        ({"n_qubits": 4, "n_random": 2.5}, "n_random=2.5: give an integer"),
        ({"n_qubits": 4.0}, "n_qubits=4.0: give an integer"),
        ({"n_qubits": 4, "seed": 2**32}, "seed=4294967296: NumPy's legacy generator"),
        ({"n_qubits": 4, "n_blocks": 2}, "n_blocks=2: n_qubits=4 has room for 0 to 1 blocks"),
        ({"n_qubits": 4, "n_blocks": -1}, "n_blocks=-1"),
    ],
)
def test_mistakes_in_the_paper_ansatz_are_named(options, message):
    with pytest.raises(UserError, match=message):
        paper_ansatz(**options)


def test_hardware_efficient_counts():
    circuit = hardware_efficient(10, 6, rotations=("RX", "RY", "RZ"))
    assert circuit.n_parameters == 180
    assert circuit.count(name="CNOT") == 6 * 9
    assert hardware_efficient(4, 2, entangler="CRX").n_parameters == 2 * (8 + 3)
    assert hardware_efficient(2, 1, rotations=("U3",)).n_parameters == 6
    assert hardware_efficient(3, 0).operations == ()


@pytest.mark.parametrize("n_qubits", [3, 10, 100])
def test_hardware_efficient_depth_does_not_grow_with_the_number_of_qubits(n_qubits):
    assert hardware_efficient(n_qubits, 1).depth() == 4


@pytest.mark.parametrize("build", [hardware_efficient, strongly_entangling])
def test_one_qubit_has_no_entangler(build):
    circuit = build(1, 2)
    assert circuit.n_parameters > 0
    assert circuit.count(n_wires=2) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layers": -1}, "n_layers=-1"),
        ({"n_layers": 1.5}, "n_layers=1.5: give an integer"),
        ({"n_layers": True}, "n_layers=True: give an integer"),
        ({"rotations": ("RY", "RW")}, r"rotations\[1\]='RW' is not known.*RX"),
        ({"rotations": "RY"}, "is one string"),
        ({"rotations": ("H",)}, "'H' is not known"),
        ({"entangler": "RX"}, "entangler='RX' is not known.*CNOT"),
        ({"n_qubits": 0}, "n_qubits=0"),
    ],
)
def test_mistakes_in_hardware_efficient_are_named(options, message):
    with pytest.raises(UserError, match=message):
        hardware_efficient(**{"n_qubits": 2, "n_layers": 1, **options})


def test_strongly_entangling_rings_reach_further_in_later_layers():
    circuit = strongly_entangling(4, 4)
    pairs = [op.wires for op in circuit.operations if op.name == "CNOT"]
    reaches = [(target - control) % 4 for control, target in pairs]
    assert reaches == [1] * 4 + [2] * 4 + [3] * 4 + [1] * 4
    assert circuit.n_parameters == 48
    with pytest.raises(UserError, match="n_layers=-2"):
        strongly_entangling(4, -2)
