"""What makes two traced functions the same computation, as a value that compares and hashes.

A trace is a list of operations on numbered variables. Most of their parameters compare by value. A
function among them (the derivative rule of a `custom_jvp`, a callback) is compared by its code, by
what it closes over, and by the numbers that it may read there. Whatever cannot be compared is only
equal to itself: that costs a compilation, and never gives one computation the program of another.
"""

import dataclasses
import functools
import types
import weakref
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.extend.linear_util import WrappedFun

_FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    functools.partial,
    WrappedFun,
    jax.custom_jvp,
    jax.custom_vjp,
)

# What JAX keeps beside a derivative rule while it traces: it has no influence on what is computed.
_BOOKKEEPING = ("Store", "EqualStore", "DebugInfo")


# Stands before the functions that are being looked at where they run with the program, and read
# what they refer to then: a callback that counts its calls is no other one every time.
_AT_RUN_TIME = object()


class _Itself:
    """An object that is only equal to itself; held, so that no other can get its address."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class _Hashed:
    """A long tuple with its hash, which Python would compute anew at every look-up."""

    __slots__ = ("hash", "value")

    def __init__(self, value: tuple) -> None:
        self.value, self.hash = value, hash(value)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, _Hashed) and self.hash == other.hash and self.value == other.value
        )

    def __hash__(self) -> int:
        return self.hash


# JAX keeps the traces of jitted functions, so that large ones come back as the same object.
_known: weakref.WeakKeyDictionary[Jaxpr, _Hashed] = weakref.WeakKeyDictionary()


def of_trace(trace: Jaxpr) -> Hashable:
    """The computation of a trace: equal for equal operations in the same order.

    Parameters
    ----------
    trace
        Without its constants: only their shapes and dtypes count.
    """
    found = _known.get(trace)
    if found is None:
        found = _known[trace] = _Hashed(_operations(trace))
    return found


def of_value(value: Any) -> Hashable:
    """A setting of any kind: numbers by value and type, functions by their code, the rest by `==`.

    Examples
    --------
    >>> of_value(1) == of_value(1), of_value(1) == of_value(1.0)
    (True, False)
    >>> of_value(lambda x: x + 1) == of_value(lambda x: x + 2)
    False
    """
    return _value(value, ())


def _operations(trace: Jaxpr) -> tuple:
    numbers: dict[Any, int] = {}

    def number(variable: Any) -> Hashable:
        if isinstance(variable, Literal):
            return (variable.aval, of_value(variable.val))
        return numbers.setdefault(variable, len(numbers))

    inputs = [*trace.constvars, *trace.invars]
    return (
        len(trace.constvars),
        tuple((number(variable), variable.aval) for variable in inputs),
        tuple(
            (
                equation.primitive,
                tuple(number(variable) for variable in equation.invars),
                tuple((number(variable), variable.aval) for variable in equation.outvars),
                _parameters(equation),
                equation.ctx,
            )
            for equation in trace.eqns
        ),
        tuple(number(variable) for variable in trace.outvars),
    )


def _parameters(equation: Any) -> Hashable:
    inside = (_AT_RUN_TIME,) if "callback" in equation.primitive.name else ()
    return tuple((name, _value(item, inside)) for name, item in sorted(equation.params.items()))


def _value(value: Any, inside: tuple[Any, ...]) -> Hashable:
    """`inside` are the functions that are being looked at: a recursive one closes over itself."""
    if isinstance(value, (Jaxpr, ClosedJaxpr)):  # one class in JAX 0.11, with constants
        trace = value if isinstance(value, Jaxpr) else value.jaxpr
        constants = getattr(value, "consts", ())
        return of_trace(trace), tuple(_Itself(constant) for constant in constants)
    if isinstance(value, float):
        return type(value), value.hex()  # tells -0.0 from 0.0, and knows NaN
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_value(item, inside) for item in value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.ndarray, value.shape, value.dtype, value.tobytes()
    if isinstance(value, _FUNCTIONS):
        return _function(value, inside)
    by_value = type(value).__eq__ is not object.__eq__
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and by_value:
        fields = tuple((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return type(value), tuple((name, _value(item, inside)) for name, item in fields)
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    return (type(value), value) if by_value or isinstance(value, type) else _Itself(value)


def _function(function: Any, inside: tuple[Any, ...]) -> Hashable:
    if any(function is other for other in inside):
        return "itself"
    inside = (*inside, function)
    if isinstance(function, types.MethodType):
        own = _read_by(function.__func__, (function.__self__,), inside)
        whose = _captured(function.__self__, inside)
        return "method", whose, own, _function(function.__func__, inside)
    if isinstance(function, functools.partial):
        keywords = tuple(sorted(function.keywords.items()))
        return "partial", _value((function.func, *function.args, keywords), inside)
    if isinstance(function, WrappedFun):
        parts = (function.f, function.transforms, function.params, function.in_type)
        return "wrapped", _internal(parts, inside)
    if isinstance(function, (jax.custom_jvp, jax.custom_vjp)):
        rules = sorted(item for item in vars(function).items() if not item[0].startswith("__"))
        return type(function), _captured(tuple(rules), inside)
    cells = tuple(_content(cell) for cell in function.__closure__ or ())
    held = (cells, function.__defaults__ or (), tuple((function.__kwdefaults__ or {}).items()))
    if function.__module__.startswith("jax."):
        return function.__code__, _Itself(function.__globals__), _internal(held, inside)
    read = (*cells, *map(function.__globals__.get, function.__code__.co_names))
    now = _read_by(function, read, inside)
    return function.__code__, _Itself(function.__globals__), _captured(held, inside), now


def _read_by(function: Any, refers_to: tuple[Any, ...], inside: tuple[Any, ...]) -> Hashable:
    if inside and inside[0] is _AT_RUN_TIME:
        return None
    return tuple(_now(value, function.__code__.co_names, ()) for value in refers_to)


def _now(value: Any, names: tuple[str, ...], within: tuple[Any, ...]) -> Hashable:
    """The numbers and arrays that code with these names may read of what it refers to.

    A trace shows none of what a derivative rule alone reads, such as the slope of a surrogate
    gradient that is an attribute, and the object that has it stays the same when it changes.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return of_value(value)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return _Itself(value)
    if any(value is other for other in within):
        return "itself"
    within = (*within, value)
    if isinstance(value, (tuple, list)):
        return tuple(_now(item, names, within) for item in value)
    held = value
    if not isinstance(value, dict):
        if isinstance(value, (type, types.ModuleType, *_FUNCTIONS)):
            return None
        held = getattr(value, "__dict__", {})
        held = {name: held[name] for name in names if name in held}
    return tuple((of_value(name), _now(item, names, within)) for name, item in held.items())


def _captured(value: Any, inside: tuple[Any, ...]) -> Hashable:
    """What a user's function closes over: a list may be written to, and is only equal to itself."""
    if isinstance(value, tuple):
        return tuple(_captured(item, inside) for item in value)
    return _Itself(value) if isinstance(value, (list, np.ndarray)) else _value(value, inside)


def _internal(value: Any, inside: tuple[Any, ...]) -> Hashable:
    """What JAX's own wrappers hold: derivative rules, shapes, and bookkeeping that is left out."""
    kind = type(value)
    if isinstance(value, (tuple, list)):
        return kind, tuple(_internal(item, inside) for item in value)
    if kind.__module__.startswith("jax.") and kind.__name__ == "Unhashable":  # static arguments
        return kind, _internal(value.val, inside)
    is_bookkeeping = kind in (object, dict) or kind.__name__ in _BOOKKEEPING
    if is_bookkeeping or (kind.__module__.startswith("jax.") and kind.__name__.endswith("Trace")):
        return kind
    return _value(value, inside)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None
