"""Values in an OpenQASM 3 program that Qiskit's reader does not know: constants and functions."""

import math
import operator
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
_RELATIONS: dict[str, Any] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&&": lambda one, other: bool(one and other),
    "||": lambda one, other: bool(one or other),
}
_WHOLE = (types.Int, types.Uint, types.Bool)
_BITS = (types.Bit, types.BitArray)
_REGISTERS = (types.BitArray, types.QubitArray)


class Values(ValueResolver):
    """Qiskit's resolver with casts, relations, powers and the language's own functions."""

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
        """All that Qiskit's knows, powers, relations, and remainders of numbers."""
        if node.op.name == "**":
            return _power(self.visit(node.lhs), self.visit(node.rhs))
        if node.op.name == "%":
            return _remainder(self.visit(node.lhs), self.visit(node.rhs))
        if node.op.name in _RELATIONS:
            (x, kind), (y, other) = self.visit(node.lhs), self.visit(node.rhs)
            if isinstance(kind, _BITS) or isinstance(other, _BITS):
                return None, types.Bool(const=False)  # only a device knows
            if not (isinstance(x, (int, float)) and isinstance(y, (int, float))):
                raise ConversionError("only numbers can be compared, no inputs or durations", node)
            return _RELATIONS[node.op.name](x, y), types.Bool(const=True)
        found, kind = super().visit_BinaryExpression(node)
        if node.op.name == "/" and isinstance(found, int) and found < 0:
            # Towards zero, as in C: Python's -3 // 2 is -2.
            found = -(abs(self.visit(node.lhs)[0]) // abs(self.visit(node.rhs)[0]))
        return found, kind

    def visit_UnaryExpression(self, node: ast.UnaryExpression) -> tuple[Any, types.Type]:
        """All that Qiskit's knows, and "not"."""
        if node.op.name != "!":
            return super().visit_UnaryExpression(node)
        value, kind = self.visit(node.expression)
        known = not isinstance(kind, _BITS) and value is not None
        return (not value if known else None), types.Bool(const=known)

    def visit_Cast(self, node: ast.Cast) -> tuple[Any, types.Type]:
        """A number as another type; of an open parameter an angle is a floating-point number."""
        value, _ = self.visit(node.argument)
        if isinstance(value, ParameterExpression):
            if isinstance(node.type, (ast.FloatType, ast.AngleType)):
                return value, types.Float(const=False)
            raise ConversionError("an input can be cast to float and angle only", node)
        whole = isinstance(node.type, (ast.IntType, ast.UintType))
        return constant(node.type, math.trunc(value) if whole else value, node)

    def visit_SizeOf(self, node: ast.SizeOf) -> tuple[Any, types.Type]:
        """Of a register."""
        _, kind = self.visit(node.target)
        if not isinstance(kind, _REGISTERS) or node.index is not None:
            raise ConversionError("sizeof is known of registers only", node)
        return kind.size, types.Uint(const=True)

    def visit_RangeDefinition(self, node: ast.RangeDefinition) -> tuple[Any, types.Type]:
        """First, last and step, each None where it is left out; loops count with them too."""
        parts = (node.start, node.end, node.step)
        given = [None if part is None else self.visit(part)[0] for part in parts]
        if not all(part is None or isinstance(part, int) for part in given) or given[2] == 0:
            raise ConversionError("a range needs whole numbers, and a step that is not 0", node)
        return slice(*given), types.Range(types.Int(const=True))

    def _index_collection(
        self, collection: Any, collection_type: Any, indexer: Any, base: ast.QASMNode
    ) -> tuple[Any, types.Type]:
        if isinstance(indexer, list) and len(indexer) == 1:
            chosen, _ = self.visit(indexer[0])
            if isinstance(chosen, slice) and isinstance(collection_type, _REGISTERS):
                size, places = len(collection), counted(chosen, len(collection))
                if not all(0 <= place < size for place in places):
                    raise ConversionError(f"a register of {size} has no such range", base)
                return [collection[place] for place in places], type(collection_type)(len(places))
        return super()._index_collection(collection, collection_type, indexer, base)


def counted(ends: slice, size: int | None = None) -> range:
    """What a range counts: both ends included, and of a register of some size -1 the last entry.

    Python's slices end elsewhere: there 0:-1 lacks the last entry.

    Examples
    --------
    >>> list(counted(slice(2, 0, -1))), list(counted(slice(-2, -1, None), 4))
    ([2, 1, 0], [2, 3])
    """
    step = 1 if ends.step is None else ends.step
    first, last = ends.start, ends.stop
    if size is not None:
        whole = (0, size - 1) if step > 0 else (size - 1, 0)
        first, last = (
            end if given is None else given % size if -size <= given < 0 else given
            for given, end in zip((first, last), whole, strict=True)
        )
    return range(first, last + (1 if step > 0 else -1), step)


def constant(declared: ast.ClassicalType, value: Any, node: ast.QASMNode) -> tuple[Any, types.Type]:
    """A value as a constant of the declared type."""
    if isinstance(declared, ast.FloatType):
        return float(value), types.Float(const=True)
    if isinstance(declared, ast.AngleType):
        # Not modulo 2 pi, as no input and no angle of a gate is: of `crx` that is another angle.
        step = math.tau / 2 ** getattr(declared.size, "value", 64)
        return (round(value / step) * step if declared.size else value), types.Angle(const=True)
    if isinstance(declared, ast.BoolType) or (
        isinstance(declared, ast.BitType) and declared.size is None
    ):
        return bool(value), types.Bool(const=True)
    if isinstance(declared, ast.DurationType):
        return value, types.Duration(const=True)
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
