"""Which of Qiskit's primitives runs on which backend, and a simulator that counts what it ran.

What is run on them is decided in `executor`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.primitives import (
    BackendEstimatorV2,
    BackendSamplerV2,
    BaseEstimatorV2,
    BaseSamplerV2,
)
from qiskit.providers import BackendV2
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import PassManager, generate_preset_pass_manager

from qdeq.errors import UserError
from qdeq.interop._extras import check_installed
from qdeq.interop._foreign import comes_from

check_installed("qiskit_aer", extra="qiskit", needed_for="qdeq.interop.qiskit")

from qiskit_aer import AerSimulator  # noqa: E402  (after the check that it is there)
from qiskit_aer.primitives import EstimatorV2, SamplerV2  # noqa: E402

# A density matrix of n qubits holds 4**n numbers; 12 qubits are 0.3 GB and some seconds a circuit.
_MOST_EXACT_NOISY_QUBITS = 12


# Aer 0.18 binds the angle of a controlled gate to nothing, or to the first row only, without a word
# (Qiskit/qiskit-aer issues 2323, 2391, 2403): circuits with parameters must not hold any.
_NOT_BOUND_BY_AER = ("crx", "cry", "crz", "cp", "cu", "cu1", "cu3", "mcp", "mcphase")


class CountingSimulator(AerSimulator):
    """Qiskit Aer's simulator, which also adds up what its own results say was run.

    A second opinion on a ledger: `circuits` and `shots` come from the metadata of Aer's results,
    not from what was asked for. Everything else is `AerSimulator`'s; make one with a noise model
    by ``CountingSimulator.from_backend(backend)``.

    Attributes
    ----------
    circuits
        Circuits that were run, one for every row of angles and measurement setting.
    shots
        Shots over all of them.
    jobs
        Jobs, that is, submissions.

    Examples
    --------
    >>> from qiskit import QuantumCircuit
    >>> simulator = CountingSimulator()
    >>> circuit = QuantumCircuit(1)
    >>> circuit.measure_all()
    >>> _ = simulator.run([circuit, circuit], shots=10)
    >>> simulator.circuits, simulator.shots, simulator.jobs
    (2, 20, 1)
    """

    circuits = 0
    shots = 0
    jobs = 0

    def run(self, *arguments: Any, **options: Any) -> Any:
        """Run as `AerSimulator.run` does, wait, and count."""
        job = super().run(*arguments, **options)
        results = job.result().results
        self.circuits += len(results)
        self.shots += sum(result.shots for result in results)
        self.jobs += 1
        return job


@dataclass(frozen=True)
class Device:
    """Where circuits run.

    Attributes
    ----------
    name
        For messages and results.
    kind
        ``"sampler"`` (counts) or ``"estimator"`` (expectation values).
    target
        The backend whose gates and couplings circuits are transpiled to; None for none.
    simulator
        The Aer simulator behind it, if there is one.
    primitive
        A primitive to use as it is; None makes one for each job.
    """

    name: str
    kind: str
    target: BackendV2 | None
    simulator: AerSimulator | None = None
    primitive: BaseSamplerV2 | BaseEstimatorV2 | None = None

    @classmethod
    def of(cls, backend: Any, kind: str) -> "Device":
        """The device that a backend, a fake backend, a primitive or None (Aer) stands for.

        Raises
        ------
        UserError
            For any other object, and for a simulator whose noise model Aer would apply wrongly.
        """
        if backend is None:
            backend = CountingSimulator()
        if isinstance(backend, BaseSamplerV2 | BaseEstimatorV2):
            own = "sampler" if isinstance(backend, BaseSamplerV2) else "estimator"
            target = _backend_of(backend)
            simulator = target if isinstance(target, AerSimulator) else None
            return cls(type(backend).__name__, own, target, simulator, backend)
        if isinstance(backend, AerSimulator):
            _check_noise(backend)
            return cls(str(backend.name), kind, backend, backend)
        if _is_fake(backend):
            simulator = CountingSimulator.from_backend(backend)
            return cls(str(backend.name), kind, backend, simulator)
        if isinstance(backend, BackendV2):
            return cls(str(backend.name), kind, backend)
        raise UserError(
            f"backend={backend!r} is not a device of Qiskit's: give a backend (BackendV2), a V2 "
            "sampler or estimator, or None for Aer"
        )

    def passes(
        self, *, optimization_level: int, seed: int | None, initial_layout: list[int] | None
    ) -> PassManager | None:
        """What transpiles circuits for this device; None where nothing needs to be done."""
        if self.target is None:
            return None
        described: dict[str, Any] = {"backend": self.target, "initial_layout": initial_layout}
        if isinstance(self.target, AerSimulator):
            known = get_standard_gate_name_mapping()
            names = set(self.target.operation_names) & set(known)
            described = {
                "basis_gates": sorted(names - set(_NOT_BOUND_BY_AER)),
                "coupling_map": self.target.coupling_map,
                "initial_layout": initial_layout,
            }
        return generate_preset_pass_manager(
            optimization_level=optimization_level,
            **described,
            seed_transpiler=seed,
        )

    def job_primitive(self, kind: str, seed: int) -> Any:
        """The sampler or estimator of one job.

        Parameters
        ----------
        kind
            ``"sampler"`` or ``"estimator"``.
        seed
            For simulators; every job needs its own, because Aer starts from it again.
        """
        if self.primitive is not None:
            return self.primitive
        if self.simulator is not None:
            if kind == "sampler":
                return SamplerV2.from_backend(self.simulator, seed=seed)
            options: dict[str, Any] = {"seed_simulator": seed}
            if self.is_noisy:
                options["method"] = "density_matrix"
            return EstimatorV2.from_backend(self.simulator, options={"run_options": options})
        assert self.target is not None
        if comes_from(self.target, "qiskit_ibm_runtime"):
            from qiskit_ibm_runtime import Estimator, Sampler

            return (Sampler if kind == "sampler" else Estimator)(mode=self.target)
        made = BackendSamplerV2 if kind == "sampler" else BackendEstimatorV2
        return made(backend=self.target)

    @property
    def is_noisy(self) -> bool:
        """Whether it is a simulator with a noise model."""
        return self.simulator is not None and _noise_model(self.simulator) is not None

    def check_exact(self, n_qubits: int) -> None:
        """Raise `UserError` unless a circuit's expectation values can be had without shots."""
        if self.primitive is not None and self.kind == "sampler":
            raise UserError(f"shots=None with {self.name}: a sampler measures, give it shots")
        if self.simulator is None and self.primitive is None:
            raise UserError(
                f"shots=None with {self.name}: only a simulator knows exact expectation values, "
                "give a number of shots"
            )
        if isinstance(self.target, BackendV2) and self.target.coupling_map is not None:
            n_qubits = self.target.num_qubits  # a transpiled circuit has all of the device's
        if self.is_noisy and n_qubits > _MOST_EXACT_NOISY_QUBITS:
            raise UserError(
                f"shots=None with {self.name}: exact noise on {n_qubits} qubits needs a density "
                "matrix that is too large, give a number of shots or a device of at most "
                f"{_MOST_EXACT_NOISY_QUBITS} qubits"
            )


