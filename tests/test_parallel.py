"""Devices and processes change where numbers are computed, not the numbers."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from qdeq.cli import main
from qdeq.errors import UserError
from qdeq.training.parallel import Layout, compile_lowered
from qdeq.training.processes import Processes, wait_for_all_processes

# Compiles three layouts on four virtual devices: what is cheap to compile stands in for the rest.
# 62 samples a batch do not divide by four: the last device's part is filled up.
FOUR_DEVICES = """
import jax, json, numpy as np
jax.config.update("jax_enable_x64", True)
from qdeq.data import load
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer
from qdeq.training.parallel import Layout

config = TrainConfig(
    epochs=2, batch_size=62, solver="picard", max_steps=8, jacobian_weight=0.0, dropout=0.1,
    tolerance=3e-4, fallback="none", start="previous",
)
data = load("digits-4")
found = {}
for name, seeds, devices in (("one", [3, 0, 1], 1), ("both", [3, 0, 1], 4), ("batch", [3], 4)):
    trainer = Trainer(config, data, layout=Layout.of(len(seeds), n_devices=devices))
    states, _ = trainer.run_epoch_seeds(trainer.init_seeds(seeds))
    states, metrics = trainer.run_epoch_seeds(states)
    found[name] = {
        "mesh": trainer.layout.mesh and list(trainer.layout.mesh.shape.values()),
        "theta": np.asarray(states.classifier.model.theta).tolist(),
        "starts": [np.linalg.norm(s, axis=1).tolist() for s in states.starts],
        "metrics": [
            [m[k] for k in ("train_loss", "valid_loss", "gradient_norm", "residual_max")]
            for m in metrics
        ],
    }
print(json.dumps(found))
"""

TRAIN = (  # noqa: SIM905
    "train --epochs 2 --solver picard --adjoint jacobian-free --max-steps 8 --jacobian-weight 0 "
    "--batch-size 64 --quiet"
).split()


def python(*words, **environment):
    return subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.mark.slow
def test_four_devices_give_the_numbers_of_one():
    flags = "--xla_force_host_platform_device_count=4"
    found = json.loads(output(python("-c", FOUR_DEVICES, XLA_FLAGS=flags)))
    assert [found[name]["mesh"] for name in ("one", "both", "batch")] == [None, [2, 2], [1, 4]]
    for name in ("both", "batch"):
        for seed, (theta, metrics) in enumerate(
            zip(found[name]["theta"], found[name]["metrics"], strict=True)
        ):
            # float64: only the order of sums differs
            assert theta == pytest.approx(found["one"]["theta"][seed], abs=1e-9)
            starts = found[name]["starts"][seed]
            assert starts == pytest.approx(found["one"]["starts"][seed], abs=1e-7)
            assert 0.5 < np.mean(np.array(starts) > 0) < 1  # zero where none was found
            assert metrics == pytest.approx(found["one"]["metrics"][seed], rel=1e-9)


@pytest.mark.slow
def test_two_processes_give_the_run_folder_of_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = ["-m", "qdeq", *TRAIN, "--out"]
    processes = [
        python(
            *words,
            str(tmp_path / "two"),
            QDEQ_COORDINATOR=f"localhost:{port}",
            QDEQ_PROCESSES="2",
            QDEQ_PROCESS_ID=str(number),
        )
        for number in (0, 1)
    ]
    try:
        for process in processes:
            output(process)
    finally:
        for process in processes:
            process.kill()
    output(python(*words, str(tmp_path / "one")))
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        p.name for p in (tmp_path / "one").iterdir()
    }
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two")]
    for name in ("test_accuracy", "valid_accuracy", "test_loss", "residual_mean"):
        # float32: the order of sums differs, and residuals far below the tolerance are rounding.
        assert summaries[0][name] == pytest.approx(summaries[1][name], rel=1e-3, abs=1e-6)


def test_processes_meet_in_public_where_jax_keeps_its_coordination_elsewhere(monkeypatch):
    met = []
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr("jax.experimental.multihost_utils.sync_global_devices", met.append)
    monkeypatch.setitem(sys.modules, "jax._src.distributed", None)  # its import fails
    wait_for_all_processes()
    wait_for_all_processes()
    assert len(set(met)) == 2


def test_one_device_needs_no_mesh():
    layout = Layout.of(8, n_devices=1)
    assert layout.mesh is None and layout.batch_axis is None and layout.n_devices == 1


def test_more_devices_than_there_are_is_a_users_mistake():
    with pytest.raises(UserError, match="devices=1000: JAX has 1"):
        Layout.of(1, n_devices=1000)


def test_processes_come_from_options_or_the_environment():
    environment = {
        "QDEQ_COORDINATOR": "node0:4321",
        "QDEQ_PROCESSES": "2",
        "QDEQ_PROCESS_ID": "1",
    }
    assert Processes.of(None, None, None, environment={}) is None
    expected = Processes("node0:4321", 2, 1)
    assert Processes.of(None, None, None, environment=environment) == expected
    assert Processes.of("node0:4321", 2, None, environment=environment) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--processes 2", "belong together"),
        ("--coordinator here --processes 2 --process-id 0", "give HOST:PORT"),
        ("--coordinator a:1 --processes 2 --process-id 2", "numbered from 0 to 1"),
    ],
)
def test_half_an_address_is_a_users_mistake(capsys, options, words):
    assert main(["train", *options.split()]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("unknown", "kept"),
    [
        ((), {"xla_cpu_use_fusion_emitters", "xla_backend_optimization_level"}),
        (("xla_cpu_use_fusion_emitters",), {"xla_backend_optimization_level"}),
        (("xla_cpu_use_fusion_emitters", "xla_backend_optimization_level"), set()),
    ],
)
def test_an_option_that_xla_does_not_know_takes_no_other_with_it(monkeypatch, unknown, kept):
    class Lowered:
        def compile(self, compiler_options=None):
            if set(compiler_options or {}) & set(unknown):
                raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")
            return set(compiler_options or {})

    monkeypatch.setattr("qdeq.native.serves", lambda dtype: True)
    assert compile_lowered(Lowered()) == kept
