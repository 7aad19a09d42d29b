"""A page of a network's search whose numbers nobody had to compute."""

import jax.numpy as jnp
import numpy as np

import qdeq
from qdeq.equilibrium.networks import EdgeInjection, NetworkEquilibrium
from qdeq.runs.network_report import network_page
from qdeq.runs.network_search import Drawn, SitesPath, SitesSearch, solvers_for


def network_on(wiring, q=2):
    """Of tanh units; nothing is compiled for it."""
    messages = 0.3 * jnp.ones((wiring.n_kinds, q, q))
    injection = EdgeInjection(jnp.ones((q, 1)), messages)
    return qdeq.Network(lambda v, x: jnp.tanh(v), injection, wiring)


def searched(wiring, label="sample 0", q=2):
    """Paths of 6, 5, ... steps towards random states; the first and the last site are not there."""
    rng = np.random.default_rng(0)
    n = wiring.n_sites
    end = rng.uniform(-1, 1, (n, q))
    end[[0, -1]] = np.nan
    paths = {}
    for lost, name in enumerate(solvers_for(wiring)):
        left = 0.1 ** np.arange(1 if name == "sweep" else 6 - lost)
        states = end * (1 - left[:, None, None])
        moves = np.linalg.norm(end - states, axis=-1)
        residuals = [None if lost == 1 else float(r) for r in left]
        paths[name] = SitesPath(states, moves, residuals, lost != 2, 1e-6)
    gains = np.where(np.isnan(end[:, 0]), np.nan, 0.5)
    return SitesSearch(label, end, gains, 0.5, None, 1.5, 7, False, paths)


def page_of(wiring, labels=("sample 0", "sample 1"), layer=NetworkEquilibrium()):
    """As `write_network_report` makes it."""
    found = [searched(wiring, label) for label in labels]
    return network_page(network_on(wiring), found, Drawn.of(wiring), layer=layer, n_given=9)
