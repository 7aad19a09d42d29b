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
    as_frame,
    check_columns,
    is_frame,
    kind_of,
    listing,
    names_given,
)
from qdeq.data.labelled import LabelledRows
from qdeq.data.preparation import TablePreparation
from qdeq.data.roles import Roles
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
from qdeq.data.table_target import classes_of, infer_task
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
        Column that says how much each row counts, in training and in scores. It is no feature.
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
    roles = Roles.of(
        list(frame.columns), where, target=target, group=group, weight=weight, ignore=ignore
    )
    if preparation is not None:
        commas = preparation.decimal_commas
    else:
        frame, commas = _with_commas_as_texts(table, frame, roles, where)
    frame = read_decimal_commas(frame, commas, where)
    task, said = infer_task(frame, roles.targets, task, where)
    notes = [said]
    if commas:
        notes.append(f"decimal commas are read in {listing([repr(c) for c in commas])}")
    learned, left_out = LabelledRows.of(frame, roles.targets, task, where)
    notes += left_out
    held = None
    if test is not None:
        held_frame, test_where, extra = _test_frame(test, table, frame, roles, commas)
        held, left_out = LabelledRows.of(held_frame, roles.targets, task, test_where)
        notes += [f"{test_where}: {said}" for said in (*extra, *left_out)]
        if roles.group is not None:
            learned.check_other_groups(held, roles.group)
    classes: tuple[int | str, ...] = ()
    if task == "classification":
        classes = classes_of(learned.labels, roles.targets[0], where)
        learned = learned.with_positions(classes, roles.targets[0], where)
        if held is not None:
            held = held.with_positions(classes, roles.targets[0], where)
    weights = None if roles.weight is None else learned.weights(roles.weight)
    groups = None if roles.group is None else learned.groups(roles.group)
    strata = learned.labels if task == "classification" else None
    learning, testing = np.arange(len(learned.labels)), np.empty(0, dtype=int)
    if held is None:
        learning, testing = _draw(learning, strata, groups, test_fraction, _TEST_SEED, where)
    train, valid = _draw(learning, strata, groups, valid_fraction, split_seed, where)
    if preparation is None:
        if not roles.features:
            others = listing(roles.no_features)
            raise UserError(f"{where} has no column beside {others}: give some to learn")
        features = learned.frame[list(roles.features)]
        preparation = TablePreparation.fit(
            features.iloc[train],
            targets=roles.targets,
            task=task,
            classes=classes,
            components=components,
            kinds={c: kind_of(features[c], f"{where}: column {c!r}") for c in features},
            notes=notes,
            decimal_commas=commas,
            name=where,
        )
    x = preparation.transform(learned.frame, name=where, rows=learned.numbers)

    def split(rows: np.ndarray) -> Split:
        return Split(x[rows], learned.labels[rows], None if weights is None else weights[rows])

    if held is None:
        tested = split(testing)
    else:
        held_x = preparation.transform(held.frame, name=held.where, rows=held.numbers)
        tested = Split(held_x, held.labels)
    parts = split(train), split(valid), tested
    if task == "classification":
        dataset = classification(
            name, *parts, classes=classes, image_shape=(1, x.shape[1]), all_in_test=held is None
        )
    else:
        dataset = scaled_regression(name, *parts, names=roles.targets)
    return dataclasses.replace(dataset, preparation=preparation, source=source)


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


def _with_commas_as_texts(
    table: Any, frame: Any, roles: Roles, where: str
) -> tuple[Any, tuple[str, ...]]:
    """The frame, and its columns with decimal commas; these are texts as the file has them."""
    if not (isinstance(table, str | Path) and may_have_decimal_commas(table)):
        return frame, ()
    columns = roles.may_be_numbers
    if not decimal_comma_columns(frame, columns, where):
        return frame, ()
    frame = read_whole(table, texts=columns)  # of 189.400 pandas had made 189.4
    return frame, decimal_comma_columns(frame, columns, where)


def _test_frame(
    test: Any, table: Any, frame: Any, roles: Roles, commas: Sequence[str]
) -> tuple[Any, str, list[str]]:
    """The table to test on, what it is called, and notes on what it has beside the other table."""
    if _is_same_arrays(table, test):
        held = next(ArraysFile.open(existing(test), "_test").frames(None))
    else:
        held, _ = _frame(test, "test", texts=commas)
    where, learning = _where(test, "test table"), _where(table, "table")
    columns = list(held.columns)
    needed = [*roles.targets, *([] if roles.group is None else [roles.group])]
    check_columns(needed, columns, where, f"which {learning} has")
    check_columns(roles.features, columns, where, f"which {learning} has (--ignore leaves one out)")
    extra = [column for column in columns if column not in frame.columns]
    notes = [f"{listing(extra)} ignored, as {learning} has no such column"] if extra else []
    return read_decimal_commas(held, commas, where), where, notes


def _is_same_arrays(table: Any, test: Any) -> bool:
    """Whether the test set is that of the same `.npz` file."""
    both = isinstance(table, str | Path) and isinstance(test, str | Path)
    return both and ending_of(Path(test)) == ".npz" and Path(table) == Path(test)


def _draw(
    rows: np.ndarray,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    fraction: float,
    seed: int,
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Which of `rows` to keep and which to hold out: the same part of every class, whole groups."""
    labels, groups = (None if of is None else of[rows] for of in (labels, groups))
    if groups is not None:
        kept, held_out = group_indices(groups, labels, fraction=fraction, seed=seed, name=where)
    elif labels is not None:
        kept, held_out = stratified_indices(labels, fraction=fraction, seed=seed)
    else:
        kept, held_out = train_valid_indices(len(rows), valid_fraction=fraction, seed=seed)
        kept, held_out = np.sort(kept), np.sort(held_out)
    return rows[kept], rows[held_out]
