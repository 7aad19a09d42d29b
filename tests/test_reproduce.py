"""A table has every row, its numbers are those of its seeds, and no failure is hidden."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from fake_trainer import FakeTrainer

from qdeq.cli import main
from qdeq.errors import UserError
from qdeq.runs import session
from qdeq.runs.run_folder import RunFolder
from qdeq.studies import reproduction, runner, worker
from qdeq.studies.paper import PaperTable
from qdeq.studies.reproduction import reproduce
from qdeq.studies.study import Row, choose_rows
from qdeq.studies.warmup import WarmupStudy, choose

TABLE = PaperTable(data="digits-4", epochs=2, seeds=(0, 1))
NAMES = ("implicit", "direct-1", "direct-10", "qml")
ROWS = ",".join([*(f"amplitude-{name}" for name in NAMES), "logistic"])


class Trainer(FakeTrainer):
    """Accuracies that differ by seed and row, and the failures that a table must survive."""

    def __init__(self, config, dataset, *, layout=None):
        if config.head == "none":
            raise RuntimeError("no head,\nno hope")
        super().__init__(config, dataset, layout=layout)

    def run_epoch_seeds(self, states, *, ended=None):
        states, metrics = super().run_epoch_seeds(states, ended=ended)
        if self.diverges():
            metrics[1]["valid_loss"] = math.nan
        return states, metrics

    def diverges(self):
        return self.config.mode == "direct" and self.config.layers == 10

    def evaluate_seeds(self, classifiers, split, *, phase=None):
        found = super().evaluate_seeds(classifiers, split, phase=phase)
        for seed, numbers in enumerate(found):
            numbers["accuracy"] = 0.5 + 0.1 * seed + 0.01 * self.config.warmup_epochs
            if self.config.mode == "direct":
                numbers["accuracy"] += 0.1 * (1 + seed)
        return found


@pytest.fixture
def computed(monkeypatch):
    """Compute rows in this process with the fake loop; returns the keys that were computed."""
    keys = []

    def launch(folder, on_progress):
        keys.append(folder.name)
        return worker.compute(folder, on_progress)

    monkeypatch.setattr(runner, "in_process", launch)
    monkeypatch.setattr(session, "Trainer", Trainer)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])  # a second per run
    trace = {"median": [1.0, 0.1], "high": [1.0, 0.5]}
    stub = {"n_samples": 4, "tolerance": 1e-5, "solvers": {"picard": trace}}
    monkeypatch.setattr("qdeq.studies.traces.solver_traces", lambda _: stub)
    cost = {"seconds": 0.1, "temporary_mb": 3.0}
    costs = {"depths": [1, 2], "seconds": [0.1, 0.2], "temporary_mb": [1.0, 2.0], "implicit": cost}
    monkeypatch.setattr("qdeq.studies.cost.step_costs", lambda *_: costs)
    return keys


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr(reproduction, "draw_pictures", lambda *_: {})


def by_name(out, group="amplitude"):
    with (out / "results.csv").open(newline="") as file:
        return {r["row"]: r for r in csv.DictReader(file) if r["group"] in (group, "classical")}


def test_a_table_is_written_in_every_form(computed, tmp_path):
    rows = f"{ROWS},amplitude-cost"
    results = reproduce(TABLE, tmp_path, rows=rows, command="qdeq reproduce digits-4")
    assert [row.key for row in results.rows] == [
        *(f"amplitude-{name}" for name in NAMES),
        "classical-logistic",
    ]
    found = by_name(tmp_path)
    implicit, direct = found["implicit"], found["direct-1"]
    assert float(implicit["test_accuracy"]) == pytest.approx(0.55)
    assert float(implicit["test_accuracy_std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert implicit["difference"] == "" and implicit["n_seeds"] == "2"
    # Differences 0.1 and 0.2: mean 0.15, and 12.706 = t(0.975, 1) times their standard error 0.05.
    assert float(direct["difference"]) == pytest.approx(0.15)
    assert float(direct["difference_low"]) == pytest.approx(0.15 - 12.706 * 0.05, abs=1e-4)
    assert direct["reference"] == "amplitude-implicit"
    # 460 samples fit into two batches of 256, two epochs of 1000 executions.
    assert float(implicit["executions_per_training_step"]) == 500
    assert (implicit["trainable_angles"], implicit["classical_parameters"]) == ("39", "68")
    assert (implicit["depth"], implicit["two_qubit_gates"]) == ("27", "17")
    assert float(implicit["train_seconds"]) == 2 * 2 * 0.5
    assert float(found["logistic"]["test_accuracy"]) > 0.9
    assert found["logistic"]["residual_mean"] == ""

    content = json.loads((tmp_path / "results.json").read_text())
    assert content["protocol"]["seeds"] == [0, 1]
    assert [s["test_accuracy"] for s in content["rows"][1]["seeds"]] == [0.6, 0.8]

    markdown = (tmp_path / "table.md").read_text()
    assert "| amplitude | DIRECT 1 | 0.7000 ± 0.1414 | +0.1500 [−0.4853, +0.7853] |" in markdown
    assert "amplitude: IMPLICIT is not shown to beat DIRECT 1" in markdown
    assert "Trained for 2 epochs; the paper's protocol has 100" in markdown
    assert "qdeq reproduce digits-4" in markdown and "jax " in markdown
    assert "- Converged means |f(m) − m| <= 1e-05 + 1e-05 |f(m)|; residuals are" in markdown
    for picture in ("training", "differences", "depth", "solvers", "cost", "confusion", "circuit"):
        assert f"figures/{picture}-amplitude.png" in markdown
        assert (tmp_path / "figures" / f"{picture}-amplitude.png").stat().st_size > 1000

    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7
    assert "src=" in page and "http:" not in page and "https:" not in page


def test_rows_that_fail_are_shown_with_their_reason(computed, without_pictures, tmp_path):
    reproduce(TABLE, tmp_path, rows=ROWS)
    found = by_name(tmp_path)
    assert found["qml"]["status"] == "failed"
    assert found["qml"]["reason"] == "RuntimeError: no head, no hope"
    assert found["qml"]["test_accuracy"] == ""
    markdown = (tmp_path / "table.md").read_text()
    line = next(text for text in markdown.splitlines() if text.startswith("| amplitude | QML"))
    assert "**failed**" in line and "no head, no hope" in line
    # One of two seeds diverged: the other's numbers stand, and the row says so.
    assert found["direct-10"]["status"] == "diverged"
    assert found["direct-10"]["n_seeds"] == "1"
    assert float(found["direct-10"]["test_accuracy"]) == pytest.approx(0.6)
    assert "1 of 2 seeds diverged (seed 1:" in markdown


def test_finished_rows_are_kept_and_failed_ones_tried_again(computed, without_pictures, tmp_path):
    reproduce(TABLE, tmp_path, rows=ROWS)
    first = (tmp_path / "results.json").read_text()
    assert len(computed) == 5  # what was asked for and nothing else
    computed.clear()
    reproduce(TABLE, tmp_path, rows=ROWS)
    assert computed == ["amplitude-qml"]
    assert (tmp_path / "results.json").read_text() == first


def test_another_protocol_or_study_replaces_no_finished_row(computed, without_pictures, tmp_path):
    reproduce(TABLE, tmp_path, rows="amplitude-implicit,amplitude-cost")
    before = (tmp_path / "results.csv").read_text()
    computed.clear()
    for study, rows in (
        (dataclasses.replace(TABLE, epochs=3), "amplitude-implicit"),
        (dataclasses.replace(TABLE, epochs=3), "amplitude-direct-1"),
        (dataclasses.replace(TABLE, seeds=(0, 1, 2)), None),
        (WarmupStudy(data="digits-4", epochs=3, seeds=(0, 1)), None),
    ):
        with pytest.raises(UserError, match="of another study or of other options"):
            reproduce(study, tmp_path, rows=rows)
    assert computed == [] and (tmp_path / "results.csv").read_text() == before
    # Cost of a step does not depend on the number of epochs.
    costs = (
        [r for r in s.rows() if r.kind == "cost"]
        for s in (TABLE, dataclasses.replace(TABLE, epochs=3))
    )
    (first, *_), (other, *_) = costs
    assert first.identity() == other.identity()


def test_rows_that_were_finished_before_stay_in_the_table(computed, without_pictures, tmp_path):
    reproduce(TABLE, tmp_path, rows="amplitude-implicit")
    assert "What holds" not in (tmp_path / "table.md").read_text()  # of a single row nothing yet
    reproduce(TABLE, tmp_path, rows="amplitude-direct-1")
    assert "What holds" in (tmp_path / "table.md").read_text()
    assert list(by_name(tmp_path)) == ["implicit", "direct-1"]
    markdown = (tmp_path / "table.md").read_text()
    assert "have not been computed: amplitude, IMPLICIT+WARMUP (1 epoch of DIRECT 1);" in markdown


def test_processes_compute_different_rows_of_one_folder(computed, without_pictures, tmp_path):
    def meanwhile(*_):
        reproduce(TABLE, tmp_path, rows="amplitude-direct-1")
        with pytest.raises(UserError, match="another process computes amplitude-implicit; wait"):
            reproduce(TABLE, tmp_path)

    reproduce(TABLE, tmp_path, rows="amplitude-implicit", on_row=meanwhile)
    assert list(by_name(tmp_path)) == ["implicit", "direct-1"]
    assert computed == ["amplitude-direct-1", "amplitude-implicit"]


def test_a_killed_row_goes_on_from_its_checkpoint(
    computed, without_pictures, monkeypatch, tmp_path
):
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(Trainer, "interrupt_in_epoch", 2)
    with pytest.raises(KeyboardInterrupt):
        reproduce(TABLE, tmp_path, rows="amplitude-implicit")
    monkeypatch.setattr(Trainer, "interrupt_in_epoch", None)
    # The row's process outlives a study that is killed, for an epoch.
    with RunFolder(tmp_path / "rows" / "amplitude-implicit" / "runs").held():
        reproduce(TABLE, tmp_path, rows="amplitude-implicit")
    assert "another process is training it" in by_name(tmp_path)["implicit"]["reason"]
    epochs = []
    reproduce(
        dataclasses.replace(TABLE, data_dir=str(tmp_path)),  # as where the data have moved
        tmp_path,
        rows="amplitude-implicit",
        on_progress=lambda told: epochs.append(told.get("epoch")),
    )
    assert [epoch for epoch in epochs if epoch] == [2]
    assert float(by_name(tmp_path)["implicit"]["test_accuracy"]) == pytest.approx(0.55)


def test_a_row_whose_process_dies_is_failed(without_pictures, tmp_path):
    def killed(folder, on_progress):
        (folder / "log.txt").write_text("first\nout of memory\n")
        return -9

    reproduce(TABLE, tmp_path, rows="logistic", launch=killed)
    (found,) = by_name(tmp_path).values()
    assert found["status"] == "failed"
    assert "signal 9" in found["reason"] and "out of memory" in found["reason"]


def test_the_warmup_is_chosen_on_validation_data_alone(computed, tmp_path):
    study = WarmupStudy(data="digits-4", epochs=12, seeds=(0, 1))
    results = reproduce(study, tmp_path)
    best = choose(results)
    assert best is not None and best.training.warmup_epochs == 10
    assert [row.training.warmup_epochs for row in results.rows] == [0, 3, 3, 10, 10]
    for path in tmp_path.glob("rows/*/row.json"):
        assert "test" not in "".join(json.loads(path.read_text())["seeds"][0])
    page = (tmp_path / "table.md").read_text()
    assert "| amplitude | 10 epochs of DIRECT 1 | 0.6500 ± 0.0707 |" in page
    assert "Chosen: 10 epochs of DIRECT 1, validation accuracy 0.6500." in page
    assert by_name(tmp_path)["no-warmup"]["valid_accuracy"] != ""


def test_a_warmup_that_diverged_is_not_chosen(computed, monkeypatch, without_pictures, tmp_path):
    monkeypatch.setattr(Trainer, "diverges", lambda self: self.config.warmup_epochs)
    reproduce(WarmupStudy(data="digits-4", epochs=3, seeds=(0, 1)), tmp_path)
    assert "No warm-up has been trained to its end." in (tmp_path / "table.md").read_text()


def reproduced(capsys, monkeypatch, tmp_path, rows):
    """The rows' records after the whole way, command line and processes included."""
    words = f"reproduce digits-4 --epochs 2 --seeds 0:2 --rows {rows} --json --out"
    assert main([*words.split(), str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out)["rows"], captured.err


@pytest.mark.slow
def test_a_row_is_computed_in_a_process_of_its_own(monkeypatch, tmp_path, capsys):
    (found,), shown = reproduced(capsys, monkeypatch, tmp_path, "logistic")
    assert found["status"] == "done", found["reason"]
    assert found["classical_parameters"] == 68 and found["peak_memory_mb"] > 50
    assert "1/1 classical Logistic regression" in shown


@pytest.mark.slow
def test_a_circuit_is_trained_in_a_process_of_its_own(monkeypatch, tmp_path, capsys):
    (found,), _ = reproduced(capsys, monkeypatch, tmp_path, "amplitude-qml")
    assert found["status"] == "done", found["reason"]
    assert found["classical_parameters"] == 0 and found["trainable_angles"] == 39
    assert found["n_seeds"] == 2 and found["solver_steps"] == 1
    assert found["test_accuracy"] > 0.1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("mnist", "mnist is not a study: choose one of mnist-4"),
        ("digits-4 --rows implict", "'implict' is no row of this study"),
        ("digits-4 --rows ,", "name at least one"),
        ("digits-4 --seeds 3:1", "seeds"),
        ("digits-4 --epochs 0", "--epochs 0"),
        ("digits-4 --warmup-epochs 0", "--warmup-epochs 0"),
        ("digits-4 --data mnist-4", "--data cannot be given with digits-4"),
        ("overlap --epochs 3", "--epochs cannot be given with overlap"),
        ("mnist-4 --data-dir nowhere", "does not exist"),
    ],
)
def test_a_mistake_ends_with_one_line(monkeypatch, tmp_path, capsys, command, words):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *command.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qdeq: error: ") and words in line
    assert not list(tmp_path.iterdir())


