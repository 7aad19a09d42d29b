"""Values of configuration fields against their declared types: read by msgspec, and explained.

A field declares its type, its range (`msgspec.Meta`) and whether Python code may give an object in
the place of a name (`Objects`); nothing else knows them.
"""

import functools
import importlib
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from qdeq.errors import UserError, check_choice

_OWN = "own: "  # what JSON says of an object, before what it is called and made of


@dataclass(frozen=True)
class Objects:
    """Annotation of a field in which Python code may give an object.

    Parameters
    ----------
    where
        `"module:name"` of its class, or of several. Imported when an object comes: it may need JAX.
    advice
        What to give, for messages.
    """

    where: str
    advice: str

    @property
    def kinds(self) -> tuple[type, ...]:
        """The classes."""
        module, _, name = self.where.partition(":")
        found = getattr(importlib.import_module(module), name)
        return found if isinstance(found, tuple) else typing.get_args(found) or (found,)

    def read(self, name: str, value: Any) -> Any:
        """The object, checked; it becomes part of compiled programs, so it must be hashable."""
        if not isinstance(value, self.kinds):
            raise UserError(f"{name}={value!r}: give {self.advice}, or a name")
        try:
            hash(value)
        except TypeError:
            raise UserError(
                f"{name}={value!r}: in training it is a part of compiled programs, give its "
                "numbers as Python's and not as arrays"
            ) from None
        return value


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The declared types of a dataclass's fields, annotations included."""
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def object_fields(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass in which objects may stand."""
    return tuple(name for name, hint in hints_of(kind).items() if objects_of(hint))


def checked(name: str, value: Any, hint: Any) -> Any:
    """A field's value, in its declared type.

    Parameters
    ----------
    name
        Of the field, for messages.
    value
        What was given. NumPy's scalars are taken as Python's.
    hint
        The declared type with its annotations.

    Raises
    ------
    UserError
        Naming the value and what is allowed.

    Examples
    --------
    >>> checked("epochs", 0, Annotated[int, msgspec.Meta(ge=1)])
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: epochs=0: give a number of at least 1
    """
    objects = objects_of(hint)
    if objects is not None:
        if is_own(value):
            return value
        if not isinstance(value, str):
            return objects.read(name, value)
    if getattr(value, "shape", None) == ():
        value = getattr(value, "item", lambda: value)()
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}={value!r}: give a finite number")
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        raise UserError(_why_not(name, value, hint)) from None


def is_own(value: Any) -> bool:
    """Whether it is what JSON says of an object, which has to be given again."""
    return isinstance(value, str) and value.startswith(_OWN)


def as_text(value: Any) -> Any:
    """What JSON says of an object; names and numbers are what they are.

    >>> from qdeq.circuits import AmplitudeEncoding
    >>> as_text(AmplitudeEncoding(2, 4))
    'own: AmplitudeEncoding(n_qubits=2, n_features=4)'
    """
    if value is None or isinstance(value, str | int | float):
        return value
    return _OWN + " ".join(repr(value).split())


def plain_type(hint: Any) -> Any:
    """A declared type without its annotations and without `| None`.

    >>> plain_type(Annotated[int, msgspec.Meta(ge=1)] | None)
    <class 'int'>
    """
    if typing.get_origin(hint) is Annotated:
        return plain_type(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        return plain_type(hint)
    return hint


def range_of(hint: Any) -> msgspec.Meta | None:
    """The declared range of a type."""
    return _first(hint, msgspec.Meta)


def objects_of(hint: Any) -> Objects | None:
    """The objects that may stand in the place of a name."""
    return _first(hint, Objects)


def _why_not(name: str, value: Any, hint: Any) -> str:
    plain, limits = plain_type(hint), range_of(hint)
    if typing.get_origin(plain) is Literal:
        try:
            check_choice(name, value, typing.get_args(plain))
        except UserError as error:
            return str(error)
    try:
        msgspec.convert(value, plain)
    except msgspec.ValidationError:
        kinds = {int: "a whole number", float: "a finite number", str: "a text"}
        return f"{name}={value!r}: give {kinds[plain]}"
    assert limits is not None
    if limits.description is not None:
        return f"{name}={value}: give {limits.description}"
    if limits.gt is not None:
        return f"{name}={value}: give a number above {limits.gt}"
    return f"{name}={value}: give a number of at least {limits.ge}"


def _first(hint: Any, kind: Any) -> Any:
    return next((found for found in _annotations(hint) if isinstance(found, kind)), None)


def _annotations(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is Annotated:
        yield from hint.__metadata__
    for part in typing.get_args(hint):
        if not isinstance(part, str):
            yield from _annotations(part)
