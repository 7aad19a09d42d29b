"""Two implementations, one algorithm: the compiled loops take the steps of the ones in JAX.

In float64 what is compared is equal up to rounding that a dozen steps have magnified, and counts
and statuses are equal. In float32 the same rounding may move a residual over a tolerance, so that
one of the two takes a step more.
"""

import functools
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeq import native
from qdeq.circuits import AngleEncoding, Circuit, MeasurementEnsemble, Operation
from qdeq.equilibrium import Broyden, Equilibrium, Homotopy, robust_inverse
from qdeq.models import QuantumModel
from qdeq.native import library
from qdeq.simulation.quadratic import RationalMap

pytestmark = pytest.mark.skipif(
    library._compiler() is None, reason="no C++ compiler: there are no kernels to compare"
)

DTYPES = [np.float32, np.float64]
B = 21  # more than a vector of either type holds, and no multiple of it


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


# --- what is solved ------------------------------------------------------------------------------


def rational(rng, dtype, q=3, spread=0.5, size=B, d=6):
    """Functions as amplitude encoding gives them: |f| <= 1; `spread` is how steep they are."""
    forms = rng.normal(size=(q, d, d))
    forms = forms + forms.swapaxes(1, 2)
    forms /= np.abs(np.linalg.eigvalsh(forms)).max(-1)[:, None, None]
    r, x = rng.normal(size=(d, q)) * spread, rng.normal(size=(size, d))
    parts = (
        np.einsum("kde,bd,be->bk", forms, x, x),
        2 * np.einsum("kde,el,bd->bkl", forms, r, x),
        np.broadcast_to(np.einsum("dm,kde,el->kml", r, forms, r), (size, q, q, q)),
        (x * x).sum(-1),
        2 * x @ r,
        np.broadcast_to(r.T @ r, (size, q, q)),
    )
    return rational_map(np.array(part, dtype) for part in parts)


def rational_map(parts):
    """The map of these numbers as they are: no power of two is taken out."""
    parts = tuple(parts)
    ones = parts[0].shape  # (samples, q)
    return RationalMap(*parts, np.zeros(ones[0], np.int32), np.zeros(ones, np.int32))


def polynomial(dtype, constant, linear, quadratic=0.0):
    """f(m) = c + b m + m'Q m for each sample; one row of `constant` per sample."""
    constant = np.atleast_2d(np.asarray(constant, float))
    size, q = constant.shape
    full = (
        constant,
        np.broadcast_to(linear, (size, q, q)),
        np.broadcast_to(quadratic, (size, q, q, q)),
        np.ones(size),
        np.zeros((size, q)),
        np.zeros((size, q, q)),
    )
    return rational_map(np.array(part, dtype) for part in full)


@functools.cache
def turns(dtype, observables=("XI", "IZ")):
    """f(m) = (sin(x_0 + (R m)_0), cos(x_1 + (R m)_1)): two wires that nothing connects."""
    circuit = Circuit(2, (Operation("RZ", (0,), angle=0.0), Operation("RZ", (1,), angle=0.0)))
    encoding = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
    model = QuantumModel(
        jnp.zeros(0, dtype),
        circuit,
        encoding=encoding,
        observables=MeasurementEnsemble(2, observables),
        reinjection=np.zeros((2, 2), dtype),
    )
    return model.prepare().bind(jnp.zeros(2, dtype))


def product(dtype, offset, slope):
    """The functions of `turns`, one per sample."""
    offset = np.atleast_2d(np.asarray(offset, dtype))
    slopes = np.broadcast_to(np.asarray(slope, dtype), (len(offset), 2, 2))
    base = jax.tree.map(
        lambda leaf: np.broadcast_to(np.asarray(leaf), (len(offset), *leaf.shape)),
        turns(dtype),
    )
    return eqx.tree_at(lambda f: (f.offset, f.slope), base, (offset, slopes))


# --- both ----------------------------------------------------------------------------------------


