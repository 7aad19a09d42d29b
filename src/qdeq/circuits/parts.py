"""Encoding, ansatz, observables and noise where Python code gives objects in the place of names."""

from typing import Any

from qdeq.circuits.circuit import Circuit
from qdeq.circuits.encodings import AmplitudeEncoding, AngleEncoding
from qdeq.circuits.noise import NoiseModel
from qdeq.circuits.observables import MeasurementEnsemble
from qdeq.errors import UserError

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "encoding": (
        (AmplitudeEncoding, AngleEncoding),
        "give an AmplitudeEncoding or an AngleEncoding",
    ),
    "ansatz": (Circuit, "give a Circuit"),
    "observables": (MeasurementEnsemble, "give a MeasurementEnsemble"),
    "noise": (NoiseModel, "give a NoiseModel"),
}


def check_part(name: str, value: Any) -> None:
    """Raise `UserError` unless an object is one of its kind.

    Parameters
    ----------
    name
        `"encoding"`, `"ansatz"`, `"observables"` or `"noise"`.
    value
        What was given.

    Examples
    --------
    >>> check_part("ansatz", 3)
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: ansatz=3: give a Circuit, or a text
    """
    kind, advice = _KINDS[name]
    if not isinstance(value, kind):
        raise UserError(f"{name}={value!r}: {advice}, or a text")
