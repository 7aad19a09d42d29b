"""From compiled JAX code to the host and back: batches, precision, exceptions.

What is measured there is the business of `function.py`.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qdeq.errors import UserError


def on_host(
    measure: Callable[[np.ndarray], np.ndarray], angles: Array, shape: tuple[int, ...]
) -> Array:
    """`measure` of `(S,)` angles, an array of this shape; every batch is one call with its rows.

    float64 crosses as pairs of uint32. A callback may run in another thread, where a precision that
    `jax.enable_x64` set as a context does not hold, and JAX would round what passes to float32.
    """
    dtype = np.dtype(angles.dtype)
    wide = dtype == np.float64

    def call(packed: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(packed).view(dtype)[..., 0] if wide else np.asarray(packed)
        batch = rows.shape[:-1]
        # The number of rows is said: a circuit without angles has rows of length 0.
        flat = rows.reshape(math.prod(batch), rows.shape[-1])
        found = measure(flat).astype(dtype).reshape(*batch, *shape)
        return np.ascontiguousarray(found)[..., None].view(np.uint32) if wide else found

    bits = jax.lax.bitcast_convert_type
    result = jax.ShapeDtypeStruct((*shape, 2) if wide else shape, np.uint32 if wide else dtype)
    argument = bits(angles, jnp.uint32) if wide else angles
    answer = jax.pure_callback(call, result, argument, vmap_method="broadcast_all")
    return bits(answer, dtype) if wide else answer


class KeepsLastError(Protocol):
    """What `device_errors` needs of an executor."""

    last_error: UserError | None


@contextlib.contextmanager
def device_errors(executor: KeepsLastError) -> Iterator[None]:
    """Turn JAX's report of a failed callback back into the `DeviceError` or `BudgetSpent` it was.

    Inside compiled code JAX replaces an exception by a JaxRuntimeError that quotes a traceback.

    Parameters
    ----------
    executor
        The executor of the `DeviceFunction` that is called in the body, or whatever else keeps its
        `last_error`.

    Examples
    --------
    >>> from qdeq.circuits import Circuit, MeasurementEnsemble
    >>> from qdeq.devices import SimulatorExecutor
    >>> executor = SimulatorExecutor(Circuit(1, ()), MeasurementEnsemble(1, ("Z",)))
    >>> with device_errors(executor):
    ...     pass  # loss, gradient = jax.jit(jax.value_and_grad(loss))(parameters)
    """
    executor.last_error = None
    log = logging.getLogger(jax.pure_callback.__module__)
    was_disabled, log.disabled = log.disabled, True  # it would print the traceback as well
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        found = executor.last_error  # JAX raises either of these, with a traceback as the text
        if found is None or error is found or str(found) not in str(error):
            raise
        raise found from found.__cause__
    finally:
        log.disabled = was_disabled
