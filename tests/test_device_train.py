"""Training on devices: right gradients, counted costs, budgets, failures within a step."""

import functools
import warnings
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from execution_problems import Failing, simulator, tiny_inputs, tiny_model

from qdeq.circuits import (
    AmplitudeEncoding,
    MeasuredCircuit,
    ReadoutError,
    hardware_efficient,
    xyz_of_every_wire,
    z_of_every_wire,
)
from qdeq.devices import (
    TIMINGS,
    Budget,
    DeviceError,
    DeviceRecipe,
    DeviceTraining,
    Executor,
    Ledger,
    PackedExecutor,
    step_cost,
    train_on_device,
)
from qdeq.devices.mitigation import Mitigation, ReadoutCorrection, ZeroNoiseExtrapolation
from qdeq.equilibrium import KrasnoselskiiMann
from qdeq.errors import UserError
from qdeq.lowering import Program, n_shifts
from qdeq.models import Classifier, QuantumModel

N_SETTINGS = 2
X = tiny_inputs(12, seed=4)
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
RECIPE = DeviceRecipe(batch_size=4, learning_rate=0.05, tolerance=1e-10, max_steps=30)


def tiny_classifier(kind="angle"):
    return Classifier(tiny_model(kind), 2, dropout=0.0, key=jax.random.key(1))


def train(executor, steps=3, recipe=RECIPE, classifier=None, **options):
    classifier = tiny_classifier() if classifier is None else classifier
    return train_on_device(classifier, executor, X, Y, steps=steps, recipe=recipe, **options)


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("angle", "shift"), ("amplitude", "shift"), ("amplitude", "quadratic")],
)
@pytest.mark.slow
def test_steps_equal_those_of_automatic_differentiation(kind, rule, x64):
    classifier, recipe = tiny_classifier(kind), replace(RECIPE, input_rule=rule)
    x, y = jnp.asarray(X[:4]), jnp.asarray(Y[:4])  # one batch has them all
    executor = simulator(classifier.model)
    found = train_on_device(classifier, executor, x, y, steps=2, recipe=recipe)
    optimiser = optax.adam(RECIPE.learning_rate)

    @eqx.filter_jit
    def step(classifier, state):
        def loss(classifier):
            prepared = classifier.model.prepare()

            def logits(x):  # through fifty iterations, which is through the equilibrium
                f = prepared.bind(x)
                m, _ = jax.lax.scan(lambda m, _: (f(m), None), jnp.zeros(2), length=50)
                return classifier.read_out(m)

            found = jax.vmap(logits)(x)
            return optax.softmax_cross_entropy_with_integer_labels(found, y).mean()

        value, gradient = eqx.filter_value_and_grad(loss)(classifier)
        updates, state = optimiser.update(gradient, state)
        return value, eqx.apply_updates(classifier, updates), state

    state = optimiser.init(eqx.filter(classifier, eqx.is_inexact_array))
    for record in found.history:
        loss, classifier, state = step(classifier, state)
        np.testing.assert_allclose(record.loss, loss, atol=1e-8)
    for a, b in zip(numbers(found.classifier), numbers(classifier), strict=True):
        # Adam divides gradients by their size, so that 1e-10 in the equilibria is 1e-8 in a step.
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_gradients_converge_as_one_over_the_root_of_the_shots(x64):
    classifier = Classifier(tiny_model(), 2, head="none", key=jax.random.key(1))
    averaging = KrasnoselskiiMann(rtol=0.0, atol=0.0)

    def gradient(solver, max_steps, tolerance, **options):
        recipe = replace(RECIPE, solver=solver, max_steps=max_steps, tolerance=tolerance)
        state = train(simulator(tiny_model(), **options), 1, recipe, classifier)
        # After one step Adam's first moment is the gradient times 1 - 0.9.
        return np.asarray(state.optimiser_state.mu.model.theta) / 0.1

    exact = gradient(RECIPE.solver, 30, 1e-10)
    shots, errors = np.array([100, 10000]), []
    for n in shots:
        found = [gradient(averaging, 12, None, shots=int(n), seed=seed) for seed in range(6)]
        errors.append(np.sqrt(np.mean((np.array(found) - exact) ** 2)))
    assert errors[0] < np.abs(exact).max() / 2
    slope = np.diff(np.log(errors)) / np.diff(np.log(shots))
    assert abs(slope + 0.5) < 0.12  # 30 numbers a point: standard error 0.04


