"""`qdeq reproduce noise`: which models, trained how, on which devices, and what is shown. No JAX.

How a model is measured on a device is `points.py`'s business, what is said of it
`claims.py`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qdeq.errors import UserError
from qdeq.names import DataName, Encoding
from qdeq.studies.paper import WARMUP_EPOCHS, WARMUP_LAYERS, table_row
from qdeq.studies.study import Device, Metric, Numbers, Row, Study, Tell
from qdeq.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qdeq.studies.results import Grid, Results

#: Depths of the weight-tied baseline: the circuit is applied so often, and measured each time.
DIRECT = (1, 5, 10)

#: Repetitions in the coherent baseline: one circuit, so many times as deep, measured once.
DEEP = (5,)

#: Raise when the comparison of solvers changes.
SOLVERS_FORMAT = 1

ACCURACY = Metric("accuracy", "test accuracy", ".3f")
AGAINST_NOISE = (
    ACCURACY,
    Metric("residual", "residual", ".1e"),
    Metric("converged", "converged", ".2f"),
)
AGAINST_SHOTS = (
    *AGAINST_NOISE,
    Metric("executions", "circuit executions per inference", ".1f"),
    Metric("shots_per_inference", "shots per inference", ",.0f"),
)


@dataclass(frozen=True, kw_only=True)
class NoiseStudy(Study):
    """Equilibrium, direct and deep models on noisy devices and with finite shots.

    Parameters
    ----------
    data, data_dir, encoding, epochs, seeds
        Of the training. The digits use the recipe of the preset "demo", everything else the
        paper's; whatever was chosen in them was chosen on validation data.
    channel
        A word of `parse_noise` with one number: the kind of noise.
    strengths
        Of the devices, ascending from 0; the number behind the channel's word.
    trained_at
        Strength under which the second group of models is trained, one of `strengths`.
    shots
        Per circuit execution, on devices with the noise that a model was trained under.
    repeats
        Evaluations with shots of their own per seed; their mean counts.

    Raises
    ------
    UserError
        For strengths that do not start at 0 or ascend, or lack `trained_at`; for no shots.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        *AGAINST_SHOTS,
        Metric("valid_accuracy", "validation accuracy", ".3f"),
        Metric("depth", "circuit depth", "d", per_seed=False),
        Metric("two_qubit_gates", "two-qubit gates", "d", per_seed=False),
    )
    compared: ClassVar[str] = "accuracy"
    group_header: ClassVar[str] = "training"
    device_columns: ClassVar[tuple[str, ...]] = ("noise", "shots")

    data: DataName = "digits-4"
    data_dir: str | None = None
    encoding: Encoding = "amplitude"
    epochs: int = 60
    seeds: tuple[int, ...] = (0, 1, 2)
    channel: str = "depolarising"
    strengths: tuple[float, ...] = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
    trained_at: float = 0.01
    shots: tuple[int, ...] = (10, 30, 100, 300, 1000, 10_000)
    repeats: int = 3

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.strengths, self.strengths[1:], strict=False))
        if not self.strengths or self.strengths[0] != 0 or not rising:
            raise UserError(f"strengths={self.strengths}: give ascending numbers that start at 0")
        if self.trained_at not in self.strengths[1:]:
            raise UserError(
                f"trained_at={self.trained_at}: choose one of the strengths above 0, "
                f"{', '.join(map(str, self.strengths[1:]))}"
            )
        if not self.shots or min(self.shots) < 1 or self.repeats < 1:
            raise UserError(f"shots={self.shots}, repeats={self.repeats}: give numbers from 1 up")

    def noise(self, strength: float) -> str:
        """A device's noise as text; nothing at strength 0."""
        return f"{self.channel}={strength:g}" if strength else ""

    def config(self, **changes: Any) -> TrainConfig:
        """A configuration of this protocol; `changes` say what is particular to a row."""
        recipe = PRESETS["demo"] if self.data.startswith("digits") else TrainConfig()
        return recipe.replace(
            data=self.data,
            data_dir=self.data_dir,
            epochs=self.epochs,
            **{"encoding": self.encoding, "warmup_epochs": 0, **changes},
        )

    @property
    def title(self) -> str:
        return f"Noise and shots on {self.data}, {self.encoding} encoding"

    def rows(self) -> list[Row]:
        warmup = min(WARMUP_EPOCHS, max(1, self.epochs // 2))
        deep = {"mode": "direct", "ansatz": "paper-repeated"}
        kinds: list[tuple[str, str, dict[str, Any]]] = [
            ("implicit", "IMPLICIT", {}),
            (
                "warmup",
                "IMPLICIT+WARMUP",
                {"warmup_epochs": warmup, "warmup_layers": WARMUP_LAYERS},
            ),
            *((f"direct-{n}", f"DIRECT {n}", {"mode": "direct", "layers": n}) for n in DIRECT),
            *((f"deep-{n}", f"DEEP {n}", {**deep, "ansatz_layers": n}) for n in DEEP),
        ]
        rows = [
            self._row(group, name, label, noise=noise, **changes)
            for group, noise in (("noiseless", ""), ("noisy", self.noise(self.trained_at)))
            for name, label, changes in kinds
        ]
        if self.data.endswith("-4"):  # at 10 qubits a comparison of solvers would take hours
            other: Encoding = "angle" if self.encoding == "amplitude" else "amplitude"
            rows.append(self._row(other, "implicit", "IMPLICIT", shown=False, encoding=other))
        return rows

    def devices(self, row: Row) -> Sequence[Device]:
        if not row.shown:
            return ()
        exact = [self.exact(strength) for strength in self.strengths]
        return [
            *exact,
            *(self.sampled(shots, row.training.plain()["noise"]) for shots in self.shots),
        ]

    def exact(self, strength: float) -> Device:
        """A device with noise channels and exact expectation values."""
        noise = self.noise(strength)
        return Device(f"noise {strength:g}", noise or "no noise", {"noise": noise})

    def sampled(self, shots: int, noise: str = "") -> Device:
        """A device with finite shots, and the noise that the row was trained under."""
        return Device(f"shots {shots}", f"{shots:,} shots", {"noise": noise, "shots": shots})

    def measurement(self) -> dict[str, Any]:
        return {"channel": self.channel, "repeats": self.repeats}

    def measurer(self, row: Row, folder: Path, seeds: Sequence[int]) -> Callable[[Device], Numbers]:
        from qdeq.studies.noise.points import Measurer

        return Measurer(row, folder / "runs", seeds, self.repeats)

    def more(self, results: "Results", out: Path, tell: Tell) -> dict[str, Any]:
        return {"solvers": self._solvers(results, out, tell)}

    def reference(self, row: Row, shown: Sequence[Row]) -> str:
        del shown
        return f"{row.group}-implicit"

    def group_label(self, group: str) -> str:
        noisy = f"trained under {self.noise(self.trained_at)}"
        return {"noiseless": "trained without noise", "noisy": noisy}.get(group, group)

    def grids(self, results: "Results") -> "list[Grid]":
        groups = list(dict.fromkeys(row.group for row in results.rows))
        kinds = (
            ("noise", AGAINST_NOISE, [self.exact(strength) for strength in self.strengths]),
            ("shots", AGAINST_SHOTS, [self.sampled(shots) for shots in self.shots]),
        )
        found = [
            results.grid_of_devices(
                f"{metric.header.capitalize()} against {what}, {self.group_label(group)}",
                group,
                metric,
                devices,
            )
            for what, metrics, devices in kinds
            for group in groups
            for metric in metrics
        ]
        solvers = results.more.get("solvers", {})
        return [*filter(None, found), *(_solver_grid(*item) for item in solvers.items())]

    def claims(self, results: "Results") -> list[str]:
        from qdeq.studies.noise.claims import claims

        return claims(self, results)

    def notes(self, results: "Results") -> list[str]:
        from qdeq.studies.noise.claims import notes

        return notes(self, results)

    def pictures(self, results: "Results", out: Path) -> "dict[str, tuple[Figure, str]]":
        from qdeq.studies.noise.figures import draw_all

        del out
        return draw_all(self, results)

    def _row(self, group: str, name: str, label: str, *, shown: bool = True, **changes: Any) -> Row:
        config = self.config(**changes)
        return table_row(group, name, label, config, self.seeds, shown=shown)

    def _solvers(self, results: "Results", out: Path, tell: Tell) -> dict[str, Any]:
        """The error of every solver on a trained IMPLICIT of each encoding, as far as there are."""
        from qdeq.studies.runner import finite_seeds, folder_of
        from qdeq.studies.store import Store

        found = {}
        for row in self.rows():
            seeds = finite_seeds(results.computed.get(row.key, {"seeds": []}))
            if row.name != "implicit" or row.training.noise or not seeds:
                continue
            identity = {"format": SOLVERS_FORMAT, "row": row.identity()}
            store = Store(out / "points" / f"solvers-{row.key}.json", identity)
            content = store.read()
            if content is None:
                from qdeq.studies.noise.solvers import solver_errors

                errors = solver_errors(
                    folder_of(row, out) / "runs" / f"seed-{seeds[0]['seed']}",
                    on_solver=lambda name: tell({"stage": f"error against shots, {name}"}),
                )
                content = store.write({"found": errors})
            found[row.training.encoding] = content["found"]
        return found


def _solver_grid(encoding: str, found: dict[str, Any]) -> "Grid":
    from qdeq.studies.results import Grid

    rows = {**found["errors"], "sampling error of one evaluation": found["floor"]}
    text = (
        f"Root-mean-square |m − m*| over {found['n_samples']} test samples after {found['steps']} "
        f"evaluations; median spectral radius {found['radius']:.2f}. Newton also has exact "
        "Jacobians."
    )
    return Grid(
        f"Error of the equilibrium against shots, {encoding} encoding",
        ["shots per evaluation", *(f"{shots:,}" for shots in found["shots"])],
        [[name, *(f"{error:.2e}" for error in errors)] for name, errors in rows.items()],
        text,
        n_labels=1,
    )
