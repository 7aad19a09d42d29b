"""Compiled kernels for the solver loop on CPUs, built from `cpp/` on first use.

Everything works without them, slower: JAX compiles the same loop for any device.
"""

from qdeq.native.broyden import SolverRun as SolverRun
from qdeq.native.broyden import broyden as broyden
from qdeq.native.chain import LARGEST_BLOCK as LARGEST_BLOCK
from qdeq.native.chain import solve_chain as solve_chain
from qdeq.native.dense import invert as invert
from qdeq.native.evaluate import Kernel as Kernel
from qdeq.native.evaluate import evaluate as evaluate
from qdeq.native.evaluate import linearise as linearise
from qdeq.native.library import availability as availability
from qdeq.native.library import serves as serves
