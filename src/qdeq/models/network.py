"""A network of cells as a model: any model function at every site, learned edges, a read-out.

The mathematics of wirings and solvers is in `qdeq.equilibrium.networks`.
"""

import copy
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from qdeq._numbers import at_least
from qdeq._vectors import check_key
from qdeq.equilibrium._randomness import check_randomness
from qdeq.equilibrium.enclosures import Encloser, Region
from qdeq.equilibrium.networks import (
    AbstractWiring,
    Cells,
    EdgeInjection,
    NetworkEquilibrium,
    Wired,
)
from qdeq.equilibrium.networks.cells import cells_of, check_cells, check_randomness_of
from qdeq.equilibrium.networks.layer import check_layer, checked_features
from qdeq.equilibrium.networks.wired import check_wiring, checked_mask
from qdeq.equilibrium.shots import ShotSchedule
from qdeq.equilibrium.solution import Solution
from qdeq.errors import UserError, check_choice, check_count, told
from qdeq.models.cells import check_cell, is_bounded, measured_cell, prepared_cell, sizes_of
from qdeq.models.function import ModelFunction, all_trained, count_numbers, trained_parts

READ_OUTS = ("sites", "mean", "last")


class Network(ModelFunction):
    """m_i = cell(U x_i + sum over edges (j -> i, kind r) of W_r m_j + b) at every site i.

    `solve` finds the equilibrium with the solver that the wiring allows, `outputs` reads it out.
    All sites share cell, weights and head, so that a network trained on one size runs on any other:
    `on(wiring)`. It is a model function too, of the flat state `(N q,)` and flat features `(N d,)`.

    Parameters
    ----------
    cell
        A `QuantumModel`, whose own feedback is off: what a site hears is what its encoding reads.
        Or another model function, evaluated at state 0 (`SampledModel` for shots,
        `qdeq.devices.DeviceFunction` for a device), or a function `cell(v, x) -> m` of what a site
        hears `(a,)` and its features `(d,)`. Or `qdeq.Cells`, several kinds of them.
    injection
        U, W and b, with a norm that may be bounded.
    wiring
        Who hears whom.
    read_out
        What the head reads: the state of every site ("sites"), their mean, or that of the last.
    n_outputs
        Outputs of a linear head, per site for "sites"; None for no head.
    key
        JAX key of the head's weights.

    Raises
    ------
    UserError
        For sizes that do not fit together, an unknown read-out, a head without a key, a circuit
        whose own injection learns, or `Cells` for another number of sites.

    Examples
    --------
    >>> import qdeq
    >>> from qdeq.equilibrium.networks import Chain
    >>> circuit = qdeq.hardware_efficient(2, 2)
    >>> encoding = qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
    >>> cell = qdeq.QuantumModel(
    ...     jnp.linspace(-1, 1, 8), circuit, encoding=encoding, observables=qdeq.z_strings(2, 2)
    ... )
    >>> wiring = Chain(16)
    >>> injection = EdgeInjection.random(wiring, 2, 1, 3, key=jax.random.key(0))
    >>> network = Network(cell, injection, wiring, n_outputs=1, key=jax.random.key(1))
    >>> solution = network.solve(jnp.ones((16, 1)))
    >>> network.outputs(solution.value).shape
    (16, 1)
    >>> network.on(Chain(64)).solve(jnp.ones((64, 1))).value.shape
    (64, 3)
    """

    cell: Any
    injection: EdgeInjection
    head: eqx.nn.Linear | None
    wiring: AbstractWiring = eqx.field(static=True)
    reads: str = eqx.field(static=True)

    def __init__(
        self,
        cell: Any,
        injection: EdgeInjection,
        wiring: AbstractWiring,
        *,
        read_out: str = "sites",
        n_outputs: int | None = None,
        key: PRNGKeyArray | Array | None = None,
    ):
        check_choice("read_out", read_out, READ_OUTS)
        check_cell(cell)
        check_wiring(wiring, injection)
        if (n_outputs is None) != (key is None):
            raise UserError(
                f"n_outputs={n_outputs!r} {'with' if key is not None else 'without'} a key: a head "
                "has a number of outputs and a key for its weights, give both or neither"
            )
        if n_outputs is not None:
            check_count("n_outputs", n_outputs)
        check_cells(cell, wiring.n_sites)
        # A function says nothing of its sizes.
        sizes = sizes_of(cell) or (injection.n_inputs, injection.n_states)
        if sizes != (injection.n_inputs, injection.n_states):
            raise UserError(
                f"the injection gives {injection.n_inputs} numbers and takes states of "
                f"{injection.n_states}, the cell reads {sizes[0]} and measures {sizes[1]}: give "
                f"features of {sizes[0]} rows and messages of shape (kinds, {sizes[0]}, {sizes[1]})"
            )
        self.cell, self.injection, self.wiring, self.reads = cell, injection, wiring, read_out
        self.head = None
        if key is not None and n_outputs is not None:
            check_key(key)
            self.head = eqx.nn.Linear(injection.n_states, n_outputs, key=key)

    def on(self, wiring: AbstractWiring, kinds: Any = None) -> "Network":
        """The same network on another wiring with the same kinds of edges.

        Parameters
        ----------
        wiring
            Of any size.
        kinds
            Which of its `Cells` every site has; None for as before, or for a single kind of cell.
        """
        check_wiring(wiring, self.injection)
        cell = self.cell
        if kinds is not None:
            if not isinstance(cell, Cells):
                raise UserError(
                    f"kinds={told(kinds)}: the network has one kind of cell, leave kinds out"
                )
            cell = cell.on(kinds)
        check_cells(cell, wiring.n_sites)
        new = copy.copy(self)
        object.__setattr__(new, "wiring", wiring)
        object.__setattr__(new, "cell", cell)
        return new

    def wired(self, before: Float[Array, " q"] | None = None) -> Wired:
        """The map of all sites, prepared for the current parameters; `before` as in `solve`."""
        return Wired(prepared_cell(self.cell), self.injection, self.wiring, before)

    def solve(
        self,
        x: Float[Array, "N d"],
        *,
        layer: NetworkEquilibrium | None = None,
        z0: Float[Array, "N q"] | None = None,
        mask: Bool[Array, " N"] | None = None,
        before: Float[Array, " q"] | None = None,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Int[Array, ""] | ShotSchedule | None = None,
        gradient_shots: int | Int[Array, ""] | None = None,
    ) -> Solution:
        """The equilibrium of one sample; `jax.vmap` for a batch, over keys too.

        Parameters
        ----------
        x
            Features of every site.
        layer
            Solver, tolerances and adjoint; None for `NetworkEquilibrium()`, within (-1, 1) where
            the cell is a circuit.
        z0, mask
            See `NetworkEquilibrium`.
        before
            On a causal chain, the state that its first site hears: with the last state of the
            window before, two windows give what one long chain gives. Differentiated. With a mask
            it is heard by the first site that there is.
        key, shots, gradient_shots
            Where cells are measured (`SampledModel`) or otherwise random, see
            `NetworkEquilibrium`.
        """
        layer = self.default_layer() if layer is None else layer
        check_layer(layer, ", or None for its own")
        random = {"key": key, "shots": shots, "gradient_shots": gradient_shots}
        return layer(self.wired(before), x, z0=z0, mask=mask, **random)

    def default_layer(self) -> NetworkEquilibrium:
        """What `solve` takes if it is given none."""
        return NetworkEquilibrium(bounds=(-1.0, 1.0) if is_bounded(self.cell) else None)

    def apply(
        self,
        x: Float[Array, "N d"],
        layers: int,
        *,
        mask: Bool[Array, " N"] | None = None,
        before: Float[Array, " q"] | None = None,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Int[Array, ""] | None = None,
    ) -> Float[Array, "N q"]:
        """The map applied `layers` times from 0, the weight-tied baseline direct(L).

        With a key for cells that are random, a fresh one for every site and application.
        """
        check_randomness(key, shots)
        check_count("layers", layers, 0)
        wired = self.wired(before)
        check_randomness_of(wired.cell, key, shots)
        x, mask = checked_features(wired, x), checked_mask(mask, self.wiring)
        x = x.astype(jnp.result_type(x.dtype, self.injection.features.dtype))
        z = jnp.zeros((self.wiring.n_sites, self.injection.n_states), x.dtype)
        keys = None if key is None else jax.random.split(key, layers)

        def once(z: Array, key: Array | None) -> tuple[Array, None]:
            return wired(z, x, mask, key=key, shots=shots), None

        return jax.lax.scan(once, z, keys, length=layers)[0]

    def answer(
        self,
        x: Float[Array, "N d"],
        layers: int | None = None,
        *,
        layer: NetworkEquilibrium | None = None,
        mask: Bool[Array, " N"] | None = None,
    ) -> tuple[Float[Array, "..."], Float[Array, "N q"], Bool[Array, ""]]:
        """Outputs, states, and whether the equilibrium was found, of one sample.

        Parameters
        ----------
        x, layer, mask
            As in `solve`.
        layers
            So many applications in the place of the equilibrium.
        """
        if layers is None:
            solution = self.solve(x, layer=layer, mask=mask)
            states, converged = solution.value, solution.stats.converged
        else:
            states, converged = self.apply(x, layers, mask=mask), jnp.asarray(True)
        return self.outputs(states, mask), states, converged

    def outputs(
        self, states: Float[Array, "N q"], mask: Bool[Array, " N"] | None = None
    ) -> Float[Array, "..."]:
        """What the head makes of the states: `(N, n_outputs)` for "sites", else `(n_outputs,)`.

        Without a head the states, their mean, or the last of them. With a mask the mean is over the
        sites that there are, and the last is the last of them.

        Raises
        ------
        UserError
            For states of another shape, such as that of a batch.
        """
        shape = self.wiring.n_sites, self.injection.n_states
        if jnp.shape(states) != shape:
            raise UserError(
                f"states have shape {jnp.shape(states)}: give those of every site, {shape}; "
                "jax.vmap for a batch"
            )
        read = self._read(states, checked_mask(mask, self.wiring))
        if self.head is None:
            return read
        return jax.vmap(self.head)(read) if self.reads == "sites" else self.head(read)

    def _read(self, states: Float[Array, "N q"], mask: Array | None = None) -> Array:
        if self.reads == "mean":
            present = jnp.ones(len(states)) if mask is None else mask
            present = present.astype(states.dtype)
            # Of no site at all 0, as padding wants it.
            return jnp.sum(states * present[:, None], axis=0) / at_least(jnp.sum(present), 1)
        if self.reads == "last":
            if mask is None:
                return states[-1]
            sites = jnp.arange(len(states))
            return states[jnp.max(jnp.where(mask, sites, 0))]  # whole numbers
        return states

    @property
    def n_features(self) -> int:
        """N d, the features of all sites."""
        return self.wiring.n_sites * self.injection.n_features

    @property
    def n_observables(self) -> int:
        """N q, the states of all sites."""
        return self.wiring.n_sites * self.injection.n_states

    @property
    def n_parameters(self) -> int:
        """How many numbers training changes, of cell, edges and head; for any number of sites."""
        known = sum(
            cell.n_parameters if isinstance(cell, ModelFunction) else count_numbers(cell)
            for cell in cells_of(self.cell)
        )
        edges = count_numbers(self.injection) if self.injection.learned else 0
        return known + edges + count_numbers(self.head)

    def trained(self) -> Any:
        """Which numbers training changes: of the cell, of the edges where learned, of the head."""
        learned = bool(self.injection.learned)
        edges = jax.tree.map(lambda _: learned, all_trained(self.injection))
        several = isinstance(self.cell, Cells)
        cell = self.cell.map(trained_parts) if several else trained_parts(self.cell)
        return eqx.tree_at(
            lambda network: (network.cell, network.injection),
            all_trained(self),
            (cell, edges),
            is_leaf=lambda part: part is None,  # a cell that is a plain function has no arrays
        )

    @property
    def n_settings(self) -> int:
        """Circuits that one application runs: those of a cell at every site."""
        each = [
            cell.n_settings if isinstance(cell, ModelFunction) else 1
            for cell in cells_of(self.cell)
        ]
        if isinstance(self.cell, Cells):
            return sum(each[kind] for kind in self.cell.kinds)
        return self.wiring.n_sites * each[0]

    @property
    def n_read_out(self) -> int:
        """N q for "sites", else q."""
        return self.n_observables if self.reads == "sites" else self.injection.n_states

    def __call__(self, m: Float[Array, " Nq"], x: Float[Array, " Nd"], **options: Any) -> Array:
        """One application to the states of all sites, flat; `key` and `shots` for random cells."""
        return self.prepare().bind(x)(m, **options)

    def sample(
        self,
        m: Float[Array, " Nq"],
        x: Float[Array, " Nd"],
        *,
        key: PRNGKeyArray | Array,
        shots: int | Int[Array, ""] | None,
    ) -> Float[Array, " Nq"]:
        """One application with all circuits measured: every site has shots of its own."""
        several = isinstance(self.cell, Cells)
        cell = self.cell.map(measured_cell) if several else measured_cell(self.cell)
        wired = Wired(prepared_cell(cell), self.injection, self.wiring)
        sites = _by_site("x", x, self.wiring.n_sites, self.injection.n_features)
        return BoundNetwork(wired, sites)(m, key=key, shots=shots)

    def prepare(self) -> "PreparedNetwork":
        """The map with prepared cells."""
        return PreparedNetwork(self.wired())

    def encloser(self, region: Region) -> Encloser:
        """Bounds on the derivative by all states, see `equilibrium.certificates`.

        Raises
        ------
        UserError
            For a cell that is no circuit.
        """
        from qdeq.models.network_certificates import network_encloser  # which needs circuits' own

        return network_encloser(self, region)

    def read_out(self, m: Float[Array, " Nq"]) -> Float[Array, " r"]:
        """What a head sees of the flat state."""
        return self._read(m.reshape(-1, self.injection.n_states)).reshape(-1)


class PreparedNetwork(eqx.Module):
    """A network with prepared cells, as a model function's second stage."""

    wired: Wired

    def bind(self, x: Float[Array, " Nd"]) -> "BoundNetwork":
        """The function of the flat state alone."""
        sites, d = self.wired.wiring.n_sites, self.wired.injection.n_features
        return BoundNetwork(self.wired, _by_site("x", x, sites, d))


class BoundNetwork(eqx.Module):
    """F(z) of one sample, flat."""

    wired: Wired
    x: Float[Array, "N d"]

    def __call__(self, m: Float[Array, " Nq"], **options: Any) -> Float[Array, " Nq"]:
        """The next states of all sites; `key` and `shots` for random cells."""
        states = _by_site("m", m, self.x.shape[0], self.wired.injection.n_states)
        return self.wired(states, self.x, **options).reshape(-1)


def _by_site(name: str, value: Array, n_sites: int, size: int) -> Array:
    if jnp.size(value) != n_sites * size:
        raise UserError(
            f"{name} has shape {jnp.shape(value)}: give ({n_sites * size},), {size} numbers of "
            f"each of {n_sites} sites; jax.vmap for a batch"
        )
    return jnp.reshape(value, (n_sites, size))
