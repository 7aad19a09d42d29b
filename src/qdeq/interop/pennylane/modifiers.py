"""Controlled gates and powers with open angles, in operations whose angles are multiples of these.

PennyLane writes a gate with several controls in angles that it computes from the gate's matrix;
here they stay what they are: sums of the gate's own angles with real factors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qdeq.interop.pennylane.agreement import decomposition_of

# So often a power repeats its gates where PennyLane knows no other way.
_MOST_REPETITIONS = 64
# The matrix of a gate that is compared with its parts.
_LARGEST_COMPARED = 6


def parts_of_controlled(qml: Any, gate: Any) -> list[Any] | None:
    """What a `qml.ctrl(...)` consists of, controls first, in gates with as few controls; or None.

    The parts of the base are controlled one by one, down to rotations. With its phases: of a
    controlled gate they count.
    """
    if type(gate) not in (qml.ops.Controlled, qml.ops.ControlledOp):
        return None
    controls, values = list(gate.control_wires), list(gate.control_values)
    if not all(values):
        flips = [qml.X(wire) for wire, value in zip(controls, values, strict=True) if not value]
        return [*flips, qml.ops.Controlled(gate.base, controls), *flips]
    base = gate.base
    if isinstance(base, qml.ops.Adjoint):
        return [qml.adjoint(qml.ops.Controlled(base.base, controls))]
    if type(base) in (qml.RZ, qml.RY):
        half = base.data[0] / 2
        flip = qml.MultiControlledX(wires=[*controls, *base.wires])
        return [type(base)(half, base.wires), flip, type(base)(-half, base.wires), flip]
    if type(base) is qml.RX:
        turn, back = qml.RY(-np.pi / 2, base.wires), qml.RY(np.pi / 2, base.wires)
        return [turn, qml.ops.Controlled(qml.RZ(base.data[0], base.wires), controls), back]
    if type(base) in (qml.PhaseShift, qml.U1):
        angle, wire = base.data[0], base.wires
        phase = qml.ctrl(qml.PhaseShift(angle / 2, controls[-1]), controls[:-1])
        if len(controls) == 1:
            phase = qml.PhaseShift(angle / 2, controls[0])
        return [qml.ops.Controlled(qml.RZ(angle, wire), controls), phase]
    if type(base) is qml.GlobalPhase:
        phase = qml.PhaseShift(-base.data[0], controls[-1])
        return [qml.ops.Controlled(phase, controls[:-1]) if controls[1:] else phase]
    parts = parts_of_power(qml, base)
    parts = decomposition_of(qml, base) if parts is None else parts
    if parts is None or not _has_the_phase(qml, base, parts):
        return None
    return [_controlled(qml, part, controls) for part in parts]


def parts_of_power(qml: Any, gate: Any) -> list[Any] | None:
    """What a whole power consists of, the gate again and again if need be; None for other gates."""
    if not isinstance(gate, qml.ops.Pow):
        return None
    if abs(gate.z) > _MOST_REPETITIONS and _is_repeated(qml, gate.base):
        return None
    try:
        parts = gate.base.pow(gate.z)
        return [parts] if isinstance(parts, qml.operation.Operator) else parts
    except qml.exceptions.PowUndefinedError:
        pass
    if gate.z != int(gate.z) or abs(gate.z) > _MOST_REPETITIONS:
        return None
    one = gate.base if gate.z > 0 else qml.adjoint(gate.base)
    return [one] * abs(int(gate.z))


def _is_repeated(qml: Any, gate: Any) -> bool:
    """Whether PennyLane writes powers of a gate as copies of it, however many."""
    while isinstance(gate, qml.ops.SymbolicOp):
        gate = gate.base
    return type(gate).pow is qml.operation.Operator.pow


def _controlled(qml: Any, part: Any, controls: Sequence[Any]) -> Any:
    """The part with controls, those that it has itself included."""
    if isinstance(part, (qml.Barrier, qml.Snapshot)):
        return part
    if isinstance(part, qml.ops.Controlled):
        values = [*[True] * len(controls), *part.control_values]
        wires = [*controls, *part.control_wires]
        return qml.ops.Controlled(part.base, wires, control_values=values)
    return qml.ops.Controlled(part, controls)


def _has_the_phase(qml: Any, gate: Any, parts: Sequence[Any]) -> bool:
    """Whether the parts are the gate, global phase included, as far as that can be compared."""
    if not gate.has_matrix or not 0 < len(gate.wires) <= _LARGEST_COMPARED:
        return True
    if not all(set(part.wires) <= set(gate.wires) for part in parts):
        return False
    expected = qml.matrix(gate, wire_order=gate.wires)
    tape = qml.tape.QuantumScript(list(parts) or [qml.Identity(gate.wires)])
    # Matrices come from float64 arithmetic, a few dozen products deep.
    return bool(np.abs(expected - qml.matrix(tape, wire_order=gate.wires)).max() < 1e-9)
