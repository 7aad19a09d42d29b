"""Runs on files of one's own: trained, found again, predicted with, from Python and by command."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score
from test_tables import lose_a_row, shop

import qdeq
from qdeq.cli import main
from qdeq.cli.console import make_console
from qdeq.cli.train import TrainCommand, config_of, preset_defaults, with_data
from qdeq.data import Targets, from_arrays, read_table
from qdeq.data.files import load_file
from qdeq.data.images import image_features
from qdeq.errors import UserError
from qdeq.runs import evaluate, resume
from qdeq.runs.dataset import absolute, load_dataset, moved
from qdeq.runs.predictions import predict_file
from qdeq.runs.scored import Scored
from qdeq.training.config import PRESETS, TrainConfig

# One application of a small circuit compiles fast; what is tested here does not depend on it.
SMALL = {
    "mode": "direct",
    "ansatz": "hardware-efficient",
    "ansatz_layers": 1,
    "n_qubits": 4,
    "epochs": 1,
    "batch_size": 64,
    "jacobian_weight": 0.0,
}
OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `shop.csv` and a run on it."""
    folder = tmp_path_factory.mktemp("own")
    shop().to_csv(folder / "shop.csv", index=False)
    config = TrainConfig(data=str(folder / "shop.csv"), target="kind", **SMALL)
    qdeq.train(config, out=folder / "run")
    return folder


def frame_without(frame, column, file):
    frame.drop(columns=column).to_csv(file, index=False)
    return file


