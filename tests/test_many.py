"""Seeds that train together end as seeds that train alone, and a run of many resumes bit by bit."""

import json
import math
import re
from typing import ClassVar

import equinox as eqx
import numpy as np
import pytest
from fake_trainer import FakeTrainer

from qdeq.cli import main
from qdeq.data import load
from qdeq.errors import UserError
from qdeq.runs import evaluate, session
from qdeq.runs.run import TrainingInterrupted, resume, train
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.seeds import check_seeds, parse_seeds
from qdeq.runs.summary import Spread
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer
from qdeq.training.parallel import Layout, seeds_at_once

CONFIG = TrainConfig(epochs=5, warmup_epochs=2)
SEEDS = [3, 0, 7]


@pytest.fixture
def fake(monkeypatch):
    """Replace the compiled loop, and write a checkpoint after every epoch however fast it is."""

    class Fake(FakeTrainer):
        pass

    monkeypatch.setattr(session, "Trainer", Fake)
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])  # a second per run
    return Fake


def stop_after(number):
    def on_epoch(metrics):
        if metrics["epoch"] == number:
            raise KeyboardInterrupt

    return on_epoch


def models(path, seeds=SEEDS):
    return [(path / f"seed-{seed}" / "model.safetensors").read_bytes() for seed in seeds]


def test_every_seed_gets_the_run_folder_that_it_gets_alone(fake, tmp_path):
    summaries = train(CONFIG, seeds=SEEDS, out=tmp_path / "many").summaries
    assert [summary.seed for summary in summaries] == SEEDS
    for seed, summary in zip(SEEDS, summaries, strict=True):
        alone = train(CONFIG.replace(seed=seed), out=tmp_path / f"alone-{seed}").summary
        folder = RunFolder.open(tmp_path / "many" / f"seed-{seed}")
        other = RunFolder(tmp_path / f"alone-{seed}")
        assert folder.read_config() == CONFIG.replace(seed=seed)
        assert folder.metrics_path.read_text() == other.metrics_path.read_text()
        assert folder.model_path.read_bytes() == other.model_path.read_bytes()
        assert summary.test_accuracy == alone.test_accuracy
        assert {p.name for p in folder.path.iterdir()} == {p.name for p in other.path.iterdir()}
        assert folder.read_checkpoint().epoch == 5


def test_a_seed_can_be_continued_alone_but_then_not_with_the_others(fake, tmp_path):
    train(CONFIG, seeds=SEEDS, out=tmp_path / "many")
    assert resume(tmp_path / "many" / "seed-0", epochs=7).summary.epochs == 7
    with pytest.raises(UserError, match="seed-0 was trained further on its own"):
        resume(tmp_path / "many", epochs=8)


def test_the_summary_has_mean_and_deviation_over_seeds(fake, tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.7, 0.9] * 3)

    def evaluate_seeds(self, classifiers, split):
        found = FakeTrainer.evaluate_seeds(self, classifiers, split)
        return [{**values, "accuracy": next(accuracies)} for values in found]

    monkeypatch.setattr(fake, "evaluate_seeds", evaluate_seeds)
    train(CONFIG, seeds=SEEDS, out=tmp_path / "many")
    summary = json.loads((tmp_path / "many" / "summary.json").read_text())
    assert summary["seeds"] == SEEDS
    assert summary["statistics"]["test_accuracy"] == {
        "mean": pytest.approx(0.7),
        "std": pytest.approx(0.2),
        "min": 0.5,
        "max": 0.9,
    }
    assert summary["by_seed"]["test_accuracy"] == [0.5, 0.7, 0.9]


def test_a_seed_whose_loss_is_not_finite_is_named_and_the_others_go_on(fake, tmp_path, capsys):
    fake.diverge_in_epoch = {1: 2}
    shown = []
    run = train(CONFIG, seeds=SEEDS, out=tmp_path / "many", on_epoch=shown.append)
    summaries = run.summaries
    assert [bool(summary.stopped) for summary in summaries] == [False, True, False]
    assert [summary.best_epoch for summary in summaries] == [5, 1, 5]
    many = json.loads((tmp_path / "many" / "summary.json").read_text())
    expected = "seed 0: epoch 2: the training loss and the gradient are not finite"
    assert many["stopped"].startswith(expected)
    assert all(math.isfinite(metrics["train_loss"]) for metrics in shown)


class Ending(FakeTrainer):
    """Seeds that are named get no better after their first epoch."""

    worse_after_one: ClassVar[tuple[int, ...]] = ()

    def run_epoch_seeds(self, states, *, ended=None):
        new, metrics = super().run_epoch_seeds(states)
        for seed in type(self).worse_after_one:
            if metrics[seed]["epoch"] > 1:
                loss = new.best_valid_loss.at[seed].set(states.best_valid_loss[seed])
                new = eqx.tree_at(lambda s: s.best_valid_loss, new, loss)
        return new, metrics


