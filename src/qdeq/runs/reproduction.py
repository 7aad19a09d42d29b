"""The command, or the call in Python, that trains a configuration once more."""

import dataclasses
import shlex
from collections.abc import Sequence

from qdeq.names import OWN_DATA, OWN_MODEL
from qdeq.training.checked import is_own
from qdeq.training.config import TrainConfig


def python_call(config: TrainConfig, seeds: Sequence[int] | None = None) -> str | None:
    """Return the call that trains a configuration for which the command line has no words.

    None where it has: nothing was given as an object in Python.

    >>> python_call(TrainConfig(epochs=5, data="own"))
    'qdeq.train(qdeq.TrainConfig(epochs=5), dataset=...)'
    >>> python_call(TrainConfig(epochs=5)) is None
    True
    """
    values = config.plain()
    parts = {"dataset": config.data == OWN_DATA, "model": config.ansatz == OWN_MODEL}
    left_open = [f"{name}=..." for name, is_given in parts.items() if is_given]
    options = []
    for field in dataclasses.fields(config):
        value = values[field.name]
        if is_own(value):
            options.append(f"{field.name}=...")
        elif value not in (field.default, OWN_DATA) and (field.name != "seed" or seeds is None):
            options.append(f"{field.name}={value!r}")
    if not left_open and "=..." not in "".join(options):
        return None
    arguments = [f"qdeq.TrainConfig({', '.join(options)})"]
    arguments += [] if seeds is None else [f"seeds={list(seeds)}"]
    return f"qdeq.train({', '.join([*arguments, *left_open])})"


def command_line(config: TrainConfig) -> str:
    """Return the command that trains a configuration: every option that is not a default.

    >>> command_line(TrainConfig(epochs=5, data_dir="my data"))
    "qdeq train --data-dir 'my data' --epochs 5"
    """
    words, values = ["qdeq", "train"], config.plain()
    if config.is_file:  # for which other values than the paper's are the defaults
        words += ["--preset", "paper"]
    for field in dataclasses.fields(config):
        value = values[field.name]
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join(words)
