"""How right predictions of a table are, counted part by part, where it holds what they are of."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdeq.data.decimals import read_decimal_commas
from qdeq.data.frames import listing
from qdeq.data.table_target import labels_of, positions, targets_of
from qdeq.errors import UserError
from qdeq.names import IN_WORDS, SCORES
from qdeq.runs.trained import Run


@dataclass
class Scored:
    """What is counted, in memory that does not grow with the rows.

    Parameters
    ----------
    run
        That predicts.
    names
        Of the columns that hold what is predicted.
    n_rows, sums
        Rows in which it is known so far, and what is summed over them: of a classification the
        right ones; of a regression, for every target in units of its deviation in training, its
        distance from the first row's, the square of that, and that of the error. From the first
        row: a target that is always the same has no spread then, whatever is rounded.
    problem
        Why nothing can be said.
    """

    run: Run
    names: tuple[str, ...]
    n_rows: int = 0
    sums: Any = 0.0
    problem: str = field(default="", init=False)
    first: np.ndarray | None = field(default=None, init=False)

    def add(self, frame: Any, answers: np.ndarray, where: str) -> None:
        """Count some rows of the table, with their predictions."""
        if self.problem:
            return
        try:
            if self.run.preparation is not None:
                commas = self.run.preparation.decimal_commas
                commas = [name for name in self.names if name in commas]
                frame = read_decimal_commas(frame, commas, where)
            if self.run.targets is None:
                self._add_labels(frame, answers, where)
            else:
                self._add_numbers(frame, answers.reshape(len(frame), -1), where)
        except UserError as error:  # what the model does not read may be anything
            self.problem = f"no {self._score}: {error}"

    @property
    def score(self) -> float | None:
        """Accuracy or R², the mean over the targets; None where there is none."""
        if self.problem or not self.n_rows:
            return None
        if self.run.targets is None:
            return float(self.sums / self.n_rows)
        total, squares, errors = self.sums
        spread = squares - total**2 / self.n_rows
        if self.n_rows < 2 or not (spread > 0).all():
            return None
        return float(np.mean(1 - errors / spread))

    def notes(self) -> tuple[str, ...]:
        """A line, if there is anything to say."""
        if self.problem:
            return (self.problem,)
        if self.score is None:
            return ()
        rows = f"{self.n_rows:,} row{'s' * (self.n_rows != 1)}"
        return (f"{self._score} {self.score:.4f}, of {listing(self.names)} in {rows}",)

    @property
    def _score(self) -> str:
        return IN_WORDS[SCORES["classification" if self.run.targets is None else "regression"]]

    def _add_labels(self, frame: Any, answers: np.ndarray, where: str) -> None:
        (name,) = self.names
        labels = labels_of(frame[name], f"{where}: {name!r}")
        known = np.array([label is not None for label in labels], dtype=bool)
        place = (self.run.summary.classes, where, name, "training")
        right = positions(labels[known], *place) == positions(answers[known], *place)
        self.n_rows += int(known.sum())
        self.sums += int(right.sum())

    def _add_numbers(self, frame: Any, answers: np.ndarray, where: str) -> None:
        targets = self.run.targets
        assert targets is not None
        values = targets_of(frame, self.names, where)
        known = ~np.isnan(values).any(axis=1)
        values, answers, scale = values[known], answers[known], np.array(targets.scale)
        if self.first is None and len(values):
            self.first = values[0]
        away = (values - self.first) / scale if len(values) else values
        errors = (answers - values) / scale
        self.n_rows += len(values)
        self.sums = self.sums + np.stack([away.sum(0), (away**2).sum(0), (errors**2).sum(0)])
