"""The equilibrium of a network: a solver by its wiring, the adjoint by the same structure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from qdeq._numbers import at_most
from qdeq.equilibrium._common import check_loop, check_tolerances
from qdeq.equilibrium._problem import frozen
from qdeq.equilibrium._programs import as_argument, is_staged, run_compiled, trace_of
from qdeq.equilibrium._solve import Begun, Outcome, SolveOptions, solve
from qdeq.equilibrium.anderson import Anderson
from qdeq.equilibrium.attach import AbstractAdjoint, adjoint_residual, attach
from qdeq.equilibrium.broyden import Broyden
from qdeq.equilibrium.networks.solvers import (
    FlatNetwork,
    NetworkHomotopy,
    NewtonBlocks,
    NewtonScan,
    Sweep,
)
from qdeq.equilibrium.networks.speculation import EVALUATIONS, speculative_start
from qdeq.equilibrium.networks.systems import Structured, is_eliminated
from qdeq.equilibrium.networks.wired import Wired, masked
from qdeq.equilibrium.networks.wiring import AbstractWiring, Chain
from qdeq.equilibrium.picard import Picard
from qdeq.equilibrium.solution import STATUS, Solution, SolverStats, relative
from qdeq.equilibrium.solver import as_solver, check_solver
from qdeq.errors import UserError

# Shorter causal chains are swept: a round of Newton's method costs as much as a few sites.
SHORT_CHAIN = 256

# Applications of F before Newton's method. Where cells contract by 0.4 they are enough: for 16
# chains of 1,000 cells that hear both sides 27 ms, and 4 rounds of Newton's method 145 ms.
_APPLICATIONS = 20
# Of chains in a batch that Newton's method solves faster than a sweep on a CPU. One of 4,000 sites
# takes 4 ms instead of 13, 64 of them 154 ms instead of 38.
_FEW_CHAINS = 3
_PATIENCE = 5  # steps without progress
_ROUNDS = 12  # of Newton's method, before a homotopy takes over


def _general(kind: Callable[..., Any]) -> Callable[..., Any]:
    """How a solver is made that knows nothing of networks."""
    return lambda network, rtol, atol: kind(rtol=rtol, atol=atol)


#: How each solver is made, and for which wirings (None: for all).
NETWORK_SOLVERS: dict[str, tuple[Callable[..., Any], tuple[str, ...] | None]] = {
    "sweep": (Sweep, ("causal",)),
    "newton-scan": (NewtonScan, ("causal",)),
    "newton-blocks": (NewtonBlocks, ("apart", "causal", "line", "ring")),
    "homotopy": (NetworkHomotopy, ("apart", "causal", "line", "ring")),
    "picard-newton": (_general(Picard), None),
    "newton-krylov": (partial(NewtonBlocks, krylov=True), None),
    "anderson": (_general(Anderson), None),
    "broyden": (_general(partial(Broyden, history=20)), None),
    "picard": (_general(Picard), None),
}


def choose_solver(wiring: AbstractWiring) -> str:
    """The solver that `auto` takes for a wiring; on a CPU it sweeps more than 3 long chains.

    Examples
    --------
    >>> choose_solver(Chain(16)), choose_solver(Chain(10_000)), choose_solver(Chain(16, "both"))
    ('sweep', 'newton-scan', 'picard-newton')
    """
    if wiring.structure == "causal":
        long = isinstance(wiring, Chain) and wiring.n_sites > SHORT_CHAIN
        return "newton-scan" if long else "sweep"
    return "picard-newton"


class NetworkEquilibrium(eqx.Module):
    """Finds the states z of all sites with z = F(z, x), and differentiates through them.

    One sample; `jax.vmap` for a batch, in which every sample stops on its own residual. Statistics,
    statuses and the definition of convergence are those of `qdeq.Equilibrium`: |F(z) - z| <= atol +
    rtol |F(z)| over the states of all sites.

    Parameters
    ----------
    solver
        "sweep" (causal: site after site, exact), "newton-scan" (causal chains: Newton's method on
        the whole chain, a handful of batched evaluations; what it leaves over is swept),
        "newton-blocks" (chains both ways, rings, sites apart: block elimination), "newton-krylov",
        "anderson", "broyden", "picard" (any wiring), "homotopy" (where elimination is possible: for
        wild networks), "picard-newton" (any wiring: up to 20 applications of F, then Newton's
        method from the best of them, then "homotopy" where that is possible), "auto" (see
        `choose_solver`), or a solver such as `Picard(damping=0.5)`, with its own tolerances.
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
                f"adjoint={self.adjoint!r}: give an adjoint object such as Structured()"
            )

    def __call__(
        self,
        network: Wired,
        x: Float[Array, "N d"],
        *,
        z0: Float[Array, "N q"] | None = None,
        mask: Bool[Array, " N"] | None = None,
        budget: int | Int[Array, ""] | None = None,
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

        Returns
        -------
        Solution
            `value` is `(N, q)`.

        Raises
        ------
        UserError
            For shapes that do not fit the wiring, or a solver that does not.
        """
        x = _checked_features(network, x)
        cell = network.cell
        if jax.tree_util.all_leaves([cell]):
            # A function that is no pytree. By its trace it is found again where it is written anew
            # in every call, and what it closes over is an argument.
            v = jnp.zeros(network.injection.n_inputs, _dtype_of(network, x))
            cell = trace_of(cell, v, x[0].astype(v.dtype))
        rest = network.injection, x, z0, mask, budget
        if is_staged():
            return _solved(self, cell, None, rest, wiring=network.wiring)
        rest = jax.tree.map(as_argument, rest)
        return run_compiled(_solved, self, cell, None, rest, {"wiring": network.wiring})

    def _solution(self, network: Wired, x: Array, z0: Any, mask: Any, budget: Any) -> Solution:
        start, mask = _checked(network, x, z0, mask)
        x = masked(x, mask)  # so that what stands at sites that are left out is in no gradient
        x = x.astype(_dtype_of(network, x))
        if budget is not None:
            budget = at_most(jnp.asarray(budget, jnp.int32), self.max_steps)
        fn, args = FlatNetwork(network), (x, mask)
        still, still_args = frozen((fn, args))
        options = SolveOptions(self.max_steps, budget, self._bounds(start), self.stall_steps)
        name = self._name(network.wiring)
        given = still, still_args, start, options
        if self.solver == "auto" and name == "newton-scan" and jax.default_backend() == "cpu":
            outcome, jacobians, evaluations = self._by_batch(given, z0 is None)
        else:
            outcome, jacobians, evaluations = self._forward(name, *given, z0 is None)
        root = outcome.best.point
        value = attach(self.adjoint, fn, root, args, None).value
        quality = adjoint_residual(self.adjoint, still, root, still_args, None)
        best = outcome.best
        stats = SolverStats(
            steps=outcome.steps,
            residual=relative(best.residual, best.scale),
            absolute_residual=best.residual,
            converged=outcome.status == STATUS.converged,
            adjoint_residual=quality,
            residual_trace=outcome.trace,
            evaluations=evaluations,
            jacobians=jacobians,
            result=outcome.status,
        )
        return Solution(fn.unravel(value, x), frozen(stats))

    def _forward(
        self,
        name: str | None,
        fn: FlatNetwork,
        args: Any,
        start: Array,
        options: SolveOptions,
        is_free: bool,
    ) -> tuple[Outcome, Array, Array]:
        """The solve, its Jacobians and its evaluations; `is_free`: the start is ours to choose."""
        solver = self._made(name, fn)
        if name == "picard-newton":
            outcome, jacobians = self._in_stages(solver, fn, start, args, options)
            return outcome, jacobians, outcome.steps
        guesses = isinstance(solver, NewtonScan) and is_free
        if guesses:
            start = speculative_start(fn.wired, *args).reshape(-1)
        outcome = solve(fn, solver, start, args, options)
        made = as_solver(solver)
        jacobians = outcome.steps * made.uses_jacobian
        evaluations = outcome.steps * getattr(made, "evaluations_per_step", 1)
        if isinstance(solver, NewtonScan):
            outcome, more = self._swept(solver, fn, outcome, start, args, options)
            evaluations = evaluations + more + guesses * EVALUATIONS
        return outcome, jacobians, evaluations

    def _by_batch(self, given: tuple, is_free: bool) -> tuple[Outcome, Array, Array]:
        """Newton's method for a few long chains, a sweep for many: they fill a processor anyway."""
        arrays, rest = eqx.partition(given, eqx.is_array)

        def by(name: str) -> Callable[[Any], tuple[Outcome, Array, Array]]:
            def forward(arrays: Any) -> tuple[Outcome, Array, Array]:
                fn, args, start, options = eqx.combine(arrays, rest)
                return self._forward(name, fn, args, start, options, is_free)

            return forward

        one = custom_vmap(by("newton-scan"))

        @one.def_vmap
        def many(axis_size: int, in_batched: Any, arrays: Any) -> Any:
            axes = jax.tree.map(lambda batched: 0 if batched else None, in_batched[0])
            name = "newton-scan" if axis_size <= _FEW_CHAINS else "sweep"
            found = jax.vmap(by(name), in_axes=(axes,))(arrays)
            return found, jax.tree.map(lambda _: True, found)

        return one(arrays)

    def _made(self, name: str | None, network: FlatNetwork) -> Any:
        """The solver object; `UserError` where the wiring does not allow the solver."""
        wiring = network.wired.wiring
        if name is None:
            return self.solver
        make, structures = NETWORK_SOLVERS[name]
        fits = structures is None or wiring.structure in structures
        if name == "newton-scan":
            fits = fits and isinstance(wiring, Chain)
        if not fits:
            raise UserError(
                f"solver={name!r} cannot solve {wiring!r}: give {choose_solver(wiring)!r} or 'auto'"
            )
        return make(network=network, rtol=self.rtol, atol=self.atol)

    def _name(self, wiring: AbstractWiring) -> str | None:
        if not isinstance(self.solver, str):
            return None
        return choose_solver(wiring) if self.solver == "auto" else self.solver

    def _in_stages(
        self, picard: Any, fn: FlatNetwork, start: Array, args: Any, options: SolveOptions
    ) -> tuple[Outcome, Array]:
        """Applications, Newton's method, homotopy, and how many Jacobians they computed.

        A stage takes no step where an earlier one has converged.
        """
        tolerances = {"rtol": picard.rtol, "atol": picard.atol}
        stages = [
            (picard, _APPLICATIONS, _PATIENCE),
            (NewtonBlocks(network=fn, **tolerances), self.max_steps, self.stall_steps),
        ]
        if is_eliminated(fn.wired.wiring):
            stages[1] = (stages[1][0], _ROUNDS, _PATIENCE)
            stages.append((NetworkHomotopy(network=fn, **tolerances), self.max_steps, None))
        allowed = self.max_steps if options.budget is None else options.budget
        number = jnp.arange(self.max_steps)
        steps = jacobians = jnp.asarray(0, jnp.int32)
        trace = jnp.full(self.max_steps, jnp.nan, start.dtype)
        outcome = None
        for solver, most, patience in stages:
            most = min(most, self.max_steps)
            stage = SolveOptions(most, at_most(allowed - steps, most), options.bounds, patience)
            begun = point = None
            if outcome is not None:
                begun = Begun(outcome.best, outcome.status != STATUS.converged)
                point = None if solver.restarts else outcome.best.point
            outcome = solve(fn, solver, start if point is None else point, args, stage, begun=begun)
            more = jnp.pad(outcome.trace, (0, self.max_steps - most), constant_values=jnp.nan)
            trace = jnp.where(number < steps, trace, more[number - steps])
            steps = steps + outcome.steps
            jacobians = jacobians + outcome.steps * solver.uses_jacobian
        assert outcome is not None
        return eqx.tree_at(lambda o: (o.steps, o.trace), outcome, (steps, trace)), jacobians

    def _swept(
        self,
        solver: NewtonScan,
        fn: FlatNetwork,
        first: Outcome,
        start: Array,
        args: Any,
        options: SolveOptions,
    ) -> tuple[Outcome, Array]:
        """What Newton's method left over, site after site; no step where it left nothing."""
        sweep = Sweep(network=fn, rtol=solver.rtol, atol=solver.atol)
        one = SolveOptions(1, None, options.bounds, None)
        x, mask = args

        def swept(now: tuple[Array, Array, Outcome]) -> tuple[Array, Array, Outcome]:
            active, x, before = now
            found = solve(fn, sweep, start, (x, mask), one, begun=Begun(before.best, active))
            after = eqx.tree_at(
                lambda o: (o.best, o.steps, o.status),
                before,
                (found.best, before.steps + found.steps, found.status),
            )
            # The features travel and change: XLA moves work that depends on nothing else out of
            # the loop, and the sweep would run where nothing is left over.
            return jnp.zeros_like(active), jnp.zeros_like(x), after

        begin = (first.status != STATUS.converged, x, first)
        outcome = lax.while_loop(lambda now: now[0], swept, begin)[2]
        return outcome, (outcome.steps - first.steps) * sweep.evaluations_per_step

    def _bounds(self, start: Array) -> tuple[Array, Array] | None:
        if self.bounds is None:
            return None
        lower, upper = (jnp.asarray(bound, start.dtype) for bound in self.bounds)
        return lower, upper


def _solved(
    layer: NetworkEquilibrium, cell: Any, z0: None, rest: tuple, *, wiring: AbstractWiring
) -> Solution:
    """The solve as programs are kept of it: of a cell, and of all that it may be called with."""
    del z0
    injection, *others = rest
    return layer._solution(Wired(cell, injection, wiring), *others)


def _dtype_of(network: Wired, x: Array) -> jnp.dtype:
    return jnp.result_type(x.dtype, network.injection.features.dtype)


def _checked_features(network: Wired, x: Any) -> Array:
    wiring, injection = network.wiring, network.injection
    x = jnp.asarray(x)
    if x.shape != (wiring.n_sites, injection.n_features):
        raise UserError(
            f"x has shape {x.shape}: {wiring!r} has {wiring.n_sites} sites and the injection takes "
            f"{injection.n_features} features of each, give ({wiring.n_sites}, "
            f"{injection.n_features}); jax.vmap for a batch"
        )
    return x


def _checked(network: Wired, x: Array, z0: Any, mask: Any) -> tuple[Array, Array | None]:
    """Flat start and mask."""
    wiring, q = network.wiring, network.injection.n_states
    n = wiring.n_sites
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.shape != (n,) or mask.dtype != jnp.bool_:
            raise UserError(
                f"mask has shape {mask.shape} and dtype {mask.dtype}: give a bool per site, ({n},)"
            )
        if wiring.closes:
            raise UserError(
                f"mask with {wiring!r}: leaving a site out would open it; solve samples of "
                "different size apart"
            )
    found = jax.eval_shape(lambda: network(jnp.zeros((n, q), _dtype_of(network, x)), x))
    if found.shape != (n, q):
        raise UserError(
            f"the cell returned {found.shape[1:]} numbers and the injection's messages take {q}: "
            f"give a cell that returns ({q},)"
        )
    if z0 is None:
        start = jnp.zeros((n, q), found.dtype)
    else:
        start = lax.stop_gradient(jnp.asarray(z0, found.dtype))
        if start.shape != (n, q):
            raise UserError(f"z0 has shape {start.shape}: give a state per site, ({n}, {q})")
    return masked(start, mask).reshape(-1), mask
