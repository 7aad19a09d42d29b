"""Noise models read from text, the form that the command line and run folders use.

A text is a list of entries, separated by commas; blanks do not matter::

    depolarising=0.01                    after every gate, on each of its wires
    two-qubit-depolarising=0.02          after every gate on two wires, on the pair
    dephasing=0.005
    amplitude-damping=0.01
    thermal-relaxation=50e-6/70e-6/35e-9 t1/t2/duration of every gate, in seconds
    over-rotation=0.02                   every rotation turns 0.02 radians further
    readout=0.02                         every bit is misread with this probability
    readout=0.01/0.03                    0 read as 1 / 1 read as 0

``what@where=value`` restricts an entry. ``where`` is one or more of these, joined by ``+``: names
of gates (``CNOT``), ``1q`` or ``2q`` for the number of wires of the gate, single wires (``3``), or
the exact wires of a gate in order (``0-1``)::

    depolarising@1q=0.001, two-qubit-depolarising@CNOT+0-1=0.03, readout@2=0.05

Every entry adds a rule and replaces none: ``depolarising=0.01`` together with
``two-qubit-depolarising=0.02`` gives every pair both; ``depolarising@1q=0.01`` would not.
"""

from __future__ import annotations

import re

from qdeq.circuits.channels import (
    AmplitudeDamping,
    Channel,
    Dephasing,
    Depolarising,
    OverRotation,
    ThermalRelaxation,
    TwoQubitDepolarising,
)
from qdeq.circuits.gates import GATES
from qdeq.circuits.noise import NoiseModel, ReadoutError, Rule
from qdeq.errors import UserError, check_kind

_KINDS = (
    *(Depolarising, TwoQubitDepolarising, Dephasing),
    *(AmplitudeDamping, ThermalRelaxation, OverRotation),
)
CHANNELS: dict[str, type[Channel]] = {kind.word: kind for kind in _KINDS if kind.word}
"""The channels that have a text, by their word."""

_N_VALUES = {"thermal-relaxation": 3}
_GATES = {name.lower(): name for name in (*GATES, "Unitary")}


def parse_noise(text: str) -> NoiseModel:
    """The noise model that a text such as ``"depolarising=0.01, readout=0.02"`` describes.

    See `qdeq.circuits.noise_text` for the whole grammar.

    Parameters
    ----------
    text
        Entries ``what=value`` or ``what@where=value``, separated by commas; blanks do not matter.

    Raises
    ------
    UserError
        For an unknown word, a value that is no number or out of range, or an entry given twice.

    Examples
    --------
    >>> parse_noise("depolarising@1q=0.001, two-qubit-depolarising=0.01, readout=0.02").readout
    ReadoutError(p01=0.02, p10=0.02)
    """
    check_kind("noise", text, str, "a text such as 'depolarising=0.01'")
    rules: list[Rule] = []
    readout: dict[int | None, ReadoutError] = {}
    seen: set[str] = set()
    for entry in re.sub(r"\s", "", text).split(",") if text.strip() else []:
        left, equals, value = entry.partition("=")
        word, at, where = left.lower().partition("@")
        word = word.replace("depolarizing", "depolarising")
        if word not in (*CHANNELS, "readout"):
            raise UserError(
                f"noise={text!r}: {word!r} is not known, choose among "
                f"{', '.join((*CHANNELS, 'readout'))}"
            )
        if not equals or (at and not where):
            raise UserError(
                f"noise={text!r}: {entry!r} is incomplete, write it as {word}=value or "
                f"{word}@where=value"
            )
        if f"{word}@{where}" in seen:
            raise UserError(f"noise={text!r}: {left!r} is given twice, leave one of them out")
        seen.add(f"{word}@{where}")
        values = _numbers(text, entry, value)
        if word == "readout":
            if len(values) > 2:
                raise UserError(
                    f"noise={text!r}: {entry!r} has {len(values)} numbers, give one probability or "
                    "two (0 read as 1 / 1 read as 0)"
                )
            wires = _readout_wires(text, entry, where)
            if not readout.keys().isdisjoint(wires):
                raise UserError(
                    f"noise={text!r}: {left!r} names a wire whose readout is given already, leave "
                    "one of them out"
                )
            readout |= dict.fromkeys(wires, ReadoutError(values[0], values[-1]))
            continue
        needed = _N_VALUES.get(word, 1)
        if len(values) != needed:
            form = "t1/t2/time" if needed == 3 else "one number"
            raise UserError(f"noise={text!r}: {entry!r} has {len(values)} numbers, give {form}")
        rules.append(_rule(text, CHANNELS[word](*values), where))
    return NoiseModel(tuple(rules), _readout(text, readout))


def as_noise(noise: str | NoiseModel) -> NoiseModel | None:
    """The noise model of a text, see `parse_noise`; one passes as it is, and no text is none."""
    return noise if isinstance(noise, NoiseModel) else parse_noise(noise) if noise else None


def _numbers(text: str, entry: str, value: str) -> list[float]:
    try:
        return [float(part) for part in value.split("/")]
    except ValueError as error:
        raise UserError(
            f"noise={text!r}: {value!r} in {entry!r} is no number, give one such as 0.01"
        ) from error


def _readout_wires(text: str, entry: str, where: str) -> list[int | None]:
    if not where:
        return [None]
    parts = where.split("+")
    if not all(part.isdecimal() for part in parts):
        raise UserError(
            f"noise={text!r}: {where!r} in {entry!r} is no wire, give wire numbers such as "
            "readout@0+2=0.02"
        )
    return [int(part) for part in parts]


def _readout(
    text: str, entries: dict[int | None, ReadoutError]
) -> ReadoutError | dict[int, ReadoutError] | None:
    if None in entries and len(entries) > 1:
        raise UserError(
            f"noise={text!r}: readout is given for all wires and for single ones, give it for "
            "single wires only"
        )
    if None in entries:
        return entries[None]
    return {wire: error for wire, error in entries.items() if wire is not None} or None


def _rule(text: str, channel: Channel, where: str) -> Rule:
    gates: list[str] = []
    wires: list[int] = []
    n_wires, on = None, None
    for part in where.split("+") if where else []:
        if part in _GATES:
            gates.append(_GATES[part])
        elif part in ("1q", "2q") and n_wires is None:
            n_wires = int(part[0])
        elif part.isdecimal():
            wires.append(int(part))
        elif re.fullmatch(r"\d+(-\d+)+", part) and on is None:
            on = tuple(int(wire) for wire in part.split("-"))
        else:
            raise UserError(
                f"noise={text!r}: {part!r} names no operations, give names of gates, one of 1q and "
                "2q, wires such as 3, or one pair such as 0-1"
            )
    return Rule(channel, tuple(gates) or None, tuple(wires) or None, n_wires, on)
