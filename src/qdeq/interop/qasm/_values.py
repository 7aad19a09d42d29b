"""Values in an OpenQASM 3 program that Qiskit's reader does not know: constants and functions."""

import math
from typing import Any

from openqasm3 import ast
from qiskit.circuit import ParameterExpression
from qiskit_qasm3_import import ConversionError, types
from qiskit_qasm3_import.expression import ValueResolver

# Of a Python number; of an open parameter the method of that name, which others lack.
_FUNCTIONS: dict[str, Any] = {
    "arccos": math.acos,
    "arcsin": math.asin,
    "arctan": math.atan,
    "ceiling": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
_WHOLE = (types.Int, types.Uint, types.Bool)


class Values(ValueResolver):
    """Qiskit's resolver with powers, remainders and the language's own functions."""

    def visit_FunctionCall(self, node: ast.FunctionCall) -> tuple[Any, types.Type]:
        """A function of numbers, or of open parameters where Qiskit has it."""
        name, given = node.name.name, [self.visit(argument) for argument in node.arguments]
        if name in ("pow", "mod") and len(given) == 2:
            return _power(*given) if name == "pow" else _remainder(*given)
        if name not in _FUNCTIONS or len(given) != 1:
            raise ConversionError(f"{name} of {len(given)} values is no known function", node)
        ((value, _),) = given
        if not isinstance(value, ParameterExpression):
            return _FUNCTIONS[name](value), types.Float(const=True)
        if name == "sqrt":
            return value**0.5, types.Float(const=False)
        if not hasattr(value, name):
            raise ConversionError(f"{name} of a parameter cannot be read", node)
        return getattr(value, name)(), types.Float(const=False)

    def visit_BinaryExpression(self, node: ast.BinaryExpression) -> tuple[Any, types.Type]:
        """All that Qiskit's knows, powers, and remainders of numbers."""
        if node.op.name == "**":
            return _power(self.visit(node.lhs), self.visit(node.rhs))
        if node.op.name == "%":
            return _remainder(self.visit(node.lhs), self.visit(node.rhs))
        return super().visit_BinaryExpression(node)


def constant(declared: ast.ClassicalType, value: Any, node: ast.QASMNode) -> tuple[Any, types.Type]:
    """A value as a constant of the declared type."""
    if isinstance(declared, ast.FloatType):
        return float(value), types.Float(const=True)
    if isinstance(declared, ast.BoolType):
        return bool(value), types.Bool(const=True)
    if not isinstance(declared, (ast.IntType, ast.UintType)):
        name = type(declared).__name__.removesuffix("Type").lower()
        raise ConversionError(f"constants of type '{name}' are not supported", node)
    signed, size = isinstance(declared, ast.IntType), getattr(declared.size, "value", 64)
    least, most = (-(2 ** (size - 1)), 2 ** (size - 1)) if signed else (0, 2**size)
    if value != int(value) or not least <= value < most:
        raise ConversionError(f"{value} is no whole number of this type", node)
    return int(value), (types.Int if signed else types.Uint)(const=True)


def _power(base: tuple, exponent: tuple) -> tuple[Any, types.Type]:
    (x, kind), (y, other) = base, exponent
    is_open = isinstance(x, ParameterExpression) or isinstance(y, ParameterExpression)
    whole = isinstance(kind, _WHOLE) and isinstance(other, _WHOLE) and not is_open and y >= 0
    if whole and y * math.log2(max(1, abs(x))) >= 64:  # before all of its digits are computed
        raise OverflowError(f"{x} ** {y} is beyond 64 bits")
    return x**y, _kind((x, y), whole)


def _remainder(number: tuple, by: tuple) -> tuple[Any, types.Type]:
    (x, kind), (y, other) = number, by
    whole = isinstance(kind, _WHOLE) and isinstance(other, _WHOLE)
    found = math.fmod(x, y)  # with the sign of the first, as in C
    return int(found) if whole else found, _kind((x, y), whole)


def _kind(values: tuple, whole: bool) -> types.Type:
    if any(isinstance(value, ParameterExpression) for value in values):
        return types.Float(const=False)
    return types.Int(const=True) if whole else types.Float(const=True)
