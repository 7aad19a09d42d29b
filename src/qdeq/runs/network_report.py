"""A page on the search for a network's equilibrium: every site at every step, solver by solver."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qdeq.equilibrium.networks import Chain, Grid, NetworkEquilibrium, Wired, choose_solver
from qdeq.equilibrium.networks.cells import cells_of, measures_derivatives, randomness_of
from qdeq.equilibrium.networks.layer import check_layer, with_tolerances_of_its_solver
from qdeq.equilibrium.solver import name_of
from qdeq.errors import UserError, as_tuple, check_path, told
from qdeq.models import Network
from qdeq.models.cells import circuit_of
from qdeq.runs import figures, pages
from qdeq.runs.network_search import (
    Drawn,
    SitesSearch,
    packed,
    searches,
    wired_of,
)
from qdeq.runs.report_data import SEARCHED, names_of_numbers
from qdeq.runs.report_samples import NAMES
from qdeq.runs.summary import hardware, versions
from qdeq.runs.summary_rows import tolerance_in_words

_NAMES = NAMES | {
    "sweep": "Sweep",
    "newton-scan": "Newton (scan)",
    "newton-blocks": "Newton (blocks)",
    "newton-krylov": "Newton (Krylov)",
}
_MOST_DRAWN = 100  # sites of a wiring whose picture shows anything


def write_network_report(
    network: Network | Wired,
    x: Any,
    path: str | os.PathLike[str],
    *,
    mask: Any = None,
    layer: NetworkEquilibrium | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Write a page on which one sees solvers find the equilibrium of a network, site by site.

    One file without links to others, as the report of a run is. It shows a few samples: choose one,
    a solver and a step, and see the states of all sites, how far each still moves, and the residual
    of every solver. Solvers are those that fit the wiring and begin at 0.

    Parameters
    ----------
    network
        On the wiring of the samples (`network.on(wiring)`). Its cells are exact: no shots.
    x
        `(B, N, d)`, or `(N, d)` of a single sample. The first 8 are shown.
    path
        Of the page. Folders that are missing are made.
    mask
        `(B, N)` or `(N,)`, see `NetworkEquilibrium`.
    layer
        Finds the equilibria that paths are compared with. All solvers get its tolerances, bounds
        and `max_steps`, of which 100 are followed. None for `network.solve`'s own.
    labels
        What the samples are called; None for "sample 0" and so on.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    UserError
        For samples, a mask or labels that do not fit, cells that are random or run on a device, or
        a path that cannot be written.

    Examples
    --------
    >>> import tempfile, jax.numpy as jnp, qdeq
    >>> wiring = qdeq.Grid(3, 3)
    >>> injection = qdeq.EdgeInjection([[1.0]], 0.2 * jnp.ones((4, 1, 1)))
    >>> network = qdeq.Network(lambda v, x: jnp.tanh(v), injection, wiring)
    >>> page = f"{tempfile.mkdtemp()}/network.html"
    >>> write_network_report(network, jnp.ones((9, 1)), page).name
    'network.html'
    """
    if not isinstance(network, Network | Wired):
        raise UserError(f"network={told(network)}: give a qdeq.Network, or a Wired")
    random = any(any(randomness_of(one).values()) for one in cells_of(wired_of(network).cell))
    if random or measures_derivatives(wired_of(network).cell):
        raise UserError(
            "the cells are measured with shots or on a device, and the page evaluates each some "
            "hundred times, exactly: give the network of the circuits themselves"
        )
    if layer is None:
        layer = NetworkEquilibrium() if isinstance(network, Wired) else network.default_layer()
    check_layer(layer, ", or None for its own")
    check_path("path", path)
    x, mask = _samples(network, x, mask)
    n_given = len(x)
    if labels is None:
        labels = [f"sample {k}" for k in range(n_given)]
    labels = as_tuple("labels", labels, object, "names, one of each sample")
    if len(labels) != n_given:
        raise UserError(f"labels: {len(labels)} for {n_given} samples: give one of each")
    x, labels = x[:SEARCHED], [str(label) for label in labels[:SEARCHED]]
    found, drawn = searches(network, x, mask, layer=layer, labels=labels)
    page = network_page(network, found, drawn, layer=layer, n_given=n_given)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"path={str(path)!r}: {error.strerror}; give another") from None
    return path


