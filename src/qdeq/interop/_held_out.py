"""Which samples of a classification validate, for estimators that decide it by themselves."""

import numpy as np

from qdeq.data.splits import stratified_indices
from qdeq.errors import UserError


def held_out_of_classes(y: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which samples validate: some of every class that has several; one of each class trains.

    `qdeq.data.from_arrays` draws its split without looking at the classes and refuses one that
    leaves a class out, which the small folds of a cross-validation often would.
    """
    repeated = np.flatnonzero(np.bincount(y)[y] > 1)
    if not len(repeated):
        raise UserError(
            f"{len(y)} samples, each the only one of its class: give at least two samples of a "
            "class, one of which can validate"
        )
    _, held_out = stratified_indices(y[repeated], fraction=fraction, seed=seed)
    valid = np.zeros(len(y), dtype=bool)
    valid[repeated[held_out]] = True
    # However large the fraction, one sample of every class trains.
    _, firsts = np.unique(y, return_index=True)
    valid[firsts[np.bincount(y[~valid], minlength=len(firsts)) == 0]] = False
    return valid
