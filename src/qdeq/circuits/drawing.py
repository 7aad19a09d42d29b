"""Text diagrams of circuits, and the layout that text and pictures share.

The picture itself is in `drawing_mpl`, which needs Matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qdeq._console import PLAIN, can_print
from qdeq.circuits.angle_labels import ASCII, TEXT, Alphabet, angle_labels
from qdeq.circuits.circuit import Circuit
from qdeq.circuits.encodings import AmplitudeEncoding, Encoding
from qdeq.circuits.observables import MeasurementEnsemble
from qdeq.circuits.operation import Operation
from qdeq.errors import UserError, check_count, check_kind

MIN_WIDTH = 20  # characters of a line, below which nothing readable fits
# Symbols per wire of the gates that are not the same box on each of their wires. Empty: the gate's
# own label.
_SYMBOLS = {
    "CNOT": ("●", "⊕"),
    "CZ": ("●", "●"),
    "SWAP": ("×", "×"),
    "CRX": ("●", "RX"),
    "CRY": ("●", "RY"),
    "CRZ": ("●", "RZ"),
}


def draw_text(
    circuit: Circuit,
    *,
    encoding: Encoding | None = None,
    observables: MeasurementEnsemble | None = None,
    max_width: int = 100,
) -> str:
    """Draw a circuit as text, one line per wire, in the manner of PennyLane's ``draw``.

    ``RX(θ3)`` is a rotation by parameter 3, ``RX(x3)`` by feature 3, ``RX(0.5)`` by 0.5 radians,
    ``RX(-θ3/2+π)`` by a parameter with a factor and an offset, and ``RX(x0·x1)`` by a product. A
    control is ●, the target of a CNOT ⊕, a wire that a gate skips │. Where standard output cannot
    show these characters, as a console with another encoding than UTF-8, the diagram is in ASCII.

    Parameters
    ----------
    circuit
        The circuit.
    encoding
        Drawn before the circuit. An amplitude encoding is |x⟩ across all wires.
    observables
        Drawn after the circuit: Pauli strings on one wire at the end of that wire, the others
        listed below.
    max_width
        Longest line in characters, at least 20. Longer circuits wrap into several rows. (A single
        gate wider than that is not broken.)

    Returns
    -------
    str
        The diagram, without a final line break.

    Raises
    ------
    UserError
        If the numbers of qubits differ or `max_width` is too small.

    Examples
    --------
    >>> from qdeq.circuits import Circuit, Operation, AmplitudeEncoding, z_of_every_wire
    >>> gates = (Operation("RY", (1,), parameter=0), Operation("CRX", (0, 2), parameter=1))
    >>> print(draw_text(Circuit(3, gates), encoding=AmplitudeEncoding(3, 8),
    ...                 observables=z_of_every_wire(3)))
    0: ─╭|x⟩─────────╭●──────┤ ⟨Z⟩
    1: ─├|x⟩──RY(θ0)─│───────┤ ⟨Z⟩
    2: ─╰|x⟩─────────╰RX(θ1)─┤ ⟨Z⟩
    """
    check_drawable(circuit, encoding, observables)
    check_count("max_width", max_width, MIN_WIDTH, " characters")
    drawn = _draw(circuit, encoding, observables, max_width, TEXT)
    if can_print(drawn):
        return drawn
    return _draw(circuit, encoding, observables, max_width, ASCII).translate(PLAIN)


def _draw(
    circuit: Circuit,
    encoding: Encoding | None,
    observables: MeasurementEnsemble | None,
    max_width: int,
    alphabet: Alphabet,
) -> str:
    n = circuit.n_qubits
    columns = [_cells(column, n, alphabet) for column in encoding_columns(encoding)]
    if isinstance(encoding, AmplitudeEncoding):
        columns = [_spanning_cells(["|x⟩"] * n, range(n), n)]
    columns += [_cells(column, n, alphabet) for column in place_in_columns(circuit.operations)]

    readout = read_out(observables)
    margins = [f"{wire:>{len(str(n - 1))}}: " for wire in range(n)]
    endings = [
        "─┤" + "".join(f" ⟨{letter}⟩" for letter in readout.letters.get(wire, ""))
        for wire in range(n)
    ]
    room = max_width - len(margins[0] + "···─") - max(map(len, [*endings, "─···"]))
    rows = _wrap(columns, room)
    blocks = []
    for r, row in enumerate(rows):
        first, last = r == 0, r == len(rows) - 1
        lines = []
        for wire in range(n):
            start = margins[wire] + ("─" if first else "···─")
            end = endings[wire] if last else "─···"
            lines.append(start + "─".join(column[wire] for column in row) + end)
        blocks.append("\n".join(lines))
    if readout.others:
        blocks.append(_caption(readout.others, max_width))
    return "\n\n".join(blocks)


@dataclass(frozen=True)
class Readout:
    """An ensemble as a diagram shows it: letters at the ends of wires, and the other strings."""

    letters: dict[int, str]
    others: tuple[str, ...]


def read_out(observables: MeasurementEnsemble | None) -> Readout:
    """Split an ensemble into observables of one wire and the rest, written like ``Z0 Z1``."""
    letters: dict[int, str] = {}
    others: list[str] = []
    for string in observables.strings if observables is not None else ():
        support = [wire for wire, letter in enumerate(string) if letter != "I"]
        if len(support) == 1:
            letters[support[0]] = letters.get(support[0], "") + string[support[0]]
        else:
            others.append(" ".join(f"{string[wire]}{wire}" for wire in support) or "I")
    return Readout(letters, tuple(others))


def check_drawable(
    circuit: Circuit, encoding: Encoding | None, observables: MeasurementEnsemble | None
) -> None:
    """Raise `UserError` unless all the parts have the circuit's number of qubits."""
    check_kind("circuit", circuit, Circuit, "a Circuit")
    check_kind("encoding", encoding, Encoding | None, "an encoding, or None")
    check_kind("observables", observables, MeasurementEnsemble | None, "an ensemble, or None")
    for name, part in (("encoding", encoding), ("observables", observables)):
        if part is not None and part.n_qubits != circuit.n_qubits:
            raise UserError(
                f"{name} has {part.n_qubits} qubits and the circuit {circuit.n_qubits}: "
                "build both with the same n_qubits"
            )


