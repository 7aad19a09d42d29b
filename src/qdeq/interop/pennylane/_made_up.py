"""What can be run with made-up numbers for its arguments: functions, tapes, QNodes of a model."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._pennylane import quiet
from qdeq.errors import UserError
from qdeq.interop.angle_terms import Entry
from qdeq.interop.pennylane._guest import Guest
from qdeq.interop.pennylane.agreement import ask

# Their arrays are no angles: constants also where a tape calls them trainable.
_ARRAYS = ("QubitUnitary", "DiagonalQubitUnitary", "SpecialUnitary", "BlockEncode")
# More wires than anybody's circuit has: a label, not a number.
_MOST_WIRES = 100_000


@dataclass(frozen=True)
class MadeUp:
    """What a circuit is read from.

    Attributes
    ----------
    tape_at
        The tape for the numbers `(N,)` of all entries.
    entries
        What each of the N numbers is in the circuit.
    n_parameters
        The size of theta; None of a tape, whose entries are what its gates use.
    numbers
        The wire number of each of PennyLane's labels.
    """

    tape_at: Callable[[np.ndarray], Any]
    entries: tuple[Entry, ...]
    n_parameters: int | None
    numbers: dict[Any, int]


def of_function(
    qml: Any, source: Any, args: tuple, theta: str | int | None, features: str | int | None
) -> MadeUp:
    """A QNode or quantum function with numbers in the places of theta and the features."""
    positions = {
        kind: _position(source, args, which, name)
        for kind, name, which in (("parameter", "theta", theta), ("feature", "features", features))
        if which is not None and (args or which != 0)
    }
    if len(set(positions.values())) < len(positions):
        raise UserError(
            f"theta={theta!r} and features={features!r} name the same argument: name two, or None"
        )
    for position in positions.values():
        if isinstance(args[position], Mapping):
            raise UserError(
                f"argument {position} is a dictionary: write a function that takes its angles in "
                "one array, and calls this one"
            )
    # Not np.size: PyTorch's arrays have a method of that name.
    sizes = {k: math.prod(np.shape(args[position])) for k, position in positions.items()}
    parameters: list[Entry] = [("parameter", i) for i in range(sizes.get("parameter", 0))]
    inputs: list[Entry] = [("feature", i) for i in range(sizes.get("feature", 0))]
    entries = (*parameters, *inputs)

    called = (
        f"{getattr(source, '__name__', type(source).__name__)} called with {len(args)} arguments"
    )

    def tape_at(numbers: np.ndarray) -> Any:
        made_up, first = list(args), 0
        for kind, position in positions.items():
            chosen = numbers[first : first + sizes[kind]]
            made_up[position] = chosen.reshape(np.shape(args[position]))
            first += sizes[kind]
        # Angles that JAX computes would be rounded to float32 otherwise.
        with quiet(), jax.enable_x64(True):
            return ask(lambda: called, lambda: _tape(qml, source, made_up))

    numbers = _wire_numbers(source, tape_at(np.ones(len(entries))))
    return MadeUp(tape_at, entries, sizes.get("parameter"), numbers)


def of_guest(guest: Guest, n_parameters: int, n_inputs: int) -> MadeUp:
    """The QNode of a model with numbers in the places of flat theta and of its encoder input."""
    parameters: list[Entry] = [("parameter", i) for i in range(n_parameters)]
    inputs: list[Entry] = [("feature", i) for i in range(n_inputs)]

    def tape_at(numbers: np.ndarray) -> Any:
        with quiet(), jax.enable_x64(True):
            # JAX's arrays, as the QNode gets them otherwise: it may use what only they have.
            theta, v = jnp.split(jnp.asarray(numbers), [n_parameters])
            args, kwargs = guest.call_arguments(theta, v)
            return ask(lambda: "the function", lambda: _tape(guest.qml, guest.qnode, args, kwargs))

    entries = (*parameters, *inputs)
    numbers = _wire_numbers(guest.qnode, tape_at(np.ones(len(entries))))
    return MadeUp(tape_at, entries, n_parameters, numbers)


def of_tape(qml: Any, tape: Any) -> MadeUp:
    """A tape with numbers in the places of its trainable parameters."""
    operations = (tape.get_operation(i) for i in range(len(tape.trainable_params)))
    arrays = tuple(getattr(qml, name) for name in _ARRAYS)
    arrays += (qml.operation.StatePrepBase,)
    indices = [
        index
        for index, (operation, position, _) in zip(tape.trainable_params, operations, strict=True)
        # What comes behind are the numbers of observables.
        if position < len(tape.operations) and not isinstance(_innermost(qml, operation), arrays)
    ]
    old = tape.get_parameters(trainable_only=False)
    sizes = [int(np.size(old[index])) for index in indices]
    entries: list[Entry] = [("parameter", i) for i in range(sum(sizes))]

    def tape_at(numbers: np.ndarray) -> Any:
        parts = np.split(numbers, np.cumsum(sizes)[:-1]) if sizes else []
        new = [
            part.reshape(np.shape(old[index])) if np.shape(old[index]) else float(part[0])
            for part, index in zip(parts, indices, strict=True)
        ]
        return tape.bind_new_parameters(new, indices)

    return MadeUp(tape_at, tuple(entries), None, _wire_numbers(None, tape))


def _tape(
    qml: Any, source: Any, args: Sequence[Any], kwargs: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    if not isinstance(source, qml.QNode):
        return qml.tape.make_qscript(source)(*args, **kwargs)
    batch, _ = qml.workflow.construct_batch(source, level="user")(*args, **kwargs)
    if len(batch) != 1:
        raise UserError(
            f"the QNode's transforms make {len(batch)} circuits of it: convert the quantum "
            "function without them (qnode.func)"
        )
    return batch[0]


def _innermost(qml: Any, operation: Any) -> Any:
    while isinstance(operation, qml.ops.SymbolicOp):
        operation = operation.base
    return operation


def _position(source: Callable, args: tuple, which: str | int, keyword: str) -> int:
    """Where among `args` the argument is."""
    names = list(inspect.signature(getattr(source, "func", source)).parameters)
    position = names.index(which) if which in names else which
    if not isinstance(position, int) or not 0 <= position < len(args):
        raise UserError(
            f"{keyword}={which!r}: the function was given {len(args)} arguments of "
            f"{', '.join(names) or 'none'}, name one of them"
        )
    return position


def _is_whole(label: float) -> bool:
    return label >= 0 and label.is_integer()


def _wire_numbers(source: Any, tape: Any) -> dict[Any, int]:
    labels = list(tape.wires)
    # NumPy's whole numbers count, and 1.0, which PennyLane takes for 1.
    if all(isinstance(label, Real) and _is_whole(float(label)) for label in labels):
        largest = max((int(label) for label in labels), default=-1)
        if largest >= _MOST_WIRES:
            raise UserError(
                f"wire {largest}: the numbers of wires become those of the circuit, whose "
                f"largest is {_MOST_WIRES - 1:,}; number the wires from 0"
            )
        return {label: label for label in range(1 + largest)}
    ordered = getattr(getattr(source, "device", None), "wires", None) or labels
    return {label: number for number, label in enumerate(ordered)}
