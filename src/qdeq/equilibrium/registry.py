"""The names of solvers and adjoints, as the command line and configurations spell them."""

import re
from collections.abc import Callable
from typing import Any

from qdeq.equilibrium.adjoints import Implicit, JacobianFree, Neumann, Shine, Unrolled
from qdeq.equilibrium.anderson import Anderson
from qdeq.equilibrium.attach import AbstractDerivative, check_adjoint
from qdeq.equilibrium.broyden import Broyden
from qdeq.equilibrium.homotopy import Homotopy
from qdeq.equilibrium.krasnoselskii_mann import KrasnoselskiiMann
from qdeq.equilibrium.newton import Newton
from qdeq.equilibrium.picard import Picard
from qdeq.equilibrium.solver import Solver, check_solver
from qdeq.equilibrium.trust_region import Dogleg, LevenbergMarquardt
from qdeq.errors import check_choice


def _by_name(*kinds: type) -> dict[str, Any]:
    """Classes by their names, in words: `JacobianFree` is "jacobian-free"."""
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in kinds}


SOLVERS: dict[str, Callable[..., Solver]] = _by_name(
    *(Picard, Anderson, Broyden, Newton, Homotopy, Dogleg, LevenbergMarquardt, KrasnoselskiiMann)
)
ADJOINTS: dict[str, Callable[..., AbstractDerivative]] = _by_name(
    *(Implicit, JacobianFree, Neumann, Shine, Unrolled)
)


def make_solver(name: str | Solver, *, rtol: float = 1e-5, atol: float = 1e-5) -> Solver:
    """A solver by name; a solver passes as it is, with its own tolerances.

    Parameters
    ----------
    name
        A key of `SOLVERS`, or a solver.
    rtol, atol
        Tolerances of one by name.

    Raises
    ------
    UserError
        For an unknown name, listing the valid ones, or something that is no solver.
    """
    if not isinstance(name, str):
        check_solver("solver", name)
        return name
    check_choice("solver", name, SOLVERS)
    return SOLVERS[name](rtol=rtol, atol=atol)


def make_adjoint(name: str | AbstractDerivative) -> AbstractDerivative:
    """An adjoint by name, with its defaults; an adjoint passes as it is.

    Parameters
    ----------
    name
        A key of `ADJOINTS`, or an adjoint.

    Raises
    ------
    UserError
        For an unknown name, listing the valid ones, or something that is no adjoint.
    """
    if not isinstance(name, str):
        check_adjoint("adjoint", name)
        return name
    check_choice("adjoint", name, ADJOINTS)
    return ADJOINTS[name]()
