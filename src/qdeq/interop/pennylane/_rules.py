"""How JAX differentiates tapes that run on a device: by shifts, by the device, or not at all.

The derivative of the classical part (from theta and v to the parameters of gates) is JAX's own.
Only gates whose parameter carries a derivative are differentiated.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from qdeq._precision import PRECISION
from qdeq.devices.function import on_host
from qdeq.errors import UserError
from qdeq.interop.pennylane._guest import NEVER, SHIFT, TRANSFORM
from qdeq.interop.pennylane._tapes import Tapes


def evaluate(
    tapes: Tapes,
    slots: Sequence[jax.Array],
    reads_input: Sequence[bool],
    dtype: Any,
) -> jax.Array:
    """Values `(n_values,)` of the tapes, differentiable.

    Parameters
    ----------
    tapes
        What runs.
    slots
        An array for each of `tapes.slots`. Under `jax.vmap` all rows are one submission.
    reads_input
        For each slot, whether its value depends on v: for the ledger's purposes.
    dtype
        Of the values.
    """
    return _run(tapes, tuple(slots), tuple(reads_input), dtype, "forward", 0)


def _run(
    tapes: Tapes,
    slots: tuple[jax.Array, ...],
    reads_input: tuple[bool, ...],
    dtype: Any,
    purpose: str,
    order: int,
) -> jax.Array:
    """Evaluate tapes that are themselves part of a derivative of the given order."""

    def submit(rows: np.ndarray) -> np.ndarray:
        return tapes.guest.submit(lambda: tapes.run(rows, purpose))

    @jax.custom_jvp
    def run(slots: tuple[jax.Array, ...]) -> jax.Array:
        return on_host(submit, _pack(slots, dtype), (tapes.n_values,))

    def rule(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
        (slots,), (changes,) = primals, tangents
        moving = [k for k, change in enumerate(changes) if not isinstance(change, SymbolicZero)]
        if not moving:
            return run(slots), jnp.zeros(tapes.n_values, dtype)
        _check_order(tapes, order + 1)
        _check_method(tapes, moving)
        if tapes.guest.way == SHIFT:
            value, columns = _by_shifts(tapes, slots, moving, reads_input, dtype, order)
        else:
            gradient = _purpose(moving, reads_input)
            value, *columns = _on_device(tapes, slots, tuple(moving), dtype, gradient)
        tangent = jnp.zeros(tapes.n_values, dtype)
        for k, column in zip(moving, columns, strict=True):
            axes = len(tapes.slots[k].shape)
            tangent += jnp.tensordot(column, changes[k], axes, precision=PRECISION).astype(dtype)
        return value, tangent

    run.defjvp(rule, symbolic_zeros=True)
    return run(slots)


def _by_shifts(
    tapes: Tapes,
    slots: tuple[jax.Array, ...],
    moving: list[int],
    reads_input: tuple[bool, ...],
    dtype: Any,
    order: int,
) -> tuple[jax.Array, list[jax.Array]]:
    """The value and a column for each moving slot, by the parameter-shift rule.

    The rows of one purpose are one submission. They are written in JAX, so that a second derivative
    is the same rule applied to the shifted circuits.
    """
    rules = {k: _shift_rule(tapes, k) for k in moving}
    value, columns = None, {}
    for group in (True, False):
        members = [k for k in moving if reads_input[k] is group]
        if not members:
            continue
        lead = [] if value is not None else [np.zeros((1, len(slots)))]
        offsets = [*lead]
        for k in members:
            block = np.zeros((len(rules[k]), len(slots)))
            block[:, k] = [shift for _, shift in rules[k]]
            offsets.append(block)
        rows = np.concatenate(offsets)
        purpose = _purpose(members, reads_input)
        shifted = tuple(
            slot + jnp.asarray(rows[:, k], slot.dtype).reshape(-1, *(1,) * slot.ndim)
            for k, slot in enumerate(slots)
        )
        values = jax.vmap(
            lambda *row, purpose=purpose: _run(tapes, row, reads_input, dtype, purpose, order + 1)
        )(*shifted)
        if lead:
            value, values = values[0], values[1:]
        for k in members:
            weights = jnp.asarray([weight for weight, _ in rules[k]], dtype)
            columns[k] = jnp.matmul(weights, values[: len(weights)], precision=PRECISION)
            values = values[len(weights) :]
    assert value is not None
    return value, [columns[k] for k in moving]


def _on_device(
    tapes: Tapes, slots: tuple[jax.Array, ...], moving: tuple[int, ...], dtype: Any, purpose: str
) -> list[jax.Array]:
    sizes = [math.prod(tapes.slots[k].shape) for k in moving]

    def submit(rows: np.ndarray) -> np.ndarray:
        return tapes.guest.submit(lambda: tapes.jacobian(rows, moving, purpose))

    @jax.custom_jvp
    def run(slots: tuple[jax.Array, ...]) -> jax.Array:
        return on_host(submit, _pack(slots, dtype), (tapes.n_values, 1 + sum(sizes)))

    @run.defjvp
    def rule(primals: tuple, tangents: tuple) -> Any:
        del primals, tangents
        _check_order(tapes, 2)

    found = run(slots)
    ends = np.cumsum([1, *sizes])
    return [found[:, 0]] + [
        found[:, first : first + size].reshape(-1, *tapes.slots[k].shape)
        for k, size, first in zip(moving, sizes, ends[:-1], strict=True)
    ]


def _pack(slots: tuple[jax.Array, ...], dtype: Any) -> jax.Array:
    """All slots as one vector: what a callback takes."""
    return jnp.concatenate([jnp.ravel(slot).astype(dtype) for slot in slots])


def _check_order(tapes: Tapes, order: int) -> None:
    """Stop where PennyLane would return a wrong derivative without a word."""
    guest = tapes.guest
    allowed = guest.qnode.execute_kwargs["max_diff"]
    if guest.way == NEVER:
        raise UserError(
            "diff_method=None: the QNode has no derivative, make it with "
            "qml.QNode(..., diff_method='parameter-shift') or another method"
        )
    if guest.way == SHIFT and order > allowed:
        raise UserError(
            f"derivative of order {order} of a QNode with max_diff={allowed} (a Jacobian penalty "
            f"asks for one): make it with qml.QNode(..., max_diff={order})"
        )
    if guest.way != SHIFT and order > 1:
        raise UserError(
            f"derivative of order {order} of a QNode with diff_method={guest.method!r}, which has "
            "only the first (a Jacobian penalty asks for more): choose 'backprop', or "
            f"'parameter-shift' with max_diff={order}"
        )


def _check_method(tapes: Tapes, moving: Sequence[int]) -> None:
    """Stop where a method of PennyLane's is silently wrong about what the circuits hold."""
    guest, qml = tapes.guest, tapes.guest.qml
    measured = [op for tape in tapes.tapes for op in tape.operations if hasattr(op, "postselect")]
    if guest.way not in (SHIFT, TRANSFORM):
        for slot in (tapes.slots[k] for k in moving):
            tape = tapes.tapes[slot.tape]
            if tape.par_info[slot.parameter]["op_idx"] >= len(tape.operations):
                raise UserError(
                    "an observable of the QNode has a number that is differentiated, of which "
                    f"diff_method={guest.method!r} knows no derivative: choose 'parameter-shift' "
                    "or 'backprop'"
                )
    elif guest.config.gradient_method in (qml.gradients.finite_diff, qml.gradients.spsa_grad):
        return
    elif any(op.postselect is not None for op in measured):
        raise UserError(
            f"the QNode keeps some outcomes alone (postselect), and diff_method={guest.method!r} "
            "is wrong there: choose 'backprop' or 'finite-diff'"
        )
    elif measured and guest.way == TRANSFORM:
        raise UserError(
            f"the QNode measures in the middle, where diff_method={guest.method!r} can be wrong: "
            "choose 'backprop', 'parameter-shift' or 'finite-diff'"
        )


