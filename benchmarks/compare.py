"""Two result files side by side: what became faster, what became slower beyond the noise."""

from dataclasses import dataclass

from benchmarks.measurements import LEAST_CHANGE, Measurement, Results


@dataclass(frozen=True)
class Change:
    """One program of one row in two runs.

    Attributes
    ----------
    key, program
        Which.
    before, after
        Median seconds (or the ratio, for rows whose unit is "x").
    verdict
        "faster", "slower" or "same": same where the noise explains the difference.
    """

    key: str
    program: str
    before: float
    after: float
    verdict: str

    @property
    def relative(self) -> float:
        """after / before - 1."""
        return self.after / self.before - 1


def compare(old: Results, new: Results) -> list[Change]:
    """Changes of every program that both runs measured, in the order of the new run.

    A difference is real when medians and minima both moved by more than 15% and by more than the
    two interquartile ranges together: a busy machine moves medians, but rarely both minima.
    """
    before = {row.key: row for row in old.rows}
    changes = []
    for row in new.rows:
        earlier = before.get(row.key)
        if earlier is None:
            continue
        for program, measured in row.measurements.items():
            if program in earlier.measurements:
                first = earlier.measurements[program]
                verdict = _verdict(first, measured)
                changes.append(Change(row.key, program, first.median, measured.median, verdict))
        if row.unit == "x" and None not in (earlier.reached, row.reached):
            first, last = _figure(earlier.reached), _figure(row.reached)
            changes.append(Change(row.key, "", first.median, last.median, _verdict(first, last)))
    return changes


def regressions(changes: list[Change]) -> list[Change]:
    """Those of qdeq itself that became slower; baselines only tell how the machine is."""
    ours = [c for c in changes if c.program.startswith("qdeq") or not c.program]
    return [change for change in ours if change.verdict == "slower"]


def _figure(value: float | None) -> Measurement:
    assert value is not None
    return Measurement(value, value)


def _verdict(before: Measurement, after: Measurement) -> str:
    noise = max(LEAST_CHANGE, before.spread + after.spread)
    slower = after.median > before.median * (1 + noise)
    if slower and after.minimum > before.minimum * (1 + LEAST_CHANGE):
        return "slower"
    faster = before.median > after.median * (1 + noise)
    if faster and before.minimum > after.minimum * (1 + LEAST_CHANGE):
        return "faster"
    return "same"
