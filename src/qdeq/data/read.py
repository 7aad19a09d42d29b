"""A data set from a table of one's own: a file or a frame, with mixed columns and gaps.

Which rows train is drawn first, then everything is fitted to these.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from qdeq.data.dataset import Dataset, Split
from qdeq.data.decimals import decimal_comma_columns, read_decimal_commas
from qdeq.data.frames import (
    ColumnKind,
    as_frame,
    as_numbers,
    as_texts,
    check_columns,
    is_frame,
    is_gap_word,
    kind_of,
    listing,
    names_given,
)
from qdeq.data.inputs import weight_array
from qdeq.data.preparation import TablePreparation
from qdeq.data.splits import (
    check_fraction,
    classification,
    group_indices,
    scaled_regression,
    stratified_indices,
    train_valid_indices,
)
from qdeq.data.table_files import (
    ArraysFile,
    ending_of,
    existing,
    may_have_decimal_commas,
    read_whole,
    stem_of,
)
from qdeq.data.table_target import classes_of, infer_task, labels_of, positions, targets_of
from qdeq.errors import UserError, check_choice
from qdeq.names import Task

_TEST_SEED = 0  # the same test rows for every `split_seed`: results of other splits stay comparable


def read_table(
    table: Any,
    target: str | Sequence[str],
    *,
    task: Task | None = None,
    test: Any = None,
    group: str | None = None,
    weight: str | None = None,
    ignore: str | Sequence[str] = (),
    components: int | None = None,
    test_fraction: float = 0.2,
    valid_fraction: float = 0.2,
    split_seed: int = 0,
    name: str | None = None,
    preparation: TablePreparation | None = None,
) -> Dataset:
    """Make a data set of a table: columns of numbers and texts, with values missing.

    Numbers are imputed by their median and standardised, texts become one feature per level, and a
    column with many gaps gets a feature that says where they are; all of this is fitted to the rows
    that train. Columns that tell nothing (constant, numbering the rows, different texts in every
    row) are left out. `dataset.preparation` keeps the numbers, and its `notes` what was decided.

    Parameters
    ----------
    table
        A path (``.csv``, ``.tsv``, also ``.gz``; ``.parquet``; ``.npz`` with x and y), a frame of
        pandas or polars, an Arrow table, or a mapping from names to columns.
    target
        Column to predict; several of a regression as a list or ``"a,b"``.
    task
        ``"classification"`` or ``"regression"``. None tells it from the target: texts, booleans,
        two different numbers, and few whole numbers (at most 20, each at least 3 times on average)
        are classes.
    test
        A table of the same columns to test on. None holds out `test_fraction`.
    group
        Column whose equal values stay in one split, such as a patient's number. It is no feature.
    weight
        Column that says how much each row counts in training. It is no feature.
    ignore
        Columns to leave out, as a list or ``"a,b"``.
    components
        Number of principal components to take instead of the features; None takes these.
    test_fraction
        Part of the rows (of every class) that tests, the same rows for every `split_seed`.
    valid_fraction, split_seed
        Part of the other rows that validates, and the seed by which it is drawn.
    name
        In messages and summaries; None is the name of the file.
    preparation
        One that was fitted to the same table before, to be used instead of fitting.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        One line for what cannot be read or used, with what to do.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"height": range(60), "sort": ["oak", "fir", "elm"] * 20})
    >>> dataset = read_table(table, target="sort")
    >>> dataset.classes, dataset.train.x.shape
    (('elm', 'fir', 'oak'), (39, 1))
    >>> dataset.preparation.notes
    ("task: classification, 'sort' holds 3 different texts",)
    """
    if task is not None:
        check_choice("task", task, get_args(Task))
    check_fraction("test_fraction", test_fraction)
    check_fraction("valid_fraction", valid_fraction)
    if not names_given(target):
        raise UserError("target=...: name the column to predict")
    source = str(Path(table).expanduser().resolve()) if isinstance(table, str | Path) else None
    frame, where = _frame(table, "table")
    name = name or (stem_of(table) if source is not None else "table")
    known = list(frame.columns)
    targets = names_given(target, known)
    group, weight = _one_name("group", group, known), _one_name("weight", weight, known)
    special = [*targets, *(column for column in (group, weight) if column is not None)]
    for column in special:
        if special.count(column) > 1:
            raise UserError(f"column {column!r} is named twice, as target, group or weight")
    wanted = {
        "target": targets,
        "group": names_given(group, known),
        "weight": names_given(weight, known),
    }
    wanted["ignore"] = names_given(ignore, known)
    for column in targets:
        if column in wanted["ignore"]:
            raise UserError(f"ignore={column!r}: it is the target, leave it out of one of the two")
    for option, columns in wanted.items():
        check_columns(columns, known, where, f"the {option}")
    features = [c for c in known if c not in {*special, *wanted["ignore"]}]
    numbers = [column for column in (*features, *targets, weight) if column is not None]
    notes: list[str] = []
    commas = () if preparation is None else preparation.decimal_commas
    if preparation is None and source is not None and may_have_decimal_commas(table):
        commas = decimal_comma_columns(frame, numbers, where)
        if commas:  # of 189.400 pandas had made 189.4
            frame = read_whole(table, texts=numbers)
            commas = decimal_comma_columns(frame, numbers, where)
    frame = read_decimal_commas(frame, commas, where)
    task, said = infer_task(frame, targets, task, where)
    notes.append(said)
    if commas:
        notes.append(f"decimal commas are read in {listing([repr(c) for c in commas])}")
    frame, labels, rows = _labelled(frame, targets, task, where, notes)
    needed = [*targets, *wanted["group"]]
    held, test_where = None, _where(test, "test table")
    test_labels = test_rows = np.empty(0)
    if test is not None:
        held = _test_frame(table, test, frame, features, needed, notes, commas)
        said_of_test: list[str] = []
        held, test_labels, test_rows = _labelled(held, targets, task, test_where, said_of_test)
        notes += [f"{test_where}: {said}" for said in said_of_test]
    groups = None if group is None else _groups(frame[group], group, where, rows)
    weights = None if weight is None else _weights(frame[weight], weight, where, rows)
    classes: tuple[int | str, ...] = ()
    if task == "classification":
        classes = classes_of(labels, targets[0], where)
        labels = positions(labels, classes, where, targets[0], where, rows)
    strata = labels if task == "classification" else None
    if held is None:
        learning, testing = _draw(strata, groups, len(frame), test_fraction, _TEST_SEED, where)
    else:
        learning, testing = np.arange(len(frame)), None
    train, valid = _draw(
        None if strata is None else strata[learning],
        None if groups is None else groups[learning],
        len(learning),
        valid_fraction,
        split_seed,
        where,
    )
    train, valid = learning[train], learning[valid]
    if preparation is None:
        kinds = {column: _kind(frame[column], column, where) for column in features}
        if not kinds:
            raise UserError(f"{where} has no column beside {listing(special)}: give some to learn")
        preparation = TablePreparation.fit(
            frame[features].iloc[train],
            targets=targets,
            task=task,
            classes=classes,
            components=components,
            kinds=kinds,
            notes=notes,
            decimal_commas=commas,
            name=where,
        )
    x = preparation.transform(frame, name=where, rows=rows)

    def split(rows: np.ndarray) -> Split:
        return Split(x[rows], labels[rows], None if weights is None else weights[rows])

    if testing is not None:
        tested = split(testing)
    else:
        assert held is not None
        if groups is not None:
            assert group is not None
            held_groups = _groups(held[group], group, test_where, test_rows)
            _check_groups(groups, held_groups, group, where, test_where)
        if task == "classification":
            test_labels = positions(test_labels, classes, test_where, targets[0], where, test_rows)
        tested = Split(preparation.transform(held, name=test_where, rows=test_rows), test_labels)
    parts = split(train), split(valid), tested
    if task == "classification":
        dataset = classification(
            name, *parts, classes=classes, image_shape=(1, x.shape[1]), all_in_test=held is None
        )
    else:
        dataset = scaled_regression(name, *parts, names=targets)
    return dataclasses.replace(dataset, preparation=preparation, source=source)


def _one_name(option: str, given: str | None, columns: Sequence[str]) -> str | None:
    if given is None:
        return None
    names = names_given(given, columns)
    if len(names) != 1:
        raise UserError(f"{option}={given!r}: name one column, or leave {option} out")
    return names[0]


def _where(table: Any, name: str) -> str:
    return str(table) if isinstance(table, str | Path) else name


def _frame(table: Any, name: str, *, texts: Sequence[str] = ()) -> tuple[Any, str]:
    where = _where(table, name)
    if isinstance(table, str | Path):
        return read_whole(table, texts=texts), where
    if not is_frame(table):
        raise UserError(
            f"{name}: a {type(table).__name__}: give a path, a data frame or an Arrow table "
            "(qdeq.data.from_arrays takes arrays)"
        )
    frame = as_frame(table, where)
    if not len(frame):
        raise UserError(f"{where} has no rows: give at least one")
    return frame.reset_index(drop=True), where


def _kind(series: Any, column: str, where: str) -> ColumnKind:
    return kind_of(series, f"{where}: column {column!r}")


def _labelled(
    frame: Any, targets: Sequence[str], task: Task, where: str, notes: list[str]
) -> tuple[Any, np.ndarray, np.ndarray]:
    """The rows whose target is known, their labels or targets, and their numbers from 1."""
    if task == "classification":
        labels = labels_of(frame[targets[0]], f"{where}: target {targets[0]!r}")
        known = np.array([label is not None for label in labels], dtype=bool)
    else:
        labels = targets_of(frame, targets, where)
        known = ~np.isnan(labels).any(axis=1)
    if not known.any():
        raise UserError(
            f"{where}: every value of the target {listing(targets)} is missing: name another one"
        )
    if not known.all():
        words = [word for target in targets for word in _gap_words(frame[target], target, where)]
        written = f" (also {listing(words)})" if words else ""
        said = f"{(~known).sum():,} rows left out: their {listing(targets)} is missing{written}"
        notes.append(said)
        frame, labels = frame[known].reset_index(drop=True), labels[known]
    return frame, labels, np.flatnonzero(known) + 1


def _gap_words(series: Any, target: str, where: str) -> list[str]:
    kind = kind_of(series, f"{where}: target {target!r}")
    return [repr(word) for word in kind.missing_words if is_gap_word(word)]


def _test_frame(
    table: Any,
    test: Any,
    frame: Any,
    features: list[str],
    needed: list[str],
    notes: list[str],
    commas: Sequence[str],
) -> Any:
    held, where = (
        (_arrays_test(test), str(test))
        if _is_same_arrays(table, test)
        else _frame(test, "test", texts=commas)
    )
    learning = _where(table, "table")
    columns = list(held.columns)
    check_columns(needed, columns, where, f"which {learning} has")
    check_columns(features, columns, where, f"which {learning} has (--ignore leaves one out)")
    extra = [column for column in columns if column not in frame.columns]
    if extra:
        notes.append(f"{where}: {listing(extra)} ignored, as {learning} has no such column")
    return read_decimal_commas(held, commas, where)


def _is_same_arrays(table: Any, test: Any) -> bool:
    """Whether the test set is that of the same `.npz` file."""
    both = isinstance(table, str | Path) and isinstance(test, str | Path)
    return both and ending_of(Path(test)) == ".npz" and Path(table) == Path(test)


def _arrays_test(test: str | Path) -> Any:
    return next(ArraysFile.open(existing(test), "_test").frames(None))


def _weights(series: Any, weight: str, where: str, rows: np.ndarray) -> np.ndarray:
    place = f"{where}: column {weight!r}"
    array = as_numbers(
        series, place, rows=rows, infinite=True, advice=": give every row a weight of at least 0"
    )
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(bad):
        row = int(rows[bad[0]])
        raise UserError(
            f"{place}: the weight at index {row - 1} is {array[bad[0]]} (row {row}): give finite "
            "numbers of at least 0"
        )
    return weight_array(array, len(array), place)


def _groups(series: Any, group: str, where: str, rows: np.ndarray) -> np.ndarray:
    missing = np.flatnonzero(as_texts(series, f"{where}: column {group!r}")[0] < 0)
    if len(missing):
        raise UserError(
            f"{where}: the group {group!r} is missing in {len(missing)} rows (the first is row "
            f"{rows[missing[0]]}): fill it in"
        )
    return series.astype(str).to_numpy(dtype=object)


def _check_groups(
    groups: np.ndarray, held: np.ndarray, group: str, where: str, test_where: str
) -> None:
    both = sorted(set(groups) & set(held))
    if both:
        raise UserError(
            f"{len(both)} values of the group {group!r} are both in {where} and in {test_where} "
            f"({listing(both, 5)}): keep each in one of them"
        )


def _draw(
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    n_rows: int,
    fraction: float,
    seed: int,
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to keep and rows to hold out: the same part of every class, whole groups."""
    if groups is not None:
        return group_indices(groups, labels, fraction=fraction, seed=seed, name=where)
    if labels is not None:
        return stratified_indices(labels, fraction=fraction, seed=seed)
    kept, held_out = train_valid_indices(n_rows, valid_fraction=fraction, seed=seed)
    return np.sort(kept), np.sort(held_out)
