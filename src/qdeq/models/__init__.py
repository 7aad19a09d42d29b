"""Model functions of circuits, the paper's models, predictors on their equilibrium."""

from qdeq.models.build import build_classifier as build_classifier
from qdeq.models.build import build_model as build_model
from qdeq.models.classifier import Classifier as Classifier
from qdeq.models.function import Bound as Bound
from qdeq.models.function import ModelFunction as ModelFunction
from qdeq.models.function import check_model as check_model
from qdeq.models.function import state_dtype as state_dtype
from qdeq.models.injection import Injection as Injection
from qdeq.models.injection import nearest_neighbour_reinjection as nearest_neighbour_reinjection
from qdeq.models.network import Network as Network
from qdeq.models.paper import paper_model as paper_model
from qdeq.models.predictor import Prediction as Prediction
from qdeq.models.predictor import Predictor as Predictor
from qdeq.models.quantum_equilibrium import QuantumEquilibrium as QuantumEquilibrium
from qdeq.models.quantum_model import QuantumModel as QuantumModel
from qdeq.models.quantum_model import evaluation_path as evaluation_path
from qdeq.models.quantum_model import quantum_model as quantum_model
from qdeq.models.regressor import Regressor as Regressor
from qdeq.models.sampled import SampledModel as SampledModel
