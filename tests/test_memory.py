"""What does not fit into memory is refused before it is allocated, with what would fit."""

import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import qdeq
from qdeq._memory import available_memory
from qdeq.circuits import table_circuit
from qdeq.circuits.noise_text import parse_noise
from qdeq.circuits.tables import circuit_by_names
from qdeq.cli import main
from qdeq.data import from_arrays
from qdeq.models.memory import bytes_needed, check_memory, check_memory_of
from qdeq.runs.summary import peak_memory_mb
from qdeq.training import TrainConfig, Trainer

RNG = np.random.default_rng(0)


@pytest.fixture
def sixteen_gigabytes(monkeypatch):
    monkeypatch.setattr("qdeq.models.memory.available_memory", lambda: 16e9)


def images(n_features=16):
    return from_arrays(RNG.normal(size=(40, n_features)), np.arange(40) % 2)


@pytest.mark.parametrize("n_qubits", [28, 30, 100])
def test_too_many_qubits_are_refused_at_once_with_what_fits(sixteen_gigabytes, n_qubits):
    began = time.perf_counter()
    with pytest.raises(qdeq.UserError, match=rf"n_qubits={n_qubits}: .* GB are free: n_q") as found:
        Trainer(TrainConfig(n_qubits=n_qubits), images()).init()
    # Nothing is compiled: a tenth of a second, and ten times as long on a busy machine.
    assert time.perf_counter() - began < 1
    fits = int(str(found.value).partition("free: n_qubits=")[2].split()[0])
    for n, is_fine in ((fits, True), (fits + 1, False)):
        measured = circuit_by_names(n, "amplitude", n_features=16)
        assert (bytes_needed(measured, batch_size=1024) <= 16e9) is is_fine
    assert 18 <= fits <= 24 and "16.0 GB are free" in str(found.value)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"method": "density-matrix", "n_qubits": 14, "encoding": "table"}, "density-matrix"),
        ({"uploads": 2, "n_qubits": 24, "encoding": "table", "ansatz": "paper"}, "statevector"),
        ({"observables": "xyz", "n_qubits": 27}, "quadratic-forms"),
        ({"n_qubits": 27, "noise": "readout=0.01"}, "quadratic-forms"),
    ],
)
def test_every_path_has_its_limit(sixteen_gigabytes, options, path):
    with pytest.raises(qdeq.UserError, match=rf"at once \({path}, \d+ observables\)"):
        Trainer(TrainConfig(**options), images()).init()


def test_an_estimator_refuses_it_as_well(sixteen_gigabytes):
    x = RNG.normal(size=(20, 4))
    wide = qdeq.QDEQClassifier(n_qubits=30, encoding="amplitude", random_state=0)
    with pytest.raises(qdeq.UserError, match="n_qubits=30: training needs about"):
        wide.fit(x, np.arange(20) % 2)


def test_a_circuit_inside_of_ones_own_model_counts(sixteen_gigabytes):
    measured = table_circuit(26, axes=("RX",), n_uploads=2)
    large = qdeq.QuantumModel(np.ones(measured.n_parameters), measured=measured)
    with pytest.raises(qdeq.UserError, match="take fewer qubits or observables"):
        check_memory_of({"inner": [large]}, batch_size=256)
    check_memory_of({"inner": large}, batch_size=1)


def test_light_cones_of_a_hundred_qubits_fit(sixteen_gigabytes):
    measured = circuit_by_names(100, "table", ansatz="hardware-efficient", ansatz_layers=1)
    assert bytes_needed(measured, batch_size=1024) < 1e7
    check_memory(measured, batch_size=1024)


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("", {}, 8e9),
        # A container whose memory is full of copies of files, and a job of a batch system in it.
        ("0::/", {"memory.max": 4e9, "memory.current": 4e9, "cached": 3e9}, 3e9),
        ("0::/job/step", {"job/memory.max": 2e9, "job/memory.current": 5e8, "cached": 0}, 1.5e9),
        ("0::/job", {"job/memory.max": "max", "job/memory.current": 5e8, "cached": 0}, 8e9),
        (
            "9:pids:/\n4:cpu,memory:/docker/ab",
            {"memory/memory.limit_in_bytes": 1e9, "memory/memory.usage_in_bytes": 6e8, "cached": 0},
            4e8,
        ),
    ],
)
def test_free_memory_is_what_the_machine_and_every_group_leave(groups, files, free, tmp_path):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 7812500 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    cached = files.pop("cached", 0)
    for name, content in files.items():
        path = tmp_path / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content if isinstance(content, str) else int(content)}\n")
        path.with_name("memory.stat").write_text(f"anon 1\ninactive_file {int(cached)}\n")
    assert available_memory(tmp_path) == free


def test_numbers_of_twice_the_size_need_twice_the_memory(x64):
    sizes = {}
    for wide in (False, True):
        with jax.enable_x64(wide):
            measured = circuit_by_names(20, "amplitude", n_features=16)
            sizes[wide] = bytes_needed(measured, batch_size=256)
    assert 1.9 < sizes[True] / sizes[False] <= 2


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    large = b"1" * int(3e8)
    code = "import qdeq.runs.summary as s; print(s.peak_memory_mb())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert len(large) and float(found.stdout) < peak_memory_mb()


@pytest.mark.slow  # compiles a hundred wires
def test_a_hundred_qubits_are_a_model(sixteen_gigabytes):
    config = TrainConfig(
        n_qubits=100, encoding="table", ansatz="hardware-efficient", ansatz_layers=1
    )
    assert Trainer(config, images()).init().classifier.model.circuit.n_qubits == 100


def test_more_of_anything_needs_more():
    def table(n, **options):
        return table_circuit(n, n_uploads=2, ansatz="strongly-entangling", **options)

    assert bytes_needed(table(9), batch_size=7) == 2 * 7 * 2**9 * 8
    noise = parse_noise("readout=0.1")
    assert bytes_needed(table(9, noise=noise), batch_size=7) == 2 * 7 * 4**9 * 4
    sizes = [
        bytes_needed(circuit_by_names(n, "amplitude", n_features=16), batch_size=256)
        for n in range(10, 40)
    ]
    assert sorted(sizes) == sizes


def test_the_command_ends_in_one_line(sixteen_gigabytes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--n-qubits", "30"]) == 2
    error = capsys.readouterr().err
    assert "--n-qubits 30: training needs" in error and error.count("\n") == 1
    assert not list(tmp_path.glob("runs/*"))
