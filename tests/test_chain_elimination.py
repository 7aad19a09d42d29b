"""Systems of chains both ways: the compiled elimination, the one in JAX, and dense NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq import native
from qdeq.equilibrium.networks import Chain
from qdeq.equilibrium.networks.chains import CyclicReduction, RingFactors
from qdeq.equilibrium.networks.systems import solver_of, transposed_solver_of
from qdeq.equilibrium.networks.wired import Jacobian
from qdeq.native import library

needs_kernels = pytest.mark.skipif(
    library._compiler() is None, reason="no C++ compiler: there are no kernels to compare"
)
# Sites, states and inputs of a cell; whether the ends meet. Blocks have min(states, inputs) rows.
SHAPES = [
    *((2, 3, 2, False), (12, 9, 6, False), (7, 5, 2, True)),
    *(
        pytest.param(shape, marks=pytest.mark.slow)
        for shape in [
            *((1, 2, 3, False), (6, 1, 1, False), (9, 4, 4, False), (5, 33, 3, False)),
            *((3, 2, 3, True), (8, 16, 16, True)),
        ]
    ),
]


@pytest.fixture(params=[np.float32, np.float64], ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def random_system(shape, dtype, batch=(), size=0.8):
    """Slopes, messages and a right-hand side, |J| about `size`."""
    sites, q, a, ring = shape
    rng = np.random.default_rng(sites + 10 * q + 100 * a)
    slopes = rng.normal(size=(*batch, sites, q, a)) * size / np.sqrt(q)
    messages = rng.normal(size=(2, a, q)) / np.sqrt(2 * a)
    right = rng.normal(size=(*batch, sites, q))
    arrays = tuple(jnp.asarray(part, dtype) for part in (slopes, messages, right))
    return Chain(sites, "both", ring=ring), *arrays


def dense_system(wiring, slopes, messages, scale, transposed):
    """The matrix, block by block in NumPy."""
    slopes, messages = np.asarray(slopes, float), np.asarray(messages, float)
    n, q, _ = slopes.shape
    jacobian = np.zeros((n, q, n, q))
    for site in range(n):
        for kind, sender in enumerate((site - 1, site + 1)):
            if wiring.ring or 0 <= sender < n:
                jacobian[site, :, sender % n] += slopes[site] @ messages[kind]
    jacobian = jacobian.reshape(n * q, n * q)
    return scale * np.eye(n * q) - (jacobian.T if transposed else jacobian)


def solved(wiring, transposed, slopes, messages, right, shift=0.0):
    jacobian = Jacobian(slopes, messages, wiring)
    solve = transposed_solver_of(jacobian) if transposed else solver_of(jacobian, shift)
    return solve(right)


def both_forms(function, *arguments):
    """What the kernel gives, and what JAX gives."""
    kernel = jax.jit(function).lower(*arguments)
    assert "qdeq_chain" in kernel.as_text(), "no kernel is used: nothing is compared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "serves", lambda dtype: False)
        plain = jax.jit(lambda *given: function(*given)).lower(*arguments)
    assert "qdeq_" not in plain.as_text()
    return kernel.compile()(*arguments), plain.compile()(*arguments)


@pytest.mark.parametrize("transposed", [False, True], ids=["", "transposed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@needs_kernels
def test_the_kernel_solves_what_numpy_solves(shape, transposed, dtype):
    wiring, slopes, messages, right = random_system(shape, dtype, batch=(5,))
    shift = 0.0 if transposed else 0.25
    solve = jax.jit(
        jax.vmap(lambda c, b: solved(wiring, transposed, c, messages, b, shift)),
    )
    found = solve(slopes, right)
    for i in range(5):
        matrix = dense_system(wiring, slopes[i], messages, 1 + shift, transposed)
        expected = np.linalg.solve(matrix, np.asarray(right[i], float).reshape(-1))
        # Rounding, times a condition of up to 1e3.
        tolerance = 1e3 * float(np.finfo(dtype).eps) * np.abs(expected).max()
        np.testing.assert_allclose(found[i].reshape(-1), expected, atol=tolerance)


@pytest.mark.parametrize("shape", [(6, 3, 2, False), (6, 2, 3, False), (4, 2, 3, True)], ids=str)
@needs_kernels
def test_kernel_and_jax_agree_on_singular_blocks_and_on_what_is_not_finite(shape, x64):
    """A singular pivot block gets the same regularised inverse, and no sample touches another."""
    wiring, slopes, _, right = random_system(shape, np.float64, batch=(4,))
    q, a = shape[1:3]
    # The first sites of the first sample cancel: 1 - 1 is left of the second one's block.
    messages = jnp.stack([jnp.eye(a, q), jnp.eye(a, q)])
    slopes = slopes.at[0, :2].set(jnp.eye(q, a)).at[3, 1, 0, 0].set(jnp.nan)
    of = jax.vmap(lambda c, b: solved(wiring, False, c, messages, b))
    found, expected = both_forms(of, slopes, right)
    assert np.isfinite(found[:3]).all()
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-9, atol=1e-9)


@needs_kernels
def test_messages_may_differ_by_sample_and_batches_nest(x64):
    wiring, slopes, messages, right = random_system((6, 3, 2, False), np.float64, batch=(2, 11))
    many = jnp.stack([messages, -0.5 * messages])
    solve = functools.partial(solved, wiring, True)
    by_sample = jax.vmap(jax.vmap(solve, in_axes=(0, None, 0)), in_axes=(0, 0, 0))
    found, expected = both_forms(by_sample, slopes, many, right)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    spread = jnp.broadcast_to(many[:, None], (2, 11, *messages.shape))
    each = jax.jit(jax.vmap(jax.vmap(solve)))(slopes, spread, right)
    np.testing.assert_allclose(each, expected, atol=1e-12)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9])
@needs_kernels
def test_a_sample_does_not_depend_on_how_many_there_are(size, x64):
    wiring, slopes, messages, right = random_system((5, 3, 2, False), np.float64, batch=(20,))
    solve = jax.jit(jax.vmap(lambda c, b: solved(wiring, False, c, messages, b)))
    all_of_them = solve(slopes, right)
    np.testing.assert_array_equal(solve(slopes[:size], right[:size]), all_of_them[:size])


@pytest.mark.parametrize(("ring", "transposed"), [(False, True), (True, False)])
@needs_kernels
def test_a_long_chain_is_eliminated_piece_by_piece(ring, transposed, x64):
    # 32 MiB hold the matrices of about 6,000 such sites: two pieces, of each end of a line.
    sites = 9_000 if ring else 13_000
    wiring, slopes, messages, right = random_system((sites, 9, 9, ring), np.float64, size=0.6)
    found = solved(wiring, transposed, slopes, messages, right)
    jacobian = Jacobian(slopes, messages, wiring)
    push = jacobian.push
    if transposed:
        back = jax.linear_transpose(push, right)
        push = lambda x: back(x)[0]  # noqa: E731
    np.testing.assert_allclose(found - push(found), right, atol=1e-12)


@needs_kernels
def test_a_zero_block_on_the_way_is_mended_by_a_second_solve(x64):
    """Elimination pivots within a block: what a nearly singular one costs comes back."""
    assert native.serves(np.float64)
    wiring = Chain(4, "both")
    messages = jnp.stack([jnp.eye(2), jnp.eye(2)])
    slopes = jnp.zeros((4, 2, 2)).at[0].set(jnp.eye(2)).at[1].set((1 - 1e-9) * jnp.eye(2))
    right = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)))
    matrix = dense_system(wiring, slopes, messages, 1.0, False)
    expected = np.linalg.solve(matrix, right.reshape(-1))

    def solve(refined):
        return native.solve_chain(
            slopes, messages, right, jnp.asarray(1.0), ring=False, transposed=False, refined=refined
        )

    once, twice = (
        np.linalg.norm(matrix @ np.ravel(solve(r)) - np.ravel(right)) for r in (False, True)
    )
    scale = np.linalg.norm(expected)
    assert twice <= once
    assert twice < 1e-14 * scale


@pytest.mark.parametrize(
    ("sites", "ring"),
    [(13, True), *(pytest.param(n, False, marks=pytest.mark.slow) for n in (1, 2, 3, 8, 13))],
)
def test_cyclic_reduction_solves_what_numpy_solves(sites, ring, x64):
    """What accelerators do in the place of a loop over sites."""
    wiring, slopes, messages, right = random_system((sites, 3, 4, ring), np.float64)
    blocks = Jacobian(slopes, messages, wiring).blocks()

    @jax.jit
    def found(blocks, right):
        before, after = blocks
        if not ring:
            return CyclicReduction.of(before, after, 0.25).solve(right)
        factors = RingFactors.of(before, after, 0.25)
        assert isinstance(factors.line, CyclicReduction)
        return factors.solve(right)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        x = found(blocks, right)
    matrix = dense_system(wiring, slopes, messages, 1.25, False)
    np.testing.assert_allclose(np.ravel(x), np.linalg.solve(matrix, np.ravel(right)), atol=1e-11)


def test_cyclic_reduction_gives_no_nan_where_a_block_is_singular(x64):
    before = jnp.stack([jnp.eye(2)] * 4)
    solve = jax.jit(lambda shift: CyclicReduction.of(before, before, shift).solve(jnp.ones((4, 2))))
    for shift in (0.0, -1.0):  # in the second round; in the first
        assert np.isfinite(solve(shift)).all()
