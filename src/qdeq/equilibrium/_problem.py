"""Turns the user's f, z0 and x into one function of one flat vector, and checks them.

The solvers and adjoints of this package see only `fn(flat, x) -> flat`.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from qdeq.errors import UserError


class Problem(eqx.Module):
    """A fixed-point problem on a flat state.

    Attributes
    ----------
    fn
        `fn(flat, x) -> flat`; every array that the user's f closes over is a leaf of this pytree.
    start
        Flattened z0, `(n,)`.
    unravel
        Flat vector to the user's pytree.
    """

    fn: Callable[[Array, PyTree], Array]
    start: Float[Array, " n"]
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


@runtime_checkable
class WithLinearisation(WithJacobian, Protocol):
    """One that knows both in one go."""

    def linearise(self, y: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
        """f(y) and df/dy."""
        ...


class _Itself(eqx.Module):
    """Such a function as `Problem.fn`."""

    f: WithJacobian

    def __call__(self, y: Array, x: None) -> Array:
        return self.f(y)

    def jacobian(self, y: Array, x: None) -> Array:
        return self.f.jacobian(y)


def linearised(fn: Callable, y: Array, x: PyTree) -> tuple[Array, Array] | None:
    """f(y) and df/dy of a `Problem.fn` whose function knows both in one go; None of others."""
    if x is None and isinstance(fn, _Itself) and isinstance(fn.f, WithLinearisation):
        return fn.f.linearise(y)
    return None


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
    """A pytree as one vector; a vector is left alone, so that nothing is added to the program."""
    if isinstance(z, jax.Array) and z.ndim == 1:
        return z, lambda flat: flat
    return ravel_pytree(z)


def strong(leaf: Any) -> Array:
    """A floating-point array that is not weakly typed: a loop may not change its carry's type."""
    array = jnp.asarray(leaf)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise UserError(
            f"z0 has a leaf of dtype {array.dtype}: an equilibrium is real, give floating-point "
            "arrays (split a complex state into its real and imaginary parts)"
        )
    return jax.lax.convert_element_type(array, array.dtype)


def _describe(struct: PyTree) -> str:
    leaves, tree = jax.tree.flatten(struct)
    arrays = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    return arrays if len(leaves) == 1 else f"{tree} with leaves {arrays}"


def make_problem(f: Callable, z0: PyTree, x: PyTree) -> Problem:
    """Trace f once and check that it maps the state space to itself.

    Parameters
    ----------
    f
        `f(z, x) -> z`, or `f(z) -> z` where x is None; see `apply`.
    z0
        Start, any pytree of floating-point arrays (Python floats are scalars).
    x
        Any pytree, None, or a `Draw`.

    Raises
    ------
    UserError
        If f returns another structure, shape or dtype than z0's, or z0 is not floating-point.
    """
    z0 = jax.tree.map(strong, z0)
    if not jax.tree.leaves(z0):
        raise UserError("z0 has no array: give the state to start from")
    start, unravel = flatten(z0)
    expected = jax.eval_shape(lambda: z0)

    def flat_fn(flat: Array, x: PyTree) -> Array:
        out = jax.tree.map(jnp.asarray, apply(f, unravel(flat), x))
        found = jax.eval_shape(lambda: out)
        same_tree = jax.tree.structure(found) == jax.tree.structure(expected)
        if not same_tree or any(
            a.shape != b.shape or a.dtype != b.dtype
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        ):
            raise UserError(
                f"f returned {_describe(found)} where z0 is {_describe(expected)}: f must return "
                "the structure, shapes and dtypes of z0"
            )
        return flatten(out)[0]

    if x is None and isinstance(f, WithJacobian) and start is z0:
        jax.eval_shape(flat_fn, start, x)
        return Problem(fn=_Itself(f), start=start, unravel=unravel)
    fn = eqx.filter_closure_convert(flat_fn, start, x)
    return Problem(fn=fn, start=start, unravel=unravel)
