"""What networks cost on a device: a sweep, applications, Newton's method, direct(L); packed or not.

Submissions of one circuit are predicted in `prediction.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qdeq.circuits import MeasuredCircuit
from qdeq.devices.circuit_cost import CircuitCost
from qdeq.devices.cost import Cost, Submission
from qdeq.devices.prediction import Plan, check_numbers, mitigated
from qdeq.devices.timing import DeviceTiming
from qdeq.equilibrium.networks import (
    NETWORK_SOLVERS,
    AbstractWiring,
    Chain,
    choose_solver,
    why_not,
)
from qdeq.errors import UserError, check_count
from qdeq.models import ModelFunction, Network
from qdeq.models.cells import circuit_of

_WITH_JACOBIANS = ("newton-scan", "newton-blocks", "newton-krylov", "homotopy")


def estimate_network(
    network: Network | ModelFunction | MeasuredCircuit,
    wiring: AbstractWiring | None = None,
    *,
    solver: str = "auto",
    steps: float = 10,
    layers: int | None = None,
    copies: int = 1,
    gradient: str = "parameter-shift",
    perturbations: int = 1,
    shots: int | None = None,
    gradient_shots: int | None = None,
    scale_factors: Sequence[float] = (1,),
    timing: DeviceTiming | None = None,
) -> Cost:
    """Predict what a network costs whose cells run on a device.

    All sites of all samples of a batch are one submission. Per sample of N sites, with k steps,
    E = 1 + the shifts of the encoding rotations and P = 1 + those of the trainable ones:

    - sweep of a chain: N circuits in N submissions, and N in one more that measures the residual;
      of a causal graph N in each of as many as its longest path has sites.
    - picard, anderson, broyden, krasnoselskii-mann, and picard-newton while it applies: k N in k.
    - newton-scan, from a start that is given, and the other methods by Jacobians: k N (1 + E) in
      2 k.
    - the gradient of an equilibrium: N (E + P) in two submissions.
    - direct(L): L N in L; its gradient L N (E + P) in 2 L.

    Parameters
    ----------
    network
        A network whose cell is a circuit or a QNode, or what its cells measure.
    wiring
        Who hears whom; otherwise as the network says.
    solver
        By name, see `NetworkEquilibrium`.
    steps
        Solver steps per sample; a mean need not be whole.
    layers
        Instead of an equilibrium: direct(L).
    copies
        Cells side by side in one execution, see `PackedExecutor`: B circuits of a submission are
        ceil(B / copies) executions.
    gradient, perturbations, shots, gradient_shots, scale_factors, timing
        See `estimate`.

    Returns
    -------
    Cost

    Raises
    ------
    UserError
        For cells that are not one circuit, a network without a wiring, or a solver that its wiring
        does not allow.

    Examples
    --------
    >>> import qdeq
    >>> measured = qdeq.MeasuredCircuit.named(2, "angle", ansatz="hardware-efficient")
    >>> swept = estimate_network(measured, qdeq.Chain(16)).inference(8)
    >>> swept.executions, swept.submissions
    (256, 17)
    >>> direct = estimate_network(measured, qdeq.Chain(16), layers=16).inference(8)
    >>> direct.executions, direct.submissions
    (2048, 16)
    """
    if isinstance(network, Network):
        measured = circuit_of(network.cell)
        wiring = network.wiring if wiring is None else wiring
        if measured is None and hasattr(type(network.cell), "measured"):  # a QNode
            measured = network.cell
        if measured is None:
            raise UserError(
                f"cell={type(network.cell).__name__}: costs are those of one circuit, give a "
                "network with a QuantumModel or a QNode as its cell, or each kind of cell by itself"
            )
    else:
        measured = network
    measured = MeasuredCircuit.of(measured)
    if not isinstance(wiring, AbstractWiring):
        raise UserError(f"wiring={wiring!r}: give Chain(n), Grid(rows, columns) or Graph")
    check_numbers(gradient, steps, layers, perturbations, shots, gradient_shots, scale_factors)
    check_count("copies", copies)
    circuit = CircuitCost.of(measured)
    plan = Plan(circuit, gradient, perturbations, shots, gradient_shots or shots, True)
    n = wiring.n_sites
    if layers is not None:
        forward, backward = _at_sites(n, plan.evaluations(layers)), plan.unrolled(layers)
    else:
        sizes = measured.n_observables, measured.n_features
        forward = _forward(plan, wiring, solver, steps, sizes)
        backward = (plan.input_gradient, plan.parameter_gradient)
    cost = Cost(circuit, forward, _at_sites(n, backward), timing, copies)
    return mitigated(cost, scale_factors)


def solvers_on_devices(wiring: AbstractWiring) -> list[str]:
    """The solvers of a wiring that are worth a comparison: they differ in what they cost.

    >>> solvers_on_devices(Chain(8)), solvers_on_devices(Chain(8, "both"))
    (['sweep', 'newton-scan', 'picard', 'anderson'], ['newton-blocks', 'picard', 'anderson'])
    """
    names = ("sweep", "newton-scan", "newton-blocks", "newton-krylov", "picard", "anderson")
    fit = [name for name in names if why_not(name, wiring) is None]
    newton = [name for name in fit if name.startswith("newton")]
    return [name for name in fit if name not in newton[1:]]


def _forward(
    plan: Plan, wiring: AbstractWiring, solver: str, steps: float, sizes: tuple[int, int]
) -> tuple[Submission, ...]:
    name, n = choose_solver(wiring) if solver == "auto" else solver, wiring.n_sites
    if name not in NETWORK_SOLVERS:
        raise UserError(
            f"solver={solver!r} is not known: choose one of auto, {', '.join(NETWORK_SOLVERS)}"
        )
    reason = why_not(name, wiring, *sizes)
    if reason is not None:
        raise UserError(reason)
    if name == "sweep":
        each = (1, n) if isinstance(wiring, Chain) else (n, wiring.depth)
        circuits, times = each
        (once,) = plan.evaluations(1)
        return (replace(once, circuits=circuits, times=times), replace(once, circuits=n))
    found = plan.evaluations(steps)
    if name in _WITH_JACOBIANS:
        found += plan.jacobians(steps)
    return _at_sites(n, found)


def _at_sites(n: int, submissions: tuple[Submission, ...]) -> tuple[Submission, ...]:
    return tuple(replace(one, circuits=n * one.circuits) for one in submissions)
