"""Fixtures that every test module shares."""

import jax
import pytest


@pytest.fixture
def x64():
    """Run one test in float64; the default of the suite is JAX's own, float32."""
    with jax.enable_x64(True):
        yield
