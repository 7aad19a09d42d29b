"""Executors: what is checked, counted and reported for every device, and our own simulation."""

import functools
import time

import numpy as np
import oracle
import pytest
from execution_problems import OBSERVABLES, Failing, Scripted, simulator, tiny_inputs, tiny_model

from qdeq.circuits import (
    Circuit,
    Depolarising,
    MeasurementEnsemble,
    NoiseModel,
    Operation,
    Rule,
    parse_noise,
    z_of_every_wire,
)
from qdeq.devices import (
    Budget,
    BudgetSpent,
    DeviceError,
    Ledger,
    SimulatorExecutor,
    shift_jacobian,
    spsa_jacobian,
)
from qdeq.errors import UserError
from qdeq.lowering import Program


def program_rows(model, n_rows, seed=0):
    n_slots = Program.of(model).n_slots
    return np.random.default_rng(seed).uniform(-3, 3, (n_rows, n_slots))


@pytest.mark.parametrize("n_rows", [1, 5])
def test_simulator_gives_exact_expectation_values(n_rows):
    model = tiny_model()
    executor, rows = simulator(model), program_rows(model, n_rows)
    expected = [
        oracle.expectation_values(
            OBSERVABLES.strings, oracle.circuit_unitary(executor.circuit, row)[:, 0]
        )
        for row in rows
    ]
    # 1e-12 in a suite that runs in float32: the simulator is float64 wherever it is called.
    np.testing.assert_allclose(executor(rows), expected, atol=1e-12)


def test_long_batches_are_run_in_pieces():
    model = tiny_model()
    rows = np.repeat(program_rows(model, 1), 300, axis=0)
    values = simulator(model)(rows)
    assert values.shape == (300, 2)
    np.testing.assert_allclose(values, values[:1].repeat(300, axis=0), atol=1e-14)


def test_samples_have_the_right_mean_and_spread():
    model = tiny_model()
    rows = np.repeat(program_rows(model, 1), 400, axis=0)
    exact = simulator(model)(rows[:1])[0]
    shots = 200
    values = simulator(model, shots=shots, seed=3)(rows)
    deviation = np.sqrt((1 - exact**2) / shots)
    # 400 samples: the mean within 4 standard errors, the spread within 4 / sqrt(2 * 400) = 14 %.
    assert np.all(np.abs(values.mean(axis=0) - exact) < 4 * deviation / 20)
    assert np.all(np.abs(values.std(axis=0) / deviation - 1) < 0.14)


def test_seeds_fix_the_samples_and_submissions_differ():
    model = tiny_model()
    rows = program_rows(model, 2)
    first, second = simulator(model, shots=50, seed=1), simulator(model, shots=50, seed=1)
    one, two = first(rows), first(rows)
    np.testing.assert_array_equal(second(rows), one)
    assert np.any(one != two)


def test_noise_of_the_simulator():
    turn = Circuit(1, (Operation("RY", (0,), parameter=0),))
    noise = NoiseModel(rules=(Rule(Depolarising(0.3)),))
    value = SimulatorExecutor(turn, z_of_every_wire(1), noise=noise)(np.array([[0.5]]))
    # Two of the three Pauli errors flip Z.
    np.testing.assert_allclose(value, (1 - 0.3 * 4 / 3) * np.cos(0.5), atol=1e-12)


def test_ledger_counts_rows_times_settings():
    model = tiny_model()
    ledger = Ledger()
    executor = simulator(model, shots=10, ledger=ledger)
    executor(program_rows(model, 3))
    executor(program_rows(model, 2), purpose="parameter gradient", shots=7)
    executor(program_rows(model, 0))
    assert executor.n_settings == 2
    assert ledger.by_purpose == {"forward": 6, "parameter gradient": 4}
    assert (ledger.submissions, ledger.shots) == (2, 6 * 10 + 4 * 7)


def test_a_spent_budget_stops_before_the_device_runs():
    ran = []
    executor = Scripted(
        lambda angles, shots: ran.append(1) or np.zeros((len(angles), 1)),
        ledger=Ledger(budget=Budget(executions=5)),
    )
    executor(np.zeros((4, 1)))
    with pytest.raises(BudgetSpent, match="4 are spent"):
        executor(np.zeros((2, 1)))
    assert len(ran) == 1
    assert executor.ledger.executions == 4


def test_a_failure_names_the_device_and_keeps_the_cause():
    error = ConnectionError("queue closed\nmore")
    executor = Failing(simulator(tiny_model()), {0}, error, name="the lab's")
    with pytest.raises(
        DeviceError,
        match=r"device the lab's failed on a submission of 1 circuits "
        r"\(ConnectionError: queue closed\)",
    ) as caught:
        executor(program_rows(tiny_model(), 1))
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


def test_a_timeout_is_a_device_error():
    executor = Scripted(lambda angles, shots: time.sleep(5), timeout=0.05)
    with pytest.raises(DeviceError, match=r"TimeoutError: no answer within 0.05 s"):
        executor(np.zeros((1, 1)))


