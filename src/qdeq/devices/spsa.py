"""Stochastic Jacobians from a few randomly shifted circuits: cheap, noisy, unbiased in the limit.

The exact alternative is `shift.py`.
"""

from collections.abc import Sequence

import numpy as np

from qdeq.devices.executor import Executor, angle_rows, as_item, check_slots
from qdeq.errors import check_amount, check_count


def spsa_jacobian(
    executor: Executor,
    angles: np.ndarray,
    slots: Sequence[int],
    shots: int | None = None,
    *,
    rng: np.random.Generator,
    perturbations: int = 1,
    size: float = 0.1,
    purpose: str = "parameter gradient",
) -> tuple[np.ndarray, np.ndarray]:
    """Values and a random estimate of their Jacobian: all slots are shifted at once.

    Costs `1 + 2 perturbations` circuits per row, whatever the number of slots. For random signs D
    the estimate is the mean of (f(a + size D) - f(a - size D)) / (2 size) times D'. It has rank
    `perturbations`: right on average, up to an error of order size**2, but each entry carries the
    other entries of its row as noise, with a variance of about |row|**2 / perturbations. Good for
    the gradient of a loss that is averaged over a batch; not for (I - J)^-1.

    Parameters
    ----------
    executor, angles, slots, shots, purpose
        As in `shift_jacobian`.
    rng
        Draws the signs, independently for every row.
    perturbations
        Pairs of shifted circuits per row.
    size
        Of the shifts, in radians. With shots the noise is 1 / (size sqrt(2 shots)) per entry.

    Returns
    -------
    values
        `(B, q)` at `angles`.
    jacobian
        `(B, q, len(slots))`.

    Raises
    ------
    UserError
        For a number that is not allowed, a slot that is none or is there twice; and what `Executor`
        raises.

    References
    ----------
    J. C. Spall, Multivariate stochastic approximation using a simultaneous perturbation gradient
    approximation, IEEE Trans. Autom. Control 37, 332 (1992).
    """
    check_count("perturbations", perturbations)
    check_amount("size", as_item(size), above=True, otherwise=" of radians, such as 0.1")
    angles = angle_rows(executor.circuit, angles)
    slots = check_slots(executor.circuit, slots)
    signs = rng.choice([-1.0, 1.0], (len(angles), perturbations, len(slots)))
    offsets = np.zeros((len(angles), 1 + 2 * perturbations, angles.shape[1]))
    offsets[:, 1 : 1 + perturbations, slots] = size * signs
    offsets[:, 1 + perturbations :, slots] = -size * signs
    shape, q = offsets.shape[:2], executor.observables.n_observables
    rows = (angles[:, None, :] + offsets).reshape(shape[0] * shape[1], angles.shape[1])
    values = executor(rows, purpose=purpose, shots=shots).reshape(*shape, q)
    above, below = values[:, 1 : 1 + perturbations], values[:, 1 + perturbations :]
    slopes = (above - below) / (2 * size * perturbations)
    return values[:, 0], np.einsum("bpq,bps->bqs", slopes, signs)
