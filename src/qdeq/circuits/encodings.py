"""How features enter a circuit: amplitudes, rotation angles, and rotations repeated between layers.

Descriptions only; the states they prepare are computed in `qdeq.simulation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

from qdeq.circuits.circuit import Circuit, check_n_qubits
from qdeq.circuits.operation import Operation, check_operation
from qdeq.errors import UserError, as_tuple, check_count, check_kind


@dataclass(frozen=True)
class AmplitudeEncoding:
    """The state whose first amplitudes are ``v / |v|``, the others zero.

    Parameters
    ----------
    n_qubits
        Number of wires n.
    n_features
        Length d of v, at most ``2**n``.

    Raises
    ------
    UserError
        If the features do not fit.

    Examples
    --------
    >>> AmplitudeEncoding(4, 16)
    AmplitudeEncoding(n_qubits=4, n_features=16)
    >>> AmplitudeEncoding(3, 16)
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: n_qubits=3: amplitude encoding of 16 features needs at least 4 qubits \
(2**3 = 8 amplitudes)
    """

    n_qubits: int
    n_features: int

    def __post_init__(self) -> None:
        check_n_qubits(self.n_qubits)
        check_count("n_features", self.n_features)
        if self.n_features > 2**self.n_qubits:
            needed = (self.n_features - 1).bit_length()
            raise UserError(
                f"n_qubits={self.n_qubits}: amplitude encoding of {self.n_features} features needs "
                f"at least {needed} qubits (2**{self.n_qubits} = {2**self.n_qubits} amplitudes)"
            )


@dataclass(frozen=True)
class AngleEncoding:
    """A product state: rotations of single wires, each by features in radians.

    Parameters
    ----------
    n_qubits
        Number of wires.
    operations
        Operations on one wire with `Operation.feature` set, in time order; `Operation.factor` and
        `Operation.offset` scale and shift a feature on its way into the angle. None at all, with
        `n_inputs`: the state |0...0>, and the circuit after it reads the features.
    n_inputs
        How many features there are, where the circuit after it reads more of them than the
        encoding does. None: as many as the encoding reads.

    Raises
    ------
    UserError
        If an operation is not fed by a feature or acts on several wires, or reads a feature beyond
        `n_inputs`; without operations and without features.

    Examples
    --------
    >>> encoding = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RX", 1, 1), ("RZ", 1, 2)])
    >>> encoding.n_features
    3
    """

    n_qubits: int
    operations: tuple[Operation, ...]
    n_inputs: int | None = None

    def __post_init__(self) -> None:
        check_n_qubits(self.n_qubits)
        operations = as_tuple("operations", self.operations, Operation, "qdeq.Operation")
        object.__setattr__(self, "operations", operations)
        check_kind("n_inputs", self.n_inputs, Integral | None, "a whole number, or None")
        if not self.operations and (self.n_inputs or 0) < 1:
            raise UserError(
                "operations=(): an angle encoding needs at least 1 rotation, or n_inputs where "
                "only the circuit after it reads features"
            )
        for operation in self.operations:
            check_operation(operation, self.n_qubits)
            if operation.feature is None or len(operation.wires) != 1:
                raise UserError(
                    f"{operation.name} on wires {operation.wires} cannot be part of an angle "
                    "encoding: use rotations of one wire with feature= (put other gates into the "
                    "circuit)"
                )
        read = Circuit(self.n_qubits, self.operations).n_features
        if self.n_inputs is not None and self.n_inputs < read:
            raise UserError(
                f"n_inputs={self.n_inputs}: the encoding reads feature {read - 1}; give at least "
                f"{read}, or None"
            )

    @classmethod
    def from_rotations(
        cls, n_qubits: int, rotations: Iterable[tuple[str, int, int]]
    ) -> AngleEncoding:
        """Build an encoding from ``(gate name, wire, feature index)`` in time order."""
        triples = as_tuple("rotations", rotations, tuple | list, "(gate, wire, feature)")
        for triple in triples:
            if len(triple) != 3:
                raise UserError(f"rotations hold {triple!r}: give (gate, wire, feature)")
        operations = (Operation(name, (wire,), feature=i) for name, wire, i in triples)
        return cls(n_qubits, tuple(operations))

    @property
    def n_features(self) -> int:
        """`n_inputs`, or one more than the largest feature index."""
        if self.n_inputs is not None:
            return self.n_inputs
        return Circuit(self.n_qubits, self.operations).n_features


Encoding = AmplitudeEncoding | AngleEncoding


def paper_angle_encoding(n_qubits: int) -> AngleEncoding:
    """The angle encoding of the QDEQ paper's published code, for ``n_qubits**2`` features.

    With 4 qubits: RY, RZ, RX, RY layers, features 0-3 on wires 0-3, then 4-7, 8-11, 12-15. With 10
    qubits, and here with every other number n, feature i turns wire ``i // n`` about one axis per
    wire: Y, X, Z for wires 0, 1, 2 modulo 3. The n rotations of a wire then add up to one by the
    sum of its features, and RZ on |0> does nothing: at 10 qubits only 7 numbers reach the circuit.
    Kept as published for like-for-like comparison; choose another encoding for new work.

    Parameters
    ----------
    n_qubits
        Number of wires n.

    Returns
    -------
    AngleEncoding
        With ``n_qubits**2`` rotations.

    References
    ----------
    Schleich et al., Quantum Deep Equilibrium Models, NeurIPS 2024, arXiv 2410.23940.

    Examples
    --------
    >>> [operation.name for operation in paper_angle_encoding(4).operations[::4]]
    ['RY', 'RZ', 'RX', 'RY']
    """
    check_n_qubits(n_qubits)
    if n_qubits == 4:
        names = ("RY", "RZ", "RX", "RY")
        return AngleEncoding.from_rotations(4, [(names[i // 4], i % 4, i) for i in range(16)])
    axes = ("RY", "RX", "RZ")
    wires = [i // n_qubits for i in range(n_qubits**2)]
    return AngleEncoding.from_rotations(
        n_qubits, [(axes[wire % 3], wire, i) for i, wire in enumerate(wires)]
    )


def reuploading(encoding: AngleEncoding, layers: Sequence[Circuit]) -> Circuit:
    """Data re-uploading as one circuit: the encoding repeated between consecutive layers.

    The result starts and ends with a layer. A model prepares its encoding first, so with L layers
    the features are uploaded L times in all. Parameters are numbered layer after layer.

    Parameters
    ----------
    encoding
        The rotations to repeat.
    layers
        At least one circuit on the same wires.

    Returns
    -------
    Circuit
        layer, encoding, layer, ..., encoding, layer; its encoding rotations carry feature indices.

    Raises
    ------
    UserError
        Without layers, or if the numbers of qubits differ.

    References
    ----------
    Perez-Salinas et al., Data re-uploading for a universal quantum classifier, Quantum 4, 226
    (2020), arXiv 1907.02085.

    Examples
    --------
    >>> encoding = AngleEncoding.from_rotations(1, [("RX", 0, 0)])
    >>> layer = Circuit(1, (Operation("RY", (0,), parameter=0),))
    >>> print(reuploading(encoding, [layer, layer]).draw())
    0: ──RY(θ0)──RX(x0)──RY(θ1)─┤
    """
    check_kind("encoding", encoding, AngleEncoding, "an AngleEncoding")
    layers = as_tuple("layers", layers, Circuit, "circuits")
    if not layers:
        raise UserError("layers=[]: data re-uploading needs at least 1 layer")
    upload = Circuit(encoding.n_qubits, encoding.operations)
    circuit = layers[0]
    for layer in layers[1:]:
        circuit = circuit + upload + layer
    return circuit
