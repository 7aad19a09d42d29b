"""What takes a circuit says so where it is given something else, and where the circuit is."""

import jax
import pytest

import qdeq
from qdeq.circuits import Circuit, z_of_every_wire
from qdeq.devices import SimulatorExecutor
from qdeq.errors import UserError
from qdeq.interop.qasm import to_qasm3
from qdeq.lowering import Program


def in_qiskit(circuit):
    pytest.importorskip("qiskit")
    from qdeq.interop.qiskit import to_qiskit

    return to_qiskit(circuit)


def in_pennylane(circuit):
    pytest.importorskip("pennylane")
    from qdeq.interop.pennylane import to_pennylane

    return to_pennylane(circuit)


def on_a_device(circuit):
    return SimulatorExecutor(circuit, z_of_every_wire(4))


PLACES = [to_qasm3, in_qiskit, in_pennylane, on_a_device]


@pytest.fixture(scope="module")
def model():
    return qdeq.paper_model(key=jax.random.key(0))


@pytest.mark.parametrize("place", PLACES)
def test_a_model_in_the_place_of_a_circuit_is_told_where_its_circuit_is(place, model):
    for value in (model, model.measured):
        with pytest.raises(UserError, match=f"{type(value).__name__}: give its circuit, or with"):
            place(value)
    place(Program.of(model).circuit)  # the advice


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [None, "paper", 4, z_of_every_wire(4)])
def test_what_is_no_circuit_is_named(place, value):
    with pytest.raises(UserError, match=rf"circuit={type(value).__name__}: give a qdeq\.circuits"):
        place(value)


@pytest.mark.parametrize("value", [None, "z", 4])
def test_what_is_no_ensemble_is_named(value):
    with pytest.raises(UserError, match=rf"observables={type(value).__name__}: give a Measure"):
        SimulatorExecutor(Circuit(4, ()), value)
