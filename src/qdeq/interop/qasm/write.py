"""A circuit as an OpenQASM 3 program. Needs no other package, except to write a `Unitary`.

What a trained model is beside its circuit is written in `export`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from qdeq.circuits import Circuit, Operation
from qdeq.circuits.circuit import check_circuit
from qdeq.errors import UserError
from qdeq.interop._extras import check_installed
from qdeq.interop._numbers import finite_numbers
from qdeq.interop.names import checked_names, numbered
from qdeq.interop.qasm.words import RESERVED

# Names in the standard library of OpenQASM 3, `stdgates.inc`.
_STANDARD = {
    "I": "id",
    "X": "x",
    "Y": "y",
    "Z": "z",
    "H": "h",
    "S": "s",
    "T": "t",
    "SX": "sx",
    "RX": "rx",
    "RY": "ry",
    "RZ": "rz",
    "PhaseShift": "p",
    "U3": "u3",
    "CNOT": "cx",
    "CZ": "cz",
    "SWAP": "swap",
    "CRX": "crx",
    "CRY": "cry",
    "CRZ": "crz",
}
# The library has no two-qubit rotations: RZZ(t) is an RZ(t) of the parity, the others are RZZ in
# turned bases. {0} and {1} are the qubits, {2} the angle.
_PARITY = ("cx {0}, {1}", "rz({2}) {1}", "cx {0}, {1}")
_TURN, _TURN_BACK = f"rx({np.pi / 2!r})", f"rx({-np.pi / 2!r})"
_WRITTEN_OUT = {
    "RZZ": _PARITY,
    "RXX": ("h {0}", "h {1}", *_PARITY, "h {0}", "h {1}"),
    "RYY": (
        f"{_TURN} {{0}}",
        f"{_TURN} {{1}}",
        *_PARITY,
        f"{_TURN_BACK} {{0}}",
        f"{_TURN_BACK} {{1}}",
    ),
}
_CHANGES = {"I": (), "Z": (), "X": ("h",), "Y": ("sdg", "h")}


def to_qasm3(
    circuit: Circuit,
    theta: ArrayLike | None = None,
    features: ArrayLike | None = None,
    *,
    parameters: Sequence[str] | None = None,
    basis: str | None = None,
    include: bool = True,
    comments: Sequence[str] = (),
) -> str:
    """Write a circuit as an OpenQASM 3 program.

    Every angle that is not given becomes an `input float[64]`, named so that the names sort as
    the parameters count: ``t_000, t_001, ...``, and ``x_000, ...`` for features. Wire i is
    ``q[i]``; the program equals the circuit up to a global phase.

    Parameters
    ----------
    circuit
        Any circuit; RXX, RYY and RZZ are written as CNOTs and rotations.
    theta
        ``(n_parameters,)`` angles in radians to write as numbers; None makes them inputs.
    features
        ``(n_features,)`` numbers likewise.
    parameters
        Other names for the parameters: identifiers that mean nothing else in the program. What
        reads them in alphabetical order, as `from_qasm3` does, counts the parameters so.
    basis
        A letter I, X, Y or Z for each wire: measure every wire in it, wire i into ``c[i]``. None
        measures nothing. A setting's basis is
        ``observables.basis(observables.settings()[k])``.
    include
        Whether the program says ``include "stdgates.inc";``. Some readers, PennyLane's for one,
        know these gates and refuse the line.
    comments
        Lines to put at the top.

    Returns
    -------
    str

    Raises
    ------
    UserError
        When an array or a basis has the wrong length, a name is no identifier, comes twice or
        is a word of OpenQASM 3, a gate cannot be expressed, or a `Unitary` is to be written without
        Qiskit installed.

    References
    ----------
    Cross et al., OpenQASM 3: A broader and deeper quantum assembly language, ACM Transactions on
    Quantum Computing 3, 12 (2022), arXiv 2104.14722.

    Examples
    --------
    >>> circuit = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> print(to_qasm3(circuit))
    OPENQASM 3.0;
    include "stdgates.inc";
    input float[64] t_000;
    qubit[2] q;
    ry(t_000) q[0];
    cx q[0], q[1];
    <BLANKLINE>
    """
    check_circuit(circuit)
    inputs = numbered("x", circuit.n_features)
    names = checked_names(parameters, circuit.n_parameters, taken={*RESERVED, "q", "c", *inputs})
    _check_identifiers(names)
    angles = names if theta is None else _numbers("theta", theta, circuit.n_parameters)
    used = sorted({i for op in circuit.operations for i in op.features})
    values = inputs if features is None else _numbers("features", features, circuit.n_features)
    declared = list(names) if theta is None else []
    declared += [inputs[i] for i in used] if features is None else []
    lines = ["OPENQASM 3.0;", *(f"// {line}" for text in comments for line in text.splitlines())]
    if include:
        lines.append('include "stdgates.inc";')
    lines += [f"input float[64] {name};" for name in declared]
    if basis is not None:
        _check_basis(basis, circuit.n_qubits)
        lines.append(f"bit[{circuit.n_qubits}] c;")
    lines.append(f"qubit[{circuit.n_qubits}] q;")
    for operation in circuit.operations:
        lines += _statements(operation, _written_angles(operation, angles, values))
    for wire, letter in enumerate(basis or ()):
        lines += [f"{gate} q[{wire}];" for gate in _CHANGES[letter]]
    lines += [f"c[{wire}] = measure q[{wire}];" for wire in range(len(basis or ""))]
    return "\n".join(lines) + "\n"


def _statements(operation: Operation, angles: Sequence[str]) -> list[str]:
    qubits = [f"q[{wire}]" for wire in operation.wires]
    if operation.matrix is not None:
        return _unitary(operation)
    if operation.name in _WRITTEN_OUT:
        return [line.format(*qubits, *angles) + ";" for line in _WRITTEN_OUT[operation.name]]
    if operation.name not in _STANDARD:
        raise UserError(
            f"{operation.name} on wires {operation.wires} is not in OpenQASM 3's standard library: "
            "write it as other gates or as a Unitary"
        )
    argument = f"({', '.join(angles)})" if angles else ""
    return [f"{_STANDARD[operation.name]}{argument} {', '.join(qubits)};"]


def _written_angles(
    operation: Operation, angles: Sequence[str | float], features: Sequence[str | float]
) -> list[str]:
    """The operation's angles as numbers, or as expressions of the names."""
    if operation.angle is not None:
        return [repr(operation.angle)]
    written = []
    for source in operation.sources:
        entries = features if source.kind == "feature" else angles
        names = [entry for entry in entries if isinstance(entry, str)]
        if not names:
            written.append(repr(source.value(entries)))
            continue
        factors = [] if source.factor == 1 else [repr(source.factor)]
        product = " * ".join([*factors, *(names[i] for i in source.indices)])
        sign = "-" if source.offset < 0 else "+"
        written.append(f"{product} {sign} {abs(source.offset)!r}" if source.offset else product)
    return written


