"""The equilibrium of a network: a solver by its wiring, the adjoint by the same structure."""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from qdeq._manual_axes import check_types
from qdeq.equilibrium._common import check_loop, check_tolerances, flat_bounds, step_budget
from qdeq.equilibrium._problem import frozen
from qdeq.equilibrium._programs import Traced, as_argument, is_staged, run_compiled, trace_of
from qdeq.equilibrium._randomness import check_randomness
from qdeq.equilibrium._solve import SolveOptions
from qdeq.equilibrium.attach import AbstractAdjoint, adjoint_residual, attach
from qdeq.equilibrium.networks.cells import (
    Cells,
    cells_of,
    check_randomness_of,
    drawing,
    measures_derivatives,
    randomness_of,
)
from qdeq.equilibrium.networks.forward import NETWORK_SOLVERS, Task, forward
from qdeq.equilibrium.networks.sampled import solve_sampled
from qdeq.equilibrium.networks.solvers import FlatNetwork
from qdeq.equilibrium.networks.systems import Structured
from qdeq.equilibrium.networks.wired import Wired, checked_mask, masked
from qdeq.equilibrium.networks.wiring import AbstractWiring
from qdeq.equilibrium.shots import ShotSchedule, as_schedule
from qdeq.equilibrium.solution import Solution
from qdeq.equilibrium.solver import check_solver
from qdeq.errors import UserError, told


class NetworkEquilibrium(eqx.Module):
    """Finds the states z of all sites with z = F(z, x), and differentiates through them.

    One sample; `jax.vmap` for a batch, in which every sample stops on its own residual. Statistics,
    statuses and the definition of convergence are those of `qdeq.Equilibrium`: |F(z) - z| <= atol +
    rtol |F(z)| over the states of all sites.

    Parameters
    ----------
    solver
        "sweep" (causal: site after site, exact), "newton-scan" (causal chains: Newton's method on
        the whole chain, a handful of batched evaluations; what it leaves over is swept, which is
        one step more),
        "newton-blocks" (chains both ways, rings, sites apart: block elimination), "newton-krylov",
        "anderson", "broyden", "picard" (any wiring), "krasnoselskii-mann" (any wiring: damped, and
        averaged where cells are random), "homotopy" (where systems are solved exactly: for
        wild networks), "picard-newton" (any wiring: up to 20 applications of F, 10 on chains both
        ways, then Newton's method from the best of them, then "homotopy" where that is possible),
        "auto" (see `choose_solver`), or a solver such as `Picard(damping=0.5)`, with its own
        tolerances.
    rtol, atol
        Tolerances of a solver by name.
    max_steps
        Static bound on the solver's steps.
    bounds
        (lower, upper), numbers, that states are known to lie in: (-1, 1) for expectation values.
        Iterates are clipped to them.
    stall_steps
        See `qdeq.Equilibrium`.
    adjoint
        How gradients pass: `Structured()` is exact.

    Raises
    ------
    UserError
        For a solver that there is not, or bounds or numbers out of range.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from qdeq.equilibrium.networks import Chain, EdgeInjection, Wired
    >>> network = Wired(lambda v, x: jnp.tanh(v), EdgeInjection([[1.0]], [[0.5]]), Chain(1000))
    >>> solution = NetworkEquilibrium()(network, jnp.ones((1000, 1)))
    >>> bool(solution.stats.converged), solution.value.shape
    (True, (1000, 1))
    """

    solver: Any = eqx.field(default="auto", static=False)
    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = eqx.field(default=100, static=True)
    bounds: tuple[float, float] | None = eqx.field(default=None, static=True)
    stall_steps: int | None = eqx.field(default=None, static=True)
    adjoint: AbstractAdjoint = Structured()

    def __check_init__(self) -> None:
        if not isinstance(self.solver, str):
            check_solver("solver", self.solver)
        elif self.solver != "auto" and self.solver not in NETWORK_SOLVERS:
            raise UserError(
                f"solver={self.solver!r} is not known: choose one of auto, "
                f"{', '.join(NETWORK_SOLVERS)}"
            )
        check_tolerances(self.rtol, self.atol)
        check_loop(self.max_steps, self.stall_steps, self.bounds)
        if not isinstance(self.adjoint, AbstractAdjoint):
            raise UserError(
                f"adjoint={self.adjoint!r}: give an adjoint object of an equilibrium, such as "
                "Structured(); what is differentiated step by step is network.apply(x, layers)"
            )
        if self.adjoint.needs_inverse:
            raise UserError(
                f"adjoint={type(self.adjoint).__name__}(): it takes the inverse that a solver has "
                "built, and solvers of networks hand none on; give Structured()"
            )

    def __call__(
        self,
        network: Wired,
        x: Float[Array, "N d"],
        *,
        z0: Float[Array, "N q"] | None = None,
        mask: Bool[Array, " N"] | None = None,
        budget: int | Int[Array, ""] | None = None,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Int[Array, ""] | ShotSchedule | None = None,
        gradient_shots: int | Int[Array, ""] | None = None,
    ) -> Solution:
        """Solve z = F(z, x).

        Parameters
        ----------
        network
            What is solved; all its floating-point arrays are differentiated, and those that a cell
            closes over which is a plain function.
        x
            Features of every site, `(N, d)`, differentiated.
        z0
            Start, `(N, q)`; None for 0, or for `speculative_start` with "newton-scan".
        mask
            Which sites there are, for samples of different length in one batch: a site where it is
            False has state 0 and sends nothing. Not for rings and periodic grids.
        budget
            Steps allowed in this call, possibly traced, at most `max_steps`.
        key
            Says that cells are random: every site gets a fresh key in every evaluation. "auto" then
            sweeps a causal wiring once, and averages on others (`KrasnoselskiiMann`) until about
            ten evaluations are averaged. See `qdeq.Equilibrium` for statistics.
        shots
            What a random cell gets as `shots`: a number, or one per step. Tolerances of solvers by
            name are then no smaller than shots allow.
        gradient_shots
            The same where cells are differentiated; None for the most of `shots`.

        Returns
        -------
        Solution
            `value` is `(N, q)`. `stats.shots` counts those of one site, of every setting;
            `stats.adjoint_residual` is NaN where a device would have to measure it.

        Raises
        ------
        UserError
            For shapes that do not fit the wiring, or a solver that does not; with a key for cells
            that take none, or a solver by Jacobians; without one for cells that need it.
        """
        x = checked_features(network, x)
        # Here too: a program takes no arrays of texts or objects, and says so in its own words.
        z0 = None if z0 is None else checked_states(network, z0, "z0")
        mask = checked_mask(mask, network.wiring)
        check_randomness(key, shots, gradient_shots)
        check_randomness_of(network.cell, key, shots)
        shots = None if shots is None else as_schedule(shots)
        v = jnp.zeros(network.injection.n_inputs, _dtype_of(network, x))
        cell = _traced(network.cell, v, x[0].astype(v.dtype), key, shots)
        held = network.injection, network.before
        rest = held, x, z0, mask, budget, key, shots, gradient_shots
        if is_staged():
            return _solved(self, cell, None, rest, wiring=network.wiring)
        rest = jax.tree.map(as_argument, rest)
        return run_compiled(_solved, self, cell, None, rest, {"wiring": network.wiring})

    def _solution(
        self,
        network: Wired,
        x: Array,
        z0: Any,
        mask: Any,
        budget: Any,
        key: Any,
        shots: Any,
        gradient_shots: Any,
    ) -> Solution:
        task, fn, args = task_of(self, network, x, z0, mask, budget, key, shots)
        x = args[0]
        if key is not None:
            found = solve_sampled(self, task, (fn, args), key, shots, gradient_shots)
            return Solution(fn.unravel(found.value, x), found.stats)
        solved = forward(self.solver, task)
        outcome = solved.outcome
        root = outcome.best.point
        value = attach(self.adjoint, fn, root, args, None).value
        quality = jnp.asarray(jnp.nan, root.dtype)
        if not measures_derivatives(network.cell):  # nobody asked to pay for it
            # One program linearises once: this point, for the adjoint and for its residual.
            slopes = task.fn.linearise(root, task.args)[1]

            def push(move: Array) -> Array:
                return slopes.push(task.fn.unravel(move, x)).reshape(-1)

            quality = adjoint_residual(self.adjoint, task.fn, root, task.args, None, push)
        stats = outcome.stats(quality, solved.evaluations, solved.jacobians)
        return Solution(fn.unravel(outcome.or_nan(value), x), stats)


