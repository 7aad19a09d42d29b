"""A model's circuit on Qiskit's V2 primitives: a batch of angles is one job.

Which primitive runs where is in `backends`, gates and bit order in `convert`; solving, gradients
and training on top of it are `qdeq.devices`.
"""

import math
import time
from numbers import Integral
from typing import Any

import numpy as np
from qiskit import QuantumCircuit

from qdeq.circuits import Circuit, MeasurementEnsemble, Operation, z_of_every_wire
from qdeq.devices import Ledger
from qdeq.devices.executor import Executor
from qdeq.errors import UserError, check_choice, check_count
from qdeq.interop.names import numbered
from qdeq.interop.qiskit.backends import Device, job_seed
from qdeq.interop.qiskit.bits import PLAIN_READING, MeasuredBits
from qdeq.interop.qiskit.convert import measure_in, to_pauli_operators, to_qiskit
from qdeq.interop.qiskit.folding import folded
from qdeq.interop.qiskit.places import best_places
from qdeq.simulation.sampling import check_shots

PRIMITIVES = ("sampler", "estimator")

_SECONDS_BETWEEN_LOOKS = 0.02
_LEAST_CONTRAST = 0.1


class QiskitExecutor(Executor):
    """Runs a circuit on Aer, a fake backend, a real backend, or a V2 primitive of the user's.

    All rows of angles go into one job, with one PUB (primitive unified bloc) for each measurement
    setting; the estimator groups observables itself and gets a single PUB. The circuit is
    transpiled to the device's own gates once.

    Parameters
    ----------
    circuit
        All of whose parameters are the columns of the angles, such as `Program.circuit`.
    observables
        What is measured.
    backend
        None is Aer without noise. A fake backend of qiskit-ibm-runtime, or `GenericBackendV2`, is
        simulated by Aer with its noise model; an `AerSimulator` is used as it is; any other
        `BackendV2` runs the job itself. A V2 sampler or estimator is used with its own options,
        which is how to run in a session of IBM's.
    primitive
        ``"sampler"``: expectation values from counts. ``"estimator"``: from the device's own
        estimator, with precision 1/sqrt(shots). Without shots the estimator is used.
    shots
        Per row and setting. None: exact expectation values, which only simulators know; noise of
        gates is in them, readout error is not (Aer applies it to measured bits only).
    seed
        For simulators and for the transpiler; None: fresh numbers every time.
    optimization_level
        Of the transpiler, 0 to 3.
    initial_layout
        Physical qubits for wires 0, 1, ...; None lets the transpiler choose. A circuit of several
        separate parts, as `PackedExecutor` makes them, is first placed by the errors of couplings
        and readout where the backend says them, unless `optimization_level` is 0 or the parts do
        not fit without swaps.
    fold
        Odd number c: the transpiled circuit U is run as U (U^-1 U) ... with c times its gates, and
        so c times its noise, which is what zero-noise extrapolation needs.
    calibration_shots
        Correct readout errors: before the first job, prepare all 0 and all 1, measure each with so
        many shots on the qubits in use, and undo the misreading of every wire in what is measured
        afterwards. The two executions for each layout are charged as mitigation. None corrects
        nothing. Only with counts.
    timeout
        Most seconds to wait for one job, which is cancelled then; None waits as long as it takes.
    retries, ledger
        See `Executor`.

    Attributes
    ----------
    device
        The resolved device; ``device.simulator`` of an executor on a fake backend or on None is a
        `CountingSimulator`.
    jobs
        Jobs submitted so far.

    Raises
    ------
    UserError
        For an unknown primitive or backend, too few qubits, or exact values where there are none.
        In a run: `DeviceError` when the device fails or does not answer in time.

    References
    ----------
    Javadi-Abhari et al., Quantum computing with Qiskit, arXiv 2405.08810.

    Examples
    --------
    >>> from qdeq.circuits import Operation, z_of_every_wire
    >>> circuit = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> executor = QiskitExecutor(circuit, z_of_every_wire(2))
    >>> executor(np.array([[0.0], [np.pi]])).round(6).tolist()
    [[1.0, 1.0], [-1.0, -1.0]]
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: MeasurementEnsemble,
        *,
        backend: Any = None,
        primitive: str = "sampler",
        shots: int | None = None,
        seed: int | None = 0,
        optimization_level: int = 1,
        initial_layout: list[int] | None = None,
        fold: int = 1,
        calibration_shots: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        ledger: Ledger | None = None,
    ):
        super().__init__(
            circuit, observables, shots=shots, ledger=ledger, timeout=timeout, retries=retries
        )
        check_choice("primitive", primitive, PRIMITIVES)
        if optimization_level not in range(4):
            raise UserError(
                f"optimization_level={optimization_level!r}: Qiskit's transpiler has 0, 1, 2 and 3"
            )
        if not isinstance(fold, Integral) or fold not in range(1, 100, 2):
            raise UserError(f"fold={fold!r}: give an odd number from 1 to 99, such as 3")
        if seed is not None:
            check_count("seed", seed, 0)
        check_shots("calibration_shots", calibration_shots)
        self.device = Device.of(backend, primitive)
        if calibration_shots is not None and self.device.kind != "sampler":
            raise UserError(
                f"calibration_shots={calibration_shots} with an estimator: readout is corrected in "
                "counts only, take the sampler or the estimator's own options"
            )
        available = getattr(self.device.target, "num_qubits", None)
        if available is not None and available < circuit.n_qubits:
            raise UserError(
                f"{self.device.name} has {available} qubits and the circuit {circuit.n_qubits}: "
                "choose a larger device"
            )
        if initial_layout is not None:
            _check_layout(initial_layout, circuit.n_qubits, available)
        elif optimization_level > 0:
            initial_layout = best_places(circuit, getattr(self.device.target, "target", None))
        if shots is None:
            self.device.check_exact(circuit.n_qubits)
        self.name = f"Qiskit on {self.device.name}"
        self.seed, self.jobs = seed, 0
        self._names = numbered("t", circuit.n_parameters)
        self._level, self._layout, self._fold = optimization_level, initial_layout, fold
        self.folded_length = int(fold)
        self._calibration_shots = calibration_shots
        self._readings: dict[tuple[int, ...], np.ndarray] = {}
        self._settings = observables.settings()
        self._bases = [observables.basis(setting) for setting in self._settings]
        self._isa: dict[str, QuantumCircuit] = {}

    def prepare(self, shots: int | None) -> None:
        """Calibrate the qubits in use if that was not done; see `Executor.prepare`."""
        if shots is not None and self._calibration_shots is not None:
            self._calibrate(self._calibration_shots)

    def run(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        """One job: ``(B, S)`` angles to ``(B, q)`` expectation values."""
        if shots is None:
            self.device.check_exact(self.circuit.n_qubits)
        if shots is None or self.device.kind == "estimator":
            return self._estimate(angles, shots)
        self.prepare(shots)  # done already, but where somebody else counts
        values = np.empty((len(angles), self.observables.n_observables))
        measured = self._sample(angles, shots)
        for setting, basis, bits in zip(self._settings, self._bases, measured, strict=True):
            readings = self._readings.get(self._qubits(basis), PLAIN_READING)
            for k in setting:
                wires = [w for w, letter in enumerate(self.observables.strings[k]) if letter != "I"]
                values[:, k] = bits.product(wires, readings)
        return values

    def counts(
        self, angles: np.ndarray, shots: int | None = None, *, purpose: str = "forward"
    ) -> np.ndarray:
        """How often each outcome was measured, for those who need more than expectation values.

        Parameters
        ----------
        angles
            ``(B, S)`` radians.
        shots
            Per row and setting; None: the executor's own.
        purpose
            For the ledger.

        Returns
        -------
        ndarray
            ``(B, n_settings, 2**n)`` integers; wire 0 is the most significant bit.

        Raises
        ------
        UserError
            On an estimator, which has none; otherwise as for expectation values.
        """
        if self.device.primitive is not None and self.device.kind != "sampler":
            raise UserError(
                f"{self.device.name} is an estimator, which has no counts: give a sampler, or ask "
                "for expectation values"
            )
        angles, shots = self._checked(angles, shots)
        if shots is None:
            raise UserError("shots=None: counts need a number of shots, give one such as 1024")
        shape = (len(angles), self.n_settings, 2**self.circuit.n_qubits)
        if not len(angles):
            return np.zeros(shape, dtype=int)

        def run(angles: np.ndarray, shots: int) -> np.ndarray:
            return np.stack([bits.histogram() for bits in self._sample(angles, shots)], axis=1)

        return self._submit(run, angles, shots, purpose, shape).astype(int)

    def transpiled(self, basis: str | None = None) -> QuantumCircuit:
        """The circuit in the device's own gates.

        Parameters
        ----------
        basis
            Letters in which to measure every wire; None leaves measurements out.
        """
        key = basis or ""
        if key not in self._isa:
            plain = to_qiskit(self.circuit, parameters=self._names)
            written = plain if basis is None else measure_in(plain, basis)
            self._isa[key] = self._on_device(written, self._level, self._layout, self._fold)
        return self._isa[key]

    def _on_device(
        self, circuit: QuantumCircuit, level: int, layout: list[int] | None, fold: int = 1
    ) -> QuantumCircuit:
        passes = self.device.passes(optimization_level=level, seed=self.seed, initial_layout=layout)
        written = circuit if passes is None else passes.run(circuit)
        if fold == 1:
            return written
        # Level 0 rewrites the inverses of gates, such as SX's, in the device's and cancels nothing.
        rewrite = self.device.passes(
            optimization_level=0,
            seed=self.seed,
            initial_layout=list(range(written.num_qubits)),
        )
        return folded(written, fold, rewrite)

    def _qubits(self, basis: str) -> tuple[int, ...]:
        """The physical qubit of each wire when it is measured."""
        layout = self.transpiled(basis).layout
        found = range(self.circuit.n_qubits) if layout is None else layout.final_index_layout()
        return tuple(found)

    def _calibrate(self, shots: int) -> None:
        """For each wire, the numbers that stand for a read 0 and 1 so that <Z> comes out right."""
        used = self._guarded(lambda: set(map(self._qubits, self._bases)), "to place the circuit")
        missing = sorted(used - set(self._readings))
        if not missing:
            return
        n_qubits = self.circuit.n_qubits
        states = [
            Circuit(n_qubits, tuple(Operation(name, (w,)) for w in range(n_qubits)))
            for name in ("I", "X")
        ]
        n_circuits, read = 2 * len(missing), z_of_every_wire(n_qubits)

        def charge() -> None:
            self.ledger.charge(n_circuits, 1, shots, "mitigation", states[1], read)

        def job() -> np.ndarray:
            blocs = []
            for qubits in missing:
                for state in states:
                    measured = measure_in(to_qiskit(state), "Z" * n_qubits)
                    blocs.append((self._on_device(measured, 0, list(qubits)), None, shots))
            measured = [bloc.data.meas for bloc in self._job("sampler", blocs, {})]
            bits = MeasuredBits.of(measured, n_qubits)
            return np.stack([bits.product([w], PLAIN_READING) for w in range(n_qubits)], axis=-1)

        found = self._answer(job, charge, n_circuits, (n_circuits, n_qubits))
        # Measured <Z> of 0 and of 1: 1 and -1 on a perfect device.
        for qubits, (z0, z1) in zip(missing, found.reshape(-1, 2, n_qubits), strict=True):
            if np.min(z0 - z1) < _LEAST_CONTRAST:
                wire = int(np.argmin(z0 - z1))
                raise UserError(
                    f"wire {wire} reads 0 and 1 alike (<Z> = {z0[wire]:.2f} and {z1[wire]:.2f}): "
                    "its readout cannot be corrected, choose other qubits"
                )
            scale = 2 / (z0 - z1)
            centre = (z0 + z1) / 2
            self._readings[qubits] = np.stack([(1 - centre) * scale, (-1 - centre) * scale], -1)

    def _sample(self, angles: np.ndarray, shots: int) -> "list[MeasuredBits]":
        circuits = [self.transpiled(basis) for basis in self._bases]
        blocs = [bloc for circuit in circuits for bloc in self._blocs(circuit, angles)]
        result = self._job("sampler", [(*bloc, shots) for bloc in blocs], {})
        measured = [bloc.data.meas for bloc in result]
        n_blocs = len(blocs) // len(circuits)
        return [
            MeasuredBits.of(measured[i * n_blocs : (i + 1) * n_blocs], self.circuit.n_qubits)
            for i in range(len(circuits))
        ]

    def _estimate(self, angles: np.ndarray, shots: int | None) -> np.ndarray:
        circuit = self.transpiled()
        operators = to_pauli_operators(self.observables)
        if circuit.layout is not None:
            operators = [operator.apply_layout(circuit.layout) for operator in operators]
        column = [[operator] for operator in operators]  # (q, 1) against (B,): every pair
        blocs = [(c, column, *values) for c, *values in self._blocs(circuit, angles)]
        precision = 0.0 if shots is None else shots**-0.5
        result = self._job("estimator", blocs, {"precision": precision})
        values = [
            np.asarray(bloc.data.evs, dtype=float).reshape(len(operators), -1) for bloc in result
        ]
        return np.concatenate(values, axis=1).T

    def _blocs(self, circuit: QuantumCircuit, angles: np.ndarray) -> list[tuple[Any, ...]]:
        """The PUBs of one circuit: one, unless the circuit has no parameter left to bind."""
        column = {name: i for i, name in enumerate(self._names)}
        # The transpiler may drop a parameter, of an RZ right before a measurement for instance.
        columns = [column[parameter.name] for parameter in circuit.parameters]
        if not columns:
            return [(circuit, None)] * len(angles)
        return [(circuit, angles[:, columns])]

    def _job(self, kind: str, blocs: list[tuple[Any, ...]], options: dict[str, float]) -> Any:
        began = time.monotonic()
        primitive = self.device.job_primitive(kind, job_seed(self.seed, self.jobs))
        self.jobs += 1
        job = primitive.run(blocs, **options)
        if self.timeout is not None:  # `Executor` gives up by then; here the job is told so
            while not job.in_final_state():
                if time.monotonic() - began > self.timeout:
                    job.cancel()
                    raise TimeoutError(f"no result within {self.timeout:g} s")
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        return job.result()


def _check_layout(layout: list[int], n_qubits: int, available: int | None) -> None:
    most = math.inf if available is None else available
    outside = [q for q in layout if not isinstance(q, Integral) or not 0 <= int(q) < most]
    if len(layout) != n_qubits or len(set(layout)) != len(layout) or outside:
        raise UserError(
            f"initial_layout={layout!r}: give {n_qubits} different physical qubits, the first for "
            f"wire 0{'' if available is None else f', out of 0 to {available - 1}'}"
        )
