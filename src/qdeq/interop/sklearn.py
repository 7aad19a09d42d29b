"""The classifier as a scikit-learn estimator.

Only the translation lives here: estimator parameters to `TrainConfig`, arrays to a `Dataset`,
classes to labels. What is computed is the training loop's, epoch by epoch.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from qdeq.circuits import Circuit, Encoding, MeasurementEnsemble, NoiseModel
from qdeq.data import Dataset, Split
from qdeq.data.inputs import cast_features
from qdeq.data.splits import stratified_indices
from qdeq.equilibrium import AbstractDerivative, Solution
from qdeq.equilibrium.solver import Solver
from qdeq.errors import UserError
from qdeq.interop._parameters import check_parameters, constraints
from qdeq.models import ModelFunction, Prediction
from qdeq.names import OWN_MODEL
from qdeq.training.config import TrainConfig
from qdeq.training.divergence import divergence
from qdeq.training.loop import ModelMaker, Trainer, only
from qdeq.training.options import ModelOptions
from qdeq.training.predict import predict, probabilities

_DEFAULT = ModelOptions()


@dataclass(kw_only=True, eq=False, repr=False)
class QDEQClassifier(ClassifierMixin, BaseEstimator):
    """Quantum deep equilibrium classifier.

    Features enter a circuit, the measured state that the circuit maps to itself is found, and a
    linear layer on it gives the class scores. Defaults are the paper's; on a few hundred samples a
    larger `learning_rate` and a smaller `batch_size` take far fewer epochs.

    Features are taken as they are: put a `StandardScaler` in front in a `Pipeline`. Amplitude
    encoding sees the direction of x + R m, where |m_i| <= 1, so features near 1 in size balance
    input and feedback. The head sees as many numbers as there are features: with two or three,
    add some (products, say) first.

    Parameters
    ----------
    model
        A model function of your own (`qdeq.ModelFunction`), or what makes one from a JAX key; None:
        a circuit, by the parameters from `n_qubits` to `noise`.
    n_qubits
        Qubits. None: the fewest that hold the features and that the circuit and the head allow.
        Amplitude encoding holds up to 2**n_qubits features, angle encoding exactly n_qubits**2.
    encoding
        `"amplitude"`, `"angle"`, or an encoding object.
    ansatz
        `"paper"` and `"paper-unentangled"` (4 qubits or more), `"hardware-efficient"` or
        `"strongly-entangling"` (2 or more); or a `qdeq.Circuit`.
    ansatz_layers
        Layers of the last two names.
    observables
        What is measured: `"z"` of every wire, `"z-pairs"` as well, `"xyz"` of every wire, or a
        `qdeq.MeasurementEnsemble`.
    trainable
        `"all"` angles, or only those of the `"published"` code.
    method
        How expectation values are computed; `"auto"` picks the cheapest exact way.
    noise
        Of the device that is trained for, such as `"depolarising=0.01,readout=0.02"` or a
        `qdeq.NoiseModel`, simulated exactly; `""` for none.
    head
        `"linear"`, or `"none"`: the first measured values are the scores.
    mode
        `"implicit"`: the equilibrium. `"direct"`: the circuit applied `layers` times.
    layers
        Applications in mode `"direct"`.
    warmup_epochs, warmup_layers
        First epochs of mode `"implicit"` that apply the circuit `warmup_layers` times instead.
    epochs, batch_size, learning_rate, gradient_clip
        Of Adam; gradients longer than `gradient_clip` are scaled down to it, 0: never.
    dropout
        Probability that a number of the re-injected state is hidden from the head in training.
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
    valid_fraction
        Part of every class that is held out of training; the model of the epoch with the lowest
        loss on it is kept.
    random_state
        Seed of the initial angles, the validation split, the order of the batches and dropout. An
        integer is used as `qdeq train --seed` uses it; with None every fit differs.

    Attributes
    ----------
    classes_
        `(C,)` sorted labels.
    n_features_in_
        d.
    n_qubits_
        Qubits of the circuit; None of a model function that has none.
    classifier_
        The trained `qdeq.Classifier`; `classifier_.model` is the model function.
    config_
        The `TrainConfig` of the fit.
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
    >>> classifier = qdeq.QDEQClassifier(
    ...     n_qubits=4, ansatz="hardware-efficient", ansatz_layers=2, jacobian_weight=0.1,
    ...     epochs=20, batch_size=32, learning_rate=0.1, gradient_clip=1.0, random_state=0,
    ... )
    >>> pipeline = make_pipeline(StandardScaler(), classifier).fit(x, y)
    >>> bool(pipeline.score(x, y) > 0.8)
    True
    """

    model: ModelFunction | ModelMaker | None = None
    n_qubits: int | None = None
    encoding: str | Encoding = "amplitude"
    ansatz: str | Circuit = "paper"
    ansatz_layers: int = 3
    observables: str | MeasurementEnsemble = "z"
    trainable: str = "all"
    method: str = "auto"
    noise: str | NoiseModel = ""
    head: str = "linear"
    mode: str = "implicit"
    layers: int = 1
    warmup_epochs: int = 0
    warmup_layers: int = 5
    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 0.005
    gradient_clip: float = 0.25
    dropout: float = 0.05
    jacobian_weight: float = 0.8
    solver: str | Solver = "broyden"
    fallback: str | Solver = "homotopy"
    start: str = "zero"
    adjoint: str | AbstractDerivative = "implicit"
    max_steps: int = 30
    tolerance: float = 1e-5
    random_steps_minus: int = 0
    valid_fraction: float = 0.2
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict[str, Any]]

    def fit(self, X: Any, y: Any) -> "QDEQClassifier":
        """Train from random angles.

        Parameters
        ----------
        X
            `(N, d)` real features.
        y
            `(N,)` labels, numbers or strings.

        Returns
        -------
        QDEQClassifier
            Itself.
        """
        X, y = validate_data(self, X, y, ensure_all_finite=False)
        X = _finite(X, self)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, counted = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(
                f"y holds 1 class ({self.classes_[0]}): a classifier needs samples of at least two"
            )
        config = self._config(X.shape[1], len(self.classes_))
        dataset = _dataset(X, counted.astype(np.int32), config)
        trainer = Trainer(config, dataset, model=self.model)
        states = trainer.init_seeds([config.seed])
        self.history_ = []
        for _ in range(config.epochs):
            states, (metrics,) = trainer.run_epoch_seeds(states)
            self.history_.append(metrics)
            why = divergence(metrics, config)
            if why and not np.isfinite(np.asarray(states.best_valid_loss)).all():
                raise UserError(why)
            if why:
                warnings.warn(
                    f"{why}. The model with the lowest validation loss before it is kept.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
                break
        self.classifier_ = only(states.best_classifier)
        self.config_ = config
        circuit = getattr(self.classifier_.model, "circuit", None)
        self.n_qubits_ = getattr(circuit, "n_qubits", None)
        self.n_iter_ = len(self.history_)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Class scores before the softmax.

        Parameters
        ----------
        X
            `(N, d)` features.

        Returns
        -------
        ndarray
            `(N, C)`; with two classes `(N,)`, the second's score minus the first's.
        """
        logits = np.asarray(self._predictions(X).logits)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities `(N, C)`, columns as in `classes_`."""
        return probabilities(self._predictions(X).logits)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable labels `(N,)`."""
        logits = self._predictions(X).logits
        return self.classes_[np.argmax(logits, axis=1)]

    def equilibria(self, X: Any) -> Solution:
        """The measured states behind the predictions, and how well each was solved.

        Parameters
        ----------
        X
            `(N, d)` features.

        Returns
        -------
        Solution
            `value` is m* `(N, q)`; `stats` has a leading axis N: `converged`, `residual`, `steps`.
        """
        return self._predictions(X).solution

    def _config(self, n_features: int, n_classes: int) -> TrainConfig:
        values = self.get_params(deep=False)
        check_parameters(self._parameter_constraints, values, type(self).__name__)
        model, random_state = values.pop("model"), values.pop("random_state")
        if isinstance(random_state, Integral):
            seed = int(random_state)
        else:
            seed = int(check_random_state(random_state).randint(2**31))
        config = TrainConfig(**values, seed=seed)
        if model is not None:
            return _with_model(config, model)
        if config.given_n_qubits is not None:
            return config
        return config.replace(n_qubits=_fewest_qubits(config, n_features, n_classes))

    def _predictions(self, X: Any) -> Prediction:
        check_is_fitted(self)
        X = _finite(validate_data(self, X, ensure_all_finite=False, reset=False), self)
        return predict(self.classifier_, self.config_, X)


