"""What a report shows beside a summary: test samples, and how solvers find their equilibria.

It is kept as `report.json` in the run folder, so that a report can be made again from the folder
alone. A finished run writes the samples (`of_run`), which cost it nothing; `measured` adds class
probabilities and the search, which take a few seconds of compilation, on demand.
"""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qdeq.data import Dataset
from qdeq.runs.circuit import circuit_of
from qdeq.runs.summary import hardware
from qdeq.training.config import TrainConfig

if TYPE_CHECKING:
    from qdeq.runs.trained import Run

MOST_SAMPLES = 16
"""Samples that are kept of a cell of the confusion matrix; of a regression, of all."""

SEARCHED = 8
"""Test samples whose search for the equilibrium is kept."""

SOLVERS = ("picard", "anderson", "broyden", "newton")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A test sample and what the model says of it.

    Attributes
    ----------
    index
        Its position in the test split.
    true, predicted
        Positions of classes, or of a regression the targets in their own units.
    image
        Grey values from 0 to 255, row by row, of a square image of features; None of others.
    probabilities
        Of the classes; None where they were not asked for, and of a regression.
    """

    index: int
    true: Any
    predicted: Any
    image: list[int] | None = None
    probabilities: list[float] | None = None


@dataclasses.dataclass(frozen=True)
class Path:
    """What a solver does for one sample.

    Attributes
    ----------
    points
        The measured states at which it evaluates the model function, one after the other.
    residuals
        |f(m) - m| / |f(m)| there; None where it is no number.
    converged
        Whether the last one meets the tolerance.
    """

    points: list[list[float]]
    residuals: list[float | None]
    converged: bool


@dataclasses.dataclass(frozen=True)
class Search:
    """How the equilibrium of one test sample is found.

    Attributes
    ----------
    index
        Its position in the test split.
    equilibrium
        The measured state that the run's own layer finds.
    converged
        Whether it meets the tolerance.
    radius
        Spectral radius of df/dm there: below 1, plain iteration converges close by.
    paths
        By solver.
    """

    index: int
    equilibrium: list[float | None]
    converged: bool
    radius: float | None
    paths: dict[str, Path]


@dataclasses.dataclass(frozen=True)
class ReportData:
    """The content of `report.json`.

    Attributes
    ----------
    finished
        When the run ended, UTC.
    hardware
        What it ran on.
    samples
        At most `MOST_SAMPLES` of every cell of the confusion matrix; of a regression those that are
        furthest off.
    tolerance
        Of the searches.
    observables
        What the numbers of a measured state are called.
    searches
        Of `SEARCHED` test samples; empty where they were not asked for.
    """

    finished: str = ""
    hardware: str = ""
    samples: list[Sample] = dataclasses.field(default_factory=list)
    tolerance: float = 0.0
    observables: list[str] = dataclasses.field(default_factory=list)
    searches: list[Search] = dataclasses.field(default_factory=list)


def add_details(
    run: str | pathlib.Path,
    *,
    data_dir: str | None = None,
    dataset: Dataset | None = None,
    model: Any = None,
    config: TrainConfig | None = None,
) -> None:
    """Add class probabilities and the search for equilibria to a finished run's `report.json`.

    `write_report` shows them. Of a run of many seeds they are the first one's.

    Parameters
    ----------
    run
        A run folder.
    data_dir
        Where the data set is now, if it has moved.
    dataset, model
        The data set and the model function again, of a run that was given them.
    config
        A configuration with the same objects, of a run whose configuration held any.

    Raises
    ------
    UserError
        When the run is not finished, its data cannot be found, or something has to be given again.
    """
    from qdeq.runs.dataset import dataset_of_run, moved
    from qdeq.runs.run_folder import RunFolder
    from qdeq.runs.trained import load

    folder = RunFolder.open(run).seed_folders()[0]
    loaded = load(folder.path, model=model, config=config)
    before = folder.read_report_data(ReportData)
    dataset = dataset_of_run(moved(loaded.config, data_dir), folder, dataset)
    folder.write_report_data(measured(loaded, dataset, before))


def of_run(config: TrainConfig, dataset: Dataset, predicted: np.ndarray) -> ReportData:
    """What a run that has just finished knows anyway.

    Parameters
    ----------
    config, dataset
        Of the run.
    predicted
        Positions of classes `(N,)`, or targets in their own units `(N, T)`, of the test samples.
    """
    test = dataset.test
    true = test.y if dataset.targets is None else dataset.targets.restored(test.y)
    chosen = _shown(true, np.asarray(predicted), is_classes=dataset.targets is None)
    pixels = _pixels(config, dataset, test.x[chosen])
    samples = []
    for place, index in enumerate(chosen):
        image = None
        if pixels is not None:
            low, high = pixels.min(), pixels.max()
            grey = (pixels[place] - low) / ((high - low) or 1) * 255
            image = np.clip(np.round(grey), 0, 255).astype(int).tolist()
        said = np.asarray(predicted)[index].tolist()
        samples.append(Sample(int(index), true[index].tolist(), said, image))
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return ReportData(finished=now, hardware=hardware(), samples=samples)


def measured(run: "Run", dataset: Dataset, before: ReportData) -> ReportData:
    """The same with probabilities, and with the search of some test samples.

    Parameters
    ----------
    run
        Of one seed.
    dataset
        That it was trained on.
    before
        What the run wrote; from an earlier version, nothing.
    """
    from qdeq.training.predict import probabilities

    x = dataset.test.x
    predictions = run.predictions(x, prepared=True)
    outputs = np.asarray(predictions.outputs)
    predicted = outputs.argmax(axis=1)
    if dataset.targets is not None:
        predicted = dataset.targets.restored(outputs)
    data = of_run(run.config, dataset, predicted)
    samples = data.samples
    if dataset.targets is None:
        chances = np.round(probabilities(outputs), 4)
        samples = [dataclasses.replace(s, probabilities=chances[s.index].tolist()) for s in samples]
    data = dataclasses.replace(
        data,
        samples=samples,
        finished=before.finished,
        hardware=before.hardware or data.hardware,
    )
    if run.config.mode == "direct":
        return data
    steps = np.asarray(predictions.solution.stats.steps)
    chosen = _varied(steps)
    searches = _searches(run, x, chosen, predictions.solution)
    labels = _observables(run, len(searches[0].equilibrium))
    return dataclasses.replace(
        data, tolerance=run.config.tolerance, observables=labels, searches=searches
    )


def _pixels(config: TrainConfig, dataset: Dataset, features: np.ndarray) -> np.ndarray | None:
    """Square images `(N, P)`, as the model gets them; None where features are something else."""
    from qdeq.runs.trained import pools_images

    if dataset.image_components is not None:
        return dataset.image_components.images(features)
    side = round(dataset.n_features**0.5)
    square = side > 1 and side**2 == dataset.n_features
    return features if square and dataset.preparation is None and pools_images(config) else None


def _shown(true: np.ndarray, predicted: np.ndarray, *, is_classes: bool) -> list[int]:
    """Of every cell the first ones; of a regression those furthest off in the units of targets."""
    if not is_classes:
        scale = true.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        off = np.abs((predicted - true) / scale)
        off = np.nan_to_num(off, nan=np.inf).max(axis=1)  # NaN is the furthest
        return np.argsort(-off, kind="stable")[:MOST_SAMPLES].tolist()
    taken: dict[tuple[int, int], int] = {}
    chosen = []
    for index, cell in enumerate(zip(true.tolist(), predicted.tolist(), strict=True)):
        taken[cell] = taken.get(cell, 0) + 1
        if taken[cell] <= MOST_SAMPLES:
            chosen.append(index)
    return chosen


def _varied(steps: np.ndarray) -> list[int]:
    """Samples from the one that took the most steps to the one that took the fewest."""
    order = np.argsort(-steps, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, SEARCHED).round().astype(int))
    return order[places].tolist()


def _searches(run: "Run", x: np.ndarray, chosen: Sequence[int], solution: Any) -> list[Search]:
    """What every solver does for the chosen samples: one compiled program per solver."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from qdeq.equilibrium import make_solver
    from qdeq.equilibrium.trajectories import trajectory
    from qdeq.training.programs import kept_on_disk

    model, config = run.classifier.model, run.config
    ends = jnp.asarray(np.asarray(solution.value)[chosen])

    @eqx.filter_jit
    def bound(model: Any, x: Any) -> Any:
        return eqx.filter_vmap(model.prepare().bind)(x)

    @eqx.filter_jit
    def jacobians(functions: Any, ends: Any) -> Any:
        return eqx.filter_vmap(lambda f, m: jax.jacfwd(f)(m))(functions, ends)

    @eqx.filter_jit
    def paths(functions: Any, starts: Any, solver: Any) -> Any:
        def of_one(f: Any, start: Any) -> Any:
            return trajectory(f, start, solver=solver, n_steps=config.max_steps)

        return eqx.filter_vmap(of_one)(functions, starts)

    with kept_on_disk():
        functions = bound(model, jnp.asarray(x[chosen]))
        found = {}
        for name in SOLVERS:
            solver = make_solver(name, rtol=config.tolerance, atol=config.tolerance)
            found[name] = jax.tree.map(np.asarray, paths(functions, jnp.zeros_like(ends), solver))
        radii = [_radius(matrix) for matrix in np.asarray(jacobians(functions, ends))]
    settled = np.asarray(solution.stats.converged)
    return [
        Search(
            index=int(index),
            equilibrium=_rounded(np.asarray(ends)[k]),
            converged=bool(settled[index]),
            radius=radii[k],
            paths={name: _path(path, k) for name, path in found.items()},
        )
        for k, index in enumerate(chosen)
    ]


