"""How a trained classifier does where every expectation value comes from finitely many shots.

Noise channels are the model's own and exact; the files of a run and its data are `run.py`'s.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qdeq._numbers import at_least
from qdeq.data import Split, Targets
from qdeq.equilibrium import Direct, Equilibrium, make_solver
from qdeq.equilibrium.shots import tolerance_under_shots
from qdeq.equilibrium.solver import Solver, as_solver
from qdeq.errors import UserError
from qdeq.models import Predictor
from qdeq.names import Loss
from qdeq.simulation.sampling import check_shots
from qdeq.training.losses import losses, predictions
from qdeq.training.scores import regression_scores

_CHUNK = 1024  # samples measured at once, bounds the memory


@dataclass(frozen=True)
class ShotMetrics:
    """Metrics of one evaluation of a split with finite shots.

    Attributes
    ----------
    loss, accuracy
        Of the class scores.
    residual_mean, residual_max
        |f(m) - m| / |f(m)| at the measured states found, f with infinitely many shots.
    measured_residual_mean
        The same as the shots tell it, which is what a device knows.
    converged_fraction
        Of samples whose measured residual is within the tolerance.
    solver_steps_mean
        Per sample.
    circuit_executions
        Circuits run in the forward pass, a measurement setting each.
    total_shots
        Their shots.
    undefined_inputs
        Samples that amplitude encoding cannot encode.
    predictions
        `(N,)` classes, or `(N, T)` targets in their own units.
    r2, rmse, mae
        Of a regression, whose accuracy is NaN; see `regression_scores`.
    """

    loss: float
    accuracy: float
    residual_mean: float
    residual_max: float
    measured_residual_mean: float
    converged_fraction: float
    solver_steps_mean: float
    circuit_executions: int
    total_shots: int
    undefined_inputs: int
    predictions: np.ndarray
    r2: float | None = None
    rmse: float | None = None
    mae: float | None = None


def layer_for_shots(
    layer: Equilibrium | Direct,
    shots: Any,
    n_observables: int,
    *,
    solver: str | Solver | None = None,
) -> Equilibrium | Direct:
    """The layer with a tolerance that so many shots can meet.

    Parameters
    ----------
    layer
        With which the model was trained; its tolerances stay where they are looser.
    shots
        Per evaluation and setting, possibly traced.
    n_observables
        Length of the measured state.
    solver
        By name, or an object; None averages, by `KrasnoselskiiMann`, whatever the model was trained
        with: at equal total shots its residual is half that of solvers that stop at a measured one.

    Returns
    -------
    Equilibrium or Direct
        Converged means: the residual is within two sampling errors, or for the averaging solver
        within the sampling error of 10 evaluations together.

    Raises
    ------
    UserError
        For an unknown solver, or one with a layer that has none.
    """
    if isinstance(layer, Direct):
        if solver is not None:
            raise UserError(
                f"solver={solver!r}: a model of mode 'direct' has no solver; leave it out"
            )
        floor = tolerance_under_shots(shots, n_observables, averages=False)
        loosest: Any = at_least(floor, layer.atol)
        return Direct(layer.layers, rtol=layer.rtol, atol=loosest)
    chosen: Any = make_solver("krasnoselskii-mann" if solver is None else solver)
    averages = as_solver(chosen).averages
    floor = tolerance_under_shots(shots, n_observables, averages=averages)
    old: Any = layer.solver
    chosen = eqx.tree_at(lambda s: (s.rtol, s.atol), chosen, (old.rtol, at_least(floor, old.atol)))
    # A curve cannot be followed through noise.
    return replace(layer, solver=chosen, fallback=None)


def evaluate_with_shots(
    classifier: Predictor,
    layer: Equilibrium | Direct,
    split: Split,
    *,
    shots: int,
    key: Array,
    solver: str | Solver | None = None,
    loss: Loss = "cross-entropy",
    targets: Targets | None = None,
) -> ShotMetrics:
    """Classify a split on a simulated device with finite shots.

    Parameters
    ----------
    classifier
        Its model's noise is the device's.
    layer, solver
        See `layer_for_shots`.
    split
        `(N, d)` features and labels.
    shots
        Per evaluation and setting.
    key
        Of all shots; the same key gives the same numbers.
    loss, targets
        Of the training, and of its data set.

    Raises
    ------
    UserError
        For shots that are no number of at least 1, or an unknown solver.
    """
    check_shots("shots", shots)
    layer_for_shots(layer, shots, classifier.model.n_observables, solver=solver)  # its errors, now
    n, parts = len(split.y), []
    chunk = min(_CHUNK, n)
    traced = jnp.asarray(shots, jnp.int32)
    for start in range(0, n, chunk):
        chosen = np.arange(start, start + chunk) % n
        keys = jax.random.split(jax.random.fold_in(key, start), chunk)
        x, y = jnp.asarray(split.x[chosen]), jnp.asarray(split.y[chosen])
        found = _measure(classifier, layer, x, y, keys, traced, solver, loss)
        parts.append(jax.tree.map(np.asarray, found))
    columns = {name: np.concatenate([part[name] for part in parts])[:n] for name in parts[0]}
    settings = classifier.model.n_settings
    return ShotMetrics(
        loss=float(columns["loss"].mean(dtype=float)),
        **_judged(columns["prediction"], np.asarray(split.y), targets),
        residual_mean=float(columns["residual"].mean(dtype=float)),
        residual_max=float(columns["residual"].max()),
        measured_residual_mean=float(columns["measured"].mean(dtype=float)),
        converged_fraction=float(columns["converged"].mean(dtype=float)),
        solver_steps_mean=float(columns["steps"].mean(dtype=float)),
        circuit_executions=int(columns["evaluations"].sum(dtype=np.int64)) * settings,
        total_shots=round(float(columns["shots"].sum(dtype=float))) * settings,
        undefined_inputs=int(np.sum(~columns["defined"])),
    )


def _judged(predicted: np.ndarray, y: np.ndarray, targets: Targets | None) -> dict[str, Any]:
    if targets is None:
        return {"accuracy": float(np.mean(predicted == y)), "predictions": predicted}
    predicted = targets.restored(predicted)
    scores = regression_scores(targets.restored(y), predicted)
    return {"accuracy": math.nan, "predictions": predicted, **scores}


@eqx.filter_jit
def _measure(
    classifier: Predictor,
    layer: Equilibrium | Direct,
    x: Array,
    y: Array,
    keys: Array,
    shots: Array,
    solver: str | Solver | None,
    loss: Loss,
) -> dict[str, Array]:
    """Per-sample numbers; shots are traced, so that one program serves any number of them."""
    fitted = layer_for_shots(layer, shots, classifier.model.n_observables, solver=solver)
    form = classifier.model.prepare()

    def one(x: Array, key: Array) -> tuple[Array, dict[str, Any]]:
        prediction = classifier(x, fitted, shots=shots, shots_key=key)
        m, stats = prediction.solution.value, prediction.solution.stats
        exact = form.bind(x)(m)
        size = at_least(jnp.linalg.norm(exact), jnp.finfo(m.dtype).tiny)
        return prediction.outputs, {
            "residual": jnp.linalg.norm(exact - m) / size,
            "measured": stats.residual,
            "converged": stats.converged,
            "steps": stats.steps,
            "evaluations": stats.evaluations,
            "shots": stats.shots,
            "defined": classifier.model.is_defined(m, x),
        }

    outputs, found = jax.vmap(one)(x, keys)
    return {
        **found,
        "loss": losses(loss, outputs, y),
        "prediction": predictions(loss, outputs),
    }
