"""Costs on a device: the ledger and its budget, and predictions equal to what is counted."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.circuits import (
    AngleEncoding,
    Circuit,
    MeasuredCircuit,
    MeasurementEnsemble,
    Operation,
    xyz_of_every_wire,
    z_of_every_wire,
)
from qdeq.devices import (
    TIMINGS,
    Budget,
    BudgetSpent,
    CircuitCost,
    DeviceTiming,
    Ledger,
    SimulatorExecutor,
    circuit_seconds,
    estimate,
    largest_number,
    parse_timing,
    submission_seconds,
)
from qdeq.devices.function import DeviceFunction
from qdeq.devices.prediction import combinations
from qdeq.devices.shift import shift_jacobian
from qdeq.devices.solve import solve_on_device
from qdeq.devices.spsa import spsa_jacobian
from qdeq.devices.train import DeviceRecipe, train_on_device
from qdeq.equilibrium import ADJOINTS, SOLVERS
from qdeq.errors import UserError
from qdeq.lowering import Program

TIMING = DeviceTiming(
    one_qubit_gate=1.0, two_qubit_gate=10.0, readout=100.0, reset=1000.0, submission=1e5
)
# 2 rotations and a controlled one, with one angle in two places; 2 settings for 2 observables.
CIRCUIT = Circuit(
    2,
    (
        Operation("RX", (0,), parameter=0),
        Operation("CRX", (0, 1), parameter=1),
        Operation("RY", (1,), parameter=0),
    ),
)
ENCODING = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
X = np.array([[0.1, 0.9], [-1.0, 0.4], [2.0, 0.3], [0.0, 0.0]])
# Circuits of a Jacobian, by hand: a value, two shifts per rotation, four per controlled one.
INPUT, PARAMETERS = 1 + 2 * 2, 1 + 2 * 2 + 4


@pytest.fixture(scope="module")
def model():
    return qdeq.QuantumModel(
        [0.3, 0.7],
        CIRCUIT,
        encoding=ENCODING,
        observables=MeasurementEnsemble(2, ("ZI", "XI")),
    )


def executor_of(model, **options):
    return SimulatorExecutor(Program.of(model).circuit, model.observables, **options)


def counts(ledger):
    """All that a ledger counted, without its limits."""
    found = ledger.to_dict()
    return {name: found[name] for name in found if name not in ("budget", "timing", "seconds")}


def assert_equal(counted, predicted):
    assert counts(counted) == counts(predicted)
    # The same sum in another order.
    assert counted.seconds == pytest.approx(predicted.seconds, rel=1e-12)


class TestLedger:
    def test_an_execution_is_a_circuit_in_a_setting_and_takes_all_the_shots(self):
        ledger = Ledger()
        ledger.charge(5, 2, 100, "forward")
        ledger.charge(1, 3, None, "input gradient")
        assert (ledger.executions, ledger.shots, ledger.submissions) == (13, 1000, 2)
        assert ledger.by_purpose == {"forward": 10, "input gradient": 3}

    @pytest.mark.parametrize(
        "budget", [Budget(executions=19), Budget(shots=1999), Budget(seconds=2e6)]
    )
    def test_what_exceeds_the_budget_is_refused_whole(self, model, budget):
        ledger = Ledger(budget=budget, timing=TIMING)
        circuit, observables = Program.of(model).circuit, model.observables
        ledger.charge(5, 2, 100, "forward", circuit, observables)
        before = ledger.to_dict()
        with pytest.raises(BudgetSpent, match="raise the budget"):
            ledger.charge(5, 2, 100, "forward", circuit, observables)
        assert ledger.to_dict() == before

    def test_a_budget_may_be_spent_to_the_last(self):
        ledger = Ledger(budget=Budget(executions=20, shots=200))
        ledger.charge(10, 2, 10, "forward")
        assert ledger.executions == 20

    def test_a_budget_of_so_many_seconds_lasts_for_as_many_submissions(self, model):
        """0.1 added up ten times is not 1.0, and may be above it."""
        timing = DeviceTiming(1e-8, 3e-8, 1.6e-6, 2.5e-4, 0.7)
        charged = (7, 1, 123, "forward", Program.of(model).circuit, model.observables)
        unit = Ledger(timing=timing)
        unit.charge(*charged)
        for number in range(1, 40):
            budget = Budget(seconds=number * unit.seconds)
            ledger = Ledger(timing=timing, budget=budget)
            for _ in range(number):
                ledger.charge(*charged)
            with pytest.raises(BudgetSpent, match="seconds"):
                ledger.charge(*charged)
            assert largest_number(unit, budget) == number

    def test_an_executor_runs_nothing_beyond_the_budget(self, model):
        executor = executor_of(model, ledger=Ledger(budget=Budget(executions=7)))
        with pytest.raises(BudgetSpent):
            executor(np.zeros((4, 5)))
        assert executor.n_submissions == 0 and executor.ledger.executions == 0

    def test_it_survives_json_with_budget_and_timing(self):
        ledger = Ledger(budget=Budget(seconds=1e9), timing=TIMING)
        circuit = Circuit(2, CIRCUIT.operations[:0])
        ledger.charge(1, 1, 10, "mitigation", circuit, z_of_every_wire(2))
        assert Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger

    @pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.asarray, jnp.int32])
    def test_numbers_of_any_type_are_counted_in_full(self, kind):
        # 1000 circuits of 100 shots: more than int8 holds; of 2**30 shots, more than int64 holds.
        shots = kind(100)
        ledger = Ledger(budget=Budget(executions=np.int64(5000)))
        ledger.charge(1000, 1, shots, "forward")
        assert (ledger.executions, ledger.shots) == (1000, 100_000)
        huge = Ledger(budget=Budget(shots=2**40))
        with pytest.raises(BudgetSpent):
            huge.charge(np.int32(2**30), np.int32(8), np.int32(2**30), "forward")
        timing = DeviceTiming(np.float32(1), np.int64(1), 0.0, 0.0, 0.0)
        again = Ledger(np.int64(3), seconds=np.float32(2.0), budget=ledger.budget, timing=timing)
        assert Ledger.from_dict(json.loads(json.dumps(again.to_dict()))) == again
        cost = estimate(MeasuredCircuit.named(2, "angle", ansatz="hardware-efficient"), shots=1000)
        whole = estimate(
            MeasuredCircuit.named(2, "angle", ansatz="hardware-efficient"), shots=np.int32(1000)
        )
        assert whole.training(10**6, batch_size=32) == cost.training(10**6, batch_size=32)

    def test_parts_of_a_sample_are_refused(self, model):
        cost = estimate(model, steps=3)
        for ask in (
            lambda: cost.inference(2.5),
            lambda: cost.inference("3"),
            lambda: cost.inference(4, batch_size=1.5),
            lambda: cost.training(4, batch_size=2, epochs=1.5),
        ):
            with pytest.raises(UserError, match="give an integer that is at least 1"):
                ask()
        for factors in ("1,3", 3, (1, "3"), ()):
            with pytest.raises(UserError, match=r"scale_factors=.*: give numbers of at least 1"):
                estimate(model, scale_factors=factors)

    def test_merging_adds_everything(self):
        first, second = Ledger(), Ledger()
        first.charge(1, 2, 3, "forward")
        second.charge(4, 5, 6, "forward")
        second.charge(1, 1, 1, "mitigation")
        first.merge(second)
        assert counts(first) == {
            "executions": 23,
            "shots": 127,
            "submissions": 3,
            "by_purpose": {"forward": 22, "mitigation": 1},
        }

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: Ledger().charge(1, 1, 1, "fun"), "choose one of forward"),
            (lambda: Ledger(budget=Budget(seconds=1)), "give the ledger one"),
            (lambda: Ledger(timing=TIMING).charge(1, 1, 1, "forward"), "without a circuit"),
            (lambda: Budget(executions=0), "budget of 0 executions"),
            (lambda: Budget(shots=-5), "positive"),
            (lambda: Ledger.from_dict({}), "damaged"),
            (lambda: Ledger.from_dict({**Ledger().to_dict(), "more": 1}), "damaged"),
        ],
    )
    def test_mistakes_are_one_sentence(self, call, words):
        with pytest.raises(UserError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


class TestTiming:
    def test_gates_on_different_wires_run_at_the_same_time(self):
        circuit = Circuit(
            3, tuple(Operation(*gate) for gate in (("H", (0,)), ("H", (1,)), ("CZ", (1, 2))))
        )
        assert circuit_seconds(TIMING, circuit) == 11
        # Wire 0 is measured in X while the others are still busy; wire 2 after them.
        assert circuit_seconds(TIMING, circuit, "XII") == 11
        assert circuit_seconds(TIMING, circuit, "IIY") == 12

    def test_every_setting_has_its_shots(self):
        circuit = Circuit(1, (Operation("H", (0,)),))
        ensemble = xyz_of_every_wire(1)  # X and Y take one more gate, Z none
        shots = 3 * 7 * (2 + 2 + 1 + 3 * 1100)
        assert submission_seconds(TIMING, circuit, ensemble, 3, 7) == 1e5 + shots
        assert submission_seconds(TIMING, circuit, ensemble, 3, None) == 1e5

    def test_text_starts_from_a_preset_or_names_all_times(self):
        found = parse_timing("trapped-ion, reset=0.01,submission=5")
        assert found == TIMINGS["trapped-ion"].replace(reset=0.01, submission=5.0)
        every = ",".join(f"{name}={value}" for name, value in vars(TIMING).items())
        assert parse_timing(every) == TIMING

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("photonic", "choose one of superconducting"),
            ("superconducting,gate=1", "choose one of one_qubit_gate"),
            ("superconducting,reset=slow", "number of seconds"),
            ("superconducting,reset=-1", "at least 0"),
            ("superconducting,reset=nan", "at least 0"),
            ("reset=1", "lacks one_qubit_gate"),
            ("", "choose one of superconducting"),
        ],
    )
    def test_mistakes_are_one_sentence(self, text, words):
        with pytest.raises(UserError, match=words):
            parse_timing(text)


class TestCircuitCost:
    @pytest.mark.parametrize(
        ("n_qubits", "wires", "random_rotations"),
        # The published circuits: 50 random gates, 4 per block with an angle each, 3 without.
        [(4, 4, 35), (10, 7, 40)],
    )
    def test_amplitude_encoding_pays_for_its_state(self, n_qubits, wires, random_rotations):
        cost = CircuitCost.of(MeasuredCircuit.named(n_qubits, "amplitude"))
        blocks = (n_qubits - 2) // 2
        assert cost.encoding_slots == cost.preparation_one_qubit_gates == 2**wires - 1
        assert cost.preparation_two_qubit_gates == 2**wires - 2
        assert cost.parameter_slots == random_rotations + 4 * blocks
        assert cost.parameter_shifts == 2 * (random_rotations + 3 * blocks) + 4 * blocks
        cnots = 50 - random_rotations
        assert cost.two_qubit_gates - cost.preparation_two_qubit_gates == cnots + 2 * blocks

    @pytest.mark.parametrize("n_qubits", [4, 10])
    def test_angle_encoding_is_a_rotation_per_feature(self, n_qubits):
        cost = CircuitCost.of(MeasuredCircuit.named(n_qubits, "angle"))
        assert cost.encoding_slots == cost.preparation_one_qubit_gates == n_qubits**2
        assert cost.encoding_shifts == 2 * n_qubits**2
        assert (cost.preparation_two_qubit_gates, cost.preparation_depth) == (0, n_qubits)

    def test_frozen_angles_are_not_shifted(self):
        measured = MeasuredCircuit.named(4, "angle", trainable="published")
        assert CircuitCost.of(measured).parameter_slots == 35

    def test_an_angle_in_two_places_is_shifted_in_both(self, model):
        cost = CircuitCost.of(model)
        assert (cost.encoding_shifts, cost.parameter_shifts) == (INPUT - 1, PARAMETERS - 1)
        assert cost.settings == 2


class TestPrediction:
    """By hand: two settings, so twice as many executions as circuits."""

    @pytest.mark.parametrize(
        ("solver", "adjoint", "solve", "by_input", "by_parameters"),
        [
            ("picard", "implicit", 7, INPUT, PARAMETERS),
            ("broyden", "neumann", 7, INPUT, PARAMETERS),
            ("anderson", "jacobian-free", 7, 0, PARAMETERS),
            ("broyden", "shine", 7, 0, PARAMETERS),
            ("picard", "unrolled", 7, 6 * INPUT, 7 * PARAMETERS),
            ("newton", "implicit", 7, 8 * INPUT, PARAMETERS),
            ("dogleg", "jacobian-free", 7, 7 * INPUT, PARAMETERS),
        ],
    )
    def test_of_a_training_step(self, model, solver, adjoint, solve, by_input, by_parameters):
        cost = estimate(model, solver=solver, adjoint=adjoint, steps=7, shots=10)
        step = cost.training_step(3)
        expected = {
            "forward": 6 * solve,
            "input gradient": 6 * by_input,
            "parameter gradient": 6 * by_parameters,
        }
        assert step.by_purpose == {name: count for name, count in expected.items() if count}
        assert step.shots == 10 * step.executions == 10 * sum(expected.values())

    def test_direct_pays_for_the_derivatives_of_every_layer(self, model):
        step = estimate(model, layers=5).training_step(1)
        assert step.by_purpose == {
            "forward": 2 * 5,
            "input gradient": 2 * 4 * INPUT,
            "parameter gradient": 2 * 5 * PARAMETERS,
        }
        assert step.submissions == 5 + 4 + 5 and step.shots == 0

    def test_spsa_makes_the_angles_cheap_and_leaves_the_input_exact(self, model):
        cost = estimate(model, gradient="spsa", perturbations=3, steps=1)
        assert cost.gradients().by_purpose == {
            "input gradient": 2 * INPUT,
            "parameter gradient": 2 * (1 + 2 * 3),
        }

    def test_gradients_may_have_shots_of_their_own(self, model):
        cost = estimate(model, steps=2, shots=10, gradient_shots=1000)
        assert cost.training_step(1).shots == 2 * (2 * 10 + (INPUT + PARAMETERS) * 1000)

    def test_mitigation_repeats_every_submission_with_longer_circuits(self, model):
        options = {"steps": 2, "shots": 10, "timing": TIMING}
        plain = estimate(model, **options).training_step(3)
        longer = estimate(model, **options, scale_factors=(1, 3, 5)).training_step(3)
        assert longer.executions == 3 * plain.executions and longer.submissions == 12
        assert longer.by_purpose == {**plain.by_purpose, "mitigation": 2 * plain.executions}
        # 2 + 4 times the gates more: an encoding rotation, one of the circuit, CRX, another one.
        gates = 10 * plain.executions * (2 + 4) * (1 + 1 + 10 + 1)
        assert longer.seconds == pytest.approx(3 * plain.seconds + gates)

    @pytest.mark.parametrize("batch_size", [1, 7, 32, 100, 1000])
    def test_a_mean_number_of_steps_costs_the_same_in_batches_of_any_size(self, model, batch_size):
        cost = estimate(model, steps=4.37)
        predicted = cost.inference(100, batch_size=batch_size)
        assert predicted.executions == 2 * 437
        assert predicted.submissions <= 5 * -(-100 // batch_size)

    def test_every_solver_and_adjoint_of_the_library_has_a_prediction_or_a_reason(self, model):
        for solver in SOLVERS:
            for adjoint in ADJOINTS:
                if (solver, adjoint) in combinations():
                    assert estimate(model, solver=solver, adjoint=adjoint).gradient
                else:
                    with pytest.raises(UserError, match="with solver"):
                        estimate(model, solver=solver, adjoint=adjoint)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"solver": "bfgs"}, "choose one of picard"),
            ({"adjoint": "exact"}, "choose one of implicit"),
            ({"gradient": "finite"}, "choose one of parameter-shift"),
            ({"steps": 0}, "steps=0"),
            ({"steps": float("nan")}, "steps=nan"),
            ({"layers": 0}, "layers=0"),
            ({"shots": 0}, "shots=0"),
            ({"scale_factors": ()}, "scale_factors"),
            ({"scale_factors": (1, 0.5)}, "at least 1"),
        ],
    )
    def test_mistakes_are_one_sentence(self, model, options, words):
        with pytest.raises(UserError, match=words):
            estimate(model, **options)

    def test_how_many_fit_into_a_budget(self):
        unit = Ledger(executions=124, shots=124_000, seconds=0.1, timing=TIMING)
        assert largest_number(unit, Budget(executions=123)) == 0
        assert largest_number(unit, Budget(executions=1240, shots=10**9)) == 10
        assert largest_number(unit, Budget(executions=1240, seconds=0.3)) == 3
        assert largest_number(Ledger(shots=1), Budget(shots=10**13)) == 10**13
        with pytest.raises(UserError, match="limits nothing"):
            largest_number(Ledger(executions=1), Budget(shots=1))


class TestPredictedIsCounted:
    """The same numbers, once before and once from an executor that ran."""

    @pytest.mark.parametrize("shots", [None, 16])
    def test_by_the_shift_rule(self, model, shots):
        executor = executor_of(model, shots=shots, ledger=Ledger(timing=TIMING))
        program = Program.of(model)
        for slots, purpose in (
            (program.encoding_slots, "input gradient"),
            (program.trainable_slots, "parameter gradient"),
        ):
            shift_jacobian(executor, np.zeros((4, 5)), slots, purpose=purpose)
        assert_equal(executor.ledger, estimate(model, shots=shots, timing=TIMING).gradients(4))

    @pytest.mark.parametrize("shots", [None, 16])
    def test_by_a_solve(self, model, shots):
        """Tolerance 0: every sample takes every step."""
        executor = executor_of(model, shots=shots, ledger=Ledger(timing=TIMING))
        solution = solve_on_device(
            model, executor, X, solver=qdeq.Picard(0, 0), tolerance=0, max_steps=3
        )
        assert (solution.steps == 3).all()
        cost = estimate(model, solver="picard", steps=3, shots=shots, timing=TIMING)
        assert_equal(executor.ledger, cost.inference(4))

    def test_by_a_solve_whose_samples_finish_one_by_one(self, model):
        """The mean number of steps gives the executions, not the submissions of the stragglers."""
        executor = executor_of(model)
        solution = solve_on_device(model, executor, X, solver=qdeq.Picard(1e-3, 1e-3))
        assert len(set(solution.steps)) > 1
        predicted = estimate(model, solver="picard", steps=solution.steps.mean()).inference(4)
        assert predicted.by_purpose == executor.ledger.by_purpose
        assert predicted.submissions <= executor.ledger.submissions == solution.steps.max()

    def test_by_zero_noise_extrapolation(self, model):
        pytest.importorskip("pennylane")
        from qdeq.devices.mitigation import ZeroNoiseExtrapolation

        ledger, program = Ledger(), Program.of(model)
        device = ZeroNoiseExtrapolation(
            lambda *what: SimulatorExecutor(*what, ledger=ledger),
            program.circuit,
            model.observables,
            scale_factors=(1, 3),
        )
        shift_jacobian(device, np.zeros((4, 5)), program.encoding_slots, purpose="input gradient")
        shift_jacobian(device, np.zeros((4, 5)), program.trainable_slots)
        assert_equal(ledger, estimate(model, scale_factors=(1, 3)).gradients(4))

    def test_by_spsa(self, model):
        executor = executor_of(model)
        program, rng = Program.of(model), np.random.default_rng(0)
        shift_jacobian(executor, np.zeros((4, 5)), program.encoding_slots, purpose="input gradient")
        spsa_jacobian(executor, np.zeros((4, 5)), program.trainable_slots, rng=rng, perturbations=2)
        cost = estimate(model, gradient="spsa", perturbations=2)
        assert_equal(executor.ledger, cost.gradients(4))

    @pytest.mark.parametrize(
        ("adjoint", "estimator", "gradient"),
        [("implicit", "shift", "parameter-shift"), ("jacobian-free", "spsa", "spsa")],
    )
    def test_by_a_training(self, model, adjoint, estimator, gradient):
        """Two steps on batches of two, every solver step taken."""
        executor = executor_of(model, shots=16, ledger=Ledger(timing=TIMING))
        recipe = DeviceRecipe(
            batch_size=2,
            solver=qdeq.Anderson(0, 0),
            tolerance=0,
            max_steps=3,
            adjoint=adjoint,
            estimator=estimator,
            shots=8,
        )
        classifier = qdeq.Classifier(model, 2, key=jax.random.key(0))
        train_on_device(classifier, executor, X, np.array([0, 1, 0, 1]), steps=2, recipe=recipe)
        cost = estimate(
            model,
            solver="anderson",
            adjoint=adjoint,
            steps=3,
            gradient=gradient,
            shots=8,
            gradient_shots=16,
            timing=TIMING,
        )
        assert_equal(executor.ledger, cost.training(4, batch_size=2))

    @pytest.mark.parametrize(
        ("layer", "options"),
        [
            (qdeq.Equilibrium(qdeq.Picard(0, 0), max_steps=3), {"solver": "picard"}),
            (qdeq.Equilibrium(qdeq.Newton(0, 0), max_steps=3), {"solver": "newton"}),
            (
                qdeq.Equilibrium(qdeq.Broyden(0, 0), adjoint=qdeq.JacobianFree(), max_steps=3),
                {"solver": "broyden", "adjoint": "jacobian-free"},
            ),
        ],
        ids=["picard", "newton", "jacobian-free"],
    )
    def test_through_jax(self, model, layer, options):
        """A compiled gradient of a batch of equilibria, tolerance 0: every step is taken."""
        solve = lambda f: layer(f, jnp.zeros(2)).value  # noqa: E731
        ledger = ledger_of_gradient(model, solve)
        cost = estimate(model, steps=3, timing=TIMING, **options)
        assert_equal(ledger, cost.training_step(4))

    def test_of_direct_through_jax(self, model):
        predicted = estimate(model, layers=2, timing=TIMING).training_step(4)
        ledger = ledger_of_gradient(model, lambda f: f(f(jnp.zeros(2))))
        assert_equal(ledger, predicted)

    @pytest.mark.slow  # the documented exception, which compiles a loop
    def test_the_loop_of_direct_differentiates_its_constant_start_too(self, model):
        predicted = estimate(model, layers=3).training_step(4)
        ledger = ledger_of_gradient(model, lambda f: qdeq.Direct(layers=3)(f, jnp.zeros(2)).value)
        assert ledger.executions == predicted.executions + 2 * 4 * INPUT


def ledger_of_gradient(model, solve):
    """What a compiled gradient in theta of `solve` on 4 samples is counted as."""
    executor = executor_of(model, ledger=Ledger(timing=TIMING))

    @jax.jit
    @jax.grad
    def gradient(theta, x):
        f = DeviceFunction(eqx.tree_at(lambda m: m.theta, model, theta), executor)
        return jnp.sum(jax.vmap(lambda x: solve(f.bind(x)))(x) ** 2)

    jax.block_until_ready(gradient(model.theta, jnp.asarray(X, model.theta.dtype)))
    return executor.ledger
