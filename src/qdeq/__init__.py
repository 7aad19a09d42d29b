"""Quantum Deep Equilibrium Models: parametrised circuits at their fixed point.

Public names load on first use, so that `import qdeq` and the command line start at once.
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from ._lazy import attach as _attach

if TYPE_CHECKING:
    from .circuits import AmplitudeEncoding as AmplitudeEncoding
    from .circuits import AngleEncoding as AngleEncoding
    from .circuits import Circuit as Circuit
    from .circuits import MeasurementEnsemble as MeasurementEnsemble
    from .circuits import Operation as Operation
    from .circuits import hardware_efficient as hardware_efficient
    from .circuits import paper_angle_encoding as paper_angle_encoding
    from .circuits import paper_ansatz as paper_ansatz
    from .circuits import reuploading as reuploading
    from .circuits import strongly_entangling as strongly_entangling
    from .circuits import xyz_of_every_wire as xyz_of_every_wire
    from .circuits import z_of_every_wire as z_of_every_wire
    from .circuits import z_strings as z_strings
    from .equilibrium import Anderson as Anderson
    from .equilibrium import Broyden as Broyden
    from .equilibrium import Direct as Direct
    from .equilibrium import Dogleg as Dogleg
    from .equilibrium import Equilibrium as Equilibrium
    from .equilibrium import Implicit as Implicit
    from .equilibrium import JacobianFree as JacobianFree
    from .equilibrium import LevenbergMarquardt as LevenbergMarquardt
    from .equilibrium import Neumann as Neumann
    from .equilibrium import Newton as Newton
    from .equilibrium import Picard as Picard
    from .equilibrium import Shine as Shine
    from .equilibrium import Unrolled as Unrolled
    from .errors import UserError as UserError
    from .interop.sklearn import QDEQClassifier as QDEQClassifier
    from .models import Classifier as Classifier
    from .models import QuantumModel as QuantumModel
    from .models import paper_model as paper_model

__version__ = _version("qdeq")

_HOMES = {
    "circuits": (
        "AmplitudeEncoding AngleEncoding Circuit MeasurementEnsemble Operation hardware_efficient "
        "paper_angle_encoding paper_ansatz reuploading strongly_entangling xyz_of_every_wire "
        "z_of_every_wire z_strings"
    ),
    "equilibrium": (
        "Anderson Broyden Direct Dogleg Equilibrium Implicit JacobianFree LevenbergMarquardt "
        "Neumann Newton Picard Shine Unrolled"
    ),
    "errors": "UserError",
    "interop.sklearn": "QDEQClassifier",
    "models": "Classifier QuantumModel paper_model",
}
_NAMES = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_NAMES)
__getattr__ = _attach(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
