"""How much memory the evaluation of a circuit takes, before any of it is allocated."""

import bisect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from qdeq._memory import available_memory
from qdeq.circuits import MeasuredCircuit
from qdeq.errors import UserError
from qdeq.models.quantum_model import QuantumModel, path_of
from qdeq.simulation import lightcone_cost

_SMALLEST_CHECKED = 1e9  # the bytes that nobody asks the system about


def bytes_needed(measured: MeasuredCircuit, method: str = "auto", *, batch_size: int) -> int:
    """What the largest arrays of one training step hold, at least, by the evaluation path.

    In JAX's default type, float32, or float64 under its x64.

    Parameters
    ----------
    measured, method
        As `QuantumModel` has them.
    batch_size
        Samples that are evaluated together.

    Examples
    --------
    >>> from qdeq.circuits.tables import circuit_by_names
    >>> large = circuit_by_names(30, "amplitude", n_features=16)
    >>> f"{bytes_needed(large, batch_size=256):.1e}"
    '9.2e+12'
    """
    n, d, q = measured.n_qubits, measured.n_features, measured.n_observables
    size, path = 2**n, path_of(measured, method)
    real = jnp.dtype(jnp.result_type(float)).itemsize
    cplx, sign = 2 * real, 8 + 2 * real  # a sign is held in float64, and twice in the real type
    if path == "statevector":  # before and after a block of gates
        return 2 * batch_size * size * cplx
    if path == "density-matrix":
        return 2 * batch_size * size**2 * real
    if path == "lightcone":
        return 3 * (lightcone_cost(measured) or 0) * real
    if measured.noise is not None:  # every observable, backwards through the circuit
        return 2 * q * size**2 * real
    # Columns of the circuit, their tangents and gradients; and every observable applied to them,
    # or for many features every product of an observable and a column of the re-injection, in the
    # value and in the gradient. 22 qubits, 16 features: more than 22 GB measured, 27 by this.
    columns = 3 * d * size * cplx + q * size * sign
    if path == "projected-columns":
        return columns + 2 * q * q * size * cplx + batch_size * size * cplx
    return columns + 2 * q * size * d * cplx


def check_memory(
    measured: MeasuredCircuit,
    method: str = "auto",
    *,
    batch_size: int,
    smaller: Callable[[int], MeasuredCircuit] | None = None,
) -> None:
    """Raise `UserError` for a circuit of which a step does not fit into the memory that is free.

    Parameters
    ----------
    measured, method
        As `QuantumModel` has them.
    batch_size
        Samples that are evaluated together.
    smaller
        The same circuit on other qubits, to say how many fit.
    """
    needed = bytes_needed(measured, method, batch_size=batch_size)
    if needed < _SMALLEST_CHECKED:
        return
    limit = _free()
    if needed > limit:
        n, path = measured.n_qubits, path_of(measured, method)
        fits = _most_qubits(n, method, limit, batch_size, smaller)
        advice = f"n_qubits={fits} fits" if fits else "take fewer qubits or observables"
        raise UserError(
            f"n_qubits={n}: training needs about {_in_words(needed)} of memory at once ({path}, "
            f"{measured.n_observables} observables) where {_in_words(limit)} are free: {advice}; "
            "shallow circuits with encoding table or angle take far more"
        )


def check_memory_of(model: Any, *, batch_size: int) -> None:
    """`check_memory` of every `QuantumModel` in a pytree."""
    for part in jax.tree.leaves(model, is_leaf=lambda part: isinstance(part, QuantumModel)):
        if isinstance(part, QuantumModel):
            check_memory(part.measured, part.method, batch_size=batch_size)


def _most_qubits(
    n_qubits: int,
    method: str,
    limit: float,
    batch_size: int,
    smaller: Callable[[int], MeasuredCircuit] | None,
) -> int | None:
    if smaller is None:
        return None

    def needed(n: int) -> float:
        try:
            return bytes_needed(smaller(n), method, batch_size=batch_size)
        except UserError:  # too few for the features or the circuit
            return 0.0

    fits = bisect.bisect_right(range(1, n_qubits), limit, key=needed)
    return fits if fits and needed(fits) else None


def _free() -> float:
    """Of the device that evaluates."""
    stats = None if jax.default_backend() == "cpu" else jax.devices()[0].memory_stats()
    if not stats:
        return available_memory()
    return float(stats["bytes_limit"]) - float(stats.get("bytes_in_use", 0))


def _in_words(n_bytes: float) -> str:
    """
    >>> _in_words(5.2e9), _in_words(3e15)
    ('5.2 GB', '3e+06 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes < 1e14 else f"{n_bytes / 1e9:.0e} GB"
