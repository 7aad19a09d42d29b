"""Networks of cells against a plain scan and against the general equilibrium layer.

From a clone's root: `python -m benchmarks.networks` (about three minutes on two cores). With
`--full` over sizes instead, which takes hours, or over some: `--grid-sites 100 1000`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array

import qdeq
from benchmarks import network_grid
from benchmarks.network_grid import plain_scan
from benchmarks.timing import take_turns
from qdeq.equilibrium.networks import NetworkEquilibrium
from qdeq.runs.summary import hardware, versions
from qdeq.studies.parity.training import initial_network, parities, trained

_TRAINED, _STEPS, _BATCH = 32, 600, 64
_GENERAL = "qdeq.Equilibrium on Network's map"
_BY_HAND = "qdeq.Equilibrium on a map by hand"


@dataclass(frozen=True)
class NetworkBenchmark:
    """Solve and gradient of a long causal chain, and a training step of chains both ways."""

    sites: int = 10_000
    """Of the causal chain, whose 2-qubit cell was trained on parity before."""

    both_ways: int = 1_000
    """Sites of the chains both ways, with 3-qubit cells that measure 9 numbers."""

    batch: int = 16
    """Chains both ways in a step."""

    gain: float = 1.6
    """Two-norm of the messages there; from about 2 on repeated application does not settle."""

    seconds: float = 30.0
    """Of each comparison."""

    skip_general: bool = False
    """Leave out the general layer (Broyden, GMRES), on Network's own map and on one by hand."""

    full: bool = False
    """Measure over sizes, into `networks.json` and `networks.md`."""

    grid_sites: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    """Sites there."""

    grid_states: tuple[int, ...] = (2, 6, 9, 15)
    """Numbers that a cell measures there."""

    grid_batches: tuple[int, ...] = (1, 16, 256)
    """Samples there."""

    out: Path = Path("benchmarks/results")
    """Folder of the results."""

    note: str = ""
    """What stands above them; the machine and versions, if left out."""


def causal_chain(options: NetworkBenchmark) -> None:
    """One chain, its equilibrium and the gradient through it, float32."""
    key = jax.random.key(0)
    small = initial_network("circuit", _TRAINED, 1.5, key)
    small, _ = trained(small, key, jnp.asarray(0.03), None, _TRAINED, _STEPS, _BATCH)
    assert isinstance(small, qdeq.Network)
    network = small.on(qdeq.Chain(options.sites))
    x, y = parities(jax.random.key(1), 1, options.sites)
    solves: dict[str, Callable[[qdeq.Network, Array], Array]] = {"lax.scan": plain_scan}
    for name in ("sweep", "newton-scan"):
        layer = NetworkEquilibrium(name, bounds=(-1.0, 1.0))
        solves[name] = lambda network, x, layer=layer: network.solve(x, layer=layer).value
    layer = NetworkEquilibrium("newton-scan", bounds=(-1.0, 1.0))
    found = eqx.filter_jit(lambda n, x: network.solve(x, layer=layer))(network, x[0])
    right = np.mean((network.outputs(found.value)[:, 0] > 0) == (y[0] > 0.5))
    print(f"causal chain, {options.sites:,} sites, 2-qubit cell trained on {_TRAINED} bits")
    print(f"  accuracy {right:.4f}, Newton rounds {int(found.stats.jacobians)}, residual ", end="")
    print(f"{float(found.stats.residual):.1e}")
    programs: dict[str, dict[str, Callable]] = {"solve": {}, "solve and gradient": {}}
    for name, solve in solves.items():
        value = eqx.filter_jit(solve)
        slope = eqx.filter_jit(eqx.filter_grad(lambda n, x, f=solve: jnp.sum(f(n, x) ** 2)))
        programs["solve"][name] = lambda value=value: value(network, x[0])
        programs["solve and gradient"][name] = lambda slope=slope: slope(network, x[0])
    for what, calls in programs.items():
        _show(what, calls, options.seconds, "lax.scan")


