"""Wherever one sample's state or features enter, another length is refused before any kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.circuits import MeasuredCircuit
from qdeq.equilibrium import (
    Anderson,
    Direct,
    Equilibrium,
    KrasnoselskiiMann,
    Picard,
    RandomSteps,
    Shine,
    noise_floor,
)
from qdeq.models import Injection, QuantumModel

KEY = jax.random.key(0)
THETA = jax.random.normal(KEY, (24,))


def model(encoding="amplitude", **options):
    measured = MeasuredCircuit(
        qdeq.hardware_efficient(2, 1),
        qdeq.AmplitudeEncoding(2, 3)
        if encoding == "amplitude"
        else qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1), ("RZ", 1, 2)]),
        qdeq.z_strings(2, 2),
        noise=options.pop("noise", None),
    )
    return QuantumModel(THETA[: measured.n_parameters], measured=measured, **options)


MODELS = {
    "forms": lambda: model(method="quadratic"),
    "columns": lambda: qdeq.paper_model(6, key=KEY, n_features=40),
    "light cones": lambda: model("angle"),
    "statevector": lambda: model(method="statevector"),
    "density matrix": lambda: model(
        method="density-matrix", noise=qdeq.parse_noise("depolarising=0.1")
    ),
    "injected": lambda: model("angle", injection=Injection.random(3, 3, 3, key=KEY)),
}


@pytest.mark.parametrize("name", MODELS)
def test_another_length_is_refused_wherever_it_enters(name):
    f = MODELS[name]()
    d, q = f.n_features, f.n_observables
    x, m = jnp.linspace(0.1, 0.5, d), jnp.full(q, 0.1)
    bound = f.prepare().bind(x)
    wanted = f(m, x)
    np.testing.assert_allclose(f(list(m), np.asarray(x)), wanted, rtol=1e-6)
    for n in (1, q - 1, q + 1, 50):
        wrong = jnp.zeros(n)
        for enter in (
            lambda wrong=wrong: bound(wrong),
            lambda wrong=wrong: f(wrong, x),
            lambda wrong=wrong: qdeq.Equilibrium()(bound, wrong),
            lambda wrong=wrong: qdeq.QuantumEquilibrium(f, start=wrong)(x),
            lambda wrong=wrong: jax.jacfwd(bound)(wrong),
        ):
            with pytest.raises(qdeq.UserError, match=rf"has the shape \({n},\): give \({q},\)"):
                enter()
    for wrong in (jnp.ones(d - 1), jnp.ones((8, d)), jnp.float32(1.0)):
        for enter in (
            lambda wrong=wrong: f(m, wrong),
            lambda wrong=wrong: qdeq.QuantumEquilibrium(f)(wrong),
        ):
            with pytest.raises(qdeq.UserError, match=rf"x has the shape .*: give \({d},\), one"):
                enter()
    with pytest.raises(qdeq.UserError, match=r"x: .*give .* real numbers"):
        f(m, ["a"] * d)


def test_whole_numbers_and_lists_are_numbers():
    f = model()
    wanted = f(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))
    for x in ([1, 2, 3], np.array([1, 2, 3]), jnp.array([1, 2, 3])):
        np.testing.assert_allclose(f([0, 0, 0], x), wanted, rtol=1e-6)


def test_a_layer_that_applies_keeps_to_its_budget_wherever_it_is_given_one():
    f, x = model(), jnp.ones(3)
    direct = qdeq.QuantumEquilibrium(f, Direct(5))
    assert int(direct.solve(x, budget=2).stats.steps) == 2
    np.testing.assert_allclose(
        direct.solve(x, budget=2).value, qdeq.QuantumEquilibrium(f, Direct(2))(x)
    )
    classifier = qdeq.Classifier(f, 2, key=KEY)
    assert int(classifier(x, Direct(5), budget=2).solution.stats.steps) == 2


def test_a_key_without_shots_is_not_ignored():
    f, x = model(), jnp.ones(3)
    with pytest.raises(qdeq.UserError, match="key without shots"):
        qdeq.QuantumEquilibrium(f).solve(x, key=KEY)
    with pytest.raises(qdeq.UserError, match="shots_key without shots"):
        qdeq.Classifier(f, 2, key=KEY)(x, Equilibrium(), shots_key=KEY)


@pytest.mark.parametrize("dropout", [1.0, 1.5, -0.1, "0.1", np.nan])
def test_dropout_is_a_probability(dropout):
    with pytest.raises(qdeq.UserError, match=r"dropout=.*: give a number in \[0, 1\)"):
        qdeq.Classifier(model(), 2, dropout=dropout, key=KEY)


@pytest.mark.parametrize("n", [0, -1, 2.5, "2", True])
def test_sizes_are_whole_numbers(n):
    with pytest.raises(qdeq.UserError, match="n_classes="):
        qdeq.Classifier(model(), n, key=KEY)
    for make in (qdeq.hardware_efficient, qdeq.AmplitudeEncoding):
        with pytest.raises(qdeq.UserError, match="n_qubits="):
            make(n, 1)


class Plain:
    """No pytree: JAX sees none of its numbers."""

    def __init__(self, w):
        self.w = w

    def __call__(self, z):
        return jnp.tanh(self.w * z + 0.3)

    def jacobian(self, z):
        return jax.jacfwd(self.__call__)(z)


def test_numbers_of_an_object_with_a_jacobian_that_is_no_pytree_are_seen():
    def value(w):
        return Equilibrium()(Plain(w), jnp.zeros(2)).value.sum()

    def closed(w):
        return Equilibrium()(lambda z: Plain(w)(z), jnp.zeros(2)).value.sum()

    np.testing.assert_allclose(jax.grad(value)(0.3), jax.grad(closed)(0.3), rtol=1e-5)
    f = Plain(0.3)
    Equilibrium()(f, jnp.zeros(2))
    f.w = -0.9
    np.testing.assert_allclose(Equilibrium()(f, jnp.zeros(2)).value.sum(), closed(-0.9), rtol=1e-5)


@pytest.mark.parametrize("value", [-1, -1.0, np.float32(-1), np.int64(-1), np.nan, "0.5"])
@pytest.mark.parametrize(
    "option",
    [
        lambda value: Picard(damping=value),
        lambda value: Anderson(ridge=value),
        lambda value: Anderson(mixing=value),
        lambda value: KrasnoselskiiMann(step_size=value),
        lambda value: Shine(max_gain=value),
        lambda value: RandomSteps(3, value),
    ],
)
def test_numbers_out_of_range_are_refused_in_every_type(option, value):
    with pytest.raises(qdeq.UserError, match="give"):
        option(value)


def test_no_shots_have_no_floor():
    with pytest.raises(qdeq.UserError, match="shots="):
        noise_floor(np.int64(0), 4)
