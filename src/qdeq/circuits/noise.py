"""Noise models: which channel follows which operation, and how measured bits are misread.

Plain data, hashable, without JAX, and written as text. The channels themselves are in `channels`,
reading the text is in `noise_text`, the evaluation in `qdeq.simulation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import index

import numpy as np

from qdeq.circuits.channels import AmplitudeDamping as AmplitudeDamping
from qdeq.circuits.channels import Channel as Channel
from qdeq.circuits.channels import Dephasing as Dephasing
from qdeq.circuits.channels import Depolarising as Depolarising
from qdeq.circuits.channels import KrausChannel as KrausChannel
from qdeq.circuits.channels import OverRotation as OverRotation
from qdeq.circuits.channels import ThermalRelaxation as ThermalRelaxation
from qdeq.circuits.channels import TwoQubitDepolarising as TwoQubitDepolarising
from qdeq.circuits.channels import check_probability, check_turns
from qdeq.circuits.gates import GATES
from qdeq.circuits.operation import Operation
from qdeq.errors import UserError, as_tuple, check_count, check_kind


@dataclass(frozen=True)
class ReadoutError:
    """A measured bit is misread, independently on every wire.

    Parameters
    ----------
    p01
        Probability that 0 is read as 1.
    p10
        Probability that 1 is read as 0.

    Raises
    ------
    UserError
        If one is not a probability.

    Examples
    --------
    >>> ReadoutError(0.01, 0.03).confusion()
    array([[0.99, 0.03],
           [0.01, 0.97]])
    """

    p01: float
    p10: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "p01", check_probability("readout p01", self.p01))
        object.__setattr__(self, "p10", check_probability("readout p10", self.p10))

    def confusion(self) -> np.ndarray:
        """`(2, 2)`: column b holds the probabilities of reading 0 and 1 where the bit is b."""
        return np.array([[1 - self.p01, self.p10], [self.p01, 1 - self.p10]])


@dataclass(frozen=True)
class Rule:
    """One channel, and the operations after which it acts.

    A channel on one wire acts on every wire of the operation, one on two wires on the pair, so that
    it skips operations on other numbers of wires. `OverRotation` skips operations without an angle.

    Parameters
    ----------
    channel
        What happens.
    gates
        Names of gates, ``"Unitary"`` among them; None is any.
    wires
        Wires that suffer: a one-wire channel acts on those of the operation's wires that are among
        them, any other channel where all of the operation's wires are. None is all.
    n_wires
        Only after operations on so many wires; None is any.
    on
        Only after operations on exactly these wires in this order (control, target); None is any.

    Raises
    ------
    UserError
        For an unknown gate, an empty choice, or a rule that its own channel can never follow.

    Examples
    --------
    >>> slow_wire = Rule(AmplitudeDamping(0.02), wires=(2,))
    >>> cross_talk = Rule(TwoQubitDepolarising(0.05), gates=("CNOT",), on=(0, 1))
    """

    channel: Channel
    gates: tuple[str, ...] | None = None
    wires: tuple[int, ...] | None = None
    n_wires: int | None = None
    on: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.channel, Channel):
            raise UserError(
                f"channel={self.channel!r} is not a channel: give one such as Depolarising(0.01)"
            )
        if isinstance(self.gates, str):
            raise UserError(f"gates={self.gates!r} is one string: give a tuple, ({self.gates!r},)")
        if self.gates is not None:
            object.__setattr__(self, "gates", as_tuple("gates", self.gates, str, "names of gates"))
        if self.n_wires is not None:
            check_count("n_wires", self.n_wires, 1, ", or None")
        for name in ("wires", "on"):
            object.__setattr__(self, name, _wires(name, getattr(self, name)))
        for name in ("gates", "wires", "on"):
            if getattr(self, name) == ():
                raise UserError(f"{name}=() chooses nothing: give at least one, or None for any")
        for gate in self.gates or ():
            self._check_gate(gate)
        needed = 1 if isinstance(self.channel, OverRotation) else self.channel.n_wires
        sizes = {"n_wires": self.n_wires, "on": None if self.on is None else len(self.on)}
        for name, size in sizes.items():
            if size is not None and needed > 1 and size != needed:
                raise UserError(
                    f"{name}={getattr(self, name)!r} with {type(self.channel).__name__}, which "
                    f"acts on {needed} wire(s): choose operations that it can follow"
                )

    def _check_gate(self, gate: str) -> None:
        if gate not in GATES and gate != "Unitary":
            raise UserError(
                f"gates={self.gates!r}: {gate!r} is not a known gate, use {', '.join(GATES)} or "
                "Unitary"
            )
        if isinstance(self.channel, OverRotation):
            check_turns("over-rotation", gate)
        elif self.channel.n_wires > 1 and gate in GATES:
            size = GATES[gate].n_wires
            if size != self.channel.n_wires:
                raise UserError(
                    f"gates={self.gates!r}: {gate} acts on {size} wire and "
                    f"{type(self.channel).__name__} on {self.channel.n_wires}, choose gates on "
                    f"{self.channel.n_wires} wires"
                )

    def uses(self, operation: Operation) -> tuple[tuple[Channel, tuple[int, ...]], ...]:
        """The channel with the wires of each of its uses after `operation`; often none."""
        name, wires = operation.name, operation.wires
        if self.gates is not None and name not in self.gates:
            return ()
        if self.n_wires is not None and len(wires) != self.n_wires:
            return ()
        if self.on is not None and wires != self.on:
            return ()
        channel = self.channel
        if isinstance(channel, OverRotation):
            if name not in GATES or GATES[name].n_parameters != 1:
                return ()
            channel = replace(channel, gate=name)
        elif channel.n_wires == 1:
            suffering = (w for w in wires if self.wires is None or w in self.wires)
            return tuple((channel, (wire,)) for wire in suffering)
        elif len(wires) != channel.n_wires:
            return ()
        if self.wires is not None and not set(wires) <= set(self.wires):
            return ()
        return ((channel, wires),)


Readout = tuple[tuple[int, ReadoutError], ...]


@dataclass(frozen=True)
class NoiseModel:
    """What goes wrong: channels after operations, by rules, and misread bits.

    The order is that of the rules. Encoding rotations are operations like all others; amplitude
    encoding prepares its state without error, and so do the changes of basis before a measurement.

    Parameters
    ----------
    rules
        Every rule that fits an operation adds its channel after it.
    readout
        One `ReadoutError` for all wires, or a mapping from wire to `ReadoutError` (stored as pairs
        in the order of the wires); wires that it leaves out are read without error. An empty one is
        None.

    Raises
    ------
    UserError
        For entries that are no rules or no readout errors.

    Examples
    --------
    >>> noise = NoiseModel((Rule(Depolarising(0.01)),), readout={1: ReadoutError(0.02, 0.05)})
    >>> noise.channels_after(Operation("CNOT", (0, 2)))
    ((Depolarising(probability=0.01), (0,)), (Depolarising(probability=0.01), (2,)))
    >>> noise.readout_of(0) is None, noise.readout_of(1).p10
    (True, 0.05)
    """

    rules: tuple[Rule, ...] = ()
    readout: ReadoutError | Readout | Mapping[int, ReadoutError] | None = None

    def __post_init__(self) -> None:
        rules = (self.rules,) if isinstance(self.rules, Rule) else self.rules
        rules = as_tuple("rules", rules, Rule, "rules such as Rule(Depolarising(0.01))")
        object.__setattr__(self, "rules", rules)
        if self.readout is not None and not isinstance(self.readout, ReadoutError):
            object.__setattr__(self, "readout", _readout(self.readout))

    def channels_after(self, operation: Operation) -> tuple[tuple[Channel, tuple[int, ...]], ...]:
        """The channels that follow an operation, in order, each with the wires it acts on."""
        return tuple(use for rule in self.rules for use in rule.uses(operation))

    def readout_of(self, wire: int) -> ReadoutError | None:
        """The readout error of a wire; None where it is read without error."""
        if self.readout is None or isinstance(self.readout, ReadoutError):
            return self.readout
        return dict(self.readout).get(wire)  # pairs by now, whatever was given

    def check_wires(self, n_qubits: int) -> None:
        """Raise `UserError` if a rule or a readout error names a wire that the circuit lacks."""
        named = [w for rule in self.rules for w in (*(rule.wires or ()), *(rule.on or ()))]
        if self.readout is not None and not isinstance(self.readout, ReadoutError):
            named += list(dict(self.readout))
        outside = [wire for wire in named if wire >= n_qubits]
        if outside:
            raise UserError(
                f"the noise model names wire {min(outside)}: the circuit has wires 0 to "
                f"{n_qubits - 1}, leave out rules and readout errors of other wires"
            )

    def __str__(self) -> str:
        """The text where there is one, else the dataclass's own form."""
        try:
            return format_noise(self)
        except UserError:
            return repr(self)


