"""No Jacobian exceeds its certificate, which is near where that can be said; what follows holds."""

import functools
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qdeq
from qdeq.circuits import (
    AmplitudeDamping,
    Depolarising,
    NoiseModel,
    Operation,
    ReadoutError,
    Rule,
    hardware_efficient,
    reuploading,
    xyz_of_every_wire,
    z_of_every_wire,
    z_strings,
)
from qdeq.cli.main import main
from qdeq.equilibrium.certificates import (
    Bound,
    Certificate,
    Region,
    certify,
    overlap_bound,
)
from qdeq.equilibrium.enclosures import perron_bound
from qdeq.models import build_model
from qdeq.models.gains import anticommuting_sets, injection_within
from qdeq.runs.certify import norms_in

SLOW = pytest.mark.slow
LAYER, STRINGS = hardware_efficient(2, 1), z_strings(2, 2)
ROTATIONS = qdeq.AngleEncoding.from_rotations(
    2, [("RY", 0, 0), ("RX", 1, 1), ("RZ", 1, 2), ("RY", 1, 3)]
)
NOISE = NoiseModel(
    [Rule(AmplitudeDamping(0.1)), Rule(Depolarising(0.05))], readout={0: ReadoutError(0.05, 0.02)}
)
SCALED = qdeq.AngleEncoding(
    2,
    (
        Operation("RX", (0,), feature=0, factor=-0.5, offset=1.0),
        Operation("PhaseShift", (0,), feature=1, factor=2.0),
        Operation("RY", (1,), feature=1),
    ),
)
FED = qdeq.Circuit(
    2,
    (
        Operation("RY", (0,), parameter=0),
        Operation("CRX", (0, 1), feature=1, factor=1.5),
        Operation("RZZ", (0, 1), feature=0),
        Operation("H", (1,)),
    ),
)


@dataclass(frozen=True)
class Case:
    """A circuit whose model function is certified, and which parts an injection has."""

    encoding: Any
    circuit: Any = LAYER
    observables: Any = STRINGS
    noise: Any = None
    is_general: bool = False  # U and b as well


CASES = {
    "amplitude": Case(qdeq.AmplitudeEncoding(2, 4)),
    "amplitude, few features, X Y Z": Case(
        qdeq.AmplitudeEncoding(2, 3), observables=xyz_of_every_wire(2), is_general=True
    ),
    "noisy amplitude": Case(qdeq.AmplitudeEncoding(2, 4), noise=NOISE),
    "angles": Case(ROTATIONS),
    "angles, U and b": Case(ROTATIONS, observables=xyz_of_every_wire(2), is_general=True),
    "noisy angles": Case(ROTATIONS, noise=NOISE),
    "angles that are scaled, a phase": Case(SCALED),
    "fed again": Case(ROTATIONS, reuploading(ROTATIONS, [LAYER, LAYER])),
    "fed by a controlled gate": Case(SCALED, FED),
    "fed again, noisy": Case(ROTATIONS, reuploading(ROTATIONS, [LAYER]), noise=NOISE),
}
FAST = ("amplitude", "angles")  # the others compile a program each
ALL = [pytest.param(name, marks=[] if name in FAST else SLOW) for name in CASES]
D = 3


def model_of(case, theta, state, matrix, bias):
    injection = qdeq.Injection(state, matrix, bias) if case.is_general else qdeq.Injection(state)
    return qdeq.QuantumModel(
        theta,
        case.circuit,
        encoding=case.encoding,
        observables=case.observables,
        noise=case.noise,
        injection=injection,
    )


def drawn(case, seed, gain):
    rng = np.random.default_rng(seed)
    a, q = case.encoding.n_features, case.observables.n_observables
    parts = (
        rng.uniform(-np.pi, np.pi, case.circuit.n_parameters),
        gain * rng.normal(size=(a, q)),
        rng.normal(size=(a, D)),
        rng.normal(size=a),
    )
    return rng, parts, rng.normal(size=D if case.is_general else a)


