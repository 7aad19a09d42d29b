"""v = U x + W m + b, learned or fixed, on every evaluation path: values and derivatives."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from execution_problems import LAYER, OBSERVABLES, ROTATIONS, simulator

import qdeq
from qdeq import native
from qdeq.circuits import (
    AmplitudeDamping,
    AmplitudeEncoding,
    NoiseModel,
    ReadoutError,
    Rule,
    hardware_efficient,
    reuploading,
    table_circuit,
    z_of_every_wire,
)
from qdeq.data import from_arrays
from qdeq.devices import DeviceFunction, DeviceRecipe, estimate, train_on_device
from qdeq.equilibrium import Equilibrium, Picard, make_adjoint
from qdeq.errors import UserError
from qdeq.models import Classifier, Injection, QuantumModel, SampledModel, evaluation_path
from qdeq.models.injection import PARTS

SLOW = pytest.mark.slow  # they compile a program of second derivatives or of a solve each
D = 2  # features
DAMPING, MISREAD = 0.1, (0.05, 0.02)
NOISE = NoiseModel(
    [Rule(AmplitudeDamping(DAMPING))], readout={w: ReadoutError(*MISREAD) for w in range(2)}
)
SUBSETS = [s for n in range(4) for s in itertools.combinations(PARTS, n)]


@dataclasses.dataclass(frozen=True)
class Case:
    """A path, what makes a model take it, and the path's name in `evaluation_path`."""

    path: str
    encoding: object = ROTATIONS
    circuit: object = LAYER
    observables: object = OBSERVABLES
    method: str = "auto"
    noise: object = None


TABLE = table_circuit(2, axes=("RX", "RY"))
UPLOADED = table_circuit(2, axes=("RY", "RZ"), n_uploads=2)  # 8 numbers, each read once
AGAIN = reuploading(ROTATIONS, [LAYER, LAYER])
AMPLITUDES = AmplitudeEncoding(2, 3)
CASES = {
    "forms": Case("quadratic-forms", AMPLITUDES),
    "columns": Case(
        "projected-columns", AmplitudeEncoding(3, 8), hardware_efficient(3, 1), z_of_every_wire(3)
    ),
    "light cones": Case("lightcone", method="lightcone"),
    "table": Case("lightcone", TABLE.encoding, TABLE.circuit, TABLE.observables, "lightcone"),
    "table, uploaded twice": Case(
        "statevector", UPLOADED.encoding, UPLOADED.circuit, UPLOADED.observables
    ),
    "statevector": Case("statevector", method="statevector"),
    "statevector of amplitudes": Case("statevector", AMPLITUDES, method="statevector"),
    "statevector, fed again": Case("statevector", circuit=AGAIN),
    "noisy forms": Case("quadratic-forms", AMPLITUDES, noise=NOISE),
    "noisy light cones": Case("lightcone", method="lightcone", noise=NOISE),
    "density matrix": Case("density-matrix", method="density-matrix", noise=NOISE),
    "density matrix of amplitudes": Case(
        "density-matrix", AMPLITUDES, method="density-matrix", noise=NOISE
    ),
    "density matrix, fed again": Case("density-matrix", circuit=AGAIN, noise=NOISE),
}
KERNELS = ("forms", "columns", "light cones")


DEVICE = ("light cones", "forms", "statevector, fed again")


def few(*fast, of=tuple(CASES)):
    """All names, those beside `fast` for the slow suite."""
    return [name if name in fast else pytest.param(name, marks=SLOW) for name in of]


def parts_of(case, seed=3):
    """U, W and b; W is small, so that the equilibrium attracts."""
    rng = np.random.default_rng(seed)
    a, q = case.encoding.n_features, case.observables.n_observables
    return rng.normal(size=(a, D)), 0.2 * rng.normal(size=(a, q)), rng.normal(size=a)


def model_of(name, learned=PARTS, **options):
    case = CASES[name]
    u, w, b = parts_of(case)
    theta = np.random.default_rng(1).normal(size=case.circuit.n_parameters)
    return QuantumModel(
        theta,
        case.circuit,
        encoding=case.encoding,
        observables=case.observables,
        noise=case.noise,
        method=case.method,
        injection=Injection(w, u, b, learned=learned, **options),
    )