@dataclass
class Run:
    value: np.ndarray
    steps: np.ndarray
    status: np.ndarray
    trace: np.ndarray
    residual: np.ndarray


def solve(layer, tolerances, form, start, budget):
    rtol, atol = tolerances
    layer = eqx.tree_at(lambda layer: (layer.solver.rtol, layer.solver.atol), layer, (rtol, atol))
    if layer.fallback is not None:
        layer = eqx.tree_at(
            lambda layer: (layer.fallback.rtol, layer.fallback.atol), layer, (rtol, atol)
        )
    solution = layer(form, start, budget=budget)
    stats = solution.stats
    status = stats.result._value
    return solution.value, stats.steps, status, stats.residual_trace, stats.absolute_residual


PROGRAMS = {}


def programs(layer, arguments):
    """The compiled loop and the one in JAX, compiled once for a shape."""
    shapes = tuple((a.shape, a.dtype.name) for a in jax.tree.leaves(arguments))
    key = (layer, jax.tree.structure(arguments), shapes)
    if key not in PROGRAMS:
        over = jax.vmap(functools.partial(solve, layer), in_axes=(None, 0, 0, 0))
        kernel = jax.jit(over).lower(*arguments)
        assert "qdeq_broyden" in kernel.as_text(), "no kernel is used: nothing is compared"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "serves", lambda dtype: False)
            plain = jax.jit(lambda *given: over(*given)).lower(*arguments)
        assert "qdeq_" not in plain.as_text()
        PROGRAMS[key] = kernel.compile(), plain.compile()
    return PROGRAMS[key]


def both(layer, form, start=0.0, budget=None, rtol=1e-6, atol=1e-6):
    dtype = jax.tree.leaves(form)[0].dtype
    size, q = len(jax.tree.leaves(form)[0]), form_size(form)
    start = np.array(np.broadcast_to(start, (size, q)), dtype)
    budget = layer.max_steps if budget is None else budget
    budget = np.array(np.broadcast_to(budget, (size,)), np.int32)
    tolerances = (np.asarray(rtol, dtype), np.asarray(atol, dtype))
    arguments = (tolerances, form, start, budget)
    return tuple(
        Run(*map(np.asarray, program(*arguments))) for program in programs(layer, arguments)
    )


def form_size(form):
    return form.linear.shape[-1] if isinstance(form, RationalMap) else form.slope.shape[-1]


def assert_same(kernel, plain, rtol=1e-6, atol=1e-9):
    np.testing.assert_array_equal(kernel.status, plain.status)
    np.testing.assert_array_equal(kernel.steps, plain.steps)
    np.testing.assert_allclose(kernel.value, plain.value, rtol=rtol, atol=atol)
    np.testing.assert_allclose(kernel.trace, plain.trace, rtol=rtol, atol=atol)
    np.testing.assert_allclose(kernel.residual, plain.residual, rtol=rtol, atol=atol)


PLAIN = Equilibrium(Broyden(), max_steps=12, stall_steps=4)
FALLBACK = Equilibrium(Broyden(), max_steps=4, fallback=Homotopy(), fallback_steps=40)
ONE_STEP = Equilibrium(Broyden(), max_steps=1, fallback=Homotopy(), fallback_steps=1)
# The names that statuses have as numbers.
CONVERGED, OUT_OF_STEPS, STALLED, NONFINITE = range(4)


seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [PLAIN, FALLBACK], ids=["Broyden", "with the homotopy"])
@few
@given(seed=seeds, spread=st.floats(0, 2), exponent=st.integers(-10, -1))
def test_random_systems_take_the_same_steps(layer, seed, spread, exponent):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        start, budget = rng.uniform(-1, 1, (B, 3)), rng.integers(0, layer.max_steps + 1, B)
        form = rational(rng, np.float64, spread=spread)
        tolerance = 10.0**exponent
        assert_same(*both(layer, form, start, budget, tolerance, tolerance))
        offset, slope = rng.uniform(-9, 9, (B, 2)), rng.normal(size=(2, 2)) * 2 * spread
        form = product(np.float64, offset, slope)
        assert_same(*both(layer, form, start[:, :2], budget, tolerance, tolerance))


