"""The compiled kernels against the same mathematics in JAX: values, derivatives, iterates."""

import functools
import itertools
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq import native
from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Operation,
    hardware_efficient,
    strongly_entangling,
    xyz_of_every_wire,
    z_of_every_wire,
    z_strings,
)
from qdeq.equilibrium import Broyden, Equilibrium, Homotopy, Shine, robust_inverse
from qdeq.models import QuantumModel, paper_model
from qdeq.native import library

# With a compiler at hand kernels that do not build are a failure, not a reason to skip.
pytestmark = pytest.mark.skipif(
    library._compiler() is None, reason="no C++ compiler: there are no kernels to compare"
)


def test_the_kernels_build_wherever_there_is_a_compiler():
    assert native.availability().startswith("used: ")


B = 21  # more than a vector of either type holds, and no multiple of it


def rotations(n_qubits, axes):
    """Feature i turns wire i // len(axes) about its own axis; no axis leaves a wire in |0>.

    Every third angle is -1.5 times the feature plus 0.4.
    """
    turns = [(axis, wire) for wire in range(n_qubits) for axis in axes[wire % len(axes)]]
    scales = ({}, {}, {"factor": -1.5, "offset": 0.4})
    return AngleEncoding(
        n_qubits,
        tuple(
            Operation(f"R{axis}", (wire,), feature=i, **scales[i % 3])
            for i, (axis, wire) in enumerate(turns)
        ),
    )


def angle_model(axes, ansatz=strongly_entangling, observables=z_of_every_wire, n=4, layers=1):
    circuit, encoding = ansatz(n, layers), rotations(n, axes)
    theta = jax.random.normal(jax.random.key(1), (circuit.n_parameters,))
    measured = observables(n)
    shape = (encoding.n_features, measured.n_observables)
    reinjection = jax.random.normal(jax.random.key(2), shape) / 2
    return QuantumModel(
        theta, circuit, encoding=encoding, observables=measured, reinjection=reinjection
    )


def amplitude_model(observables=z_of_every_wire, n=3, features=7):
    circuit = hardware_efficient(n, 2)
    theta = jax.random.normal(jax.random.key(1), (circuit.n_parameters,))
    return QuantumModel(
        theta,
        circuit,
        encoding=AmplitudeEncoding(n, features),
        observables=observables(n),
        method="quadratic",
    )


MODELS = {
    "amplitude, 3 observables": amplitude_model,
    "amplitude, 9 observables": functools.partial(amplitude_model, xyz_of_every_wire),
    "the paper's, amplitude": lambda: paper_model(4, key=jax.random.key(0)),
    "the paper's, angle": lambda: paper_model(4, encoding="angle", key=jax.random.key(0)),
    "XZ components": lambda: angle_model(["Y"]),
    "YZ components": lambda: angle_model(["X"]),
    "all kinds of wires": lambda: angle_model(["XYX", "", "Y", "ZX"], layers=2),
    "cones of several shapes": lambda: angle_model(
        ["YX", "Z", "X"], hardware_efficient, lambda n: z_strings(n, 2), n=5
    ),
    "9 observables": lambda: angle_model(["X", "YZ"], observables=xyz_of_every_wire, n=3),
}


FEW = ("amplitude, 3 observables", "all kinds of wires")

# Their like is among the others: wires of these kinds, a few or many observables.
SLOW = (
    "amplitude, 3 observables",
    "amplitude, 9 observables",
    "XZ components",
    "YZ components",
    "9 observables",
    "cones of several shapes",
)
CASES = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS]


@pytest.fixture(params=CASES)
def case(request, x64):
    """A model in float64, features `(B, d)` and measured states `(B, q)`."""
    return inputs_of(request.param)


@pytest.fixture(params=FEW)
def typical(request, x64):
    """The same for one model of each kind, where programs take long to compile."""
    return inputs_of(request.param)


