"""Trains a network on prefix parity and measures how far its answers carry; one row of `parity`.

Bits are drawn as they are needed, so that no data set is kept and no sample is seen twice.
"""

import math
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from qdeq.circuits import AngleEncoding, hardware_efficient, parse_noise, z_strings
from qdeq.equilibrium.networks import (
    Chain,
    EdgeInjection,
    NetworkEquilibrium,
    path_independence,
)
from qdeq.models import Network, QuantumModel
from qdeq.models.function import count_numbers
from qdeq.runs.summary import peak_memory_mb
from qdeq.studies.kinds import failed, result
from qdeq.studies.study import Result, Row, Tell

#: Learning rates, and norms of the initial messages, to choose from.
LEARNING_RATES = (0.01, 0.03)
GAINS = (0.8, 1.5)

# 19 and 29 numbers, where the network of circuits has 22; a GRU of one unit has 12.
_SINE_UNITS, _GRU_STATES = 3, 2
_VALIDATION = 512  # sequences of the trained length
_SPREAD_LENGTH, _SPREAD_STARTS = 512, 4


class Tanh(eqx.Module):
    """A cell of one layer of units, for comparison."""

    def __call__(self, v: Array, x: Array) -> Array:
        """The units' states."""
        del x
        return jnp.tanh(v)


class Sine(eqx.Module):
    """A cell of one layer of units that turn back, as expectation values do, for comparison."""

    def __call__(self, v: Array, x: Array) -> Array:
        """The units' states."""
        del x
        return jnp.sin(v)


class Recurrent(eqx.Module):
    """A gated recurrent unit with a linear head at every site, for comparison.

    Attributes
    ----------
    cell
        Of a few states.
    head
        Linear.
    """

    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    @classmethod
    def random(cls, n_states: int, key: Array) -> "Recurrent":
        """With random parameters and one feature a site."""
        for_cell, for_head = jax.random.split(key)
        cell = eqx.nn.GRUCell(1, n_states, key=for_cell)
        return cls(cell, eqx.nn.Linear(n_states, 1, key=for_head))

    def __call__(self, x: Float[Array, "T 1"]) -> Float[Array, "T 1"]:
        """Answers at every site."""

        def site(state: Array, x: Array) -> tuple[Array, Array]:
            state = self.cell(x, state)
            return state, self.head(state)

        return jax.lax.scan(site, jnp.zeros(self.cell.hidden_size), x)[1]

    @property
    def n_parameters(self) -> int:
        """How many numbers training changes."""
        return count_numbers(self)


def initial_network(
    cell: str, length: int, gain: float, key: Array, noise: str | None = None
) -> Network | Recurrent:
    """A network with random parameters.

    Parameters
    ----------
    cell
        "circuit" (two qubits, three Z strings), "tanh" (one unit), "sine" (three) or "gru" (two).
    length
        Sites.
    gain
        Two-norm of the initial messages.
    key
        JAX key.
    noise
        Of the circuit, as `parse_noise` reads it.
    """
    for_cell, for_edges, for_head = jax.random.split(key, 3)
    wiring = Chain(length)
    if cell == "gru":
        return Recurrent.random(_GRU_STATES, for_cell)
    if cell in ("tanh", "sine"):
        unit, n = (Tanh(), 1) if cell == "tanh" else (Sine(), _SINE_UNITS)
        injection = EdgeInjection.random(wiring, n, 1, n, key=for_edges, gain=gain)
        return Network(unit, injection, wiring, n_outputs=1, key=for_head)
    circuit = hardware_efficient(2, 2)
    theta = jax.random.uniform(for_cell, (circuit.n_parameters,), minval=-jnp.pi, maxval=jnp.pi)
    encoding = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
    model = QuantumModel(
        theta,
        circuit,
        encoding=encoding,
        observables=z_strings(2, 2),
        noise=None if noise is None else parse_noise(noise),
    )
    injection = EdgeInjection.random(wiring, 2, 1, 3, key=for_edges, gain=gain)
    return Network(model, injection, wiring, n_outputs=1, key=for_head)


def parities(key: Array, n: int, length: int) -> tuple[Float[Array, "n T 1"], Float[Array, "n T"]]:
    """Random bits as features -1 and 1, and the parity of the bits up to every position."""
    bits = jax.random.bernoulli(key, 0.5, (n, length))
    features = jnp.where(bits, 1.0, -1.0)[..., None]
    return features, (jnp.cumsum(bits, axis=1) % 2).astype(features.dtype)


def logits(network: Network | Recurrent, x: Float[Array, "n T 1"], layers: int | None) -> Any:
    """Answers `(n, T)` of the equilibrium, or after `layers` applications, and which converged."""
    if isinstance(network, Recurrent):
        return jax.vmap(network)(x)[..., 0], jnp.ones(len(x), bool)
    network = network.on(Chain(x.shape[1]))
    found, _, converged = jax.vmap(lambda x: network.answer(x, layers))(x)
    return found[..., 0], converged


