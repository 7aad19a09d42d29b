"""A solver and an adjoint that exist only here go wherever ours go, as objects."""

import ast
import functools
import pickle
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from execution_problems import simulator, tiny_inputs, tiny_model
from sklearn.base import clone

import qdeq
from qdeq.data import from_arrays
from qdeq.devices import DeviceRecipe, estimate, solve_on_device, train_on_device
from qdeq.equilibrium import (
    ADJOINTS,
    SOLVERS,
    AbstractAdjoint,
    AbstractDerivative,
    AbstractSolver,
    Broyden,
    Equilibrium,
    Implicit,
    KrasnoselskiiMann,
    Picard,
    Unrolled,
    make_adjoint,
    make_solver,
)
from qdeq.equilibrium.solver import Estimate, as_solver, kernel_of
from qdeq.errors import UserError
from qdeq.models import Classifier, SampledModel
from qdeq.training.config import TrainConfig
from qdeq.training.noisy import layer_for_shots

SOURCE = Path(qdeq.__file__).parent


class Halved(optx.AbstractFixedPointSolver):
    """y <- (y + f(y)) / 2; it knows nothing of this package."""

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: object = optx.two_norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        return jnp.asarray(jnp.inf, y.dtype)

    def step(self, fn, y, args, options, state, tags):
        out, aux = fn(y, args)
        return (y + out) / 2, self.norm(out - y), aux

    def terminate(self, fn, y, args, options, state, tags):
        return state < self.atol, optx.RESULTS.successful

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        return y, aux, {}


class Twice(Halved):
    """Evaluates f at two points a step."""

    def step(self, fn, y, args, options, state, tags):
        half, state, _ = super().step(fn, y, args, options, state, tags)
        return super().step(fn, half, args, options, state, tags)


class FirstTwoTerms(AbstractAdjoint):
    """B = I + J."""

    factor: float = 1.0

    def operator(self, fn, root, x, memory):
        _, push = jax.linearize(lambda y: fn(y, x), root)
        return lambda v: v + self.factor * push(v)


def f(z, x):
    return 0.5 * jnp.cos(z * x)


@functools.cache
def digits():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(60, 16))
    return from_arrays(x, (x[:, 0] > x[:, 1]).astype(int), valid_fraction=0.3, test_fraction=0.3)


def config(**changes):
    values = {
        "epochs": 1,
        "batch_size": 16,
        "jacobian_weight": 0.0,
        "fallback": "none",
        "n_qubits": 4,
    }
    return TrainConfig(**(values | changes))


def test_they_solve_and_differentiate_as_what_they_equal():
    own = Equilibrium(Halved(), FirstTwoTerms(), max_steps=40)
    same = Equilibrium(Picard(damping=0.5), qdeq.Neumann(2), max_steps=40)
    both = [
        jax.jit(jax.value_and_grad(lambda x, layer=layer: layer(f, jnp.zeros(2), x).value.sum()))
        for layer in (own, same)
    ]
    (value, gradient), (expected, slope) = (run(jnp.ones(2)) for run in both)
    # Two orders of the same sums.
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)
    assert int(own(f, jnp.zeros(2), jnp.ones(2)).stats.jacobians) == 0


@pytest.mark.slow
def test_they_serve_under_noise_and_shots():
    model = qdeq.paper_model(
        key=jax.random.key(0), encoding="angle", noise=qdeq.parse_noise("depolarising=0.01")
    )
    trained = Equilibrium(Halved(), FirstTwoTerms(), max_steps=30)
    layer = layer_for_shots(trained, 4000, 4, solver=Halved())
    assert isinstance(layer.solver, Halved) and layer.solver.atol > 0.01

    @jax.jit
    def solve(x):
        found = layer(SampledModel(model), jnp.zeros(4), x, key=jax.random.key(1), shots=4000)
        return found.value.sum(), found.stats

    (_, stats), slope = jax.value_and_grad(solve, has_aux=True)(jnp.linspace(0, 1, 16))
    assert float(stats.absolute_residual) < 2 * layer.solver.atol and float(stats.shots) > 4000
    assert bool(jnp.all(jnp.isfinite(slope))) and float(jnp.max(jnp.abs(slope))) > 0


def test_a_device_is_driven_by_any_solver_that_evaluates_once_per_step(x64):
    model, x = tiny_model(), tiny_inputs(3)
    own = solve_on_device(model, simulator(model), x, solver=Halved(), max_steps=60)
    same = solve_on_device(model, simulator(model), x, solver=Picard(damping=0.5), max_steps=60)
    assert own.converged.all()
    np.testing.assert_allclose(own.value, same.value, atol=1e-12)
    for solver, why in ((Twice(), "beside its iterate"), (qdeq.Newton(), "derivative")):
        executor = simulator(model)
        with pytest.raises(UserError, match=f"{type(solver).__name__}.*{why}"):
            solve_on_device(model, executor, x, solver=solver)
        assert executor.ledger.executions == 0
    with pytest.raises(UserError, match="give a solver object"):
        solve_on_device(model, simulator(model), x, solver="picard")