def check_noise(noise: object, n_qubits: int) -> None:
    """Raise `UserError` unless it is None or a noise model whose wires the circuit has."""
    if noise is None:
        return
    if not isinstance(noise, NoiseModel):
        raise UserError(
            f"noise={noise!r} is not a NoiseModel: build one, or read a text with parse_noise"
        )
    noise.check_wires(n_qubits)


def format_noise(noise: NoiseModel) -> str:
    """The text that `parse_noise` turns into this model again; also ``str(noise)``.

    Raises
    ------
    UserError
        If the model holds a `KrausChannel` or an over-rotation bound to a gate, which have no text,
        or two rules with the same channel and the same choice, which no text may have.

    Examples
    --------
    >>> from qdeq.circuits import parse_noise
    >>> format_noise(parse_noise("dephasing @ CNOT = 1e-2"))
    'dephasing@CNOT=0.01'
    """
    check_kind("noise", noise, NoiseModel, "a NoiseModel")
    entries = [_format_rule(rule) for rule in noise.rules]
    if isinstance(noise.readout, ReadoutError):
        entries.append(f"readout={_format_readout(noise.readout)}")
    elif noise.readout is not None:
        pairs = dict(noise.readout).items()
        entries += [f"readout@{wire}={_format_readout(error)}" for wire, error in pairs]
    what = [entry.partition("=")[0] for entry in entries]
    twice = next((one for one in what if what.count(one) > 1), None)
    if twice is not None:
        raise UserError(
            f"the model has several rules {twice!r} and has no text, which holds each once: build "
            "the NoiseModel in Python, or join these rules"
        )
    return ",".join(entries)


