"""What one circuit of a model costs: its gates and depth as a device runs them, and its shifts.

How many such circuits a solve or a gradient needs is in `prediction.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from qdeq.circuits import Circuit, MeasuredCircuit, MeasurementEnsemble
from qdeq.lowering.program import Program, lower
from qdeq.lowering.shift import n_shifts
from qdeq.models import ModelFunction


@dataclass(frozen=True)
class CircuitCost:
    """One application of a model function to one input, as it is submitted to a device.

    Gates are those of the lowered circuit (`qdeq.lowering.Program`): a device's own compiler may
    need more, for wires that are not coupled and for gates that it does not have.

    Attributes
    ----------
    program, observables
        What is submitted, and what is measured.
    settings
        Measurement settings; each is an execution of its own.
    depth, one_qubit_gates, two_qubit_gates
        Of the whole circuit, state preparation or encoding rotations included, without the change
        of basis before measurement. Two-qubit gates are those on two or more wires.
    preparation_depth, preparation_one_qubit_gates, preparation_two_qubit_gates
        The part of it that prepares the input.
    encoding_slots, parameter_slots
        Rotations that the input drives, and that trainable angles drive.
    encoding_shifts, parameter_shifts
        Shifted circuits of a Jacobian by the parameter-shift rule: two per rotation, four per
        controlled one.
    """

    program: Program
    observables: MeasurementEnsemble
    settings: int
    depth: int
    one_qubit_gates: int
    two_qubit_gates: int
    preparation_depth: int
    preparation_one_qubit_gates: int
    preparation_two_qubit_gates: int
    encoding_slots: int
    parameter_slots: int
    encoding_shifts: int
    parameter_shifts: int

    @classmethod
    def of(cls, model: ModelFunction | MeasuredCircuit) -> CircuitCost:
        """Count the gates, settings and shifts of a model.

        Parameters
        ----------
        model
            A `QuantumModel`, what it measures, or a QNode that `model_function` took.

        Examples
        --------
        >>> import jax, qdeq
        >>> cost = CircuitCost.of(qdeq.paper_model(4, "amplitude", key=jax.random.key(0)))
        >>> cost.preparation_two_qubit_gates, cost.encoding_slots, cost.settings
        (14, 15, 1)
        """
        measured = MeasuredCircuit.of(model)
        program = Program.of(measured)
        preparation = lower(Circuit(measured.n_qubits, ()), measured.encoding).circuit
        encoding, parameters = program.encoding_slots, program.trainable_slots
        return cls(
            program=program,
            observables=measured.observables,
            settings=measured.n_settings,
            depth=program.circuit.depth(),
            one_qubit_gates=program.circuit.count(n_wires=1),
            two_qubit_gates=_entangling(program.circuit),
            preparation_depth=preparation.depth(),
            preparation_one_qubit_gates=preparation.count(n_wires=1),
            preparation_two_qubit_gates=_entangling(preparation),
            encoding_slots=len(encoding),
            parameter_slots=len(parameters),
            encoding_shifts=n_shifts(program.circuit, encoding),
            parameter_shifts=n_shifts(program.circuit, parameters),
        )


def _entangling(circuit: Circuit) -> int:
    return circuit.count() - circuit.count(n_wires=1)
