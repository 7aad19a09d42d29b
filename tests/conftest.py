"""Fixtures that every test module shares."""

import gc
import importlib
import importlib.metadata
import os
from pathlib import Path

# Most of the suite's time went into compilation. What XLA does to make a program fast costs more
# than these small programs ever take, so tests do without it, processes that they start included.
# Values are those of the same operations; `QDEQ_TEST_OPTIMISED=1` runs the suite as users run qdeq.
if not os.environ.get("QDEQ_TEST_OPTIMISED"):
    _flags = ["backend_optimization_level=0", "llvm_disable_expensive_passes=true"]
    _flags += ["cpu_parallel_codegen_split_count=1"]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones refuse it
        _flags += ["cpu_use_fusion_emitters=false"]
    _given = os.environ.get("XLA_FLAGS", "").split()  # what is said last counts
    os.environ["XLA_FLAGS"] = " ".join([*(f"--xla_{flag}" for flag in _flags), *_given])

import jax
import pytest
from hypothesis import settings

# The same examples at every run: what passes before a change is merged passes after it. Others are
# looked for with `make test ARGS="--hypothesis-profile=search"`. Neither has a deadline: an example
# that compiles a program, or one on a busy machine, takes longer than any other.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("same")

# Every compiled program takes some of the 65,530 memory maps that Linux gives a process. One that
# has compiled programs for half an hour may end in a segmentation fault inside XLA.
_MANY_MAPS = 16_000

# What a command says on stderr is compared: on a busy machine it would say that it is at work, too.
importlib.import_module("qdeq.cli.main")._SECONDS_OF_SILENCE = 3600.0


@pytest.fixture
def x64():
    """Run one test in float64; the default of the suite is JAX's own, float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Forget what is compiled, after a module that leaves very many programs behind."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > _MANY_MAPS:
        jax.clear_caches()
        gc.collect()
