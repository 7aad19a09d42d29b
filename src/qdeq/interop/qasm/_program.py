"""An OpenQASM 3 program as a circuit of Qiskit's, by Qiskit's reader with its gaps closed.

It raises gates with open parameters to powers only where the gate knows a formula, inverts some of
them to other gates, gives gates that a program defines their angles in alphabetical order, knows no
constants, no subroutines and no index that a loop counts, and some of its errors do not say where
in the program they arose. What it does not know of expressions is in `_values`.
"""

import warnings
from typing import Any

import openqasm3
from qiskit import QuantumCircuit
from qiskit.circuit import Clbit, Gate, Measure, ParameterExpression, QuantumRegister
from qiskit_qasm3_import import ConversionError, types
from qiskit_qasm3_import.converter import ConvertVisitor
from qiskit_qasm3_import.data import Symbol
from qiskit_qasm3_import.state import LocalScope

from qdeq.interop.qasm._values import Values, constant, counted
from qdeq.interop.qiskit.expand import expanded

# So often a power repeats its gate.
_MOST_REPETITIONS = 64
# So many rounds of loops, and calls, are written out.
_MOST_ROUNDS = 500_000

_NUMBERS = (
    openqasm3.ast.AngleType,
    openqasm3.ast.BoolType,
    openqasm3.ast.FloatType,
    openqasm3.ast.IntType,
    openqasm3.ast.UintType,
)
_DURATIONS = (openqasm3.ast.DurationType, openqasm3.ast.StretchType)


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

    def visit_QuantumGateDefinition(self, node: Any, context: Any) -> Any:
        context = super().visit_QuantumGateDefinition(node, context)
        builder = context.symbol_table.get(node.name.name, node).data
        by_name = {parameter.name: parameter for parameter in builder._order}
        builder._order = tuple(by_name[argument.name] for argument in node.arguments)
        return context

    def visit_QuantumGate(self, node: Any, context: Any) -> Any:
        symbol = context.symbol_table.get(node.name.name, node)
        if symbol is not None and isinstance(symbol.type, types.Gate):
            takes: Any = symbol.type.n_classical
            takes = takes if isinstance(takes, int) else len(takes)
            if len(node.arguments) != takes:
                given = len(node.arguments)
                raise ConversionError(f"{symbol.name} takes {takes} angles, not {given}", node)
        return super().visit_QuantumGate(node, context)

    def visit_QuantumMeasurementStatement(self, node: Any, context: Any) -> Any:
        if node.target is not None:
            return super().visit_QuantumMeasurementStatement(node, context)
        measured = self._resolve_qarg(node.measure.qubit, context)
        for qubit in measured if isinstance(measured, (list, QuantumRegister)) else [measured]:
            context.circuit.append(Measure(), [qubit], [_a_bit(context.circuit)])
        return context

    def visit_ConstantDeclaration(self, node: Any, context: Any) -> Any:
        value, kind = self._resolve_generic(node.init_expression, context, strict=True)
        if not getattr(kind, "const", False):
            raise ConversionError("a constant needs a value that is one", node)
        _name(node.identifier, *constant(node.type, value, node), context)
        return context

    def visit_ClassicalDeclaration(self, node: Any, context: Any) -> Any:
        if isinstance(node.type, _DURATIONS):
            _name(node.identifier, (0.0, "s"), types.Duration(const=True), context)
        elif isinstance(node.type, _NUMBERS) and node.init_expression is not None:
            _name(node.identifier, *self._number(node.type, node.init_expression, context), context)
        else:
            return super().visit_ClassicalDeclaration(node, context)
        return context

    def _number(self, declared: Any, given: Any, context: Any) -> tuple[Any, Any]:
        # Of a variable or an argument, which stays what it is: assignments cannot be read.
        value, _ = self._resolve_generic(given, context, strict=False)
        if isinstance(value, ParameterExpression):
            return value, types.Float()
        return constant(declared, value, given)

    def _resolve_constant_duration(self, node: Any, context: Any) -> tuple[float, str]:
        return 0.0, "s"  # whatever it is: delays are left out

    def visit_BranchingStatement(self, node: Any, context: Any) -> Any:
        value, kind = self._resolve_generic(node.condition, context, strict=True)
        if value is None or not getattr(kind, "const", False):
            return super().visit_BranchingStatement(node, context)  # bits, or it says what is wrong
        return self._block(node.if_block if value else node.else_block, context)

    def visit_CompoundStatement(self, node: Any, context: Any) -> Any:
        return self._block(node.statements, context)

    def _block(self, statements: Any, context: Any) -> Any:
        with LocalScope(context) as inner:
            for statement in statements:
                self.visit(statement, inner)
        return context

    def visit_SubroutineDefinition(self, node: Any, context: Any) -> Any:
        _name(node.name, node, types.Never(), context)
        return context

    def visit_ExpressionStatement(self, node: Any, context: Any) -> Any:
        call = node.expression
        called = getattr(getattr(call, "name", None), "name", None)
        symbol = called and context.symbol_table.get(called, call)
        if not symbol or not isinstance(symbol.data, openqasm3.ast.SubroutineDefinition):
            raise ConversionError("only calls of the program's own subroutines can be read", node)
        routine = symbol.data
        takes, n_given = len(routine.arguments), len(call.arguments)
        if n_given != takes:
            raise ConversionError(f"{called} takes {takes} arguments, not {n_given}", node)
        self._count(1, node)
        given = [
            self._argument(argument, value, context)
            for argument, value in zip(routine.arguments, call.arguments, strict=True)
        ]
        # What is around the call is not seen inside.
        tables = context.symbol_table._stack
        around, tables[1:] = tables[1:], []
        try:
            with LocalScope(context) as inner:
                for argument, (value, kind) in zip(routine.arguments, given, strict=True):
                    _name(argument.name, value, kind, inner)
                for statement in routine.body:
                    self.visit(statement, inner)
        finally:
            tables[1:] = around
        return context

    def _argument(self, argument: Any, given: Any, context: Any) -> tuple[Any, Any]:
        if isinstance(argument, openqasm3.ast.ClassicalArgument):
            return self._number(argument.type, given, context)
        value, kind = self._resolve_generic(given, context, strict=True)
        size = argument.size and self._resolve_constant_int(argument.size, context)
        single = isinstance(kind, (types.Qubit, types.HardwareQubit))
        if not (single if size is None else kind == types.QubitArray(size)):
            wanted = "one qubit" if size is None else f"a register of {size} qubits"
            raise ConversionError(f"{argument.name.name} is {wanted}, not {kind.pretty()}", given)
        return value, kind

    def visit_ForInLoop(self, node: Any, context: Any) -> Any:
        values, _ = self._resolve_generic(node.set_declaration, context, strict=True)
        if isinstance(values, slice):
            if None in (values.start, values.stop):
                raise ConversionError("the range of a loop needs a start and an end", node)
            values = counted(values)
        counts = isinstance(node.type, (openqasm3.ast.IntType, openqasm3.ast.UintType))
        if not counts or not isinstance(values, (range, tuple)):
            return super().visit_ForInLoop(node, context)  # says what of it cannot be read
        self._count(len(values), node)
        for value in values:
            with LocalScope(context) as inner:
                # No constant: Qiskit's i / 2 is no division of whole numbers.
                _name(node.identifier, value, types.Int(), inner)
                for statement in node.block:
                    self.visit(statement, inner)
        return context

    def _count(self, more: int, node: Any) -> None:
        self._rounds += more
        if self._rounds > _MOST_ROUNDS:
            raise ConversionError(f"more than {_MOST_ROUNDS:,} rounds of loops and calls", node)

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


def _a_bit(circuit: QuantumCircuit) -> Clbit:
    """For a result that the program does not keep."""
    circuit.add_bits([Clbit()])
    return circuit.clbits[-1]


def _name(identifier: Any, value: Any, kind: Any, context: Any) -> None:
    symbol = Symbol(identifier.name, value, kind, context.scope, identifier)
    try:
        context.symbol_table.insert(symbol)
    except ConversionError as error:
        taken = f"{symbol.name} is the name of something else already: choose another one"
        raise ConversionError(taken, identifier) from error


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
