"""Fits one model to one series, seed by seed, and measures its forecasts; one row of `series`."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qdeq.data import SeriesPreparation
from qdeq.equilibrium.networks import Chain, EdgeInjection
from qdeq.errors import UserError
from qdeq.models import Network
from qdeq.models.sequence_network import sequence_network
from qdeq.runs.summary import peak_memory_mb
from qdeq.studies.kinds import failed, result
from qdeq.studies.series.data import load_series
from qdeq.studies.series.models import EchoState, Ridge
from qdeq.studies.study import Result, Row, Tell
from qdeq.training.forecasting import forecast, forecasting_sequences
from qdeq.training.sequences import SequenceTraining, train_sequences

#: Rows that every model sees before it forecasts.
HISTORY = 64
#: What is chosen among, on validation rows of the first seed.
CHOICES: dict[str, dict[str, tuple]] = {
    "chain": {"gain": (0.8, 1.5)},
    "gru": {"rate": (0.01, 0.03)},
    "alone": {"lags": (8, 16)},
    "ridge": {"lags": (4, 8, 16, 32), "penalty": (1e-8, 1e-6, 1e-4, 1e-2, 1.0)},
    "esn": {"radius": (0.7, 0.95), "leak": (0.3, 1.0), "penalty": (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)},
}
CHOICES["esn-large"] = CHOICES["esn"]

Forecast = Callable[[np.ndarray, int], np.ndarray]


class Gru(eqx.Module):
    """A gated recurrent unit as a cell: its state is what it hears."""

    gru: eqx.nn.GRUCell

    def __call__(self, v: Array, x: Array) -> Array:
        """The unit's next state."""
        return self.gru(x, v)


