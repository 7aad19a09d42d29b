"""Hardware-in-the-loop training: a classifier whose every circuit runs on a device.

The loop over steps, and when it ends. A step is `train_step.py`, what survives a session
`train_state.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qdeq._vectors import as_reals
from qdeq.devices.executor import DeviceError, Executor
from qdeq.devices.function import check_executor
from qdeq.devices.ledger import BudgetSpent, Ledger
from qdeq.devices.train_recipe import DeviceRecipe, check_recipe, step_cost
from qdeq.devices.train_state import DeviceTraining
from qdeq.devices.train_step import Attempt
from qdeq.errors import UserError, check_count, check_kind
from qdeq.models import Classifier, quantum_model


def train_on_device(
    classifier: Classifier,
    executor: Executor,
    x: Any,
    y: Any,
    *,
    steps: int,
    recipe: DeviceRecipe = DeviceRecipe(),
    state: DeviceTraining | None = None,
    on_step: Callable[[DeviceTraining], None] | None = None,
) -> DeviceTraining:
    """Train a classifier with a device as the only evaluator of circuits.

    A step solves the equilibria of a batch, measures one Jacobian per sample in the encoding's
    angles and one in the circuit's, and moves angles, head and what an injection learns by Adam.
    Before each step the most that it can cost is compared with what the ledger's budget leaves:
    training stops there, not in the middle of a step. What an executor has to `prepare`, such as a
    calibration, comes before that.

    Parameters
    ----------
    classifier
        What to train. Ignored where a state is given.
    executor
        Runs ``Program.of(classifier.model).circuit``; its ledger holds the budget.
    x, y
        `(N, d)` features and `(N,)` integer classes.
    steps
        How many steps the training has in all, those before an interruption included.
    recipe
        How a step is made.
    state
        Of an earlier call, a `DeviceError`'s, or from `DeviceTraining.load`, to go on from.
    on_step
        Called with the state after every step: to save it, to show progress.

    Returns
    -------
    DeviceTraining
        The trained classifier, the history, and everything that is needed to go on; `stopped` is
        `"budget"` where the budget ended the training and `"steps"` otherwise.

    Raises
    ------
    DeviceError
        If the device fails; its `state` goes on in the middle of the unfinished step, without
        measuring again what was measured.
    UserError
        If the budget is too small for one step, before anything of it runs; or for data that do not
        fit.
    """
    check_count("steps", steps)
    check_kind("classifier", classifier, Classifier, "a Classifier")
    check_kind("recipe", recipe, DeviceRecipe, "a DeviceRecipe")
    check_kind("state", state, DeviceTraining | None, "a DeviceTraining, or None")
    state = DeviceTraining.start(classifier) if state is None else state
    model = quantum_model(state.classifier.model, "training on a device")
    check_executor(executor, model)
    check_recipe(recipe, model)
    x, y = _check_data(state.classifier, x, y)
    n_samples = min(recipe.batch_size, len(x))
    needed = step_cost(model, executor, recipe, n_samples)
    first = state.step
    if state.step < steps:
        try:
            executor.prepare(recipe.shots or executor.shots)
        except DeviceError as error:
            error.state = state
            raise
    while state.step < steps:
        begun = state.is_within_a_step()
        shortage = None if begun else _shortage(executor.ledger, needed)
        if shortage is not None and state.step == first:
            raise UserError(
                f"{shortage} for a step of {n_samples} samples: raise the budget, or make "
                "batch_size or max_steps smaller"
            )
        if shortage is not None:
            return replace(state, stopped="budget")
        epoch, position = divmod(state.step, len(x) // n_samples)
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(x))
        rows = order[position * n_samples : (position + 1) * n_samples]
        batch = np.asarray(x[rows]), np.asarray(y[rows])
        if begun and not _are_equal(batch, state.unfinished.batch):
            raise UserError(
                f"step {state.step + 1} was interrupted with other samples, and what is measured "
                "is of those: go on with the same x and y, and a recipe of the same seed and "
                "batch_size"
            )
        attempt = Attempt(replace(state, ledger=executor.ledger, stopped=None))
        try:
            attempt.run(executor, recipe, batch)
        except DeviceError as error:
            error.state = attempt.state
            raise
        except BudgetSpent:  # more than was foreseen: attempts that failed are charged as well
            return replace(attempt.state, stopped="budget")
        state = attempt.state
        if on_step is not None:
            on_step(state)
    return replace(state, stopped="steps")


def _are_equal(batch: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...] | None) -> bool:
    return other is not None and all(map(np.array_equal, batch, other))


def _shortage(ledger: Ledger, needed: Ledger) -> str | None:
    """What of the budget does not suffice, in words; None where it does."""
    name = ledger.limit_exceeded_by(needed.executions, needed.shots, needed.seconds)
    if name is None:
        return None
    limit = getattr(ledger.budget, name)
    return (
        f"{limit - getattr(ledger, name):.15g} of the budget of {limit:.15g} {name} are left and "
        f"up to {getattr(needed, name):.15g} are needed"
    )


def _check_data(classifier: Classifier, x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    model = quantum_model(classifier.model, "training on a device")
    x, y = as_reals("x", x, model.theta.dtype), np.asanyarray(y)
    if np.ma.is_masked(y):
        raise UserError("y is masked: give a class for every sample")
    if x.ndim != 2 or not len(x) or x.shape[1] != model.n_features:
        raise UserError(
            f"x has shape {x.shape}: give samples as an array of shape (N, {model.n_features})"
        )
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise UserError(f"x[{row}, {column}] is {x[row, column]}: give finite numbers")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise UserError(
            f"y has shape {y.shape} and dtype {y.dtype}: give {len(x)} integers, a class per sample"
        )
    if y.min() < 0 or y.max() >= classifier.n_classes:
        raise UserError(
            f"y has classes from {y.min()} to {y.max()}: the classifier knows 0 to "
            f"{classifier.n_classes - 1}"
        )
    return x, jnp.asarray(y, jnp.int32)
