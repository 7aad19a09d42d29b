"""Options that change nothing beside the others are named, and others are not."""

import dataclasses

import pytest

from qdeq.cli.effects import OF_MODEL, OF_RESOURCES, OF_TRAINING, warn_of_no_effect
from qdeq.cli.main import main
from qdeq.cli.resources import ResourcesCommand
from qdeq.training.config import TrainConfig
from qdeq.training.options import ModelOptions

USUAL = TrainConfig()


def warned(capsys, given, *values, rules=OF_TRAINING):
    warn_of_no_effect(given, values, rules)
    lines = capsys.readouterr().err.splitlines()
    return [line.split()[2] for line in lines]


@pytest.mark.parametrize(
    ("kind", "rules"),
    [(TrainConfig, OF_TRAINING), (ResourcesCommand, OF_RESOURCES), (ModelOptions, OF_MODEL)],
)
def test_rules_are_of_options_that_exist(kind, rules):
    assert rules.keys() <= {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("option", "without", "beside"),
    [
        ("layers", {}, {"mode": "direct"}),
        ("warmup_layers", {}, {"warmup_epochs": 2}),
        ("ansatz_layers", {}, {"ansatz": "strongly-entangling"}),
        ("rotations", {}, {"encoding": "table"}),
        ("uploads", {"encoding": "angle"}, {"encoding": "table"}),
        ("solver", {"mode": "direct"}, {}),
        ("adjoint", {"mode": "direct"}, {}),
        ("max_steps", {"mode": "direct"}, {}),
        ("jacobian_weight", {"mode": "direct"}, {}),
        ("fallback", {"random_steps_minus": 3}, {}),
        ("fallback", {"adjoint": "unrolled"}, {}),
    ],
)
def test_an_option_counts_beside_others(capsys, option, without, beside):
    assert warned(capsys, {option}, USUAL.replace(**without)) == [f"--{option.replace('_', '-')}"]
    assert warned(capsys, {option}, USUAL.replace(**beside)) == []
    assert warned(capsys, (), USUAL.replace(**without)) == []


def test_in_a_sweep_one_configuration_is_enough(capsys):
    configs = [USUAL, USUAL.replace(mode="direct")]
    assert warned(capsys, {"layers", "solver"}, *configs) == []
    assert warned(capsys, {"layers"}, USUAL, USUAL) == ["--layers"]


def test_the_cost_of_a_training_needs_samples(capsys):
    words = ["resources", "--solver", "broyden", "--adjoint", "implicit", "--json"]
    assert main([*words, "--epochs", "3", "--perturbations", "2"]) == 0
    said = capsys.readouterr().err
    assert "--epochs changes nothing here: it needs --samples" in said
    assert "--perturbations changes nothing here: it needs --gradient spsa" in said
    assert main([*words, "--epochs", "3", "--samples", "10"]) == 0
    assert "changes nothing" not in capsys.readouterr().err
