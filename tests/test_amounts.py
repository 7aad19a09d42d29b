"""A number that is none, or out of its range, is one line that names it, wherever one is taken."""

import math

import jax
import numpy as np
import pytest

import qdeq
from qdeq.circuits import AmplitudeEncoding, hardware_efficient, paper_angle_encoding
from qdeq.devices import DeviceRecipe
from qdeq.devices.timing import DeviceTiming
from qdeq.equilibrium.networks import Chain
from qdeq.models import Injection

KEY = jax.random.key(0)
TIMES = dict.fromkeys(("one_qubit_gate", "two_qubit_gate", "readout", "reset", "submission"), 1.0)
SOLVERS = ("Anderson", "Broyden", "Homotopy", "KrasnoselskiiMann", "Newton", "Picard")


def takes():
    """What makes an object of one number, by what it is called there."""
    yield from (
        ("DeviceTiming", name, lambda v, n=name: DeviceTiming(**TIMES | {n: v})) for name in TIMES
    )
    for solver in SOLVERS:
        for name in ("rtol", "atol") + ("ridge", "mixing") * (solver == "Anderson"):
            yield solver, name, lambda v, s=solver, n=name: getattr(qdeq, s)(**{n: v})
    for name in ("scale", "gain", "bound"):
        yield "Injection", name, lambda v, n=name: Injection.random(2, 2, 2, key=KEY, **{n: v})
    yield "Injection", "floor", lambda v: Injection(np.eye(2), floor=v)
    yield "AmplitudeEncoding", "n_features", lambda v: AmplitudeEncoding(3, v)
    yield "paper_angle_encoding", "n_qubits", paper_angle_encoding
    yield "paper_model", "n_qubits", lambda v: qdeq.paper_model(n_qubits=v, key=KEY)
    yield "Circuit.draw", "max_width", lambda v: hardware_efficient(2, 1).draw(max_width=v)
    yield "Chain.draw", "max_width", lambda v: Chain(3).draw(max_width=v)
    yield "DeviceRecipe", "tolerance", lambda v: DeviceRecipe(tolerance=v)
    yield "GeometricShots", "growth", lambda v: qdeq.equilibrium.GeometricShots(10, 100, growth=v)


@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")  # Equinox, on the way
@pytest.mark.parametrize("wrong", ["1", [1], 1j, math.nan, math.inf, -1, {}, np.ones(2), True])
@pytest.mark.parametrize(("where", "name", "make"), list(takes()))
def test_a_number_that_is_none_is_one_line_that_names_it(where, name, make, wrong):
    with pytest.raises(qdeq.UserError, match=f"{name}=") as caught:
        make(wrong)
    assert "\n" not in str(caught.value), where
