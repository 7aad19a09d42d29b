"""Model functions as the cells of a network: functions of what a site hears, prepared once.

A circuit's own feedback is off here: what comes back to a site comes along edges.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qdeq.equilibrium._derivatives import value_and_matrix
from qdeq.equilibrium._problem import WithLinearisation
from qdeq.errors import UserError
from qdeq.models.function import ModelFunction
from qdeq.models.injection import Injection
from qdeq.models.quantum_model import QuantumModel


class _Fed(eqx.Module):
    """f(0, v) of a prepared model function: v takes the place of the features."""

    form: Any
    n_states: int = eqx.field(static=True)

    def __call__(self, v: Float[Array, " a"], x: Array) -> Float[Array, " q"]:
        """The state of a site."""
        del x
        return self.form.bind(v)(jnp.zeros(self.n_states, v.dtype))


@runtime_checkable
class _OfLeading(Protocol):
    """A bound function that can forget the last numbers of its state."""

    def __call__(self, m: Array, /) -> Array: ...

    def of_leading(self, n: int) -> Callable[[Array], Array]: ...


class _FedBack(eqx.Module):
    """The same of a circuit with a <= q, through its feedback: f(v padded to q, 0) with R = (I 0).

    The derivative by what a circuit hears is then the one by its state, which the compiled kernels
    give together with the value.
    """

    bound: Callable[[Array], Array]
    n_inputs: int = eqx.field(static=True)
    n_read: int = eqx.field(static=True)  # numbers that `bound` takes

    def __call__(self, v: Float[Array, " a"], x: Array) -> Float[Array, " q"]:
        """The state of a site."""
        del x
        return self.bound(self._padded(v))

    def linearise(self, v: Float[Array, " a"], x: Array) -> tuple[Array, Float[Array, "q a"]]:
        """The state, and its derivative by v."""
        del x
        point = self._padded(v)
        if isinstance(self.bound, WithLinearisation):
            value, matrix = self.bound.linearise(point)
        else:
            value, matrix, _ = value_and_matrix(lambda m: (self.bound(m), None), point)
        return value, matrix[:, : self.n_inputs]

    def _padded(self, v: Array) -> Array:
        return jnp.concatenate([v, jnp.zeros(self.n_read - self.n_inputs, v.dtype)])


def prepared_cell(cell: Any) -> Any:
    """`cell(v, x) -> m` of a model function, or of a function that is one already.

    What depends on the parameters alone is computed here, once for all sites and samples.

    Raises
    ------
    UserError
        For something that cannot be called.
    """
    if isinstance(cell, QuantumModel):
        a, q, dtype = cell.measured.n_features, cell.n_observables, cell.theta.dtype
        # Its own injection is off: v is what the encoding reads.
        feedback = Injection(jnp.eye(a, q, dtype=dtype))
        form = QuantumModel(
            cell.theta, measured=cell.measured, method=cell.method, injection=feedback
        ).prepare()
        if a > q:
            return _Fed(form, q)
        bound = form.bind(jnp.zeros(a, dtype))
        if isinstance(bound, _OfLeading):  # no derivative by numbers that are always 0
            return _FedBack(bound.of_leading(a), a, a)
        return _FedBack(bound, a, q)
    if isinstance(cell, ModelFunction):
        return _Fed(cell.prepare(), cell.n_observables)
    check_cell(cell)
    return cell


def check_cell(cell: Any) -> None:
    """Raise `UserError` for something that cannot be called."""
    if isinstance(cell, type) or not callable(cell):
        raise UserError(
            f"cell={cell!r}: give a model function such as QuantumModel, or a function cell(v, x) "
            "of what a site hears and its features"
        )
