"""Angles as diagrams write them: ``θ3``, ``-x0/2+π``, ``0.5``."""

import math
from dataclasses import dataclass
from fractions import Fraction

from qdeq.circuits.operation import AngleSource, Operation

# Two numbers that differ by less are the same in a drawing.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Alphabet:
    """How the parts of an angle are written; ``{}`` is an index, or the whole expression."""

    parameter: str
    feature: str
    times: str
    pi: str
    whole: str


TEXT = Alphabet("θ{}", "x{}", "·", "π", "{}")
ASCII = Alphabet("theta{}", "x{}", "*", "pi", "{}")
MATHTEXT = Alphabet(r"\theta_{{{}}}", r"x_{{{}}}", r" \cdot ", r"\pi ", "${}$")


def angle_labels(operation: Operation, alphabet: Alphabet) -> list[str]:
    """A label for each angle of an operation; none for a gate without angles.

    Examples
    --------
    >>> angle_labels(Operation("RY", (0,), parameter=0, factor=-0.5, offset=math.pi), TEXT)
    ['-θ0/2+π']
    """
    if operation.angle is not None:
        return [f"{operation.angle:.3g}"]
    return [alphabet.whole.format(_expression(source, alphabet)) for source in operation.sources]


def _expression(source: AngleSource, alphabet: Alphabet) -> str:
    entry = alphabet.feature if source.kind == "feature" else alphabet.parameter
    product = alphabet.times.join(entry.format(i) for i in source.indices)
    written = _multiple(source.factor, product, alphabet)
    if source.offset == 0:
        return written
    turns = _fraction(source.offset / math.pi)
    if turns is None:
        return f"{written}{source.offset:+.3g}"
    sign = "-" if turns < 0 else "+"
    return written + sign + _of_fraction(abs(turns), alphabet.pi.strip())


def _multiple(factor: float, what: str, alphabet: Alphabet) -> str:
    sign = "-" if factor < 0 else ""
    plain, turns = _fraction(factor), _fraction(factor / math.pi)
    if plain is not None and 1 in (abs(plain.numerator), plain.denominator):
        return sign + _of_fraction(abs(plain), what)
    if turns is not None:
        return sign + _of_fraction(abs(turns), alphabet.pi + what)
    return f"{factor:.3g}{what}"


def _fraction(number: float) -> Fraction | None:
    """The fraction of small whole numbers that this is, if it is one and not 0."""
    nearest = Fraction(number).limit_denominator(16)
    near = math.isclose(float(nearest), number, rel_tol=_ROUNDING)
    return nearest if near and nearest and abs(nearest.numerator) < 100 else None


def _of_fraction(fraction: Fraction, what: str) -> str:
    numerator = "" if fraction.numerator == 1 else str(fraction.numerator)
    denominator = "" if fraction.denominator == 1 else f"/{fraction.denominator}"
    return numerator + what + denominator
