"""Fixtures that every test module shares."""

import gc
import importlib
from pathlib import Path

import jax
import pytest

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
