"""The regressor: targets from the equilibrium of a model function."""

from typing import ClassVar

from jaxtyping import Array, PRNGKeyArray

from qdeq.models.function import ModelFunction
from qdeq.models.predictor import Predictor


class Regressor(Predictor):
    """Targets from the equilibrium of a model function, in the scale of training.

    Expectation values are at most 1, so targets are standardised first (`qdeq.data.Targets`) and
    what comes out here is on that scale.

    Parameters
    ----------
    model
        A `QuantumModel` or any other `ModelFunction`, with its trainable arrays.
    n_targets
        T.
    dropout
        Probability with which an element of what is read out is zeroed in training.
    head
        `"affine"`, a linear map of what the model reads out of its state; `"linear"` with a ReLU
        before it, as in the paper's classifier; `"none"` takes the first T measured values.
    key
        JAX key for the head's weights, uniform in +-1/sqrt(r) for r numbers read out.

    Raises
    ------
    UserError
        For something that is not a model function, an unknown head, or head `"none"` with fewer
        observables than targets.

    Examples
    --------
    >>> import jax, qdeq
    >>> model_key, head_key, data_key = jax.random.split(jax.random.key(0), 3)
    >>> regressor = Regressor(qdeq.paper_model(key=model_key), 2, key=head_key)
    >>> x = jax.random.normal(data_key, (16,))
    >>> regressor(x, qdeq.Equilibrium()).outputs.shape
    (2,)
    """

    _outputs: ClassVar[str] = "targets"

    def __init__(
        self,
        model: ModelFunction,
        n_targets: int = 1,
        *,
        dropout: float = 0.0,
        head: str = "affine",
        key: PRNGKeyArray | Array,
    ):
        super().__init__(model, n_targets, dropout=dropout, head=head, key=key)

    @property
    def n_targets(self) -> int:
        """T."""
        return self.n_outputs
