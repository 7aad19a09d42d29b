"""Outside `jit`: one compiled program for equal solves, found again whatever object f is.

A function is known by what it computes, not by which object it is: f is traced at every call (about
a millisecond), and the trace is looked up among those that were compiled before. So a lambda that
is written anew in every call finds its program, and a value that f reads from elsewhere
(`self.weights`, a global) is seen when it changes, which a cache by identity would miss. Arrays are
arguments of a program. Inside `jit` nothing of this happens: the solve becomes a part of that.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array, PyTree

from qdeq.equilibrium._common import check_budget
from qdeq.equilibrium._fingerprint import of_trace, of_value
from qdeq.equilibrium._problem import Draw, apply, knows_jacobian, start_of
from qdeq.equilibrium._randomness import check_randomness
from qdeq.equilibrium.shots import as_schedule
from qdeq.errors import UserError

# A program takes about 5 MiB. The least recently used go first: a function that holds another
# number in every call is another computation in every call.
_MOST_PROGRAMS = 32


def is_staged() -> bool:
    """Whether what is computed now becomes part of a program (`jit`, `scan`), without a value."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def compiled_once(solve: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method `solve(layer, f, z0, x, **options)` compile once for equal solves.

    From call to call all arrays may change, those in f and in the layer included, and all numbers
    in `x` and the options unless they decide what is computed (a number of layers).
    """

    @functools.wraps(solve)
    def call(layer: PyTree, f: Callable, z0: PyTree, x: PyTree = None, **options: Any) -> Any:
        if not callable(f):
            raise UserError(
                f"f is a {type(f).__name__}: give a function f(z, x), or f(z), before its start z0"
            )
        if is_staged():
            return solve(layer, f, z0, x, **options)
        z0 = start_of(z0)
        check_randomness(*(options.get(name) for name in ("key", "shots", "gradient_shots")))
        for name in ("shots", "gradient_shots"):
            if options.get(name) is not None:
                options[name] = as_schedule(options[name])
        check_budget(options.get("budget"))
        options = jax.tree.map(as_argument, options)
        if knows_jacobian(f):
            return run_compiled(solve, layer, f, z0, x, options)
        try:
            arguments = jax.tree.map(as_argument, x)
            traced = trace_of(f, z0, arguments, options.get("key"), options.get("shots"))
        except Exception:
            # Perhaps one of the numbers is needed as a number.
            if all(eqx.is_array(leaf) for leaf in jax.tree.leaves(x)):
                raise
            arguments = x
            traced = trace_of(f, z0, x, options.get("key"), options.get("shots"))
        return run_compiled(solve, layer, traced, z0, eqx.filter(arguments, eqx.is_array), options)

    return call


def as_argument(leaf: Any) -> Any:
    """A number as an array, weakly typed where the number is; everything else as it is."""
    is_number = isinstance(leaf, (int, float, complex)) and not isinstance(leaf, bool)
    if is_number or (isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind in "biufc"):
        return jnp.asarray(leaf)
    return leaf


class Traced(eqx.Module):
    """A function by its trace; the arrays that it closes over are leaves."""

    constants: list[Array]
    trace: Jaxpr = eqx.field(static=True)
    tree: Any = eqx.field(static=True)

    def __call__(self, z: PyTree, x: PyTree = None, **randomness: Any) -> PyTree:
        arguments = jax.tree.leaves((z, x, randomness))
        out = jaxpr_as_fun(ClosedJaxpr(self.trace, self.constants))(*arguments)
        return jax.tree.unflatten(self.tree, out)


def trace_of(
    f: Callable, z0: PyTree, x: PyTree = None, key: Any = None, shots: Any = None
) -> Traced:
    """f by its trace, at a state and arguments of these shapes and with what a random f takes."""
    dynamic, static = eqx.partition(x, eqx.is_array)
    randomness = {}
    if key is not None:
        randomness = {"key": key} | ({} if shots is None else {"shots": jnp.asarray(0, jnp.int32)})

    # A new function in every call: JAX remembers the traces of those that it knows.
    def function(z: PyTree, dynamic: PyTree, randomness: dict[str, Any]) -> PyTree:
        whole = eqx.combine(dynamic, static)
        if randomness:
            return apply(f, z, Draw(whole, randomness["key"], randomness.get("shots")))
        return apply(f, z, whole)

    closed, shapes = jax.make_jaxpr(function, return_shape=True)(z0, dynamic, randomness)
    constants = [jnp.asarray(constant) for constant in closed.consts]
    # Anew, without the constants that JAX 0.11 keeps in it: a program outlives its arrays.
    whole = closed.jaxpr
    trace = Jaxpr(
        *(whole.constvars, whole.invars, whole.outvars),
        *(whole.eqns, whole.effects, whole.debug_info),
    )
    return Traced(constants, trace, jax.tree.structure(shapes))


class _Key:
    """Equal for solves that one program serves; brings what the program is made of."""

    def __init__(self, solve: Callable, tree: Any, static: list[Any], equal: Hashable) -> None:
        self.solve, self.tree, self.static = solve, tree, static
        self.equal, self.hash = equal, hash(equal)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.hash == other.hash and self.equal == other.equal

    def __hash__(self) -> int:
        return self.hash


def run_compiled(
    solve: Callable, layer: Any, f: Any, z0: PyTree, x: PyTree, options: dict[str, Any]
) -> Any:
    """`solve(layer, f, z0, x, **options)` by the program of equal solves, compiled where it is new.

    Outside `jit` only. Arrays in all of them are the program's arguments.
    """
    leaves, tree = jax.tree.flatten((layer, f, z0, x, options))
    dynamic = [leaf if eqx.is_array(leaf) else None for leaf in leaves]
    static = [None if eqx.is_array(leaf) else leaf for leaf in leaves]
    # A trace anywhere in f is known by what it computes.
    parts, outline = jax.tree.flatten(f, is_leaf=lambda part: isinstance(part, Traced))
    traces = [part for part in parts if isinstance(part, Traced)]
    known: tuple[Hashable, ...] = (
        outline,
        *((of_trace(part.trace), part.tree, len(part.constants)) for part in traces),
    )
    rest = jax.tree.structure((layer, z0, x, options))
    equal = (solve, rest, *known, *(of_value(leaf) for leaf in static))
    try:
        key = _Key(solve, tree, static, equal)
    except TypeError:  # something in the layer or in f has no hash: it cannot be found again
        return solve(layer, f, z0, x, **options)
    # A trace of residuals is padded with NaN: it would be taken for a fault. One of f is in the
    # value, and is found by what uses that.
    with jax.debug_nans(False):
        return _program(key)(dynamic)


@functools.lru_cache(maxsize=_MOST_PROGRAMS)
def _program(key: _Key) -> Callable[[list[Any]], Any]:
    def program(dynamic: list[Any]) -> Any:
        leaves = [b if a is None else a for a, b in zip(dynamic, key.static, strict=True)]
        layer, f, z0, x, options = jax.tree.unflatten(key.tree, leaves)
        return key.solve(layer, f, z0, x, **options)

    return jax.jit(program)
