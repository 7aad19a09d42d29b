from qdeq.models.build import build_classifier as build_classifier
from qdeq.models.classifier import Classifier as Classifier
from qdeq.models.classifier import Prediction as Prediction
from qdeq.models.paper import paper_model as paper_model
from qdeq.models.quantum_model import QuantumModel as QuantumModel
from qdeq.models.quantum_model import evaluation_path as evaluation_path
from qdeq.models.quantum_model import nearest_neighbour_reinjection as nearest_neighbour_reinjection
