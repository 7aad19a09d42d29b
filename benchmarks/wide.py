"""More qubits than a statevector holds: a shallow local circuit on 100 wires, by light cones."""

import jax
import jax.numpy as jnp

from benchmarks import targets
from benchmarks.floors import step_floor
from benchmarks.groups import Bench, measure, solved_note
from benchmarks.measurements import Entry
from benchmarks.programs import qdeq_epoch, with_classifier
from qdeq.circuits import AngleEncoding, Circuit, Operation, z_of_every_wire
from qdeq.models import Classifier, QuantumModel
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer

WIDE_QUBITS, WIDE_BATCH = 100, 32


def wide_group(bench: Bench, depth: int) -> list[Entry]:
    """A shallow local circuit on 100 qubits by light cones."""
    inputs = bench.inputs(WIDE_BATCH, 10)  # 100 features: one RY per wire
    trainer = Trainer(
        TrainConfig(n_qubits=10, n_features=100, encoding="angle", batch_size=WIDE_BATCH),
        inputs.dataset(),
    )
    model_key, head_key = jax.random.split(jax.random.key(0))
    model = wide_model(depth, model_key)
    classifier = Classifier(model, inputs.n_classes, key=head_key)
    bench.stage(f"{WIDE_QUBITS} qubits, depth {depth}: compiling")
    program = qdeq_epoch(trainer, with_classifier(trainer, classifier))
    bench.stage(f"{WIDE_QUBITS} qubits, depth {depth}: timing")
    found = measure({targets.IMPLICIT: program}, bench.seconds)
    ours = found[targets.IMPLICIT]
    return [
        Entry(
            f"wide-{depth}",
            f"{WIDE_QUBITS} qubits, depth {depth} brickwork, angle, batch {WIDE_BATCH}, "
            "training step",
            target=targets.WIDE[depth],
            reached=ours.median,
            floor=step_floor(model, WIDE_BATCH, ours.solver_steps_mean or 0.0, inputs.n_classes),
            measurements=found,
            note=solved_note(found),
        )
    ]


def wide_model(depth: int, key: jax.Array, n_qubits: int = WIDE_QUBITS) -> QuantumModel:
    """RY by one feature per wire, then `depth` rounds of RY and RZ on all wires and CNOTs on
    neighbours."""
    operations: list[Operation] = []
    count = 0
    for layer in range(depth):
        for wire in range(n_qubits):
            operations.append(Operation("RY", (wire,), parameter=count))
            operations.append(Operation("RZ", (wire,), parameter=count + 1))
            count += 2
        operations += [
            Operation("CNOT", (wire, wire + 1)) for wire in range(layer % 2, n_qubits - 1, 2)
        ]
    encoding = AngleEncoding.from_rotations(n_qubits, [("RY", w, w) for w in range(n_qubits)])
    theta = jax.random.uniform(key, (count,), minval=-jnp.pi, maxval=jnp.pi)
    return QuantumModel(
        theta,
        Circuit(n_qubits, tuple(operations)),
        encoding=encoding,
        observables=z_of_every_wire(n_qubits),
    )
