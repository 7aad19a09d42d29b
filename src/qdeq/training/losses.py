"""What a prediction costs, and how right it is; one place for every task.

Outputs are a predictor's: `(C,)` class scores, or `(T,)` targets in the scale of training.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array

from qdeq._numbers import is_correct
from qdeq.errors import UserError
from qdeq.names import Loss, Task

_OF_TASK: dict[Task, tuple[Loss, ...]] = {
    "classification": ("cross-entropy",),
    "regression": ("squared", "absolute"),
}


def loss_of(name: Loss, task: Task) -> Loss:
    """The loss that a configuration's name means for a task.

    Raises
    ------
    UserError
        For one that the task does not have.

    Examples
    --------
    >>> loss_of("auto", "regression")
    'squared'
    """
    allowed = _OF_TASK[task]
    if name == "auto":
        return allowed[0]
    if name not in allowed:
        raise UserError(f"loss={name!r} with a {task}: choose {' or '.join(allowed)}, or auto")
    return name


def losses(loss: Loss, outputs: Array, y: Array) -> Array:
    """The loss of every sample: `(B, C)` scores and `(B,)` classes, or both `(B, T)` -> `(B,)`.

    Squared and absolute errors are means over targets, the squared ones halved.
    """
    if loss == "cross-entropy":
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y)
    errors = outputs - y
    return jnp.mean(jnp.abs(errors) if loss == "absolute" else errors**2 / 2, axis=-1)


def marks(loss: Loss, outputs: Array, y: Array) -> Array:
    """`(B,)` whose mean makes the score: whether the class is right, or the mean squared error."""
    if loss == "cross-entropy":
        return is_correct(outputs, y)
    return jnp.mean((outputs - y) ** 2, axis=-1)


def predictions(loss: Loss, outputs: Array) -> Array:
    """What the outputs say: `(B,)` classes, or the `(B, T)` targets themselves."""
    return jnp.argmax(outputs, axis=-1) if loss == "cross-entropy" else outputs