def _solved(
    layer: NetworkEquilibrium, cell: Any, z0: None, rest: tuple, *, wiring: AbstractWiring
) -> Solution:
    """The solve as programs are kept of it: of a cell, and of all that it may be called with."""
    del z0
    (injection, before), *others = rest
    return layer._solution(Wired(cell, injection, wiring, before), *others)


def task_of(
    layer: NetworkEquilibrium,
    network: Wired,
    x: Array,
    z0: Any = None,
    mask: Any = None,
    budget: Any = None,
    key: Any = None,
    shots: Any = None,
) -> tuple[Task, FlatNetwork, tuple[Array, Array | None]]:
    """What a layer's solvers are given; and the network, its features and mask with derivatives.

    Arguments are those of `NetworkEquilibrium.__call__`, x checked.
    """
    start, mask = _checked(network, x, z0, mask, key, shots)
    x = masked(x, mask)  # so that what stands at sites that are left out is in no gradient
    x = x.astype(_dtype_of(network, x))
    budget = step_budget(budget, layer.max_steps)
    bounds = None
    if layer.bounds is not None:
        bounds = flat_bounds(
            layer.bounds,
            lambda bound: jnp.broadcast_to(jnp.asarray(bound, start.dtype), start.shape),
        )
    fn, args = FlatNetwork(network), (x, mask)
    check_types((fn, args, start))
    still, still_args = frozen((fn, args))
    options = SolveOptions(layer.max_steps, budget, bounds, layer.stall_steps)
    return Task(still, still_args, start, options, layer.rtol, layer.atol, z0 is None), fn, args


