"""Where on a device the separate parts of a circuit go, by its calibration: the best places first.

For circuits side by side. Of several parts Qiskit's transpiler takes the first placement it finds,
however bad its qubits are; a circuit that is of one piece it places by errors itself.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from qdeq.circuits import Circuit
from qdeq.errors import UserError

# Partial placements of a part that are followed, the best ones: all that there are of small parts.
_WIDTH = 1000


class Calibration:
    """How much expectation values shrink by a gate or a readout, as -log, where a device says so.

    Attributes
    ----------
    readout
        By qubit; one that nothing can be read of is left out.
    gate
        By pair of coupled qubits, lower number first, the best gate; without those that fail.
    """

    def __init__(self, target: Any):
        self.readout: dict[int, float] = {}
        self.gate: dict[tuple[int, ...], float] = {}
        for name in target.operation_names:
            for qubits, properties in (target[name] or {}).items():
                error = getattr(properties, "error", None)
                if qubits is None or error is None:
                    continue
                if name == "measure":
                    lost = _lost(2 * error)  # misread bits
                    if math.isfinite(lost):
                        self.readout[qubits[0]] = lost
                elif len(qubits) == 2:
                    lost = _lost(4 / 3 * error)  # depolarised, with that average infidelity
                    pair = tuple(sorted(qubits))
                    if lost < self.gate.get(pair, math.inf):
                        self.gate[pair] = lost
        self.gate = {pair: lost for pair, lost in self.gate.items() if {*pair} <= {*self.readout}}


def _lost(share: float) -> float:
    return -math.log1p(-share) if share < 1 else math.inf


def best_places(circuit: Circuit, target: Any) -> list[int] | None:
    """Physical qubits for wires 0, 1, ... of a circuit of several separate parts.

    One part after the other gets the free place at which the least is lost by two-qubit gates and
    readout, each gate counted as often as it is there. Couplings and qubits that fail (error 1 of a
    gate, 1/2 of a readout) or have no error are not used. One-qubit gates do not count.

    Parameters
    ----------
    circuit
        Parts are what two-qubit gates connect.
    target
        A `qiskit.transpiler.Target`, or None.

    Returns
    -------
    list of int or None
        None leaves it to the transpiler: for a circuit of one part, a device that says no errors,
        gates on three wires, and parts that do not fit without moving qubits.
    """
    parts = _parts(circuit)
    if target is None or len(parts) < 2 or _has_wide_gates(circuit):
        return None
    in_turn = sorted(parts, key=len, reverse=True)  # of equally large ones the first comes first
    places: dict[int, int] = {}
    for found in _placed(circuit, in_turn, Calibration(target)):
        places.update(found)
    return [places[w] for w in range(circuit.n_qubits)] if len(places) == circuit.n_qubits else None


def placeable_copies(circuit: Circuit, backend: Any) -> int:
    """How many copies of a circuit a device holds side by side without moving qubits.

    Fewer than floor(qubits of the device / qubits of the circuit) where chains of qubits are left
    over that are too short, or couplings fail. For `PackedExecutor(..., copies=)`.

    Parameters
    ----------
    circuit
        Of one copy, with gates on at most two wires.
    backend
        A fake or real backend that says errors of gates and readout.

    Returns
    -------
    int
        As many as find a place in the way `QiskitExecutor` places them; 0 if none does.

    Raises
    ------
    UserError
        For a backend that says no errors, and gates on three wires.

    Examples
    --------
    >>> from qiskit_ibm_runtime.fake_provider import FakeManilaV2
    >>> from qdeq.circuits import Operation
    >>> pair = Circuit(2, (Operation("CNOT", (0, 1)),))
    >>> placeable_copies(pair, FakeManilaV2())
    2
    """
    if _has_wide_gates(circuit):
        raise UserError(
            "the circuit has gates on more than two wires: places are found for gates on two, "
            "decompose the others"
        )
    target = getattr(backend, "target", None)
    calibration = None if target is None else Calibration(target)
    if calibration is None or not calibration.readout:
        raise UserError(
            f"backend={backend!r} says no errors of its qubits: give a fake or a real backend, or "
            "the number of copies"
        )
    parts = _parts(circuit)
    copies = len(calibration.readout) // circuit.n_qubits
    while copies:
        in_turn = sorted(parts * copies, key=len, reverse=True)
        placed = sum(1 for _ in _placed(circuit, in_turn, calibration))
        if placed == len(in_turn):
            break
        # Of equal parts all are placed that can be; of others one may have taken another's room.
        copies = placed if len(parts) == 1 else copies - 1
    return copies


def _has_wide_gates(circuit: Circuit) -> bool:
    return any(len(operation.wires) > 2 for operation in circuit.operations)


def _placed(
    circuit: Circuit, parts: Iterable[list[int]], calibration: Calibration
) -> Iterator[dict[int, int]]:
    """One part after the other at the best place that is left, until one finds none."""
    uses = Counter(tuple(sorted(op.wires)) for op in circuit.operations if len(op.wires) == 2)
    free = set(calibration.readout)
    for part in parts:
        found = _best_place(part, uses, calibration, free)
        if found is None:
            return
        yield found
        free -= set(found.values())


def _parts(circuit: Circuit) -> list[list[int]]:
    """Wires that gates connect, each but the first of a part after one it shares a gate with."""
    near: dict[int, set[int]] = {wire: set() for wire in range(circuit.n_qubits)}
    for operation in circuit.operations:
        for one, other in itertools.combinations(operation.wires, 2):
            near[one].add(other)
            near[other].add(one)
    parts, seen = [], set()
    for wire in near:
        if wire in seen:
            continue
        part = [wire]
        seen.add(wire)
        for known in part:  # grows while it is read
            new = sorted(near[known] - seen)
            part += new
            seen.update(new)
        parts.append(part)
    return parts


def _best_place(
    part: list[int], uses: Counter[tuple[int, ...]], calibration: Calibration, free: Iterable[int]
) -> dict[int, int] | None:
    """A qubit for every wire of a part, every pair that shares gates on a coupling."""
    free = set(free)
    coupled: dict[int, list[int]] = {qubit: [] for qubit in free}
    for one, other in calibration.gate:
        if one in free and other in free:
            coupled[one].append(other)
            coupled[other].append(one)
    found: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for number, wire in enumerate(part):
        links = [
            (place, uses[tuple(sorted((before, wire)))])
            for place, before in enumerate(part[:number])
            if uses[tuple(sorted((before, wire)))]
        ]
        longer = []
        for lost, qubits in found:
            # Its first neighbour is there already, so few qubits are to be tried.
            for qubit in coupled[qubits[links[0][0]]] if links else free:
                if qubit in qubits:
                    continue
                pairs = [(tuple(sorted((qubits[place], qubit))), times) for place, times in links]
                if all(pair in calibration.gate for pair, _ in pairs):
                    more = sum(times * calibration.gate[pair] for pair, times in pairs)
                    longer.append((lost + more + calibration.readout[qubit], (*qubits, qubit)))
        found = sorted(longer)[:_WIDTH]
    return dict(zip(part, found[0][1], strict=True)) if found else None
