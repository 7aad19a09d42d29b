"""A forecaster of series in sktime's style, which needs no sktime: a causal chain of circuits."""

import os
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from qdeq.data import SeriesPreparation
from qdeq.data.inputs import column_names
from qdeq.data.row_index import RowIndex, check_order, check_same_rows, warn_of_index
from qdeq.data.sequences import check_columns
from qdeq.data.series import horizon_list, series_array
from qdeq.errors import UserError
from qdeq.interop._sequences import ChainEstimator
from qdeq.interop._whole import whole_or_nothing
from qdeq.training.forecasting import forecast, forecasting_sequences
from qdeq.training.sequences import on_length

_LIMIT = 100.0  # standard deviations; a series with a trend leaves those that it was trained on


@dataclass(kw_only=True, eq=False, repr=False)
class QDEQForecaster(ChainEstimator):
    """Forecasts a series of one channel or several by a causal chain of circuits at equilibrium.

    Every site reads a row and says what the next one adds; a forecast feeds on its own rows, the
    chain's state going from row to row. Channels are scaled inside, gaps (NaN) filled with the
    number before them and marked. Take a trend out beforehand: a circuit does not know what numbers
    mean that lie far outside the range that it was trained on.

    Parameters
    ----------
    window
        Rows that the chain is trained on at once, and sees before it forecasts.
    n_qubits, ansatz_layers, gain, epochs, batch_size, learning_rate, schedule, gradient_clip
        See `QDEQSequenceClassifier`.
    early_stopping, patience
        End when the validation loss has not fallen for `patience` epochs.
    valid_fraction
        Part of the rows, the last ones, that validates.
    verbose, random_state
        See `QDEQSequenceClassifier`.

    Attributes
    ----------
    network_
        The trained `qdeq.Network`.
    preparation_
        How channels were scaled, a `qdeq.data.SeriesPreparation`.
    history_, n_iter_
        One dict per epoch, and how many there were.

    Raises
    ------
    UserError
        A `ValueError`, for parameters out of range, series that are too short or do not fit
        together, frames with other columns than in `fit`, new rows that do not come after those
        known, infinities, or a horizon that is no whole number of at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.sin(0.6 * np.arange(140))
    >>> forecaster = QDEQForecaster(window=12, epochs=40, random_state=0).fit(series[:120])
    >>> found = forecaster.predict(fh=[1, 2, 3])
    >>> bool(np.abs(found - series[120:123]).max() < 0.2)
    True
    """

    window: int = 24

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ChainEstimator._parameter_constraints,
        "window": [Interval(Integral, 2, None, closed="left")],
    }

    @whole_or_nothing
    def fit(self, y: Any, X: Any = None, fh: Any = None) -> Self:
        """Train on a series.

        Parameters
        ----------
        y
            `(T,)` or `(T, channels)` real numbers in time order, an array or a frame; NaN are gaps.
            Rows count as equally spaced; dates that are not cost a warning.
        X
            `(T, k)` further numbers known beforehand, row by row beside `y`; a forecast is given
            those of the rows that it is of.
        fh
            Horizon to forecast if `predict` is given none.
        """
        seed = self._begin()
        self._horizon = None if fh is None else _rows_ahead(fh)
        values = series_array(y, "y")
        rows = len(values)
        edge = rows - max(1, round(self.valid_fraction * rows))
        # Targets of the validation part have a window of rows before them in the training part.
        if min(edge, rows - edge) < 2 or edge <= self.window + 1:
            raise UserError(
                f"y: {rows} rows, of which {max(edge, 0)} train, with window={self.window}: give "
                "more rows, or a smaller window or valid_fraction"
            )
        self.preparation_ = SeriesPreparation.fit([values[:edge]], name="y")
        outside = None if X is None else series_array(X, "X")
        if outside is not None and len(outside) != rows:
            raise UserError(f"X holds {len(outside)} and y {rows} rows: give a row of X for each")
        own_index = y.index if hasattr(y, "iloc") else None
        index = None
        if own_index is not None:
            check_order(own_index, "y")
            index = RowIndex.of(own_index)
            if index.step is None:
                warn_of_index(own_index)
        check_same_rows(X, own_index)
        self.outside_ = (
            None if outside is None else SeriesPreparation.fit([outside[:edge]], name="X")
        )
        features = self.preparation_.features(values, name="y")
        scaled = features[:, : values.shape[1]]
        known = None if self.outside_ is None else self.outside_.features(outside, name="X")
        beside = self._beside(features, known)
        # Of steps and not of their deviations: those of a straight line are rounding errors.
        steps = np.sqrt(np.mean(np.diff(scaled[:edge], axis=0) ** 2, axis=0))
        # A channel that never moved stays: what is left of the outputs would be in no unit of its.
        self.unit_ = steps.astype(np.float32)
        observed = ~np.isnan(values)
        warm_up = min(8, self.window // 2)
        length = self.window

        def windows(begin: int, end: int) -> Any:
            return forecasting_sequences(
                scaled,
                (begin, end),
                min(length, end - max(begin - 1 - warm_up, 0) - 1),
                unit=np.where(self.unit_ > 0, self.unit_, 1),
                warm_up=warm_up,
                known=beside,
                observed=observed,
            )

        train, valid = windows(0, edge), windows(edge, rows)
        n_channels = values.shape[1]
        n_features = train.x.shape[2]
        network = self._network(n_features, n_channels, seed, read_out="sites")
        self._train(network, train, valid, "squared", seed)
        self._window = self.window
        self._remember(scaled, beside)
        self._columns = column_names(y), column_names(X)
        self._is_flat = np.ndim(y) == 1
        self._index = index
        names = getattr(y, "columns", None)
        self._names = getattr(y, "name", None) if names is None else names
        return self

    def predict(self, fh: Any = None, X: Any = None) -> Any:
        """The rows at the horizon after those that were fitted or updated.

        Parameters
        ----------
        fh
            How many rows ahead, 1 is the next: a whole number or a list of such, or a relative
            `ForecastingHorizon` of sktime's; None for `fit`'s.
        X
            `(max(fh), k)`, where `fit` was given such: those of the rows that are forecast.

        Returns
        -------
        ndarray, Series or DataFrame
            `(len(fh),)` or `(len(fh), channels)`; for a series or frame of pandas one whose index
            goes on.
        """
        check_is_fitted(self)
        horizon = self._horizon if fh is None else _rows_ahead(fh)
        if horizon is None:
            raise UserError("fh=None: neither fit nor predict was given a horizon; give fh")
        steps = int(horizon[-1])
        # Where a series has left the range already, its forecast does not leap back into it.
        limit = np.maximum(_LIMIT, np.abs(self._recent[-1]))
        found, _ = forecast(
            self.network_,
            jnp.asarray(self._recent[None]),
            steps,
            unit=jnp.asarray(self.unit_),
            known=self._known(steps, X),
            limit=jnp.asarray(limit),
        )
        scale = self.preparation_.scale
        rows = scale.restored(np.asarray(found)[0])[np.asarray(horizon) - 1]
        return self._as_given(rows, np.asarray(horizon))

    def update(self, y: Any, X: Any = None) -> Self:
        """Rows that came since, after those before; nothing is trained.

        Parameters
        ----------
        y, X
            As in `fit`, of the new rows alone: in the index of a series or frame of pandas they
            follow the last one, a row for every step where `fit`'s had steps. Without an index the
            one of `fit` goes on.
        """
        check_is_fitted(self)
        check_columns(y, self._columns[0], "y")
        check_columns(X, self._columns[1], "X")
        values = series_array(y, "y")
        if values.shape[1] != self.preparation_.n_channels:
            raise UserError(
                f"y: {values.shape[1]} channels where {self.preparation_.n_channels} were fitted: "
                "give the same"
            )
        index, given = self._index, y.index if hasattr(y, "iloc") else None
        if index is not None:
            index = index.after(len(values)) if given is None else index.with_rows(given)
        outside = None if X is None else series_array(X, "X")
        if (outside is None) != (self.outside_ is None) or (
            outside is not None and len(outside) != len(values)
        ):
            raise UserError("update: give y and X as in fit, a row of X for each of y")
        check_same_rows(X, given)
        features = self.preparation_.features(values, name="y", before=self._recent[-1])
        scaled = np.concatenate([self._recent, features[:, : values.shape[1]]])
        known = None if outside is None else self._scaled_after(outside)
        beside = self._beside(features, known)
        if beside is not None and self._sites is not None:
            sites = self._sites.copy()
            if known is not None:  # the last row before now knows the X of the row after it
                sites[-1, -known.shape[1] :] = known[0]
            beside = np.concatenate([sites, beside])
        self._remember(scaled, beside)
        self._index = index
        return self

    def write_report(self, path: str | os.PathLike[str]) -> Path:
        """Write a page on which one sees the equilibrium of the last `window` rows found, by sites.

        Parameters
        ----------
        path
            Of the page, see `qdeq.runs.write_network_report`.
        """
        from qdeq.runs import write_network_report

        check_is_fitted(self)
        x = self._recent
        if self._sites is not None:
            x = np.concatenate([x, self._sites], axis=1)
        network = on_length(self.network_, len(x))
        return write_network_report(network, x, path, labels=[f"the last {len(x)} rows"])

    def _scaled_after(self, outside: np.ndarray) -> np.ndarray:
        """Rows of X after those known, a gap at their begin filled from the last of those."""
        assert self.outside_ is not None and self._sites is not None
        n_marks = len(self.preparation_.marked)
        last = self._sites[-1, n_marks : n_marks + self.outside_.n_channels]
        return self.outside_.features(outside, name="X", before=last)

    def _beside(self, features: np.ndarray, known: np.ndarray | None) -> np.ndarray | None:
        """What a site sees beside its row: marks of gaps, and the X of the row after it."""
        parts = [features[:, self.preparation_.n_channels :]]
        if known is not None:
            parts.append(np.concatenate([known[1:], known[-1:]]))
        both = np.concatenate(parts, axis=1)
        return both if both.shape[1] else None

    def _known(self, steps: int, X: Any) -> Any:
        """Of the sites of the history and of the forecast, `(1, M, k)`."""
        if (X is None) != (self.outside_ is None):
            raise UserError(
                "X is "
                + (
                    "missing: fit was given X, give the rows that are forecast"
                    if X is None
                    else "given and was not in fit: leave it out"
                )
            )
        if self._sites is None:
            return None
        n_marks = len(self.preparation_.marked)
        future = np.zeros((steps, self._sites.shape[1]), np.float32)
        sites = self._sites.copy()
        if X is not None:
            check_columns(X, self._columns[1], "X")
            values = series_array(X, "X")
            if len(values) < steps:
                raise UserError(f"X holds {len(values)} rows and fh reaches {steps}: give as many")
            if self._index is not None and self._index.step is not None:
                check_same_rows(X, self._index.at(np.arange(1, steps + 1)))
            known = self._scaled_after(values[:steps])
            sites[-1, n_marks:] = known[0]
            future[: steps - 1, n_marks:] = known[1:]
        return jnp.asarray(np.concatenate([sites, future])[None, : len(sites) + steps - 1])

    def _remember(self, scaled: np.ndarray, beside: np.ndarray | None) -> None:
        """The last rows, as many as were trained on at once."""
        self._recent = scaled[-self._window :].astype(np.float32)
        self._sites = None if beside is None else beside[-self._window :].astype(np.float32)

    def _as_given(self, rows: np.ndarray, horizon: np.ndarray) -> Any:
        rows = rows[:, 0] if self._is_flat else rows
        if self._index is None:
            return rows
        import pandas as pd

        index = self._index.at(horizon)
        if self._is_flat:
            return pd.Series(rows, index=index, name=self._names)
        return pd.DataFrame(rows, index=index, columns=self._names)


def _rows_ahead(fh: Any) -> tuple[int, ...]:
    """A horizon, also one of sktime's that counts from the last row."""
    is_relative = getattr(fh, "is_relative", None)
    if is_relative is None:
        # An index or a series of pandas, or an array of another library.
        return horizon_list("fh", np.asarray(fh) if hasattr(fh, "__array__") else fh)
    if not is_relative:
        raise UserError(f"fh={fh!r}: give rows ahead, as fh.to_relative(cutoff) has them")
    return horizon_list("fh", fh.to_numpy())
