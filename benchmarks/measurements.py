"""What a benchmark finds, as data: rows, their measurements, curves, and the JSON file."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdeq.errors import UserError

SCHEMA = 1

# A change counts as a regression when median and minimum both grew by more than this, and by more
# than the spread of the two measurements explains.
LEAST_CHANGE = 0.15


@dataclass(frozen=True)
class Measurement:
    """One program on one piece of work; seconds are per unit of work (a training step).

    Attributes
    ----------
    median, minimum, spread, cpu, samples
        See `timing.Timing`.
    compile_seconds
        Tracing and compiling.
    memory_bytes
        XLA's temporary memory.
    solved_fraction, residual_max, solver_steps_mean
        See `programs.Solved`.
    """

    median: float
    minimum: float
    spread: float = 0.0
    cpu: float | None = None
    samples: int = 1
    compile_seconds: float | None = None
    memory_bytes: int | None = None
    solved_fraction: float | None = None
    residual_max: float | None = None
    solver_steps_mean: float | None = None


@dataclass(frozen=True)
class Ratio:
    """How many times less than something the reached figure is; `target` is the least."""

    versus: str
    value: float
    target: float | None = None


@dataclass(frozen=True)
class Floor:
    """The least that the work costs: operations and bytes counted by hand, and what they take here.

    Attributes
    ----------
    operations
        Real floating-point operations.
    memory
        Bytes that have to move through main memory or the last cache.
    seconds
        The slower of the two at this machine's measured peaks.
    """

    operations: float
    memory: float
    seconds: float


@dataclass(frozen=True)
class Entry:
    """One line of the target table.

    Attributes
    ----------
    key, work
        Stable name, and words for the table.
    unit
        "s" (seconds) or "x" (a ratio).
    target, reached
        At most, and measured, in that unit; None where there is no target or no figure.
    ratios, floor, measurements
        Against what, from below, and the raw figures by program.
    note
        One sentence for the reader.
    skipped
        Why there is no figure.
    """

    key: str
    work: str
    unit: str = "s"
    target: float | None = None
    reached: float | None = None
    ratios: tuple[Ratio, ...] = ()
    floor: Floor | None = None
    measurements: dict[str, Measurement] = field(default_factory=dict)
    note: str = ""
    skipped: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether figure and ratios meet their targets, all samples solved; None without target."""
        checks = [r.value >= r.target for r in self.ratios if r.target is not None]
        if self.target is not None and self.reached is not None:
            checks.append(self.reached <= self.target)
        return all(checks) and self.solved == 1 if checks else None

    @property
    def solved(self) -> float:
        """Samples that our own equilibrium programs solved: less is less work than was asked."""
        return min(
            (
                m.solved_fraction
                for name, m in self.measurements.items()
                if m.solved_fraction is not None
                and name.startswith("qdeq")
                and not name.startswith("qdeq direct")
            ),
            default=1.0,
        )


@dataclass(frozen=True)
class Curve:
    """Seconds per training step against one quantity, by program: a line per name in `seconds`."""

    key: str
    label: str
    values: tuple[int, ...]
    seconds: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Results:
    """Everything of one run of the suite."""

    machine: dict[str, Any]
    data: str
    mode: str
    seconds: float
    rows: tuple[Entry, ...] = ()
    curves: tuple[Curve, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Indented JSON text."""
        return json.dumps(_plain(dataclasses.asdict(self)), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "results.json") -> "Results":
        """Read what `to_json` wrote.

        Raises
        ------
        UserError
            When the text is not a result of this version of the suite.
        """
        try:
            values = json.loads(text)
            if values["schema"] != SCHEMA:
                raise UserError(
                    f"{source} has schema {values['schema']}, this version reads {SCHEMA}: "
                    "measure again with this version"
                )
            values["rows"] = tuple(_row(row) for row in values["rows"])
            values["curves"] = tuple(_curve(curve) for curve in values["curves"])
            return cls(**values)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source} is not a result file of the speed suite ({error}): "
                "give the results.json of an earlier run"
            ) from error

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        """Read a result file; `UserError` when it cannot be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}): give the results.json of an earlier run"
            ) from error
        return cls.from_json(text, source=str(path))


def _row(values: dict[str, Any]) -> Entry:
    floor = values["floor"]
    return Entry(
        **{
            **values,
            "ratios": tuple(Ratio(**ratio) for ratio in values["ratios"]),
            "floor": None if floor is None else Floor(**floor),
            "measurements": {k: Measurement(**m) for k, m in values["measurements"].items()},
        }
    )


def _curve(values: dict[str, Any]) -> Curve:
    seconds = {name: tuple(line) for name, line in values["seconds"].items()}
    return Curve(values["key"], values["label"], tuple(values["values"]), seconds)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
