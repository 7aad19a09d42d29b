"""Entries of an array and products of them, gathered in one go."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def products_of_entries(indices: Sequence[tuple[int, ...]], entries: jax.Array) -> jax.Array:
    """For each tuple of indices the product of those entries; of one index, the entry as it is.

    Parameters
    ----------
    indices
        At least one tuple; for an empty one any number comes out.
    entries
        `(n,)`, at least one.

    Returns
    -------
    Array
        `(len(indices),)`.
    """
    products = entries[np.array([some[0] if some else 0 for some in indices])]
    for position in range(1, max(map(len, indices))):
        # Tuples that have no more indices are multiplied by the 1 at the end.
        padded = jnp.append(entries, jnp.ones((), entries.dtype))
        further = [some[position] if position < len(some) else -1 for some in indices]
        products = products * padded[np.array(further)]
    return products
