"""Text diagrams character by character, pictures by their parts."""

import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeq.circuits import (
    GATES,
    AmplitudeEncoding,
    Circuit,
    MeasurementEnsemble,
    Operation,
    draw_text,
    hardware_efficient,
    paper_angle_encoding,
    paper_ansatz,
    reuploading,
    z_of_every_wire,
    z_strings,
)
from qdeq.errors import UserError

# Random layers, and layers of every gate that has wires and angles to draw.
CIRCUITS = st.one_of(
    st.builds(paper_ansatz, st.integers(4, 6), seed=st.integers(0, 1000)),
    st.builds(
        hardware_efficient,
        st.integers(1, 5),
        st.integers(0, 3),
        rotations=st.lists(st.sampled_from(["RX", "PhaseShift", "U3"])),
        entangler=st.sampled_from([gate.name for gate in GATES.values() if gate.n_wires == 2]),
    ),
)


@given(circuit=CIRCUITS, max_width=st.integers(20, 120))
def test_every_row_has_one_line_per_wire_all_of_one_width(circuit, max_width):
    rows = circuit.draw(max_width=max_width).split("\n\n")
    for row in rows:
        lines = row.split("\n")
        assert [line.split(":")[0] for line in lines] == [str(i) for i in range(circuit.n_qubits)]
        assert len({len(line) for line in lines}) == 1
    assert rows[-1].endswith("┤")


@pytest.mark.parametrize("max_width", [30, 57, 100])
@pytest.mark.parametrize("n_qubits", [4, 10])
def test_no_line_is_wider_than_asked(n_qubits, max_width):
    text = paper_ansatz(n_qubits).draw(
        encoding=paper_angle_encoding(n_qubits),
        observables=z_strings(n_qubits, 2),
        max_width=max_width,
    )
    assert max(map(len, text.splitlines())) <= max_width


@given(circuit=CIRCUITS)
def test_every_parameter_appears(circuit):
    text = circuit.draw(max_width=60)
    assert all(f"θ{i}" in text for i in range(circuit.n_parameters))


def test_symbols_of_every_kind():
    operations = (
        Operation("CNOT", (2, 0)),
        Operation("RX", (0,), feature=3),
        Operation("SWAP", (0, 1)),
        Operation("CZ", (1, 2)),
        Operation("RZ", (0,), angle=0.25),
        Operation("U3", (1,), (0, 1, 2)),
        Operation("Unitary", (0, 1, 2), matrix=tuple(map(tuple, _identity(8)))),
    )
    assert Circuit(3, operations).draw().splitlines() == [
        "0: ─╭⊕──RX(x3)─╭×──RZ(0.25)───────────────╭U─┤",
        "1: ─│──────────╰×─╭●─────────U3(θ0,θ1,θ2)─├U─┤",
        "2: ─╰●────────────╰●──────────────────────╰U─┤",
    ]


def _identity(n):
    return [[float(i == j) for j in range(n)] for i in range(n)]


def test_whole_model_shows_encoding_and_readout():
    circuit = Circuit(2, (Operation("RY", (0,), 0),))
    ensemble = MeasurementEnsemble(2, ("XI", "ZI", "ZZ", "YX"))
    text = draw_text(circuit, encoding=AmplitudeEncoding(2, 4), observables=ensemble)
    assert text.splitlines() == [
        "0: ─╭|x⟩──RY(θ0)─┤ ⟨X⟩ ⟨Z⟩",
        "1: ─╰|x⟩─────────┤",
        "",
        "also 2 observables: ⟨Z0 Z1⟩, ⟨Y0 X1⟩",
    ]


def test_long_diagrams_wrap_with_dots():
    text = hardware_efficient(1, 2).draw(max_width=32)
    assert text == "0: ──RY(θ0)──RZ(θ1)─···\n\n0: ···──RY(θ2)──RZ(θ3)─┤"


def test_empty_circuit_is_bare_wires():
    assert Circuit(2, ()).draw() == "0: ──┤\n1: ──┤"


def test_mistakes_are_named():
    circuit = Circuit(2, ())
    with pytest.raises(UserError, match="max_width=5: give an integer that is at least 20"):
        circuit.draw(max_width=5)
    for draw in (circuit.draw, circuit.draw_mpl):
        with pytest.raises(UserError, match="encoding has 3 qubits and the circuit 2"):
            draw(encoding=AmplitudeEncoding(3, 8))
        with pytest.raises(UserError, match="observables has 3 qubits and the circuit 2"):
            draw(observables=z_of_every_wire(3))


def _legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_picture_names_the_roles_that_occur():
    circuit = paper_ansatz(4, trainable="published")
    figure = circuit.draw_mpl(encoding=paper_angle_encoding(4), observables=z_of_every_wire(4))
    roles = ["encoding (features)", "trainable angle", "frozen angle", "fixed gate"]
    assert _legend(figure) == roles
    assert _legend(hardware_efficient(2, 1).draw_mpl()) == ["trainable angle", "fixed gate"]


def test_picture_labels_every_angle_and_meter():
    figure = paper_ansatz(4).draw_mpl(
        encoding=AmplitudeEncoding(4, 16), observables=z_of_every_wire(4)
    )
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert all(rf"$\theta_{{{i}}}$" in texts for i in range(39))
    assert texts.count(r"$\langle Z \rangle$") == 4


@pytest.mark.parametrize(
    ("circuit", "options"),
    [
        (Circuit(1, ()), {}),
        (
            reuploading(paper_angle_encoding(2), [hardware_efficient(2, 1)] * 3),
            {"encoding": paper_angle_encoding(2), "observables": z_strings(2, 2)},
        ),
        (
            Circuit(
                3,
                (
                    Operation("SWAP", (0, 2)),
                    Operation("U3", (0,), (0, 1, 2)),
                    Operation("PhaseShift", (1,), angle=0.1),
                    Operation("Unitary", (2, 0), matrix=tuple(map(tuple, _identity(4)))),
                ),
            ),
            {"encoding": AmplitudeEncoding(3, 5)},
        ),
    ],
)
def test_picture_can_be_saved(circuit, options):
    buffer = io.BytesIO()
    circuit.draw_mpl(**options).savefig(buffer, dpi=50)
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_every_gate_has_a_picture():
    operations = [
        Operation(gate.name, tuple(range(gate.n_wires)), angle=0.5 if gate.n_parameters else None)
        for gate in GATES.values()
        if gate.n_parameters < 2
    ]
    figure = Circuit(2, tuple(operations)).draw_mpl()
    assert figure.get_size_inches().max() < 30


def test_circuits_import_neither_jax_nor_matplotlib_and_pictures_no_pyplot():
    # In a fresh interpreter: this one has long imported everything.
    code = """
import sys, types
import importlib.util as u
# The folder alone, without qdeq/__init__.py, which exports the JAX side of the library too.
package = types.ModuleType("qdeq")
package.__path__ = list(u.find_spec("qdeq").submodule_search_locations)
sys.modules["qdeq"] = package
import qdeq.circuits
assert not {"jax", "matplotlib"} & set(sys.modules), "imported too much"
qdeq.circuits.hardware_efficient(2, 1).draw_mpl()
assert "jax" not in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