def test_executions_are_counted_and_bounded_by_the_prediction(x64):
    executor = simulator(tiny_model(), shots=20)
    state = train(executor, 2, replace(RECIPE, tolerance=None, gradient_shots=50))
    program = Program.of(tiny_model())
    solver_steps = sum(4 * record.solver_steps for record in state.history)
    encoding = 1 + n_shifts(program.circuit, program.encoding_slots)
    circuit = 1 + n_shifts(program.circuit, program.trainable_slots)
    ledger = executor.ledger
    assert ledger.by_purpose == {
        "forward": N_SETTINGS * solver_steps,
        "input gradient": N_SETTINGS * 2 * 4 * encoding,
        "parameter gradient": N_SETTINGS * 2 * 4 * circuit,
    }
    forward = ledger.by_purpose["forward"]
    assert ledger.shots == 20 * forward + 50 * (ledger.executions - forward)
    most = step_cost(tiny_model(), executor, RECIPE, 4)
    assert ledger.executions <= 2 * most.executions
    assert most.executions == N_SETTINGS * 4 * (30 + encoding + circuit)
    assert state.history[-1].executions == ledger.executions
    assert state.stopped == "steps"


def test_cheaper_gradients(x64):
    executor = simulator(tiny_model(), shots=20)
    recipe = replace(
        RECIPE, tolerance=None, adjoint="jacobian-free", estimator="spsa", perturbations=2
    )
    train(executor, 1, recipe)
    by_purpose = executor.ledger.by_purpose
    assert set(by_purpose) == {"forward", "parameter gradient"}
    assert by_purpose["parameter gradient"] == N_SETTINGS * 4 * (1 + 2 * 2)