def test_the_overlap_figure_says_where_the_bound_fails(tmp_path, capsys):
    assert main(["reproduce", "overlap", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "RZ: all 3000 pairs satisfy it" in text and "pairs violate it" in text
    assert (tmp_path / "figures" / "overlap.png").stat().st_size > 1000
    assert "RY RZ RX RY" in (tmp_path / "report.html").read_text()
    found = by_name(tmp_path, group="overlap")
    assert found["RZ"]["violations"] == "0" and int(found["RY"]["violations"]) > 0


@pytest.mark.slow
def test_the_circuits_are_drawn_and_counted(tmp_path, capsys):
    assert main(["reproduce", "circuits", "--rows", "4-qubits", "--out", str(tmp_path)]) == 0
    assert "4 qubits, angle encoding: 39 angles, 17 two-qubit gates" in capsys.readouterr().out
    pictures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert pictures == ["circuit-4-amplitude.png", "circuit-4-angle.png"]


def test_every_row_of_the_paper_and_of_its_reviewers_is_there():
    rows = {data: PaperTable(data=data).rows() for data in ("mnist-4", "mnist-10")}
    names = {data: [r.name for r in found if r.shown] for data, found in rows.items()}
    own = ["implicit", "warmup", "direct-1", "direct-2", "direct-5", "direct-10", "qml"]
    assert names["mnist-4"] == 2 * [*own, "unentangled"] + ["logistic", "mlp"]
    assert names["mnist-10"] == [*own, "qml-pca", "qml-vae", "unentangled", "logistic", "mlp"]
    assert [r.name for r in rows["mnist-4"] if not r.shown] == ["cost", "cost"]


def test_the_default_protocol_is_the_papers():
    implicit = PaperTable(data="mnist-4").rows()[0].training
    assert (implicit.epochs, implicit.batch_size, implicit.learning_rate) == (100, 256, 0.005)
    assert (implicit.gradient_clip, implicit.jacobian_weight) == (0.25, 0.8)
    assert implicit.valid_fraction == 0.2


def test_rows_are_chosen_by_name_in_every_group_or_in_one():
    rows = TABLE.rows()
    keys = [r.key for r in choose_rows(rows, "mlp, implicit,angle-qml")]
    assert keys == ["amplitude-implicit", "angle-implicit", "angle-qml", "classical-mlp"]
    assert choose_rows(rows, None) == rows


def test_a_row_survives_its_task_file():
    for one in TABLE.rows():
        assert Row.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_where_the_data_lie_does_not_change_what_a_row_is():
    here = TABLE.rows()[0]
    there = dataclasses.replace(TABLE, data_dir="x").rows()[0]
    assert here.identity() == there.identity()
    assert "noise" not in here.identity()["config"]  # rows from before noise stay finished


def test_a_row_trained_under_noise_is_another_row():
    clean = TABLE.rows()[0]
    noisy = dataclasses.replace(clean, config=clean.training.replace(noise="dephasing=0.01"))
    assert noisy.identity() != clean.identity()


def test_a_damaged_result_is_computed_again(computed, without_pictures, tmp_path):
    reproduce(TABLE, tmp_path, rows="logistic")
    path = tmp_path / "rows" / "classical-logistic" / "row.json"
    whole = json.loads(path.read_text())
    path.write_text(path.read_text()[:100])
    reproduce(TABLE, tmp_path, rows="logistic")
    assert json.loads(path.read_text())["seeds"] == whole["seeds"]
    assert computed == ["classical-logistic"] * 2


def test_an_out_that_is_a_file_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        reproduce(TABLE, Path(tmp_path / "file"), rows="logistic")


def test_without_two_seeds_nothing_is_claimed(computed, without_pictures, tmp_path):
    table = PaperTable(data="digits-4", epochs=2, seeds=(7,))
    reproduce(table, tmp_path, rows="amplitude-implicit,amplitude-direct-1")
    found = by_name(tmp_path)["direct-1"]
    assert (found["difference_low"], found["test_accuracy_std"]) == ("", "")
    markdown = (tmp_path / "table.md").read_text()
    assert "cannot be said from 1 seed" in markdown and "nan" not in markdown


def test_confusion_matrices_are_not_in_the_readable_json(computed, without_pictures, tmp_path):
    reproduce(TABLE, tmp_path, rows="logistic")
    content = json.loads((tmp_path / "results.json").read_text())
    assert "confusion_matrix" not in content["rows"][0]["seeds"][0]
    stored = json.loads((tmp_path / "rows" / "classical-logistic" / "row.json").read_text())
    assert np.sum(stored["seeds"][0]["confusion_matrix"]) == 145
