"""Outside `jit` an equilibrium compiles once for equal shapes, and keeps nothing of its calls."""

import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.devices import DeviceFunction, SimulatorExecutor
from qdeq.equilibrium import (
    Direct,
    Equilibrium,
    Implicit,
    JacobianFree,
    Picard,
    spectral_radius,
    trajectory,
)
from qdeq.equilibrium._fingerprint import of_value
from qdeq.equilibrium._programs import _MOST_PROGRAMS, _program
from qdeq.equilibrium.networks import Chain, EdgeInjection, NetworkEquilibrium, Wired
from qdeq.lowering import Program
from qdeq.models import QuantumModel
from qdeq.models.sampled import SampledModel

# Picard and the identity compile fastest.
LAYER = Equilibrium(Picard(), JacobianFree(), max_steps=30)


def compilations():
    """How many programs XLA has compiled so far."""
    return len(_compiled)


_compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: (
        _compiled.append(seconds) if event == "/jax/core/compile/backend_compile_duration" else None
    )
)


def f(z, x):
    return 0.5 * jnp.cos(z * x)


activated = eqx.filter_jit(lambda z, activation: activation(z))
SHOTS = qdeq.QuantumModel(
    jnp.zeros(0),
    qdeq.Circuit(1, ()),
    encoding=qdeq.AngleEncoding.from_rotations(1, [("RY", 0, 0)]),
    observables=qdeq.z_of_every_wire(1),
)
DEVICE = DeviceFunction(SHOTS, SimulatorExecutor(Program.of(SHOTS).circuit, SHOTS.observables))


class Cell(eqx.Module):
    """A user's module with arrays and a setting."""

    weights: jax.Array
    slope: float = 0.1

    def __call__(self, z, x):
        return jax.nn.leaky_relu(self.weights @ z + x, self.slope)


def rule_of_its_own(scale):
    """A function whose derivative is not that of its formula, as for spiking neurons."""

    @jax.custom_jvp
    def rounded(z):
        return 0.5 * jnp.round(z)

    rounded.defjvps(lambda tangent, _, z: scale * tangent)
    return rounded


def network(cell, x):
    """The last site of a short causal chain of cells."""
    wired = Wired(cell, EdgeInjection([[1.0]], [[0.5]]), Chain(3))
    return NetworkEquilibrium()(wired, jnp.full((3, 1), x)).value[-1, 0]


MATRIX = np.eye(3, dtype=np.float32) / 4
_SLOPE = 0.0
_seen = []