@pytest.mark.parametrize("estimator", ["shift", "spsa"])
def test_a_failing_device_interrupts_and_changes_nothing(estimator, x64):
    recipe = replace(RECIPE, estimator=estimator)
    whole = simulator(tiny_model())
    expected = train(whole, recipe=recipe)
    # In the first solve, at both Jacobians of a later step, in a later solve.
    first = int(max(1, expected.history[0].solver_steps))
    executor = Failing(whole, {2, first + 5, first + 9, first + 12, first + 13, first + 20})
    state, failures = None, 0
    while state is None or state.stopped is None:
        try:
            state = train(executor, recipe=recipe, state=state)
        except DeviceError as error:
            state, failures = error.state, failures + 1
            assert "the lid was open" in str(error)
    assert failures == 6
    for a, b in zip(numbers(state.classifier), numbers(expected.classifier), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(state.history, expected.history, strict=True):
        assert replace(a, executions=0) == replace(b, executions=0)
    # Nothing was measured twice: what failed is all that was charged besides.
    assert executor.ledger.submissions == executor.n_calls
    assert executor.n_calls == whole.ledger.submissions + failures


def test_an_interrupted_step_goes_on_with_its_own_samples_only(x64):
    executor = Failing(simulator(tiny_model()), {2})
    with pytest.raises(DeviceError) as failure:
        train(executor)
    state, charged = failure.value.state, executor.ledger.executions
    going_on = functools.partial(train_on_device, tiny_classifier(), executor, steps=1, state=state)
    for x, y, seed in ((X + 0.1, Y, 0), (X, 1 - Y, 0), (X, Y, 1)):
        with pytest.raises(UserError, match=r"step 1 was interrupted with other samples"):
            going_on(x=x, y=y, recipe=replace(RECIPE, seed=seed))
    assert executor.ledger.executions == charged
    assert going_on(x=X, y=Y, recipe=RECIPE).step == 1


def test_training_stops_between_steps_when_the_budget_is_spent(x64):
    ledger = Ledger()
    executor = simulator(tiny_model(), ledger=ledger)
    one = step_cost(tiny_model(), executor, RECIPE, 4).executions
    ledger.budget = Budget(executions=2 * one)
    state = train(executor, 50)
    assert state.stopped == "budget"
    assert state.step == len(state.history) >= 2
    assert 2 * one >= ledger.executions > one
    ledger.budget = Budget(executions=10 * one)
    state = train(executor, state.step + 1, state=state)
    assert state.stopped == "steps"


def test_a_budget_below_one_step_is_an_error_before_anything_runs(x64):
    for budget in (Budget(executions=100), Budget(shots=1000)):
        executor = simulator(tiny_model(), shots=10, ledger=Ledger(budget=budget))
        with pytest.raises(UserError, match=r"needed for a step of 4 samples: raise"):
            train(executor)
        assert executor.ledger.executions == 0


def test_a_saved_training_goes_on_as_if_nothing_had_happened(tmp_path, x64):
    model = tiny_model()
    expected = train(simulator(model), 3)
    train(simulator(model), 2).save(tmp_path / "state.safetensors")
    other = eqx.tree_at(lambda c: c.model.theta, tiny_classifier(), jnp.zeros(6))
    state = DeviceTraining.load(tmp_path / "state.safetensors", other)
    found = train(simulator(model, ledger=state.ledger), 3, state=state)
    for a, b in zip(numbers(found.classifier), numbers(expected.classifier), strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.history == expected.history
    with pytest.raises(UserError, match="does not exist"):
        DeviceTraining.load(tmp_path / "nothing", other)
    wrong = Classifier(model, 3, key=jax.random.key(0))
    with pytest.raises(UserError, match="belongs to another"):
        DeviceTraining.load(tmp_path / "state.safetensors", wrong)


def test_training_with_shots_lowers_the_loss(x64):
    executor = simulator(tiny_model(), shots=200, seed=2)
    recipe = DeviceRecipe(batch_size=4, learning_rate=0.3, max_steps=10)
    seen = []
    state = train_on_device(
        tiny_classifier(),
        executor,
        X[:4],
        Y[:4],
        steps=15,
        recipe=recipe,
        on_step=lambda state: seen.append(state.history[-1].loss),
    )
    # The batch is always the same: only shots make its loss vary, by about 0.03.
    assert len(seen) == state.step == 15
    assert np.mean(seen[-3:]) < np.mean(seen[:3]) - 0.1


def test_mistakes(x64):
    executor = simulator(tiny_model())
    classifier = tiny_classifier()
    for x, y, message in (
        (X[0], Y, r"x has shape \(3,\)"),
        (X, Y[:3], r"y has shape \(3,\)"),
        (X, Y.astype(float), "dtype float64: give 12 integers"),
        (X, Y + 1, "classes from 1 to 2: the classifier knows 0 to 1"),
        (X + 1j, Y, "x is complex: give real numbers"),
        (np.ma.masked_greater(X, 0), Y, "x is masked: give real numbers"),
        ([["a"] * 3] * 12, Y, "x is no array of numbers: give real numbers"),
        (X, np.ma.masked_equal(Y, 1), "y is masked"),
    ):
        with pytest.raises(UserError, match=message):
            train_on_device(classifier, executor, x, y, steps=1)
    with pytest.raises(UserError, match="steps=0"):
        train(executor, 0)
    for given in ({"classifier": tiny_model()}, {"recipe": None}, {"state": RECIPE}):
        with pytest.raises(UserError, match=rf"{next(iter(given))}=.*: give a "):
            train(executor, **given)
    for options, message in (
        ({"adjoint": "shine"}, "adjoint='shine' is not known"),
        ({"input_rule": "chain"}, "input_rule='chain' is not known"),
        ({"estimator": "adam"}, "estimator='adam' is not known"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0"),
        ({"learning_rate": np.inf}, "learning_rate=inf"),
        ({"learning_rate": "0.1"}, "learning_rate='0.1'"),
        ({"perturbation_size": np.inf}, "perturbation_size=inf"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"shots": np.array([10, 20])}, "shots=array"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"gradient_shots": 0}, "gradient_shots=0"),
    ):
        with pytest.raises(UserError, match=message):
            DeviceRecipe(**options)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["shift", "quadratic"])
@pytest.mark.parametrize("observables", [xyz_of_every_wire, z_of_every_wire])
def test_the_cost_of_a_step_is_foreseen_for_both_rules_of_the_input(rule, observables, x64):
    features = 4
    measured = MeasuredCircuit(
        hardware_efficient(2, 1), AmplitudeEncoding(2, features), observables(2)
    )
    theta = jax.random.normal(jax.random.key(0), (measured.circuit.n_parameters,))
    reinjection = jax.random.normal(jax.random.key(1), (features, measured.n_observables))
    model = QuantumModel(theta, measured=measured, reinjection=reinjection)
    classifier = Classifier(model, 2, dropout=0.0, key=jax.random.key(2))
    recipe = DeviceRecipe(batch_size=3, max_steps=2, tolerance=0.0, input_rule=rule)
    x, y = np.linspace(0.1, 1, 3 * features).reshape(3, features), np.array([0, 1, 0])
    executor = simulator(model)
    needed = step_cost(model, executor, recipe, 3).executions
    train_on_device(classifier, executor, x, y, steps=1, recipe=recipe)
    assert executor.ledger.executions == needed
    poor = simulator(model, ledger=Ledger(budget=Budget(executions=needed - 1)))
    with pytest.raises(UserError, match="needed for a step"):
        train_on_device(classifier, poor, x, y, steps=1, recipe=recipe)
    assert poor.ledger.executions == 0