def network_page(
    network: Network | Wired,
    found: list[SitesSearch],
    drawn: Drawn,
    *,
    layer: NetworkEquilibrium,
    n_given: int,
) -> str:
    """The page as HTML; arguments are what `searches` was given and returned."""
    wiring, solver = network.wiring, layer.solver
    layer = with_tolerances_of_its_solver(layer)
    by = solver if isinstance(solver, str) else name_of(solver)
    q = network.injection.n_states
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    rows = {
        "wiring": repr(wiring),
        "sites": f"{wiring.n_sites:,}, with {q} number{'s' * (q != 1)} each",
        "solved by": f"{choose_solver(wiring)}, chosen by auto" if by == "auto" else by,
        "converged means": tolerance_in_words(layer, layer.rtol).replace("f(m)", "F(m)"),
        "samples": f"{len(found)}" + f", the first of {n_given:,}" * (n_given > len(found)),
    }
    parts = [
        pages.paragraph(f"{now}, {hardware()}", "run"),
        pages.pairs(rows),
        pages.heading("The search for the equilibrium"),
        pages.paragraph(_explained(network, drawn), "note"),
        '<div id="search" class="search" hidden></div>',
        "<noscript><p>The view that moves needs JavaScript; the table has its results.</p>"
        "</noscript>",
        _table(found),
    ]
    pictures = _pictures(network)
    if pictures:
        parts += [pages.heading("The network"), pages.figures(pictures)]
    parts += [pages.heading("Surroundings"), pages.pairs(versions())]
    data = {
        "tolerance": layer.rtol or layer.atol or float(np.finfo(np.float32).eps),
        "names": _NAMES,
        "numbers": _names_of_numbers(network, q),
        "scale": _scale(network, found),
        "lie": _lie(network, drawn),
        "searches": [_plain(search) for search in found],
    }
    title = f"The equilibrium of {wiring.n_sites:,} sites"
    return pages.page(title, parts, wide=True, scripts=["view.js", "sites.js"], data=data)


