"""Noisy models against PennyLane's density matrices, path against path, and their derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from test_simulation import random_circuit, rescaled

from qdeq.circuits import (
    GATES,
    AmplitudeDamping,
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    Dephasing,
    Depolarising,
    KrausChannel,
    MeasuredCircuit,
    MeasurementEnsemble,
    NoiseModel,
    Operation,
    OverRotation,
    ReadoutError,
    Rule,
    ThermalRelaxation,
    TwoQubitDepolarising,
    parse_noise,
    reuploading,
    z_of_every_wire,
)
from qdeq.errors import UserError
from qdeq.models import QuantumModel, evaluation_path, paper_model
from qdeq.runs.evaluation import evaluate
from qdeq.runs.run import train
from qdeq.runs.run_folder import RunFolder
from qdeq.simulation import heisenberg, outcome_probabilities, prepare_forms
from qdeq.simulation.cones import cone_groups
from qdeq.training.config import TrainConfig

IN_PENNYLANE = {"RXX": "IsingXX", "RYY": "IsingYY", "RZZ": "IsingZZ", "I": "Identity"}


def pennylane_values(circuit, theta, features, noise, strings, state=None):
    """<O_k> by `default.mixed`, every channel written in PennyLane's own operations."""
    qml = pytest.importorskip("pennylane")
    n = circuit.n_qubits

    def gate(operation, angles):
        if operation.matrix is not None:
            return qml.QubitUnitary(np.array(operation.matrix), wires=operation.wires)
        kind = getattr(qml, IN_PENNYLANE.get(operation.name, operation.name))
        return kind(*angles, wires=operation.wires)

    def error(channel, wires):
        if isinstance(channel, Depolarising):
            qml.DepolarizingChannel(channel.probability, wires=wires)
        elif isinstance(channel, Dephasing):
            qml.PhaseFlip(channel.probability, wires=wires)
        elif isinstance(channel, AmplitudeDamping):
            qml.AmplitudeDamping(channel.probability, wires=wires)
        elif isinstance(channel, ThermalRelaxation):
            qml.ThermalRelaxationError(0.0, channel.t1, channel.t2, channel.time, wires=wires)
        elif isinstance(channel, TwoQubitDepolarising):
            p = channel.probability
            words = [a + b for a in "IXYZ" for b in "IXYZ"]
            weights = [1 - p] + [p / 15] * 15
            matrices = [
                np.sqrt(w) * np.kron(GATES[a].matrix(), GATES[b].matrix())
                for w, (a, b) in zip(weights, words, strict=True)
            ]
            qml.QubitChannel(matrices, wires=wires)
        else:
            qml.QubitChannel([np.array(k) for k in channel.operators], wires=wires)

    def misread(wire):
        error = noise.readout_of(wire)
        if error is not None:  # a classical channel between bits, as Kraus operators
            confusion = [[1 - error.p01, error.p10], [error.p01, 1 - error.p10]]
            units = [np.outer(np.eye(2)[a], np.eye(2)[b]) for a in (0, 1) for b in (0, 1)]
            weights = [confusion[a][b] for a in (0, 1) for b in (0, 1)]
            qml.QubitChannel(
                [np.sqrt(w) * u for w, u in zip(weights, units, strict=True)], wires=wire
            )

    def value(string):
        @qml.qnode(qml.device("default.mixed", wires=n))
        def run():
            if state is not None:
                qml.StatePrep(state, wires=range(n))
            for operation in circuit.operations:
                gate(operation, oracle.gate_angles(operation, theta, features))
                for rule in noise.rules:
                    for channel, wires in rule.uses(operation):
                        if isinstance(channel, OverRotation):
                            gate(operation, [channel.angle])
                        else:
                            error(channel, wires)
            for wire, letter in enumerate(string):
                if letter == "X":
                    qml.Hadamard(wires=wire)
                elif letter == "Y":
                    qml.adjoint(qml.S(wires=wire))
                    qml.Hadamard(wires=wire)
                if letter != "I":
                    misread(wire)
            read = [qml.PauliZ(w) for w, letter in enumerate(string) if letter != "I"]
            return qml.expval(qml.prod(*read))

        return float(run())

    return np.array([value(string) for string in strings])


