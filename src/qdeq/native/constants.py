"""Numbers of the solver loops, of which there are two: in JAX, and in `cpp/`.

Both take them from here; the compiler gets them as macros named `QDEQ_<name>`. Imports nothing, so
that the build of a wheel can run this file alone.
"""

# How a solve ended.
OUT_OF_STEPS, CONVERGED, STALLED, NONFINITE = 0, 1, 2, 3

# A step that lowers the residual to this fraction is progress.
PROGRESS = 0.9

# Broyden's method: Moré and Trangenstein's sigma, the smallest |denominator| of an update relative
# to that of an exact model.
BROYDEN_FLOOR = 0.1

# The homotopy's. Chosen by the evaluations that they need, on maps of 10 qubits with angle encoding
# and random angles.
FIRST_STEP = 0.2  # along the curve
LARGEST_STEP = 1.0
SMALLEST_STEP = 1e-3  # below it the curve is left, and a new one begun where it is
NEAR = 0.05  # |h| of a point on the curve, in units of the step
CORRECTIONS = 3  # Newton steps back to the curve
CONTRACTION = 0.7  # of |h| in each of them
FARTHEST = 1.0  # a correction may move
SHRINK, GROW = 3.0, 2.0

# A linear system counts as solved where what is left over is this many machine epsilons of the
# right-hand side: the solution is then off by as many, times the system's condition. GMRES in
# float32 reaches 5 to 20 on contractive systems of 100 to 2000 numbers.
SOLVED = 50

CONSTANTS = {name: value for name, value in list(globals().items()) if name.isupper()}

# For every compiler that builds `cpp/`, at first use or for a wheel. Some take liberties with NaN
# unless they are told not to.
FLAGS = (
    *("-O2", "-fno-fast-math", "-fno-math-errno", "-std=c++17", "-fPIC", "-w"),
    *(f"-DQDEQ_{name}={value!r}" for name, value in CONSTANTS.items()),
)