@functools.cache
def derivatives(name):
    """f and its Jacobian at many states, in float64, one program for all numbers of a case."""

    def all_of(parts, x, states):
        bound = model_of(CASES[name], *parts).prepare().bind
        one = lambda m, x: (bound(x)(m), jax.jacfwd(bound(x))(m))  # noqa: E731
        return jax.vmap(one)(states, x)

    compiled = jax.jit(all_of)

    def at(parts, x, states):
        with jax.enable_x64(True):
            arguments = jax.tree.map(jnp.asarray, (parts, x, states))
            return jax.tree.map(np.asarray, compiled(*arguments))

    return at


def check(name, parts, region, inputs, rng):
    """Nothing that is sampled lies outside of what the certificate says."""
    with jax.enable_x64(True):
        found = certify(model_of(CASES[name], *parts), region)
    check_samples(found, lambda states: derivatives(name)(parts, inputs, states), rng, len(inputs))
    return found


def check_samples(found, linearised, rng, n):
    """`linearised(states)`: values and Jacobians at n states, each at features of its own."""
    boxes = (
        (found.outer, found.low[0], found.high[0]),
        (found.inner, found.inner_low[0], found.inner_high[0]),
    )
    for bound, low, high in boxes:
        between = rng.uniform(size=(n, len(low)))
        at_corners = rng.uniform(size=(n, 1)) < 0.3
        states = low + (high - low) * np.where(at_corners, np.round(between), between)
        values, jacobians = linearised(states)
        if not np.isfinite(bound.factor[0]):
            continue
        many = Bound(np.zeros(n), np.repeat(bound.weights, n, axis=0))
        assert norms_in(many, jacobians).max() <= bound.factor[0]
        # f maps both boxes into themselves; 1e-12 for rounding of f.
        assert np.all(values >= low - 1e-12) and np.all(values <= high + 1e-12)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), gain=st.sampled_from([0.02, 0.1, 0.3, 1.0]))
def test_no_jacobian_of_a_sample_exceeds_its_certificate(name, seed, gain):
    rng, parts, x = drawn(CASES[name], seed, gain)
    check(name, parts, x, np.repeat(x[None], 64, 0), rng)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**32 - 1),
    gain=st.sampled_from([0.02, 0.2]),
    size=st.sampled_from([0.03, 0.3, 3.0]),
)
def test_no_jacobian_of_a_region_exceeds_its_certificate(name, seed, gain, size):
    rng, parts, x = drawn(CASES[name], seed, gain)
    moves = rng.uniform(-size, size, (64, len(x)))
    check(name, parts, Region.box(x - size, x + size), x + moves, rng)
    moves *= size / np.linalg.norm(moves, axis=1, keepdims=True)
    check(name, parts, Region.ball(x, size), x + moves, rng)


def random_model(rng):
    """Any circuit of three qubits, encoding, observables and noise, feedback of any size."""
    n, angles = 3, itertools.count()

    def wires(k):
        return tuple(rng.permutation(n)[:k].tolist())

    def operation():
        kind = rng.integers(5)
        if kind == 0:
            return Operation(str(rng.choice(["H", "S", "SX"])), wires(1))
        if kind == 1:
            return Operation(str(rng.choice(["CNOT", "CZ", "SWAP"])), wires(2))
        if kind == 2:
            unitary = np.linalg.qr(rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))[0]
            return Operation("Unitary", wires(2), matrix=tuple(map(tuple, unitary.tolist())))
        angle = next(angles)
        if kind == 3:
            return Operation(str(rng.choice(["CRX", "RZZ", "CRY"])), wires(2), parameter=angle)
        return Operation(str(rng.choice(["RX", "RY", "RZ"])), wires(1), parameter=angle)

    def rotation(feature):
        name = str(rng.choice(["RX", "RY", "RZ", "PhaseShift"], p=[0.3, 0.3, 0.3, 0.1]))
        factor, offset = rng.normal(size=2)
        return Operation(name, wires(1), feature=feature, factor=factor, offset=offset)

    operations = [operation() for _ in range(10)]
    operations.append(Operation("RX", (0,), parameter=next(angles)))
    if rng.integers(2):
        encoding = qdeq.AmplitudeEncoding(n, int(rng.integers(3, 9)))
    else:
        encoding = qdeq.AngleEncoding(n, tuple(rotation(i) for i in range(rng.integers(3, 8))))
        if rng.integers(3) == 0:
            operations += [rotation(0), rotation(1), operation()]
    circuit = qdeq.Circuit(n, tuple(operations))
    strings = {"".join(rng.choice(list("IXYZ"), size=n)) for _ in range(5)} - {"III"} or {"ZII"}
    observables = qdeq.MeasurementEnsemble(n, tuple(sorted(strings)))
    a, q = encoding.n_features, observables.n_observables
    noise = NOISE if rng.integers(2) else None
    return qdeq.QuantumModel(
        rng.uniform(-np.pi, np.pi, circuit.n_parameters),
        circuit,
        encoding=encoding,
        observables=observables,
        noise=noise,
        reinjection=rng.choice([0.03, 0.2, 1.0]) * rng.normal(size=(a, q)),
    )


