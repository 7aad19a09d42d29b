"""Circuits of other libraries where an estimator takes one of ours."""

from typing import Any

from qdeq.errors import UserError
from qdeq.interop._foreign import comes_from


def as_circuit(value: Any) -> Any:
    """A circuit of Qiskit or PennyLane as ours; anything else as it is.

    Parameters
    ----------
    value
        A Qiskit `QuantumCircuit`, or a PennyLane tape; classes derived from these as well.

    Raises
    ------
    UserError
        For a gate that cannot be read, and for a QNode, which needs its arguments.
    """
    if comes_from(value, "qiskit"):
        from qdeq.interop.qiskit import from_qiskit

        return from_qiskit(value)
    if comes_from(value, "pennylane"):
        if not hasattr(value, "operations"):
            raise UserError(
                f"{type(value).__name__} is no tape: read a QNode with its arguments by "
                "qdeq.interop.pennylane.from_pennylane(qnode, theta), and give that circuit"
            )
        from qdeq.interop.pennylane import from_pennylane

        return from_pennylane(value)
    return value
