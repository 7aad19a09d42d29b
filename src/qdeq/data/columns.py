"""How one column of a table becomes features, and how that is chosen from the rows that train.

What is fitted is scikit-learn's: medians, means and deviations, one-hot levels. What is kept is
their numbers, from which rows are transformed; all columns together are in `preparation.py`.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.data.frames import (
    ColumnKind,
    Kind,
    as_numbers,
    as_texts,
    check_missing_words,
    infinite_numbers,
    listing,
    said_of_case,
    said_of_gap_words,
)

# Most texts of a column with a feature of their own, and the least part of the rows that have one.
_MAX_LEVELS, _LEAST_FREQUENCY = 20, 0.01
# A column whose values are missing this often gets a feature that says where.
_INDICATOR_FROM = 0.05
# What is further from the mean than this many deviations is taken to be there: a rotation by more
# says nothing, and float32 would end at 3e38.
FURTHEST = 1e4
_ID_NAMES = re.compile(
    r"((.*[_ -])?(id|uuid|guid|no|nr)|(?-i:.*[a-z]I[Dd])|index|row|row_?id|unnamed: \d+|key|#)\.?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Column:
    """How one column of a table becomes features.

    Parameters
    ----------
    name, kind
        Of the column.
    missing_words
        Texts that mean that a number is missing.
    fill
        What a missing value is taken to be: the median, or the most frequent text. None: the column
        gives only its indicator.
    unit, mean, scale
        Of numbers: the feature is (x / unit - mean) / scale. `unit` is a power of two, so that no
        square of a deviation overflows, whatever the units.
    levels
        Of texts: each has a feature that is 1 where the text is there.
    pooled
        Whether all other texts share one more feature.
    indicator
        Whether there is a feature that is 1 where the value is missing.
    base
        Of two texts that which is meant where the other one's feature is 0. None of other columns,
        and of those from before it was kept.
    """

    name: str
    kind: Kind
    missing_words: tuple[str, ...] = ()
    fill: float | str | None = None
    unit: float = 1.0
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    pooled: bool = False
    indicator: bool = False
    base: str | None = None

    @property
    def feature_names(self) -> list[str]:
        """Of the features that it becomes."""
        names = [self.name] if self.kind == "number" and self.fill is not None else []
        names += [f"{self.name} = {level}" for level in self.levels]
        names += [f"{self.name} = other"] * self.pooled
        return names + [f"{self.name} is missing"] * self.indicator

    def features(
        self, series: Any, first_row: int = 1, rows: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """The features ``(N,)`` float64 of the rows of a column."""
        where = f"column {self.name!r}"
        if self.kind == "number":
            values = as_numbers(series, where, self.missing_words, first_row=first_row, rows=rows)
            missing = np.isnan(values)
            found = []
            if self.fill is not None:
                values[missing] = self.fill
                with np.errstate(over="ignore"):  # clipped in the next line
                    scaled = (values / self.unit - self.mean) / self.scale
                found = [np.clip(scaled, -FURTHEST, FURTHEST)]
        else:
            codes, texts = self._texts(series)
            missing = codes < 0
            found = []
            if self.fill is not None:
                of_level: dict[Any, int] = {level: index for index, level in enumerate(self.levels)}
                other = len(self.levels)
                level_of = [of_level.get(text, other) for text in (*texts, self.fill)]
                # A missing text has the code -1, the place of what fills it.
                level = np.array(level_of)[codes]
                n_features = len(self.levels) + self.pooled
                found = [(level == index).astype(np.float64) for index in range(n_features)]
        return found + [missing.astype(np.float64)] * self.indicator

    @property
    def known(self) -> set[str]:
        """The texts of training that are told apart, as far as they were kept."""
        others = (text for text in (self.base, self.fill) if isinstance(text, str))
        return {*self.levels, *others}

    def unseen(self, series: Any) -> dict[str, int]:
        """What is read as something else, with its rows: infinite numbers and unknown texts.

        Empty of a column whose rare texts share a feature: new ones share it too.
        """
        if self.kind == "number":
            where = f"column {self.name!r}"
            return infinite_numbers(as_numbers(series, where, self.missing_words, infinite=True))
        known = self.known
        # Of a run from before `base` was kept nobody may know the first of two texts.
        if self.pooled or len(known) < 2:
            return {}
        codes, texts = self._texts(series)
        counts = np.bincount(codes[codes >= 0], minlength=len(texts)).tolist()
        return {t: n for t, n in zip(texts, counts, strict=True) if n and t not in known}

    def _texts(self, series: Any) -> tuple[np.ndarray, list[str]]:
        """As `as_texts`; of booleans 0 and 1 are the same, as databases write them."""
        codes, texts = as_texts(series, f"column {self.name!r}")
        if self.levels == ("True",) and self.base in (None, "False"):
            texts = [{"0": "False", "1": "True"}.get(text, text) for text in texts]
        return codes, texts


def fit_column(series: Any, name: str, kind: ColumnKind, said: list[str]) -> Column | None:
    """How a column becomes features; None if it tells nothing, which is said."""
    fit = _fit_numbers if kind.kind == "number" else _fit_texts
    column, why = fit(series, name, kind)
    if why:
        said.append(f"column {name!r}{': ' if column is not None else ' left out: '}{why}")
    return column


def _fit_numbers(series: Any, name: str, kind: ColumnKind) -> tuple[Column | None, str]:
    """The column, or None, and what is to be said of it."""
    check_missing_words(kind.missing_words, f"column {name!r}")
    values = as_numbers(series, f"column {name!r}", kind.missing_words, infinite=True)
    gaps = [repr(word) for word in kind.missing_words] + list(infinite_numbers(values))
    values[np.isinf(values)] = np.nan
    missing = np.isnan(values)
    present = values[~missing]
    if not len(present):
        return None, "every value is missing"
    often_missing = bool(missing.mean() >= _INDICATOR_FROM)
    words = f"{listing(gaps)} among its numbers means that one is missing" if gaps else ""
    if present.min() == present.max():
        if often_missing:  # such as a bonus that is there or not
            return Column(name, "number", kind.missing_words, indicator=True), words
        return None, f"its value is always {present[0]:g}"
    if _ID_NAMES.fullmatch(name) and _numbers_rows(present):
        return None, "it numbers the rows"
    return _scaled(name, kind, values, often_missing), words


def _numbers_rows(values: np.ndarray) -> bool:
    return bool((values == np.rint(values)).all()) and len(np.unique(values)) == len(values)


def _scaled(name: str, kind: ColumnKind, values: np.ndarray, indicator: bool) -> Column:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    largest = np.nanmax(np.abs(values))  # NaN: a missing cell
    # A power of two is divided by without rounding: medians and deviations have the same digits.
    unit = float(np.ldexp(1.0, int(np.frexp(largest)[1]) - 1))
    column = (values / unit)[:, None]
    imputer = SimpleImputer(strategy="median").fit(column)
    scaler = StandardScaler().fit(imputer.transform(column))
    return Column(
        name,
        "number",
        kind.missing_words,
        fill=float(_one(imputer.statistics_)) * unit,
        unit=unit,
        mean=float(_one(scaler.mean_)),
        scale=float(_one(scaler.scale_)),
        indicator=indicator,
    )


def _fit_texts(series: Any, name: str, kind: ColumnKind) -> tuple[Column | None, str]:
    """The column, or None, and what is to be said of it."""
    codes, texts = as_texts(series, f"column {name!r}")
    missing = codes < 0
    counts = np.bincount(codes[~missing], minlength=len(texts))
    n_texts, n_present = int((counts > 0).sum()), int(counts.sum())
    if not n_texts:
        return None, "every value is missing"
    often_missing = bool(missing.mean() >= _INDICATOR_FROM)
    if n_texts == 1:
        if often_missing:  # such as a remark that is there or not
            return Column(name, "text", indicator=True), ""
        return None, f"its value is always {texts[int(counts.argmax())]}"
    names_rows = n_texts == n_present and (n_texts > _MAX_LEVELS or _ID_NAMES.fullmatch(name))
    if names_rows or n_texts > max(_MAX_LEVELS, 0.5 * n_present):
        what = f"{n_texts:,} different texts in {n_present:,} rows, such as {texts[0][:30]!r}"
        return None, f"{what}, name rows rather than describe them"
    if n_texts > _MAX_LEVELS and counts.max() < _LEAST_FREQUENCY * len(codes):
        return None, f"each of its {n_texts:,} different texts is in less than 1 % of the rows"
    cells = np.array([*texts, None], dtype=object)[codes]
    column, why = _one_hot(name, cells, often_missing)
    said = said_of_case([text for text, count in zip(texts, counts, strict=True) if count])
    return column, "; ".join(filter(None, [why, said_of_gap_words(texts), said]))


def _one_hot(name: str, cells: np.ndarray, indicator: bool) -> tuple[Column, str]:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    nothing: Any = None
    imputer = SimpleImputer(strategy="most_frequent", missing_values=nothing)
    column = imputer.fit_transform(cells[:, None])
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=_MAX_LEVELS,
        min_frequency=_LEAST_FREQUENCY,
    )
    encoder.fit(column)
    levels = [str(level) for level in encoder.categories_[0]]
    rare = encoder.infrequent_categories_[0]
    rare = set() if rare is None else {str(level) for level in rare}
    kept = [level for level in levels if level not in rare]
    base = None
    if not rare and len(kept) == 2:  # the second feature would be one minus the first
        base, *kept = kept
    fill = str(_one(imputer.statistics_))
    column = Column(
        name,
        "text",
        fill=fill,
        levels=tuple(kept),
        pooled=bool(rare),
        indicator=indicator,
        base=base,
    )
    many = f"{len(kept)} of {len(levels):,} different texts have a feature of their own, the rare "
    return column, f"{many}ones share one" if rare else ""


def _one(values: Any) -> Any:
    return np.asarray(values).reshape(-1)[0]
