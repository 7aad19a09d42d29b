"""An OpenQASM 3 program as a circuit, through Qiskit's reader."""

import re
from collections.abc import Iterable

from qdeq.circuits import Circuit
from qdeq.errors import UserError
from qdeq.interop._extras import check_installed

# The first statement, after comments.
_VERSION = re.compile(r"\A(?:\s|//[^\n]*\n|/\*.*?\*/)*OPENQASM\s+(\d+)[\d.]*", re.DOTALL)


def from_qasm3(text: str, *, features: Iterable[str] = ()) -> Circuit:
    """Read an OpenQASM 3 program, for instance to use it as an ansatz.

    Loops over whole numbers and calls of subroutines are written out, branches on numbers taken,
    and constants and functions of numbers computed.
    Gates that qdeq does not have are decomposed by Qiskit's transpiler; final measurements and the
    global phase are left out.

    Parameters
    ----------
    text
        The program; its `input float` declarations become parameters.
    features
        Names of inputs that become features 0, 1, ... in this order.

    Returns
    -------
    Circuit
        The other inputs in alphabetical order, which is Qiskit's (``v_10_`` before ``v_2_``), those
        that turn no gate included. Qubits are wires in the order of their declaration.

    Raises
    ------
    UserError
        When Qiskit or its reader is not installed, the text is not such a program, or it holds
        what no circuit of gates can express.

    Examples
    --------
    >>> text = '''OPENQASM 3.0;
    ... include "stdgates.inc";
    ... input float[64] a;
    ... qubit[2] q;
    ... ry(a) q[0];
    ... cx q[0], q[1];
    ... '''
    >>> print(from_qasm3(text).draw())
    0: ──RY(θ0)─╭●─┤
    1: ─────────╰⊕─┤
    """
    check_installed(
        "qiskit", "qiskit_qasm3_import", extra="qiskit", needed_for="reading OpenQASM 3"
    )
    from qdeq.interop.qasm._program import quantum_circuit
    from qdeq.interop.qiskit import from_qiskit

    if not isinstance(text, str):
        raise UserError(
            f"{type(text).__name__} cannot be read: give the text of an OpenQASM 3 program, as "
            "from Path(...).read_text()"
        )
    text = text.removeprefix("\ufeff")  # as some editors begin a file
    if not text.strip():
        raise UserError("the text is empty: give that of an OpenQASM 3 program")
    version = _VERSION.search(text)
    if version is not None and version[1] != "3":
        raise UserError(
            f"this is a program in OpenQASM {version[1]}, not 3: "
            "read version 2 with qiskit.qasm2.loads and give its circuit to from_qiskit"
        )
    try:
        theirs = quantum_circuit(text)
    except Exception as error:  # several parsers, each with exceptions of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"this is not an OpenQASM 3 program that Qiskit can read ({reason}): correct it, or "
            "write it with gates of stdgates.inc only"
        ) from error
    return from_qiskit(theirs, features=features)
