"""Pictures of circuits with Matplotlib, without pyplot: no global state and no window.

The text diagram and the layout in columns are in `drawing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyBboxPatch, Patch

from qdeq.circuits.angle_labels import MATHTEXT, angle_labels
from qdeq.circuits.circuit import Circuit
from qdeq.circuits.drawing import (
    check_drawable,
    encoding_columns,
    place_in_columns,
    read_out,
    symbols,
)
from qdeq.circuits.encodings import AmplitudeEncoding, Encoding
from qdeq.circuits.observables import MeasurementEnsemble
from qdeq.circuits.operation import Operation


@dataclass(frozen=True)
class _Style:
    fill: str
    edge: str
    meaning: str


# Fills differ in lightness as well as hue, so that the roles survive a grey print.
_STYLES = {
    "encoding": _Style("#cfe4f7", "#1b5e9b", "encoding (features)"),
    "trainable": _Style("#fde0b4", "#b06500", "trainable angle"),
    "frozen": _Style("#dcdcdc", "#6b6b6b", "frozen angle"),
    "fixed": _Style("#ffffff", "#222222", "fixed gate"),
}
_WIRE, _LABEL = "#8a8a8a", "#5a5a5a"

# Lengths in units of the distance between two wires, which is _INCH inches.
_INCH = 0.46
_BOX_WIDTH, _BOX_HEIGHT = 0.84, 0.66
_COLUMN_GAP, _NARROW = 0.18, 0.58
_ROW_LENGTH = 21.0
_LEFT, _RIGHT, _METER, _LETTER = 1.25, 0.35, 1.02, 0.22
_ROW_GAP, _TOP, _BOTTOM = 0.75, 0.6, 0.75
_LEGEND_LINE, _LEGEND_ENTRY = 0.45, 4.6


def draw_figure(
    circuit: Circuit,
    *,
    encoding: Encoding | None = None,
    observables: MeasurementEnsemble | None = None,
) -> Figure:
    """Draw a circuit as a Matplotlib figure, wires from left to right, wrapped into rows.

    Colour tells the role of a gate: encoding, trainable, frozen or fixed; a legend names the roles
    that occur.

    Parameters
    ----------
    circuit
        The circuit.
    encoding
        Drawn before the circuit. An amplitude encoding is one tall box over all wires.
    observables
        Drawn as meters after the circuit, with the letters measured on each wire; strings over
        several wires are counted in the legend.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("circuit.pdf")``.

    Raises
    ------
    UserError
        If the numbers of qubits differ.

    Examples
    --------
    >>> from qdeq.circuits import hardware_efficient
    >>> figure = draw_figure(hardware_efficient(2, 1))
    >>> len(figure.axes)
    1
    """
    check_drawable(circuit, encoding, observables)
    columns = _layout(circuit, encoding)
    rows = _wrap(columns)
    n, readout = circuit.n_qubits, read_out(observables)
    # Only the last row carries the meters; it may be the longest one.
    lengths = [sum(column.width for column in row) for row in rows]
    letters = max(map(len, readout.letters.values()), default=0)
    measured = _METER + 0.35 + _LETTER * letters if letters else 0.0
    # The least length leaves room for the legend's longest line.
    least = 5.2 if readout.others else 3.0
    length = max([*lengths[:-1], lengths[-1] + measured, least])
    row_height = n - 1 + _ROW_GAP + 0.8
    width = _LEFT + length + _RIGHT
    handles = _legend_handles(columns)
    # Side by side where the figure is wide enough.
    n_across = max(1, min(len(handles), int(width / _LEGEND_ENTRY)))
    legend_lines = -(-len(handles) // n_across) + bool(readout.others)
    wires_height = _TOP + (len(rows) - 1) * row_height + n - 1
    height = wires_height + _BOTTOM + legend_lines * _LEGEND_LINE
    figure = Figure(figsize=(width * _INCH, height * _INCH))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(-_LEFT, width - _LEFT), ylim=(height - _TOP, -_TOP))

    for r, row in enumerate(rows):
        y0, last = r * row_height, r == len(rows) - 1
        end = lengths[r] + 0.1
        for wire in range(n):
            metered = last and wire in readout.letters
            _draw_wire(
                axes,
                wire,
                y0 + wire,
                end + (_METER / 2 if metered else 0.0),
                first=r == 0,
                last=last,
            )
        x = 0.0
        for column in row:
            if column.state_box:
                _draw_state_box(axes, x + column.width / 2, y0, n)
            for operation, role in column.operations:
                _draw_operation(axes, x + column.width / 2, y0, operation, _STYLES[role])
            x += column.width
        if last:
            for wire, letters in readout.letters.items():
                _draw_meter(axes, x + _METER / 2, y0 + wire, letters)
    if readout.others:
        axes.text(
            width / 2 - _LEFT,
            wires_height - _TOP + _BOTTOM,
            _describe(readout.others),
            ha="center",
            va="center",
            fontsize=8,
        )
    if handles:
        axes.legend(
            handles=handles,
            loc="lower center",
            ncols=n_across,
            frameon=False,
            fontsize=8,
            handlelength=1.4,
            borderaxespad=0.0,
        )
    return figure


@dataclass(frozen=True)
class _Column:
    operations: tuple[tuple[Operation, str], ...]  # with roles
    state_box: bool = False

    @property
    def width(self) -> float:
        if self.state_box:
            return _BOX_WIDTH + _COLUMN_GAP
        return max(
            _box_width(operation) + _COLUMN_GAP
            if any(symbol not in "●⊕×" for symbol in symbols(operation))
            else _NARROW
            for operation, _ in self.operations
        )


def _box_width(operation: Operation) -> float:
    if len(operation.sources) > 1:
        return 1.55
    return 1.45 if max(map(len, symbols(operation))) > 3 else _BOX_WIDTH


def _layout(circuit: Circuit, encoding: Encoding | None) -> list[_Column]:
    columns = [_Column((), state_box=True)] if isinstance(encoding, AmplitudeEncoding) else []
    for placed in encoding_columns(encoding) + place_in_columns(circuit.operations):
        columns.append(_Column(tuple((op, _role(op, circuit.trainable)) for op in placed)))
    return columns


def _role(operation: Operation, trainable: Sequence[bool]) -> str:
    if operation.features:
        return "encoding"
    if not operation.parameters:
        return "fixed"
    return "trainable" if any(trainable[i] for i in operation.parameters) else "frozen"


def _wrap(columns: Sequence[_Column]) -> list[list[_Column]]:
    """As few rows as _ROW_LENGTH allows, of about the same length each."""
    total = sum(column.width for column in columns)
    n_rows = max(1, -int(-total // _ROW_LENGTH))
    rows: list[list[_Column]] = [[]]
    used = 0.0
    for column in columns:
        if rows[-1] and used + column.width / 2 > total / n_rows * len(rows):
            rows.append([])
        rows[-1].append(column)
        used += column.width
    return rows


def _draw_wire(axes: Axes, wire: int, y: float, end: float, *, first: bool, last: bool) -> None:
    axes.plot([-0.25, end], [y, y], color=_WIRE, linewidth=0.9, zorder=1)
    axes.text(-0.88, y, str(wire), ha="right", va="center", fontsize=8, color=_LABEL)
    if first:
        axes.text(-0.3, y, r"$|0\rangle$", ha="right", va="center", fontsize=9, color="#222222")
    for present, start in ((not first, -0.25), (not last, end)):
        if present:  # a wire that continues on another row fades out in dots
            direction = -1 if start < 0 else 1
            xs = [start + direction * 0.09 * step for step in (1, 2, 3)]
            axes.plot(xs, [y] * 3, linestyle="", marker=".", markersize=1.6, color=_WIRE)


def _draw_operation(axes: Axes, x: float, y0: float, operation: Operation, style: _Style) -> None:
    low, high = min(operation.wires), max(operation.wires)
    if low != high:
        axes.plot([x, x], [y0 + low, y0 + high], color=style.edge, linewidth=1.2, zorder=2)
    angle = ",".join(angle_labels(operation, MATHTEXT))
    for wire, symbol in zip(operation.wires, symbols(operation), strict=True):
        y = y0 + wire
        if symbol == "●":
            axes.add_patch(Circle((x, y), 0.1, color=style.edge, zorder=3))
        elif symbol == "⊕":
            axes.add_patch(Circle((x, y), 0.2, fc="white", ec=style.edge, lw=1.2, zorder=3))
            axes.plot([x - 0.2, x + 0.2], [y, y], color=style.edge, linewidth=1.2, zorder=4)
            axes.plot([x, x], [y - 0.2, y + 0.2], color=style.edge, linewidth=1.2, zorder=4)
        elif symbol == "×":
            for slope in (-1, 1):
                axes.plot(
                    [x - 0.14, x + 0.14],
                    [y - 0.14 * slope, y + 0.14 * slope],
                    color=style.edge,
                    linewidth=1.4,
                    zorder=4,
                )
        else:
            _draw_box(axes, (x, y), _box_width(operation), symbol, angle, style)


def _draw_box(
    axes: Axes, at: tuple[float, float], width: float, name: str, angle: str, style: _Style
) -> None:
    x, y = at
    _add_box(axes, at, (width, _BOX_HEIGHT), style)
    for text, below, size in ((name, -0.13 if angle else 0.0, 8.0), (angle, 0.17, 7.0)):
        axes.text(
            x, y + below, text, fontsize=size, ha="center", va="center", color="#111111", zorder=5
        )


def _add_box(axes: Axes, at: tuple[float, float], size: tuple[float, float], style: _Style) -> None:
    (x, y), (width, height) = at, size
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            fc=style.fill,
            ec=style.edge,
            lw=1.0,
            zorder=3,
        )
    )


def _draw_state_box(axes: Axes, x: float, y0: float, n_qubits: int) -> None:
    """The amplitude encoding: one box over all wires."""
    middle = y0 + (n_qubits - 1) / 2
    size = (_BOX_WIDTH, n_qubits - 1 + _BOX_HEIGHT)
    _add_box(axes, (x, middle), size, _STYLES["encoding"])
    label = r"amplitudes $x / |x|$" if n_qubits >= 4 else r"$|x\rangle$"
    axes.text(
        x,
        middle,
        label,
        rotation=90 if n_qubits >= 4 else 0,
        ha="center",
        va="center",
        fontsize=9,
        color="#111111",
        zorder=5,
    )


def _draw_meter(axes: Axes, x: float, y: float, letters: str) -> None:
    _add_box(axes, (x, y), (_BOX_WIDTH, _BOX_HEIGHT), _STYLES["fixed"])
    axes.add_patch(Arc((x, y + 0.16), 0.52, 0.5, theta1=180, theta2=360, lw=0.9, zorder=5))
    axes.plot([x, x + 0.2], [y + 0.16, y - 0.2], color="#222222", linewidth=0.9, zorder=5)
    axes.text(x + 0.53, y, rf"$\langle {','.join(letters)} \rangle$", va="center", fontsize=8)


def _legend_handles(columns: Sequence[_Column]) -> list[Patch]:
    """A patch for each role that occurs, in a fixed order."""
    roles = {role for column in columns for _, role in column.operations}
    if any(column.state_box for column in columns):
        roles.add("encoding")
    return [
        Patch(facecolor=style.fill, edgecolor=style.edge, label=style.meaning)
        for role, style in _STYLES.items()
        if role in roles
    ]


def _describe(others: Sequence[str]) -> str:
    n = len(others)
    return f"also measured: {n} Pauli string{'s' if n > 1 else ''} over several wires"