@pytest.mark.parametrize("layer", [PLAIN, FALLBACK], ids=["Broyden", "with the homotopy"])
@few
@given(seed=seeds, spread=st.floats(0, 0.4))
def test_random_systems_end_alike_in_float32(layer, seed, spread):
    rng = np.random.default_rng(seed)
    kernel, plain = both(
        layer, rational(rng, np.float32, spread=spread), rng.uniform(-1, 1, (B, 3)), rtol=1e-4
    )
    np.testing.assert_array_equal(kernel.status, plain.status)
    assert np.abs(kernel.steps - plain.steps).max() <= 1
    done = kernel.status == CONVERGED
    # Two points within the tolerance of 1e-4, of functions with slopes up to about 0.9.
    np.testing.assert_allclose(kernel.value[done], plain.value[done], atol=2e-3)


@pytest.mark.parametrize("q", [1, 2, 7, 20])
@pytest.mark.slow
def test_states_of_every_size_take_the_same_steps(q, x64):
    rng = np.random.default_rng(q)
    form = rational(rng, np.float64, q=q, spread=0.3, d=q + 3)
    assert_same(*both(FALLBACK, form, rng.uniform(-1, 1, (B, q)), rtol=1e-9, atol=1e-9))


# --- systems that are special --------------------------------------------------------------------


def test_an_equilibrium_at_which_the_slope_is_one_is_reached(x64):
    """I - J is singular there, and so are the homotopy's systems near it: sin'(0) = 1."""
    layer = Equilibrium(Broyden(), max_steps=1, fallback=Homotopy(), fallback_steps=100)
    for r in (0.2, 0.8, 1.4):
        form = product(np.float64, np.tile([[0.0, 0.7], [0.0, -0.3]], (3, 1)), np.diag([1.0, r]))
        kernel, plain = both(layer, form, rtol=1e-10, atol=1e-10)
        assert (kernel.status == CONVERGED).all() and kernel.steps.max() <= 20
        assert_same(kernel, plain)


def test_moves_whose_squares_are_no_numbers_are_learnt_from_alike():
    """Slopes of -2 and 1.5, which only a method that learns them gets to 0 with."""
    form = polynomial(np.float32, np.zeros((2, 2)), np.diag([-2.0, 1.5]))
    start = np.array([[1e-21, 2e-21], [0.1, 0.2]])
    kernel, plain = both(PLAIN, form, start, rtol=0, atol=1e-27)
    assert (kernel.status == CONVERGED).all() and (plain.status == CONVERGED).all()
    assert np.abs(kernel.steps - plain.steps).max() <= 1


@pytest.mark.parametrize("c", [0.3, 0.9])
def test_a_branch_point_on_the_way_is_passed_alike(c, dtype):
    """f = (sin(y_0 / s), c) from 0: the curve is a line, and where it has been followed to s its
    system is singular."""
    first = 0.2 / np.hypot(1, c)  # the s of the first step
    form = product(dtype, [[0.0, np.arccos(c)]], np.diag([1 / first, 0.0]))
    kernel, plain = both(FALLBACK, form, budget=0, rtol=1e-5, atol=1e-5)
    assert kernel.status[0] == plain.status[0] == CONVERGED
    assert kernel.steps[0] == plain.steps[0]
    np.testing.assert_allclose(kernel.value, plain.value, atol=1e-4)


SINGULAR = {
    "zero": np.zeros((3, 3)),
    "one": np.ones((3, 3)),
    "a line of zeros": np.diag([1.0, 0.0, 2.0]),
    "two equal rows": np.array([[1.0, 2, 3], [1, 2, 3], [0, 1, 1]]),
    "denormal": np.full((3, 3), 1e-310),
    "tiny": 1e-30 * np.array([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]]),
    "huge": 1e30 * np.array([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]]),
    "not a number": np.diag([1.0, np.nan, 1.0]),
    "infinite": np.diag([1.0, np.inf, 1.0]),
}


