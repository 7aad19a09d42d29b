"""Where Newton's method starts on a long causal chain: pieces run side by side from likely states.

A chain that remembers, such as one that counts, forgets nothing of its start by forgetting details:
its states come to lie near a few points, and what a piece of the chain does is to lead from one of
them to another. Newton's method alone mends such a chain one site a round, since the cell is flat
at these points. Here pieces of 64 sites are run from all of a few points at once, and then strung
together.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from qdeq.equilibrium.networks.cells import at_one_site, kind_of_every_site
from qdeq.equilibrium.networks.wired import Wired

LENGTH = 64  # sites of a piece
N_POINTS = 6  # states that a piece is run from, 0 among them
_TRIALS = 8  # random states that the points are looked for from
_TRIAL_PIECES = 16


def speculative_start(
    network: Wired, x: Float[Array, "N d"], mask: Bool[Array, " N"] | None
) -> Float[Array, "N q"]:
    """A guess of all states of a causal chain; where pieces are strung together they do not quite
    fit.

    It is right, but for that, where the states that a piece ends in lie nearer to one of the points
    than to the others, and the next piece does from both the same. A chain that forgets within a
    piece is the simplest case.

    Parameters
    ----------
    network
        On a `Chain` in direction "causal".
    x, mask
        As in `Wired`.

    References
    ----------
    T. Mytkowicz, M. Musuvathi, W. Schulte, Data-parallel finite-state machines, ASPLOS 2014, who
    run automata like this; M. J. Gander, S. Vandewalle, SIAM J. Sci. Comput. 29 (2007), on parallel
    integration in time.
    """
    n, q = x.shape[0], network.injection.n_states
    pieces = -(-n // LENGTH)
    padding = pieces * LENGTH - n
    present = jnp.ones(n, bool) if mask is None else mask
    messages = network.injection.weights()[1][0]
    silent = network.heard(jnp.zeros((n, q), x.dtype), x, mask)

    def in_pieces(a: Array) -> Array:
        a = jnp.pad(a, [(0, padding), *[(0, 0)] * (a.ndim - 1)])
        return jnp.swapaxes(a.reshape(pieces, LENGTH, *a.shape[1:]), 0, 1)

    def cell(v: Array, features: Array, kind: Array | None) -> Array:
        return at_one_site(network.cell, kind, v, features)

    def run(starts: Float[Array, "K pieces q"], sites: tuple[Any, ...]) -> Array:
        def site(before: Array, here: tuple[Any, ...]) -> tuple[Array, Array]:
            alone, features, is_present, kind = here
            v = alone + jnp.matmul(before, messages.T, precision="highest")
            # From every start, then at every piece.
            m = jax.vmap(jax.vmap(cell, in_axes=(0, 0, 0)), in_axes=(0, None, None))(
                v, features, kind
            )
            m = jnp.where(is_present[:, None], m, 0)
            return m, m

        return lax.scan(site, starts, sites)[1]

    kinds = kind_of_every_site(network.cell)
    kinds = None if kinds is None else in_pieces(kinds)
    sites = (in_pieces(silent), in_pieces(x), in_pieces(present), kinds)
    some = jnp.linspace(0, pieces - 1, min(_TRIAL_PIECES, pieces)).astype(int)
    trials = jax.random.uniform(jax.random.key(0), (_TRIALS, len(some), q), x.dtype, -1, 1)
    ends = run(trials, jax.tree.map(lambda a: a[:, some], sites))[-1].reshape(-1, q)
    points = _far_apart(ends, N_POINTS - 1)
    from_all = jnp.concatenate([jnp.zeros((1, q), x.dtype), points])
    starts = jnp.broadcast_to(from_all[:, None], (N_POINTS, pieces, q))
    states = run(starts, sites)  # (LENGTH, K, pieces, q)
    distances = jnp.sum((states[-1][:, :, None] - points) ** 2, axis=-1)
    nearest = 1 + jnp.argmin(distances, axis=-1)  # of every start and piece

    def following(now: Array, of_piece: Array) -> tuple[Array, Array]:
        return of_piece[now], now

    _, taken = lax.scan(following, jnp.asarray(0, nearest.dtype), nearest.T)
    guess = states[:, taken, jnp.arange(pieces)]
    guess = jnp.swapaxes(guess, 0, 1).reshape(-1, q)[:n]
    return jnp.where(jnp.all(jnp.isfinite(guess)), guess, 0)


def evaluations_of(n_sites: int) -> int:
    """Evaluations of the whole map that the cells of a start on so many sites come to, rounded up.

    Examples
    --------
    >>> evaluations_of(10_000), evaluations_of(300)
    (7, 15)
    """
    pieces = -(-n_sites // LENGTH)
    runs = N_POINTS * pieces + _TRIALS * min(_TRIAL_PIECES, pieces)
    return -(-runs * LENGTH // n_sites)


def _far_apart(candidates: Float[Array, "m q"], n: int) -> Float[Array, "n q"]:
    """n of the candidates, each the one that is farthest from those before."""

    def another(distance: Array, _: None) -> tuple[Array, Array]:
        chosen = candidates[jnp.argmax(distance)]
        further = jnp.sum((candidates - chosen) ** 2, axis=-1)
        return jnp.where(further < distance, further, distance), chosen

    first = jnp.sum(candidates**2, axis=-1)
    return lax.scan(another, first, None, length=n)[1]
