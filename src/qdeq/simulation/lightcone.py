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
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from qdeq.circuits import AngleEncoding, Circuit, MeasurementEnsemble
from qdeq.simulation.fusion import PRECISION, Block, block_matrices, fuse
from qdeq.simulation.product import ProductEncoding, bind_angles, pauli_components, product_encoding
from qdeq.simulation.statevector import (
    basis_images,
    block_size,
    pauli_actions,
    signed_gram,
    stacked_parts,
)

SHARED_COEFFICIENTS = 4096  # contracting this few costs less than a separate pass would

SIGMA = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1.0, -1.0]),
}


@dataclass(frozen=True, eq=False)
class Cone:
    """A light cone: the wires and fused blocks that a set of observables can feel."""

    wires: tuple[int, ...]
    blocks: tuple[int, ...]
    observables: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ConeGroup:
    """Cones of one shape, evaluated together: same blocks on the same positions, same components.

    Attributes
    ----------
    cones
        Their wires and observables differ, nothing else that the program can see.
    positions
        For every block of the cone, where in the cone's wires it acts.
    paulis
        For every observable of a cone, its letters on the cone's wires.
    components
        Component names of every wire of the cone, such as `("", "XZ", "XYZ")`.
    """

    cones: tuple[Cone, ...]
    positions: tuple[tuple[int, ...], ...]
    paulis: tuple[str, ...]
    components: tuple[str, ...]

    @property
    def split(self) -> int:
        """How many leading wires form the left half of the contraction."""
        sizes = np.log([_n_components(c) for c in self.components])
        return int(np.argmin(np.abs(np.cumsum([0.0, *sizes]) - sizes.sum() / 2)))

    @property
    def n_coefficients(self) -> int:
        """Pauli coefficients of one observable."""
        return math.prod(_n_components(c) for c in self.components)


@functools.lru_cache(maxsize=64)
def cone_groups(
    circuit: Circuit, encoding: AngleEncoding, observables: MeasurementEnsemble
) -> tuple[ConeGroup, ...] | None:
    """Light cones of all observables, grouped by shape; None when the encoding is no product.

    Observables share a cone when theirs cover the same wires, or lie inside one with few
    coefficients.
    """
    product = product_encoding(encoding)
    if product is None or circuit.n_features:
        return None
    blocks = fuse(circuit, block_wires(circuit, observables))
    shared: dict[frozenset[int], list[int]] = {}
    reach = [_cone_wires(blocks, letters) for letters in observables.strings]
    for k, wires in enumerate(reach):
        homes = [
            other
            for other in reach
            if wires <= other and _coefficients(other, product) <= SHARED_COEFFICIENTS
        ]
        shared.setdefault(max(homes, key=len, default=wires), []).append(k)
    groups: dict[tuple, list[Cone]] = {}
    for wires, members in shared.items():
        cone = _cone(blocks, wires, tuple(members), observables)
        groups.setdefault(_signature(cone, blocks, product, observables), []).append(cone)
    return tuple(
        ConeGroup(tuple(cones), positions, paulis, components)
        for (positions, paulis, components), cones in groups.items()
    )


def lightcone_cost(
    circuit: Circuit, encoding: AngleEncoding, observables: MeasurementEnsemble
) -> int | None:
    """Pauli coefficients of all observables, the multiplications of one evaluation.

    None when light cones cannot evaluate the model: the encoding is no product of RX, RY, RZ, or
    the circuit is fed by features.
    """
    groups = cone_groups(circuit, encoding, observables)
    if groups is None:
        return None
    return sum(len(g.cones) * len(g.paulis) * g.n_coefficients for g in groups)


@functools.lru_cache(maxsize=64)
def block_wires(circuit: Circuit, observables: MeasurementEnsemble) -> int:
    """Wires per fused block: as for a statevector, unless that widens the light cones."""
    large = block_size(circuit.n_qubits)
    coefficients = [
        sum(4 ** len(_cone_wires(fuse(circuit, size), letters)) for letters in observables.strings)
        for size in (2, large)
    ]
    return large if coefficients[1] <= 4 * coefficients[0] else 2


