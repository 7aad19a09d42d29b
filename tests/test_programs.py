"""Programs are compiled once for everything that is equal, and nothing is kept but them."""

import gc
import os
import subprocess
import sys
import weakref

import jax
import numpy as np
import pytest
from compilations import compilations

from qdeq.data import Dataset, Split
from qdeq.training import programs
from qdeq.training.batches import padded_rows, permutation
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer

CONFIG = TrainConfig(
    n_qubits=2, ansatz="hardware-efficient", ansatz_layers=1, batch_size=8, start="previous"
)


def dataset(n, n_valid=5):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n + n_valid, 3)).astype(np.float32)
    y = (np.arange(n + n_valid) % 2).astype(np.int32)
    valid = Split(x[:n_valid], y[:n_valid])
    return Dataset(
        "custom", Split(x[n_valid:], y[n_valid:]), valid, valid, classes=(0, 1), image_shape=(1, 3)
    )


def train(config, data, epochs=1):
    trainer = Trainer(config, data)
    states = trainer.init_seeds([config.seed])
    history = []
    for _ in range(epochs):
        states, (metrics,) = trainer.run_epoch_seeds(states)
        history.append(metrics)
    return states, history


@pytest.fixture(scope="module")
def warm():
    """Everything that one configuration needs is compiled."""
    train(CONFIG, dataset(20), epochs=2)


@pytest.mark.parametrize(
    ("changes", "n"),
    [
        ({}, 20),
        ({"learning_rate": 0.3}, 20),
        ({"jacobian_weight": 0.1}, 20),
        ({"gradient_clip": 0.0}, 20),
        ({"dropout": 0.0}, 20),
        ({"dropout": 0.5}, 20),
        ({"tolerance": 1e-3}, 20),
        ({"epochs": 3, "valid_fraction": 0.5}, 20),
        ({"seed": 7}, 20),
        ({}, 33),
        ({}, 1),
        ({"learning_rate": 0.1, "tolerance": 1e-4}, 1000),
    ],
)
def test_numbers_of_a_configuration_and_of_samples_are_no_part_of_a_program(warm, changes, n):
    with compilations() as found:
        train(CONFIG.replace(**changes), dataset(n, n_valid=1 + n % 7), epochs=2)
    assert not found


def test_another_number_is_not_ignored(warm):
    _, (usual,) = train(CONFIG, dataset(20))
    for changes in (
        {"learning_rate": 0.3},
        {"jacobian_weight": 0.1},
        {"gradient_clip": 1e-3},
        {"dropout": 0.5},
    ):
        _, (metrics,) = train(CONFIG.replace(**changes), dataset(20))
        assert metrics["train_loss"] != usual["train_loss"], changes
    _, (loose,) = train(CONFIG.replace(tolerance=1e-2), dataset(20))
    assert loose["solver_steps_mean"] < usual["solver_steps_mean"]


def test_what_changes_the_computation_is_compiled_anew(warm):
    with compilations() as found:
        train(CONFIG.replace(batch_size=4), dataset(20))
    assert len(found) == 1  # the epoch; validation and initial values are as they were


@pytest.mark.parametrize("n", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8, 20))])
def test_rows_without_samples_change_nothing(warm, monkeypatch, n):
    config = CONFIG.replace(dropout=0.3)
    padded, history = train(config, dataset(n), epochs=2)
    monkeypatch.setattr("qdeq.training.loop.padded_rows", lambda n, batch_size: n)
    exact, expected = train(config, dataset(n), epochs=2)
    # Equal but for rounding in sums over a batch, which more zeros may group differently.
    for metrics, other in zip(history, expected, strict=True):
        for name in ("train_loss", "train_accuracy", "gradient_norm", "solver_steps_mean"):
            assert metrics[name] == pytest.approx(other[name], rel=1e-4), name
        assert metrics["circuit_executions"] == other["circuit_executions"]
    # 1e-4: an equilibrium is solved to 1e-5.
    np.testing.assert_allclose(padded.starts, exact.starts, atol=1e-4)
    assert padded.starts.shape == exact.starts.shape == (1, n, 2)