def both_ways(options: NetworkBenchmark) -> None:
    """A training step without the optimiser: loss and gradient, float32."""
    circuit = qdeq.hardware_efficient(3, 3)
    turns = [(g, w, 2 * w + i) for w in range(3) for i, g in enumerate(("RY", "RZ"))]
    theta = jax.random.uniform(jax.random.key(0), (circuit.n_parameters,), minval=-3, maxval=3)
    cell = qdeq.QuantumModel(
        theta,
        circuit,
        encoding=qdeq.AngleEncoding.from_rotations(3, turns),
        observables=qdeq.xyz_of_every_wire(3),
    )
    wiring = qdeq.Chain(options.both_ways, "both")
    injection = qdeq.EdgeInjection.random(wiring, 6, 1, 9, key=jax.random.key(1), gain=options.gain)
    network = qdeq.Network(cell, injection, wiring)
    shape = (options.batch, options.both_ways)
    x = jax.random.normal(jax.random.key(2), (*shape, 1))
    y = jax.random.normal(jax.random.key(3), (*shape, 9))

    def structured(network: qdeq.Network) -> Any:
        wired = network.wired()
        layer = NetworkEquilibrium(bounds=(-1.0, 1.0))
        return jax.vmap(lambda x: layer(wired, x))(x)

    def general(network: qdeq.Network) -> Any:
        prepared, layer = network.prepare(), qdeq.Equilibrium(max_steps=60)
        start = jnp.zeros(9 * options.both_ways)
        return jax.vmap(lambda x: layer(prepared.bind(x.reshape(-1)), start))(x)

    def by_hand(network: qdeq.Network) -> Any:
        return _by_hand(network, x)

    references = {} if options.skip_general else {_BY_HAND: by_hand, _GENERAL: general}
    kinds = {**references, "NetworkEquilibrium": structured}
    print(f"chains both ways, {shape[1]:,} sites, 3-qubit cells, batch {shape[0]}", end="")
    print(f", gain {options.gain}")
    calls = {}
    for name, solve in kinds.items():

        def loss(network: qdeq.Network, solve: Callable = solve) -> tuple[Array, Any]:
            solution = solve(network)
            stats = solution.stats
            return jnp.mean((solution.value.reshape(y.shape) - y) ** 2), (
                stats.converged,
                stats.steps,
                stats.adjoint_residual,
            )

        step = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
        (_, (converged, steps, quality)), _ = step(network)
        print(
            f"  {name}: {float(converged.mean()):.0%} converged, at most {int(steps.max())} ",
            end="",
        )
        print(f"steps, adjoint residual at most {float(quality.max()):.0e}", flush=True)
        calls[name] = lambda step=step: step(network)
    _show("training step", calls, options.seconds, *references)


def _by_hand(network: qdeq.Network, x: Array) -> Any:
    """Equilibria of the general layer and a map that a user writes for it, without networks.

    Every site's angles are bound to one circuit: what there was before networks.
    """
    features, messages, offset = network.injection.weights()
    prepared, q = network.cell.prepare(), messages.shape[-1]
    nothing = jnp.zeros(q)

    def neighbours(m: Array, x: Array) -> Array:
        m = m.reshape(-1, q)
        edge = jnp.zeros((1, q))
        before, after = jnp.concatenate([edge, m[:-1]]), jnp.concatenate([m[1:], edge])
        v = x @ features.T + before @ messages[0].T + after @ messages[1].T + offset
        return jax.vmap(lambda v: prepared.bind(v)(nothing))(v).reshape(-1)

    layer, start = qdeq.Equilibrium(max_steps=60), jnp.zeros(x.shape[1] * q)
    return jax.vmap(lambda x: layer(neighbours, start, x))(x)


def _machine() -> str:
    found = versions()
    named = ", ".join(f"{name} {found[name]}" for name in ("python", "jax", "equinox"))
    return f"{hardware()}, float32; qdeq {qdeq.__version__}, {named}"


def _show(what: str, calls: dict[str, Callable], seconds: float, *references: str) -> None:
    timings = take_turns(calls, seconds=seconds)
    for name, timing in timings.items():
        line = f"  {what}, {name}: median {1e3 * timing.median:.1f} ms, least "
        line += f"{1e3 * timing.minimum:.1f} ms"
        for one in references:
            if one != name:
                line += f", {timings[one].median / timing.median:.1f}x against {one}"
        print(line, flush=True)


if __name__ == "__main__":
    chosen = tyro.cli(NetworkBenchmark, description=__doc__)
    if chosen.full:
        grid = network_grid.cases(chosen.grid_sites, chosen.grid_states, chosen.grid_batches)
        note = chosen.note or _machine()
        network_grid.run(grid, chosen.gain, chosen.seconds, chosen.out, note)
    else:
        causal_chain(chosen)
        both_ways(chosen)