@pytest.mark.parametrize("how", ["patience", "not finite"])
def test_what_a_seed_is_computed_beside_others_after_its_end_is_none_of_its_results(
    monkeypatch, tmp_path, how
):
    # What it would do alone: its end is its last epoch, whatever comes after it.
    monkeypatch.setattr(session, "Trainer", Ending)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])
    monkeypatch.setattr(Ending, "worse_after_one", (0,) if how == "patience" else ())
    monkeypatch.setattr(Ending, "diverge_in_epoch", {0: 3} if how == "not finite" else {0: 4})
    config = CONFIG.replace(warmup_epochs=0, patience=2)
    runs = {
        name: train(config, seeds=seeds, out=tmp_path / name)
        for name, seeds in {"alone": SEEDS[:1], "together": SEEDS}.items()
    }
    alone, own = (run.summaries[0] for run in runs.values())
    assert alone.epochs == 3
    for name in ("epochs", "best_epoch", "stopped", "circuit_executions"):
        assert getattr(own, name) == getattr(alone, name), name
    assert bool(own.stopped) == (how == "not finite")
    # Of all seeds: the longest, or the kept epoch might come after the last one.
    whole = runs["together"].summary
    assert (whole.epochs, max(whole.by_seed["best_epoch"])) == (5, 5)
    again = resume(tmp_path / "together").summaries[0]
    assert (again.epochs, again.stopped) == (own.epochs, own.stopped)


