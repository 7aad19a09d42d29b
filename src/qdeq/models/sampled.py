"""A quantum model as a device with finite shots returns it: expectation values with sampling error.

Exact values are `quantum_model.py`'s business; how an equilibrium is found with noisy ones, that of
`qdeq.equilibrium`.
"""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from qdeq.equilibrium.certificates import Certifiable
from qdeq.equilibrium.enclosures import Encloser, Region
from qdeq.errors import UserError
from qdeq.models.function import Evaluated, ModelFunction


class SampledModel(Evaluated):
    """f_theta(m, x) estimated from `shots` measurement outcomes per setting, noise included.

    The form in which `Equilibrium` and `Direct` take a random function: a fresh key per call.

    Parameters
    ----------
    model
        A `QuantumModel`, which is evaluated by statevector, or by density matrix where there are
        channels; or any other model function with a method `sample`.

    Notes
    -----
    Values are sampled and derivatives are exact, those of the model function: what training with
    many shots tends to, at the price of one differentiation. Derivatives that are themselves
    measured, by parameter shift, are `qdeq.devices`'s.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, qdeq
    >>> from qdeq.equilibrium import KrasnoselskiiMann
    >>> model_key, data_key, key = jax.random.split(jax.random.key(0), 3)
    >>> model = SampledModel(qdeq.paper_model(key=model_key))
    >>> x = 4 * jax.random.uniform(data_key, (16,))
    >>> layer = qdeq.Equilibrium(KrasnoselskiiMann(rtol=0.0, atol=0.0), max_steps=25)
    >>> solution = layer(model, jnp.zeros(4), x, key=key, shots=1000)
    >>> exact = qdeq.Equilibrium()(model.model, jnp.zeros(4), x).value
    >>> bool(jnp.linalg.norm(solution.value - exact) < 0.05), float(solution.stats.shots)
    (True, 25000.0)
    """

    model: ModelFunction

    def __call__(
        self,
        m: Float[Array, " q"],
        x: Float[Array, " d"],
        *,
        key: PRNGKeyArray | Array,
        shots: int | Int[Array, ""] | None,
    ) -> Float[Array, " q"]:
        """One evaluation: `(q,)`, `(d,)` -> `(q,)`; `shots=None` gives exact values."""
        return _sampled(self.model, m, x, key, shots)

    def encloser(self, region: Region) -> Encloser:
        """Of the expectation values, see `equilibrium.certificates`."""
        if isinstance(self.model, Certifiable):
            return self.model.encloser(region)
        raise UserError(f"model={type(self.model).__name__}: nothing is known of its derivative")


@eqx.filter_custom_jvp
def _sampled(model: Any, m: Array, x: Array, key: Array, shots: Any) -> Array:
    return model.sample(m, x, key=key, shots=shots)


@_sampled.def_jvp
def _sampled_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    model, m, x, _, _ = primals
    _, tangent = eqx.filter_jvp(
        lambda model, m, x: model.prepare().bind(x)(m), (model, m, x), tangents[:3]
    )
    return _sampled(*primals), tangent
