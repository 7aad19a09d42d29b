"""From the equilibrium of a model function to numbers for a sample: layer, dropout, head.

What the numbers are, class scores or targets, is `classifier.py` and `regressor.py`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from qdeq._numbers import at_most, nan_unless_finite
from qdeq._vectors import check_key
from qdeq.equilibrium import Direct, Equilibrium, ShotSchedule, Solution
from qdeq.equilibrium._common import check_within
from qdeq.errors import UserError, check_choice, check_count
from qdeq.models.function import ModelFunction, check_model
from qdeq.models.network import Network
from qdeq.models.quantum_equilibrium import QuantumEquilibrium
from qdeq.models.sampled import SampledModel
from qdeq.names import Head

HEADS = get_args(Head)


class Prediction(eqx.Module):
    """What a `Predictor` says of one sample.

    Attributes
    ----------
    outputs
        `(C,)` class scores before the softmax, or `(T,)` targets in the scale of training.
    solution
        The layer's solution; `solution.value` is the measured state m* `(q,)`.
    """

    outputs: Float[Array, " C"]
    solution: Solution

    @property
    def logits(self) -> Float[Array, " C"]:
        """The outputs by the name that they have in a classifier."""
        return self.outputs


class Predictor(eqx.Module):
    """Numbers for a sample from the equilibrium of a model function; see its two subclasses.

    What the model reads out of its state (for a `QuantumModel` the re-injected z = R m*, the
    paper's upsampled state), then dropout, ReLU and a linear map to the outputs. The layer is an
    argument of the call, so that warm-up in direct(L) and training through the equilibrium use one
    and the same model.

    Parameters
    ----------
    model
        A `QuantumModel` or any other `ModelFunction`, with its trainable arrays.
    n_outputs
        Numbers for each sample.
    dropout
        Probability with which an element of z is zeroed in training.
    head
        `"linear"` as above; `"affine"` without the ReLU, so that the signs of measured values
        count; `"none"` takes the first measured values as the outputs, without anything classical
        that learns.
    key
        JAX key for the head's weights, uniform in +-1/sqrt(r) for r numbers read out.
    """

    model: ModelFunction
    head: eqx.nn.Linear | None
    dropout: float  # no part of the structure: models that differ in it share programs
    n_outputs: int = eqx.field(static=True)
    rectifies: bool = eqx.field(static=True)

    def __init__(
        self,
        model: ModelFunction,
        n_outputs: int,
        *,
        dropout: float,
        head: str,
        key: PRNGKeyArray | Array,
    ):
        check_key(key)
        check_choice("head", head, HEADS)
        check_model(model)
        if isinstance(model, Network) and model.head is not None:
            raise UserError(
                f"model=Network(n_outputs={model.head.out_features}): a predictor reads the states "
                "by a head of its own, and not by the network's; make the network without "
                "n_outputs and key"
            )
        check_count(f"n_{self._outputs}", n_outputs)
        check_within("dropout", dropout, lambda value: 0 <= value < 1, "in [0, 1)")
        if head == "none" and model.n_observables < n_outputs:
            raise UserError(
                f"head='none' with {model.n_observables} observables and {n_outputs} "
                f"{self._outputs}: every one needs a measured value of its own, add qubits or set "
                "head to 'linear'"
            )
        self.model = model
        has_head = head != "none"
        self.head = eqx.nn.Linear(model.n_read_out, n_outputs, key=key) if has_head else None
        self.dropout = dropout
        self.n_outputs = n_outputs
        self.rectifies = head == "linear"

    _outputs: ClassVar[str] = "outputs"

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
        """Predict one sample.

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
        if key is not None:
            check_key(key)
        keep = None if key is None else self.keep_mask(key)
        if shots is not None:
            function = SampledModel(self.model).bind(x)
            found = self.predict(
                function, layer, keep=keep, budget=budget, shots=shots, shots_key=shots_key
            )
        else:
            if shots_key is not None:
                raise UserError("shots_key without shots: give both, or neither to solve exactly")
            function = self.model.prepare().bind(x)
            found = self.predict(function, layer, keep=keep, budget=budget)
        outputs = nan_unless_finite(found.outputs, found.solution.value)
        return Prediction(outputs, found.solution)

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
        """Predict a sample whose model function `m -> f(m)` is bound already.

        For those who use it again afterwards, in a penalty say: the circuit is then differentiated
        once for both. With shots it is a `SampledModel`'s; `start` is where the layer starts (None:
        m = 0), `keep` and `dropout` are as in `read_out`, and the rest as in `__call__`.
        """
        solution = QuantumEquilibrium(self.model, layer).solve_bound(
            function, start=start, budget=budget, shots=shots, key=shots_key
        )
        outputs = self.read_out(solution.value, keep=keep, dropout=dropout)
        return Prediction(outputs, solution)

    def read_out(
        self,
        m: Float[Array, " q"],
        *,
        keep: Bool[Array, " d"] | None = None,
        dropout: float | Array | None = None,
    ) -> Float[Array, " C"]:
        """Outputs `(C,)` of a measured state `(q,)`.

        `keep` says which of z dropout leaves, `dropout` with which probability it was drawn, if not
        with the predictor's own. In large batches the outputs of a state that is not finite may
        look finite, see `qdeq._numbers`; `__call__` gives NaN for them.
        """
        if self.head is None:  # dropout would hide outputs, not redundant values
            return m[: self.n_outputs]
        z = self.model.read_out(m)
        if keep is not None:
            z = jnp.where(keep, z / (1 - (self.dropout if dropout is None else dropout)), 0)
        return self.head(jax.nn.relu(z) if self.rectifies else z)  # may drop NaN: callers look at m

    def keep_mask(
        self,
        key: PRNGKeyArray | Array,
        shape: tuple[int, ...] = (),
        *,
        dropout: float | Array | None = None,
    ) -> Bool[Array, "*shape d"]:
        """Draw which elements of z dropout leaves, for samples of any `shape` in one go.

        The probability, `dropout` or else the predictor's own, is met to 1/65536: two elements
        share the 32 random bits of one draw.
        """
        d = self.model.n_read_out
        pairs = jax.random.bits(key, (*shape, -(-d // 2)), jnp.uint32)
        bits = lax.bitcast_convert_type(pairs, jnp.uint16).reshape(*shape, -1)[..., :d]
        hidden = jnp.round(jnp.asarray(self.dropout if dropout is None else dropout) * 2**16)
        return bits >= at_most(hidden, 2**16 - 1).astype(jnp.uint16)
