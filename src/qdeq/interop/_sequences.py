"""What the estimators for sequences share: parameters, the network, the fit, the read-out.

Sequences become arrays in `qdeq.data.sequences`, training is `qdeq.training.sequences`.
"""

import os
import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from qdeq.data import SeriesPreparation
from qdeq.data.inputs import column_names, weight_array, without_mask
from qdeq.data.sequences import (
    LAYOUTS,
    Sequences,
    channel_names,
    check_steps,
    one_by_one,
    padded,
    sequence_list,
)
from qdeq.errors import UserError
from qdeq.interop._parameters import check_parameters, constraints, drawn_seed
from qdeq.models import Network
from qdeq.models.network import READ_OUTS
from qdeq.models.sequence_network import sequence_network
from qdeq.names import Loss
from qdeq.training.sequences import SequenceTraining, on_length, read_out, train_sequences

_PATIENCE = 20  # epochs, of `early_stopping=True`
#: Bound on the messages of a chain both ways: beyond about 1 it may have several equilibria.
_BOUND_BOTH_WAYS = 0.9
#: Without `epochs` there are as many as make so many steps, but no fewer and no more than these.
_STEPS, _FEWEST, _MOST = 1200, 30, 300
_OPTIONS = (
    *("ansatz_layers", "batch_size", "learning_rate", "schedule"),
    *("gradient_clip", "patience", "valid_fraction"),
)


