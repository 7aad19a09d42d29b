"""A configuration refuses what cannot be trained, and survives its JSON form."""

import ast
import json
import typing
from pathlib import Path

import pytest

import qdeq
from qdeq import names
from qdeq.data import DATASETS
from qdeq.equilibrium import ADJOINTS, SOLVERS
from qdeq.errors import UserError
from qdeq.training.config import PRESETS, TrainConfig

SOURCE = Path(qdeq.__file__).parent


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
    del values["noise"], values["start"], values["observables"]
    assert TrainConfig.from_json(json.dumps(values)) == TrainConfig(epochs=3)
    # What was computed before the field existed keeps its identity; noisy runs have their own.
    assert TrainConfig(epochs=3).identity() == values
    noisy = TrainConfig(epochs=3, noise="depolarising=0.01")
    assert noisy.identity() == {**values, "noise": "depolarising=0.01"}
    assert TrainConfig.from_json(noisy.to_json()) == noisy


def test_what_is_built_by_name_is_what_the_names_say():
    # What stands for a name is a dictionary's value; its keys are the names, in their order.
    assert typing.get_args(names.NamedData) == tuple(DATASETS)
    assert typing.get_args(names.SolverName) == tuple(SOLVERS)
    assert typing.get_args(names.AdjointName) == tuple(ADJOINTS)
    assert typing.get_args(names.PresetName) == tuple(PRESETS)


def lists_of_names():
    """Every list of names with more than one."""
    found = {n: typing.get_args(kind) for n, kind in vars(names).items() if typing.get_args(kind)}
    assert len(found) > 12
    return found


def literals_in(path):
    """The texts of every literal list in a file: tuples, lists, sets and Literal[...]."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            texts = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            yield node.lineno, {text for text in texts if isinstance(text, str)}


def test_every_list_of_names_stands_once():
    copies = [
        f"{path.relative_to(SOURCE)}:{line} repeats {name}"
        for path in SOURCE.rglob("*.py")
        if path != Path(names.__file__)
        for line, texts in literals_in(path)
        for name, listed in lists_of_names().items()
        # Which encodings the paper has results for is a fact of its own, and so is any other
        # choice of one or two.
        if set(listed) - {"own"} <= texts and len(listed) > 2
    ]
    assert not copies
    # The test sees what it looks for.
    here = [texts for _, texts in literals_in(Path(names.__file__))]
    assert set(SOLVERS) in here


def test_the_defaults_are_the_papers():
    assert PRESETS["paper"] == TrainConfig()
    published = PRESETS["published"]
    assert (published.trainable, published.max_steps, published.tolerance) == (
        "published",
        10,
        1e-3,
    )
