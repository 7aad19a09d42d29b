"""What a host loop submits: samples, of a network with all their sites, as rows of angles.

Also what it takes for samples. The loop over solver steps is `solve.py`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qdeq._vectors import as_reals
from qdeq.circuits import AmplitudeEncoding
from qdeq.devices.function import encoder_input
from qdeq.errors import UserError
from qdeq.lowering.program import Program
from qdeq.models import Network, QuantumModel
from qdeq.models.cells import circuit_of


def model_of(model: QuantumModel | Network) -> QuantumModel:
    """The circuit that a device runs: the model's, or that of a network's cells.

    Raises
    ------
    UserError
        For a network whose cells are not all the same circuit.
    """
    if not isinstance(model, Network):
        return model
    circuit = circuit_of(model.cell)
    if circuit is None:
        raise UserError(
            f"cell={type(model.cell).__name__}: a device runs one circuit, give a network with a "
            "QuantumModel as its cell; several kinds of cell are DeviceFunctions, each with an "
            "executor of its own"
        )
    return circuit


@eqx.filter_jit
def _angles(
    model: QuantumModel | Network, m: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    circuit = model_of(model)
    program = Program.of(circuit)

    def one(m: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not isinstance(model, Network):
            v, defined = encoder_input(model, m, x)
            return program.angles(model.theta, v)[None], defined[None]
        v = model.wired().heard(m.reshape(model.wiring.n_sites, -1), x)
        defined = jnp.ones(len(v), bool)
        if isinstance(circuit.encoding, AmplitudeEncoding):
            defined = jnp.any(v != 0, axis=-1)
            v = jnp.where(defined[:, None], v, 1)
        return jax.vmap(lambda v: program.angles(circuit.theta, v))(v), defined

    return jax.vmap(one)(m, x)


def batch_angles(
    model: QuantumModel | Network, m: jax.Array, x: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Angles of all samples and sites, and where the model function is defined.

    Returns
    -------
    angles
        `(B N, S)`; N is 1 but for networks.
    defined
        `(B, N)`.
    """
    angles, defined = _angles(model, m, x)
    angles = np.asarray(angles, np.float64)
    n_rows = angles.shape[0] * angles.shape[1]  # not -1: circuits without angles have 0 numbers
    return angles.reshape(n_rows, angles.shape[-1]), np.asarray(defined)


def check_arrays(model: QuantumModel | Network, x: Any, start: Any) -> tuple[jax.Array, jax.Array]:
    """Features and start of a solve as arrays of the model's type; `UserError` where none fit."""
    dtype = model_of(model).theta.dtype
    x = as_reals("x", x, dtype)
    start = start if start is None else as_reals("start", start, dtype)
    each: tuple[int, ...] = (model.n_features,)
    if isinstance(model, Network):
        each = (model.wiring.n_sites, model.injection.n_features)
    if x.shape[1:] != each or x.ndim != 1 + len(each):
        wanted = ", ".join(map(str, each))
        raise UserError(f"x has shape {x.shape}: give samples as an array of shape (B, {wanted})")
    shape = (x.shape[0], model.n_observables)
    start = jnp.zeros(shape, dtype) if start is None else start
    if isinstance(model, Network) and start.shape == (*x.shape[:2], model.injection.n_states):
        start = start.reshape(shape)
    if start.shape != shape:
        raise UserError(f"start has shape {start.shape}: give an array of shape {shape}")
    return x, start