def random_noise(rng, n_qubits):
    """Every kind of channel, each by a random rule."""
    isometry, _ = np.linalg.qr(rng.normal(size=(8, 4, 2)) @ [1, 1j])
    t1 = rng.uniform(1, 3)
    some_channels = [
        Depolarising(rng.uniform(0, 0.3)),
        TwoQubitDepolarising(rng.uniform(0, 0.3)),
        Dephasing(rng.uniform(0, 0.3)),
        AmplitudeDamping(rng.uniform(0, 0.3)),
        ThermalRelaxation(t1, t1 * rng.uniform(0.3, 2), rng.uniform(0, 0.5)),
        OverRotation(rng.normal()),
        KrausChannel(tuple(isometry.reshape(2, 4, 4))),
    ]
    rules = []
    for channel in rng.permutation(np.array(some_channels, dtype=object)):
        options = {}
        if rng.random() < 0.3:
            options["n_wires"] = 2
        if rng.random() < 0.4:
            options["wires"] = tuple(map(int, rng.choice(n_qubits, 2, replace=False)))
        rules.append(Rule(channel, **options))
    wires = rng.choice(n_qubits, 2, replace=False)
    return NoiseModel(
        rules, readout={int(w): ReadoutError(*rng.uniform(0, 0.3, size=2)) for w in wires}
    )


def small_amplitude(n_qubits):
    return AmplitudeEncoding(n_qubits, 2**n_qubits - 1)


def random_rotations(rng, n_qubits):
    """Wires with none, one or several rotations; RZ first, and neighbours about one axis."""
    rotations = [("RY", 0, 0), ("RY", 0, 1), ("RX", 0, 2)]
    if n_qubits > 2:
        rotations += [("RZ", 2, 3), ("RX", 2, 0)]
    rotations += [
        (str(rng.choice(["RX", "RY", "RZ"])), int(rng.integers(n_qubits)), int(i))
        for i in rng.integers(4, size=3)
    ]
    return rescaled(rng, AngleEncoding.from_rotations(n_qubits, rotations))


@pytest.mark.parametrize(
    ("seed", "n_qubits"),
    [
        (0, 2),
        pytest.param(1, 3, marks=pytest.mark.slow),
        pytest.param(2, 4, marks=pytest.mark.slow),
    ],
)
def test_every_path_equals_pennylanes_default_mixed(x64, seed, n_qubits):
    rng = np.random.default_rng(seed)
    circuit = random_circuit(rng, n_qubits, 10)
    noise = random_noise(rng, n_qubits)
    letters = rng.choice(list("IXYZ"), size=(2, n_qubits))
    strings = ("Z" * n_qubits, "X" + "I" * (n_qubits - 1))
    strings += tuple("".join(row) for row in letters if set(row) != {"I"})
    observables = MeasurementEnsemble(n_qubits, strings)
    theta = rng.normal(size=circuit.n_parameters)
    for encoding, fast in (
        (small_amplitude(n_qubits), "quadratic-forms"),
        (random_rotations(rng, n_qubits), "lightcone"),
    ):
        models = [
            QuantumModel(
                theta, circuit, encoding=encoding, observables=observables, noise=noise, method=m
            )
            for m in ("auto", "density-matrix")
        ]
        assert [evaluation_path(model) for model in models] == [fast, "density-matrix"]
        m = rng.normal(size=len(strings)) / 3
        x = rng.normal(size=encoding.n_features)
        v = x + np.asarray(models[0].reinjection) @ m
        if fast == "lightcone":
            whole = Circuit(n_qubits, encoding.operations) + circuit
            expected = pennylane_values(whole, theta, v, noise, strings)
        else:
            state = np.append(v, 0) / np.linalg.norm(v)
            expected = pennylane_values(circuit, theta, None, noise, strings, state)
        found, outcomes = eqx.filter_jit(
            lambda models, m, x: ([k(m, x) for k in models], models[0].outcome_probabilities(m, x))
        )(models, m, x)
        for values in found:
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(
            values_of_outcomes(observables, outcomes), expected, rtol=0, atol=1e-8
        )


def values_of_outcomes(observables, outcomes):
    """Expectation values from outcome probabilities, as a device's counts would give them."""
    values = np.zeros(observables.n_observables)
    for group, row in zip(observables.settings(), np.asarray(outcomes), strict=True):
        for k in group:
            signs = np.ones(1)
            for letter in observables.strings[k]:
                signs = np.kron(signs, [1, 1] if letter == "I" else [1, -1])
            values[k] = signs @ row
    return values


