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
from qdeq.runs.session import mean_metrics
from qdeq.runs.summary import Spread
from qdeq.runs.trained import Run
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


def test_a_score_that_is_no_number_is_compared_and_is_not_the_best(tmp_path):
    # As R² on a validation split of one row; JSON has no NaN.
    regression = {"task": "regression", "targets": ["y"], "classes": [], "confusion_matrix": []}
    scores = dict.fromkeys(("train_r2", "valid_r2", "test_r2", "test_rmse", "test_mae"), 0.5)
    config = TrainConfig(data="a.csv", target="y", test="b.csv")
    a, b = (
        written(tmp_path / name, [0.0, 0.0], config=config, **regression, **scores) for name in "ab"
    )
    first = RunFolder(a / "seed-0")
    none = {**scores, "test_r2": np.nan, "valid_r2": np.nan}
    first.write_summary(summary(run=str(first.path), seed=0, **regression, **none))
    found = compare([first.path, b])
    assert np.isnan(found.metrics["test R²"][0].mean) and found.metrics["test R²"][1].mean == 0.5
    assert Run(RunFolder(a)).best.seeds == [1]


def test_the_largest_residual_of_seeds_is_none_where_that_of_any_is_none():
    seeds = [{"residual_max": value, "epoch": 1} for value in (1e-3, np.nan, 1e-2)]
    assert np.isnan(mean_metrics(seeds)["residual_max"])
    assert mean_metrics(seeds[::2])["residual_max"] == 1e-2
    assert np.isnan(Spread.of([np.inf, 1.0]).std)


def test_one_seed_has_a_difference_and_no_interval_and_no_common_seed_has_none(tmp_path):
    a, b = written(tmp_path / "a", [0.9]), written(tmp_path / "b", [0.8])
    c = written(tmp_path / "c", [0.8], first_seed=4)
    found = compare([a, b, c]).differences["test accuracy"]
    assert found[1].difference == pytest.approx(-0.1) and np.isnan(found[1].low)
    assert found[0] is None and found[2] is None
    alone = compare([a, c]).tables()
    assert "No other run has a seed of" in alone["Numbers"][2] and len(alone) == 2
    assert "No other run" not in compare([a, b, c]).tables()["Numbers"][2]


def test_executions_and_seconds_are_those_of_a_seed_however_many_there_are(tmp_path):
    a, b = written(tmp_path / "a", [0.9]), written(tmp_path / "b", [0.9, 0.8, 0.7])
    for label, one in {"circuit executions": 123456, "training time, s": 1.5}.items():
        assert [spread.mean for spread in compare([a, b]).metrics[label]] == [one, one]
    (row,) = (r for r in compare([a, b]).tables()["Numbers"][1] if r[0] == "circuit executions")
    assert row[1:] == ["123,456", "123,456 ± 0"]


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


def of_table(path, true=None, *, labels=None, file="same", **options):
    """A run on a table: a regression with these targets of its test samples, or classes."""
    config = TrainConfig(data="/no/table.csv", target="y", **options)
    changes = {}
    if true is not None:
        changes = {"task": "regression", "classes": [], "targets": ["y"], "confusion_matrix": []}
        changes |= {name: 0.5 for name in ("train_r2", "valid_r2", "test_r2")}
    written(path, [0.9], config=config, dataset="table", **changes)
    folder, files = RunFolder(path), {"data": {"sha256": file, "path": "table.csv"}}
    if options.get("test"):
        files["test"] = {"sha256": "other", "path": options["test"]}
    content = {"files": files, "targets": None}
    if labels is not None:
        content["test_labels"] = labels
    folder.data_path.write_text(json.dumps(content))
    if true is not None:
        folder.write_predictions(np.asarray(true), np.asarray(true) + 1)
    return path


TARGETS = np.array([[-1.3], [0.2], [1000.0]])


def test_runs_with_other_seeds_of_the_split_have_the_same_test_samples(tmp_path):
    # Every run scales targets by the rows that train it, in float32.
    a = of_table(tmp_path / "a", TARGETS)
    b = of_table(tmp_path / "b", TARGETS * (1 + 2e-7), split_seed=7)
    assert compare([a, b]).differing["split_seed"] == ["0", "7"]
    c, d = of_table(tmp_path / "c"), of_table(tmp_path / "d", split_seed=7)
    assert compare([c, d]).differing["split_seed"] == ["0", "7"]


def test_runs_whose_groups_drew_other_test_rows_are_refused(tmp_path):
    a = of_table(tmp_path / "a", TARGETS)
    b = of_table(tmp_path / "b", TARGETS[::-1], group="g")
    with pytest.raises(UserError, match=r"other test samples \(group=g, and group=None\)"):
        compare([a, b])
    c = of_table(tmp_path / "c", TARGETS, group="g")  # one group a row: the same were drawn
    assert "group" in compare([a, c]).differing
    d, e = of_table(tmp_path / "d"), of_table(tmp_path / "e", group="g")  # of classes nobody knows
    with pytest.raises(UserError, match="other test samples"):
        compare([d, e])
    groups = {"f": None, "h": "g"}  # with a file to test on they draw no test rows
    tested = [of_table(tmp_path / n, test="/no/t.csv", group=g) for n, g in groups.items()]
    assert "group" in compare(tested).differing


def test_runs_whose_scores_weigh_rows_otherwise_are_refused(tmp_path):
    a, b = of_table(tmp_path / "a"), of_table(tmp_path / "b", weight="w")
    with pytest.raises(UserError, match=r"other weights of the test samples \(w, and None\)"):
        compare([a, b])
    assert compare([b, of_table(tmp_path / "c", weight="w")]).differing == {}


def test_other_test_samples_are_refused_by_what_is_kept_of_them(tmp_path):
    a = of_table(tmp_path / "a", TARGETS)
    for name, other in (("b", TARGETS + 0.1), ("c", TARGETS[:2])):
        with pytest.raises(UserError, match="other test samples"):
            compare([a, of_table(tmp_path / name, other)])
    with pytest.raises(UserError, match="another file of test"):
        compare([a, of_table(tmp_path / "d", TARGETS, test="/no/t.csv")])
    e, f = of_table(tmp_path / "e", labels="12"), of_table(tmp_path / "f", labels="34")
    with pytest.raises(UserError, match="other test samples"):
        compare([e, f])
    # A run from before labels were kept has the counts of each class, as it had.
    assert compare([e, of_table(tmp_path / "g")]).runs


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
