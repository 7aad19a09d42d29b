"""What a solve on a device has measured: while it runs, and at its end. The loop is `solve.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import PyTree

from qdeq.devices.ledger import Ledger


@dataclass(frozen=True, eq=False)
class SolveState:
    """Where a solve stands after its last finished submission; B samples, q observables.

    Attributes
    ----------
    iterate
        `(B, q)`, where f is evaluated next.
    solver_state
        The solver's own, a pytree whose arrays have a leading axis B.
    point, residual, scale
        `(B, q)`, `(B,)`, `(B,)`: the value to return so far, |f(m) - m| and |f(m)| there.
    steps
        `(B,)` evaluations of each sample.
    active
        `(B,)`, false where a sample has converged.
    """

    iterate: np.ndarray
    solver_state: PyTree
    point: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    steps: np.ndarray
    active: np.ndarray


@dataclass(frozen=True, eq=False)
class DeviceSolution:
    """What a solve on a device found; B samples, q observables.

    Attributes
    ----------
    value
        `(B, q)` measured states m*.
    residual, absolute_residual
        `(B,)` as measured at `value`: |f(m) - m| relative to |f(m)|, and itself.
    steps
        `(B,)` evaluations of each sample.
    converged
        `(B,)` whether the tolerances were met.
    budget_spent
        Whether the budget ended the solve; raise it and give `state` to go on.
    state
        Where the solve stands.
    ledger
        The executor's.
    """

    value: np.ndarray
    residual: np.ndarray
    absolute_residual: np.ndarray
    steps: np.ndarray
    converged: np.ndarray
    budget_spent: bool
    state: SolveState
    ledger: Ledger
