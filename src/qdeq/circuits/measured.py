"""Encoding, circuit, observables and noise as one value: all that a model function is but numbers.

Parameter values and the re-injection belong to `qdeq.models`; nothing is evaluated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from qdeq import names
from qdeq.circuits.circuit import Circuit, check_n_qubits
from qdeq.circuits.encodings import AmplitudeEncoding, Encoding, paper_angle_encoding
from qdeq.circuits.named import make_ansatz
from qdeq.circuits.noise import NoiseModel, check_noise
from qdeq.circuits.observables import MeasurementEnsemble, make_observables
from qdeq.errors import UserError, check_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENCODINGS = get_args(names.NamedEncoding)
"""Encodings by the names that configurations and the command line use."""


@dataclass(frozen=True)
class MeasuredCircuit:
    """Features are encoded, a circuit runs, observables are measured, and noise may spoil it.

    Hashable, so that it can be a static field of a JAX module.

    Parameters
    ----------
    circuit
        What runs after the encoding; features may feed it too (data re-uploading).
    encoding
        How d features become a state.
    observables
        What is measured.
    noise
        What goes wrong in the circuit, in encoding rotations and at readout. None, and a model
        without rules and readout errors, is a perfect device.

    Raises
    ------
    UserError
        When numbers of qubits differ, the circuit is fed by a feature that the encoding lacks, or
        the noise names a wire that the circuit lacks.

    Examples
    --------
    >>> from qdeq.circuits import hardware_efficient, z_of_every_wire
    >>> circuit = hardware_efficient(2, 1, rotations=("RY",))
    >>> measured = MeasuredCircuit(circuit, AmplitudeEncoding(2, 4), z_of_every_wire(2))
    >>> measured.n_features, measured.n_observables, measured.n_parameters
    (4, 2, 2)
    >>> print(measured.draw())
    0: ─╭|x⟩──RY(θ0)─╭●─┤ ⟨Z⟩
    1: ─╰|x⟩──RY(θ1)─╰⊕─┤ ⟨Z⟩
    """

    circuit: Circuit
    encoding: Encoding
    observables: MeasurementEnsemble
    noise: NoiseModel | None = None

    def __post_init__(self) -> None:
        circuit, encoding = self.circuit, self.encoding
        for name, kind, advice in (
            ("circuit", Circuit, "a Circuit"),
            ("encoding", Encoding, "an AmplitudeEncoding or an AngleEncoding"),
            ("observables", MeasurementEnsemble, "a MeasurementEnsemble"),
        ):
            if not isinstance(getattr(self, name), kind):
                raise UserError(f"{name}={getattr(self, name)!r}: give {advice}")
        for what, n_qubits in (
            ("encoding", encoding.n_qubits),
            ("observables", self.observables.n_qubits),
        ):
            if n_qubits != circuit.n_qubits:
                raise UserError(
                    f"the {what} acts on {n_qubits} qubits and the circuit on {circuit.n_qubits}: "
                    "give both the same number of qubits"
                )
        if circuit.n_features > encoding.n_features:
            raise UserError(
                f"the circuit is fed by feature {circuit.n_features - 1} and the encoding has "
                f"{encoding.n_features} features: give the encoding at least {circuit.n_features}"
            )
        check_noise(self.noise, circuit.n_qubits)
        if self.noise == NoiseModel():  # a perfect device: the fast paths serve it
            object.__setattr__(self, "noise", None)

    @classmethod
    def named(
        cls,
        n_qubits: int,
        encoding: str | Encoding,
        *,
        ansatz: str | Circuit = "paper",
        ansatz_layers: int = 3,
        observables: str | MeasurementEnsemble = "z",
        trainable: str = "all",
        n_features: int | None = None,
        noise: NoiseModel | None = None,
    ) -> MeasuredCircuit:
        """A circuit by the names of its parts, the paper's by default, or of parts.

        Parameters
        ----------
        n_qubits
            Number of wires.
        encoding
            ``"amplitude"``, or ``"angle"`` for the paper's angle encoding; or an encoding.
        ansatz, ansatz_layers, trainable
            See `make_ansatz`; or a circuit, which has layers and trainable angles of its own.
        observables
            See `make_observables`; or an ensemble.
        n_features
            d; ``n_qubits**2`` when None, and always with angle encoding; an encoding has its own.
        noise
            None is a perfect device.

        Raises
        ------
        UserError
            For an unknown name, or sizes that do not fit together.

        Examples
        --------
        >>> MeasuredCircuit.named(4, "angle").n_parameters
        39
        """
        check_n_qubits(n_qubits)
        encoder: Encoding
        if not isinstance(encoding, str):
            encoder = encoding
        elif encoding == "amplitude":
            encoder = AmplitudeEncoding(n_qubits, n_qubits**2 if n_features is None else n_features)
        else:
            check_choice("encoding", encoding, ENCODINGS)
            encoder = paper_angle_encoding(n_qubits)
            if n_features not in (None, encoder.n_features):
                raise UserError(
                    f"n_features={n_features}: angle encoding on {n_qubits} qubits reads "
                    f"{encoder.n_features} features; ask for {encoder.n_features} of them, or for "
                    "as many qubits as the root of their number"
                )
        if isinstance(ansatz, str):
            ansatz = make_ansatz(ansatz, n_qubits, n_layers=ansatz_layers, trainable=trainable)
        if isinstance(observables, str):
            observables = make_observables(observables, n_qubits)
        made = cls(ansatz, encoder, observables, noise)
        if n_features not in (None, made.n_features):
            raise UserError(
                f"n_features={n_features}: the encoding reads {made.n_features} features; give it "
                "as many"
            )
        return made

    @classmethod
    def of(cls, model: Any) -> MeasuredCircuit:
        """The value itself, or that of a model function which has one as `measured`.

        Raises
        ------
        UserError
            For anything else, and for a QNode that cannot be read as a circuit of ours.
        """
        measured = getattr(model, "measured", model)
        if isinstance(measured, cls):
            return measured
        raise UserError(
            f"{type(model).__name__} has no circuit: give a QuantumModel, a MeasuredCircuit, or a "
            "QNode as qdeq.interop.pennylane.model_function takes it"
        )

    @property
    def n_qubits(self) -> int:
        """Number of wires."""
        return self.circuit.n_qubits

    @property
    def n_features(self) -> int:
        """d, the length of the features."""
        return self.encoding.n_features

    @property
    def n_observables(self) -> int:
        """q, the number of expectation values."""
        return self.observables.n_observables

    @property
    def n_parameters(self) -> int:
        """P, the length of theta."""
        return self.circuit.n_parameters

    @property
    def n_settings(self) -> int:
        """Circuits that one evaluation runs: groups of observables that are measured together."""
        return len(self.observables.settings())

    def draw(self, *, max_width: int = 100) -> str:
        """All of it as text; see `qdeq.circuits.drawing.draw_text`."""
        return self.circuit.draw(
            encoding=self.encoding, observables=self.observables, max_width=max_width
        )

    def draw_mpl(self) -> Figure:
        """All of it as a Matplotlib figure; see `qdeq.circuits.drawing_mpl.draw_figure`."""
        return self.circuit.draw_mpl(encoding=self.encoding, observables=self.observables)
