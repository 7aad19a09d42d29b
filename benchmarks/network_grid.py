"""Networks over sizes: the equilibrium and its gradient against what one would do instead.

`python -m benchmarks.networks --full`; results are written after every size, and a size that they
hold is not measured again, so that hours may be spread over several evenings.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

import qdeq
from benchmarks.timing import take_turns
from qdeq.equilibrium.networks import NetworkEquilibrium

# Cells by the numbers that they measure: qubits and observables.
CELLS: dict[int, tuple[int, Callable[[int], Any]]] = {
    2: (2, qdeq.z_of_every_wire),
    6: (2, qdeq.xyz_of_every_wire),
    9: (3, qdeq.xyz_of_every_wire),
    15: (4, lambda n: qdeq.z_strings(n, n)),
}
# Numbers of all sites and samples: beyond it a case is left out, and beyond the second one the
# general layer, which keeps 20 or more copies and multiplies by the whole Jacobian.
_LARGEST, _LARGEST_GENERAL = 10_000_000, 200_000
_APPLICATIONS = 10


@dataclass(frozen=True)
class Case:
    """A size: sites that hear one neighbour or both, numbers of a site, samples."""

    direction: str
    sites: int
    states: int
    batch: int


@dataclass(frozen=True)
class Line:
    """A measurement: milliseconds of one way to do one of two things."""

    case: Case
    what: str
    way: str
    median: float
    least: float
    converged: float | None


def cases(
    sites: tuple[int, ...], states: tuple[int, ...], batches: tuple[int, ...]
) -> Iterator[Case]:
    """All sizes that are not too large, small ones first."""
    every = [
        Case(direction, n, q, b)
        for direction in ("causal", "both")
        for n in sites
        for q in states
        for b in batches
        if n * q * b <= _LARGEST
    ]
    yield from sorted(every, key=lambda case: case.sites * case.states * case.batch)


def network_of(case: Case, gain: float) -> qdeq.Network:
    """Cells of three layers with random angles."""
    qubits, observables = CELLS[case.states]
    circuit = qdeq.hardware_efficient(qubits, 3)
    turns = [(g, w, 2 * w + i) for w in range(qubits) for i, g in enumerate(("RY", "RZ"))]
    theta = jax.random.uniform(jax.random.key(0), (circuit.n_parameters,), minval=-3, maxval=3)
    cell = qdeq.QuantumModel(
        theta,
        circuit,
        encoding=qdeq.AngleEncoding.from_rotations(qubits, turns),
        observables=observables(qubits),
    )
    wiring = qdeq.Chain(case.sites, case.direction)
    injection = qdeq.EdgeInjection.random(
        wiring, 2 * qubits, 1, case.states, key=jax.random.key(1), gain=gain
    )
    return qdeq.Network(cell, injection, wiring)


def plain_scan(network: qdeq.Network, x: Array) -> Array:
    """The states of a causal chain by `lax.scan` of the same cell, with ordinary gradients."""
    wired = network.wired()
    features, messages, offset = wired.injection.weights()

    def site(before: Array, x: Array) -> tuple[Array, Array]:
        m = wired.cell(features @ x + messages[0] @ before + offset, x)
        return m, m

    return lax.scan(site, jnp.zeros(wired.injection.n_states), x)[1]


def _ways(case: Case) -> dict[str, Callable[[qdeq.Network, Array], tuple[Array, Any]]]:
    """States and whether they are an equilibrium, of one sample, by all that can do it."""
    layer = NetworkEquilibrium(bounds=(-1.0, 1.0))

    def equilibrium(network: qdeq.Network, x: Array) -> tuple[Array, Any]:
        solution = network.solve(x, layer=layer)
        return solution.value, solution.stats.converged

    def direct(network: qdeq.Network, x: Array) -> tuple[Array, Any]:
        return network.apply(x, _APPLICATIONS), jnp.asarray(jnp.nan)

    def scanned(network: qdeq.Network, x: Array) -> tuple[Array, Any]:
        return plain_scan(network, x), jnp.asarray(True)

    def general(network: qdeq.Network, x: Array) -> tuple[Array, Any]:
        start = jnp.zeros(case.sites * case.states)
        solution = qdeq.Equilibrium(max_steps=60)(network.prepare().bind(x.reshape(-1)), start)
        return solution.value, solution.stats.converged

    ways = {"equilibrium": equilibrium, f"direct({_APPLICATIONS})": direct}
    if case.direction == "causal":
        ways["lax.scan"] = scanned
    if case.sites * case.states * case.batch <= _LARGEST_GENERAL:
        ways["qdeq.Equilibrium, Broyden and GMRES"] = general
    return ways


def measure(case: Case, gain: float, seconds: float) -> list[Line]:
    """Every way that fits a size, in turns."""
    network = network_of(case, gain)
    x = jax.random.normal(jax.random.key(2), (case.batch, case.sites, 1))
    solves: dict[str, Callable] = {}
    slopes: dict[str, Callable] = {}
    converged: dict[str, float | None] = {}
    for name, way in _ways(case).items():

        def states(network: qdeq.Network, x: Array, way: Callable = way) -> Any:
            return jax.vmap(lambda x: way(network, x))(x)

        def loss(network: qdeq.Network, x: Array, states: Callable = states) -> Array:
            return jnp.sum(states(network, x)[0] ** 2)

        solve, slope = eqx.filter_jit(states), eqx.filter_jit(eqx.filter_grad(loss))
        share = float(jnp.mean(solve(network, x)[1]))
        converged[name] = None if share != share else share
        solves[name] = lambda solve=solve: solve(network, x)
        slopes[name] = lambda slope=slope: slope(network, x)
    lines = []
    for what, calls in (("solve", solves), ("gradient", slopes)):
        for name, timing in take_turns(calls, seconds=seconds).items():
            lines.append(
                Line(
                    case,
                    what,
                    name,
                    round(1e3 * timing.median, 3),
                    round(1e3 * timing.minimum, 3),
                    converged[name],
                )
            )
    return lines


def run(chosen: Iterator[Case], gain: float, seconds: float, folder: Path, note: str) -> list[Line]:
    """Measure, and write `networks.json` and `networks.md` after every size.

    Sizes in the folder's `networks.json` are kept if gain and note are the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "networks.json"
    lines = _kept(file, gain, note)
    for case in chosen:
        if any(line.case == case for line in lines):
            continue
        print(case, flush=True)
        lines += measure(case, gain, seconds)
        record = {"gain": gain, "note": note, "lines": [asdict(line) for line in lines]}
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (folder / "networks.md").write_text(table(lines, note), encoding="utf-8")
    return lines


