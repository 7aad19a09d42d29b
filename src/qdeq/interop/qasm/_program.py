"""An OpenQASM 3 program as a circuit of Qiskit's, by Qiskit's reader with its gaps closed.

It raises gates with open parameters to powers only where the gate knows a formula, inverts some of
them to other gates, and some of its errors do not say where in the program they arose.
"""

import warnings
from typing import Any

import openqasm3
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit_qasm3_import import ConversionError
from qiskit_qasm3_import.converter import ConvertVisitor

from qdeq.interop.qiskit.expand import expanded

# So often a power repeats its gate.
_MOST_REPETITIONS = 64


def quantum_circuit(text: str) -> QuantumCircuit:
    """The program's circuit; raises whatever the parser and the reader raise."""
    with warnings.catch_warnings():
        # Of Qiskit's importer, which calls Qiskit in ways that Qiskit will drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        state: Any = _Visitor().convert(openqasm3.parse(text))
    return state.circuit


class _Visitor(ConvertVisitor):
    def visit(self, node: Any, context: Any = None) -> Any:
        try:
            return super().visit(node, context)
        except (ConversionError, RecursionError):
            raise
        except Exception as error:
            raise ConversionError(str(error) or type(error).__name__, node) from error

    def _apply_gate_modifier(self, modifier: Any, gate: Any, context: Any) -> Any:
        names, is_open = openqasm3.ast.GateModifierName, _is_open(gate)
        if is_open and modifier.modifier is names.inv:
            return _inverse(gate)
        if not is_open or modifier.modifier is not names.pow:
            return super()._apply_gate_modifier(modifier, gate, context)
        exponent = self._resolve_constant_float(modifier.argument, context)
        if exponent % 1 == 0 and abs(exponent) <= _MOST_REPETITIONS:
            return _repeated(gate, int(exponent))
        try:
            return super()._apply_gate_modifier(modifier, gate, context)
        except Exception as error:
            raise ConversionError(
                f"{gate.name} is raised to the power {exponent:g}: with open parameters only whole "
                f"powers up to {_MOST_REPETITIONS} can be read",
                modifier,
            ) from error


def _is_open(gate: Gate) -> bool:
    return any(getattr(angle, "parameters", ()) for angle in gate.params)


def _inverse(gate: Gate) -> Gate:
    # Of a controlled `cu` Qiskit's own `inverse` loses the phase, if that is a parameter: its parts
    # are inverted here.
    alone = QuantumCircuit(gate.num_qubits, name=f"{gate.name}_inverse")
    alone.append(gate, range(gate.num_qubits))
    return expanded(alone).inverse().to_gate()


def _repeated(gate: Gate, times: int) -> Gate:
    circuit = QuantumCircuit(gate.num_qubits, name=f"{gate.name}_repeated")
    for _ in range(abs(times)):
        circuit.append(gate if times > 0 else _inverse(gate), range(gate.num_qubits))
    return circuit.to_gate()
