"""The tables of `qdeq resources`: predictions grouped, formatted, and as plain values for JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from qdeq.devices import PURPOSES, Budget, CircuitCost, Cost, Ledger, largest_number
from qdeq.runs import RunCost


@dataclass(frozen=True)
class Entry:
    """A prediction and what it is of: an equilibrium with solver and adjoint, or direct(L)."""

    solver: str | None
    adjoint: str | None
    layers: int | None
    cost: Cost


@dataclass(frozen=True)
class Workload:
    """How much is done: a batch, the shots are in the costs; perhaps a training, and a budget."""

    batch_size: int
    samples: int | None
    epochs: int
    budget: Budget | None


def circuit_table(circuit: CircuitCost) -> Table:
    """Gates, depth and rotations, those that prepare the input apart."""
    table = _table(["", "input", "whole circuit"])
    depth = (circuit.preparation_depth, circuit.depth)
    one = (circuit.preparation_one_qubit_gates, circuit.one_qubit_gates)
    two = (circuit.preparation_two_qubit_gates, circuit.two_qubit_gates)
    for label, numbers in (
        ("depth", depth),
        ("one-qubit gates", one),
        ("two-qubit gates", two),
    ):
        table.add_row(label, *(f"{number:,}" for number in numbers))
    return table


def derivative_rows(circuit: CircuitCost) -> dict[str, str]:
    """Rotations to differentiate, and the circuits that it takes."""
    return {
        "measurement settings": f"{circuit.settings} per circuit",
        "derivatives by the input": f"{circuit.encoding_slots} rotations, "
        f"1 + {circuit.encoding_shifts} circuits by parameter-shift",
        "derivatives by the angles": f"{circuit.parameter_slots} rotations, "
        f"1 + {circuit.parameter_shifts} circuits by parameter-shift",
    }


def inference_table(entries: Sequence[Entry], work: Workload) -> Table:
    """What solves cost; solvers that cost the same share a row, which the other tables shorten."""
    fits = [] if work.budget is None else ["in budget"]
    table = _table(["by", "executions/sample", "submissions", "time", *fits])
    for group in _grouped(entries, lambda e: (e.layers, e.cost.inference(work.batch_size))):
        batch = group[0].cost.inference(work.batch_size)
        row = [_by(group), _count(batch.executions / work.batch_size)]
        row += [f"{batch.submissions:,}", duration(batch.seconds)]
        if work.budget is not None:
            row.append(f"{largest_number(batch, work.budget) * work.batch_size:,}")
        table.add_row(*row)
    return table


def training_table(entries: Sequence[Entry], work: Workload) -> Table:
    """What an optimiser step costs; what costs the same shares a row."""
    fits = [] if work.budget is None else ["in budget"]
    purposes = dict(zip(PURPOSES, ("forward", "input", "angles", "mitigation"), strict=True))
    if not any("mitigation" in entry.cost.training_step(1).by_purpose for entry in entries):
        del purposes["mitigation"]
    table = _table(["by", "adjoint", *purposes.values(), "executions", "time", *fits])
    for group in _alike_in_training(entries, work):
        step = group[0].cost.training_step(work.batch_size)
        row = [_by(group, brief=True), _adjoints(group)]
        row += [f"{step.by_purpose.get(purpose, 0):,}" for purpose in purposes]
        row += [f"{step.executions:,}", duration(step.seconds)]
        if work.budget is not None:
            row.append(f"{largest_number(step, work.budget):,}")
        table.add_row(*row)
    return table


def whole_training_table(entries: Sequence[Entry], work: Workload) -> Table:
    """What all epochs cost; what costs the same shares a row."""
    table = _table(["by", "adjoint", "executions", "shots", "submissions", "time"])
    for group in _alike_in_training(entries, work):
        whole = _whole(group[0].cost, work)
        counts = (whole.executions, whole.shots, whole.submissions)
        numbers = [f"{count:,}" for count in counts]
        table.add_row(_by(group, brief=True), _adjoints(group), *numbers, duration(whole.seconds))
    return table


def run_rows(cost: RunCost, inference: Ledger, steps: float) -> dict[str, str]:
    """What a run would have cost, label to text."""

    def spent(ledger: Ledger) -> str:
        return f"{ledger.executions:,} executions, {duration(ledger.seconds)}"

    rows = {
        "training, solves": spent(cost.solves),
        "training, gradients": spent(cost.gradients),
        "training": spent(cost.training),
        "shots in training": f"{cost.training.shots:,}",
        "submissions in training": f"{cost.training.submissions:,}",
    }
    if cost.penalty.executions:
        rows["Jacobian penalty, in addition"] = spent(cost.penalty)
    rows["inference of 1,000 samples"] = f"{spent(inference)} at {steps:.2f} solver steps"
    return rows


def plain(entry: Entry, work: Workload) -> dict[str, Any]:
    """An entry for JSON."""
    cost = entry.cost
    step, batch = cost.training_step(work.batch_size), cost.inference(work.batch_size)
    found: dict[str, Any] = {
        "solver": entry.solver,
        "adjoint": entry.adjoint,
        "layers": entry.layers,
        "inference": numbers(batch),
        "training_step": numbers(step),
    }
    if work.samples is not None:
        found["training"] = numbers(_whole(cost, work))
    if work.budget is not None:
        found["samples_in_budget"] = largest_number(batch, work.budget) * work.batch_size
        found["training_steps_in_budget"] = largest_number(step, work.budget)
    return found


def numbers(ledger: Ledger) -> dict[str, Any]:
    """A ledger's counts for JSON."""
    found = ledger.to_dict()
    return {name: found[name] for name in found if name not in ("budget", "timing")}


