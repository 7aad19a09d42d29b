"""Where on a device the separate parts of a circuit go, by its calibration: the best places first.

For circuits side by side. Of several parts Qiskit's transpiler takes the first placement it finds,
however bad its qubits are; a circuit that is of one piece it places by errors itself.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from qdeq.circuits import Circuit

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
    if target is None or len(parts) < 2 or any(len(op.wires) > 2 for op in circuit.operations):
        return None
    calibration = Calibration(target)
    uses = Counter(tuple(sorted(op.wires)) for op in circuit.operations if len(op.wires) == 2)
    free, places = set(calibration.readout), {}
    for part in sorted(parts, key=len, reverse=True):  # of equally large ones the first comes first
        found = _best_place(part, uses, calibration, free)
        if found is None:
            return None
        places.update(found)
        free -= set(found.values())
    return [places[wire] for wire in range(circuit.n_qubits)]


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
