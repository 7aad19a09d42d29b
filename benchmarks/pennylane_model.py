"""A PennyLane QNode as the model function: what a user gets who puts a QNode into the same layer.

The solver, the adjoint and the training loop around it are qdeq's; only the circuit is PennyLane's.
"""

import importlib.util
from typing import TYPE_CHECKING

from qdeq.models import QuantumModel

if TYPE_CHECKING:
    from qdeq.interop.pennylane import QNodeModel


def why_missing() -> str | None:
    """A sentence for the table where PennyLane cannot be had, else None."""
    if importlib.util.find_spec("pennylane") is None:
        return "PennyLane is not installed: pip install 'pennylane>=0.45,<0.46'"
    return None


def pennylane_model(model: QuantumModel) -> "QNodeModel":
    """The same f(m, x), evaluated by a QNode with backprop."""
    import pennylane as qml

    from qdeq.interop.pennylane import model_function, to_pennylane

    function = to_pennylane(model.circuit, encoding=model.encoding, observables=model.observables)
    device = qml.device("default.qubit", wires=model.circuit.n_qubits)
    qnode = qml.QNode(function, device, interface="jax", diff_method="backprop")
    return model_function(
        qnode, theta=model.theta, n_features=model.n_features, reinjection=model.reinjection
    )
