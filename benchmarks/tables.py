"""Results as text: numbers in the reader's units, a table for the terminal, rows for a page."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from benchmarks.compare import Change
from benchmarks.measurements import Curve, Entry, Floor, Results

_PREFIXES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def seconds(value: float) -> str:
    """A time with two or three significant digits.

    >>> seconds(0.00123), seconds(2.5), seconds(4.1e-05)
    ('1.23 ms', '2.5 s', '41 µs')
    """
    for scale, unit in _PREFIXES:
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.2g} µs"


def count(value: float, unit: str) -> str:
    """A large number with a prefix.

    >>> count(4.2e6, "op")
    '4.2 Mop'
    """
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def figure(row: Entry, value: float | None) -> str:
    """A value of a row in its unit."""
    if value is None:
        return "–"
    return f"{value:.2f}x" if row.unit == "x" else seconds(value)


def reached(row: Entry) -> str:
    """The figure, and how many samples were solved where not all were."""
    unsolved = f" ({row.solved:.1%} solved)" if row.solved < 1 else ""
    return "skipped" if row.skipped else figure(row, row.reached) + unsolved


def ratios(row: Entry) -> list[str]:
    """One phrase per comparison, with the target where there is one."""
    return [
        f"{ratio.value:.3g}x less than {ratio.versus}"
        + (f" (target {ratio.target:.0f}x)" if ratio.target is not None else "")
        for ratio in row.ratios
    ]


def floor(value: Floor | None) -> str:
    """Operations, bytes, and what they take on this machine."""
    if value is None:
        return "–"
    counted = f"{count(value.operations, 'op')}, {count(value.memory, 'B')}"
    return f"{seconds(value.seconds)} ({counted})"


def terminal_table(results: Results) -> Table:
    """The target table for the terminal."""
    table = Table(title=f"speed of qdeq, {results.mode}: {results.data}", show_lines=True)
    table.add_column("work", ratio=3)
    for name in ("target", "reached", "met", "floor"):
        table.add_column(name, justify="right", no_wrap=name != "floor")
    table.add_column("against", ratio=3)
    for row in results.rows:
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
        least = "" if row.floor is None else seconds(row.floor.seconds)
        against = row.skipped or "\n".join(ratios(row))
        target = "" if row.target is None else figure(row, row.target)
        table.add_row(escape(row.work), target, reached(row), met, least, escape(against))
    return table


def machine_line(results: Results) -> str:
    """One line about the machine."""
    m = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    return (
        f"{m['processor'] or m['device']}, {m['threads']} threads, {m['device']}; float32 product "
        f"{m['matmul_gflops']} Gop/s, memory {m['memory_gbytes_per_second']} GB/s; "
        f"kernels {m.get('kernels', 'not used')}; {versions}"
    )


def markdown(results: Results) -> str:
    """The table as Markdown, ready for `docs/performance.md`, notes and raw figures below."""
    lines = [
        f"Measured on {machine_line(results)}. Images: {results.data}.",
        "",
        "| work | target | reached | ratio | floor |",
        "|---|---|---|---|---|",
    ]
    for row in results.rows:
        target = "" if row.target is None else figure(row, row.target)
        shown = row.skipped or reached(row)
        against = "<br>".join(ratios(row))
        lines.append(f"| {row.work} | {target} | {shown} | {against} | {floor(row.floor)} |")
    lines += ["", *(f"- {row.key}: {row.note}" for row in results.rows if row.note)]
    lines += ["", *_measurement_lines(results.rows)]
    for curve in results.curves:
        lines += ["", *_curve_lines(curve)]
    return "\n".join(lines) + "\n"


def _measurement_lines(rows: Sequence[Entry]) -> Iterable[str]:
    yield "| work | program | median | least | compile | solved | solver steps |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        for name, m in row.measurements.items():
            compiling = "" if m.compile_seconds is None else seconds(m.compile_seconds)
            solved = "" if m.solved_fraction is None else f"{m.solved_fraction:.1%}"
            steps = "" if m.solver_steps_mean is None else f"{m.solver_steps_mean:.1f}"
            yield (
                f"| {row.key} | {name} | {seconds(m.median)} | {seconds(m.minimum)} | {compiling} "
                f"| {solved} | {steps} |"
            )


def _curve_lines(curve: Curve) -> Iterable[str]:
    yield f"| {curve.label} | {' | '.join(map(str, curve.values))} |"
    yield "|---" * (1 + len(curve.values)) + "|"
    for name, line in curve.seconds.items():
        shown = ("–" if value is None else seconds(value) for value in line)
        yield f"| {name} | {' | '.join(shown)} |"


def comparison_table(changes: Iterable[Change]) -> Table:
    """Relative changes against an earlier run."""
    table = Table(title="against the earlier run")
    for name in ("row", "program", "before", "after", "change", ""):
        table.add_column(name, justify="left" if name in ("row", "program", "") else "right")
    colours = {"slower": "red", "faster": "green", "same": "dim"}
    for change in changes:
        show = seconds if change.program else (lambda value: f"{value:.2f}x")
        table.add_row(
            change.key,
            escape(change.program),
            show(change.before),
            show(change.after),
            f"{change.relative:+.0%}",
            f"[{colours[change.verdict]}]{change.verdict}[/]",
        )
    return table
