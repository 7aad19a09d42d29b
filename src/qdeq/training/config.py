"""What one training run is: a flat frozen dataclass, its checks, its JSON form and its presets.

The command line is generated from it, a run folder stores it, and it knows no JAX, so that parsing
a command line stays fast.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from qdeq.errors import UserError, check_choice

DataName = Literal["digits-4", "digits-10", "mnist-4", "mnist-10", "fashion-10", "cifar-10", "own"]
OWN_DATA: DataName = "own"
"""The name of a data set that Python code gave; it cannot be loaded by its name."""

Encoding = Literal["amplitude", "angle"]
Trainable = Literal["all", "published"]
Ansatz = Literal[
    "paper",
    "hardware-efficient",
    "strongly-entangling",
    "paper-unentangled",
    "paper-repeated",
    "own",
]
OWN_MODEL: Ansatz = "own"
"""The circuit of a model function that Python code gave; it cannot be made by its name."""

Head = Literal["linear", "none"]
Features = Literal["pool", "pca", "vae"]
Method = Literal["auto", "statevector", "quadratic", "lightcone", "density-matrix"]
Mode = Literal["implicit", "direct"]
SolverName = Literal[
    "picard",
    "anderson",
    "broyden",
    "newton",
    "homotopy",
    "dogleg",
    "levenberg-marquardt",
    "krasnoselskii-mann",
]
Fallback = Literal["homotopy", "none"]
Start = Literal["zero", "previous"]
PresetName = Literal["paper", "demo", "published"]
AdjointName = Literal["implicit", "jacobian-free", "neumann", "shine", "unrolled"]

# Fields younger than run folders and finished tables that must stay valid. A configuration without
# them is one with these values.
_LATER_FIELDS = {"noise": "", "fallback": "none", "start": "zero"}


# What a run folder says of a solver or an adjoint that was given as an object.
_OWN = "own: "


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines a training run; the defaults are the paper's recipe.

    Two runs with equal configurations on the same machine end with bit-identical models.

    Raises
    ------
    UserError
        When a value has the wrong type, is out of range, or contradicts another one.

    Examples
    --------
    >>> TrainConfig(epochs=5, warmup_epochs=2).mode
    'implicit'
    """

    data: DataName = "digits-4"
    """Data set and number of classes; all but the built-in digits are read from the data folder
    or downloaded."""

    data_dir: str | None = None
    """Folder that holds the data set's files; otherwise the download cache."""

    n_features: int | None = None
    """Numbers per image after pooling, a square such as 16 or 100; otherwise the data set's own
    choice, the paper's for the paper's tasks."""

    features: Features = "pool"
    """How an image becomes features: pooled pixels, principal components, or the latent means of a
    small variational autoencoder; the last two are fitted to the training split."""

    n_qubits: int | None = None
    """Qubits of the circuit; otherwise the paper's, 4 for 4-class tasks and 10 for 10 classes."""

    encoding: Encoding = "amplitude"
    """How features enter the circuit: as amplitudes of the state or as rotation angles."""

    ansatz: Ansatz = "paper"
    """The circuit: the paper's, one of two common families, the paper's without its two-qubit
    gates, or the paper's many times over."""

    ansatz_layers: int = 3
    """Layers of the hardware-efficient and the strongly-entangling circuit, and repetitions of the
    paper's in paper-repeated."""

    trainable: Trainable = "all"
    """Which angles learn: all of them, or only those of the published code's random layer."""

    method: Method = "auto"
    """How expectation values are computed; auto picks the fastest exact one."""

    noise: str = ""
    """What goes wrong on the device that is trained for, such as depolarising=0.01,readout=0.02;
    simulated exactly. Nothing by default."""

    head: Head = "linear"
    """What turns the measured state into class scores: a linear layer that learns, or nothing, the
    first measured values being the scores of the classes."""

    mode: Mode = "implicit"
    """Solve for the equilibrium (implicit), or apply the circuit a fixed number of times
    (direct)."""

    layers: int = 1
    """Applications of the circuit in mode direct; implicit mode ignores it."""

    warmup_epochs: int = 0
    """First epochs of an implicit run that train in mode direct."""

    warmup_layers: int = 5
    """Applications of the circuit during warm-up."""

    epochs: int = 100
    """Passes over the training split."""

    batch_size: int = 256
    """Samples per optimiser step."""

    learning_rate: float = 0.005
    """Adam's step size."""

    gradient_clip: float = 0.25
    """Largest norm of the gradient; longer ones are scaled down to it. 0: never."""

    dropout: float = 0.05
    """Probability that a measured value is hidden from the head during training."""

    jacobian_weight: float = 0.8
    """Weight of the Jacobian penalty that keeps the equilibrium contractive. 0: none."""

    solver: SolverName = "broyden"
    """Method that finds the equilibrium; in Python also a solver object, with its own
    tolerances."""

    fallback: Fallback = "homotopy"
    """What solves the samples that the solver leaves over: a curve that almost surely ends at an
    equilibrium, or nothing. Not used with random_steps_minus and with adjoint unrolled."""

    start: Start = "zero"
    """Where the solver starts in training: at zero, or at what it found for the same sample one
    epoch before (zero where that was no equilibrium). Everything else starts at zero."""

    adjoint: AdjointName = "implicit"
    """How gradients pass the equilibrium; in Python also an adjoint object."""

    max_steps: int = 30
    """Most solver steps per sample."""

    tolerance: float = 1e-5
    """Relative and absolute residual at which a sample counts as solved."""

    random_steps_minus: int = 0
    """In training, end the solver up to this many steps earlier, drawn anew for every batch."""

    valid_fraction: float = 0.2
    """Part of the official training set that is kept for validation."""

    split_seed: int = 0
    """Seed of the split into training and validation; runs with other seeds keep the split."""

    seed: int = 0
    """Seed of the initial angles, the order of the batches, dropout and probes."""

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            if name in ("solver", "adjoint") and is_own(name, getattr(self, name)):
                continue
            _check_type(name, getattr(self, name), hint)
            if hint is float:  # JSON and users write 1 for 1.0; equal runs must compare equal
                object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("n_features", "n_qubits"):
            if getattr(self, name) is not None:
                self._at_least(name, 1)
        counts = ("layers", "warmup_layers", "ansatz_layers", "epochs", "batch_size", "max_steps")
        for name in counts:
            self._at_least(name, 1)
        for name in ("warmup_epochs", "gradient_clip", "jacobian_weight", "random_steps_minus"):
            self._at_least(name, 0)
        for name in ("split_seed", "seed"):
            self._at_least(name, 0)
            if getattr(self, name) >= 2**32:
                raise UserError(f"{name}={getattr(self, name)}: give a number below 2**32")
        for name in ("learning_rate", "tolerance"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name}={getattr(self, name)}: give a number above 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout={self.dropout}: give a probability from 0 to below 1")
        if not 0 < self.valid_fraction < 1:
            raise UserError(
                f"valid_fraction={self.valid_fraction}: give a fraction between 0 and 1, both "
                "excluded, because the best model is chosen on the validation split"
            )
        if self.trainable == "published" and not self.ansatz.startswith("paper"):
            raise UserError(
                f"trainable='published' with ansatz {self.ansatz!r}: only the paper's circuits "
                "were published; set it to 'all'"
            )
        if self.mode == "direct" and self.warmup_epochs:
            raise UserError(
                f"warmup_epochs={self.warmup_epochs}: mode 'direct' has no warm-up; set it to 0 "
                "or use mode 'implicit'"
            )
        if self.warmup_epochs > self.epochs:
            raise UserError(
                f"warmup_epochs={self.warmup_epochs}: the run has only {self.epochs} epochs; "
                "give a shorter warm-up or more epochs"
            )
        if self.random_steps_minus >= self.max_steps:
            raise UserError(
                f"random_steps_minus={self.random_steps_minus}: must be below max_steps="
                f"{self.max_steps}, so that at least one solver step is left"
            )

        self._check_noise()

    def _check_noise(self) -> None:
        if not self.noise:
            return
        from qdeq.circuits.noise_text import parse_noise  # NumPy: only noisy runs wait for it

        parse_noise(self.noise)
        if self.method == "statevector":
            raise UserError(
                f"noise={self.noise!r} with method 'statevector', which knows no mixtures: set "
                "method to 'auto' or 'density-matrix'"
            )

    def _at_least(self, name: str, bound: int) -> None:
        if getattr(self, name) < bound:
            raise UserError(f"{name}={getattr(self, name)}: give a number of at least {bound}")

    def replace(self, **changes: Any) -> "TrainConfig":
        """Return a copy with some fields changed, checked like a new one."""
        return dataclasses.replace(self, **changes)

    def identity(self) -> dict[str, Any]:
        """Every field as a plain value, but for younger fields at their default.

        Results that were computed before a field existed keep their identity.
        """
        values = self.plain()
        for name, default in _LATER_FIELDS.items():
            if values[name] == default:
                del values[name]
        return values

    def plain(self) -> dict[str, Any]:
        """Every field as a number or a text; an object as what it is called and made of."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("solver", "adjoint"):
            if not isinstance(values[name], str):
                values[name] = _OWN + " ".join(repr(values[name]).split())
        return values

    def to_json(self) -> str:
        """Return every field as indented JSON text, in the order of declaration."""
        return json.dumps(self.plain(), indent=2) + "\n"

    def given_again(self, *, solver: Any = None, adjoint: Any = None) -> "TrainConfig":
        """The configuration of a run folder with the objects that the run was given in Python.

        Raises
        ------
        UserError
            If it was given one that is not given now.
        """
        given = {"solver": solver, "adjoint": adjoint}
        for name, value in given.items():
            kept = getattr(self, name)
            if value is None and isinstance(kept, str) and kept.startswith(_OWN):
                raise UserError(
                    f"{name}={kept!r}: the {name} was given in Python, and has to be given again: "
                    f"{name}=..."
                )
        return self.replace(**{name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_json(cls, text: str, *, source: str = "config.json") -> "TrainConfig":
        """Rebuild a configuration from what `to_json` wrote.

        Parameters
        ----------
        text
            JSON text.
        source
            What the text is called in error messages, usually its path.

        Raises
        ------
        UserError
            When the text is not JSON, a key is missing or unknown, or a value is not allowed.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{source} is damaged ({error}): restore the file or train again"
            ) from error
        if not isinstance(values, dict):
            raise UserError(f"{source} is damaged (not a JSON object): restore it or train again")
        known = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in known if name not in values and name not in _LATER_FIELDS]
        unknown = [name for name in values if name not in known]
        if missing:
            raise UserError(f"{source} lacks {', '.join(missing)}: restore the file or train again")
        if unknown:
            raise UserError(
                f"{source} has unknown keys {', '.join(unknown)}: remove them, or use the version "
                "of qdeq that wrote the file"
            )
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error