@eqx.filter_jit
def trained(
    network: Network | Recurrent,
    key: Array,
    learning_rate: Array,
    layers: int | None,
    length: int,
    steps: int,
    batch: int,
) -> tuple[Network | Recurrent, Array]:
    """The network after all steps, and its loss on validation sequences."""
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

    def loss(arrays: Any, x: Array, y: Array) -> Array:
        found, _ = logits(eqx.combine(arrays, rest), x, layers)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(found, y))

    def step(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
        arrays, state = carry
        x, y = parities(jax.random.fold_in(key, number), batch, length)
        slope = jax.grad(loss)(arrays, x, y)
        change, state = optimiser.update(slope, state)
        arrays = jax.tree.map(lambda a, c: a - learning_rate * c, arrays, change)
        return (arrays, state), None

    begin = (arrays, optimiser.init(arrays))
    (arrays, _), _ = jax.lax.scan(step, begin, jnp.arange(steps))
    held_out = parities(jax.random.fold_in(key, steps), _VALIDATION, length)
    return eqx.combine(arrays, rest), loss(arrays, *held_out)


@eqx.filter_jit
def _right(
    network: Network | Recurrent, x: Array, y: Array, layers: int | None
) -> tuple[Bool[Array, "n T"], Array]:
    found, converged = logits(network, x, layers)
    return ((found > 0) == (y > 0.5)) & jnp.isfinite(found), converged


def bits_before_a_mistake(right: Bool[np.ndarray, "n T"]) -> float:
    """Median over sequences of how many answers are right from the first on.

    >>> bits_before_a_mistake(np.array([[True, False, True], [True, True, True]]))
    2.0
    """
    return float(np.median(np.cumprod(right, axis=1).sum(axis=1)))


def measured(
    network: Network | Recurrent, layers: int | None, tests: dict[str, int], seed: int
) -> dict[str, float]:
    """Accuracy over all positions by length, and what fraction of the equilibria converged."""
    found, converged = {}, []
    for length, n in sorted((int(text), n) for text, n in tests.items()):
        x, y = parities(jax.random.fold_in(jax.random.key(1_000_003 + seed), length), n, length)
        right, settled = _right(network, x, y, layers)
        found[f"accuracy_{length}"] = float(jnp.mean(right))
        found["carried"] = bits_before_a_mistake(np.asarray(right))  # of the longest, in the end
        converged.append(np.asarray(settled))
    if layers is None and isinstance(network, Network):
        found["converged_fraction"] = float(np.concatenate(converged).mean())
        found["spread"] = _spread(network, seed)
    return found


@eqx.filter_jit
def _spread_of(network: Network, x: Array, key: Array) -> Array:
    layer = NetworkEquilibrium("newton-scan", bounds=(-1.0, 1.0))
    wired = network.on(Chain(_SPREAD_LENGTH)).wired()
    return path_independence(layer, wired, x, key=key, n_starts=_SPREAD_STARTS).spread


def _spread(network: Network, seed: int) -> float:
    key = jax.random.key(2_000_003 + seed)
    x, _ = parities(key, 1, _SPREAD_LENGTH)
    return float(_spread_of(network, x[0], key))


def train_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Choose learning rate and gain at the first seed, train every seed, measure."""
    del folder
    options = row.options
    layers, length = options["layers"], options["length"]
    sizes = {"layers": layers, "length": length}
    sizes |= {"steps": options["steps"], "batch": options["batch"]}

    def fit(seed: int, rate: float, gain: float) -> tuple[Network | Recurrent, float]:
        for_network, for_data = jax.random.split(jax.random.key(seed))
        network = initial_network(options["cell"], length, gain, for_network, options.get("noise"))
        network, loss = trained(network, for_data, jnp.asarray(rate), **sizes)
        return network, float(loss)

    began = time.perf_counter()
    choices = [(rate, gain) for rate in LEARNING_RATES for gain in GAINS]
    tried = []
    for number, (rate, gain) in enumerate(choices, start=1):
        network, loss = fit(row.seeds[0], rate, gain)
        tried.append((loss if math.isfinite(loss) else math.inf, rate, gain, network))
        progress({"stage": "choosing", "epoch": number, "epochs": len(choices)})
    loss, rate, gain, first = min(tried, key=lambda trial: trial[0])
    if math.isinf(loss):
        return failed("no choice of learning rate and gain had a finite loss on validation data")
    seeds = []
    for number, seed in enumerate(row.seeds, start=1):
        network = first if seed == row.seeds[0] else None
        if network is None:
            network, loss = fit(seed, rate, gain)
        found = measured(network, layers, options["tests"], seed)
        seeds.append({"seed": seed, "valid_loss": loss, **found})
        progress({"stage": "training", "epoch": number, "epochs": len(row.seeds)})
    return result(
        seeds,
        note=f"learning rate {rate}, initial gain {gain}, chosen on validation data of seed "
        f"{row.seeds[0]}",
        parameters=first.n_parameters,
        train_seconds=time.perf_counter() - began,
        peak_memory_mb=peak_memory_mb(),
    )
