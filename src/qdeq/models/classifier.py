"""The classifier: an equilibrium (or direct) layer over a quantum model, dropout, head."""

from collections.abc import Callable
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from qdeq._numbers import at_most, nan_unless_finite
from qdeq.equilibrium import Direct, Equilibrium, ShotSchedule, Solution
from qdeq.errors import UserError, check_choice
from qdeq.models.function import ModelFunction, check_model, state_dtype
from qdeq.models.sampled import SampledModel
from qdeq.names import Head

HEADS = get_args(Head)


class Prediction(eqx.Module):
    """What the classifier says of one sample.

    Attributes
    ----------
    logits
        `(C,)`, before the softmax.
    solution
        The layer's solution; `solution.value` is the measured state m* `(q,)`.
    """

    logits: Float[Array, " C"]
    solution: Solution


class Classifier(eqx.Module):
    """Class scores from the equilibrium of a model function.

    What the model reads out of its state (for a `QuantumModel` the re-injected z = R m*, the
    paper's upsampled state), then dropout, ReLU and a linear map to the classes. The layer is an
    argument of the call, so that warm-up in direct(L) and training through the equilibrium use one
    and the same model.

    Parameters
    ----------
    model
        A `QuantumModel` or any other `ModelFunction`, with its trainable arrays.
    n_classes
        C.
    dropout
        Probability with which an element of z is zeroed in training.
    head
        `"linear"` as above; `"none"` takes the first C measured values as the logits, the
        standard quantum classifier, without anything classical that learns.
    key
        JAX key for the head's weights, uniform in +-1/sqrt(r) for r numbers read out.

    Raises
    ------
    UserError
        For something that is not a model function, an unknown head, or head `"none"` with fewer
        observables than classes.

    Examples
    --------
    >>> import jax, qdeq
    >>> model_key, head_key, data_key = jax.random.split(jax.random.key(0), 3)
    >>> classifier = Classifier(qdeq.paper_model(key=model_key), 4, key=head_key)
    >>> x = jax.random.normal(data_key, (16,))
    >>> classifier(x, qdeq.Equilibrium()).logits.shape
    (4,)
    """

    model: ModelFunction
    head: eqx.nn.Linear | None
    dropout: float  # no part of the structure: models that differ in it share programs
    n_classes: int = eqx.field(static=True)

    def __init__(
        self,
        model: ModelFunction,
        n_classes: int,
        *,
        dropout: float = 0.05,
        head: str = "linear",
        key: PRNGKeyArray | Array,
    ):
        check_choice("head", head, HEADS)
        check_model(model)
        if head == "none" and model.n_observables < n_classes:
            raise UserError(
                f"head='none' with {model.n_observables} observables and {n_classes} classes: "
                "every class needs a measured value of its own, add qubits or set head to 'linear'"
            )
        self.model = model
        linear = head == "linear"
        self.head = eqx.nn.Linear(model.n_read_out, n_classes, key=key) if linear else None
        self.dropout = dropout
        self.n_classes = n_classes

    def __call__(
        self,
        x: Float[Array, " d"],
        layer: Equilibrium | Direct,
        *,
        key: PRNGKeyArray | None = None,
        budget: Any = None,
        shots: int | Array | ShotSchedule | None = None,
        shots_key: PRNGKeyArray | None = None,
    ) -> Prediction:
        """Classify one sample.

        Parameters
        ----------
        x
            `(d,)` features.
        layer
            `Equilibrium` or `Direct`: how the measured state is found, from m = 0.
        key
            For dropout; None switches dropout off.
        budget
            At most so many solver steps (traced), see `Equilibrium`.
        shots, shots_key
            Measure with so many shots per setting (None: exactly), drawn with this key; derivatives
            stay exact, see `SampledModel`.
        """
        keep = None if key is None else self.keep_mask(key)
        if shots is not None:
            function = SampledModel(self.model).bind(x)
            found = self.predict(
                function, layer, keep=keep, budget=budget, shots=shots, shots_key=shots_key
            )
        else:
            function = self.model.prepare().bind(x)
            found = self.predict(function, layer, keep=keep, budget=budget)
        logits = nan_unless_finite(found.logits, found.solution.value)
        return Prediction(logits, found.solution)

    def predict(
        self,
        function: Callable[..., Array],
        layer: Equilibrium | Direct,
        *,
        start: Float[Array, " q"] | None = None,
        keep: Bool[Array, " d"] | None = None,
        dropout: float | Array | None = None,
        budget: Any = None,
        shots: int | Array | ShotSchedule | None = None,
        shots_key: PRNGKeyArray | None = None,
    ) -> Prediction:
        """Classify a sample whose model function `m -> f(m)` is bound already.

        For those who use it again afterwards, in a penalty say: the circuit is then differentiated
        once for both. With shots it is a `SampledModel`'s; `start` is where the layer starts (None:
        m = 0), `keep` and `dropout` are as in `read_out`, and the rest as in `__call__`.
        """
        random: dict[str, Any] = {} if shots is None else {"key": shots_key, "shots": shots}
        if start is None:
            start = jnp.zeros(self.model.n_observables, state_dtype(self.model))
        if isinstance(layer, Direct):
            solution = layer(function, start, **random)
        else:
            solution = layer(function, start, budget=budget, **random)
        logits = self.read_out(solution.value, keep=keep, dropout=dropout)
        return Prediction(logits, solution)

    def read_out(
        self,
        m: Float[Array, " q"],
        *,
        keep: Bool[Array, " d"] | None = None,
        dropout: float | Array | None = None,
    ) -> Float[Array, " C"]:
        """Logits `(C,)` of a measured state `(q,)`.

        `keep` says which of z dropout leaves, `dropout` with which probability it was drawn, if not
        with the classifier's own. In large batches the logits of a state that is not finite may
        look finite, see `qdeq._numbers`; `__call__` gives NaN for them.
        """
        if self.head is None:  # dropout would hide classes, not redundant values
            return m[: self.n_classes]
        z = self.model.read_out(m)
        if keep is not None:
            z = jnp.where(keep, z / (1 - (self.dropout if dropout is None else dropout)), 0)
        return self.head(jax.nn.relu(z))  # may drop NaN: callers look at m

    def keep_mask(
        self,
        key: PRNGKeyArray | Array,
        shape: tuple[int, ...] = (),
        *,
        dropout: float | Array | None = None,
    ) -> Bool[Array, "*shape d"]:
        """Draw which elements of z dropout leaves, for samples of any `shape` in one go.

        The probability, `dropout` or else the classifier's own, is met to 1/65536: two elements
        share the 32 random bits of one draw.
        """
        d = self.model.n_read_out
        pairs = jax.random.bits(key, (*shape, -(-d // 2)), jnp.uint32)
        bits = lax.bitcast_convert_type(pairs, jnp.uint16).reshape(*shape, -1)[..., :d]
        hidden = jnp.round(jnp.asarray(self.dropout if dropout is None else dropout) * 2**16)
        return bits >= at_most(hidden, 2**16 - 1).astype(jnp.uint16)
