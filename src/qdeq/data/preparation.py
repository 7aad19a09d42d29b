"""From the columns of a table to features: fitted on training rows, kept as plain numbers.

Rows are transformed from these numbers alone, so that a preparation that was read from JSON gives
the same bits and predicting needs no scikit-learn. One column is `columns.py`.
"""

import dataclasses
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.data.columns import FURTHEST, Column, fit_column
from qdeq.data.decimals import read_decimal_commas
from qdeq.data.frames import ColumnKind, as_frame, check_columns, kind_of, plain_name
from qdeq.errors import UserError
from qdeq.names import Task

_FORMAT = "qdeq-preparation-1"


@dataclass(frozen=True)
class Components:
    """Principal components of features, each of unit variance in the training rows.

    Parameters
    ----------
    mean
        d numbers.
    axes
        K directions of d numbers, each divided by its deviation.
    explained
        Part of the variance that they keep.
    """

    mean: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    explained: float

    def __call__(self, features: Iterable[np.ndarray], n_rows: int) -> np.ndarray:
        """d features ``(N,)`` -> ``(N, K)``."""
        # One by one: a product of matrices rounds in an order that depends on N.
        found = np.zeros((n_rows, len(self.axes)))
        for feature, mean, axis in zip(features, self.mean, np.array(self.axes).T, strict=True):
            found += (feature - mean)[:, None] * axis
        return found


