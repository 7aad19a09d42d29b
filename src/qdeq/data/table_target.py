"""What a table is there to predict: classification or regression, labels and targets.

The rule that tells the task is written at `infer_task`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qdeq.data.frames import (
    ColumnKind,
    as_numbers,
    as_texts,
    is_gap_word,
    is_number,
    kind_of,
    listing,
    said_of_case,
    said_of_gap_words,
)
from qdeq.errors import UserError
from qdeq.names import Task

_MOST_CLASSES = 20
_EXACT = 2**53  # from here on float64 has not every whole number
_LEAST_ROWS = 3  # one in each of train, valid and test


def infer_task(
    frame: Any, targets: Sequence[str], given: Task | None, where: str
) -> tuple[Task, str]:
    """The task, and a line that says why.

    Several targets, or one of numbers: a regression; but a classification if it holds two
    different numbers, or at most 20 different whole numbers, each three times or more on average.
    Texts and booleans: a classification. Words among numbers that would be a classification are
    labels; among numbers that would be a regression they are a mistake, unless they say that a
    number is missing.

    Raises
    ------
    UserError
        For several targets of a classification, or texts or infinite numbers in a target of a
        regression.
    """
    kinds = {target: kind_of(frame[target], f"{where}: target {target!r}") for target in targets}
    if len(targets) > 1:
        if given == "classification":
            raise UserError(
                f"target={','.join(targets)!r}: a classification has one target; name one, or give "
                "--task regression"
            )
        targets_of(frame, targets, where)
        return "regression", f"task: regression of {len(targets)} targets"
    (target,) = targets
    kind = kinds[target]
    if given == "regression":
        targets_of(frame, targets, where)
    if given == "classification":
        return given, "task: classification, as given" + _said_of_texts(frame[target], kind)
    if given is not None:
        return given, f"task: {given}, as given"
    if kind.kind == "text":
        return "classification", _texts_line(frame[target], target, kind, where)
    values = as_numbers(frame[target], f"{where}: target {target!r}", kind.missing_words)
    values = values[~np.isnan(values)]
    n = len(np.unique(values))
    whole = bool((values == np.rint(values)).all())
    is_label = n <= 2 or (whole and n <= _MOST_CLASSES and len(values) >= 3 * n)
    if not is_label:
        targets_of(frame, targets, where)
    if _are_texts(kind):
        return "classification", _texts_line(frame[target], target, kind, where)
    task, other = ("classification", "regression") if is_label else ("regression", "classification")
    what = "whole numbers" if whole else "numbers"
    line = f"task: {task}, {target!r} holds {n} different {what}; --task {other} otherwise"
    return ("classification" if is_label else "regression"), line


def _texts_line(series: Any, target: str, kind: ColumnKind, where: str) -> str:
    labels = labels_of(series, f"{where}: target {target!r}")
    texts = sorted({label for label in labels if label is not None})
    said = f"; {alike}" if (alike := said_of_case(texts)) else ""
    said += _said_of_texts(series, kind)
    return f"task: classification, {target!r} holds {len(texts)} different texts{said}"


def _said_of_texts(series: Any, kind: ColumnKind) -> str:
    said = said_of_gap_words(as_texts(series, "target")[1]) if _are_texts(kind) else ""
    return f" ({said})" if said else ""


def _are_texts(kind: ColumnKind) -> bool:
    """Whether a target's labels are texts: also where a few words stand among numbers."""
    return kind.kind == "text" or not all(map(is_gap_word, kind.missing_words))


def labels_of(series: Any, where: str) -> np.ndarray:
    """One label for every row, None where it is missing: whole numbers, otherwise texts.

    A word among numbers is a label as they are (chromosomes 1 to 22, X and Y); where the only words
    are those for a gap, such as `NA` and `?`, they are gaps.

    Raises
    ------
    UserError
        For an infinite number.
    """
    kind = kind_of(series, where)
    labels = np.empty(len(series), dtype=object)
    if _are_texts(kind):
        codes, texts = as_texts(series, where)
        if kind.kind == "number":  # files write 1 where frames hold 1.0
            texts = [_whole(text) for text in texts]
        labels[:] = np.array([*texts, None], dtype=object)[codes]
        return labels
    values = _finite(series, where, kind, "correct it, or leave the cell empty")
    present = ~np.isnan(values)
    large = np.flatnonzero(np.abs(np.where(present, values, 0)) >= _EXACT)
    if len(large):
        raise UserError(
            f"{where} is {int(values[large[0]])} or near it in row {large[0] + 1} "
            f"({_rows(len(large))}): labels of 2**53 and more are not told apart as numbers; write "
            "them as texts, with a letter in front"
        )
    whole = bool((values[present] == np.rint(values[present])).all())
    made = [int(v) if whole else repr(v) for v in values[present].tolist()]
    labels[present] = np.array(made, dtype=object)
    return labels


