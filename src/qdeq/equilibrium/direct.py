"""The weight-tied baseline: f applied a fixed number of times, ordinary differentiation."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from qdeq.equilibrium._common import check_tolerances, step_budget, two_norm
from qdeq.equilibrium._problem import make_problem
from qdeq.equilibrium._programs import compiled_once
from qdeq.equilibrium._randomness import Randomness, check_randomness
from qdeq.equilibrium.shots import ShotSchedule
from qdeq.equilibrium.solution import STATUS, Solution, SolverStats, as_trace, relative
from qdeq.equilibrium.solver import Estimate
from qdeq.errors import check_count


class Direct(eqx.Module):
    """Applies f `layers` times, starting from z0; called like `Equilibrium`.

    Parameters
    ----------
    layers
        How often f is applied, at least 1.
    rtol, atol
        What `stats.converged` means: |f(z) - z| <= atol + rtol |f(z)| at the value.

    Raises
    ------
    UserError
        For layers below 1 or a negative tolerance.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Direct(layers=2)(lambda z, x: 0.5 * z + x, jnp.zeros(1), 1.0).value
    Array([1.5], dtype=float32)
    """

    layers: int = eqx.field(default=1, static=True)
    rtol: float = 1e-5
    atol: float = 1e-5

    def __check_init__(self) -> None:
        check_count("layers", self.layers)
        check_tolerances(self.rtol, self.atol)

    @compiled_once
    def __call__(
        self,
        f: Callable[..., PyTree],
        z0: PyTree,
        x: PyTree = None,
        *,
        budget: int | Int[Array, ""] | None = None,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Array | ShotSchedule | None = None,
    ) -> Solution:
        """Apply f to z0 `layers` times (at most `budget` times, where one is given).

        With `key` (and `shots`) every application of a random f has noise of its own, as in
        `Equilibrium`.

        The residual of the value needs one more evaluation of f; under `jax.jit` it is only
        computed if something uses it, and `stats.evaluations` does not count it.
        """
        check_randomness(key, shots)
        random = None if key is None else Randomness(key, shots, None)

        def arguments(index: Array | int, purpose: str = "step") -> PyTree:
            return x if random is None else random.draw(x, purpose, index)[0]

        problem = make_problem(f, z0, arguments(0))
        x = problem.x if random is None else problem.x.x
        allowed = step_budget(budget, self.layers)
        layers = self.layers if allowed is None else allowed

        def layer(y: Array, index: Array) -> tuple[Array, Array]:
            new = problem.fn(y, arguments(index))
            if allowed is not None:
                new = jnp.where(index < layers, new, y)
            fixed, out = lax.stop_gradient((y, new))
            return new, relative(two_norm(out - fixed), two_norm(out))

        value, trace = lax.scan(layer, problem.start, jnp.arange(self.layers, dtype=jnp.int32))
        frozen = lax.stop_gradient(value)
        out = lax.stop_gradient(problem.fn(frozen, arguments(self.layers - 1, "check")))
        found = Estimate.at(frozen, out)
        converged = found.meets(self.rtol, self.atol)
        status = STATUS.where(converged, STATUS.converged, STATUS.max_steps_reached)
        steps = jnp.asarray(layers, jnp.int32)
        stats = SolverStats(
            steps=steps,
            residual=relative(found.residual, found.scale),
            absolute_residual=found.residual,
            converged=converged,
            adjoint_residual=jnp.asarray(jnp.nan, value.dtype),
            residual_trace=as_trace(trace, layers),
            evaluations=steps,
            jacobians=jnp.zeros_like(steps),
            result=STATUS.where(jnp.isfinite(found.residual), status, STATUS.nonfinite),
            shots=0.0 if random is None else random.total(steps, self.layers, extra=False),
        )
        return Solution(value=problem.unravel(value), stats=stats)