@dataclass(frozen=True)
class TablePreparation:
    """How the rows of a table become features, and what they are there to predict.

    Parameters
    ----------
    columns
        The columns that are used, in the order of their features.
    targets
        Names of the columns that are predicted.
    task
        `"classification"` or `"regression"`.
    classes
        Of a classification, as in `Dataset.classes`.
    components
        Principal components in the place of the features.
    notes
        What was decided while the table was read, a line each.
    decimal_commas
        Columns whose texts such as 1,5 are numbers, also those that are no features.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"age": [20, None, 40], "city": ["Rome", "Oslo", "Rome"]})
    >>> preparation = TablePreparation.fit(frame, targets=("y",))
    >>> preparation.feature_names
    ['age', 'age is missing', 'city = Rome']
    >>> preparation.transform(frame)
    array([[-1.2247449,  0.       ,  1.       ],
           [ 0.       ,  1.       ,  0.       ],
           [ 1.2247449,  0.       ,  1.       ]], dtype=float32)
    """

    columns: tuple[Column, ...]
    targets: tuple[str, ...] = ()
    task: Task = "classification"
    classes: tuple[int | str, ...] = ()
    components: Components | None = None
    notes: tuple[str, ...] = ()
    decimal_commas: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        frame: Any,
        *,
        targets: Sequence[str] = (),
        task: Task = "classification",
        classes: Sequence[int | str] = (),
        components: int | None = None,
        kinds: dict[str, ColumnKind] | None = None,
        notes: Iterable[str] = (),
        decimal_commas: Sequence[str] = (),
        name: str = "table",
    ) -> "TablePreparation":
        """Learn from the rows that train.

        Parameters
        ----------
        frame
            The columns to use, and no others.
        targets, task, classes, notes
            To be kept.
        components
            How many principal components to take instead of the features.
        kinds
            Of the columns, where more rows are known than train. None finds them out.
        decimal_commas
            Columns of texts whose numbers have decimal commas.
        name
            What the table is called in messages.

        Raises
        ------
        UserError
            For a column of dates, lists or the like, or if no column is left.
        """
        frame = as_frame(frame, name)
        said = list(notes)
        frame = read_decimal_commas(frame, decimal_commas, name)
        if kinds is None:
            kinds = {c: kind_of(frame[c], f"column {c!r}") for c in frame.columns}
        kinds = {plain_name(column): kind for column, kind in kinds.items()}
        columns = []
        for column, kind in kinds.items():
            fitted = fit_column(frame[column], column, kind, said)
            columns += [] if fitted is None else [fitted]
        if not columns:
            why = "; ".join(said) or "it has only the target"
            raise UserError(
                f"{name}: no column is left to learn from ({why}): give at least one that differs "
                "from row to row"
            )
        made = cls(
            tuple(columns),
            tuple(targets),
            task,
            tuple(classes),
            notes=tuple(said),
            decimal_commas=tuple(decimal_commas),
        )
        if components is not None:
            made = dataclasses.replace(made, components=_fit_components(made, frame, components))
        return made

    @property
    def n_features(self) -> int:
        """Number of features, d."""
        return len(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """Of every feature."""
        if self.components is not None:
            return [f"component {k + 1}" for k in range(len(self.components.axes))]
        return [name for column in self.columns for name in column.feature_names]

    @property
    def column_names(self) -> list[str]:
        """Of the columns that a table must have."""
        return [column.name for column in self.columns]

    @property
    def text_columns(self) -> list[str]:
        """Those whose cells readers of files must leave as they stand, and not take for numbers."""
        texts = [column.name for column in self.columns if column.kind == "text"]
        return [*texts, *self.decimal_commas]

    @property
    def _with_commas(self) -> list[str]:
        return [name for name in self.column_names if name in self.decimal_commas]

    def transform(
        self,
        frame: Any,
        *,
        name: str = "table",
        first_row: int = 1,
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """Features ``(N, d)`` float32 of rows; the columns in any order, others are ignored.

        The features of a row do not depend on the other rows.

        Parameters
        ----------
        frame
            A frame of pandas, a table of Arrow or polars, or a mapping from names to columns.
        name, first_row
            What it is called in messages, and the number of its first row there.
        rows
            The number of every row in messages, where some were left out.

        Raises
        ------
        UserError
            If a column is missing, or holds something that is no number where training had numbers.
        """
        frame = as_frame(frame, name)
        check_columns(self.column_names, list(frame.columns), name, "which the model reads")
        frame = read_decimal_commas(frame, self._with_commas, name, first_row=first_row, rows=rows)
        return self._features(frame, first_row, rows)

    def unseen(self, frame: Any) -> dict[str, dict[str, int]]:
        """By column what is read as something else, each with the number of its rows.

        These are texts that training did not have, and infinite numbers, which count as missing.

        Parameters
        ----------
        frame
            As `transform` takes it.
        """
        frame = read_decimal_commas(as_frame(frame, "table"), self._with_commas, "table")
        found = {c.name: c.unseen(frame[c.name]) for c in self.columns}
        return {name: values for name, values in found.items() if values}

    def _features(self, frame: Any, first_row: int, rows: np.ndarray | None) -> np.ndarray:
        features = _features_of(self.columns, frame, first_row, rows)
        if self.components is None:
            x = np.empty((len(frame), self.n_features), dtype=np.float32)
            for index, feature in enumerate(features):
                x[:, index] = feature
            return x
        projected = self.components(features, len(frame))
        return np.clip(projected, -FURTHEST, FURTHEST).astype(np.float32)

    def to_json(self) -> str:
        """Every number as JSON text, with all of its digits."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "preparation.json") -> "TablePreparation":
        """Read what `to_json` wrote.

        Parameters
        ----------
        text
            JSON text.
        source
            What it is called in messages, usually its path.

        Raises
        ------
        UserError
            If it is damaged, or of another version.
        """
        import msgspec

        try:
            values = json.loads(text)
            form = values.pop("format")
            if form != _FORMAT:
                raise UserError(
                    f"{source} has the format {form!r} and not {_FORMAT!r}: use the version of "
                    "qdeq that wrote it"
                )
            made = msgspec.convert(values, cls)
            # A run of before November 2026 may have kept a name with spaces around it.
            columns = [dataclasses.replace(c, name=plain_name(c.name)) for c in made.columns]
            targets = map(plain_name, made.targets)
            return dataclasses.replace(made, columns=tuple(columns), targets=tuple(targets))
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source} is damaged ({error}): restore the file or train again"
            ) from error


def _features_of(
    columns: Iterable[Column], frame: Any, first_row: int = 1, rows: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Every feature ``(N,)`` in turn: all of them at once would be as large as the table."""
    for column in columns:
        yield from column.features(frame[column.name], first_row, rows)


def _fit_components(made: TablePreparation, frame: Any, n_components: int) -> Components:
    from sklearn.decomposition import PCA

    x = np.stack(list(_features_of(made.columns, frame)), axis=1)
    most = min(x.shape[1], len(x) - 1)
    if not 1 <= n_components <= most:
        raise UserError(
            f"components={n_components}: {len(x)} training rows of {x.shape[1]} features have from "
            f"1 to {most}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        pca = PCA(n_components, svd_solver="full").fit(x)
    deviation = np.sqrt(pca.explained_variance_)
    varying = int((deviation > 1e-7 * deviation[0]).sum())
    if varying < n_components:
        raise UserError(
            f"components={n_components}: the training rows vary in {varying} directions only; give "
            "at most that many"
        )
    axes = pca.components_ / deviation[:, None]
    explained = float(pca.explained_variance_ratio_.sum())
    return Components(tuple(pca.mean_.tolist()), tuple(map(tuple, axes.tolist())), explained)
