"""What a network of circuits knows of its derivative: its cells' enclosures at every site."""

from typing import Any

import jax
import numpy as np

from qdeq.equilibrium.enclosures import Region
from qdeq.equilibrium.networks.cells import Cells, cells_of
from qdeq.equilibrium.networks.certificates import Slopes, WiredEncloser
from qdeq.errors import UserError
from qdeq.models.cells import circuit_of
from qdeq.models.certificates import Inputs, check_finite, circuit_encloser, double
from qdeq.models.gains import excess

_ENDLESS = 1e9  # periods on both sides: no angle is further from any other by what it turns


def network_encloser(network: Any, region: Region) -> WiredEncloser:
    """`Network.encloser`.

    Raises
    ------
    UserError
        For a cell that is no circuit.
    """
    check_finite((network.cell, network.injection))
    circuits = [circuit_of(cell) for cell in cells_of(network.cell)]
    for cell, circuit in zip(cells_of(network.cell), circuits, strict=True):
        if circuit is None:
            raise UserError(
                f"cell={type(cell).__name__}: nothing is known of its derivative; certify networks "
                "whose cells are circuits (QuantumModel)"
            )
    with jax.enable_x64(True):
        features, messages, offset = map(np.asarray, double(network.injection).weights())
    n, b = network.wiring.n_sites, len(region)
    d, (_, a, q) = features.shape[1], messages.shape
    spread = region.half_width + region.radius[:, None]
    width = np.zeros((b, n, a))
    if d:
        with np.errstate(invalid="ignore"):  # 0 times infinity is 0 here
            products = abs(features) * spread.reshape(b, n, 1, d)
        width = np.nansum(products, axis=3)  # NaN of 0 times infinity is 0
    kinds = np.array(network.cell.kinds) if isinstance(network.cell, Cells) else np.zeros(n, int)

    def cells(low: np.ndarray, high: np.ndarray) -> Slopes:
        found = Slopes(
            np.zeros((b, n, q)), np.zeros((b, n, q)), np.zeros((b, n, q, a)), np.zeros((b, n))
        )
        for kind, circuit in enumerate(circuits):
            sites = np.flatnonzero(kinds == kind)
            if not len(sites):
                continue
            rows = low[:, sites].reshape(-1, a), high[:, sites].reshape(-1, a)
            # An endless box: what is known then is what holds for all inputs.
            ends = np.maximum(rows[0], -_ENDLESS), np.minimum(rows[1], _ENDLESS)
            inputs = Inputs.known(np.zeros_like(ends[0]))
            enclosure = circuit_encloser(circuit, np.eye(a), inputs)(*ends)
            shape = (b, len(sites))
            found.low[:, sites] = enclosure.low.reshape(*shape, q)
            found.high[:, sites] = enclosure.high.reshape(*shape, q)
            found.sizes[:, sites] = enclosure.sizes.reshape(*shape, q, a)
            found.two_norm[:, sites] = enclosure.two_norm.reshape(shape)
        return found

    above = max(excess(circuit.measured) for circuit in circuits if circuit is not None)
    box = np.full((b, n * q), max(1.0, above))
    x = region.centre.reshape(b, n, d)
    return WiredEncloser(cells, messages, network.wiring, offset + x @ features.T, width, -box, box)
