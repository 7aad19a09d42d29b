"""No Jacobian of a network exceeds its certificate, and what follows along its wiring holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.equilibrium.certificates import Bound, Region, certify
from qdeq.equilibrium.networks import Alone, Chain, EdgeInjection, Graph, Grid
from qdeq.equilibrium.networks.certificates import gathered, spread_norm
from qdeq.models.gains import gain_of_inputs
from qdeq.runs.certify import norms_in

SLOW = pytest.mark.slow
LAYER = qdeq.hardware_efficient(2, 1)
ANGLES = qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RX", 1, 1), ("RZ", 1, 2)])
AMPLITUDES = qdeq.AmplitudeEncoding(2, 3)
WIRINGS = {
    "apart": Alone(3),
    "causal": Chain(4),
    "both ways": Chain(3, "both"),
    "ring": Chain(4, "both", ring=True),
    "grid": Grid(2, 2),
    "graph": Graph(3, [(0, 1), (1, 2), (2, 0), (0, 2)]),
}


def cell(encoding, seed):
    theta = np.random.default_rng(seed).uniform(-3, 3, LAYER.n_parameters)
    return qdeq.QuantumModel(theta, LAYER, encoding=encoding, observables=qdeq.z_strings(2, 2))


def network(wiring, encoding=ANGLES, gain=0.3, **options):
    cells = qdeq.Cells([cell(encoding, 1), cell(encoding, 2)], np.arange(wiring.n_sites) % 2)
    injection = EdgeInjection.random(wiring, 3, 2, 3, key=jax.random.key(1), gain=gain, **options)
    return qdeq.Network(cells, injection, wiring)


@pytest.mark.parametrize("encoding", [ANGLES, pytest.param(AMPLITUDES, marks=SLOW)])
@pytest.mark.parametrize(
    "name", [n if n == "both ways" else pytest.param(n, marks=SLOW) for n in WIRINGS]
)
def test_no_jacobian_of_a_network_exceeds_its_certificate(name, encoding, x64):
    model = network(WIRINGS[name], encoding)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, model.n_features)) * (1 if encoding is ANGLES else 4)
    form = model.prepare()

    @jax.jit
    @jax.vmap
    def linearised(z, x):
        f = form.bind(x)
        return f(z), jax.jacfwd(f)(z)

    size = 0.05
    region = Region.box(x[0] - size, x[0] + size)
    for found, inputs in (
        (certify(model, x), lambda i: np.repeat(x[i : i + 1], 100, axis=0)),
        (certify(model, region), lambda _: x[0] + rng.uniform(-size, size, (100, x.shape[1]))),
    ):
        for i in range(len(found.factor)):
            boxes = (
                (found.outer, found.low[i], found.high[i]),
                (found.inner, found.inner_low[i], found.inner_high[i]),
            )
            for bound, low, high in boxes:
                states = rng.uniform(low, high, (100, len(low)))
                values, jacobians = map(
                    np.asarray, linearised(jnp.asarray(states), jnp.asarray(inputs(i)))
                )
                many = Bound(np.zeros(100), np.repeat(bound.weights[i : i + 1], 100, axis=0))
                largest = norms_in(many, jacobians).max()
                assert largest <= bound.factor[i]
                if np.isfinite(bound.factor[i]):
                    assert np.all(values >= low - 1e-12) and np.all(values <= high + 1e-12)
            if name != "causal" and encoding is ANGLES:  # there the largest is near 0
                assert found.inner.factor[i] <= 1.3 * largest


@pytest.mark.slow
def test_a_causal_network_has_one_equilibrium_whatever_its_gains():
    model = network(Chain(4), gain=30.0)
    x = np.random.default_rng(0).normal(size=8)
    found = certify(model, x, rounds=1)
    assert found.depth == 4
    assert found.is_unique[0] and found.exists[0] and found.steps(1e-9)[0] == 4
    starts = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, 12)))
    f = jax.jit(jax.vmap(model.prepare().bind(jnp.asarray(x))))
    applied = functools.reduce(lambda z, _: f(z), range(4), starts)
    assert np.array_equal(applied[0], applied[1])


@pytest.mark.parametrize("name", WIRINGS)
def test_gathering_has_no_larger_norm_than_is_said(name):
    wiring = WIRINGS[name]
    n = wiring.n_sites
    matrix = gathered(wiring, np.eye(n)[:, :, None])[..., 0].reshape(n, -1).T
    norm = np.linalg.norm(matrix, 2)
    assert norm <= spread_norm(wiring) + 1e-12
    assert spread_norm(wiring) <= 1.3 * norm  # 1 to 1.24


def test_a_network_with_a_largest_gain_is_certified_for_all_inputs():
    wiring = WIRINGS["ring"]
    circuit = cell(ANGLES, 1).measured
    most = 0.8 / gain_of_inputs(circuit) / spread_norm(wiring)
    model = network(wiring, gain=10.0, max_gain=most)
    found = certify(model, Region.everywhere(model.n_features), rounds=0)
    assert 0.4 <= found.factor[0] <= 0.8 * (1 + 1e-6)  # max_gain is met to float32


def test_a_cell_that_is_no_circuit_is_one_line():
    wiring = Chain(3)
    model = qdeq.Network(lambda v, x: jnp.tanh(v), EdgeInjection([[1.0]], [[0.5]]), wiring)
    with pytest.raises(qdeq.UserError, match="whose cells are circuits"):
        certify(model, np.zeros(3))
