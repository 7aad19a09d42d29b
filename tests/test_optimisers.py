"""Optimisers by name and as objects, weight decay and schedules, against Optax and formulas."""

from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from small_models import direct_config, squash

import qdeq
from qdeq.data import from_arrays
from qdeq.names import Optimiser
from qdeq.training import Trainer
from qdeq.training.config import TrainConfig
from qdeq.training.epoch import Recipe
from qdeq.training.values import Values

RNG = np.random.default_rng(2)
X = RNG.normal(size=(30, 4))
DATA = from_arrays(X, X[:, 0] - X[:, 1] ** 2, task="regression", split_seed=3)
NAMES = get_args(Optimiser)
FEW = ("adafactor", "adan", "lars", "sm3", "rprop")  # states unlike Adam's
PARAMETERS = {"matrix": jnp.ones((3, 2)), "vector": jnp.array([0.5, -2.0])}
GRADIENTS = [
    jax.tree.map(lambda p, k=k: jnp.cos(jnp.arange(p.size) + k).reshape(p.shape), PARAMETERS)
    for k in range(3)
]


def steps_of(make):
    """Parameters after three steps of an optimiser, as a program."""

    def steps(learning_rate):
        optimiser = make(learning_rate)
        parameters, state = PARAMETERS, optimiser.init(PARAMETERS)
        for gradient in GRADIENTS:
            updates, state = optimiser.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        return parameters

    return steps


@pytest.mark.parametrize(
    "names", [("adam", "adafactor"), pytest.param(NAMES, marks=pytest.mark.slow)]
)
def test_a_name_is_optaxs_optimiser_on_clipped_gradients(names):
    config = TrainConfig(gradient_clip=0.7)

    def ours(learning_rate):
        values = eqx.tree_at(lambda v: v.learning_rate, Values.of(config, 1), learning_rate)
        return {name: steps_of(lambda _, n=name: values.optimiser(n))(0.0) for name in names}

    def optaxs(learning_rate):
        clip = optax.clip_by_global_norm(0.7)
        return {
            name: steps_of(lambda rate, n=name: optax.chain(clip, getattr(optax, n)(rate)))(
                learning_rate
            )
            for name in names
        }

    # One program for all: compiled once.
    found, expected = jax.jit(lambda rate: (ours(rate), optaxs(rate)))(0.03)
    for name in names:
        for part in PARAMETERS:
            np.testing.assert_allclose(
                found[name][part], expected[name][part], rtol=1e-6, err_msg=name
            )
        assert not np.allclose(found[name]["vector"], PARAMETERS["vector"]), name


