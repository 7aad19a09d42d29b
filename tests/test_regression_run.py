"""A run on a regression: its folder, what is loaded and judged, its pictures, export and tables."""

import csv
import json

import numpy as np
import pytest
import sklearn.metrics
from fake_trainer import FakeTrainer

import qdeq
from qdeq.cli import main
from qdeq.data import from_arrays
from qdeq.runs import evaluate, session, sweep
from qdeq.training.config import TrainConfig

RNG = np.random.default_rng(4)
X = RNG.normal(size=(120, 3))
Y = np.stack([500 + 40 * X[:, 0], 1e-3 * np.tanh(X[:, 1])], axis=1)
DATA = from_arrays(X, Y, task="regression", targets=["price", "size"])
CONFIG = TrainConfig(
    mode="direct",
    layers=1,
    encoding="table",
    ansatz="hardware-efficient",
    ansatz_layers=1,
    n_qubits=2,
    observables="xyz",
    head="affine",
    epochs=15,
    batch_size=16,
    learning_rate=0.05,
    dropout=0.0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("regression") / "run"
    return qdeq.train(CONFIG, dataset=DATA, seeds=[0, 1], out=out)


def test_a_summary_has_scores_of_scikit_learn_in_units(run):
    true = DATA.targets.restored(DATA.test.y)
    for seed, summary in enumerate(run.summaries):
        predicted = qdeq.load(run.path / f"seed-{seed}").predict(DATA.test.x)
        assert predicted.shape == true.shape
        assert summary.test_r2 == pytest.approx(sklearn.metrics.r2_score(true, predicted), abs=1e-4)
        mae = sklearn.metrics.mean_absolute_error(true, predicted)
        assert summary.test_mae == pytest.approx(mae, rel=1e-4)
        assert summary.test_r2 > 0.8 and np.isnan(summary.test_accuracy)
    assert run.summary.targets == ["price", "size"] and run.summary.classes == []
    assert run.summary.test_r2 == pytest.approx(np.mean([s.test_r2 for s in run.summaries]))
    kept = json.loads((run.path / "summary.json").read_text())
    assert kept["task"] == "regression" and kept["confusion_matrix"] == []


def test_a_run_is_judged_again_exactly_and_with_shots(run):
    exact = evaluate(run.path / "seed-0", dataset=DATA)
    assert exact.r2 == pytest.approx(run.summaries[0].test_r2, abs=1e-6)
    assert exact.accuracy is None or np.isnan(exact.accuracy)
    assert exact.circuit_executions == 3 * exact.n_samples  # X, Y and Z are measured apart


@pytest.mark.slow  # compiles shots and noise
def test_shots_and_noise_cost_a_regression_its_score(run):
    exact = evaluate(run.path / "seed-0", dataset=DATA)
    many, few = (
        evaluate(run.path / "seed-0", dataset=DATA, shots=shots) for shots in (100_000, 50)
    )
    assert many.r2 == pytest.approx(exact.r2, abs=0.05) and few.r2 < many.r2
    assert many.circuit_executions == exact.circuit_executions
    noisy = evaluate(run.path / "seed-0", dataset=DATA, noise="depolarising=0.2")
    assert noisy.r2 < exact.r2


def test_a_report_of_a_regression_has_its_picture(run):
    report = (run.path / "report.html").read_text()
    assert "test R²" in report and "targets" in report
    assert "accuracy" not in report.lower()
    for folder in (run.path, run.path / "seed-0"):
        names = {path.stem for path in (folder / "figures").glob("*.png")}
        assert "predictions" in names and "confusion" not in names


def test_the_manifest_gives_its_samples_targets_by_numpy_alone(run, tmp_path):
    pytest.importorskip("qiskit")
    from qdeq.interop.qasm.export import TrainedRun, export_run

    one = qdeq.load(run.path / "seed-0")
    trained = TrainedRun(one.path, one.config, DATA, one.classifier)
    manifest = json.loads(export_run(trained, samples=3)["manifest.json"])
    targets = manifest["targets"]
    assert list(targets["names"]) == ["price", "size"]
    scale, mean = np.array(targets["scale"]), np.array(targets["mean"])
    head = manifest["head"]
    for sample in manifest["samples"]:
        m = np.array(sample["measured_state"])
        outputs = (np.array(head["weight"]) @ m + head["bias"]) * scale + mean
        np.testing.assert_allclose(outputs, sample["predicted"], rtol=1e-4, atol=1e-6)


def test_the_command_counts_the_circuits_of_a_regression(run, capsys):
    assert main(["resources", str(run.path / "seed-0")]) == 0
    assert "circuit" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_ranks_regressions_by_r2(tmp_path, monkeypatch):
    class Fake(FakeTrainer):
        def evaluate_seeds(self, classifiers, split):
            rate = self.config.learning_rate
            scores = {"r2": rate, "rmse": 1 - rate, "mae": 1.0}
            return [
                {k: v for k, v in {**found, **scores}.items() if k != "accuracy"}
                | {"predictions": np.zeros((len(split), 1))}
                for found in FakeTrainer.evaluate_seeds(self, classifiers, split)
            ]

    monkeypatch.setattr(session, "Trainer", Fake)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])
    table = np.column_stack([RNG.normal(size=(40, 2)), RNG.normal(size=40)])
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header="a,b,y", comments="")
    base = TrainConfig(data=str(tmp_path / "t.csv"), target="y", task="regression", epochs=2)
    planned = sweep.plan(base, sweep.parse_grid(["learning-rate=0.1,0.3"]), [0, 1], tmp_path / "s")
    results = sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
    assert not any(result.failure for result in results)
    assert [result.task.changes["learning_rate"] for result in results] == [0.3, 0.1]
    rows = list(csv.DictReader((tmp_path / "s" / "results.csv").read_text().splitlines()))
    assert float(rows[0]["valid_r2_mean"]) == 0.3 and "valid_accuracy_mean" not in rows[0]
