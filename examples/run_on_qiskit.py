"""Run a trained angle-encoded model on a simulated device of IBM's, and print how it classifies.

    qdeq train --data digits-4 --encoding angle --preset demo --out RUN
    python examples/run_on_qiskit.py RUN

The circuit makes the whole journey: `qdeq export` writes OpenQASM 3, Qiskit reads it, Aer runs it
with the noise of a fake backend. Two ways of inference: one evaluation at the equilibrium that
qdeq computed, and the whole solve on the device with a fixed number of steps; each plain and with
error mitigation.
"""

import argparse
import json
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from qiskit_ibm_runtime import fake_provider

from qdeq.circuits import MeasurementEnsemble
from qdeq.devices import Ledger, solve_on_device
from qdeq.devices.mitigation import ZeroNoiseExtrapolation
from qdeq.equilibrium import KrasnoselskiiMann
from qdeq.errors import UserError
from qdeq.interop.qasm import from_qasm3
from qdeq.interop.qasm.export import export_run, open_run
from qdeq.interop.qiskit import QiskitExecutor
from qdeq.lowering import Program

FOLDS = (1, 3)  # a straight line through two points: the least added variance


def executors(circuit, observables, backend, options):
    """Name to executor; each with a ledger of its own."""

    def make(ledger, **more):
        return QiskitExecutor(
            circuit, observables, backend=backend, ledger=ledger, **options, **more
        )

    def extrapolated(ledger, **more):
        return ZeroNoiseExtrapolation.of(
            [make(ledger, fold=fold, **more) for fold in FOLDS], scale_factors=FOLDS
        )

    readout = {"calibration_shots": 20_000}
    return {
        "without noise": QiskitExecutor(circuit, observables, ledger=Ledger(), **options),
        "noisy": make(Ledger()),
        "noisy, readout corrected": make(Ledger(), **readout),
        "noisy, extrapolated": extrapolated(Ledger()),
        "noisy, both": extrapolated(Ledger(), **readout),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run folder of `qdeq train --encoding angle`")
    parser.add_argument("--backend", default="FakeManilaV2", help="class in fake_provider")
    parser.add_argument("--shots", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=None, help="test samples; all if left out")
    parser.add_argument(
        "--steps", type=int, default=10, help="solver steps on the device; 0 leaves solves out"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not hasattr(fake_provider, arguments.backend):
        raise UserError(f"--backend {arguments.backend}: qiskit_ibm_runtime.fake_provider has none")

    run = open_run(arguments.run)
    if run.config.encoding != "angle" or run.config.mode != "implicit":
        raise UserError(f"{arguments.run}: give a run with --encoding angle and --mode implicit")
    files = export_run(run, samples=0)
    manifest = json.loads(files["manifest.json"])
    circuit = from_qasm3(files["circuit.qasm"])  # through qiskit.qasm3.loads; all inputs open
    observables = MeasurementEnsemble(circuit.n_qubits, tuple(manifest["observables"]))
    backend = getattr(fake_provider, arguments.backend)()
    options = {"shots": arguments.shots, "seed": arguments.seed}

    classifier, model = run.classifier, run.classifier.model
    x, y = (a[: arguments.samples] for a in (run.dataset.test.x, run.dataset.test.y))
    equilibrium = eqx.filter_jit(jax.vmap(lambda row: classifier(row, run.layer).solution.value))
    at_equilibrium = np.asarray(equilibrium(jnp.asarray(x)))

    def accuracy(m):
        logits = jax.vmap(classifier.read_out)(jnp.asarray(m, model.theta.dtype))
        return np.mean(np.argmax(np.asarray(logits), axis=1) == y)

    print(f"{len(y)} test samples, {arguments.shots} shots, {backend.name}\n")
    print("| | accuracy | mean error of m | residual | executions |")
    print("|---|---|---|---|---|")

    def report(name, m, residual, ledger):
        error = np.abs(m - at_equilibrium).mean()
        executions = f"{ledger.executions:,}" if ledger else "0"
        print(f"| {name} | {accuracy(m):.3f} | {error:.3f} | {residual:.3f} | {executions} |")
        sys.stdout.flush()

    report("exact, in qdeq", at_equilibrium, 0.0, None)

    # (a) m* from simulation, one evaluation on the device. Columns are the inputs' in the manifest.
    theta = [entry["value"] for entry in manifest["inputs"] if entry["is"] == "trained angle"]
    v = x + at_equilibrium @ np.array(manifest["reinjection"]).T
    rows = np.concatenate([np.tile(theta, (len(v), 1)), v], axis=1)
    for name, executor in executors(circuit, observables, backend, options).items():
        measured = executor(rows)
        residual = np.linalg.norm(measured - at_equilibrium, axis=1).mean()
        report(f"f(m*, x) {name}", measured, residual, executor.ledger)

    # (b) everything on the device, with so many steps whatever happens.
    if not arguments.steps:
        return
    program = Program.of(model)
    solver = KrasnoselskiiMann(rtol=0.0, atol=0.0)
    for name, executor in executors(program.circuit, model.observables, backend, options).items():
        found = solve_on_device(
            model, executor, x, solver=solver, tolerance=0.0, max_steps=arguments.steps
        )
        residual = found.absolute_residual.mean()
        report(f"solve, {name}", found.value, residual, executor.ledger)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"run_on_qiskit: {error}")
