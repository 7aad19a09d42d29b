"""Where the solver starts changes what it costs, not what it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.data import load
from qdeq.equilibrium import Equilibrium, Homotopy
from qdeq.training.config import TrainConfig
from qdeq.training.loop import Trainer


@pytest.fixture(scope="module")
def data():
    return load("digits-4")


def solved_from_zero(classifier, x):
    layer = Equilibrium(max_steps=50, fallback=Homotopy(), fallback_steps=100)
    return jax.jit(jax.vmap(lambda x: classifier(x, layer).solution.value))(jnp.asarray(x))


@pytest.mark.slow
def test_the_starts_are_each_samples_own_equilibrium(data):
    # Angles that hardly move: what the epochs found must be what a cold start finds.
    config = TrainConfig(
        epochs=3, warmup_epochs=1, batch_size=100, learning_rate=1e-9, start="previous"
    )
    assert len(data.train.y) % config.batch_size  # the last batch repeats samples
    trainer = Trainer(config, data)
    state, warm_up = trainer.run_epoch(trainer.init())
    assert warm_up["phase"] == "direct"
    assert not np.any(state.starts)
    state, cold = trainer.run_epoch(state)
    expected = solved_from_zero(state.classifier, data.train.x)
    np.testing.assert_allclose(state.starts, expected, atol=2e-4)
    _, warm = trainer.run_epoch(state)
    assert cold["converged_fraction"] == warm["converged_fraction"] == 1
    assert warm["solver_steps_mean"] == 1 < cold["solver_steps_mean"]


@pytest.mark.slow
def test_training_from_the_equilibria_before_is_training_from_zero_in_fewer_steps(data):
    config = TrainConfig(epochs=6, batch_size=64)
    history = {}
    for start in ("zero", "previous"):
        trainer = Trainer(config.replace(start=start), data)
        state = trainer.init()
        for _ in range(config.epochs):
            state, metrics = trainer.run_epoch(state)
            history.setdefault(start, []).append(metrics)
    steps = {s: [m["solver_steps_mean"] for m in epochs] for s, epochs in history.items()}
    assert steps["previous"][0] == steps["zero"][0]
    assert all(np.array(steps["previous"][1:]) < 0.95 * np.array(steps["zero"][1:]))
    for warm, cold in zip(history["previous"], history["zero"], strict=True):
        assert warm["converged_fraction"] == cold["converged_fraction"] == 1
        assert warm["valid_loss"] == pytest.approx(cold["valid_loss"], rel=0.02)


@pytest.mark.slow
def test_samples_without_an_equilibrium_start_at_zero(data):
    config = TrainConfig(epochs=1, max_steps=5, fallback="none", start="previous")
    trainer = Trainer(config, data)
    state, metrics = trainer.run_epoch(trainer.init())
    found = np.any(np.asarray(state.starts) != 0, axis=1)
    assert 0 < metrics["converged_fraction"] < 1
    assert np.mean(found) == pytest.approx(metrics["converged_fraction"], abs=1e-6)


def test_direct_runs_keep_no_starts(data):
    assert Trainer(TrainConfig(mode="direct", start="previous"), data).init().starts is None
