"""The rows of a table whose target is known, with what columns say of each row."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qdeq.data.frames import as_numbers, as_texts, is_gap_word, kind_of, listing
from qdeq.data.inputs import weight_array
from qdeq.data.table_target import labels_of, positions, targets_of
from qdeq.errors import UserError
from qdeq.names import Task


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """The rows of one table whose target is known.

    Attributes
    ----------
    frame
        These rows, a pandas frame.
    where
        What the table is called in messages.
    labels
        Labels ``(N,)`` or targets ``(N, n_targets)`` of the rows.
    numbers
        Their numbers in the table, from 1, ``(N,)``.
    """

    frame: Any
    where: str
    labels: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(
        cls, frame: Any, targets: Sequence[str], task: Task, where: str
    ) -> tuple["LabelledRows", list[str]]:
        """The rows of a frame, and notes on those that are left out.

        Raises
        ------
        UserError
            Where no row has a target, or where one is not what the task can have.
        """
        if task == "classification":
            labels = labels_of(frame[targets[0]], f"{where}: target {targets[0]!r}")
            known = np.array([label is not None for label in labels], dtype=bool)
        else:
            labels = targets_of(frame, targets, where)
            known = ~np.isnan(labels).any(axis=1)
        if not known.any():
            raise UserError(
                f"{where}: every value of the target {listing(targets)} is missing: name another "
                "one"
            )
        notes = []
        if not known.all():
            words = [
                word for target in targets for word in _gap_words(frame[target], target, where)
            ]
            written = f" (also {listing(words)})" if words else ""
            notes.append(
                f"{(~known).sum():,} rows left out: their {listing(targets)} is missing{written}"
            )
            frame, labels = frame[known].reset_index(drop=True), labels[known]
        return cls(frame, where, labels, np.flatnonzero(known) + 1), notes

    def with_positions(
        self, classes: Sequence[int | str], target: str, learning: str
    ) -> "LabelledRows":
        """The same rows, whose labels are where they stand in the classes of the table `learning`.

        Raises
        ------
        UserError
            For a label that is not among them.
        """
        labels = positions(self.labels, classes, self.where, target, learning, self.numbers)
        return dataclasses.replace(self, labels=labels)

    def groups(self, column: str) -> np.ndarray:
        """The group of every row, ``(N,)`` texts; a missing one is a `UserError`."""
        codes, texts = as_texts(self.frame[column], f"{self.where}: column {column!r}")
        missing = np.flatnonzero(codes < 0)
        if len(missing):
            raise UserError(
                f"{self.where}: the group {column!r} is missing in {len(missing)} rows (the first "
                f"is row {self.numbers[missing[0]]}): fill it in"
            )
        return np.array(texts, dtype=object)[codes]

    def weights(self, column: str) -> np.ndarray:
        """The weight of every row, ``(N,)``; one that is not a number from 0 is a `UserError`."""
        place = f"{self.where}: column {column!r}"
        array = as_numbers(
            self.frame[column],
            place,
            rows=self.numbers,
            infinite=True,
            advice=": give every row a weight of at least 0",
        )
        bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
        if len(bad):
            row = int(self.numbers[bad[0]])
            raise UserError(
                f"{place}: the weight at index {row - 1} is {array[bad[0]]} (row {row}): give "
                "finite numbers of at least 0"
            )
        return weight_array(array, len(array), place)

    def check_other_groups(self, test: "LabelledRows", column: str) -> None:
        """Raise `UserError` where a group of these rows is in the test table, too."""
        both = sorted(set(self.groups(column)) & set(test.groups(column)))
        if both:
            raise UserError(
                f"{len(both)} values of the group {column!r} are both in {self.where} and in "
                f"{test.where} ({listing(both, 5)}): keep each in one of them"
            )


def _gap_words(series: Any, target: str, where: str) -> list[str]:
    kind = kind_of(series, f"{where}: target {target!r}")
    return [repr(word) for word in kind.missing_words if is_gap_word(word)]
