"""The names of solvers and adjoints, as the command line and configurations spell them."""

from collections.abc import Callable

from qdeq.equilibrium._solve import Solver
from qdeq.equilibrium.adjoints import Implicit, JacobianFree, Neumann, Shine, Unrolled
from qdeq.equilibrium.anderson import Anderson
from qdeq.equilibrium.attach import AbstractAdjoint
from qdeq.equilibrium.broyden import Broyden
from qdeq.equilibrium.homotopy import Homotopy
from qdeq.equilibrium.krasnoselskii_mann import KrasnoselskiiMann
from qdeq.equilibrium.newton import Newton
from qdeq.equilibrium.picard import Picard
from qdeq.equilibrium.trust_region import Dogleg, LevenbergMarquardt
from qdeq.errors import check_choice

SOLVERS: dict[str, Callable[..., Solver]] = {
    "picard": Picard,
    "anderson": Anderson,
    "broyden": Broyden,
    "newton": Newton,
    "homotopy": Homotopy,
    "dogleg": Dogleg,
    "levenberg-marquardt": LevenbergMarquardt,
    "krasnoselskii-mann": KrasnoselskiiMann,
}

ADJOINTS: dict[str, Callable[..., AbstractAdjoint]] = {
    "implicit": Implicit,
    "jacobian-free": JacobianFree,
    "neumann": Neumann,
    "shine": Shine,
    "unrolled": Unrolled,
}


def make_solver(name: str, *, rtol: float = 1e-5, atol: float = 1e-5) -> Solver:
    """A solver by name.

    Parameters
    ----------
    name
        A key of `SOLVERS`.
    rtol, atol
        Its tolerances.

    Raises
    ------
    UserError
        For an unknown name, listing the valid ones.
    """
    check_choice("solver", name, SOLVERS)
    return SOLVERS[name](rtol=rtol, atol=atol)


def make_adjoint(name: str) -> AbstractAdjoint:
    """An adjoint by name, with its defaults.

    Parameters
    ----------
    name
        A key of `ADJOINTS`.

    Raises
    ------
    UserError
        For an unknown name, listing the valid ones.
    """
    check_choice("adjoint", name, ADJOINTS)
    return ADJOINTS[name]()
