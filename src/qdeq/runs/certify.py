"""What is proven of a saved run's equilibria: per sample, for a region, and how tight that is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qdeq.data import Dataset, Split
from qdeq.equilibrium.certificates import Certificate, certify
from qdeq.equilibrium.enclosures import Bound, Region
from qdeq.errors import UserError, check_choice
from qdeq.models import ModelFunction
from qdeq.models.certificates import double
from qdeq.names import SplitName
from qdeq.runs.dataset import dataset_of_run, moved
from qdeq.runs.trained import Run, load
from qdeq.training.config import TrainConfig
from qdeq.training.state import ModelMaker

_STATES = 8  # random states per sample whose Jacobians are compared with the bound


@dataclass(frozen=True)
class RunCertificate:
    """What `qdeq certify` prints; infinite where nothing is proven.

    Attributes
    ----------
    factor_mean, factor_max
        L over the samples, each on all states that can be measured.
    contraction_fraction
        Of the samples with L < 1.
    unique_fraction
        Of those whose equilibrium is proven to be the only one, on a smaller box too.
    exists_fraction
        Of those that are proven to have one.
    region_factor
        L for all inputs in the box of the training features, none shorter than the shortest.
    sampled_max
        The largest Jacobian that was found at random states, in the norm of its sample's L.
    tightness
        The mean ratio of L to the largest Jacobian found.
    spectral_radius_mean, spectral_radius_max
        At the equilibria that the run finds.
    steps_max
        Applications after which every entry is within `tolerance`, from any start, of the samples
        with a unique equilibrium.
    sensitivity_max
        By how much the worst such sample with L < 1 amplifies errors, 1 / (1 - L).
    shots_max
        Per observable, for that sample's equilibrium to be off by at most `error` with probability
        `confidence`.
    """

    run: str
    split: str
    n_samples: int
    factor_mean: float
    factor_max: float
    contraction_fraction: float
    unique_fraction: float
    exists_fraction: float
    region_factor: float
    sampled_max: float
    tightness: float
    spectral_radius_mean: float
    spectral_radius_max: float
    tolerance: float
    steps_max: float
    sensitivity_max: float
    error: float
    confidence: float
    shots_max: float
    max_contraction: float | None


def certify_run(
    run: str | Path,
    *,
    split: SplitName = "test",
    samples: int = 1000,
    tolerance: float = 1e-5,
    error: float = 0.01,
    confidence: float = 0.95,
    data_dir: str | None = None,
    dataset: Dataset | None = None,
    model: ModelFunction | ModelMaker | None = None,
    config: TrainConfig | None = None,
) -> RunCertificate:
    """Certify the samples of a split, and the region of all training inputs.

    Parameters
    ----------
    run
        A run folder; of many seeds the best on the validation split.
    split, samples
        Which samples, at most so many of them, the first.
    tolerance
        For which steps are counted.
    error, confidence
        For which shots are counted.
    data_dir, dataset, model, config
        As in `qdeq.runs.evaluate`.

    Raises
    ------
    UserError
        For a run that cannot be loaded, or a model that knows no bound.
    """
    check_choice("split", split, get_args(SplitName))
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise UserError(f"samples={samples!r}: give a whole number of at least 1")
    loaded = load(run, model=model, config=config)
    dataset = dataset_of_run(moved(loaded.config, data_dir), loaded.folder, dataset)
    chosen: Split = getattr(dataset, split)
    x = np.asarray(chosen.x[:samples], np.float64)
    function = loaded.classifier.model
    found = certify(function, x)
    # Raises for what is asked, before anything is sampled.
    steps, shots = found.steps(tolerance), found.shots(error, confidence=confidence)
    region = certify(function, _training_region(dataset.train.x), rounds=0)
    sampled, radii = _sampled(loaded, found, x)
    unique, contracts = found.is_unique, found.is_contraction
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = found.factor / sampled
    return RunCertificate(
        run=str(loaded.path),
        split=split,
        n_samples=len(x),
        factor_mean=float(np.mean(found.factor)),
        factor_max=float(np.max(found.factor)),  # of NumPy, keeps NaN
        contraction_fraction=float(np.mean(contracts)),
        unique_fraction=float(np.mean(unique)),
        exists_fraction=float(np.mean(found.exists)),
        region_factor=float(region.factor[0]),
        sampled_max=float(np.max(sampled)),
        tightness=float(np.mean(ratios[np.isfinite(ratios)])) if sampled.any() else 1.0,
        spectral_radius_mean=float(np.mean(radii)),
        spectral_radius_max=float(np.max(radii)),
        tolerance=tolerance,
        steps_max=_largest(steps, unique),
        sensitivity_max=_largest(found.sensitivity(), contracts),
        error=error,
        confidence=confidence,
        shots_max=_largest(shots, contracts),
        max_contraction=loaded.config.max_contraction,
    )


def _largest(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(np.max(values[chosen])) if chosen.any() else float("inf")


def _training_region(x: Any) -> Region:
    rows = np.asarray(x, np.float64)
    shortest = np.linalg.norm(rows, axis=1).min() * (1 - 1e-9)
    return Region.box(rows.min(axis=0), rows.max(axis=0), least_norm=shortest)


def _sampled(
    run: Run, found: Certificate, x: Float[np.ndarray, "N d"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """The largest norm of a Jacobian at random states, and the spectral radius at equilibrium."""
    equilibria = np.asarray(run.solve(x, prepared=True).value, np.float64)
    rng = np.random.default_rng(0)
    between = rng.uniform(size=(len(x), _STATES, equilibria.shape[1]))
    wide = found.high - found.low
    states = found.low[:, None] + wide[:, None] * between
    states = np.concatenate([states, equilibria[:, None]], axis=1)
    jacobians = _jacobians(run.classifier.model, x, states)
    finite = np.where(np.isfinite(jacobians).all(axis=(2, 3), keepdims=True), jacobians, 0)
    norms = np.max([norms_in(found.outer, finite[:, s]) for s in range(_STATES + 1)], axis=0)
    radii = abs(np.linalg.eigvals(finite[:, -1])).max(axis=1)
    return norms, radii


def norms_in(bound: Bound, jacobians: Float[np.ndarray, "N q q"]) -> Float[np.ndarray, " N"]:
    """The norm of every row's matrix in the norm of its bound."""
    weights = np.where(bound.is_two_norm[:, None], 1.0, bound.weights)
    weighted = np.einsum("nkl,nl->nk", abs(jacobians), weights) / weights
    two = np.linalg.norm(jacobians, 2, axis=(1, 2))
    return np.where(bound.is_two_norm, two, weighted.max(axis=1))


def _jacobians(
    model: ModelFunction, x: Float[np.ndarray, "N d"], states: Float[np.ndarray, "N S q"]
) -> Float[np.ndarray, "N S q q"]:
    with jax.enable_x64(True):
        return np.asarray(_all_jacobians(double(model), jnp.asarray(x), jnp.asarray(states)))


@eqx.filter_jit
def _all_jacobians(model: ModelFunction, x: jax.Array, states: jax.Array) -> jax.Array:
    form = model.prepare()

    def of_sample(sample: tuple[jax.Array, jax.Array]) -> jax.Array:
        bound = form.bind(sample[0])
        return jax.vmap(jax.jacfwd(bound))(sample[1])

    return jax.lax.map(of_sample, (x, states), batch_size=64)
