"""What a study is: rows to compute, devices to measure them on, numbers to show. No JAX.

A new study is one file with a subclass of `Study`, and its name in `catalogue.py`.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qdeq.errors import UserError
from qdeq.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qdeq.studies.results import Grid, Results

#: Raise when the meaning of a number in a row changes, so that older rows are computed again.
RESULT_FORMAT = 1

Result = dict[str, Any]
Numbers = list[dict[str, Any]]
"""Numbers by name of one row on one device, for every seed; `"seed"` says which."""

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Metric:
    """A number that a study shows.

    Attributes
    ----------
    name
        Key in a seed's or a row's numbers, and in CSV and JSON.
    header
        What people read.
    form
        Format specification of the mean; deviations are shown to the same digits.
    per_seed
        Whether there is one per seed, hence a mean and a deviation.
    """

    name: str
    header: str
    form: str
    per_seed: bool = True


@dataclass(frozen=True)
class Device:
    """Something that the models of a row are measured on.

    Attributes
    ----------
    name
        Unique in a study; "" is what rows were computed on.
    header
        What people read.
    columns
        What CSV says of it, by column.
    """

    name: str = ""
    header: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is computed once per seed and shown as one line.

    Attributes
    ----------
    group
        What it is compared within, such as an encoding.
    name
        What `--rows` calls it.
    label
        What people read.
    kind
        The function that computes it: one of `kinds.py`, or `MODULE:FUNCTION`.
    seeds
        One model each.
    config
        What is trained, where the training loop or its data play a part.
    options
        Plain values for the function.
    shown
        Whether it is a line of the tables; others are there for a picture.
    """

    group: str
    name: str
    label: str
    kind: str
    seeds: tuple[int, ...] = (0,)
    config: TrainConfig | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: bool = True

    @property
    def key(self) -> str:
        """Unique in a study, and the name of the row's folder."""
        return f"{self.group}-{self.name}"

    @property
    def training(self) -> TrainConfig:
        """The configuration of a row that has one."""
        assert self.config is not None, f"{self.key} is not trained by a configuration"
        return self.config

    def identity(self) -> dict[str, Any]:
        """All that the row's numbers depend on; a finished row with this identity is kept."""
        values: dict[str, Any] = {
            "format": RESULT_FORMAT,
            "group": self.group,
            "name": self.name,
            "kind": self.kind,
            "seeds": list(self.seeds),
            **self.options,
        }
        if self.config is not None:
            config = self.config.identity()
            config.pop("data_dir")  # where the files are does not change what they hold
            config.pop("seed")  # each of `seeds` takes its place
            values["config"] = config
        return values

    def to_json(self) -> dict[str, Any]:
        """Plain values, with which `from_json` builds the row again."""
        config = None if self.config is None else json.loads(self.config.to_json())
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {
            "config": config
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Row":
        """Undo `to_json`."""
        config = values["config"]
        if config is not None:
            config = TrainConfig.from_json(json.dumps(config), source="task.json")
        return cls(**{**values, "config": config, "seeds": tuple(values["seeds"])})


class Study(ABC):
    """Rows x devices x metrics, and what is said of them; a frozen dataclass of its options.

    The fields of a subclass are the options of `qdeq reproduce` that it takes.
    """

    metrics: ClassVar[tuple[Metric, ...]]

    compared: ClassVar[str] = ""
    """Name of the metric in which rows are compared with their reference, paired by seed."""

    group_header: ClassVar[str] = "encoding"
    """What the groups of rows are."""

    device_columns: ClassVar[tuple[str, ...]] = ()
    """Names of `Device.columns`."""

    in_processes: ClassVar[bool] = True
    """Whether every row gets a process of its own, for its memory and its crashes."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the study is called."""

    @property
    def description(self) -> str:
        """A paragraph on how it was done."""
        return ""

    @abstractmethod
    def rows(self) -> list[Row]:
        """Every row, in the order in which rows are computed and shown.

        Raises
        ------
        UserError
            When the options contradict each other.
        """

    def devices(self, row: Row) -> Sequence[Device]:
        """What the row's models are measured on."""
        del row
        return (Device(),)

    def measurement(self) -> dict[str, Any]:
        """What measured numbers depend on beside row and device."""
        return {}

    def measurer(self, row: Row, folder: Path, seeds: Sequence[int]) -> Callable[[Device], Numbers]:
        """Return what measures the models of these seeds, whose row lies in a folder, on a device.

        Called only where there are devices beyond what rows were computed on.
        """
        raise NotImplementedError

    def more(self, results: "Results", out: Path, tell: Tell) -> dict[str, Any]:
        """Further measurements by name, for pictures and JSON, made when all rows are done."""
        del results, out, tell
        return {}

    def reference(self, row: Row, shown: Sequence[Row]) -> str | None:
        """Key of the row that a row is compared with; None for none."""
        del row, shown
        return None

    def group_label(self, group: str) -> str:
        """A group of rows in words."""
        return group

    @abstractmethod
    def grids(self, results: "Results") -> list["Grid"]:
        """The tables; what holds is said after the first."""

    def claims(self, results: "Results") -> list[str]:
        """Sentences made from the numbers."""
        del results
        return []

    def notes(self, results: "Results") -> list[str]:
        """What a reader must know to read the numbers right."""
        del results
        return []

    def pictures(self, results: "Results", out: Path) -> "dict[str, tuple[Figure, str]]":
        """Figure and caption by name, as far as the rows that they need are there."""
        del results, out
        return {}


def choose_rows(rows: Sequence[Row], wanted: str | None) -> list[Row]:
    """The rows that a list such as `implicit,angle-direct-5` names, in the study's order.

    A name without a group means that row of every group; None means all rows.

    Raises
    ------
    UserError
        For a name that no row has, listing those that there are.
    """
    if wanted is None:
        return list(rows)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    known = list(dict.fromkeys(row.name for row in rows))
    for name in names:
        if name not in known and name not in {row.key for row in rows}:
            raise UserError(
                f"rows={wanted!r}: {name!r} is no row of this study, choose from {', '.join(known)}"
            )
    if not names:
        raise UserError(f"rows={wanted!r}: name at least one of {', '.join(known)}")
    return [row for row in rows if row.name in names or row.key in names]
