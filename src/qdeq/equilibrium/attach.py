"""How every derivative passes an equilibrium: one identity function with a custom JVP.

The solve itself runs on values that carry no derivative. `attach` then gives the root the tangent

    root' = B (df/dx x' + df/dtheta theta'),      B an approximation of (I - J)^-1, J = df/dz,

all at the root. Which B is the adjoint's choice (`adjoints.py`); nothing else differs between them.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from qdeq.equilibrium._derivatives import matrix, products
from qdeq.equilibrium._problem import sharing_derivatives, value_and_own_jacobian
from qdeq.equilibrium.dense import product
from qdeq.equilibrium.solver import AbstractSolver
from qdeq.errors import UserError

# Up to this size the Jacobian of one sample is written out as a matrix.
DENSE_LIMIT = 64
# The same where f knows its Jacobian better than by a derivative per column, such as the kernels:
# 100 qubits then take half the time of GMRES.
OWN_DENSE_LIMIT = 256


class AbstractDerivative(eqx.Module):
    """How derivatives pass an equilibrium: by an operator, or through the solver's iterations.

    Attributes
    ----------
    differentiates_loop
        Whether the iterations themselves are differentiated, all `max_steps` of them; nothing is
        attached to their end then.
    uses_derivatives
        Whether derivatives of f by the state are needed beside those of the last evaluation; on a
        device they are circuits.
    needs_inverse
        Whether it takes the inverse that a solver has built, see `AbstractSolver.inverse_jacobian`.
    """

    differentiates_loop: eqx.AbstractClassVar[bool]
    uses_derivatives: ClassVar[bool] = True
    needs_inverse: ClassVar[bool] = False


class AbstractAdjoint(AbstractDerivative):
    """Chooses the operator B that approximates (I - J)^-1.

    One method, `operator`, makes an adjoint; `remember` is for those that use what the solver has
    built on its way.
    """

    differentiates_loop: ClassVar[bool] = False

    @abc.abstractmethod
    def operator(
        self, fn: Callable[[Array, PyTree], Array], root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """The map v -> B v, linear and transposable by JAX.

        Parameters
        ----------
        fn
            `fn(y, x) -> f(y)` on flat states.
        root
            Where the Jacobian is taken, `(n,)`.
        x
            Second argument of `fn`.
        memory
            What `remember` kept of the forward solve.
        """

    def remember(self, solver: AbstractSolver, state: PyTree) -> Any:
        """What the operator needs from the forward solve: None by default.

        Parameters
        ----------
        solver
            Of the forward solve, see `as_solver`.
        state
            The solver's, at the end.
        """
        del solver, state
        return None


def check_adjoint(name: str, adjoint: Any) -> None:
    """Raise `UserError` for something that is no adjoint."""
    if not isinstance(adjoint, AbstractDerivative):
        raise UserError(f"{name}={adjoint!r}: give an adjoint object such as Implicit()")


def jacobian(
    fn: Callable[[Array, PyTree], Array], root: Float[Array, " n"], x: PyTree
) -> Float[Array, "n n"]:
    """df/dz at the root, by n forward derivatives unless f brings it along."""
    if hasattr(fn, "jacobian"):
        return fn.jacobian(root, x)
    return matrix(lambda y: fn(y, x), root)


class Attached(eqx.Module):
    """The root with its derivative, and df/dz there with its derivative at a root that stays.

    The Jacobian is None where f does not bring its own.
    """

    value: Float[Array, " n"]
    jacobian: Float[Array, "n n"] | None


@eqx.filter_custom_jvp
def attach(adjoint: AbstractAdjoint, fn: Callable, root: Array, x: PyTree, memory: Any) -> Attached:
    """The root, with the derivative that the adjoint gives it.

    Parameters
    ----------
    adjoint
        Chooses B.
    fn
        `fn(y, x) -> f(y)`, a pytree whose leaves are what f closes over.
    root
        Equilibrium, `(n,)`, without derivative.
    x
        Second argument of `fn`.
    memory
        `adjoint.remember(...)` of the forward solve.
    """
    del adjoint, memory
    linear = value_and_own_jacobian(fn, root, x)
    return Attached(root, None if linear is None else linear[1])


@attach.def_jvp
def _attach_jvp(primals: tuple, tangents: tuple) -> tuple[Attached, Attached]:
    adjoint, fn, root, x, memory = primals
    _, fn_tangent, _, x_tangent, _ = tangents
    # Inside `jit` `jax.grad` hands a Python number on as it is, and that is no array.
    fn, x = jax.tree.map(
        lambda leaf, change: leaf if change is None else jnp.asarray(leaf),
        *((fn, x), (fn_tangent, x_tangent)),
        is_leaf=lambda leaf: leaf is None,
    )
    # Attached again, so that whoever differentiates this rule (second derivatives, a Jacobian
    # regulariser at the root) also sees the root move.
    attached = attach(adjoint, fn, root, x, memory)
    root = attached.value
    # On a device the operator and the change of f shift the same circuits.
    shared = sharing_derivatives(fn, root, x)

    def image(fn: Callable, x: PyTree) -> tuple[Array, Array | None]:
        # Value and Jacobian in one: what pulls both back is one call as well.
        return value_and_own_jacobian(fn, root, x) or (shared(fn)(root, x), None)

    _, (change, turn) = eqx.filter_jvp(image, (fn, x), (fn_tangent, x_tangent))
    if change is None:  # f depends on nothing that is differentiated, such as no parameters
        return attached, Attached(jnp.zeros_like(root), turn)
    return attached, Attached(adjoint.operator(shared(fn), root, x, memory)(change), turn)


def adjoint_residual(
    adjoint: AbstractAdjoint,
    fn: Callable,
    root: Float[Array, " n"],
    x: PyTree,
    memory: Any,
    push: Callable[[Array], Array] | None = None,
) -> Float[Array, ""]:
    """|I - B (I - J)|_F / sqrt(n): how far gradients are from the exact implicit ones.

    For large states |p - B (I - J) p| / |p| for one fixed vector p of random signs, an unbiased
    estimate of the square of that norm. `push` is p -> J p where it is known, else by forward mode.
    """
    operator = adjoint.operator(fn, root, x, memory)
    n, dtype = root.shape[0], root.dtype
    if n <= DENSE_LIMIT:
        identity = jnp.eye(n, dtype=dtype)
        system = identity - jacobian(fn, root, x)
        # B as a matrix and then one product: cheaper than B on each column where B is dense.
        inverse = jax.vmap(operator, in_axes=-1, out_axes=-1)(identity)
        return jnp.linalg.norm(identity - product(inverse, system)) / jnp.sqrt(n).astype(dtype)
    signs = jax.random.rademacher(jax.random.key(0), (n,), dtype)
    pushed = (push or products(lambda y: fn(y, x), root))(signs)
    return jnp.linalg.norm(signs - operator(signs - pushed)) / jnp.sqrt(n).astype(dtype)
