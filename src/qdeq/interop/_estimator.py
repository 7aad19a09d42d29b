"""What the two scikit-learn estimators share: parameters, the fit, what is known afterwards.

Only the translation lives here: estimator parameters to `TrainConfig`, arrays to a `Dataset`. What
is computed is the training loop's, epoch by epoch.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from qdeq.circuits import Encoding, MeasurementEnsemble, NoiseModel
from qdeq.data import Dataset
from qdeq.data.inputs import cast_features, real_array, weight_array, without_mask
from qdeq.equilibrium import AbstractDerivative, Solution
from qdeq.equilibrium.solver import Solver
from qdeq.errors import UserError
from qdeq.interop._circuits import as_circuit
from qdeq.interop._images import ImageFeatures, are_images, image_array
from qdeq.interop._parameters import check_parameters, constraints, drawn_seed
from qdeq.models import ModelFunction, Prediction, Predictor
from qdeq.names import OWN_MODEL, SCORES, TABLE_ENCODING, TABLE_PRESET
from qdeq.training.config import PRESETS, TrainConfig
from qdeq.training.divergence import divergence
from qdeq.training.loop import Trainer, only
from qdeq.training.options import ModelOptions, OptimiserOption
from qdeq.training.predict import predict
from qdeq.training.recommended import recommended, recommended_for_images
from qdeq.training.state import ModelMaker
from qdeq.training.stopping import ends

OWN_PARAMETERS = frozenset(
    {"preset", "model", "early_stopping", "verbose", "warm_start", "random_state", "class_weight"}
)
"""Parameters that are no options of a training run."""

_MODEL_OPTIONS = frozenset(field.name for field in dataclasses.fields(ModelOptions)) - {"head"}
_PATIENCE = 20  # epochs, of `early_stopping=True`
_LEAST_SIZE, _MOST_SIZE = 0.02, 25.0  # root mean square of features that are angles


@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(BaseEstimator):
    """Parameters and fit of both; see the subclasses.

    A parameter that is an option of a training run and None is the preset's.
    """

    preset: str = TABLE_PRESET
    model: ModelFunction | ModelMaker | None = None
    n_qubits: int | None = None
    encoding: str | Encoding | None = None
    rotations: int | None = None
    uploads: int | None = None
    ansatz: Any = None
    ansatz_layers: int | None = None
    observables: str | MeasurementEnsemble | None = None
    trainable: str | None = None
    method: str | None = None
    noise: str | NoiseModel | None = None
    max_contraction: float | None = None
    head: str | None = None
    mode: str | None = None
    layers: int | None = None
    warmup_epochs: int | None = None
    warmup_layers: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimiser: OptimiserOption | None = None
    schedule: str | None = None
    weight_decay: float | None = None
    gradient_clip: float | None = None
    dropout: float | None = None
    loss: str | None = None
    jacobian_weight: float | None = None
    solver: str | Solver | None = None
    fallback: str | Solver | None = None
    start: str | None = None
    adjoint: str | AbstractDerivative | None = None
    max_steps: int | None = None
    tolerance: float | None = None
    random_steps_minus: int | None = None
    early_stopping: bool = False
    patience: int | None = None
    valid_fraction: float | None = None
    warm_start: bool = False
    verbose: int = 0
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict[str, Any]]

    def equilibria(self, X: Any) -> Solution:
        """The measured states behind the predictions, and how well each was solved.

        Parameters
        ----------
        X
            `(N, d)` features, or images as in `fit`.

        Returns
        -------
        Solution
            `value` is m* `(N, q)`; `stats` has a leading axis N: `converged`, `residual`, `steps`.
        """
        return self._predictions(X).solution

    def _fit(self, dataset: Dataset) -> Self:
        """Train on a data set, from random angles or from where the last fit ended."""
        config = self._settled(dataset)
        trainer = Trainer(config, dataset, model=self.model)
        states = trainer.init_seeds([config.seed])
        if self._goes_on:
            states = _continued(states, self.states_)
        self._say(f"{_in_words(config, dataset)}; compiling")
        trainer.compile(states)
        self.history_: list[dict[str, Any]] = []
        try:
            for _ in range(config.epochs):
                previous = np.asarray(states.best_valid_loss)
                states, (metrics,) = trainer.run_epoch_seeds(states)
                metrics["best"] = bool(np.asarray(states.best_valid_loss) != previous)
                self.history_.append(metrics)
                self._say_epoch(metrics, config, dataset)
                why = divergence(metrics, config)
                if why and not np.isfinite(np.asarray(states.best_valid_loss)).all():
                    raise UserError(why)
                if why:
                    _warn(f"{why}. The model with the lowest validation loss before it is kept.")
                    break
                if ends(self.history_, config):
                    self._say(f"no better validation loss for {config.patience} epochs")
                    break
        except KeyboardInterrupt:
            if not self.history_:
                raise
            _warn(f"interrupted after epoch {len(self.history_)}: the best model so far is kept.")
        return self._keep(config, states, only(states.best_classifier))

    def _fit_once(self, dataset: Dataset) -> Self:
        """One epoch more on other samples, without validation, with the parameters as they are now.

        What was not given stays as the first call settled it, whatever the later samples are.
        """
        if hasattr(self, "states_"):
            config = dataclasses.replace(self.config_, **self._given)
        else:
            config = self._settled(dataset)
        trainer = Trainer(config, dataset, model=self.model)
        states = trainer.init_seeds([config.seed])
        if hasattr(self, "states_"):
            states = _continued(states, self.states_)
        else:
            self.history_ = []
        states, (metrics,) = trainer.run_epoch_seeds(states)
        why = divergence(metrics, config)
        if why:
            raise UserError(why)
        self.history_.append(metrics)
        return self._keep(config, states, only(states.classifier))

    def _keep(self, config: TrainConfig, states: Any, predictor: Predictor) -> Self:
        self.states_ = jax.tree.map(
            lambda leaf: np.asarray(leaf) if eqx.is_array(leaf) else leaf, states
        )
        self.predictor_ = predictor
        self.config_ = config
        circuit = getattr(predictor.model, "circuit", None)
        self.n_qubits_ = getattr(circuit, "n_qubits", None)
        self.encoding_ = None if self.model is not None else config.encoding
        self.n_iter_ = len(self.history_)
        return self

    def _begin(self) -> int:
        """Check the parameters, and draw the seed of a fit, which splits the samples as well."""
        values = {**self.get_params(deep=False), "ansatz": as_circuit(self.ansatz)}
        check_parameters(self._parameter_constraints, values, type(self).__name__)
        self._given = {
            name: value
            for name, value in values.items()
            if name not in OWN_PARAMETERS and value is not None
        }
        self._seed = drawn_seed(self.random_state)
        return self._seed

    @property
    def _goes_on(self) -> bool:
        """Whether a fit goes on from the model of the last one, and keeps what it was made for."""
        return self.warm_start and hasattr(self, "states_")

    @property
    def _valid_fraction(self) -> float:
        return 0.2 if self.valid_fraction is None else self.valid_fraction

    def _settled(self, dataset: Dataset) -> TrainConfig:
        """The configuration for a data set: what was given, else the preset's."""
        given = self._given
        if self.preset == TABLE_PRESET:
            rules = recommended(dataset)
            if self._image_features is not None:
                rules = recommended_for_images(len(dataset.train), dataset.n_outputs)
            base = {**vars(TrainConfig()), **rules}
        else:
            base = dict(vars(PRESETS[self.preset]))  # pyright: ignore[reportArgumentType]
        config = {**base, **given, "seed": self._seed}
        if self.early_stopping:
            config["patience"] = config["patience"] or _PATIENCE
        if self.model is None and "n_qubits" not in given:
            config["n_qubits"] = _n_qubits(config, dataset)
        if self.model is not None:
            refused = sorted(_MODEL_OPTIONS & given.keys())
            if refused:
                raise UserError(
                    f"model={type(self.model).__name__} with {', '.join(refused)}: a model "
                    "function is given with all that it consists of; leave one of them out"
                )
            default = vars(TrainConfig())
            config |= {name: default[name] for name in _MODEL_OPTIONS} | {"ansatz": OWN_MODEL}
        elif config["encoding"] in (TABLE_ENCODING, "angle"):
            _warn_of_scale(dataset.train.x, getattr(self, "feature_names_in_", None))
        return TrainConfig(**config)

    def _features(self, X: Any, *, reset: bool) -> np.ndarray:
        """In the model's type; the error names row and column, as scikit-learn's does not."""
        X = validate_data(self, self._rows(X), ensure_all_finite=False, reset=reset)
        return finite(X, self)

    def _rows(self, X: Any) -> Any:
        """Images as features, and features as they are."""
        X = without_mask(X, "X")
        if self._image_features is None:
            return X
        if not are_images(X):
            raise UserError(
                f"X has the shape {np.shape(X)}: this {type(self).__name__} was fitted on images, "
                "give (N, H, W) or (N, H, W, 3)"
            )
        return self._image_features(image_array(X))

    def _read(self, X: Any, y: Any, *, reset: bool, **of_y: Any) -> tuple[np.ndarray, Any]:
        """What a fit is given, checked: features or, of a fit that begins, images; and y."""
        y = without_mask(y, "y")
        if reset and are_images(X):
            images = image_array(without_mask(X, "X"))
            y = validate_data(self, y=y, **of_y)
            check_consistent_length(images, y)
            return images, y
        if reset:
            self.images_ = None
        X = self._rows(X)
        X, y = validate_data(self, X, y, ensure_all_finite=False, reset=reset, **of_y)
        return finite(X, self), y

    def _learned(self, x: np.ndarray, train: np.ndarray, n_outputs: int) -> np.ndarray:
        """Features of what a fit was given; those of images are learnt from the ones that train."""
        if not are_images(x):
            return x
        name: Any = "best" if self.preset == TABLE_PRESET else self.preset
        kind = PRESETS[name].features
        self.images_ = ImageFeatures.fit(x, n_outputs, features=kind, train=train)
        return self._features(x, reset=True)

    @property
    def _image_features(self) -> ImageFeatures | None:
        """Of a fit on images; one on features, and none so far, have none."""
        return getattr(self, "images_", None)

    def _predictions(self, X: Any) -> Prediction:
        check_is_fitted(self)
        return predict(self.predictor_, self.config_, self._features(X, reset=False))

    def _say(self, line: str) -> None:
        if self.verbose:
            print(f"[{type(self).__name__}] {line}", flush=True)

    def _say_epoch(self, metrics: dict[str, Any], config: TrainConfig, dataset: Dataset) -> None:
        epoch, score = metrics["epoch"], SCORES[dataset.task]
        every = 1 if self.verbose > 1 else max(1, config.epochs // 10)
        if epoch == 1 or epoch % every == 0:
            self._say(
                f"epoch {epoch}/{config.epochs}: loss {metrics['train_loss']:.4f}, validation "
                f"{metrics['valid_loss']:.4f}, {score} {metrics[f'valid_{score}']:.3f}"
            )


def parameter_constraints(estimator: type[Estimator]) -> dict[str, list[Any]]:
    """scikit-learn's `_parameter_constraints` of an estimator."""
    names = {field.name for field in dataclasses.fields(estimator)}
    options = constraints(names - OWN_PARAMETERS)
    allowed: dict[str, list[Any]] = {
        name: kinds if None in kinds else [*kinds, None] for name, kinds in options.items()
    }
    return allowed | {
        "preset": [StrOptions({TABLE_PRESET, *PRESETS})],
        "model": [ModelFunction, callable, None],
        "early_stopping": ["boolean"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }


def finite(x: Any, estimator: BaseEstimator) -> np.ndarray:
    """Features in the model's type; the error names row and column."""
    names = getattr(estimator, "feature_names_in_", None)
    columns = None if names is None else [str(name) for name in names]
    numbers = real_array(x, "X", columns=columns)
    name = "Input X contains NaN, infinity or a number beyond float32"
    return cast_features(numbers, name=name, columns=columns)


def sample_weights(sample_weight: Any, x: np.ndarray) -> np.ndarray | None:
    """Checked as scikit-learn does; None where every sample counts as one."""
    if sample_weight is None:
        return None
    sample_weight = without_mask(sample_weight, "sample_weight")
    weights = _check_sample_weight(sample_weight, x, ensure_non_negative=True)
    return weight_array(weights, len(x), "sample_weight")


def that_count(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Without samples of weight zero, which would take part in the split and the scale."""
    if weights is None or weights.all():
        return x, y, weights
    rows = weights > 0
    return x[rows], y[rows], weights[rows]


def _n_qubits(config: dict[str, Any], dataset: Dataset) -> int | None:
    """Of a part that is an object; by the rule for tables; else the fewest that serve."""
    values: dict[str, Any] = {name: config[name] for name in _MODEL_OPTIONS}
    values["n_qubits"] = None
    options = ModelOptions(**values)
    if options.given_n_qubits is not None:
        return options.given_n_qubits
    fewest = 4 if options.is_published else 2
    if config["head"] == "none":
        fewest = max(fewest, dataset.n_outputs)
    if options.encoding == TABLE_ENCODING:
        return max(fewest, config["n_qubits"] or recommended(dataset)["n_qubits"])
    if options.encoding == "amplitude":
        return max(fewest, (dataset.n_features - 1).bit_length())
    side = round(dataset.n_features**0.5)
    if side**2 != dataset.n_features or side < fewest:
        raise UserError(
            f"encoding='angle' with {dataset.n_features} features: it takes n * n features on n "
            f"qubits, here with n of at least {fewest}; choose or compute such features, or take "
            "encoding='table', which takes any number"
        )
    return side


def _continued(fresh: Any, kept: Any) -> Any:
    """Fresh states with the model of kept ones, and their optimiser's state if it has one form."""
    classifier = _with_arrays(fresh.classifier, kept.classifier)
    if classifier is None:
        raise UserError(
            "the model that was fitted before has other sizes than this one: go on with the same "
            "parameters, features and classes, or begin anew with fit and warm_start=False"
        )
    optimiser_state = _with_arrays(fresh.optimiser_state, kept.optimiser_state)
    if optimiser_state is None:  # another optimiser or schedule, from its start
        optimiser_state = fresh.optimiser_state
    # Another order of batches than in the fit before.
    key = jax.device_put(np.asarray(fresh.key) + np.asarray(kept.key) + np.uint32(1))
    return eqx.tree_at(
        lambda s: (s.classifier, s.optimiser_state, s.best_classifier, s.key),
        fresh,
        (classifier, optimiser_state, classifier, key),
    )


def _with_arrays(fresh: Any, kept: Any) -> Any:
    """A tree with the arrays of another one; None where they differ in number or shape."""
    arrays, static = eqx.partition(fresh, eqx.is_array)
    leaves = jax.tree.leaves(eqx.filter(kept, eqx.is_array))
    if [leaf.shape for leaf in jax.tree.leaves(arrays)] != [leaf.shape for leaf in leaves]:
        return None
    leaves = map(jax.device_put, leaves)
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), static)


def _warn_of_scale(x: np.ndarray, columns: Any) -> None:
    """Say that features are far from 1 in size, where a circuit takes them for angles.

    Of iris with a standard deviation of 10 in every column all defaults learn as much as with 1, of
    30 half of the labels and of 0.01 a tenth less.
    """
    sizes = np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=0))
    column = int(sizes.argmax())
    if not 0 < sizes[column] < _LEAST_SIZE and sizes[column] <= _MOST_SIZE:
        return
    name = f"column {column}" if columns is None else f"column {column} ({columns[column]!r})"
    most = " at most" if sizes[column] < _LEAST_SIZE else ""
    warnings.warn(
        f"features become angles, and the numbers of X are about {sizes[column]:.2g}{most} "
        f"({name}): scale all columns to about 1, by a StandardScaler in front "
        "(sklearn.pipeline.make_pipeline)",
        stacklevel=6,
    )


def _in_words(config: TrainConfig, dataset: Dataset) -> str:
    circuit = "own model" if config.ansatz == OWN_MODEL else f"{config.n_qubits} qubits"
    plain = config.plain()
    return (
        f"{len(dataset.train)} + {len(dataset.valid)} samples, {dataset.n_features} features, "
        f"{circuit}, encoding {plain['encoding']}, {config.epochs} epochs of batches of "
        f"{config.batch_size}, learning rate {config.learning_rate:g}"
    )


def _warn(text: str) -> None:
    warnings.warn(text, ConvergenceWarning, stacklevel=5)
