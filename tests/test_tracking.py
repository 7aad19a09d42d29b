"""A run as those see it who follow it: an object of one's own, TensorBoard, MLflow, W&B offline."""

import json
import warnings

import numpy as np
import pytest
from fake_trainer import FakeTrainer

from qdeq.cli import main
from qdeq.errors import UserError
from qdeq.runs import run as run_module
from qdeq.runs import session
from qdeq.training.config import TrainConfig


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Replace the compiled loop and work in an empty folder."""

    class Trainer(FakeTrainer):
        pass

    monkeypatch.setattr(session, "Trainer", Trainer)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])
    monkeypatch.chdir(tmp_path)
    return Trainer


class Notes:
    """A tracker of somebody's own, which fails where it is told to."""

    def __init__(self, fails_in=None):
        self.heard, self.fails_in = [], fails_in

    def _hear(self, what, run, *more):
        if what == self.fails_in:
            raise OSError("disk\nfull")
        self.heard.append((what, run.config["seed"], *more))

    def start(self, run):
        self._hear("start", run, run.epochs_done)

    def epoch(self, run, metrics):
        self._hear("epoch", run, metrics["epoch"])

    def end(self, run, summary, artefacts):
        done = None if summary is None else summary["epochs"]
        self._hear("end", run, done, sorted(path.name for path in artefacts))


FILES = ["config.json", "metrics.jsonl", "model.safetensors", "summary.json"]


def test_an_object_hears_of_start_every_epoch_and_end(fake):
    notes = Notes()
    run_module.train(TrainConfig(epochs=2, seed=3), out="run", track=notes)
    assert notes.heard == [
        ("start", 3, 0),
        ("epoch", 3, 1),
        ("epoch", 3, 2),
        ("end", 3, 2, FILES),
    ]


def test_every_seed_is_a_run_and_several_trackers_may_listen(fake):
    first, second = Notes(), Notes()
    run_module.train(TrainConfig(epochs=1), seeds=[4, 7], out="run", track=[first, second])
    assert first.heard == second.heard
    assert [(what, seed) for what, seed, *_ in first.heard] == [
        (what, seed) for what in ("start", "epoch", "end") for seed in (4, 7)
    ]


def test_a_run_that_is_stopped_ends_without_a_summary_and_goes_on(fake):
    fake.interrupt_in_epoch = 2
    notes = Notes()
    with pytest.raises(session.TrainingInterrupted):
        run_module.train(TrainConfig(epochs=3), out="run", track=notes)
    assert notes.heard[-1] == ("end", 0, None, [])
    fake.interrupt_in_epoch = None
    again = Notes()
    run_module.resume("run", track=again)
    assert [h[2] for h in again.heard] == [1, 2, 3, 3]


@pytest.mark.parametrize("where", ["epoch", "end"])
def test_a_tracker_that_fails_costs_one_line_and_not_the_run(fake, where):
    notes = Notes(fails_in=where)
    with pytest.warns(UserWarning, match="disk full; the run goes on without it") as caught:
        run = run_module.train(TrainConfig(epochs=3), out="run", track=notes)
    assert len(caught) == 1 and run.summary.epochs == 3


def test_a_tracker_that_cannot_begin_is_an_error_before_anything_is_trained(fake):
    with pytest.raises(UserError, match="cannot begin"):
        run_module.train(TrainConfig(epochs=3), out="run", track=Notes(fails_in="start"))


@pytest.mark.parametrize("track", ["tensorbord", 3, object(), ["mlflow", "x"]])
def test_what_cannot_track_is_refused_before_a_folder_is_made(fake, tmp_path, track):
    with pytest.raises(UserError, match=r"tensorboard, mlflow, wandb"):
        run_module.train(TrainConfig(epochs=1), out="run", track=track)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_package_that_is_missing_is_one_line_that_says_what_to_install(
    fake, tmp_path, monkeypatch, capsys, name
):
    monkeypatch.setitem(
        __import__("sys").modules, {"tensorboard": "tensorboardX"}.get(name, name), None
    )
    assert main(["train", "--track", name, "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'pip install "qdeq[{name}]"' in line and not (tmp_path / "run").exists()


def metrics_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def scalars(folder):
    """Name to (step, value) pairs of a folder's event files, read by their own record format."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    from tensorboardX.record_writer import masked_crc32c

    found = {}
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its checksum, record, its checksum
            size = int.from_bytes(content[at : at + 8], "little")
            record = content[at + 12 : at + 12 + size]
            check = int.from_bytes(content[at + 12 + size : at + 16 + size], "little")
            assert check == masked_crc32c(record)
            event, at = proto.Event.FromString(record), at + 16 + size
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_reads_every_epoch_of_a_resumed_run(fake, tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    fake.interrupt_in_epoch = 2
    assert main(["train", "--epochs", "3", "--out", "run", "--track", "tensorboard"]) == 130
    fake.interrupt_in_epoch = None
    assert main(["train", "--resume", "run"]) == 0
    lines = metrics_of(tmp_path / "run/metrics.jsonl")
    found = scalars(tmp_path / "run" / "tensorboard")
    for name in ("train_loss", "valid_accuracy", "solver_steps_mean"):
        told = [found[name][step] for step in (1, 2, 3)]
        np.testing.assert_allclose(told, [line[name] for line in lines], rtol=1e-6)
    assert "residual_max" not in found  # not a number in any epoch
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert found["summary/test_accuracy"][3] == pytest.approx(summary["test_accuracy"])


def test_mlflow_has_one_finished_run_a_seed_below_one_of_all(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # importing it would reach out
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    fake.interrupt_in_epoch = 2
    words = ["train", "--epochs", "3", "--seeds", "0,5", "--out", "run", "--track", "mlflow"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own dependencies
        assert main(words) == 130
        fake.interrupt_in_epoch = None
        assert main(["train", "--resume", "run"]) == 0
        client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
        number = client.get_experiment_by_name("qdeq").experiment_id
        runs = {run.info.run_name: run for run in client.search_runs([number])}
        assert set(runs) == {"run", "run-seed-0", "run-seed-5"}
        child = runs["run-seed-5"]
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        assert child.data.tags["mlflow.parentRunId"] == runs["run"].info.run_id
        assert child.data.params["seed"] == "5" and child.data.params["solver"] == "broyden"
        history = client.get_metric_history(child.info.run_id, "train_loss")
        lines = metrics_of(tmp_path / "run/seed-5/metrics.jsonl")
        assert [(m.step, m.value) for m in history] == [
            (m["epoch"], m["train_loss"]) for m in lines
        ]
        assert set(FILES) <= {file.path for file in client.list_artifacts(child.info.run_id)}


def records(content):
    """Of the log format of LevelDB: blocks of 32 KiB, pieces with checksum, length and kind."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or the last piece
            yield whole
            whole = b""


@pytest.mark.slow
def test_weights_and_biases_offline_has_a_run_that_can_be_synced(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["train", "--epochs", "2", "--out", "run", "--track", "wandb"]) == 0
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    rows, ids = [], set()
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
        if record.WhichOneof("record_type") == "run":
            ids.add(record.run.run_id)
    lines = metrics_of(tmp_path / "run/metrics.jsonl")
    assert [row["train_loss"] for row in rows] == [line["train_loss"] for line in lines]
    assert ids == {json.loads((tmp_path / "run/tracking.json").read_text())["id"]}
