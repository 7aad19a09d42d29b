"""A configuration refuses what cannot be trained, and survives its JSON form."""

import ast
import dataclasses
import json
import shlex
import typing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import qdeq
from qdeq import names
from qdeq.cli import main
from qdeq.cli.arguments import parse
from qdeq.cli.train import TrainCommand, config_of
from qdeq.data import DATASETS
from qdeq.equilibrium import ADJOINTS, SOLVERS
from qdeq.errors import UserError
from qdeq.runs.reproduction import command_line
from qdeq.training.checked import hints_of, plain_type, range_of
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


JUNK = (
    *(None, True, "", "no such name", "own", b"bytes", -1, 0, 2, 2**70, 10**400, 0.5, -1e-300),
    *(float("inf"), float("nan"), 1j, [], {}, (1, 2), object(), TrainConfig, np.array([1, 2])),
    *(np.float32(0.5), np.int64(3), np.array(2.5), np.str_("angle"), Decimal("0.5"), "1"),
)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainConfig)])
def test_whatever_is_given_a_field_takes_it_or_names_itself_in_one_line(name):
    for value in JUNK:
        try:
            config = TrainConfig(**{"max_steps": 2**31 - 1, "epochs": 2**31 - 1, name: value})
        except UserError as error:
            # Either its own value is refused, or the pair with another field of fixed value.
            assert name in str(error) or "noise" in str(error), (value, error)
            assert "\n" not in str(error)
            continue
        # What is taken is Python's own, and JSON gives it back.
        kept = getattr(config, name)
        assert kept is None or type(kept) in (int, float, str), value
        if not isinstance(kept, int) or abs(kept) < 2**63:
            assert TrainConfig.from_json(config.replace(max_steps=30, epochs=100).to_json())


WHOLE_NUMBERS = [name for name, hint in hints_of(TrainConfig).items() if plain_type(hint) is int]


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_every_whole_number_has_a_largest_one_that_arrays_hold(name, capsys):
    option = f"--{name.replace('_', '-')}"
    for value in (2**32, 99999999999, 10**20):
        allowed = r"give a number .*(2\*\*3|from 1 to)"
        with pytest.raises(UserError, match=rf"^{name}={value}: {allowed}"):
            TrainConfig(**{name: value})
        assert main(["train", option, str(value), "--quiet"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("qdeq: error: ") and error.count("\n") == 1 and str(value) in error


def options_of(hint):
    """Values that a field's declared type allows."""
    plain, limits = plain_type(hint), range_of(hint)
    if typing.get_origin(plain) is typing.Literal:
        values = st.sampled_from(typing.get_args(plain))
    elif limits is None:
        values = st.sampled_from(["", "depolarising=0.01"])
    elif plain is int:
        values = st.integers(limits.ge, 2**31 - 1)
    else:
        low, open_low = (limits.ge, False) if limits.gt is None else (limits.gt, True)
        values = st.floats(
            low,
            limits.lt,
            exclude_min=open_low,
            exclude_max=limits.lt is not None,
            width=64,
            allow_infinity=False,
            allow_nan=False,
        )
    return st.none() | values if type(None) in typing.get_args(hint) else values


OPTIONS = {name: options_of(hint) for name, hint in hints_of(TrainConfig).items()}


@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_every_configuration_comes_back_from_json_and_from_its_command_line(values):
    try:
        config = TrainConfig(**values)
    except UserError as error:  # two fields that contradict each other
        assert any(name in str(error) for name in values)
        assume(False)
    assert TrainConfig.from_json(config.to_json()) == config
    assert TrainConfig(**config.plain()) == config and hash(config.replace()) == hash(config)
    words = shlex.split(command_line(config))[2:]
    command, _ = parse(TrainCommand, words, prog="qdeq train")
    assert config_of(command) == config


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
    for younger in (
        *("noise", "start", "observables", "rotations", "uploads"),
        *("optimiser", "schedule", "weight_decay", "patience", "loss"),
        "max_contraction",
        *("target", "task", "test", "group", "weight", "ignore", "components"),
    ):
        del values[younger]
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