def encoding_columns(encoding: Encoding | None) -> list[list[Operation]]:
    """Columns of an encoding made of gates; none for the amplitude encoding, which is one box."""
    if encoding is None or isinstance(encoding, AmplitudeEncoding):
        return []
    return place_in_columns(encoding.operations)


def place_in_columns(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Assign each operation to the earliest column in which nothing is in its way.

    Unlike in `Circuit.depth`, a gate also occupies the wires that its vertical line crosses.
    """
    columns: list[list[Operation]] = []
    free_from: dict[int, int] = {}
    for operation in operations:
        span = range(min(operation.wires), max(operation.wires) + 1)
        column = max(free_from.get(wire, 0) for wire in span)
        if column == len(columns):
            columns.append([])
        columns[column].append(operation)
        for wire in span:
            free_from[wire] = column + 1
    return columns


def symbols(operation: Operation) -> tuple[str, ...]:
    """The symbol of each wire of the operation, without its angle."""
    name = "U" if operation.name == "Unitary" else operation.name
    return _SYMBOLS.get(name, (name,) * len(operation.wires))


def _cells(column: Sequence[Operation], n_qubits: int, alphabet: Alphabet) -> list[str]:
    """The strings of one column, all of the same width."""
    cells = [""] * n_qubits
    for operation in column:
        angle = ",".join(angle_labels(operation, alphabet))
        labels = [
            f"{symbol}({angle})" if angle and symbol != "●" else symbol
            for symbol in symbols(operation)
        ]
        for wire, cell in enumerate(_spanning_cells(labels, operation.wires, n_qubits)):
            cells[wire] = cell or cells[wire]
    width = max(map(len, cells))
    return [cell.ljust(width, "─") for cell in cells]


def _spanning_cells(labels: Sequence[str], wires: Sequence[int], n_qubits: int) -> list[str]:
    """One gate: connector and label on its wires, │ on wires that it skips, empty elsewhere."""
    low, high = min(wires), max(wires)
    cells = [""] * n_qubits
    for wire in range(low, high + 1):
        if low == high:
            connector = "─"
        elif wire == low:
            connector = "╭"
        elif wire == high:
            connector = "╰"
        else:
            connector = "├" if wire in wires else "│"
        cells[wire] = connector + (labels[list(wires).index(wire)] if wire in wires else "")
    return cells


def _wrap(columns: list[list[str]], room: int) -> list[list[list[str]]]:
    """Fill rows with columns, at least one each, so that a row is at most `room` wide."""
    rows: list[list[list[str]]] = [[]]
    used = 0
    for column in columns:
        width = len(column[0]) + 1
        if rows[-1] and used + width - 1 > room:
            rows.append([])
            used = 0
        rows[-1].append(column)
        used += width
    return rows


def _caption(others: Sequence[str], max_width: int) -> str:
    """The observables that have no place on a single wire, as many as fit on one line."""
    n = len(others)
    text = f"also {n} observable{'s' if n > 1 else ''}: "
    for i, name in enumerate(others):
        piece = f"⟨{name}⟩" if i == 0 else f", ⟨{name}⟩"
        if len(text) + len(piece) + len(", ...") > max_width:
            return text.rstrip() + " ..." if i == 0 else text + ", ..."
        text += piece
    return text
