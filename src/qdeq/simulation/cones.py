"""Light cones: which wires and fused blocks each observable can feel, and which cones look alike.

Structure only, computed once per circuit; the numbers are in `lightcone.py`.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeq.circuits import AngleEncoding, MeasuredCircuit, MeasurementEnsemble
from qdeq.simulation.bloch import NoisyProduct, noisy_product
from qdeq.simulation.fusion import Block, fuse
from qdeq.simulation.product import ProductEncoding, product_encoding
from qdeq.simulation.statevector import block_size
from qdeq.simulation.superoperators import fuse_noisy, transfer_block_size

SHARED_COEFFICIENTS = 4096  # contracting this few costs less than a separate pass would


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
    constants
        Under noise, the vector (1, x, y, z) of the wires whose component name is `""`.
    """

    cones: tuple[Cone, ...]
    positions: tuple[tuple[int, ...], ...]
    paulis: tuple[str, ...]
    components: tuple[str, ...]
    constants: tuple[tuple[float, ...], ...]

    @property
    def split(self) -> int:
        """How many leading wires form the left half of the contraction."""
        sizes = np.log([n_components(c) for c in self.components])
        return int(np.argmin(np.abs(np.cumsum([0.0, *sizes]) - sizes.sum() / 2)))

    @property
    def n_coefficients(self) -> int:
        """Pauli coefficients of one observable."""
        return math.prod(n_components(c) for c in self.components)


Product = ProductEncoding | NoisyProduct


def encoded_product(measured: MeasuredCircuit) -> Product | None:
    """The encoding as a product of single-wire states; None when it is none."""
    encoding, noise = measured.encoding, measured.noise
    if not isinstance(encoding, AngleEncoding):
        return None
    return product_encoding(encoding) if noise is None else noisy_product(encoding, noise)


@functools.lru_cache(maxsize=64)
def cone_groups(measured: MeasuredCircuit) -> tuple[ConeGroup, ...] | None:
    """Light cones of all observables, grouped by shape; None when the encoding is no product.

    Observables share a cone when theirs cover the same wires, or lie inside one with few
    coefficients.
    """
    product, observables = encoded_product(measured), measured.observables
    if product is None or measured.circuit.n_features:
        return None
    blocks = cone_blocks(measured)
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
    return tuple(ConeGroup(tuple(cones), *signature) for signature, cones in groups.items())


def lightcone_cost(measured: MeasuredCircuit) -> int | None:
    """Pauli coefficients of all observables, the multiplications of one evaluation.

    None when light cones cannot evaluate the model: the encoding is no product of RX, RY, RZ, or
    the circuit is fed by features.
    """
    groups = cone_groups(measured)
    if groups is None:
        return None
    return sum(len(g.cones) * len(g.paulis) * g.n_coefficients for g in groups)


@functools.lru_cache(maxsize=64)
def cone_blocks(measured: MeasuredCircuit) -> tuple[Block, ...]:
    """Fused blocks, unitary or noisy: as large as pays, unless that widens the light cones."""

    circuit, observables, noise = measured.circuit, measured.observables, measured.noise

    def of_size(size: int) -> tuple[Block, ...]:
        return fuse(circuit, size) if noise is None else fuse_noisy(circuit, noise, size)

    n = circuit.n_qubits
    large = block_size(n) if noise is None else transfer_block_size(n)
    coefficients = [
        sum(4 ** len(_cone_wires(of_size(size), letters)) for letters in observables.strings)
        for size in (2, large)
    ]
    return of_size(large if coefficients[1] <= 4 * coefficients[0] else 2)


def n_components(names: str) -> int:
    return 1 + len(names)


def _coefficients(wires: frozenset[int], product: Product) -> int:
    return math.prod(n_components(product.components[wire]) for wire in wires)


def _cone_wires(blocks: Sequence[Block], letters: str) -> frozenset[int]:
    wires = {wire for wire, letter in enumerate(letters) if letter != "I"}
    for block in reversed(blocks):
        if wires & set(block.wires):
            wires |= set(block.wires)
    return frozenset(wires or {0})  # the identity is the same on any wire


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
    product: Product,
    observables: MeasurementEnsemble,
) -> tuple:
    place = {wire: position for position, wire in enumerate(cone.wires)}
    constants = ()
    if isinstance(product, NoisyProduct):
        constants = tuple(
            () if product.components[w] else tuple(product.constants[w].tolist())
            for w in cone.wires
        )
    return (
        tuple(tuple(place[w] for w in blocks[b].wires) for b in cone.blocks),
        tuple("".join(observables.strings[k][w] for w in cone.wires) for k in cone.observables),
        tuple(product.components[w] for w in cone.wires),
        constants,
    )
