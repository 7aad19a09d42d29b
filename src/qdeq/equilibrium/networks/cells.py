"""The cells of a network as one function of all sites: of one kind or several, random or not.

What a cell computes is its own business; the circuits are `qdeq.models`.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from qdeq.errors import UserError, told


class Cells(eqx.Module):
    """Cells of several kinds, and which site has which.

    All read the same number of inputs and have the same number of states. It stands wherever a
    single cell does, in `Wired` and in `qdeq.Network`; `on` says which sites have which where the
    wiring changes.

    Parameters
    ----------
    cells
        At least one.
    kinds
        For every site the number of its cell, from 0, `(N,)`.

    Raises
    ------
    UserError
        Without cells, or for numbers of cells that there are not.

    Examples
    --------
    >>> from qdeq.equilibrium.networks import Chain, EdgeInjection, Wired
    >>> cells = Cells([lambda v, x: jnp.tanh(v), lambda v, x: -v], [0, 1, 0])
    >>> network = Wired(cells, EdgeInjection([[1.0]], [[0.5]]), Chain(3))
    >>> network(jnp.zeros((3, 1)), jnp.ones((3, 1)))[:, 0].round(3).tolist()
    [0.7620000243186951, -1.0, 0.7620000243186951]
    """

    cells: tuple[Any, ...]
    kinds: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, cells: Iterable[Any], kinds: Sequence[int] | Int[np.ndarray, " N"]) -> None:
        try:
            self.cells = tuple(cells)
        except TypeError:
            raise UserError(
                f"cells={told(cells)}: give a list of cells, such as [first, second]"
            ) from None
        if not self.cells:
            raise UserError("cells is empty: give at least one")
        numbers = np.asarray(kinds)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise UserError(
                f"kinds={told(kinds)}: give the number of its cell, from 0, for every site, such "
                "as [0, 1, 0]"
            )
        wrong = (numbers < 0) | (numbers >= len(self.cells))
        if wrong.any():
            site = int(np.argmax(wrong))
            raise UserError(
                f"kinds[{site}]={numbers[site]}: there are {len(self.cells)} cells, numbered from 0"
            )
        self.kinds = tuple(numbers.tolist())

    def on(self, kinds: Sequence[int] | Int[np.ndarray, " N"]) -> "Cells":
        """The same cells at other sites."""
        return Cells(self.cells, kinds)

    def map(self, change: Callable[[Any], Any]) -> "Cells":
        """Other cells at the same sites."""
        return Cells(tuple(change(cell) for cell in self.cells), self.kinds)


class KnownDerivatives(eqx.Module):
    """A cell whose derivatives were measured at every site, as a device measures them.

    The cell has `derivatives(v, x)` and `with_derivatives(known)`, see `WithMeasuredDerivatives`.
    """

    cell: Any
    known: Any  # a leading axis of sites


def measures_derivatives(cell: Any) -> bool:
    """Whether a derivative of some cell costs executions on a device."""
    return any(getattr(one, "measures_derivatives", False) for one in cells_of(cell))


def check_cells(cell: Any, n_sites: int) -> None:
    """Raise `UserError` for what cannot be called, or cells for another number of sites."""
    for one in cells_of(cell):
        if not (callable(one) or isinstance(one, KnownDerivatives)):
            raise UserError(
                f"cell={told(one)}: give a function cell(v, x) of what a site hears and its "
                "features, or a model function"
            )
    if isinstance(cell, Cells) and len(cell.kinds) != n_sites:
        raise UserError(
            f"kinds has {len(cell.kinds)} numbers and the wiring {n_sites} sites: give the number "
            "of its cell for every site, on another wiring too"
        )


def cells_of(cell: Any) -> tuple[Any, ...]:
    """The cells of several kinds, or the only one."""
    return cell.cells if isinstance(cell, Cells) else (cell,)


def at_all_sites(cell: Any, function: Callable[[Any], Callable], *rows: Any) -> Any:
    """`function(cell)(*rows[i])` of every site i with the cell that it has, stacked.

    Every cell is called with its own sites only.
    """
    if isinstance(cell, KnownDerivatives):
        by_site = cell.cell.with_derivatives
        return jax.vmap(lambda known, row: function(by_site(known))(*row))(cell.known, rows)
    if not isinstance(cell, Cells):
        return jax.vmap(function(cell))(*rows)
    kinds = np.asarray(cell.kinds)
    sites = [np.flatnonzero(kinds == kind).astype(np.int32) for kind in range(len(cell.cells))]
    found = []
    for one, own in zip(cell.cells, sites, strict=True):
        if len(own):
            found.append(
                jax.vmap(function(one))(*jax.tree.map(lambda row, own=own: row[own], rows))
            )
    back = np.argsort(np.concatenate(sites)).astype(np.int32)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[back], *found)


def kind_of_every_site(cell: Any) -> Int[Array, " N"] | None:
    """For loops from site to site, see `at_one_site`; None for cells of one kind."""
    return jnp.asarray(cell.kinds, jnp.int32) if isinstance(cell, Cells) else None


def at_one_site(
    cell: Any, kind: Int[Array, ""] | None, v: Array, x: Array, key: Any = None, shots: Any = None
) -> Float[Array, " q"]:
    """The state of a site whose kind is known when the program runs."""
    functions = [drawing(one, shots) for one in cells_of(cell)]
    if kind is None:
        return functions[0](v, x, key)
    return lax.switch(kind, functions, v, x, key)


def drawing(cell: Any, shots: Any = None) -> Callable[[Array, Array, Any], Array]:
    """`f(v, x, key)` of a cell, which gets of key and shots what it takes."""
    takes = randomness_of(cell)

    def function(v: Array, x: Array, key: Any) -> Array:
        if key is not None and takes:
            given = {"key": key, "shots": shots}
            return cell(v, x, **{name: given[name] for name in takes})
        if any(takes.values()):
            raise UserError(
                "the cells are measured with shots, or otherwise random, and there is no key: give "
                "key=jax.random.key(...)"
            )
        return cell(v, x)

    return function


def randomness_of(function: Any) -> dict[str, bool]:
    """Which of key and shots a function takes, and whether it needs it.

    What it says itself (`randomness`), or its parameters of these names.
    """
    said = getattr(function, "randomness", None)
    if said is not None:
        return dict(said)
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a callable written in C says nothing of itself
        return {}
    empty = inspect.Parameter.empty
    return {name: known[name].default is empty for name in ("key", "shots") if name in known}


def check_randomness_of(cell: Any, key: Any, shots: Any) -> None:
    """Raise `UserError` for a key or shots that no cell takes."""
    takes = {name for one in cells_of(cell) for name in randomness_of(one)}
    for name, given in (("key", key), ("shots", shots)):
        if given is not None and name not in takes:
            raise UserError(
                f"{name} is given and no cell takes it: measure circuits with shots by "
                f"SampledModel(circuit) as the cell, give a cell of your own a parameter {name}, "
                "or leave it out"
            )
