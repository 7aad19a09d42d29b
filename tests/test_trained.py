"""A run as an object, of one seed or many, and run folders that earlier versions wrote."""

import dataclasses
import math
import shutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.cli import main
from qdeq.data import from_arrays
from qdeq.data import load as load_data
from qdeq.errors import UserError
from qdeq.runs import RunFolder, evaluate, resume

# As version 0.1 wrote them: digits-4, one noisy seed, and three seeds in four epochs.
BEFORE = Path(__file__).parent / "data" / "runs"


@pytest.fixture(scope="module")
def test_split():
    return load_data("digits-4").test


@pytest.fixture
def before(tmp_path):
    """A copy of a folder that a test may change."""
    return lambda name: Path(shutil.copytree(BEFORE / name, tmp_path / name))


def test_a_run_of_many_seeds_is_summed_up_over_them():
    run = qdeq.load(BEFORE / "many-seeds")
    accuracies = [summary.test_accuracy for summary in run.summaries]
    assert run.seeds == [0, 1, 2]
    assert run.summary.seeds == [0, 1, 2] and run.summary.seed is None
    assert run.summary.test_accuracy == pytest.approx(np.mean(accuracies))
    spread = run.summary.spread("test_accuracy")
    assert spread.std == pytest.approx(np.std(accuracies, ddof=1))
    assert f"{spread:.3f}" == "0.853 ± 0.024"  # what the version that trained it printed
    assert run.summary.residual_max == max(s.residual_max for s in run.summaries)
    matrices = [np.array(summary.confusion_matrix) for summary in run.summaries]
    np.testing.assert_array_equal(run.summary.confusion_matrix, sum(matrices))


def test_a_seed_whose_score_is_no_number_is_not_the_best(before):
    folder = qdeq.load(before("many-seeds")).folder.of_seed(0)
    folder.write_summary(dataclasses.replace(folder.read_summary(), valid_accuracy=math.nan))
    run = qdeq.load(folder.path.parent)
    assert run.best.seeds == [1 + np.argmax([s.valid_accuracy for s in run.summaries[1:]])]


def test_one_seed_of_many_is_a_run_of_its_own():
    run = qdeq.load(BEFORE / "many-seeds")
    assert run.of_seed(1).summary == run.summaries[1]
    best = max(run.summaries, key=lambda summary: summary.valid_accuracy)
    assert run.best.summary == best
    with pytest.raises(UserError, match=r"seed=5: the run has the seeds \[0, 1, 2\]"):
        run.of_seed(5)


@pytest.mark.parametrize("name", ["one-seed", "many-seeds"])
def test_a_model_of_before_predicts_as_its_summary_says(name, test_split):
    run = qdeq.load(BEFORE / name)
    labels = np.asarray(run.best.summary.classes)[test_split.y]
    predicted = run.predict(test_split.x)
    # Rounding differs between processors: a sample on the border may change sides.
    assert np.mean(predicted == labels) == pytest.approx(run.best.summary.test_accuracy, abs=0.01)
    probabilities = run.predict_proba(test_split.x[:3])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    solution = run.solve(test_split.x[:3])
    assert solution.value.shape == (3, 4) and solution.stats.converged.all()


def test_features_of_another_length_are_refused(test_split):
    run = qdeq.load(BEFORE / "one-seed")
    with pytest.raises(UserError, match=r"shape \(145, 15\): the model takes \(N, 16\) features"):
        run.predict(test_split.x[:, :15])
    with pytest.raises(UserError, match="row 1, column 3 is nan"):
        x = test_split.x[:2].copy()
        x[1, 3] = np.nan
        run.predict(x)


@pytest.mark.slow  # compiles the measurement of a split
@pytest.mark.parametrize("name", ["one-seed", "many-seeds"])
def test_a_run_of_before_is_evaluated_as_it_was(name):
    summary = qdeq.load(BEFORE / name).summary
    found = evaluate(BEFORE / name)
    assert found.seeds == summary.seeds
    assert found.accuracy == pytest.approx(summary.test_accuracy, abs=0.01)
    assert ("accuracy" in found.deviation) == (name == "many-seeds")