def copy_of(trained, tmp_path):
    """The same in a folder that a test may change: the run still names the first file."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for name in ("config.json", "data.json"):
        path = tmp_path / "run" / name
        path.write_text(path.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path


def test_a_run_says_what_it_was_trained_on(trained):
    run = qdeq.load(trained / "run")
    assert run.config.data == str(trained / "shop.csv") and run.config.target == "kind"
    assert run.summary.dataset == "shop" and run.summary.classes == ["large", "small"]
    assert run.preparation == read_table(shop(), "kind").preparation
    size = (trained / "shop.csv").stat().st_size
    assert json.loads((trained / "run/data.json").read_text())["files"]["data"]["size"] == size
    assert "--data" in (trained / "run/report.html").read_text()


def test_training_finds_a_file_in_the_folder_that_it_has_been_moved_to(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    (folder / "moved").mkdir()
    (folder / "shop.csv").rename(folder / "moved" / "shop.csv")
    config = qdeq.load(folder / "run").config.replace(data_dir=str(folder / "moved"))
    found = absolute(config)
    assert found.data == str(folder / "moved" / "shop.csv") and found.data_dir is None
    # A second move does not look in the first folder again.
    assert moved(found, str(trained)).data == str(trained / "shop.csv")
    config, dataset = with_data(config, frozenset(), make_console(quiet=True))
    assert config.data == found.data and dataset is not None and len(dataset.test.y) == 30


def test_the_folder_of_a_named_data_set_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "elsewhere"):
        (tmp_path / name).mkdir()
    config = TrainConfig(data="mnist-4", data_dir="images")
    assert absolute(config).data_dir == str(tmp_path / "images")
    assert moved(config, "elsewhere").data_dir == str(tmp_path / "elsewhere")
    assert moved(config, None) == config and absolute(TrainConfig()).data_dir is None


def test_what_cannot_be_trained_leaves_no_folder_behind(trained, tmp_path):
    config = qdeq.load(trained / "run").config
    for wrong in ({"loss": "squared"}, {"ignore": "nowhere"}):
        with pytest.raises(UserError):
            qdeq.train(config.replace(**wrong), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"shop.csv' is a file: give a new folder's name"):
        qdeq.train(config, out=trained / "shop.csv")


def test_evaluation_reads_the_file_again(trained):
    found, summary = evaluate(trained / "run"), qdeq.load(trained / "run").summary
    assert found.accuracy == summary.test_accuracy and found.n_samples == 30


def test_a_file_that_moved_or_changed_is_one_line(trained, tmp_path):
    folder = copy_of(trained, tmp_path)
    (folder / "elsewhere").mkdir()
    (folder / "shop.csv").rename(folder / "elsewhere" / "shop.csv")
    with pytest.raises(UserError, match=r"shop.csv are not there any more: .*--data-dir"):
        evaluate(folder / "run")
    again = evaluate(folder / "run", data_dir=str(folder / "elsewhere"))
    assert again.accuracy == evaluate(trained / "run").accuracy
    with pytest.raises(UserError, match="there is no file or folder"):
        evaluate(folder / "run", data_dir=str(folder / "run"))
    resume(folder / "run", data_dir=str(folder / "elsewhere"))
    assert qdeq.load(folder / "run").config.data == str(folder / "elsewhere" / "shop.csv")
    with (folder / "elsewhere" / "shop.csv").open("a") as file:
        file.write("1,2,Rome,True,3,small\n")
    for again in (evaluate, resume):
        with pytest.raises(UserError, match=r"shop.csv has changed since the run \(.* bytes then"):
            again(folder / "run")


def test_a_run_predicts_frames_and_prepared_features(trained):
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    labels, chances = run.predict(frame), run.predict_proba(frame)
    assert set(labels) <= {"large", "small"} and chances.shape == (40, 2)
    shuffled = frame.drop(columns="kind")[frame.columns[-2::-1]].assign(more=1)
    np.testing.assert_array_equal(run.predict_proba(shuffled), chances)
    features = run.preparation.transform(frame)
    np.testing.assert_array_equal(run.predict_proba(features, prepared=True), chances)
    one = [run.predict_proba(frame.iloc[[row]]) for row in range(3)]
    np.testing.assert_array_equal(np.concatenate(one), chances[:3])
    assert run.solve(frame).stats.converged.shape == (40,)
    with pytest.raises(UserError, match="x has no column 'size', which the model reads"):
        run.predict(frame.drop(columns="size"))


def test_texts_that_training_did_not_have_are_counted_and_named(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("qdeq.runs.predictions._ROWS", 16)
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    new = frame.assign(city=frame["city"].str.upper(), open="maybe")
    message = "column 'city': 40 rows with texts that training did not have ("
    with pytest.warns(UserWarning, match=r"^x: column '") as caught:
        run.predict(new)
    told = [str(warning.message) for warning in caught]
    assert len(told) == 2 and told[0].startswith("x: " + message)
    assert told[0].endswith("taken for none of those: it had 'Lima', 'Oslo', 'Rome'")
    assert "('maybe'), taken for 'False': it had 'False', 'True'" in told[1]
    assert caught[0].filename == __file__
    new.to_csv(tmp_path / "new.csv", index=False)
    done = predict_file(run, tmp_path / "new.csv", tmp_path / "p.csv")
    assert [f"x: {note}" for note in done.notes if "training did not have" in note] == told


@pytest.mark.parametrize("kind", [int, float, lambda flag: str(int(flag))])
def test_zero_and_one_are_booleans_where_training_saw_booleans(trained, kind):
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    expected = run.predict_proba(frame)
    np.testing.assert_array_equal(
        run.predict_proba(frame.assign(open=frame["open"].map(kind))), expected
    )


def test_arrays_without_names_are_not_taken_for_features_of_a_table_in_silence(trained):
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    features = run.preparation.transform(frame)
    for call in (run.predict, run.predict_proba, run.solve, run.predictions):
        for x in (features, features * 7, features.tolist()):
            with pytest.warns(UserWarning, match=r"without names of columns.*prepared=True"):
                call(x)
        call(features, prepared=True)
    with pytest.raises(UserError, match="the model takes"):
        run.predict(features[:, 1:], prepared=True)


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz", "p.tsv", "p.parquet"])
def test_predictions_of_a_file_are_those_of_its_frame(trained, tmp_path, monkeypatch, name):
    monkeypatch.setattr("qdeq.runs.predictions._ROWS", 16)
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    file = tmp_path / "new.csv"
    frame.drop(columns="kind")[frame.columns[-2::-1]].assign(more=1).to_csv(file, index=False)
    seen = []
    done = predict_file(run, file, tmp_path / name, on_rows=lambda *rows: seen.append(rows))
    assert seen == [(16, 40), (32, 40), (40, 40)] and done.n_rows == 40
    assert done.notes == ("ignored: more, which the model does not read",)
    if name.endswith("parquet"):
        written = pd.read_parquet(tmp_path / name)
    else:
        written = pd.read_csv(tmp_path / name, sep="\t" if "tsv" in name else ",")
    columns = ["label", "probability_large", "probability_small", "converged", "residual", "steps"]
    assert list(written.columns) == columns
    assert written["label"].tolist() == run.predict(frame).tolist()
    chances = run.predict_proba(frame).astype(np.float32)
    np.testing.assert_array_equal(written[columns[1:3]].to_numpy(np.float32), chances)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_columns_that_name_the_rows_are_kept_as_they_are(trained, tmp_path, monkeypatch, name):
    monkeypatch.setattr("qdeq.runs.predictions._ROWS", 16)
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    codes = [f"{k:03}" if k % 9 else "" for k in range(40)]
    # Also what the model reads as a number or as a truth, and what it is scored by.
    counts, truths = frame["count"].map("{:04}".format), frame["open"].astype(str).str.upper()
    kinds = " " + frame["kind"]
    file = tmp_path / "new.csv"
    written = frame.assign(code=codes, label=1, count=counts, open=truths, kind=kinds)
    written.to_csv(file, index=False)
    done = predict_file(run, file, tmp_path / name, keep="code,size,count,open,kind")
    assert done.score == (run.predict(frame) == frame["kind"]).mean()
    assert done.notes[0] == "ignored: label, which the model does not read"
    read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
    options = {} if name.endswith("parquet") else {"dtype": str, "keep_default_na": False}
    written = read(tmp_path / name, **options)
    assert list(written.columns[:6]) == ["code", "size", "count", "open", "kind", "label"]
    assert written["code"].tolist() == codes
    assert written["size"].tolist() == ["" if np.isnan(v) else repr(v) for v in frame["size"]]
    for column, cells in {"count": counts, "open": truths, "kind": kinds}.items():
        assert written[column].tolist() == cells.tolist()
    assert written["label"].tolist() == run.predict(frame).tolist()
    with pytest.raises(UserError, match="keep='label': the predictions have a column of this name"):
        predict_file(run, file, tmp_path / name, keep=["label"])
    with pytest.raises(UserError, match="has no column 'cod', to keep; did you mean 'code'"):
        predict_file(run, file, tmp_path / name, keep="cod")


@pytest.mark.slow
def test_predictions_read_decimal_commas_as_training_did(tmp_path):
    form = {"sep": ";", "decimal": ",", "index": False}
    frame = shop().round(3)
    frame.to_csv(tmp_path / "shop.csv", **form)
    config = TrainConfig(data=str(tmp_path / "shop.csv"), target="price", **SMALL)
    run = qdeq.train(config, out=tmp_path / "run")
    frame[:30].to_csv(tmp_path / "new.csv", **form)
    done = predict_file(run, tmp_path / "new.csv", tmp_path / "p.csv", keep=["size", "price"])
    expected = run.predict(frame[:30])
    assert done.score == pytest.approx(r2_score(frame["price"][:30], expected))
    written = pd.read_csv(tmp_path / "p.csv", dtype={"price": str})
    np.testing.assert_allclose(written["predicted_price"], expected, rtol=1e-6)
    assert written["price"].tolist() == [str(v).replace(".", ",") for v in frame["price"][:30]]
    frame[:30].to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match=r"column 'size', row 1, holds .* in a table with decimal"):
        predict_file(run, tmp_path / "new.csv", tmp_path / "p.csv")
    assert evaluate(tmp_path / "run")


def test_predictions_are_scored_where_the_table_holds_what_they_are_of(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr("qdeq.runs.predictions._ROWS", 16)
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    file, out = tmp_path / "new.csv", tmp_path / "p.csv"
    frame.loc[:3, "kind"] = None
    frame.to_csv(file, index=False)
    done = predict_file(run, file, out)
    right = run.predict(frame)[4:] == frame["kind"][4:]
    assert done.score == pytest.approx(right.mean())
    assert done.notes[-1] == f"accuracy {right.mean():.4f}, of kind in 36 rows"
    frame.assign(kind="huge").to_csv(file, index=False)
    done = predict_file(run, file, out)
    assert done.score is None and "no accuracy" in done.notes[-1] and "'huge'" in done.notes[-1]
    assert predict_file(run, frame_without(frame, "kind", file), out).score is None


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_the_r2_of_a_table_is_scikit_learns_and_none_of_what_does_not_vary(offset):
    run = SimpleNamespace(preparation=None, targets=Targets(("y",), (0.0,), (1.0,)))
    rng = np.random.default_rng(0)
    y, answers = offset + rng.normal(size=(2, 40))
    for values, score in (
        (y, pytest.approx(r2_score(y, answers), rel=1e-6)),
        *((np.full(40, offset + value), None) for value in (0.1, 0.3, -2.3, 7.7)),
    ):
        scored = Scored(run, ("y",))
        for part in (np.full(3, np.nan), values[:7], values[7:]):  # the first rows say nothing
            rows = slice(scored.n_rows, scored.n_rows + len(part))
            scored.add(pd.DataFrame({"y": part}), answers[rows], "new.csv")
        assert scored.score == score


def test_a_file_is_predicted_row_by_row_or_not_at_all(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("qdeq.runs.predictions._ROWS", 16)
    run, frame = qdeq.load(trained / "run"), shop(40, seed=3)
    file, out = tmp_path / "new.csv", tmp_path / "p.csv"
    frame.insert(0, "more\n(mm)", 1)
    frame.to_csv(file, index=False)
    assert predict_file(run, file, out).n_rows == 40
    assert pd.read_csv(out)["label"].tolist() == run.predict(frame).tolist()
    out.unlink()
    lose_a_row(monkeypatch)
    with pytest.raises(UserError, match=r"new\.csv: 39 of 40 rows could be read"):
        predict_file(run, file, out)
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_predicts(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = str(trained / "run")
    shop(40, seed=3).to_parquet("new.parquet")
    assert main(["predict", run, "new.parquet"]) == 0
    assert "40 rows in" in capsys.readouterr().out
    assert len(pd.read_csv("predictions.csv")) == 40
    assert main(["predict", run, "new.parquet", "--out", "p.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_rows"] == 40


@pytest.mark.parametrize(
    ("change", "out", "words"),
    [
        (
            lambda f: f.drop(columns="size"),
            "p.csv",
            "new.csv has no column 'size', which the model",
        ),
        (lambda f: f.rename(columns={"size": "Size"}), "p.csv", "did you mean 'Size'?"),
        (lambda f: f.assign(size=["x"] * 17 + [1.0] * 23), "p.csv", "holds 'x' in row 1, which is"),
        (lambda f: f.assign(size=[1.0] * 37 + ["x"] * 3), "p.csv", "holds 'x' in row 38, which"),
        (lambda f: f[:0], "p.csv", "has a header and no rows"),
        (lambda f: f, "p.xlsx", "name a file that ends in .csv"),
        (lambda f: f, "no/p.csv", "lies in no folder"),
        (lambda f: f, "new.csv", "is the file that is read"),
    ],
)
def test_a_mistake_in_predicting_is_one_line(
    trained, tmp_path, monkeypatch, capsys, change, out, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qdeq.runs.predictions._ROWS", 16)
    change(shop(40, seed=3).astype({"size": object})).to_csv("new.csv", index=False)
    assert main(["predict", str(trained / "run"), "new.csv", "--out", out]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.slow
def test_a_run_on_features_has_no_columns_in_a_file(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    run = qdeq.train(
        TrainConfig(**SMALL, encoding="table"),
        dataset=from_arrays(x, np.arange(60) % 2),
        out=tmp_path / "run",
    )
    shop(9).to_csv(tmp_path / "shop.csv")
    with pytest.raises(UserError, match="was trained on features, which no file has columns for"):
        predict_file(run, tmp_path / "shop.csv", tmp_path / "p.csv")


def test_a_data_set_from_python_keeps_its_preparation(tmp_path):
    dataset = read_table(shop(), "kind")
    run = qdeq.train(TrainConfig(**SMALL), dataset=dataset, out=tmp_path / "run")
    assert run.config.data == "own"
    assert qdeq.load(tmp_path / "run").predict(shop(5)).shape == (5,)


def test_the_command_trains_on_a_file_and_says_what_it_decided(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shop().assign(same=1, note="x").to_csv("my shop.csv", index=False)
    command = ["train", "--data", "my shop.csv", "--target", "kind", "--ignore", "note"]
    assert main([*command, *OPTIONS, "--preset", "paper", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "task: classification, 'kind' holds 2 different texts" in out
    assert "column 'same' left out: its value is always 1" in out
    run, other = qdeq.load("run"), qdeq.load(trained / "run")
    assert run.config.data == str(tmp_path / "my shop.csv") and run.config.epochs == 1
    np.testing.assert_array_equal(run.predict_proba(shop(9)), other.predict_proba(shop(9)))


@pytest.mark.slow  # compiles a program of two seeds
def test_every_seed_of_a_run_is_one_on_the_file(trained, tmp_path):
    config = TrainConfig(data=str(trained / "shop.csv"), target="kind", **SMALL)
    run = qdeq.train(config, seeds=[0, 1], out=tmp_path / "run")
    assert run.predict(shop(5)).shape == (5,)
    assert qdeq.load(tmp_path / "run" / "seed-1").predict(shop(5)).shape == (5,)
    assert evaluate(tmp_path / "run" / "seed-1").n_samples == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data minst-4", "--data 'minst-4' is not known: choose one of digits-4"),
        ("--data shop", "or give a file or folder that exists"),
        ("--data shop.cvs --target kind", "there is no file or folder shop.cvs; did you mean shop"),
        ("--data shop.csv", "shop.csv: name the column to predict"),
        ("--data shop.csv --target Kind", "no column 'Kind', the target; did you mean 'kind'?"),
        ("--data shop.csv --target kind --components 99", "--components 99: 77 training rows"),
        ("--data shop.csv --target kind --n-features 4", "--n-features 4: the features of a table"),
        (
            "--data shop.csv --target kind --features pca",
            "--features 'pca': the features of a table",
        ),
        (
            "--data shop.csv --target kind --task ranking",
            "choose one of classification, regression",
        ),
        ("--target kind", "--target 'kind': it belongs to a file of your own"),
        ("--data digits-4 --test a.csv", "--test 'a.csv': it belongs to a file"),
    ],
)
def test_a_mistake_in_training_on_a_file_is_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    shop(120).to_csv("shop.csv", index=False)
    assert main(["train", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error.replace(str(tmp_path) + "/", "") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["shop.csv"]


def pictures(folder, classes=("cat", "dog"), n=12, sides=(10, 14), colours=True):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(n):
            shape = (sides[k % len(sides)],) * 2 + ((3,) if colours and k % 3 == 0 else ())
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    return folder


def test_folders_of_images_are_classes(tmp_path):
    dataset = load_file(pictures(tmp_path / "pets"))
    assert dataset.classes == ("cat", "dog") and dataset.image_shape == (4, 4)
    assert dataset.name == "pets" and len(dataset.test) == 4
    both = pictures(tmp_path / "digits" / "train", classes=("0", "1", "10"))
    pictures(both.parent / "test", classes=("0", "1", "10"), n=5)
    dataset = load_file(both.parent, n_features=9)
    assert dataset.classes == (0, 1, 10) and len(dataset.test) == 15 and dataset.n_features == 9


@pytest.mark.slow  # compiles the recommended model
def test_the_command_trains_on_a_folder_of_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pets")
    assert main(["train", "--data", "pets", "--epochs", "1", "--out", "run"]) == 0
    assert "pets, 4 qubits, table" in capsys.readouterr().out
    # As the preset for images, but for the epochs of so few images.
    config = qdeq.load("run").config
    left = {n for n, v in vars(PRESETS["best"]).items() if getattr(config, n) != v}
    assert left == {"data", "epochs", "n_qubits"}
    assert evaluate("run").n_samples == 4
    (tmp_path / "pets" / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match="pets has changed since the run"):
        evaluate("run")


@pytest.mark.slow
@pytest.mark.parametrize("features", ["pool", "pca"])
def test_images_are_predicted_from_folders_files_and_arrays(
    tmp_path, monkeypatch, capsys, features
):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pets")
    run = qdeq.train(TrainConfig(data="pets", features=features, **SMALL), out="run")
    pictures(tmp_path / "new", classes=("a", "b/c"), n=3)
    monkeypatch.setattr("qdeq.runs.trained._IMAGES_AT_ONCE", 4)  # in two parts
    assert main(["predict", "run", "new"]) == 0
    found = pd.read_csv("predictions.csv")
    names = [f"{folder}/{k}.png" for folder in ("a", "b/c") for k in range(3)]
    assert list(found["file"]) == names and set(found["label"]) <= {"cat", "dog"}
    one = predict_file(run, "new/b/c/1.png", "one.csv")
    assert one.n_rows == 1
    pd.testing.assert_frame_equal(
        pd.read_csv("one.csv").drop(columns="file"),
        found.iloc[[4]].reset_index(drop=True).drop(columns="file"),
        rtol=1e-5,
    )
    images = np.stack([np.asarray(plt.imread(f"new/a/{k}.png") * 255) for k in (2,)])
    np.savez("new.npz", x=images.round().astype(np.uint8))
    five = np.repeat(images.round().astype(np.uint8), 5, axis=0)  # also in two parts
    np.testing.assert_allclose(run.predict_proba(five)[:, 0], found.iloc[2, 2], 1e-5)
    predict_file(run, "new.npz", "arrays.csv")
    assert pd.read_csv("arrays.csv").columns[0] == "label"
    np.testing.assert_allclose(pd.read_csv("arrays.csv")["probability_cat"], found.iloc[2, 2], 1e-5)
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    mistakes = {"empty": "holds no image", "one.csv": "trained on images: give a folder"}
    for name, words in mistakes.items():
        assert main(["predict", "run", name]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("features", ["pool", "pca"])
def test_a_run_on_a_named_set_of_images_predicts_images(tmp_path, features):
    run = qdeq.train(TrainConfig(data="digits-4", features=features, **SMALL), out=tmp_path / "run")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 8, 8)[np.isin(labels, (0, 3, 6, 9))]
    np.savez(tmp_path / "digits.npz", x=images / 16)
    done = predict_file(run, tmp_path / "digits.npz", tmp_path / "p.csv")
    assert done.n_rows == len(images)
    # The test split is among them: by its features every one of its images is found again.
    test = qdeq.data.load("digits-4", features=features).test.x
    if features == "pool":
        found = image_features(images, 16, white=16)
    else:
        found = run.image_components(image_features(images, 64, white=16))
    rows = [int(np.abs(found - x).sum(axis=1).argmin()) for x in test]
    np.testing.assert_allclose(found[rows], test, atol=1e-5)
    found = pd.read_csv(tmp_path / "p.csv")["label"].to_numpy()[rows]
    np.testing.assert_array_equal(found, run.predict(test))
    # Images themselves, from 0 to 1, are as good as their features.
    np.testing.assert_array_equal(run.predict(images / 16)[rows], found)
    with pytest.raises(UserError, match=r"pixels run from 0\.0 to 16\.0"):
        run.predict(images)
    with pytest.raises(UserError, match=r"x has the shape .*give images \(N, H, W\)"):
        run.predict(images[..., None, None])


def test_components_of_images_are_those_of_the_images_that_train(tmp_path):
    folder = pictures(tmp_path / "pets", n=8)  # of 10 and 14 pixels: a grid of 14
    dataset = load_file(folder, features="pca")
    n = len(dataset.train)  # of sixteen images, fewer than the usual number of components
    assert dataset.n_features == n < 16 and dataset.image_shape == (1, n)
    components = dataset.image_components
    assert components is not None and components.side == 14
    pixels = load_file(folder, n_features=14 * 14)
    x = pixels.train.x.astype(float)
    # As many components as images: they lose nothing, and are those of the singular vectors.
    np.testing.assert_allclose(components.images(dataset.train.x), x, atol=1e-4)
    singular = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[1]
    scores = np.linalg.norm(dataset.train.x, axis=0) * components.scale
    np.testing.assert_allclose(scores, singular, atol=1e-4)
    np.testing.assert_allclose(components(pixels.test.x), dataset.test.x, atol=1e-6)
    # The same numbers again, not fitted anew.
    again = load_file(folder, features="pca", image_components=components)
    assert again.image_components is components
    np.testing.assert_array_equal(again.test.x, dataset.test.x)
    assert load_file(folder, features="pca", n_features=3).train.x.shape == (n, 3)
    with pytest.raises(UserError, match=f"{n} training images of 196 pixels have at most {n} "):
        load_file(folder, features="pca", n_features=16)


def test_the_preset_for_images_takes_a_table_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shop(60).to_csv("shop.csv", index=False)
    best = PRESETS["best"].replace(data="shop.csv", target="kind")
    config, dataset = with_data(best, frozenset({"preset"}), make_console(json=False, quiet=True))
    assert config.features == "pool" and dataset is not None
    np.testing.assert_array_equal(dataset.train.x, read_table(shop(60), "kind").train.x)
    np.testing.assert_array_equal(dataset.train.x, load_dataset(best).train.x)


@pytest.mark.parametrize(
    ("words", "features", "gradient_clip"),
    [("", "pca", 1.0), ("--features=pool", "pool", 1.0), ("--preset=paper", "pool", 0.25)],
)
def test_images_are_trained_as_the_preset_for_images_unless_told(
    tmp_path, monkeypatch, words, features, gradient_clip
):
    monkeypatch.chdir(tmp_path)
    np.savez("pets.npz", x=np.random.default_rng(0).random((60, 6, 6)), y=np.arange(60) % 6)
    argv = ["--data=pets.npz", *words.split()]
    given = frozenset(word[2:].partition("=")[0] for word in argv)
    command = preset_defaults(TrainCommand, argv)
    command = dataclasses.replace(command, data="pets.npz")
    if "features" in given:
        command = dataclasses.replace(command, features=features)
    config, _ = with_data(config_of(command), given, make_console(json=False, quiet=True))
    assert (config.features, config.gradient_clip) == (features, gradient_clip)
    assert config.n_qubits == (None if "preset" in given else 10)


def test_images_of_one_size_are_those_of_from_arrays(tmp_path):
    folder = pictures(tmp_path / "pets", sides=(12,), colours=False)
    paths = sorted(folder.rglob("*.png"))
    images = np.stack([plt.imread(path) * 255 for path in paths])
    expected = from_arrays(images.round().astype(np.uint8), [path.parent.name for path in paths])
    np.testing.assert_array_equal(load_file(folder).test.x, expected.test.x)
    images, labels = images.round().astype(np.uint8), [path.parent.name for path in paths]
    expected = from_arrays(images, labels, features="pca", n_features=5)
    assert expected.image_components is not None and expected.image_components.side == 12
    assert expected.test.x.shape == (4, 5)
    with pytest.raises(UserError, match=r"features='pca': custom samples have the shape \(4, 2\)"):
        from_arrays(np.zeros((4, 2)), [0, 1, 0, 1], features="pca")


def test_arrays_of_images(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    y = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, x_test=x[:6], y_test=y[:6])
    dataset = load_file(tmp_path / "a.npz")
    assert dataset.n_features == 16 and len(dataset.test) == 6 and dataset.classes == (0, 1)
    np.savez(tmp_path / "b.npz", x=x.reshape(40, -1), y=y)
    assert load_file(tmp_path / "b.npz").preparation.targets == ("y",)


def test_mistakes_with_images_are_one_line(tmp_path):
    def refused(path, **options):
        with pytest.raises(UserError) as caught:
            load_file(path, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no folder of images: put the images" in refused(empty)
    (empty / "a.csv").write_text("x,y\n1,2\n")
    assert "(it has a.csv)" in refused(empty)
    folder = pictures(tmp_path / "pets")
    assert "target='y'" in refused(folder, target="y")
    assert "give a square number" not in refused(folder, test=empty / "a.csv")
    assert "is what trains: give other samples" in refused(folder, test=folder)
    table = empty / "a.csv"
    assert "is what trains" in refused(table, target="y", test=empty / ".." / "empty" / "a.csv")
    assert "n_features=5" in refused(folder, n_features=5)
    (folder / "cat" / "x.png").write_text("no image")
    assert "x.png cannot be read as an image" in refused(folder)
    one = pictures(tmp_path / "one", classes=("cat",))
    assert "holds one class (cat)" in refused(one)
    pictures(tmp_path / "half" / "train")
    assert "and none for the test" in refused(tmp_path / "half")
    np.savez(tmp_path / "c.npz", x=np.full((9, 4, 4), 3.0), y=np.arange(9) % 2)
    assert "outside 0 to 1" in refused(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", a=np.zeros(3))
    assert "np.savez(FILE, x=..., y=...)" in refused(tmp_path / "d.npz")


@pytest.mark.slow  # compiles another program
@pytest.mark.parametrize("targets", ["price", "price,count"])
def test_regressions_predict_in_the_units_of_the_table(targets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = shop(300).assign(price=lambda f: 1e6 * f["price"])
    frame.to_csv("shop.csv", index=False)
    words = ["--data", "shop.csv", "--target", targets, "--epochs=20", "--batch-size=32"]
    options = [o for o in OPTIONS if not o.startswith(("--epochs", "--batch-size"))]
    assert main(["train", *words, *options, "--learning-rate=0.05", "--out", "run"]) == 0
    run, names = qdeq.load("run"), targets.split(",")
    assert main(["predict", "run", "shop.csv", "--keep", "kind"]) == 0
    written = pd.read_csv("predictions.csv")
    assert written.pop("kind").tolist() == frame["kind"].tolist()
    assert list(written.columns[: len(names)]) == [f"predicted_{name}" for name in names]
    predicted = run.predict(frame).reshape(len(frame), -1)
    np.testing.assert_array_equal(written[written.columns[: len(names)]], predicted)
    gaps = frame.copy()
    gaps.loc[:4, names[0]] = None  # a gap in any target leaves its row out
    gaps.to_csv("gaps.csv", index=False)
    score = predict_file(run, "gaps.csv", "gaps-predicted.csv").score
    assert score == pytest.approx(r2_score(frame[names][5:], predicted[5:]))
    # Far better than the mean, so in the right units; a small model is not expected to do more.
    error = (predicted[:, 0] - frame["price"]).std()
    assert error < 0.7 * frame["price"].std()
    found = evaluate("run")
    assert found.n_samples == 60
    with pytest.raises(UserError, match="a regression has no classes"):
        run.predict_proba(frame)
