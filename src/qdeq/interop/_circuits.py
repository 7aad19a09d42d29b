"""Circuits of other libraries where an estimator takes one of ours."""

from typing import Any


def as_circuit(value: Any) -> Any:
    """A circuit of Qiskit or PennyLane as ours; anything else as it is.

    Parameters
    ----------
    value
        A Qiskit `QuantumCircuit`, or a PennyLane tape. (A QNode needs its arguments: read it with
        `qdeq.interop.pennylane.from_pennylane` first.)

    Raises
    ------
    UserError
        For a gate that cannot be read.
    """
    library = type(value).__module__.partition(".")[0]
    if library == "qiskit":
        from qdeq.interop.qiskit import from_qiskit

        return from_qiskit(value)
    if library == "pennylane" and hasattr(value, "operations"):
        from qdeq.interop.pennylane import from_pennylane

        return from_pennylane(value)
    return value