def test_inverses_and_verdicts_agree(dtype):
    a = jnp.asarray(np.stack(list(SINGULAR.values())), dtype)
    invert = jax.vmap(robust_inverse)
    inverse, regular = jax.jit(invert)(a)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "serves", lambda dtype: False)
        expected, verdict = jax.jit(lambda a: invert(a))(a)
    np.testing.assert_array_equal(regular, verdict)
    np.testing.assert_array_equal(regular, [name in ("tiny", "huge") for name in SINGULAR])
    scale = np.abs(np.asarray(expected)).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(inverse / scale, expected / scale, atol=1e-5)


SLOPES = {"zero": 0.0, "contracting": 0.5, "one": 1.0, "minus one": -1.0, "expanding": 3.0}


@pytest.mark.slow
@pytest.mark.parametrize("layer", [PLAIN, FALLBACK, ONE_STEP], ids=["Broyden", "both", "one step"])
def test_linear_systems_of_every_kind_take_the_same_steps(layer, x64):
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(2, 2))
    slopes = np.stack([*(slope * np.eye(2) for slope in SLOPES.values()), mixed])
    constants = np.array([[0.3, -0.2]] * len(slopes))
    for constant in (constants, 0 * constants):  # the second starts at an equilibrium
        form = polynomial(np.float64, constant, slopes)
        for budget in (0, 1, None):
            assert_same(*both(layer, form, budget=budget))


BAD = {
    "NaN in the start": lambda form, start: (form, start * np.nan),
    "an infinite start": lambda form, start: (form, start + np.inf),
    "NaN in the function": lambda form, start: (
        eqx.tree_at(lambda f: f.constant, form, form.constant * np.nan),
        start,
    ),
    "an infinite function": lambda form, start: (
        eqx.tree_at(lambda f: f.constant, form, form.constant + np.inf),
        start,
    ),
    "f overflows": lambda form, start: (
        eqx.tree_at(lambda f: f.linear, form, form.linear * np.finfo(start.dtype).max),
        start + 4,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_finite_is_said_by_both(name, dtype):
    form = polynomial(dtype, [[0.3, -0.2]] * 6, 0.5 * np.eye(2))
    form, start = BAD[name](form, np.full((6, 2), 0.1, dtype))
    for layer in (PLAIN, FALLBACK):
        # Tolerances that are infinite times an infinite f.
        kernel, plain = both(layer, form, start, rtol=1e-3)
        np.testing.assert_array_equal(kernel.status, NONFINITE)
        assert_same(kernel, plain)


def test_a_residual_too_small_to_be_squared_is_measured_nonetheless(dtype):
    """The squares of a state of 1e-30 are zero in float32, and it has not converged for that."""
    rng = np.random.default_rng(1)
    constants, slopes = rng.uniform(-1, 1, (6, 2)), rng.uniform(-0.4, 0.4, (6, 2, 2))
    for exponent in (-60, -90) if dtype is np.float32 else (-500, -900):
        unit = 2.0**exponent
        form = polynomial(dtype, constants * unit, slopes)
        kernel, plain = both(PLAIN, form, rtol=1e-3, atol=0)
        np.testing.assert_array_equal(kernel.status, plain.status)
        np.testing.assert_array_equal(kernel.steps, plain.steps)
        value = kernel.value.astype(float) / unit
        image = constants + np.einsum("bkl,bl->bk", slopes, value)
        residual = np.linalg.norm(image - value, axis=1)
        np.testing.assert_allclose(kernel.residual / unit, residual, rtol=0.05, atol=1e-6)
        np.testing.assert_array_equal(
            kernel.status == CONVERGED, residual <= 1e-3 * np.linalg.norm(image, axis=1)
        )
        assert kernel.steps.min() > 1 and (kernel.status == CONVERGED).any()


def test_of_points_that_are_equally_good_the_first_is_kept(x64):
    """f(m) = 1 + m: the residual is 1 wherever it is measured."""
    form = polynomial(np.float64, [[1.0, 0.0]] * 3, np.eye(2))
    kernel, plain = both(PLAIN, form, start=[0.25, 0.5])
    np.testing.assert_array_equal(kernel.value, [[0.25, 0.5]] * 3)
    np.testing.assert_array_equal(kernel.status, STALLED)
    assert_same(kernel, plain)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17])
