"""What trained networks are compared with on magnets: mean field, and a linear model."""

from pathlib import Path

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from qdeq.equilibrium import Picard
from qdeq.equilibrium.networks import NetworkEquilibrium
from qdeq.runs.summary import peak_memory_mb
from qdeq.studies.kinds import result
from qdeq.studies.magnet.data import DEVIATION, samples, shape_of
from qdeq.studies.magnet.measures import (
    VALIDATION,
    errors,
    normalised_error,
    profile,
    stability,
    with_absent,
)
from qdeq.studies.magnet.networks import answers, mean_field, scaled
from qdeq.studies.magnet.training import training_samples
from qdeq.studies.study import Result, Row, Tell

#: Sites on each side whose fields the linear model sees, and its penalties to choose from.
WINDOW = 10
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)


def windows(fields: Float[np.ndarray, "n ..."], reach: int) -> Float[np.ndarray, "n ... width"]:
    """The fields around every site, 0 beyond the ends; on a grid those of a square.

    The width is 2 reach + 1 on a chain, and that squared on a grid.

    >>> windows(np.array([[1.0, 2.0, 3.0]]), 1)[0].tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]
    """
    sides = fields.ndim - 1
    padded = np.pad(fields, [(0, 0), *[(reach, reach)] * sides])
    axes = tuple(range(1, sides + 1))
    found = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * sides, axis=axes)
    return found.reshape(*fields.shape, -1)


def mean_field_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Solve the mean field of the test samples; nothing is learned, seeds differ in starts only."""
    del folder, progress
    options = row.options
    network = mean_field(shape_of(next(iter(options["tests"]))), options["g"])
    # Newton's method would stop at equilibria that no magnet rests in, between two branches.
    layer = NetworkEquilibrium(Picard(damping=options["damping"]), max_steps=2000)
    asked = eqx.filter_jit(lambda x: answers(network, x, None, layer=layer)[0])

    def ask(fields: np.ndarray) -> Array:
        return asked(scaled(fields))

    found = errors(ask, options)
    seeds = [
        {"seed": seed, **found, **stability(network, options, seed, layer)} for seed in row.seeds
    ]
    note = with_absent("nothing is learned, seeds differ in the random starts alone", options)
    drawn = profile(ask, options)
    return result(seeds, note=note, parameters=0, profile=drawn, peak_memory_mb=peak_memory_mb())


def ridge_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Fit and judge the linear model; all its seeds are one."""
    from sklearn.linear_model import Ridge

    del folder, progress
    options = row.options
    sizes, g = options["sizes"], options["g"]

    def flat(fields: np.ndarray) -> np.ndarray:
        seen = windows(np.asarray(scaled(fields)), WINDOW)
        return seen.reshape(-1, seen.shape[-1])

    data = training_samples(options["n_training"], sizes, g)
    there = np.asarray(data.mask).ravel()
    seen, targets = flat(np.asarray(data.fields) * DEVIATION)[there], np.asarray(data.targets)
    held_out, expected = samples(options["n_validation"], data.fields.shape[1:], g, VALIDATION)
    tried = {}
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty).fit(seen, targets.ravel()[there])
        tried[penalty] = normalised_error(model.predict(flat(held_out)), expected.ravel()), model
    penalty = min(tried, key=lambda penalty: tried[penalty][0])
    model = tried[penalty][1]
    found = errors(lambda fields: model.predict(flat(fields)).reshape(fields.shape), options)
    seeds = [{"seed": seed, "valid_loss": tried[penalty][0], **found} for seed in row.seeds]
    note = with_absent(f"penalty {penalty}, chosen on validation data; all seeds are one", options)
    return result(seeds, note=note, parameters=seen.shape[1] + 1, peak_memory_mb=peak_memory_mb())
