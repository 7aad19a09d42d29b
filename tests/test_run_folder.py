"""A run folder gives back what was written, and says which file is damaged and what to do."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from summaries import summary

from qdeq._arrays import (
    arrays_to_tree,
    read_arrays,
    tree_to_arrays,
    write_arrays,
    write_atomically,
)
from qdeq.cli.config_file import read_options
from qdeq.errors import UserError
from qdeq.interop.qasm.export import write_export
from qdeq.runs import run_folder
from qdeq.runs.predictions import predict_file
from qdeq.runs.report import report_page
from qdeq.runs.run_folder import Checkpoint, RunFolder
from qdeq.training.config import TrainConfig


class Thing(eqx.Module):
    """One of each kind of leaf that a training state has."""

    angles: jax.Array
    parts: tuple[jax.Array, dict[str, jax.Array]]
    label: str = eqx.field(static=True)


def thing(seed=0.0, label="a"):
    key = jax.random.key_data(jax.random.key(7))
    parts = (jnp.array(3, jnp.int32), {"key": key, "flag": jnp.array(True)})
    return Thing(jnp.arange(6.0).reshape(2, 3) + seed, parts, label)


def epoch(number):
    return {"epoch": number, "valid_loss": 1 / number, "residual_max": float("nan")}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run")


def test_a_new_run_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        RunFolder.create(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_run_accepts_an_empty_folder(tmp_path):
    assert RunFolder.create(tmp_path).path == tmp_path


def test_a_folder_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")  # chmod would not stop the superuser
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder.create(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "ask",
    [
        RunFolder.open,
        RunFolder.create,
        read_options,
        lambda path: write_export({"a.qasm": ""}, path),
        lambda path: predict_file(None, "new.csv", f"{path}.csv"),
    ],
)
def test_a_path_that_the_system_does_not_look_for_is_a_users_error(ask, tmp_path):
    # In a folder of somebody else it does not look either, but for the superuser.
    with pytest.raises(UserError, match=r"cannot be used \(File name too long\); give another one"):
        ask(tmp_path / ("long" * 99))


def test_a_full_disk_leaves_no_half_file_and_no_folder_that_a_second_try_would_be_refused(
    folder, monkeypatch
):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("qdeq._arrays.os.fsync", full)
    for write in (
        lambda: folder.write_config(TrainConfig()),
        lambda: folder.write_metrics([epoch(1)]),
        lambda: folder.write_checkpoint(Checkpoint({"a": np.zeros(3)}, 1, 0.5)),
        lambda: folder.write_report("a page"),
    ):
        with pytest.raises(UserError, match="No space left on device"):
            write()
        assert not [path for path in folder.path.rglob("*") if path.is_file()]
    folder.discard()  # as `train` does where it cannot begin
    assert not folder.path.exists()


def test_only_a_folder_with_a_configuration_is_a_run(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no config\.json"):
        RunFolder.open(tmp_path)


def test_runs_that_start_within_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder.time, "strftime", lambda _: "20250131-235959")
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create_in_runs(TrainConfig()), range(8)))
    names = sorted(folder.path.name for folder in folders)
    stem = "digits-4-implicit-20250131-235959"
    assert names == sorted([stem, *(f"{stem}-{number}" for number in range(2, 9))])


def test_a_run_that_was_moved_goes_by_its_new_name(folder, tmp_path):
    folder.write_config(TrainConfig())
    folder.write_summary(summary(run=str(folder.path)))
    moved = RunFolder(folder.path.rename(tmp_path / "moved"))
    assert moved.read_summary().run == str(tmp_path / "moved")
    page = report_page(TrainConfig(), moved.read_summary(), {})
    assert str(moved.path) in page and str(folder.path) not in page


def test_of_writers_of_one_file_each_leaves_it_whole(tmp_path):
    def write(number):
        for _ in range(20):
            write_atomically(tmp_path / "table.md", f"{number}\n".encode() * 2000)
            assert len(set((tmp_path / "table.md").read_bytes().split())) == 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_of_runs_that_are_given_the_same_folder_one_gets_it(tmp_path):
    def create(_):
        try:
            return RunFolder.create(tmp_path / "run")
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(create, range(8)))
    refused = [result for result in results if isinstance(result, str)]
    assert len(refused) == 7
    assert all("exists and is not empty; choose another one" in message for message in refused)


def test_a_run_that_another_process_trains_is_refused(folder):
    # flock asks per open file, so that two of one process exclude each other like two processes.
    refused = pytest.raises(UserError, match="another process is training it")
    with folder.held(), refused, folder.held():
        pass
    with folder.held():  # let go at the end
        pass


def test_a_folder_whose_run_could_not_start_is_removed(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.discard()
    assert not folder.path.exists()
    folder = RunFolder.create(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    folder.discard()
    assert (folder.path / "notes.txt").exists()


def test_a_model_comes_back_with_every_bit_dtype_and_shape(folder):
    folder.save_model(thing(seed=0.1))
    loaded = folder.load_model(thing())
    for saved, read in zip(jax.tree.leaves(thing(seed=0.1)), jax.tree.leaves(loaded), strict=True):
        assert saved.dtype == read.dtype and saved.shape == read.shape
        np.testing.assert_array_equal(saved, read)


def test_arrays_are_named_by_their_place_in_the_tree():
    assert sorted(tree_to_arrays(thing())) == ["angles", "parts.0", "parts.1.flag", "parts.1.key"]


def test_arrays_come_back_whatever_their_order_in_memory(tmp_path):
    square = np.arange(6.0).reshape(2, 3)
    arrays = {"as they are": square, "transposed": square.T, "steps": square[:, ::2]}
    arrays["one number"] = np.array(2.5)
    write_arrays(tmp_path / "a", arrays, metadata={"format": "test"})
    read, _ = read_arrays(tmp_path / "a", kind="test")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_host_copies_outlive_a_donated_buffer():
    tree = thing()
    arrays = tree_to_arrays(tree)
    tree.angles.delete()  # what donation does
    np.testing.assert_array_equal(arrays["angles"], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("angles"),
        lambda arrays: arrays.update(extra=np.zeros(2)),
        lambda arrays: arrays.update(angles=np.zeros((3, 2), np.float32)),
        lambda arrays: arrays.update(angles=np.zeros((2, 3), np.float64)),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_file(change, tmp_path):
    arrays = tree_to_arrays(thing())
    change(arrays)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        arrays_to_tree(thing(), arrays, source=tmp_path / "model.safetensors")


@pytest.mark.parametrize("length", [0, 4, 60, -1])
def test_a_model_file_that_was_cut_short_is_refused(folder, length):
    folder.save_model(thing())
    folder.model_path.write_bytes(folder.model_path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        folder.load_model(thing())


def test_a_missing_model_and_a_file_of_another_kind_are_refused(folder):
    with pytest.raises(UserError, match="does not exist"):
        folder.load_model(thing())
    folder.write_checkpoint(Checkpoint(tree_to_arrays(thing()), 1, 0.0))
    folder.checkpoint_path.rename(folder.model_path)
    with pytest.raises(UserError, match="format 'qdeq-checkpoint-1'"):
        folder.load_model(thing())


def test_a_checkpoint_comes_back(folder):
    folder.write_checkpoint(Checkpoint(tree_to_arrays(thing()), 4, 1.5))
    folder.write_checkpoint(Checkpoint(tree_to_arrays(thing(seed=0.1)), 5, 1.75))
    checkpoint = folder.read_checkpoint()
    assert (checkpoint.epoch, checkpoint.compile_seconds) == (5, 1.75)
    np.testing.assert_array_equal(checkpoint.arrays["angles"], thing(seed=0.1).angles)
    assert [path.name for path in folder.checkpoint_path.parent.iterdir()] == ["state.safetensors"]


def test_metrics_come_back_as_far_as_the_checkpoint(folder):
    for number in (1, 2, 3):
        folder.append_metrics(epoch(number))
    with folder.metrics_path.open("a") as file:
        file.write('{"epoch": 4, "vali')  # killed while writing
    history = folder.read_metrics(epochs=2)
    assert [line["epoch"] for line in history] == [1, 2]
    assert history[1]["valid_loss"] == 1 / 2 and history[1]["residual_max"] is None
    folder.write_metrics(history)
    folder.append_metrics(epoch(3))
    assert [line["epoch"] for line in folder.read_metrics(epochs=3)] == [1, 2, 3]


def test_metrics_that_miss_an_epoch_of_the_checkpoint_are_refused(folder):
    folder.append_metrics(epoch(1))
    with pytest.raises(UserError, match=r"has 1 epochs where the checkpoint has 2"):
        folder.read_metrics(epochs=2)
    folder.append_metrics(epoch(3))
    with pytest.raises(UserError, match="damaged in line 2"):
        folder.read_metrics(epochs=2)


def test_every_line_of_metrics_is_strict_json(folder):
    folder.append_metrics(epoch(1))

    def refuse(name):
        raise AssertionError(name)  # NaN and Infinity are Python's own

    json.loads(folder.metrics_path.read_text(), parse_constant=refuse)


def test_an_unfinished_run_has_no_summary_and_says_how_to_go_on(folder):
    folder.write_config(TrainConfig())
    with pytest.raises(UserError, match="--resume"):
        folder.read_summary()


def test_the_folder_of_another_program_is_named_as_such(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    other = RunFolder.open(tmp_path)
    for read in (other.read_config, other.read_summary):
        with pytest.raises(UserError, match="is not a configuration of qdeq"):
            read()


def test_a_run_on_a_table_without_its_preparation_says_what_is_missing(folder):
    folder.write_config(TrainConfig())
    assert folder.read_preparation() is None
    folder.write_config(TrainConfig(data="wine.csv", target="kind"))
    with pytest.raises(UserError, match=r"preparation\.json is not there.*wine\.csv"):
        folder.read_preparation()
