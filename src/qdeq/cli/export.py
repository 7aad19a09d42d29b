"""`qdeq export`: a trained run as files that other tools read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class ExportCommand:
    """Write a trained circuit for hardware, with a manifest of all that classifying takes."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that `qdeq train` wrote."""

    to: Literal["qasm3"] = "qasm3"
    """Format of the circuit: OpenQASM 3."""

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write into; otherwise RUN/qasm3. Files that exist are not overwritten."""

    bind: bool = False
    """Write the trained angles as numbers instead of inputs."""

    measure: bool = False
    """Add measurements; with several measurement settings, one program for each."""

    no_include: bool = False
    """Leave out the include line, for readers that refuse it, such as PennyLane's."""

    samples: int = 8
    """Test samples in the manifest, with their measured state, inputs and class."""

    shots: int | None = None
    """Number of shots to note down in the manifest."""

    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the data set's files are now; otherwise where they were in training."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.interop.qasm.export import export_run, open_run, write_export

        run = open_run(self.run, data_dir=self.data_dir)
        files = export_run(
            run,
            bind=self.bind,
            measure=self.measure,
            include=not self.no_include,
            samples=self.samples,
            shots=self.shots,
        )
        out = Path(self.run) / self.to if self.out is None else self.out
        for path in write_export(files, out):
            print(path)
