"""The adjoints: which approximation of (I - J)^-1 gradients are multiplied with.

How to choose: `Implicit` is exact and cheap for small states; `JacobianFree` and `Neumann` need no
linear solve and are good where f contracts; `Shine` needs no evaluation of f beyond the forward
solve; `Unrolled` is the exact gradient of the iterations, not of the equilibrium.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from qdeq.equilibrium._common import check_tolerances, check_within
from qdeq.equilibrium._derivatives import products
from qdeq.equilibrium.attach import (
    DENSE_LIMIT,
    OWN_DENSE_LIMIT,
    AbstractAdjoint,
    AbstractDerivative,
    jacobian,
)
from qdeq.equilibrium.dense import robust_inverse
from qdeq.equilibrium.linear_systems import solve
from qdeq.equilibrium.solver import AbstractSolver, name_of
from qdeq.errors import UserError, check_choice, check_count


class Implicit(AbstractAdjoint):
    """The implicit function theorem: B = (I - J)^-1.

    Small states: J by n forward derivatives and its inverse by `robust_inverse`, once; a sample
    whose I - J is singular gets a regularised inverse, one whose J is not finite gets B = I, and
    neither raises nor touches its batch mates: `stats.adjoint_residual` tells. Large states: GMRES
    on products with J, whose result is checked. Where it is not solved, J is written out after all
    (up to n = 4096, one sample after another); beyond, a `RuntimeWarning` gives the residual.

    Parameters
    ----------
    method
        "dense", "gmres", or "auto": dense up to n = 64, of an f that brings its own Jacobian up to
        n = 256.
    rtol, atol
        Solved is a residual of at most atol + rtol |v|, v what (I - J)^-1 is multiplied with. None:
        50 machine epsilons of |v|.
    max_steps
        Of each cycle of GMRES, of which there are at most four.

    Raises
    ------
    UserError
        For an unknown method.
    """

    method: str = eqx.field(default="auto", static=True)
    rtol: float | None = None
    atol: float | None = None
    max_steps: int = eqx.field(default=200, static=True)

    def __check_init__(self) -> None:
        check_choice("method", self.method, ["auto", "dense", "gmres"])
        check_tolerances(self.rtol, self.atol, may_be_none=True)
        check_count("max_steps", self.max_steps)

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> (I - J)^-1 v."""
        del memory
        n, dtype = root.shape[0], root.dtype
        limit = OWN_DENSE_LIMIT if hasattr(fn, "jacobian") else DENSE_LIMIT
        if self.method == "dense" or (self.method == "auto" and n <= limit):
            system = jnp.eye(n, dtype=dtype) - jacobian(fn, root, x)
            inverse, _ = robust_inverse(system)
            return lambda v: inverse @ v
        push = products(lambda y: fn(y, x), root)
        finite = jnp.all(jnp.isfinite(push(jnp.ones(n, dtype))))

        def system_product(v: Array) -> Array:
            return v - jnp.where(finite, push(v), 0)

        def solution(product: Callable[[Array], Array], v: Array) -> Array:
            return solve(product, v, rtol=self.rtol, atol=self.atol, max_steps=self.max_steps)

        return lambda v: lax.custom_linear_solve(
            system_product, v, solution, transpose_solve=solution
        )


class JacobianFree(AbstractAdjoint):
    """Jacobian-free backpropagation: B = I, the derivative of one last application of f.

    References
    ----------
    S. Wu Fung et al., JFB: Jacobian-free backpropagation for implicit networks, AAAI 2022.
    """

    uses_derivatives: ClassVar[bool] = False

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> v."""
        del fn, root, x, memory
        return lambda v: v


class Neumann(AbstractAdjoint):
    """The first terms of the Neumann series: B = I + J + ... + J^(terms - 1).

    Also called phantom or unrolled-backward gradient; `terms=1` is `JacobianFree`.

    Parameters
    ----------
    terms
        Number of terms, at least 1.

    References
    ----------
    Z. Geng et al., On training implicit models, NeurIPS 2021.
    """

    terms: int = eqx.field(default=3, static=True)

    def __check_init__(self) -> None:
        check_count("terms", self.terms)

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> v + J v + ... + J^(terms - 1) v, by Horner's rule."""
        del memory
        if self.terms == 1:
            return lambda v: v
        push = products(lambda y: fn(y, x), root)

        def series(v: Array) -> Array:
            total, _ = lax.scan(lambda t, _: (v + push(t), None), v, None, length=self.terms - 1)
            return total

        return series


class Shine(AbstractAdjoint):
    """SHINE: B is the inverse that Broyden's method built in the forward solve.

    No evaluation or derivative of f beyond those that every adjoint needs. The inverse is only as
    good as the forward solve made it: watch `stats.adjoint_residual`. Where |B|_F / sqrt(n)
    exceeds `max_gain`, or B is not finite, B = I is used, as the paper falls back to JFB.

    Parameters
    ----------
    max_gain
        Largest root-mean-square amplification that is trusted.

    References
    ----------
    Z. Ramzi et al., SHINE: sharing the inverse estimate from the forward pass, ICLR 2022.
    """

    uses_derivatives: ClassVar[bool] = False
    needs_inverse: ClassVar[bool] = True

    max_gain: float = 10.0

    def __check_init__(self) -> None:
        check_within("max_gain", self.max_gain, lambda value: value > 0, "above 0")

    def remember(self, solver: AbstractSolver, state: PyTree) -> Any:
        """The inverse Jacobian that the solver has built."""
        inverse = solver.inverse_jacobian(state)
        if inverse is None:
            raise UserError(
                f"adjoint=Shine() with solver={name_of(solver)}(): it reuses the inverse that "
                "Broyden's method builds, give solver=Broyden()"
            )
        return inverse

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> -H v, H the secant approximation of (J - I)^-1."""
        del fn, x
        gain = memory.gain()
        trusted = gain <= self.max_gain * jnp.sqrt(root.shape[0])  # false for NaN
        memory = jax.tree.map(lambda leaf: jnp.where(trusted, leaf, jnp.zeros_like(leaf)), memory)
        return lambda v: jnp.where(trusted, -memory.mv(v), v)


class Unrolled(AbstractDerivative):
    """Ordinary differentiation through the iterations: all `max_steps` of them, by `lax.scan`.

    The value is the last iterate (not the best, which is no smooth function of the inputs), and
    `stats.residual` belongs to the best evaluated one. Memory and time grow with `max_steps`, not
    with the steps taken. A reference for tests and for truncated backpropagation.
    """

    differentiates_loop: ClassVar[bool] = True
