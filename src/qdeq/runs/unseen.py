"""What a table holds that is read as something else, counted while rows are predicted, as notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from qdeq.data import TablePreparation
from qdeq.data.frames import listing
from qdeq.data.inputs import shown

_WORDS = 5  # of each column are named


@dataclass
class UnseenValues:
    """What is counted, part by part of a table.

    Parameters
    ----------
    preparation
        Of the run that predicts.
    rows, words
        By column how many rows there are so far, and their first texts.
    """

    preparation: TablePreparation
    rows: dict[str, int] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)

    def add(self, found: Mapping[str, Mapping[str, int]]) -> None:
        """Add what `TablePreparation.unseen` found in some rows."""
        for column, texts in found.items():
            self.rows[column] = self.rows.get(column, 0) + sum(texts.values())
            words = self.words.setdefault(column, [])
            # One more than is named says that there are more.
            words += [text for text in texts if text not in words][: _WORDS + 1 - len(words)]

    def notes(self) -> tuple[str, ...]:
        """A line for every column that has any."""
        found = []
        for column in self.preparation.columns:
            n_rows = self.rows.get(column.name)
            if n_rows is None:
                continue
            where = f"column {column.name!r}: {n_rows:,} row{'s' * (n_rows != 1)}"
            if column.kind == "number":
                named = " and ".join(self.words[column.name])
                found.append(f"{where} with {named} among its numbers, taken for missing")
                continue
            words = list(map(shown, self.words[column.name]))
            more = ", ..." if len(words) > _WORDS else ""
            known = listing([shown(text) for text in sorted(column.known)], most=_WORDS)
            taken = "none of those" if column.base is None else shown(column.base)
            found.append(
                f"{where} with texts that training did not have ({', '.join(words[:_WORDS])}"
                f"{more}), taken for {taken}: it had {known}"
            )
        return tuple(found)
