"""Inverses of tiny matrices against NumPy, and what happens to singular ones."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from qdeq.equilibrium import DenseInverse, robust_inverse


def random_matrices(n, batch=20):
    return np.random.default_rng(n).normal(size=(batch, n, n))


@pytest.mark.parametrize("n", [4, 10, 40])  # 40: the LAPACK path
def test_inverses_equal_numpys_and_tiny_pivots_are_avoided(n, x64):
    matrices = random_matrices(n)
    matrices[0] = np.eye(n)[::-1]  # no pivot where elimination without swaps would look
    found, regular = jax.jit(jax.vmap(robust_inverse))(jnp.asarray(matrices))
    expected = np.linalg.inv(matrices)
    # Relative to the largest entry, times the condition number of up to about 1e4.
    error = np.abs(found - expected).max((1, 2)) / np.abs(expected).max((1, 2))
    assert bool(jnp.all(regular)) and error.max() < 1e-11


def test_one_matrix_needs_no_batch():
    found, regular = robust_inverse(jnp.array([[0.0, 2.0], [4.0, 0.0]]))
    np.testing.assert_array_equal(found, [[0.0, 0.25], [0.5, 0.0]])
    assert bool(regular)


def test_float32_is_as_accurate_as_lapack():
    matrices = random_matrices(4, batch=256).astype(np.float32)
    exact = np.linalg.inv(matrices.astype(np.float64))
    scale = np.abs(exact).max((1, 2))
    found = np.asarray(jax.jit(jax.vmap(robust_inverse))(jnp.asarray(matrices))[0])
    lapack = np.asarray(jnp.linalg.inv(jnp.asarray(matrices)))
    ours, theirs = (np.abs(a - exact).max((1, 2)) / scale for a in (found, lapack))
    assert np.median(ours) < 2 * np.median(theirs) and ours.max() < 4 * theirs.max()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("n", [4, 40])  # 40: LAPACK, which has no half precision
def test_half_precision_is_inverted_as_far_as_it_goes(n, dtype):
    matrix = jnp.asarray(np.eye(n) + 0.1 * random_matrices(n, 1)[0] / np.sqrt(n), dtype)
    found, regular = robust_inverse(matrix)
    assert found.dtype == dtype and bool(regular)
    expected = np.linalg.inv(np.asarray(matrix, np.float64))
    np.testing.assert_allclose(
        np.asarray(found, np.float64), expected, atol=4 * float(jnp.finfo(dtype).eps)
    )


def test_a_singular_matrix_gets_a_regularised_inverse_and_a_nonfinite_one_the_identity():
    singular = jnp.diag(jnp.array([2.0, 0.0, 4.0]))
    matrices = jnp.stack([singular, jnp.full((3, 3), jnp.nan), jnp.zeros((3, 3)), 2 * jnp.eye(3)])
    found, regular = jax.jit(jax.vmap(robust_inverse))(matrices)
    np.testing.assert_array_equal(regular, [False, False, False, True])
    np.testing.assert_allclose(found[0], np.diag([0.5, 0, 0.25]), atol=1e-4)
    np.testing.assert_array_equal(found[1], np.eye(3))
    assert bool(jnp.all(jnp.isfinite(found[2])))
    np.testing.assert_array_equal(found[3], 0.5 * np.eye(3))


@pytest.mark.parametrize("n", [2, 5, 40])
def test_a_matrix_in_units_far_apart_is_not_taken_for_singular(n):
    plain = np.eye(n) - 0.5 * random_matrices(n)[0] / np.sqrt(n)
    units = 2.0 ** np.linspace(-13, 13, n).round()
    change = units / units[:, None]
    plain = np.stack([plain, np.triu(plain), np.tril(plain)])
    found, regular = jax.jit(jax.vmap(robust_inverse))(jnp.asarray(plain * change, jnp.float32))
    assert regular.all()
    np.testing.assert_allclose(found / change, np.linalg.inv(plain), atol=1e-4)
    # One that is singular in any units still is.
    plain[0, 0] = plain[0, 1]
    found, regular = robust_inverse(jnp.asarray(plain[0] * change, jnp.float32))
    assert not regular and jnp.isfinite(found).all()


@pytest.mark.parametrize("check_vma", [True, False])
def test_matrices_are_inverted_inside_shard_map(check_vma):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), "d")
    spread = jax.sharding.PartitionSpec("d")
    matrices = jnp.array([[[1.0, 1e8], [2e-9, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    of = jax.shard_map(
        jax.vmap(robust_inverse), mesh=mesh, in_specs=spread, out_specs=spread, check_vma=check_vma
    )
    assert jax.jit(of)(matrices)[1].tolist() == [True, False]


def test_derivatives_of_the_inverse(x64):
    a, da = (jnp.asarray(m) for m in random_matrices(4, batch=2))
    _, tangent = jax.jvp(lambda a: robust_inverse(a)[0], (a,), (da,))
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(tangent, -inverse @ da @ inverse, rtol=1e-10)


def test_dense_inverse_is_a_lineax_solver_with_transposes(x64):
    a = jnp.asarray(random_matrices(4)[0])
    operator = lx.MatrixLinearOperator(a)
    vector = jnp.arange(4.0)
    solve = lambda v: lx.linear_solve(operator, v, DenseInverse()).value  # noqa: E731
    np.testing.assert_allclose(solve(vector), np.linalg.solve(a, vector), rtol=1e-10)
    gradient = jax.grad(lambda v: solve(v)[0])(vector)
    np.testing.assert_allclose(gradient, np.linalg.inv(a)[0], rtol=1e-10)
    rectangular = lx.MatrixLinearOperator(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="square"):
        lx.linear_solve(rectangular, jnp.ones(3), DenseInverse())
