"""A parametrised quantum circuit as immutable data: operations in time order, trainable or not.

What one operation is lives in `operation`. No angle values live here (they are the array theta of a
model), and no simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdeq.circuits.operation import Operation, check_operation
from qdeq.errors import UserError, as_tuple, check_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qdeq.circuits.encodings import Encoding
    from qdeq.circuits.observables import MeasurementEnsemble


def check_n_qubits(n_qubits: int) -> None:
    """Raise `UserError` unless there is at least one qubit, and a whole number of them."""
    check_count("n_qubits", n_qubits, 1, ": a circuit needs at least 1 qubit")


def check_circuit(circuit: object) -> None:
    """Raise `UserError` unless it is a `Circuit`, for what takes no model in its place."""
    if isinstance(circuit, Circuit):
        return
    advice = "give a qdeq.circuits.Circuit"
    if isinstance(getattr(circuit, "circuit", None), Circuit):
        advice = (
            "give its circuit, or with the encoding in it qdeq.lowering.Program.of(...).circuit"
        )
    raise UserError(f"circuit={type(circuit).__name__}: {advice}")


@dataclass(frozen=True)
class Circuit:
    """A parametrised quantum circuit U(theta), possibly with rotations that features drive.

    Hashable, so that it can be a static field of a JAX module.

    Parameters
    ----------
    n_qubits
        Number of wires.
    operations
        The operations in time order. Two operations may share a parameter.
    trainable
        One boolean per parameter; empty means that every parameter is trainable. A frozen parameter
        keeps its place in theta, it only receives no updates.

    Raises
    ------
    UserError
        For an unknown gate, a wire outside the circuit or named twice, a wrong number of wires or
        angles, a matrix that is not unitary, or gaps in the numbering of the parameters.

    Examples
    --------
    >>> bell = Circuit(2, (Operation("RY", (0,), parameter=0), Operation("CNOT", (0, 1))))
    >>> bell.n_parameters, bell.depth()
    (1, 2)
    >>> print(bell.draw())
    0: ──RY(θ0)─╭●─┤
    1: ─────────╰⊕─┤
    """

    n_qubits: int
    operations: tuple[Operation, ...]
    trainable: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        check_n_qubits(self.n_qubits)
        operations = as_tuple("operations", self.operations, Operation, "qdeq.Operation")
        object.__setattr__(self, "operations", operations)
        for operation in self.operations:
            check_operation(operation, self.n_qubits)
        used = {i for operation in self.operations for i in operation.parameters}
        if used != set(range(len(used))):
            missing = min(set(range(len(used))) - used)
            raise UserError(
                f"the parameters {sorted(used)} have gaps: number them 0 to {len(used) - 1}, "
                f"index {missing} is used by no operation"
            )
        flags = as_tuple("trainable", self.trainable, object, "True or False for each parameter")
        trainable = tuple(bool(flag) for flag in flags) or (True,) * len(used)
        if len(trainable) != len(used):
            raise UserError(
                f"trainable has {len(trainable)} entries for {len(used)} parameters: give one each"
            )
        object.__setattr__(self, "trainable", trainable)

    @property
    def n_parameters(self) -> int:
        """Length of theta."""
        return len(self.trainable)

    @property
    def n_features(self) -> int:
        """One more than the largest feature index; 0 without feature-fed rotations."""
        return 1 + max((i for op in self.operations for i in op.features), default=-1)

    def depth(self) -> int:
        """Number of layers when every operation, fixed ones included, starts as early as it can.

        Examples
        --------
        >>> gates = (Operation("H", (0,)), Operation("H", (1,)), Operation("CZ", (1, 2)))
        >>> Circuit(3, gates).depth()
        2
        """
        busy_until = [0] * self.n_qubits
        for operation in self.operations:
            layer = 1 + max(busy_until[wire] for wire in operation.wires)
            for wire in operation.wires:
                busy_until[wire] = layer
        return max(busy_until)

    def count(self, *, n_wires: int | None = None, name: str | None = None) -> int:
        """Number of operations, of all or of those with so many wires or of that name.

        Examples
        --------
        >>> Circuit(2, (Operation("H", (0,)), Operation("CZ", (0, 1)))).count(n_wires=2)
        1
        """
        return sum(
            (n_wires is None or len(operation.wires) == n_wires)
            and (name is None or operation.name == name)
            for operation in self.operations
        )

    def __add__(self, other: Circuit) -> Circuit:
        """This circuit, then `other` with its parameters renumbered after this one's.

        Features keep their numbers: both circuits see the same features.
        """
        if not isinstance(other, Circuit):
            return NotImplemented
        if other.n_qubits != self.n_qubits:
            raise UserError(
                f"circuits on {self.n_qubits} and {other.n_qubits} qubits cannot be joined: "
                "build both with the same n_qubits"
            )
        shifted = tuple(
            operation.renumbered(lambda i: i + self.n_parameters) for operation in other.operations
        )
        return Circuit(self.n_qubits, self.operations + shifted, self.trainable + other.trainable)

    def draw(
        self,
        *,
        encoding: Encoding | None = None,
        observables: MeasurementEnsemble | None = None,
        max_width: int = 100,
    ) -> str:
        """The circuit as text; see `qdeq.circuits.drawing.draw_text`."""
        # Here and below: drawing describes circuits, so it imports this module, not the reverse.
        from qdeq.circuits.drawing import draw_text

        return draw_text(self, encoding=encoding, observables=observables, max_width=max_width)

    def draw_mpl(
        self,
        *,
        encoding: Encoding | None = None,
        observables: MeasurementEnsemble | None = None,
    ) -> Figure:
        """The circuit as a Matplotlib figure; see `qdeq.circuits.drawing_mpl.draw_figure`."""
        from qdeq.circuits.drawing_mpl import draw_figure

        return draw_figure(self, encoding=encoding, observables=observables)
