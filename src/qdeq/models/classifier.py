"""The classifier: class scores from the equilibrium of a model function."""

from typing import ClassVar

from jaxtyping import Array, PRNGKeyArray

from qdeq.models.function import ModelFunction
from qdeq.models.predictor import Predictor


class Classifier(Predictor):
    """Class scores from the equilibrium of a model function.

    What the model reads out of its state (for a `QuantumModel` the re-injected z = R m*, the
    paper's upsampled state), then dropout, ReLU and a linear map to the classes.

    Parameters
    ----------
    model
        A `QuantumModel` or any other `ModelFunction`, with its trainable arrays.
    n_classes
        C.
    dropout
        Probability with which an element of z is zeroed in training.
    head
        `"linear"` as above; `"affine"` without the ReLU, so that the signs of measured values
        count; `"none"` takes the first C measured values as the logits, the standard quantum
        classifier, without anything classical that learns.
    key
        JAX key for the head's weights, uniform in +-1/sqrt(r) for r numbers read out.

    Raises
    ------
    UserError
        For something that is not a model function, an unknown head, or head `"none"` with fewer
        observables than classes.

    Examples
    --------
    >>> import jax, qdeq
    >>> model_key, head_key, data_key = jax.random.split(jax.random.key(0), 3)
    >>> classifier = Classifier(qdeq.paper_model(key=model_key), 4, key=head_key)
    >>> x = jax.random.normal(data_key, (16,))
    >>> classifier(x, qdeq.Equilibrium()).logits.shape
    (4,)
    """

    _outputs: ClassVar[str] = "classes"

    def __init__(
        self,
        model: ModelFunction,
        n_classes: int,
        *,
        dropout: float = 0.05,
        head: str = "linear",
        key: PRNGKeyArray | Array,
    ):
        super().__init__(model, n_classes, dropout=dropout, head=head, key=key)

    @property
    def n_classes(self) -> int:
        """C."""
        return self.n_outputs
