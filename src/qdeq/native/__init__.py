"""Compiled kernels for the solver loop on CPUs, built from `kernels.cpp` on first use.

Everything works without them, slower: JAX compiles the same loop for any device.
"""

from qdeq.native.broyden import SolverRun as SolverRun
from qdeq.native.broyden import broyden as broyden
from qdeq.native.library import availability as availability
from qdeq.native.library import is_available as is_available
