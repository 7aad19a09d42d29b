"""A PennyLane QNode as the model function: what a user gets who puts a QNode into the same layer.

The solver, the adjoint and the training loop around it are qdeq's; only the circuit is PennyLane's.
PennyLane is imported when the model is first evaluated.
"""

import importlib.util
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qdeq.circuits import Circuit, Encoding, MeasurementEnsemble
from qdeq.models import QuantumModel


def why_missing() -> str | None:
    """A sentence for the table where PennyLane cannot be had, else None."""
    if importlib.util.find_spec("pennylane") is None:
        return "PennyLane is not installed: pip install 'pennylane>=0.45,<0.46'"
    return None


class PennyLaneModel(eqx.Module):
    """Stands in for a `QuantumModel`: the same f(m, x), evaluated by a QNode with backprop."""

    theta: Float[Array, " P"]
    reinjection: Float[Array, "d q"]
    circuit: Circuit = eqx.field(static=True)
    encoding: Encoding = eqx.field(static=True)
    observables: MeasurementEnsemble = eqx.field(static=True)

    def __init__(self, model: QuantumModel):
        self.theta, self.reinjection = model.theta, model.reinjection
        self.circuit, self.encoding = model.circuit, model.encoding
        self.observables = model.observables

    @property
    def n_features(self) -> int:
        """d, the length of the features."""
        return self.encoding.n_features

    @property
    def n_observables(self) -> int:
        """q, the length of the measured state."""
        return self.observables.n_observables

    def __call__(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Float[Array, " q"]:
        """One evaluation for one sample."""
        return self.bind(x)(m)

    def prepare(self) -> "PennyLaneModel":
        """Nothing can be prepared: a QNode runs its whole circuit at every call."""
        return self

    def bind(self, x: Float[Array, " d"]) -> "PennyLaneMap":
        """The model function of one sample."""
        return PennyLaneMap(self, x)


class PennyLaneMap(eqx.Module):
    """f(m) of one sample."""

    model: PennyLaneModel
    x: Float[Array, " d"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        model = self.model
        values = qnode(model)(model.theta, self.x + model.reinjection @ m)
        return jnp.stack(values).astype(m.dtype)


def qnode(model: PennyLaneModel) -> Any:
    """The QNode `(theta, v) -> list of q expectation values`."""
    import pennylane as qml

    from qdeq.interop.pennylane import to_pennylane

    function = to_pennylane(model.circuit, encoding=model.encoding, observables=model.observables)
    device = qml.device("default.qubit", wires=model.circuit.n_qubits)
    return qml.QNode(function, device, interface="jax", diff_method="backprop")
