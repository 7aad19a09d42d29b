"""`qdeq export`: a run's circuit and manifest are enough to classify without qdeq."""

import json
from dataclasses import replace

import jax
import numpy as np
import oracle
import pytest

from qdeq import UserError
from qdeq.circuits import xyz_of_every_wire
from qdeq.cli.main import main
from qdeq.interop.qasm.export import TrainedRun, export_run, open_run, write_export
from qdeq.models import Classifier, Injection, QuantumModel
from qdeq.runs.dataset import load_dataset
from qdeq.runs.run_folder import RunFolder
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer

qiskit = pytest.importorskip("qiskit")
pytest.importorskip("qiskit_qasm3_import")
from qiskit import qasm3  # noqa: E402
from qiskit.quantum_info import Operator  # noqa: E402


@pytest.fixture(scope="module", params=["angle", "amplitude"])
def run_folder(request, tmp_path_factory):
    """A run with random angles: exporting does not ask how good they are."""
    config = TrainConfig(encoding=request.param, mode="direct", layers=2, seed=3)  # compiles fast
    folder = RunFolder.create(tmp_path_factory.mktemp("run"))
    folder.write_config(config)
    folder.save_model(Trainer(config, load_dataset(config)).init().best_classifier)
    return folder


@pytest.fixture(scope="module")
def run(run_folder):
    return open_run(run_folder.path)


def classify(manifest, text, features):
    """What a reader of the manifest writes: Qiskit and NumPy, nothing of qdeq."""
    circuit = qasm3.loads(text)
    features, r = np.array(features), np.array(manifest["reinjection"])
    values = {i["name"]: i["value"] for i in manifest["inputs"] if "value" in i}

    def f(m, encoder_inputs=None):
        inputs = features + r @ m if encoder_inputs is None else encoder_inputs
        others = [i["name"] for i in manifest["inputs"] if "value" not in i]
        assigned = values | {
            name: inputs[i["index"]]
            for name, i in ((i["name"], i) for i in manifest["inputs"])
            if name in others
        }
        state = Operator(circuit.assign_parameters(assigned).reverse_bits()).data[:, 0]
        return oracle.expectation_values(manifest["observables"], state)

    return f


@pytest.mark.slow
def test_the_files_give_the_samples_measured_state_and_class(run):
    files = export_run(run, samples=3)
    manifest = json.loads(files["manifest.json"])
    angle = run.config.encoding == "angle"
    for sample in manifest["samples"]:
        f = classify(manifest, files["circuit.qasm"], sample["features"])
        m = np.array(sample["measured_state"])
        # Features are v itself only where they are angles.
        value = f(m) if angle else f(m, sample["encoder_inputs"])
        np.testing.assert_allclose(value, sample["expectation_values"], atol=1e-5)
        head, r = manifest["head"], np.array(manifest["reinjection"])
        logits = np.array(head["weight"]) @ np.maximum(r @ m, 0) + head["bias"]
        assert manifest["classes"][np.argmax(logits)] == sample["predicted"]


@pytest.mark.slow  # compiles a solve of its own
@pytest.mark.parametrize("run_folder", ["angle"], indirect=True)
def test_an_injection_of_ones_own_is_in_the_manifest(run):
    made = Injection.random(16, 16, 4, key=jax.random.key(1), bound=0.3)
    model = run.classifier.model
    own = QuantumModel(model.theta, measured=model.measured, injection=made)
    classifier = Classifier(own, 4, key=jax.random.key(0))
    files = export_run(TrainedRun(run.path, run.config, run.dataset, classifier), samples=2)
    manifest = json.loads(files["manifest.json"])
    u, w, b = (np.array(manifest[name]) for name in ("input", "reinjection", "bias"))
    assert np.linalg.norm(w, 2) == pytest.approx(0.3, rel=1e-5)  # as the model has it
    for sample in manifest["samples"]:
        m = np.array(sample["measured_state"])
        v = u @ sample["features"] + w @ m + b
        np.testing.assert_allclose(sample["encoder_inputs"], v, atol=1e-5)
        f = classify(manifest, files["circuit.qasm"], v)
        np.testing.assert_allclose(f(0 * m), sample["expectation_values"], atol=1e-5)
        logits = np.array(manifest["head"]["weight"]) @ np.maximum(m, 0) + manifest["head"]["bias"]
        assert manifest["classes"][np.argmax(logits)] == sample["predicted"]
    assert "max(m, 0)" in manifest["head"]["map"] and "U x" in manifest["encoding"]["map"]


