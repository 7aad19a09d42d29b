"""The paper's circuits: training steps of one seed and of many, and of the alternatives."""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx

from benchmarks import targets
from benchmarks.floors import step_floor
from benchmarks.inputs import Inputs, make_inputs
from benchmarks.measurements import Entry, Measurement, Ratio
from benchmarks.pennylane_model import pennylane_model, why_missing
from benchmarks.programs import Program, published_epoch, qdeq_epoch, with_classifier
from benchmarks.published import OWN_SETTINGS, SAME_WORK
from benchmarks.timing import take_turns
from qdeq.models import QuantumModel, quantum_model
from qdeq.names import Encoding
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer
from qdeq.training.parallel import Layout, seeds_at_once
from qdeq.training.state import TrainState

BATCH = 256
SEEDS = 32


@dataclass(frozen=True)
class Bench:
    """How much to measure, and on what.

    Attributes
    ----------
    seconds
        Of timing per group, compilation not counted.
    alternatives
        "few" (same work and direct(1)), "most", or "all" (PennyLane too).
    data_dir
        MNIST's folder; None draws built-in digits.
    stage
        Told what is being done.
    """

    seconds: float
    alternatives: str
    data_dir: str | None
    stage: Callable[[str], None]

    def inputs(self, n_samples: int, n_qubits: int) -> Inputs:
        """Samples for a workload."""
        return make_inputs(n_samples, n_qubits, data_dir=self.data_dir)


def step_config(n_qubits: int, encoding: Encoding) -> TrainConfig:
    """The paper's recipe, with which every step is measured."""
    return TrainConfig(n_qubits=n_qubits, n_features=n_qubits**2, encoding=encoding)


def steps_of(n_qubits: int) -> int:
    """Steps in one program: a few, as training has them; slow circuits get one."""
    return 8 if n_qubits <= 6 else 1


def step_group(bench: Bench, n_qubits: int, encoding: Encoding) -> list[Entry]:
    """Training steps of one of the paper's circuits: implicit, direct(1), and the alternatives."""
    inputs = bench.inputs(BATCH * steps_of(n_qubits), n_qubits)
    config = step_config(n_qubits, encoding)
    trainer = Trainer(config, inputs.dataset())
    state = trainer.init()
    programs: dict[str, Program] = {}
    for name, build in _programs(bench, trainer, state).items():
        bench.stage(f"{n_qubits} qubits, {encoding}: compiling {name}")
        programs[name] = build()
    bench.stage(f"{n_qubits} qubits, {encoding}: timing")
    found = measure(
        {name: p for name, p in programs.items() if name != targets.MORE_STEPS}, bench.seconds
    )
    ours, one = found[targets.IMPLICIT], found[targets.DIRECT_1]
    target = targets.STEP[n_qubits, encoding]
    least = {targets.SAME_WORK: target.versus_published}
    ratios = [
        Ratio(name, other.median / ours.median, least.get(name))
        for name, other in found.items()
        if name not in (targets.IMPLICIT, targets.DIRECT_1)
    ]
    if ours.cpu:
        code = targets.PUBLISHED_CODE_CPU[n_qubits, encoding]
        ratios.append(Ratio(targets.PUBLISHED_CODE, code / ours.cpu, target.versus_code))
    steps = ours.solver_steps_mean or 0.0
    missing = why_missing() if bench.alternatives == "all" else None
    key, name = f"{n_qubits}-{encoding}", f"{n_qubits} qubits, {encoding}, batch {BATCH}"
    return [
        Entry(
            f"step-{key}",
            f"implicit training step, {name}",
            target=target.seconds,
            reached=ours.median,
            ratios=tuple(ratios),
            floor=step_floor(_model(state), BATCH, steps, inputs.n_classes),
            measurements=found,
            note="; ".join(filter(None, [solved_note(found), missing])),
        ),
        Entry(
            f"direct-{key}",
            f"implicit step against direct(1), {name}",
            unit="x",
            target=targets.VERSUS_DIRECT_1,
            reached=ours.median / one.median,
        ),
        *_memory_rows(key, name, programs),
    ]


def _model(state: TrainState) -> QuantumModel:
    return quantum_model(state.classifier.model, "the speed suite")


