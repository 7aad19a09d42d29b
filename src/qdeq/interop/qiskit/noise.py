"""The noise of a backend, as it describes itself, as one of our noise models.

What a noise model is lives in `qdeq.circuits.noise`; Aer's own simulation of the same numbers is
reached through `executor`.
"""

import itertools
import math
from collections.abc import Sequence
from statistics import mean

from qiskit.providers import BackendV2
from qiskit.transpiler import CouplingError

from qdeq.circuits.noise import (
    Depolarising,
    NoiseModel,
    ReadoutError,
    Rule,
    ThermalRelaxation,
    TwoQubitDepolarising,
)
from qdeq.errors import UserError

# How many native gates a device plays for one of ours. RZ, PhaseShift, Z, S and T are changes of
# frame, which cost neither time nor error. Our gate: (native gates of one qubit, how many).
_PULSES = {
    ("sx", "x", "r", "u", "u3"): {1: ("SX", "X", "Y", "H"), 2: ("RX", "RY", "U3")},
    ("id",): {1: ("I",)},
}
_PAIR_PULSES = {
    1: ("CNOT", "CZ"),
    2: ("CRX", "CRY", "CRZ", "RXX", "RYY", "RZZ"),
    3: ("SWAP",),
}
_NATIVE_PAIRS = ("cx", "cz", "ecr")
# Rules are written for every ordered pair of wires.
_MOST_WIRES = 24


def noise_from_backend(backend: BackendV2, wires: Sequence[int] | None = None) -> NoiseModel:
    """The noise model that a backend's calibration describes.

    Every native gate is followed by depolarising noise and by thermal relaxation of its qubits
    for its duration. The relaxation comes from T1, T2 and the duration; the depolarising strength
    is what is missing to the reported gate error 1 - F, F the average gate fidelity of both
    together. This is Qiskit Aer's recipe, so for circuits of native gates the two agree:
    ``from_qiskit(executor.transpiled())`` is such a circuit, at every optimisation level. Its wires
    are the physical qubits, wire i is measured on ``transpiled().layout.final_index_layout()[i]``,
    and its parameters are those of ``transpiled().parameters``: a parameter that the transpiler
    could remove is gone.

    Our other gates are made of native ones: H, X, Y and SX of one pulse, RX, RY and U3 of two,
    none for RZ, PhaseShift, Z, S and T; CNOT and CZ of one native two-qubit gate, controlled and
    two-qubit rotations of two, SWAP of three, each three more for every qubit in between on wires
    that the device does not couple. Pulses of one qubit inside of two-qubit gates are left out.
    n gates together get n times the duration and n times the depolarising.

    Parameters
    ----------
    backend
        With a target that holds T1, T2, durations and errors, such as a fake backend.
    wires
        The physical qubit of wire 0, 1, ...; None takes all of the backend's in order.

    Returns
    -------
    NoiseModel
        For circuits of ``len(wires)`` wires, readout errors included. No noise on idle wires, no
        cross-talk, no error on a `Unitary`.

    Raises
    ------
    UserError
        When the backend has no such data, or `wires` names qubits that it lacks or one twice.

    References
    ----------
    Georgopoulos et al., Modelling and simulating the noisy behaviour of near-term quantum
    computers, Phys. Rev. A 104, 062432 (2021), arXiv 2101.02109.

    Examples
    --------
    >>> from qiskit_ibm_runtime.fake_provider import FakeManilaV2
    >>> from qdeq.circuits import Operation
    >>> noise = noise_from_backend(FakeManilaV2(), wires=(1, 2))
    >>> [type(channel).__name__ for channel, _ in noise.channels_after(Operation("SX", (0,)))]
    ['Depolarising', 'ThermalRelaxation']
    """
    calibration = _Calibration(backend, wires)
    rules: list[Rule] = []
    for wire in range(calibration.n_wires):
        for native, counts in _PULSES.items():
            for n_pulses, names in counts.items():
                rules += calibration.rules_of_wire(native, n_pulses, names, wire)
    for pair in itertools.permutations(range(calibration.n_wires), 2):
        for n_pulses, names in _PAIR_PULSES.items():
            rules += calibration.rules_of_pair(n_pulses, names, pair)
    return NoiseModel(tuple(rules), readout=calibration.readout())


