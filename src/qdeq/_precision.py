"""The precision of every matrix product in the library."""

import jax

PRECISION = jax.lax.Precision.HIGHEST
"""Matrix products are exact to the dtype: accelerators default to shorter mantissas."""