@SLOW
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_jacobian_of_any_circuit_exceeds_its_certificate(seed):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        model = random_model(rng)
        x = rng.normal(size=model.n_features) * rng.choice([1.0, 3.0])
        size = rng.choice([0.0, 0.1])
        found = certify(model, Region.box(x - size, x + size))
        inputs = jnp.asarray(x + rng.uniform(-size, size, (100, len(x))))
        form = model.prepare()

        def one(m, x):
            f = form.bind(x)
            return f(m), jax.jacfwd(f)(m)

        compiled = jax.jit(jax.vmap(one))

        def linearised(states):
            return map(np.asarray, compiled(jnp.asarray(states), inputs))

        check_samples(found, linearised, rng, 100)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW) for name in ("amplitude", "angles", "fed again")]
)
def test_gradient_ascent_on_the_norm_stays_below_the_certificate(name):
    rng, parts, x = drawn(CASES[name], 4, 0.15)
    size = 0.1
    with jax.enable_x64(True):
        model = model_of(CASES[name], *parts)
        found = certify(model, Region.box(x - size, x + size))
        form = model.prepare()

        def norm(m, z):
            return jnp.linalg.norm(jax.jacfwd(form.bind(z))(m), ord=2)

        @jax.jit
        @jax.vmap
        def ascend(m, z):
            def step(_, at):
                by_m, by_z = jax.grad(norm, argnums=(0, 1))(*at)
                moved = at[0] + 0.2 * by_m, at[1] + 0.1 * by_z
                return jnp.clip(moved[0], -1, 1), jnp.clip(moved[1], x - size, x + size)

            return norm(*jax.lax.fori_loop(0, 60, step, (m, z)))

        starts = rng.uniform(-1, 1, (8, 3)), x + rng.uniform(-size, size, (8, len(x)))
        reached = np.asarray(ascend(*map(jnp.asarray, starts))).max()
    assert reached <= found.factor[0]
    assert found.factor[0] <= 6 * reached  # 1.5 to 4 with these numbers


def ry(gain):
    """f(m) = cos(x + w m)."""
    return qdeq.QuantumModel(
        jnp.zeros(0),
        qdeq.Circuit(1, ()),
        reinjection=[[gain]],
        encoding=qdeq.AngleEncoding.from_rotations(1, [("RY", 0, 0)]),
        observables=z_of_every_wire(1),
    )


@pytest.mark.parametrize("gain", [0.3, -0.8, 1.7])
def test_one_rotation_has_the_constant_that_is_derived_by_hand(gain):
    # |f'| = |w sin(x + w m)|: |w| over all x. At x = 0 its largest value is at the ends m = +-1.
    model = ry(gain)
    gain = float(np.float32(gain))
    assert certify(model, Region.everywhere(1)).factor[0] == pytest.approx(abs(gain), rel=1e-6)
    at_zero = abs(gain) * np.sin(min(abs(gain), np.pi / 2))
    found = certify(model, [[0.0]])
    assert at_zero <= found.factor[0] <= 1.05 * at_zero


