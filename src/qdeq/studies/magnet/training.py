"""Trains a network on magnets of few spins and measures it on larger ones; one row of `magnet`."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from qdeq.equilibrium.networks import NetworkEquilibrium, stability_penalty
from qdeq.models import Network
from qdeq.runs.summary import peak_memory_mb
from qdeq.studies.kinds import failed, result
from qdeq.studies.magnet.data import samples, shape_of
from qdeq.studies.magnet.measures import (
    TRAINING,
    VALIDATION,
    errors,
    normalised_error,
    profile,
    stability,
    with_absent,
)
from qdeq.studies.magnet.networks import (
    answers,
    initial_network,
    scaled,
    symmetric_answers,
    symmetries,
)
from qdeq.studies.study import Result, Row, Tell

#: Learning rates and norms of the initial messages to choose from, then weights of the ceiling.
LEARNING_RATES = (0.01, 0.03)
GAINS = (0.5, 0.9)
WEIGHTS = (3.0, 0.3)

_CEILING = 0.95
_WATCHED = 8  # samples of a batch on which the ceiling is held
# Training asks for less than tests do; the loss is of the order of 1e-3.
_LAYER = NetworkEquilibrium(rtol=1e-4, atol=1e-4, bounds=(-1.0, 1.0))


class Batch(eqx.Module):
    """Samples of several sizes side by side.

    Attributes
    ----------
    fields
        In units of their deviation, `(n, *shape)` with the shape of the largest.
    targets
        Magnetisations.
    mask
        Which sites there are; the other fields and targets are 0.
    """

    fields: Float[Array, "n ..."]
    targets: Float[Array, "n ..."]
    mask: Bool[Array, "n ..."]

    def at(self, rows: Array) -> "Batch":
        """Some of the samples."""
        return jax.tree.map(lambda array: array[rows], self)

    def turned(self) -> "Batch":
        """Samples turned in all ways, one after another, with all fields and spins or without.

        All are ground states as likely as the ones they are made of.
        """
        shape = self.fields.shape[1:]
        ways = [there for there, _ in symmetries(shape)]
        rows = jnp.arange(len(self.fields))
        sign = jnp.where(rows % 2 == 0, 1.0, -1.0).reshape(-1, *(1 for _ in shape))
        way = rows // 2 % len(ways)

        def turn(array: Array) -> Array:
            return jnp.stack([there(array) for there in ways])[way, rows]

        return Batch(sign * turn(self.fields), sign * turn(self.targets), turn(self.mask))


def training_samples(n: int, sizes: Sequence[str], g: float) -> Batch:
    """Lattices of several sizes, as many of each, `n` in all but for rounding."""
    shapes = [shape_of(text) for text in sizes]
    largest = tuple(max(sides) for sides in zip(*shapes, strict=True))
    each = -(-n // len(sizes))
    parts = [samples(each, shape, g, TRAINING) for shape in shapes]

    def stacked(arrays: list[np.ndarray]) -> np.ndarray:
        def padded(array: np.ndarray) -> np.ndarray:
            missing = [(0, m - k) for m, k in zip(largest, array.shape[1:], strict=True)]
            return np.pad(array, [(0, 0), *missing])

        return np.concatenate([padded(array) for array in arrays])

    fields = stacked([fields for fields, _ in parts])
    targets = stacked([targets for _, targets in parts])
    there = stacked([np.ones((each, *shape), bool) for shape in shapes])
    return Batch(scaled(fields), jnp.asarray(targets), jnp.asarray(there))


@eqx.filter_jit
def trained(
    network: Network,
    data: Batch,
    key: Array,
    learning_rate: Array,
    weight: Array,
    layers: int | None,
    steps: int,
    batch: int,
) -> Network:
    """The network after all steps: Adam, clipped gradients, a rate that falls by a cosine.

    Parameters
    ----------
    network
        To begin with.
    data
        All training samples.
    key
        JAX key of the batches.
    learning_rate
        At the first step; a hundredth of it at the last.
    weight
        Of the ceiling on the growth of small changes, for an equilibrium.
    layers
        Applications; None for the equilibrium.
    steps, batch
        Of training, and samples in a step.
    """
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    schedule = optax.cosine_decay_schedule(1.0, steps, alpha=0.01)
    square = jnp.sum(data.targets**2) / jnp.sum(data.mask)

    def loss(arrays: Any, drawn: Batch) -> Array:
        network = eqx.combine(arrays, rest)
        x, mask = drawn.fields, drawn.mask
        found, states, _ = answers(network, x, layers, mask=mask, layer=_LAYER)
        off = jnp.sum(jnp.where(mask, found - drawn.targets, 0) ** 2) / jnp.sum(mask)
        if layers is not None:
            return off / square

        wired = network.wired()

        def penalty(z: Array, x: Array, mask: Array) -> Array:
            return stability_penalty(wired, z, x.reshape(-1, 1), mask.ravel(), ceiling=_CEILING)

        watched = (states[:_WATCHED], x[:_WATCHED], mask[:_WATCHED])
        return off / square + weight * jnp.mean(jax.vmap(penalty)(*watched))

    def step(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
        arrays, state = carry
        key_of_step = jax.random.fold_in(key, number)
        rows = jax.random.randint(key_of_step, (batch,), 0, len(data.fields))
        slope = jax.grad(loss)(arrays, data.at(rows).turned())
        change, state = optimiser.update(slope, state)
        size = learning_rate * schedule(number)
        arrays = jax.tree.map(lambda a, c: a - size * c, arrays, change)
        return (arrays, state), None

    (arrays, _), _ = jax.lax.scan(step, (arrays, optimiser.init(arrays)), jnp.arange(steps))
    return eqx.combine(arrays, rest)


def train_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Choose rate, gain and weight at the first seed, train every seed, measure."""
    del folder
    options = row.options
    layers, g = options["layers"], options["g"]
    sizes = {"layers": layers, "steps": options["steps"], "batch": options["batch"]}
    data = training_samples(options["n_training"], options["sizes"], g)
    largest = data.fields.shape[1:]
    held_out, expected = samples(options["n_validation"], largest, g, VALIDATION)
    asked = eqx.filter_jit(lambda network, x: symmetric_answers(network, x, layers)[0])

    def fit(seed: int, choice: tuple[float, float, float]) -> tuple[float, Network]:
        rate, gain, weight = choice
        for_network, for_data = jax.random.split(jax.random.key(seed))
        network = initial_network(options["cell"], largest, gain, for_network)
        numbers = jnp.asarray(rate), jnp.asarray(weight)
        network = trained(network, data, for_data, *numbers, **sizes)
        loss = normalised_error(asked(network, scaled(held_out)), expected)
        return (loss if math.isfinite(loss) else math.inf), network

    began = time.perf_counter()
    seed = row.seeds[0]
    choices = [(rate, gain, WEIGHTS[0]) for rate in LEARNING_RATES for gain in GAINS]
    others = WEIGHTS[1:] if layers is None else ()  # without an equilibrium there is no ceiling
    tried: dict[tuple[float, float, float], tuple[float, Network]] = {}
    total = len(choices) + len(others)

    def choose(choice: tuple[float, float, float]) -> None:
        tried[choice] = fit(seed, choice)
        progress({"stage": "choosing", "epoch": len(tried), "epochs": total})

    def best() -> tuple[float, float, float]:
        return min(tried, key=lambda choice: tried[choice][0])

    for choice in choices:
        choose(choice)
    rate, gain, _ = best()
    for weight in others:
        choose((rate, gain, weight))
    rate, gain, weight = best()
    if math.isinf(tried[best()][0]):
        return failed("no choice had a finite loss on validation data")
    seeds = []
    for number, seed in enumerate(row.seeds, start=1):
        loss, network = tried[best()] if number == 1 else fit(seed, best())
        found = errors(lambda x, network=network: asked(network, scaled(x)), options)
        if layers is None:
            found |= stability(network, options, seed)
        seeds.append({"seed": seed, "valid_loss": loss, **found})
        progress({"stage": "training", "epoch": number, "epochs": len(row.seeds)})
    first = tried[best()][1]
    ceiling = f", weight of the ceiling {weight}" if others else ""
    return result(
        seeds,
        note=with_absent(
            f"learning rate {rate}, initial gain {gain}{ceiling}, chosen on validation data of "
            f"seed {row.seeds[0]}",
            options,
        ),
        parameters=first.n_parameters,
        profile=profile(lambda x: asked(first, scaled(x)), options),
        train_seconds=time.perf_counter() - began,
        peak_memory_mb=peak_memory_mb(),
    )
