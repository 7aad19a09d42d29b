"""Encodings: the paper's two, and data re-uploading."""

import pytest

from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Operation,
    hardware_efficient,
    paper_angle_encoding,
    reuploading,
    table_circuit,
)
from qdeq.errors import UserError


def test_amplitude_encoding_says_how_many_qubits_it_needs():
    assert AmplitudeEncoding(4, 16).n_features == 16
    message = (
        r"n_qubits=3: amplitude encoding of 16 features needs at least 4 qubits "
        r"\(2\*\*3 = 8 amplitudes\)"
    )
    with pytest.raises(UserError, match=message):
        AmplitudeEncoding(3, 16)
    with pytest.raises(UserError, match="needs at least 7 qubits"):
        AmplitudeEncoding(6, 65)


@pytest.mark.parametrize(("n_qubits", "n_features"), [(0, 1), (2, 0)])
def test_amplitude_encoding_needs_qubits_and_features(n_qubits, n_features):
    with pytest.raises(UserError):
        AmplitudeEncoding(n_qubits, n_features)


def test_paper_encoding_of_4_qubits_is_four_layers():
    rotations = [(op.name, op.wires[0], op.feature) for op in paper_angle_encoding(4).operations]
    expected = [
        (name, wire, 4 * layer + wire)
        for layer, name in enumerate(("RY", "RZ", "RX", "RY"))
        for wire in range(4)
    ]
    assert rotations == expected


@pytest.mark.parametrize("n_qubits", [1, 2, 3, 5, 10])
def test_paper_encoding_of_other_sizes_turns_each_wire_about_one_axis(n_qubits):
    encoding = paper_angle_encoding(n_qubits)
    assert encoding.n_features == len(encoding.operations) == n_qubits**2
    for i, operation in enumerate(encoding.operations):
        wire = i // n_qubits
        assert operation.feature == i
        assert operation.wires == (wire,)
        assert operation.name == {0: "RY", 1: "RX", 2: "RZ"}[wire % 3]


def test_angle_encoding_takes_feature_rotations_of_one_wire_only():
    for operation in (
        Operation("H", (0,)),
        Operation("RX", (0,), parameter=0),
        Operation("RZZ", (0, 1), feature=0),
    ):
        with pytest.raises(UserError, match="cannot be part of an angle encoding"):
            AngleEncoding(2, (operation,))
    for n_inputs in (None, 0, -1):
        with pytest.raises(UserError, match="at least 1 rotation"):
            AngleEncoding(2, (), n_inputs)
    with pytest.raises(UserError, match="leaves the circuit"):
        AngleEncoding.from_rotations(2, [("RX", 2, 0)])
    with pytest.raises(UserError, match="not a known gate"):
        AngleEncoding.from_rotations(2, [("rx", 0, 0)])


def test_reuploading_puts_the_encoding_between_layers():
    encoding = AngleEncoding.from_rotations(2, [("RX", 0, 0), ("RX", 1, 1)])
    layers = [hardware_efficient(2, 1, rotations=("RY",))] * 3
    circuit = reuploading(encoding, layers)
    kinds = [
        "upload" if op.feature is not None else "layer"
        for op in circuit.operations
        if op.name[0] == "R"
    ]
    assert kinds == ["layer"] * 2 + (["upload"] * 2 + ["layer"] * 2) * 2
    assert circuit.n_parameters == 6
    assert circuit.n_features == 2
    assert reuploading(encoding, layers[:1]) == layers[0]


def test_reuploading_checks_its_layers():
    encoding = AngleEncoding.from_rotations(2, [("RX", 0, 0)])
    with pytest.raises(UserError, match="at least 1 layer"):
        reuploading(encoding, [])
    with pytest.raises(UserError, match="cannot be joined"):
        reuploading(encoding, [hardware_efficient(3, 1)] * 2)


def test_an_encoding_may_leave_features_to_the_circuit():
    encoding = AngleEncoding(1, (Operation("RX", (0,), feature=0),), n_inputs=3)
    assert encoding.n_features == 3
    with pytest.raises(UserError, match="n_inputs=1: the encoding reads feature 1"):
        AngleEncoding(1, (Operation("RX", (0,), feature=1),), n_inputs=1)


@pytest.mark.parametrize("n_uploads", [1, 2, 3])
def test_every_rotation_of_a_table_circuit_reads_a_number_of_its_own(n_uploads):
    measured = table_circuit(3, axes=("RY", "RX"), n_uploads=n_uploads, ansatz_layers=2)
    operations = measured.encoding.operations + measured.circuit.operations
    read = [(op.feature, op.wires[0], op.name) for op in operations if op.feature is not None]
    expected = [
        ((2 * upload + j) * 3 + wire, wire, axis)
        for upload in range(n_uploads)
        for j, axis in enumerate(("RY", "RX"))
        for wire in range(3)
    ]
    assert read == expected and measured.n_features == 6 * n_uploads
    layer = hardware_efficient(3, 2)
    assert measured.n_parameters == n_uploads * layer.n_parameters
    assert measured.circuit.operations[-len(layer.operations) :][0].name == "RY"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": ("RZ", "RX")}, "the first of them RX or RY"),
        ({"axes": ()}, "at least one rotation"),
        ({"axes": ("RX", "H")}, "axes='H' is not known: choose one of RX, RY, RZ"),
        ({"n_uploads": 0}, "n_uploads=0: give an integer that is at least 1"),
        ({"n_uploads": 1.5}, "n_uploads=1.5: give an integer"),
        ({"ansatz_layers": 1.5}, "n_layers=1.5: give an integer"),
        ({"ansatz": "deep"}, "ansatz='deep' is not known"),
    ],
)
def test_table_circuits_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        table_circuit(2, **options)
