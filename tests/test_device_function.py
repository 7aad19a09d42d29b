"""JAX functions on devices: values, first derivatives, what they cost, what they refuse."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from execution_problems import OBSERVABLES, Failing, simulator, tiny_inputs, tiny_model

from qdeq.circuits import Circuit, MeasurementEnsemble
from qdeq.devices import (
    Budget,
    BudgetSpent,
    DeviceError,
    DeviceFunction,
    Ledger,
    SimulatorExecutor,
    device_errors,
)
from qdeq.equilibrium import (
    Direct,
    Equilibrium,
    KrasnoselskiiMann,
    Picard,
    noise_floor,
    squared_frobenius_norm,
)
from qdeq.errors import UserError
from qdeq.lowering import Program, n_shifts
from qdeq.models import Classifier

SLOW = pytest.mark.slow  # they compile a few programs each
KINDS = ["angle", *(pytest.param(kind, marks=SLOW) for kind in ("amplitude", "reuploading"))]
LAYER = Equilibrium(Picard(rtol=1e-12, atol=1e-12), max_steps=80)


def on_device(model, **options):
    return DeviceFunction(model, simulator(model, **options))


def theta_of(function):
    return function.model.theta if isinstance(function, DeviceFunction) else function.theta


def with_theta(function, theta):
    return eqx.tree_at(theta_of, function, theta)


def summed(m):
    return jnp.sum(jnp.sin(3 * m))


@eqx.filter_jit
def equilibrium_gradient(function, x):
    """The gradient in theta of a loss over equilibria, and the steps of each."""

    def loss(theta):
        prepared = with_theta(function, theta).prepare()
        solution = jax.vmap(lambda x: LAYER(prepared.bind(x), jnp.zeros(2)))(x)
        return summed(solution.value), solution.stats.steps

    return jax.grad(loss, has_aux=True)(theta_of(function))


@jax.jit
def unrolled_gradient(model, x):
    """The same through so many iterations that it is the same, by automatic differentiation."""

    def equilibrium(f):
        return jax.lax.scan(lambda m, _: (f(m), None), jnp.zeros(2), length=60)[0]

    def loss(theta):
        prepared = with_theta(model, theta).prepare()
        return summed(jax.vmap(lambda x: equilibrium(prepared.bind(x)))(x))

    return jax.grad(loss)(model.theta)


@pytest.mark.parametrize("kind", KINDS)
def test_implicit_gradients_equal_automatic_differentiation_at_the_stated_cost(kind, x64):
    model, x = tiny_model(kind), jnp.asarray(tiny_inputs(3))
    expected = unrolled_gradient(model, x)
    function = on_device(model)
    found, steps = equilibrium_gradient(function, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_array_equal(found[3], 0)  # a frozen angle

    program, ledger = Program.of(model), function.executor.ledger
    runs = 2 * len(x)  # two settings
    n_encoding = len(program.encoding_slots)
    controlled = {"CRX", "CRY", "CRZ"}
    gates = [op.name for op in program.circuit.operations if op.parameter is not None]
    n_controlled = sum(gates[slot] in controlled for slot in program.trainable_slots)
    n_rotations = len(program.trainable_slots) - n_controlled
    steps = int(max(steps))  # under vmap every step runs the whole batch
    assert ledger.by_purpose == {
        "forward": runs * steps,
        "input gradient": runs * (1 + 2 * n_encoding),
        "parameter gradient": runs * (1 + 2 * n_rotations + 4 * n_controlled),
    }
    assert ledger.submissions == steps + 2


@pytest.mark.parametrize("kind", [pytest.param("angle", marks=SLOW), "amplitude"])
def test_all_first_derivatives_of_the_function(kind, x64):
    model, x = tiny_model(kind), jnp.asarray(tiny_inputs(2))
    m = jnp.array([[0.3, -0.2], [0.7, 0.1]])

    @eqx.filter_jit
    def derivatives(function):
        def value(theta, m, x):
            return with_theta(function, theta)(m, x)

        theta = jnp.asarray(model.theta)
        return jax.vmap(jax.jacrev(value, (0, 1, 2)), (None, 0, 0))(theta, m, x)

    for a, b in zip(derivatives(on_device(model)), derivatives(model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_nested_batches_are_one_submission():
    model, x = tiny_model(), jnp.asarray(tiny_inputs(6)).reshape(2, 3, 3)
    m = jnp.array([0.1, 0.2])
    function = on_device(model)
    evaluate = jax.jit(jax.vmap(jax.vmap(lambda x: function(m, x))))
    found = evaluate(x)
    assert function.executor.ledger.submissions == 1
    expected = jax.jit(jax.vmap(jax.vmap(lambda x: model(m, x))))(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32
    assert found.dtype == jnp.float32


def test_a_function_of_m_alone_shifts_the_encoding_only():
    model = tiny_model()
    function = on_device(model)
    x = jnp.asarray(tiny_inputs(1)[0])
    jax.jit(jax.jacfwd(lambda m: function(m, x)))(jnp.zeros(2))
    assert set(function.executor.ledger.by_purpose) == {"input gradient"}
    program = Program.of(model)
    expected = 2 * (1 + n_shifts(program.circuit, program.encoding_slots))
    assert function.executor.ledger.executions == expected


def test_separate_shots_for_values_and_gradients():
    model = tiny_model()
    function = DeviceFunction(model, simulator(model), shots=50, gradient_shots=200)
    x = jnp.asarray(tiny_inputs(1)[0])
    jax.value_and_grad(lambda m: function(m, x).sum())(jnp.zeros(2))
    counted = function.executor.ledger.by_purpose
    expected = 50 * counted["forward"] + 200 * counted["input gradient"]
    assert function.executor.ledger.shots == expected


def test_amplitudes_that_vanish_have_value_and_derivative_zero():
    model = tiny_model("amplitude")
    function = on_device(model)
    value, jacobian = jax.jit(lambda m: (function(m, -model.reinjection @ m), 0))(jnp.ones(2))
    np.testing.assert_array_equal(value, model(jnp.zeros(2), jnp.zeros(3)))
    jacobian = jax.jit(jax.jacfwd(lambda m: function(m, jnp.zeros(3))))(jnp.zeros(2))
    np.testing.assert_array_equal(jacobian, 0)


@SLOW
def test_averaging_solvers_take_a_device_as_a_random_function():
    model = tiny_model()
    function, x = on_device(model, shots=1000), jnp.asarray(tiny_inputs(4))
    layer = Equilibrium(KrasnoselskiiMann(rtol=0.0, atol=noise_floor(10_000, 2)))
    keys = jax.random.split(jax.random.key(0), 4)
    solve = jax.jit(jax.vmap(lambda x, key: layer(function, jnp.zeros(2), x, key=key)))
    found = solve(x, keys)
    assert np.all(found.stats.converged)
    exact = jax.vmap(lambda x: Equilibrium()(model, jnp.zeros(2), x).value)(x)
    # 4 standard errors of ten averaged evaluations.
    np.testing.assert_allclose(found.value, exact, atol=4 * noise_floor(10_000, 1))


@SLOW
def test_direct_layers_and_classifiers_take_a_device_function(x64):
    model, x = tiny_model(), jnp.asarray(tiny_inputs(2))
    classifier = Classifier(model, 2, key=jax.random.key(0))
    measured = eqx.tree_at(lambda c: c.model, classifier, on_device(model))

    @eqx.filter_jit
    def gradient(classifier):
        def loss(classifier):
            return jnp.sum(jax.vmap(lambda x: classifier(x, Direct(2)).logits[0])(x))

        return eqx.filter_grad(loss)(classifier)

    expected, found = gradient(classifier), gradient(measured)
    np.testing.assert_allclose(found.model.model.theta, expected.model.theta, atol=1e-8)
    np.testing.assert_allclose(found.head.weight, expected.head.weight, atol=1e-8)


def test_second_derivatives_are_refused_when_traced():
    model = tiny_model()
    function, x = on_device(model), jnp.asarray(tiny_inputs(1)[0])
    penalty = lambda m: squared_frobenius_norm(function, m, x)  # noqa: E731
    with pytest.raises(UserError, match="second derivative of a function on device simulator"):
        jax.make_jaxpr(jax.grad(penalty))(jnp.zeros(2))
    with pytest.raises(UserError, match="second derivative"):
        jax.jit(jax.hessian(lambda m: function(m, x)[0])).lower(jnp.zeros(2))
    jax.make_jaxpr(penalty)(jnp.zeros(2))  # its value needs first derivatives only
    assert function.executor.ledger.executions == 0


def test_errors_of_a_device_come_out_as_they_went_in():
    model = tiny_model()
    executor = Failing(simulator(model), {1})
    function, x = DeviceFunction(model, executor), jnp.asarray(tiny_inputs(1)[0])
    evaluate = jax.jit(lambda m: function(m, x))
    with device_errors(executor):
        evaluate(jnp.zeros(2))
    with pytest.raises(DeviceError, match="the lid was open"), device_errors(executor):
        evaluate(jnp.zeros(2)).block_until_ready()
    executor.ledger.budget = Budget(executions=5)
    with pytest.raises(BudgetSpent), device_errors(executor):
        evaluate(jnp.zeros(2)).block_until_ready()
    with pytest.raises(ZeroDivisionError), device_errors(executor):
        _ = 1 / 0


def test_mistakes():
    model = tiny_model()
    with pytest.raises(UserError, match="runs another circuit"):
        DeviceFunction(model, SimulatorExecutor(Circuit(2, ()), OBSERVABLES))
    other = MeasurementEnsemble(2, ("ZZ",))
    with pytest.raises(UserError, match=r"measures \('ZZ',\) and the model \('ZI', 'XX'\)"):
        DeviceFunction(model, SimulatorExecutor(Program.of(model).circuit, other))
    with pytest.raises(UserError, match="give an Executor"):
        DeviceFunction(model, None)
    with pytest.raises(UserError, match="gradient_shots=0"):
        DeviceFunction(model, simulator(model, ledger=Ledger()), gradient_shots=0)


def test_vectors_are_those_that_the_model_takes():
    model = tiny_model()
    function = DeviceFunction(model, simulator(model))
    good_m, good_x = jnp.zeros(2), jnp.ones(3)
    for f in (model, function):
        for m, x, message in (
            (jnp.zeros(3), good_x, r"the measured state has the shape \(3,\): give \(2,\)"),
            (good_m, jnp.ones(2), r"x has the shape \(2,\): give \(3,\)"),
            (good_m, jnp.ones((4, 3)), r"x has the shape \(4, 3\): give \(3,\)"),
            (good_m, good_x + 1j, "x is complex"),
            (good_m + 1j, good_x, "the measured state is complex"),
        ):
            with pytest.raises(UserError, match=message):
                f(m, x)
    for x in (["a"] * 3, [object()] * 3, [[1], [2, 3]]):
        with pytest.raises(UserError, match=r"x: .*; give \(3,\) real numbers"):
            function(good_m, x)
    with pytest.raises(UserError, match="x is masked"):  # of a model JAX says so itself
        function(good_m, np.ma.masked_greater(np.arange(3.0), 1))
    np.testing.assert_array_equal(function([0, 0], [1, 1, 1]), function(good_m, good_x))


def test_shots_of_any_type_are_a_constant_of_the_program():
    model = tiny_model()
    for shots in (np.int32(100), np.array(100), jnp.array(100)):
        executor = simulator(model)
        f = DeviceFunction(model, executor, shots=shots, gradient_shots=shots)
        assert jax.jit(lambda x, f=f: f(jnp.zeros(2), x))(jnp.ones(3)).shape == (2,)
        assert executor.ledger.shots == 2 * 100  # two settings


ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, qdeq
from qdeq.devices import DeviceFunction, SimulatorExecutor
from qdeq.lowering import Program
model = qdeq.paper_model(key=jax.random.key(0))
executor = SimulatorExecutor(Program.of(model).circuit, model.observables)
function = DeviceFunction(model, executor)
x = jax.random.uniform(jax.random.key(1), (8, 16))
slope = jax.grad(lambda x: qdeq.Equilibrium()(function, jnp.zeros(4), x).value.sum())
print(jax.jit(jax.vmap(slope))(x).shape)
"""


@pytest.mark.slow  # a process of its own
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be given up here")
def test_a_device_that_computes_with_jax_answers_on_one_core():
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    command = [sys.executable, "-c", ONE_CORE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(8, 16)", done.stderr
