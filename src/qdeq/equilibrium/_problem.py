"""Turns the user's f, z0 and x into one function of one flat vector, and checks them.

The solvers and adjoints of this package see only `fn(flat, x) -> flat`.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeGuard, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.tree_util import all_leaves, treedef_is_leaf
from jaxtyping import Array, Float, Int, PyTree

from qdeq._manual_axes import check_types
from qdeq.errors import UserError


class Problem(eqx.Module):
    """A fixed-point problem on a flat state.

    Attributes
    ----------
    fn
        `fn(flat, x) -> flat`; every array that the user's f closes over is a leaf of this pytree.
    start
        Flattened z0, `(n,)`.
    x
        The arrays of the user's x; what else is in it has become a part of `fn`.
    unravel
        Flat vector to the user's pytree.
    """

    fn: Callable[[Array, PyTree], Array]
    start: Float[Array, " n"]
    x: PyTree
    unravel: Callable[[Array], PyTree] = eqx.field(static=True)


@runtime_checkable
class WithJacobian(Protocol):
    """A pytree that is a function of one vector and knows its Jacobian better than autodiff."""

    def __call__(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """f(y)."""
        ...

    def jacobian(self, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        """df/dy."""
        ...


def knows_jacobian(f: Any) -> TypeGuard[WithJacobian]:
    """Whether f is a `WithJacobian`; of another object that has a `jacobian` no array is seen."""
    return isinstance(f, WithJacobian) and not all_leaves([f])


@runtime_checkable
class WithLinearisation(WithJacobian, Protocol):
    """One that knows both in one go."""

    def linearise(self, y: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
        """f(y) and df/dy."""
        ...


@runtime_checkable
class WithMeasuredDerivatives(WithJacobian, Protocol):
    """One whose derivatives are measured: what needs them several times at a point shares them."""

    def derivatives(self, y: Float[Array, " n"]) -> PyTree[Array]:
        """All that its derivatives at y are made of; what nothing uses is not measured."""
        ...

    def with_derivatives(self, derivatives: PyTree[Array]) -> "WithMeasuredDerivatives":
        """The same function at that y, whose derivatives are these."""
        ...


class _Itself(eqx.Module):
    """Such a function as `Problem.fn`."""

    f: WithJacobian

    def __call__(self, y: Array, x: None) -> Array:
        return self.f(y)

    def jacobian(self, y: Array, x: None) -> Array:
        return self.f.jacobian(y)


def value_and_own_jacobian(fn: Callable, y: Array, x: PyTree) -> tuple[Array, Array] | None:
    """f(y) and df/dy of a `Problem.fn` whose function knows both in one go; None of others."""
    if x is None and isinstance(fn, _Itself) and isinstance(fn.f, WithLinearisation):
        return fn.f.linearise(y)
    return None


def sharing_derivatives(fn: Callable, y: Array, x: PyTree) -> Callable[[Callable], Callable]:
    """What makes of a `Problem.fn` one that shares the derivatives measured at y; or leaves it.

    A function that is no `Problem.fn` says it itself, by a method of this name.
    """
    own = getattr(fn, "sharing_derivatives", None)
    if own is not None:
        return own(y, x)
    if x is None and isinstance(fn, _Itself) and isinstance(fn.f, WithMeasuredDerivatives):
        found = fn.f.derivatives(y)
        return lambda fn: _Itself(fn.f.with_derivatives(found))
    return lambda fn: fn


class Draw(eqx.Module):
    """The second argument of a random f: x, and the randomness of one evaluation.

    Attributes
    ----------
    x
        Any pytree, or None.
    key
        JAX key of this evaluation.
    shots
        Its number of samples; None where f decides.
    """

    x: PyTree
    key: Array
    shots: Int[Array, ""] | None


def apply(f: Callable, z: PyTree, x: PyTree) -> PyTree:
    """f(z, x), or f(z) where there is no x; with key (and shots) where x is a `Draw`."""
    if not isinstance(x, Draw):
        return f(z) if x is None else f(z, x)
    randomness = {"key": x.key} if x.shots is None else {"key": x.key, "shots": x.shots}
    return f(z, **randomness) if x.x is None else f(z, x.x, **randomness)


def flatten(z: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """A pytree as one real vector; complex numbers as their real and imaginary parts.

    A real vector is left alone, so that nothing is added to the program.
    """
    if isinstance(z, jax.Array) and z.ndim == 1 and not jnp.iscomplexobj(z):
        return z, lambda flat: flat
    is_complex = [jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(z)]
    if not any(is_complex):
        return ravel_pytree(z)
    leaves, tree = jax.tree.flatten(z)
    flat, unravel = ravel_pytree(
        [(leaf.real, leaf.imag) if c else leaf for leaf, c in zip(leaves, is_complex, strict=True)]
    )

    def join(flat: Array) -> PyTree:
        parts = zip(unravel(flat), is_complex, strict=True)
        return jax.tree.unflatten(tree, [lax.complex(*part) if c else part for part, c in parts])

    return flat, join


def start_of(z0: PyTree) -> PyTree:
    """z0 as floating-point or complex arrays that are not weakly typed.

    A loop may not change the type of what it carries. Python's and NumPy's numbers are scalars.

    Raises
    ------
    UserError
        If there is nothing in it, or something that is no number.
    """
    z0 = jax.tree.map(_strong, z0)
    leaves = jax.tree.leaves(z0)
    if not leaves:
        raise UserError("z0 has no array: give the state to start from, such as jnp.zeros(4)")
    if not any(leaf.size for leaf in leaves):
        raise UserError(
            f"z0 has no number ({_describe(z0)}): give the state to start from, such as "
            "jnp.zeros(4)"
        )
    return z0


def _strong(leaf: Any) -> Array:
    is_integer = isinstance(leaf, (int, np.integer)) and not isinstance(leaf, bool)
    try:
        array = jnp.asarray(float(leaf) if is_integer else leaf)
    except (TypeError, ValueError):
        raise UserError(
            f"z0 has a leaf {leaf!r}: an equilibrium is made of numbers, give floating-point arrays"
        ) from None
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise UserError(
            f"z0 has a leaf of dtype {array.dtype}: an equilibrium is not made of such numbers, "
            "give floating-point (or complex) arrays"
        )
    return lax.convert_element_type(array, array.dtype)


def frozen(tree: PyTree) -> PyTree:
    """The same values without derivatives; numbers that `jax.grad` was given become arrays."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(lax.stop_gradient(leaf)) if eqx.is_inexact_array(leaf) else leaf,
        tree,
    )