def circuit_numbers(circuit: CircuitCost) -> dict[str, int]:
    """A circuit's counts for JSON."""
    values = vars(circuit)
    return {name: values[name] for name in values if name not in ("program", "observables")}


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose.

    >>> duration(0.25), duration(7200), duration(1e6)
    ('250 ms', '2 h', '11.6 d')
    """
    if seconds == 0:
        return "0 s"
    units = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))
    for unit, size in units:
        number = seconds / size
        if number >= (2 if size >= 60 else 1):
            return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) else f"{number:,.2f}"


def _whole(cost: Cost, work: Workload) -> Ledger:
    return cost.training(work.samples or 1, batch_size=work.batch_size, epochs=work.epochs)


def _alike_in_training(entries: Sequence[Entry], work: Workload) -> list[list[Entry]]:
    # SHINE goes with Broyden alone: a row of its own, or it would seem to go with other solvers.
    return _grouped(
        entries,
        lambda e: (e.layers, e.adjoint == "shine", e.cost.training_step(work.batch_size)),
    )


def _grouped(entries: Sequence[Entry], key: Callable[[Entry], object]) -> list[list[Entry]]:
    groups: list[tuple[object, list[Entry]]] = []
    for entry in entries:
        own = key(entry)
        found = next((members for other, members in groups if other == own), None)
        if found is None:
            groups.append((own, [entry]))
        else:
            found.append(entry)
    return [members for _, members in groups]


def _by(group: Sequence[Entry], *, brief: bool = False) -> str:
    if group[0].layers is not None:
        return f"direct({group[0].layers})"
    names = list(dict.fromkeys(str(entry.solver) for entry in group))
    return f"{names[0]}, ..." if brief and len(names) > 1 else ", ".join(names)


def _adjoints(group: Sequence[Entry]) -> str:
    return ",\n".join(dict.fromkeys(entry.adjoint for entry in group if entry.adjoint))


def fitted(table: Table, width: int) -> Table:
    """The table, or where its numbers would be cut each of its rows as labels and values."""
    needed = 0
    for column in table.columns:
        texts = [str(column.header), *map(str, column.cells)]
        words = texts if column.no_wrap else [word for text in texts for word in text.split()]
        needed += max(map(len, words), default=0) + 1
    if needed <= width:
        return table
    labels = [str(column.header) for column in table.columns]
    rows = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for number, values in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
        if number:
            rows.add_row()
        for label, value in zip(labels, values, strict=True):
            rows.add_row(label, value)
    return rows


def _table(headers: Sequence[str]) -> Table:
    # Narrow: everything but the largest counts fits the usual 80 columns.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for header in headers:
        if header in ("", "by", "adjoint"):
            table.add_column(header, min_width=13 if header == "adjoint" else None, max_width=30)
        else:
            table.add_column(header, justify="right", no_wrap=True)
    return table
