"""Early stopping: where a run ends, which model it keeps, seeds together, runs that go on."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from small_models import direct_config, squash

import qdeq
from qdeq.data import from_arrays
from qdeq.runs import evaluate, resume
from qdeq.runs.session import TrainingInterrupted
from qdeq.training import Trainer
from qdeq.training.stopping import ended_at, ends

RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 4))
# Much noise and long steps: the validation loss has its minimum within some epochs.
DATA = from_arrays(X, X[:, 0] + RNG.normal(size=60), task="regression")
CONFIG = direct_config(learning_rate=0.1, epochs=60, batch_size=16, patience=4)


def end_of(losses, patience):
    """Epoch (from 1) after which a run ends, and the best one: the rule once more."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best == patience:
            return epoch + 1, best + 1
    return len(losses), best + 1


def history_of(losses):
    """A history with these validation losses."""
    best = np.minimum.accumulate(losses)
    return [
        {"epoch": epoch, "phase": "direct", "best": epoch == 1 or loss < best[epoch - 2]}
        | {"valid_loss": loss, "train_loss": loss, "gradient_norm": 1.0}
        for epoch, loss in enumerate(losses, 1)
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 6))
def test_training_ends_where_the_loss_has_not_fallen_for_patience_epochs(losses, patience):
    config, history = CONFIG.replace(patience=patience), history_of(losses)
    end, _ = end_of(losses, patience)
    waited_for = end == len(losses) and not ends(history, config)
    assert ended_at(history, config) == (None if waited_for else end)


def test_whether_an_epoch_ends_training_does_not_take_longer_the_more_there_are():
    class Counting(list):
        n_read = 0

        def __getitem__(self, index):
            self.n_read += len(range(len(self))[index]) if isinstance(index, slice) else 1
            return super().__getitem__(index)

    for losses in (np.linspace(1, 0, 5000), np.ones(5000)):
        history = Counting(history_of(losses))
        ends(history, CONFIG)
        assert history.n_read <= 1 + CONFIG.patience


@pytest.fixture(scope="module")
def whole():
    """Validation losses of three seeds without early stopping."""
    losses = []
    for seed in range(3):
        trainer = Trainer(CONFIG.replace(seed=seed, patience=0), DATA, model=squash)
        state, history = trainer.init(), []
        for _ in range(60):
            state, metrics = trainer.run_epoch(state)
            history.append(metrics["valid_loss"])
        losses.append(history)
    return losses


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    out = tmp_path_factory.mktemp("early") / "run"
    return qdeq.train(CONFIG, seeds=[0, 1, 2], dataset=DATA, model=squash, out=out)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    out = tmp_path_factory.mktemp("early") / "one"
    return qdeq.train(CONFIG, dataset=DATA, model=squash, out=out)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_ends_when_the_validation_loss_has_not_fallen_for_so_long(single, whole):
    ends, best = end_of(whole[0], 4)
    assert 5 < ends < 60  # it is early, and not at once
    assert (single.summary.epochs, single.summary.best_epoch) == (ends, best)
    found = [line["valid_loss"] for line in lines(single.folder.path)]
    assert found == whole[0][:ends]


def test_the_model_is_that_of_the_best_epoch(single, whole):
    found = evaluate(single.folder.path, dataset=DATA, model=squash, split="valid")
    assert found.r2 == pytest.approx(single.summary.valid_r2)
    trainer = Trainer(CONFIG, DATA, model=squash)
    state = trainer.init()
    for _ in range(int(single.summary.best_epoch)):
        state, _ = trainer.run_epoch(state)
    arrays = load_file(single.folder.path / "model.safetensors")
    by_hand = {"mix": state.classifier.model.mix, "head": state.classifier.head.weight}
    for name, value in by_hand.items():
        assert any(a.shape == value.shape and np.array_equal(a, value) for a in arrays.values()), (
            name
        )
    found = trainer.evaluate(state.classifier, DATA.valid)
    assert found["loss"] == pytest.approx(min(whole[0][: single.summary.epochs]))


