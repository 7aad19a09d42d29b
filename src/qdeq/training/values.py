"""The numbers of a configuration, as arguments of compiled programs, and the optimiser of them."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax

from qdeq.training.config import TrainConfig
from qdeq.training.options import OptimiserOption


class Values(eqx.Module):
    """The numbers of a configuration that its programs take as arguments.

    Programs do not depend on them: another learning rate, or another number of samples, costs no
    compilation.

    Attributes
    ----------
    gradient_clip
        0: gradients are never clipped.
    random_steps_minus
        Read where `Recipe.has_random_steps`.
    n_samples
        How many of the rows of the training split are samples; the others are never read.
    n_epochs
        Over which a schedule runs.
    """

    learning_rate: Any
    weight_decay: Any
    gradient_clip: Any
    dropout: Any
    jacobian_weight: Any
    tolerance: Any
    random_steps_minus: Any
    n_samples: Any
    n_epochs: Any

    @classmethod
    def of(cls, config: TrainConfig, n_samples: int) -> "Values":
        """As NumPy scalars, in JAX's default precision."""
        number, whole = np.dtype(jnp.result_type(float)).type, np.int32
        return cls(
            learning_rate=number(config.learning_rate),
            weight_decay=number(config.weight_decay),
            gradient_clip=number(config.gradient_clip),
            dropout=number(config.dropout),
            jacobian_weight=number(config.jacobian_weight),
            tolerance=number(config.tolerance),
            random_steps_minus=whole(config.random_steps_minus),
            n_samples=whole(n_samples),
            n_epochs=whole(config.epochs),
        )

    def optimiser(
        self, chosen: OptimiserOption = "adam", factor: Any = None
    ) -> optax.GradientTransformation:
        """An optimiser on clipped gradients; its state has the same form for all values.

        Parameters
        ----------
        chosen
            By its name in Optax, or one, which has a learning rate of its own.
        factor
            Of the learning rate; None is 1.
        """
        longest = jnp.where(self.gradient_clip > 0, self.gradient_clip, jnp.inf)
        stepping = getattr(optax, chosen)(self.rate(factor)) if isinstance(chosen, str) else chosen
        return optax.chain(optax.clip_by_global_norm(longest), stepping)

    def rate(self, factor: Any = None) -> Any:
        """The learning rate times a factor."""
        return self.learning_rate if factor is None else self.learning_rate * factor
