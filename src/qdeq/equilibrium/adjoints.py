"""The adjoints: which approximation of (I - J)^-1 gradients are multiplied with.

How to choose: `Implicit` is exact and cheap for small states; `JacobianFree` and `Neumann` need no
linear solve and are good where f contracts; `Shine` needs no evaluation of f beyond the forward
solve; `Unrolled` is the exact gradient of the iterations, not of the equilibrium.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, PyTree

from qdeq.equilibrium._common import check_count
from qdeq.equilibrium.attach import DENSE_LIMIT, AbstractAdjoint, jacobian
from qdeq.equilibrium.broyden import Broyden
from qdeq.equilibrium.dense import robust_inverse
from qdeq.errors import UserError, check_choice


class Implicit(AbstractAdjoint):
    """The implicit function theorem: B = (I - J)^-1.

    Small states: J by n forward derivatives and its inverse by `robust_inverse`, once; a sample
    whose I - J is singular gets a regularised inverse, one whose J is not finite gets B = I, and
    neither raises nor touches its batch mates: `stats.adjoint_residual` tells. Large states: GMRES
    on products with J.

    Parameters
    ----------
    method
        "dense", "gmres", or "auto": dense up to n = 64.
    rtol, atol, max_steps
        Of GMRES.

    Raises
    ------
    UserError
        For an unknown method.
    """

    method: str = eqx.field(default="auto", static=True)
    rtol: float = 1e-6
    atol: float = 1e-6
    max_steps: int = eqx.field(default=200, static=True)

    def __check_init__(self) -> None:
        check_choice("method", self.method, ["auto", "dense", "gmres"])

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> (I - J)^-1 v."""
        del memory
        n, dtype = root.shape[0], root.dtype
        if self.method == "dense" or (self.method == "auto" and n <= DENSE_LIMIT):
            system = jnp.eye(n, dtype=dtype) - jacobian(fn, root, x)
            inverse, _ = robust_inverse(system)
            return lambda v: inverse @ v
        _, push = jax.linearize(lambda y: fn(y, x), root)
        finite = jnp.all(jnp.isfinite(push(jnp.ones(n, dtype))))

        def system_product(v: Array) -> Array:
            return v - jnp.where(finite, push(v), 0)

        return lambda v: lax.custom_linear_solve(
            system_product, v, self._gmres, transpose_solve=self._gmres
        )

    def _gmres(self, product: Callable[[Array], Array], v: Array) -> Array:
        # `lax.custom_linear_solve` around Lineax: on its own, Lineax raises for the whole batch
        # if the transposed solve of one sample fails, whatever `throw` says.
        operator = lx.FunctionLinearOperator(product, jax.ShapeDtypeStruct(v.shape, v.dtype))
        solver = lx.GMRES(rtol=self.rtol, atol=self.atol, max_steps=self.max_steps)
        value = lx.linear_solve(operator, v, solver, throw=False).value
        return jnp.where(jnp.all(jnp.isfinite(value)), value, v)


class JacobianFree(AbstractAdjoint):
    """Jacobian-free backpropagation: B = I, the derivative of one last application of f.

    References
    ----------
    S. Wu Fung et al., JFB: Jacobian-free backpropagation for implicit networks, AAAI 2022.
    """

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
        """v -> v + J (v + J (v + ...))."""
        del memory
        if self.terms == 1:
            return lambda v: v
        _, push = jax.linearize(lambda y: fn(y, x), root)

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

    max_gain: float = 10.0

    def remember(self, solver: Any, state: PyTree) -> Any:
        """Broyden's inverse Jacobian."""
        if not isinstance(solver, Broyden):
            raise UserError(
                f"adjoint=Shine() with solver={type(solver).__name__}(): it reuses the inverse "
                "that Broyden's method builds, give solver=Broyden()"
            )
        return state.secant

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """v -> -H v, H the secant approximation of (J - I)^-1."""
        del fn, x
        gain = memory.gain()
        trusted = gain <= self.max_gain * jnp.sqrt(root.shape[0])  # false for NaN
        memory = jax.tree.map(lambda leaf: jnp.where(trusted, leaf, jnp.zeros_like(leaf)), memory)
        return lambda v: jnp.where(trusted, -memory.mv(v), v)


class Unrolled(AbstractAdjoint):
    """Ordinary differentiation through the iterations: all `max_steps` of them, by `lax.scan`.

    The value is the last iterate (not the best, which is no smooth function of the inputs), and
    `stats.residual` belongs to the best evaluated one. Memory and time grow with `max_steps`, not
    with the steps taken. A reference for tests and for truncated backpropagation.
    """

    def operator(
        self, fn: Callable, root: Array, x: PyTree, memory: Any
    ) -> Callable[[Array], Array]:
        """There is none."""
        raise NotImplementedError("Unrolled differentiates the iterations themselves")