def _path(found: Any, k: int) -> Path:
    points, met = found.points[k], found.converged[k]
    stop, residuals = until_it_ends(points, found.values[k], met)
    return Path(
        points=[_rounded(point) for point in points[:stop]],
        residuals=residuals,
        converged=bool(met[:stop].any()),
    )


def until_it_ends(
    points: np.ndarray, values: np.ndarray, met: np.ndarray
) -> tuple[int, list[float | None]]:
    """How many steps a path has until it converged or was no number any more, and their residuals.

    Parameters
    ----------
    points, values, met
        Of a `Trajectory`.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of what runs away
        scale = np.maximum(np.linalg.norm(values, axis=1), np.finfo(values.dtype).tiny)
        residuals = np.linalg.norm(values - points, axis=1) / scale
    is_number = np.isfinite(points).all(axis=1) & np.isfinite(values).all(axis=1)
    stop = int(met.argmax()) + 1 if met.any() else len(met)
    if not is_number.all():
        stop = min(stop, int((~is_number).argmax()))
    return stop, [float(f"{r:.3g}") if np.isfinite(r) else None for r in residuals[:stop]]


def _radius(jacobian: np.ndarray) -> float | None:
    if not np.isfinite(jacobian).all():
        return None
    return float(np.abs(np.linalg.eigvals(jacobian.astype(float))).max())


def _rounded(numbers: np.ndarray) -> list[Any]:
    return [float(f"{number:.5g}") for number in np.asarray(numbers, float)]


def _observables(run: "Run", n: int) -> list[str]:
    """Of the run's circuit, see `names_of_numbers`."""
    from qdeq.errors import UserError

    try:
        strings = circuit_of(run.config, run.summary).observables.strings
    except UserError:
        strings = ()
    return names_of_numbers(strings, n)


def names_of_numbers(strings: Sequence[str], n: int) -> list[str]:
    """What the n numbers of a measured state are called, by Pauli strings; m1 ... without any.

    >>> names_of_numbers(["ZIIX"], 1), names_of_numbers([], 2)
    (['Z0 X3'], ['m1', 'm2'])
    """
    names = [
        " ".join(f"{letter}{wire}" for wire, letter in enumerate(string) if letter != "I")
        for string in strings
    ]
    return names if len(names) == n else [f"m{k + 1}" for k in range(n)]
