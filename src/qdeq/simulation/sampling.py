"""Finite shots: expectation values estimated from sampled measurement outcomes.

Where the outcome probabilities come from, and what noise they hold, is in `outcomes.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from qdeq._numbers import at_least
from qdeq.circuits import MeasurementEnsemble
from qdeq.errors import UserError, told


def sample_expectations(
    key: PRNGKeyArray | Array,
    probabilities: Float[ArrayLike, "settings outcomes"],
    observables: MeasurementEnsemble,
    shots: int | Int[ArrayLike, "..."] | None,
) -> Float[Array, " q"]:
    """Every observable's average over `shots` sampled outcomes of its measurement setting.

    Observables of one setting are read from the same shots, as on a device, so their errors are
    correlated; those of different settings are independent. Unbiased, with variance
    (1 - <O>^2) / shots.

    Parameters
    ----------
    key
        JAX key; the same key gives the same outcomes.
    probabilities
        `(n_settings, 2**n)`, a row per group of `observables.settings()`, wire 0 the most
        significant bit. Only ratios within a row count: rounding that makes a row sum to 1.000001,
        or an outcome's probability -1e-9, changes nothing.
    observables
        Says which outcomes count +1 and which -1.
    shots
        Shots per setting: an integer of at least 1, possibly traced, or one per setting
        `(n_settings,)`. None is the limit of infinitely many, the exact expectation values.

    Returns
    -------
    Array
        `(q,)`. Without derivative, except for `shots=None`: counts are integers.

    Raises
    ------
    UserError
        If shots is below 1 or no integer, or the rows are not those of the ensemble.

    Examples
    --------
    >>> from qdeq.circuits import z_of_every_wire
    >>> uniform = jnp.full((1, 4), 0.25)
    >>> found = sample_expectations(jax.random.key(0), uniform, z_of_every_wire(2), 100)
    >>> bool(jnp.all(jnp.abs(found) < 0.4)), found.shape  # 4 standard errors of 1 / sqrt(100)
    (True, (2,))
    """
    probabilities = jnp.asarray(probabilities)
    groups = observables.settings()
    expected = (len(groups), 2**observables.n_qubits)
    if probabilities.shape != expected:
        raise UserError(
            f"probabilities has shape {probabilities.shape}: {observables.n_observables} "
            f"observables on {observables.n_qubits} qubits are read in {expected[0]} settings, "
            f"give an array of shape {expected}"
        )
    signs, setting = _outcome_signs(observables)
    if shots is None:
        total = jnp.sum(probabilities, axis=1, keepdims=True)
        weights = probabilities / jnp.where(total > 0, total, 1)
    else:
        check_shots("shots", shots, per_setting=True)
        probabilities = jax.lax.stop_gradient(probabilities)
        counted = jnp.broadcast_to(jnp.asarray(shots, probabilities.dtype), expected[:1])
        weights = sample_counts(key, probabilities, counted) / counted[:, None]
        # Whatever is drawn from probabilities that are no numbers looks like one.
        known = jnp.all(jnp.isfinite(probabilities), axis=1, keepdims=True)
        weights = jnp.where(known, weights, jnp.nan)
    rows = jnp.asarray(signs, weights.dtype)
    read = weights if len(groups) == 1 else jnp.stack([weights[row] for row in setting])
    # An average, not an estimate of a probability: exactly within [-1, 1] but for rounding.
    return jnp.clip(jnp.sum(rows * read, axis=1), -1, 1)


@jax.jit  # compiled once also where nothing else is compiled
def sample_counts(
    key: PRNGKeyArray | Array,
    probabilities: Float[Array, "settings outcomes"],
    shots: Float[Array, " settings"],
) -> Float[Array, "settings outcomes"]:
    """Multinomial counts of outcomes, a row per setting, whole numbers in a floating-point array.

    The shots are dealt out wire by wire: how many of those that read 0110... so far read 1 on the
    next wire is binomial. That takes n draws of 2**(n - 1) binomials at once, whatever the number
    of shots, and needs nothing but ratios of probabilities. (JAX's own multinomial goes
    through the 2**n outcomes one after the other, and returns NaN where rounding makes a ratio
    exceed 1.) Exact up to 2**24 shots in float32, where integers end to be exact.

    Parameters
    ----------
    key
        JAX key.
    probabilities
        `(n_settings, 2**n)`; negative rounding errors count as 0.
    shots
        `(n_settings,)` whole numbers, possibly traced.
    """
    n_settings, n_outcomes = probabilities.shape
    n_wires, half = n_outcomes.bit_length() - 1, n_outcomes // 2
    clean = at_least(probabilities, 0)
    ratios = []
    for wire in range(n_wires):
        halves = jnp.sum(clean.reshape(n_settings, 2**wire, 2, -1), axis=3)
        total = jnp.sum(halves, axis=2)
        empty = total <= 0  # false for NaN, which no number of shots makes a probability
        ratio = jnp.where(empty, 0.5, halves[..., 1] / jnp.where(empty, 1, total))
        ratios.append(jnp.pad(ratio, ((0, 0), (0, half - 2**wire))))
    first = jnp.zeros((n_settings, n_outcomes), clean.dtype).at[:, 0].set(shots.astype(clean.dtype))

    # A loop, although early wires leave most of the row empty: a binomial is by far the largest
    # part of any program that it is in, and takes seconds to compile for every time it is there.
    def deal(counts: Array, ratio_and_key: tuple[Array, Array]) -> tuple[Array, None]:
        ratio, key = ratio_and_key
        here = counts[:, :half]
        ones = _binomial(key, here, ratio)
        return jnp.stack([here - ones, ones], axis=2).reshape(n_settings, n_outcomes), None

    counts, _ = jax.lax.scan(deal, first, (jnp.stack(ratios), jax.random.split(key, n_wires)))
    return counts


def _binomial(key: Array, n: Array, p: Array) -> Array:
    # Rounding can lift a ratio above 1, and a draw can be -0.0 or n + 1 at p near 1.
    drawn = jax.random.binomial(key, n, jnp.clip(p, 0, 1), dtype=n.dtype)
    return jnp.clip(jnp.round(drawn), 0, n)


def check_shots(name: str, shots: object, *, per_setting: bool = False) -> None:
    """Raise `UserError` unless shots are None or a whole number of at least 1; tracers pass.

    With `per_setting` an array of them passes too.

    Examples
    --------
    >>> check_shots("shots", 0)
    Traceback (most recent call last):
    ...
    qdeq.errors.UserError: shots=0: give a whole number of at least 1, or None for exact values
    """
    if shots is None or isinstance(shots, Tracer):
        return
    array = np.asarray(shots)
    several = array.ndim > 0 and not per_setting
    if isinstance(shots, bool) or several or array.dtype.kind not in "iu" or np.any(array < 1):
        raise UserError(
            f"{name}={told(shots)}: give a whole number of at least 1, or None for exact values"
        )


@functools.cache
def _outcome_signs(observables: MeasurementEnsemble) -> tuple[np.ndarray, list[int]]:
    """+1 or -1 of every outcome for each observable in its setting's basis, and that setting."""
    setting = [0] * observables.n_observables
    for number, group in enumerate(observables.settings()):
        for index in group:
            setting[index] = number
    # In the rotated basis an X, Y or Z reads as Z.
    letters = tuple(string.translate(_AS_Z) for string in observables.strings)
    return MeasurementEnsemble(observables.n_qubits, letters).signs(), setting


_AS_Z = str.maketrans("XY", "ZZ")
