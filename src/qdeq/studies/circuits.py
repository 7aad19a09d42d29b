"""The paper's circuits, drawn and counted: nothing is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure

from qdeq.circuits import MeasuredCircuit
from qdeq.studies.kinds import result
from qdeq.studies.results import Grid, Results
from qdeq.studies.study import Metric, Result, Row, Study, Tell

_PAPER = ((4, "amplitude"), (4, "angle"), (10, "amplitude"), (10, "angle"))


@dataclass(frozen=True, kw_only=True)
class CircuitStudy(Study):
    """Angles, two-qubit gates and depth of the paper's circuits, and their pictures."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("angles", "angles", "d", per_seed=False),
        Metric("two_qubit_gates", "two-qubit gates", "d", per_seed=False),
        Metric("depth", "depth", "d", per_seed=False),
    )
    in_processes: ClassVar[bool] = False

    @property
    def title(self) -> str:
        return "Circuits of the paper"

    def rows(self) -> list[Row]:
        return [
            Row(
                group=encoding,
                name=f"{n_qubits}-qubits",
                label=f"{n_qubits} qubits",
                kind=f"{__name__}:count",
                options={"n_qubits": n_qubits},
            )
            for n_qubits, encoding in _PAPER
        ]

    def grids(self, results: Results) -> list[Grid]:
        return [results.grid("Circuits", self.metrics)]

    def claims(self, results: Results) -> list[str]:
        return [_sentence(results, row) for row in results.rows]

    def pictures(self, results: Results, out: Path) -> dict[str, tuple[Figure, str]]:
        del out
        return {
            f"circuit-{row.options['n_qubits']}-{row.group}": (
                _measured(row).draw_mpl(),
                _sentence(results, row),
            )
            for row in results.rows
        }


def count(row: Row, folder: Path, progress: Tell) -> Result:
    """The numbers of a circuit."""
    del folder, progress
    circuit = _measured(row).circuit
    return result(
        [{"seed": seed} for seed in row.seeds],
        angles=circuit.n_parameters,
        two_qubit_gates=circuit.count(n_wires=2),
        depth=circuit.depth(),
    )


def _measured(row: Row) -> MeasuredCircuit:
    return MeasuredCircuit.named(row.options["n_qubits"], row.group)


def _sentence(results: Results, row: Row) -> str:
    found = results.computed[row.key]
    return (
        f"{row.options['n_qubits']} qubits, {row.group} encoding: {found['angles']} angles, "
        f"{found['two_qubit_gates']} two-qubit gates, depth {found['depth']}."
    )