def test_reuploading_circuits_equal_default_mixed(x64):
    rng = np.random.default_rng(5)
    encoding = random_rotations(rng, 2)
    circuit = reuploading(encoding, [random_circuit(rng, 2, 4), random_circuit(rng, 2, 4)])
    noise = random_noise(rng, 2)
    theta, x = rng.normal(size=circuit.n_parameters), rng.normal(size=encoding.n_features)
    model = QuantumModel(
        theta, circuit, encoding=encoding, observables=z_of_every_wire(2), noise=noise
    )
    assert evaluation_path(model) == "density-matrix"
    whole = Circuit(2, encoding.operations) + circuit
    expected = pennylane_values(whole, theta, x, noise, ("ZI", "IZ"))
    np.testing.assert_allclose(model(jnp.zeros(2), x), expected, rtol=0, atol=1e-8)


HARMLESS = NoiseModel(
    (
        Rule(Depolarising(0)),
        Rule(TwoQubitDepolarising(0)),
        Rule(ThermalRelaxation(1, 1, 0)),
        Rule(OverRotation(0)),
    ),
    readout=ReadoutError(0, 0),
)


def test_noise_of_strength_zero_changes_nothing(x64):
    rng = np.random.default_rng(0)
    circuit = random_circuit(rng, 2, 8)
    theta = rng.normal(size=circuit.n_parameters)

    def model(encoding, noise=None, method="auto"):
        return QuantumModel(
            theta,
            circuit,
            encoding=encoding,
            observables=z_of_every_wire(2),
            noise=noise,
            method=method,
        )

    m, x = rng.normal(size=2) / 3, rng.normal(size=4)
    for encoding in (AmplitudeEncoding(2, 4), random_rotations(rng, 2)):
        perfect = model(encoding, method="statevector")
        models = [model(encoding, HARMLESS), model(encoding, HARMLESS, "density-matrix")]
        expected, found, outcomes = eqx.filter_jit(
            lambda perfect, models, m, x: (
                perfect(m, x),
                [model(m, x) for model in models],
                [model.outcome_probabilities(m, x) for model in (perfect, models[0])],
            )
        )(perfect, models, m, x[: encoding.n_features])
        for values in found:
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(outcomes[0], outcomes[1], rtol=0, atol=1e-12)


def test_a_noise_model_without_content_is_a_perfect_device():
    clean = paper_model(key=jax.random.key(0))
    model = paper_model(key=jax.random.key(0), noise=NoiseModel(), method="statevector")
    assert model.noise is None and clean.noise is None
    assert evaluation_path(paper_model(key=jax.random.key(0), noise=NoiseModel())) == (
        evaluation_path(clean)
    )


@pytest.mark.parametrize("path", ["quadratic-forms", "lightcone", "density-matrix"])
def test_derivatives_under_noise_are_those_of_central_differences(x64, path):
    rng = np.random.default_rng(3)
    circuit, noise = random_circuit(rng, 2, 8), random_noise(rng, 2)
    angle = path == "lightcone"
    model = QuantumModel(
        rng.normal(size=circuit.n_parameters),
        circuit,
        encoding=random_rotations(rng, 2) if angle else AmplitudeEncoding(2, 4),
        observables=MeasurementEnsemble(2, ("ZI", "XY")),
        noise=noise,
        method="density-matrix" if path == "density-matrix" else "auto",
    )
    assert evaluation_path(model) == path
    x = rng.normal(size=model.n_features)
    n_angles = circuit.n_parameters

    def f(both):
        chosen = eqx.tree_at(lambda k: k.theta, model, both[:n_angles])
        return chosen.prepare().bind(x)(both[n_angles:])

    point = jnp.asarray(np.append(np.asarray(model.theta), rng.normal(size=2) / 3))
    step = 1e-5
    shifts = np.concatenate([step * np.eye(len(point)), -step * np.eye(len(point))])
    exact, backward, values = jax.jit(
        lambda p: (jax.jacfwd(f)(p), jax.jacrev(f)(p), jax.vmap(f)(p + jnp.asarray(shifts)))
    )(point)
    plus, minus = np.split(np.asarray(values), 2)
    differences = (plus - minus).T / (2 * step)
    # Central differences are right to step**2 = 1e-10 and rounding of 1e-16 / step = 1e-11.
    np.testing.assert_allclose(exact, differences, rtol=0, atol=1e-8)
    np.testing.assert_allclose(backward, differences, rtol=0, atol=1e-8)


