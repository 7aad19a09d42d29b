"""The preset "best" taken apart: one change at a time to it from the paper's recipe, and against
depth, classical models and what it was chosen from.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from qdeq.errors import UserError
from qdeq.names import DataName
from qdeq.studies.claims import sorted_by, verdict
from qdeq.studies.paper import ENCODINGS, table_row
from qdeq.studies.study import Metric, Result, Row, Study, Tell
from qdeq.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from qdeq.studies.results import Grid, Results

#: Depths of the weight-tied baseline.
DEPTHS = (1, 2, 5, 10)

GROUPS = {
    "best": "preset best",
    "equal": "as many executions",
    "classical": "classical",
    "pooled": "pooled pixels",
    "amplitude": "amplitudes",
    "amplitude-equal": "amplitudes, as many executions",
    "steps": "one change after another",
    "without": "all but one",
    "classical-pooled": "classical, pooled pixels",
}

#: The groups whose depths train for as many executions as the equilibrium of a group.
EQUAL = {"equal": "best", "amplitude-equal": "amplitude"}

#: What the preset's rows on pooled pixels have in place of principal components.
POOLED: dict[str, Any] = {"features": "pool"}
#: And those on amplitudes: nothing of the injection learns, larger steps do.
AMPLITUDE: dict[str, Any] = {
    **POOLED,
    "encoding": "amplitude",
    "ansatz_layers": 5,
    "learning_rate": 0.05,
    "max_contraction": 0.9,
}

#: The equilibrium on amplitudes but for one choice.
AMPLITUDE_CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "free": ("equilibrium without a ceiling", {"max_contraction": None}),
    "slow": ("equilibrium with the step size 0.005", {"learning_rate": 0.005}),
}

# Solver steps of a sample in training, for costs that are needed before it; 12 to 14 are measured.
# Under a ceiling of 0.9 they are 7, and the depths on amplitudes get an epoch too many of 13.
_SOLVER_STEPS = 12.0

#: From the paper's recipe to the preset on pooled pixels: what people read, and the options that
#: become the preset's in this step and stay so in the next ones.
STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "paper": ("the paper's recipe", ()),
    "pull": ("less pull to zero: Jacobian weight 0.8 to 0.01", ("jacobian_weight",)),
    "head": ("the head sees signs: no ReLU, no dropout", ("head", "dropout")),
    "optimiser": (
        "smaller batches, looser clipping, steps that fall to zero",
        ("batch_size", "schedule", "gradient_clip"),
    ),
    "injection": (
        "learned injection: U and W into three rotations a wire, and b",
        ("encoding", "rotations"),
    ),
    "circuit": ("hardware-efficient circuit", ("ansatz", "ansatz_layers")),
    "observables": ("X, Y and Z of every wire", ("observables",)),
}

#: The preset on pooled pixels but for one more choice.
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "pull": ("full pull to zero, Jacobian weight 0.8", {"jacobian_weight": 0.8}),
    "free": ("no pull to zero, Jacobian weight 0", {"jacobian_weight": 0.0}),
    "ceiling": (
        "no pull but a ceiling: contraction below 0.9 by construction",
        {"jacobian_weight": 0.0, "max_contraction": 0.9},
    ),
    "relu": ("head with ReLU", {"head": "linear"}),
    "z": ("Z of every wire", {"observables": "z"}),
    "z-strings": ("all products of Z, one setting", {"observables": "z-strings"}),
    "z-pairs": ("Z and products of two Z", {"observables": "z-pairs"}),
    "paper-circuit": ("the paper's circuit", {"ansatz": "paper"}),
    "two-layers": ("two layers of the circuit", {"ansatz_layers": 2}),
    "constant": ("constant step size", {"schedule": "constant"}),
    "step-size": ("step size 0.02", {"learning_rate": 0.02}),
    "decay": ("weight decay 0.1", {"weight_decay": 0.1}),
}


@dataclass(frozen=True, kw_only=True)
class RecipeStudy(Study):
    """Ablation of the preset `best`; every row has the same data, epochs and seeds."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("test_accuracy", "test accuracy", ".4f"),
        Metric("valid_accuracy", "validation accuracy", ".4f"),
        Metric("train_accuracy", "training accuracy", ".4f"),
        Metric("converged_fraction", "converged", ".4f"),
        Metric("solver_steps", "solver steps", ".2f"),
        Metric("executions_per_training_step", "executions per training step", ",.0f"),
        Metric("gradient_executions_per_training_step", "executions for its gradient", ",.0f"),
        Metric("epochs", "epochs", ",d", per_seed=False),
        Metric("trainable_angles", "angles", ",d", per_seed=False),
        Metric("injection_parameters", "learned injection", ",d", per_seed=False),
        Metric("classical_parameters", "head or classical", ",d", per_seed=False),
    )
    compared: ClassVar[str] = "test_accuracy"
    group_header: ClassVar[str] = "rows"

    data: DataName = "mnist-4"
    data_dir: str | None = None
    epochs: int | None = None
    seeds: tuple[int, ...] = tuple(range(10))

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UserError("seeds is empty: give at least one")

    @property
    def title(self) -> str:
        return f"A recipe for one circuit on {self.data}"

    @property
    def description(self) -> str:
        best = self.best()
        return (
            f"{best.epochs} epochs in every row, the seeds {', '.join(map(str, self.seeds))}, the "
            "paper's split. The preset takes as many principal components of an image as the "
            "paper takes pooled pixels; both are linear in the image. It was chosen on validation "
            "splits, with other seeds (100 to 102); some choices came after test accuracies had "
            "been seen, the notes say which. Learned injection counts U, W and b: with U x as "
            "angles a learned linear map of the features is a classical part of the model, and "
            "the classical rows say what such a part does alone."
        )

    def best(self, **changes: Any) -> TrainConfig:
        """The preset on this study's data."""
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return PRESETS["best"].replace(data=self.data, data_dir=self.data_dir, **epochs, **changes)

    def rows(self) -> list[Row]:
        warmup = {"warmup_epochs": self.best().epochs // 4, "warmup_layers": 1}
        return [
            self._row("best", "implicit", "preset best: equilibrium", self.best()),
            *self._depths("best", {}),
            *self._depths("equal", {}, DEPTHS[1:]),
            *self._classical("classical", {}),
            self._row("pooled", "implicit", "equilibrium", self.best(**POOLED)),
            *self._depths("pooled", POOLED),
            self._row("amplitude", "implicit", "equilibrium", self.best(**AMPLITUDE)),
            *self._depths("amplitude", AMPLITUDE),
            self._row(
                "amplitude",
                "warm",
                "equilibrium, direct(1) in the first quarter of its epochs",
                self.best(**AMPLITUDE, **warmup),
            ),
            *(
                self._row("amplitude", name, label, self.best(**AMPLITUDE | changes))
                for name, (label, changes) in AMPLITUDE_CHANGES.items()
            ),
            *self._depths("amplitude-equal", AMPLITUDE, DEPTHS[1:]),
            *self._steps(),
            *(
                self._row("without", name, label, self.best(**POOLED, **changes))
                for name, (label, changes) in CHANGES.items()
            ),
            *self._classical("classical-pooled", POOLED),
        ]

    def _row(self, group: str, name: str, label: str, config: TrainConfig) -> Row:
        kind = "equal_executions" if group in EQUAL else "circuit"
        return table_row(group, name, label, config, self.seeds, kind=f"{__name__}:{kind}")

    def _depths(
        self, group: str, changes: dict[str, Any], depths: Sequence[int] = DEPTHS
    ) -> list[Row]:
        return [
            self._row(
                group, f"direct-{n}", f"direct({n})", self.best(mode="direct", layers=n, **changes)
            )
            for n in depths
        ]

    def _steps(self) -> list[Row]:
        best = self.best(**POOLED)
        # The paper's angle encoding lets 7 of 100 features through on ten qubits.
        encoding = "angle" if "angle" in ENCODINGS[self.data] else "amplitude"
        config = TrainConfig(
            data=self.data,
            data_dir=self.data_dir,
            encoding=encoding,
            epochs=best.epochs,
            tolerance=best.tolerance,
        )
        rows = []
        for name, (label, options) in STEPS.items():
            config = config.replace(**{option: getattr(best, option) for option in options})
            if config == best:
                break  # the last step is a row of its own
            rows.append(self._row("steps", name, label, config))
        return rows

    def _classical(self, group: str, changes: dict[str, Any]) -> list[Row]:
        return [
            table_row(group, name, label, self.best(**changes), self.seeds, kind=kind)
            for name, label, kind in (
                ("logistic", "logistic regression: the head on U x", "logistic"),
                ("narrow", "MLP of as many hidden units as U has rows", f"{__name__}:narrow_mlp"),
                ("mlp", "small MLP, chosen on validation data", "mlp"),
            )
        ]

    def reference(self, row: Row, shown: Sequence[Row]) -> str | None:
        del shown
        own = {"best": "best", "classical": "best", "amplitude": "amplitude"} | EQUAL
        return f"{own.get(row.group, 'pooled')}-implicit"

    def group_label(self, group: str) -> str:
        return GROUPS[group]

    def grids(self, results: "Results") -> "list[Grid]":
        return [results.grid("Results", self.metrics, with_difference="difference to equilibrium")]

    def claims(self, results: "Results") -> list[str]:
        found = [*_against_depth(results), *_against_others(results), *_what_bounds_it(results)]
        return [sentence[0].upper() + sentence[1:] for sentence in found]

    def notes(self, results: "Results") -> list[str]:
        del results
        return [
            "Differences are paired by seed, their intervals Student's at 95 %; they are not "
            "corrected for the number of rows.",
            "The preset's step size was lowered from 0.02 to 0.005 by validation accuracy (the "
            "larger one did not learn CIFAR-10), after test accuracies with the larger one had "
            "been seen on MNIST-4: 0.9729 there, 0.0016 above the preset's.",
            "Principal components in place of pooled pixels were chosen by validation accuracy "
            "(seed 100, 10 epochs) after the test accuracies of rows on pooled pixels had been "
            "seen. Everything else was chosen on pooled pixels, and stayed.",
            "On amplitudes the step size and the ceiling of contraction were chosen by validation "
            "accuracy on MNIST-4 (seeds 100 to 104), after test accuracies of another choice had "
            "been seen: with the step size 0.005 and no ceiling the equilibrium was 0.0047 below "
            "direct(1). A warm-up was left out by the validation accuracies of this table, after "
            "its test accuracies had been seen.",
            "Every row keeps the model of its lowest validation loss. Depths are compared at equal "
            "epochs; executions stand beside them. Rows of as many executions train for so many "
            "epochs as the equilibrium's executions in training allow, those for gradients "
            "included.",
        ]


def _against_depth(results: "Results") -> Iterator[str]:
    """The equilibrium against the depth that validation chooses, group by group."""
    for group in ("best", "pooled", "amplitude"):
        depths = [row for row in results.with_numbers(group) if row.name.startswith("direct")]
        if not depths:
            continue
        deepest = max(depths, key=lambda row: results.mean(row.key, "valid_accuracy")[0])
        compared = results.compare(f"{group}-implicit", deepest.key)
        if compared is None:
            continue
        which = "depth" if len(depths) == len(DEPTHS) else "depth that has run"
        called = f"{deepest.label}, the {which} with the highest validation accuracy"
        if len(depths) == 1:
            called = f"{deepest.label}, the only depth that has run"
        yield f"{GROUPS[group]}: {verdict('the equilibrium', called, compared)}"


def _against_others(results: "Results") -> Iterator[str]:
    """The preset against depths of equal cost, classical models, and itself on pooled pixels."""
    of_equal_cost, classical = results.with_numbers("equal"), results.with_numbers("classical")
    opponents = [(row.key, f"{row.label} of as many executions") for row in of_equal_cost]
    opponents += [(row.key, row.label) for row in classical]
    opponents.append(("pooled-implicit", "the same on pooled pixels"))
    for key, called in opponents:
        compared = results.compare("best-implicit", key)
        if compared is not None:
            yield verdict("the preset", called, compared)
    for row in results.with_numbers("amplitude-equal"):
        compared = results.compare("amplitude-implicit", row.key)
        if compared is not None:
            called = f"{row.label} of as many executions"
            yield f"{GROUPS['amplitude']}: {verdict('the equilibrium', called, compared)}"


def _what_bounds_it(results: "Results") -> Iterator[str]:
    """Which choices of training and model matter, and who fits the training split how well."""
    others = results.with_numbers("without")
    said = sorted_by(results, "pooled-implicit", others, "the preset")
    if said:
        yield f"{GROUPS['pooled']}, the preset but for one choice: {said}"
    fitted = [*results.with_numbers("best"), *results.with_numbers("classical")]
    each = [f"{row.label} {results.mean(row.key, 'train_accuracy')[0]:.4f}" for row in fitted]
    if each:
        yield (
            f"training accuracy: {', '.join(each)}. What steps of training miss, or the model "
            "cannot express, lowers it in one row; what the features lack, in all of them."
        )


def circuit(row: Row, folder: Path, progress: Tell) -> Result:
    """`kinds.circuit`, with the numbers that a learned injection has; read early if solved."""
    from qdeq.names import TABLE_ENCODING
    from qdeq.runs.circuit import circuit_of
    from qdeq.runs.dataset import load_dataset
    from qdeq.studies import kinds

    found = kinds.circuit(row, folder, progress)
    if row.training.encoding == TABLE_ENCODING:
        measured = circuit_of(row.training)
        d = load_dataset(row.training).n_features
        found["injection_parameters"] = measured.n_features * (d + measured.n_observables + 1)
    if row.name == "implicit" and found["status"] == "done":
        progress({"stage": "reading early"})
        found["note"] = read_early(row.seeds, folder / "runs")
    return found | {"epochs": row.training.epochs}


def read_early(seeds: Sequence[int], folder: Path) -> str:
    """What trained equilibria say where their circuit is applied `DEPTHS` times, not solved.

    Where few applications answer as the equilibrium does, no depth can be far behind it: the model
    of that depth with the same parameters is as good.
    """
    from qdeq.runs.dataset import load_dataset
    from qdeq.runs.trained import load
    from qdeq.training.predict import predict

    run = load(folder)
    test = load_dataset(run.config).test
    right, same = {n: [] for n in DEPTHS}, []
    for seed in seeds:
        own = run.of_seed(seed)
        solved = own.predictions(test.x, prepared=True).outputs.argmax(axis=1)
        for n in DEPTHS:
            applied = own.config.replace(mode="direct", layers=n, warmup_epochs=0)
            answers = predict(own.classifier, applied, test.x).outputs.argmax(axis=1)
            right[n].append(float((answers == test.y).mean()))
        same.append(float((answers == solved).mean()))
    accuracies = ", ".join(f"{fmean(right[n]):.4f} ({n})" for n in DEPTHS)
    return (
        f"its trained models, applied so many times in place of solved, have the test accuracies "
        f"{accuracies}, and after {DEPTHS[-1]} applications the equilibrium's class for "
        f"{fmean(same):.4f} of the images"
    )


def equal_executions(row: Row, folder: Path, progress: Tell) -> Result:
    """A depth that is trained for as many epochs as take the equilibrium's executions."""
    from qdeq.runs.cost import executions_per_sample

    config = row.training
    budget = executions_per_sample(config.replace(mode="implicit"), _SOLVER_STEPS)
    epochs = config.epochs * budget / executions_per_sample(config, config.layers)
    config = config.replace(epochs=max(1, round(epochs)))
    return circuit(dataclasses.replace(row, config=config), folder, progress)


def narrow_mlp(row: Row, folder: Path, progress: Tell) -> Result:
    """A hidden layer of as many units as the learned U has rows, its step size chosen."""
    from qdeq.runs.circuit import circuit_of
    from qdeq.runs.dataset import load_dataset
    from qdeq.studies import baselines, kinds

    del folder
    dataset, config = load_dataset(row.training), row.training
    hidden = (circuit_of(config).n_features,)
    size = {"epochs": config.epochs, "batch_size": config.batch_size}
    began, tried = time.perf_counter(), []
    for step_size in baselines.MLP_STEP_SIZES:
        choice = {"hidden": hidden, "step_size": step_size}
        tried.append(baselines.fit_mlp(dataset, choice, **size, seed=row.seeds[0]))
        progress({"stage": "choosing by validation loss"})
    choice = min(tried, key=lambda fitted: fitted.valid_loss).choice
    choosing, began, fitted = time.perf_counter() - began, time.perf_counter(), {}
    for number, seed in enumerate(row.seeds):
        fitted[seed] = baselines.fit_mlp(dataset, choice, **size, seed=seed)
        progress({"stage": "fitting", "epoch": number + 1, "epochs": len(row.seeds)})
    return kinds.classical(dataset, fitted, "", time.perf_counter() - began, choosing=choosing)
