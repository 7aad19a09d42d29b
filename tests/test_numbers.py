"""A number that is not finite is seen, whatever the size of the array that it hides in."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from benchmarks.joint_broyden import worst_size
from qdeq import _numbers
from qdeq._numbers import at_least, at_most, largest, positive_part, smallest
from qdeq.equilibrium import (
    STATUS,
    Direct,
    Equilibrium,
    Solution,
    SolverStats,
    hinge,
    make_solver,
    spectral_radius,
    squared_frobenius_norm,
)
from qdeq.equilibrium._common import project
from qdeq.equilibrium.solution import relative
from qdeq.models import Classifier, Prediction
from qdeq.runs.summary import Spread
from qdeq.simulation.sampling import sample_counts
from qdeq.training.losses import marks
from qdeq.training.metrics import metrics_of

SIZE = 100_000  # XLA's CPU backend changes its ways at about 30,000
SOURCE = Path(qdeq.__file__).parent


def one_nan(size: int = SIZE, at: int | None = None, dtype=np.float32) -> jax.Array:
    values = np.random.default_rng(0).uniform(0.1, 0.9, size).astype(dtype)
    values[size // 2 if at is None else at] = np.nan
    return jnp.asarray(values)


# --- the functions that everything asks --------------------------------------------------------

REDUCTIONS = {
    "largest": largest,
    "smallest": smallest,
    "rows": lambda a: largest(a.reshape(4, -1), axis=1).sum(),
    "columns": lambda a: smallest(a.reshape(-1, 4), axis=0).sum(),
    "raised": lambda a: jnp.sum(at_least(a, 0)),
    "lowered": lambda a: jnp.sum(at_most(a, 1)),
    "positive": lambda a: jnp.dot(positive_part(a), positive_part(a)),
    "square root": lambda a: jnp.linalg.norm(jnp.sqrt(at_least(a, 0))),
}


def test_extremes_see_one_nan_among_many():
    found = jax.jit(lambda a: {name: reduce(a) for name, reduce in REDUCTIONS.items()})
    for x64 in (False, True):
        with jax.enable_x64(x64):
            for at in (0, SIZE // 2, SIZE - 1):
                seen = found(one_nan(at=at, dtype=np.float64 if x64 else np.float32))
                assert [name for name, value in seen.items() if not jnp.isnan(value)] == []


def test_extremes_are_numpys():
    a = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    for axis in (None, 0, 1):
        np.testing.assert_array_equal(largest(a, axis), a.max(axis))
        np.testing.assert_array_equal(smallest(a, axis), a.min(axis))
    np.testing.assert_array_equal(at_least(a, 0.5), np.maximum(a, 0.5))
    np.testing.assert_array_equal(at_most(a, 0.5), np.minimum(a, 0.5))
    np.testing.assert_array_equal(positive_part(a), np.maximum(a, 0))
    assert jnp.isnan(largest(jnp.full(SIZE, jnp.nan)))
    assert largest(jnp.asarray([1.0, jnp.inf])) == jnp.inf


def test_scores_that_are_not_numbers_are_never_right():
    logits = jnp.asarray([[1.0, 2.0], [jnp.nan, 0.0], [0.0, jnp.nan], [3.0, 0.0]])
    assert _numbers.is_correct(logits, jnp.asarray([1, 0, 1, 1])).tolist() == [True, *[False] * 3]


ON_TWO_DEVICES = """
import jax, jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from qdeq._numbers import largest_over_devices
mesh = Mesh(jax.devices(), "batch")
over = jax.shard_map(
    lambda a: largest_over_devices(a[0], "batch"),
    mesh=mesh, in_specs=PartitionSpec("batch"), out_specs=PartitionSpec(),
)
print([float(jax.jit(over)(jnp.array(a))) for a in ([1.0, 2.0], [jnp.nan, 2.0], [1.0, jnp.nan])])
"""


@pytest.mark.slow
def test_the_largest_over_devices_sees_the_nan_of_one():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", ON_TWO_DEVICES]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "[2.0, nan, nan]\n"


# --- what decides or is reported ---------------------------------------------------------------


def stats_of(residual: jax.Array) -> SolverStats:
    whole = jnp.ones(residual.shape, jnp.int32)
    return SolverStats(
        steps=whole,
        residual=residual,
        absolute_residual=residual,
        converged=residual < 1,
        adjoint_residual=residual,
        residual_trace=residual[:, None],
        evaluations=whole,
        jacobians=whole,
        result=STATUS.converged,
    )


def metrics_with(value: jax.Array, residual: jax.Array, logits: jax.Array):
    prediction = Prediction(logits, Solution(value, stats_of(residual)))
    y = jnp.zeros(len(logits), jnp.int32)
    one = jnp.ones(len(logits))
    marked = marks("cross-entropy", logits, y)
    costs, penalty = jnp.sum(logits, axis=1), jnp.zeros(())
    return metrics_of(prediction, costs, penalty, marked, one, one)


def test_the_metrics_of_a_batch_see_a_sample_that_is_not_finite():
    fine = jnp.zeros((SIZE, 2))
    metrics = jax.jit(metrics_with)
    residual = metrics(fine, one_nan(), fine)
    assert jnp.isnan(residual.residual_max) and jnp.isnan(residual.residual)
    assert jnp.isnan(metrics(fine.at[7, 1].set(jnp.nan), jnp.zeros(SIZE), fine).loss)
    lost = metrics(fine, jnp.zeros(SIZE), fine.at[7, 1].set(jnp.nan))
    assert jnp.isnan(lost.loss) and lost.mark == SIZE - 1
    assert metrics(fine, jnp.zeros(SIZE), fine).residual_max == 0


REPORTED = {
    "relative residual": lambda a: jnp.sum(jax.vmap(relative)(a, a)),
    "projection to a box": lambda a: jnp.sum(project(a, {"lower": 0.0, "upper": 1.0})),
    "hinge": lambda a: jnp.mean(jax.vmap(lambda v: hinge(v, 0.1))(a)),
    "Frobenius norm": lambda a: squared_frobenius_norm(lambda z: a.reshape(50_000, 2) @ z, a[:2]),
    "spectral radius of a batch": lambda a: jnp.sum(
        jax.vmap(lambda j: spectral_radius(lambda z: j @ z, jnp.zeros(10)))(a.reshape(-1, 10, 10))
    ),
    "spectral radius by powers": lambda a: spectral_radius(lambda z: a * z, jnp.zeros(SIZE)),
    "worst of a joint solve": lambda a: worst_size(1.0)(a.reshape(-1, 2), a.reshape(-1, 2)),
}


@pytest.mark.parametrize("name", REPORTED)
def test_reported_figures_see_one_nan_among_many(name):
    reported = jax.jit(REPORTED[name])
    assert jnp.isnan(reported(one_nan()))
    assert jnp.isfinite(reported(jnp.full(SIZE, 0.5, jnp.float32)))


@pytest.mark.parametrize(
    ("solver", "value"), [("picard", np.inf), ("anderson", np.nan), ("broyden", np.nan)]
)
def test_a_large_state_that_is_not_finite_is_never_converged(solver, value):
    layer = Equilibrium(make_solver(solver), adjoint=qdeq.JacobianFree(), max_steps=3)
    x = jnp.zeros(SIZE).at[SIZE // 3].set(value)
    stats = jax.jit(lambda x: layer(lambda z, x: 0.5 * z + x, jnp.zeros(SIZE), x).stats)(x)
    assert not stats.converged and not jnp.isfinite(stats.residual)
    assert stats.result == STATUS.nonfinite


@pytest.mark.slow
def test_one_sample_of_a_large_batch_that_is_not_finite_is_the_only_one_lost():
    layer = Equilibrium(make_solver("anderson"), max_steps=20)
    x = jnp.full(SIZE // 2, 0.1).at[4321].set(jnp.nan)
    solve = jax.vmap(lambda x: layer(lambda z, x: 0.2 * jnp.sin(z) + x, jnp.zeros(2), x).stats)
    converged = np.asarray(jax.jit(solve)(x).converged)
    assert np.flatnonzero(~converged).tolist() == [4321]


@pytest.mark.slow
def test_logits_of_a_large_batch_see_a_sample_that_is_not_finite():
    key = jax.random.key(0)
    classifier = Classifier(qdeq.paper_model(key=key), 4, key=key)
    x = jnp.full((4096, 16), 0.3).at[77, 3].set(jnp.nan)
    classify = jax.vmap(lambda x: classifier(x, Direct()).logits)
    # The sum is what the dropped NaN would be dropped from.
    assert jnp.isnan(jax.jit(lambda x: jnp.sum(classify(x)))(x))
    assert np.flatnonzero(np.isnan(eqx.filter_jit(classify)(x)).any(axis=1)).tolist() == [77]


@pytest.mark.slow
def test_shots_of_a_state_that_is_not_finite_are_no_measurement():
    sample = jax.jit(lambda p: sample_counts(jax.random.key(0), p, jnp.full(1, 100.0)))
    assert jnp.sum(sample(jnp.full((1, 4), 0.25))) == 100
    assert jnp.isnan(jnp.sum(sample(jnp.asarray([[0.25, jnp.nan, 0.25, 0.25]]))))


@pytest.mark.parametrize("values", [[1.0, math.nan, 0.0], [math.nan, 1.0], [1.0, math.nan]])
def test_the_range_over_seeds_is_lost_where_a_seed_is(values):
    spread = Spread.of(values)
    assert math.isnan(spread.mean) and math.isnan(spread.min) and math.isnan(spread.max)


# --- the source --------------------------------------------------------------------------------

# What XLA may compute without NaN, and what of NumPy leaves NaN out.
_DROPS = re.compile(
    r"(jnp\.(a?max|a?min|maximum|minimum|fmax|fmin|ptp|nan\w+)"
    r"|lax\.(p|reduce_)?(max|min)|jax\.nn\.relu6?|segment_(max|min)|np\.(nan\w+|fmax|fmin)[.(]"
    r"|\.at\[.*\]\.(max|min))\b\(?|norm\(.*ord="
)


def test_no_maximum_in_the_source_may_drop_nan_without_saying_why_not():
    """A comment on the line that says what becomes of NaN, or "whole numbers", is the permit."""
    bare = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "_numbers.py" and path.parent == SOURCE:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code, _, comment = line.partition("#")
            if _DROPS.search(code) and not re.search("NaN|whole numbers", comment):
                bare.append(f"{path.relative_to(SOURCE)}:{number}: {line.strip()}")
    assert not bare, "use qdeq._numbers:\n" + "\n".join(bare)
