"""Dogleg and Levenberg-Marquardt: Optimistix' robust least-squares solvers with our defaults.

They minimise |f(y) - y|^2 with control of the step length: slower than Broyden or Newton, but they
come down where those wander. Their natural use is `Equilibrium(fallback=...)`.
"""

from collections.abc import Callable
from typing import Any

import lineax as lx
import optimistix as optx
from jaxtyping import Array, PyTree

from qdeq.equilibrium._common import check_tolerances
from qdeq.equilibrium.dense import DenseInverse

_DENSE = DenseInverse()
_QR = lx.QR()


def _silent(**values: Any) -> None:
    del values


class Dogleg(optx.AbstractGaussNewton):
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
        check_tolerances(rtol, atol)
        self.rtol, self.atol, self.norm = rtol, atol, norm
        self.descent = optx.DoglegDescent(linear_solver=linear_solver)
        self.search = optx.ClassicalTrustRegion()
        self.verbose = _silent


class LevenbergMarquardt(optx.AbstractGaussNewton):
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
        check_tolerances(rtol, atol)
        self.rtol, self.atol, self.norm = rtol, atol, norm
        self.descent = optx.DampedNewtonDescent(linear_solver=linear_solver)
        self.search = optx.ClassicalTrustRegion()
        self.verbose = _silent