def test_an_answer_in_time_is_an_answer():
    executor = Scripted(lambda angles, shots: np.cos(angles), timeout=30)
    np.testing.assert_allclose(executor(np.array([[0.3]])), np.cos(0.3))
    executor.function = lambda angles, shots: 1 / 0
    with pytest.raises(DeviceError, match="ZeroDivisionError"):
        executor(np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\) in place of \(1, 1\)"),
        (np.full((1, 1), np.nan), "not finite"),
        ("nonsense", "ValueError"),
        (np.zeros((1, 1)) + 1j, "complex or masked"),
        (np.ma.masked_array(np.zeros((1, 1)), True), "complex or masked"),
    ],
)
def test_nonsense_answers_are_device_errors(answer, message):
    with pytest.raises(DeviceError, match=message):
        Scripted(lambda angles, shots: answer)(np.zeros((1, 1)))


def test_retries_repeat_a_failed_submission_and_are_charged():
    executor = Failing(simulator(tiny_model()), {0, 1}, retries=2)
    executor(program_rows(tiny_model(), 1))
    assert executor.ledger.submissions == 3
    again = Failing(simulator(tiny_model()), {0, 1}, retries=1)
    with pytest.raises(DeviceError):
        again(program_rows(tiny_model(), 1))


def test_a_users_mistake_in_a_device_stays_one():
    def refuse(angles, shots):
        raise UserError("the device has no CRX: decompose it")

    with pytest.raises(UserError, match="no CRX") as caught:
        Scripted(refuse, retries=3)(np.zeros((1, 1)))
    assert not isinstance(caught.value, DeviceError)


def test_mistakes():
    executor = Scripted(lambda angles, shots: np.cos(angles))
    with pytest.raises(UserError, match=r"shape \(1, 2\): the circuit has 1 angles"):
        executor(np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"not finite in row 1"):
        executor(np.array([[0.0], [np.nan]]))
    with pytest.raises(UserError, match=r"angles are complex"):
        executor(np.zeros((1, 1)) + 1j)
    with pytest.raises(UserError, match=r"angles are masked"):
        executor(np.ma.masked_greater(np.ones((1, 1)), 0))
    with pytest.raises(UserError, match=r"angles: could not convert"):
        executor([["a"]])
    for estimate in (shift_jacobian, functools.partial(spsa_jacobian, rng=np.random.default_rng())):
        with pytest.raises(UserError, match=r"shape \(1, 2\): the circuit has 1 angles"):
            estimate(executor, np.zeros((1, 2)), slots=(0,))
    with pytest.raises(UserError, match=r"shots=0"):
        executor(np.zeros((1, 1)), shots=0)
    for shots in (np.array([10, 20]), [10, 20]):
        with pytest.raises(UserError, match=r"shots=.*give a whole number"):
            executor(np.zeros((1, 1)), shots=shots)
        with pytest.raises(UserError, match=r"shots=.*give a whole number"):
            Scripted(None, shots=shots)
    with pytest.raises(UserError, match=r"ledger=100: give a Ledger"):
        Scripted(None, ledger=100)
    with pytest.raises(UserError, match=r"budget=100: give one such as Budget"):
        Ledger(budget=100)
    with pytest.raises(UserError, match=r"seconds=-1"):
        Ledger(seconds=-1)
    with pytest.raises(UserError, match=r"timeout=0"):
        Scripted(None, timeout=0)
    with pytest.raises(UserError, match=r"timeout=inf"):
        Scripted(None, timeout=np.inf)
    with pytest.raises(UserError, match=r"retries=None"):
        Scripted(None, retries=None)
    with pytest.raises(UserError, match=r"timeout='a'"):
        Scripted(None, timeout="a")
    for limit in ("10", True, 0, np.inf, np.nan):
        with pytest.raises(UserError, match="give a positive number"):
            Budget(executions=limit)
    with pytest.raises(UserError, match=r"executions=Budget.*a limit is Ledger\(budget="):
        Ledger(Budget(shots=3))
    with pytest.raises(UserError, match=r"retries=-1"):
        Scripted(None, retries=-1)
    with pytest.raises(UserError, match=r"purpose='fun'"):
        executor(np.zeros((1, 1)), purpose="fun")
    fed = Circuit(1, (Operation("RX", (0,), feature=0),))
    with pytest.raises(UserError, match=r"fed by 1 features"):
        SimulatorExecutor(fed, z_of_every_wire(1))
    one = Circuit(1, ())
    with pytest.raises(UserError, match=r"noise='depolarising=0.1' is not a NoiseModel"):
        SimulatorExecutor(one, z_of_every_wire(1), noise="depolarising=0.1")
    with pytest.raises(UserError, match=r"wire 3: the circuit has wires 0 to 0"):
        SimulatorExecutor(one, z_of_every_wire(1), noise=parse_noise("readout@3=0.1"))
    for seed in (-1, 0.5, "a", None):
        with pytest.raises(UserError, match=r"seed=.*give an integer that is at least 0"):
            SimulatorExecutor(one, z_of_every_wire(1), seed=seed)
    with pytest.raises(UserError, match=r"observables act on 2 qubits"):
        SimulatorExecutor(Circuit(1, ()), MeasurementEnsemble(2, ("ZZ",)))
    assert executor.ledger.executions == 0
    assert tiny_inputs(1).shape == (1, 3)