@pytest.mark.slow
def test_a_training_on_a_device_takes_the_gradient_of_any_adjoint(x64):
    model, x, y = tiny_model(), tiny_inputs(4), np.array([0, 1, 0, 1])
    classifier = Classifier(model, 2, key=jax.random.key(0))

    def trained(adjoint, solver=None):
        recipe = DeviceRecipe(batch_size=4, adjoint=adjoint, solver=solver or Halved())
        executor = simulator(model)
        state = train_on_device(classifier, executor, x, y, steps=1, recipe=recipe)
        return state.history[-1].gradient_norm, executor.ledger.by_purpose

    named, objects = trained("implicit"), trained(Implicit())
    assert objects[0] == pytest.approx(named[0], rel=1e-9) and objects[1] == named[1]
    own, cost = trained(FirstTwoTerms())
    assert own == pytest.approx(trained(qdeq.Neumann(2))[0], rel=1e-9) and own != named[0]
    assert cost == named[1]
    free, cheaper = trained(qdeq.JacobianFree())
    assert (free, cheaper) == trained("jacobian-free") and "input gradient" not in cheaper
    # What the solver built on its way is there too.
    assert trained(qdeq.Shine(), Broyden())[0] == pytest.approx(named[0], rel=0.2)
    with pytest.raises(UserError, match="Unrolled"):
        DeviceRecipe(adjoint=Unrolled())


@pytest.mark.slow  # trains
def test_a_configuration_takes_them_and_its_folder_asks_for_them_again(tmp_path):
    objects = {"solver": Halved(), "adjoint": FirstTwoTerms()}
    chosen = config(**objects)
    run = qdeq.train(chosen, dataset=digits(), out=tmp_path / "own")
    x = digits().test.x
    expected = run.predict_proba(x)
    assert run.layer.solver == Halved() and np.isfinite(expected).all()
    again = qdeq.load(tmp_path / "own", config=chosen)
    np.testing.assert_array_equal(again.predict_proba(x), expected)
    assert run.summary.solver.startswith("own: Halved(")
    with pytest.raises(UserError, match=r"solver='own: Halved.*given again"):
        qdeq.load(tmp_path / "own")
    with pytest.raises(UserError, match=r"adjoint='own: FirstTwoTerms.*given again"):
        qdeq.load(tmp_path / "own", config=qdeq.TrainConfig(solver=Halved()))
    # The same numbers as what they equal.
    same = qdeq.train(
        config(solver=Picard(damping=0.5), adjoint=qdeq.Neumann(2)),
        dataset=digits(),
        out=tmp_path / "same",
    )
    np.testing.assert_allclose(same.predict_proba(x), expected, atol=1e-4)


@pytest.mark.slow  # trains
def test_the_estimator_takes_them():
    data = digits().train
    settings = {"epochs": 1, "batch_size": 16, "n_qubits": 4, "random_state": 0}
    objects = {"solver": Halved(), "adjoint": FirstTwoTerms(), "fallback": Halved(atol=1e-3)}
    own = clone(qdeq.QDEQClassifier(**objects, **settings)).fit(data.x, data.y)
    assert own.predict(data.x).shape == data.y.shape
    assert own.config_.solver == Halved() and own.config_.fallback == Halved(atol=1e-3)
    copy = pickle.loads(pickle.dumps(own))
    np.testing.assert_array_equal(copy.predict_proba(data.x), own.predict_proba(data.x))


def test_cost_prediction_takes_them():
    model = qdeq.paper_model(encoding="angle", key=jax.random.key(0))
    step = lambda **chosen: estimate(model, **chosen).training_step(1).by_purpose  # noqa: E731
    assert step(solver=Halved(), adjoint=FirstTwoTerms()) == step(solver="picard")
    assert step(solver=qdeq.Newton()) == step(solver="newton")
    assert step(adjoint=qdeq.JacobianFree()) == step(adjoint="jacobian-free")
    assert step(solver=Picard(), adjoint=Unrolled()) == step(solver="picard", adjoint="unrolled")