def dense(model, m, x, u, w, b):
    """f(m, x) by dense matrices, gate by gate; with the noise of this file where there is any."""
    theta, v = np.asarray(model.theta), u @ x + w @ m + b
    n, operations = model.circuit.n_qubits, model.circuit.operations
    state = np.zeros(2**n, complex)
    if isinstance(model.encoding, AmplitudeEncoding):
        state[: len(v)] = v / np.linalg.norm(v)
    else:
        state[0], operations = 1, model.encoding.operations + operations
    rho = np.outer(state, state.conj())
    kraus = [np.diag([1, np.sqrt(1 - DAMPING)]), np.array([[0, np.sqrt(DAMPING)], [0, 0]])]
    for op in operations:
        gate = oracle.gate_matrix(op.name, oracle.gate_angles(op, theta, v))
        gate = oracle.on_wires(gate, op.wires, n)
        rho = gate @ rho @ gate.conj().T
        for wire in op.wires if model.noise else ():
            damped = [oracle.on_wires(k, (wire,), n) for k in kraus]
            rho = sum(k @ rho @ k.conj().T for k in damped)
    values = []
    for string in model.observables.strings:
        read = np.eye(1)
        for letter in string:
            pauli = oracle.PAULIS[letter]
            if model.noise and letter != "I":
                p01, p10 = MISREAD
                pauli = (1 - p01 - p10) * pauli + (p10 - p01) * np.eye(2)
            read = np.kron(read, pauli)
        values.append(np.trace(read @ rho).real)
    return np.array(values)


def central(function, parts, h):
    """The gradient of a number in every entry of some arrays, by central differences."""
    slopes = []
    for k, part in enumerate(parts):
        slope = np.zeros(part.shape)
        for index in np.ndindex(part.shape):
            ends = []
            for sign in (1, -1):
                moved = [p.copy() for p in parts]
                moved[k][index] += sign * h
                ends.append(function(*moved))
            slope[index] = (ends[0] - ends[1]) / (2 * h)
        slopes.append(slope)
    return slopes


def sample(model, seed=5):
    rng = np.random.default_rng(seed)
    m, x = rng.uniform(-1, 1, model.n_observables), rng.normal(size=D)
    return m, x, rng.normal(size=model.n_observables)


def learned_parts(injection):
    return injection.input, injection.state, injection.bias


def value_and_gradients(model, m, x, c):
    """f, the gradients of c.f and of its squared Jacobian in U, W and b."""

    def parts(injection):
        changed = eqx.tree_at(lambda model: model.injection, model, injection)
        f = changed.prepare().bind(x)
        by_state = f.jacobian(m) if hasattr(f, "jacobian") else jax.jacfwd(f)(m)
        return f(m), jnp.sum(by_state**2)

    first = jax.grad(lambda i: c @ parts(i)[0])(model.injection)
    second = jax.grad(lambda i: parts(i)[1])(model.injection)
    return parts(model.injection)[0], learned_parts(first), learned_parts(second)


