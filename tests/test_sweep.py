"""A sweep keeps every configuration in its table, and never repeats a finished one."""

import csv
import json
import sys

import pytest
from fake_trainer import FakeTrainer

from qdeq.cli import main
from qdeq.errors import UserError
from qdeq.runs import session, sweep
from qdeq.training.config import TrainConfig

BASE = TrainConfig(epochs=2)


@pytest.fixture
def fake(monkeypatch):
    """Replace the compiled loop; the validation accuracy is the learning rate."""

    class Fake(FakeTrainer):
        def evaluate_seeds(self, classifiers, split):
            found = FakeTrainer.evaluate_seeds(self, classifiers, split)
            return [{**values, "accuracy": self.config.learning_rate} for values in found]

    monkeypatch.setattr(session, "Trainer", Fake)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])
    return Fake


def tasks(out, *grid, seeds=(0, 1)):
    return sweep.plan(BASE, sweep.parse_grid(grid), seeds, out)


def test_a_grid_has_every_combination(tmp_path):
    planned = tasks(tmp_path, "learning-rate=0.1,0.2", "solver=broyden,newton")
    assert [tuple(task.changes.values()) for task in planned] == [
        (0.1, "broyden"),
        (0.1, "newton"),
        (0.2, "broyden"),
        (0.2, "newton"),
    ]
    assert len({task.folder for task in planned}) == 4


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("learning-rate", "give NAME=VALUE"),
        ("speed=3", "choose one of"),
        ("solver=bfgs", "choose one of picard"),
        ("epochs=many", "whole number"),
        ("seed=1,2", "use --seeds"),
        ("data=digits-4,mnist-4", "start a sweep for each"),
        ("target=price,sort", "start a sweep for each"),
        ("learning-rate=0.1,0.2,0.10", "a value is there twice"),
    ],
)
def test_a_wrong_axis_is_a_users_mistake(grid, words):
    with pytest.raises(UserError, match=words):
        sweep.parse_grid([grid])


def test_an_axis_may_be_switched_off():
    assert sweep.parse_grid(["n-qubits=none,5"]) == {"n_qubits": [None, 5]}


