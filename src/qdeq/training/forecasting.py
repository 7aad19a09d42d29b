"""Forecasts by a network that says, at every site of a causal chain, what the next row adds.

Training sees true rows; a forecast feeds on its own, and the chain's state goes from row to row.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qdeq._numbers import at_least, at_most
from qdeq.data.sequences import Sequences
from qdeq.equilibrium.networks import Chain
from qdeq.errors import UserError
from qdeq.models import Network

#: Standard deviations that no forecast leaves: one that feeds on its own could grow without end.
LIMIT = 5.0


def forecasting_sequences(
    values: Float[np.ndarray, "T d"],
    rows: tuple[int, int],
    length: int,
    *,
    unit: Float[np.ndarray, " d"],
    lags: int = 1,
    warm_up: int = 0,
    stride: int = 1,
    known: Float[np.ndarray, "T k"] | None = None,
    observed: np.ndarray | None = None,
) -> Sequences:
    """Windows of a series whose every site is asked for the step to the next row.

    Parameters
    ----------
    values
        Scaled rows without gaps.
    rows
        First and end of the rows that are targets; windows may reach back before.
    length
        Sites of a window.
    unit
        What a step is measured in.
    lags
        Rows that a site sees, its own and those before.
    warm_up
        Sites at the begin of a window that are not asked.
    stride
        Rows between windows.
    known
        Further numbers that a site sees beside its row.
    observed
        `(T, d)`: where a row is a measurement and no filled gap; others are not asked for.

    Raises
    ------
    UserError
        Where no window fits.
    """
    begin, end = rows
    first = max(begin - 1 - warm_up, lags - 1)
    starts = np.arange(first, end - length, stride)
    if not len(starts):
        raise UserError(
            f"rows {begin} to {end - 1} hold no window of {length} rows with what comes after "
            "each: give more rows, or shorter windows"
        )
    places = starts[:, None] + np.arange(length)
    x = lagged(values, lags)[places - lags + 1]
    if known is not None:
        x = np.concatenate([x, known[places]], axis=-1)
    y = (values[places + 1] - values[places]) / unit
    counts = np.ones(y.shape[:2], np.float32)
    if observed is not None:
        counts *= observed[places + 1].all(axis=-1)
    counts *= (places + 1 >= begin) & (np.arange(length) >= warm_up)
    some = counts.any(axis=1)
    if not some.any():
        raise UserError(f"rows {begin} to {end - 1} hold no row to be asked for: give more rows")
    return Sequences(x[some].astype(np.float32), None, y[some].astype(np.float32), counts[some])


def lagged(values: Float[np.ndarray, "T d"], lags: int) -> np.ndarray:
    """`(T - lags + 1, lags d)`: every row with those before it, the oldest first."""
    if lags == 1:
        return values
    places = np.arange(len(values) - lags + 1)[:, None] + np.arange(lags)
    return values[places].reshape(len(places), -1)


@eqx.filter_jit
def forecast(
    network: Network,
    history: Float[Array, "B L d"],
    steps: int,
    *,
    unit: Float[Array, " d"],
    lags: int = 1,
    known: Float[Array, "B M k"] | None = None,
    alone: bool = False,
    limit: float | Float[Array, " d"] = LIMIT,
) -> tuple[Float[Array, "B steps d"], Array]:
    """The rows after each history, and whether the equilibrium over the history converged.

    Parameters
    ----------
    network
        On a causal chain; its outputs are steps in `unit`.
    history
        Scaled rows, of any length of at least `lags`.
    steps
        How many rows to forecast.
    unit, lags
        As in `forecasting_sequences`.
    known
        Further numbers of all sites, M = L - lags + steps: those of the history, then of the
        forecast rows but the last.
    alone
        Whether cells hear nothing of each other.
    limit
        No forecast leaves (-limit, limit), of all channels or of each.
    """
    n = history.shape[1] - lags + 1
    chain, single = network.on(Chain(n)), network.on(Chain(1))
    silent = jnp.zeros(network.injection.n_states, history.dtype)

    def one(rows: Array, known: Array | None) -> tuple[Array, Array]:
        x = jnp.concatenate([rows[i : i + n] for i in range(lags)], axis=1)
        x = x if known is None else jnp.concatenate([x, known[:n]], axis=1)
        if alone:
            state, converged = single.apply(x[-1:], 1)[0], jnp.asarray(True)
        else:
            solution = chain.solve(x)
            state, converged = solution.value[-1], solution.stats.converged

        def following(
            now: tuple[Array, Array], here: Array | None
        ) -> tuple[tuple[Array, Array], Array]:
            recent, state = now
            row = recent[-1] + unit * single.outputs(state[None])[0]
            row = at_most(at_least(row, -limit), limit).astype(recent.dtype)
            recent = jnp.concatenate([recent[1:], row[None]])
            x = recent.reshape(1, -1)
            x = x if here is None else jnp.concatenate([x, here[None]], axis=1)
            state = single.apply(x, 1, before=silent if alone else state)[0]
            return (recent, state), row

        more = None
        if known is not None:  # beside the last row nothing is asked for any more
            more = jnp.concatenate([known[n:], known[-1:]])
        _, found = jax.lax.scan(following, (rows[-lags:], state), more, length=steps)
        return found, converged

    return jax.vmap(one, in_axes=(0, None if known is None else 0))(history, known)
