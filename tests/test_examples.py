"""Every short example runs as it stands, and learns what it is there to learn."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

EXAMPLES = Path(__file__).parents[1] / "examples"
#: Least test accuracy: logistic regression has 0.95 on these pixels, a guess 0.25.
ACCURACY = {"in_equinox": 0.85, "in_flax": 0.85, "nothing_quantum": 0.85}
ACCURACY["in_a_pipeline"] = 0.88  # of two moons; a straight line between them has 0.88
ACCURACY["sites_of_a_network"] = 0.75  # of two classes
NEEDS = {"in_flax": "flax"}
OTHERS = ["branches", "own_circuit_under_noise"]


def run(name, *arguments):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(*arguments)


def test_examples_are_short():
    for name in [*ACCURACY, *OTHERS]:
        assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Flax
@pytest.mark.parametrize("name", ACCURACY)
def test_an_example_runs_and_learns(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    assert run(name) > ACCURACY[name]


@pytest.mark.slow
def test_the_loop_of_the_branches_has_the_area_between_their_folds(tmp_path):
    found = run("branches", tmp_path / "branches.png")
    assert (tmp_path / "branches.png").stat().st_size > 10_000

    def field(z):  # at which z is an equilibrium; it turns where z^2 = 1 - 1 / gain
        return np.arctanh(z) - 2 * z

    fold = np.sqrt(0.5)
    end = brentq(lambda z: field(z) + field(fold), fold, 1 - 1e-9)
    half = quad(lambda z: z * (1 / (1 - z**2) - 2), fold, end)[0]
    # By symmetry twice the upper branch. The grid of fields may miss each fold by a step of 0.025,
    # where the branches are 1.5 to 1.7 apart.
    assert abs(found - 2 * half) < 2 * 0.025 * 1.7


@pytest.mark.slow
def test_noise_shrinks_expectation_values():
    assert 0.3 < run("own_circuit_under_noise") < 0.95