def test_names_and_objects_cost_alike():
    model = qdeq.paper_model(encoding="angle", key=jax.random.key(0))
    for solver in SOLVERS:
        named = estimate(model, solver=solver).training_step(1).by_purpose
        assert estimate(model, solver=make_solver(solver)).training_step(1).by_purpose == named
    for adjoint in ADJOINTS:
        named = estimate(model, adjoint=adjoint).training_step(1).by_purpose
        assert estimate(model, adjoint=make_adjoint(adjoint)).training_step(1).by_purpose == named


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"solver": 3}, "solver=3: give a solver object"),
        ({"solver": Halved}, "give a solver object"),
        ({"adjoint": Halved()}, "give an adjoint object"),
        ({"solver": Halved(rtol=jnp.ones(()))}, "as Python's and not as arrays"),
        ({"solver": "halved"}, "picard"),
    ],
)
def test_what_is_no_solver_or_adjoint_is_one_clear_line(changes, words):
    with pytest.raises(UserError) as caught:
        config(**changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_make_solver_and_make_adjoint_let_objects_pass():
    own = Halved(rtol=1e-3)
    assert make_solver(own, rtol=1e-9) is own
    assert make_adjoint(Implicit(method="gmres")) == Implicit(method="gmres")
    for make in (make_solver, make_adjoint):
        with pytest.raises(UserError, match="3"):
            make(3)


class Optimistic(AbstractSolver, optx.AbstractFixedPointSolver):
    """Says of itself whatever there is to say."""

    averages: ClassVar[bool] = True
    restarts: ClassVar[bool] = True
    may_rise: ClassVar[bool] = True
    uses_jacobian: ClassVar[bool] = True

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: object = optx.two_norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        return Picard().init(fn, y, args, options, f_struct, aux_struct, tags)

    def step(self, fn, y, args, options, state, tags):
        return Picard().step(fn, y, args, options, state, tags)

    def estimate(self, state, y, out):
        return Estimate(jnp.full_like(y, 7.0), jnp.zeros(()), jnp.ones(()), state.error < 0.5)

    def inverse_jacobian(self, state):
        return _Doubled()


class _Doubled(eqx.Module):
    def mv(self, vector):
        return -2 * vector

    def gain(self):
        return jnp.asarray(2.0)


def test_every_trait_is_heard():
    rising = lambda z: 1.0 - z  # noqa: E731  Picard makes no progress on it
    stalls = Equilibrium(Picard(), max_steps=9, stall_steps=2)(rising, jnp.zeros(1)).stats
    rises = Equilibrium(Optimistic(), max_steps=9, stall_steps=2)(rising, jnp.zeros(1)).stats
    assert int(stalls.steps) < 9 and int(rises.steps) == int(rises.jacobians) == 9

    noisy = lambda z, key: 0.5 * z + 1  # noqa: E731
    key = jax.random.key(0)
    average = Equilibrium(Optimistic(), qdeq.JacobianFree())(noisy, jnp.zeros(1), key=key)
    assert float(average.value[0]) == 7.0 and bool(average.stats.converged)
    # Without a key the evaluated point is the answer.
    assert float(Equilibrium(Optimistic())(lambda z: 0.5 * z + 1, jnp.zeros(1)).value[0]) < 2.1

    class Again(Picard):
        restarts: ClassVar[bool] = True

    # Points 1, 1/2, 1/4 in three steps; solved is a residual of 0.1, at 1/8.
    for fallback, steps in ((Picard(0.0, 0.1), 2), (Again(0.0, 0.1), 4)):
        first = Picard(0.0, 0.1)
        layer = Equilibrium(first, max_steps=3, fallback=fallback, fallback_steps=9)
        assert int(layer(lambda z: 0.5 * z, jnp.ones(1)).stats.steps) == 3 + steps

    shine = Equilibrium(Optimistic(), qdeq.Shine())
    slope = jax.grad(lambda x: shine(lambda z: 0.5 * z + x, jnp.zeros(1)).value[0])(1.0)
    assert float(slope) == 2.0
    with pytest.raises(UserError, match=r"Shine\(\) with solver=Halved\(\)"):
        Equilibrium(Halved(), qdeq.Shine())(lambda z: 0.5 * z, jnp.zeros(1))


def test_a_class_that_changes_a_solver_of_ours_does_not_take_its_compiled_loop():
    class Slower(Broyden):
        pass

    assert kernel_of(Broyden()) == "broyden" and kernel_of(Slower()) is None


def test_what_optimistix_brings_is_known_by_its_kind():
    tolerances = {"rtol": 1e-5, "atol": 1e-5}
    assert as_solver(optx.Newton(**tolerances)).uses_jacobian
    assert as_solver(optx.Dogleg(**tolerances)).uses_jacobian
    assert not as_solver(optx.FixedPointIteration(**tolerances)).uses_jacobian
    assert not as_solver(Halved()).averages and as_solver(KrasnoselskiiMann()).averages


def concrete_classes():
    """Every solver and adjoint of the package by name, and the file that defines it."""
    kinds = {"AbstractSolver", "AbstractAdjoint", "AbstractDerivative", "_AbstractTrustRegion"}
    found = {}
    for path in (SOURCE / "equilibrium").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                if bases & kinds and not node.name.startswith("Abstract"):
                    found[node.name] = path
    return found


def test_no_file_asks_whether_something_is_a_certain_solver_or_adjoint():
    classes = concrete_classes()
    named = {type(make_solver(name)).__name__ for name in SOLVERS}
    named |= {type(make_adjoint(name)).__name__ for name in ADJOINTS}
    assert named <= set(classes)
    asked = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ""
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "isinstance",
                "issubclass",
            ):
                text = ast.unparse(node.args[1])
            if isinstance(node, ast.Compare) and "type(" in ast.unparse(node.left):
                text = ast.unparse(node)
            words = set(text.replace(".", " ").replace("(", " ").replace(")", " ").split())
            words = {word.strip(",|") for word in words}
            asked += [(path.name, name) for name in words & set(classes) if classes[name] != path]
    assert not asked


def test_an_adjoint_that_is_no_operator_says_so_by_its_class():
    assert issubclass(Unrolled, AbstractDerivative) and not issubclass(Unrolled, AbstractAdjoint)
    assert Unrolled.differentiates_loop and not Implicit.differentiates_loop
