"""How long a fresh process needs: imports, and the first training step with and without a cache.

Everything runs in child processes, one after the other.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import qdeq
from qdeq import native

_STACK = "import jax, equinox, optimistix, optax"
_EVERY_NAME = "import qdeq; [getattr(qdeq, name) for name in dir(qdeq)]"
_WITHOUT_SKLEARN = "import qdeq; [getattr(qdeq, n) for n in dir(qdeq) if 'QDEQ' not in n]"
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def import_seconds(repeats: int) -> dict[str, list[float]]:
    """Seconds of `import qdeq` (lazy), of it with its names loaded, and of the stack alone."""
    statements = {
        "import qdeq": "import qdeq",
        "qdeq, loaded": _WITHOUT_SKLEARN,
        "qdeq, scikit-learn's interface too": _EVERY_NAME,
        "JAX stack": _STACK,
    }
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(repeats):
        for name, statement in statements.items():
            output = _child(["-c", _TIMED.format(statement)], {})
            seconds[name].append(float(output))
    return seconds


def first_step_seconds(n_qubits: int, encoding: str) -> tuple[dict[str, float], dict[str, float]]:
    """Stages of the first training step in a fresh process: with an empty cache, then a warm one.

    The kernels of `qdeq.native` are there already: they are built once for a machine, see
    `kernel_build_seconds`.

    Returns
    -------
    cold, warm
        Seconds by stage: `import`, `build` (model and initial state), `trace`, `compile`, `run`,
        and `ready`, the sum of all but the import.
    """
    with tempfile.TemporaryDirectory() as folder:
        variables = _cache_in(folder)
        native.serves("float32")  # builds them where this is the first time
        arguments = ["-m", "benchmarks.startup", str(n_qubits), encoding]
        cold, warm = (json.loads(_child(arguments, variables)) for _ in range(2))
        return cold, warm


def fit_seconds() -> tuple[dict[str, Any], dict[str, Any]]:
    """What `benchmarks.fits` finds in a fresh process with an empty cache, then with a warm one.

    The kernels are there already, as in `first_step_seconds`.
    """
    with tempfile.TemporaryDirectory() as folder:
        native.serves("float32")
        variables = _cache_in(folder)
        cold, warm = (json.loads(_child(["-m", "benchmarks.fits"], variables)) for _ in range(2))
        return cold, warm


def kernel_build_seconds() -> float | None:
    """Seconds in which the kernels for float32 are built; None where they are not used."""
    if not native.serves("float32"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        _child(["-c", "from qdeq import native; native.serves('float32')"], {"QDEQ_CACHE": folder})
        both = time.perf_counter() - began
        began = time.perf_counter()
        _child(["-c", "from qdeq import native; native.serves('float32')"], {"QDEQ_CACHE": folder})
        return both - (time.perf_counter() - began)


def _cache_in(folder: str) -> dict[str, str]:
    return {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _child(arguments: list[str], variables: dict[str, str]) -> str:
    # The package that runs now is the one to measure, installed or not.
    assert qdeq.__file__ is not None
    folders = [str(Path(__file__).parents[1]), str(Path(qdeq.__file__).parents[1])]
    path = os.pathsep.join(filter(None, [*folders, os.environ.get("PYTHONPATH")]))
    finished = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return (finished.stdout.strip().splitlines() or [""])[-1]


def _first_step(n_qubits: int, encoding: str) -> dict[str, float]:
    times = [time.perf_counter()]
    import equinox as eqx
    import jax

    from benchmarks.inputs import make_inputs
    from qdeq.training.config import TrainConfig
    from qdeq.training.loop import Trainer
    from qdeq.training.parallel import compile_lowered

    dataset = make_inputs(256, n_qubits).dataset()
    times.append(time.perf_counter())
    config = TrainConfig(n_qubits=n_qubits, n_features=n_qubits**2).replace(encoding=encoding)
    trainer = Trainer(config, dataset)
    state = trainer.init()
    dynamic, static = eqx.partition(state, eqx.is_array)
    times.append(time.perf_counter())

    def epoch(dynamic, x, y, values):
        new_state, metrics = trainer.recipe().train(
            eqx.combine(dynamic, static), x, y, None, values
        )
        return eqx.filter(new_state, eqx.is_array), metrics

    arrays = (dynamic, dataset.train.x, dataset.train.y, trainer.values)
    lowered = jax.jit(epoch).lower(*arrays)
    times.append(time.perf_counter())
    program = compile_lowered(lowered)
    times.append(time.perf_counter())
    jax.block_until_ready(program(*arrays))
    times.append(time.perf_counter())
    names = ("import", "build", "trace", "compile", "run")
    stages = {name: times[i + 1] - times[i] for i, name in enumerate(names)}
    return {**stages, "ready": times[-1] - times[1]}


if __name__ == "__main__":
    print(json.dumps(_first_step(int(sys.argv[1]), sys.argv[2])))
