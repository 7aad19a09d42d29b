"""Encoding, circuit, observables, noise and fallback as objects go wherever their names go."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from execution_problems import simulator, tiny_inputs

import qdeq
from qdeq.circuits import MeasurementEnsemble, hardware_efficient, xyz_of_every_wire, z_strings
from qdeq.data import from_arrays
from qdeq.devices import estimate, solve_on_device
from qdeq.equilibrium import Equilibrium, Homotopy, Newton, Picard
from qdeq.errors import UserError
from qdeq.models import QuantumModel
from qdeq.runs import evaluate, write_report
from qdeq.runs.circuit import circuit_of
from qdeq.training.config import TrainConfig
from qdeq.training.layer import layer_of
from qdeq.training.state import untrained


class Ladder(qdeq.AngleEncoding):
    """Feature k turns wire k and, half as far, the next one; it is a class of these tests alone."""

    @classmethod
    def of(cls, n_qubits):
        turns = [
            qdeq.Operation(name, ((k + step) % n_qubits,), feature=k, factor=1 / (1 + step))
            for k in range(n_qubits)
            for step, name in enumerate(("RY", "RX"))
        ]
        return cls(n_qubits, tuple(turns))


NOISE = qdeq.parse_noise("readout=0.02")
OBJECTS = {
    "encoding": Ladder.of(3),
    "ansatz": hardware_efficient(3, 1),
    "observables": MeasurementEnsemble(3, ("ZII", "IZI", "IXX")),
    "noise": NOISE,
    "fallback": Picard(1e-3, 1e-3),
}


def config(**changes):
    values = {"epochs": 1, "batch_size": 16, "jacobian_weight": 0.0, "max_steps": 10}
    return TrainConfig(**(values | changes))


def numbers(n=60):
    x = np.random.default_rng(0).normal(size=(n, 3))
    return from_arrays(x, (x[:, 0] > x[:, 1]).astype(int), valid_fraction=0.3, test_fraction=0.3)


def test_objects_are_the_model_that_their_names_mean():
    named = config(
        n_qubits=2, ansatz="hardware-efficient", ansatz_layers=2, noise="readout=0.02", seed=3
    )
    objects = config(
        encoding=qdeq.AmplitudeEncoding(2, 4),
        ansatz=hardware_efficient(2, 2),
        observables=qdeq.z_of_every_wire(2),
        noise=NOISE,
        seed=3,
    )
    one, other = untrained(named, 4, 2), untrained(objects, 4, 2)
    assert jax.tree.structure(one) == jax.tree.structure(other)  # the circuit and all of its parts
    np.testing.assert_array_equal(one.model.theta, other.model.theta)
    assert hash(objects) != hash(named) and objects == config(**objects.objects(), seed=3)


@pytest.mark.parametrize(
    ("name", "n_qubits", "ensemble"),
    [("xyz", 2, xyz_of_every_wire(2)), ("z-pairs", 3, z_strings(3, 2))],
)
def test_observables_have_names(name, n_qubits, ensemble):
    chosen = config(observables=name, n_qubits=n_qubits, ansatz="hardware-efficient")
    model = untrained(chosen, 4, 2).model
    assert model.observables == ensemble
    value = model(jnp.zeros(ensemble.n_observables), jnp.arange(4.0))
    assert value.shape == (ensemble.n_observables,)
    assert TrainConfig.from_json(chosen.to_json()) == chosen
    assert chosen.identity()["observables"] == name and "observables" not in config().identity()


def test_sizes_of_parts_must_agree_with_each_other_and_with_the_data():
    for changes, n_features, words in (
        ({"ansatz": hardware_efficient(2, 1)}, 3, "acts on 3 qubits and the circuit on 2"),
        ({"n_qubits": 4, "ansatz": "paper"}, 3, "acts on 3 qubits and the circuit on 4"),
        ({}, 5, "n_features=5: the encoding reads 3 features"),
    ):
        with pytest.raises(UserError, match=words):
            untrained(config(**OBJECTS | changes), n_features, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": 3}, "encoding=3: give an AmplitudeEncoding or an AngleEncoding, or a name"),
        ({"encoding": qdeq.AngleEncoding}, "give an AmplitudeEncoding"),
        ({"ansatz": OBJECTS["encoding"]}, "give a Circuit"),
        ({"ansatz": "deep"}, "hardware-efficient"),
        ({"observables": ("ZI",)}, "give a MeasurementEnsemble"),
        ({"observables": "zzz"}, "choose one of z, z-pairs, z-strings, xyz"),
        ({"noise": 0.1}, "give a NoiseModel or a text"),
        ({"noise": NOISE, "method": "statevector"}, "knows no mixtures"),
        ({"fallback": qdeq.Implicit()}, "give a solver object"),
        ({"ansatz": hardware_efficient(2, 1), "trainable": "published"}, "paper's circuits"),
    ],
)
def test_what_is_no_such_object_is_one_clear_line(changes, words):
    with pytest.raises(UserError) as caught:
        config(**changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_fallback_object_solves_what_the_solver_leaves_over():
    assert layer_of(config(fallback=Newton(1e-4, 1e-4))).fallback == Newton(1e-4, 1e-4)
    assert isinstance(layer_of(config()).fallback, Homotopy)
    # A homotopy does not fall back to itself; another solver may serve it.
    assert layer_of(config(solver="homotopy")).fallback is None
    assert layer_of(config(solver="homotopy", fallback=Newton())).fallback == Newton()
    for changes in ({"fallback": "none"}, {"random_steps_minus": 2}, {"adjoint": "unrolled"}):
        assert layer_of(config(**{"fallback": Newton()} | changes)).fallback is None


def test_an_encoding_of_ones_own_is_solved_here_and_on_devices_and_has_a_cost(x64):
    circuit = hardware_efficient(3, 1)
    rng = np.random.default_rng(1)
    model = QuantumModel(
        jnp.asarray(rng.normal(size=circuit.n_parameters)),
        circuit,
        encoding=Ladder.of(3),
        observables=OBJECTS["observables"],
        reinjection=jnp.asarray(0.2 * rng.normal(size=(3, 3))),
    )
    x = tiny_inputs(2)
    here = jax.vmap(lambda x: Equilibrium(Picard())(model, jnp.zeros(3), x))(jnp.asarray(x))
    there = solve_on_device(model, simulator(model), x, solver=Picard(), max_steps=60)
    assert there.converged.all() and np.asarray(here.stats.converged).all()
    np.testing.assert_allclose(here.value, there.value, atol=1e-4)  # two tolerances of 1e-5
    # Six rotations by features, two evaluations for each, and the unshifted one.
    assert estimate(model, steps=2).training_step(1).by_purpose["input gradient"] == 2 * 13


@pytest.mark.slow  # trains
def test_the_estimator_takes_all_of_them():
    data = numbers().train
    settings = {"epochs": 1, "batch_size": 16, "max_steps": 10, "random_state": 0}
    fitted = qdeq.QDEQClassifier(**OBJECTS, **settings).fit(data.x, data.y)
    model = fitted.classifier_.model
    assert (model.encoding, model.observables) == (OBJECTS["encoding"], OBJECTS["observables"])
    assert fitted.n_qubits_ == 3 and fitted.config_.fallback == OBJECTS["fallback"]
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(data.x), fitted.predict_proba(data.x))


@pytest.mark.slow  # trains
def test_a_run_takes_objects_and_its_folder_asks_for_them_again(tmp_path):
    chosen, data = config(**OBJECTS), numbers()
    run = qdeq.train(chosen, dataset=data, out=tmp_path / "own")
    model, x = run.classifier.model, data.test.x
    assert model.encoding == Ladder.of(3) and model.observables == OBJECTS["observables"]
    assert run.summary.n_qubits == 3 and run.summary.encoding.startswith("own: Ladder(")
    expected = run.predict_proba(x)
    again = qdeq.load(tmp_path / "own", config=chosen)
    np.testing.assert_array_equal(again.predict_proba(x), expected)
    found = evaluate(tmp_path / "own", dataset=data, config=chosen)
    assert found.accuracy == run.summary.test_accuracy and found.noise.startswith("own: ")
    noisy = evaluate(
        tmp_path / "own", dataset=data, config=chosen, solver=Picard(), noise=qdeq.NoiseModel()
    )
    assert noisy.solver.startswith("own: Picard(") and noisy.noise.startswith("own: NoiseModel(")
    # Every folder may be drawn again, with the objects and (but for the circuit) without.
    names = {path.name for path in write_report(tmp_path / "own", config=chosen)}
    assert "circuit.png" in names
    assert "report.html" in {path.name for path in write_report(tmp_path / "own")}
    with pytest.raises(UserError, match=r"encoding='own: Ladder.*given again: config=Train"):
        qdeq.load(tmp_path / "own")
    with pytest.raises(UserError, match="given in Python; draw the circuit there"):
        circuit_of(run.folder.read_config(), run.summary)
    with pytest.raises(UserError, match=r"noise='own: NoiseModel.*given again"):
        evaluate(tmp_path / "own", dataset=data, config=chosen.replace(noise=""))
