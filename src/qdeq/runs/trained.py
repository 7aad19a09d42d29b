"""A run as an object: the trained model with what it is good for, loaded from its folder."""

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qdeq.data import DATASETS, ImageComponents, TablePreparation, Targets
from qdeq.data.frames import is_frame
from qdeq.data.image_files import ImageRows, check_image_array
from qdeq.data.inputs import cast_features, real_array
from qdeq.equilibrium import Direct, Equilibrium, Solution
from qdeq.errors import UserError
from qdeq.models import ModelFunction, Prediction, Predictor
from qdeq.names import Task
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.session import check_model_given
from qdeq.runs.summary import Summary
from qdeq.runs.unseen import UnseenValues
from qdeq.training.config import TrainConfig
from qdeq.training.layer import layer_of
from qdeq.training.predict import predict, probabilities
from qdeq.training.state import ModelMaker, untrained

_IMAGES_AT_ONCE = 1024  # a few MB each way, and whole programs of `qdeq.training.predict`


@dataclass(frozen=True)
class Run:
    """What `qdeq.train` wrote; made by it and by `qdeq.load`.

    Of many seeds the model of the highest validation score predicts (of several the first);
    `of_seed` gives any.

    Attributes
    ----------
    folder
        The run folder.
    model
        The model function (or what makes it), of a run that was given one; its values are replaced.
    given
        A configuration with the objects that the run was given in Python.

    Examples
    --------
    >>> import qdeq
    >>> run = qdeq.load("runs/digits")  # doctest: +SKIP
    >>> run.predict(x), run.solve(x).stats.converged  # doctest: +SKIP
    """

    folder: RunFolder
    model: ModelFunction | ModelMaker | None = None
    given: TrainConfig | None = None

    @property
    def path(self) -> Path:
        """Of the run folder."""
        return self.folder.path

    @functools.cached_property
    def config(self) -> TrainConfig:
        """What was trained."""
        return self.folder.read_config().given_again(self.given)

    @functools.cached_property
    def seeds(self) -> list[int]:
        """Its seeds."""
        return self.folder.read_seeds()

    @functools.cached_property
    def summary(self) -> Summary:
        """What `summary.json` holds."""
        return self.folder.read_summary()

    @functools.cached_property
    def summaries(self) -> list[Summary]:
        """Of every seed, in the order of the seeds."""
        return [folder.read_summary() for folder in self.folder.seed_folders()]

    def of_seed(self, seed: int) -> "Run":
        """The run of one seed.

        Raises
        ------
        UserError
            If the run has no such seed.
        """
        if seed not in self.seeds:
            raise UserError(f"seed={seed}: the run has the seeds {self.seeds}; name one of them")
        return replace(self, folder=self.folder.seed_folders()[self.seeds.index(seed)])

    @functools.cached_property
    def best(self) -> "Run":
        """The seed of the highest validation score; itself with one seed."""
        if not self.folder.has_many_seeds:
            return self
        scores = [getattr(summary, f"valid_{summary.score}") for summary in self.summaries]
        scores = np.where(np.isnan(scores), -np.inf, scores)  # argmax would choose NaN
        return self.of_seed(self.seeds[int(np.argmax(scores))])

    @functools.cached_property
    def classifier(self) -> Predictor:
        """The trained model."""
        if self.best is not self:
            return self.best.classifier
        targets = self.targets
        task: Task = "classification" if targets is None else "regression"
        n_outputs = len(self.summary.classes) if targets is None else len(targets.names)
        sizes = self.summary.n_features, n_outputs
        return self.folder.load_model(untrained(self.config, *sizes, self.model, task=task))

    @functools.cached_property
    def preparation(self) -> TablePreparation | None:
        """How the rows of a table become features; None of a run that was trained on features."""
        return self.folder.read_preparation()

    @functools.cached_property
    def image_components(self) -> ImageComponents | None:
        """The principal components that images become; None of a run on other features."""
        return self.folder.read_image_components()

    @functools.cached_property
    def targets(self) -> Targets | None:
        """What a regression predicts; None of a classification."""
        return self.folder.read_targets()

    @property
    def layer(self) -> Equilibrium | Direct:
        """How its measured states are found."""
        return layer_of(self.config)

    def predict(self, x: Any, *, prepared: bool = False) -> np.ndarray:
        """The most probable labels `(N,)` as the data set names them; targets in their own units.

        Parameters
        ----------
        x
            Of a run that was trained on a table a frame (of pandas, Arrow, polars) or a mapping
            with its columns, in any order; texts that training did not have cost a warning. Of
            one that was trained on images also these, `(N, H, W)` or `(N, H, W, 3)`, as bytes or
            as numbers from 0 to 1. Of any other run features `(N, d)`.
        prepared
            Whether `x` is features `(N, d)` as the model takes them, such as those that
            `run.preparation.transform` makes of a frame.

        Returns
        -------
        np.ndarray
            `(N,)`; of a regression of several targets `(N, T)`.

        Raises
        ------
        UserError
            If a column is missing, or a number is none.
        """
        return self.answers(self.predictions(x, prepared=prepared))

    def predict_proba(self, x: Any, *, prepared: bool = False) -> np.ndarray:
        """Class probabilities `(N, C)`, columns in the order of `summary.classes`."""
        if self.targets is not None:
            raise UserError("predict_proba: a regression has no classes; call predict")
        return probabilities(self.predictions(x, prepared=prepared).outputs)

    def solve(self, x: Any, *, prepared: bool = False) -> Solution:
        """The measured states `(N, q)` behind the predictions, and how well each was solved."""
        return self.predictions(x, prepared=prepared).solution

    def answers(self, predictions: Prediction) -> np.ndarray:
        """Labels, or targets in their own units, of what `predictions` returned."""
        if self.targets is None:
            return np.asarray(self.summary.classes)[np.argmax(predictions.outputs, axis=1)]
        restored = self.targets.restored(np.asarray(predictions.outputs))
        return restored[:, 0] if len(self.targets.names) == 1 else restored

    def predictions(self, x: Any, *, prepared: bool = False) -> Prediction:
        """What the model says of samples, as `predict` takes them: scores and measured states."""
        features = cast_features(x, name="x") if prepared else self._features(x)
        expected = self.summary.n_features
        if features.shape[1] != expected or not len(features):
            raise UserError(
                f"x has shape {features.shape}: the model takes (N, {expected}) features, N at "
                "least 1"
            )
        return predict(self.classifier, self.config, features)

    def _features(self, x: Any) -> np.ndarray:
        """Features `(N, d)` of what a user has: rows of a table, images, or features."""
        if self.preparation is not None:
            if not is_frame(x):
                # Its columns might be raw numbers: taken for features they give answers that look
                # like any others.
                warnings.warn(
                    f"x is a {type(x).__name__} without names of columns, and is taken for "
                    "features that are prepared already: give a frame with the columns that the "
                    "run was trained on, or say prepared=True",
                    stacklevel=4,
                )
                return cast_features(x, name="x")
            features = self.preparation.transform(x, name="x")
            unseen = UnseenValues(self.preparation)
            unseen.add(self.preparation.unseen(x))
            for note in unseen.notes():
                warnings.warn(f"x: {note}", stacklevel=4)  # where predict or solve was called
            return features
        if self.takes_images and not is_frame(x):
            array = real_array(x, "x")
            if array.ndim != 2:
                check_image_array(array, "x")
                parts = self.parts_of_images(ImageRows(Path("x"), None, array))
                return np.concatenate([features for _, features in parts])
        return cast_features(x, name="x")

    @property
    def takes_images(self) -> bool:
        """Whether it knows how images become its features: pooled pixels, or their components."""
        if self.preparation is not None:
            return False
        return self.image_components is not None or pools_images(self.config)

    def parts_of_images(self, images: ImageRows) -> Iterator[tuple[slice, np.ndarray]]:
        """Features as in training, `(n, d)`, of a number of images at a time, and of which."""
        components, named = self.image_components, DATASETS.get(self.config.data)
        n_pixels = self.summary.n_features if components is None else components.side**2
        resize = None if named is None else named.resize
        for start in range(0, images.n_rows, _IMAGES_AT_ONCE):
            stop = min(start + _IMAGES_AT_ONCE, images.n_rows)
            x = images.features(start, stop, n_pixels, resize=resize)
            yield slice(start, stop), x if components is None else components(x)


def pools_images(config: TrainConfig) -> bool:
    """Whether features are pooled pixels: of a folder or arrays of one's own, or of a named set."""
    return config.features == "pool" and (config.is_file or config.data in DATASETS)


def load(
    run: str | Path,
    *,
    model: ModelFunction | ModelMaker | None = None,
    config: TrainConfig | None = None,
) -> Run:
    """Load a run that `qdeq.train` or `qdeq train` wrote, of one seed or many.

    Parameters
    ----------
    run
        A run folder.
    model
        The model function again (or what makes it), of a run that was given one.
    config
        A configuration with the same objects (`TrainConfig(solver=...)`), of a run whose
        configuration held any.

    Raises
    ------
    UserError
        When there is no run in the folder, it is of a newer version, or it needs its model.
    """
    folder = RunFolder.open(run)
    given = folder.read_config().given_again(config)
    check_model_given(given, model)
    return Run(folder, model, given)
