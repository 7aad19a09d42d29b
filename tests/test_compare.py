"""Runs next to each other: numbers, differences by seed, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from summaries import summary

from qdeq.cli.main import main
from qdeq.errors import UserError
from qdeq.runs import compare
from qdeq.runs.run_folder import RunFolder
from qdeq.training.config import TrainConfig


def written(path, accuracies, *, first_seed=0, config=None, **changes):
    """A finished run folder with these test accuracies, of seeds from `first_seed` on."""
    config = TrainConfig() if config is None else config
    path.mkdir()
    folder = RunFolder(path)
    seeds = None if len(accuracies) == 1 else range(first_seed, first_seed + len(accuracies))
    folder.write_config(config.replace(seed=first_seed), seeds)
    for own, accuracy in zip(folder.seed_folders(), accuracies, strict=True):
        seed = own.read_config().seed
        own.write_summary(summary(run=str(own.path), seed=seed, test_accuracy=accuracy, **changes))
    if seeds is not None:
        folder.write_summary(folder.seed_folders()[0].read_summary())
    return path


def test_differences_are_paired_over_common_seeds_with_students_interval(tmp_path):
    a = written(tmp_path / "a", [0.90, 0.80, 0.70])
    b = written(tmp_path / "b", [0.82, 0.75, 0.50], first_seed=1)  # seeds 1, 2 are common
    found = compare([a, b])
    difference = found.differences["test accuracy"][1]
    pairs = np.array([0.82 - 0.80, 0.75 - 0.70])
    low, high = stats.t.interval(0.95, 1, pairs.mean(), stats.sem(pairs))
    np.testing.assert_allclose(
        [difference.difference, difference.low, difference.high, difference.n],
        [pairs.mean(), low, high, 2],
    )
    assert found.metrics["test accuracy"][0].mean == pytest.approx(0.8)


def test_one_seed_has_a_difference_and_no_interval_and_no_common_seed_has_none(tmp_path):
    a, b = written(tmp_path / "a", [0.9]), written(tmp_path / "b", [0.8])
    c = written(tmp_path / "c", [0.8], first_seed=4)
    found = compare([a, b, c]).differences["test accuracy"]
    assert found[1].difference == pytest.approx(-0.1) and np.isnan(found[1].low)
    assert found[0] is None and found[2] is None


def test_what_differs_is_named_and_nothing_else(tmp_path):
    a = written(tmp_path / "a", [0.9])
    b = written(tmp_path / "b", [0.8], config=TrainConfig(learning_rate=0.5))
    assert compare([a, b]).differing == {"learning_rate": ["0.005", "0.5"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "mnist-4"}, "another data set"),
        ({"classes": ["0", "c"]}, "other classes"),
        ({"confusion_matrix": [[5, 1], [3, 0]]}, "other test samples"),
        ({"task": "regression", "classes": [], "targets": ["y"], "test_r2": 0.5}, "another task"),
    ],
)
def test_runs_on_other_data_are_refused(tmp_path, changes, words):
    a, b = written(tmp_path / "a", [0.9]), written(tmp_path / "b", [0.8], **changes)
    with pytest.raises(UserError, match=words):
        compare([a, b])


def test_fewer_than_two_runs_the_same_twice_and_unfinished_ones_are_refused(tmp_path, capsys):
    a, b = written(tmp_path / "a", [0.9]), written(tmp_path / "b", [0.8])
    for runs, words in (
        ([a], "two run folders or more"),
        ([a, tmp_path / "." / "a"], "there twice"),
        ([a, tmp_path / "none"], "no such folder"),
    ):
        with pytest.raises(UserError, match=words):
            compare(runs)
    (b / "summary.json").unlink()
    assert main(["compare", str(a), str(b)]) == 2
    assert "not finished" in capsys.readouterr().err
    assert main(["compare"]) == 2
    assert "needs RUNS" in capsys.readouterr().err


def test_the_command_prints_tables_and_writes_a_page(tmp_path, capsys, monkeypatch):
    a, b = written(tmp_path / "a", [0.9, 0.8]), written(tmp_path / "<b>", [0.8, 0.75])
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.html"
    assert main(["compare", "a", "<b>", "--out", str(page)]) == 0
    assert "Differences by seed" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;" in text and "<b>" not in text and "<script" not in text
    assert main(["compare", str(a), str(b), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["test accuracy"][0]["mean"] == pytest.approx(0.85)
    assert set(found) == {field.name for field in dataclasses.fields(compare([a, b]))}
    for wrong in ("page.txt", "none/page.html"):
        assert main(["compare", "a", "<b>", "--out", wrong]) == 2
        assert capsys.readouterr().err.startswith("qdeq: error: --out ")
