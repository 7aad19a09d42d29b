"""What `qdeq reproduce noise` compares: which models, trained how, on which devices. No JAX.

How a row is trained is `row.py`'s business, how it is measured on a device `noise_points.py`'s.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from qdeq.errors import UserError
from qdeq.studies.protocol import Protocol, Row
from qdeq.training.config import PRESETS, DataName, Encoding, TrainConfig

#: Depths of the weight-tied baseline: the circuit is applied so often, and measured each time.
DIRECT = (1, 5, 10)

#: Repetitions in the coherent baseline: one circuit, so many times as deep, measured once.
DEEP = (5,)

GROUPS = {"noiseless": "trained without noise", "noisy": "trained under noise"}


@dataclass(frozen=True, kw_only=True)
class NoiseProtocol:
    """How the models are trained and on which devices they are measured.

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

    def rows(self) -> list[Row]:
        """Every model, first trained without noise and then under it."""
        warmup = min(Protocol.warmup_epochs, max(1, self.epochs // 2))
        kinds: list[tuple[str, str, dict[str, Any]]] = [
            ("implicit", "IMPLICIT", {}),
            (
                "warmup",
                "IMPLICIT+WARMUP",
                {"warmup_epochs": warmup, "warmup_layers": Protocol.warmup_layers},
            ),
        ]
        kinds += [(f"direct-{n}", f"DIRECT {n}", {"mode": "direct", "layers": n}) for n in DIRECT]
        kinds += [
            (
                f"deep-{n}",
                f"DEEP {n}",
                {"mode": "direct", "ansatz": "paper-repeated", "ansatz_layers": n},
            )
            for n in DEEP
        ]
        return [
            self._row(group, name, label, noise=noise, **changes)
            for group, noise in (("noiseless", ""), ("noisy", self.noise(self.trained_at)))
            for name, label, changes in kinds
        ]

    def solver_rows(self, rows: list[Row]) -> dict[str, Row]:
        """The trained models whose equilibria the comparison of solvers looks for, per encoding."""
        other: Encoding = "angle" if self.encoding == "amplitude" else "amplitude"
        found = {self.encoding: next(row for row in rows if row.key == "noiseless-implicit")}
        if self.data.endswith("-4"):  # at 10 qubits a comparison would take hours
            found[other] = self._row(other, "implicit", "IMPLICIT", encoding=other)
        return found

    def _row(self, group: str, name: str, label: str, **changes: Any) -> Row:
        return Row(
            group=group,
            name=name,
            label=label,
            kind="circuit",
            config=self.config(**changes),
            seeds=self.seeds,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def choose_noise_rows(rows: list[Row], wanted: str | None) -> list[Row]:
    """The rows that a list such as `implicit,noisy-direct-5` names; IMPLICIT is always among them.

    Raises
    ------
    UserError
        For a name that no row has.
    """
    from qdeq.studies.protocol import choose_rows

    chosen = {row.key for row in choose_rows(rows, wanted)}
    chosen |= {f"{row.group}-implicit" for row in rows if row.key in chosen}
    return [row for row in rows if row.key in chosen]
