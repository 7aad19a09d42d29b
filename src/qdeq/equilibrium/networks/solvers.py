"""Solvers that know the network: the sweep, and Newton's method by the wiring.

They are solvers like any other of this package (the four verbs), made for one network by
`NetworkEquilibrium`: they linearise it along the wiring instead of asking for f alone.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from qdeq.equilibrium._common import project, two_norm
from qdeq.equilibrium._problem import Draw
from qdeq.equilibrium.homotopy import Homotopy
from qdeq.equilibrium.networks.cells import (
    Cells,
    KnownDerivatives,
    at_all_sites,
    at_one_site,
    kind_of_every_site,
    measures_derivatives,
)
from qdeq.equilibrium.networks.chains import causal_recursion
from qdeq.equilibrium.networks.systems import is_eliminated, krylov_step, solver_of
from qdeq.equilibrium.networks.wired import Jacobian, Wired
from qdeq.equilibrium.networks.wiring import Chain
from qdeq.equilibrium.solver import AbstractSolver

_NO_SHIFT = 0.0
_FIRST_SHIFT = 0.25
_KRYLOV_RTOL = 1e-3  # of a Newton step: the next one measures what is left


class FlatNetwork(eqx.Module):
    """A network as the loops of this package want it: `fn(flat, (x, mask)) -> flat`.

    Where its cells are random (x, mask) comes in a `Draw`.
    """

    wired: Wired

    def __call__(self, y: Float[Array, " n"], args: tuple[Array, Array | None] | Draw) -> Array:
        """F(y), flat."""
        (x, mask), draw = _drawn(args)
        return self.wired(self.unravel(y, x), x, mask, **draw).reshape(-1)

    def linearise(self, y: Float[Array, " n"], args: tuple | Draw) -> tuple[Array, Jacobian]:
        """F(y), `(N, q)`, and its Jacobian."""
        (x, mask), draw = _drawn(args)
        return self.wired.linearise(self.unravel(y, x), x, mask, **draw)

    def sharing_derivatives(
        self, y: Float[Array, " n"], args: tuple | Draw
    ) -> Callable[["FlatNetwork"], "FlatNetwork"]:
        """What makes of this network one that shares derivatives measured at y; or leaves it."""
        cell = self.wired.cell
        if not measures_derivatives(cell) or isinstance(cell, Cells):  # several share none
            return lambda fn: fn
        (x, mask), _ = _drawn(args)
        v = self.wired.heard(self.unravel(y, x), x, mask)
        known = at_all_sites(cell, lambda cell: cell.derivatives, v, x)

        def sharing(fn: FlatNetwork) -> FlatNetwork:
            wired = fn.wired
            return FlatNetwork(
                Wired(
                    KnownDerivatives(wired.cell, known),
                    wired.injection,
                    wired.wiring,
                    wired.before,
                )
            )

        return sharing

    def unravel(self, y: Float[Array, " n"], x: Array) -> Float[Array, "N q"]:
        """A state per site."""
        return y.reshape(x.shape[0], self.wired.injection.n_states)


def _drawn(args: tuple | Draw) -> tuple[tuple[Array, Array | None], dict[str, Any]]:
    """Features and mask, and the randomness of an evaluation."""
    if isinstance(args, Draw):
        return args.x, {"key": args.key, "shots": args.shots}
    return args, {}


class _NetworkSolver(AbstractSolver, optx.AbstractFixedPointSolver):
    """A solver of one network; tolerances as everywhere."""

    network: FlatNetwork
    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Callable[[PyTree], Array] = optx.two_norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> PyTree:
        """Nothing is known before."""
        del fn, y, args, options, f_struct, aux_struct, tags

    def terminate(self, fn, y, args, options, state, tags) -> tuple[Array, optx.RESULTS]:
        """Never by itself: the loop of `NetworkEquilibrium` tests the residual."""
        del fn, y, args, options, state, tags
        return jnp.asarray(False), optx.RESULTS.successful


class Sweep(_NetworkSolver):
    """A causal network in one go, site after site: N evaluations of the cell, exact.

    A causal graph is applied as often as its longest path has sites.
    """

    @property
    def evaluations_per_step(self) -> int:
        """Of the whole map: N cells in order are one, and one more measures the residual."""
        wiring = self.network.wired.wiring
        return 1 + (1 if isinstance(wiring, Chain) else wiring.depth)

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, PyTree, Any]:
        """The whole solve; F is evaluated once more, to measure the residual."""
        del tags
        z = self._sweep(y, args)
        out, aux = fn(z.reshape(-1), args)
        return project(out, options), state, aux

    def _sweep(self, y: Array, args: tuple | Draw) -> Float[Array, "N q"]:
        wired = self.network.wired
        (x, mask), draw = _drawn(args)
        if draw:  # F is evaluated after the sweep, with randomness of its own
            draw["key"] = jax.random.fold_in(draw["key"], 1)
        zero = jnp.zeros_like(self.network.unravel(y, x))
        if not isinstance(wired.wiring, Chain):

            def layer(number: Array, z: Array) -> Array:
                own = {**draw, "key": jax.random.fold_in(draw["key"], number)} if draw else draw
                return wired(z, x, mask, **own)

            return lax.fori_loop(0, wired.wiring.depth, layer, zero)
        _, messages, _ = wired.injection.weights()
        silent = wired.heard(zero, x, mask)
        present = jnp.ones(x.shape[0], bool) if mask is None else mask
        keys, shots = wired.keys(draw.get("key")), draw.get("shots")

        def site(before: Array, here: tuple[Any, ...]) -> tuple[Array, Array]:
            alone, features, is_present, kind, key = here
            v = alone + jnp.matmul(messages[0], before, precision="highest")
            m = at_one_site(wired.cell, kind, v, features, key, shots)
            m = jnp.where(is_present, m, 0)
            return m, m

        sites = (silent, x, present, kind_of_every_site(wired.cell), keys)
        return lax.scan(site, zero[0], sites)[1]


class NewtonScan(_NetworkSolver):
    """Newton's method on a whole causal chain: a few batched evaluations, whatever its length.

    Every round linearises all cells at once and solves the affine recursion that comes out, each
    site clipped to the bounds. After k rounds the first k sites are exact, whatever they started
    from, so it always ends; where the chain forgets, or the bounds catch what grows, it takes a
    handful of rounds.

    References
    ----------
    Y. H. Lim et al., Parallelizing non-linear sequential models over the sequence length, ICLR
    2024 (DEER). X. Gonzalez et al., Towards scalable and stable parallelization of nonlinear RNNs,
    NeurIPS 2024 (ELK), on steps that grow along the chain.
    """

    uses_jacobian: ClassVar[bool] = True
    may_rise: ClassVar[bool] = True

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, PyTree, Any]:
        """Linearise, substitute from the first site to the last."""
        del fn, tags
        out, jacobian = self.network.linearise(y, args)
        z = self.network.unravel(y, args[0])
        # z' = F + J (z' - z), as a recursion in z' - z: its clipping is that of z'.
        lower, upper = _box(options, z)
        change = jnp.where(jnp.isfinite(out), out - z, 0)
        jacobian = jacobian.where_finite()
        move = causal_recursion(
            jacobian.slopes, jacobian.messages[0], change, lower=lower, upper=upper
        )
        new = project((z + move).reshape(-1), options)
        return new, state, (y, out.reshape(-1))


def _box(options: dict[str, Any], z: Array) -> tuple[Array | None, Array | None]:
    def room(bound: Any) -> Array | None:
        if bound is None:
            return None
        bound = jnp.asarray(bound, z.dtype)
        return (bound if bound.ndim == 0 else bound.reshape(z.shape)) - z

    return room(options.get("lower")), room(options.get("upper"))


class _NewtonState(eqx.Module):
    # The best point so far, and its residual. Not its slopes: `jax.vmap` copies what a loop carries
    # in every step, and they are the largest thing there is.
    base: Float[Array, "N q"]
    residual: Float[Array, ""]
    shift: Float[Array, ""]
    returns: Bool[Array, ""]  # whether the point to be linearised is that one again


class NewtonBlocks(_NetworkSolver):
    """Newton's method on the whole network, its linear systems solved by the wiring.

    A step that makes the residual larger is taken back: the point before is linearised once more,
    and the next step is that of (1 + shift) I - J, shorter and turned towards a damped application
    of F. Smaller residuals bring the shift back to 0.

    Parameters
    ----------
    krylov
        GMRES also where the wiring allows elimination.

    References
    ----------
    C. T. Kelley and D. E. Keyes, Convergence analysis of pseudo-transient continuation, SIAM J.
    Numer. Anal. 35 (1998).
    """

    uses_jacobian: ClassVar[bool] = True

    krylov: bool = eqx.field(default=False, static=True)

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> _NewtonState:
        """The first point is accepted whatever its residual is."""
        del fn, options, f_struct, aux_struct, tags
        z = self.network.unravel(y, args[0])
        infinite, none = jnp.asarray(jnp.inf, z.dtype), jnp.asarray(_NO_SHIFT, z.dtype)
        return _NewtonState(z, infinite, none, jnp.asarray(False))

    def step(self, fn, y, args, options, state, tags) -> tuple[PyTree, _NewtonState, Any]:
        """Linearise, and solve; or go back to the best point, to solve with a larger shift."""
        del fn, tags
        z = self.network.unravel(y, args[0])
        out, jacobian = self.network.linearise(y, args)
        residual = two_norm((out - z).reshape(-1))
        better = residual < state.residual  # false for NaN
        accepted = better | state.returns
        small = jnp.asarray(1e-3, z.dtype)
        eased = jnp.where(state.shift > small, state.shift / 4, _NO_SHIFT)
        larger = jnp.where(state.shift > 0, 4 * state.shift, _FIRST_SHIFT)
        shift = jnp.where(better, eased, jnp.where(state.returns, state.shift, larger))
        new = _NewtonState(
            base=jnp.where(better, z, state.base),
            residual=jnp.where(better, residual, state.residual),
            shift=shift,
            returns=~accepted,
        )
        right, jacobian = out - z, jacobian.where_finite()
        if self.krylov or not is_eliminated(jacobian.wiring, *jacobian.slopes.shape[1:]):
            move = krylov_step(jacobian, shift, right, _KRYLOV_RTOL)
        else:
            move = solver_of(jacobian, shift)(right)
        # Without a usable direction: towards F.
        usable = jnp.all(jnp.isfinite(move))
        move = jnp.where(usable, move, right / (1 + shift))
        following = jnp.where(accepted, z + move, new.base)
        return project(following.reshape(-1), options), new, (y, out.reshape(-1))


class NetworkHomotopy(Homotopy):
    """`Homotopy` on the whole network, for wirings whose systems are eliminated.

    It follows a curve from z0 and almost surely arrives, since F maps a box into itself: for
    networks so wild that Newton's method is caught in a valley of the residual. Every step is one
    elimination for two right-hand sides, the curve's own row and column being a border.
    """

    kernel: ClassVar[str | None] = None

    network: FlatNetwork | None = None

    def _linearise(self, fn, y, args) -> tuple[Array, Jacobian, Any]:
        del fn
        assert self.network is not None
        out, jacobian = self.network.linearise(y, args)
        out = out.reshape(-1)
        return out - y, jacobian.where_finite(), (y, out)

    def _directions(
        self, slopes: Jacobian, s: Array, reach: Array, row: Array, off: Array
    ) -> tuple[Array, Array]:
        jacobian = Jacobian(s * slopes.slopes, slopes.messages, slopes.wiring)
        solve, shape = solver_of(jacobian), slopes.slopes.shape[:2]
        to_reach, to_off = (solve(v.reshape(shape)).reshape(-1) for v in (reach, off))
        by_state, by_s = row[:-1], row[-1]
        border = 1 / (by_state @ to_reach + by_s)
        ahead = jnp.append(border * to_reach, border)
        change = border * (by_state @ to_off)
        return ahead, jnp.append(change * to_reach - to_off, change)
