"""Classifier and regressor as scikit-learn estimators; what they share is `_estimator.py`."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from qdeq.data import Dataset, Split, Targets
from qdeq.data.inputs import check_no_label_missing, target_array, weight_array
from qdeq.data.splits import scaled_regression, train_valid_indices
from qdeq.errors import UserError
from qdeq.interop._estimator import (
    Estimator,
    parameter_constraints,
    sample_weights,
    that_count,
)
from qdeq.interop._held_out import held_out_of_classes
from qdeq.interop._whole import whole_or_nothing
from qdeq.models import Predictor
from qdeq.training.predict import log_probabilities, probabilities


@dataclass(kw_only=True, eq=False, repr=False)
class QDEQClassifier(ClassifierMixin, Estimator):
    """Quantum deep equilibrium classifier.

    Features enter a circuit, the measured state that the circuit maps to itself is found, and a
    linear layer on it gives the class scores. By default a learned linear map turns any number of
    features into rotation angles, and sizes and settings follow from the shape of the data; put a
    `StandardScaler` in front in a `Pipeline`. Images become 16 principal components on 4 qubits for
    up to four classes, 100 on 10 qubits for more, and are trained as the preset `"best"` does;
    smaller ones, and with `preset="paper"` all, become so many pooled pixels.

    Parameters
    ----------
    preset
        Where the values of the parameters come from that are None: `"table"`, rules for the shape
        of the data (`qdeq.training.recommended`), of images those of `"best"`; or a named
        configuration of `qdeq train`: `"best"`, `"paper"`, `"demo"` or `"published"`.
    model
        A model function of your own (`qdeq.ModelFunction`), or what makes one from a JAX key; None:
        a circuit, by the parameters from `n_qubits` to `noise`.
    n_qubits
        Qubits. Amplitude encoding holds up to 2**n_qubits features, angle encoding exactly
        n_qubits**2, encoding `"table"` any number.
    encoding
        `"table"`: a learned linear map of the features to `rotations` angles a wire, `uploads`
        times; `"amplitude"`, `"angle"`, or an encoding object.
    rotations, uploads
        Of encoding `"table"`: see `qdeq.table_circuit`.
    ansatz
        `"paper"` and `"paper-unentangled"` (4 qubits or more), `"hardware-efficient"` or
        `"strongly-entangling"` (2 or more); a `qdeq.Circuit`, or a circuit of Qiskit or PennyLane.
    ansatz_layers
        Layers of the last two names.
    observables
        What is measured: `"z"` of every wire, also products of two (`"z-pairs"`) or of any number
        of them (`"z-strings"`), `"xyz"` of every wire, or a `qdeq.MeasurementEnsemble`.
    trainable
        `"all"` angles, or only those of the `"published"` code.
    method
        How expectation values are computed; `"auto"` picks the cheapest exact way.
    noise
        Of the device that is trained for, such as `"depolarising=0.01,readout=0.02"` or a
        `qdeq.NoiseModel`, simulated exactly; `""` for none.
    max_contraction
        Feedback is held so small that every equilibrium is proven to be the only one and iteration
        contracts by at least this factor; below 1, None: not bounded.
    head
        `"linear"`, on the positive parts of what is measured; `"affine"`, on all of it; or
        `"none"`: the first measured values are the outputs.
    mode
        `"implicit"`: the equilibrium. `"direct"`: the circuit applied `layers` times.
    layers
        Applications in mode `"direct"`.
    warmup_epochs, warmup_layers
        First epochs of mode `"implicit"` that apply the circuit `warmup_layers` times instead.
    epochs, batch_size
        Passes over the training part, and samples per step.
    learning_rate, optimiser, schedule
        Step size, an optimiser of Optax by name or as an object (with a step size of its own), and
        whether the step size is `"constant"` or falls along a `"cosine"`.
    weight_decay
        By how much, times the step size, every step shrinks learned matrices.
    gradient_clip
        Gradients longer than it are scaled down to it, 0: never.
    dropout
        Probability that a number of what the head sees is hidden from it in training.
    loss
        `"auto"`: cross-entropy, or the squared error of a regression, which may be `"absolute"`.
    jacobian_weight
        Weight of the Jacobian penalty that keeps the equilibrium contractive. 0: none.
    solver, adjoint
        Names in `qdeq.equilibrium.SOLVERS` and `qdeq.equilibrium.ADJOINTS`, or objects such as
        `qdeq.Anderson(history=3)`, with tolerances of their own.
    fallback
        What solves the samples that the solver leaves over: `"homotopy"`, `"none"` or a solver.
    start
        Where the solver starts in training: `"zero"`, or `"previous"`, the sample's equilibrium of
        the epoch before.
    max_steps, tolerance
        Most solver steps per sample, and the residual at which a sample is solved.
    random_steps_minus
        In training, up to this many steps fewer, drawn anew for every batch.
    early_stopping, patience
        End when the validation loss has not fallen for `patience` epochs; `early_stopping` alone
        takes 20. The model of the best epoch is kept in any case.
    valid_fraction
        Part of every class (of a regression's samples) that is held out of training; the model of
        the epoch with the lowest loss on it is kept.
    warm_start
        Whether a second fit goes on from the model of the first.
    verbose
        1: lines while compiling and training; 2: one for every epoch.
    random_state
        Seed of the initial angles, the validation split, the order of the batches and dropout. An
        integer is used as `qdeq train --seed` uses it; with None every fit differs.
    class_weight
        `"balanced"`, or how much the samples of each class count.

    Attributes
    ----------
    classes_
        `(C,)` sorted labels.
    n_features_in_
        d, of images the number of components or pooled pixels.
    images_
        How images become features; None of features.
    n_qubits_, encoding_
        What was chosen; None of a model function that has no circuit.
    predictor_
        The trained `qdeq.Classifier`; `predictor_.model` is the model function.
    config_
        The `TrainConfig` of the fit, with every choice.
    history_
        One dict per epoch: losses, accuracies, residuals, converged fraction, solver steps.
    n_iter_
        Epochs trained.

    Raises
    ------
    UserError
        A `ValueError`, in `fit`, for parameters out of range (scikit-learn's
        `InvalidParameterError` as well), sizes that do not fit together, a single class, features
        that are not finite in float32, or a loss that is not finite in the first epoch. If that
        happens in a later one, `fit` ends with a `ConvergenceWarning` and the best model so far.

    Notes
    -----
    Compiling takes seconds, once: a process keeps what it has compiled, and the user's cache folder
    keeps it for the next one (`QDEQ_CACHE=off`: it does not). `learning_rate`, `gradient_clip`,
    `dropout`, `jacobian_weight`, `tolerance`, `epochs`, `random_state` and the number of samples
    are no part of a program, so a grid over them and the folds of a cross-validation share one
    (a `jacobian_weight` of 0 has its own, in which nothing of the penalty is computed).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import qdeq
    >>> x, y = load_iris(return_X_y=True)
    >>> classifier = qdeq.QDEQClassifier(epochs=20, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), classifier).fit(x, y)
    >>> bool(pipeline.score(x, y) > 0.9)
    True
    """

    class_weight: dict[Any, float] | str | None = None

    _parameter_constraints: ClassVar[dict[str, Any]]

    @whole_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X
            `(N, d)` real features; or images `(N, H, W)` or `(N, H, W, 3)`, bytes or numbers from 0
            for black to 1 or to the brightest pixel.
        y
            `(N,)` labels, numbers or strings.
        sample_weight
            `(N,)` numbers of at least 0: how much each sample counts.

        Returns
        -------
        QDEQClassifier
            Itself.
        """
        seed, begins = self._begin(), not self._goes_on
        X, y = self._checked(X, y, reset=begins)
        check_classification_targets(y)
        X, y, weights = that_count(X, y, sample_weights(sample_weight, X))
        classes, counted = np.unique(y, return_inverse=True)
        _check_several(classes)
        if not begins and not np.array_equal(classes, self.classes_):
            raise UserError(
                f"y holds the classes {classes.tolist()} and the model goes on from one of "
                f"{self.classes_.tolist()}: give samples of all of these and of no others, or "
                "begin anew with warm_start=False"
            )
        valid = held_out_of_classes(counted, self._valid_fraction, seed)
        x = self._learned(X, ~valid, len(classes))
        samples = Split(x, counted.astype(np.int32), self._weighted(weights, y))
        self._fit(_classification(samples[~valid], samples[valid], classes))
        self.classes_ = classes
        return self

    @whole_or_nothing
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch more, on these samples alone, without a validation part.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes
            All labels that may come, in the first call; those of `y` if None. Later ones may give
            the same once more.
        """
        self._begin()
        begins = not hasattr(self, "states_")
        X, y = self._checked(X, y, reset=begins)
        X, y, weights = that_count(X, y, sample_weights(sample_weight, X))
        if begins:
            check_classification_targets(y)
            self.classes_ = np.unique(y if classes is None else classes)
            _check_several(self.classes_)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise UserError(
                f"classes={np.unique(classes).tolist()} and they were {self.classes_.tolist()} in "
                "the first call: give the same in every call, or begin anew with a new estimator"
            )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise UserError(
                f"y holds {unknown.tolist()[0]!r}, which is not among the classes "
                f"{self.classes_.tolist()}: give all of them as `classes` in the first call"
            )
        counted = np.searchsorted(self.classes_, y).astype(np.int32)
        x = self._learned(X, np.ones(len(X), bool), len(self.classes_))
        samples = Split(x, counted, self._weighted(weights, y))
        return self._fit_once(_classification(samples, samples, self.classes_))

    def decision_function(self, X: Any) -> np.ndarray:
        """Class scores before the softmax.

        Parameters
        ----------
        X
            `(N, d)` features, or images as in `fit`.

        Returns
        -------
        ndarray
            `(N, C)`; with two classes `(N,)`, the second's score minus the first's.
        """
        scores = np.asarray(self._predictions(X).outputs)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities `(N, C)`, columns as in `classes_`."""
        return probabilities(self._predictions(X).outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the class probabilities `(N, C)`, finite however small these are."""
        return log_probabilities(self._predictions(X).outputs)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable labels `(N,)`."""
        scores = self._predictions(X).outputs
        return self.classes_[np.argmax(scores, axis=1)]

    @property
    def classifier_(self) -> Predictor:
        """`predictor_` by the name that it has in a classifier."""
        check_is_fitted(self)
        return self.predictor_

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        if y is not None:
            check_no_label_missing(y, "y")
        X, y = self._read(X, y, reset=reset)
        return X, column_or_1d(y, warn=True)

    def _weighted(self, weights: np.ndarray | None, y: np.ndarray) -> np.ndarray | None:
        """Weights of samples times those of their classes."""
        if self.class_weight is None:
            return weights
        of_classes = compute_sample_weight(self.class_weight, y)
        product = of_classes if weights is None else of_classes * weights
        return weight_array(product, len(y), "class_weight")


QDEQClassifier._parameter_constraints = {
    **parameter_constraints(QDEQClassifier),
    "class_weight": [dict, StrOptions({"balanced"}), None],
}


@dataclass(kw_only=True, eq=False, repr=False)
class QDEQRegressor(RegressorMixin, MultiOutputMixin, Estimator):
    """Quantum deep equilibrium regressor, for one target or several.

    As `QDEQClassifier`, whose parameters it has but for `class_weight`; a linear layer on the
    measured state gives the targets. They are standardised in `fit`, and predictions come in their
    own units.

    Parameters
    ----------
    loss
        `"auto"` and `"squared"`: the squared error; `"absolute"` minds outliers less.

    Attributes
    ----------
    targets_
        The scale of the targets, a `qdeq.data.Targets`.
    n_features_in_, n_qubits_, encoding_, predictor_, config_, history_, n_iter_
        As in `QDEQClassifier`; `history_` has R2 in the place of the accuracy.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> import qdeq
    >>> x, y = make_friedman1(400, noise=0.5, random_state=0)
    >>> regressor = qdeq.QDEQRegressor(epochs=20, random_state=0).fit((x - 0.5) * 3.5, y)
    >>> bool(regressor.score((x - 0.5) * 3.5, y) > 0.8)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]]

    @whole_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X
            `(N, d)` real features, or images as `QDEQClassifier` takes them.
        y
            `(N,)` or `(N, T)` real numbers in any units.
        sample_weight
            `(N,)` numbers of at least 0: how much each sample counts.

        Returns
        -------
        QDEQRegressor
            Itself.
        """
        seed, begins = self._begin(), not self._goes_on
        X, y = self._checked(X, y, reset=begins)
        X, y, weights = that_count(X, y, sample_weights(sample_weight, X))
        if len(X) < 2:
            raise UserError(
                f"{len(X)} sample: a regressor needs at least two, one of which can validate"
            )
        kept, held_out = train_valid_indices(len(X), valid_fraction=self._valid_fraction, seed=seed)
        if not len(held_out):
            kept, held_out = kept[:-1], kept[-1:]
        elif not len(kept):
            kept, held_out = held_out[:1], held_out[1:]
        samples = Split(self._learned(X, kept, 1), y, weights)
        parts = samples[kept], samples[held_out], samples[held_out]
        # The model that is gone on from gives its outputs in the scale that it was trained in.
        known = None if begins or y.shape[1] != len(self.targets_.names) else self.targets_
        dataset = scaled_regression("custom", *parts, targets=known)
        self._fit(dataset)
        assert dataset.targets is not None
        self.targets_: Targets = dataset.targets
        return self

    @whole_or_nothing
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch more, on these samples alone, without a validation part.

        The first call decides the scale of the targets.
        """
        self._begin()
        begins = not hasattr(self, "states_")
        X, y = self._checked(X, y, reset=begins)
        X, y, weights = that_count(X, y, sample_weights(sample_weight, X))
        if begins:
            self.targets_ = Targets.of(y, weight=weights)
        if y.shape[1] != len(self.targets_.names):
            raise UserError(
                f"y has {y.shape[1]} targets and had {len(self.targets_.names)} before: give the "
                "same in every call"
            )
        x = self._learned(X, np.arange(len(X)), 1)
        samples = Split(x, self.targets_.scaled(y), weights)
        return self._fit_once(
            Dataset("custom", samples, samples, samples, (), (1, x.shape[1]), self.targets_)
        )

    def predict(self, X: Any) -> np.ndarray:
        """Targets in their own units, `(N,)`, or `(N, T)` where `fit` was given such."""
        outputs = np.asarray(self._predictions(X).outputs)
        restored = self.targets_.restored(outputs)
        return restored[:, 0] if self._is_flat else restored

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = self._read(X, y, reset=reset, multi_output=True, y_numeric=True)
        self._is_flat = y.ndim == 1
        return X, target_array(y, "y")


QDEQRegressor._parameter_constraints = parameter_constraints(QDEQRegressor)


def _check_several(classes: np.ndarray) -> None:
    if len(classes) < 2:
        raise UserError(
            f"y holds 1 class ({classes[0]}): a classifier needs samples of at least two"
        )


def _classification(train: Split, valid: Split, classes: np.ndarray) -> Dataset:
    return Dataset("custom", train, valid, valid, tuple(range(len(classes))), (1, train.x.shape[1]))
