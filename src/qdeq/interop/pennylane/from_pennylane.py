"""A QNode, quantum function or tape as a `Circuit`.

The function is run twice with different made-up numbers in the places of its arguments. An angle
that is one of them tells which entry it comes from; one that is equal in both runs is a constant;
anything else was computed, and a `Circuit` has no place for it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq._pennylane import load, quiet
from qdeq.circuits import GATES, Circuit, Operation
from qdeq.errors import UserError
from qdeq.interop.pennylane.to_pennylane import NAMES

_GATES = {NAMES.get(name, name): name for name in (*GATES, "Unitary")} | {"U1": "PhaseShift"}
# Without effect on expectation values.
_SKIPPED = ("GlobalPhase", "Barrier", "WireCut", "Snapshot")
# Their arrays are no angles: constants also where a tape calls them trainable.
_ARRAYS = ("Unitary", "StatePrep", "Embedding", "BasisState", "BlockEncode")


def from_pennylane(
    source: Any,
    *args: Any,
    theta: str | int | None = 0,
    features: str | int | None = None,
    n_qubits: int | None = None,
) -> Circuit:
    """Read a circuit from PennyLane; its measurements are left out.

    Parameters
    ----------
    source
        A QNode or quantum function, called with `args`; or a tape (`QuantumScript`), whose
        trainable parameters become theta in their order.
    *args
        What the function is called with, in the order of its arguments. Of those named by `theta`
        and `features` only the shapes matter.
    theta, features
        Name or position of the argument that holds the angles to train, and of the one that holds
        the features: flattened, their entries become `Operation.parameter` and
        `Operation.feature`. None: there is no such argument. All others are constants.
    n_qubits
        Number of wires, if larger than the wires that are used show.

    Returns
    -------
    Circuit
        Templates and gates that are not in `qdeq.circuits.GATES` are decomposed, or written as a
        ``Unitary`` if they have no angle. Wire labels 0, 1, ... keep their numbers; others are
        numbered in the order of the device, or as they appear.

    Raises
    ------
    UserError
        If PennyLane is missing, for an operation that a circuit cannot express, an angle that is
        computed from the arguments, or an entry of theta that no gate uses.

    Examples
    --------
    >>> import numpy as np, pennylane as qml
    >>> def function(weights, x):
    ...     qml.AngleEmbedding(x, wires=[0, 1])
    ...     qml.BasicEntanglerLayers(weights, wires=[0, 1], rotation=qml.RY)
    >>> print(from_pennylane(function, np.zeros((1, 2)), np.zeros(2), features="x").draw())
    0: ──RX(x0)──RY(θ0)─╭●─┤
    1: ──RX(x1)──RY(θ1)─╰⊕─┤
    """
    qml = load()
    if isinstance(source, qml.tape.QuantumScript):
        if args:
            raise UserError("a tape holds its own numbers: leave the other arguments out")
        runs, sizes = _runs_of_tape(source), {}
    else:
        if not callable(source):
            raise UserError(
                f"{type(source).__name__} cannot be read: give a QNode, a quantum function or a "
                "tape"
            )
        runs, sizes = _runs_of_function(qml, source, args, theta, features)
    reader = _Reader(qml, runs[0].values, runs[1].values, _numbers(source, runs[0].tape))
    pairs = list(zip(runs[0].tape.operations, runs[1].tape.operations, strict=False))
    if len(runs[0].tape.operations) != len(runs[1].tape.operations):
        raise UserError(
            "the function applies different gates for different values of its arguments: a "
            "Circuit has one fixed sequence"
        )
    operations = tuple(itertools.chain.from_iterable(reader.read(*pair) for pair in pairs))
    _check_every_entry_is_used(operations, sizes.get("theta"))
    n_wires = max(len(reader.numbers), *(1 + w for op in operations for w in op.wires), 1)
    if n_qubits is not None and n_qubits < n_wires:
        raise UserError(f"n_qubits={n_qubits}: the circuit has {n_wires} wires, give at least that")
    return Circuit(n_wires if n_qubits is None else n_qubits, operations)


@dataclass(frozen=True)
class _Run:
    """A tape, and which entry each made-up number stands for: ("theta" or "feature", index)."""

    tape: Any
    values: dict[float, tuple[str, int]]


@dataclass(frozen=True)
class _Reader:
    """Translates pairs of operations: the same one in both runs."""

    qml: Any
    first: dict[float, tuple[str, int]]
    second: dict[float, tuple[str, int]]
    numbers: dict[Any, int]  # wire label to wire number

    def read(self, one: Any, two: Any, where: str | None = None) -> list[Operation]:
        """Translate; `where` names the operation whose decomposition this one is part of."""
        name, where = one.name, where or f"{one.name} on wires {tuple(one.wires)}"
        if name in _SKIPPED:
            return []
        if isinstance(one, self.qml.operation.Channel):
            raise UserError(
                f"{where} is a noise channel and a Circuit is unitary: leave it out and describe "
                "the noise with a NoiseModel"
            )
        if name != two.name or one.wires != two.wires or not _is_gate(self.qml, one):
            raise UserError(
                f"{where} is no gate with fixed wires: a Circuit has gates only, in one fixed "
                "sequence; measure at the end and leave out resets and classical control"
            )
        wires = tuple(self.numbers[label] for label in one.wires)
        if name == "Identity":
            return [Operation("I", (wire,)) for wire in wires]
        if name == "QubitUnitary" and np.array_equal(one.data[0], two.data[0]):
            return [_unitary(self.qml, one, wires)]
        if name in _GATES:
            sources = [self._source(a, b, where) for a, b in zip(one.data, two.data, strict=True)]
            return _operations(_GATES[name], wires, sources, one)
        return self._decompose(one, two, wires, where)

    def _source(self, one: Any, two: Any, where: str) -> tuple[str, Any]:
        arrays = np.ndim(one) > 0  # a matrix or a state, and one that is not constant
        a, b = (0.0, 1.0) if arrays else (float(one), float(two))
        if a == b:
            return "angle", a
        entry = None if arrays else self.first.get(a)
        if entry is None or entry != self.second.get(b):
            raise UserError(
                f"{where} has an angle that is computed from the arguments: a Circuit takes "
                "entries of theta and of the features as they are, so make the result an entry of "
                "its own"
            )
        return entry

    def _decompose(self, one: Any, two: Any, wires: tuple, where: str) -> list[Operation]:
        if isinstance(one, self.qml.operation.StatePrepBase) and len(one.data) > 0:
            raise UserError(
                f"{where} prepares a state and a Circuit has gates only: leave it out and give "
                "the model an AmplitudeEncoding"
            )
        constant = all(np.array_equal(a, b) for a, b in zip(one.data, two.data, strict=True))
        small = len(wires) <= 2 and one.has_matrix and not isinstance(one, self.qml.ops.Adjoint)
        if constant and small:
            return [_unitary(self.qml, one, wires)]
        if one.has_decomposition:
            parts = one.decomposition(), two.decomposition()
            if len(parts[0]) == len(parts[1]):
                pairs = zip(*parts, strict=True)
                return [operation for pair in pairs for operation in self.read(*pair, where)]
        if constant and one.has_matrix:
            return [_unitary(self.qml, one, wires)]
        raise UserError(
            f"{where} cannot be expressed in a Circuit, which knows {', '.join(GATES)} and "
            "Unitary: rewrite it in these gates, for example with qml.decompose"
        )


def _is_gate(qml: Any, operation: Any) -> bool:
    return isinstance(operation, qml.operation.Operator) and not isinstance(
        operation, (qml.ops.Conditional, qml.ops.MidMeasure)
    )


def _unitary(qml: Any, operation: Any, wires: tuple[int, ...]) -> Operation:
    matrix = np.asarray(qml.matrix(operation, wire_order=operation.wires))
    rows = tuple(tuple(row) for row in matrix.tolist())
    return Operation("Unitary", wires, matrix=rows)


def _operations(name: str, wires: tuple[int, ...], sources: list, original: Any) -> list[Operation]:
    """One operation; several for a U3 whose angles come from different places."""
    if not sources:
        return [Operation(name, wires)]
    kinds = {kind for kind, _ in sources}
    if len(sources) == 1:
        kind, value = sources[0]
        return [Operation(name, wires, **{"parameter" if kind == "theta" else kind: value})]
    if kinds == {"theta"}:
        return [Operation(name, wires, parameter=tuple(index for _, index in sources))]
    if kinds == {"angle"}:
        matrix = GATES[name].matrix(*(angle for _, angle in sources))
        return [Operation("Unitary", wires, matrix=tuple(tuple(row) for row in matrix.tolist()))]
    factors = [(factor, [sources[position]]) for factor, position in GATES[name].factors]
    return [op for factor, s in factors for op in _operations(factor, wires, s, original)]


def _runs_of_function(
    qml: Any, source: Any, args: tuple, theta: str | int | None, features: str | int | None
) -> tuple[tuple[_Run, _Run], dict[str, int]]:
    positions = {
        kind: _position(source, args, which, name)
        for kind, name, which in (("theta", "theta", theta), ("feature", "features", features))
        if which is not None and (args or which != 0)
    }
    if len(set(positions.values())) < len(positions):
        raise UserError(
            f"theta={theta!r} and features={features!r} name the same argument: name two, or None"
        )
    generator = np.random.default_rng(0)
    sizes = {kind: int(np.size(args[p])) for kind, p in positions.items()}
    runs = []
    for _ in range(2):
        made_up, values = list(args), {}
        for kind, position in positions.items():
            # Exact in float32, so that a detour through JAX's default type does not change them.
            numbers = generator.uniform(0.5, 2.5, sizes[kind]).astype(np.float32)
            made_up[position] = numbers.astype(float).reshape(np.shape(args[position]))
            values |= {float(number): (kind, i) for i, number in enumerate(numbers)}
        runs.append(_Run(_tape(qml, source, made_up), values))
    return (runs[0], runs[1]), sizes


def _tape(qml: Any, source: Any, args: Sequence[Any]) -> Any:
    with quiet():
        if not isinstance(source, qml.QNode):
            return qml.tape.make_qscript(source)(*args)
        batch, _ = qml.workflow.construct_batch(source, level="user")(*args)
    if len(batch) != 1:
        raise UserError(
            f"the QNode's transforms make {len(batch)} circuits of it: convert the quantum "
            "function without them (qnode.func)"
        )
    return batch[0]


def _runs_of_tape(tape: Any) -> tuple[_Run, _Run]:
    operations = (tape.get_operation(i)[0] for i in range(len(tape.trainable_params)))
    indices = [
        index
        for index, operation in zip(tape.trainable_params, operations, strict=True)
        if not any(word in operation.name for word in _ARRAYS)
    ]
    old = tape.get_parameters(trainable_only=False)
    generator = np.random.default_rng(0)
    runs = []
    for _ in range(2):
        values: dict[float, tuple[str, int]] = {}
        new = []
        for index in indices:
            numbers = generator.uniform(0.5, 2.5, np.shape(old[index]))
            values |= {float(n): ("theta", len(values) + i) for i, n in enumerate(numbers.flat)}
            new.append(numbers if numbers.shape else float(numbers))
        runs.append(_Run(tape.bind_new_parameters(new, indices), values))
    return runs[0], runs[1]


def _position(source: Callable, args: tuple, which: str | int, keyword: str) -> int:
    """Where among `args` the argument is."""
    import inspect

    names = list(inspect.signature(getattr(source, "func", source)).parameters)
    position = names.index(which) if which in names else which
    if not isinstance(position, int) or not 0 <= position < len(args):
        raise UserError(
            f"{keyword}={which!r}: the function was given {len(args)} arguments of "
            f"{', '.join(names) or 'none'}, name one of them"
        )
    return position


def _numbers(source: Any, tape: Any) -> dict[Any, int]:
    labels = list(tape.wires)
    if all(isinstance(label, int) and label >= 0 for label in labels):
        return {label: label for label in range(1 + max(labels, default=-1))}
    ordered = getattr(getattr(source, "device", None), "wires", None) or labels
    return {label: number for number, label in enumerate(ordered)}


def _check_every_entry_is_used(operations: tuple[Operation, ...], size: int | None) -> None:
    if size is None:
        return
    unused = sorted(set(range(size)) - {i for op in operations for i in op.parameters})
    if unused:
        raise UserError(
            f"theta[{unused[0]}] is used by no gate: leave entries out that the circuit does not "
            "read"
        )