@pytest.mark.slow  # compiles a training epoch
@pytest.mark.parametrize("name", ["one-seed", "many-seeds"])
def test_a_run_of_before_goes_on(name, before):
    folder = before(name)
    history = RunFolder(folder).seed_folders()[0].read_metrics(epochs=4)
    assert main(["train", "--resume", str(folder), "--epochs", "5", "--quiet"]) == 0
    run = qdeq.load(folder)
    assert run.summary.epochs == 5
    assert run.folder.read_histories()[0][:4] == history
    assert run.folder.report_path.exists()


@pytest.mark.parametrize("name", ["one-seed", "many-seeds"])
def test_every_command_takes_either_folder(name, before, capsys):
    folder = before(name)
    for words in (["report"], ["draw"], ["resources"]):
        assert main([*words, str(folder)]) == 0
        assert str(capsys.readouterr().out).strip()
    assert (folder / "report.html").exists()


def test_a_folder_of_a_newer_version_is_refused_by_what_is_unknown(before):
    folder = before("one-seed")
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace("{", '{"warp": 9,', 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown keys warp.*use the version of qdeq that wrote"):
        qdeq.load(folder).predict(np.zeros((1, 16)))


class Mixed(qdeq.ModelFunction):
    """A classical map with a learned re-injection; no circuit anywhere."""

    inject: jax.Array
    feed_back: jax.Array

    @property
    def n_features(self):
        return self.inject.shape[1]

    @property
    def n_observables(self):
        return self.inject.shape[0]

    def __call__(self, m, x):
        return jnp.tanh(self.inject @ x + self.feed_back @ m)


def mixed(key, n_features=5):
    keys = jax.random.split(key)
    return Mixed(
        jax.random.normal(keys[0], (3, n_features)) / 2, jax.random.normal(keys[1], (3, 3)) / 4
    )


@pytest.fixture(scope="module")
def own():
    """Two classes that a line separates, in five columns."""
    x = np.random.default_rng(0).normal(size=(300, 5))
    names = np.array(["down", "up"])[(x[:, 0] + x[:, 1] > 0).astype(int)]
    return from_arrays(x, names), x, names


@pytest.mark.slow  # compiles a training epoch for three seeds
def test_own_data_and_an_own_model_go_through_every_step_of_a_run(own, tmp_path):
    dataset, x, names = own
    config = qdeq.TrainConfig(epochs=8, batch_size=32, learning_rate=0.05, jacobian_weight=0.1)
    given = {"dataset": dataset, "model": mixed}
    run = qdeq.train(config, seeds=[0, 1], out=tmp_path / "run", **given)
    assert run.summary.n_parameters == 15 + 9 and run.summary.n_qubits is None
    starts = [run.of_seed(seed).classifier.model.inject for seed in run.seeds]
    assert not np.allclose(*starts)  # every seed had a start of its own
    assert (tmp_path / "run" / "report.html").exists()

    again = qdeq.load(tmp_path / "run", model=mixed)
    assert np.mean(again.predict(x) == names) > 0.9
    np.testing.assert_array_equal(again.predict(x), run.predict(x))
    found = evaluate(tmp_path / "run", **given)
    assert found.accuracy == pytest.approx(run.summary.test_accuracy)
    with pytest.raises(UserError, match="cannot be measured with shots: give it a method sample"):
        evaluate(tmp_path / "run", shots=10, **given)
    longer = resume(tmp_path / "run", epochs=9, **given)
    assert longer.summary.epochs == 9
    for call in (qdeq.load, resume, evaluate):
        with pytest.raises(UserError, match=r"'own'.*has to be given again: (model|dataset)="):
            call(tmp_path / "run")


def test_models_that_do_not_fit_are_refused_before_a_folder_is_left_behind(own, tmp_path):
    dataset = own[0]

    def train(model):
        qdeq.train(qdeq.TrainConfig(epochs=1), dataset=dataset, model=model, out=tmp_path / "run")

    with pytest.raises(UserError, match="reads 4 features and the data set has 5"):
        train(lambda key: mixed(key, 4))
    with pytest.raises(UserError, match="model=Linear has no n_features"):
        train(lambda key: eqx.nn.Linear(5, 3, key=key))
    assert not (tmp_path / "run").exists()


def test_own_data_have_to_be_given_again(before):
    folder = before("one-seed")
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"digits-4"', '"own"'), encoding="utf-8")
    with pytest.raises(UserError, match=r"data='own'.*has to be given again: dataset="):
        evaluate(folder)
