"""How the equilibrium of a chain of circuits is found, site by site: a page that moves."""

import sys
import tempfile
from pathlib import Path

import numpy as np

import qdeq


def pulses(n, seed, length=16):
    """Noise with a pulse somewhere, up in about half of the sequences, down in the others."""
    rng = np.random.default_rng(seed)
    up = rng.integers(0, 2, n)
    x = rng.normal(0, 0.2, (n, length))
    x[np.arange(n), rng.integers(0, length, n)] += np.where(up, 2.0, -2.0)
    return x, np.where(up, "up", "down")


def main(out=None):
    x, y = pulses(256, seed=0)
    classifier = qdeq.QDEQSequenceClassifier(
        n_qubits=2, epochs=20, read_out="mean", random_state=0
    ).fit(x, y)
    accuracy = classifier.score(*pulses(256, seed=1))
    print(f"accuracy: {accuracy:.3f}")
    path = Path(tempfile.mkdtemp()) / "sites.html" if out is None else Path(out)
    print(classifier.write_report(x[:8], path))
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:2])
