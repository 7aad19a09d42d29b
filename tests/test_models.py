"""The classifier and its gradients, through solver, regulariser and head."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qdeq
from qdeq.circuits import AmplitudeEncoding, hardware_efficient, z_of_every_wire
from qdeq.equilibrium import Broyden, Direct, Equilibrium, squared_frobenius_norm
from qdeq.errors import UserError
from qdeq.models import Classifier, QuantumModel, nearest_neighbour_reinjection, paper_model

TIGHT = Equilibrium(solver=Broyden(rtol=1e-13, atol=1e-13), max_steps=60)


def small_batch(encoding):
    """A classifier and samples at which the map contracts, so that the root is well defined."""
    classifier = Classifier(
        paper_model(encoding=encoding, key=jax.random.key(3)), 4, key=jax.random.key(4)
    )
    scale = 3.0 if encoding == "amplitude" else 1.0
    x = scale * jax.random.normal(jax.random.key(5), (3, 16))
    if encoding == "angle":  # a weaker feedback than the paper's contracts for sure
        gain = 0.2 * classifier.model.reinjection
        classifier = eqx.tree_at(lambda c: c.model.reinjection, classifier, gain)
    return classifier, x, jnp.array([0, 1, 3])


def training_loss(classifier, x, y, layer=TIGHT):
    """Cross-entropy through head and solver, plus the Jacobian penalty at the equilibrium."""

    def sample(x, y):
        prediction = classifier(x, layer)
        m = prediction.solution.value
        penalty = squared_frobenius_norm(classifier.model.prepare().bind(x), m)
        loss = optax.softmax_cross_entropy_with_integer_labels(prediction.logits, y)
        return loss + 0.8 * penalty / 4, prediction.solution.stats.residual

    losses, residuals = jax.vmap(sample)(x, y)
    return jnp.mean(losses), residuals


@pytest.mark.parametrize("encoding", ["amplitude", pytest.param("angle", marks=pytest.mark.slow)])
def test_implicit_gradients_equal_central_differences(x64, encoding):
    classifier, x, y = small_batch(encoding)
    value_and_grad = eqx.filter_jit(eqx.filter_value_and_grad(training_loss, has_aux=True))
    (_, residuals), gradient = value_and_grad(classifier, x, y)
    assert residuals.max() < 1e-12
    value = eqx.filter_jit(lambda c: training_loss(c, x, y)[0])
    dynamic, static = eqx.partition(classifier, eqx.is_inexact_array)
    for seed in range(3):
        keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(dynamic)))
        direction = jax.tree.unflatten(
            jax.tree.structure(dynamic),
            [
                jax.random.normal(k, a.shape)
                for k, a in zip(keys, jax.tree.leaves(dynamic), strict=True)
            ],
        )
        direction = eqx.tree_at(  # R is fixed: it has no gradient by design
            lambda d: d.model.reinjection, direction, replace_fn=jnp.zeros_like
        )
        exact = optax.tree.vdot(eqx.filter(gradient, eqx.is_array), direction)
        step = 1e-5  # truncation 1e-10, rounding 1e-11: both far below the bound
        ahead, behind = (
            value(eqx.combine(optax.tree.add_scale(dynamic, sign * step, direction), static))
            for sign in (1, -1)
        )
        np.testing.assert_allclose(exact, (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_the_solution_brings_the_jacobian_at_a_fixed_equilibrium(x64, encoding):
    classifier, x, _ = small_batch(encoding)

    def loss(theta, x, brought):
        model = eqx.tree_at(lambda model: model.theta, classifier.model, theta)
        f = model.prepare().bind(x)
        solution = TIGHT(f, jnp.zeros(4))
        m = jax.lax.stop_gradient(solution.value)
        penalty = jnp.sum(solution.jacobian**2) if brought else squared_frobenius_norm(f, m)
        return jnp.sum(jnp.sin(solution.value)) + penalty, (solution.jacobian, m)

    slope = jax.jit(jax.grad(loss, has_aux=True), static_argnums=2)
    theta = classifier.model.theta
    gradient, (jacobian, m) = slope(theta, x[0], True)
    statevector = dataclasses.replace(classifier.model, method="statevector")
    oracle = jax.jacfwd(lambda m: statevector(m, x[0]))(m)
    np.testing.assert_allclose(jacobian, oracle, rtol=1e-9, atol=1e-11)
    # Its derivative is that at a fixed m, as in the penalty that is worked out from f.
    np.testing.assert_allclose(gradient, slope(theta, x[0], False)[0], rtol=1e-9, atol=1e-11)
    assert TIGHT(lambda m: 0.5 * m, jnp.ones(4)).jacobian is None  # an f that brings none


def test_a_sample_does_not_depend_on_its_batch_mates(x64):
    classifier, x, _ = small_batch("amplitude")
    many = jnp.concatenate([x, 3 * jax.random.normal(jax.random.key(9), (253, 16))])
    layer = Equilibrium(solver=Broyden(rtol=1e-8, atol=1e-8))
    predict = eqx.filter_jit(lambda xs: jax.vmap(lambda x: classifier(x, layer))(xs))
    together, alone = predict(many), predict(x[1:2])
    order = jax.random.permutation(jax.random.key(1), 256)
    shuffled = predict(many[order])
    # Batched products round differently from single ones, by a few units in the last place.
    np.testing.assert_allclose(together.logits[1], alone.logits[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(together.logits[order], shuffled.logits, rtol=0, atol=1e-13)
    steps = together.solution.stats.steps
    assert steps[1] == alone.solution.stats.steps[0]
    np.testing.assert_array_equal(steps[order], shuffled.solution.stats.steps)
    assert len(np.unique(steps)) > 1  # samples did stop at different times


def test_dropout_acts_in_training_only_and_follows_its_key():
    classifier, x, _ = small_batch("amplitude")
    classifier = Classifier(classifier.model, 4, dropout=0.5, key=jax.random.key(2))
    predict = eqx.filter_jit(lambda key: classifier(x[0], Direct(layers=1), key=key).logits)
    a, b = predict(jax.random.key(0)), predict(jax.random.key(1))
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(a, predict(jax.random.key(0)))
    np.testing.assert_array_equal(predict(None), predict(None))


def test_dropout_keeps_the_expected_share_and_its_expectation():
    classifier, *_ = small_batch("amplitude")
    keep = classifier.keep_mask(jax.random.key(3), (200, 50))
    assert keep.shape == (200, 50, 16) and keep.dtype == bool
    # 160,000 draws with probability 0.05: a deviation of 0.003 is five standard errors.
    assert abs(float(keep.mean()) - 0.95) < 0.003
    m = jnp.array([0.5, 0.2, 0.1, 0.9])
    logits = jax.vmap(lambda keep: classifier.read_out(m, keep=keep))(keep.reshape(-1, 16))
    np.testing.assert_allclose(logits.mean(axis=0), classifier.read_out(m), atol=0.01)


def test_dropout_of_an_odd_number_of_features():
    circuit = hardware_efficient(3, 1)
    model = QuantumModel(
        jnp.zeros(circuit.n_parameters),
        circuit,
        encoding=AmplitudeEncoding(3, 7),
        observables=z_of_every_wire(3),
    )
    keep = Classifier(model, 2, dropout=0.5, key=jax.random.key(0)).keep_mask(
        jax.random.key(1), (3000,)
    )
    assert keep.shape == (3000, 7)
    # Elements that share random bits are as independent as any: five standard errors of 0.02.
    correlations = np.corrcoef(np.asarray(keep, float), rowvar=False) - np.eye(7)
    assert np.abs(correlations).max() < 0.1


def test_the_head_reads_the_upsampled_state():
    classifier, *_ = small_batch("amplitude")
    m = jnp.array([0.5, -0.2, 0.1, 0.9])
    z = np.maximum(np.repeat(m, 4), 0)
    expected = classifier.head.weight @ z + classifier.head.bias
    np.testing.assert_allclose(classifier.read_out(m), expected, rtol=1e-6)


@pytest.mark.parametrize(("d", "q"), [(16, 4), (100, 10), (10, 4), (3, 5)])
def test_nearest_neighbour_reinjection_repeats_values(d, q):
    reinjection = nearest_neighbour_reinjection(d, q)
    np.testing.assert_array_equal(reinjection.sum(axis=1), 1)
    if d % q == 0:
        np.testing.assert_array_equal(reinjection, np.kron(np.eye(q), np.ones((d // q, 1))))


def test_angle_encoding_says_how_many_features_it_reads():
    with pytest.raises(UserError, match="n_features=16: angle encoding on 5 qubits reads 25"):
        paper_model(5, "angle", key=jax.random.key(0), n_features=16)


class Gated(qdeq.ModelFunction):
    """Something classical around the paper's circuit; only what the class asks for."""

    inner: qdeq.QuantumModel
    inject: jax.Array
    gain: jax.Array

    @property
    def n_features(self):
        return self.inject.shape[1]

    @property
    def n_observables(self):
        return self.inner.n_observables

    def __call__(self, m, x):
        return jnp.tanh(self.gain) * self.inner(m, self.inject @ x)


