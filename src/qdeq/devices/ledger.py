"""What a run has spent on a device, and the budget that it must not exceed.

Counting only: what a computation is going to cost is predicted in `prediction.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from qdeq.devices.timing import DeviceTiming, submission_seconds
from qdeq.errors import UserError, check_amount, check_choice, check_count, told

if TYPE_CHECKING:
    from qdeq.circuits import Circuit, MeasurementEnsemble

PURPOSES = ("forward", "input gradient", "parameter gradient", "mitigation")
"""What executions are for: the model function itself, its Jacobian in the measured state (or the
encoder input), its Jacobian in theta, and what error mitigation adds."""

ROUNDING = 1e-9
"""Of a limit in seconds, which are sums: one of ten submissions must not end before the tenth."""


class BudgetSpent(UserError):
    """The next submission would exceed the budget; nothing of it was run."""


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend; None where there is no limit.

    Parameters
    ----------
    executions
        Circuit executions (see `Ledger`).
    shots
        Shots, summed over all executions.
    seconds
        Device seconds under the ledger's stated `DeviceTiming`.

    Raises
    ------
    UserError
        For a limit that is not a positive, finite number.

    Examples
    --------
    >>> Budget(executions=10_000)
    Budget(executions=10000, shots=None, seconds=None)
    """

    executions: int | None = None
    shots: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("executions", "shots", "seconds"):
            limit = getattr(self, name)
            is_number = isinstance(limit, Real) and not isinstance(limit, bool)
            if limit is not None and not (is_number and 0 < float(limit) < math.inf):
                raise UserError(
                    f"budget of {limit!r} {name}: give a positive number, or leave it out"
                )
            if limit is not None:  # a plain number, which JSON has
                plain = int(limit) if isinstance(limit, Integral) else float(limit)
                object.__setattr__(self, name, plain)


@dataclass
class Ledger:
    """Counts circuit executions, shots and submissions, and stops before a budget is exceeded.

    A circuit execution is one preparation-and-measurement setting of one circuit for one input;
    each is repeated for as many shots as were asked for.

    Parameters
    ----------
    executions, shots, submissions
        Spent so far.
    by_purpose
        Executions per purpose, whose sum is `executions`; keys are of `PURPOSES`.
    seconds
        Device seconds so far under `timing`; 0 without one.
    budget
        What must not be exceeded; it may be replaced between two runs.
    timing
        Of the device, for `seconds`.

    Raises
    ------
    UserError
        For a budget of seconds without a timing, or counts that are none.

    Examples
    --------
    >>> ledger = Ledger(budget=Budget(executions=10))
    >>> ledger.charge(8, 1, 1000, "forward")
    >>> ledger.executions, ledger.shots
    (8, 8000)
    >>> ledger.charge(8, 1, 1000, "forward")
    Traceback (most recent call last):
    ...
    qdeq.devices.ledger.BudgetSpent: budget of 10 executions: 8 are spent and the next \
submission needs 8; raise the budget and continue, or stop here
    >>> ledger.executions
    8
    """

    executions: int = 0
    shots: int = 0
    submissions: int = 0
    by_purpose: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    budget: Budget | None = None
    timing: DeviceTiming | None = None

    def __post_init__(self) -> None:
        for name in ("executions", "shots", "submissions"):
            count = getattr(self, name)
            check_count(name, count, 0, "; a limit is Ledger(budget=Budget(...))")
            setattr(self, name, int(count))  # NumPy's integers wrap, and JSON has none
        check_amount("seconds", self.seconds)
        self.seconds = float(self.seconds)
        self._check_timing(self.budget)

    def charge(
        self,
        n_circuits: int,
        n_settings: int,
        shots: int | None,
        purpose: str,
        circuit: Circuit | None = None,
        observables: MeasurementEnsemble | None = None,
        length: float = 1,
    ) -> None:
        """Account for one submission; call it before the device runs.

        Parameters
        ----------
        n_circuits
            Circuits in the submission: rows of angles.
        n_settings
            Measurement settings of each.
        shots
            Per circuit and setting; None for exact expectation values, which cost none.
        purpose
            One of `PURPOSES`.
        circuit, observables
            What the rows of angles run, for `seconds`; needed only where the ledger has a timing.
        length
            How many times longer than the circuit what runs is.

        Raises
        ------
        BudgetSpent
            When the submission does not fit into the budget; the ledger is unchanged then.
        UserError
            For an unknown purpose, or without a circuit where the ledger has a timing.
        """
        check_choice("purpose", purpose, PURPOSES)
        # Plain integers: NumPy's, in which shots are often given, wrap where the product is large.
        executions = int(n_circuits) * int(n_settings)
        spent = {"executions": executions, "shots": executions * int(shots or 0), "seconds": 0.0}
        if self.timing is not None:
            if circuit is None or observables is None:
                raise UserError(
                    "the ledger has a device timing and was charged without a circuit: give "
                    "`charge` the circuit and its observables"
                )
            spent["seconds"] = submission_seconds(
                self.timing, circuit, observables, n_circuits, shots, length
            )
        self._check_timing(self.budget)  # it may have been replaced since
        name = self.limit_exceeded_by(**spent)
        if name is not None:
            limit = getattr(self.budget, name)
            raise BudgetSpent(
                f"budget of {limit:.15g} {name}: {getattr(self, name):.15g} are spent and the "
                f"next submission needs {spent[name]:.15g}; raise the budget and continue, or stop "
                "here"
            )
        self.executions += executions
        self.shots += int(spent["shots"])
        self.seconds += spent["seconds"]
        self.submissions += 1
        self.by_purpose[purpose] = self.by_purpose.get(purpose, 0) + executions

    def limit_exceeded_by(self, executions: float, shots: float, seconds: float) -> str | None:
        """The first limit of the budget that so much more would exceed; None where it fits."""
        spent = {"executions": executions, "shots": shots, "seconds": seconds}
        for name, amount in spent.items():
            limit = getattr(self.budget, name, None)
            most = math.inf if limit is None else limit
            if name == "seconds":
                most *= 1 + ROUNDING
            if getattr(self, name) + amount > most:
                return name
        return None

    def merge(self, other: Ledger) -> None:
        """Add what another ledger counted; its budget and timing are not taken over.

        It was spent already, so nothing is raised where it exceeds this ledger's budget.
        """
        self.executions += other.executions
        self.shots += other.shots
        self.submissions += other.submissions
        self.seconds += other.seconds
        for purpose, executions in other.by_purpose.items():
            self.by_purpose[purpose] = self.by_purpose.get(purpose, 0) + executions

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, budget and timing included."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ledger:
        """Rebuild a ledger from what `to_dict` returned.

        Raises
        ------
        UserError
            When values are missing, unknown or not allowed.
        """
        try:
            fields = dict(values)
            fields["by_purpose"] = dict(fields["by_purpose"])
            for name, kind in (("budget", Budget), ("timing", DeviceTiming)):
                if fields[name] is not None:
                    fields[name] = kind(**fields[name])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the saved ledger is damaged ({error}): restore it, or start a new one"
            ) from error

    def _check_timing(self, budget: Budget | None) -> None:
        if budget is not None and not isinstance(budget, Budget):
            raise UserError(f"budget={told(budget)}: give one such as Budget(executions=10_000)")
        if budget is not None and budget.seconds is not None and self.timing is None:
            raise UserError(
                f"budget of {budget.seconds!r} seconds: seconds are counted under a device timing, "
                "give the ledger one"
            )
