"""A circuit for tables: several rotations a wire, uploaded as often as asked for, each by a number
of its own, which a learned injection makes of the features.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdeq.circuits.circuit import Circuit, check_n_qubits
from qdeq.circuits.encodings import AngleEncoding, Encoding
from qdeq.circuits.measured import MeasuredCircuit
from qdeq.circuits.named import make_ansatz
from qdeq.circuits.noise import NoiseModel
from qdeq.circuits.observables import MeasurementEnsemble, make_observables
from qdeq.circuits.operation import Operation
from qdeq.errors import UserError, as_tuple, check_choice, check_count
from qdeq.names import TABLE_ENCODING

AXES = ("RX", "RY", "RZ")


def table_circuit(
    n_qubits: int,
    *,
    axes: Sequence[str] = AXES,
    n_uploads: int = 1,
    ansatz: str | Circuit = "hardware-efficient",
    ansatz_layers: int = 1,
    observables: str | MeasurementEnsemble = "z",
    noise: NoiseModel | None = None,
) -> MeasuredCircuit:
    """k rotations of every one of n wires and a trained circuit, the two of them L times over.

    Every rotation reads a number of its own: a = k n L in all, which `qdeq.Injection` makes of any
    number of features. Number ``(u k + j) n + w`` turns wire w about axis j in upload u.

    Parameters
    ----------
    n_qubits
        n.
    axes
        k names of rotations in time order, of ``"RX"``, ``"RY"`` and ``"RZ"``; the first is not
        ``"RZ"``, which does nothing to the |0> that it meets.
    n_uploads
        L. With one upload light cones evaluate the model; with more (data re-uploading) the
        statevector does, slower, and the model is no longer of first order in the Bloch vectors.
    ansatz, ansatz_layers
        The circuit after every upload, with parameters of its own each time; see `make_ansatz`. Or
        a circuit.
    observables
        See `make_observables`; or an ensemble.
    noise
        None is a perfect device.

    Raises
    ------
    UserError
        For unknown axes, no upload, or what `make_ansatz` does not take.

    Examples
    --------
    >>> measured = table_circuit(2, axes=("RX", "RY"), n_uploads=2)
    >>> measured.n_features, measured.n_parameters
    (8, 8)
    >>> print(table_circuit(2, axes=("RX", "RY")).draw())
    0: ──RX(x0)──RY(x2)──RY(θ0)──RZ(θ1)─╭●─┤ ⟨Z⟩
    1: ──RX(x1)──RY(x3)──RY(θ2)──RZ(θ3)─╰⊕─┤ ⟨Z⟩
    """
    check_n_qubits(n_qubits)
    axes = as_tuple("axes", axes, str, "names of rotations")
    for axis in axes:
        check_choice("axes", axis, AXES)
    if not axes or axes[0] == "RZ":
        raise UserError(
            f"axes={axes!r}: give at least one rotation, the first of them RX or RY: RZ does "
            "nothing to a wire in |0>"
        )
    check_count("n_uploads", n_uploads)
    if isinstance(ansatz, str):
        ansatz = make_ansatz(ansatz, n_qubits, n_layers=ansatz_layers)
    layer = ansatz
    uploads = [
        tuple(
            Operation(axis, (wire,), feature=(upload * len(axes) + j) * n_qubits + wire)
            for j, axis in enumerate(axes)
            for wire in range(n_qubits)
        )
        for upload in range(n_uploads)
    ]
    n_inputs = len(axes) * n_qubits * n_uploads
    encoding = AngleEncoding(n_qubits, uploads[0], n_inputs if n_uploads > 1 else None)
    circuit = layer
    for operations in uploads[1:]:
        circuit = circuit + Circuit(n_qubits, operations) + layer
    ensemble = (
        make_observables(observables, n_qubits) if isinstance(observables, str) else observables
    )
    return MeasuredCircuit(circuit, encoding, ensemble, noise)


def circuit_by_names(
    n_qubits: int,
    encoding: str | Encoding,
    *,
    rotations: int = 2,
    uploads: int = 1,
    n_features: int | None = None,
    ansatz: str | Circuit = "paper",
    ansatz_layers: int = 3,
    observables: str | MeasurementEnsemble = "z",
    trainable: str = "all",
    noise: NoiseModel | None = None,
) -> MeasuredCircuit:
    """`MeasuredCircuit.named`, or for encoding ``"table"`` the `table_circuit`.

    Parameters
    ----------
    n_qubits, encoding, ansatz, ansatz_layers, observables, trainable, noise
        As there; ``trainable`` is all of a table's.
    rotations, uploads
        Of encoding ``"table"``: the first so many of `AXES`, and how often.
    n_features
        Not of encoding ``"table"``, whose injection takes any number.
    """
    if encoding == TABLE_ENCODING:
        return table_circuit(
            n_qubits,
            axes=AXES[:rotations],
            n_uploads=uploads,
            ansatz=ansatz,
            ansatz_layers=ansatz_layers,
            observables=observables,
            noise=noise,
        )
    return MeasuredCircuit.named(
        n_qubits,
        encoding,
        ansatz=ansatz,
        ansatz_layers=ansatz_layers,
        observables=observables,
        trainable=trainable,
        n_features=n_features,
        noise=noise,
    )
