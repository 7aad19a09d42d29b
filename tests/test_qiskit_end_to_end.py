"""A trained model exported, read by Qiskit and run under a device's noise; training on Aer."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qdeq
from qdeq.circuits import MeasurementEnsemble
from qdeq.devices import Budget, DeviceRecipe, Ledger, train_on_device
from qdeq.interop.qasm import from_qasm3
from qdeq.interop.qasm.export import export_run, open_run
from qdeq.lowering import Program
from qdeq.runs.run import train
from qdeq.training.config import PRESETS

pytest.importorskip("qiskit_aer")
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qdeq.interop.qiskit import QiskitExecutor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(PRESETS["demo"].replace(encoding="angle"), out=folder)
    return open_run(folder)


def test_an_exported_model_classifies_digits_on_a_noisy_device(run):
    files = export_run(run, samples=0)
    manifest = json.loads(files["manifest.json"])
    x, y = run.dataset.test.x, run.dataset.test.y
    classifier = run.classifier
    solve = eqx.filter_jit(jax.vmap(lambda row: classifier(row, run.layer).solution.value))
    equilibria = np.asarray(solve(jnp.asarray(x)))
    executor = QiskitExecutor(
        from_qasm3(files["circuit.qasm"]),
        MeasurementEnsemble(4, tuple(manifest["observables"])),
        backend=FakeManilaV2(),
        shots=1000,
    )
    theta = [entry["value"] for entry in manifest["inputs"] if "value" in entry]
    encoded = x + equilibria @ np.array(manifest["reinjection"]).T
    measured = executor(np.concatenate([np.tile(theta, (len(x), 1)), encoded], axis=1))

    def accuracy(m):
        return np.mean(np.argmax(jax.vmap(classifier.read_out)(jnp.asarray(m)), axis=1) == y)

    assert accuracy(equilibria) > 0.85
    assert accuracy(measured) > accuracy(equilibria) - 0.1
    # Noise of the device, not of the 1000 shots: f(m*, x) is off by more than they explain.
    residual = np.abs(measured - equilibria).mean()
    assert 1 / np.sqrt(1000) < residual < 0.1
    aer = executor.device.simulator
    assert (aer.circuits, aer.shots, aer.jobs) == (len(x), 1000 * len(x), 1)
    assert (executor.ledger.executions, executor.ledger.shots) == (aer.circuits, aer.shots)


def test_training_with_aer_as_the_only_evaluator_learns_within_its_budget(run):
    keys = jax.random.split(jax.random.key(0))
    classifier = qdeq.Classifier(qdeq.paper_model(encoding="angle", key=keys[0]), 4, key=keys[1])
    executor = QiskitExecutor(
        Program.of(classifier.model).circuit,
        classifier.model.observables,
        shots=200,
        ledger=Ledger(budget=Budget(executions=3000)),
    )
    recipe = DeviceRecipe(
        batch_size=16, learning_rate=0.05, max_steps=4, adjoint="jacobian-free", estimator="spsa"
    )
    data = run.dataset.train
    training = train_on_device(classifier, executor, data.x, data.y, steps=1000, recipe=recipe)

    @eqx.filter_jit
    def loss(classifier):
        logits = jax.vmap(lambda row: classifier(row, qdeq.Equilibrium()).logits)(
            jnp.asarray(data.x)
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, data.y).mean()

    before, after = float(loss(classifier)), float(loss(training.classifier))
    assert after < before - 0.2, (before, after)
    ledger, aer = executor.ledger, executor.device.simulator
    assert training.stopped == "budget"
    assert 2800 < ledger.executions <= 3000
    assert (ledger.executions, ledger.shots) == (aer.circuits, aer.shots)
    assert ledger.submissions == aer.jobs
