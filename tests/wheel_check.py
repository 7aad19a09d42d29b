"""Checks an installed wheel as a user meets it: `python tests/wheel_check.py` in its environment.

No compiler is on the PATH. The kernels must come from the wheel, the demo must train, and where
this machine has a compiler elsewhere, equilibria and speed must be those of kernels built here.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

AGREE = 2e-5  # two solves to 1e-5, in float32
SLOWER = 1.1  # prebuilt over built here
ROUNDS = 2

MEASURE = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):  # one core, and its seconds: what else runs does not count
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
import qdeq
from qdeq import native

key = jax.random.key(0)
found = []
for encoding in ("amplitude", "angle"):
    model = qdeq.paper_model(n_qubits=4, encoding=encoding, key=key)
    x = jax.random.normal(jax.random.key(1), (4096, model.n_features))
    # Broyden's method leaves 8 of them over, which would end wherever rounding took them.
    layer = qdeq.Equilibrium(fallback=qdeq.Homotopy())

    @jax.jit
    def solve(x):
        prepared = model.prepare()
        return jax.vmap(lambda x: layer(prepared.bind(x), jnp.zeros(4)).value)(x)

    found.append(np.asarray(solve(x)))
    best = np.inf
    for _ in range(40):
        start = time.process_time()
        solve(x).block_until_ready()
        best = min(best, time.process_time() - start)
    print(best)
print(native.availability())
np.save(sys.argv[1], np.stack(found))
"""


def run(*command, **environment):
    """What a command prints, without the project's folder on Python's path."""
    everything = {**os.environ, "PYTHONPATH": "", "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(
        command, env=everything, capture_output=True, text=True, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def measure(file, **environment):
    *seconds, told = run(sys.executable, "-c", MEASURE, str(file), **environment).splitlines()
    return [float(value) for value in seconds], told


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        bare = {"PATH": str(Path(sys.executable).parent), "QDEQ_CACHE": str(scratch / "bare")}
        _, told = measure(scratch / "bare.npy", **bare)
        print(told)
        if not told.startswith("used: prebuilt"):
            sys.exit("the wheel's kernels are not used")
        demo = ("-m", "qdeq", "train", "--preset", "demo", "--out", str(scratch / "run"))
        print(run(sys.executable, *demo, **bare))

        here = {"QDEQ_CACHE": str(scratch / "here"), "QDEQ_NATIVE": "build"}
        _, told = measure(scratch / "here.npy", **here)
        if not told.startswith("used: built"):
            print(f"no comparison with kernels built here ({told})")
            return

        import numpy as np  # the environment's own: qdeq needs it

        gap = np.abs(np.load(scratch / "bare.npy") - np.load(scratch / "here.npy")).max()
        # In turn, and the best of each: what else the machine does meets both.
        turns = [
            (measure(scratch / "b", **bare)[0], measure(scratch / "h", **here)[0])
            for _ in range(ROUNDS)
        ]
        prebuilt, built = np.min(turns, axis=0)
        ratios = prebuilt / built
        print(f"equilibria differ by {gap:.1e}; seconds of 4096 solves, amplitude and angle:")
        print(f"prebuilt {prebuilt}, built here {built}, ratio {ratios}")
        if gap > AGREE or ratios.max() > SLOWER:
            sys.exit(f"more than {AGREE} apart, or more than {SLOWER} times slower")


if __name__ == "__main__":
    main()