def _describe(struct: PyTree) -> str:
    leaves, tree = jax.tree.flatten(struct)
    if not leaves:
        return "no array"
    arrays = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    return arrays if treedef_is_leaf(tree) else f"{tree} with leaves {arrays}"


def flat_at(
    f: Callable, z: PyTree, x: PyTree, *, into_itself: bool = True
) -> tuple[Callable[[Array], Array], Array]:
    """f at this x as a function of the flattened state, and the flattened z.

    Raises
    ------
    UserError
        If z is no start; and, unless `into_itself` is False, when the function is called that maps
        to another space.
    """
    z = start_of(z)
    start, unravel = flatten(z)
    space = jax.eval_shape(lambda: z) if into_itself else None
    return lambda flat: _flat_value(f, unravel(flat), x, space), start


def _flat_value(f: Callable, z: PyTree, x: PyTree, space: PyTree | None) -> Array:
    """f(z, x) as one real vector; `UserError` where it is not of this space, if one is given."""
    out = jax.tree.map(jnp.asarray, apply(f, z, x))
    if space is None:
        return flatten(out)[0]
    found = jax.eval_shape(lambda: out)
    same_tree = jax.tree.structure(found) == jax.tree.structure(space)
    if not same_tree or any(
        a.shape != b.shape or a.dtype != b.dtype
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(space), strict=True)
    ):
        raise UserError(
            f"f returned {_describe(found)} where z0 is {_describe(space)}: f must return "
            "the structure, shapes and dtypes of z0"
        )
    return flatten(out)[0]


def make_problem(f: Callable, z0: PyTree, x: PyTree) -> Problem:
    """Trace f once and check that it maps the state space to itself.

    Parameters
    ----------
    f
        `f(z, x) -> z`, or `f(z) -> z` where x is None; see `apply`.
    z0
        Start, see `start_of`.
    x
        Any pytree, None, or a `Draw`.

    Raises
    ------
    UserError
        If f returns another structure, shape or dtype than z0's, or z0 is no start.
    """
    z0 = start_of(z0)
    dynamic, static = eqx.partition(x, eqx.is_array)
    start, unravel = flatten(z0)
    space = jax.eval_shape(lambda: z0)

    def flat_fn(flat: Array, x: PyTree) -> Array:
        return _flat_value(f, unravel(flat), eqx.combine(x, static), space)

    if x is None and knows_jacobian(f) and start is z0:
        check_types((f, start))
        jax.eval_shape(flat_fn, start, x)
        return Problem(fn=_Itself(f), start=start, x=x, unravel=unravel)
    fn = eqx.filter_closure_convert(flat_fn, start, dynamic)
    check_types((fn, start, dynamic))
    return Problem(fn=fn, start=start, x=dynamic, unravel=unravel)
