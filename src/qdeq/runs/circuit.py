"""The circuit of a configuration: no parameter values, and so no model and no JAX."""

from textwrap import shorten

from qdeq.circuits import MeasuredCircuit
from qdeq.circuits.tables import circuit_by_names
from qdeq.data import DATASETS
from qdeq.errors import UserError
from qdeq.names import OWN_MODEL
from qdeq.runs.summary import Summary
from qdeq.training.checked import is_own
from qdeq.training.config import TrainConfig


def circuit_of(config: TrainConfig, summary: Summary | None = None) -> MeasuredCircuit:
    """What a configuration trains, without its noise; `summary` says the sizes of own data.

    Raises
    ------
    UserError
        For a model function or data of one's own, whose circuit or sizes are not known.
    """
    if config.ansatz == OWN_MODEL:
        raise UserError(
            "ansatz='own': a run does not keep the circuit of a model function of one's own; in "
            "Python estimate(model) has the cost and model.measured.draw() the drawing of a QNode"
        )
    for name in ("encoding", "ansatz", "observables"):
        if is_own(getattr(config, name)):
            kept = shorten(getattr(config, name), 80, placeholder=" ...")
            raise UserError(
                f"{name}='{kept}': it was given in Python; draw the circuit there, or "
                "give it to qdeq.devices.estimate"
            )
    if summary is not None and summary.n_qubits is not None:
        n_qubits, n_features = summary.n_qubits, summary.n_features
    elif config.data not in DATASETS:
        raise UserError(
            f"data={config.data_name!r}: the circuit of such a run is known when it is finished"
        )
    else:
        task = DATASETS[config.data]
        n_qubits = config.given_n_qubits or (4 if len(task.labels) <= 4 else 10)
        n_features = config.n_features or task.n_features
    return circuit_by_names(
        n_qubits,
        config.encoding,
        rotations=config.rotations,
        uploads=config.uploads,
        trainable=config.trainable,
        n_features=n_features,
        ansatz=config.ansatz,
        ansatz_layers=config.ansatz_layers,
        observables=config.observables,
    )