@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_an_epoch_of_every_optimiser_keeps_the_form_of_its_state(name):
    config = direct_config(optimiser=name, schedule="cosine", weight_decay=0.1, batch_size=8)
    trainer = Trainer(config, DATA, model=squash)
    state = trainer.init()
    recipe, train = trainer.recipe(), DATA.train
    after, metrics = eqx.filter_eval_shape(
        recipe.train, state, jnp.array(train.x), jnp.array(train.y), None, trainer.values
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        if eqx.is_array(old):
            assert (new.shape, new.dtype) == (old.shape, old.dtype)
    assert metrics.loss.shape == (3,)


@pytest.mark.slow  # compiles a program for each
@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_trains(name):
    trainer = Trainer(direct_config(optimiser=name, batch_size=8), DATA, model=squash)
    state, metrics = trainer.run_epoch(trainer.init())
    assert np.isfinite([metrics["train_loss"], metrics["valid_loss"]]).all()
    before = trainer.init().classifier.model.mix
    assert not np.array_equal(state.classifier.model.mix, before)


def leaves(predictor):
    return {
        "weight": predictor.model.weight,
        "mix": predictor.model.mix,
        "head": predictor.head.weight,
        "bias": predictor.head.bias,
    }


def run(config, epochs=2):
    """The parameters after some epochs of one batch, and before."""
    trainer = Trainer(config.replace(epochs=epochs), DATA, model=squash)
    states = [trainer.init()]
    for _ in range(epochs):
        states.append(trainer.run_epoch(states[-1])[0])
    return [leaves(state.classifier) for state in states]


@jax.jit
def gradient_at(parameters):
    """Of the mean loss of the training samples, by JAX and without the library's loop."""

    def loss(p):
        m = jnp.zeros((len(DATA.train), 3))
        for _ in range(2):
            m = jnp.tanh(p["weight"] * m + DATA.train.x @ p["mix"].T)
        return jnp.mean((m @ p["head"].T + p["bias"] - DATA.train.y) ** 2) / 2

    return jax.grad(loss)(parameters)


@pytest.mark.slow
def test_a_run_is_what_optax_does_by_hand_with_decay_of_matrices_alone():
    config = direct_config(learning_rate=0.03, weight_decay=0.5)
    found = run(config)
    mask = jax.tree.map(lambda p: p.ndim > 1, found[0])
    by_hand = optax.adamw(0.03, weight_decay=0.5, mask=mask)
    update = jax.jit(by_hand.update)
    parameters, state = found[0], by_hand.init(found[0])
    for after in found[1:]:
        updates, state = update(gradient_at(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        for name, value in after.items():
            np.testing.assert_allclose(value, parameters[name], atol=1e-5, err_msg=name)
    without = run(config.replace(weight_decay=0.0), epochs=1)[1]
    for name, value in found[1].items():
        shrunk = 0.03 * 0.5 * found[0][name] if value.ndim > 1 else 0.0
        np.testing.assert_allclose(without[name] - value, shrunk, atol=1e-6, err_msg=name)


def test_an_object_is_taken_as_it_is():
    found = run(direct_config(optimiser=optax.sgd(0.1, momentum=0.9), learning_rate=77.0))
    parameters = found[0]
    state = optax.sgd(0.1, momentum=0.9).init(parameters)
    for after in found[1:]:
        gradient = gradient_at(parameters)
        updates, state = optax.sgd(0.1, momentum=0.9).update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        for name, value in after.items():
            np.testing.assert_allclose(value, parameters[name], atol=1e-5, err_msg=name)
    with pytest.raises(qdeq.UserError, match=r"weight_decay=0\.1 with an optimiser that is an obj"):
        direct_config(optimiser=optax.sgd(0.1), weight_decay=0.1)


@pytest.mark.slow  # compiles a circuit's training
@pytest.mark.parametrize("encoding", ["table", "amplitude"])
def test_decay_leaves_fixed_matrices_and_all_angles(encoding):
    options = {"ansatz": "hardware-efficient", "n_qubits": 2, "encoding": encoding}
    options |= {"ansatz_layers": 1, "layers": 1}

    def after(weight_decay):
        config = direct_config(**options, learning_rate=0.1, weight_decay=weight_decay)
        trainer = Trainer(config, DATA)
        state = trainer.init()
        return state.classifier, trainer.run_epoch(state)[0].classifier

    (first, plain), (_, decayed) = after(0.0), after(0.5)
    shrunk = jax.tree.map(
        lambda a, b: a - b, *(eqx.filter(p, eqx.is_inexact_array) for p in (plain, decayed))
    )
    assert np.abs(shrunk.model.theta).max() == 0 and np.abs(shrunk.head.bias).max() == 0
    np.testing.assert_allclose(shrunk.head.weight, 0.05 * first.head.weight, atol=1e-6)
    own, injection = first.model.injection, shrunk.model.injection
    if encoding == "table":
        np.testing.assert_allclose(injection.input, 0.05 * own.input, atol=1e-6)
        np.testing.assert_allclose(injection.state, 0.05 * own.state, atol=1e-6)
        assert np.abs(injection.bias).max() == 0
    else:  # the paper's R is fixed
        assert np.abs(injection.state).max() == 0
        np.testing.assert_array_equal(decayed.model.injection.state, own.state)


@pytest.mark.parametrize("batch_size", [64, 8])
def test_a_cosine_is_its_formula(batch_size):
    """Updates of plain gradient descent on a constant gradient are the rates themselves."""
    config = direct_config(
        optimiser="sgd", schedule="cosine", learning_rate=0.2, epochs=4, batch_size=batch_size
    )
    recipe, values = Recipe.of(config, task="regression"), Values.of(config, 18)
    n_batches = -(-18 // batch_size)
    for epoch in range(5):
        for index in range(n_batches):
            factor = recipe._factor(jnp.array(epoch), jnp.array(index) / n_batches, values)
            step = min(epoch * n_batches + index, 4 * n_batches)
            expected = optax.cosine_decay_schedule(0.2, 4 * n_batches)(step)
            assert float(values.rate(factor)) == pytest.approx(float(expected), abs=1e-7)


def test_a_run_follows_its_schedule():
    options = {"optimiser": "sgd", "learning_rate": 0.2}
    cosine = run(direct_config(**options, schedule="cosine"))
    for epoch, rate in enumerate((0.2, 0.1)):  # (1 + cos 0) / 2 and (1 + cos(pi / 2)) / 2
        gradient = gradient_at(cosine[epoch])
        for name, value in cosine[epoch + 1].items():
            expected = cosine[epoch][name] - rate * gradient[name]
            np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=name)


def test_numbers_of_the_optimiser_are_no_part_of_a_program():
    config = direct_config(learning_rate=0.03, weight_decay=0.5, schedule="cosine")
    run(config)
    with compilations() as found:
        run(config.replace(learning_rate=0.1, weight_decay=0.2, gradient_clip=0.3), epochs=3)
    assert not found