def test_the_inputs_are_listed_in_qiskits_order(run):
    files = export_run(run, samples=0)
    # A reader of the program alone learns what its inputs prepare.
    prepares = "prepare the amplitudes" in files["circuit.qasm"]
    assert prepares == ("input float[64] a_0" in files["circuit.qasm"])
    names = [entry["name"] for entry in json.loads(files["manifest.json"])["inputs"]]
    read = qasm3.loads(files["circuit.qasm"])
    assert names == [parameter.name for parameter in read.parameters]


def test_bound_angles_leave_only_the_encoding_open(run):
    files = export_run(run, bind=True, measure=True, samples=0, shots=500)
    manifest = json.loads(files["manifest.json"])
    read = qasm3.loads(files["circuit.qasm"])
    open_inputs = [parameter.name for parameter in read.parameters]
    assert open_inputs == [entry["name"] for entry in manifest["inputs"]]
    assert all(name[0] in "ax" for name in open_inputs)
    assert read.count_ops()["measure"] == 4
    assert manifest["shots"] == 500
    free = qasm3.loads(export_run(run, samples=0)["circuit.qasm"])
    theta = {f"t_{i:03d}": float(t) for i, t in enumerate(run.classifier.model.theta)}
    point = dict.fromkeys(open_inputs, 0.3)
    read.remove_final_measurements()
    left = Operator(read.assign_parameters(point)).data
    right = Operator(free.assign_parameters(theta | point)).data
    assert abs(abs(np.vdot(left, right)) / len(left) - 1) < 1e-10


def test_preprocessing_turns_an_image_into_features(run):
    from sklearn.datasets import load_digits

    preprocessing = json.loads(export_run(run, samples=0)["manifest.json"])["preprocessing"]
    images, labels = load_digits(return_X_y=True)
    images = images[np.isin(labels, preprocessing["labels"])].reshape(-1, 8, 8)
    pool = np.array(preprocessing["P"])
    light = (images / preprocessing["white"] - preprocessing["mean"]) / preprocessing["deviation"]
    features = (pool @ light @ pool.T).reshape(len(images), -1)
    for row in run.dataset.test.x[:5]:
        assert np.abs(features - row).max(axis=1).min() < 1e-5


def test_a_program_per_setting_and_a_head_without_weights(run):
    model = run.classifier.model
    circuit = model.circuit
    xyz = QuantumModel(
        model.theta, circuit, encoding=model.encoding, observables=xyz_of_every_wire(4)
    )
    headless = Classifier(xyz, 4, head="none", key=jax.random.key(0))
    files = export_run(
        TrainedRun(run.path, run.config, run.dataset, headless), measure=True, samples=0
    )
    manifest = json.loads(files["manifest.json"])
    assert sorted(files) == [f"circuit-{k}.qasm" for k in range(3)] + ["manifest.json"]
    assert [setting["basis"] for setting in manifest["settings"]] == ["XXXX", "YYYY", "ZZZZ"]
    assert [setting["program"] for setting in manifest["settings"]] == manifest["programs"]
    assert manifest["head"]["weight"] is None


def test_solver_and_learnt_features_are_described(run):
    direct = json.loads(export_run(run, samples=0)["manifest.json"])
    assert direct["solver"]["layers"] == 2
    config = run.config.replace(mode="implicit", features="pca")
    implicit = json.loads(export_run(replace(run, config=config), samples=0)["manifest.json"])
    assert implicit["solver"]["tolerance"] == 1e-5
    assert implicit["preprocessing"]["load"]["features"] == "pca"


@pytest.mark.parametrize("run_folder", ["angle"], indirect=True)
def test_the_command_writes_once_and_never_over_a_file(run_folder, capsys):
    path = str(run_folder.path)
    assert main(["export", path, "--samples", "0"]) == 0
    written = capsys.readouterr().out.split()
    assert [name.rsplit("/", 1)[1] for name in written] == ["circuit.qasm", "manifest.json"]
    assert main(["export", path]) == 2
    error = capsys.readouterr().err
    assert "circuit.qasm is there already" in error and error.count("\n") == 1


def test_wrong_arguments_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="samples=-1"):
        export_run(run, samples=-1)
    with pytest.raises(UserError, match="shots=0"):
        export_run(run, shots=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_export({"a": ""}, tmp_path / "file" / "folder")