def test_observables_pulled_back_together_and_one_by_one_are_equal(x64, monkeypatch):
    rng = np.random.default_rng(8)
    circuit, noise = random_circuit(rng, 4, 12), random_noise(rng, 4)
    observables = MeasurementEnsemble(4, ("ZIII", "IXYI", "IIII"))
    theta, reinjection = jnp.asarray(rng.normal(size=circuit.n_parameters)), jnp.zeros((5, 3))
    measured = MeasuredCircuit(circuit, AmplitudeEncoding(4, 5), observables, noise)

    def forms(limit):
        monkeypatch.setattr(heisenberg, "_TOGETHER", limit)
        return jax.jit(lambda t: prepare_forms(measured, t, reinjection).forms)(theta)

    np.testing.assert_allclose(forms(0), forms(2**30), rtol=0, atol=1e-14)


def test_noise_does_not_widen_light_cones():
    circuit = Circuit(6, tuple(Operation("CNOT", (i, i + 1)) for i in (0, 2, 4)))
    encoding = AngleEncoding.from_rotations(6, [("RY", i, i) for i in range(6)])
    noise = parse_noise("depolarising=0.1,two-qubit-depolarising=0.1,amplitude-damping=0.1")
    groups = cone_groups(MeasuredCircuit(circuit, encoding, z_of_every_wire(6), noise))
    assert sorted(cone.wires for group in groups for cone in group.cones) == [
        (0, 1), (2, 3), (4, 5),
    ]  # fmt: skip
    # RY turns |0> within X and Z, and none of the channels leads out of that plane.
    assert {name for group in groups for name in group.components} == {"XZ"}


def test_undefined_amplitude_inputs_give_zero_and_no_preference():
    noise = parse_noise("amplitude-damping=0.2,readout=0.1/0.3")
    circuit = Circuit(2, (Operation("RX", (0,), parameter=0), Operation("CNOT", (0, 1))))
    options = {"encoding": AmplitudeEncoding(2, 4), "observables": z_of_every_wire(2)}
    for method in ("auto", "density-matrix"):
        model = QuantumModel([0.3], circuit, noise=noise, method=method, **options)
        value, slope, outcomes = jax.jit(
            lambda m, x, model=model: (
                model(m, x),
                jax.jacrev(model)(m, x),
                model.outcome_probabilities(m, x),
            )
        )(jnp.zeros(2), jnp.zeros(4))
        assert not np.any(value) and not np.any(slope)
        np.testing.assert_allclose(outcomes, 1 / 4)


def test_readout_errors_alone_are_read_off_the_statevector(x64):
    rng = np.random.default_rng(1)
    circuit = random_circuit(rng, 3, 8)
    theta = jnp.asarray(rng.normal(size=circuit.n_parameters))
    observables = MeasurementEnsemble(3, ("XYZ", "ZZI"))
    misread = {0: ReadoutError(0.1, 0.2), 2: ReadoutError(0.05, 0)}
    models = NoiseModel((), misread), NoiseModel((Rule(Depolarising(0)),), misread)
    pure, mixed = jax.jit(
        lambda t: [outcome_probabilities(circuit, t, observables, noise=k) for k in models]
    )(theta)
    np.testing.assert_allclose(pure, mixed, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pure.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_what_cannot_be_noisy_is_refused():
    noise = parse_noise("depolarising=0.1")
    with pytest.raises(UserError, match="statevector"):
        paper_model(key=jax.random.key(0), noise=noise, method="statevector")
    with pytest.raises(UserError, match="parse_noise"):
        paper_model(key=jax.random.key(0), noise="depolarising=0.1")
    with pytest.raises(UserError, match="wire 4"):
        paper_model(key=jax.random.key(0), noise=parse_noise("readout@4=0.1"))
    wide = paper_model(14, key=jax.random.key(0), n_features=100, noise=noise)
    with pytest.raises(UserError, match="14 qubits"):
        wide.prepare()


@pytest.mark.slow  # compiles a training epoch
def test_training_under_noise_lowers_the_loss_and_the_run_remembers_its_noise(tmp_path):
    config = TrainConfig(
        noise="depolarising=0.01,readout=0.02",
        epochs=5,
        batch_size=64,
        learning_rate=0.03,
        seed=1,
    )
    losses = []
    train(config, out=tmp_path / "run", on_epoch=lambda m: losses.append(m["train_loss"]))
    assert len(losses) == 5 and losses[-1] < 0.9 * losses[0]
    folder = RunFolder(tmp_path / "run")
    assert folder.read_config().noise == config.noise
    noisy = evaluate(folder.path)
    # The same angles on a perfect device: another model function, hence another loss.
    folder.write_config(config.replace(noise=""))
    assert evaluate(folder.path).loss != noisy.loss