@pytest.mark.parametrize("n", [1, 2, 20, 33, 64])
def test_the_order_of_samples_does_not_depend_on_rows_without_samples(n):
    key = jax.random.key(5)
    alone = np.asarray(permutation(key, n, n))
    assert sorted(alone) == list(range(n))
    np.testing.assert_array_equal(permutation(key, np.int32(n), 64)[:n], alone)


def test_row_counts_are_few_and_hold_the_samples():
    sizes = {padded_rows(n, 32) for n in range(1, 60_001)}
    assert len(sizes) < 40
    for n in (1, 1024, 1025, 5000, 16_384, 16_385, 60_000):
        rows = padded_rows(n, 32)
        assert n <= rows <= max(1024, n + max(1024, n / 4))


def test_a_finished_training_frees_its_data(warm):
    data = dataset(20)
    alive = [weakref.ref(data.train.x), weakref.ref(data)]
    trainer = Trainer(CONFIG, data)
    trainer.run_epoch_seeds(trainer.init_seeds([0]))
    alive.append(weakref.ref(trainer))
    del data, trainer
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3


def test_threads_that_want_the_same_program_compile_it_once(warm):
    from concurrent.futures import ThreadPoolExecutor

    config = CONFIG.replace(batch_size=5)
    with compilations() as found, ThreadPoolExecutor(3) as pool:
        histories = list(pool.map(lambda _: train(config, dataset(20))[1], range(3)))
    assert len(found) == 1
    losses = {history[0]["train_loss"] for history in histories}
    assert len(losses) == 1


_SCRIPT = """
import jax, qdeq
from qdeq.training.programs import kept_on_disk
with kept_on_disk():
    jax.jit(lambda x: x + 1)(1.0)
jax.jit(lambda x: x + 2)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize(
    "setting", ["folder", "off", pytest.param("JAX's own", marks=pytest.mark.slow)]
)
def test_programs_are_kept_for_the_next_process_where_the_user_allows_it(tmp_path, setting):
    environment = {**os.environ, "QDEQ_CACHE": str(tmp_path / "ours")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if setting == "off":
        environment["QDEQ_CACHE"] = "off"
    if setting == "JAX's own":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "theirs")
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    own = list((tmp_path / "ours" / "xla").glob("*-cache"))
    # What the process compiles elsewhere is left alone, and so is JAX's configuration.
    assert len(own) == (1 if setting == "folder" else 0)
    expected = str(tmp_path / "theirs") if setting == "JAX's own" else "None"
    assert done.stdout.split() == [expected]


_FITS = """
import jax, numpy as np, qdeq
counted = {"compiled": 0, "missed": 0}
def compiled(event, _, **__):
    counted["compiled"] += event == "/jax/core/compile/backend_compile_duration"
def missed(event, **_):
    counted["missed"] += event == "/jax/compilation_cache/cache_misses"
jax.monitoring.register_event_duration_secs_listener(compiled)
jax.monitoring.register_event_listener(missed)
x = np.random.default_rng(0).normal(size=(60, 3))
y = (x[:, 0] > x[:, 1]).astype(int)
chosen = dict(ansatz="hardware-efficient", ansatz_layers=1, epochs=2, batch_size=16, random_state=0)
for rate, n in ((0.1, 60), (0.03, 41)):
    qdeq.QDEQClassifier(**chosen, mode="direct", learning_rate=rate).fit(x[:n], y[:n]).predict(x)
    print(counted["compiled"], counted["missed"])
"""


@pytest.mark.slow  # three processes
def test_the_next_process_finds_all_programs_of_a_fit_and_the_next_fit_needs_no_more(tmp_path):
    def fits(cache):
        environment = {**os.environ, "QDEQ_CACHE": cache, "QDEQ_NATIVE": "off"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [sys.executable, "-c", _FITS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]

    first, second = fits(str(tmp_path)), fits(str(tmp_path))
    n_programs, missed = first[0]
    # Initial values, an epoch, validation, predictions.
    assert n_programs == missed == 4
    # A program that is read from the folder counts as compiled, and not as missed.
    assert first == [(4, 4)] * 2 and second == [(4, 0)] * 2
    without = fits("off")
    assert without[0] == without[1] and without[0][1] == 0


def test_a_cache_folder_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("QDEQ_CACHE", str(blocked))
    with programs.kept_on_disk():
        assert jax.jit(lambda x: x * 3.5)(2.0) == 7
