"""A summary of a run that nobody trained, for tests of what is shown of it."""

import math

from qdeq.runs.summary import Summary, versions


def summary(**changes):
    values = {
        "run": "runs/<a>",
        "dataset": "digits-4",
        "n_features": 16,
        "n_qubits": 4,
        "encoding": "amplitude",
        "mode": "implicit",
        "solver": "broyden",
        "adjoint": "implicit",
        "seed": 0,
        "n_parameters": 39,
        "n_head_parameters": 68,
        "epochs": 3,
        "best_epoch": 2,
        "train_accuracy": 0.95,
        "valid_accuracy": 0.94,
        "test_accuracy": 0.9375,
        "test_loss": 0.2,
        "residual_mean": 1e-6,
        "residual_max": math.nan,
        "converged_fraction": 0.995,
        "solver_steps_mean": 9.25,
        "undefined_inputs": 0,
        "circuit_executions": 123456,
        "train_seconds": 1.5,
        "compile_seconds": 2.5,
        "peak_memory_mb": 300.0,
        "device": "cpu",
        "versions": versions(),
        "classes": ["0", "<b>"],
        "confusion_matrix": [[5, 1], [0, 0]],
        "residual_trace": [1.0, 1e-3, None],
    }
    return Summary(**(values | changes))