@pytest.mark.parametrize(
    "name", few("forms", "columns", "table", "statevector", "noisy forms", "density matrix")
)
def test_values_and_gradients_are_those_of_dense_matrices_and_differences(name, x64):
    model = model_of(name)
    assert evaluation_path(model) == CASES[name].path
    m, x, c = sample(model)
    parts = parts_of(CASES[name])
    value, first, second = jax.jit(value_and_gradients)(model, m, x, c)
    np.testing.assert_allclose(value, dense(model, m, x, *parts), atol=1e-12)
    # Differences of second order in h, of numbers that are right to 1e-15.
    slopes = central(lambda *p: c @ dense(model, m, x, *p), parts, 1e-5)
    for found, wanted in zip(first, slopes, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-8)

    def penalty(*p):
        (by_state,) = zip(
            *(central(lambda m, k=k: dense(model, m, x, *p)[k], [m], 1e-4) for k in range(len(m))),
            strict=True,
        )
        return np.sum(np.square(by_state))

    if CASES[name].circuit.n_qubits == 2:  # the others take a hundred times as many matrices
        for found, wanted in zip(second, central(penalty, parts, 1e-3), strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", few("forms", "light cones", of=KERNELS))
def test_kernels_and_jax_agree_with_learned_injections(name, x64, monkeypatch):
    if not native.availability().startswith("used: "):
        pytest.skip("no C++ compiler: there are no kernels to compare")
    model = model_of(name)
    arguments = (model, *sample(model))
    program = jax.jit(lambda *a: value_and_gradients(*a))
    assert "qdeq_" in program.lower(*arguments).as_text()
    found = program(*arguments)
    monkeypatch.setattr(native, "serves", lambda dtype: False)
    expected = jax.jit(lambda *a: value_and_gradients(*a))(*arguments)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.slow  # compiles four programs
@pytest.mark.parametrize("shared", [True, False])
def test_kernels_and_jax_agree_where_seeds_have_injections_of_their_own(shared, x64, monkeypatch):
    if not native.availability().startswith("used: "):
        pytest.skip("no C++ compiler: there are no kernels to compare")
    model = model_of("light cones")
    rng = np.random.default_rng(0)
    injections = jax.tree.map(
        lambda a: a + jnp.asarray(rng.normal(size=(3, *a.shape))), model.injection
    )
    m, x, _ = sample(model)
    ms, xs = jnp.stack([m, -m]), jnp.stack([x, x / 2])

    def loss(injection, ms, xs):
        form = eqx.tree_at(lambda model: model.injection, model, injection).prepare()
        value, slope = jax.vmap(lambda x, m: form.bind(x).linearise(m))(xs, ms)
        return jnp.sum(jnp.sin(value)) + jnp.sum(slope**2)

    def gradients(injections):
        if shared:  # all samples of a seed have its injection
            return jax.vmap(lambda i: jax.grad(loss)(i, ms, xs))(injections)
        return jax.vmap(lambda i, x: jax.grad(loss)(i, ms[:1], x[None]))(
            injections, jnp.stack([x, x / 2, -x])
        )

    found = jax.jit(lambda i: gradients(i))(injections)
    monkeypatch.setattr(native, "serves", lambda dtype: False)
    expected = jax.jit(lambda i: gradients(i))(injections)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


LAYERS = Equilibrium(Picard(rtol=1e-13, atol=1e-13), max_steps=200)


@pytest.mark.parametrize("name", few("forms", "light cones"))
def test_gradients_through_the_equilibrium_are_those_of_differences(name, x64):
    model = model_of(name)
    _, x, c = sample(model)

    @jax.jit
    @jax.grad
    def gradient(injection):
        changed = eqx.tree_at(lambda model: model.injection, model, injection)
        return c @ LAYERS(changed.prepare().bind(jnp.asarray(x)), jnp.zeros(len(c))).value

    def solved(*parts):
        m = np.zeros(len(c))
        for _ in range(60):
            m = dense(model, m, x, *parts)
        return c @ m

    some = [part[:1] for part in parts_of(CASES[name])]  # the first row of each says it all

    def with_rows(*rows):
        parts = parts_of(CASES[name])
        for part, row in zip(parts, rows, strict=True):
            part[:1] = row
        return solved(*parts)

    found = learned_parts(gradient(model.injection))
    for one, wanted in zip(found, central(with_rows, some, 1e-5), strict=True):
        np.testing.assert_allclose(one[:1], wanted, atol=1e-6)


@pytest.mark.parametrize("learned", SUBSETS, ids="-".join)
def test_what_is_fixed_has_no_gradient_and_counts_no_parameter(learned, x64):
    model = model_of("forms", learned)
    m, x, _ = sample(model)
    gradient = jax.grad(lambda i: jnp.sum(jnp.sin(i(m, x))))(model.injection)
    sizes = dict(zip(PARTS, map(np.size, learned_parts(model.injection)), strict=True))
    assert model.n_parameters == LAYER.n_parameters + sum(sizes[part] for part in learned)
    for part, slope in zip(PARTS, learned_parts(gradient), strict=True):
        assert np.any(slope) == (part in learned)


def test_parts_that_are_left_out_start_where_the_paper_is():
    plain = Injection(np.ones((3, 2)))
    assert plain.input is None and plain.bias is None and plain.n_learned == 0
    assert plain.is_paper and plain.keeps_features
    started = Injection(np.ones((3, 2)), learned=PARTS)
    m, x = jnp.array([0.5, -1.0]), jnp.arange(3.0)
    np.testing.assert_array_equal(started(m, x), plain(m, x))
    assert started.n_learned == 9 + 6 + 3 and not started.is_paper


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_the_papers_injection_is_the_same_program_however_it_is_given(encoding):
    paper = qdeq.paper_model(encoding=encoding, key=jax.random.key(0))
    r = np.asarray(paper.reinjection)
    given = QuantumModel(paper.theta, measured=paper.measured, injection=Injection(r))
    learned = Injection(r, learned="state")
    other = QuantumModel(paper.theta, measured=paper.measured, injection=learned)
    m, x = jnp.full(4, 0.1), jnp.linspace(0, 1, 16)

    def program(model):
        return str(jax.make_jaxpr(lambda t, x: eqx.tree_at(theta, model, t).prepare().bind(x)(m))(
            model.theta, x
        ))  # fmt: skip

    theta = lambda model: model.theta  # noqa: E731
    assert program(paper) == program(given)
    # No multiplication by an identity: what is learned lacks the stop of the gradient alone.
    assert program(paper).count("dot_general") == program(other).count("dot_general")
    np.testing.assert_array_equal(paper(m, x), other(m, x))


def test_a_head_reads_the_upsampled_state_of_the_paper_and_else_the_state():
    paper = qdeq.paper_model(key=jax.random.key(0))
    assert paper.n_read_out == 16 and paper.read_out(jnp.arange(4.0)).shape == (16,)
    own = Injection.random(16, 5, 4, key=jax.random.key(1))
    model = QuantumModel(paper.theta, measured=paper.measured, injection=own)
    assert model.n_read_out == 4 and model.n_features == 5
    assert Classifier(model, 3, key=jax.random.key(2)).head.in_features == 4
    fixed = QuantumModel(
        paper.theta, measured=paper.measured, injection=Injection(own.state, own.input)
    )
    assert fixed.n_read_out == 4
    m = jnp.arange(4.0)
    np.testing.assert_array_equal(model.read_out(m), m)


@pytest.mark.parametrize("shape", [(5, 3), (16, 4), (3, 1)])
def test_a_gain_stays_within_its_bound_whatever_the_optimiser_does(shape, x64):
    rng = np.random.default_rng(0)
    injection = Injection(0.01 * rng.normal(size=shape), learned="state", bound=0.7)
    np.testing.assert_array_equal(injection.bounded_state, injection.state)  # within: as it is
    target = jnp.asarray(rng.normal(size=shape))
    gradient = jax.jit(jax.grad(lambda i: -jnp.sum(target * i.matrices()[1])))
    optimiser = optax.adam(3.0)  # steps far beyond what anybody would take
    state = optimiser.init(injection)
    for _ in range(50):
        updates, state = optimiser.update(gradient(injection), state)
        injection = eqx.apply_updates(injection, updates)
        assert np.linalg.norm(injection.matrices()[1], 2) <= 0.7 * (1 + 1e-12)
    assert np.linalg.norm(injection.state, 2) > 3
    assert np.linalg.norm(injection.bounded_state, 2) == pytest.approx(0.7)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_gradient_of_a_bounded_matrix_is_that_of_differences(scale, x64):
    rng = np.random.default_rng(0)
    w, target = scale * rng.normal(size=(5, 3)), rng.normal(size=(5, 3))

    def value(w):
        return np.sum(target * w) * min(1, 0.7 / np.linalg.norm(w, 2))

    found = jax.grad(lambda w: jnp.sum(target * Injection(w, bound=0.7).bounded_state))(w)
    np.testing.assert_allclose(found, central(value, [w], 1e-6)[0], atol=1e-8)


def test_equal_singular_values_and_a_zero_matrix_have_finite_gradients():
    for w in (2.0 * np.eye(4), np.zeros((4, 4)), np.kron(np.eye(2), np.ones((4, 1)))):
        bounded = jax.grad(lambda w: jnp.sum(jnp.sin(Injection(w, bound=0.5).bounded_state)))
        assert np.isfinite(bounded(jnp.asarray(w))).all()


@pytest.mark.slow
def test_no_feedback_is_a_start_that_learns():
    paper = qdeq.paper_model(key=jax.random.key(0))
    injection = Injection(np.zeros((16, 4)), learned="state")
    model = QuantumModel(paper.theta, measured=paper.measured, injection=injection)
    m, x = jnp.full(4, 0.5), jnp.linspace(-1, 1, 16)
    gradient = eqx.filter_jit(
        eqx.filter_grad(lambda model: jnp.sum(model.prepare().bind(x)(m) ** 2))
    )
    assert np.all(np.any(np.asarray(gradient(model).injection.state), axis=0))


def test_a_random_start_has_angles_of_order_one_and_contracts():
    injection = Injection.random(12, 13, 4, key=jax.random.key(0), gain=0.5)
    x = jax.random.normal(jax.random.key(1), (1000, 13))
    assert 0.7 < float(jnp.std(jax.vmap(injection.inputs)(x))) < 1.3
    assert 0.3 < np.linalg.norm(injection.state, 2) < 0.7
    assert injection.n_learned == 12 * (13 + 4 + 1)


W = np.ones((3, 2))
MISTAKES = {
    "state has shape (3,): give an array of shape (a, q)": lambda: Injection(np.ones(3)),
    "state has shape (0, 2)": lambda: Injection(np.ones((0, 2))),
    "input has shape (2, 5): give an array of shape (3, d)": lambda: Injection(W, np.ones((2, 5))),
    "input has shape (3,): give an array of shape (3, d)": lambda: Injection(W, np.ones(3)),
    "bias has shape (2,): give an array of shape (3,)": lambda: Injection(W, bias=np.ones(2)),
    "learned='weights' is not known: choose one of input, state, bias": lambda: Injection(
        W, learned=("weights",)
    ),
    "bound=0: give a finite number above 0": lambda: Injection(W, bound=0),
    "bound=nan: give a finite number above 0": lambda: Injection(W, bound=np.nan),
    "n_features=0: give an integer that is at least 1": lambda: Injection.random(
        3, 0, 2, key=jax.random.key(0)
    ),
    "gain=-1: give a finite number of at least 0": lambda: Injection.random(
        3, 2, 2, key=jax.random.key(0), gain=-1
    ),
    "the injection's state has shape (3, 2): it maps 4 measured values to the 16 numbers": lambda: (
        paper_with(injection=Injection(W))
    ),
    "injection=ndarray: give a qdeq.Injection": lambda: paper_with(injection=np.ones((16, 4))),
    "injection and reinjection: give one of them": lambda: paper_with(
        injection=Injection(W), reinjection=W
    ),
}


def paper_with(**options):
    paper = qdeq.paper_model(key=jax.random.key(0))
    return QuantumModel(paper.theta, measured=paper.measured, **options)


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line_each(message):
    with pytest.raises(UserError) as caught:
        MISTAKES[message]()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_sampled_model_has_the_exact_gradients_of_its_injection(x64):
    model = model_of("light cones")
    m, x, c = sample(model)

    @jax.jit
    @jax.grad
    def sampled(injection):
        changed = eqx.tree_at(lambda model: model.injection, model, injection)
        return c @ SampledModel(changed)(m, x, key=jax.random.key(0), shots=10)

    exact = central(lambda *p: c @ dense(model, m, x, *p), parts_of(CASES["light cones"]), 1e-5)
    for one, other in zip(learned_parts(sampled(model.injection)), exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    many = model.sample(m, x, key=jax.random.key(0), shots=200_000)
    # The standard error of 200,000 signs is 0.0022.
    np.testing.assert_allclose(many, dense(model, m, x, *parts_of(CASES["light cones"])), atol=0.01)


def device_gradient(model, x, c):
    """The gradient of c.m* summed over samples by an implicit layer, jitted as users do."""

    def loss(injection):
        changed = eqx.tree_at(lambda f: injection_of(f), model, injection)
        f = changed.prepare()
        found = jax.vmap(lambda x: LAYERS(f.bind(x), jnp.zeros(len(c))).value)(x)
        return jnp.sum(found @ c)

    return jax.jit(jax.grad(loss))(injection_of(model))


def injection_of(model):
    return (model.model if isinstance(model, DeviceFunction) else model).injection


@pytest.mark.parametrize(
    "name",
    ["light cones", *(pytest.param(n, marks=SLOW) for n in ("forms", "statevector, fed again"))],
)
def test_an_equilibrium_on_a_device_has_the_gradient_of_automatic_differentiation(name, x64):
    model = model_of(name)
    x = np.random.default_rng(7).normal(size=(3, D))
    c = jnp.array([1.0, -0.5])
    executor = simulator(model)
    found = device_gradient(DeviceFunction(model, executor), x, c)
    expected = device_gradient(model, x, c)
    for one, other in zip(learned_parts(found), learned_parts(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    # Beside the forward passes the encoding alone is shifted, once: theta is not differentiated.
    predicted = estimate(model).training_step(len(x)).by_purpose["input gradient"]
    assert executor.ledger.by_purpose["input gradient"] == predicted
    assert "parameter gradient" not in executor.ledger.by_purpose


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ["implicit", "jacobian-free"])
def test_a_step_on_a_device_moves_a_learned_injection_by_its_exact_gradient(adjoint, x64):
    model = model_of("light cones", ("input", "bias"), bound=0.1)
    classifier = Classifier(model, 2, head="none", key=jax.random.key(0))
    x = np.random.default_rng(7).normal(size=(4, D))
    y = np.array([0, 1, 1, 0])
    executor = simulator(model)
    recipe = DeviceRecipe(batch_size=4, max_steps=40, tolerance=1e-10, adjoint=adjoint)
    trained = train_on_device(classifier, executor, x, y, steps=1, recipe=recipe)

    layer = dataclasses.replace(LAYERS, adjoint=make_adjoint(adjoint))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(classifier):
        logits = jax.vmap(lambda x: classifier(x, layer).logits)(jnp.asarray(x))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    slope = gradient(classifier)
    # Adam's first moment after one step is a tenth of the gradient.
    moment = trained.optimiser_state.mu.model.injection
    for one, other in zip(learned_parts(moment), learned_parts(slope.model.injection), strict=True):
        np.testing.assert_allclose(one, other / 10, atol=1e-8)
    assert np.any(moment.input) and np.any(moment.bias) and not np.any(moment.state)
    after = trained.classifier.model.injection
    np.testing.assert_array_equal(after.state, model.injection.state)
    # What was predicted is what was counted.
    counted, executions = executor.ledger.by_purpose, 4 * model.n_settings
    cost = estimate(model, adjoint=adjoint, steps=counted["forward"] / executions)
    assert counted == cost.training_step(4).by_purpose


def test_the_quadratic_rule_says_that_it_cannot_learn_an_injection():
    model = model_of("forms")
    recipe = DeviceRecipe(input_rule="quadratic")
    classifier = Classifier(model, 2, head="none", key=jax.random.key(0))
    with pytest.raises(UserError, match=r"input_rule='quadratic'.*learns.*input_rule='shift'"):
        train_on_device(
            classifier, simulator(model), np.ones((2, D)), np.array([0, 1]), steps=1, recipe=recipe
        )


def test_unrolled_and_direct_training_are_predicted_to_differentiate_every_input():
    learned, fixed = model_of("light cones"), model_of("light cones", ())
    shifted = learned.n_settings * (1 + estimate(learned).circuit.encoding_shifts)
    for options in ({"adjoint": "unrolled", "solver": "picard"}, {"layers": 10}):
        found, before = (
            estimate(model, **options).training_step(1).by_purpose["input gradient"]
            for model in (learned, fixed)
        )
        assert (found, before) == (10 * shifted, 9 * shifted)


def make_model(key):
    theta_key, key = jax.random.split(key)
    paper = qdeq.paper_model(encoding="angle", key=theta_key)
    injection = Injection.random(16, 5, 4, key=key, bound=0.8)
    return QuantumModel(paper.theta, measured=paper.measured, injection=injection)


@pytest.mark.slow  # compiles a training epoch for two seeds
def test_a_run_with_a_learned_injection_saves_loads_and_predicts(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 5))
    names = np.array(["down", "up"])[(x[:, 0] + x[:, 1] > 0).astype(int)]
    config = qdeq.TrainConfig(epochs=8, batch_size=32, learning_rate=0.05, jacobian_weight=0.1)
    dataset = from_arrays(x, names)
    run = qdeq.train(config, seeds=[0, 1], dataset=dataset, model=make_model, out=tmp_path / "run")
    model = run.of_seed(0).classifier.model
    assert run.summary.n_parameters == 39 + 16 * (5 + 4 + 1)
    start = make_model(jax.random.key(0)).injection
    for before, after in zip(learned_parts(start), learned_parts(model.injection), strict=True):
        assert before.shape == after.shape and np.any(before != after)
    again = qdeq.load(tmp_path / "run", model=make_model)
    np.testing.assert_array_equal(again.predict(x), run.predict(x))
    assert np.mean(again.predict(x) == names) > 0.85