def is_own(name: str, value: object) -> bool:
    """Whether a solver or an adjoint is an object and no name, checked; or a folder's word for one.

    Parameters
    ----------
    name
        "solver" or "adjoint".
    value
        Of the field.
    """
    if isinstance(value, str):
        return value.startswith(_OWN)
    # JAX: only objects wait for it.
    from qdeq.equilibrium.attach import check_adjoint
    from qdeq.equilibrium.solver import check_solver

    {"solver": check_solver, "adjoint": check_adjoint}[name](name, value)
    try:
        hash(value)
    except TypeError:
        raise UserError(
            f"{name}={value!r}: in training it is a part of compiled programs, give its numbers "
            "as Python's and not as arrays"
        ) from None
    return True


def _check_type(name: str, value: object, hint: Any) -> None:
    """Raise `UserError` unless `value` fits a field's declared type."""
    optional = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    if optional:
        if value is None:
            return
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is Literal:
        check_choice(name, value, typing.get_args(hint))
    elif hint is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise UserError(f"{name}={value!r}: give a whole number")
    elif hint is float and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise UserError(f"{name}={value!r}: give a finite number")
    elif hint is str and not isinstance(value, str):
        raise UserError(f"{name}={value!r}: give a text")


PRESETS: dict[PresetName, TrainConfig] = {
    # The paper's text: every angle learns, 100 epochs, Broyden to 1e-5.
    "paper": TrainConfig(),
    # A first look in under two minutes on two cores, compilation included. Mean validation accuracy
    # over seeds 0 to 4: 0.966, with the paper's step size, dropout and clipping 0.945.
    "demo": TrainConfig(
        warmup_epochs=10,
        epochs=60,
        batch_size=32,
        learning_rate=0.03,
        gradient_clip=1.0,
        dropout=0.0,
    ),
    # The published code, like for like: 35 of 39 (40 of 56) angles learn, and the solver stops
    # after 8 to 10 steps or at a residual of 1e-3.
    "published": TrainConfig(
        trainable="published",
        max_steps=10,
        tolerance=1e-3,
        random_steps_minus=2,
        fallback="none",
    ),
}
"""Named configurations; explicit options override what a preset sets."""