def test_the_best_by_validation_comes_first_and_failures_stay(fake, tmp_path):
    planned = tasks(tmp_path / "s", "learning-rate=0.1,0.3,-1,0.2")
    results = sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
    assert [result.task.changes["learning_rate"] for result in results] == [0.3, 0.2, 0.1, -1.0]
    assert results[-1].failure == "learning_rate=-1.0: give a number above 0"
    assert sweep.best(results) is results[0]
    rows = list(csv.DictReader((tmp_path / "s" / "results.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["finished"] * 3 + ["failed"]
    assert float(rows[0]["valid_accuracy_mean"]) == 0.3
    table = json.loads((tmp_path / "s" / "results.json").read_text())
    assert table["best"] == "learning_rate=0.3" and len(table["results"]) == 4
    lines = (tmp_path / "s" / "results.md").read_text().splitlines()
    assert lines[2].startswith("| **0.3** |") and "failed: learning_rate=-1.0" in lines[-1]


def test_a_crash_is_a_failed_configuration(fake, tmp_path, monkeypatch):
    def explode(self, states, **_):
        raise MemoryError("no memory left")

    monkeypatch.setattr(fake, "run_epoch_seeds", explode)
    planned = tasks(tmp_path / "s", "learning-rate=0.1")
    (result,) = sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
    assert result.failure == "MemoryError: no memory left"


@pytest.mark.parametrize("first", [1, 2])
def test_a_configuration_with_a_seed_that_has_no_trained_model_fails_and_others_say_what_stopped(
    fake, tmp_path, monkeypatch, first
):
    planned = tasks(tmp_path / "s", "learning-rate=0.1,0.3")
    (lower,) = sweep.run_sweep(planned[:1], tmp_path / "s", runner=sweep.run_here)
    monkeypatch.setattr(fake, "diverge_in_epoch", {1: first})
    assert BASE.epochs > 1
    for _ in range(2):  # the second time from the folder
        results = sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
        (found,) = (r for r in results if r.task.changes == {"learning_rate": 0.3})
        words = f"seed 1: epoch {first}: the training loss and the gradient are not finite"
        assert words in (tmp_path / "s" / "results.md").read_text()
        (row,) = (r for r in _rows(tmp_path / "s") if r["learning_rate"] == "0.3")
        if first == 1:
            assert results[0].task == lower.task and results[-1] is found
            assert sweep.best(results) is results[0]
            assert (row["status"], row["test_accuracy_mean"]) == ("failed", "")
        else:
            assert sweep.best(results) is found
            assert row["status"] == "finished" and float(row["test_accuracy_mean"]) > 0


def _rows(out):
    return list(csv.DictReader((out / "results.csv").read_text().splitlines()))


def test_a_damaged_summary_is_written_again_and_a_damaged_sweep_is_named(fake, tmp_path):
    planned = tasks(tmp_path / "s", "learning-rate=0.1")
    (whole,) = sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
    text = planned[0].summary_path.read_text()
    planned[0].summary_path.write_text(text[:300])
    (again,) = sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
    assert again.failure is None
    assert again.mean("test_accuracy") == whole.mean("test_accuracy")
    (tmp_path / "s" / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json is damaged: restore it"):
        sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)


def test_a_sweep_continues_where_it_stopped(fake, tmp_path):
    def stop_after_two(todo):
        yield from map(sweep.run_task, todo[:2])
        raise KeyboardInterrupt

    grid = "learning-rate=0.1,0.3,-1,0.2"
    with pytest.raises(KeyboardInterrupt):
        sweep.run_sweep(tasks(tmp_path / "s", grid), tmp_path / "s", runner=stop_after_two)
    repeated = []

    def count(todo):
        repeated.extend(task.changes["learning_rate"] for task in todo)
        return sweep.run_here(todo)

    results = sweep.run_sweep(tasks(tmp_path / "s", grid), tmp_path / "s", runner=count)
    assert repeated == [-1.0, 0.2] and len(results) == 4
    with pytest.raises(UserError, match="other options or seeds"):
        other = tasks(tmp_path / "s", grid, seeds=(5,))
        sweep.run_sweep(other, tmp_path / "s", runner=sweep.run_here)


def test_of_two_processes_in_one_folder_the_second_is_refused(fake, tmp_path):
    planned = tasks(tmp_path / "s", "learning-rate=0.1")

    def meanwhile(todo):
        with pytest.raises(UserError, match=r"another process runs the sweep in it; wait"):
            sweep.run_sweep(planned, tmp_path / "s", runner=sweep.run_here)
        return sweep.run_here(todo)

    (result,) = sweep.run_sweep(planned, tmp_path / "s", runner=meanwhile)
    assert result.failure is None


def test_a_larger_grid_adds_rows_and_one_that_would_lose_some_is_refused(fake, tmp_path):
    out = tmp_path / "s"
    sweep.run_sweep(tasks(out, "learning-rate=0.1,0.3"), out, runner=sweep.run_here)
    before = (out / "results.csv").read_text()
    for grid in (["learning-rate=0.3"], ["solver=newton"], ["learning-rate=0.1", "epochs=2,3"]):
        with pytest.raises(UserError, match=r"its table has learning_rate=0\.1, which is not in"):
            sweep.run_sweep(tasks(out, *grid), out, runner=sweep.run_here)
    assert (out / "results.csv").read_text() == before
    sweep.run_sweep(tasks(out, "learning-rate=0.1,0.2,0.3"), out, runner=sweep.run_here)
    assert [row["learning_rate"] for row in _rows(out)] == ["0.3", "0.2", "0.1"]


def test_every_run_of_a_sweep_is_followed(fake, tmp_path):
    class Follower:
        def __init__(self):
            self.started, self.ended = [], []

        def start(self, run):
            self.started.append((run.folder.parent.name, run.group, run.config["learning_rate"]))

        def epoch(self, run, metrics):
            pass

        def end(self, run, summary, artefacts):
            self.ended.append(run.id)

    follower = Follower()
    axes = sweep.parse_grid(["learning-rate=0.1,0.2"])
    planned = sweep.plan(BASE, axes, (0, 1), tmp_path, track=follower)
    sweep.run_sweep(planned, tmp_path, runner=sweep.run_here)
    assert [rate for _, _, rate in follower.started] == [0.1, 0.1, 0.2, 0.2]
    assert len({group for _, group, _ in follower.started}) == 2 and len(set(follower.ended)) == 4


def test_a_file_sets_what_no_axis_and_no_option_does(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "ray_runner", lambda **options: sweep.run_here)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("epochs = 3\nsolver = 'newton'\nseeds = [4, 6]\n")
    words = ["--grid", "learning-rate=0.1,0.2", "--solver", "anderson", "--out", "swept"]
    assert main(["sweep", "--config", "mine.toml", *words]) == 0
    for rate in (0.1, 0.2):
        folder = tmp_path / "swept" / f"learning_rate={rate}"
        config = TrainConfig.from_json((folder / "seed-6" / "config.json").read_text())
        assert (config.epochs, config.solver, config.learning_rate) == (3, "anderson", rate)
    capsys.readouterr()
    assert main(["sweep", "--track", "paper", *words]) == 2
    assert "track" in capsys.readouterr().err


def test_without_ray_the_command_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    out = str(tmp_path / "s")
    assert main(["sweep", "--grid", "epochs=1,2", "--out", out]) == 2
    assert 'pip install "qdeq[ray]"' in capsys.readouterr().err
    assert main(["sweep", "--out", out]) == 2
    assert "at least one axis" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own, which are not ours to mend
def test_ray_gives_the_results_of_this_process(tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra")
    base = TrainConfig(epochs=1, batch_size=64, solver="picard", max_steps=5, jacobian_weight=0.0)
    axes = sweep.parse_grid(["learning-rate=0.03,-1"])
    found = []
    for name, runner in (("here", sweep.run_here), ("ray", sweep.ray_runner())):
        planned = sweep.plan(base, axes, [0, 1], tmp_path / name)
        found.append(sweep.run_sweep(planned, tmp_path / name, runner=runner))
    for here, there in zip(*found, strict=True):
        assert here.task.changes == there.task.changes
        assert (here.summary is None) == (there.summary is None)
        if here.summary and there.summary:
            assert here.summary["by_seed"] == there.summary["by_seed"]
    assert found[1][1].failure == "learning_rate=-1.0: give a number above 0"