def _dtype_of(network: Wired, x: Array) -> jnp.dtype:
    return jnp.result_type(x.dtype, network.injection.features.dtype)


def with_tolerances_of_its_solver(layer: NetworkEquilibrium) -> NetworkEquilibrium:
    """The same layer; a solver that is an object has tolerances of its own, which count for it."""
    solver = layer.solver
    own = {name: getattr(solver, name) for name in ("rtol", "atol") if hasattr(solver, name)}
    return dataclasses.replace(layer, **own)


def check_layer(layer: Any, otherwise: str = "") -> None:
    """Raise `UserError` for what is no layer of networks."""
    if not isinstance(layer, NetworkEquilibrium):
        raise UserError(f"layer={told(layer)}: give a NetworkEquilibrium(...){otherwise}")


def checked_features(network: Any, x: Any) -> Array:
    """Features as an array; `UserError` for another shape, or for what are no real numbers.

    Also for what is no `Wired`: whatever takes a network begins with its features.
    """
    if not isinstance(network, Wired):
        raise UserError(
            f"network is a {type(network).__name__}: give a Wired; of a qdeq.Network that is "
            "network.wired(), or call its solve"
        )
    wiring, injection = network.wiring, network.injection
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError):
        raise UserError(
            f"x={told(x)}: give the features of every site as an array of numbers, "
            f"({wiring.n_sites}, {injection.n_features})"
        ) from None
    if jnp.iscomplexobj(x):
        raise UserError(
            f"x has dtype {x.dtype}: features are real, give real and imaginary parts apart"
        )
    if x.shape != (wiring.n_sites, injection.n_features):
        raise UserError(
            f"x has shape {x.shape}: {wiring!r} has {wiring.n_sites} sites and the injection takes "
            f"{injection.n_features} features of each, give ({wiring.n_sites}, "
            f"{injection.n_features}); jax.vmap for a batch"
        )
    return x


def checked_states(network: Wired, z: Any, name: str) -> Array:
    """States of all sites as an array; `UserError` for another shape, or complex ones."""
    n, q = network.wiring.n_sites, network.injection.n_states
    try:
        states = jnp.asarray(z)
    except (TypeError, ValueError):
        raise UserError(f"{name}={told(z)}: give a state per site, ({n}, {q})") from None
    if states.shape != (n, q):
        raise UserError(
            f"{name} has shape {states.shape}: give a state per site, ({n}, {q}); jax.vmap for a "
            "batch"
        )
    if jnp.iscomplexobj(states):
        raise UserError(f"{name} has dtype {states.dtype}: states are real, give real numbers")
    return states


def _traced(cell: Any, v: Array, x: Array, key: Any, shots: Any) -> Any:
    """A cell that is a function and no pytree by its trace, in `Cells` each of them.

    So it is found again where it is written anew in every call, and what it closes over is an
    argument.
    """
    if isinstance(cell, Cells):
        return cell.map(lambda one: _traced(one, v, x, key, shots))
    if not jax.tree_util.all_leaves([cell]):
        return cell
    takes = randomness_of(cell)
    if key is None or not takes:
        return trace_of(lambda v, x: drawing(cell)(v, x, None), v, x)
    if "shots" not in takes:
        shots = None
    elif shots is None:
        cell = partial(cell, shots=None)
    return _TracedDraw(trace_of(cell, v, x, key, shots), tuple(takes.items()))


class _TracedDraw(eqx.Module):
    """The trace of a random cell, which says what it takes."""

    trace: Traced
    randomness: tuple[tuple[str, bool], ...] = eqx.field(static=True)

    def __call__(self, v: Array, x: Array, **randomness: Any) -> Array:
        return self.trace(v, x, **randomness)


def _checked(
    network: Wired, x: Array, z0: Any, mask: Any, key: Any, shots: Any
) -> tuple[Array, Array | None]:
    """Flat start and mask."""
    wiring, q = network.wiring, network.injection.n_states
    n = wiring.n_sites
    mask, dtype = checked_mask(mask, wiring), _dtype_of(network, x)
    v, shots = jnp.zeros(network.injection.n_inputs, dtype), None if shots is None else shots(0)
    for cell in cells_of(network.cell):
        found = jax.eval_shape(lambda c=cell: drawing(c, shots)(v, x[0].astype(dtype), key))
        what = getattr(found, "dtype", type(found).__name__)
        if getattr(found, "shape", None) != (q,) or what != dtype:
            shape = f" of shape {found.shape}" if hasattr(found, "shape") else ""
            raise UserError(
                f"the cell returned {what}{shape} and the injection's messages take {q} numbers: "
                f"give a cell that returns one array, ({q},) of {dtype}"
            )
    if z0 is None:
        start = jnp.zeros((n, q), dtype)
    else:
        start = lax.stop_gradient(checked_states(network, z0, "z0")).astype(dtype)
    return masked(start, mask).reshape(-1), mask