def _unitary(operation: Operation) -> list[str]:
    check_installed("qiskit", extra="qiskit", needed_for="writing a Unitary as OpenQASM gates")
    from qiskit import transpile

    from qdeq.interop.qiskit import to_qiskit

    n_wires = len(operation.wires)
    alone = Circuit(
        n_wires, (Operation("Unitary", tuple(range(n_wires)), matrix=operation.matrix),)
    )
    lines = []
    written = transpile(to_qiskit(alone), basis_gates=["u3", "cx"], optimization_level=1)
    for instruction in written.data:
        wires = [operation.wires[written.find_bit(qubit).index] for qubit in instruction.qubits]
        numbers = ", ".join(repr(float(angle)) for angle in instruction.operation.params)
        argument = f"({numbers})" if numbers else ""
        qubits = ", ".join(f"q[{wire}]" for wire in wires)
        lines.append(f"{instruction.operation.name}{argument} {qubits};")
    return lines


def _numbers(name: str, given: ArrayLike, n_needed: int) -> list[float]:
    values = finite_numbers(name, given)
    if values.shape != (n_needed,):
        raise UserError(
            f"{name} has shape {values.shape}: the circuit needs an array of shape ({n_needed},)"
        )
    return values.tolist()


def _check_identifiers(names: Sequence[str]) -> None:
    for name in names:
        if not (name.isidentifier() and name.isascii()):
            raise UserError(
                f"parameters has {name!r}, which is no identifier: use letters, digits and _"
            )


def _check_basis(basis: str, n_qubits: int) -> None:
    if len(basis) != n_qubits or not set(basis) <= set(_CHANGES):
        raise UserError(f"basis={basis!r}: give {n_qubits} letters out of I, X, Y, Z, wire 0 first")
