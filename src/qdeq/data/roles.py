"""What the columns of a table are for: which are predicted, which say something of rows."""

import dataclasses
from collections.abc import Sequence

from qdeq.data.frames import check_columns, names_given
from qdeq.errors import UserError


@dataclasses.dataclass(frozen=True)
class Roles:
    """The columns of one table by their use; every other column is left out."""

    targets: tuple[str, ...]
    group: str | None
    weight: str | None
    features: tuple[str, ...]

    @classmethod
    def of(
        cls,
        columns: Sequence[str],
        where: str,
        *,
        target: str | Sequence[str],
        group: str | None,
        weight: str | None,
        ignore: str | Sequence[str],
    ) -> "Roles":
        """Read what `qdeq.data.read_table` is given as names; what is not named is a feature.

        Raises
        ------
        UserError
            For a column that the table, called `where` in messages, does not have, and for one with
            two roles.
        """
        targets = names_given(target, columns)
        group, weight = _one_name("group", group, columns), _one_name("weight", weight, columns)
        ignored = names_given(ignore, columns)
        roles = cls(tuple(targets), group, weight, ())
        for column in roles.no_features:
            if roles.no_features.count(column) > 1:
                raise UserError(f"column {column!r} is named twice, as target, group or weight")
        for column in targets:
            if column in ignored:
                raise UserError(
                    f"ignore={column!r}: it is the target, leave it out of one of the two"
                )
        wanted = {"target": targets, "group": [group], "weight": [weight], "ignore": ignored}
        for option, names in wanted.items():
            given = [name for name in names if name is not None]
            check_columns(given, columns, where, f"the {option}")
        features = [name for name in columns if name not in {*roles.no_features, *ignored}]
        return dataclasses.replace(roles, features=tuple(features))

    @property
    def no_features(self) -> list[str]:
        """The columns with a role of their own."""
        return [name for name in (*self.targets, self.group, self.weight) if name is not None]

    @property
    def may_be_numbers(self) -> list[str]:
        """The columns in which numbers are read where they are written as numbers."""
        named = (*self.features, *self.targets, self.weight)
        return [name for name in named if name is not None]


def _one_name(option: str, given: str | None, columns: Sequence[str]) -> str | None:
    if given is None:
        return None
    names = names_given(given, columns)
    if len(names) != 1:
        raise UserError(f"{option}={given!r}: name one column, or leave {option} out")
    return names[0]
