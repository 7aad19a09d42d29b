"""What PennyLane, or a user's own class, says of an operation, and whether that is consistent.

An operation may bring a matrix and a decomposition. Which of them was meant where they differ
nobody knows, so such an operation is refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qdeq.interop import _foreign
from qdeq.interop._foreign import Answer

# Comparing takes a millisecond or two for each operation of so many wires.
_LARGEST_COMPARED = 4
# Matrices come from float64 arithmetic, a few dozen products deep; some of PennyLane's own are
# fractional powers by SciPy, which are good to 1e-12.
_TOLERANCE = 1e-9


def ask(where: Callable[[], str], question: Callable[[], Answer]) -> Answer:
    """What PennyLane, or a user's own class, says of an operation."""
    advice = "correct it, or write it in gates of PennyLane"
    return _foreign.ask(question, where, "could not be read", advice)


def is_library_code(qml: Any, operation: Any) -> bool:
    """Whether PennyLane alone says what an operation is: nothing inside is a user's own class."""
    theirs = type(operation).__module__.startswith("pennylane.")
    return theirs and all(is_library_code(qml, part) for part in _inside(qml, operation))


def decomposition_of(qml: Any, operation: Any) -> list[Any] | None:
    """What an operation consists of; None if neither its class nor PennyLane says so.

    PennyLane looks its rules up by name, and a user's own class may have the name of another gate.
    """
    kind, theirs = type(operation), qml.operation.Operator
    own_name = getattr(qml, operation.name, kind) is kind
    own_rule = any(
        getattr(kind, name) is not getattr(theirs, name)
        for name in ("compute_decomposition", "decomposition")
    )
    if not own_rule and not (own_name and operation.has_decomposition):
        return None
    try:
        return operation.decomposition()
    except qml.exceptions.DecompositionUndefinedError:  # some say that they have one
        return None


def differs_from_its_parts(qml: Any, operation: Any, parts: Sequence[Any]) -> bool:
    """Whether an operation has a matrix that is not that of its decomposition.

    Matrices are equal up to a global phase. What PennyLane alone says is trusted, powers excepted:
    their matrix is the principal one and their decomposition another for large angles.
    """
    wires = operation.wires
    if _is_trusted(qml, operation) or not operation.has_matrix:
        return False
    if not 0 < len(wires) <= _LARGEST_COMPARED:
        return False
    matrix = np.asarray(qml.matrix(operation, wire_order=wires))
    try:
        other = np.asarray(qml.matrix(qml.tape.QuantumScript(list(parts)), wire_order=wires))
    except Exception:  # a decomposition that is no unitary is refused when it is read
        return False
    if matrix.shape != other.shape:
        return True
    return bool(abs(abs(np.vdot(matrix, other)) / len(matrix) - 1) > _TOLERANCE)


def _is_trusted(qml: Any, operation: Any) -> bool:
    parts = _inside(qml, operation)
    powers = isinstance(operation, qml.ops.Pow) or not all(_is_trusted(qml, p) for p in parts)
    return is_library_code(qml, operation) and not powers


def _inside(qml: Any, operation: Any) -> list[Any]:
    parts = list(getattr(operation, "operands", ()))
    return [*parts, operation.base] if isinstance(operation, qml.ops.SymbolicOp) else parts
