"""The measured circuit: encoding, circuit, observables and noise as one value."""

import dataclasses
import pickle

import jax
import pytest

import qdeq
from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasuredCircuit,
    NoiseModel,
    Operation,
    hardware_efficient,
    parse_noise,
    z_of_every_wire,
)
from qdeq.devices import CircuitCost
from qdeq.errors import UserError
from qdeq.lowering import Program
from qdeq.models import QuantumModel

NOISE = parse_noise("depolarising=0.01,readout@1=0.02")
CIRCUIT = hardware_efficient(2, 1)
ENCODING = AmplitudeEncoding(2, 4)
OBSERVABLES = z_of_every_wire(2)


def measured(noise=None):
    return MeasuredCircuit(CIRCUIT, ENCODING, OBSERVABLES, noise)


def test_equal_values_hash_alike_and_survive_copies():
    for noise in (None, NOISE):
        twin = pickle.loads(pickle.dumps(measured(noise)))
        assert twin == measured(noise) and hash(twin) == hash(measured(noise))
    assert measured(NOISE) != measured()


def test_a_model_without_rules_is_a_perfect_device():
    assert measured(NoiseModel()) == measured()


def test_its_sizes_are_those_of_its_parts():
    whole = measured()
    sizes = (whole.n_qubits, whole.n_features, whole.n_observables, whole.n_parameters)
    assert sizes == (2, 4, 2, CIRCUIT.n_parameters)
    assert whole.n_settings == 1


def test_it_is_drawn_with_what_stands_around_the_circuit():
    assert measured().draw() == CIRCUIT.draw(encoding=ENCODING, observables=OBSERVABLES)
    assert measured().draw_mpl().axes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": AmplitudeEncoding(3, 4)}, "encoding acts on 3 qubits and the circuit on 2"),
        ({"observables": z_of_every_wire(1)}, "observables acts on 1 qubits and the circuit on 2"),
        ({"circuit": Circuit(2, (Operation("RX", (0,), feature=4),))}, "fed by feature 4"),
        ({"noise": "depolarising=0.1"}, "is not a NoiseModel"),
        ({"noise": parse_noise("readout@2=0.1")}, "names wire 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused_whoever_puts_them_together(changes, message):
    parts = {"circuit": CIRCUIT, "encoding": ENCODING, "observables": OBSERVABLES, "noise": None}
    theta = [0.0] * (changes.get("circuit", CIRCUIT)).n_parameters
    with pytest.raises(UserError, match=message):
        MeasuredCircuit(**{**parts, **changes})
    with pytest.raises(UserError, match=message):
        QuantumModel(theta, **{**parts, **changes})
    with pytest.raises(UserError, match=message):
        QuantumModel(theta, measured=measured(), **changes)


def test_a_model_is_built_from_its_parts_or_from_the_whole():
    theta = [0.1] * CIRCUIT.n_parameters
    by_parts = QuantumModel(theta, CIRCUIT, encoding=ENCODING, observables=OBSERVABLES, noise=NOISE)
    whole = QuantumModel(theta, measured=measured(NOISE))
    assert jax.tree.structure(by_parts) == jax.tree.structure(whole)
    assert whole.measured == measured(NOISE)
    parts = (whole.circuit, whole.encoding, whole.observables, whole.noise)
    assert parts == (CIRCUIT, ENCODING, OBSERVABLES, NOISE)


def test_parts_of_a_model_can_be_replaced():
    model = QuantumModel([0.1] * CIRCUIT.n_parameters, measured=measured(NOISE))
    assert dataclasses.replace(model, method="density-matrix").noise == NOISE
    assert dataclasses.replace(model, noise=None).measured == measured()
    other = AngleEncoding.from_rotations(2, [("RY", w, i) for i, w in enumerate((0, 1, 0, 1))])
    assert dataclasses.replace(model, encoding=other).encoding == other


def test_a_model_without_its_parts_is_refused():
    with pytest.raises(UserError, match="circuit, observables left out"):
        QuantumModel([0.1], encoding=ENCODING)


def test_names_give_the_circuit_of_the_papers_model():
    for encoding in ("amplitude", "angle"):
        model = qdeq.paper_model(4, encoding, key=jax.random.key(0))
        assert model.measured == MeasuredCircuit.named(4, encoding)
    with pytest.raises(UserError, match="n_features=15: angle encoding on 4 qubits reads 16"):
        MeasuredCircuit.named(4, "angle", n_features=15)


def test_programs_and_costs_take_a_model_or_what_it_measures():
    model = QuantumModel([0.1] * CIRCUIT.n_parameters, measured=measured())
    assert Program.of(model) == Program.of(measured())
    assert CircuitCost.of(model) == CircuitCost.of(measured())
    with pytest.raises(UserError, match="Circuit has no circuit: give a QuantumModel, a Measured"):
        Program.of(CIRCUIT)
