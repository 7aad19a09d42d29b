"""Circuits with more noise and the same result: U becomes U (U^-1 U)^k.

Which operations are folded is PennyLane's `fold_global`; the inverse of each is written here in our
own gates, so that a folded circuit keeps its parameters and a batch stays one submission.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qdeq._pennylane import load
from qdeq.circuits import Circuit, Operation
from qdeq.errors import UserError


@dataclass(frozen=True)
class Folded:
    """A folded circuit and where its angles come from; made by `fold`.

    Attributes
    ----------
    circuit
        Angles of folded-back gates are parameters of their own.
    sources
        For each of its parameters, the parameter of the original circuit.
    signs
        And whether that angle is taken as it is, 1, or negated, -1.
    """

    circuit: Circuit
    sources: tuple[int, ...]
    signs: tuple[int, ...]

    def angles(self, rows: np.ndarray) -> np.ndarray:
        """Angles `(B, S)` of the original circuit to those of the folded one."""
        return rows[:, list(self.sources)] * np.array(self.signs, dtype=float)


def fold(circuit: Circuit, scale_factor: float) -> Folded:
    """Make a circuit longer by a factor without changing what it computes.

    Parameters
    ----------
    circuit
        Without features, such as `Program.circuit`: its state preparation is folded too.
    scale_factor
        How many times longer. Odd whole numbers fold every operation equally often; in between,
        only the last operations are folded once more.

    Raises
    ------
    UserError
        If PennyLane is missing, or for a factor below 1 or a circuit with features.

    Notes
    -----
    The inverses of S, T and SX are rotations by fixed angles: a noise rule for gates of those names
    does not see them.

    References
    ----------
    Giurgica-Tiron et al., Digital zero noise extrapolation for quantum error mitigation, QCE 2020,
    arXiv 2005.10921.

    Examples
    --------
    >>> from qdeq.circuits import Circuit, Operation
    >>> gates = (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1)))
    >>> folded = fold(Circuit(2, gates), 3)
    >>> print(folded.circuit.draw())
    0: ──RY(θ0)─╭●─╭●──RY(θ1)──RY(θ0)─╭●─┤
    1: ─────────╰⊕─╰⊕─────────────────╰⊕─┤
    >>> folded.angles(np.array([[0.3]]))
    array([[ 0.3, -0.3]])
    """
    qml = load()
    if circuit.n_features:
        raise UserError(
            f"the circuit is fed by {circuit.n_features} features: fold Program.of(model).circuit, "
            "in which they are angles"
        )
    if not scale_factor >= 1:
        raise UserError(f"scale_factor={scale_factor!r}: a circuit can be made longer, give 1 up")
    # PennyLane folds placeholders: operation number i is the identity on a wire called i.
    numbers = qml.tape.QuantumScript([qml.Identity(i) for i in range(len(circuit.operations))])
    (folded,), _ = qml.noise.fold_global(numbers, scale_factor)
    parameters = [(i, 1) for i in range(circuit.n_parameters)]
    operations = []
    for placeholder in folded.operations:
        operation = circuit.operations[placeholder.wires[0]]
        if isinstance(placeholder, qml.ops.Adjoint):
            operation = _inverse(operation, parameters)
        operations.append(operation)
    sources, signs = zip(*parameters, strict=True) if parameters else ((), ())
    return Folded(Circuit(circuit.n_qubits, tuple(operations)), sources, signs)


def _inverse(operation: Operation, parameters: list[tuple[int, int]]) -> Operation:
    """The inverse, with its angle among `parameters` (source, sign), to which it may add."""

    def negated(index: int) -> int:
        if (index, -1) not in parameters:
            parameters.append((index, -1))
        return parameters.index((index, -1))

    if not operation.parameters:
        return operation.inverse()
    # f (-theta) - o instead of (-f) theta - o. Of a product one entry is negated.
    backwards = operation.inverse()
    factor = backwards.factor
    opposite = tuple(-f for f in factor) if isinstance(factor, tuple) else -factor
    n_negated = len(operation.sources)
    first, others = backwards.parameters[:n_negated], backwards.parameters[n_negated:]
    parameter = (*map(negated, first), *others)
    (*rest, last) = parameter
    lone = parameter if rest else last
    return replace(backwards, parameter=lone, factor=opposite)
