"""The affine map from what a site hears, and from its features, to the cell's input numbers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from qdeq._vectors import check_key, lost_in_reals
from qdeq.equilibrium.networks.wiring import AbstractWiring
from qdeq.equilibrium.regularisers import gain_factor
from qdeq.errors import UserError, check_amount, check_count, check_flag


class EdgeInjection(eqx.Module):
    """v_i = U x_i + sum over kinds r of W_r (sum of what i hears by r) + b.

    Parameters
    ----------
    features
        U `(a, d)`.
    messages
        W `(kinds, a, q)`, or `(a, q)` for one kind.
    offset
        b `(a,)`; None for 0.
    max_gain
        Bound on the two-norm of all W side by side, `(a, kinds q)`: where it is exceeded W counts
        scaled down to it. None for no bound.
    learned
        Whether gradients reach U, W and b.

    Raises
    ------
    UserError
        For shapes that disagree, or a bound that is not above 0.
    """

    features: Float[Array, "a d"]
    messages: Float[Array, "kinds a q"]
    offset: Float[Array, " a"]
    max_gain: float | None = eqx.field(static=True)
    learned: bool = eqx.field(static=True)

    def __init__(
        self,
        features: ArrayLike,
        messages: ArrayLike,
        offset: ArrayLike | None = None,
        *,
        max_gain: float | None = None,
        learned: bool = True,
    ) -> None:
        given: tuple[Any, ...] = (features, messages, offset)
        if lost := next(filter(None, map(lost_in_reals, given)), ""):
            raise UserError(f"features, messages or offset are {lost}: give real numbers")
        dtype = jnp.result_type(float)
        try:
            self.features = jnp.asarray(features, dtype)
            messages = jnp.asarray(messages, dtype)
            offset = None if offset is None else jnp.asarray(offset, dtype)
        except (TypeError, ValueError):
            raise UserError(
                "features, messages or offset are no arrays of numbers: give (a, d), (kinds, a, q) "
                "and (a,)"
            ) from None
        self.messages = messages[None] if messages.ndim == 2 else messages
        a = self.features.shape[0] if self.features.ndim else 0
        self.offset = jnp.zeros(a, dtype) if offset is None else offset
        if max_gain is not None:
            check_amount("max_gain", max_gain, above=True, otherwise=", or None for no bound")
        check_flag("learned", learned)
        self.max_gain, self.learned = max_gain, learned
        shapes = (self.features.shape, self.messages.shape, self.offset.shape)
        if (
            self.features.ndim != 2
            or self.messages.ndim != 3
            or self.messages.shape[1] != a
            or self.offset.shape != (a,)
        ):
            raise UserError(
                f"features, messages and offset have shapes {shapes}: give (a, d), (kinds, a, q) "
                "and (a,)"
            )

    @classmethod
    def random(
        cls,
        wiring: AbstractWiring | int,
        n_inputs: int,
        n_features: int,
        n_states: int,
        *,
        key: Array,
        gain: float = 1.0,
        max_gain: float | None = None,
    ) -> "EdgeInjection":
        """U and W normal, of expected two-norm about 1 and `gain`; b = 0.

        Parameters
        ----------
        wiring
            A wiring, or the number of its kinds of edges.
        n_inputs, n_features, n_states
            a, d and q.
        key
            JAX key.
        gain
            The two-norm of all W side by side, exactly.
        max_gain
            See the class.
        """
        kinds = wiring.n_kinds if isinstance(wiring, AbstractWiring) else wiring
        check_count("wiring", kinds, 1, ", its number of kinds of edges, or a wiring")
        check_count("n_inputs", n_inputs)
        check_count("n_features", n_features, 0)
        check_count("n_states", n_states)
        if not isinstance(gain, Array):
            check_amount("gain", gain)
        check_key(key)
        for_features, for_messages = jax.random.split(key)
        features = jax.random.normal(for_features, (n_inputs, n_features))
        features = features / max(n_features, 1) ** 0.5
        messages = jax.random.normal(for_messages, (kinds, n_inputs, n_states))
        messages = messages * (gain / jnp.linalg.norm(_side_by_side(messages), 2))
        return cls(features, messages, max_gain=max_gain)

    @property
    def n_inputs(self) -> int:
        """a, the numbers that a cell takes."""
        return self.features.shape[0]

    @property
    def n_features(self) -> int:
        """d, of one site."""
        return self.features.shape[1]

    @property
    def n_states(self) -> int:
        """q, of one site."""
        return self.messages.shape[2]

    @property
    def n_kinds(self) -> int:
        """Kinds of edges."""
        return self.messages.shape[0]

    def weights(self) -> tuple[Array, Array, Array]:
        """U, W within its bound, and b; without derivative where they are not learned."""
        features, messages, offset = self.features, self.messages, self.offset
        if not self.learned:
            features, messages, offset = lax.stop_gradient((features, messages, offset))
        if self.max_gain is not None:
            messages = messages * gain_factor(_side_by_side(messages), self.max_gain)
        return features, messages, offset


def _side_by_side(messages: Float[Array, "kinds a q"]) -> Float[Array, "a kinds_q"]:
    return jnp.moveaxis(messages, 0, 1).reshape(messages.shape[1], -1)
