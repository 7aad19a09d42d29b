from .build import build_classifier as build_classifier
from .classifier import Classifier as Classifier
from .classifier import Prediction as Prediction
from .paper import paper_model as paper_model
from .quantum_model import QuantumModel as QuantumModel
from .quantum_model import evaluation_path as evaluation_path
from .quantum_model import nearest_neighbour_reinjection as nearest_neighbour_reinjection