def _samples(network: Network | Wired, x: Any, mask: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """All samples, and the masks of those that are shown; both with an axis of samples."""
    n, d = network.wiring.n_sites, network.injection.n_features
    try:
        x = np.asarray(x)
    except (TypeError, ValueError):
        x = np.zeros(0, object)
    one = x[None] if x.ndim == 2 else x
    if one.dtype.kind not in "iufb" or one.ndim != 3 or one.shape[1:] != (n, d) or not len(one):
        raise UserError(
            f"x has shape {x.shape} and dtype {x.dtype}: {network.wiring!r} has {n} sites with {d} "
            f"features each, give real numbers ({n}, {d}) of one sample or (B, {n}, {d})"
        )
    if mask is None:
        return one, None
    given = np.asarray(mask)
    mask = given[None] if given.ndim == 1 else given
    if mask.dtype != np.bool_ or mask.shape != one.shape[:2]:
        raise UserError(
            f"mask has shape {given.shape} and dtype {given.dtype}: give a bool per site of every "
            f"sample, {one.shape[:2]}"
        )
    return one, mask


def _explained(network: Network | Wired, drawn: Drawn) -> str:
    text = (
        "An equilibrium is a state m* of all sites that the network maps to itself, m* = F(m*). "
        "The picture shows the states at a step, and how far an application of F would still move "
        "each site. All solvers begin at m = 0. "
    )
    if network.wiring.structure == "causal":
        text += (
            "No site hears itself, not even by way of others: repeated application (Picard) ends "
            "after as many steps as there are sites, or earlier where a site forgets, and the "
            "spectral radius of dF/dm is 0. Gain is by how much a change of what a site hears may "
            "change its state: below 1 changes die out along the way. "
        )
    else:
        text += (
            "Growth is by how much repeated application makes a small change of m* grow, about the "
            "spectral radius of dF/dm: below 1 it (Picard) gets to m* from close by, and the "
            "smaller it is, the faster. Gain is by how much a change of what a site hears may "
            "change its state. Spread is the largest distance between what the layer finds from 8 "
            "random starts and from 0, relative to the size of the latter: far above the tolerance "
            "it shows that there are several equilibria, or that some starts lead to none. "
        )
    if drawn.every > 1:
        rows = " and every such row" if drawn.rows > 1 else ""
        text += (
            f"Of {network.wiring.n_sites:,} sites every {drawn.every}th of a row{rows} is drawn; "
            "movement and gain are the largest up to the next one that is."
        )
    return text


def _table(found: list[SitesSearch]) -> str:
    names = list(found[0].paths)
    header = ["sample", "growth", "largest gain", "spread over starts", "layer, steps"]
    header += [f"{_NAMES[name]}, steps" for name in names]
    body = []
    for search in found:
        cells = [search.label, _text(search.growth), _text(search.largest_gain)]
        cells.append(_text(search.spread, ".1e"))
        cells.append(f"{search.steps}" + " (not converged)" * (not search.converged))
        for path in search.paths.values():
            cells.append(f"{len(path.residuals)}" + " (not converged)" * (not path.converged))
        body.append(cells)
    return pages.grid(header, body)


def _pictures(network: Network | Wired) -> dict[str, tuple[bytes, str, str]]:
    """Who hears whom, and the circuit, where there are not too many sites or circuits for it."""
    drawn = {}
    if network.wiring.n_sites <= _MOST_DRAWN:
        picture = figures.png(network.wiring.draw_mpl())
        drawn["wiring"] = picture, "circuit", "Who hears whom: arrows go to the site that hears."
    circuit = _circuit(network)
    if circuit is not None:
        picture = figures.png(circuit.measured.draw_mpl())
        caption = "The circuit at every site: encoding of what it hears, circuit, observables."
        drawn["circuit"] = picture, "circuit", caption
    return drawn


def _circuit(network: Network | Wired) -> Any:
    """Of all sites; None where there are several, or none."""
    cells = cells_of(network.cell)
    return circuit_of(cells[0]) if len(cells) == 1 else None


def _names_of_numbers(network: Network | Wired, q: int) -> list[str]:
    circuit = _circuit(network)
    return names_of_numbers(() if circuit is None else circuit.observables.strings, q)


def _scale(network: Network | Wired, found: list[SitesSearch]) -> float:
    """What the strongest colour stands for: 1 of expectation values, else the largest of m*."""
    if isinstance(network, Network) and network.default_layer().bounds is not None:
        return 1.0
    every = np.concatenate([search.equilibrium.ravel() for search in found])
    every = np.abs(every[np.isfinite(every)])
    largest = float(every.max()) if every.size else 0.0
    return float(f"{largest:.2g}") or 1.0


def _lie(network: Network | Wired, drawn: Drawn) -> dict[str, Any]:
    """How sites lie, for the picture."""
    rows, columns = drawn.shape
    return {
        "rows": rows,
        "columns": columns,
        "every": drawn.every,
        "perRow": drawn.columns,
        "grid": isinstance(network.wiring, Grid),
        "inOrder": isinstance(network.wiring, Chain),  # that is what a sweep of it does
    }


def _plain(search: SitesSearch) -> dict[str, Any]:
    """What `sites.js` reads of a sample."""
    return {
        "label": search.label,
        "converged": search.converged,
        "growth": search.growth,
        "gain": search.largest_gain,
        "equilibrium": packed(search.equilibrium),
        "gains": packed(search.gains),
        "paths": {
            name: {
                "states": packed(path.states),
                "moves": packed(path.moves),
                "residuals": path.residuals,
                "converged": path.converged,
                "distance": path.distance,
            }
            for name, path in search.paths.items()
        },
    }


def _text(number: float | None, form: str = ".3f") -> str:
    return "none" if number is None else f"{number:{form}}"