def test_the_command_names_diverged_seeds_and_fails_where_no_model_is_trained(
    fake, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--epochs", "3", "--quiet"]
    fake.diverge_in_epoch = {1: 2}
    assert main([*words, "--seeds", "0:2", "--out", "many"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qdeq: warning: seed 1, epoch 2: the training loss")
    assert line.endswith("(kept the model of epoch 1)")
    fake.diverge_in_epoch = {0: 1}
    assert main([*words, "--out", "run"]) == 2
    assert "no epoch ended with finite numbers" in capsys.readouterr().err.splitlines()[-1]
    assert RunFolder.open("run").read_summary().best_epoch == 0


def test_one_seed_has_no_deviation():
    assert math.isnan(Spread.of([0.5]).std) and str(Spread.of([0.5])) == "0.5"


@pytest.mark.parametrize("where", ["between epochs", "in mid-epoch"])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(fake, tmp_path, where):
    train(CONFIG, seeds=SEEDS, out=tmp_path / "whole")
    if where == "in mid-epoch":
        fake.interrupt_in_epoch = 3
    with pytest.raises(TrainingInterrupted, match="--resume") as caught:
        train(CONFIG, seeds=SEEDS, out=tmp_path / "parts", on_epoch=stop_after(2))
    assert (caught.value.epoch, caught.value.run) == (2, tmp_path / "parts")
    fake.interrupt_in_epoch = None
    resume(tmp_path / "parts")
    assert models(tmp_path / "whole") == models(tmp_path / "parts")
    for seed in SEEDS:
        lines = [
            (tmp_path / n / f"seed-{seed}/metrics.jsonl").read_text() for n in ("whole", "parts")
        ]
        assert lines[0] == lines[1]


def test_a_killed_run_repeats_the_epochs_after_its_checkpoint(fake, tmp_path, monkeypatch):
    train(CONFIG, seeds=SEEDS, out=tmp_path / "whole")
    monkeypatch.setattr(session, "_SECONDS_BETWEEN_CHECKPOINTS", 1e9)

    def die(metrics):
        if metrics["epoch"] == 4:
            raise MemoryError  # like kill -9: nothing of ours runs any more

    with pytest.raises(MemoryError):
        train(CONFIG, seeds=SEEDS, out=tmp_path / "parts", on_epoch=die)
    resume(tmp_path / "parts")
    assert models(tmp_path / "whole") == models(tmp_path / "parts")


@pytest.mark.parametrize("end", ["killed", "interrupted"])
def test_the_model_of_a_run_that_is_not_finished_is_not_taken_for_a_trained_one(
    fake, tmp_path, end
):
    def stop(metrics):
        if metrics["epoch"] == 3:
            raise MemoryError if end == "killed" else KeyboardInterrupt  # as in the test above

    many = tmp_path / "many"
    with pytest.raises((MemoryError, TrainingInterrupted)):
        train(CONFIG, seeds=SEEDS, out=many, on_epoch=stop)
    advice = re.escape(f"continue it with `qdeq train --resume {many}`")
    first = f"seed-{SEEDS[0]}'"
    for run in (many, many / f"seed-{SEEDS[0]}"):  # a seed that goes ahead would part from the rest
        # Only the checkpoint of all seeds is written on the way.
        if end == "killed":
            with pytest.raises(UserError, match=f"{first}.* that training began with; {advice}$"):
                evaluate(run)
        else:
            with pytest.warns(UserWarning, match=f"best of the first 3 epochs; {advice}$"):
                evaluate(run)
        with pytest.raises(UserError, match=f"not finished .*; {advice}$"):
            RunFolder.open(run).read_summary()
        with pytest.raises(UserError, match=f"{first}: the run is not finished .*; {advice}$"):
            RunFolder.open(run).read_histories()
    resume(many)
    assert evaluate(many).n_samples  # without a warning


def test_a_model_of_which_no_epoch_was_finite_is_named(fake, tmp_path):
    fake.diverge_in_epoch = {1: 1}
    train(CONFIG, seeds=SEEDS, out=tmp_path / "many")
    with pytest.warns(UserWarning, match=f"seed-{SEEDS[1]}': no epoch ended with finite") as told:
        evaluate(tmp_path / "many")
    assert len(told) == 1


def test_a_folder_whose_process_was_killed_before_its_run_began_is_free(fake, tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    # While that process lives, it is not; nor with anything in it.
    with folder.held(), pytest.raises(UserError, match="not empty"):
        train(CONFIG, out=folder.path)
    (folder.path / "checkpoint" / "mine").touch()
    with pytest.raises(UserError, match="not empty"):
        train(CONFIG, out=folder.path)
    (folder.path / "checkpoint" / "mine").unlink()

    def meanwhile(stage):
        if stage == "loading data":
            with pytest.raises(UserError, match="not empty"):
                train(CONFIG, out=folder.path)

    assert train(CONFIG, out=folder.path, on_stage=meanwhile).summary.epochs == 5


def test_a_mistake_in_the_configuration_leaves_no_folder(fake, tmp_path):
    with pytest.raises(UserError):
        train(CONFIG.replace(n_features=15), seeds=SEEDS, out=tmp_path / "many")
    assert not (tmp_path / "many").exists()


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0:4", [0, 1, 2, 3]), ("0,3,7", [0, 3, 7]), ("5", [5]), ("0:2, 9", [0, 1, 9])],
)
def test_seeds_are_ranges_and_lists(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    [
        *("", "3:1", "a", "0-3", "1,1", "0:", "-1", "0:2,1"),
        *("99999999999", "4294967296", "9" * 5000, "0:99999999999", "0:4294967296", "0:9,3:9"),
    ],
)
def test_other_seeds_are_a_users_mistake(text):
    with pytest.raises(UserError, match="seed") as caught:
        parse_seeds(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seeds", [3, True, "0:3", [1.5], [True], [-1], [2**32], [None], [[1]]])
def test_seeds_in_python_are_whole_numbers_that_make_keys(seeds):
    with pytest.raises(UserError, match="seeds=") as caught:
        check_seeds(seeds)
    assert "\n" not in str(caught.value)


def test_seeds_of_numpy_are_pythons():
    assert [type(seed) for seed in check_seeds(np.arange(3))] == [int] * 3


def test_the_command_trains_and_resumes_many_seeds(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--epochs", "2", "--seeds", "0:3", "--out", "many"]
    assert main([*words, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["seeds"] == [0, 1, 2]
    assert main(["train", "--resume", "many", "--epochs", "3"]) == 0
    assert "3/3" in capsys.readouterr().out
    assert main([*words, "--seed", "1"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert main(["train", "--seeds", "zero", "--out", "other"]) == 2
    assert "--seeds zero: give a range such as 0:32" in capsys.readouterr().err
    assert main(["train", "--resume", "many", "--seeds", "0:3"]) == 2
    assert "cannot be given with --resume" in capsys.readouterr().err


def test_large_batches_are_computed_seed_by_seed():
    assert seeds_at_once(TrainConfig(), 4) >= 32
    assert seeds_at_once(TrainConfig(), 10) == 1


@pytest.mark.parametrize("mode", ["direct", "implicit"])
@pytest.mark.slow
def test_seeds_together_give_the_numbers_of_seeds_alone(x64, mode):
    # The compiled loop: three seeds, of which two are computed at once and one fills up the second
    # pair. In float64 what differs is rounding alone, which a contractive solve does not amplify.
    config = TrainConfig(
        epochs=1, batch_size=64, mode=mode, jacobian_weight=0.0, solver="picard", max_steps=8
    )
    data = load("digits-4")
    together = Trainer(config, data, layout=Layout(3, seeds_at_once=2))
    states, metrics = together.run_epoch_seeds(together.init_seeds(SEEDS))
    alone = Trainer(config, data)
    for position, seed in enumerate(SEEDS):
        state, (expected,) = alone.run_epoch_seeds(alone.init_seeds([seed]))
        for name in ("train_loss", "valid_loss", "residual_mean", "gradient_norm"):
            assert metrics[position][name] == pytest.approx(expected[name], rel=1e-9)
        theta = state.classifier.model.theta[0]
        np.testing.assert_allclose(states.classifier.model.theta[position], theta, atol=1e-9)
