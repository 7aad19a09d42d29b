"""An argument of another kind altogether is one line that names it, whatever public name got it."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import qdeq
import qdeq.circuits
import qdeq.data
import qdeq.devices
import qdeq.runs
from qdeq.errors import UserError

WRONG = ("a text", None, 3, 2.5, True, [1, 2], {"a": 1}, object())

KEY = jax.random.key(0)
CIRCUIT = qdeq.hardware_efficient(2, 1)
ENCODING = qdeq.AngleEncoding.from_rotations(2, [("RX", 0, 0), ("RX", 1, 1)])
OBSERVABLES = qdeq.z_of_every_wire(2)
MODEL = qdeq.QuantumModel(
    np.zeros(CIRCUIT.n_parameters), CIRCUIT, encoding=ENCODING, observables=OBSERVABLES
)
DATASET = qdeq.data.from_arrays(np.linspace(-1, 1, 80).reshape(40, 2), np.arange(40) % 2)
TURN = qdeq.Operation("RX", (0,), parameter=0)

# What works, of names whose parameters without a default need more than the name says.
WORKING: dict[Any, dict[str, Any]] = {
    qdeq.AmplitudeEncoding: {"n_qubits": 2, "n_features": 4},
    qdeq.AngleEncoding: {"n_qubits": 2, "operations": ENCODING.operations},
    qdeq.AngleEncoding.from_rotations: {"n_qubits": 2, "rotations": [("RX", 0, 0)]},
    qdeq.Circuit: {"n_qubits": 2, "operations": (TURN,)},
    qdeq.MeasuredCircuit: {"circuit": CIRCUIT, "encoding": ENCODING, "observables": OBSERVABLES},
    qdeq.MeasurementEnsemble: {"n_qubits": 2, "strings": ("ZI", "IZ")},
    qdeq.NoiseModel: {},
    qdeq.circuits.Rule: {"channel": qdeq.circuits.Depolarising(0.1)},
    qdeq.circuits.format_noise: {"noise": qdeq.NoiseModel()},
    qdeq.circuits.draw_text: {"circuit": CIRCUIT},
    qdeq.devices.parse_timing: {"text": "superconducting"},
    qdeq.hardware_efficient: {"n_qubits": 2, "n_layers": 1},
    qdeq.paper_angle_encoding: {"n_qubits": 4},
    qdeq.paper_ansatz: {"n_qubits": 4},
    qdeq.parse_noise: {"text": "readout=0.1"},
    qdeq.reuploading: {"encoding": ENCODING, "layers": [CIRCUIT]},
    qdeq.strongly_entangling: {"n_qubits": 2, "n_layers": 1},
    qdeq.table_circuit: {"n_qubits": 2},
    qdeq.z_strings: {"n_qubits": 2, "max_weight": 1},
    qdeq.Anderson: {},
    qdeq.Broyden: {},
    qdeq.Direct: {},
    qdeq.Dogleg: {},
    qdeq.Equilibrium: {},
    qdeq.Homotopy: {},
    qdeq.Implicit: {},
    qdeq.KrasnoselskiiMann: {},
    qdeq.LevenbergMarquardt: {},
    qdeq.Neumann: {},
    qdeq.NetworkEquilibrium: {},
    qdeq.Newton: {},
    qdeq.Picard: {},
    qdeq.Shine: {},
    qdeq.Alone: {},
    qdeq.Cells: {"cells": [MODEL, MODEL], "kinds": [0, 1]},
    qdeq.Chain: {"n": 3},
    qdeq.Graph: {"n": 3, "edges": [(0, 1)]},
    qdeq.Grid: {"rows": 2, "columns": 2},
    qdeq.Injection: {"state": np.ones((2, 2))},
    qdeq.Injection.random: {"n_inputs": 2, "n_features": 2, "n_observables": 2, "key": KEY},
    qdeq.Classifier: {"model": MODEL, "n_classes": 2, "key": KEY},
    qdeq.Regressor: {"model": MODEL, "key": KEY},
    qdeq.QuantumEquilibrium: {"model": MODEL},
    qdeq.QuantumModel: {
        "theta": MODEL.theta, "circuit": CIRCUIT, "encoding": ENCODING, "observables": OBSERVABLES,
    },
    qdeq.paper_model: {"key": KEY},
}  # fmt: skip


@pytest.mark.parametrize("function", WORKING, ids=lambda function: function.__qualname__)
def test_an_argument_of_another_kind_is_a_user_error(function: Callable[..., Any]) -> None:
    arguments = WORKING[function]
    function(**arguments)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            for wrong in WRONG:
                refused_or_taken(function, **{**arguments, name: wrong})


@pytest.mark.parametrize(
    "argument",
    ["config", "seeds", "dataset", "model", "out", "devices", "on_epoch", "on_stage", "track"],
)
def test_a_run_refuses_arguments_of_another_kind_before_it_trains(
    tmp_path: Path, argument: str
) -> None:
    for wrong in (2.5, {"a": 1}):
        given = {"dataset": DATASET, "out": tmp_path / "run", argument: wrong}
        with pytest.raises(UserError, match=argument):
            qdeq.train(**given)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "function",
    [
        qdeq.load,
        qdeq.runs.resume,
        qdeq.runs.evaluate,
        qdeq.runs.certify_run,
        qdeq.runs.add_details,
        qdeq.runs.write_report,
        qdeq.runs.compare,
    ],
    ids=lambda function: function.__name__,
)
def test_what_is_no_path_is_no_run(function: Callable[..., Any]) -> None:
    for wrong in WRONG:
        with pytest.raises(UserError):
            function(wrong)


def refused_or_taken(function: Callable[..., Any], **arguments: Any) -> None:
    """Call it; anything but a `UserError` that is raised fails the test with its traceback."""
    try:
        function(**arguments)
    except UserError as error:
        assert "\n" not in str(error)