class LightConeForm(eqx.Module):
    """Pauli coefficients of every observable on its light cone, for the current parameters."""

    coefficients: list[Float[Array, "cones obs left right"]]
    reinjection: Float[Array, "d q"]
    circuit: Circuit = eqx.field(static=True)
    encoding: AngleEncoding = eqx.field(static=True)
    observables: MeasurementEnsemble = eqx.field(static=True)

    def bind(self, x: Float[Array, " d"]) -> "LightConeMap":
        """The model function of one sample with features `x` `(d,)`."""
        product = product_encoding(self.encoding)
        assert product is not None
        return LightConeMap(self, *bind_angles(product, x, self.reinjection))


class LightConeMap(eqx.Module):
    """f(m) = <e(v)| O_k(theta) |e(v)> with v = x + R m, the model function of one sample."""

    form: LightConeForm
    offset: Float[Array, " angles"]
    slope: Float[Array, "angles q"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        form = self.form
        product = product_encoding(form.encoding)
        groups = cone_groups(form.circuit, form.encoding, form.observables)
        assert product is not None and groups is not None
        angles = self.offset + jnp.matmul(self.slope, m, precision=PRECISION)
        components = pauli_components(product, angles)
        values = []
        for group, coefficients in zip(groups, form.coefficients, strict=True):
            wires = np.array([cone.wires for cone in group.cones])
            left = _halves(components, wires[:, : group.split], group.components[: group.split])
            right = _halves(components, wires[:, group.split :], group.components[group.split :])
            values.append(_contract(coefficients, left, right).reshape(-1))
        order = [k for group in groups for cone in group.cones for k in cone.observables]
        joined = jnp.concatenate(values) if len(values) > 1 else values[0]
        return joined if order == sorted(order) else joined[np.argsort(order)]


def prepare_lightcone(
    circuit: Circuit,
    encoding: AngleEncoding,
    observables: MeasurementEnsemble,
    theta: jax.Array,
    reinjection: jax.Array,
) -> LightConeForm:
    """Pull every observable back through the blocks of its cone; cones of one shape in one go."""
    groups = cone_groups(circuit, encoding, observables)
    assert groups is not None, "the model checks that the encoding is a product"
    matrices = block_matrices(fuse(circuit, block_wires(circuit, observables)), theta)
    coefficients = []
    for group in groups:
        stacked = [
            jnp.stack([matrices[cone.blocks[b]] for cone in group.cones])
            for b in range(len(group.positions))
        ]
        pulled = jax.vmap(functools.partial(_pull_back, group))(stacked)
        coefficients.append(pulled)
    return LightConeForm(coefficients, reinjection, circuit, encoding, observables)


def _n_components(names: str) -> int:
    return 1 + len(names)


def _coefficients(wires: frozenset[int], product: ProductEncoding) -> int:
    return math.prod(_n_components(product.components[wire]) for wire in wires)


def _cone_wires(blocks: Sequence[Block], letters: str) -> frozenset[int]:
    wires = {wire for wire, letter in enumerate(letters) if letter != "I"}
    for block in reversed(blocks):
        if wires & set(block.wires):
            wires |= set(block.wires)
    return frozenset(wires)


def _cone(
    blocks: Sequence[Block],
    wires: frozenset[int],
    members: tuple[int, ...],
    observables: MeasurementEnsemble,
) -> Cone:
    """The blocks that any member feels, walking back from the measured wires."""
    reached = {w for k in members for w, p in enumerate(observables.strings[k]) if p != "I"}
    felt = []
    for index in reversed(range(len(blocks))):
        if reached & set(blocks[index].wires):
            reached |= set(blocks[index].wires)
            felt.append(index)
    return Cone(tuple(sorted(wires)), tuple(reversed(felt)), members)


def _signature(
    cone: Cone,
    blocks: Sequence[Block],
    product: ProductEncoding,
    observables: MeasurementEnsemble,
) -> tuple:
    place = {wire: position for position, wire in enumerate(cone.wires)}
    return (
        tuple(tuple(place[w] for w in blocks[b].wires) for b in cone.blocks),
        tuple("".join(observables.strings[k][w] for w in cone.wires) for k in cone.observables),
        tuple(product.components[w] for w in cone.wires),
    )


def _pull_back(group: ConeGroup, matrices: list[jax.Array]) -> jax.Array:
    """Coefficients `(observables, left, right)` of one cone from its block unitaries."""
    n = len(group.components)
    live = [w for w in range(n) if group.components[w]]  # the other wires start in |0>
    blocks = [Block(positions, ()) for positions in group.positions]
    columns = basis_images(blocks, matrices, n_qubits=n, live=live)
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
    left = math.prod(_n_components(c) for c in group.components[: group.split])
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
