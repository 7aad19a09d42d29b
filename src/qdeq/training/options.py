"""The options of a training run in groups: their types, ranges, defaults and what they exclude.

`TrainConfig` inherits from all of them, so that options, JSON and the command line stay flat.
"""

import difflib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias, get_args

from msgspec import Meta

from qdeq.errors import UserError
from qdeq.names import (
    OWN_MODEL,
    AdjointName,
    Ansatz,
    DataName,
    Encoding,
    Fallback,
    Features,
    Head,
    Loss,
    Method,
    Mode,
    NamedData,
    Observables,
    Optimiser,
    Schedule,
    SolverName,
    Start,
    Task,
    Trainable,
)
from qdeq.training.checked import Objects, is_own

# What arrays of 32-bit numbers hold, in which JAX counts epochs, steps and samples.
_LARGEST = 2**31 - 1
Count = Annotated[
    int, Meta(ge=1, le=_LARGEST, description="a number of at least 1 and at most 2**31 - 1")
]
WholeNumber = Annotated[
    int, Meta(ge=0, le=_LARGEST, description="a number of at least 0 and at most 2**31 - 1")
]
Seed = Annotated[int, Meta(ge=0, lt=2**32, description="a number of at least 0 and below 2**32")]
Rotations = Annotated[int, Meta(ge=1, le=3, description="a number from 1 to 3")]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, lt=1, description="a probability from 0 to below 1")]
Contraction = Annotated[
    float,
    Meta(gt=0, lt=1, description="a contraction factor between 0 and 1, both excluded"),
]
Fraction = Annotated[
    float,
    Meta(
        gt=0,
        lt=1,
        description="a fraction between 0 and 1, both excluded, because the best model is chosen "
        "on the validation split",
    ),
]

if TYPE_CHECKING:  # what callers may give; this module imports no JAX
    import optax

    from qdeq import circuits
    from qdeq.equilibrium import AbstractDerivative
    from qdeq.equilibrium.solver import Solver

    EncodingOption: TypeAlias = Encoding | circuits.Encoding
    AnsatzOption: TypeAlias = Ansatz | circuits.Circuit
    ObservablesOption: TypeAlias = Observables | circuits.MeasurementEnsemble
    NoiseOption: TypeAlias = str | circuits.NoiseModel
    SolverOption: TypeAlias = SolverName | Solver
    FallbackOption: TypeAlias = Fallback | Solver
    AdjointOption: TypeAlias = AdjointName | AbstractDerivative
    OptimiserOption: TypeAlias = Optimiser | optax.GradientTransformation
