"""The numbers of a run's summary with the words that a person reads beside them."""

from typing import Any

from qdeq.names import IN_WORDS
from qdeq.runs.summary import Summary
from qdeq.training.config import TrainConfig


def summary_rows(summary: Summary, config: TrainConfig | None = None) -> dict[str, str]:
    """Return what a person wants to see of a summary, label to formatted value.

    With the configuration, a row says what "converged" means. Without it, a largest residual above
    the tolerance beside "100 % converged" would look like a contradiction.
    """
    spread = summary.spread
    score = IN_WORDS[summary.score]
    many = {} if summary.seeds is None else {"seeds": str(len(summary.seeds))}
    rows = many | {
        f"test {score}": f"{spread(f'test_{summary.score}'):.4f}",
        f"validation {score}": f"{spread(f'valid_{summary.score}'):.4f}",
        f"training {score}": f"{spread(f'train_{summary.score}'):.4f}",
        **_errors(summary),
        "kept epoch": f"{spread('best_epoch'):.4g} of {summary.epochs}",
        "residual, mean": f"{spread('residual_mean'):.2e}",
        "residual, max": f"{summary.residual_max:.2e}",
        "converged": f"{spread('converged_fraction'):.2%} of test samples",
        **_converged_means(summary, config),
        "solver steps, mean": f"{spread('solver_steps_mean'):.2f}",
        "circuit executions": f"{summary.circuit_executions:,} in training, forward passes",
        "parameters": f"{summary.n_parameters} in the model, "
        f"{summary.n_head_parameters} in the head",
        "training time": f"{summary.train_seconds:.2f} s" + " for all seeds" * bool(many),
        "compile time": f"{summary.compile_seconds:.2f} s",
        "peak memory": f"{summary.peak_memory_mb:.0f} MB",
    }
    if summary.stopped:
        rows["stopped"] = summary.stopped
    if summary.undefined_inputs:
        rows["undefined inputs"] = f"{summary.undefined_inputs} test samples with x + R m = 0"
    if summary.not_finite:
        rows["not finite"] = (
            f"{summary.not_finite} test samples met a residual that is no number; their last steps "
            "are not in the picture of residuals"
        )
    return rows


def _converged_means(summary: Summary, config: TrainConfig | None) -> dict[str, str]:
    """What makes a sample count as converged, as a row; nothing of a run without a solver."""
    if config is None or summary.mode == "direct":
        return {}
    return {"converged means": tolerance_in_words(config.solver, config.tolerance)}


def tolerance_in_words(solver: Any, tolerance: float) -> str:
    """The test that a solver's result has to pass, and how it differs from a relative residual.

    >>> tolerance_in_words("broyden", 1e-5)
    '|f(m) − m| <= 1e-05 + 1e-05 |f(m)|; residuals are relative, |f(m) − m| / |f(m)|'
    """
    rtol, atol = (getattr(solver, name, tolerance) for name in ("rtol", "atol"))
    return f"|f(m) − m| <= {atol:g} + {rtol:g} |f(m)|; residuals are relative, |f(m) − m| / |f(m)|"


def _errors(summary: Summary) -> dict[str, str]:
    """Test errors of a regression, in the targets' own units."""
    if not summary.targets:
        return {}
    if len(summary.targets) > 1:  # whose units differ
        return {"targets": ", ".join(summary.targets)}
    return {
        "target": summary.targets[0],
        "test RMSE": f"{summary.spread('test_rmse'):.4g}",
        "test MAE": f"{summary.spread('test_mae'):.4g}",
    }


def seed_columns(score: str) -> dict[str, str]:
    """What differs from seed to seed, and the words for it.

    >>> seed_columns("r2")["test_r2"]
    'test R²'
    """
    words = IN_WORDS[score]
    return {
        f"test_{score}": f"test {words}",
        f"valid_{score}": f"validation {words}",
        f"train_{score}": f"training {words}",
        "residual_mean": "residual, mean",
        "residual_max": "residual, max",
        "converged_fraction": "converged",
        "solver_steps_mean": "solver steps, mean",
        "best_epoch": "kept epoch",
    }