CALLS = {
    "the same function": lambda i: LAYER(f, jnp.zeros(3), jnp.ones(3) * i),
    "a new lambda": lambda i: LAYER(lambda z, x: 0.5 * jnp.cos(z * x), jnp.zeros(3), jnp.ones(3)),
    "a python number": lambda i: LAYER(f, jnp.zeros(3), 0.1 * i),
    "an integer": lambda i: LAYER(f, jnp.zeros(3), i),
    "other arrays in the closure": lambda i: (
        lambda w: LAYER(lambda z: jax.nn.relu(w @ z + 1), jnp.zeros(3))
    )(MATRIX / i),
    "a module": lambda i: LAYER(Cell(jnp.asarray(MATRIX / i)), jnp.zeros(3), jnp.ones(3)),
    "a device": lambda i: Direct(2)(DEVICE, jnp.zeros(1), jnp.ones(1) * i),
    "a callback that keeps count": lambda i: Direct(2)(
        lambda z: 0.5 * jax.pure_callback(lambda z: (_seen.append(1), z)[1], z, z), jnp.zeros(3)
    ),
    "a custom derivative": lambda i: LAYER(
        lambda z, x: rule_of_its_own(0.3)(z) + x, jnp.zeros(3), jnp.ones(3) * i
    ),
    "a new layer and a budget": lambda i: Equilibrium(Picard(), JacobianFree(), max_steps=30)(
        f, jnp.zeros(3), jnp.ones(3), budget=i
    ),
    "a key and shots": lambda i: LAYER(
        lambda z, x, key, shots: f(z, x) + jax.random.normal(key, z.shape) / shots,
        jnp.zeros(3),
        jnp.ones(3),
        key=jax.random.key(i),
        shots=1000 * i,
    ),
    "vmap": lambda i: jax.vmap(lambda x: LAYER(f, jnp.zeros(3), x))(jnp.ones((2, 3)) * i),
    "grad": lambda i: jax.grad(lambda x: LAYER(f, jnp.zeros(3), x).value.sum())(jnp.ones(3) * i),
    "vmap of grad": lambda i: jax.vmap(jax.grad(lambda x: LAYER(f, jnp.zeros(3), x).value.sum()))(
        jnp.ones((2, 3)) * i
    ),
    "Direct": lambda i: Direct(layers=2)(f, jnp.zeros(3), jnp.ones(3) * i),
    "a network of a new lambda": lambda i: network(lambda v, x: jnp.tanh(v), 0.1 * i),
    "other arrays in the closure of a cell": lambda i: (
        lambda w: network(lambda v, x: jnp.tanh(w @ v), 0.1)
    )(MATRIX[:1, :1] / i),
    "grad of a network": lambda i: jax.grad(lambda x: network(lambda v, _: jnp.tanh(v), x))(
        0.1 * i
    ),
    "a spectral radius": lambda i: spectral_radius(f, jnp.zeros(3), jnp.ones(3) * i),
    "a trajectory": lambda i: trajectory(
        f, jnp.zeros(3), jnp.ones(3) * i, solver=Picard(), n_steps=2, bounds=(-1.0, 1.0)
    ),
    "f with a jitted part that has static arguments": lambda i: LAYER(
        lambda z, x: activated(0.1 * z + x, jax.nn.relu), jnp.zeros(2), jnp.ones(2) * i
    ),
    "a model by shots": lambda i: SHOTS.sample(
        jnp.zeros(1), jnp.ones(1) * i, key=jax.random.key(i), shots=10
    ),
    "an equilibrium by shots": lambda i: LAYER(
        SampledModel(SHOTS).bind(jnp.ones(1) * i), jnp.zeros(1), key=jax.random.key(i), shots=10
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_second_call_compiles_nothing(name):
    call = CALLS[name]
    jax.block_until_ready(call(1))
    before = compilations()
    for i in (2, 3):
        jax.block_until_ready(call(i))
    assert compilations() == before


def test_a_model_as_the_readme_uses_it_compiles_and_prepares_once(monkeypatch):
    model = qdeq.paper_model(key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, model.n_features))
    layer = Equilibrium()

    def call(i):
        # Other angles and another sample each time.
        moved = eqx.tree_at(lambda m: m.theta, model, model.theta + i)
        bound = layer(moved.prepare().bind(x[i]), jnp.zeros(4)).value
        return bound, LAYER(moved, jnp.zeros(4), x[i]).value, moved(jnp.zeros(4), x[i])

    jax.block_until_ready(call(0))
    before = compilations()
    # One after another the operations of `prepare` take ten times as long as its program.
    steps, prepare = [], QuantumModel._prepare
    monkeypatch.setattr(QuantumModel, "_prepare", lambda m: steps.append(m) or prepare(m))
    found = call(1), call(2)
    assert compilations() == before and not steps
    # And every call has its own numbers.
    assert not np.allclose(found[0][0], found[1][0], atol=1e-3)


def test_a_value_that_f_reads_elsewhere_is_seen_when_it_changes():
    holder = {"scale": 0.5, "weights": jnp.ones(1)}
    g = lambda z, x: holder["scale"] * holder["weights"] * jnp.cos(z * x)  # noqa: E731
    solve = lambda: float(LAYER(g, jnp.zeros(1), 0.0).value[0])  # noqa: E731  cos(0) is 1
    assert solve() == 0.5
    holder["weights"] = jnp.full(1, 2.0)
    assert solve() == 1.0
    holder["scale"] = 0.25
    assert solve() == 0.5


def test_arrays_in_the_parts_of_a_function_are_told_apart():
    def scaled(weights):
        inner = jax.jit(lambda z: weights * z)
        return lambda z: jax.lax.cond(z[0] > -1, lambda z: weights + inner(z) / 2, inner, z)

    solve = lambda w: LAYER(scaled(w), jnp.zeros(2)).value  # noqa: E731
    # z = w + w z / 2
    for scale in (0.5, 0.25):
        for weights in (np.full(2, scale, np.float32), jnp.full(2, scale)):
            np.testing.assert_allclose(solve(weights), scale / (1 - scale / 2), rtol=1e-4)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["outside jit", "inside"])
