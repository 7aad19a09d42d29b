"""Time and memory of one optimiser step against depth: direct(L) and the equilibrium, one seed.

Memory is what the compiled program allocates besides its arguments and results, exactly, from the
compiler; the resident memory of a whole process would hide it behind half a gigabyte of libraries.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from qdeq.data import Dataset
from qdeq.studies.paper import DEPTHS
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer
from qdeq.training.values import Values

# A busy machine slows a single call down tenfold: the fastest of many is what the step costs.
_SECONDS, _FEWEST = 3.0, 7


def step_costs(
    config: TrainConfig, dataset: Dataset, progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Measure one training step per depth, and the equilibrium's.

    Parameters
    ----------
    config
        Whose batch, circuit and solver to use; its `mode` and `layers` are varied.
    dataset
        Its first batch is trained on.
    progress
        Called before each measurement.

    Returns
    -------
    dict
        `depths`, and per depth `seconds` (the fastest of some repetitions) and `temporary_mb`; and
        `implicit` with the same two. Memory is None where the compiler does not tell.
    """
    cases = [config.replace(mode="direct", layers=depth) for depth in DEPTHS]
    cases.append(config.replace(mode="implicit", warmup_epochs=0))
    found = []
    for number, case in enumerate(cases):
        progress({"stage": "measuring", "epoch": number, "epochs": len(cases)})
        found.append(_step_cost(case, dataset))
    return {
        "depths": list(DEPTHS),
        "seconds": [seconds for seconds, _ in found[:-1]],
        "temporary_mb": [memory for _, memory in found[:-1]],
        "implicit": {"seconds": found[-1][0], "temporary_mb": found[-1][1]},
    }


def _step_cost(config: TrainConfig, dataset: Dataset) -> tuple[float, float | None]:
    trainer = Trainer(config, dataset)
    recipe, state = trainer.recipe(), trainer.init()
    x, y = dataset.train.x[: config.batch_size], dataset.train.y[: config.batch_size]
    dynamic, static = eqx.partition(state, eqx.is_array)

    values = Values.of(config, len(y))

    def step(dynamic, x, y):
        # An epoch over as many samples as a batch has: one optimiser step.
        state, _ = recipe.train(eqx.combine(dynamic, static), x, y, None, values)
        return eqx.filter(state, eqx.is_array)

    program = jax.jit(step).lower(dynamic, x, y).compile()
    jax.block_until_ready(program(dynamic, x, y))
    times: list[float] = []
    while len(times) < _FEWEST or sum(times) < _SECONDS:
        began = time.perf_counter()
        jax.block_until_ready(program(dynamic, x, y))
        times.append(time.perf_counter() - began)
    analysis = program.memory_analysis()
    memory = getattr(analysis, "temp_size_in_bytes", None)
    return float(np.min(times)), None if memory is None else memory / 1e6
