"""`qdeq resources`: what inference and training cost on a device, before a run or after it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape

from qdeq.cli.arguments import options_of
from qdeq.cli.console import make_console, print_rows
from qdeq.cli.effects import OF_RESOURCES, warn_of_no_effect
from qdeq.cli.wirings import WiringName, wiring_of
from qdeq.devices.ledger import Budget
from qdeq.devices.timing import parse_timing
from qdeq.errors import UserError
from qdeq.names import (
    AdjointName,
    Ansatz,
    Gradient,
    NamedEncoding,
    Observables,
    SolverName,
    Trainable,
)

if TYPE_CHECKING:
    from qdeq.circuits import MeasuredCircuit
    from qdeq.cli.resources_tables import Entry, Workload
    from qdeq.equilibrium.networks import AbstractWiring

_LAYERS = (1, 2, 5, 10)
# What a run folder does not say itself.
_WITH_RUN = {
    "run",
    "shots",
    "gradient_shots",
    "gradient",
    "perturbations",
    "scale_factors",
    "device",
    "json",
}


@dataclass(frozen=True)
class ResourcesCommand:
    """Say what inference and training cost on a device: executions, shots, gates, seconds."""

    run: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """Run folder: what it would have cost; otherwise the options describe what to predict."""

    n_qubits: int = 4
    """Qubits of the circuit; 4 and 10 are the paper's."""

    n_features: int | None = None
    """Features that are encoded; otherwise the square of the number of qubits."""

    encoding: NamedEncoding = "amplitude"
    """How features enter the circuit."""

    ansatz: Ansatz = "paper"
    """The circuit."""

    observables: Observables = "z"
    """What is measured: Z of every wire, also products of two Z, or X, Y and Z of every wire."""

    ansatz_layers: int = 3
    """Layers of the hardware-efficient and the strongly-entangling circuit."""

    trainable: Trainable = "all"
    """Which angles learn, and so have derivatives."""

    solver: SolverName | None = None
    """Only this solver; otherwise all of them."""

    adjoint: AdjointName | None = None
    """Only this adjoint; otherwise all of them."""

    steps: float = 10
    """Solver steps per sample."""

    layers: int | None = None
    """Of direct(L), only so many layers; otherwise 1, 2, 5 and 10."""

    gradient: Gradient = "parameter-shift"
    """How the device gives derivatives by the circuit's angles: exactly, or estimated from random
    directions."""

    perturbations: int = 1
    """Random directions of SPSA."""

    shots: int = 1000
    """Shots per circuit and measurement setting."""

    gradient_shots: int | None = None
    """Shots in gradients; otherwise as many."""

    scale_factors: Annotated[str, tyro.conf.arg(metavar="FACTORS")] = "1"
    """Noise scale factors of zero-noise extrapolation, such as 1,3,5: each runs every circuit."""

    batch_size: int = 32
    """Samples per submission and optimiser step."""

    samples: int | None = None
    """Training samples: adds what the whole training costs."""

    epochs: int = 1
    """Passes over them."""

    wiring: WiringName | None = None
    """Cost of a network of cells that are wired so, at every site this circuit: a sweep, Newton's
    method on all sites at once, applications, and direct(L) side by side."""

    sites: Annotated[str | None, tyro.conf.arg(metavar="N")] = None
    """Its cells: a number, of a grid rows and columns such as 3x4."""

    edges: Annotated[str | None, tyro.conf.arg(metavar="EDGES")] = None
    """Of a graph: sender and receiver as in 0-1,1-2, and :k after an edge of kind k."""

    device_qubits: int | None = None
    """Of a network: qubits of the device, on which cells are packed side by side."""

    device: Annotated[str, tyro.conf.arg(metavar="TIMING")] = "superconducting"
    """Kind of device for the seconds: superconducting, trapped-ion or neutral-atom, with times of
    your own after it, such as trapped-ion,reset=0.01 (one_qubit_gate, two_qubit_gate, readout,
    reset, submission, in seconds)."""

    budget_executions: int | None = None
    """How many inferences and training steps fit into so many circuit executions."""

    budget_seconds: float | None = None
    """How many fit into so many seconds on the device."""

    json: bool = False
    """Print one line of JSON instead of tables."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        warn_of_no_effect(given, [self], OF_RESOURCES)
        if self.run is not None:
            self._show_run(given)
            return
        self._check(given)
        from qdeq.circuits import MeasuredCircuit
        from qdeq.cli.resources_tables import Workload

        measured = MeasuredCircuit.named(
            self.n_qubits,
            self.encoding,
            trainable=self.trainable,
            n_features=self.n_features,
            ansatz=self.ansatz,
            ansatz_layers=self.ansatz_layers,
            observables=self.observables,
        )
        work = Workload(self.batch_size, self.samples, self.epochs, self._budget())
        network = None if self.wiring is None else self._network(measured)
        if network is None:
            entries = self._entries(measured)
        else:
            entries = self._network_entries(measured, network)
        show = self._print_json if self.json else self._print_tables
        show(entries, work, network)

    def _check(self, given: frozenset[str]) -> None:
        """Refuse what cannot be before anything is imported that takes its time."""
        for name in ("n_qubits", "n_features", "ansatz_layers", "batch_size", "epochs", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}={value}: give a number of at least 1")
        of_network = {"sites", "edges", "device_qubits"} & given
        if of_network and self.wiring is None:
            raise UserError(
                f"{options_of(of_network)} without --wiring: say which wiring, such as chain"
            )
        for name in ("solver", "adjoint"):
            if name in given and self.wiring is not None:
                raise UserError(
                    f"{name}={getattr(self, name)} with --wiring: a network's solvers and its "
                    "adjoint follow from the wiring, leave it out"
                )

    def _print_json(
        self, entries: "list[Entry]", work: "Workload", network: "_Network | None"
    ) -> None:
        from qdeq.cli import resources_tables as tables

        found = {
            "circuit": tables.circuit_numbers(entries[0].cost.circuit),
            "device": asdict(parse_timing(self.device)),
            "costs": [tables.plain(entry, work) for entry in entries],
        }
        if network is not None:
            found["network"] = {
                "wiring": repr(network.wiring),
                "sites": network.wiring.n_sites,
                "observables": network.n_observables,
                "copies": network.copies,
            }
        print(json.dumps(found))

    def _print_tables(
        self, entries: "list[Entry]", work: "Workload", network: "_Network | None"
    ) -> None:
        from qdeq.cli import resources_tables as tables

        console, circuit = make_console(), entries[0].cost.circuit
        features = self.n_features or self.n_qubits**2
        what = f"{self.n_qubits} qubits, {self.encoding} encoding of {features} features"
        _heading(console, f"One application: {what}")
        console.print(tables.fitted(tables.circuit_table(circuit), console.width))
        print_rows(console, tables.derivative_rows(circuit), title="Measurements and derivatives")
        conditions = f"{self.steps:g} solver steps, {self.shots:,} shots"
        samples = f"{self.batch_size:,} sample" + "s" * (self.batch_size > 1)
        if network is not None:
            samples += f" of {network.wiring.n_sites:,} cells"
            packed = f", {network.copies} side by side" if network.copies > 1 else ""
            q = f"{network.n_observables} observables a cell{packed}"
            _heading(console, f"Network: {network.wiring!r}, {q}")
        _heading(console, f"Inference, {samples}: {conditions}")
        console.print(tables.fitted(tables.inference_table(entries, work), console.width))
        _heading(console, f"A training step, {samples}: {self._rule()}")
        console.print(tables.fitted(tables.training_table(entries, work), console.width))
        if self.samples is not None:
            _heading(console, f"Training: {self.epochs:,} x {self.samples:,} samples")
            console.print(tables.fitted(tables.whole_training_table(entries, work), console.width))
        console.print(f"\n[dim]time: on a device with timing {escape(self.device)}, no queue[/dim]")
        if work.budget is not None:
            console.print("[dim]in budget: samples, or training steps, that fit into it[/dim]")

    def _rule(self) -> str:
        if self.gradient == "parameter-shift":
            return "gradients by parameter-shift"
        return f"angles by SPSA, {self.perturbations} direction" + "s" * (self.perturbations > 1)

    def _entries(self, measured: "MeasuredCircuit") -> "list[Entry]":
        """Every solver with every adjoint that it goes with, then direct(L); or what was chosen."""
        from qdeq.cli.resources_tables import Entry
        from qdeq.devices.prediction import combinations, estimate

        options = self._options()
        pairs = [
            (solver, adjoint)
            for solver, adjoint in combinations()
            if self.solver in (None, solver) and self.adjoint in (None, adjoint)
        ]
        entries: list[Entry] = []
        # No pair is left where the solver and the adjoint that were asked for do not go together:
        # then `estimate` raises the error that says why.
        for solver, adjoint in pairs or [(self.solver or "", self.adjoint or "")]:
            cost = estimate(measured, solver=solver, adjoint=adjoint, steps=self.steps, **options)
            entries.append(Entry(solver, adjoint, None, cost))
        for layers in _LAYERS if self.layers is None else (self.layers,):
            cost = estimate(measured, layers=layers, **options)
            entries.append(Entry(None, None, layers, cost))
        return entries

    def _network(self, measured: "MeasuredCircuit") -> "_Network":
        from qdeq.devices import copies_that_fit

        assert self.wiring is not None
        wiring, copies = wiring_of(self.wiring, self.sites, self.edges), 1
        if self.device_qubits is not None:
            try:
                copies = copies_that_fit(measured.n_qubits, self.device_qubits)
            except UserError as error:
                raise UserError(str(error).replace("n_qubits=", "device_qubits=", 1)) from None
        return _Network(wiring, copies, measured.n_observables)

    def _network_entries(self, measured: "MeasuredCircuit", network: "_Network") -> "list[Entry]":
        """The solvers that the wiring allows, then direct(L)."""
        from qdeq.cli.resources_tables import Entry
        from qdeq.devices import estimate_network, solvers_on_devices

        wiring = network.wiring
        options: dict[str, Any] = {**self._options(), "copies": network.copies}
        entries: list[Entry] = []
        for solver in solvers_on_devices(wiring):
            cost = estimate_network(measured, wiring, solver=solver, steps=self.steps, **options)
            entries.append(Entry(solver, "structured", None, cost))
        # As many layers as the wiring is deep carry what the first cell knows to the last.
        most = wiring.n_sites if wiring.structure in ("causal", "line", "ring") else max(_LAYERS)
        several = sorted({*(n for n in _LAYERS if n < most), most})
        for layers in several if self.layers is None else (self.layers,):
            cost = estimate_network(measured, wiring, layers=layers, **options)
            entries.append(Entry(None, None, layers, cost))
        return entries

    def _options(self) -> dict[str, Any]:
        return {
            "gradient": self.gradient,
            "perturbations": self.perturbations,
            "shots": self.shots,
            "gradient_shots": self.gradient_shots,
            "scale_factors": self._scale_factors(),
            "timing": parse_timing(self.device),
        }

    def _scale_factors(self) -> tuple[float, ...]:
        try:
            return tuple(float(factor) for factor in self.scale_factors.split(","))
        except ValueError:
            raise UserError(
                f"scale_factors={self.scale_factors!r}: give numbers separated by commas, such as "
                "1,3,5"
            ) from None

    def _budget(self) -> Budget | None:
        if self.budget_executions is None and self.budget_seconds is None:
            return None
        return Budget(self.budget_executions, seconds=self.budget_seconds)

    def _show_run(self, given: frozenset[str]) -> None:
        refused = given - _WITH_RUN
        if refused:
            raise UserError(
                f"{options_of(refused)} cannot be given with RUN: the run says what was done"
            )
        from qdeq.cli import resources_tables as tables
        from qdeq.devices.circuit_cost import CircuitCost
        from qdeq.runs.circuit import circuit_of
        from qdeq.runs.cost import phase_cost, run_cost
        from qdeq.runs.run_folder import RunFolder

        folder = RunFolder.open(self.run or "")
        config, summary = folder.read_config(), folder.read_summary()
        history = [line for seed in folder.read_histories() for line in seed]
        measured, options = circuit_of(config, summary), self._options()
        cost = run_cost(measured, config, history, **options)
        steps = summary.solver_steps_mean
        inference = phase_cost(measured, config, config.mode, steps, **options).inference(1000)
        circuit = CircuitCost.of(measured)
        if self.json:
            found = {
                "run": str(folder.path),
                "circuit": tables.circuit_numbers(circuit),
                "device": asdict(parse_timing(self.device)),
                "solves": tables.numbers(cost.solves),
                "gradients": tables.numbers(cost.gradients),
                "training": tables.numbers(cost.training),
                "jacobian_penalty": tables.numbers(cost.penalty),
                "inference_of_1000": tables.numbers(inference),
            }
            print(json.dumps(found))
            return
        console = make_console()
        _heading(console, f"One application in {folder.path}")
        console.print(tables.fitted(tables.circuit_table(circuit), console.width))
        title = f"{self.shots:,} shots, {self._rule()}, timing {self.device}"
        print_rows(console, tables.run_rows(cost, inference, steps), title=title)


@dataclass(frozen=True)
class _Network:
    """The wiring, how many cells stand side by side on the device, and what each measures."""

    wiring: "AbstractWiring"
    copies: int
    n_observables: int


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/bold]")