def labels_of_array(y: np.ndarray, where: str) -> np.ndarray:
    """Labels of an array ``(N,)`` as `labels_of` makes them, where none may be missing.

    Raises
    ------
    UserError
        For a label that is NaN or infinite, or neither number nor text.
    """
    if y.dtype.kind not in "biufU":
        raise UserError(
            f"{where} has the type {y.dtype}: give one whole number or text for each sample"
        )
    if y.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(y))
        if len(wrong):
            raise UserError(
                f"{where} is {y[wrong[0]]} at index {wrong[0]} ({_rows(len(wrong))}): give every "
                "sample a label, or leave it out"
            )
        whole = bool((y == np.rint(y)).all())
        return np.array([int(v) if whole else repr(v) for v in y.tolist()], dtype=object)
    return np.array(y.tolist(), dtype=object)


def _whole(text: str) -> str:
    if not is_number(text):
        return text
    number = float(as_numbers(np.array([text], dtype=object), "label")[0])
    return str(int(number)) if number.is_integer() and abs(number) < _EXACT else text.strip()


def _finite(series: Any, where: str, kind: ColumnKind, advice: str) -> np.ndarray:
    values = as_numbers(series, where, kind.missing_words, infinite=True)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise UserError(
            f"{where} is {values[infinite[0]]} in row {infinite[0] + 1} ({_rows(len(infinite))}): "
            f"{advice}"
        )
    return values


def _rows(n: int) -> str:
    return "the only such row" if n == 1 else f"{n:,} such rows"


def targets_of(frame: Any, targets: Sequence[str], where: str) -> np.ndarray:
    """``(N, T)`` float64, NaN where a number is missing.

    Raises
    ------
    UserError
        Naming texts that do not say that a number is missing, or an infinite number.
    """
    columns = []
    for target in targets:
        place = f"{where}: target {target!r}"
        kind = kind_of(frame[target], place)
        if _are_texts(kind):
            _refuse_texts(frame[target], kind, place)
        advice = "a regression predicts finite numbers, so correct it or leave the cell empty"
        columns.append(_finite(frame[target], place, kind, advice))
    return np.stack(columns, axis=1)


def _refuse_texts(series: Any, kind: ColumnKind, where: str) -> None:
    codes, texts = as_texts(series, where)
    wrong = [
        index
        for index, text in enumerate(texts)
        if kind.kind == "text" or not (is_number(text) or is_gap_word(text))
    ]
    rows = np.flatnonzero(np.isin(codes, wrong))
    if not len(rows):  # every cell is empty
        return
    if kind.kind == "text":
        words, place = repr(texts[codes[rows[0]]][:30]), f"row {rows[0] + 1}"
    else:
        words = listing([repr(texts[index][:30]) for index in wrong], 5)
        place = f"row {rows[0] + 1}, {_rows(len(rows))}"
    raise UserError(
        f"{where} holds texts such as {words} ({place}) and a regression predicts numbers: correct "
        "them or leave the cells empty, or give --task classification or another target"
    )


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
    labels: np.ndarray,
    classes: Sequence[int | str],
    where: str,
    target: str,
    learning: str,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Where each label stands in the classes, ``(N,)`` int32.

    `rows` are their numbers in messages, where some were left out.

    Raises
    ------
    UserError
        For a label that is not among them.
    """
    place = {label: index for index, label in enumerate(classes)}
    texts = {str(label): index for label, index in place.items()}  # 1 and "1" of two files
    for text, index in list(texts.items()):  # and "1.0" beside "0.5", where the other has 1 alone
        texts.setdefault(text.removesuffix(".0"), index)
    found = np.array(
        [place.get(label, texts.get(str(label), -1)) for label in labels], dtype=np.int32
    )
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        row = unknown[0] + 1 if rows is None else rows[unknown[0]]
        raise UserError(
            f"{where}: label {labels[unknown[0]]!r} of {target!r} (row {row}; "
            f"{len(unknown)} such rows) is not in {learning}, where the classes are "
            f"{listing(classes)}: correct it, or leave such rows out"
        )
    return found
