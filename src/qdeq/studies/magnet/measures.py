"""How far a model of magnets is off, size by size, and whether its equilibria stay equilibria."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike

from qdeq.equilibrium.networks import NetworkEquilibrium, growth, path_independence
from qdeq.models import Network
from qdeq.studies.magnet.data import Shape, random_fields, reason_against, samples, shape_of
from qdeq.studies.magnet.networks import scaled, symmetric_answers, wiring_of

#: Seeds of the fields; all rows, and all seeds of a row, have the same.
TRAINING, VALIDATION, TEST = 0, 1, 2

_LAYER = NetworkEquilibrium(bounds=(-1.0, 1.0))
_SPREAD_SAMPLES, _SPREAD_STARTS = 10, 8


def normalised_error(found: ArrayLike, targets: ArrayLike) -> float:
    """Mean squared error over the variance of the targets: 1 for who always says their mean.

    >>> normalised_error(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    1.0
    """
    found, targets = np.asarray(found, float), np.asarray(targets, float)
    return float(np.mean((found - targets) ** 2) / np.var(targets))


def errors(ask: Callable[[np.ndarray], ArrayLike], options: Mapping[str, Any]) -> dict[str, float]:
    """Normalised error by size, for the sizes whose ground states can be had.

    Parameters
    ----------
    ask
        Magnetisations of fields, both `(n, *shape)`.
    options
        Of a row: `tests`, samples by lattice, and `g`.
    """
    found = {}
    for text, n in options["tests"].items():
        if reason_against(shape_of(text)) is None:
            fields, targets = samples(n, shape_of(text), options["g"], TEST)
            found[f"error_{text}"] = normalised_error(ask(fields), targets)
    return found


def profile(
    ask: Callable[[np.ndarray], ArrayLike], options: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Exact magnetisations and a model's, along the first lattice of the largest size there is."""
    tests = {shape_of(text): n for text, n in options["tests"].items()}
    largest = max((shape for shape in tests if reason_against(shape) is None), key=math.prod)
    fields, targets = samples(tests[largest], largest, options["g"], TEST)
    answered = np.asarray(ask(fields), float)
    parts = {"exact": targets[0], "answers": answered[0]}
    return {name: part.ravel().round(5).tolist() for name, part in parts.items()}


def with_absent(note: str, options: Mapping[str, Any]) -> str:
    """A note, and why sizes are missing where they are."""
    reasons = [reason_against(shape_of(text)) for text in options["tests"]]
    return "; ".join([note, *(reason for reason in reasons if reason is not None)])


def stability(
    network: Network,
    options: Mapping[str, Any],
    seed: int,
    layer: NetworkEquilibrium = _LAYER,
) -> dict[str, float]:
    """Converged fraction over all test samples, and on the largest size growth and spread.

    Growth is the largest over some samples, spread that over random starts, by the layer that finds
    the row's answers.
    """
    converged = []
    tests = {shape_of(text): n for text, n in options["tests"].items()}
    for shape, n in tests.items():
        fields = scaled(random_fields(n, shape, TEST))  # no ground state is needed for this
        converged.append(np.asarray(_settled(network, fields, layer)))
    largest = max(tests, key=math.prod)
    x = scaled(random_fields(tests[largest], largest, TEST))[:_SPREAD_SAMPLES]
    keys = jax.random.split(jax.random.key(2_000_003 + seed), len(x))
    grown, spread, settled = _over_starts(network, largest, x, keys, layer)
    return {
        "converged_fraction": float(np.concatenate(converged).mean()),
        "growth": float(np.max(grown)),
        "spread": float(np.max(spread)),
        "starts_converged": float(np.mean(settled)),
    }


@eqx.filter_jit
def _settled(network: Network, x: Array, layer: NetworkEquilibrium) -> Array:
    """Which samples converge; a function of the module, so that all seeds share its programs."""
    return symmetric_answers(network, x, None, layer=layer)[1]


@eqx.filter_jit
def _over_starts(
    network: Network, shape: Shape, x: Array, keys: Array, layer: NetworkEquilibrium
) -> tuple[Array, Array, Array]:
    network = network.on(wiring_of(shape))
    wired = network.wired()

    def one(x: Array, key: Array) -> tuple[Array, Array, Array]:
        x = x.reshape(-1, 1)
        states = network.solve(x, layer=layer).value
        found = path_independence(layer, wired, x, key=key, n_starts=_SPREAD_STARTS)
        return growth(wired, states, x), found.spread, found.converged_fraction

    return jax.vmap(one)(x, keys)