@dataclass(frozen=True)
class Prepared:
    """A series on the scale of its training part.

    Attributes
    ----------
    values
        `(T, d)` float32.
    edges
        Begins of validation and test part, and the end.
    unit
        Deviation of a step from row to row in the training part, `(d,)`.
    """

    values: np.ndarray
    edges: tuple[int, int, int]
    unit: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray) -> "Prepared":
        """Three fifths train, a fifth validates, a fifth tests."""
        rows = len(series)
        edges = (rows - 2 * (rows // 5), rows - rows // 5, rows)
        values = SeriesPreparation.fit([series[: edges[0]]]).features(series)
        return cls(values, edges, np.diff(values[: edges[0]], axis=0).std(axis=0))


def error(predict: Forecast, data: Prepared, part: int, horizon: int, every: int = 1) -> np.ndarray:
    """Normalised root mean squared error at 1 to `horizon` rows ahead, over the rows of a part.

    In units of the part's standard deviation, channel by channel: 1 is what its mean would have.
    """
    begin, end = data.edges[part - 1 : part + 1]
    last = np.arange(begin - 1, end - horizon, every)
    history = data.values[last[:, None] + np.arange(1 - HISTORY, 1)]
    true = data.values[last[:, None] + np.arange(1, horizon + 1)]
    found = np.asarray(predict(history, horizon), float)
    size = data.values[begin:end].std(axis=0)
    return np.sqrt(np.mean(((found - true) / size) ** 2, axis=(0, 2)))


def train_row(row: Row, folder: Path, progress: Tell) -> Result:
    """Choose settings at the first seed, fit every seed, measure on test rows."""
    del folder
    options = row.options
    try:
        data = Prepared.of(load_series(options["series"]))
    except UserError as missing:
        return failed(str(missing))
    model, horizon, every = options["model"], options["horizon"], options["every"]
    fit = {"ridge": _ridge, "esn": _echo_state, "esn-large": _echo_state}.get(model, _network)
    began = time.perf_counter()
    names, values = zip(*CHOICES[model].items(), strict=True)
    choices = [dict(zip(names, one, strict=True)) for one in itertools.product(*values)]
    tried = []
    for number, choice in enumerate(choices, start=1):
        fitted = fit(data, options, row.seeds[0], **choice)
        score = float(error(fitted[0], data, 1, horizon, every)[0])
        tried.append((score if math.isfinite(score) else math.inf, choice, fitted))
        progress({"stage": "choosing", "epoch": number, "epochs": len(choices)})
    _, choice, first = min(tried, key=lambda trial: trial[0])
    seeds = []
    for number, seed in enumerate(row.seeds, start=1):
        same = number == 1 or model == "ridge"  # which has no randomness
        predict, _ = first if same else fit(data, options, seed, **choice)
        score = float(error(predict, data, 1, horizon, every)[0])
        curve = error(predict, data, 2, horizon, every)
        ahead = {f"ahead_{h}": float(value) for h, value in enumerate(curve, start=1)}
        found = {"one_step": float(curve[0]), "far": float(curve[-1]), **ahead}
        seeds.append({"seed": seed, "valid_loss": score, **found})
        progress({"stage": "training", "epoch": number, "epochs": len(row.seeds)})
    return result(
        seeds,
        note=", ".join(f"{name} {value:g}" for name, value in choice.items())
        + f"; chosen on validation rows of seed {row.seeds[0]}",
        parameters=first[1],
        train_seconds=time.perf_counter() - began,
        peak_memory_mb=peak_memory_mb(),
    )


def _ridge(data: Prepared, options: Any, seed: int, **choice: Any) -> tuple[Forecast, int]:
    del options, seed
    ridge = Ridge.fit(data.values.astype(float), data.edges[0], **choice)
    return ridge.forecast, ridge.n_parameters


def _echo_state(data: Prepared, options: Any, seed: int, **choice: Any) -> tuple[Forecast, int]:
    n_channels, units = data.values.shape[1], options["units"]
    if units is None:  # as many trained numbers as the chain of circuits
        units = chain_network(options, n_channels, 0, 1.0).n_parameters // n_channels
        units -= n_channels + 1
    network = EchoState.fit(
        data.values.astype(float), data.edges[0], seed=seed, units=units, **choice
    )
    return network.forecast, network.n_parameters


def chain_network(options: Any, n_features: int, seed: int, gain: float, lags: int = 1) -> Network:
    """The chain of circuits, of untrained ones."""
    return sequence_network(
        lags * n_features,
        n_features,
        key=jax.random.key(seed),
        n_qubits=options["n_qubits"],
        ansatz_layers=options["ansatz_layers"],
        read_out="sites",
        gain=gain,
    )


def gru_network(n_features: int, size: int, seed: int) -> Network:
    """A gated recurrent unit of about `size` numbers, head included."""
    counts = {h: 3 * h * (n_features + h + 1) + h + (h + 1) * n_features for h in range(1, 40)}
    hidden = min(counts, key=lambda h: abs(counts[h] - size))
    for_unit, for_head = jax.random.split(jax.random.key(seed))
    gru = eqx.nn.GRUCell(n_features, hidden, key=for_unit)
    injection = EdgeInjection(np.zeros((hidden, n_features)), np.eye(hidden), learned=False)
    return Network(
        Gru(gru), injection, Chain(1), read_out="sites", n_outputs=n_features, key=for_head
    )


def _network(
    data: Prepared,
    options: Any,
    seed: int,
    *,
    rate: float = 0.02,
    gain: float = 1.0,
    lags: int = 1,
) -> tuple[Forecast, int]:
    n_channels, alone = data.values.shape[1], options["model"] == "alone"
    network = chain_network(options, n_channels, seed, gain, lags)
    if options["model"] == "gru":
        network = gru_network(n_channels, network.n_parameters, seed)
    length, unit = options["length"], data.unit
    warm_up = 0 if alone else options["warm_up"]
    settings: Any = {"unit": unit, "lags": lags, "warm_up": warm_up}
    a, b, _ = data.edges
    train = forecasting_sequences(data.values, (0, a), length, stride=options["stride"], **settings)
    valid = forecasting_sequences(data.values, (a, b), length, stride=4, **settings)
    batches = -(-len(train) // options["batch"])
    training = SequenceTraining(
        loss="squared",
        layers=1 if alone else None,
        epochs=-(-options["steps"] // batches),
        batch_size=options["batch"],
        learning_rate=rate,
    )
    network = train_sequences(network, train, valid, training, seed=seed).network

    def predict(history: np.ndarray, steps: int) -> np.ndarray:
        found, _ = forecast(
            network, jnp.asarray(history), steps, unit=jnp.asarray(unit), lags=lags, alone=alone
        )
        return np.asarray(found)

    silent = network.injection.messages.size if alone else 0
    return predict, network.n_parameters - silent