def inputs_of(name):
    model = MODELS[name]()
    x = 0.5 * jax.random.normal(jax.random.key(3), (B, model.n_features))
    m = jax.random.uniform(jax.random.key(4), (B, model.n_observables), minval=-1)
    return model, x, m


def in_jax(function, *arguments):
    """The result without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "serves", lambda dtype: False)
        return jax.jit(lambda *arguments: function(*arguments))(*arguments)


def compiled(function, *arguments):
    lowered = jax.jit(function).lower(*arguments)
    assert "qdeq_" in lowered.as_text(), "no kernel is used: nothing is compared"
    return lowered.compile()(*arguments)


def assert_same(function, *arguments, rtol=1e-10, atol=1e-12):
    found, expected = compiled(function, *arguments), in_jax(function, *arguments)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def over_batch(function, model, x, m):
    form = model.prepare()
    return jax.vmap(lambda x, m: function(form.bind(x), m))(x, m)


def loss(model, theta, x, m):
    """Uses value and Jacobian, so that cotangents of both meet."""
    changed = eqx.tree_at(lambda model: model.theta, model, theta)
    value, jacobian = over_batch(lambda f, m: (f(m), f.jacobian(m)), changed, x, m)
    return jnp.sum(jnp.sin(value)) + jnp.sum(jacobian**2), (value, jacobian)


def slopes(model, argnums=(0, 1, 2)):
    return jax.grad(functools.partial(loss, model), argnums=argnums, has_aux=True)


def test_values_jacobians_and_their_gradients_are_those_of_jax(case):
    model, x, m = case
    assert_same(slopes(model), model.theta, x, m)


def test_a_single_sample_needs_no_batch(typical):
    model, x, m = typical
    assert_same(lambda x, m: model.prepare().bind(x).jacobian(m), x[0], m[0])


@pytest.mark.slow
def test_derivatives_of_gradients_are_those_of_jax(typical):
    model, x, m = typical
    gradient = slopes(model)
    direction = jax.tree.map(jnp.cos, (model.theta, x, m))

    def forwards(*point):
        return jax.jvp(lambda *p: gradient(*p)[0], point, direction)[1]

    def backwards(*point):
        return jax.grad(lambda *p: sum(jnp.vdot(a, a) for a in gradient(*p)[0]))(*point)

    assert_same(forwards, model.theta, x, m, rtol=1e-8, atol=1e-9)
    assert_same(backwards, model.theta, x, m, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_parameters_may_have_batch_axes_of_their_own(typical):
    model, x, m = typical
    thetas = model.theta + jnp.linspace(0, 1, 3)[:, None]
    gradient = slopes(model, argnums=0)
    assert_same(jax.vmap(gradient, in_axes=(0, None, None)), thetas, x, m)  # as many seeds have
    assert_same(jax.vmap(gradient), thetas, x.reshape(3, 7, -1), m.reshape(3, 7, -1))
    # Every sample has parameters of its own.
    assert_same(jax.vmap(lambda t, x, m: gradient(t, x[None], m[None])), thetas, x[:3], m[:3])


def solve(model, layer, theta, x):
    changed = eqx.tree_at(lambda model: model.theta, model, theta)
    form = changed.prepare()
    start = jnp.zeros(model.n_observables, x.dtype)
    solution = jax.vmap(lambda x: layer(form.bind(x), start))(x)
    return solution.value, eqx.filter(solution.stats, eqx.is_array)


LAYERS = {
    "default": Equilibrium(),
    "to 1e-10": Equilibrium(Broyden(rtol=1e-10, atol=1e-12), max_steps=60),
    "few steps": Equilibrium(max_steps=4),
    "stall": Equilibrium(Broyden(rtol=1e-10, atol=0.0), stall_steps=1),
    "SHINE": Equilibrium(Broyden(rtol=1e-8, atol=1e-8), adjoint=Shine()),
    "fallback": Equilibrium(max_steps=2, fallback=Homotopy(), fallback_steps=60),
}


# Both functions run in one loop: by default either takes half of the layers, the fallback both.
BY_DEFAULT = {
    "amplitude": ("default", "SHINE"),
    "angle": ("to 1e-10", "fallback"),
}


@pytest.mark.parametrize(
    ("encoding", "layer"),
    [
        pytest.param(encoding, layer, marks=[pytest.mark.slow] * (layer not in names))
        for encoding, names in BY_DEFAULT.items()
        for layer in LAYERS
    ],
)
def test_the_compiled_solver_takes_the_steps_of_the_one_in_jax(encoding, layer, x64):
    model = MODELS[f"the paper's, {encoding}"]()
    x = 0.5 * jax.random.normal(jax.random.key(3), (B, model.n_features))
    # Steps, traces and statuses as well: an iteration magnifies rounding, hence the bound.
    layer = LAYERS[layer]
    assert_same(functools.partial(solve, model, layer), model.theta, x, rtol=1e-6, atol=1e-9)


def test_gradients_through_the_compiled_equilibrium_are_exact(x64):
    model = MODELS["the paper's, angle"]()
    x = 0.3 * jax.random.normal(jax.random.key(3), (5, model.n_features))
    layer = Equilibrium(Broyden(rtol=1e-12, atol=1e-12), max_steps=60)

    def total(theta):
        return jnp.sum(jnp.sin(solve(model, layer, theta, x)[0]))

    direction = jax.random.normal(jax.random.key(5), model.theta.shape)
    exact = jnp.vdot(jax.jit(jax.grad(total))(model.theta), direction)
    ahead, behind = (jax.jit(total)(model.theta + s * 1e-5 * direction) for s in (1, -1))
    np.testing.assert_allclose(exact, (ahead - behind) / 2e-5, rtol=1e-7)


def test_a_budget_and_tolerances_may_differ_from_sample_to_sample(x64):
    model = MODELS["the paper's, amplitude"]()
    form = model.prepare()
    x = 0.5 * jax.random.normal(jax.random.key(3), (B, model.n_features))

    def run(budget, tolerance, x):
        layer = Equilibrium(Broyden(rtol=tolerance, atol=0.0))
        return layer(form.bind(x), jnp.zeros(4), budget=budget).stats.steps

    budgets, tolerances = jnp.arange(B), jnp.logspace(-2, -9, B)
    found = jax.jit(jax.vmap(run))(budgets, tolerances, x)
    np.testing.assert_array_equal(found, in_jax(jax.vmap(run), budgets, tolerances, x))
    assert np.all(np.asarray(found) <= np.arange(B))


def test_samples_never_influence_each_other(x64):
    model = MODELS["the paper's, angle"]()
    x = jax.random.normal(jax.random.key(3), (B, model.n_features)).at[3].set(jnp.nan)
    run = jax.jit(functools.partial(solve, model, LAYERS["fallback"], model.theta))
    together, alone = run(x), run(x[4:5])
    np.testing.assert_array_equal(together[0][4], alone[0][0])
    assert not np.isfinite(together[1].residual[3])
    assert np.isfinite(np.delete(np.asarray(together[1].residual), 3)).all()


def test_numbers_that_are_none_end_every_kernel(typical):
    # Whatever a training that diverged leaves in a model, a sample or a state.
    model, x, m = typical
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)

    def results(leaves, x, m):
        model = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
        value = over_batch(lambda f, m: f(m), model, x, m)
        slope = slopes(model)(model.theta, x, m)
        return value, slope, solve(model, LAYERS["fallback"], model.theta, x)

    run = jax.jit(results)
    for place, wrong in itertools.product(range(len(leaves) + 2), (jnp.nan, jnp.inf)):
        arguments = [*leaves, x, m]
        arguments[place] = jnp.full_like(arguments[place], wrong)
        *leaves_there, x_there, m_there = arguments
        value, _, (_, stats) = run(leaves_there, x_there, m_there)
        assert not np.isfinite(value).any()
        if place <= len(leaves):  # the solve has a start of its own
            assert not np.asarray(stats.converged).any()


def test_float32_is_as_exact_as_float32_is():
    model = MODELS["the paper's, angle"]()
    x = 20 * jax.random.normal(jax.random.key(3), (B, model.n_features))  # many turns
    m = jax.random.uniform(jax.random.key(4), (B, 4), minval=-1)
    assert x.dtype == jnp.float32
    found = compiled(functools.partial(over_batch, lambda f, m: f(m), model), x, m)
    with jax.enable_x64(True):
        exact_model = eqx.tree_at(
            lambda model: (model.theta, model.reinjection),
            model,
            (np.asarray(model.theta, np.float64), np.asarray(model.reinjection, np.float64)),
        )
        exact = in_jax(
            functools.partial(over_batch, lambda f, m: f(m), exact_model),
            np.asarray(x, np.float64),
            np.asarray(m, np.float64),
        )
    np.testing.assert_allclose(found, exact, atol=2e-5)


def test_numbers_of_two_types_meet_in_the_wider_one(x64):
    model = MODELS["the paper's, amplitude"]()
    x = jax.random.normal(jax.random.key(3), (B, model.n_features), jnp.float32)
    m = jnp.zeros((B, 4))
    assert_same(functools.partial(over_batch, lambda f, m: f.jacobian(m), model), x, m)


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_inverses_and_the_verdict_on_singular_matrices(n, x64):
    a = np.array(jax.random.normal(jax.random.key(n), (B, n, n)))
    a[2, -1] = a[2, 0] if n > 1 else 0  # singular
    a[3] = np.nan
    a[4] = np.eye(n)[::-1]  # needs pivoting
    inverse, regular = compiled(jax.vmap(robust_inverse), jnp.asarray(a))
    expected = np.ones(B, bool)
    expected[[2, 3]] = False
    np.testing.assert_array_equal(regular, expected)
    np.testing.assert_allclose(
        np.asarray(inverse)[expected], np.linalg.inv(a[expected]), rtol=1e-9, atol=1e-11
    )
    assert np.isfinite(np.asarray(inverse)).all()


PROGRAM = """
import jax, jax.numpy as jnp, qdeq
from qdeq import native
print(native.availability())
model = qdeq.paper_model(key=jax.random.key(0))
solution = qdeq.Equilibrium()(model.prepare().bind(jnp.ones(16)), jnp.zeros(4))
print(bool(solution.stats.converged))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"QDEQ_NATIVE": "off"}, "QDEQ_NATIVE switches them off"),
        ({"QDEQ_CACHE": "off"}, "QDEQ_CACHE=off leaves no place"),
        ({"CXX": "no-such-compiler"}, "there is no C++ compiler"),
        ({"CXX": "true"}, "not used"),  # succeeds, and writes nothing
        ({"CXX": "false"}, "not used"),
    ],
)
def test_without_kernels_everything_works_and_the_reason_is_told(setting, reason, tmp_path):
    environment = {**os.environ, "QDEQ_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu", **setting}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    told, converged = done.stdout.splitlines()
    assert reason in told and converged == "True"


@pytest.mark.slow
def test_a_kernel_is_there_in_the_type_that_it_computes_in(monkeypatch):
    loaded = []
    monkeypatch.setattr(library, "_load", loaded.append)
    # Of a float32 state and float64 angles: the state's type alone is asked whether it is served.
    assert library.target("qdeq_invert", jnp.float64) == "qdeq_invert_double"
    assert loaded == ["double"]


@pytest.mark.slow
def test_the_library_is_built_once_for_a_machine(tmp_path):
    compiler = library._compiler()
    first = library._built(compiler, tmp_path, "float")
    made = first.stat().st_mtime_ns
    assert library._built(compiler, tmp_path, "float") == first
    assert first.stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == [first.name]  # nothing else is left
