"""Amplitude encoding sees a direction: results do not depend on the units of features."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeq import native
from qdeq._scale import exponent, lowest, times_power
from qdeq.circuits import AmplitudeEncoding, MeasurementEnsemble, parse_noise, strongly_entangling
from qdeq.devices import DeviceFunction, SimulatorExecutor
from qdeq.devices.quadratic import quadratic_jacobian
from qdeq.equilibrium import STATUS, Broyden, Direct, Equilibrium, Homotopy, Picard
from qdeq.lowering.preparation import preparation_angles
from qdeq.lowering.program import Program
from qdeq.models import QuantumModel, paper_model
from qdeq.models.sampled import SampledModel
from qdeq.simulation import prepare_columns

CIRCUIT, STRINGS = strongly_entangling(2, 1), ("ZI", "IZ", "ZZ")
OBSERVABLES = MeasurementEnsemble(2, STRINGS)
RNG = np.random.default_rng(0)
THETA = RNG.normal(size=CIRCUIT.n_parameters)
# No two terms of v = x + R m cancel: what is left of them would say more about rounding.
X, M = RNG.uniform(0.5, 1, size=3), RNG.uniform(0.3, 0.9, size=3)
# The third observable is not fed back, however large its value.
R = np.array([[1.0, 0, 0], [0.5, 1, 0], [0, 2, 0]])
NOISE = parse_noise("depolarising=0.02,readout=0.03")
PATHS = {
    "quadratic": ("quadratic", None),
    "quadratic, no kernels": ("quadratic", None),
    "columns": ("quadratic", None),
    "statevector": ("statevector", None),
    "sampled": ("statevector", None),
    "quadratic, noise": ("quadratic", NOISE),
    "density matrix, noise": ("density-matrix", NOISE),
}


def model_of(path, reinjection=R):
    method, noise = PATHS[path]
    return QuantumModel(
        THETA,
        CIRCUIT,
        encoding=AmplitudeEncoding(2, 3),
        observables=OBSERVABLES,
        reinjection=reinjection,
        method=method,
        noise=noise,
    )


@functools.cache
def evaluated(path, double):
    """`(theta, reinjection, m, x)` -> value and its derivatives by theta, m and x, compiled."""

    def function(theta, reinjection, m, x):
        model = model_of(path)
        where = lambda model: (model.theta, model.reinjection)  # noqa: E731
        model = eqx.tree_at(where, model, (theta, reinjection))
        if path == "columns":
            form = prepare_columns(model.measured, theta, jax.lax.stop_gradient(reinjection))
            return form.bind(x)(m)
        if path == "sampled":
            return SampledModel(model)(m, x, key=jax.random.key(0), shots=None)
        return model.prepare().bind(x)(m)

    return jax.jit(lambda *a: (function(*a), jax.jacrev(function, argnums=(0, 2, 3))(*a)))


def run(path, double, *arguments):
    """The compiled function at float64 numbers, which are rounded to its type; in float64."""
    with jax.enable_x64(double), pytest.MonkeyPatch.context() as patch:
        if "no kernels" in path:
            patch.setattr(native, "serves", lambda dtype: False)
        return jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64),
            evaluated(path, double)(*(jnp.asarray(a) for a in arguments)),
        )


@functools.cache
def forms(path):
    """A_k in f_k = v'A_k v / v'v: of dense matrices, or, under noise, from f in the usual range."""
    if PATHS[path][1] is None:
        unitary = oracle.circuit_unitary(CIRCUIT, THETA)[:, :3]
        return np.array(
            [(unitary.conj().T @ oracle.pauli_matrix(s) @ unitary).real for s in STRINGS]
        )

    def value(v):
        return run(path, True, THETA, R, np.zeros(3), v)[0]

    rows = np.eye(3)
    diagonal = np.array([value(row) for row in rows])
    sums = {(i, j): value(rows[i] + rows[j]) for i in range(3) for j in range(i)}
    matrices = np.zeros((3, 3, 3))
    for i in range(3):
        matrices[:, i, i] = diagonal[i]
        for j in range(i):
            matrices[:, i, j] = matrices[:, j, i] = sums[i, j] - (diagonal[i] + diagonal[j]) / 2
    return matrices


def expected(path, reinjection, m, x):
    """Value, df/dm and df/dx with the exponent p for which the derivatives are times 2**-p."""
    columns = np.max(np.abs(reinjection), axis=0)
    counts = [*(x != 0), *((columns != 0) & (m != 0))]
    powers = np.frexp([*np.abs(x), *np.abs(m)])[1] + np.array([0] * 3 + [*np.frexp(columns)[1]])
    p = max((int(power) for power, there in zip(powers, counts, strict=True) if there), default=0)
    turned = np.ldexp(reinjection, -np.frexp(columns)[1])
    v = np.ldexp(x, -p) + turned @ np.ldexp(m, np.frexp(columns)[1] - p)
    matrices = forms(path)
    value = v @ matrices @ v / (v @ v)
    by_v = 2 * (matrices @ v - value[:, None] * v) / (v @ v)
    return value, by_v @ turned, by_v, p, np.frexp(columns)[1]


def check(path, double, m, x, reinjection=R):
    dtype = np.float64 if double else np.float32
    info, rounding = np.finfo(dtype), 200 * np.finfo(dtype).eps
    reinjection, m, x = (np.asarray(np.asarray(a, dtype), np.float64) for a in (reinjection, m, x))
    value, (by_theta, by_m, by_x) = run(path, double, THETA, reinjection, m, x)
    right, right_by_m, right_by_x, p, columns = expected(path, reinjection, m, x)
    np.testing.assert_allclose(value, right, rtol=0, atol=rounding)
    assert np.all(np.isfinite(by_theta))
    derivatives = [(by_m, right_by_m, columns - p)]
    size = int(np.frexp(np.max(np.abs(x)))[1]) if np.any(x) else info.minexp
    if p - max(size, lowest(dtype)) < -info.minexp - 8:  # beyond, where x is nothing beside R m, 0
        derivatives.append((by_x, right_by_x, np.full(3, -p)))
    for found, derivative, powers in derivatives:
        for column in range(3):
            if info.minexp + 12 < powers[column] < info.maxexp - 4:  # it is a number of this type
                np.testing.assert_allclose(
                    np.ldexp(found[:, column], -powers[column]),
                    derivative[:, column],
                    rtol=0,
                    atol=10 * rounding,
                )


scale = st.integers(-1074, 1022)
zeros = st.sampled_from(["", "m", "x"])
SLOW = ("columns", "sampled", "density matrix, noise")
CASES = [
    *(pytest.param(path, False, marks=[pytest.mark.slow] * (path in SLOW)) for path in PATHS),
    ("quadratic", True),
    pytest.param("statevector", True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("path", "double"), CASES)
@given(powers=st.tuples(scale, scale), zero=zeros)
@settings(max_examples=40)
def test_only_the_direction_of_x_plus_r_m_counts(path, double, powers, zero):
    if not double:  # the range of float32, denormal numbers included
        powers = [power // 8 if power > 0 else power * 149 // 1074 for power in powers]
    own, other = powers
    x, m = np.ldexp(X, own), np.ldexp(M, other)
    check(path, double, 0 * m if zero == "m" else m, 0 * x if zero == "x" else x)


@pytest.mark.parametrize("path", ["quadratic", "quadratic, no kernels", "columns", "statevector"])
@pytest.mark.parametrize("power", [-120, -70, 70, 100])
def test_the_scale_of_every_column_of_the_reinjection_is_its_own(path, power):
    powers = np.array([power, 20, 0])
    check(path, False, np.ldexp(M, -powers), X, np.ldexp(R, powers))
    check(path, False, M, X, np.ldexp(R, powers))


@pytest.mark.parametrize("s", [1e-30, 1e-20, 1e-6, 1.0, 1e6, 1e19, 1e30, 1e38])
@pytest.mark.parametrize("noise", ["", "depolarising=0.01"])
def test_the_papers_model_gives_the_same_for_features_in_any_unit(s, noise):
    x = jax.random.normal(jax.random.key(1), (16,))
    values = _at_zero(noise)(jnp.stack([x, (x.astype(jnp.float32) * np.float32(s))]))
    np.testing.assert_allclose(values[1], values[0], rtol=0, atol=2e-6)
    if not noise:  # default.qubit of PennyLane 0.45
        np.testing.assert_allclose(values[0], [0.1776, 0.0720, 0.1863, 0.2247], atol=1e-4)


@functools.cache
def _at_zero(noise):
    model = paper_model(key=jax.random.key(0), noise=parse_noise(noise) if noise else None)
    return jax.jit(jax.vmap(lambda x: model.prepare().bind(x)(jnp.zeros(4))))


def test_in_the_ordinary_range_no_bit_depends_on_a_power_of_two():
    x = jax.random.normal(jax.random.key(1), (16,))
    values = _at_zero("")(jnp.stack([x * 2.0**k for k in (0, -60, -5, 3, 60)]))
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])


def test_what_underflows_is_not_undefined():
    model = model_of("quadratic")
    smallest, none = jnp.full(3, np.float32(1e-45)), jnp.zeros(3)
    assert model.is_defined(none, smallest) and model.is_defined(smallest, none)
    assert not model.is_defined(none, none)
    assert not model.is_defined(jnp.array([0, 0, 1e30]), none)  # a value that is not fed back


def test_a_denormal_number_is_multiplied_exactly():
    tiny = np.array([1e-45, -1e-40, 3e-39, 0.0, 1.5], np.float32)
    np.testing.assert_array_equal(
        np.asarray(jax.jit(times_power)(jnp.asarray(tiny), jnp.asarray(100)), np.float64),
        tiny.astype(np.float64) * 2.0**100,
    )
    assert int(exponent(jnp.array([0.0, -6.0, 1e-45]))) == 2


LAYERS = {
    "kernels": Equilibrium(Broyden()),
    "kernels, fallback": Equilibrium(Broyden(), fallback=Homotopy(), fallback_steps=20),
    "JAX": Equilibrium(Picard()),
    "JAX, fallback": Equilibrium(Picard(), fallback=Homotopy(), fallback_steps=20),
    "direct": Direct(3),
}


@pytest.mark.parametrize(
    ("encoding", "layer"),
    [*(("amplitude", name) for name in LAYERS), ("angle", "kernels, fallback"), ("angle", "JAX")],
)
def test_a_state_that_was_not_computed_is_never_called_converged(layer, encoding):
    model = paper_model(encoding=encoding, key=jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (16,))
    batch = jnp.stack([x, x.at[3].set(jnp.nan), x.at[5].set(jnp.inf), x.at[0].set(-jnp.inf)])
    found = _solve(model, LAYERS[layer], batch)
    lost = [False, True, True, True]
    np.testing.assert_array_equal(found.stats.result == STATUS.nonfinite, lost)
    np.testing.assert_array_equal(np.isnan(found.value), np.repeat([lost], 4, 0).T)
    np.testing.assert_array_equal(np.isinf(found.stats.residual), lost)
    np.testing.assert_array_equal(found.stats.converged, [layer != "direct", False, False, False])


@eqx.filter_jit
def _solve(model, layer, batch):
    form = model.prepare()
    return jax.vmap(lambda x: layer(form.bind(x), jnp.zeros(4)))(batch)


def test_shots_of_features_that_are_no_numbers_are_no_numbers():
    model = SampledModel(model_of("sampled"))
    f = jax.jit(lambda x: model(jnp.zeros(3), x, key=jax.random.key(0), shots=50))
    assert np.all(np.isnan(f(jnp.array([1.0, jnp.nan, 0.5]))))
    direction = jnp.asarray(X, jnp.float32)
    for s in (1e-30, 1e30):
        np.testing.assert_array_equal(f(direction * np.float32(s)), f(direction))


@pytest.mark.parametrize("s", [1e-30, 1e30])
def test_state_preparation_takes_features_in_any_unit(s):
    x = np.array([0.3, -0.8, 0.1, 0.6, -0.2], np.float32)
    angles, slopes = _prepared(jnp.asarray(x))
    scaled, scaled_slopes = _prepared(jnp.asarray(x * np.float32(s)))
    np.testing.assert_allclose(scaled, angles, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scaled_slopes * np.float32(s), slopes, rtol=0, atol=1e-5)


def test_a_block_of_tiny_amplitudes_is_prepared_with_derivatives():
    angles, slopes = _prepared(jnp.array([1.0, 0.5, 3e-25, 4e-25, 0.25]))
    assert np.all(np.isfinite(angles)) and np.all(np.isfinite(slopes))
    # d 2 atan2(b, a) = 2 (a db - b da) / (a^2 + b^2), shared out over the four angles of a level.
    np.testing.assert_allclose(np.abs(slopes[3:, 2:4]), [[8e23, 6e23]] * 4, rtol=1e-5)


_prepared = jax.jit(lambda v: (preparation_angles(v), jax.jacfwd(preparation_angles)(v)))


@pytest.mark.slow
def test_devices_take_features_in_any_unit():
    model = model_of("quadratic")
    executor = SimulatorExecutor(Program.of(model).circuit, OBSERVABLES)
    f = DeviceFunction(model, executor)
    measured = jax.jit(lambda m, x: (f(m, x), jax.jacrev(f, argnums=(0, 1))(m, x)))
    for s in (1e-30, 1.0, 1e30):
        x = (X * s).astype(np.float32)
        for m in (np.zeros(3, np.float32), (M * s).astype(np.float32)):
            value, (_, by_m, by_x) = run("quadratic", False, THETA, R, m, x)
            found, slopes = measured(m, x)
            np.testing.assert_allclose(found, value, atol=2e-6)
            for one, other in zip(slopes, (by_m, by_x), strict=True):
                np.testing.assert_allclose(np.float64(one) * s, np.float64(other) * s, atol=1e-5)
            values, jacobian = quadratic_jacobian(model, executor, m[None], x[None])
            np.testing.assert_allclose(values[0], value, atol=2e-6)
            np.testing.assert_allclose(jacobian[0] * s, by_m * s, atol=1e-5)
