"""Quantum Deep Equilibrium Models: parametrised circuits at their fixed point.

Public names load on first use, so that `import qdeq` and the command line start at once.
"""

from typing import TYPE_CHECKING

from qdeq._lazy import attach as _attach
from qdeq._threads import allow_callbacks as _allow_callbacks

_allow_callbacks()

if TYPE_CHECKING:
    from qdeq._version import __version__ as __version__
    from qdeq.circuits import AmplitudeEncoding as AmplitudeEncoding
    from qdeq.circuits import AngleEncoding as AngleEncoding
    from qdeq.circuits import Circuit as Circuit
    from qdeq.circuits import MeasuredCircuit as MeasuredCircuit
    from qdeq.circuits import MeasurementEnsemble as MeasurementEnsemble
    from qdeq.circuits import NoiseModel as NoiseModel
    from qdeq.circuits import Operation as Operation
    from qdeq.circuits import hardware_efficient as hardware_efficient
    from qdeq.circuits import paper_angle_encoding as paper_angle_encoding
    from qdeq.circuits import paper_ansatz as paper_ansatz
    from qdeq.circuits import parse_noise as parse_noise
    from qdeq.circuits import reuploading as reuploading
    from qdeq.circuits import strongly_entangling as strongly_entangling
    from qdeq.circuits import table_circuit as table_circuit
    from qdeq.circuits import xyz_of_every_wire as xyz_of_every_wire
    from qdeq.circuits import z_of_every_wire as z_of_every_wire
    from qdeq.circuits import z_strings as z_strings
    from qdeq.equilibrium import Anderson as Anderson
    from qdeq.equilibrium import Broyden as Broyden
    from qdeq.equilibrium import Direct as Direct
    from qdeq.equilibrium import Dogleg as Dogleg
    from qdeq.equilibrium import Equilibrium as Equilibrium
    from qdeq.equilibrium import Homotopy as Homotopy
    from qdeq.equilibrium import Implicit as Implicit
    from qdeq.equilibrium import JacobianFree as JacobianFree
    from qdeq.equilibrium import KrasnoselskiiMann as KrasnoselskiiMann
    from qdeq.equilibrium import LevenbergMarquardt as LevenbergMarquardt
    from qdeq.equilibrium import Neumann as Neumann
    from qdeq.equilibrium import Newton as Newton
    from qdeq.equilibrium import Picard as Picard
    from qdeq.equilibrium import Shine as Shine
    from qdeq.equilibrium import Unrolled as Unrolled
    from qdeq.equilibrium.networks import Alone as Alone
    from qdeq.equilibrium.networks import Cells as Cells
    from qdeq.equilibrium.networks import Chain as Chain
    from qdeq.equilibrium.networks import EdgeInjection as EdgeInjection
    from qdeq.equilibrium.networks import Graph as Graph
    from qdeq.equilibrium.networks import Grid as Grid
    from qdeq.equilibrium.networks import NetworkEquilibrium as NetworkEquilibrium
    from qdeq.errors import UserError as UserError
    from qdeq.interop.forecaster import QDEQForecaster as QDEQForecaster
    from qdeq.interop.sequences import QDEQSequenceClassifier as QDEQSequenceClassifier
    from qdeq.interop.sequences import QDEQSequenceRegressor as QDEQSequenceRegressor
    from qdeq.interop.sklearn import QDEQClassifier as QDEQClassifier
    from qdeq.interop.sklearn import QDEQRegressor as QDEQRegressor
    from qdeq.models import Classifier as Classifier
    from qdeq.models import Injection as Injection
    from qdeq.models import ModelFunction as ModelFunction
    from qdeq.models import Network as Network
    from qdeq.models import QuantumEquilibrium as QuantumEquilibrium
    from qdeq.models import QuantumModel as QuantumModel
    from qdeq.models import Regressor as Regressor
    from qdeq.models import paper_model as paper_model
    from qdeq.runs import Run as Run
    from qdeq.runs import load as load
    from qdeq.runs import train as train
    from qdeq.training import TrainConfig as TrainConfig

_HOMES = {
    "_version": "__version__",
    "circuits": (
        "AmplitudeEncoding AngleEncoding Circuit MeasuredCircuit MeasurementEnsemble NoiseModel "
        "Operation hardware_efficient paper_angle_encoding paper_ansatz parse_noise reuploading "
        "strongly_entangling table_circuit xyz_of_every_wire z_of_every_wire z_strings"
    ),
    "equilibrium": (
        "Anderson Broyden Direct Dogleg Equilibrium Homotopy Implicit JacobianFree "
        "KrasnoselskiiMann LevenbergMarquardt Neumann Newton Picard Shine Unrolled"
    ),
    "equilibrium.networks": "Alone Cells Chain EdgeInjection Graph Grid NetworkEquilibrium",
    "errors": "UserError",
    "interop.forecaster": "QDEQForecaster",
    "interop.sequences": "QDEQSequenceClassifier QDEQSequenceRegressor",
    "interop.sklearn": "QDEQClassifier QDEQRegressor",
    "models": (
        "Classifier Injection ModelFunction Network QuantumEquilibrium QuantumModel Regressor "
        "paper_model"
    ),
    "runs": "Run load train",
    "training": "TrainConfig",
}
_NAMES = {name: home for home, names in _HOMES.items() for name in names.split()}
__getattr__ = _attach(__name__, _NAMES)