def test_misread_bits_contract_as_derived_by_hand():
    # <Z> is read as (1 - p01 - p10) <Z> + (p10 - p01).
    noise = NoiseModel([], readout={0: ReadoutError(0.05, 0.15)})
    clean = ry(0.5)
    noisy = qdeq.QuantumModel(
        clean.theta, measured=clean.measured, noise=noise, reinjection=[[0.5]]
    )
    found = certify(noisy, Region.everywhere(1))
    assert found.factor[0] == pytest.approx(0.8 * 0.5, rel=1e-6)
    assert found.inner_high[0] <= 0.9 + 1e-6 and found.inner_low[0] >= -0.7 - 1e-6


def test_one_qubit_of_amplitudes_has_the_constant_that_is_derived_by_hand():
    # v = (x, w m): f = (x^2 - w^2 m^2) / (x^2 + w^2 m^2), f' = -4 x^2 w^2 m / (x^2 + w^2 m^2)^2,
    # largest at m = 1 as long as w < x / sqrt(3); and 0 within |v| where x is 0.
    model = qdeq.QuantumModel(
        jnp.zeros(0),
        qdeq.Circuit(1, ()),
        reinjection=[[0.0], [0.25]],
        encoding=qdeq.AmplitudeEncoding(1, 2),
        observables=z_of_every_wire(1),
    )
    found = certify(model, [[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    for factor, x in zip(found.factor, (1.0, 2.0), strict=False):
        exact = 4 * x**2 * 0.25**2 / (x**2 + 0.25**2) ** 2
        assert exact <= factor <= 1.2 * exact
    assert np.isinf(found.factor[2]) and not found.exists[2]


def test_oracle_slopes_of_a_wire_of_angles_stay_below_the_certificate():
    # By dense matrices and central differences, with nothing of the library's derivatives.
    rng, (theta, state, _, _), x = drawn(CASES["angles"], 11, 0.2)
    found = certify(model_of(CASES["angles"], theta, state, None, None), x)
    unitary = oracle.circuit_unitary(LAYER, np.asarray(theta, np.float32).astype(float))
    state = np.asarray(state, np.float32).astype(float)

    def f(m):
        v = x + state @ m
        encoded = np.zeros(4, complex)
        encoded[0] = 1
        for operation in ROTATIONS.operations:
            gate = oracle.gate_matrix(operation.name, [v[operation.feature]])
            encoded = oracle.applied(gate, operation.wires, np.eye(4)) @ encoded
        return oracle.expectation_values(("ZI", "IZ", "ZZ"), unitary @ encoded)

    for _ in range(20):
        m, h = rng.uniform(-1, 1, 3), 1e-5
        columns = [(f(m + h * e) - f(m - h * e)) / (2 * h) for e in np.eye(3)]
        jacobian = np.stack(columns, axis=1)[None]
        assert norms_in(found.outer, jacobian)[0] <= found.factor[0] + 1e-9  # of the differences


def test_the_bound_on_a_smaller_box_is_nearly_the_jacobian_where_feedback_is_weak():
    _, parts, x = drawn(CASES["amplitude"], 3, 0.05)
    with jax.enable_x64(True):
        found = certify(model_of(CASES["amplitude"], *parts), x)
    middle = (found.inner_low + found.inner_high) / 2
    _, jacobian = derivatives("amplitude")(parts, x[None], middle)
    assert found.inner.factor[0] <= 1.01 * norms_in(found.inner, jacobian)[0]
    assert found.rounds[0] > 0


# What follows.


def test_iteration_arrives_within_the_certified_steps():
    model = ry(0.8)
    x = np.linspace(-3, 3, 7)[:, None]
    found = certify(model, x)
    steps = found.steps(1e-6)
    gain = float(np.float32(0.8))
    for row, n in zip(x[:, 0], steps, strict=True):
        exact = 0.0
        for _ in range(400):
            exact = np.cos(row + gain * exact)
        for m in (-1.0, 0.0, 1.0):
            for _ in range(int(n)):
                m = np.cos(row + gain * m)
            assert abs(m - exact) <= 1e-6
    assert np.all(found.is_unique)


@settings(max_examples=30)
@given(x=st.floats(-3, 3), error=st.floats(-0.2, 0.2))
def test_an_error_moves_the_equilibrium_by_no_more_than_certified(x, error):
    found = certify(ry(0.6), [[x]])
    gain, exact, moved = float(np.float32(0.6)), 0.0, 0.0
    for _ in range(300):
        exact, moved = np.cos(x + gain * exact), np.cos(x + gain * moved) + error
    # A state within the box: what is measured is.
    if abs(moved) <= 1:
        assert abs(moved - exact) <= found.sensitivity(abs(error))[0] + 1e-12


def test_so_many_shots_keep_the_equilibrium_near():
    model, x, error = ry(0.5), 0.7, 0.05
    found = certify(model, [[x]])
    n = int(found.shots(error, confidence=0.9)[0])
    rng, gain = np.random.default_rng(0), 0.5
    exact = 0.0
    for _ in range(200):
        exact = np.cos(x + gain * exact)
    missed = 0
    for _ in range(200):
        # A state that equals what is measured at it, for one draw of the measurement's error.
        value = np.cos(x + gain * exact)
        off = 2 * rng.binomial(n, (1 + value) / 2) / n - 1 - value
        m = exact
        for _ in range(100):
            m = np.cos(x + gain * m) + off
        missed += abs(m - exact) > error
    assert missed <= 0.1 * 200
    # Every halving of the error takes four times the shots.
    assert found.shots(error / 2)[0] == pytest.approx(4 * found.shots(error)[0], rel=1e-3)


def test_nothing_follows_where_the_factor_is_one_or_more():
    found = certify(ry(3.0), [[1.0]])
    assert found.exists[0] and not found.is_unique[0]
    for number in (found.steps(1e-3), found.sensitivity(), found.shots(0.1)):
        assert np.isinf(number[0])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 6))
def test_weighted_norms_come_near_the_perron_root(seed, n):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.2, 1, size=(1, n, n))  # whose weights differ by less than 10
    bound = perron_bound(lambda w: np.einsum("bkl,bl->bk", sizes, w), (1, n))
    radius = abs(np.linalg.eigvals(sizes[0])).max()
    assert radius <= bound.factor[0] <= 1.001 * radius
    assert norms_in(bound, sizes)[0] <= bound.factor[0]