def _kept(file: Path, gain: float, note: str) -> list[Line]:
    if not file.exists():
        return []
    record = json.loads(file.read_text(encoding="utf-8"))
    if (record["gain"], record["note"]) != (gain, note):
        return []
    return [Line(**{**line, "case": Case(**line["case"])}) for line in record["lines"]]


def table(lines: list[Line], note: str) -> str:
    """A row per size and thing to do: our time, and how many times as long the others take."""
    ways = [f"direct({_APPLICATIONS})", "lax.scan", "qdeq.Equilibrium, Broyden and GMRES"]
    head = ["chain", "sites", "numbers of a site", "batch", "what", "equilibrium", *ways]
    rows = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|---|--:|" + "--:|" * len(ways)]
    keys = sorted({(line.case, line.what) for line in lines}, key=_place)
    for case, what in keys:
        found = {line.way: line for line in lines if (line.case, line.what) == (case, what)}
        ours = found["equilibrium"]
        cells = [f"{ours.median:.2f} ms{_unsolved(ours)}"]
        for way in ways:
            other = found.get(way)
            ratio = "–" if other is None else f"{other.median / ours.median:.2g}x{_unsolved(other)}"
            cells.append(ratio)
        names = ["causal" if case.direction == "causal" else "both ways", f"{case.sites:,}"]
        rows.append(f"| {' | '.join([*names, str(case.states), str(case.batch), what, *cells])} |")
    return f"{note}\n\n" + "\n".join(rows) + "\n"


def _place(key: tuple[Case, str]) -> tuple:
    case, what = key
    return case.direction != "causal", case.sites, case.states, case.batch, what != "solve"


def _unsolved(line: Line) -> str:
    share = line.converged
    return "" if share is None or share == 1 else f" ({share:.0%} solved)"