class Waving(Executor):
    """Answers anything, but nothing that an iteration settles at; calibrations it answers right."""

    def run(self, angles, shots):
        if not self.circuit.n_parameters:
            flipped = bool(self.circuit.operations)
            return np.full((len(angles), len(self.observables.strings)), -1.0 if flipped else 1.0)
        return np.outer(np.cos(1e3 * angles.sum(axis=1)), np.ones(len(self.observables.strings)))


class Twice(Mitigation):
    """Asks two devices for one value."""

    scale_factors = (1, 1)

    def __init__(self, make, circuit, observables):
        super().__init__(circuit, observables, [make(circuit, observables) for _ in range(2)])

    def mitigate(self, angles, measure):
        return np.mean([measure(each, angles) for each in self.executors], axis=0)


def test_a_calibration_comes_before_the_first_step_and_what_the_budget_leaves_for_it():
    classifier, ledger = tiny_classifier(), Ledger()
    recipe = DeviceRecipe(batch_size=3, max_steps=2, tolerance=0.0, adjoint="jacobian-free")
    executor = ReadoutCorrection(
        functools.partial(Waving, shots=10, ledger=ledger),
        Program.of(classifier.model).circuit,
        classifier.model.observables,
    )
    needed = step_cost(classifier.model, executor, recipe, 3).executions
    ledger.budget = Budget(executions=needed + 1)
    with pytest.raises(UserError, match="needed for a step of 3 samples"):
        train(executor, 1, recipe, classifier)
    assert ledger.by_purpose == {"mitigation": 2}  # of the step nothing
    ledger.budget = Budget(executions=needed + 2)
    assert train(executor, 2, recipe, classifier).step == 1
    assert ledger.executions == needed + 2


def test_the_cost_of_a_step_is_foreseen_whatever_an_executor_makes_of_it():
    pytest.importorskip("pennylane")  # for extrapolation
    classifier = tiny_classifier()
    circuit, observables = Program.of(classifier.model).circuit, classifier.model.observables
    recipe = DeviceRecipe(
        batch_size=3, max_steps=2, tolerance=0.0, adjoint="jacobian-free", estimator="spsa"
    )

    def packed(make):
        return lambda c, o: PackedExecutor(make, c, o, n_qubits=2 * c.n_qubits + 1)

    def extrapolated(make):
        return lambda c, o: ZeroNoiseExtrapolation(make, c, o, scale_factors=(1, 3))

    def corrected(make):
        return lambda c, o: ReadoutCorrection(
            make, c, o, readout=[ReadoutError(0.01, 0.02)] * c.n_qubits
        )

    def twice(make):
        return lambda c, o: Twice(make, c, o)

    def folding(make):  # as a device does that folds what it has compiled
        def made(c, o):
            executor = make(c, o)
            executor.folded_length = 3
            return executor

        return made

    for kind in (
        [packed],
        [twice],
        [extrapolated, packed],
        [packed, corrected, twice],
        [folding],
        [packed, extrapolated, corrected, folding],
    ):
        ledger = Ledger(timing=TIMINGS["trapped-ion"])
        made = functools.partial(Waving, shots=10, ledger=ledger)
        for around in reversed(kind):
            made = around(made)
        executor = made(circuit, observables)
        needed = step_cost(classifier.model, executor, recipe, 3)
        # What is foreseen is enough, and is spent to the last.
        ledger.budget = Budget(executions=needed.executions, shots=needed.shots)
        found = train(executor, 1, recipe, classifier)
        assert found.stopped == "steps", kind
        assert (ledger.executions, ledger.shots) == (needed.executions, needed.shots), kind
        assert ledger.submissions == needed.submissions, kind
        # A correction may measure a wire in another basis, which takes a gate more.
        assert ledger.seconds == pytest.approx(needed.seconds, rel=0.02), kind
        assert ledger.by_purpose == needed.by_purpose, kind


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_features_that_are_no_numbers_are_named_before_anything_is_measured(value):
    x = np.array(X, np.float64)
    x[4, 1] = value
    model = tiny_model()
    executor = simulator(model)
    classifier = Classifier(model, 2, key=jax.random.key(0))
    y = np.arange(len(x)) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 1e39 in float32
        with pytest.raises(UserError, match=r"x\[4, 1\] is"):
            train_on_device(classifier, executor, x, y, steps=1)
    assert executor.ledger.executions == 0