# Encodings of a wire, the paper's bound.


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1), axes=st.lists(st.sampled_from("XYZ"), min_size=1, max_size=4)
)
def test_encodings_overlap_by_at_least_the_bound(seed, axes):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=len(axes))
    moved = z + rng.normal(size=len(axes)) * rng.uniform(0, 2)
    one, other = np.array([1, 0], complex), np.array([1, 0], complex)
    for axis, a, b in zip(axes, z, moved, strict=True):
        one = oracle.gate_matrix(f"R{axis}", [a]) @ one
        other = oracle.gate_matrix(f"R{axis}", [b]) @ other
    least = overlap_bound(np.linalg.norm(moved - z), len(axes))
    assert abs(one.conj() @ other) >= least - 1e-12


def test_the_bound_of_one_rotation_is_above_the_papers_until_that_fails():
    distance = np.linspace(0, 2.43, 100)
    assert np.all(overlap_bound(distance) >= 1 - np.sin(distance) - 1e-12)
    assert overlap_bound(2.44) < 1 - np.sin(2.44)


def test_anticommuting_observables_count_once():
    assert anticommuting_sets(z_of_every_wire(4)) == 4
    assert anticommuting_sets(xyz_of_every_wire(4)) == 4


# The training mode.


@pytest.mark.parametrize(
    "encoding, options",
    [
        pytest.param("amplitude", {"n_features": 16}, marks=SLOW),
        ("angle", {"n_features": 16}),
        pytest.param(
            "table",
            {"n_features": 5, "observables": "xyz", "ansatz": "hardware-efficient"},
            marks=SLOW,
        ),
        pytest.param(
            "table", {"n_features": 5, "uploads": 2, "ansatz": "hardware-efficient"}, marks=SLOW
        ),
    ],
)
def test_a_model_with_a_ceiling_is_certified_everywhere_whatever_is_learned(encoding, options):
    model = build_model(4, encoding=encoding, max_contraction=0.7, key=jax.random.key(0), **options)
    rng = np.random.default_rng(1)
    everywhere = Region.everywhere(model.n_features)
    for size in (1.0, 100.0):
        theta = rng.uniform(-9, 9, model.theta.shape).astype(np.float32)
        injection = model.injection
        if injection.learned:  # far from where it started
            injection = qdeq.Injection(
                size * rng.normal(size=injection.state.shape),
                injection.input,
                injection.bias,
                learned=injection.learned,
                bound=injection.bound,
            )
        learnt = qdeq.QuantumModel(theta, measured=model.measured, injection=injection)
        found = certify(learnt, everywhere, rounds=0)
        assert found.is_contraction[0] and found.factor[0] <= 0.7
        x = np.concatenate(
            [np.zeros((1, model.n_features)), rng.normal(size=(3, model.n_features))]
        )
        assert np.all(certify(learnt, x * size, rounds=0).factor <= 0.7)


