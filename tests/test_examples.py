"""Every short example runs as it stands, and learns what it is there to learn."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
#: Least test accuracy: logistic regression has 0.95 on these pixels, a guess 0.25.
ACCURACY = {"in_equinox": 0.85, "in_flax": 0.85, "nothing_quantum": 0.85}
NEEDS = {"in_flax": "flax"}


def test_examples_are_short():
    for name in ACCURACY:
        assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Flax
@pytest.mark.parametrize("name", ACCURACY)
def test_an_example_runs_and_learns(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main() > ACCURACY[name]
