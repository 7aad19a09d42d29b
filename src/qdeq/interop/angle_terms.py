"""A gate whose angle is a polynomial in parameters and features, as operations.

Gates about one axis add up: RZ by a + b is RZ by a and then RZ by b, an operation for each term.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qdeq.circuits import GATES, Operation
from qdeq.circuits.operation import AngleSource
from qdeq.errors import UserError
from qdeq.interop.polynomials import Polynomial

ALLOWED = (
    "an angle is a sum of numbers, parameters and features with real factors, products of "
    "parameters and products of features included; give anything else a parameter of its own"
)


@dataclass(frozen=True)
class Angle:
    """One angle of a gate: terms that are added up, or a number.

    Attributes
    ----------
    terms
        What depends on parameters or features; the constant is the first one's offset.
    constant
        The angle where there are no terms.
    """

    terms: tuple[AngleSource, ...]
    constant: float = 0.0


Entry = tuple[Literal["parameter", "feature"], int]


def angle_of(polynomial: Polynomial, entries: Sequence[Entry], where: Callable[[], str]) -> Angle:
    """A polynomial in entries of theta and of the features as the terms of an angle.

    Parameters
    ----------
    polynomial
        In variables 0, 1, ...
    entries
        What each variable is. One that the polynomial does not have gets the factor 0, so that it
        keeps its place among the parameters.
    where
        Names the gate, for messages.

    Raises
    ------
    UserError
        For a product of a parameter and a feature.
    """
    constant = polynomial.get((), 0.0)
    used = {i for variables in polynomial for i in variables}
    unused = {(i,): 0.0 for i in range(len(entries)) if i not in used}
    terms: list[AngleSource] = []
    for variables, factor in (polynomial | unused).items():
        if not variables:
            continue
        kind = entries[variables[0]][0]
        if any(entries[i][0] != kind for i in variables):
            raise UserError(f"{where()} turns by a product of a parameter and a feature: {ALLOWED}")
        indices = tuple(entries[i][1] for i in variables)
        terms.append(AngleSource(kind, indices, factor, 0.0 if terms else constant))
    return Angle(tuple(terms), 0.0 if terms else constant)


def operations_of(name: str, wires: tuple[int, ...], angles: Sequence[Angle]) -> list[Operation]:
    """The gate `name` by these angles: one operation where that is possible.

    Parameters
    ----------
    name
        A key of `GATES`.
    wires
        Its wires.
    angles
        One for each of its angles.
    """
    if not angles:
        return [Operation(name, wires)]
    if len(angles) == 1:
        return _turns(name, wires, angles[0])
    if not any(angle.terms for angle in angles):
        matrix: Any = GATES[name].matrix(*(angle.constant for angle in angles))
        return [Operation("Unitary", wires, matrix=matrix)]
    terms = [angle.terms for angle in angles]
    if all(len(t) == 1 and t[0].kind == "parameter" and len(t[0].indices) == 1 for t in terms):
        return [
            Operation(
                name,
                wires,
                parameter=tuple(t[0].indices[0] for t in terms),
                factor=tuple(t[0].factor for t in terms),
                offset=tuple(t[0].offset for t in terms),
            )
        ]
    return [
        operation
        for factor, position in GATES[name].factors
        for operation in _turns(factor, wires, angles[position])
    ]


def keeping_places(operations: Sequence[Operation], n_parameters: int) -> tuple[Operation, ...]:
    """Operations that use every parameter: one without a gate turns an RZ of wire 0 by 0 times it.

    Parameters
    ----------
    operations
        Of the circuit.
    n_parameters
        The length of theta.
    """
    used = {i for operation in operations for i in operation.parameters}
    unused = [i for i in range(n_parameters) if i not in used]
    return (*(Operation("RZ", (0,), parameter=i, factor=0.0) for i in unused), *operations)


def _turns(name: str, wires: tuple[int, ...], angle: Angle) -> list[Operation]:
    if not angle.terms:
        return [Operation(name, wires, angle=angle.constant)]
    return [_turn(name, wires, term) for term in angle.terms]


def _turn(name: str, wires: tuple[int, ...], source: AngleSource) -> Operation:
    indices = source.indices[0] if len(source.indices) == 1 else source.indices
    fed = source.kind == "feature"
    return Operation(
        name,
        wires,
        parameter=None if fed else indices,
        feature=indices if fed else None,
        factor=source.factor,
        offset=source.offset,
    )