def test_the_ceiling_leaves_as_much_feedback_as_it_can_to_one_rotation():
    model = ry(5.0)
    injection = injection_within(model.measured, model.injection, 0.9, 5.0)
    assert float(injection.state[0, 0]) == pytest.approx(0.9, rel=1e-4)
    weak = injection_within(model.measured, qdeq.Injection([[0.1]]), 0.9, 0.1)
    assert float(weak.state[0, 0]) == pytest.approx(0.1)


def test_short_features_are_lengthened_and_keep_their_direction():
    inputs = qdeq.Injection(np.ones((2, 1)), floor=2.0).inputs
    lengthened = jax.jit(lambda x: (inputs(x), jax.jacfwd(inputs)(x)))
    for x, wanted in [
        ([3.0, 4.0], [3.0, 4.0]),
        ([0.3, 0.4], [1.2, 1.6]),
        ([3e-30, 4e-30], [1.2, 1.6]),
        ([3e30, 4e30], [3e30, 4e30]),
        ([0.0, 0.0], [2.0, 0.0]),
    ]:
        value, slope = lengthened(jnp.array(x))
        assert np.allclose(value, wanted, rtol=1e-6)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("part", ["theta", "injection.state"])
def test_a_model_that_holds_no_numbers_is_not_certified(encoding, part):
    model = build_model(4, n_features=16, encoding=encoding, key=jax.random.key(0))

    def where(model: Any) -> Any:
        return functools.reduce(getattr, part.split("."), model)

    spoilt = eqx.tree_at(where, model, where(model).at[0].set(jnp.nan))
    with pytest.raises(qdeq.UserError, match=f"{part} holds a number that is not finite"):
        certify(spoilt, np.ones((1, model.n_features)))


@pytest.mark.parametrize("transformed", [jax.jit, jax.vmap, jax.grad])
def test_what_has_no_value_yet_is_not_certified(transformed):
    model, x = ry(0.1), jnp.ones(1)
    for name, certified in {
        "x": lambda x: certify(model, x),
        "centre": lambda x: Region.ball(x, 0.1),
        "model": lambda w: certify(eqx.tree_at(lambda m: m.injection.state, model, w), [[0.0]]),
    }.items():
        argument = model.injection.state if name == "model" else x
        with pytest.raises(qdeq.UserError, match=f"{name} is traced by JAX and has no value"):
            transformed(certified)(argument)


