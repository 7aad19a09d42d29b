"""What a table is there to predict: classification or regression, labels and targets.

The rule that tells the task is written at `infer_task`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qdeq.data.frames import ColumnKind, as_numbers, as_texts, kind_of, listing
from qdeq.errors import UserError
from qdeq.names import Task

_MOST_CLASSES = 20
_LEAST_ROWS = 3  # one in each of train, valid and test


def infer_task(
    frame: Any, targets: Sequence[str], given: Task | None, where: str
) -> tuple[Task, str]:
    """The task, and a line that says why.

    Several targets, or one of numbers: a regression; but a classification if it holds two
    different numbers, or at most 20 different whole numbers, each three times or more on average.
    Texts and booleans: a classification.

    Raises
    ------
    UserError
        For several targets of a classification, or texts in a target of a regression.
    """
    kinds = {target: kind_of(frame[target], f"{where}: target {target!r}") for target in targets}
    if len(targets) > 1:
        if given == "classification":
            raise UserError(
                f"target={','.join(targets)!r}: a classification has one target; name one, or give "
                "--task regression"
            )
        _check_numbers(frame, kinds, where)
        return "regression", f"task: regression of {len(targets)} targets"
    (target,) = targets
    kind = kinds[target]
    if given == "regression":
        _check_numbers(frame, kinds, where)
    if given is not None:
        return given, f"task: {given}, as given"
    if kind.kind == "text":
        n = len(as_texts(frame[target], f"{where}: target {target!r}")[1])
        return "classification", f"task: classification, {target!r} holds {n} different texts"
    values = as_numbers(frame[target], f"{where}: target {target!r}", kind.missing_words)
    values = values[~np.isnan(values)]
    n = len(np.unique(values))
    whole = bool((values == np.rint(values)).all())
    is_label = n <= 2 or (whole and n <= _MOST_CLASSES and len(values) >= 3 * n)
    task, other = ("classification", "regression") if is_label else ("regression", "classification")
    what = "whole numbers" if whole else "numbers"
    line = f"task: {task}, {target!r} holds {n} different {what}; --task {other} otherwise"
    return ("classification" if is_label else "regression"), line


def _check_numbers(frame: Any, kinds: dict[str, ColumnKind], where: str) -> None:
    for target, kind in kinds.items():
        codes, texts = as_texts(frame[target], f"{where}: target {target!r}")
        if kind.kind == "text" and texts:
            row = int(np.flatnonzero(codes >= 0)[0])
            raise UserError(
                f"{where}: target {target!r} holds texts such as {texts[codes[row]][:30]!r} (row "
                f"{row + 1}) and a regression predicts numbers: give --task classification, or "
                "another target"
            )


def labels_of(series: Any, where: str) -> np.ndarray:
    """One label for every row, None where it is missing: whole numbers, otherwise texts."""
    kind = kind_of(series, where)
    labels = np.empty(len(series), dtype=object)
    if kind.kind == "text":
        codes, texts = as_texts(series, where)
        labels[:] = np.array([*texts, None], dtype=object)[codes]
        return labels
    values = as_numbers(series, where, kind.missing_words)
    present = ~np.isnan(values)
    whole = bool((values[present] == np.rint(values[present])).all())
    made = [int(v) if whole else repr(v) for v in values[present].tolist()]
    labels[present] = np.array(made, dtype=object)
    return labels


def targets_of(frame: Any, targets: Sequence[str], where: str) -> np.ndarray:
    """``(N, T)`` float64, NaN where a number is missing."""
    columns = []
    for target in targets:
        place = f"{where}: target {target!r}"
        kind = kind_of(frame[target], place)
        columns.append(as_numbers(frame[target], place, kind.missing_words))
    return np.stack(columns, axis=1)


def classes_of(labels: np.ndarray, target: str, where: str) -> tuple[int | str, ...]:
    """The different labels, sorted, each with rows enough for three splits.

    Raises
    ------
    UserError
        If there is one, or some have fewer than three rows.
    """
    values, counts = np.unique(labels.astype(str) if _mixed(labels) else labels, return_counts=True)
    classes = tuple(values.tolist())
    if len(classes) < 2:
        raise UserError(
            f"{where}: target {target!r} holds one class ({listing(classes)}): a classification "
            "needs at least two"
        )
    rare = [label for label, count in zip(classes, counts, strict=True) if count < _LEAST_ROWS]
    if rare:
        number = all(isinstance(label, int) for label in classes) or _are_numbers(classes)
        regression = "; --task regression predicts numbers" if number else ""
        raise UserError(
            f"{where}: {len(rare)} of {len(classes)} classes of {target!r} have fewer than "
            f"{_LEAST_ROWS} rows ({listing(rare, 5)}): each needs one in training, validation and "
            f"test, so leave their rows out or put rare classes together{regression}"
        )
    return classes


def _mixed(labels: np.ndarray) -> bool:
    return len({type(label) for label in labels}) > 1


def _are_numbers(classes: Sequence[Any]) -> bool:
    try:
        _ = [float(label) for label in classes]
    except ValueError:
        return False
    return True


def positions(
    labels: np.ndarray, classes: Sequence[int | str], where: str, target: str, learning: str
) -> np.ndarray:
    """Where each label stands in the classes, ``(N,)`` int32.

    Raises
    ------
    UserError
        For a label that is not among them.
    """
    place = {label: index for index, label in enumerate(classes)}
    texts = {str(label): index for label, index in place.items()}  # 1 and "1" of two files
    found = np.array(
        [place.get(label, texts.get(str(label), -1)) for label in labels], dtype=np.int32
    )
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        raise UserError(
            f"{where}: label {labels[unknown[0]]!r} of {target!r} (row {unknown[0] + 1}; "
            f"{len(unknown)} such rows) is not in {learning}, where the classes are "
            f"{listing(classes)}: correct it, or leave such rows out"
        )
    return found
