"""Dogleg and Levenberg-Marquardt: Optimistix' robust least-squares solvers with our defaults.

They minimise |f(y) - y|^2 with control of the step length: slower than Broyden or Newton, but they
come down where those wander. Their natural use is `Equilibrium(fallback=...)`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, PyTree

from qdeq.equilibrium._common import check_stopping
from qdeq.equilibrium.dense import DenseInverse
from qdeq.errors import check_kind

_DENSE = DenseInverse()
_QR = lx.QR()


def _silent(**values: Any) -> None:
    del values


class _AbstractTrustRegion(optx.AbstractGaussNewton):
    """Optimistix' own state is in JAX's default precision: steps are computed there, f is not."""

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> Any:
        """Optimistix', of `y` in the default precision."""
        f_struct = jax.eval_shape(_widened, f_struct)
        fn = _evaluated_like(y, fn)
        return super().init(fn, _widened(y), args, options, f_struct, aux_struct, tags)

    def step(self, fn, y, args, options, state, tags) -> tuple[Any, Any, Any]:
        """Optimistix', to an iterate in the precision of `y`."""
        fn = _evaluated_like(y, fn)
        new, state, aux = super().step(fn, _widened(y), args, options, state, tags)
        return _as(y, new), state, aux


def _check(solver: _AbstractTrustRegion, linear_solver: Any) -> None:
    check_stopping(solver)
    kind = lx.AbstractLinearSolver
    check_kind("linear_solver", linear_solver, kind, "a solver of Lineax, such as lineax.QR()")


def _widened(y: PyTree[Array]) -> PyTree[Array]:
    default = jnp.result_type(float)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, default)), y)


def _as(y: PyTree[Array], other: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda a, b: b.astype(a.dtype), y, other)


def _evaluated_like(y: PyTree[Array], fn: Callable) -> Callable:
    """`fn` of wide points, which it is given in the precision of `y`."""

    def wide(point: PyTree[Array], args: PyTree) -> tuple[PyTree[Array], Any]:
        out, aux = fn(_as(y, point), args)
        return _widened(out), aux

    return wide


class Dogleg(_AbstractTrustRegion):
    """Powell's dogleg: between steepest descent and Newton, within a trust region.

    Bounds are not honoured: the trust region takes their place.

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of Optimistix' own test; `Equilibrium` uses the two-norm.
    linear_solver
        For the Newton direction.
    """

    rtol: float
    atol: float
    norm: Callable[[PyTree], Array]
    descent: optx.AbstractDescent
    search: optx.AbstractSearch
    verbose: Callable[..., None]

    def __init__(
        self,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        *,
        norm: Callable[[PyTree], Array] = optx.two_norm,
        linear_solver: lx.AbstractLinearSolver = _DENSE,
    ) -> None:
        self.rtol, self.atol, self.norm = rtol, atol, norm
        _check(self, linear_solver)
        self.descent = optx.DoglegDescent(linear_solver=linear_solver)
        self.search = optx.ClassicalTrustRegion()
        self.verbose = _silent


class LevenbergMarquardt(_AbstractTrustRegion):
    """Damped Gauss-Newton: minimises |g + J d|^2 + lambda |d|^2 in every step.

    Bounds are not honoured: the damping takes their place.

    Parameters
    ----------
    rtol, atol
        Converged where |f(y) - y| <= atol + rtol |f(y)|.
    norm
        Norm of Optimistix' own test; `Equilibrium` uses the two-norm.
    linear_solver
        For the damped system, which has 2n rows and n columns.
    """

    rtol: float
    atol: float
    norm: Callable[[PyTree], Array]
    descent: optx.AbstractDescent
    search: optx.AbstractSearch
    verbose: Callable[..., None]

    def __init__(
        self,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        *,
        norm: Callable[[PyTree], Array] = optx.two_norm,
        linear_solver: lx.AbstractLinearSolver = _QR,
    ) -> None:
        self.rtol, self.atol, self.norm = rtol, atol, norm
        _check(self, linear_solver)
        self.descent = optx.DampedNewtonDescent(linear_solver=linear_solver)
        self.search = optx.ClassicalTrustRegion()
        self.verbose = _silent
