"""A configuration refuses what cannot be trained, and survives its JSON form."""

import json
import typing

import pytest

from qdeq.data import DATASETS
from qdeq.equilibrium import ADJOINTS, SOLVERS
from qdeq.errors import UserError
from qdeq.models.quantum_model import METHODS
from qdeq.training import config as config_module
from qdeq.training.config import OWN_DATA, PRESETS, PresetName, TrainConfig


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": "mnist"}, "digits-4"),
        ({"solver": "bfgs"}, "broyden"),
        ({"epochs": 0}, "at least 1"),
        ({"epochs": -5}, "epochs=-5"),
        ({"epochs": 2.0}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"n_qubits": 0}, "at least 1"),
        ({"n_features": "16"}, "whole number"),
        ({"learning_rate": 0}, "above 0"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"tolerance": -1e-5}, "above 0"),
        ({"gradient_clip": -1}, "at least 0"),
        ({"jacobian_weight": -0.1}, "at least 0"),
        ({"dropout": 1.0}, "probability"),
        ({"valid_fraction": 0.0}, "between 0 and 1"),
        ({"warmup_epochs": 101}, "100 epochs"),
        ({"warmup_epochs": 3, "mode": "direct"}, "no warm-up"),
        ({"random_steps_minus": 30}, "max_steps=30"),
        ({"seed": 2**32}, "2**32"),
        ({"seed": -1}, "at least 0"),
        ({"data_dir": 3}, "text"),
        ({"noise": None}, "text"),
        ({"noise": "depolarising=2"}, "between 0 and 1"),
        ({"noise": "bitflip=0.1"}, "amplitude-damping"),
        ({"noise": "dephasing=0.1", "method": "statevector"}, "density-matrix"),
    ],
)
def test_a_value_that_cannot_be_trained_is_refused_with_what_is_allowed(values, words):
    with pytest.raises(UserError) as caught:
        TrainConfig(**values)
    name = next(iter(values))
    # What a noise text holds is named by its own word: "depolarising probability=2.0: ...".
    assert name == "noise" or str(caught.value).startswith(f"{name}=")
    assert words in str(caught.value)


def test_json_gives_back_the_same_configuration():
    config = TrainConfig(data="mnist-4", data_dir="some/dir", seed=7, learning_rate=1)
    assert TrainConfig.from_json(config.to_json()) == config
    assert config.learning_rate == 1.0 and isinstance(config.learning_rate, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "blue"}, "unknown keys colour"),
        ({"epochs": None}, "whole number"),
        ({"epochs": "many"}, "whole number"),
    ],
)
def test_json_with_a_wrong_key_or_value_names_the_file(change, words):
    values = json.loads(TrainConfig().to_json()) | change
    with pytest.raises(UserError, match=r"^runs/a/config\.json") as caught:
        TrainConfig.from_json(json.dumps(values), source="runs/a/config.json")
    assert words in str(caught.value)


def test_json_that_lacks_a_key_or_is_cut_short_is_refused():
    values = json.loads(TrainConfig().to_json())
    del values["solver"]
    with pytest.raises(UserError, match="lacks solver"):
        TrainConfig.from_json(json.dumps(values))
    for text in (TrainConfig().to_json()[:50], "", "[]"):
        with pytest.raises(UserError, match="damaged"):
            TrainConfig.from_json(text)


def test_a_configuration_from_before_a_field_is_one_without():
    values = json.loads(TrainConfig(epochs=3).to_json())
    del values["noise"], values["start"]
    assert TrainConfig.from_json(json.dumps(values)) == TrainConfig(epochs=3)
    # What was computed before the field existed keeps its identity; noisy runs have their own.
    assert TrainConfig(epochs=3).identity() == values
    noisy = TrainConfig(epochs=3, noise="depolarising=0.01")
    assert noisy.identity() == {**values, "noise": "depolarising=0.01"}
    assert TrainConfig.from_json(noisy.to_json()) == noisy


def test_the_choices_are_those_that_the_library_has():
    # config.py spells them out, because it must not import JAX.
    def choices(name):
        return typing.get_args(getattr(config_module, name))

    assert choices("DataName") == (*DATASETS, OWN_DATA)
    assert choices("SolverName") == tuple(SOLVERS)
    assert choices("AdjointName") == tuple(ADJOINTS)
    assert set(choices("Method")) == set(METHODS)
    assert typing.get_args(PresetName) == tuple(PRESETS)


def test_the_defaults_are_the_papers():
    assert PRESETS["paper"] == TrainConfig()
    published = PRESETS["published"]
    assert (published.trainable, published.max_steps, published.tolerance) == (
        "published",
        10,
        1e-3,
    )
