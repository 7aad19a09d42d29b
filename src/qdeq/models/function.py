"""The model function: what an equilibrium is solved of, as one small abstract class.

`QuantumModel` and its sampled, device and QNode forms are model functions; a user's own is a
subclass with two sizes and a call. What is computed with one is not here.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from qdeq.errors import UserError


class ModelFunction(eqx.Module):
    """f(m, x): measured state `(q,)` and features `(d,)` of one sample to the next state `(q,)`.

    A subclass is an Equinox module. It must have `n_features`, `n_observables` and `__call__`; its
    floating-point arrays are the parameters that training changes (wrap what shall stay fixed in
    `jax.lax.stop_gradient` where it is used). Everything else has a default that a subclass may
    replace where it knows better.

    Examples
    --------
    A circuit between two learned maps:

    >>> import qdeq
    >>> class Sandwich(ModelFunction):
    ...     inner: qdeq.QuantumModel
    ...     inject: jax.Array
    ...
    ...     @property
    ...     def n_features(self):
    ...         return self.inject.shape[1]
    ...
    ...     @property
    ...     def n_observables(self):
    ...         return self.inner.n_observables
    ...
    ...     def __call__(self, m, x):
    ...         return self.inner(m, self.inject @ x)
    >>> model = Sandwich(qdeq.paper_model(key=jax.random.key(0)), jnp.ones((16, 3)) / 4)
    >>> solution = qdeq.Equilibrium()(model.prepare().bind(jnp.ones(3)), jnp.zeros(4))
    >>> bool(solution.stats.converged)
    True
    """

    #: Whether derivatives are measured on a device, where each costs executions; what `bind`
    #: returns then shares them, see `qdeq.devices.DeviceFunction`.
    measures_derivatives: ClassVar[bool] = False

    @property
    @abstractmethod
    def n_features(self) -> int:
        """d, the length of the features."""

    @property
    @abstractmethod
    def n_observables(self) -> int:
        """q, the length of the state."""

    @abstractmethod
    def __call__(self, m: Float[Array, " q"], x: Float[Array, " d"], **options: Any) -> Array:
        """One evaluation for one sample, any JAX function with a forward derivative.

        Functions that are random take `key` (and `shots`), as `Equilibrium` gives them.
        """

    def prepare(self) -> Any:
        """What can be computed once per parameter value: something with `bind(x)`. Itself here."""
        return self

    def bind(self, x: Float[Array, " d"]) -> Callable[..., Array]:
        """The function of the state alone, for one sample: a pytree with `__call__(m)`.

        Work that depends on x and not on m is done here, once per sample and not once per step.
        """
        return Bound(self, x)

    def is_defined(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Bool[Array, ""]:
        """Whether f has a value of its own there; a sample where not is counted, never an error."""
        del m, x
        return jnp.array(True)

    @property
    def n_read_out(self) -> int:
        """Length of what `read_out` returns."""
        return self.n_observables

    def read_out(self, m: Float[Array, " q"]) -> Float[Array, " r"]:
        """What a head sees of the state: the state itself here."""
        return m

    @property
    def n_settings(self) -> int:
        """Circuits that one evaluation runs, a measurement setting each."""
        return 1

    def sample(
        self,
        m: Float[Array, " q"],
        x: Float[Array, " d"],
        *,
        key: PRNGKeyArray | Array,
        shots: int | Int[Array, ""] | None,
    ) -> Float[Array, " q"]:
        """One evaluation from `shots` outcomes per setting, drawn with `key`; see `SampledModel`.

        Raises
        ------
        UserError
            Unless a subclass has it.
        """
        raise UserError(
            f"{type(self).__name__} cannot be measured with shots: give it a method "
            "sample(m, x, key=..., shots=...), or leave the shots out"
        )

    @property
    def n_parameters(self) -> int:
        """How many numbers training changes."""
        return count_numbers(self)

    def trained(self) -> Any:
        """Which numbers training changes: a pytree like the model's floating-point arrays.

        Each is True, False, or an array of them; all are True here. What is False keeps its value
        under any optimiser: with weight decay a gradient of zero is not enough for that.
        """
        return all_trained(self)


class Evaluated(ModelFunction):
    """A model function that evaluates another one in a way of its own, by shots or on a device.

    Sizes, parameters and read-out are the other one's.
    """

    model: eqx.AbstractVar[ModelFunction]

    @property
    def n_features(self) -> int:
        """The model's."""
        return self.model.n_features

    @property
    def n_observables(self) -> int:
        """The model's."""
        return self.model.n_observables

    @property
    def n_settings(self) -> int:
        """The model's."""
        return self.model.n_settings

    @property
    def n_parameters(self) -> int:
        """The model's."""
        return self.model.n_parameters

    def trained(self) -> Any:
        """Which numbers training changes: the model's."""
        return eqx.tree_at(lambda f: f.model, all_trained(self), self.model.trained())

    def is_defined(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Bool[Array, ""]:
        """The model's."""
        return self.model.is_defined(m, x)

    @property
    def n_read_out(self) -> int:
        """The model's."""
        return self.model.n_read_out

    def read_out(self, m: Float[Array, " q"]) -> Float[Array, " r"]:
        """The model's."""
        return self.model.read_out(m)


def all_trained(parts: Any) -> Any:
    """True for every floating-point array of a pytree."""
    return jax.tree.map(lambda _: True, eqx.filter(parts, eqx.is_inexact_array))


def trained_parts(model: Any) -> Any:
    """`trained` of what has it, and everything of anything else."""
    return model.trained() if isinstance(model, ModelFunction) else all_trained(model)


def count_numbers(parts: Any) -> int:
    """How many numbers the floating-point arrays of a pytree hold."""
    return sum(array.size for array in jax.tree.leaves(eqx.filter(parts, eqx.is_inexact_array)))


class Bound(eqx.Module):
    """f(m) of one sample; made by `ModelFunction.bind`."""

    model: ModelFunction
    x: Float[Array, " d"]

    def __call__(self, m: Float[Array, " q"], **options: Any) -> Float[Array, " q"]:
        """The next state `(q,)`."""
        return self.model(m, self.x, **options)


_INTERFACE = (
    *("n_features", "n_observables", "__call__", "prepare", "bind", "is_defined"),
    *("n_read_out", "read_out"),
)


def check_model(model: Any) -> None:
    """Raise `UserError`, naming what is missing, unless it has the methods of a model function.

    Inheriting from `ModelFunction` is the easy way to have them; having them is enough.
    """
    if isinstance(model, type):
        raise UserError(f"model={model.__name__} is a class: give an object of it")
    missing = [name for name in _INTERFACE if not hasattr(model, name)]
    if missing:
        raise UserError(
            f"model={type(model).__name__} has no {', '.join(missing)}: inherit from "
            "qdeq.ModelFunction, which asks for n_features, n_observables and __call__(m, x) alone"
        )


def state_dtype(model: ModelFunction) -> Any:
    """The floating-point type of a model's states: that of its parameters."""
    arrays = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return jnp.result_type(*arrays) if arrays else jnp.result_type(float)
