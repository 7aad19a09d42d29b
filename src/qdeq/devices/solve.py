"""Equilibria on a device: a host loop that submits only the samples that are not done yet.

Any solver that evaluates f once per step, at its iterate, drives it. Training is in `train.py`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from qdeq._vectors import lost_in_reals
from qdeq.circuits import AmplitudeEncoding
from qdeq.devices.executor import DeviceError, Executor, as_item
from qdeq.devices.function import check_executor, encoder_input
from qdeq.devices.ledger import BudgetSpent
from qdeq.devices.solve_state import DeviceSolution, SolveState
from qdeq.equilibrium import Anderson, KrasnoselskiiMann, ShotSchedule
from qdeq.equilibrium.shots import as_schedule, tolerance_under_shots
from qdeq.equilibrium.solver import Solver, as_solver, check_solver, finds_zero, name_of
from qdeq.errors import UserError, check_amount, check_count, told
from qdeq.lowering.program import Program
from qdeq.models import Network, QuantumModel
from qdeq.models.cells import circuit_of


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
    x, start = _check_arrays(model, x, start)
    schedule = None if shots is None else as_schedule(shots)
    most = executor.shots if schedule is None else int(schedule.most)
    if solver is not None:
        _check_steps(solver, start)
    solver = _with_tolerance(solver, tolerance, most, model.n_observables)
    fresh = _start(solver, start)
    state = fresh if state is None else state
    if not isinstance(state, SolveState):
        raise UserError(f"state={told(state)}: give the SolveState of an interrupted solve")
    if state.iterate.shape != start.shape:
        raise UserError(
            f"state is of {state.iterate.shape[0]} samples and x has {len(x)}: give the samples "
            "that the interrupted solve had"
        )
    if not _alike(state.solver_state, fresh.solver_state):
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
    found = _advance(
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


def model_of(model: QuantumModel | Network) -> QuantumModel:
    """The circuit that a device runs: the model's, or that of a network's cells.

    Raises
    ------
    UserError
        For a network whose cells are not all the same circuit.
    """
    if not isinstance(model, Network):
        return model
    circuit = circuit_of(model.cell)
    if circuit is None:
        raise UserError(
            f"cell={type(model.cell).__name__}: a device runs one circuit, give a network with a "
            "QuantumModel as its cell; several kinds of cell are DeviceFunctions, each with an "
            "executor of its own"
        )
    return circuit


@eqx.filter_jit
def _angles(
    model: QuantumModel | Network, m: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    circuit = model_of(model)
    program = Program.of(circuit)

    def one(m: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not isinstance(model, Network):
            v, defined = encoder_input(model, m, x)
            return program.angles(model.theta, v)[None], defined[None]
        v = model.wired().heard(m.reshape(model.wiring.n_sites, -1), x)
        defined = jnp.ones(len(v), bool)
        if isinstance(circuit.encoding, AmplitudeEncoding):
            defined = jnp.any(v != 0, axis=-1)
            v = jnp.where(defined[:, None], v, 1)
        return jax.vmap(lambda v: program.angles(circuit.theta, v))(v), defined

    return jax.vmap(one)(m, x)


def batch_angles(
    model: QuantumModel | Network, m: jax.Array, x: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Angles of all samples and sites, and where the model function is defined.

    Returns
    -------
    angles
        `(B N, S)`; N is 1 but for networks.
    defined
        `(B, N)`.
    """
    angles, defined = _angles(model, m, x)
    angles = np.asarray(angles, np.float64)
    n_rows = angles.shape[0] * angles.shape[1]  # not -1: circuits without angles have 0 numbers
    return angles.reshape(n_rows, angles.shape[-1]), np.asarray(defined)


@eqx.filter_jit
def _advance(
    solver: Solver, iterate: jax.Array, out: jax.Array, state: PyTree, weight: jax.Array
) -> tuple:
    """One step of every sample's solver, given what f returned at its iterate."""
    driver = as_solver(solver)

    def one(y: jax.Array, out: jax.Array, state: PyTree) -> tuple:
        evaluation = _Evaluation(y, out, finds_zero(solver))
        options = {"weight": weight}
        new, state, _ = driver.step(evaluation, y, out, options, state, frozenset())
        if evaluation.count != 1:
            raise _unfit(solver, f"evaluates f {evaluation.count} times in a step")
        found = driver.estimate(state, y, out)
        converged = found.meets(solver.rtol, solver.atol)
        return new, state, found.point, found.residual, found.scale, converged

    return jax.vmap(one)(iterate, out, state)


