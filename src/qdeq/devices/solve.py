"""Equilibria on a device: a host loop that submits only the samples that are not done yet.

Any solver that evaluates f once per step, at its iterate, drives it. Training is in `train.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qdeq.devices.batches import batch_angles, check_arrays, model_of
from qdeq.devices.executor import DeviceError, Executor
from qdeq.devices.function import check_executor
from qdeq.devices.ledger import BudgetSpent
from qdeq.devices.solve_state import DeviceSolution, SolveState
from qdeq.devices.solver_steps import (
    advance,
    alike,
    check_steps,
    initial_states,
    with_tolerance,
)
from qdeq.equilibrium import ShotSchedule
from qdeq.equilibrium.shots import as_schedule
from qdeq.equilibrium.solver import Solver, as_solver, name_of
from qdeq.errors import UserError, check_count, told
from qdeq.models import Network, QuantumModel


def solve_on_device(
    model: QuantumModel | Network,
    executor: Executor,
    x: Any,
    *,
    solver: Solver | None = None,
    tolerance: float | None = None,
    start: Any = None,
    max_steps: int = 30,
    shots: int | ShotSchedule | None = None,
    state: SolveState | None = None,
) -> DeviceSolution:
    """Solve m = f(m, x) for a batch of samples, one submission of the unfinished ones per step.

    Costs one circuit per sample and step, counted for each sample until it has converged; of a
    network one for every site.

    Parameters
    ----------
    model
        Supplies theta, encoding and re-injection. A `qdeq.Network` of one circuit is solved for the
        flat states `(B, N q)` of all its sites.
    executor
        Runs ``Program.of(model).circuit``, of a network that of its cell; a `PackedExecutor` runs
        several sites in one execution.
    x
        `(B, d)` features, `(B, N, d)` of a network.
    solver
        One that evaluates f once per step: `KrasnoselskiiMann` (damped and averaged, made for
        noise), `Anderson`, `Broyden`, `Picard`, or your own. None: Anderson for exact expectation
        values; with shots Krasnosel'skii-Mann, until about ten evaluations are averaged.
    tolerance
        Converged where |f(m) - m| is at most this. None: the solver's own `rtol` and `atol`, but
        with shots, for solvers that do not average, at least 2 `noise_floor(shots, q)`: no
        measured residual gets much below one.
    start
        `(B, q)` to start from; 0 when None.
    max_steps
        Evaluations per sample at most, those before an interruption included.
    shots
        Per circuit and setting: a number, or one per step (few early, many late). None: the
        executor's own.
    state
        Of an interrupted solve of the same samples, to go on from.

    Returns
    -------
    DeviceSolution
        If the budget ends the solve, what was found until then; `budget_spent` says so.

    Raises
    ------
    DeviceError
        If the device fails; its `state` goes on where the last finished submission left off.
    BudgetSpent
        If the budget is too small for a single submission.
    UserError
        For a solver that needs derivatives or several evaluations a step, or shapes that do not
        fit.

    Examples
    --------
    >>> import qdeq
    >>> from qdeq.devices import SimulatorExecutor
    >>> from qdeq.lowering import Program
    >>> model = qdeq.paper_model(encoding="angle", key=jax.random.key(3))
    >>> executor = SimulatorExecutor(Program.of(model).circuit, model.observables)
    >>> solution = solve_on_device(model, executor, np.linspace(0, 1, 32).reshape(2, 16))
    >>> bool(solution.converged.all())
    True
    >>> executor.ledger.executions == int(solution.steps.sum())
    True
    """
    circuit = model_of(model)
    check_executor(executor, circuit)
    check_count("max_steps", max_steps)
    x, start = check_arrays(model, x, start)
    schedule = None if shots is None else as_schedule(shots)
    most = executor.shots if schedule is None else int(schedule.most)
    if solver is not None:
        check_steps(solver, start)
    solver = with_tolerance(solver, tolerance, most, model.n_observables)
    fresh = _start(solver, start)
    state = fresh if state is None else state
    if not isinstance(state, SolveState):
        raise UserError(f"state={told(state)}: give the SolveState of an interrupted solve")
    if state.iterate.shape != start.shape:
        raise UserError(
            f"state is of {state.iterate.shape[0]} samples and x has {len(x)}: give the samples "
            "that the interrupted solve had"
        )
    if not alike(state.solver_state, fresh.solver_state):
        raise UserError(
            f"state is not of a solve by {name_of(solver)}() as it is given here: give the solver "
            "that the interrupted solve had"
        )
    done = 0
    spent = False
    while state.active.any() and (step := int(state.steps.max())) < max_steps:
        try:
            state = _one_step(model, executor, x, solver, schedule, state, step)
        except DeviceError as error:
            error.state = state
            raise
        except BudgetSpent:
            if not done and not state.steps.any():
                raise
            spent = True
            break
        done += 1
    tiny = np.finfo(state.residual.dtype).tiny
    return DeviceSolution(
        value=state.point,
        residual=state.residual / np.maximum(state.scale, tiny),
        absolute_residual=state.residual,
        steps=state.steps,
        converged=~state.active,
        budget_spent=spent,
        state=state,
        ledger=executor.ledger,
    )


def _one_step(
    model: QuantumModel | Network,
    executor: Executor,
    x: jax.Array,
    solver: Solver,
    schedule: ShotSchedule | None,
    state: SolveState,
    step: int,
) -> SolveState:
    shots = None if schedule is None else int(schedule(step))
    angles, defined = batch_angles(model, jnp.asarray(state.iterate), x)
    n_samples, n_sites = defined.shape
    submitted = (state.active[:, None] & defined).reshape(-1)
    # Where amplitude encoding is undefined f is 0, unmeasured.
    out = np.zeros((n_samples * n_sites, model_of(model).n_observables), state.iterate.dtype)
    out[submitted] = executor(angles[submitted], purpose="forward", shots=shots)
    out = out.reshape(state.iterate.shape)
    weight = 1.0 if schedule is None or shots is None else shots / schedule.most
    found = advance(
        solver,
        jnp.asarray(state.iterate),
        jnp.asarray(out),
        state.solver_state,
        jnp.asarray(weight),
    )
    iterate, solver_state, point, residual, scale, converged = jax.tree.map(np.asarray, found)
    # For one that averages the newest estimate is the best, for others the smallest residual.
    better = as_solver(solver).averages | (residual < state.residual) | converged
    better &= state.active

    def keep(chosen: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return SolveState(
        iterate=keep(state.active, iterate, state.iterate),
        solver_state=jax.tree.map(
            lambda new, old: keep(state.active, new, old), solver_state, state.solver_state
        ),
        point=keep(better, point, state.point),
        residual=keep(better, residual, state.residual),
        scale=keep(better, scale, state.scale),
        steps=state.steps + state.active,
        active=state.active & ~converged,
    )


def _start(solver: Solver, start: jax.Array) -> SolveState:
    n_samples, _ = start.shape
    initial = initial_states(solver, start)
    infinite = np.full(n_samples, np.inf, start.dtype)
    return SolveState(
        iterate=np.asarray(start),
        solver_state=jax.tree.map(np.asarray, initial),
        point=np.asarray(start),
        residual=infinite,
        scale=infinite,
        steps=np.zeros(n_samples, int),
        active=np.ones(n_samples, bool),
    )
