"""Exact ground states of disordered magnets: fields in, magnetisations out; SciPy and TeNPy only.

H = -J sum over bonds of Z_i Z_j - g sum of X_i - sum of h_i Z_i, J = 1. All entries of -H beside
the diagonal are at least 0, so that there is one ground state, and its amplitudes have one sign.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from qdeq.data.cache import cached_arrays
from qdeq.errors import UserError
from qdeq.interop._extras import check_installed

#: Sites of a chain, or rows and columns of a grid.
Shape = tuple[int, ...]

#: Standard deviation of the longitudinal fields.
DEVIATION = 0.05
#: Up to so many spins the state fits into memory as a vector, and Lanczos' method finds it.
LARGEST_VECTOR = 20

# Raise when the numbers for a seed change, so that older files are not used.
_FORMAT = 1
# On 64 spins at g = 1, 16 and 32 give mean magnetisations that differ by 1e-8.
_BOND_DIMENSION = 24
_TOLERANCE: Any = 1e-10  # of the energy; SciPy's stubs say int


def chain_bonds(n: int) -> list[tuple[int, int]]:
    """Neighbours on an open chain.

    >>> chain_bonds(3)
    [(0, 1), (1, 2)]
    """
    return [(i, i + 1) for i in range(n - 1)]


def grid_bonds(rows: int, columns: int) -> list[tuple[int, int]]:
    """Neighbours on an open grid, sites row by row.

    >>> grid_bonds(2, 2)
    [(0, 1), (0, 2), (1, 3), (2, 3)]
    """
    sites = np.arange(rows * columns).reshape(rows, columns)
    across = zip(sites[:, :-1].flat, sites[:, 1:].flat, strict=True)
    down = zip(sites[:-1].flat, sites[1:].flat, strict=True)
    return sorted((int(i), int(j)) for i, j in [*across, *down])


def shape_of(text: str) -> Shape:
    """A lattice as rows and tests name it: sites of a chain, or rows x columns of a grid.

    >>> shape_of("10"), shape_of("3x4")
    ((10,), (3, 4))
    """
    return tuple(int(part) for part in text.split("x"))


def bonds_of(shape: Shape) -> list[tuple[int, int]]:
    """Neighbours on an open chain or grid."""
    return chain_bonds(*shape) if len(shape) == 1 else grid_bonds(*shape)


def hamiltonian(fields: Float[np.ndarray, " N"], g: float, bonds: Sequence[tuple[int, int]]) -> Any:
    """H as a sparse matrix `(2^N, 2^N)`; spin 0 is the most significant bit, Z|0> = |0>."""
    return _transverse(len(fields), g) + _diagonal(_spins(len(fields)), fields, bonds)


def magnetisations(
    fields: Float[np.ndarray, "n N"], g: float, bonds: Sequence[tuple[int, int]]
) -> Float[np.ndarray, "n N"]:
    """<Z_i> of the ground state for every sample of fields, by Lanczos' method.

    Parameters
    ----------
    fields
        Longitudinal fields.
    g
        Transverse field.
    bonds
        Pairs of neighbours.
    """
    from scipy.sparse.linalg import eigsh

    n_spins = fields.shape[1]
    spins, flips = _spins(n_spins), _transverse(n_spins, g)
    fields = np.asarray(fields, float)
    start, found = np.ones(2**n_spins), np.empty_like(fields)
    for number, sample in enumerate(fields):
        matrix = flips + _diagonal(spins, sample, bonds)
        _, vector = eigsh(matrix, k=1, which="SA", v0=start, tol=_TOLERANCE)
        start = vector[:, 0]  # the next sample's state is not far away
        found[number] = spins @ start**2
    return found


def magnetisations_by_dmrg(fields: Float[np.ndarray, "n N"], g: float) -> Float[np.ndarray, "n N"]:
    """The same on long open chains, by the density-matrix renormalisation group.

    Raises
    ------
    UserError
        Where TeNPy is not installed.
    """
    check_installed("tenpy", extra="magnet", needed_for="the ground state of a long chain")
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # matrices of 24 rows: more threads only wait for each other
        return np.array([_dmrg(sample, g) for sample in fields])


def random_fields(n: int, shape: Shape, seed: int) -> Float[np.ndarray, "n ..."]:
    """Independent normal fields `(n, *shape)`; other seeds and shapes give other ones."""
    return np.random.default_rng([seed, *shape]).normal(0, DEVIATION, (n, *shape))


def reason_against(shape: Shape) -> str | None:
    """Why ground states of such a lattice cannot be computed here; None where they can."""
    n_spins = math.prod(shape)
    if n_spins <= LARGEST_VECTOR:
        return None
    try:
        check_installed("tenpy", extra="magnet", needed_for=f"the ground state of {n_spins} spins")
    except UserError as error:
        return str(error)
    return None


def samples(
    n: int, shape: Shape, g: float, seed: int
) -> tuple[Float[np.ndarray, "n ..."], Float[np.ndarray, "n ..."]]:
    """Random fields and their magnetisations, computed once and kept in the cache folder.

    Parameters
    ----------
    n
        Samples.
    shape
        Of the lattice; a grid has at most 20 sites.
    g
        Transverse field.
    seed
        See `random_fields`.

    Raises
    ------
    UserError
        For a long chain where TeNPy is not installed.
    """
    fields = random_fields(n, shape, seed)
    n_spins = math.prod(shape)

    def compute() -> dict[str, np.ndarray]:
        if n_spins > LARGEST_VECTOR:
            found = magnetisations_by_dmrg(fields, g)
        else:
            found = magnetisations(fields.reshape(n, n_spins), g, bonds_of(shape))
        return {"magnetisations": found.reshape(fields.shape)}

    size = {"n_spins": n_spins} if len(shape) == 1 else {"shape": shape}
    key = {"format": _FORMAT, "n": n, **size, "g": g, "seed": seed}
    arrays = cached_arrays("magnet", {**key, "deviation": DEVIATION}, compute)
    return fields, arrays["magnetisations"]


def _spins(n: int) -> Float[np.ndarray, "N states"]:
    """Z of every spin in every basis state."""
    states = np.arange(2**n)
    return 1.0 - 2.0 * ((states >> np.arange(n)[::-1, None]) & 1)


def _diagonal(spins: np.ndarray, fields: np.ndarray, bonds: Sequence[tuple[int, int]]) -> Any:
    from scipy.sparse import diags_array

    pairs: Int[np.ndarray, "n 2"] = np.array(bonds, int).reshape(-1, 2)
    aligned = np.sum(spins[pairs[:, 0]] * spins[pairs[:, 1]], axis=0)
    return diags_array(-aligned - fields @ spins, format="csr")


def _transverse(n: int, g: float) -> Any:
    from scipy.sparse import csr_array

    states = np.arange(2**n)
    flipped = states[:, None] ^ (1 << np.arange(n))
    rows = np.repeat(states, n)
    return csr_array((np.full(n * 2**n, -g), (rows, flipped.ravel())), shape=(2**n, 2**n))


def _dmrg(fields: np.ndarray, g: float) -> np.ndarray:
    """Magnetisations of one sample, from all spins along the mean field."""
    import tenpy  # pyright: ignore[reportMissingImports]

    lattice = tenpy.Chain(
        len(fields), tenpy.SpinHalfSite(conserve=None), bc="open", bc_MPS="finite"
    )
    coupled = tenpy.CouplingModel(lattice)
    coupled.add_coupling(-1.0, 0, "Sigmaz", 0, "Sigmaz", 1)
    coupled.add_onsite(-g, 0, "Sigmax")
    coupled.add_onsite(-fields, 0, "Sigmaz")
    start = [["up" if fields.sum() > 0 else "down"]]
    state = tenpy.MPS.from_lat_product_state(lattice, start)
    options = {
        "mixer": None,  # the state has no symmetry that a sweep would have to break
        "combine": True,
        "trunc_params": {"chi_max": _BOND_DIMENSION, "svd_min": 1e-7},
        "max_E_err": 1e-7,
        "max_S_err": 1e-3,
        "max_sweeps": 20,
    }
    model = tenpy.MPOModel(lattice, coupled.calc_H_MPO())
    _, state = tenpy.TwoSiteDMRGEngine(state, model, options).run()
    return np.real(state.expectation_value("Sigmaz"))