def test_a_batch_of_any_size_gives_what_a_larger_one_does(size, x64):
    form = rational(np.random.default_rng(5), np.float64)
    layer = Equilibrium(Broyden(), max_steps=4, fallback=Homotopy(), fallback_steps=40)

    def run(form):
        solution = layer(form, jnp.zeros(3))
        return solution.value, solution.jacobian, solution.stats.steps, form(solution.value)

    run_all = jax.jit(jax.vmap(run))
    part = jax.tree.map(lambda leaf: leaf[:size], form)
    for found, expected in zip(run_all(part), run_all(form), strict=True):
        np.testing.assert_array_equal(found, expected[:size])


# --- elementary functions ------------------------------------------------------------------------


def sines(dtype, angles):
    """sin and cos of angles by the kernels."""
    form = product(dtype, np.stack([angles, angles], -1), np.zeros((2, 2)))
    evaluate = jax.jit(jax.vmap(lambda form, m: form(m)))
    arguments = form, np.zeros((len(angles), 2), dtype)
    assert "qdeq_evaluate" in evaluate.lower(*arguments).as_text()
    return np.asarray(evaluate(*arguments)).T


def angles_of_every_size(dtype):
    limits, rng = np.finfo(dtype), np.random.default_rng(0)
    smallest = np.log10(float(limits.smallest_subnormal))
    exponents = rng.uniform(smallest, np.log10(float(limits.max)), 3000)
    ordinary = rng.uniform(-20_000, 20_000, 1000)
    halves = np.arange(1, 1000) * np.pi / 2
    special = [0.0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 8192]
    with np.errstate(under="ignore"):
        return np.concatenate(
            [10.0**exponents, -(10.0**exponents), ordinary, halves, special]
        ).astype(dtype)


def test_sines_are_numpys_at_every_finite_angle(dtype):
    angles = angles_of_every_size(dtype)
    # Taken in the widest type: NumPy's own float32 sine is off by up to 2e-7.
    wide = angles.astype(np.longdouble if dtype is np.float64 else np.float64)
    sine, cosine = sines(dtype, angles)
    error = 1e-7 if dtype is np.float32 else 3e-16
    np.testing.assert_allclose(sine, np.sin(wide), rtol=0, atol=error)
    np.testing.assert_allclose(cosine, np.cos(wide), rtol=0, atol=error)


def test_an_angle_that_is_not_finite_gives_nan_and_to_no_other_lane(dtype):
    angles = np.linspace(-3, 3, 40).astype(dtype)
    expected = sines(dtype, angles)
    for value in (np.nan, np.inf, -np.inf, np.finfo(dtype).max, 1e5):
        mixed = angles.copy()
        mixed[7] = value
        found = sines(dtype, mixed)
        np.testing.assert_array_equal(np.delete(found, 7, 1), np.delete(expected, 7, 1))
        assert np.isnan(found[:, 7]).all() == (not np.isfinite(value))


def test_turns_inside_the_loop_may_be_large_too(dtype):
    """slope m, and not only the offset, beyond any fast sine's range; 2^40 is exact."""
    form = product(dtype, np.zeros((9, 2)), np.diag([2.0**40, 2.0**40]))
    m = np.full((9, 2), 0.5, dtype)
    value, jacobian = jax.jit(jax.vmap(lambda form, m: form.linearise(m)))(form, m)
    angle = 2.0**39
    np.testing.assert_allclose(value[3], [np.sin(angle), np.cos(angle)], atol=2e-7)
    expected = 2.0**40 * np.diag([np.cos(angle), -np.sin(angle)])
    np.testing.assert_allclose(jacobian[3], expected, atol=2e-7 * 2.0**40)