def test_what_a_cell_closes_over_is_differentiated(wrap):
    def of(scale):
        return network(lambda v, x: jnp.tanh(scale * v), 0.3)

    def by_hand(scale):
        m = 0.0
        for _ in range(3):
            m = jnp.tanh(scale * (0.3 + 0.5 * m))
        return m

    found, expected = wrap(jax.value_and_grad(of))(0.7), jax.value_and_grad(by_hand)(0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_functions_that_differ_in_their_derivative_only_do_not_share_a_program():
    # The second derivative of the same values: neither trace of the values shows it.
    def slope(scale):
        rule = rule_of_its_own(scale)
        return float(jax.grad(lambda x: LAYER(lambda z: rule(z) + x, jnp.zeros(1)).value[0])(0.1))

    layer_free = slope(0.2), slope(0.4)
    assert layer_free == (1.0, 1.0)  # df/dx, which JacobianFree takes
    exact = Equilibrium(Picard(), Implicit(), max_steps=30)

    def implicit(scale):
        rule = rule_of_its_own(scale)
        return float(jax.grad(lambda x: exact(lambda z: rule(z) + x, jnp.zeros(1)).value[0])(0.1))

    assert implicit(0.2) == pytest.approx(1 / 0.8) and implicit(0.5) == pytest.approx(2.0)


@pytest.mark.parametrize("holds", ["closure", "method", "global", "list"])
def test_what_a_derivative_rule_alone_reads_is_seen_when_it_changes(holds):
    class Spike:
        """A surrogate gradient, whose slope a training may change."""

        def rule(self, tangent, _, z):
            return self.slope * tangent

    spike, slopes = Spike(), [0.0]
    rules = {
        "closure": lambda tangent, _, z: spike.slope * tangent,
        "method": spike.rule,
        "global": lambda tangent, _, z: _SLOPE * tangent,
        "list": lambda tangent, _, z: slopes[0] * tangent,
    }
    rounded = jax.custom_jvp(lambda z: 0.5 * jnp.round(z))
    rounded.defjvps(rules[holds])
    layer = Equilibrium(Picard(), Implicit(), max_steps=30)
    for slope in (0.2, jnp.asarray(0.5)):
        spike.slope = slopes[0] = globals()["_SLOPE"] = slope
        found = jax.grad(lambda x: layer(lambda z: rounded(z) + x, jnp.zeros(1)).value[0])(0.1)
        assert float(found) == pytest.approx(1 / (1 - float(slope)))


def test_numbers_that_decide_what_is_computed_stay_numbers():
    def layers(z, x):
        for _ in range(x["layers"]):
            z = 0.5 * jnp.cos(z * x["scale"])
        return z

    one = Direct()(layers, jnp.zeros(1), {"layers": 2, "scale": 1.0}).value
    other = Direct()(layers, jnp.zeros(1), {"layers": 3, "scale": 1.0}).value
    np.testing.assert_allclose(one, 0.5 * np.cos(0.5), rtol=1e-6)
    np.testing.assert_allclose(other, 0.5 * np.cos(0.5 * np.cos(0.5)), rtol=1e-6)


def test_arrays_of_a_call_are_freed_with_it():
    weights = jnp.ones((3, 3)) / 4
    alive = weakref.ref(weights)
    function = lambda z: jnp.tanh(weights @ z + 1)  # noqa: E731
    jax.block_until_ready(LAYER(function, jnp.zeros(3)))
    del weights, function
    gc.collect()
    assert alive() is None


@pytest.mark.slow
def test_the_number_of_programs_that_are_kept_is_bounded():
    for i in range(_MOST_PROGRAMS + 3):
        Direct()(lambda z, i=i: 0.5 * z + i, jnp.zeros(1))
    assert _program.cache_info().currsize == _MOST_PROGRAMS


def test_inside_jit_a_layer_leaves_no_program_of_its_own():
    before = _program.cache_info()
    jax.jit(lambda x: LAYER(f, jnp.zeros(2), x).value)(jnp.ones(2))
    jax.jit(jax.grad(lambda x: Direct()(f, jnp.zeros(2), x).value.sum()))(jnp.ones(2))
    assert _program.cache_info() == before


def test_settings_compare_by_value_and_type_and_functions_by_their_code():
    def shifted(by):
        return lambda z: z + by

    assert of_value(shifted(1)) == of_value(shifted(1))
    assert of_value(shifted(1)) != of_value(shifted(2))
    assert of_value(shifted(1)) != of_value(shifted(1.0))
    assert of_value((1, True)) != of_value((True, 1))
    assert of_value(0.0) != of_value(-0.0) and of_value(float("nan")) == of_value(float("nan"))
    calls: list[int] = []
    others: list[int] = []
    # A list may be written to: each function has its own.
    assert of_value(shifted(calls)) != of_value(shifted(others))

    def recursive(n):
        return n and recursive(n - 1)

    assert of_value(recursive) == of_value(recursive)


@pytest.mark.parametrize("layer", [LAYER, Direct(2)], ids=["equilibrium", "direct"])
def test_what_pads_a_trace_is_no_fault_of_f(layer):
    with jax.debug_nans(True):
        solution = layer(f, jnp.zeros(2), 1.0)
        assert jnp.isfinite(solution.value).all()
        assert jnp.isfinite(jax.grad(lambda x: layer(f, jnp.zeros(2), x).value.sum())(1.0))
        with pytest.raises(FloatingPointError):
            layer(f, jnp.zeros(2), np.nan).value.sum()  # one of f is found