def _purpose(moving: Sequence[int], reads_input: Sequence[bool]) -> str:
    return "input gradient" if all(reads_input[k] for k in moving) else "parameter gradient"


def _shift_rule(tapes: Tapes, k: int) -> list[tuple[float, float]]:
    """(weight, shift) pairs: the derivative is the sum of weight times the value at the shift."""
    slot = tapes.slots[k]
    tape, qml = tapes.tapes[slot.tape], tapes.guest.qml
    info = tape.par_info[slot.parameter]
    operation, position = info["op"], info["p_idx"]
    for measurement in tape.measurements:
        if not isinstance(
            measurement, (qml.measurements.ExpectationMP, qml.measurements.ProbabilityMP)
        ):
            raise UserError(
                f"{type(measurement).__name__} has no shift rule: measure expectation values or "
                "probabilities"
            )
    lacking = UserError(
        f"{operation.name} has no shift rule for its parameter {position}: write it in gates with "
        "angles, or choose diff_method='backprop'"
    )
    if slot.shape or not isinstance(operation, qml.operation.Operation):
        raise lacking
    recipe = operation.grad_recipe[position]
    if recipe is not None:
        if any(multiplier != 1 for _, multiplier, _ in recipe):
            raise lacking
        return [(float(weight), float(shift)) for weight, _, shift in recipe]
    try:
        frequencies = operation.parameter_frequencies[position]
    except qml.exceptions.ParameterFrequenciesUndefinedError as error:
        raise lacking from error
    if not len(frequencies):
        return []  # a global phase
    rule = qml.gradients.generate_shift_rule(frequencies)
    return [(float(weight), float(shift)) for weight, shift in rule]