@pytest.mark.slow
def test_every_seed_of_many_ends_on_its_own(together, whole):
    ends = [end_of(losses, 4) for losses in whole]
    assert len({end for end, _ in ends}) > 1
    found = [(summary.epochs, summary.best_epoch) for summary in together.summaries]
    assert found == ends
    # Seeds that have ended stay in the program of the others and keep their model.
    for seed, summary in enumerate(together.summaries):
        best = min(whole[seed][: ends[seed][0]])
        folder = together.folder.path / f"seed-{seed}"
        judged = evaluate(folder, dataset=DATA, model=squash, split="valid")
        assert judged.loss == pytest.approx(best, rel=1e-5)
        assert judged.r2 == pytest.approx(summary.valid_r2, rel=1e-5)


def test_one_of_many_seeds_is_a_run_of_its_own(together, single):
    own = together.summaries[0]
    same = ("epochs", "best_epoch", "test_r2", "test_rmse", "valid_r2", "train_r2")
    for name in same:  # sums in another order
        assert getattr(own, name) == pytest.approx(getattr(single.summary, name), rel=1e-5)


@pytest.mark.parametrize("after", [3, 7])
def test_a_run_that_was_interrupted_ends_where_it_would_have(single, tmp_path, monkeypatch, after):
    run_epoch = Trainer.run_epoch_seeds

    def interrupted(self, states, **options):
        if int(np.asarray(states.epoch)[0]) == after:
            raise KeyboardInterrupt
        return run_epoch(self, states, **options)

    monkeypatch.setattr(Trainer, "run_epoch_seeds", interrupted)
    with pytest.raises(TrainingInterrupted, match=f"stopped after epoch {after}"):
        qdeq.train(CONFIG, dataset=DATA, model=squash, out=tmp_path / "run")
    monkeypatch.setattr(Trainer, "run_epoch_seeds", run_epoch)
    again = resume(tmp_path / "run", dataset=DATA, model=squash)
    own, other = (dataclasses.asdict(run.summary) for run in (again, single))
    changing = {"run", "train_seconds", "compile_seconds", "peak_memory_mb"}
    for name in own.keys() - changing:
        assert str(own[name]) == str(other[name]), name
    # A finished run is judged again, and not trained further.
    epochs = resume(tmp_path / "run", dataset=DATA, model=squash).summary.epochs
    assert epochs == single.summary.epochs


@pytest.mark.slow
def test_warm_up_is_not_counted(tmp_path):
    config = CONFIG.replace(
        mode="implicit",
        warmup_epochs=8,
        patience=2,
        epochs=12,
        learning_rate=3.0,
        solver="picard",
        adjoint="jacobian-free",
        fallback="none",
        jacobian_weight=0.0,
    )
    run = qdeq.train(config, dataset=DATA, model=squash, out=tmp_path / "run")
    history = lines(run.folder.path)
    assert [line["phase"] for line in history][:9] == ["direct"] * 8 + ["implicit"]
    losses = [line["valid_loss"] for line in history]
    assert end_of(losses[:8], 2)[0] < 8  # a warm-up that would have ended
    ends, best = end_of(losses[8:], 2)
    assert (run.summary.epochs, run.summary.best_epoch) == (8 + ends, 8 + best)


def test_an_estimator_does_not_count_its_warm_up_either():
    estimator = qdeq.QDEQRegressor(
        model=squash,
        preset="paper",
        mode="implicit",
        warmup_epochs=8,
        early_stopping=True,
        patience=1,
        epochs=12,
        batch_size=16,
        learning_rate=3.0,
        dropout=0.0,
        gradient_clip=0.0,
        head="affine",
        solver="picard",
        adjoint="jacobian-free",
        fallback="none",
        jacobian_weight=0.0,
        random_state=0,
    ).fit(X, np.ravel(DATA.targets.restored(np.random.default_rng(8).normal(size=(60, 1)))))
    losses = [metrics["valid_loss"] for metrics in estimator.history_]
    assert end_of(losses[:8], 1)[0] < 8
    ends, best = end_of(losses[8:], 1)
    assert estimator.n_iter_ == 8 + ends
    found = np.asarray(estimator.states_.best_valid_loss)[0]
    assert found == np.float32(losses[7 + best])
