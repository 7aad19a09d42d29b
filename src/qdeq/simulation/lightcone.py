"""Angle encoding in three stages: observables pulled back onto their light cones, then contracted
with the product state.

The encoded state is a product of single-wire states, so <O_k> needs only the wires that can reach
O_k through the circuit (its light cone), and on them only its Pauli coefficients: a tensor with an
axis per wire of the cone, as long as that wire's state has components (1, 3 or 4). The cost grows
with the cone, not with the number of qubits.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from qdeq import native
from qdeq._precision import PRECISION
from qdeq._vectors import as_vector
from qdeq.circuits import MeasuredCircuit, MeasurementEnsemble
from qdeq.simulation.bloch import NoisyProduct, noisy_components
from qdeq.simulation.cones import ConeGroup, cone_blocks, cone_groups, encoded_product, n_components
from qdeq.simulation.density import readout_components
from qdeq.simulation.fusion import Block, block_matrices, complex_dtype
from qdeq.simulation.heisenberg import pull_back
from qdeq.simulation.product import ProductEncoding, bind_angles, pauli_components
from qdeq.simulation.statevector import (
    basis_images,
    pauli_actions,
    signed_gram,
    stacked_parts,
)
from qdeq.simulation.superoperators import check_size, transfer_matrices

SIGMA = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1.0, -1.0]),
}


class LightConeForm(eqx.Module):
    """Pauli coefficients of every observable on its light cone, for the current parameters."""

    coefficients: list[Float[Array, "cones obs left right"]]
    reinjection: Float[Array, "d q"]
    measured: MeasuredCircuit = eqx.field(static=True)

    def bind(self, x: Float[Array, " d"]) -> "LightConeMap":
        """The model function of one sample with features `x` `(d,)`."""
        product = encoded_product(self.measured)
        assert product is not None
        x = as_vector("x", x, len(self.reinjection), self.reinjection.dtype)
        return LightConeMap(self, *bind_angles(product.sums, product.offsets, x, self.reinjection))

    def of_inputs(self) -> "LightConeMap":
        """The function of all that the encoding reads, `(d,)`, in the place of R m."""
        product, dtype = encoded_product(self.measured), self.reinjection.dtype
        assert product is not None
        d = self.measured.n_features
        fed = bind_angles(
            product.sums, product.offsets, jnp.zeros(d, dtype), jnp.eye(d, dtype=dtype)
        )
        return LightConeMap(self, *fed)


class LightConeMap(eqx.Module):
    """f(m) = <e(v)| O_k(theta) |e(v)> with v = x + R m, the model function of one sample."""

    form: LightConeForm
    offset: Float[Array, " angles"]
    slope: Float[Array, "angles q"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        m = self._state(m)
        if self._kernel is not None and native.serves(m.dtype):
            return native.evaluate(self._kernel, self._operands, m)
        return _reference(self.form.measured, self._operands, m)

    def jacobian(self, m: Float[Array, " q"]) -> Float[Array, "q q"]:
        """df/dm at `m` `(q,)`."""
        return self.linearise(m)[1]

    def linearise(self, m: Float[Array, " q"]) -> tuple[Float[Array, " q"], Float[Array, "q q"]]:
        """f(m) and df/dm at `m` `(q,)`."""
        m = self._state(m)
        if self._kernel is not None and native.serves(m.dtype):
            return native.linearise(self._kernel, self._operands, m)
        return self(m), jax.jacfwd(self)(m)

    def broyden(self, start: Float[Array, " q"], **settings: Any) -> native.SolverRun | None:
        """The equilibrium by `qdeq.native.broyden`; None where that is not available."""
        start = self._state(start)
        if self._kernel is None or not native.serves(start.dtype):
            return None
        return native.broyden(self._kernel, self._operands, start, **settings)

    def _state(self, m: Float[Array, " q"]) -> Array:
        return as_vector("the measured state", m, self.slope.shape[1], self.slope.dtype)

    @property
    def _operands(self) -> tuple[Array, ...]:
        return (self.offset, self.slope, *self.form.coefficients)

    @property
    def _kernel(self) -> native.Kernel | None:
        measured = self.form.measured
        # Noisy rotations are affine maps, which the kernel has not.
        return None if measured.noise is not None else _native_kernel(measured)


def _reference(measured: MeasuredCircuit, operands: Sequence[Array], m: Array) -> Array:
    offset, slope, *coefficients = operands
    product, groups = encoded_product(measured), cone_groups(measured)
    assert product is not None and groups is not None
    angles = offset + jnp.matmul(slope, m, precision=PRECISION)
    if isinstance(product, NoisyProduct):
        components = noisy_components(product, angles)
    else:
        components = pauli_components(product, angles)
    values = []
    for group, form in zip(groups, coefficients, strict=True):
        wires = np.array([cone.wires for cone in group.cones])
        left = _halves(components, wires[:, : group.split], group.components[: group.split])
        right = _halves(components, wires[:, group.split :], group.components[group.split :])
        values.append(_contract(form, left, right).reshape(-1))
    order = [k for group in groups for cone in group.cones for k in cone.observables]
    joined = jnp.concatenate(values) if len(values) > 1 else values[0]
    return joined if order == sorted(order) else joined[np.argsort(order)]


@functools.lru_cache(maxsize=64)
def _native_kernel(measured: MeasuredCircuit) -> native.Kernel:
    """The structure as integers for `native/cpp`; lists start with their length."""
    product, groups = encoded_product(measured), cone_groups(measured)
    assert isinstance(product, ProductEncoding) and groups is not None
    plan = [len(product.sums), product.n_qubits, len(product.classes)]
    for turns in product.classes:
        plan += [len(turns.axes), *turns.axes, len(turns.wires), *turns.wires]
    plan.append(len(groups))
    for group in groups:
        plan += [len(group.cones), len(group.paulis), len(group.components), group.split]
        for names in group.components:
            columns = ["IXYZ".index(letter) for letter in "I" + names] if names else [0]
            plan += [len(columns), *columns]
        wires = [wire for cone in group.cones for wire in cone.wires]
        order = [k for cone in group.cones for k in cone.observables]
        plan += [len(wires), *wires, len(order), *order]
    reference = functools.partial(_reference, measured)
    n_operands = 2 + len(groups)

    def moved(operands: Sequence[Array], m: Array) -> Array:
        """The derivative along a change of offset and slope, the last two operands."""
        fixed, coefficients = operands[:2], operands[2:n_operands]
        along = tuple(operands[n_operands:])
        return jax.jvp(lambda *f: reference((*f, *coefficients), m), tuple(fixed), along)[1]

    plan_of_moved = (n_operands, *plan)
    n_values = sum(len(cone.observables) for group in groups for cone in group.cones)
    derivative = native.Kernel(
        "product_moved", plan_of_moved, n_operands, moved, evaluates=False, n_values=n_values
    )
    return native.Kernel("product", tuple(plan), 2, reference, derivative, n_values=n_values)


def prepare_lightcone(
    measured: MeasuredCircuit, theta: jax.Array, reinjection: jax.Array
) -> LightConeForm:
    """Pull every observable back through the blocks of its cone; cones of one shape in one go."""
    groups = cone_groups(measured)
    assert groups is not None, "the model checks that the encoding is a product"
    if measured.noise is not None:
        coefficients = _noisy_coefficients(groups, measured, theta)
        return LightConeForm(coefficients, reinjection, measured)
    matrices = block_matrices(cone_blocks(measured), theta)
    coefficients = []
    for group in groups:
        stacked = [
            jnp.stack([matrices[cone.blocks[b]] for cone in group.cones])
            for b in range(len(group.positions))
        ]
        pull = functools.partial(_pull_back, group, dtype=complex_dtype(theta.dtype))
        # The size is said: cones that no block reaches have nothing to count.
        coefficients.append(jax.vmap(pull, axis_size=len(group.cones))(stacked))
    return LightConeForm(coefficients, reinjection, measured)


def _noisy_coefficients(
    groups: Sequence[ConeGroup], measured: MeasuredCircuit, theta: jax.Array
) -> list[jax.Array]:
    """What `_pull_back` gives for unitaries, from the transfer matrices of noisy blocks."""
    matrices = transfer_matrices(cone_blocks(measured), theta)
    read = readout_components(measured.observables, measured.noise)
    coefficients = []
    for group in groups:
        n, q = len(group.components), len(group.paulis)
        check_size(len(group.cones) * q * 4**n, f"light cones of {n} wires")
        # Misread bits differ from wire to wire: components (cones, observables, wires, 4).
        components = np.array(
            [[read[k][list(cone.wires)] for k in cone.observables] for cone in group.cones]
        ).reshape(len(group.cones), q, n, 4)
        ends = [
            np.eye(4)[:, ["IXYZ".index(letter) for letter in "I" + names]]
            if names
            else np.array(constant)[:, None]
            for names, constant in zip(group.components, group.constants, strict=True)
        ]
        felt = np.array([[letter != "I" for letter in letters] for letters in group.paulis])
        stacked = [
            jnp.stack([matrices[cone.blocks[b]] for cone in group.cones])
            for b in range(len(group.positions))
        ]
        pulled = jax.vmap(
            lambda m, c, group=group, ends=ends, felt=felt.reshape(q, n): pull_back(
                group.positions, m, c, ends, felt
            )
        )(stacked, jnp.asarray(components, theta.dtype))
        left = math.prod(n_components(c) for c in group.components[: group.split])
        coefficients.append(pulled.reshape(len(group.cones), q, left, -1))
    return coefficients


def _pull_back(group: ConeGroup, matrices: list[jax.Array], dtype: jnp.dtype) -> jax.Array:
    """Coefficients `(observables, left, right)` of one cone from its block unitaries."""
    n = len(group.components)
    live = [w for w in range(n) if group.components[w]]  # the other wires start in |0>
    blocks = [Block(positions, ()) for positions in group.positions]
    columns = basis_images(blocks, matrices, n_qubits=n, live=live, dtype=dtype)
    # Wires that turn about X only: a phase on |1> turns their Y component into X; then, with no
    # wire that has all three components, everything is real.
    quarter = [i for i, w in enumerate(live) if group.components[w] == "YZ"]
    if quarter:
        bits = np.array(
            [sum((c >> (len(live) - 1 - i)) & 1 for i in quarter) for c in range(columns.shape[1])]
        )
        columns = columns * jnp.asarray(1j**bits, columns.dtype)
    ensemble = MeasurementEnsemble(n, group.paulis)
    general = any(group.components[w] == "XYZ" for w in live)
    if ensemble.is_diagonal:
        signs = jnp.asarray(ensemble.signs(), columns.real.dtype)
        stacked_signs = jnp.concatenate([signs, signs], axis=1)
        pulled = signed_gram(stacked_signs, stacked_parts(columns))
        if general:
            signed = signs[:, :, None] * columns.imag
            cross = jnp.matmul(columns.real.T, signed, precision=PRECISION)
            pulled = jax.lax.complex(pulled, cross - cross.swapaxes(1, 2))
    else:
        index, phase = pauli_actions(ensemble)
        images = jnp.asarray(phase, columns.dtype)[:, :, None] * columns[jnp.asarray(index)]
        pulled = jnp.einsum("jd,kje->kde", columns.conj(), images, precision=PRECISION)
        pulled = pulled if general else pulled.real
    tensor = pulled.reshape((len(group.paulis),) + (2,) * (2 * len(live)))
    # One wire at a time: its row axis (1) and column axis (1 + remaining wires) become components,
    # coefficient of sigma_c = tr(O sigma_c) / 2, moved to the end.
    for done, w in enumerate(live):
        basis = _basis(group.components[w])
        basis = basis if general else np.real(basis)
        tensor = jnp.tensordot(
            tensor,
            jnp.asarray(basis, tensor.dtype) / 2,
            axes=([1, 1 + len(live) - done], [2, 1]),
            precision=PRECISION,
        )
    left = math.prod(n_components(c) for c in group.components[: group.split])
    return tensor.real.reshape(len(group.paulis), left, -1)


def _basis(names: str) -> np.ndarray:
    """Matrices of a wire's components; Y reads as X where the phase trick has turned it."""
    letters = "IXZ" if names == "YZ" else "I" + names
    return np.stack([SIGMA[letter] for letter in letters]).astype(complex)


