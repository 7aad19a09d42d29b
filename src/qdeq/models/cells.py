"""Model functions as the cells of a network: functions of what a site hears, prepared once.

A circuit's own feedback is off here: what comes back to a site comes along edges.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qdeq.equilibrium._derivatives import value_and_matrix
from qdeq.equilibrium._problem import WithLinearisation
from qdeq.equilibrium.networks.cells import Cells, randomness_of
from qdeq.errors import UserError, told
from qdeq.models.function import ModelFunction
from qdeq.models.injection import Injection
from qdeq.models.quantum_model import QuantumModel
from qdeq.models.sampled import SampledModel


class _Fed(eqx.Module):
    """f(0, v) of a prepared model function: v takes the place of the features.

    `randomness` says which of key and shots the function takes, and whether it needs it;
    `measures_derivatives` whether a device measures derivatives, which `known` may hold.
    """

    form: Any
    n_states: int = eqx.field(static=True)
    randomness: tuple[tuple[str, bool], ...] = eqx.field(default=(), static=True)
    measures_derivatives: bool = eqx.field(default=False, static=True)
    known: Any = None

    def __call__(self, v: Float[Array, " a"], x: Array, **randomness: Any) -> Float[Array, " q"]:
        """The state of a site."""
        del x
        bound = self.form.bind(v)
        if self.known is not None:
            bound = bound.with_derivatives(self.known)
        return bound(jnp.zeros(self.n_states, v.dtype), **randomness)

    def derivatives(self, v: Float[Array, " a"], x: Array, key: Any = None) -> Any:
        """All that its derivatives at v are made of."""
        del x, key
        return self.form.bind(v).derivatives(jnp.zeros(self.n_states, v.dtype))

    def with_derivatives(self, known: Any) -> "_Fed":
        """The same function at that v, whose derivatives are these."""
        return _Fed(self.form, self.n_states, self.randomness, self.measures_derivatives, known)


@runtime_checkable
class _OfInputs(Protocol):
    """A prepared circuit that is also a function of what its encoding reads."""

    def of_inputs(self) -> Callable[[Array], Array]: ...


class _FedBack(eqx.Module):
    """The same of a circuit through its feedback: f(v, 0) with R = I.

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

    What depends on the parameters alone is computed here, once for all sites and samples. `Cells`
    stay such, each prepared.

    Raises
    ------
    UserError
        For something that cannot be called.
    """
    if isinstance(cell, Cells):
        return cell.map(prepared_cell)
    if isinstance(cell, QuantumModel):
        a, q = cell.measured.n_features, cell.n_observables
        form = _fed_by_encoding(cell).prepare()
        if isinstance(form, _OfInputs):
            return _FedBack(form.of_inputs(), a, a)
        if a > q:  # more than a state of q numbers can feed back
            return _Fed(form, q)
        return _FedBack(form.bind(jnp.zeros(a, cell.theta.dtype)), a, q)
    if isinstance(cell, ModelFunction):
        if circuit_of(cell) is not None:  # sampled, or on a device
            cell = eqx.tree_at(lambda c: c.model, cell, replace_fn=_fed_by_encoding)
        form, random = cell.prepare(), tuple(randomness_of(cell).items())
        return _Fed(form, cell.n_observables, random, cell.measures_derivatives)
    check_cell(cell)
    return cell


def _fed_by_encoding(model: QuantumModel) -> QuantumModel:
    """The circuit with its own injection off: v is what the encoding reads."""
    a, q, dtype = model.measured.n_features, model.n_observables, model.theta.dtype
    feedback = jax.tree.map(lambda array: array.astype(dtype), Injection(jnp.eye(a, q)))
    # No new model: that would have JAX's type of now, and the network's edges that of the circuit.
    return eqx.tree_at(lambda model: model.injection, model, feedback)


def check_cell(cell: Any) -> None:
    """Raise `UserError` for something that cannot be called, or a circuit that learns its input."""
    if isinstance(cell, Cells):
        for one in cell.cells:
            check_cell(one)
        return
    if isinstance(cell, type) or not callable(cell):
        raise UserError(
            f"cell={told(cell)}: give a model function such as QuantumModel, or a function "
            "cell(v, x) of what a site hears and its features"
        )
    circuit = circuit_of(cell)
    if circuit is not None and circuit.injection.learned:
        raise UserError(
            f"the cell's injection learns its {', '.join(circuit.injection.learned)} and a "
            "network feeds its cells along edges: leave it out, the network's own learns"
        )


def circuit_of(cell: Any) -> QuantumModel | None:
    """The circuit of a cell: a `QuantumModel`, or what is sampled or run on a device."""
    inner = getattr(cell, "model", None)
    found = cell if isinstance(cell, QuantumModel) else inner
    return found if isinstance(found, QuantumModel) else None


def sizes_of(cell: Any) -> tuple[int, int] | None:
    """How many numbers a cell reads and measures; None for a function, which says nothing of it.

    Raises
    ------
    UserError
        For `Cells` of different sizes.
    """
    if isinstance(cell, Cells):
        sizes = [size for size in map(sizes_of, cell.cells) if size is not None]
        if len(set(sizes)) > 1:
            told = ", ".join(f"{a} and {q}" for a, q in sizes)
            raise UserError(
                f"the cells read and measure {told}: all cells of a network have the same number "
                "of inputs and of states"
            )
        return sizes[0] if sizes else None
    circuit = circuit_of(cell)
    if circuit is not None:
        return circuit.measured.n_features, circuit.n_observables
    return (cell.n_features, cell.n_observables) if isinstance(cell, ModelFunction) else None


def is_bounded(cell: Any) -> bool:
    """Whether all states are expectation values, between -1 and 1."""
    if isinstance(cell, Cells):
        return all(map(is_bounded, cell.cells))
    return circuit_of(cell) is not None


def measured_cell(cell: Any) -> Any:
    """A circuit as it is measured with shots; other cells as they are."""
    return SampledModel(cell) if isinstance(cell, QuantumModel) else cell