def _programs(
    bench: Bench, trainer: Trainer, state: TrainState
) -> dict[str, Callable[[], Program]]:
    """What to compile, in the order of the table."""
    config, dataset, classifier = trainer.config, trainer.dataset, state.classifier

    def changed(**changes: object) -> Program:
        return qdeq_epoch(Trainer(config.replace(**changes), dataset), state)

    def pennylane() -> Program:
        guest = eqx.tree_at(lambda c: c.model, classifier, pennylane_model(_model(state)))
        return qdeq_epoch(trainer, with_classifier(trainer, guest))

    programs = {
        targets.IMPLICIT: lambda: qdeq_epoch(trainer, state),
        targets.DIRECT_1: lambda: changed(mode="direct", layers=1),
    }
    everything = bench.alternatives == "all"
    # 178 gates one by one take minutes to compile at 10 qubits with angle encoding.
    if everything or (config.n_qubits, config.encoding) != (10, "angle"):
        programs[targets.SAME_WORK] = lambda: published_epoch(trainer, classifier, SAME_WORK)
    if bench.alternatives in ("most", "all"):
        programs[targets.OWN] = lambda: published_epoch(trainer, classifier, OWN_SETTINGS)
        programs[targets.DIRECT_10] = lambda: changed(mode="direct", layers=10)
        programs[targets.MORE_STEPS] = lambda: changed(max_steps=4 * config.max_steps)
    # Minutes to compile as well: a QNode is traced gate by gate wherever the layer calls it.
    if everything and config.n_qubits == 4 and why_missing() is None:
        programs[targets.PENNYLANE] = pennylane
    return programs


def _memory_rows(key: str, name: str, programs: dict[str, Program]) -> list[Entry]:
    sizes = {label: program.memory_bytes for label, program in programs.items()}
    ours, one = sizes[targets.IMPLICIT], sizes[targets.DIRECT_1]
    if not ours or not one:
        return []
    kib = ", ".join(f"{label} {size / 1024:,.0f} KiB" for label, size in sizes.items() if size)
    return [
        Entry(
            f"memory-{key}",
            f"temporary memory of an implicit step against direct(1), {name}",
            unit="x",
            target=targets.MEMORY_VERSUS_DIRECT_1,
            reached=ours / one,
            note=kib,
        )
    ]


def seeds_group(bench: Bench) -> list[Entry]:
    """Many seeds in one program, as `qdeq train --seeds` runs them: on all of JAX's devices."""
    config = step_config(4, "amplitude")
    layout = Layout.of(SEEDS, seeds_at_once=seeds_at_once(config, 4))
    trainer = Trainer(config, bench.inputs(BATCH * 4, 4).dataset(), layout=layout)
    bench.stage(f"{SEEDS} seeds: compiling")
    states = trainer.init_seeds(range(SEEDS))
    program = qdeq_epoch(trainer, states, seeds=SEEDS)
    bench.stage(f"{SEEDS} seeds: timing")
    name = f"{SEEDS} seeds"
    if layout.n_devices > 1:
        name += f", {layout.n_devices} devices"
    found = measure({name: program}, bench.seconds)
    floor = step_floor(_model(trainer.init()), BATCH, found[name].solver_steps_mean or 0.0, 4)
    return [
        Entry(
            f"seeds-{SEEDS}",
            f"the same per seed, {SEEDS} seeds together, 4 qubits, amplitude",
            target=targets.SEED_STEP,
            reached=found[name].median,
            floor=floor,
            measurements={f"qdeq {name}": found[name]},
            note=solved_note(found),
        )
    ]


def measure(programs: dict[str, Program], seconds: float) -> dict[str, Measurement]:
    """Time programs in turns; seconds per unit of their work."""
    timings = take_turns({name: p.call for name, p in programs.items()}, seconds=seconds)
    found = {}
    for name, timing in timings.items():
        program = programs[name]
        solved = program.solved
        found[name] = Measurement(
            median=timing.median / program.units,
            minimum=timing.minimum / program.units,
            spread=timing.spread,
            cpu=timing.cpu / program.units,
            samples=timing.samples,
            compile_seconds=program.compile_seconds,
            memory_bytes=program.memory_bytes,
            solved_fraction=None if solved is None else solved.fraction,
            residual_max=None if solved is None else solved.residual_max,
            solver_steps_mean=None if solved is None else solved.solver_steps_mean,
        )
    return found


def solved_note(found: dict[str, Measurement]) -> str:
    """Which programs solved every sample, where one did not."""
    parts = [
        f"{name} {m.solved_fraction:.2%} in {m.solver_steps_mean:.1f} steps"
        for name, m in found.items()
        if m.solved_fraction is not None and not name.startswith("qdeq direct")
    ]
    return "solved: " + "; ".join(parts)
