"""An OpenQASM 3 program as a circuit of Qiskit's, by Qiskit's reader with its gaps closed.

It raises gates with open parameters to powers only where the gate knows a formula, inverts some of
them to other gates, knows no constants and no index that a loop counts, and some of its errors do
not say where in the program they arose. What it does not know of expressions is in `_values`.
"""

import warnings
from typing import Any

import openqasm3
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit_qasm3_import import ConversionError, types
from qiskit_qasm3_import.converter import ConvertVisitor
from qiskit_qasm3_import.data import Scope, Symbol
from qiskit_qasm3_import.state import LocalScope

from qdeq.interop.qasm._values import Values, constant
from qdeq.interop.qiskit.expand import expanded

# So often a power repeats its gate.
_MOST_REPETITIONS = 64
# So many rounds of loops are written out.
_MOST_ROUNDS = 500_000


def quantum_circuit(text: str) -> QuantumCircuit:
    """The program's circuit; raises whatever the parser and the reader raise."""
    with warnings.catch_warnings():
        # Of Qiskit's importer, which calls Qiskit in ways that Qiskit will drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        state: Any = _Visitor().convert(_parsed(text))
    return state.circuit


def _parsed(text: str) -> openqasm3.ast.Program:
    try:
        return openqasm3.parse(text)
    except openqasm3.parser.QASM3ParsingError as error:
        reasons = getattr(error.__cause__, "args", ())
        token = getattr(reasons[0] if reasons else None, "offendingToken", None)
        if token is None:
            raise
        raise openqasm3.parser.QASM3ParsingError(
            f"{token.line},{token.column}: {token.text!r} is not expected there"
        ) from error


class _Visitor(ConvertVisitor):
    _rounds = 0

    def visit(self, node: Any, context: Any = None) -> Any:
        try:
            return super().visit(node, context)
        except (ConversionError, RecursionError):
            raise
        except Exception as error:
            raise ConversionError(str(error) or type(error).__name__, node) from error

    def visit_ConstantDeclaration(self, node: Any, context: Any) -> Any:
        value, kind = self._resolve_generic(node.init_expression, context, strict=True)
        if not getattr(kind, "const", False):
            raise ConversionError("a constant needs a value that is one", node)
        value, kind = constant(node.type, value, node)
        name = node.identifier.name
        context.symbol_table.insert(Symbol(name, value, kind, context.scope, node))
        return context

    def visit_ForInLoop(self, node: Any, context: Any) -> Any:
        values, _ = self._resolve_generic(node.set_declaration, context, strict=True)
        if isinstance(values, slice) and None not in (values.start, values.stop):
            values = range(values.start, values.stop, 1 if values.step is None else values.step)
        counts = isinstance(node.type, (openqasm3.ast.IntType, openqasm3.ast.UintType))
        if not counts or not isinstance(values, (range, tuple)):
            return super().visit_ForInLoop(node, context)  # says what of it cannot be read
        self._rounds += len(values)
        if self._rounds > _MOST_ROUNDS:
            raise ConversionError(f"more than {_MOST_ROUNDS:,} rounds of loops", node)
        for value in values:
            with LocalScope(context) as inner:
                # No constant: Qiskit's i / 2 is no division of whole numbers.
                symbol = Symbol(node.identifier.name, value, types.Int(), Scope.LOCAL, node)
                inner.symbol_table.insert(symbol)
                for statement in node.block:
                    self.visit(statement, inner)
        return context

    def _resolve_generic(self, node: Any, context: Any, strict: bool) -> Any:
        return Values(context, strict).resolve(node)

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
