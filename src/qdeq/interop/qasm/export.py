"""A trained run for other people's tools: OpenQASM programs, and a manifest of all the rest.

The manifest is JSON and says in numbers and short sentences what a program needs that is to
classify with the circuit and knows nothing of qdeq. Writing one circuit as text is `write`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import qdeq
from qdeq.circuits import GATES, AmplitudeEncoding, Circuit, Operation
from qdeq.data import Dataset
from qdeq.errors import UserError, check_path
from qdeq.interop.names import numbered
from qdeq.interop.qasm.manifest import (
    describe_encoding,
    describe_head,
    describe_injection,
    describe_inputs,
    describe_preprocessing,
    describe_solver,
    describe_targets,
)
from qdeq.interop.qasm.write import to_qasm3
from qdeq.lowering.preparation import preparation, preparation_angles
from qdeq.models import ModelFunction, Predictor, QuantumModel, quantum_model
from qdeq.runs.dataset import dataset_of_run, moved
from qdeq.runs.summary import versions
from qdeq.runs.trained import load
from qdeq.training.config import TrainConfig
from qdeq.training.layer import layer_of
from qdeq.training.state import ModelMaker, untrained

FORMAT = "qdeq-export-1"


@dataclass(frozen=True)
class TrainedRun:
    """A finished run with everything that using it takes; made by `open_run`.

    Attributes
    ----------
    path
        The run folder.
    config, dataset, classifier
        What was trained on what, and the best model.
    """

    path: Path
    config: TrainConfig
    dataset: Dataset
    classifier: Predictor

    @property
    def layer(self) -> Any:
        """How the measured state is found, `Equilibrium` or `Direct`."""
        return layer_of(self.config)


def open_run(
    run: str | Path,
    *,
    data_dir: str | None = None,
    model: ModelFunction | ModelMaker | None = None,
) -> TrainedRun:
    """Load the best model of a run with its data set.

    Parameters
    ----------
    run
        A run folder; of many seeds, the model of the highest validation score is taken.
    data_dir
        Where the data set is now, if it has moved.
    model
        The model function again (or what makes it), of a run that was given one.

    Raises
    ------
    UserError
        When the folder is damaged or no run folder, or the data cannot be found.
    """
    folder = load(run, model=model).best.folder
    config = moved(folder.read_config(), data_dir)
    dataset = dataset_of_run(config, folder)
    template = untrained(config, dataset.n_features, dataset.n_outputs, model, task=dataset.task)
    return TrainedRun(Path(run), config, dataset, folder.load_model(template))


def export_run(
    run: TrainedRun,
    *,
    bind: bool = False,
    measure: bool = False,
    include: bool = True,
    samples: int = 8,
    shots: int | None = None,
) -> dict[str, str]:
    """Write a trained model as text files.

    Inputs of the programs are ``t_...``, the trained angles; ``x_...``, the encoded numbers
    v = x + R m (or what another injection gives) where they are rotation angles themselves; and
    ``a_...``, the angles of the state preparation under amplitude encoding.

    Parameters
    ----------
    run
        From `open_run`.
    bind
        Write the trained angles as numbers instead of inputs.
    measure
        Add measurements: one program for each measurement setting.
    include
        See `to_qasm3`.
    samples
        So many test samples go into the manifest with their measured state, inputs and class.
    shots
        Noted down in the manifest as what to measure with.

    Returns
    -------
    dict of str to str
        File name to content: ``circuit.qasm`` (``circuit-0.qasm``, ... when several settings are
        measured) and ``manifest.json``, whose JSON is an object with "format": "qdeq-export-1".

    Raises
    ------
    UserError
        For a negative number of samples, or a gate that OpenQASM cannot express.
    """
    if samples < 0:
        raise UserError(f"samples={samples}: give 0 or more")
    if shots is not None and shots < 1:
        raise UserError(f"shots={shots}: give 1 or more")
    model = quantum_model(run.classifier.model, "an export")
    theta = np.asarray(model.theta, dtype=float)
    circuit, names = _whole_circuit(model, theta if bind else None)
    settings = model.observables.settings()
    bases = [model.observables.basis(setting) for setting in settings]
    comment = f"qdeq {qdeq.__version__}: {run.config.data_name}, {run.config.encoding} encoding"
    prepared = []
    if isinstance(model.encoding, AmplitudeEncoding):
        prepared = [
            "a_...: for every input anew, the angles that prepare the amplitudes v / |v| of",
            "v = x + R m, as encoding in manifest.json says",
        ]

    def program(basis: str | None) -> str:
        return to_qasm3(
            circuit,
            parameters=names,
            basis=basis,
            include=include,
            comments=[comment, *prepared, "names, values and everything else: manifest.json"],
        )

    if not measure:
        files = {"circuit.qasm": program(None)}
    elif len(bases) == 1:
        files = {"circuit.qasm": program(bases[0])}
    else:
        files = {f"circuit-{k}.qasm": program(basis) for k, basis in enumerate(bases)}
    manifest = {
        "format": FORMAT,
        "programs": list(files),
        "bits": "wire i is q[i], and c[i] where it is measured; letters of observables begin with "
        "wire 0; readers that count qubits from the other end must turn the letters round",
        "inputs": describe_inputs(names, model, theta, bind),
        "encoding": describe_encoding(model),
        "reinjection": np.asarray(model.reinjection, dtype=float).tolist(),
        **describe_injection(model),
        "observables": list(model.observables.strings),
        "settings": [
            {"observables": list(setting), "basis": basis, "program": name}
            for setting, basis, name in zip(
                settings, bases, files if measure else [None] * len(bases), strict=False
            )
        ],
        "solver": describe_solver(run.config),
        "head": describe_head(run.classifier),
        "classes": list(run.dataset.classes),
        **describe_targets(run.dataset),
        "preprocessing": describe_preprocessing(run.config, run.dataset),
        "samples": _samples(run, samples),
        "shots": shots,
        "seed": run.config.seed,
        "versions": versions(),
    }
    files["manifest.json"] = json.dumps(manifest, indent=1) + "\n"
    return files


def write_export(files: Mapping[str, str], out: str | Path) -> list[Path]:
    """Write files into a folder, none of which may exist.

    Parameters
    ----------
    files
        As from `export_run`.
    out
        The folder, made if it does not exist.

    Returns
    -------
    list of Path

    Raises
    ------
    UserError
        When a file exists already, or cannot be written; nothing is overwritten.
    """
    check_path("out", out)
    folder = Path(out)
    paths = [folder / name for name in files]
    for path in paths:
        if path.exists():
            raise UserError(
                f"out={str(folder)!r}: {path.name} is there already and is not overwritten; "
                "choose another folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, files.values(), strict=True):
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
    except OSError as error:
        raise UserError(
            f"out={str(folder)!r}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    return paths


def _whole_circuit(
    model: QuantumModel, theta: np.ndarray | None
) -> tuple[Circuit, tuple[str, ...]]:
    """Encoding and circuit as one, and its parameters' names; theta's are gone if it is given."""
    circuit = model.circuit if theta is None else _bound(model.circuit, theta)
    names = numbered("t", circuit.n_parameters)
    if not isinstance(model.encoding, AmplitudeEncoding):
        return Circuit(circuit.n_qubits, model.encoding.operations) + circuit, names
    prepared = Circuit(circuit.n_qubits, preparation(circuit.n_qubits, model.measured.n_features))
    return prepared + circuit, numbered("a", prepared.n_parameters) + names


def _bound(circuit: Circuit, theta: np.ndarray) -> Circuit:
    operations: list[Operation] = []
    for operation in circuit.operations:
        factors = GATES[operation.name].factors if operation.name in GATES else ()
        if operation.parameter is None:
            operations.append(operation)
        elif factors:  # U3 takes no fixed angles, its factors do
            angles = operation.angle_values(theta.tolist(), ())
            operations += [Operation(name, operation.wires, angle=angles[i]) for name, i in factors]
        else:
            (angle,) = operation.angle_values(theta.tolist(), ())
            operations.append(Operation(operation.name, operation.wires, angle=angle))
    return Circuit(circuit.n_qubits, tuple(operations))


def _samples(run: TrainedRun, count: int) -> list[dict[str, Any]]:
    x, y = run.dataset.test.x[:count], run.dataset.test.y[:count]
    if not len(x):
        return []
    classifier, layer = run.classifier, run.layer
    prediction = eqx.filter_jit(jax.vmap(lambda row: classifier(row, layer)))(jnp.asarray(x))
    m = prediction.solution.value
    model = quantum_model(classifier.model, "an export")
    v = jax.vmap(model.injection.inputs)(jnp.asarray(x)) + m @ model.reinjection.T
    amplitude = isinstance(model.encoding, AmplitudeEncoding)
    inputs = jax.vmap(preparation_angles)(v) if amplitude else v
    values = jax.vmap(model)(m, jnp.asarray(x))
    rows = zip(*(np.asarray(a, dtype=float).tolist() for a in (x, m, inputs, values)), strict=True)
    labels, predicted = _in_words(run.dataset, y, np.asarray(prediction.outputs))
    return [
        {
            "features": features,
            "label": label,
            "measured_state": state,
            "encoder_inputs": encoded,
            "expectation_values": expected,
            "predicted": guess,
        }
        for (features, state, encoded, expected), label, guess in zip(
            rows, labels, predicted, strict=True
        )
    ]


def _in_words(dataset: Dataset, y: np.ndarray, outputs: np.ndarray) -> tuple[list[Any], list[Any]]:
    """What is true and what is predicted: names of classes, or targets in their own units."""
    if dataset.targets is not None:
        return dataset.targets.restored(y).tolist(), dataset.targets.restored(outputs).tolist()
    guesses = np.argmax(outputs, axis=1)
    return [dataset.classes[k] for k in y], [dataset.classes[k] for k in guesses]