def gated():
    keys = jax.random.split(jax.random.key(5), 2)
    inject = jax.random.normal(keys[1], (16, 3))
    return Gated(qdeq.paper_model(key=keys[0]), inject, jnp.ones(4) / 2)


def test_a_model_of_ones_own_classifies_and_its_arrays_are_differentiated(x64):
    model = gated()
    classifier = qdeq.Classifier(model, 2, key=jax.random.key(6))
    layer = qdeq.Equilibrium(qdeq.Broyden(rtol=1e-12, atol=1e-12), max_steps=60)
    x = jnp.array([0.3, -1.0, 0.7])

    def loss(gain):
        changed = eqx.tree_at(lambda c: c.model.gain, classifier, gain)
        return jax.nn.logsumexp(changed(x, layer).logits)

    loss = eqx.filter_jit(loss)
    slope = jax.grad(loss)(model.gain)
    assert classifier.head.weight.shape == (2, 4)  # the head reads the state itself
    assert model.n_parameters == 39 + 64 + 48 + 4  # the inner model's fixed R is an array too
    step = 1e-6 * jnp.eye(4)
    numbers = [(loss(model.gain + e) - loss(model.gain - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(slope, numbers, atol=1e-8)  # central differences: 1e-12 / 1e-6


def test_what_is_no_model_function_is_refused_by_what_it_lacks():
    with pytest.raises(UserError, match=r"model=Linear has no n_features, n_observables, prepare"):
        qdeq.Classifier(eqx.nn.Linear(2, 2, key=jax.random.key(0)), 2, key=jax.random.key(1))
    with pytest.raises(UserError, match="model=Gated is a class: give an object of it"):
        qdeq.Classifier(Gated, 2, key=jax.random.key(1))


def test_a_model_that_cannot_be_sampled_says_what_is_missing():
    with pytest.raises(UserError, match=r"Gated cannot be measured with shots: give it a method"):
        gated().sample(jnp.zeros(4), jnp.zeros(3), key=jax.random.key(0), shots=10)
