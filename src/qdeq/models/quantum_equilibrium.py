"""One layer from features to the equilibrium of a model function: x -> m*."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from qdeq._vectors import as_vector
from qdeq.equilibrium import Direct, Equilibrium, ShotSchedule, Solution
from qdeq.equilibrium.networks import NetworkEquilibrium
from qdeq.errors import UserError
from qdeq.models.function import ModelFunction, check_model, state_dtype
from qdeq.models.network import Network
from qdeq.models.sampled import SampledModel


class QuantumEquilibrium(eqx.Module):
    """m* = f(m*, x) as a layer of its own: parameters, solver and adjoint in one Equinox module.

    One sample; `jax.vmap` for a batch. A part of any Equinox, Flax or plain JAX model;
    `qdeq.interop.torch.EquilibriumLayer` makes a PyTorch module of it.

    Parameters
    ----------
    model
        A `QuantumModel`, any other `ModelFunction`, or a `Network`, whose equilibrium is `(N, q)`.
    layer
        `Equilibrium`, or `Direct` for so many applications. Of a network `NetworkEquilibrium`; the
        other two take and give flat arrays of it. None for one of `options`, of a network within
        its `default_layer`'s bounds.
    start
        `(q,)`, where the solver starts; None for m = 0. Not differentiated.
    options
        Of `Equilibrium` (`NetworkEquilibrium`) in the place of a layer: `solver`, `adjoint`,
        `max_steps`, and so on.

    Raises
    ------
    UserError
        For something that is no model function or no layer, or options beside a layer.

    Examples
    --------
    >>> import jax, qdeq
    >>> layer = QuantumEquilibrium(qdeq.paper_model(key=jax.random.key(0)), adjoint=qdeq.Implicit())
    >>> x = jax.random.normal(jax.random.key(1), (8, 16))
    >>> jax.vmap(layer)(x).shape
    (8, 4)
    >>> bool(jax.vmap(layer.solve)(x).stats.converged.all())
    True
    """

    model: ModelFunction
    layer: Equilibrium | Direct | NetworkEquilibrium
    start: Float[Array, " q"] | None

    def __init__(
        self,
        model: ModelFunction,
        layer: Equilibrium | Direct | NetworkEquilibrium | None = None,
        *,
        start: Float[Array, " q"] | None = None,
        **options: Any,
    ):
        check_model(model)
        is_network = isinstance(model, Network)
        if layer is not None and options:
            raise UserError(
                f"{', '.join(options)} beside layer={type(layer).__name__}(...): give options or a "
                "layer that has them"
            )
        if layer is None:
            if isinstance(model, Network):
                options = {"bounds": model.default_layer().bounds, **options}
            try:
                layer = (NetworkEquilibrium if is_network else Equilibrium)(**options)
            except TypeError as error:
                raise UserError(f"QuantumEquilibrium: {error}") from None
        kinds = (Equilibrium, Direct, *([NetworkEquilibrium] if is_network else []))
        if not isinstance(layer, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(
                f"layer={layer!r}: for a {type(model).__name__} give {names}, or its options"
            )
        if start is not None and not is_network:
            start = as_vector("start", start, model.n_observables, state_dtype(model))
        self.model, self.layer, self.start = model, layer, start

    def __call__(self, x: Float[Array, " d"], **options: Any) -> Float[Array, " q"]:
        """The equilibrium `(q,)` of features `(d,)`, of a network `(N, q)` of `(N, d)`.

        Parameters
        ----------
        x
            Features.
        options
            Of `solve`.
        """
        return self.solve(x, **options).value

    def solve(
        self,
        x: Float[Array, " d"],
        *,
        budget: int | Int[Array, ""] | None = None,
        shots: int | Array | ShotSchedule | None = None,
        key: PRNGKeyArray | Array | None = None,
    ) -> Solution:
        """The equilibrium with its statistics.

        Parameters
        ----------
        x
            Features.
        budget
            At most so many steps (traced), see `Equilibrium`.
        shots, key
            Measure with so many shots per setting, drawn with this key; derivatives stay exact.
        """
        if isinstance(self.model, Network) and isinstance(self.layer, NetworkEquilibrium):
            if budget is not None:
                raise UserError("budget of a network: give max_steps to its NetworkEquilibrium")
            return self.model.solve(x, layer=self.layer, z0=self.start, key=key, shots=shots)
        if shots is None:
            if key is not None:
                raise UserError("key without shots: give both, or neither to solve exactly")
            return self.solve_bound(self.model.prepare().bind(x), budget=budget)
        function = SampledModel(self.model).bind(x)
        return self.solve_bound(function, budget=budget, shots=shots, key=key)

    def solve_bound(
        self,
        function: Callable[..., Array],
        *,
        start: Float[Array, " q"] | None = None,
        budget: int | Int[Array, ""] | None = None,
        shots: int | Array | ShotSchedule | None = None,
        key: PRNGKeyArray | Array | None = None,
    ) -> Solution:
        """The same of a sample whose model function `m -> f(m)` is bound already.

        For those who use it again afterwards: the circuit is then differentiated once for both.
        `start` takes the place of the layer's own; with shots the function is a `SampledModel`'s.
        """
        assert not isinstance(self.layer, NetworkEquilibrium)
        random: dict[str, Any] = {} if shots is None else {"key": key, "shots": shots}
        if start is None:
            start = self.start
        if start is None:
            start = jnp.zeros(self.model.n_observables, state_dtype(self.model))
        return self.layer(function, start, budget=budget, **random)
