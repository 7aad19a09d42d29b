"""Time of a training step against qubits, depth, batch and seeds: the curves of `--full`.

Hardware-efficient circuits with amplitude encoding, unless it says otherwise.
"""

import dataclasses
from collections.abc import Callable, Iterable

import jax

from benchmarks import targets
from benchmarks.groups import BATCH, Bench, measure, step_config, steps_of
from benchmarks.measurements import Curve
from benchmarks.programs import Program, published_epoch, qdeq_epoch, with_classifier
from benchmarks.published import SAME_WORK
from qdeq.circuits import AmplitudeEncoding, hardware_efficient, z_of_every_wire
from qdeq.models import Classifier, QuantumModel
from qdeq.training.loop import Trainer
from qdeq.training.parallel import Layout, seeds_at_once
from qdeq.training.state import TrainState

QUBITS = (2, 3, 4, 6, 8, 10, 12)
LAYERS = (1, 2, 5, 10, 20)
BATCHES = (16, 64, 256, 1024)
SEEDS = (1, 4, 16, 64)
SECONDS_PER_POINT = 1.0


def qubits_curve(bench: Bench) -> list[Curve]:
    """Against the number of qubits."""
    # The plain algorithm stops where compiling it takes longer than measuring all the rest.
    return [_curve(bench, "qubits", QUBITS, lambda n: _steps(bench, n, 3, BATCH, plain=n <= 6))]


def layers_curve(bench: Bench) -> list[Curve]:
    """Against the number of layers, at 4 qubits."""
    return [_curve(bench, "layers", LAYERS, lambda n: _steps(bench, 4, n, BATCH, plain=n <= 5))]


def batch_curve(bench: Bench) -> list[Curve]:
    """Against the batch size, at 4 qubits."""
    return [_curve(bench, "batch", BATCHES, lambda n: _steps(bench, 4, 3, n, plain=True))]


def seeds_curve(bench: Bench) -> list[Curve]:
    """Against the number of seeds that train together, on one device; the paper's circuit."""

    def program(n_seeds: int) -> dict[str, Program]:
        config, inputs = step_config(4, "amplitude"), bench.inputs(BATCH * steps_of(4), 4)
        layout = Layout(n_seeds, seeds_at_once=seeds_at_once(config, 4))
        trainer = Trainer(config, inputs.dataset(), layout=layout)
        states = trainer.init_seeds(range(n_seeds))
        return {targets.IMPLICIT: qdeq_epoch(trainer, states, seeds=n_seeds)}

    return [_curve(bench, "seeds", SEEDS, program)]


def _steps(
    bench: Bench, n_qubits: int, layers: int, batch: int, *, plain: bool
) -> dict[str, Program]:
    trainer, state = starting_point(bench, n_qubits, layers, batch)
    programs = {targets.IMPLICIT: qdeq_epoch(trainer, state)}
    if plain:
        programs[targets.SAME_WORK] = published_epoch(trainer, state.classifier, SAME_WORK)
    return programs


def _curve(
    bench: Bench, label: str, values: Iterable[int], build: Callable[[int], dict[str, Program]]
) -> Curve:
    values = tuple(values)
    points = []
    for value in values:
        bench.stage(f"scaling: {label} {value}")
        found = measure(build(value), SECONDS_PER_POINT)
        points.append({name: measured.median for name, measured in found.items()})
    names = dict.fromkeys(name for point in points for name in point)
    return Curve(
        key=label,
        label=f"number of {label}" if label != "batch" else "batch size",
        values=values,
        seconds={name: tuple(point.get(name) for point in points) for name in names},
    )


def starting_point(
    bench: Bench, n_qubits: int, layers: int, batch: int
) -> tuple[Trainer, TrainState]:
    """A hardware-efficient classifier before training, with data for a few steps."""
    inputs = bench.inputs(batch * steps_of(n_qubits), 4 if n_qubits <= 6 else 10)
    n_features = min(inputs.x.shape[1], 2**n_qubits)
    n_features -= n_features % n_qubits  # the published upsampling repeats every value as often
    inputs = dataclasses.replace(inputs, x=inputs.x[:, :n_features])
    # The recipe of training; its own circuit is not used, and needs 4 wires.
    config = step_config(max(4, n_qubits), "amplitude")
    config = config.replace(n_features=n_features, batch_size=batch)
    trainer = Trainer(config, inputs.dataset())
    circuit = hardware_efficient(n_qubits, layers)
    keys = jax.random.split(jax.random.key(0))
    model = QuantumModel(
        jax.random.uniform(keys[0], (circuit.n_parameters,), minval=-3.14, maxval=3.14),
        circuit,
        encoding=AmplitudeEncoding(n_qubits, n_features),
        observables=z_of_every_wire(n_qubits),
    )
    classifier = Classifier(model, inputs.n_classes, key=keys[1])
    return trainer, with_classifier(trainer, classifier)