class _Calibration:
    """What a backend's target says about the qubits that are used."""

    def __init__(self, backend: BackendV2, wires: Sequence[int] | None):
        target = getattr(backend, "target", None)
        if target is None or target.qubit_properties is None or "measure" not in target:
            raise UserError(
                f"backend={backend!r} does not describe its noise: give one whose target holds "
                "T1, T2, gate durations and errors, such as a fake backend of qiskit-ibm-runtime"
            )
        n_qubits = target.num_qubits
        qubits = tuple(range(n_qubits) if wires is None else wires)
        if not qubits or len(set(qubits)) != len(qubits) or not set(qubits) <= set(range(n_qubits)):
            raise UserError(
                f"wires={wires!r}: give distinct physical qubits out of 0 to {n_qubits - 1}, the "
                "first for wire 0"
            )
        if len(qubits) > _MOST_WIRES:
            raise UserError(
                f"a noise model of {len(qubits)} wires: name the physical qubits that the circuit "
                f"uses, at most {_MOST_WIRES}, such as wires=(0, 1, 2, 3)"
            )
        self._target, self._qubits = target, qubits
        self._pair = next((name for name in _NATIVE_PAIRS if name in target), None)
        self._distances = target.build_coupling_map()

    @property
    def n_wires(self) -> int:
        return len(self._qubits)

    def rules_of_wire(
        self, native: Sequence[str], n_pulses: int, names: tuple[str, ...], wire: int
    ) -> list[Rule]:
        """Rules for gates made of `n_pulses` native ones."""
        qubit = self._qubits[wire]
        name = next((name for name in native if self._has(name, (qubit,))), None)
        if name is None:
            return []
        error, duration = self._numbers(name, (qubit,))
        times = self._times(qubit)
        rate = _depolarising_rate(error, [(*times, duration)])
        rules = []
        if rate > 0:
            probability = 0.75 * (1 - (1 - rate) ** n_pulses)
            rules.append(Rule(Depolarising(probability), gates=names, on=(wire,)))
        if duration > 0:
            channel = ThermalRelaxation(*times, n_pulses * duration)
            rules.append(Rule(channel, gates=names, on=(wire,)))
        return rules

    def rules_of_pair(
        self, n_pulses: int, names: tuple[str, ...], pair: tuple[int, int]
    ) -> list[Rule]:
        """Rules for gates made of `n_pulses` native ones and of swaps, where there is no edge."""
        if self._pair is None:
            return []
        first, second = (self._qubits[wire] for wire in pair)
        edges = [e for e in ((first, second), (second, first)) if self._has(self._pair, e)]
        if edges:
            error, duration = self._numbers(self._pair, edges[0])
        else:
            every = [self._numbers(self._pair, edge) for edge in self._target[self._pair]]
            error, duration = (mean(column) for column in zip(*every, strict=True))
            # Undirected: a native gate turned round costs pulses of one qubit only.
            between = self._distance(first, second) - 1
            n_pulses += 3 * between
        spans = [(*self._times(qubit), duration) for qubit in (first, second)]
        rate = _depolarising_rate(error, spans)
        rules = []
        if rate > 0:
            probability = 15 / 16 * (1 - (1 - rate) ** n_pulses)
            rules.append(Rule(TwoQubitDepolarising(probability), gates=names, on=pair))
        if duration > 0:
            for wire, (t1, t2, _) in zip(pair, spans, strict=True):
                channel = ThermalRelaxation(t1, t2, n_pulses * duration)
                rules.append(Rule(channel, gates=names, wires=(wire,), on=pair))
        return rules

    def readout(self) -> dict[int, ReadoutError]:
        """Misread bits of every wire that has some."""
        errors = {}
        for wire, qubit in enumerate(self._qubits):
            entry = self._target["measure"].get((qubit,))
            either = getattr(entry, "error", None) or 0.0
            p01 = getattr(entry, "prob_meas1_prep0", None)
            p10 = getattr(entry, "prob_meas0_prep1", None)
            found = ReadoutError(either if p01 is None else p01, either if p10 is None else p10)
            if found.p01 or found.p10:
                errors[wire] = found
        return errors

    def _has(self, name: str, qubits: tuple[int, ...]) -> bool:
        return name in self._target and qubits in (self._target[name] or {})

    def _numbers(self, name: str, qubits: tuple[int, ...]) -> tuple[float, float]:
        """Reported error and duration in seconds; 0 where the backend does not say."""
        entry = self._target[name][qubits]
        return getattr(entry, "error", None) or 0.0, getattr(entry, "duration", None) or 0.0

    def _times(self, qubit: int) -> tuple[float, float]:
        """T1 and T2 in seconds; T2 at most 2 T1, which calibrations sometimes exceed."""
        properties = self._target.qubit_properties[qubit]
        t1 = properties.t1 or math.inf
        return t1, min(properties.t2 or math.inf, 2 * t1)

    def _distance(self, first: int, second: int) -> int:
        try:
            distance = self._distances.distance(first, second)
            return int(min(distance, self._distances.distance(second, first)))
        except CouplingError:
            raise UserError(
                f"no couplings lead from qubit {first} of the backend to qubit {second}: choose "
                "wires that are connected"
            ) from None


def _depolarising_rate(error: float, spans: Sequence[tuple[float, float, float]]) -> float:
    """The part of the state that must be lost for the gate error to be what is reported.

    With F the average gate fidelity of relaxation alone, rho -> (1 - r) rho + r 1/D after it has
    1 - error = F - r (D F - 1) / D.

    Parameters
    ----------
    error
        1 minus the average gate fidelity.
    spans
        (T1, T2, duration) of each qubit of the gate.
    """
    size = 2 ** len(spans)
    process = math.prod(
        (1 + 2 * math.exp(-time / t2) + math.exp(-time / t1)) / 4 for t1, t2, time in spans
    )
    fidelity = (size * process + 1) / (size + 1)
    missing = min(error, size / (size + 1)) - (1 - fidelity)
    if missing <= 0:  # the reported error is no larger than relaxation alone makes it
        return 0.0
    return min(1.0, size * missing / (size * fidelity - 1))
