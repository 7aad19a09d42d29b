"""What is counted of every batch, and the plain numbers that become of it."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from qdeq._numbers import largest, largest_over_devices, nan_unless_finite
from qdeq.models import Prediction
from qdeq.training.parallel import BatchAxis


class BatchMetrics(eqx.Module):
    """Sums over the samples of a batch (maxima for `residual_max`), without the padding.

    `loss`, `penalty` (which is a part of it) and `mark` are sums over `weight`, how much samples
    count; the rest is over samples.
    """

    count: Array
    weight: Array
    loss: Array
    penalty: Array
    mark: Array
    residual: Array
    residual_max: Array
    converged: Array
    steps: Array
    evaluations: Array
    gradient_norm: Array


def metrics_of(
    prediction: Prediction,
    costs: Array,
    penalty: Array,
    marked: Array,
    weight: Array,
    present: Array,
) -> BatchMetrics:
    """The sums of one batch, of costs, marks and what the layer says; no gradient yet."""
    stats = prediction.solution.stats
    return BatchMetrics(
        count=jnp.sum(present),
        weight=jnp.sum(weight),
        loss=nan_unless_finite(jnp.sum(weight * costs), prediction.solution.value),
        penalty=penalty,
        mark=jnp.sum(weight * marked),
        residual=jnp.sum(present * stats.residual),
        residual_max=largest(jnp.where(present > 0, stats.residual, 0)),
        converged=jnp.sum(present * stats.converged),
        steps=jnp.sum(present * stats.steps),
        evaluations=jnp.sum(present * stats.evaluations),
        gradient_norm=jnp.zeros(()),
    )


def over_devices(metrics: BatchMetrics, batch_axis: BatchAxis | None) -> BatchMetrics:
    """The sums of a whole batch, from those of every device's part of it."""
    if batch_axis is None:
        return metrics
    highest = largest_over_devices(metrics.residual_max, batch_axis.name)
    return eqx.tree_at(lambda m: m.residual_max, lax.psum(metrics, batch_axis.name), highest)


def mean_trace(traces: np.ndarray) -> tuple[np.ndarray, int]:
    """The mean residual step by step, of samples with a finite one, and how many met another.

    Parameters
    ----------
    traces
        `(N, steps)`, NaN where a sample was done, infinite where its residual was not a number.

    Returns
    -------
    mean, n
        `(steps,)`, NaN where no sample was still iterating, and a number of samples.

    Examples
    --------
    >>> mean_trace(np.array([[1.0, 0.5, 0.1], [3.0, np.inf, np.nan]]))
    (array([2. , 0.5, 0.1]), 1)
    """
    is_number = np.isfinite(traces)
    count = is_number.sum(axis=0)
    total = np.where(is_number, traces, 0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean, int(np.isinf(traces).any(axis=1).sum())


def averages(metrics: BatchMetrics) -> list[dict[str, Any]]:
    """Plain numbers per seed from metrics `(S, n_batches)`, in float64."""
    sums = {name: np.asarray(value, float) for name, value in vars(metrics).items()}
    # Batches that have no samples come last in all seeds, and are no batches.
    n_batches = int(np.sum(sums["count"][0] > 0))
    sums = {name: value[:, :n_batches] for name, value in sums.items()}
    count = sums["count"].sum(axis=1)
    weight = np.maximum(sums["weight"].sum(axis=1), np.finfo(float).tiny)  # NaN stays
    means = {
        "loss": sums["loss"].sum(axis=1) / weight,
        "penalty": sums["penalty"].sum(axis=1) / weight,
        "mark": sums["mark"].sum(axis=1) / weight,
        "residual_mean": sums["residual"].sum(axis=1) / count,
        "residual_max": sums["residual_max"].max(axis=1),
        "converged_fraction": sums["converged"].sum(axis=1) / count,
        "solver_steps_mean": sums["steps"].sum(axis=1) / count,
        "gradient_norm": sums["gradient_norm"].mean(axis=1),
    }
    executions = sums["evaluations"].sum(axis=1)
    return [
        {
            **{name: float(value[seed]) for name, value in means.items()},
            "circuit_executions": round(float(executions[seed])),
        }
        for seed in range(len(count))
    ]
