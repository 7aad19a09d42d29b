"""Classifier and regressor of sequences as scikit-learn estimators: a chain of circuits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from qdeq.data import Targets
from qdeq.data.inputs import label_array, target_array
from qdeq.errors import UserError
from qdeq.interop._held_out import held_out_of_classes
from qdeq.interop._sequences import SequenceEstimator, held_out
from qdeq.interop._whole import whole_or_nothing
from qdeq.training.predict import log_probabilities, probabilities


@dataclass(kw_only=True, eq=False, repr=False)
class QDEQSequenceClassifier(ClassifierMixin, SequenceEstimator):
    """Classifies sequences, or every site of them, by a chain of circuits at equilibrium.

    At every site the same circuit reads that row of the sequence and what its neighbours measured;
    a linear head reads the last site, the mean of all, or each. Channels are scaled inside. Gaps
    (NaN) are filled with the number before them, and a column marks them where the training
    sequences have some. What has been trained on one length classifies any other.

    Parameters
    ----------
    n_qubits, ansatz_layers
        Of the circuit, hardware-efficient; it reads two angles a qubit and measures X, Y and Z of
        each.
    gain
        Two-norm of the messages along the chain at first.
    mode
        `"implicit"`: the equilibrium. `"direct"`: the map applied `layers` times.
    layers
        Applications in mode `"direct"`: a site then hears so many rows, and no more.
    epochs, batch_size
        Passes over the training part, and sequences per step. None: as many as make about 1,200
        steps, from 30 to 300.
    learning_rate, schedule
        Step size of Adam, `"constant"` or falling along a `"cosine"`.
    gradient_clip
        Gradients longer than it are scaled down to it, 0: never.
    early_stopping, patience
        End when the validation loss has not fallen for `patience` epochs. The model of the best
        epoch is kept in any case.
    valid_fraction
        Part of the sequences (of every class) that is held out of training.
    verbose
        1: ten lines a fit; 2: one for every epoch.
    random_state
        Seed of the initial parameters, the validation split and the order of batches.
    layout
        `"time-first"`: sequences `(N, T, d)`; `"channels-first"`: `(N, d, T)`, sktime's numpy3D.
    direction
        `"causal"`: a site hears the one before it; `"both"`: also the one after it, with messages
        bounded so that there is one equilibrium.
    read_out
        `"last"` or `"mean"`: a label per sequence; `"sites"`: a label per site.

    Attributes
    ----------
    classes_
        `(C,)` sorted labels.
    n_features_in_, feature_names_in_
        d; and the names of their columns, where sequences are frames.
    network_
        The trained `qdeq.Network`.
    preparation_
        How channels were scaled, a `qdeq.data.SeriesPreparation`.
    history_, n_iter_
        One dict per epoch, and how many there were.

    Raises
    ------
    UserError
        A `ValueError`, in `fit` and `predict`, for parameters out of range, sequences that do not
        fit together, frames with other columns than in `fit`, infinities, a channel without a
        number, or a single class.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rising = rng.integers(0, 2, 60)
    >>> x = np.where(rising, 1, -1)[:, None] * np.linspace(-1, 1, 8)
    >>> classifier = QDEQSequenceClassifier(epochs=10, random_state=0).fit(x, rising)
    >>> bool(classifier.score(x, rising) > 0.9)
    True
    """

    @whole_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X
            `(N, T, d)` (see `layout`), of one channel also `(N, T)`; or a list of arrays `(T_i, d)`
            or `(T_i,)` of any lengths. Frames have the same columns here and later.
        y
            `(N,)` labels; with `read_out="sites"` `(N, T)`, or a list of arrays `(T_i,)`.
        sample_weight
            `(N,)` numbers of at least 0: how much each sequence counts.
        """
        seed = self._begin()
        parts, labels, weights = self._given(X, y, sample_weight, "a label")
        if self.read_out == "sites":
            every = [label_array(one, f"y[{i}]") for i, one in enumerate(labels)]
        else:
            if all(np.shape(one) == (1,) for one in labels):
                labels = column_or_1d(labels, warn=True)
            if all(isinstance(one, float) and math.isfinite(one) for one in labels):
                check_classification_targets(labels)  # its words for fractions are the usual ones
            every = [label_array(labels, "y")]
        flat = np.concatenate(every)
        check_classification_targets(flat)
        self.classes_, counted = np.unique(flat, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(
                f"y holds 1 class ({self.classes_[0]}): a classifier needs samples of at least two"
            )
        numbers = counted.astype(np.int32)
        if self.read_out == "sites":
            y = np.split(numbers, np.cumsum([len(one) for one in every])[:-1])
            valid = held_out(len(parts), self.valid_fraction, seed)
        else:
            y = list(numbers)
            valid = held_out_of_classes(numbers, self.valid_fraction, seed)
        return self._fit(parts, y, weights, valid, len(self.classes_), "cross-entropy", seed)

    def decision_function(self, X: Any) -> Any:
        """Class scores before the softmax, `(N, C)`, of sites `(N, T, C)` or a list.

        With two classes `(N,)`, the second's score minus the first's.
        """
        scores, _, lengths, as_list = self._read(X)
        if len(self.classes_) == 2:
            scores = scores[..., 1] - scores[..., 0]
        return self._shaped(scores, lengths, as_list)

    def predict_proba(self, X: Any) -> Any:
        """Class probabilities `(N, C)`, of sites `(N, T, C)` or a list; columns as `classes_`."""
        return self._chances(X, probabilities)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of what `predict_proba` returns, finite however small it is."""
        return self._chances(X, log_probabilities)

    def _chances(self, X: Any, softmax: Callable[[np.ndarray], np.ndarray]) -> Any:
        scores, _, lengths, as_list = self._read(X)
        flat = softmax(scores.reshape(-1, scores.shape[-1]))
        return self._shaped(flat.reshape(scores.shape), lengths, as_list)

    def predict(self, X: Any) -> Any:
        """Most probable labels `(N,)`, of sites `(N, T)`, or a list where `X` is one."""
        scores, _, lengths, as_list = self._read(X)
        return self._shaped(self.classes_[np.argmax(scores, axis=-1)], lengths, as_list)

    def _in_words(self, outputs: np.ndarray) -> list[str]:
        return [str(label) for label in self.classes_[np.argmax(outputs, axis=-1)]]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy over sequences, over all their sites with `read_out="sites"`."""
        said, weights = self._true(X, y, sample_weight, "a label")
        found, true = self.predict(X), said
        if self._of_sites:
            found = np.concatenate(list(found))
            true = np.concatenate([label_array(one, f"y[{i}]") for i, one in enumerate(said)])
        return float(accuracy_score(true, found, sample_weight=weights))


@dataclass(kw_only=True, eq=False, repr=False)
class QDEQSequenceRegressor(RegressorMixin, MultiOutputMixin, SequenceEstimator):
    """Numbers from sequences, or from every site of them, by a chain of circuits at equilibrium.

    As `QDEQSequenceClassifier`, whose parameters it has. Targets are standardised in `fit`, and
    predictions come in their own units.

    Attributes
    ----------
    targets_
        The scale of the targets, a `qdeq.data.Targets`.
    n_features_in_, feature_names_in_, network_, preparation_, history_, n_iter_
        As in `QDEQSequenceClassifier`.
    """

    @whole_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X
            As in `QDEQSequenceClassifier.fit`.
        y
            `(N,)` or `(N, K)` real numbers; with `read_out="sites"` `(N, T)` or `(N, T, K)`, or a
            list of arrays `(T_i,)` or `(T_i, K)`.
        sample_weight
            `(N,)` numbers of at least 0: how much each sequence counts.
        """
        seed = self._begin()
        parts, given, weights = self._given(X, y, sample_weight, "a number")
        if self.read_out == "sites":
            every = [target_array(one, f"y[{i}]") for i, one in enumerate(given)]
            self._is_flat = np.ndim(given[0]) == 1
        else:
            every = [target_array(given, "y")]
            self._is_flat = np.ndim(given[0]) == 0
        _check_widths(every)
        valid = held_out(len(parts), self.valid_fraction, seed)
        # Of sites: one of a sequence makes the scale as much as the sequence counts.
        lengths = [len(one) for one in every] if self.read_out == "sites" else 1
        learn = np.repeat(~valid, lengths)
        counts = None if weights is None else np.repeat(weights, lengths)[learn]
        self.targets_ = Targets.of(np.concatenate(every)[learn], weight=counts)
        targets = [self.targets_.scaled(one) for one in every]
        if self.read_out != "sites":
            targets = list(targets[0])
        n_outputs = len(self.targets_.names)
        return self._fit(parts, targets, weights, valid, n_outputs, "squared", seed)

    def predict(self, X: Any) -> Any:
        """Targets in their own units, in the shape that `fit` was given."""
        outputs, _, lengths, as_list = self._read(X)
        restored = self.targets_.restored(outputs)
        restored = restored[..., 0] if self._is_flat else restored
        return self._shaped(restored, lengths, as_list)

    def _in_words(self, outputs: np.ndarray) -> list[str]:
        return [", ".join(f"{y:.4g}" for y in row) for row in self.targets_.restored(outputs)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² over sequences, over all their sites with `read_out="sites"`."""
        said, weights = self._true(X, y, sample_weight, "a number")
        found, true = self.predict(X), said
        if self._of_sites:
            found = np.concatenate(list(found))
            every = [target_array(one, f"y[{i}]") for i, one in enumerate(said)]
            _check_widths(every, len(self.targets_.names))
            true = np.concatenate(every)
        return float(r2_score(true, found, sample_weight=weights))


def _check_widths(every: list[np.ndarray], n_targets: int | None = None) -> None:
    """As many targets everywhere, and as many as were fitted."""
    widths = {one.shape[1] for one in every}
    if len(widths) > 1:
        raise UserError(
            f"y holds {' and '.join(map(str, sorted(widths)))} targets: give as many everywhere"
        )
    if n_targets is not None and widths != {n_targets}:
        raise UserError(f"y holds {widths.pop()} targets where {n_targets} were fitted: give those")