def _halves(components: jax.Array, wires: np.ndarray, names: Sequence[str]) -> jax.Array:
    """Products of the components of a few wires per cone: `(cones, product of lengths)`."""
    product = jnp.ones((len(wires), 1), components.dtype)
    for position, chosen in enumerate(names):
        if not chosen:
            continue
        columns = ["IXYZ".index(letter) for letter in "I" + chosen]
        factor = components[wires[:, position]]
        if len(columns) < 4:
            factor = factor[:, np.array(columns)]
        product = (product[:, :, None] * factor[:, None, :]).reshape(len(wires), -1)
    return product


@jax.custom_jvp
def _contract(coefficients, left, right):
    half = jnp.einsum("ckab,ca->ckb", coefficients, left, precision=PRECISION)
    return jnp.einsum("ckb,cb->ck", half, right, precision=PRECISION)


@functools.partial(_contract.defjvp, symbolic_zeros=True)
def _contract_jvp(primals, tangents):
    # Both half contractions once, then every tangent of a Jacobian costs one short dot product;
    # autodiff would contract the coefficients again for each.
    coefficients, left, right = primals
    d_coefficients, d_left, d_right = tangents
    half = jnp.einsum("ckab,ca->ckb", coefficients, left, precision=PRECISION)
    other = jnp.einsum("ckab,cb->cka", coefficients, right, precision=PRECISION)
    value = jnp.einsum("ckb,cb->ck", half, right, precision=PRECISION)
    tangent = jnp.zeros_like(value)
    if not isinstance(d_right, SymbolicZero):
        tangent += jnp.einsum("ckb,cb->ck", half, d_right, precision=PRECISION)
    if not isinstance(d_left, SymbolicZero):
        tangent += jnp.einsum("cka,ca->ck", other, d_left, precision=PRECISION)
    if not isinstance(d_coefficients, SymbolicZero):
        tangent += _contract(d_coefficients, left, right)
    return value, tangent