class _Evaluation:
    """f for one step: a device has evaluated it at the iterate, and nowhere else."""

    def __init__(self, y: jax.Array, out: jax.Array, finds_zero: bool):
        self.y, self.out, self.finds_zero = y, out, finds_zero
        self.count = 0

    def __call__(self, y: jax.Array, args: Any) -> tuple[jax.Array, None]:
        del args
        self.count += 1
        if y is not self.y:
            raise _Elsewhere
        return (self.out - y if self.finds_zero else self.out), None


class _Elsewhere(Exception):
    """A solver asked for f somewhere else, or for its derivative."""


def _unfit(solver: Solver, why: str) -> UserError:
    return UserError(
        f"solver={name_of(solver)}(): on a device give one that evaluates f once per step, at its "
        f"iterate (this one {why}): KrasnoselskiiMann(), Anderson(), Broyden(), Picard(), or your "
        "own"
    )


def _check_steps(solver: Solver, start: jax.Array) -> None:
    """Raise `UserError` for a solver that a device cannot serve, before anything is submitted."""
    check_solver("solver", solver)
    try:
        jax.eval_shape(lambda y: _advance(solver, y, y, _initial(solver, y), jnp.ones(())), start)
    except _Elsewhere:
        raise _unfit(solver, "needs f beside its iterate, or a derivative of it") from None


def _initial(solver: Solver, start: jax.Array) -> PyTree:
    driver = as_solver(solver)
    vector = jax.ShapeDtypeStruct(start.shape[1:], start.dtype)

    def one(y: jax.Array) -> PyTree:
        return driver.init(lambda y, _: (y, None), y, None, {}, vector, None, frozenset())

    return jax.vmap(one)(start)


def _start(solver: Solver, start: jax.Array) -> SolveState:
    n_samples, _ = start.shape
    initial = _initial(solver, start)
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


def _alike(one: PyTree, other: PyTree) -> bool:
    """Whether two solvers' states have parts of the same names and shapes."""

    def form(tree: PyTree) -> Any:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return [(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in leaves]

    return form(one) == form(other)


def _with_tolerance(
    solver: Solver | None, tolerance: float | None, shots: int | None, n: int
) -> Solver:
    """The solver with the tolerances that this solve uses."""
    if solver is None:
        if shots is None:
            solver = Anderson()
        else:
            atol = tolerance_under_shots(shots, n, averages=True)
            solver = KrasnoselskiiMann(rtol=0.0, atol=atol)
    rtol, atol = solver.rtol, solver.atol
    if tolerance is not None:
        check_amount("tolerance", as_item(tolerance))
        rtol, atol = 0.0, tolerance
    elif shots is not None and not as_solver(solver).averages:
        atol = max(float(atol), tolerance_under_shots(shots, n, averages=False))
    return eqx.tree_at(lambda s: (s.rtol, s.atol), solver, (rtol, atol))


def real_array(name: str, values: Any, dtype: Any) -> jax.Array:
    """What a user gave as real numbers.

    Raises
    ------
    UserError
        For complex or masked numbers, whose other part would be dropped, and what is no numbers.
    """
    if lost := lost_in_reals(values):
        raise UserError(f"{name} is {lost}: give real numbers")
    try:
        return jnp.asarray(values, dtype)
    except (TypeError, ValueError):
        raise UserError(f"{name} is no array of numbers: give real numbers") from None


def _check_arrays(model: QuantumModel | Network, x: Any, start: Any) -> tuple[jax.Array, jax.Array]:
    dtype = model_of(model).theta.dtype
    x = real_array("x", x, dtype)
    start = start if start is None else real_array("start", start, dtype)
    each: tuple[int, ...] = (model.n_features,)
    if isinstance(model, Network):
        each = (model.wiring.n_sites, model.injection.n_features)
    if x.shape[1:] != each or x.ndim != 1 + len(each):
        wanted = ", ".join(map(str, each))
        raise UserError(f"x has shape {x.shape}: give samples as an array of shape (B, {wanted})")
    shape = (x.shape[0], model.n_observables)
    start = jnp.zeros(shape, dtype) if start is None else start
    if isinstance(model, Network) and start.shape == (*x.shape[:2], model.injection.n_states):
        start = start.reshape(shape)
    if start.shape != shape:
        raise UserError(f"start has shape {start.shape}: give an array of shape {shape}")
    return x, start
