"""Options from a file: what a run was trained with, or a few lines of TOML."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

from qdeq.cli.arguments import closest
from qdeq.errors import UserError, check_path
from qdeq.training.config import TrainConfig


def read_options(path: str | Path) -> dict[str, Any]:
    """The options of a file, by the names of their fields; `seeds` among them of a run of many.

    Parameters
    ----------
    path
        A run folder, its `config.json` or `seeds.json`, or a `.toml` file whose keys are options
        of `qdeq train` without the dashes before them.

    Raises
    ------
    UserError
        For a file that cannot be read, is damaged, or has a key that is no option.
    """
    check_path("config", path)
    file = Path(path)
    if file.is_dir():
        many = file / "seeds.json"
        file = many if many.is_file() else file / "config.json"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(
            f"config={str(path)!r}: cannot be read ({reason}); give a run folder, its config.json "
            "or a .toml file"
        ) from error
    if file.suffix == ".toml":
        return _from_toml(text, str(path))
    if file.suffix != ".json":
        raise UserError(
            f"config={str(path)!r} is of no kind that is read: give a run folder, its config.json "
            "or a .toml file"
        )
    seeds = None
    if file.name == "seeds.json":
        try:
            content = json.loads(text)
            text, seeds = json.dumps(content["config"]), content["seeds"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}): restore it") from error
    config = TrainConfig.from_json(text, source=str(file))
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return values if seeds is None else {**values, "seeds": ",".join(map(str, seeds))}


def _from_toml(text: str, path: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"config={path!r}: it is not TOML ({error})") from error
    known = {field.name for field in dataclasses.fields(TrainConfig)} | {"seeds"}
    values = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known and name in _on_the_command_line():
            option = name.replace("_", "-")
            raise UserError(
                f"config={path!r}: {key} is given on the command line (--{option}) and not in a "
                "file: leave it out"
            )
        if name not in known:
            near = closest(key, [option.replace("_", "-") for option in known])
            raise UserError(f"config={path!r}: {key} is not an option of qdeq train{near}")
        if name in values:
            raise UserError(f"config={path!r}: {key} is there twice, with - and with _; keep one")
        values[name] = _seeds_as_text(value, path) if name == "seeds" else value
    return values


def _on_the_command_line() -> set[str]:
    """What `qdeq train` takes beside a configuration: where and how it runs, and a preset."""
    from qdeq.cli.train import TrainCommand  # which reads files by this module

    return {field.name for field in dataclasses.fields(TrainCommand)}


def _seeds_as_text(value: Any, path: str) -> str:
    """Seeds of a file as `--seeds` has them: one number, a list of numbers, or that text."""
    listed = value if isinstance(value, list) else [value]
    if isinstance(value, str):
        return value
    if not listed or any(type(seed) is not int or seed < 0 for seed in listed):
        raise UserError(
            f"config={path!r}: seeds={value!r}: give a text such as '0:32', a whole number of at "
            "least 0, or a list of such numbers"
        )
    return ",".join(map(str, listed))
