"""Train on digits with Qiskit's Aer as the only evaluator of circuits, within a budget.

    python examples/train_on_qiskit.py
    python examples/train_on_qiskit.py --backend FakeManilaV2 --executions 3000

Prints the exact loss and accuracy before and after, and what was spent: by the ledger, and by what
Aer's own results say.
"""

import argparse
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from qiskit_ibm_runtime import fake_provider

import qdeq
import qdeq.data
from qdeq.devices import Budget, DeviceRecipe, Ledger, train_on_device
from qdeq.errors import UserError
from qdeq.interop.qiskit import QiskitExecutor
from qdeq.lowering import Program


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="class in fake_provider; Aer without noise if left out")
    parser.add_argument("--executions", type=int, default=6000, help="budget")
    parser.add_argument("--shots", type=int, default=200)
    parser.add_argument("--estimator", choices=("spsa", "shift"), default="spsa")
    parser.add_argument("--adjoint", choices=("jacobian-free", "implicit"), default="jacobian-free")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    backend = None
    if arguments.backend is not None:
        if not hasattr(fake_provider, arguments.backend):
            raise UserError(f"--backend {arguments.backend}: fake_provider has none of this name")
        backend = getattr(fake_provider, arguments.backend)()

    data = qdeq.data.load("digits-4")
    model_key, head_key = jax.random.split(jax.random.key(arguments.seed))
    model = qdeq.paper_model(encoding="angle", key=model_key)
    classifier = qdeq.Classifier(model, 4, dropout=0.0, key=head_key)
    executor = QiskitExecutor(
        Program.of(model).circuit,
        model.observables,
        backend=backend,
        shots=arguments.shots,
        seed=arguments.seed,
        ledger=Ledger(budget=Budget(executions=arguments.executions)),
    )
    recipe = DeviceRecipe(
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        max_steps=4,
        adjoint=arguments.adjoint,
        estimator=arguments.estimator,
        seed=arguments.seed,
    )

    @eqx.filter_jit
    def exact(classifier, x, y):
        logits = jax.vmap(lambda row: classifier(row, qdeq.Equilibrium()).logits)(x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), (logits.argmax(axis=1) == y).mean()

    def report(when, classifier):
        loss, _ = exact(classifier, jnp.asarray(data.train.x), jnp.asarray(data.train.y))
        _, accuracy = exact(classifier, jnp.asarray(data.test.x), jnp.asarray(data.test.y))
        print(f"{when}: training loss {loss:.3f}, test accuracy {accuracy:.3f}", flush=True)

    report("before", classifier)
    training = train_on_device(
        classifier, executor, data.train.x, data.train.y, steps=10_000, recipe=recipe
    )
    report(f"after {training.step} steps", training.classifier)
    ledger, aer = executor.ledger, executor.device.simulator
    for name, counts in (
        ("ledger", (ledger.executions, ledger.shots, ledger.submissions)),
        ("Aer", (aer.circuits, aer.shots, aer.jobs)),
    ):
        executions, shots, jobs = counts
        print(f"{name}: {executions:,} executions, {shots:,} shots, {jobs} jobs")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"train_on_qiskit: {error}")
