"""A QNode, quantum function or tape as a `Circuit`.

The function is run several times with different made-up numbers in the places of its arguments
(`_made_up`); what the runs show is read in `_reader`.
"""

from numbers import Integral
from typing import Any

from qdeq._pennylane import load
from qdeq.circuits import Circuit
from qdeq.errors import UserError
from qdeq.interop.pennylane._made_up import MadeUp, of_function, of_tape
from qdeq.interop.pennylane._reader import circuit_of
from qdeq.interop.pennylane.agreement import ask


def from_pennylane(
    source: Any,
    *args: Any,
    theta: str | int | None = 0,
    features: str | int | None = None,
    n_qubits: int | None = None,
) -> Circuit:
    """Read a circuit from PennyLane; its measurements are left out.

    Parameters
    ----------
    source
        A QNode or quantum function, called with `args`; or a tape (`QuantumScript`), whose
        trainable parameters become theta in their order.
    *args
        What the function is called with, in the order of its arguments. Of those named by `theta`
        and `features` only the shapes matter.
    theta, features
        Name or position of the argument that holds the angles to train, and of the one that holds
        the features: flattened, their entries become `Operation.parameter` and
        `Operation.feature`. None: there is no such argument. All others are constants. Angles may
        be sums of entries and their products with real factors, such as ``-theta[0] / 2 + 0.3``.
    n_qubits
        Number of wires, if larger than the wires that are used show.

    Returns
    -------
    Circuit
        Templates and gates that are not in `qdeq.circuits.GATES` are decomposed, or written as a
        ``Unitary`` if they have no angle. Wire labels 0, 1, ... keep their numbers; others are
        numbered in the order of the device, or as they appear. An entry of theta that turns no
        gate keeps its place by an RZ of wire 0 by 0 times it.

    Raises
    ------
    UserError
        If PennyLane is missing, a function raises something, for an operation that a circuit cannot
        express, or an angle that is computed otherwise.

    Examples
    --------
    >>> import numpy as np, pennylane as qml
    >>> def function(weights, x):
    ...     qml.AngleEmbedding(x, wires=[0, 1])
    ...     qml.BasicEntanglerLayers(weights, wires=[0, 1], rotation=qml.RY)
    >>> print(from_pennylane(function, np.zeros((1, 2)), np.zeros(2), features="x").draw())
    0: ──RX(x0)──RY(θ0)─╭●─┤
    1: ──RX(x1)──RY(θ1)─╰⊕─┤
    """
    qml = load()
    if n_qubits is not None and not isinstance(n_qubits, Integral):
        raise UserError(f"n_qubits={n_qubits!r}: give a whole number of wires, or None")
    try:
        made_up = _made_up(qml, source, args, theta, features)
        circuit = circuit_of(qml, made_up, may_be_unused=True)
    except RecursionError as error:
        raise UserError(
            "functions, or operations that consist of operations, call one another without end: "
            "write them with fewer levels"
        ) from error
    n_wires = circuit.n_qubits
    if n_qubits is not None and n_qubits < n_wires:
        raise UserError(f"n_qubits={n_qubits}: the circuit has {n_wires} wires, give at least that")
    return circuit if n_qubits is None else Circuit(int(n_qubits), circuit.operations)


def _made_up(qml: Any, source: Any, args: tuple, theta: Any, features: Any) -> MadeUp:
    if isinstance(source, qml.tape.QuantumScript):
        if args:
            raise UserError("a tape holds its own numbers: leave the other arguments out")
        return ask(lambda: "the tape", lambda: of_tape(qml, source))
    if not callable(source):
        raise UserError(
            f"{type(source).__name__} cannot be read: give a QNode, a quantum function or a tape"
        )
    return ask(
        lambda: f"{type(source).__name__} with {len(args)} arguments",
        lambda: of_function(qml, source, args, theta, features),
    )
