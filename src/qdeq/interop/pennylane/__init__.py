"""PennyLane: circuits both ways, and a user's QNode as a model function."""

from qdeq.interop.pennylane.executor import PennyLaneExecutor as PennyLaneExecutor
from qdeq.interop.pennylane.from_pennylane import from_pennylane as from_pennylane
from qdeq.interop.pennylane.qnode_model import QNodeModel as QNodeModel
from qdeq.interop.pennylane.qnode_model import model_function as model_function
from qdeq.interop.pennylane.to_pennylane import to_pennylane as to_pennylane