def test_mistakes_are_one_line():
    class Own(qdeq.ModelFunction):
        n_features = 2
        n_observables = 2

        def __call__(self, m, x):
            return m

    product = qdeq.AngleEncoding(2, (Operation("RY", (0,), feature=(0, 1)),))
    with pytest.raises(qdeq.UserError, match="nothing is known of its derivative"):
        certify(Own(), [[0.0, 0.0]])
    with pytest.raises(qdeq.UserError, match="product of features"):
        certify(
            qdeq.QuantumModel(
                np.zeros(LAYER.n_parameters),
                LAYER,
                encoding=product,
                observables=z_of_every_wire(2),
            ),
            [[0.0, 0.0]],
        )
    # Beyond float64 nothing is certified, and nothing is said.
    long = model_of(CASES["amplitude"], *drawn(CASES["amplitude"], 0, 0.1)[1])
    assert not certify(long, [[1e200, 0, 0, 0]]).is_unique[0]
    with pytest.raises(qdeq.UserError, match="the model takes 1"):
        certify(ry(0.1), [[0.0, 0.0]])
    with pytest.raises(qdeq.UserError, match="finite numbers"):
        certify(ry(0.1), [[np.nan]])
    with pytest.raises(qdeq.UserError, match="between 0 and 1"):
        certify(ry(0.1), [[0.0]]).shots(0.1, confidence=1.0)
    with pytest.raises(qdeq.UserError, match="contraction factor between 0 and 1"):
        qdeq.TrainConfig(max_contraction=1.0)
    with pytest.raises(qdeq.UserError, match="its feedback is its own"):
        qdeq.TrainConfig(max_contraction=0.5, ansatz="own")


@SLOW
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_a_run_that_was_trained_with_a_ceiling_is_certified(encoding, tmp_path, capsys):
    out = str(tmp_path / "run")
    words = ["train", "--preset", "demo", "--epochs", "2", "--warmup-epochs", "0", "--quiet"]
    assert main([*words, "--encoding", encoding, "--max-contraction", "0.9", "--out", out]) == 0
    capsys.readouterr()
    assert main(["certify", out, "--json", "--samples", "60"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["contraction_fraction"] == found["unique_fraction"] == 1
    assert found["sampled_max"] <= found["factor_max"] <= 0.9
    assert found["region_factor"] <= 0.9
    assert main(["certify", out, "--samples", "60"]) == 0
    assert "one equilibrium, proven" in capsys.readouterr().out
    assert main(["certify", out, "--samples", "0"]) == 2
    assert "--samples 0: give a whole number" in capsys.readouterr().err


HALF = Bound(np.full(1, 0.5), np.full((1, 1), np.nan))
BOX = -np.ones((1, 1)), np.ones((1, 1))
KNOWN = Certificate(HALF, *BOX, HALF, *BOX, np.zeros(1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Region.samples(np.array([1 + 1j])), "x has complex numbers"),
        (lambda: Region.samples(np.ma.masked_less([1.0, -1.0], 0)), "x has masked numbers"),
        (lambda: Region.box([0.0], [1.0], least_norm=np.nan), "least_norm=nan"),
        (lambda: Region.everywhere(1, least_norm=-1), "least_norm=-1"),
        (lambda: Region.everywhere(1.5), "n_features=1.5"),
        (lambda: Region.ball([0.0], "a"), "radius='a'"),
        (lambda: certify(qdeq.paper_model(key=jax.random.key(0)), np.ones(16), rounds=1.5), "1.5"),
        (lambda: overlap_bound([1.0, -10.0]), "at least 0"),
        (lambda: overlap_bound(1.0, 0), "rotations=0"),
        (lambda: KNOWN.steps("a"), "tolerance='a'"),
        (lambda: KNOWN.sensitivity(-1.0), "error=-1.0"),
        (lambda: KNOWN.shots(0.1, confidence="a"), "confidence='a'"),
        (lambda: KNOWN.shots(0.1, evaluations="a"), "evaluations='a'"),
    ],
)
def test_what_is_no_such_number_is_named(call, words):
    with pytest.raises(qdeq.UserError, match=re.escape(words)):
        call()
