"""The plain three stages: simulate the statevector at every call; any encoding, any observables."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qdeq._precision import PRECISION
from qdeq._vectors import as_vector
from qdeq.circuits import MeasuredCircuit
from qdeq.simulation.fusion import block_matrices, fuse
from qdeq.simulation.statevector import (
    apply_blocks,
    block_size,
    encode_sum,
    expectation_values,
    is_large,
)


class PlainForm(eqx.Module):
    """A circuit with its fused unitaries; nothing else is computed ahead of the solver loop."""

    theta: Float[Array, " P"]
    matrices: list[Array] | None
    reinjection: Float[Array, "d q"]
    measured: MeasuredCircuit = eqx.field(static=True)

    def bind(self, x: Float[Array, " d"]) -> "PlainMap":
        """The model function of one sample with features `x` `(d,)`."""
        x = as_vector("x", x, len(self.reinjection), self.reinjection.dtype)
        return PlainMap(self, x)


class PlainMap(eqx.Module):
    """f(m) by encoding x + R m, running the circuit and measuring."""

    form: PlainForm
    x: Float[Array, " d"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        form, measured = self.form, self.form.measured
        m = as_vector("the measured state", m, form.reinjection.shape[1], form.reinjection.dtype)
        state = encode_sum(measured.encoding, self.x, form.reinjection, m)[:, None]
        blocks = fuse(measured.circuit, block_size(measured.n_qubits))
        matrices = form.matrices
        if matrices is None:
            v = self.x + jnp.matmul(form.reinjection, m, precision=PRECISION)
            matrices = block_matrices(blocks, jnp.concatenate([form.theta, v]))
        state = apply_blocks(blocks, matrices, state)
        return expectation_values(measured.observables, state)[:, 0]

    def jacobian(self, m: Float[Array, " q"]) -> Float[Array, "q q"]:
        """df/dm at `m` `(q,)`; of a large register column by column, q states at once are many."""
        if not is_large(2**self.form.measured.n_qubits):
            return jax.jacfwd(self)(m)
        # Not `jax.linearize`: it would forget how `apply_blocks` is differentiated once more.
        column = jax.checkpoint(lambda direction: jax.jvp(self, (m,), (direction,))[1])
        return jax.lax.map(column, jnp.eye(len(m), dtype=m.dtype)).T


def prepare_plain(measured: MeasuredCircuit, theta: jax.Array, reinjection: jax.Array) -> PlainForm:
    """Compute the fused unitaries once, unless features feed the circuit itself (re-uploading)."""
    blocks = fuse(measured.circuit, block_size(measured.n_qubits))
    matrices = None if measured.circuit.n_features else block_matrices(blocks, theta)
    return PlainForm(theta, matrices, reinjection, measured)
