"""A run ends with the same model whether or not it was interrupted, and judges it once."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from fake_trainer import FakeTrainer

from qdeq.data import from_arrays
from qdeq.errors import UserError
from qdeq.runs import session
from qdeq.runs.certify import certify_run
from qdeq.runs.evaluation import evaluate
from qdeq.runs.report import write_report
from qdeq.runs.report_data import add_details
from qdeq.runs.run import TrainingInterrupted, resume, train
from qdeq.runs.run_folder import RunFolder
from qdeq.training.config import TrainConfig

CONFIG = TrainConfig(epochs=5, warmup_epochs=2)
TIMES = {"run", "compile_seconds", "train_seconds", "peak_memory_mb"}


@pytest.fixture
def fake(monkeypatch):
    """Replace the compiled loop, and write a checkpoint after every epoch however fast it is."""

    class Trainer(FakeTrainer):
        pass

    monkeypatch.setattr(session, "Trainer", Trainer)
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])  # a second per run
    return Trainer


def same_run(first, second):
    """Whether two finished runs have equal models and equal results, apart from times."""
    results = []
    for summary in (first, second):
        results.append({k: v for k, v in dataclasses.asdict(summary).items() if k not in TIMES})
    models = [(RunFolder(Path(s.run)).model_path).read_bytes() for s in (first, second)]
    return results[0] == results[1] and models[0] == models[1]


def stop_after(number):
    def on_epoch(metrics):
        if metrics["epoch"] == number:
            raise KeyboardInterrupt

    return on_epoch


def test_a_run_writes_every_file_of_its_folder(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "write_report", write_report)
    stages, epochs = [], []
    run = train(CONFIG, out=tmp_path / "a", on_stage=stages.append, on_epoch=epochs.append)
    summary = run.summary
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "checkpoint",
        "figures",
        "report.html",
        "report.json",
        "summary.json",
    }
    pictures = {path.name for path in (tmp_path / "a" / "figures").iterdir()}
    assert pictures == {"training.png", "residual.png", "confusion.png", "circuit.png"}
    assert stages == ["loading data", *["compiling", "training"] * 2, "evaluating", "drawing"]
    assert [metrics["epoch"] for metrics in epochs] == [1, 2, 3, 4, 5]
    assert RunFolder.open(tmp_path / "a").read_config() == CONFIG
    assert RunFolder.open(tmp_path / "a").read_summary().run == summary.run


def test_the_summary_has_the_keys_that_scripts_rely_on(fake, tmp_path):
    train(CONFIG, out=tmp_path / "a")
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    promised = (
        "dataset n_qubits encoding mode solver adjoint seed n_parameters epochs train_accuracy "
        "valid_accuracy test_accuracy residual_mean residual_max converged_fraction "
        "solver_steps_mean circuit_executions train_seconds compile_seconds peak_memory_mb versions"
    )
    assert set(promised.split()) <= set(summary)
    assert (summary["n_parameters"], summary["n_head_parameters"]) == (39, 68)
    assert summary["circuit_executions"] == 5 * 1000
    assert summary["train_seconds"] == 5 * 0.5
    assert summary["compile_seconds"] == 5 * 0.25
    assert summary["best_epoch"] == 5
    assert summary["residual_trace"] == [1.0, 1e-3, 1e-6, None]


def test_the_test_split_is_used_once(fake, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        fake, "evaluate", lambda *a: sizes.append(len(a[2].y)) or FakeTrainer.evaluate(*a)
    )
    train(CONFIG, out=tmp_path / "a")
    assert len(sizes) == 3 and len(set(sizes)) == 3  # train, valid, test


def test_a_loss_that_is_not_finite_ends_the_run_with_the_best_model_so_far(fake, tmp_path):
    fake.diverge_in_epoch = {0: 4}
    summary = train(CONFIG, out=tmp_path / "run").summary
    assert (summary.epochs, summary.best_epoch) == (4, 3)
    assert summary.stopped.startswith("epoch 4: the training loss and the gradient are not finite")
    folder = RunFolder.open(tmp_path / "run")
    assert folder.read_summary() == summary
    assert len(folder.read_metrics(epochs=4)) == 4
    # A run that has diverged is judged again, and not trained on from numbers that are not finite.
    again = resume(tmp_path / "run", epochs=9).summary
    assert (again.epochs, again.stopped) == (4, summary.stopped)


def test_summaries_of_runs_before_divergence_was_noted_can_be_read(fake, tmp_path):
    train(CONFIG, out=tmp_path / "run")
    path = RunFolder(tmp_path / "run").summary_path
    values = json.loads(path.read_text())
    assert values.pop("stopped") == ""
    path.write_text(json.dumps(values))
    assert RunFolder(tmp_path / "run").read_summary().stopped == ""


@pytest.mark.parametrize("where", ["between epochs", "in mid-epoch"])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(fake, tmp_path, where):
    whole = train(CONFIG, out=tmp_path / "whole").summary
    if where == "in mid-epoch":
        fake.interrupt_in_epoch = 3
    with pytest.raises(TrainingInterrupted, match="--resume") as caught:
        train(CONFIG, out=tmp_path / "parts", on_epoch=stop_after(2))
    assert (caught.value.epoch, caught.value.run) == (2, tmp_path / "parts")
    fake.interrupt_in_epoch = None
    assert same_run(whole, resume(tmp_path / "parts").summary)
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]


def test_a_run_that_was_killed_between_checkpoints_repeats_the_lost_epochs(
    fake, tmp_path, monkeypatch
):
    whole = train(CONFIG, out=tmp_path / "whole").summary
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_CHECKPOINTS", 1e9)

    def die(metrics):
        if metrics["epoch"] == 4:
            raise MemoryError  # like kill -9: nothing of ours runs any more

    with pytest.raises(MemoryError):
        train(CONFIG, out=tmp_path / "parts", on_epoch=die)
    folder = RunFolder.open(tmp_path / "parts")
    assert folder.read_checkpoint().epoch == 0
    assert len(folder.metrics_path.read_text().splitlines()) == 4
    assert same_run(whole, resume(tmp_path / "parts").summary)
    assert len(folder.metrics_path.read_text().splitlines()) == 5


def test_a_run_without_a_checkpoint_starts_again(fake, tmp_path):
    whole = train(CONFIG, out=tmp_path / "whole").summary
    RunFolder.create(tmp_path / "parts").write_config(CONFIG)
    assert same_run(whole, resume(tmp_path / "parts").summary)


@pytest.mark.parametrize("epochs", [4, 7])
@pytest.mark.parametrize("seeds", [None, [0, 1]])
def test_a_run_whose_step_size_falls_over_its_epochs_says_that_more_are_another_run(
    fake, tmp_path, epochs, seeds
):
    # A run of that number would have had other step sizes from its first epoch on.
    with pytest.raises(TrainingInterrupted):
        train(
            CONFIG.replace(schedule="cosine"),
            seeds=seeds,
            out=tmp_path / "run",
            on_epoch=stop_after(3),
        )
    with pytest.warns(UserWarning, match=f"epochs={epochs}: with schedule='cosine' .* 5 epochs"):
        assert resume(tmp_path / "run", epochs=epochs).summary.epochs == epochs


def test_a_finished_run_can_be_extended(fake, tmp_path):
    whole = train(CONFIG.replace(epochs=7), out=tmp_path / "whole").summary
    train(CONFIG, out=tmp_path / "parts")
    assert same_run(whole, resume(tmp_path / "parts", epochs=7).summary)
    assert RunFolder.open(tmp_path / "parts").read_config().epochs == 7
    with pytest.raises(UserError, match="finished 7 epochs"):
        resume(tmp_path / "parts", epochs=6)


@pytest.mark.parametrize("seeds", [None, [0, 1]])
def test_a_finished_run_that_goes_on_has_no_results_until_it_is_finished_again(
    fake, tmp_path, seeds
):
    train(CONFIG, seeds=seeds, out=tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    before = folder.read_summary()
    assert resume(folder.path).summary.test_accuracy == before.test_accuracy
    with pytest.raises(TrainingInterrupted):
        resume(folder.path, epochs=8, on_epoch=stop_after(6))
    for own in (folder, *folder.seed_folders()):
        with pytest.raises(UserError, match="the run is not finished"):
            own.read_summary()
    assert resume(folder.path).summary.epochs == 8


def test_a_run_goes_on_and_is_judged_with_the_data_set_that_it_began_with(fake, tmp_path):
    x = np.random.default_rng(0).normal(size=(120, 16))

    def data(y):
        return from_arrays(x, y, task="regression" if y.ndim == 2 else "classification")

    classes, numbers = np.arange(120) % 4, x[:, :1]
    for y, others in (
        (classes, (classes[::-1], numbers)),
        (numbers, (2 * numbers, numbers + 1, x[:, :2], classes)),
    ):
        out = tmp_path / str(y.ndim)
        train(CONFIG, dataset=data(y), seeds=[0, 1], out=out)
        for other in others:
            with pytest.raises(UserError, match=r"dataset=.* was trained on"):
                resume(out, dataset=data(other), epochs=6)
            for again in (evaluate, certify_run, add_details):
                with pytest.raises(UserError, match=r"dataset=.* was trained on"):
                    again(out, dataset=data(other))
        assert resume(out, dataset=data(y), epochs=6).summary.epochs == 6


def test_sigterm_is_an_interrupt_during_training_and_only_then(fake, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted):
        train(CONFIG, out=tmp_path / "a", on_epoch=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before
    assert RunFolder.open(tmp_path / "a").read_checkpoint().epoch == 1


def test_a_mistake_in_the_configuration_leaves_no_folder(fake, tmp_path):
    with pytest.raises(UserError):
        train(CONFIG.replace(n_features=15), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_saved_run_is_evaluated_on_any_split(fake, tmp_path):
    summary = train(CONFIG, out=tmp_path / "a").summary
    test = evaluate(tmp_path / "a")
    assert (test.accuracy, test.confusion_matrix) == (
        summary.test_accuracy,
        summary.confusion_matrix,
    )
    assert evaluate(tmp_path / "a", split="train").n_samples > test.n_samples
    with pytest.raises(UserError, match="choose one of test, valid, train"):
        evaluate(tmp_path / "a", split="all")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_the_compiled_loop_resumes_bit_by_bit(monkeypatch, tmp_path):
    # The one test here with the real epochs: one of warm-up, one that leaves equilibria to start
    # from, an interrupt, and one beyond it. What is cheapest to compile stands in for the rest;
    # evaluation has no part in the question.
    class Trainer(session.Trainer):
        evaluate = FakeTrainer.evaluate
        evaluate_seeds = FakeTrainer.evaluate_seeds

    monkeypatch.setattr(session, "Trainer", Trainer)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])
    config = TrainConfig(
        epochs=3,
        warmup_epochs=1,
        warmup_layers=1,
        solver="picard",
        adjoint="jacobian-free",
        jacobian_weight=0.0,
        start="previous",
    )
    whole = train(config, out=tmp_path / "whole").summary
    with pytest.raises(TrainingInterrupted):
        train(config, out=tmp_path / "parts", on_epoch=stop_after(2))
    assert same_run(whole, resume(tmp_path / "parts").summary)
    first, second = (
        RunFolder(tmp_path / name).read_checkpoint().arrays for name in ("whole", "parts")
    )
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.any(first["starts"])