def job_seed(seed: int | None, job: int) -> int:
    """A seed of its own for every job; None draws one from the system's entropy.

    >>> job_seed(0, 0) == job_seed(0, 0), job_seed(0, 0) == job_seed(0, 1)
    (True, False)
    """
    entropy = None if seed is None else [seed, job]
    # Aer takes 64-bit seeds and adds the number of a circuit to it: leave some room.
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])


def _noise_model(simulator: AerSimulator) -> Any:
    return getattr(simulator.options, "noise_model", None)


def _check_noise(simulator: AerSimulator) -> None:
    """Raise `UserError` where noise belongs to gates that must be transpiled away."""
    noise = _noise_model(simulator)
    lost = sorted(set(_NOT_BOUND_BY_AER) & set(noise.noise_instructions if noise else ()))
    if lost:
        raise UserError(
            f"the noise model of {simulator.name} has errors for {', '.join(lost)}, whose angles "
            "Aer binds wrongly: attach them to cx, rz and other gates instead"
        )


def _is_fake(backend: object) -> bool:
    """A published snapshot of a device, or Qiskit's generic one: only Aer can run it."""
    snapshot = comes_from(backend, "qiskit_ibm_runtime.fake_provider")
    return snapshot or isinstance(backend, GenericBackendV2)


def _backend_of(primitive: Any) -> BackendV2 | None:
    """The backend that a primitive runs on. Without it, circuits would go there untranspiled."""
    for name in ("backend", "_backend"):  # Aer's primitives keep theirs private
        found = getattr(primitive, name, None)
        if callable(found) and not isinstance(found, BackendV2):
            found = found()
        if isinstance(found, BackendV2):
            return found
    return None
