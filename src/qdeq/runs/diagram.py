"""The circuit of a configuration as a drawing; no parameter values, and so no model and no JAX."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdeq.circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasurementEnsemble,
    make_ansatz,
    paper_angle_encoding,
    z_of_every_wire,
)
from qdeq.data import DATASETS
from qdeq.errors import UserError
from qdeq.runs.summary import Summary
from qdeq.training.config import OWN_DATA, OWN_MODEL, TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CircuitDiagram:
    """A circuit with what stands before it (encoding) and after it (observables)."""

    circuit: Circuit
    encoding: AmplitudeEncoding | AngleEncoding
    observables: MeasurementEnsemble

    @classmethod
    def of_paper(
        cls,
        n_qubits: int,
        encoding: str,
        *,
        trainable: str = "all",
        n_features: int | None = None,
        ansatz: str = "paper",
        ansatz_layers: int = 3,
    ) -> "CircuitDiagram":
        """The paper's model function, or the same with another `ansatz` (see `make_ansatz`).

        `n_features` is n_qubits**2 when None.

        Raises
        ------
        UserError
            When there are too few qubits.
        """
        if encoding == "amplitude":
            encoder = AmplitudeEncoding(n_qubits, n_features or n_qubits**2)
        else:
            encoder = paper_angle_encoding(n_qubits)
        circuit = make_ansatz(ansatz, n_qubits, n_layers=ansatz_layers, trainable=trainable)
        return cls(circuit, encoder, z_of_every_wire(n_qubits))

    @classmethod
    def of_config(cls, config: TrainConfig, summary: Summary | None = None) -> "CircuitDiagram":
        """The model function that a configuration trains; `summary` says the sizes of own data.

        Raises
        ------
        UserError
            For own data whose sizes are not known.
        """
        if config.ansatz == OWN_MODEL:
            raise UserError("ansatz='own': a model function of one's own has no drawing")
        if summary is not None and summary.n_qubits is not None:
            n_qubits, n_features = summary.n_qubits, summary.n_features
        elif config.data == OWN_DATA:
            raise UserError("data='own': the circuit of such a run is known when it is finished")
        else:
            task = DATASETS[config.data]
            n_qubits = config.n_qubits or (4 if len(task.labels) <= 4 else 10)
            n_features = config.n_features or task.n_features
        return cls.of_paper(
            n_qubits,
            config.encoding,
            trainable=config.trainable,
            n_features=n_features,
            ansatz=config.ansatz,
            ansatz_layers=config.ansatz_layers,
        )

    def text(self, *, max_width: int = 100) -> str:
        """Return the drawing as text, broken into lines of at most `max_width` characters."""
        return self.circuit.draw(
            encoding=self.encoding, observables=self.observables, max_width=max_width
        )

    def figure(self) -> "Figure":
        """Return the drawing as a Matplotlib figure."""
        return self.circuit.draw_mpl(encoding=self.encoding, observables=self.observables)