def _format_rule(rule: Rule) -> str:
    channel = rule.channel
    bound = isinstance(channel, OverRotation) and channel.gate is not None
    single = rule.on is not None and len(rule.on) == 1
    if channel.word is None or bound or single or rule.n_wires not in (None, 1, 2):
        raise UserError(
            f"{rule!r} has no text: build the NoiseModel in Python, or write it with channels, "
            "gates and wires that `qdeq.circuits.noise_text` describes"
        )
    where = [*(rule.gates or ())]
    where += [] if rule.n_wires is None else [f"{rule.n_wires}q"]
    where += [str(wire) for wire in rule.wires or ()]
    where += [] if rule.on is None else ["-".join(str(wire) for wire in rule.on)]
    numbers = (v for k, v in vars(channel).items() if k != "gate")
    value = "/".join(repr(number) for number in numbers)
    return f"{channel.word}{'@' if where else ''}{'+'.join(where)}={value}"


def _format_readout(error: ReadoutError) -> str:
    return repr(error.p01) if error.p01 == error.p10 else f"{error.p01!r}/{error.p10!r}"


def _wires(name: str, wires: Iterable[int] | None) -> tuple[int, ...] | None:
    if wires is None:
        return None
    try:
        numbers = tuple(index(wire) for wire in wires)
    except TypeError as error:
        raise UserError(
            f"{name}={wires!r}: give a tuple of wire numbers, such as (0, 2)"
        ) from error
    if any(wire < 0 for wire in numbers) or len(set(numbers)) != len(numbers):
        raise UserError(f"{name}={wires!r}: give distinct wires, counted from 0")
    return numbers


def _readout(readout: object) -> Readout | None:
    pairs = readout.items() if isinstance(readout, Mapping) else readout
    try:
        entries = tuple((index(wire), error) for wire, error in pairs)  # type: ignore[union-attr]
    except (TypeError, ValueError) as problem:
        raise UserError(
            f"readout={readout!r}: give one ReadoutError for all wires, or a mapping from wire to "
            "ReadoutError"
        ) from problem
    _wires("readout wires", [wire for wire, _ in entries])
    for wire, error in entries:
        if not isinstance(error, ReadoutError):
            raise UserError(f"readout of wire {wire} is {error!r}: give a ReadoutError(p01, p10)")
    return tuple(sorted(entries, key=lambda entry: entry[0])) or None
