"""Which rows a table has and what each of them is; no JAX, and nothing is computed here.

The tables are those of Schleich et al., Quantum Deep Equilibrium Models (arXiv 2410.23940), with
the baselines that the paper leaves out.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qdeq.errors import UserError
from qdeq.training.config import DataName, Trainable, TrainConfig

Kind = Literal["circuit", "logistic", "mlp", "cost"]

#: Raise when the meaning of a number in a row changes, so that older rows are computed again.
RESULT_FORMAT = 1

#: The encodings of a table: the paper's 10-class tables have one.
ENCODINGS: dict[DataName, tuple[str, ...]] = {
    "mnist-4": ("amplitude", "angle"),
    "mnist-10": ("amplitude",),
    "fashion-10": ("amplitude",),
    "cifar-10": ("amplitude",),
    "digits-4": ("amplitude", "angle"),
    "digits-10": ("amplitude",),
}

#: Depths of the weight-tied baseline.
DEPTHS = (1, 2, 5, 10)

#: What `qdeq reproduce warmup` compares, by validation accuracy.
WARMUP_EPOCHS = (3, 10, 30)
WARMUP_LAYERS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the rows of a table are trained; the defaults are the paper's.

    Everything else, such as the batch of 256, Adam at 0.005, clipping at 0.25 and the Jacobian
    weight of 0.8, is `TrainConfig`'s default.
    """

    data: DataName
    data_dir: str | None = None
    epochs: int = 100
    seeds: tuple[int, ...] = tuple(range(10))
    trainable: Trainable = "all"
    # Chosen by `qdeq reproduce warmup` on mnist-4: mean validation accuracy 0.9193 over seeds 0 to
    # 2, without warm-up 0.9120, with five layers 0.9117.
    warmup_epochs: int = 10
    warmup_layers: int = 1

    def config(self, **changes: Any) -> TrainConfig:
        """A configuration of this protocol; `changes` say what is particular to a row."""
        values = {"epochs": self.epochs, "trainable": self.trainable, **changes}
        return TrainConfig(data=self.data, data_dir=self.data_dir, **values)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    group
        What it is compared within: an encoding, or `"classical"`.
    name
        What `--rows` calls it.
    label
        What the table calls it.
    kind
        `"circuit"` is trained by the training loop, `"logistic"` and `"mlp"` by scikit-learn,
        `"cost"` measures time and memory for a figure and is not shown as a row.
    config
        What is trained; scikit-learn's rows use its data, epochs and batch size.
    seeds
        One model each.
    test
        Whether the test split is looked at; not when something is being chosen.
    traces
        Whether the residual per step of several solvers is measured on the trained model.
    """

    group: str
    name: str
    label: str
    kind: Kind
    config: TrainConfig
    seeds: tuple[int, ...]
    test: bool = True
    traces: bool = False

    @property
    def key(self) -> str:
        """Unique in a table, and the name of the row's folder."""
        return f"{self.group}-{self.name}"

    def identity(self) -> dict[str, Any]:
        """All that the row's numbers depend on; a finished row with this identity is kept."""
        values = dataclasses.asdict(self) | {"config": self.config.identity()}
        values["config"].pop("data_dir")  # where the files are does not change what they hold
        values["config"].pop("seed")  # each of `seeds` takes its place
        values.pop("label")
        values["seeds"] = list(self.seeds)
        return {"format": RESULT_FORMAT, **values}

    def to_json(self) -> dict[str, Any]:
        """Plain values, with which `from_json` builds the row again."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Row":
        """Undo `to_json`."""
        config = TrainConfig(**values["config"])
        return cls(**{**values, "config": config, "seeds": tuple(values["seeds"])})


def table_rows(protocol: Protocol) -> list[Row]:
    """Every row of the protocol's table, in the order in which it is printed.

    Raises
    ------
    UserError
        When the protocol contradicts itself, for example a warm-up longer than the run.
    """
    rows = []
    for encoding in ENCODINGS[protocol.data]:
        rows += _encoding_rows(protocol, encoding)
    plain = protocol.config()
    classical: tuple[tuple[Kind, str], ...] = (
        ("logistic", "Logistic regression"),
        ("mlp", "Small MLP"),
    )
    for name, label in classical:
        rows.append(
            Row(
                group="classical",
                name=name,
                label=label,
                kind=name,
                config=plain.replace(trainable="all"),
                seeds=protocol.seeds,
            )
        )
    return rows


def _encoding_rows(protocol: Protocol, encoding: str) -> list[Row]:
    def row(name: str, label: str, *, traces: bool = False, **changes: Any) -> Row:
        config = protocol.config(encoding=encoding, **changes)
        return Row(
            group=encoding,
            name=name,
            label=label,
            kind="circuit",
            config=config,
            seeds=protocol.seeds,
            traces=traces,
        )

    # A run shorter than the warm-up is a trial: half of it warms up.
    warmup_epochs = min(protocol.warmup_epochs, max(1, protocol.epochs // 2))
    rows = [
        row("implicit", "IMPLICIT", traces=True),
        row(
            "warmup",
            f"IMPLICIT+WARMUP ({warmup_epochs} epoch{'s' * (warmup_epochs != 1)} of DIRECT "
            f"{protocol.warmup_layers})",
            warmup_epochs=warmup_epochs,
            warmup_layers=protocol.warmup_layers,
        ),
    ]
    rows += [
        row(f"direct-{depth}", f"DIRECT {depth}", mode="direct", layers=depth) for depth in DEPTHS
    ]
    rows.append(row("qml", "QML circuit, no head", mode="direct", head="none"))
    if protocol.data in ("mnist-10", "fashion-10", "cifar-10", "digits-10"):
        for features, label in (("pca", "PCA"), ("vae", "VAE")):
            rows.append(
                row(
                    f"qml-{features}",
                    f"QML circuit on {label} features, no head",
                    mode="direct",
                    head="none",
                    features=features,
                )
            )
    rows.append(row("unentangled", "IMPLICIT, no two-qubit gates", ansatz="paper-unentangled"))
    return rows


def cost_row(protocol: Protocol, encoding: str) -> Row:
    """The measurement behind the figure of memory and time against depth."""
    return Row(
        group=encoding,
        name="cost",
        label="time and memory per step",
        kind="cost",
        config=protocol.config(encoding=encoding, epochs=1),
        seeds=(0,),
        test=False,
    )


def warmup_rows(protocol: Protocol, encoding: str = "amplitude") -> list[Row]:
    """The grid from which the length and depth of the warm-up are chosen, without test numbers."""
    choices = [(0, 1), *((e, n) for e in WARMUP_EPOCHS for n in WARMUP_LAYERS)]
    return [
        Row(
            group=encoding,
            name=f"warmup-{epochs}-{layers}" if epochs else "no-warmup",
            label=f"{epochs} epochs of DIRECT {layers}" if epochs else "no warm-up",
            kind="circuit",
            config=protocol.config(encoding=encoding, warmup_epochs=epochs, warmup_layers=layers),
            seeds=protocol.seeds,
            test=False,
        )
        for epochs, layers in choices
        if epochs <= protocol.epochs
    ]


def choose_rows(rows: Sequence[Row], wanted: str | None) -> list[Row]:
    """The rows that a list such as `implicit,angle-direct-5` names, in the table's order.

    A name without a group means that row of every group; None means all rows.

    Raises
    ------
    UserError
        For a name that no row has, listing those that there are.
    """
    if wanted is None:
        return list(rows)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    known = list(dict.fromkeys(row.name for row in rows))
    for name in names:
        if name not in known and name not in {row.key for row in rows}:
            raise UserError(
                f"rows={wanted!r}: {name!r} is no row of this table, choose from {', '.join(known)}"
            )
    if not names:
        raise UserError(f"rows={wanted!r}: name at least one of {', '.join(known)}")
    return [row for row in rows if row.name in names or row.key in names]
