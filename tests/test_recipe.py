"""The preset best, and the study that takes it apart."""

import itertools
import re

import numpy as np
import pytest

from qdeq.circuits.observables import make_observables
from qdeq.errors import UserError
from qdeq.studies import recipe
from qdeq.studies.kinds import run_row
from qdeq.studies.recipe import (
    AMPLITUDE_CHANGES,
    CHANGES,
    DEPTHS,
    POOLED,
    STEPS,
    RecipeStudy,
    equal_executions,
)
from qdeq.studies.results import Results
from qdeq.training.config import PRESETS


def rows_of(study: RecipeStudy, group: str) -> list:
    return [row for row in study.rows() if row.group == group]


@pytest.mark.parametrize("data", ["mnist-4", "mnist-10"])
def test_steps_lead_from_the_papers_recipe_to_the_preset(data):
    study = RecipeStudy(data=data, seeds=(0,))
    best, steps = study.best(**POOLED), rows_of(study, "steps")
    first, last = steps[0].training, steps[-1].training
    paper = PRESETS["paper"]
    differing = {n for n in vars(paper) if getattr(first, n) != getattr(paper, n)}
    assert differing <= {"data", "epochs", "tolerance", "encoding"}
    left = {n for n in vars(best) if getattr(last, n) != getattr(best, n)}
    assert left == set(list(STEPS.values())[-1][1])
    assert {n for n in vars(best) if getattr(best, n) != getattr(study.best(), n)} == {"features"}
    for before, after in itertools.pairwise(steps):
        changed = {
            n for n in vars(best) if getattr(before.training, n) != getattr(after.training, n)
        }
        assert changed and changed <= set(STEPS[after.name][1])


def test_rows_beside_the_preset_differ_from_it_in_what_they_are_named_after():
    study = RecipeStudy(seeds=(0,))
    best = study.best(**POOLED)
    for row in rows_of(study, "without"):
        changed = {n for n in vars(best) if getattr(row.training, n) != getattr(best, n)}
        assert changed == set(CHANGES[row.name][1])
    assert [row.training.layers for row in rows_of(study, "best")[1:]] == list(DEPTHS)
    amplitudes = {row.name: row.training for row in rows_of(study, "amplitude")}
    for name, (_, changes) in AMPLITUDE_CHANGES.items():
        assert amplitudes["implicit"].replace(**changes) == amplitudes[name]
    for n in DEPTHS:
        applied = amplitudes["implicit"].replace(mode="direct", layers=n)
        assert applied == amplitudes[f"direct-{n}"]
    assert amplitudes["implicit"] == amplitudes["warm"].replace(warmup_epochs=0, warmup_layers=5)
    assert len({row.key for row in study.rows()}) == len(study.rows())


@pytest.mark.parametrize("data", ["mnist-4", "mnist-10"])
def test_depths_of_as_many_executions_train_for_fewer_epochs(data, monkeypatch, tmp_path):
    trained = {}
    monkeypatch.setattr(recipe, "circuit", lambda row, *_: trained.update({row.name: row.training}))
    rows = rows_of(RecipeStudy(data=data, seeds=(0,)), "equal")
    for row in rows:
        equal_executions(row, tmp_path, lambda _: None)
    # Counted by hand: settings x (steps + shifts of encoding and circuit) for the equilibrium,
    # settings x (applications + those of the circuit for each + of the encoding for all but one).
    n, settings = (4 if data == "mnist-4" else 10), 3
    encoding, circuit = 2 * 3 * n, 2 * 2 * n
    equilibrium = settings * (12 + encoding + circuit)
    for name, config in trained.items():
        layers = config.layers
        each = settings * (layers + layers * circuit + (layers - 1) * encoding)
        assert config.epochs == max(1, round(20 * equilibrium / each)), name
    assert list(trained) == ["direct-2", "direct-5", "direct-10"]


def test_no_seed_is_a_users_mistake():
    with pytest.raises(UserError, match="give at least one"):
        RecipeStudy(seeds=())


def test_z_strings_are_all_products_of_z():
    ensemble = make_observables("z-strings", 3)
    assert len(set(ensemble.strings)) == 7 and len(ensemble.settings()) == 1
    # With the identity their signs are the characters of the group: orthogonal rows.
    signs = ensemble.signs()
    np.testing.assert_array_equal(signs @ signs.T, 8 * np.eye(7))


@pytest.mark.slow
def test_the_preset_is_trained_and_compared_with_depth_and_classical_models(tmp_path):
    study = RecipeStudy(data="digits-4", epochs=4, seeds=(0, 1))
    rows = {row.key: row for row in study.rows()}
    computed, points = {}, {}
    for key in ("best-implicit", "best-direct-1", "equal-direct-5", "classical-narrow"):
        computed[key] = run_row(rows[key], tmp_path / key, lambda _: None)
        points[key] = {"": computed[key]["seeds"]}
    # Four qubits with three rotations each read 16 pixels and 12 measured values, and a bias.
    assert computed["best-implicit"]["injection_parameters"] == 12 * (16 + 12 + 1)
    # Some forty steps of four classes, of which chance finds a quarter.
    assert min(seed["test_accuracy"] for seed in computed["best-implicit"]["seeds"]) > 0.5
    assert min(seed["converged_fraction"] for seed in computed["best-implicit"]["seeds"]) == 1
    # After ten applications of a contraction there is hardly a class left to change.
    same = re.search(r"class for ([\d.]+) of the images", computed["best-implicit"]["note"])
    assert same and float(same[1]) > 0.99
    assert "note" not in computed["best-direct-1"]
    results = Results(study, tuple(rows[key] for key in computed), computed, points)
    first, second, third, last = study.claims(results)
    assert first.startswith("Preset best") and "the only depth that has run" in first
    assert "direct(5) of as many executions" in second and "hidden units" in third
    assert last.startswith("Training accuracy: ") and last.count("direct(1)") == 1
    assert computed["equal-direct-5"]["epochs"] == 1 and computed["best-direct-1"]["epochs"] == 4