@dataclass(kw_only=True, eq=False, repr=False)
class ChainEstimator(BaseEstimator):
    """Parameters and fit of a chain of circuits; see the subclasses."""

    n_qubits: int = 3
    ansatz_layers: int = 2
    gain: float = 0.9
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 0.03
    schedule: str = "cosine"
    gradient_clip: float = 1.0
    early_stopping: bool = False
    patience: int = _PATIENCE
    valid_fraction: float = 0.2
    verbose: int = 0
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **constraints(_OPTIONS),
        "epochs": [*constraints(["epochs"])["epochs"], None],
        "n_qubits": [Interval(Integral, 1, None, closed="left")],
        "gain": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def _begin(self) -> int:
        """Check the parameters, and draw the seed of a fit."""
        values = self.get_params(deep=False)
        check_parameters(self._parameter_constraints, values, type(self).__name__)
        return drawn_seed(self.random_state)

    def _network(self, n_features: int, n_outputs: int, seed: int, **settings: Any) -> Network:
        both = settings.get("direction") == "both"
        return sequence_network(
            n_features,
            n_outputs,
            key=jax.random.key(seed),
            n_qubits=self.n_qubits,
            ansatz_layers=self.ansatz_layers,
            gain=self.gain,
            max_gain=_BOUND_BOTH_WAYS if both else None,
            **settings,
        )

    @property
    def _layers(self) -> int | None:
        """Applications of the map; None for the equilibrium."""
        return None

    def _train(
        self, network: Network, train: Sequences, valid: Sequences, loss: Loss, seed: int
    ) -> Self:
        epochs = self.epochs
        if epochs is None:
            batches = -(-len(train) // self.batch_size)
            epochs = min(max(_STEPS // batches, _FEWEST), _MOST)
        training = SequenceTraining(
            loss=loss,
            layers=self._layers,
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            gradient_clip=self.gradient_clip,
            patience=self.patience if self.early_stopping else 0,
        )
        every = 1 if self.verbose > 1 else max(1, epochs // 10)

        def tell(line: dict[str, Any]) -> None:
            if self.verbose and (line["epoch"] == 1 or line["epoch"] % every == 0):
                print(
                    f"[{type(self).__name__}] epoch {line['epoch']}/{epochs}: loss "
                    f"{line['train_loss']:.4f}, validation {line['valid_loss']:.4f}" + alarm(line),
                    flush=True,
                )

        found = train_sequences(network, train, valid, training, seed=seed, tell=tell)
        if found.why:
            message = f"{found.why}. The model with the lowest validation loss before is kept."
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        self.network_ = found.network
        self._applied = self._layers  # what `set_params` says afterwards is of the next fit
        self.history_ = found.history
        self.n_iter_ = len(found.history)
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceEstimator(ChainEstimator):
    """Parameters and fit of classifier and regressor; see those."""

    mode: str = "implicit"
    layers: int = 5
    layout: str = "time-first"
    direction: str = "causal"
    read_out: str = "last"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ChainEstimator._parameter_constraints,
        **constraints(["mode", "layers"]),
        "layout": [StrOptions(set(LAYOUTS))],
        "direction": [StrOptions({"causal", "both"})],
        "read_out": [StrOptions(set(READ_OUTS))],
    }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def converged(self, X: Any) -> np.ndarray:
        """`(N,)`: whether the equilibrium of each sequence was found.

        Raises
        ------
        UserError
            After a fit with `mode="direct"`, which looks for none.
        """
        check_is_fitted(self)
        self._check_solves()
        return self._read(X)[1]

    def write_report(self, X: Any, path: str | os.PathLike[str]) -> Path:
        """Write a page on which one sees the equilibria of the first 8 sequences found, by sites.

        Parameters
        ----------
        X
            As in `fit`.
        path
            Of the page, see `qdeq.runs.write_network_report`.
        """
        from qdeq.runs import write_network_report
        from qdeq.runs.report_data import SEARCHED

        check_is_fitted(self)
        self._check_solves()
        sequences = self._sequences(self._parts(X)[:SEARCHED])
        labels = [f"sequence {k}" for k in range(len(sequences))]
        if not self._of_sites:
            outputs, _ = read_out(self.network_, sequences)
            told = zip(labels, self._in_words(outputs), strict=True)
            labels = [f"{label}: predicted {words}" for label, words in told]
        network = on_length(self.network_, sequences.x.shape[1])
        return write_network_report(network, sequences.x, path, mask=sequences.mask, labels=labels)

    def _in_words(self, outputs: np.ndarray) -> list[str]:
        """What the outputs `(N, K)` of sequences say."""
        raise NotImplementedError

    @property
    def _layers(self) -> int | None:
        return self.layers if self.mode == "direct" else None

    def _check_solves(self) -> None:
        if self._applied is not None:
            times = "once" if self._applied == 1 else f"{self._applied} times"
            raise UserError(
                f"mode='direct': the map is applied {times} and nothing is solved, so there is no "
                "search to show; fit with mode='implicit'"
            )

    @property
    def _of_sites(self) -> bool:
        """Of what was fitted; a fit itself goes by the parameter."""
        return self.network_.reads == "sites"

    def _fit(
        self,
        parts: list[np.ndarray],
        y: list[np.ndarray],
        weights: np.ndarray | None,
        valid: np.ndarray,
        n_outputs: int,
        loss: Loss,
        seed: int,
    ) -> Self:
        """Train on sequences; `valid` says which of them are held out."""
        self.n_features_in_ = parts[0].shape[1]
        channels, self._steps = self._names
        if channels is not None:
            self.feature_names_in_ = np.array(channels, dtype=object)
        elif hasattr(self, "feature_names_in_"):  # of a fit before
            del self.feature_names_in_
        learn = [part for part, is_held in zip(parts, valid, strict=True) if not is_held]
        self.preparation_ = SeriesPreparation.fit(learn, name="X")
        sequences = self._sequences(parts, y, weights)
        network = self._network(
            self.preparation_.n_features,
            n_outputs,
            seed,
            direction=self.direction,
            read_out=self.read_out,
        )
        return self._train(network, sequences[~valid], sequences[valid], loss, seed)

    def _sequences(
        self,
        parts: list[np.ndarray],
        y: list[np.ndarray] | None = None,
        weights: np.ndarray | None = None,
    ) -> Sequences:
        x, mask = padded(
            [self.preparation_.features(part, name=f"X[{i}]") for i, part in enumerate(parts)]
        )
        if y is None:
            return Sequences(x, mask)
        counts = np.ones(len(x), np.float32) if weights is None else weights
        if self.read_out == "sites":
            present = np.ones(x.shape[:2], bool) if mask is None else mask
            counts = counts[:, None] * present
            return Sequences(x, mask, padded(y)[0], counts.astype(np.float32))
        return Sequences(x, mask, np.stack(y), counts)

    def _given(
        self, X: Any, y: Any, sample_weight: Any, what: str
    ) -> tuple[list[np.ndarray], list[Any], np.ndarray | None]:
        """Sequences that count, what is said of each, and weights; at least two of them."""
        parts = sequence_list(X, self.layout)
        self._names = channel_names(X), column_names(X)
        said, weights = self._of_each(y, parts, what, self.read_out == "sites"), None
        if sample_weight is not None:
            weights = weight_array(sample_weight, len(parts), "sample_weight")
            kept = np.flatnonzero(weights)
            parts, said = [parts[i] for i in kept], [said[i] for i in kept]
            weights = weights[kept]
        if len(parts) < 2:
            raise UserError(
                f"X: {len(parts)} sample{'s' * (len(parts) != 1)} of a sequence that counts: give "
                "at least two, one of which can validate"
            )
        return parts, said, weights

    def _read(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Outputs, which converged, lengths, and whether the sequences were given as a list."""
        check_is_fitted(self)
        sequences = self._sequences(self._parts(X))
        outputs, converged = read_out(self.network_, sequences, self._applied)
        return outputs, converged, sequences.lengths, one_by_one(X) is not None

    def _parts(self, X: Any) -> list[np.ndarray]:
        """Sequences after the fit: frames have the columns that it was given."""
        channel_names(X, getattr(self, "feature_names_in_", None))
        check_steps(X, self._steps)
        return sequence_list(X, self.layout)

    def _true(
        self, X: Any, y: Any, sample_weight: Any, what: str
    ) -> tuple[list[Any], np.ndarray | None]:
        """What is true of every sequence that is scored, and how much it (each site) counts."""
        check_is_fitted(self)
        parts = self._parts(X)
        said = self._of_each(y, parts, what, self._of_sites)
        if sample_weight is None:
            return said, None
        weights = weight_array(sample_weight, len(parts), "sample_weight")
        if self._of_sites:
            weights = np.repeat(weights, [len(part) for part in parts])
        return said, weights

    def _shaped(self, values: np.ndarray, lengths: np.ndarray, as_list: bool) -> Any:
        """Numbers of sites as they were asked for: an array, or a list of arrays."""
        if self._of_sites and as_list:
            return [one[:length] for one, length in zip(values, lengths, strict=True)]
        return values

    def _of_each(self, y: Any, parts: list[np.ndarray], what: str, of_sites: bool) -> list[Any]:
        """What is said of every sequence (of every site of it), one by one."""
        if y is None:
            raise UserError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: give "
                f"{what} of every sequence"
            )
        try:
            y = without_mask(y, "y")
            found = list(np.asarray(y) if hasattr(y, "__array__") else y)
        except TypeError:
            raise UserError(f"y={y!r}: give {what} of every sequence") from None
        if len(found) != len(parts):
            raise UserError(
                f"y holds {len(found)} and X {len(parts)} sequences: give {what} of each"
            )
        if not of_sites:
            return found
        for number, (one, part) in enumerate(zip(found, parts, strict=True)):
            shape = np.shape(one)
            if not shape or shape[0] != len(part):
                raise UserError(
                    f"y[{number}] has shape {shape}, X[{number}] {len(part)} sites: with "
                    f"read_out='sites' give {what} of every site"
                )
        return found


def alarm(line: dict[str, Any]) -> str:
    """What a line of progress says where equilibria may not stay any.

    >>> alarm({"converged_fraction": 1.0, "growth": 0.7})
    ''
    >>> alarm({"converged_fraction": 0.75, "growth": 1.25})
    ', 75% converged, small changes grow 1.25 times: lower gain'
    """
    said, growth = "", line.get("growth", 0.0)
    if (converged := line.get("converged_fraction", 1.0)) < 1:
        said += f", {converged:.0%} converged"
    if not growth <= 1:  # true of what is no number, too
        said += f", small changes grow {growth:.2f} times: lower gain"
    return said


def held_out(n: int, fraction: float, seed: int) -> np.ndarray:
    """Which of n samples validate: at least one does, and at least one does not."""
    count = min(max(round(fraction * n), 1), n - 1)
    valid = np.zeros(n, bool)
    valid[np.random.default_rng(seed).permutation(n)[:count]] = True
    return valid
