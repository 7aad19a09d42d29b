"""What a trained model is beside its circuit, as values for a JSON manifest.

Which files an export has, and the circuit itself, are in `export`.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from qdeq.circuits import AmplitudeEncoding
from qdeq.data import Dataset
from qdeq.data.datasets import DATASETS
from qdeq.data.images import (
    LUMA,
    PIXEL_DEVIATION,
    PIXEL_MEAN,
    bilinear_matrix,
    pooling_matrix,
)
from qdeq.interop.names import numbered
from qdeq.models import Classifier, Predictor, QuantumModel, quantum_model
from qdeq.training.config import TrainConfig

_COMPONENTS = "components.safetensors in the run folder"


def describe_inputs(
    names: tuple[str, ...], model: QuantumModel, theta: np.ndarray, bind: bool
) -> list[dict[str, Any]]:
    """Every input in the order of the names, which is Qiskit's order of parameters."""
    inputs: list[dict[str, Any]] = []
    for name in names:
        index = int(name[2:])
        if name.startswith("a"):
            inputs.append({"name": name, "is": "preparation angle", "index": index})
        else:
            value = float(theta[index])
            inputs.append({"name": name, "is": "trained angle", "index": index, "value": value})
    operations = model.circuit.operations
    if not isinstance(model.encoding, AmplitudeEncoding):
        operations = model.encoding.operations + operations
    used = sorted({i for op in operations for i in op.features})
    all_names = numbered("x", max(used, default=-1) + 1)
    return inputs + [{"name": all_names[i], "is": "encoded number v", "index": i} for i in used]


def describe_encoding(model: QuantumModel) -> dict[str, Any]:
    """From features and measured state to the inputs that are not trained."""
    whole = "v = x + R m with features x, measured state m and R = reinjection"
    if not model.injection.keeps_features:
        whole = (
            "v = U x + W m + b with features x, measured state m, U = input (null: identity), "
            "W = reinjection and b = bias (null: zero)"
        )
    if model.injection.floor is not None:
        whole += "; where U x + b is shorter than floor it counts with the length floor"
    if isinstance(model.encoding, AmplitudeEncoding):
        return {
            "kind": "amplitude",
            "map": f"{whole}; the inputs a_... prepare the state v / |v|, wire 0 being the most "
            "significant bit of an amplitude's number, by uniformly controlled RY (arXiv "
            "quant-ph/0407010): qdeq.lowering.preparation.preparation_angles(v)",
            "n_features": model.measured.n_features,
        }
    return {
        "kind": "angle",
        "map": f"{whole}; input x_i is v[i] in radians",
        "n_features": model.measured.n_features,
    }


def describe_injection(model: QuantumModel) -> dict[str, Any]:
    """U and b of v = U x + W m + b where features do not enter as they are; else nothing."""
    injection = model.injection
    if injection.keeps_features:
        return {}
    parts = {"input": injection.input, "bias": injection.bias}
    described: dict[str, Any] = {
        name: None if part is None else np.asarray(part, dtype=float).tolist()
        for name, part in parts.items()
    }
    return described if injection.floor is None else described | {"floor": injection.floor}


def describe_solver(config: TrainConfig) -> dict[str, Any]:
    """How the measured state was found in training."""
    if config.mode == "direct":
        return {
            "mode": "direct",
            "map": "m = 0, then m = f(m, x) so often",
            "layers": config.layers,
        }
    return {
        "mode": "implicit",
        "map": "m with m = f(m, x), from m = 0; f(m, x) are the observables' expectation values",
        "solver": config.plain()["solver"],
        "max_steps": config.max_steps,
        "tolerance": config.tolerance,
    }


def describe_head(classifier: Predictor) -> dict[str, Any]:
    """From the measured state to scores, with the weights."""
    is_classifier = isinstance(classifier, Classifier)
    if classifier.head is None:
        what = "logits = m, one for each class" if is_classifier else "outputs = m, one per target"
        return {"map": what, "weight": None, "bias": None}
    assert classifier.head.bias is not None
    upsamples = quantum_model(classifier.model, "an export").injection.is_paper
    read = "R m" if upsamples else "m"
    read = f"max({read}, 0)" if classifier.rectifies else read
    what = f"logits = weight {read} + bias; the class is that of the largest"
    if not is_classifier:
        what = f"outputs = weight {read} + bias; targets are scale outputs + mean, one by one"
    return {
        "map": what,
        "weight": np.asarray(classifier.head.weight, dtype=float).tolist(),
        "bias": np.asarray(classifier.head.bias, dtype=float).tolist(),
    }


def describe_targets(dataset: Dataset) -> dict[str, Any]:
    """Names, means and scales of what a regression predicts; nothing for a classification."""
    return {} if dataset.targets is None else {"targets": asdict(dataset.targets)}


def describe_preprocessing(config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """From an image to features, with the matrix that pools an axis; or from a table's rows."""
    if config.is_file:
        prepared = None if dataset.preparation is None else dataset.preparation.to_json()
        what = "the numbers of `preparation`: qdeq.data.TablePreparation applies them"
        if prepared is None:
            what = "grey, scaled to 0 to 1, minus 0.1307, over 0.3081, pooled"
        if dataset.image_components is not None:
            side = dataset.image_components.side
            what += f" to {side} x {side}; then axes (pixels - mean) / scale, of {_COMPONENTS}"
        return {
            "name": config.data_name,
            "map": what,
            "preparation": None if prepared is None else json.loads(prepared),
        }
    if config.data not in DATASETS:
        return {"map": "features as they are"}
    arguments = {
        "name": config.data,
        "n_features": dataset.n_features,
        "features": config.features,
        "valid_fraction": config.valid_fraction,
        "split_seed": config.split_seed,
    }
    described: dict[str, Any] = {"load": arguments, "labels": list(DATASETS[config.data].labels)}
    if config.features != "pool":
        return described | {
            "map": f"{config.features} features, fitted to the training split: "
            "qdeq.data.load(**load) computes them"
        }
    spec = DATASETS[config.data]
    size, side = spec.collection.side, dataset.image_shape[0]
    pool = pooling_matrix(spec.resize or size, side)
    if spec.resize is not None and spec.resize != size:
        pool = pool @ bilinear_matrix(size, spec.resize)
    red, green, blue = LUMA
    luma = f"grey = {red} red + {green} green + {blue} blue; "
    grey = luma if spec.collection.colour else ""
    return described | {
        "map": f"{grey}x = rows of P ((grey / white - mean) / deviation) P^T, one after the other",
        "white": spec.collection.white,
        "mean": PIXEL_MEAN,
        "deviation": PIXEL_DEVIATION,
        "P": pool.tolist(),
    }
