"""Residual against solver step for a trained model and several solvers; the data of a figure."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from qdeq.equilibrium import Equilibrium, make_solver
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.session import make_trainer

SOLVERS = ("picard", "anderson", "broyden", "newton")
_SAMPLES = 512
_STEPS = 30

# Far below what float32 resolves: every solver goes on to where rounding stops it.
_TOLERANCE = 1e-9


def solver_traces(run: Path) -> dict[str, Any]:
    """Solve for the equilibria of validation samples with each solver.

    Parameters
    ----------
    run
        Run folder of the trained model.

    Returns
    -------
    dict
        Per solver the `median` and `high` (95th percentile) over samples of the smallest relative
        residual up to each step, and `n_samples`, and the `tolerance` of the run.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    trainer = make_trainer(config)
    classifier = folder.load_model(trainer.init().best_classifier)
    x = trainer.dataset.valid.x[:_SAMPLES]
    found: dict[str, Any] = {"n_samples": len(x), "tolerance": config.tolerance, "solvers": {}}
    for name in SOLVERS:
        solver = make_solver(name, rtol=_TOLERANCE, atol=_TOLERANCE)
        layer = Equilibrium(solver=solver, max_steps=_STEPS)
        solve = jax.jit(jax.vmap(lambda x, layer=layer: classifier(x, layer).solution.stats))
        trace = np.asarray(solve(x).residual_trace, float)
        best = np.fmin.accumulate(trace, axis=1)  # NaN: not running any more
        # No residual so far: larger than any.
        best = np.where(np.isnan(best), np.inf, best)
        with np.errstate(invalid="ignore"):  # between two infinite ones
            median, high = np.quantile(best, [0.5, 0.95], axis=0)
        found["solvers"][name] = {"median": median.tolist(), "high": high.tolist()}
    return found
