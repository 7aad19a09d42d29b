"""`qdeq draw`: the model's circuit, or a wiring of cells, as text or as a picture."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qdeq.cli.arguments import option_of, options_of
from qdeq.cli.effects import OF_MODEL, warn_of_no_effect
from qdeq.cli.wirings import WiringName, wiring_of
from qdeq.errors import UserError
from qdeq.training.options import ModelOptions

if TYPE_CHECKING:
    from qdeq.circuits import MeasuredCircuit

_SUFFIXES = (".png", ".pdf", ".svg")


@dataclass(frozen=True, kw_only=True)
class DrawCommand(ModelOptions):
    """Draw the circuit of a model with its encoding and observables, or a wiring of cells."""

    run: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """Run folder, of one seed or many, whose model to draw; otherwise the options describe it."""

    n_features: int | None = None
    """Numbers that enter the circuit; otherwise the paper's for so many qubits."""

    wiring: WiringName | None = None
    """Draw who hears whom in a network of cells instead: a causal chain, a chain both ways, a ring,
    a grid of 4 or 8 neighbours, a graph, or cells alone."""

    sites: Annotated[str | None, tyro.conf.arg(metavar="N")] = None
    """Its cells: a number, of a grid rows and columns such as 3x4."""

    edges: Annotated[str | None, tyro.conf.arg(metavar="EDGES")] = None
    """Of a graph: sender and receiver as in 0-1,1-2, and :k after an edge of kind k."""

    out: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write a picture (.png, .pdf or .svg) instead of text."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        if self.out is not None and Path(self.out).suffix not in _SUFFIXES:
            raise UserError(f"--out {self.out}: name a file that ends in {', '.join(_SUFFIXES)}")
        for_wiring = {"wiring", "sites", "edges"}
        if self.wiring is not None:
            self._draw_wiring(given - for_wiring - {"out"})
            return
        if given & for_wiring:
            options = options_of(given & for_wiring)
            raise UserError(f"{options} without --wiring: say which wiring, such as chain")
        if self.run is not None and given - {"run", "out"}:
            options = options_of(given - {"run", "out"})
            raise UserError(f"{options} cannot be given with RUN: the run says what its model is")
        from qdeq.runs.circuit import circuit_of
        from qdeq.runs.run_folder import RunFolder

        if self.run is None:
            warn_of_no_effect(given, [self], OF_MODEL)
            measured = self._of_options()
        else:
            folder = RunFolder.open(self.run)
            finished = all(f.summary_path.exists() for f in folder.seed_folders())
            summary = folder.read_summary() if finished else None
            measured = circuit_of(folder.read_config(), summary)
        self._show(measured)

    def _of_options(self) -> "MeasuredCircuit":
        """The circuit that `qdeq train` makes of the same options; some change nothing in it."""
        from qdeq.circuits.noise_text import as_noise
        from qdeq.circuits.tables import circuit_by_names
        from qdeq.training.checked import checked, hints_of

        for name, hint in hints_of(ModelOptions).items():
            checked(name, getattr(self, name), hint)
        self.check_model()
        return circuit_by_names(
            4 if self.n_qubits is None else self.n_qubits,
            self.encoding,
            rotations=self.rotations,
            uploads=self.uploads,
            n_features=self.n_features,
            ansatz=self.ansatz,
            ansatz_layers=self.ansatz_layers,
            observables=self.observables,
            trainable=self.trainable,
            noise=as_noise(self.noise),
        )

    def _draw_wiring(self, other: frozenset[str]) -> None:
        if other:
            options = ", ".join("RUN" if n == "run" else option_of(n) for n in sorted(other))
            raise UserError(f"{options} with --wiring: a wiring has no circuit, leave it out")
        assert self.wiring is not None
        self._show(wiring_of(self.wiring, self.sites, self.edges))

    def _show(self, drawn: Any) -> None:
        """Something with `draw` and `draw_mpl`."""
        from qdeq.circuits.drawing import MIN_WIDTH

        if self.out is None:
            width = shutil.get_terminal_size((100, 24)).columns
            print(drawn.draw(max_width=max(width, MIN_WIDTH)))
            if getattr(drawn, "noise", None) is not None:
                print(f"\nnoise: {self.noise}")
            return
        try:
            drawn.draw_mpl().savefig(self.out, dpi=200, bbox_inches="tight")
        except OSError as error:
            raise UserError(f"--out {self.out}: cannot be written ({error.strerror})") from error
        print(self.out)