QDEQClassifier._parameter_constraints = {
    **constraints(set(QDEQClassifier().get_params()) - {"model", "random_state"}),
    "model": [ModelFunction, callable, None],
    "random_state": ["random_state"],
}


def _finite(x: Any, estimator: BaseEstimator) -> np.ndarray:
    """Features in the model's type; the error names row and column, as scikit-learn's does not."""
    name = "Input X contains NaN, infinity or a number beyond float32"
    return cast_features(x, name=name, columns=getattr(estimator, "feature_names_in_", None))


def _with_model(config: TrainConfig, model: Any) -> TrainConfig:
    """The configuration of a model function of one's own, which has a circuit or needs none."""
    others = {field.name for field in dataclasses.fields(ModelOptions)} - {"head"}
    given = [name for name in sorted(others) if getattr(config, name) != getattr(_DEFAULT, name)]
    if given:
        raise UserError(
            f"model={type(model).__name__} with {', '.join(given)}: a model function is given with "
            "all that it consists of; leave one of them out"
        )
    return config.replace(ansatz=OWN_MODEL)


def _fewest_qubits(config: TrainConfig, n_features: int, n_classes: int) -> int:
    fewest = 4 if config.is_published else 2
    if config.head == "none":
        fewest = max(fewest, n_classes)
    if config.encoding == "amplitude":
        return max(fewest, (n_features - 1).bit_length())
    side = round(n_features**0.5)
    if side**2 != n_features or side < fewest:
        raise UserError(
            f"encoding='angle' with {n_features} features: it takes n * n features on n qubits, "
            f"here with n of at least {fewest}; choose or compute such features, or take "
            "encoding='amplitude'"
        )
    return side


def _dataset(x: np.ndarray, y: np.ndarray, config: TrainConfig) -> Dataset:
    """Training and validation part, stratified; a class with one sample only trains.

    `qdeq.data.from_arrays` draws its split without looking at the classes and refuses one that
    leaves a class out, which the small folds of a cross-validation often would.
    """
    repeated = np.flatnonzero(np.bincount(y)[y] > 1)
    if not len(repeated):
        raise UserError(
            f"{len(y)} samples, each the only one of its class: give at least two samples of a "
            "class, one of which can validate"
        )
    _, held_out = stratified_indices(y[repeated], fraction=config.valid_fraction, seed=config.seed)
    valid = np.zeros(len(y), dtype=bool)
    valid[repeated[held_out]] = True
    # However large the fraction, one sample of every class trains.
    _, firsts = np.unique(y, return_index=True)
    valid[firsts[np.bincount(y[~valid], minlength=len(firsts)) == 0]] = False
    parts = Split(x[~valid], y[~valid]), Split(x[valid], y[valid])
    classes = tuple(range(int(y.max()) + 1))
    return Dataset("custom", *parts, parts[1], classes=classes, image_shape=(1, x.shape[1]))