else:  # what is read from words and from JSON, and which objects are let through
    _SOLVER = Objects("qdeq.equilibrium.solver:KINDS", "a solver object such as Broyden()")
    EncodingOption = Annotated[
        Encoding, Objects("qdeq.circuits:Encoding", "an AmplitudeEncoding or an AngleEncoding")
    ]
    AnsatzOption = Annotated[Ansatz, Objects("qdeq.circuits:Circuit", "a Circuit")]
    ObservablesOption = Annotated[
        Observables, Objects("qdeq.circuits:MeasurementEnsemble", "a MeasurementEnsemble")
    ]
    NoiseOption = Annotated[str, Objects("qdeq.circuits:NoiseModel", "a NoiseModel or a text")]
    SolverOption = Annotated[SolverName, _SOLVER]
    FallbackOption = Annotated[Fallback, _SOLVER]
    AdjointOption = Annotated[
        AdjointName,
        Objects("qdeq.equilibrium:AbstractDerivative", "an adjoint object such as Implicit()"),
    ]
    OptimiserOption = Annotated[
        Optimiser,
        Objects("optax:GradientTransformation", "an Optax optimiser such as optax.sgd(0.1)"),
    ]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which samples, and as which features."""

    data: str = "digits-4"
    """A named data set (digits-4, digits-10, mnist-4, mnist-10, fashion-10, cifar-10), of which all
    but the built-in digits are read from the data folder or downloaded; or a file of your own: a
    table (.csv, .tsv, also .gz; .parquet), arrays (.npz), or a folder of images DIR/class/*.png."""

    target: str | None = None
    """Column of a table to predict; several of a regression with commas."""

    task: Task | None = None
    """Of a table: classes or numbers; otherwise told from the target, and said."""

    test: str | None = None
    """File to test on, of the same columns; otherwise a fifth of the rows is held out."""

    group: str | None = None
    """Column of a table whose equal values stay in one split, such as a patient's number."""

    weight: str | None = None
    """Column of a table that says how much each row counts, in training and in every score."""

    ignore: str | None = None
    """Columns of a table to leave out, with commas."""

    components: Count | None = None
    """Principal components of a table to learn from; otherwise all of its features."""

    data_dir: str | None = None
    """Folder that holds the data set's files; otherwise the download cache. Of a file of your own:
    the folder it has been moved to."""

    n_features: Count | None = None
    """Numbers per image after pooling, a square such as 16 or 100; otherwise the data set's own
    choice, the paper's for the paper's tasks."""

    features: Features = "pool"
    """How an image becomes features: pooled pixels, principal components, or (of a named data set)
    the latent means of a small variational autoencoder; the last two are fitted to the training
    split. The features of a table are its columns."""

    @property
    def is_file(self) -> bool:
        """Whether the data are a file or folder of the user's, and no named data set."""
        return self.data not in get_args(DataName)

    @property
    def data_name(self) -> str:
        """What the data set is called: of a file its name without folder and ending."""
        from qdeq.data.table_files import stem_of

        return stem_of(self.data) if self.is_file else self.data

    def check_data(self) -> None:
        """Raise `UserError` for a name that is none, or options of files with a named data set."""
        if self.is_file:
            # A path that is not there is reported where it is read: run folders outlive files.
            is_path = os.sep in self.data or "." in self.data or os.path.exists(self.data)
            if not is_path:
                names = get_args(NamedData)
                near = difflib.get_close_matches(self.data, names, n=1)
                guess = f"; did you mean {near[0]}?" if near else ""
                raise UserError(
                    f"data={self.data!r} is not known: choose one of {', '.join(names)}, or give "
                    f"a file or folder that exists{guess}"
                )
            if self.features == "vae":
                raise UserError(
                    "features='vae': an autoencoder is for the named data sets; of images of your "
                    "own take 'pool' or 'pca', and leave it out for a table"
                )
            return
        for name in ("target", "task", "test", "group", "weight", "ignore", "components"):
            value = getattr(self, name)
            if value is not None:
                raise UserError(
                    f"{name}={value!r}: it belongs to a file of your own, and data={self.data!r} "
                    "is none; leave it out, or set data to a file"
                )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model function and the head on it."""

    n_qubits: Count | None = None
    """Qubits of the circuit; otherwise the paper's, 4 for 4-class tasks and 10 for 10 classes."""

    encoding: EncodingOption = "amplitude"
    """How features enter the circuit: as amplitudes of the state, as rotation angles, or (table)
    any number of them by a learned linear map to rotation angles."""

    rotations: Rotations = 2
    """Rotations of every wire that encoding table reads, RX, RY and RZ in this order."""

    uploads: Count = 1
    """How often encoding table uploads its numbers, with the circuit after each; more than one is
    slower."""

    ansatz: AnsatzOption = "paper"
    """The circuit: the paper's, one of two common families, the paper's without its two-qubit
    gates, or the paper's many times over."""

    ansatz_layers: Count = 3
    """Layers of the hardware-efficient and the strongly-entangling circuit, and repetitions of the
    paper's in paper-repeated."""

    observables: ObservablesOption = "z"
    """What is measured: Z of every wire, also products of two Z, all products of Z (2**n - 1
    numbers from the same shots), or X, Y and Z of every wire."""

    trainable: Trainable = "all"
    """Which angles learn: all of them, or only those of the published code's random layer."""

    method: Method = "auto"
    """How expectation values are computed; auto picks the fastest exact one."""

    noise: NoiseOption = ""
    """What goes wrong on the device that is trained for, such as depolarising=0.01,readout=0.02;
    simulated exactly. Nothing by default."""

    head: Head = "linear"
    """What turns the measured state into class scores or targets: a linear layer that learns, on
    the positive parts (linear) or on all values (affine), or nothing, the first measured values
    being the outputs."""

    max_contraction: Contraction | None = None
    """Hold feedback so small that every equilibrium is proven to be the only one, and that a step
    of iteration multiplies distances by this number at most, whatever is learned; see qdeq
    certify."""

    def check_model(self) -> None:
        """Raise `UserError` for options that contradict each other."""
        if self.trainable == "published" and not self.is_published:
            raise UserError(
                f"trainable='published' with ansatz {self.ansatz!r}: only the paper's circuits "
                "were published; set it to 'all'"
            )
        if self.max_contraction is not None and self.ansatz == OWN_MODEL:
            raise UserError(
                f"max_contraction={self.max_contraction:g} with a model function that is given: "
                "its feedback is its own; bound that, or leave this out"
            )
        if self.noise and isinstance(self.noise, str) and not is_own(self.noise):
            from qdeq.circuits.noise_text import parse_noise  # NumPy: only noisy runs wait for it

            parse_noise(self.noise)
        if self.noise and self.method == "statevector":
            raise UserError(
                f"noise={self.noise!r} with method 'statevector', which knows no mixtures: set "
                "method to 'auto' or 'density-matrix'"
            )

    @property
    def given_n_qubits(self) -> int | None:
        """`n_qubits`, or else those of a part that is an object."""
        parts = (self.ansatz, self.encoding, self.observables)
        own = (part.n_qubits for part in parts if not isinstance(part, str))
        return next(own, None) if self.n_qubits is None else self.n_qubits

    @property
    def is_published(self) -> bool:
        """Whether the circuit is made of the paper's."""
        return isinstance(self.ansatz, str) and self.ansatz.startswith("paper")


@dataclass(frozen=True, kw_only=True)
class PhaseOptions:
    """Whether the measured state is an equilibrium, and from which epoch on."""

    mode: Mode = "implicit"
    """Solve for the equilibrium (implicit), or apply the circuit a fixed number of times
    (direct)."""

    layers: Count = 1
    """Applications of the circuit in mode direct; implicit mode ignores it."""

    warmup_epochs: WholeNumber = 0
    """First epochs of an implicit run that train in mode direct."""

    warmup_layers: Count = 5
    """Applications of the circuit during warm-up."""

    def check_phases(self) -> None:
        """Raise `UserError` for options that contradict each other."""
        if self.mode == "direct" and self.warmup_epochs:
            raise UserError(
                f"warmup_epochs={self.warmup_epochs}: mode 'direct' has no warm-up; set it to 0 "
                "or use mode 'implicit'"
            )


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions:
    """How the parameters learn."""

    epochs: Count = 100
    """Passes over the training split."""

    batch_size: Count = 256
    """Samples per optimiser step."""

    learning_rate: Positive = 0.005
    """The optimiser's step size, at the start."""

    optimiser: OptimiserOption = "adam"
    """How gradients become steps: an optimiser of Optax by its name; in Python also an object, with
    a step size of its own."""

    weight_decay: NotNegative = 0.0
    """By how much, times the step size, every step shrinks what learned matrices hold. 0: none."""

    schedule: Schedule = "constant"
    """How the step size changes: it stays, or falls to zero over the epochs along a cosine."""

    patience: WholeNumber = 0
    """End training when the validation loss has not fallen for so many epochs. 0: never."""

    loss: Loss = "auto"
    """What is minimised: auto is cross-entropy for classes and the squared error for numbers; the
    absolute one minds outliers less."""

    def check_optimiser(self) -> None:
        """Raise `UserError` for options that contradict each other."""
        if self.weight_decay and (not isinstance(self.optimiser, str) or is_own(self.optimiser)):
            raise UserError(
                f"weight_decay={self.weight_decay:g} with an optimiser that is an object, whose "
                "step size only it knows: give it a weight decay of its own, and 0 here"
            )

    gradient_clip: NotNegative = 0.25
    """Largest norm of the gradient; longer ones are scaled down to it. 0: never."""

    dropout: Probability = 0.05
    """Probability that a measured value is hidden from the head during training."""

    jacobian_weight: NotNegative = 0.8
    """Weight of the Jacobian penalty that keeps the equilibrium contractive. 0: none."""


@dataclass(frozen=True, kw_only=True)
class EquilibriumOptions:
    """How the equilibrium is found and differentiated."""

    solver: SolverOption = "broyden"
    """Method that finds the equilibrium."""

    fallback: FallbackOption = "homotopy"
    """What solves the samples that the solver leaves over: a curve that almost surely ends at an
    equilibrium, or nothing. Not used with random_steps_minus and with adjoint unrolled."""

    start: Start = "zero"
    """Where the solver starts in training: at zero, or at what it found for the same sample one
    epoch before (zero where that was no equilibrium). Everything else starts at zero."""

    adjoint: AdjointOption = "implicit"
    """How gradients pass the equilibrium."""

    max_steps: Count = 30
    """Most solver steps per sample."""

    tolerance: Positive = 1e-5
    """Relative and absolute residual at which a sample counts as solved."""

    random_steps_minus: WholeNumber = 0
    """In training, end the solver up to this many steps earlier, drawn anew for every batch."""

    def check_equilibrium(self) -> None:
        """Raise `UserError` for options that contradict each other."""
        if self.random_steps_minus >= self.max_steps:
            raise UserError(
                f"random_steps_minus={self.random_steps_minus}: must be below max_steps="
                f"{self.max_steps}, so that at least one solver step is left"
            )


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """What is left to chance, and which samples choose the best model."""

    valid_fraction: Fraction = 0.2
    """Part of the official training set that is kept for validation."""

    split_seed: Seed = 0
    """Seed of the split into training and validation; runs with other seeds keep the split."""

    seed: Seed = 0
    """Seed of the initial angles, the order of the batches, dropout and probes."""
